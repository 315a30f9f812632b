"""What an evaluation has done already: one small record for each finished picture and point.

A record counts only with the same identity (picture, weights or encoder, point, metrics), so a
report folder can be continued, extended by rates or pictures, and used again with other weights.
"""

import contextlib
import hashlib
import io
import json
import pathlib
from typing import Any

import numpy as np

from glc_jax import files
from glc_jax.errors import OutputError

WORK_FOLDER = ".work"


def identity(**parts: Any) -> str:
    """A short hash of anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write(path: pathlib.Path, data: bytes) -> None:
    """Writes a file that takes its name when complete, making its folder; raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    files.write(path, data)


def refuse_foreign(output: pathlib.Path) -> None:
    """Raises OutputError where a report would replace files that are none of an earlier one's."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        found = json.loads((output / "results.json").read_text())
        if found["schema"].startswith("glc_jax.evaluation/"):
            return
    if (output / WORK_FOLDER).is_dir():
        return
    for name in ("index.html", "results.json", "items.csv", "files", "images"):
        if (output / name).exists():
            raise OutputError(
                f"{output}: holds {name}, which is no report's, and would be written over; name "
                "another folder, or use --force."
            )


class Store:
    """The records below a report folder."""

    def __init__(self, output: pathlib.Path) -> None:
        self.output = output
        self._folder = output / WORK_FOLDER

    def record(self, *names: str, wanted: str) -> dict[str, Any] | None:
        """The record under these names if it has the identity `wanted` and its files exist."""
        try:
            record = json.loads(self._path(*names, suffix=".json").read_text())
            if record["identity"] == wanted and all(
                (self.output / name).is_file() for name in record["files"].values()
            ):
                return record
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # absent, or cut short by a crash of the machine: it is made again
        return None

    def save_record(self, *names: str, record: dict[str, Any]) -> None:
        """Keep a record; it holds "identity" and "files", paths relative to the report."""
        write(self._path(*names, suffix=".json"), json.dumps(record).encode())

    def features(self, *names: str, wanted: str) -> np.ndarray | None:
        """The features kept under these names with the identity `wanted`."""
        try:
            with np.load(self._path(*names, suffix=".npz"), allow_pickle=False) as arrays:
                return arrays["features"] if str(arrays["identity"]) == wanted else None
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def save_features(self, *names: str, identity: str, features: np.ndarray) -> None:
        """Keep an array of features."""
        buffer = io.BytesIO()
        np.savez(buffer, identity=np.array(identity), features=features)
        write(self._path(*names, suffix=".npz"), buffer.getvalue())

    def _path(self, *names: str, suffix: str) -> pathlib.Path:
        *folders, last = names
        return self._folder.joinpath(*folders, last + suffix)
