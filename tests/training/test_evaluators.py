"""Evaluators: what held-out batches sum up to, which measures a run has, what the board is told."""

from types import SimpleNamespace

import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.training import evaluators, sharding
from glc_jax.training.config import Config, Evaluation


class Noted:
    """A board that keeps what it is given."""

    def __init__(self):
        self.seen = []

    def scalars(self, step, prefix, values):
        self.seen.append((step, prefix, dict(values)))

    def pictures(self, step, originals, reconstructions):
        shown = {name: value.tolist() for name, value in reconstructions.items()}
        self.seen.append((step, originals.tolist(), shown))


def parts_of(stage=(), losses=(), **fields):
    config = SimpleNamespace(eval=Evaluation(**fields), lpips_network="alex", stage="toy")
    named = [SimpleNamespace(name=name) for name in losses]
    return SimpleNamespace(config=config, losses=named, stage=SimpleNamespace(beside=stage))


def test_means_are_over_all_batches_and_the_first_ones_pictures_are_shown():
    held_out = object.__new__(evaluators.HeldOut)
    held_out.parts, held_out.networks = parts_of(pictures=2), {}
    held_out.mesh = sharding.make_mesh(1, 3, 1)
    held_out.batches = [{"image": np.arange(first, first + 3)} for first in (0, 10)]

    def step(params, batch, networks):
        sums = {"weight": 3.0, "psnr/toy": params * batch["image"].sum()}
        return sums, {"toy": -batch["image"]}

    held_out.step, board = step, Noted()
    assert held_out(2.0, 7, board)["psnr"] == 2 * (0 + 1 + 2 + 10 + 11 + 12) / 6
    assert board.seen == [(7, [0, 1], {"toy": [0, -1]})]


def test_measures_are_those_asked_for_and_those_that_are_losses():
    parts = parts_of(losses=("dists", "l1"), metrics=("psnr",), crop=256)
    assert set(evaluators.chosen_measures(parts)) == {"psnr", "dists"}
    for crop, taken in ((48, True), (32, False)):
        parts = parts_of(metrics=("spectral_excess",), crop=crop)
        if taken:
            assert set(evaluators.chosen_measures(parts)) == {"spectral_excess"}
        else:
            with pytest.raises(ConfigError, match="spectral_excess takes at least 48"):
                evaluators.chosen_measures(parts)
    with pytest.raises(ConfigError, match="for stages with a style"):
        evaluators.chosen_measures(parts_of(metrics=("style",), crop=256))


def test_a_batch_that_the_devices_cannot_share_is_told():
    mesh = SimpleNamespace(shape={sharding.DATA: 4})
    with pytest.raises(ConfigError, match="of 2 cannot be divided among 4"):
        evaluators.HeldOut(evaluators.Place(parts_of(batch=2), mesh, None))


def test_what_all_evaluators_measured_is_on_the_board():
    made = evaluators.Evaluators(SimpleNamespace(config=Config()), mesh=None)  # nothing held out
    assert not made
    made.run = [
        lambda params, step, board: {"psnr": params + step},
        lambda params, step, board: {"exact_bpp": 0.5},
    ]
    board = Noted()
    made.averaged = lambda state: state + 1
    assert made(2.0, 4, board) == {"psnr": 7.0, "exact_bpp": 0.5}
    assert board.seen == [(4, "held_out", {"psnr": 7.0, "exact_bpp": 0.5})]
