"""The linear start against a random one, and against the linear autoencoder it is to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.models import glc
from glc_jax.training.linear_start import _blocks_2x2, linear_start
from tests.small_model import picture, random_parameters
from tests.training import small

MODEL = {
    **small.config(1)["model"],
    "latent_channels": 24,
    "code_predictor": None,
    "vqvae": {
        **small.config(1)["model"]["vqvae"],
        "base_channels": 8,
        "multipliers": (1, 4, 8),
        "norm_groups": 1,
    },
}


@pytest.fixture(scope="module")
def params() -> dict:
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    rate = jax.ShapeDtypeStruct((1,), jnp.float32)
    shapes = jax.eval_shape(glc.build(MODEL).init, jax.random.key(0), image, rate)["params"]
    return random_parameters(shapes)["vqvae"]


def error(vqvae: dict, images: np.ndarray) -> float:
    """Mean squared error of G(E(x)), in [-1, 1]."""
    model, variables = glc.build(MODEL), {"params": {"vqvae": vqvae}}
    x = images / np.float32(127.5) - 1
    latent = model.apply(variables, x, method="encode")
    x_hat = model.apply(variables, latent, method="generate")
    return float(np.mean((np.asarray(x_hat) - x) ** 2))


def test_it_reconstructs_pictures_that_it_has_not_seen(params):
    seen = np.stack([picture(32, 32, seed) for seed in range(48)])
    other = np.stack([picture(32, 32, seed) for seed in range(100, 104)])
    before = jax.tree.map(np.copy, params)
    started = linear_start(MODEL, params, seen)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    variance = float(np.var(other / 127.5 - 1))
    assert error(params, other) > 0.5 * variance
    assert error(started, other) < 0.25 * variance


def test_blocks_have_their_rows_then_their_columns_then_channels():
    """As the kernel of what makes smaller has them."""
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    found = _blocks_2x2(x)
    assert found.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(found[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("norm_groups", 2, "norm_groups=1"), ("multipliers", (1, 2, 4), "at least 50 channels")],
)
def test_models_that_cannot_have_it_are_told(params, field, value, expected):
    model = {**MODEL, "vqvae": {**MODEL["vqvae"], field: value}}
    with pytest.raises(ConfigError, match=expected):
        linear_start(model, params, np.zeros((1, 32, 32, 3), np.uint8))
