"""The state before the first step, and which leaves of it a pattern and a path mean."""

import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from glc_jax.training import parameters, saved, state

PARAMS = {
    "g_a": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)},
    "quantizer": {"codebook": jnp.ones((4, 2))},
    "restorer": {"g_a": {"bias": jnp.ones(1)}},
}


def created():
    return state.create(PARAMS, "g_a/", ("quantizer/codebook",), optax.sgd(0.1))


def test_no_step_is_done_and_every_code_is_in_even_use():
    found = created()
    assert int(found.step) == 0
    np.testing.assert_allclose(found.code_use["quantizer/codebook"], [0.25] * 4)


def test_averages_begin_as_copies_of_what_trains():
    """A buffer can be given away only once."""
    found = created()
    assert set(found.ema) == {"g_a/kernel", "g_a/bias"}
    for name in ("kernel", "bias"):
        copy, leaf = found.ema[f"g_a/{name}"], found.params["g_a"][name]
        np.testing.assert_array_equal(copy, leaf)
        assert copy.unsafe_buffer_pointer() != leaf.unsafe_buffer_pointer()


def test_averaged_parameters_have_the_averages_and_else_what_there_is():
    found = created().replace(ema={"g_a/bias": jnp.full(3, 7.0)}).averaged()
    np.testing.assert_array_equal(found["g_a"]["bias"], 7)
    assert found["quantizer"]["codebook"] is PARAMS["quantizer"]["codebook"]
    np.testing.assert_array_equal(PARAMS["g_a"]["bias"], 0)


def test_a_pattern_is_met_from_a_paths_beginning():
    assert set(parameters.select(PARAMS, "g_a/b")) == {"g_a/bias"}
    assert set(parameters.select(PARAMS, ".*g_a/b")) == {"g_a/bias", "restorer/g_a/bias"}


def test_a_leaf_has_one_path_in_a_state_and_in_a_checkpoint():
    keys = (GetAttrKey("opt_state"), SequenceKey(1), DictKey("g_a/kernel"))
    assert saved.path_of(keys) == "opt_state/1/g_a/kernel"
