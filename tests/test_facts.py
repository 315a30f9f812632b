"""What is told of a file: by its own weights, or as much as can be told without."""

from types import SimpleNamespace

import pytest

from glc_jax import bitstream, facts, weights

CONTAINER = bitstream.Container(64, 48, 84, bytes([1, 2]), b"any", 0, 0)
DATA = bitstream.serialise(CONTAINER)


def described(fingerprint: bytes) -> SimpleNamespace:
    return SimpleNamespace(
        fingerprint=fingerprint, name="given", provenance={"license": "none"}, highest_rate=1.0
    )


@pytest.fixture
def nothing_packaged(monkeypatch):
    monkeypatch.setattr(weights, "find", lambda wanted: None)
    monkeypatch.setattr(facts, "_group_bytes", lambda container, model, plugins: {"z": 1.5})


def test_weights_of_another_file_tell_nothing_of_it(nothing_packaged):
    found = facts.of_file(DATA, described(bytes([1, 3])))
    assert found["weights"] == {"fingerprint": "0102", "name": None, "provenance": None}
    assert found["payload"] is None
    assert found["rate"] == CONTAINER.rate(3.0)
    assert found["bpp"] == 8 * len(DATA) / (64 * 48)


def test_its_own_weights_tell_its_groups_and_what_its_rate_is_a_part_of(nothing_packaged):
    found = facts.of_file(DATA, described(CONTAINER.fingerprint))
    assert found["weights"]["name"] == "given"
    assert found["payload"] == {"z": 1.5}
    assert found["rate"] == CONTAINER.rate(1.0) != CONTAINER.rate(3.0)
