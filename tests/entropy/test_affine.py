"""Index arithmetic is read back as what it computes, for sizes that were symbols."""

import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import affine, graph, sizes

INDICES = {
    "count": lambda h: jnp.arange(h),
    "stride": lambda h: 2 * jnp.arange(h) + 1,
    "start scaled": lambda h: (jnp.arange(h) + 3) * 2,
    "start of a symbol scaled": lambda h: (jnp.arange(5) + h) * 3,
    "backwards": lambda h: 7 - jnp.arange(h),
    "less a symbol": lambda h: 4 * jnp.arange(6) - h,
    "difference of two": lambda h: 5 * jnp.arange(h) - (2 * jnp.arange(h) - 4),
    "two axes": lambda h: 3 * jnp.arange(h)[:, None] + jnp.arange(4)[None, :],
}


@pytest.mark.parametrize("name", INDICES)
def test_positions_are_those_that_the_indexing_reads(name):
    function = INDICES[name]
    found = graph.trace(lambda x: {"i": function(x.shape[0])[..., None]}, ("h",), [np.float32])
    (position,) = affine.components(found.outputs["i"], 1)
    wanted = np.asarray(function(6))
    grid = np.indices(wanted.shape)
    strides = sum(stride * grid[axis] for axis, stride in position.strides.items())
    start = sizes.evaluate(position.start, {"h": 6})
    np.testing.assert_array_equal(start + strides, wanted)


def test_what_is_not_affine_is_not_taken_for_it():
    squares = np.array([[0], [1], [4], [9]])
    found = graph.trace(
        lambda x: {"of a table": jnp.asarray(squares) + 0 * x.shape[0], "x": x[:, None]},
        ("h",),
        [np.int32],
    )
    assert affine.components(found.outputs["of a table"], 1) is None
    assert affine.components(found.outputs["x"], 1) is None
