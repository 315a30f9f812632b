"""Addresses without a bucket at hand: what is looked for, and what a network raises."""

import aiohttp
import pytest
from etils import epath
from etils.epath import backend

from glc_jax.data import address


def test_suffixes_are_found_in_capitals_too_and_others_are_not(monkeypatch):
    walked = [
        ("bucket/in/deeper", [], ["a.png"]),  # in any order
        ("bucket/in", ["deeper"], ["b.JPG", "notes.txt"]),
    ]
    monkeypatch.setattr(backend.fsspec_backend, "walk", lambda folder: walked)
    found = address.find("gs://bucket/in", {".png", ".jpg"})
    assert [str(path) for path in found] == ["gs://bucket/in/b.JPG", "gs://bucket/in/deeper/a.png"]


@pytest.mark.parametrize("error", [aiohttp.ClientError("gone"), OSError("gone")])
def test_whatever_a_network_raises_is_an_os_error(monkeypatch, error):
    """So that it is tried again, and named, as a disk's errors are."""

    class Failing:
        def __init__(self, path):
            pass

        def read_bytes(self):
            raise error

    monkeypatch.setattr(epath, "Path", Failing)
    with pytest.raises(OSError, match="gone"):
        address.read_bytes("gs://bucket/a.png")
