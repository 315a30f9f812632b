"""Functions that nobody wrote become programs: near their floats, the same in each arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from glc_jax.entropy import exact, integer

CHANNELS = 4
SHAPE = (f"b, h, w, {CHANNELS}",)


def matrix(seed: int, *shape: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape)
    return (values / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def convolved(x, seed, stride):
    kernel = matrix(seed, 3, 3, CHANNELS, CHANNELS)
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers
    )


# Each takes x [b, h, w, 4] and a number, and keeps the shape; values stay of a moderate size.
STEPS = {
    "dense": lambda x, n: x @ matrix(n, CHANNELS, CHANNELS),
    "conv": lambda x, n: convolved(x, n, 1),
    "half_size_and_back": lambda x, n: jnp.repeat(
        jnp.repeat(convolved(jnp.concatenate([x, x], 1), n, 2), 2, 1), 2, 2
    )[:, : x.shape[1], : x.shape[2]],
    "tanh": lambda x, n: jnp.tanh(x * (1 + n % 3)),
    "gelu": lambda x, n: jax.nn.gelu(x),
    "leaky": lambda x, n: jnp.maximum(x, x * (n % 8) / 8),
    "bounded": lambda x, n: jnp.clip(x, -1 - n % 2, 1.5),
    "square": lambda x, n: x * x / (1 + n % 4),
    "offset": lambda x, n: x + matrix(n, CHANNELS),
    "scaled": lambda x, n: x * matrix(n, CHANNELS),
    "absolute": lambda x, n: jnp.abs(x) - 0.5,
    "mean": lambda x, n: x - x.mean(axis=-1, keepdims=True),
    "mean_of_picture": lambda x, n: x + x.mean(axis=(1, 2), keepdims=True),
    "largest": lambda x, n: x - x.max(axis=-1, keepdims=True) / 2,
    "quotient": lambda x, n: x / (1 + jnp.abs(x @ matrix(n, CHANNELS, CHANNELS))),
    "root": lambda x, n: jnp.sqrt(jnp.abs(x) + 0.1),
    "softmax": lambda x, n: jax.nn.softmax(x, axis=-1),
    "rolled": lambda x, n: jnp.roll(x, n % CHANNELS, axis=-1),
    "shifted": lambda x, n: jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1],
    # Without a jump: a value beside it may fall on either side, as it does from float to float.
    "where": lambda x, n: jnp.where(x > n % 3 - 1, x, (x + (n % 3 - 1)) / 2),
}
OF_TWO = {
    "sum": lambda a, b: (a + b) / 2,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * jax.nn.sigmoid(b),
    "larger": jnp.maximum,
    "halves": lambda a, b: jnp.concatenate([a[..., :2], b[..., 2:]], axis=-1),
}

FUNCTIONS = st.lists(
    st.tuples(
        st.sampled_from([*STEPS, *OF_TWO]),
        st.integers(0, 20),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=7,
)
SLOWLY = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to make one smaller would take long
)


def function(steps):
    """Of each step the name, a number for it, and how many values back its second one lies."""

    def of(x):
        values = [x]
        for name, number, back in steps:
            if name in STEPS:
                values.append(STEPS[name](values[-1], number))
            else:
                values.append(OF_TWO[name](values[-1], values[max(-back - 1, -len(values))]))
        return {"y": values[-1], "beside": values[len(values) // 2]}

    return of


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 4, 6, CHANNELS)).astype(np.float32)


def check(steps, compiled: bool):
    made = function(steps)
    x = picture(9)  # calibrated with as well: squares of squares are soon out of others' range
    program = exact.compile(made, [(x,), *((picture(seed),) for seed in range(3))], SHAPE)
    outputs = program(x, arithmetic=integer.NumPy())
    for arithmetic in (integer.HostFloat64(), integer.Float64(), integer.ByteLimbs()):
        with jax.disable_jit(not compiled):
            again = program(x, arithmetic=arithmetic)
        for name, value in outputs.items():
            np.testing.assert_array_equal(again[name], value, err_msg=f"{arithmetic} {name}")
    for name, wanted in made(jnp.asarray(x)).items():
        found = np.ldexp(outputs[name].astype(np.float64), -np.asarray(program.exponents[name]))
        size = np.sqrt(np.mean(np.square(wanted, dtype=np.float64))) + 1e-3
        assert np.sqrt(np.mean((found - wanted) ** 2)) / size < 0.02, name


MEAN_OF_UNEVEN_CHANNELS = [("gelu", 0, 1), ("quotient", 4, 1), ("halves", 0, 1)]
MEAN_OF_UNEVEN_CHANNELS += [("mean_of_picture", 0, 1)]  # two of them far finer than the others


@settings(SLOWLY, max_examples=3)
@example(MEAN_OF_UNEVEN_CHANNELS)
@given(FUNCTIONS)
def test_random_functions(steps):
    """Operation by operation, not compiled as a whole."""
    check(steps, compiled=False)


@pytest.mark.slow
@settings(SLOWLY, max_examples=40)
@given(FUNCTIONS)
def test_random_functions_in_what_xla_compiles(steps):
    check(steps, compiled=True)
