"""Any function becomes a program: close to the floats, and the same in every arithmetic."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import exact, integer, lower
from glc_jax.entropy.program import Builder
from glc_jax.errors import ConfigError, WeightsError
from tests.entropy import networks

SHAPE = ("b, h, w, 8",)


def picture(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*size, 8)).astype(np.float32)


def indices(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 8, size).astype(np.int32)


def together(functions):
    return lambda x: {name: function(x) for name, function in functions.items()}


def values(program, outputs):
    return {
        name: np.ldexp(integers.astype(np.float64), -np.asarray(program.exponents[name]))
        for name, integers in outputs.items()
    }


def error(found, wanted):
    wanted = np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    return np.sqrt(((found - wanted) ** 2).mean() / max((wanted**2).mean(), 1e-30))


def check(functions, draw, shapes, arithmetics, kernel_bits=16, most=0.005):
    """Compiles, and compares on a picture of another size than the calibration's."""
    function = together(functions)
    calibration = [(draw(s, 2, 4, 6),) for s in range(4)]
    program = exact.compile(function, calibration, shapes, kernel_bits=kernel_bits)
    x = draw(9, 1, 6, 8)
    outputs = program(x, arithmetic=integer.NumPy())
    floats = function(jnp.asarray(x))
    found = values(program, outputs)
    errors = {name: error(found[name], floats[name]) for name in functions}
    assert {name: e for name, e in errors.items() if not e <= most} == {}
    read = exact.Program.from_arrays(program.to_arrays())
    for other in (program, read):
        for arithmetic in arithmetics:
            again = other(x, arithmetic=arithmetic)
            differ = [name for name in functions if not np.array_equal(outputs[name], again[name])]
            assert differ == [], type(arithmetic).__name__
    return program


@pytest.mark.parametrize("theme", networks.PICTURES)
def test_networks_that_nobody_knew(theme):
    check(networks.PICTURES[theme](), picture, SHAPE, [integer.HostFloat64()])


@pytest.mark.slow
@pytest.mark.parametrize("theme", networks.PICTURES)
def test_networks_in_what_xla_compiles(theme):
    check(networks.PICTURES[theme](), picture, SHAPE, [integer.Float64(), integer.ByteLimbs()])


def test_functions_of_indices():
    arithmetics = [integer.HostFloat64(), integer.Float64(), integer.ByteLimbs()]
    check(networks.INTEGERS, indices, ("b, h, w",), arithmetics)


@pytest.mark.parametrize(("kernel_bits", "most"), [(8, 0.02), (16, 0.005)])
def test_a_network_in_all_arithmetics(kernel_bits, most):
    convolutions = networks.PICTURES["convolutions"]()
    some = {
        "softmax": jax.nn.softmax,
        "groups": convolutions["groups"],
        "stride": convolutions["stride_same"],
        "gelu": lambda x: jax.nn.gelu(x @ networks.D),
    }
    arithmetics = [integer.Float64(), integer.FloatLimbs(), integer.ByteLimbs()]
    check(some, picture, SHAPE, [*arithmetics, integer.HostFloat64()], kernel_bits, most)


def test_depthwise_kernels_keep_16_bits():
    """They are few, and not multiplied as matrices."""
    channels = picture(0, 1, 1, 1).shape[-1]
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, channels)).astype(np.float32)

    def function(x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return {
            "y": jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", None, None, numbers, channels
            )
        }

    for kernel_bits in (8, 16):
        program = exact.compile(function, [(picture(0, 2, 4, 6),)], SHAPE, kernel_bits=kernel_bits)
        (integers,) = (a for a in program.to_arrays().values() if a.shape == kernel.shape)
        assert np.abs(integers.astype(int)).max() > 127


def test_two_inputs_of_related_sizes():
    def function(x, y):
        up = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        return {"a": up + y, "b": jnp.concatenate([up, y], -1) @ networks.weights(16, 4)}

    def draw(seed, h, w):
        return picture(seed, 1, h, w), picture(seed + 50, 1, 2 * h, 2 * w)

    shapes = ("b, h, w, 8", "b, 2*h, 2*w, 8")
    program = exact.compile(function, [draw(s, 2, 3) for s in range(3)], shapes)
    x = draw(7, 3, 5)
    found = values(program, program(*x, arithmetic=integer.NumPy()))
    wanted = function(*(jnp.asarray(one) for one in x))
    assert max(error(found[name], wanted[name]) for name in wanted) < 0.002
    with pytest.raises(WeightsError, match="was given"):
        program(x[0], x[1][:, 1:])


def test_tables_of_positions():
    """Constants of several axes, for pictures of one size."""
    table = networks.weights(4, 6, 8)

    def function(x):
        return {"sum": x + table, "product": x * table, "query": (x + table) @ networks.D}

    program = exact.compile(function, [(picture(s, 2, 4, 6),) for s in range(3)], ("b, 4, 6, 8",))
    x = picture(5, 3, 4, 6)
    found = values(program, program(x, arithmetic=integer.NumPy()))
    assert max(error(found[name], wanted) for name, wanted in function(x).items()) < 0.002


# What is refused.


def _sorted(x):
    return {"y": jnp.sort(x @ networks.D, -1)}


def _sorted_elsewhere(x):
    y = x @ networks.D
    return {"y": jnp.sort(y, -1)}


def _largest_at(x):
    return {"y": jnp.argmax(x, -1)}


def _looped(x):
    return {"y": jax.lax.fori_loop(0, 3, lambda i, a: a @ networks.D, x)}


def _masked(x):
    return {"y": jax.nn.softmax(jnp.where(x > 0, x, -1e9))}


def _power_of_values(x):
    return {"y": jnp.abs(x) ** x[..., ::-1]}


def _written(x):
    return {"y": x.at[:, 0].set(0.0)}


@pytest.mark.parametrize(
    ("function", "primitive", "text"),
    [
        (_sorted, "sort", "jnp.sort"),
        (_sorted_elsewhere, "sort", "jnp.sort"),  # the same call as above, from another line
        (_largest_at, "argmax", "jnp.argmax"),
        (_looped, "scan", "fori_loop"),
        (_masked, "select_n", "jnp.where"),
        (_power_of_values, "pow", "**"),
        (_written, "scatter", ".at["),
    ],
)
def test_a_refusal_names_the_primitive_and_the_line(function, primitive, text):
    with pytest.raises(ConfigError) as caught:
        exact.compile(function, [(picture(0, 1, 4, 6),)], SHAPE)
    message = str(caught.value)
    lines, first = inspect.getsourcelines(function)
    line = first + next(number for number, one in enumerate(lines) if text in one)
    assert message.startswith(f"{__file__}:{line} ({function.__name__}")
    assert primitive in message


def test_what_is_no_dict_and_no_data_is_refused():
    with pytest.raises(ConfigError, match="dict"):
        exact.compile(lambda x: x, [(picture(0, 1, 2, 2),)], SHAPE)
    with pytest.raises(WeightsError, match="at least one"):
        exact.compile(lambda x: {"y": x}, [], SHAPE)
    with pytest.raises(ConfigError, match="1 arguments"):
        exact.compile(lambda x: {"y": x}, [(picture(0, 1, 2, 2),) * 2], SHAPE)
    with pytest.raises(WeightsError, match="finite"):
        exact.compile(lambda x: {"y": x / 0}, [(picture(0, 1, 2, 2),)], SHAPE)


# Calibration.


def ramp(largest):
    x = np.linspace(-largest, largest, 8 * 16).reshape(1, 4, 4, 8)
    return x.astype(np.float32)


def test_headroom():
    """Values up to twice the calibration's hold; four times is beyond every choice of scale."""
    program = exact.compile(lambda x: {"y": jnp.tanh(x / 8)}, [(ramp(1.0),)], SHAPE)
    for factor, holds in ((1.9, True), (4.2, False)):
        x = ramp(factor)
        found = values(program, program(x, arithmetic=integer.NumPy()))["y"]
        assert (np.abs(found - np.tanh(x / 8)).max() < 1e-4) == holds


def test_ranges_are_over_all_samples():
    """The largest comes first, then in the middle: what it needs holds all the same."""
    quiet, loud = ramp(0.01), ramp(1.0)
    for data in ([loud, quiet, quiet], [quiet, loud, quiet]):
        program = exact.compile(lambda x: {"y": x @ networks.D}, [(x,) for x in data], SHAPE)
        found = values(program, program(loud, arithmetic=integer.NumPy()))["y"]
        assert error(found, loud @ networks.D) < 0.002


def test_a_rounding_is_to_the_nearest():
    """Over all values the error has no direction; a floor would be half a step too low."""
    forms = {"y": exact.OutputForm(exponent=3)}
    program = exact.compile(lambda x: {"y": 3 * x}, [(ramp(1.0),)], SHAPE, forms=forms)
    x = ramp(1.0)
    difference = program(x, arithmetic=integer.NumPy())["y"] - 24 * x.astype(np.float64)
    assert np.abs(difference).max() < 0.51
    assert abs(difference.mean()) < 0.05


@pytest.mark.parametrize("largest", [0.7, 1.0, 1.3, 100.0, 3e5, 1e-5])
def test_headroom_of_every_scale(largest):
    limit, bits = integer.LIMIT, exact.lower.magnitude_exponent(largest, integer.LIMIT)
    assert 2 * largest <= limit * 2.0**-bits < 4 * largest


@pytest.mark.parametrize("factor", [300.0, 1 / 300])
def test_a_product_of_another_size_than_its_shortcut(factor):
    """Each has a range of its own; up to 1.9 times both nothing saturates."""

    def function(x):
        return {"y": jax.nn.relu(factor * x @ networks.D + x) @ networks.E}

    program = exact.compile(function, [(ramp(1.0),)], SHAPE)
    x = 1.9 * ramp(1.0)
    found = values(program, program(x, arithmetic=integer.NumPy()))["y"]
    assert error(found, function(jnp.asarray(x))["y"]) < 0.002


def test_inputs_are_clipped_to_their_limits():
    program = exact.compile(lambda x: {"y": x * 2}, [(ramp(1.0),)], SHAPE)
    x = ramp(1.0)
    x.flat[:4] = 1e6, -1e6, np.inf, np.nan
    for arithmetic in (integer.NumPy(), integer.HostFloat64()):
        found = values(program, program(x, arithmetic=arithmetic))["y"].reshape(-1)
        assert 4 <= found[0] <= 8
        assert found[1] == -found[0]
        assert found[2] == found[0]
        assert found[3] == 0
        assert np.abs(found[4:] - 2 * x.flat[4:]).max() < 1e-3


def test_integers_of_other_programs_come_with_their_exponent():
    exponents = np.array([4, 4, 4, 4, 10, 10, 10, 10])
    program = exact.compile(
        lambda x: {"y": x @ networks.D}, [(ramp(1.0),)], SHAPE, input_exponents=[exponents]
    )
    x = np.rint(np.ldexp(ramp(1.0).astype(np.float64), exponents))
    found = values(program, program(x.astype(np.int64), arithmetic=integer.NumPy()))["y"]
    assert error(found, np.ldexp(x, -exponents) @ networks.D) < 0.002


@pytest.mark.parametrize("size", [1e5, 3e7])
def test_exponents_of_0_and_below(size):
    program = exact.compile(
        lambda x: {"y": jnp.maximum(x @ networks.D, 0.5), "z": jax.nn.silu(x)},
        [(ramp(size),)],
        SHAPE,
    )
    assert program.exponents["y"] <= 8
    assert program.input_exponents[0] <= 0
    x = ramp(size)
    found = values(program, program(x, arithmetic=integer.NumPy()))
    assert error(found["y"], np.maximum(x @ networks.D, 0.5)) < 0.002
    assert error(found["z"], jax.nn.silu(x)) < 0.002


def test_forms_of_outputs():
    forms = {"a": exact.OutputForm(exponent=5), "b": exact.OutputForm(exponent=20, limit=1000)}
    program = exact.compile(
        lambda x: {"a": x @ networks.D, "b": x}, [(ramp(1.0),)], SHAPE, forms=forms
    )
    outputs = program(ramp(1.0), arithmetic=integer.NumPy())
    assert program.exponents == {"a": 5, "b": 20}
    assert np.abs(outputs["a"] - 32 * (ramp(1.0) @ networks.D)).max() < 0.6
    assert np.abs(outputs["b"]).max() == 1000


def test_one_outlier_does_not_make_other_outputs_coarse():
    program = exact.compile(
        lambda x: {"scale": x[..., :4], "mean": x[..., 4:] * 1e6}, [(ramp(1.0),)], SHAPE
    )
    x = ramp(1.0)
    found = values(program, program(x, arithmetic=integer.NumPy()))
    assert np.abs(found["scale"] - x[..., :4]).max() < 1e-4


def test_a_chain_is_rounded_once():
    def function(x):
        return {"y": (x @ networks.D + networks.D[0] + x) @ networks.E}

    program = exact.compile(function, [(ramp(1.0),)], SHAPE)
    kinds = [operation["op"] for operation in program.structure.operations]
    assert kinds.count("dense") == 2
    assert kinds.count("round") == 2  # before the second product, and of the output


def test_a_constant_in_a_sum_keeps_its_place_beside_finer_values():
    """What was added to a coarse value is shifted with it."""

    def function(x):
        return {"y": (x @ networks.D + 5.0) + (1e-3 * x) @ networks.D}

    program = exact.compile(function, [(ramp(1.0),)], SHAPE)
    x = ramp(1.0)
    found = values(program, program(x, arithmetic=integer.NumPy()))["y"]
    assert error(found, function(jnp.asarray(x))["y"]) < 0.002


def test_no_channel_exceeds_the_bound_of_what_is_rounded_by_channels():
    lowering = object.__new__(lower._Lowering)
    lowering.builder = Builder()
    number = lowering.builder.input(("n", 2), 1000, np.array([3, 9]))
    value = lower.Value(number, np.array([3, 9]), 1000)
    rounded = lowering._shifted_right(value, np.array([1, 7]))
    lowering.builder.output("y", rounded.number, rounded.exponent)
    found = lowering.builder.program()(np.full((1, 2), -1000), arithmetic=integer.NumPy())["y"]
    np.testing.assert_array_equal(found, [[-500, -8]])  # -7.8
    assert 500 <= rounded.bound <= 501


def test_a_sum_of_two_that_fill_16_bits_is_rounded_before_a_product():
    def function(x, y):
        return {"y": (x + y) @ networks.D}

    x = ramp(1.0)
    program = exact.compile(function, [(x, x)], SHAPE * 2)
    found = values(program, program(1.9 * x, 1.9 * x, arithmetic=integer.NumPy()))["y"]
    assert error(found, 3.8 * x @ networks.D) < 0.002


def test_a_remainder_has_the_sign_of_the_dividend():
    whole = np.arange(-7, 8, dtype=np.int32).reshape(1, 3, 5)

    def function(x):
        return {"rest": jax.lax.rem(x - 7, jnp.int32(3))}

    program = exact.compile(function, [(whole + 7,)], ("b, h, w",))
    found = program(whole + 7, arithmetic=integer.NumPy())["rest"]
    np.testing.assert_array_equal(found, np.fmod(whole, 3))


def test_equal_tables_are_stored_once_and_structures_are_equal():
    def function(seed):
        d = networks.weights(8, 8, seed=seed)
        return lambda x: {"y": jax.nn.gelu(jax.nn.gelu(x @ d + 0.1) @ d) + 0.3 * x}

    data = [(ramp(1.0),)]
    a, b = (exact.compile(function(seed), data, SHAPE) for seed in (0, 1))
    assert a.structure == b.structure
    assert hash(a.structure) == hash(b.structure)
    twice = exact.compile(lambda x: {"a": jnp.tanh(x), "b": jnp.tanh(x)}, data, SHAPE)
    tables = [array for array in twice.arrays if array.size > 60_000]
    assert len(tables) == 1


# The report.


def test_report_says_what_is_lost_and_where():
    def function(x):
        fine = x @ networks.D
        coarse = jnp.exp(6 * fine)  # 16 bits over e^12: the worst of the two
        return {"fine": fine, "coarse": coarse @ networks.E}

    data = [(picture(s, 1, 4, 6),) for s in range(3)]
    program = exact.compile(function, data, SHAPE)
    report = program.report()
    squares, differences, largest = 0.0, 0.0, 0.0
    for (x,) in data:
        found = values(program, program(x, arithmetic=integer.NumPy()))["coarse"]
        wanted = np.asarray(function(jnp.asarray(x))["coarse"], np.float64)
        squares, differences = (
            squares + (wanted**2).sum(),
            differences + ((found - wanted) ** 2).sum(),
        )
        largest = max(largest, np.abs(found - wanted).max())
    assert report.outputs["coarse"].error == pytest.approx(np.sqrt(differences / squares), rel=1e-3)
    assert report.outputs["coarse"].largest == pytest.approx(largest, rel=1e-3)
    assert report.outputs["coarse"].error > report.outputs["fine"].error
    assert report.outputs["fine"].saturated == 0
    assert report.saturations == 0
    lines, first = inspect.getsourcelines(function)
    number = next(first + i for i, line in enumerate(lines) if "jnp.exp" in line)
    assert report.worst_layer.startswith(f"{__file__}:{number} ")
    assert report.outputs["coarse"].error / 2 < report.worst_error < report.outputs["coarse"].error
    assert "loses most: " in str(report)
    assert "coarse: error" in str(report)


def test_report_counts_saturation():
    forms = {"y": exact.OutputForm(exponent=4, limit=8)}
    program = exact.compile(lambda x: {"y": x}, [(ramp(1.0),)], SHAPE, forms=forms)
    report = program.report()
    share = np.mean(np.rint(np.abs(ramp(1.0)) * 16) >= 8)
    assert report.outputs["y"].saturated == pytest.approx(share)
    assert report.saturations == round(share * 128)
