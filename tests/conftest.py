"""What all tests share: the reference folder, and how every process compiles."""

import gc
import importlib.metadata
import os
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def _hasty_flags() -> str:
    """XLA's flags for compiling in half the time; it ends the process where it knows one not."""
    flags = "--xla_backend_optimization_level=0"
    jaxlib = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
    known = (0, 8) <= jaxlib <= (0, 10)
    return f"{flags} --xla_cpu_use_fusion_emitters=false" if known else flags


# Compiling is most of the time of a small test. Programs that a test starts inherit this;
# tests/entropy/test_same_everywhere.py compares with what a user's compile to.
IN_HASTE = _hasty_flags()
os.environ.setdefault("XLA_FLAGS", IN_HASTE)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


# What JAX has traced is kept as millions of small objects, which Python's collector would look
# through again and again: a twelfth of the time. (Hardly ever is too seldom: what a file's tests
# leave behind are gigabytes.)
gc.set_threshold(10_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Training's tests first: a file is one process's, and a long one begun last is waited for."""
    items.sort(key=lambda item: item.path.parent.name != "training")


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder with the reference material and photographs beside the checkout."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the reference folder ../shared is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def reference(shared: pathlib.Path) -> pathlib.Path:
    """The folder with the golden files."""
    return shared / "reference"
