"""Losses as objects: which are in use, what they are worth, and one of someone's own."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.models.pixels import to_model_range
from glc_jax.training import objectives
from glc_jax.training.config import read
from glc_jax.training.pictures import jittered
from glc_jax.training.stage import HYPER_CODES, Forward
from glc_jax.training.stage_choices import open_stage
from tests.models.coding_y import code_y
from tests.training import small


@dataclasses.dataclass(frozen=True)
class Brightness(objectives.PictureLoss):
    """A loss of one's own: the distance of the mean, to a power."""

    power: float = 1.0

    def __call__(self, x_hat, images, networks, key):
        return jnp.abs(jnp.mean(x_hat) - jnp.mean(images)) ** self.power


def used(stage: int, **losses) -> dict[str, objectives.Loss]:
    config = read(small.config(stage, losses=losses))
    found = objectives.objectives(config, open_stage(config).gives)
    return {loss.name: loss for loss in found}


def test_a_loss_is_in_use_where_it_has_a_weight_and_the_stage_what_it_needs():
    weights = {"l1": 1.0, "lpips": 0.0, "rate": 2.0, "codebook": 1.0, "hyper_codebook": 0.5}
    assert set(used(1, **weights)) == {"l1", "codebook"}
    assert set(used(2, **weights)) == {"rate", "hyper_codebook"}
    assert set(used(3, **weights)) == {"l1", "rate", "hyper_codebook"}
    assert used(2, **weights)["rate"].weight == 2.0


def test_ones_own_loss_is_named_by_its_path_with_its_fields():
    own = {"of": "tests.training.test_objectives:Brightness", "weight": 0.5, "power": 2.0}
    loss = used(1, mine=own)["mine"]
    assert (loss.name, loss.weight) == ("mine", 0.5)
    x_hat, images = jnp.full((1, 4, 4, 3), 0.5), jnp.zeros((1, 4, 4, 3))
    assert float(loss(x_hat, images, {}, None)) == 0.25


@pytest.mark.parametrize(
    ("stage", "losses", "expected"),
    [
        (1, {"l3": 1.0}, "no loss 'l3'"),
        (1, {"mine": {"of": "no_such_module:Loss", "weight": 1.0}}, "cannot be imported"),
        (1, {"l1": {"weight": 1.0, "radius": 3}}, "does not fit l1"),
        (1, {"l1": "much"}, "does not fit l1"),
        (
            2,
            {"mine": {"of": "tests.training.test_objectives:Brightness", "weight": 1.0}},
            "needs x_hat, which stage2 does not give",
        ),
    ],
)
def test_losses_that_cannot_be(stage, losses, expected):
    with pytest.raises(ConfigError, match=expected):
        used(stage, **losses)


def test_perceptual_losses_see_the_same_piece_of_both_pictures_wherever_it_lies():
    y, x = np.mgrid[:24, :24]
    image = jnp.asarray(np.stack([y, x, y + x], -1)[None], jnp.float32)
    corners = set()
    for seed in range(40):
        a, b = jittered(image, image + 1000, 8, jax.random.key(seed))
        assert a.shape == (1, 16, 16, 3)
        np.testing.assert_array_equal(b - a, 1000)
        top, left = int(a[0, 0, 0, 0]), int(a[0, 0, 0, 1])
        np.testing.assert_array_equal(a, image[:, top : top + 16, left : left + 16])
        corners.add((top, left))
    tops, lefts = zip(*corners, strict=True)
    assert (min(tops), max(tops)) == (min(lefts), max(lefts)) == (0, 8)
    assert jittered(image, image, 0, jax.random.key(0))[0] is image


@pytest.mark.parametrize("kind", [objectives.LPIPS, objectives.DISTS])
def test_perceptual_losses_jitter_by_the_steps_key(kind, monkeypatch):
    seen = []

    def difference(params, x, y, *rest):
        seen.append((params, x, y, *rest))
        return jnp.zeros(2)

    for name in ("lpips", "dists"):
        monkeypatch.setattr(objectives.perceptual, name, difference)
    x_hat, images = jax.random.normal(jax.random.key(0), (2, 2, 40, 40, 3))
    networks, key = {"lpips_alex": "alex", "dists": "vgg"}, jax.random.key(3)
    loss = kind("mine", 1.0, jitter=8)
    assert float(loss(x_hat, images, networks, key)) == 0
    (params, x, y, *_) = seen[0]
    assert params == networks[loss.networks[0]]
    for found, expected in zip((x, y), jittered(x_hat, images, 8, key), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_jitter_that_leaves_nothing_is_refused():
    config = read(small.config(1, jitter=16))
    with pytest.raises(ConfigError, match="at least 32 pixels must be left"):
        objectives.objectives(config, open_stage(config).gives)


def test_the_rate_is_each_samples_lambda_times_its_bits_a_pixel():
    config = small.config(2, quantizer="straight_through", codebook__kmeans_step=-1)
    parts = small.parts(config)
    rate = next(loss for loss in parts.losses if loss.name == "rate")
    params = jax.tree.map(jnp.asarray, small.parameters(config))
    batch = small.batch(size=4)
    samples = parts.turns.draw(0, jax.random.key(0), jnp.arange(4))

    @jax.jit
    def forward(params, images):
        variables = {"params": params}
        out = parts.stage.forward(parts.model, variables, images, samples)
        seen = objectives.Seen(parts.model, variables, images, samples, out)

        def coded(model, images):
            targets = model.targets(model.encode(images), samples.rate)
            prior = model.hyperprior.prior_params(model.hyperprior.quantise(targets["z"]).quantized)
            return code_y(model.context, targets["y"], prior)

        y = parts.model.apply(variables, images, method=coded)
        return rate(seen), out.bpp, y.symbols, y.parameters["scale"]

    value, bpp, y_q, scales = forward(params, to_model_range(batch["image"]))
    scales = np.maximum(np.asarray(scales, np.float64), 0.11)
    tail = np.vectorize(lambda x: 0.5 * math.erfc(x / math.sqrt(2)))
    magnitude = np.abs(np.asarray(y_q, np.float64))
    share = tail((magnitude - 0.5) / scales) - tail((magnitude + 0.5) / scales)
    bits = -np.log2(share).sum((1, 2, 3))
    np.testing.assert_allclose(bpp, bits / small.CROP**2, rtol=1e-4)
    lambdas = np.array(config["lambdas"])  # the four samples have the four rates
    np.testing.assert_allclose(value, np.mean(lambdas * bits / small.CROP**2), rtol=1e-4)
    assert np.ptp(bits) > 0


def test_a_stage_gives_what_it_says():
    for stage in (1, 2, 3):
        made = open_stage(read(small.config(stage)))
        fields = {field.name for field in dataclasses.fields(Forward)}
        assert made.gives <= fields | {*made.codebooks, HYPER_CODES}
        assert set(made.codebooks) <= made.gives
