"""Parts of a batch in turn are the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.training.step import accumulate


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_means_are_over_the_parts_and_rows_keep_the_batchs_order(parts):
    batch = {"x": jnp.arange(8.0), "y": jnp.arange(24.0).reshape(8, 3)}

    def function(part):
        return {"mean": part["x"].mean(), "square": (part["y"] ** 2).mean()}, 10 * part["y"]

    averaged, rows = accumulate(function, batch, parts)
    np.testing.assert_allclose(averaged["mean"], 3.5)
    np.testing.assert_allclose(averaged["square"], np.mean(np.arange(24.0) ** 2), rtol=1e-6)
    np.testing.assert_array_equal(rows, 10 * batch["y"])


def test_on_cpu_there_is_no_loop():
    """XLA's gradients of convolutions on CPU take twenty times as long inside one."""
    add = jax.jit(lambda x: accumulate(lambda part: (part["x"].mean(), part["x"]), {"x": x}, 4))
    program = add.lower(jnp.arange(8.0)).compile().as_text()
    assert "add(" in program
    assert "while(" not in program
