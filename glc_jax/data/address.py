"""Files in buckets, named by addresses such as gs://bucket/folder: which ones, and how read.

They are reached through etils.epath and fsspec, without TensorFlow.
"""

import importlib.util
import os
import pathlib
from collections.abc import Iterable

from etils import epath
from etils.epath import backend

from glc_jax.errors import ConfigError

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # what has to be installed for each scheme
os.environ.setdefault("EPATH_USE_TF", "false")  # or epath would prefer it where it is installed


def is_address(place: os.PathLike | str) -> bool:
    """Whether a place is in a bucket, not in this machine's file system."""
    return "://" in os.fspath(place)


def check(*places: os.PathLike | str) -> None:
    """Raises `ConfigError` for an address of an unknown kind, or whose package is missing."""
    for place in filter(is_address, places):
        scheme = os.fspath(place).split("://")[0]
        package = PACKAGES.get(scheme)
        if package is None:
            known = ", ".join(f"{name}://" for name in PACKAGES)
            raise ConfigError(f"{place}: addresses begin with {known}.")
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{place} needs the package {package}; run: pip install {package}")


def find(folder: str, suffixes: Iterable[str]) -> list[epath.Path]:
    """The files below an address that have one of the suffixes, sorted."""
    check(folder)
    wanted = tuple(suffixes)
    scheme = folder.split("://")[0]
    walked = backend.fsspec_backend.walk(folder)
    paths = (f"{scheme}://{parent}/{name}" for parent, _, names in walked for name in names)
    return sorted(epath.Path(path) for path in paths if path.lower().endswith(wanted))


def refresh(*places: os.PathLike | str) -> None:
    """Forget what was listed of addresses: others write there, TensorStore in this process too."""
    for place in filter(is_address, places):
        backend.fsspec_backend.fs(place).invalidate_cache()


def read_bytes(path: pathlib.PurePath) -> bytes:
    """A file's bytes; whatever goes wrong on the way is an OSError."""
    if not is_address(path):
        return pathlib.Path(path).read_bytes()
    try:
        return epath.Path(path).read_bytes()
    except OSError:
        raise
    except _network_errors() as error:
        raise OSError(f"{path}: {error}") from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What the packages raise that is no OSError."""
    import aiohttp

    errors: list[type[Exception]] = [aiohttp.ClientError]
    if importlib.util.find_spec("gcsfs"):
        from gcsfs.retry import HttpError

        errors.append(HttpError)
    return tuple(errors)
