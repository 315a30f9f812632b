"""Layers take their parameters without drawing others, and say so where the shapes differ."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from configs import tiny
from glc_jax.models import given, glc
from tests.models.test_glc import shapes


def test_a_whole_model_is_traced_without_drawing(monkeypatch):
    params = {k: v for k, v in shapes("tiny").items() if "code_predictor" not in k}
    model = glc.build(tiny.model_config())
    image, rate = jnp.zeros((1, 64, 64, 3)), jnp.zeros(1)

    def key(seed):
        raise AssertionError("a parameter was drawn")

    monkeypatch.setattr(jax.random, "key", key)

    def there_and_back(params, image, rate):
        latent = model.apply({"params": params}, image, method="encode")
        coded = model.apply({"params": params}, latent, rate, method="to_code")
        latent = model.apply({"params": params}, coded["y"], rate, method="synthesis")
        return model.apply({"params": params}, latent, method="generate")

    assert jax.eval_shape(there_and_back, params, image, rate).shape == image.shape


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(given.Dense(5), nn.Dense(5)), (given.Conv(5, (3, 3)), nn.Conv(5, (3, 3)))],
)
def test_a_layer_is_flax_s_own(ours, theirs):
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    params = ours.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, params, theirs.init(jax.random.key(1), x))
    np.testing.assert_array_equal(ours.apply(params, x), theirs.apply(params, x))


def test_a_parameter_of_another_shape_is_refused():
    params = given.Dense(5).init(jax.random.key(1), jnp.ones((1, 3)))
    with pytest.raises(ScopeParamShapeError):
        given.Dense(6).apply(params, jnp.ones((1, 3)))
