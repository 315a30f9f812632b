"""The code predictor: what is added to what, and which token is which position."""

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.models.code_predictor import CodePredictor, TransformerLayer
from tests import small_model

TOKENS = jax.random.normal(jax.random.key(0), (1, 5, 4))
POSITIONS = jax.random.normal(jax.random.key(1), (5, 4))
LAYER = TransformerLayer(heads=2, mlp_width=6)


def of_shapes(module, *inputs) -> dict:
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return small_model.random_parameters(shapes["params"])


def without(params: dict, *names: str) -> dict:
    return {**params, **{name: jax.tree.map(np.zeros_like, params[name]) for name in names}}


def test_a_layer_whose_branches_give_nothing_changes_nothing():
    apply = jax.jit(LAYER.apply)
    params = of_shapes(LAYER, TOKENS, POSITIONS)
    silent = without(params, "out", "mlp_out")
    np.testing.assert_array_equal(apply({"params": silent}, TOKENS, POSITIONS), TOKENS)
    for name in ("out", "mlp_out"):
        found = apply({"params": without(params, name)}, TOKENS, POSITIONS)
        assert jnp.abs(found - TOKENS).max() > 0.01


def test_positions_are_in_queries_and_keys_and_not_in_values():
    apply = jax.jit(LAYER.apply)
    params = of_shapes(LAYER, TOKENS, POSITIONS)
    found = apply({"params": params}, TOKENS, POSITIONS)
    assert jnp.abs(apply({"params": params}, TOKENS, -POSITIONS) - found).max() > 1e-4
    for name in ("q", "k"):  # all are attended to alike
        even = {"params": without(params, name)}
        np.testing.assert_allclose(
            apply(even, TOKENS, -POSITIONS), apply(even, TOKENS, POSITIONS), atol=1e-6
        )


def test_tokens_are_positions_row_by_row_and_logits_are_float32():
    predictor = CodePredictor(
        codebook_size=3, positions=6, width=4, layers=0, heads=1, dtype=jnp.bfloat16
    )
    latent = jax.random.normal(jax.random.key(0), (1, 2, 3, 5))
    params = of_shapes(predictor, latent)
    apply = jax.jit(predictor.apply)
    logits = apply({"params": params}, latent)
    assert (logits.shape, logits.dtype) == ((1, 6, 3), jnp.float32)
    np.testing.assert_array_equal(logits[:, 3:], apply({"params": params}, latent[:, 1:]))
