"""Context models of y: what each step may see, and real files from every one of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import export
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.families import Gaussian
from glc_jax.errors import ConfigError
from glc_jax.models import glc
from glc_jax.models.choices import CONTEXTS
from tests import small_model
from tests.models.coding_y import code_y

SHAPE = (4, 6, 8)
STEPS = {"none": 1, "checkerboard": 2, "channel_groups": 4, "four_part": 4, "space_channel": 10}


@pytest.fixture(scope="module", params=STEPS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def context(name):
    module = CONTEXTS[name](8, Gaussian())
    y = 3 * jax.random.normal(jax.random.key(0), (1, *SHAPE))
    prior = jax.random.normal(jax.random.key(1), (1, *SHAPE[:2], 24))
    variables = jax.jit(lambda key: module.init(key, y, prior, method=code_y))(jax.random.key(2))
    return module, variables, y, prior


def test_the_steps_cover_every_element_once(name):
    masks = [group.mask(SHAPE) for group in CONTEXTS[name](8, Gaussian()).groups()]
    assert len(masks) == STEPS[name]
    np.testing.assert_array_equal(np.sum(masks, axis=0), 1)


def test_a_step_sees_only_the_steps_before(context):
    module, variables, y, prior = context
    run = jax.jit(lambda y: module.apply(variables, y, prior, method=code_y).parameters["scale"])
    before = run(y)
    masks = [group.mask(SHAPE) for group in module.groups()]
    for step, mask in enumerate(masks):
        changed = np.abs(run(y + 5.0 * mask) - before)[0]
        for other, seen in enumerate(masks):
            largest = changed[seen].max()
            assert largest == 0 if other <= step else largest > 0


def test_the_colours_of_a_checkerboard_are_each_other_s_neighbours():
    even, odd = (group.mask(SHAPE) for group in CONTEXTS["checkerboard"](8, Gaussian()).groups())
    rows, columns = np.indices(SHAPE[:2])
    np.testing.assert_array_equal(even[..., 3], (rows + columns) % 2 == 0)
    np.testing.assert_array_equal(odd, ~even)


def test_the_groups_of_channels_are_the_published_ones():
    context = CONTEXTS["space_channel"](320, Gaussian())
    channels = [blocks[0].channels for blocks in context.division()[::2]]
    assert channels == [(0, 16), (16, 32), (32, 64), (64, 128), (128, 320)]


@pytest.mark.parametrize(
    ("name", "steps"), [("channel_groups", 9), ("space_channel", 18), ("space_channel", 3)]
)
def test_divisions_that_do_not_fit_are_config_errors(name, steps):
    with pytest.raises(ConfigError, match="8 channels"):
        CONTEXTS[name](8, Gaussian(), steps=steps).groups()


@pytest.mark.slow
def test_every_context_writes_files_that_decode(name):
    config = {**small_model.MODEL, "entropy": {"context": name}}
    model = glc.build(config)
    side, rate = small_model.INITIAL_SIDE, jax.ShapeDtypeStruct((1,), jnp.float32)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image, rate)["params"]
    params = small_model.random_parameters(shapes)
    rng = np.random.default_rng(0)
    z = rng.integers(0, 32, (2, 2, 3))
    y = rng.laplace(size=(2, 8, 12, small_model.CHANNELS)).astype(np.float32)
    vectors = params["hyperprior"]["quantizer"]["codebook"][z]
    samples = [{"z": vectors, "y": y}]
    tree = export.export(model.entropy_model(), model.run, {"params": params}, samples)
    exact = ExactModel(tree)
    coded = exact.encode({"z": z, "y": y})
    payload, options = exact.write(coded, 1)
    read = exact.decode(payload, options, 2, 3)
    np.testing.assert_array_equal(read.values["y"][0], coded.values["y"][1])
    np.testing.assert_array_equal(read.symbols["z"][0], z[1])
