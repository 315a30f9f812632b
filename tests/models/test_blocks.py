"""GroupNorm against Flax's own, windows within E and G, and gradients that recompute."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.models import blocks
from tests import small_model
from tests.tiles.networks import ENCODER, GENERATOR, network


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_group_norm_is_that_of_flax(dtype):
    x = jax.random.normal(jax.random.key(0), (2, 6, 5, 8)) * 3 + 1
    theirs = nn.GroupNorm(
        num_groups=4, epsilon=blocks.NORM_EPSILON, use_fast_variance=False, dtype=dtype
    )
    params = {
        "scale": jax.random.normal(jax.random.key(1), (8,)),
        "bias": jax.random.normal(jax.random.key(2), (8,)),
    }
    found = blocks.GroupNorm(4, None, dtype).apply({"params": params}, x)
    expected = theirs.apply({"params": params}, x)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kind", "module"), [("E", ENCODER), ("G", GENERATOR)])
def test_each_attention_of_a_network_looks_over_the_whole_map_in_training_alone(kind, module):
    """Window 2: each attention by itself, the others' branches silenced."""
    module = module.clone(window=2)
    _, params, _ = network(kind)
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 3 if kind == "E" else 4))
    names = [name for name in params if "attention" in name]
    assert sorted(names) == ["level_1_attention_0", "middle_attention"]
    run = jax.jit(
        lambda params, x, train: module.apply({"params": params}, x, train), static_argnums=2
    )
    silent = dict(params)
    for name in names:
        silent[name] = params[name] | {"out": jax.tree.map(np.zeros_like, params[name]["out"])}
    np.testing.assert_allclose(run(silent, x, True), run(silent, x, False), atol=1e-5)
    for name in names:
        alone = silent | {name: params[name]}
        assert jnp.abs(run(alone, x, True) - run(alone, x, False)).max() > 1e-3, name


class Pair(nn.Module):
    """A residual block and an attention block, as a network runs them."""

    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        make = blocks.Parts(norm_groups=2, window=2, dtype=None)
        parts = [make.residual("block", 4), make.attention("attention")]
        return blocks.run_parts(parts, x, True, self.remat)


def test_recomputing_gives_the_same_gradient():
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 4))
    shapes = jax.eval_shape(Pair(False).init, jax.random.key(0), x)
    params = small_model.random_parameters(shapes["params"])

    def gradient(remat: bool):
        module = Pair(remat)
        jaxpr = jax.make_jaxpr(lambda params: module.apply({"params": params}, x))(params)
        assert ("remat" in str(jaxpr)) == remat
        return jax.jit(jax.grad(lambda p: (module.apply({"params": p}, x) ** 2).sum()))(params)

    plain, again = (jax.tree.leaves(gradient(remat)) for remat in (False, True))
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
