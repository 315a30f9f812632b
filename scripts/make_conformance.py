"""Makes the conformance corpus: python scripts/make_conformance.py -o tests/conformance

A dozen .glc files, of the packaged model and of a small untrained one that is written beside them,
from pictures that are computed here: sizes from 1 x 1, flat ones, noise, edges at every scale, the
rates' ends and what lies between. Run it anew whenever the packaged weights or the format change;
--zip writes the archive that a release carries. `glc verify --conformance FOLDER` reads both.
"""

import argparse
import json
import pathlib
import shutil
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for the small model of the tests

import numpy as np

import glc_jax
from conversion.calibration import dead_leaves
from glc_jax import conformance, weights
from glc_jax.errors import GLCError, InputError, OutputError
from tests import small_model

SMALL = "small.safetensors"


def pictures() -> dict[str, tuple[np.ndarray, float]]:
    """Pictures, uint8 [height, width, 3], and the rate at which each is compressed."""
    leaves = dead_leaves(5, 160)
    noise = np.random.default_rng(5).integers(0, 256, (48, 80, 3), np.uint8)
    return {
        "one_pixel": (leaves[:1, :1], 1.0),
        "odd": (leaves[:33, :71], 0.0),
        "flat": (np.full((64, 64, 3), 127, np.uint8), 1.5),
        "noise": (noise, 3.0),
        "leaves": (leaves, 2.25),
        "tall": (leaves[:, :20], 0.5),
    }


def clear(folder: pathlib.Path, archive: pathlib.Path | None = None) -> None:
    """Removes what an earlier corpus in a folder is made of, by its manifest, and nothing else.

    Args:
      folder: of the corpus to be made.
      archive: the zip file to be made as well.

    Raises:
      OutputError: there is something that is of no corpus.
    """
    old: set[str] = set()
    if (folder / conformance.MANIFEST).exists():
        try:
            found = conformance.manifest(folder)
            old = {conformance.MANIFEST, *(file["name"] for file in found["files"])}
            old |= {about["file"] for about in found["weights"].values() if about["file"]}
        except (InputError, LookupError, TypeError, AttributeError):
            old = set()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; name a folder.")
    present = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if present - old:
        raise OutputError(f"{folder}: holds something else; name an empty folder.")
    if archive is not None and archive.exists():
        try:
            with zipfile.ZipFile(archive) as made:
                foreign = conformance.MANIFEST not in made.namelist()
        except (OSError, zipfile.BadZipFile):
            foreign = True
        if foreign:
            raise OutputError(f"{archive}: exists already and is no corpus; name another folder.")
    for name in present:
        (folder / name).unlink()


def make(folder: pathlib.Path) -> int:
    """Writes the corpus into a folder that is clear; gives the number of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    small_model.write_weights(folder / SMALL)
    packaged = weights.resolve(weights.DEFAULT)
    models = {"packaged": (packaged, None), "small": (folder / SMALL, SMALL)}
    found = {"format": conformance.FORMAT, "weights": {}, "files": []}
    for model, (path, file) in models.items():
        about = weights.describe(path)
        found["weights"][model] = {
            "file": file,
            "fingerprint": about.fingerprint.hex(),
            "digest": about.digest,
        }
        codec = glc_jax.load(path)
        for name, (picture, rate) in pictures().items():
            data = codec.compress(picture, rate=min(rate, codec.highest_rate))
            (folder / f"{model}_{name}.glc").write_bytes(data)
            found["files"].append(conformance.entry(codec, data, f"{model}_{name}.glc", model))
    (folder / conformance.MANIFEST).write_text(json.dumps(found, indent=1) + "\n")
    return len(found["files"])


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="FOLDER")
    parser.add_argument("--zip", action="store_true", help="write FOLDER.zip as well")
    options = parser.parse_args(arguments)
    try:
        archive = options.output.with_name(f"{options.output.name}.zip") if options.zip else None
        clear(options.output, archive)
        count = make(options.output)
    except (GLCError, OSError) as error:
        print(f"make_conformance: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {count} files")
    if options.zip:
        print(shutil.make_archive(str(options.output), "zip", options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
