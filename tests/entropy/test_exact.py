import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_jax.entropy import calibrate, exact, table_making
from glc_jax.entropy.distributions import gaussian_bits
from glc_jax.entropy.exact import EntropyNetworks
from glc_jax.entropy.integer import LIMIT, ByteLimbs, Float64, NumPy
from glc_jax.errors import WeightsError
from glc_jax.models.spatial_prior import step_mask
from tests.entropy import small_networks


@pytest.fixture(scope="module")
def networks():
    return EntropyNetworks(small_networks.tree(), Float64())


@pytest.fixture(scope="module")
def others():
    """The same networks on the other carriers."""
    return [EntropyNetworks(small_networks.tree(), a) for a in (ByteLimbs(), NumPy())]


def assert_same(a, b):
    for name in ("y_q", "y_hat_fixed", "y_hat"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for (y_q_a, table_a), (y_q_b, table_b) in zip(a.steps, b.steps, strict=True):
        np.testing.assert_array_equal(y_q_a, y_q_b)
        np.testing.assert_array_equal(table_a, table_b)


@given(st.integers(0, 2**32), st.sampled_from([1.0, 30.0, 1000.0]))
@settings(deadline=None, max_examples=15)
def test_all_arithmetics_agree_bit_for_bit(networks, others, seed, loudness):
    """Also far outside the calibrated ranges, where everything saturates."""
    z_indices, y = small_networks.inputs(seed)
    coded = networks.encode(z_indices, y * loudness)
    for other in others:
        assert_same(other.encode(z_indices, y * loudness), coded)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=10)
def test_all_arithmetics_agree_on_weights_at_their_limits(seed):
    rng = np.random.default_rng(seed)
    tree = copy.deepcopy(small_networks.tree())

    def push(node):
        for key, value in node.items():
            if isinstance(value, dict):
                push(value)
            elif key in ("kernel", "codebook"):
                node[key] = rng.choice(np.int16([-LIMIT, 0, LIMIT]), value.shape)

    push(tree["layers"])
    z_indices, y = small_networks.inputs(seed)
    coded = EntropyNetworks(tree, Float64()).encode(z_indices, y)
    for arithmetic in (ByteLimbs(), NumPy()):
        assert_same(EntropyNetworks(tree, arithmetic).encode(z_indices, y), coded)


def test_decoding_rebuilds_what_was_encoded(networks):
    z_indices, y = small_networks.inputs(1)
    coded = networks.encode(z_indices, y)

    def read(step, table_index):
        y_q, written_with = coded.steps[step]
        np.testing.assert_array_equal(table_index, written_with)
        return y_q

    assert_same(networks.decode(z_indices, read), coded)


def test_a_preview_is_a_decoding_of_zeros(networks):
    z_indices, _ = small_networks.inputs(1)
    zeros = networks.decode(z_indices, lambda step, table_index: np.zeros(table_index.shape, int))
    preview = networks.preview(z_indices)
    assert_same(preview, zeros)
    assert not preview.y_q.any()


def test_a_batch_gives_what_its_pictures_give_alone(networks):
    z_indices, y = small_networks.inputs(2, batch=4)
    together = networks.encode(z_indices, y)
    for i in range(4):
        alone = networks.encode(z_indices[i : i + 1], y[i : i + 1])
        np.testing.assert_array_equal(alone.y_hat_fixed[0], together.y_hat_fixed[i])
        for (_, table), (_, tables_together) in zip(alone.steps, together.steps, strict=True):
            np.testing.assert_array_equal(table[0], tables_together[i])


def test_compiled_or_not_is_the_same(networks):
    z_indices, y = small_networks.inputs(3, batch=1)
    with jax.disable_jit():
        interpreted = networks.encode(z_indices, y)
    assert_same(interpreted, networks.encode(z_indices, y))


def test_64_bits_do_not_leak(networks):
    coded = networks.encode(*small_networks.inputs(0))
    assert coded.y_hat.dtype == np.float32
    assert jnp.ones(1).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


def float_coding(z_indices, y):
    """The trained float networks on the same input, through the Linen modules."""
    params = small_networks.params()
    hyperprior, context = ({"params": params[part]} for part in ("hyperprior", "context"))
    z_hat = small_networks.HYPERPRIOR.apply(hyperprior, z_indices, method="embed")
    prior = small_networks.HYPERPRIOR.apply(hyperprior, z_hat, method="prior_params")
    return small_networks.CONTEXT.apply(context, y, prior)


def test_integers_follow_the_float_networks(networks):
    z_indices, y = small_networks.inputs(7, batch=4)
    exactly, floats = networks.encode(z_indices, y), float_coding(z_indices, y)
    assert np.mean(exactly.y_q != floats.y_q) < 0.005
    same = exactly.y_q == np.asarray(floats.y_q)
    errors = np.abs(exactly.y_hat - floats.y_hat)[same]
    assert np.median(errors) < 0.003


def test_exactness_costs_at_most_half_a_percent(networks):
    """On input that follows the model, so that its estimate is what an ideal coder needs."""
    z_indices, _ = small_networks.inputs(8, batch=8)
    rng = np.random.default_rng(0)
    scale = 2.0 ** ((np.arange(150) - 1) / 16 - 3.25)

    def sample(step, table_index):
        return np.rint(rng.normal(size=table_index.shape) * scale[table_index] * (table_index > 0))

    drawn = networks.decode(z_indices, sample)
    exactly, floats = networks.encode(z_indices, drawn.y_hat), float_coding(z_indices, drawn.y_hat)
    estimate = float(gaussian_bits(floats.y_q, floats.scales).sum())
    bits = sum(networks.tables.bits(y_q, table_index).sum() for y_q, table_index in exactly.steps)
    assert abs(bits / estimate - 1) < 0.005


@pytest.mark.parametrize("step", range(4))
def test_a_step_covers_the_elements_of_its_mask(step):
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 8))
    part = exact.take_step(x, step)
    assert part.shape == (2, 3, 2, 8)
    back = np.zeros_like(x)
    exact.put_step(back, step, part)
    np.testing.assert_array_equal(back, x * step_mask(step, 6, 4, 8))


def test_weights_may_bring_their_own_tables():
    own = table_making.compute_tables(lambda x: (-x * 2).exp() / 2)  # Laplace
    networks = EntropyNetworks(small_networks.tree() | {"tables": own.to_arrays()}, NumPy())
    np.testing.assert_array_equal(networks.tables.frequencies[40], own.frequencies[40])


def test_incomplete_weights_are_refused():
    for part in ("layers", "unit_exponent"):
        tree = {k: v for k, v in small_networks.tree().items() if k != part}
        with pytest.raises(WeightsError, match="incomplete"):
            EntropyNetworks(tree, NumPy())


def test_integers_are_within_their_limits():
    def check(node):
        for key, value in node.items():
            if isinstance(value, dict):
                check(value)
            elif key in ("kernel", "codebook"):
                assert value.dtype == np.int16
                assert np.abs(value.astype(int)).max() <= LIMIT
            elif key != "unit_exponent":
                assert np.issubdtype(value.dtype, np.integer)

    check(small_networks.tree()["layers"])


def test_every_output_channel_uses_its_16_bits():
    kernel = small_networks.tree()["layers"]["context"]["reduction"]["kernel"]
    largest = np.abs(kernel.astype(int)).max(axis=0)
    assert (largest > LIMIT // 2 - 1).all()


def test_calibration_needs_data():
    with pytest.raises(WeightsError, match="at least one picture"):
        calibrate.quantise(small_networks.params(), [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    params = copy.deepcopy(small_networks.params())
    params["context"]["reduction"]["kernel"][0, 0] = value
    with pytest.raises(WeightsError, match="cannot be made exact"):
        calibrate.quantise(params, [small_networks.inputs(0)])


def test_ranges_of_a_layer_are_those_of_its_outputs():
    z_indices, y = small_networks.inputs(0)
    ranges = calibrate.measure_ranges(small_networks.params(), [(z_indices, y)])
    used = small_networks.params()["hyperprior"]["quantizer"]["codebook"][z_indices]
    assert ranges["hyperprior/quantizer"] == np.abs(used).max()
    more = calibrate.measure_ranges(small_networks.params(), [(z_indices, y), (z_indices, 2 * y)])
    assert all(more[span] >= ranges[span] for span in ranges)
