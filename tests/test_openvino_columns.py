"""Maps in columns give what whole maps give, and are used where they are worth it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import openvino_columns, openvino_program
from glc_jax.models import blocks, layers
from glc_jax.models.vqvae import Encoder, Generator

pytest.importorskip("openvino")

WIDE, HIGH, MANY = 2 * openvino_columns.LEAST_COLUMNS, 4, openvino_columns.LEAST_CHANNELS
RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, HIGH, WIDE, MANY)).astype(np.float32)
FEW = RNG.normal(size=(2, HIGH, WIDE, 3)).astype(np.float32)
VECTOR = RNG.normal(size=MANY).astype(np.float32)
KERNELS = {
    sizes: RNG.normal(size=(3, 3, *sizes)).astype(np.float32) / 40
    for sizes in ((MANY, MANY), (3, MANY), (MANY, 3), (MANY, 2 * MANY))
}


def conv(x, width=MANY, stride=1):
    return jax.lax.conv_general_dilated(
        x,
        KERNELS[x.shape[-1], width],
        (stride, stride),
        ((1, 1), (1, 1)) if stride == 1 else ((0, 1), (0, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def normed(x):
    return nn.silu(blocks.group_norm(x, VECTOR.reshape(4, -1), VECTOR[::-1].reshape(4, -1)))


def results(function, x, columns):
    """(what OpenVINO gives, how many convolutions it takes)."""
    traced = openvino_program.trace(
        function, [jax.ShapeDtypeStruct(x.shape, x.dtype)], columns=columns
    )
    operations = sum(
        op.get_type_name() in ("Convolution", "ConvolutionBackpropData")
        for op in traced.model.get_ops()
    )
    return [np.asarray(leaf) for leaf in traced.compile(fast=False)(x)], operations


FUNCTIONS = {
    "begun": (lambda x: conv(x), FEW),
    "convolved": (lambda x: conv(x), X),
    "twice": (lambda x: conv(conv(x)), X),
    "wider": (lambda x: conv(conv(x), 2 * MANY), X),
    "few": (lambda x: conv(conv(x), 3), X),
    "halved": (lambda x: conv(conv(x), stride=2), X),
    "halved and narrow": (lambda x: conv(conv(conv(x), stride=2)), X),
    "halved and wide": (
        lambda x: conv(conv(jnp.concatenate([x, x], 2)), stride=2),
        X,
    ),
    "halved to an odd number of columns": (
        lambda x: conv(conv(conv(jnp.concatenate([x, x, x[:, :, :2]], 2)), stride=2)),
        X,
    ),
    "doubled": (
        lambda x: layers.doubled_conv3x3(x, KERNELS[MANY, MANY]) * 2,
        X[:, :, : WIDE // 2],
    ),
    "a number of columns that four does not divide": (
        lambda x: normed(conv(normed(conv(x)))) + conv(x, 2 * MANY)[..., :MANY],
        X[:, :, : WIDE - 2],
    ),
    "doubled from columns": (
        lambda x: layers.doubled_conv3x3(conv(x), KERNELS[MANY, MANY]),
        X,
    ),
    "norm and activation": (lambda x: normed(conv(x)), FEW),
    "a block": (lambda x: conv(normed(conv(normed(conv(x))))) + conv(x), FEW),
    "added to a whole map": (lambda x: conv(x) + x * 2, X),
    "1x1": (lambda x: conv(x) @ KERNELS[MANY, 3][0, 0], X),
    "vectors, constants and choices": (
        lambda x: jnp.where(conv(x) > 0, conv(x) * VECTOR, jnp.clip(conv(x), -0.5, 3)) / 3 + 1,
        X,
    ),
    "with a map of one column": (lambda x: conv(x) - x[:, :, :1] + x[:, :1], X),
    "cut, padded and added up": (
        lambda x: (conv(x)[:, 1:3, 3:9], jnp.pad(conv(x), ((0, 0), (1, 1), (2, 0), (0, 0)))),
        X,
    ),
    "means": (lambda x: conv(x).mean((1, 2)), X),
    "another order of axes": (lambda x: conv(x).transpose(0, 2, 1, 3).reshape(1, WIDE, -1), X),
    "rounded": (lambda x: jnp.round(conv(conv(x), 3) * 9).astype(jnp.int32), X),
}


@pytest.mark.parametrize("maps", [2, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_columns_give_what_whole_maps_give(name, maps):
    function, x = FUNCTIONS[name]
    (found, operations), (_, fewer) = (results(function, x, columns) for columns in (maps, 1))
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.jit(function)(x))]
    assert operations > fewer  # columns were there
    for a, b in zip(found, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5)


@pytest.mark.parametrize(
    "x",
    [X[..., :64], X[:, :, : WIDE // 2 - 2], np.concatenate([X, X[:, :, :1]], axis=2)],
    ids=["few channels", "few columns", "an odd number of columns"],
)
def test_maps_for_which_columns_do_not_pay_stay_whole(x):
    kernel = RNG.normal(size=(3, 3, x.shape[-1], x.shape[-1])).astype(np.float32)

    def function(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert results(function, x, 4)[1] == results(function, x, 1)[1] == 1


OTHERS = {
    "dilated": {"rhs_dilation": (2, 2), "padding": ((2, 2), (2, 2))},
    "not padded": {"padding": ((0, 0), (0, 0))},
    "padded on one side": {"padding": ((2, 0), (0, 2))},
    "of stride 2 and 1": {"window_strides": (2, 1), "padding": ((1, 1), (1, 1))},
    "of stride 2, padded all around": {"window_strides": (2, 2), "padding": ((1, 1), (1, 1))},
}


@pytest.mark.parametrize("how", OTHERS)
def test_other_convolutions_take_the_whole_map(how):
    fields = {"window_strides": (1, 1), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def function(x):
        kernel = KERNELS[MANY, MANY]
        return jax.lax.conv_general_dilated(conv(x), kernel, **(fields | OTHERS[how]))

    (found, _), expected = results(function, X, 4), jax.jit(function)(X)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("maps", [2, 4])
@pytest.mark.parametrize("part", [Encoder, Generator])
def test_networks_of_the_full_size_models_width(part, maps):
    module = part(MANY, (1, 1, 2), (1, 1, 1), 16, window=8)
    shape = (1, 64, 128, 3) if part is Encoder else (1, 16, 32, 16)
    x = RNG.normal(size=shape).astype(np.float32)
    params = jax.jit(module.init)(jax.random.key(0), x)

    def function(x):
        return module.apply(params, x)

    (whole, fewer), (columns, operations) = (results(function, x, c) for c in (1, maps))
    assert operations > 1.5 * fewer
    # Single precision over a chain of some twenty convolutions and norms.
    assert np.abs(columns[0] - whole[0]).max() < 1e-4 * np.abs(whole[0]).max()


@pytest.mark.parametrize(
    ("width", "channels", "most", "maps"),
    [
        (WIDE, MANY, 4, 4),
        (WIDE, MANY, 2, 2),
        (WIDE, MANY, 1, 1),
        (WIDE + 2, MANY, 4, 2),
        (WIDE + 2, MANY, 1, 1),
        (WIDE + 1, MANY, 4, 1),
        (WIDE // 2 - 4, MANY, 4, 1),
        (WIDE, MANY - 1, 4, 1),
    ],
)
def test_in_how_many_maps_a_level_is_kept(width, channels, most, maps):
    assert openvino_columns.count(width, channels, most) == maps
