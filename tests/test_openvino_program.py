"""A function of JAX as a program of OpenVINO gives what JAX gives."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import openvino_program
from glc_jax.errors import ConfigError, InputError
from glc_jax.models import blocks, layers

openvino = pytest.importorskip("openvino")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 6, 4, 8)).astype(np.float32)
VECTOR = RNG.normal(size=8).astype(np.float32)
NUMBERS = np.array([-7, -2, 0, 3, 9], np.int32)


def conv(x, stride=1, padding=((1, 1), (1, 1)), dilation=1, width=5):
    kernel = RNG.normal(size=(3, 3, x.shape[-1], width)).astype(np.float32) / 8
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def both(function, *arrays, fast=False):
    """(what OpenVINO gives, what JAX gives), as lists of leaves."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
    traced = openvino_program.trace(function, shapes)
    found = traced.compile(fast)(*arrays)
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state
    expected, tree = jax.tree.flatten(jax.jit(function)(*arrays))
    assert traced.results == tree
    return found, [np.asarray(leaf) for leaf in expected]


FUNCTIONS = {
    "arithmetic": lambda x: (x + 1) * x - x / 3,
    "a vector along the channels": lambda x: x * VECTOR + VECTOR,
    "after a convolution along the channels": lambda x: conv(x, width=8) * VECTOR + x,
    "two orders of axes": lambda x: conv(x, width=8) + x.transpose(0, 2, 1, 3).swapaxes(1, 2),
    "stride and uneven padding": lambda x: conv(x, stride=2, padding=((0, 1), (0, 1))),
    "dilation": lambda x: conv(x, dilation=2, padding=((2, 2), (2, 2))),
    "a layer on each position": lambda x: x @ RNG.normal(size=(8, 3)).astype(np.float32),
    "products of matrices": lambda x: jnp.einsum("bijc,bkjc->bjik", x, x),
    "reshape behind a convolution": lambda x: conv(x, width=6).reshape(1, 3, 2, 4, 6),
    "channels divided": lambda x: conv(x, width=6).reshape(1, 6, 4, 2, 3).sum((1, 2, 4)),
    "means of axes": lambda x: (x.mean((0, 1, 2)), conv(x).max((1, 3)), x.min(2)),
    "a mean given back": lambda x: conv(x) - conv(x).mean((1, 2), keepdims=True),
    "slices": lambda x: conv(x)[:, 1:5:2, -3:, 1:4],
    "split": lambda x: jnp.split(conv(x, width=6), 3, axis=-1),
    "concatenate": lambda x: jnp.concatenate([conv(x), x, x[..., :1]], axis=-1),
    "stack": lambda x: jnp.stack([x, conv(x, width=8)], axis=2),
    "pad": lambda x: jnp.pad(conv(x), ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=2.0),
    "transpose": lambda x: conv(x).transpose(3, 0, 2, 1),
    "functions": lambda x: [f(x) for f in (jnp.exp, jnp.tanh, jnp.abs, jnp.negative, jnp.floor)],
    "of what is positive": lambda x: jnp.log(x**2 + 1) + jnp.sqrt(x**2 + 1) + (x**2 + 1) ** -1.5,
    "rsqrt and cubes": lambda x: jax.lax.rsqrt(x**2 + 1) + x**3 + jnp.square(x),
    "activations": lambda x: nn.swish(x) + nn.relu(x) + jax.nn.sigmoid(x) + jax.lax.erf(x),
    "clip and round": lambda x: jnp.clip(jnp.rint(3 * x), -2, 4).astype(jnp.int32),
    "choices": lambda x: jnp.where((x > 0.5) | ~(x >= -0.5) & (x != 0), x, 7.0),
    "positions": lambda x: jnp.where(jnp.arange(4)[:, None] < 2, x, 0),
    "softmax": lambda x: jax.nn.softmax(conv(x), axis=-1),
    "larger and smaller": lambda x: jnp.maximum(jnp.minimum(x, VECTOR), -0.5) ** jnp.float32(2),
    "a norm": lambda x: blocks.group_norm(x, VECTOR.reshape(2, 4), VECTOR[::-1].reshape(2, 4)),
    "a norm of channels first": lambda x: blocks.group_norm(
        conv(x, width=8), VECTOR.reshape(1, 8), VECTOR.reshape(1, 8)
    ),
    "doubled": lambda x: layers.doubled_conv3x3(
        conv(x, width=8), RNG.normal(size=(3, 3, 8, 7)).astype(np.float32)
    ),
    "attention in windows": lambda x: blocks.attend_in_windows(x, 2 * x, x + 1, 4),
    "a loop of none": lambda x: jax.lax.stop_gradient(x),
    "what does not depend on it": lambda x: (jnp.arange(3.0), x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_what_jax_gives(name):
    found, expected = both(FUNCTIONS[name], X)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def test_integers_are_divided_as_jax_divides_them():
    def function(x):
        return x // 4, jax.lax.div(x, np.int32(4)), jnp.sign(x), x % 3, -x * 5 // 2

    found, expected = both(function, NUMBERS)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixels_come_in_and_go_out_as_bytes():
    pixels = RNG.integers(0, 256, (1, 6, 4, 3), dtype=np.uint8)

    def function(x):
        x = conv(x.astype(jnp.float32) / 255, width=3)
        return jnp.clip(jnp.rint(255 * x), 0, 255).astype(jnp.uint8)

    found, expected = both(function, pixels)
    assert found[0].dtype == np.uint8
    assert np.abs(found[0].astype(int) - expected[0]).max() <= 1


def test_fast_is_nearly_the_same():
    function = FUNCTIONS["doubled"]
    (found,), (expected,) = both(function, X, fast=True)
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        assert np.abs(found - expected).max() > 1e-4 * np.abs(expected).max()


def test_halves_are_rounded_to_the_even_number():
    halves = np.array([-2.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    (found,), (expected,) = both(lambda x: jnp.rint(x), halves)
    np.testing.assert_array_equal(found, expected)


def test_it_computes_again_after_a_rest():
    program = openvino_program.trace(
        FUNCTIONS["softmax"], [jax.ShapeDtypeStruct(X.shape, X.dtype)]
    ).compile(False)
    (first,) = program(X)
    program.rest()
    np.testing.assert_array_equal(program(X)[0], first)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.cumsum(x, axis=1), "cumsum"),
        (lambda x: jax.lax.pad(x, jnp.float32(0), [(0, 0, 1)] * 4), "padding between"),
        (lambda x: jax.lax.select_n(jnp.int32(x.sum()) % 3, x, x, x), "three cases"),
        (
            lambda x: jax.lax.conv_general_dilated(
                x,
                jnp.ones((3, 3, 1, 8)),
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=8,
            ),
            "convolutions",
        ),
    ],
)
def test_what_it_does_not_know_is_named(function, named):
    with pytest.raises(ConfigError, match=named):
        openvino_program.trace(function, [jax.ShapeDtypeStruct(X.shape, X.dtype)])


def test_nothing_is_told_to_anyone():
    """OpenVINO's package sends news of its import; the part that does is not imported."""
    code = (
        "import sys; from glc_jax import openvino_program; openvino_program.require(); "
        "sent = [n for n in sys.modules if 'telemetry' in n or n.startswith('openvino.tools')]; "
        "print(sent, 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] True"


def test_where_it_is_not_installed_one_sentence_says_so(monkeypatch):
    openvino_program._openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"pip install 'glc-jax\[fast\]'"):
        openvino_program.require()
    openvino_program._openvino.cache_clear()
