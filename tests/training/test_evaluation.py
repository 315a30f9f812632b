"""Held-out pictures: which are counted, in which part of a batch, and what their means are."""

import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError, InputError
from glc_jax.models.pixels import to_model_range
from glc_jax.training import evaluation
from glc_jax.training.evaluation import averages, make_eval_step
from glc_jax.training.measures import MEASURES, Measure
from tests.training import small


class Source:
    """Picture i is all i; some are too small, some broken."""

    def __init__(self, count, small=(), broken=()):
        self.count, self.small, self.broken = count, small, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise InputError("damaged")
        return np.full((4 if index in self.small else 10, 10, 3), index, np.uint8)


def test_every_usable_picture_is_in_the_batches_once_and_the_rest_has_no_weight():
    batches = evaluation.held_out_batches(Source(7, small=(1,), broken=(4,)), batch=4, crop=8)
    assert [batch["image"].shape for batch in batches] == [(4, 8, 8, 3)] * 2
    pairs = [
        (int(image[0, 0, 0]), float(weight))
        for batch in batches
        for image, weight in zip(batch["image"], batch["weight"], strict=True)
    ]
    assert pairs == [(0, 1), (2, 1), (3, 1), (5, 1), (6, 1), (0, 0), (0, 0), (0, 0)]
    with pytest.raises(ConfigError, match="as large as the evaluation crop of 11"):
        evaluation.held_out_batches(Source(3), batch=2, crop=11)


def test_the_parts_of_two_hosts_are_the_whole_batches():
    source = Source(7)
    whole = evaluation.held_out_batches(source, batch=4, crop=8)
    parts = [
        evaluation.held_out_batches(source, batch=4, crop=8, shard=(part, 2)) for part in (0, 1)
    ]
    for number, batch in enumerate(whole):
        for name in ("image", "weight"):
            joined = np.concatenate([part[number][name] for part in parts])
            np.testing.assert_array_equal(joined, batch[name])


def test_what_comes_beside_held_out_pictures_is_the_same_every_time_and_on_every_host():
    def noisy(crop, rng):
        return np.stack([crop[..., 0], *rng.integers(0, 256, (2, 8, 8))], -1).astype(np.uint8)

    def batches(shard=(0, 1)):
        source = Source(7, small=(1,))
        return evaluation.held_out_batches(
            source, batch=4, crop=8, shard=shard, beside={"degraded": noisy}
        )

    whole, again, parts = batches(), batches(), [batches((part, 2)) for part in (0, 1)]
    for number, batch in enumerate(whole):
        beside = batch["degraded"]
        np.testing.assert_array_equal(beside[..., 0], batch["image"][..., 0])
        np.testing.assert_array_equal(beside, again[number]["degraded"])
        joined = np.concatenate([part[number]["degraded"] for part in parts])
        np.testing.assert_array_equal(joined, beside)
    draws = {b.tobytes() for batch in whole for b in batch["degraded"][batch["weight"] > 0][..., 1]}
    assert len(draws) == 6  # each picture has its own


def test_sums_are_of_what_is_shown_of_the_pictures_that_count():
    def reconstruct(model, variables, images, beside):
        x_hat = images / 127.5 - 1
        return {
            "far": (x_hat + variables["params"], None),
            "same": (x_hat, jnp.arange(3.0)),
        }

    def largest(picture, images, networks):
        return jnp.abs(picture - images).max((1, 2, 3))

    step = evaluation.make_eval_step(None, reconstruct, {"largest": Measure(largest)})
    images = np.full((3, 2, 2, 3), 200, np.uint8)
    weight = np.array([1, 1, 0], np.float32)
    sums, pictures = step(1e6, {"image": images, "weight": weight}, {})
    assert float(sums["weight"]) == 2
    assert float(sums["largest/far"]) == 2 * 55  # a picture ends at 255
    assert float(sums["largest/same"]) == 0
    assert float(sums["bpp/same"]) == 1  # 0 and 1, and 2 does not count
    assert "bpp/far" not in sums
    np.testing.assert_array_equal(pictures["same"], images)
    assert (np.asarray(pictures["far"]) == 255).all()


def test_averages_are_over_the_pictures_and_then_over_the_ways():
    sums = {"weight": 4.0, "psnr/a": 80.0, "psnr/b": 120.0, "bpp/a": 2.0}
    assert evaluation.averages(sums) == {
        "psnr/a": 20,
        "psnr/b": 30,
        "bpp/a": 0.5,
        "psnr": 25,
        "bpp": 0.5,
    }


def test_what_fills_up_a_batch_counts_for_nothing():
    images = small.batch(size=3)["image"]
    noise = np.float32([[0], [64 / 127.5], [0]]).reshape(3, 1, 1, 1)

    def reconstruct(model, variables, images, beside):
        return {"toy": (to_model_range(images) + noise, None)}

    step = make_eval_step(None, reconstruct, {"psnr": MEASURES["psnr"]})
    weight = np.float32([0, 1, 0])  # the others come out as they were, with a PSNR of infinity
    sums, _ = step({}, {"image": images, "weight": weight}, {})
    difference = np.minimum(images[1].astype(float) + 64, 255) - images[1]
    expected = 10 * np.log10(255**2 / np.mean(np.square(difference)))
    np.testing.assert_allclose(averages(sums)["psnr"], expected, rtol=1e-6)
