"""What a benchmark of a picture notes, phase by phase."""

import numpy as np
import pytest

from glc_jax import codec, engines, weights
from glc_jax.evaluation import phases
from tests import small_model


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("phases") / "small.safetensors"
    small_model.write_weights(path)
    return codec.Codec(weights.load(path))


def test_every_phase_has_its_time_and_its_memory(small):
    image = phases.picture(60, 40)
    found = phases.measure(small, image, rate=1.5, repeats=1)
    assert (found["width"], found["height"], found["bytes"]) == (60, 40, len(small.compress(image)))
    assert tuple(found["phases"]) == phases.PHASES
    for phase in found["phases"].values():
        assert 0 < phase["seconds_least"] <= phase["seconds"] <= phase["seconds_most"]
        assert 10**7 < phase["peak_bytes"] <= found["peak_bytes"] < 10**11


def test_the_peak_of_a_phase_is_not_that_of_the_one_before():
    meter = phases.Meter()
    meter("E", lambda: np.ones(30 * 10**6).sum())
    meter("G", lambda: None)
    large, none = meter.notes["E"][0], meter.notes["G"][0]
    assert large["peak_bytes"] - large["before_bytes"] > 2 * 10**8
    assert none["peak_bytes"] - none["before_bytes"] < 5 * 10**7


def test_what_a_run_keeps_on_disk_is_not_the_next_one_s_work(small, monkeypatch):
    happened, metered = [], phases.Meter.__call__

    def noted(meter, phase, *arguments, **more):
        happened.append(phase)
        return metered(meter, phase, *arguments, **more)

    monkeypatch.setattr(phases.Meter, "__call__", noted)
    monkeypatch.setattr(engines, "finish", lambda: happened.append("finish"))
    phases.measure(small, phases.picture(60, 40), rate=1.5, repeats=1)
    assert happened == 2 * [*phases.PHASES, "finish"]


def test_the_first_run_does_not_count():
    notes = [
        {"seconds": s, "cpu_seconds": 2 * s, "peak_bytes": 10 * s, "before_bytes": 0}
        for s in (9, 1, 2, 6)
    ]
    assert phases._summary(notes) == {
        "first_seconds": 9,
        "seconds": 2,
        "seconds_least": 1,
        "seconds_most": 6,
        "cpu_seconds": 4,
        "peak_bytes": 90,
    }


def test_pictures_are_the_same_every_time_and_not_flat():
    image = phases.picture(300, 200)
    assert image.shape == (200, 300, 3)
    assert image.std() > 30
    np.testing.assert_array_equal(image, phases.picture(300, 200))
