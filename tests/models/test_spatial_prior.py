"""The four-part context model: what each step may see, and that the steps cover everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy.families import Gaussian
from glc_jax.models import step_context
from glc_jax.models.spatial_prior import STEPS, FourPartContext
from tests.models.coding_y import code_y

SHAPE = (4, 6, 8)


def step_mask(step, height, width, channels):
    context = FourPartContext(channels, Gaussian())
    return context.groups()[step].mask((height, width, channels))


@pytest.fixture(scope="module")
def context():
    module = FourPartContext(8, Gaussian())
    y = jax.random.normal(jax.random.key(0), (1, *SHAPE)) * 3
    params = jax.random.normal(jax.random.key(1), (1, *SHAPE[:2], 24))
    variables = module.init(jax.random.key(2), y, params, method=code_y)
    return module, variables, y, params


def test_steps_partition_the_elements():
    np.testing.assert_array_equal(sum(step_mask(s, *SHAPE).astype(int) for s in range(STEPS)), 1)


def test_each_step_codes_one_position_of_a_cell_in_each_group():
    table = [["m0", "m1", "m2", "m3"], ["m3", "m2", "m1", "m0"], ["m2", "m3", "m0", "m1"]]
    table.append(["m1", "m0", "m3", "m2"])
    for step, row in enumerate(table):
        mask = step_mask(step, 2, 2, 4)
        for group, member in enumerate(row):
            y, x = divmod(int(member[1]), 2)
            assert mask[y, x, group]
            assert mask[..., group].sum() == 1


def test_y_hat_is_the_residual_plus_the_mean_times_the_step(context):
    module, variables, y, params = context
    coded = module.apply(variables, y, params, method=code_y)
    quant_step = np.maximum(params[..., :8], step_context.MIN_QUANT_STEP)
    centred = coded.symbols + coded.parameters["mean"]
    np.testing.assert_allclose(coded.values, centred * quant_step, atol=1e-5)
    np.testing.assert_array_equal(coded.symbols, np.round(coded.symbols))
    assert np.abs(coded.values - y).max() <= 0.5 * quant_step.max() + 1e-5


def test_a_step_sees_only_the_steps_before(context):
    module, variables, y, params = context
    before = module.apply(variables, y, params, method=code_y)
    for step in range(STEPS):
        mask = step_mask(step, *SHAPE)
        after = module.apply(variables, y + 5.0 * mask, params, method=code_y)
        for other in range(STEPS):
            seen = step_mask(other, *SHAPE)
            changed = jnp.abs(after.parameters["scale"] - before.parameters["scale"])[:, seen].max()
            assert changed == 0 if other <= step else changed > 0


def test_the_quantiser_can_be_replaced(context):
    module, variables, y, params = context
    coded = module.apply(variables, y, params, lambda x, scale: (x, x), method=code_y)
    np.testing.assert_allclose(coded.values, y, atol=1e-5)
