"""Fixtures that several test files share."""

import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


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
