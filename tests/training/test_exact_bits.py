"""What training logs of the exact entropy model, beside the estimate."""

import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import WeightsError
from glc_jax.training import exact_bits, sharding
from glc_jax.training.boards import Boards
from glc_jax.training.evaluators import EVALUATORS, Place
from tests.small_model import picture
from tests.training import small

PICTURES = [picture(small.CROP, small.CROP, seed) for seed in range(4)]


def evaluator(stage):
    config = small.config(stage, model__code_predictor=None, losses__code_prediction=0.0)
    parts = small.parts(config)
    mesh = sharding.make_mesh(1, config["batch"], 1)
    return EVALUATORS["exact_bits"](Place(parts, mesh, PICTURES)), config


def test_a_stage_without_a_rate_has_none():
    found, config = evaluator(1)
    assert found(small.parameters(config), 1, Boards()) == {}


@pytest.mark.slow
def test_exact_bits_stand_beside_the_estimate_of_the_same_pictures():
    found, config = evaluator(2)
    params = jax.tree.map(jnp.asarray, small.started(config))
    measured = found(params, 1, Boards())
    assert measured["exact/bpp_estimate"] > 0
    np.testing.assert_allclose(measured["exact/bpp"], measured["exact/bpp_estimate"], rtol=0.02)
    assert abs(measured["exact/y_over_estimate"]) < 0.005


def test_both_sides_are_over_the_pixels_of_all_rates(monkeypatch):
    """Files of 24 bits a picture, 16 of them y's, where the model expects 20 and 10."""
    found, _ = evaluator(2)
    np.testing.assert_array_equal(found.calibration, PICTURES[::2])
    np.testing.assert_array_equal(found.counted, PICTURES[1::2])
    calibrated, counted = [], []

    def targets(variables, images, point):
        counted.append((images is found.counted, point))
        return {}

    def exported(model, run, variables, samples, kernel_bits):
        calibrated.extend(counted)
        return {}

    exact = SimpleNamespace(
        encode=lambda symbols: symbols, bits=lambda coded, picture: {"z": 8.0, "y/0": 16.0}
    )
    groups = [SimpleNamespace(name="y/0", family=None)]
    model = SimpleNamespace(of={"y": groups}.__getitem__, groups=groups)
    expected = {"z": np.full(2, 10.0), "y/0": np.full(2, 10.0)}
    monkeypatch.setattr(found, "_targets", targets)
    monkeypatch.setattr(found, "counts", lambda variables, targets: ({}, expected))
    monkeypatch.setattr(
        found, "model", SimpleNamespace(entropy_model=lambda: model, run=None), raising=False
    )
    monkeypatch.setattr(exact_bits.export, "export", exported)
    monkeypatch.setattr(exact_bits, "ExactModel", lambda *arguments: exact)
    measured = found({}, 1, Boards())
    assert calibrated == [(False, point) for point in range(4)]
    assert counted[4:] == [(True, point) for point in range(4)]
    assert measured["exact/bpp"] == pytest.approx(24 / small.CROP**2)
    assert measured["exact/bpp_estimate"] == pytest.approx(20 / small.CROP**2)
    assert measured["exact/y_over_estimate"] == pytest.approx(0.6)


def test_what_has_no_exact_form_is_told_and_ends_no_run(monkeypatch, caplog):
    found, _ = evaluator(2)

    def refuse(params):
        raise WeightsError("A value is not finite.")

    monkeypatch.setattr(found, "_measured", refuse)
    with caplog.at_level(logging.WARNING, exact_bits.logger.name):
        assert found({}, 7, Boards()) == {}
    assert "Step 7: files of this model cannot be written: A value is not finite." in caplog.text
