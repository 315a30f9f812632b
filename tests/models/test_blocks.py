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
    ours = blocks.GroupNorm(4, None, dtype)
    found, expected = (jax.jit(module.apply)({"params": params}, x) for module in (ours, theirs))
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


def test_before_training_a_block_gives_about_what_it_gets():
    """The path past the branches carries a picture, which norms hide from the branches."""
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
    for block in (blocks.ResidualBlock(8, 2), blocks.AttentionBlock(2)):
        found, _ = jax.jit(block.init_with_output)(jax.random.key(1), x)
        assert 0 < jnp.std(found - x) < 0.3


def test_a_residual_block_is_its_formula():
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 4))
    block = blocks.ResidualBlock(4, 2)
    params = small_model.random_parameters(
        jax.eval_shape(block.init, jax.random.key(0), x)["params"]
    )
    h = x
    for number in (1, 2):
        h = nn.GroupNorm(2, epsilon=blocks.NORM_EPSILON).apply(
            {"params": params[f"norm_{number}"]}, h
        )
        h = nn.Conv(4, (3, 3)).apply({"params": params[f"conv_{number}"]}, h / (1 + jnp.exp(-h)))
    found = jax.jit(block.apply)({"params": params}, x)
    np.testing.assert_allclose(found, x + h, atol=1e-5)


def test_what_is_made_smaller_reads_zeros_below_and_to_the_right():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 2))
    block = blocks.Downsample()
    params = small_model.random_parameters(
        jax.eval_shape(block.init, jax.random.key(0), x)["params"]
    )
    kernel = params["conv"]["kernel"]
    found = block.apply({"params": params}, x)
    assert found.shape == (1, 2, 3, 2)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    for row, column in ((0, 0), (1, 2)):
        seen = padded[0, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        np.testing.assert_allclose(
            found[0, row, column], np.einsum("ijc,ijcd->d", seen, kernel), atol=1e-5
        )


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
