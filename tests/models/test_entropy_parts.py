"""Parts of entropy models: where training starts, what steps read, how many codes there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy.families import FourierBasis, Gaussian, Mixture
from glc_jax.models import family_parameters, z_prior
from glc_jax.models.autoregressive_prior import AutoregressivePrior
from glc_jax.models.channel_groups import ChannelGroupsContext
from glc_jax.models.checkerboard import CheckerboardContext
from glc_jax.models.factorised_hyperprior import FactorisedHyperprior
from glc_jax.models.finite_scalar_hyperprior import FiniteScalarHyperprior
from glc_jax.models.hyperprior import Fusion, HyperAnalysis
from glc_jax.models.layers import LEAKY_SLOPE_DEPTHWISE
from glc_jax.models.step_context import split_prior
from tests import small_model

NOTHING = jnp.zeros((1, 1, 1, 2))


def first_bias(module, name, *inputs, **how):
    """Of a part's last layer before training, which is what it gives of zeros."""

    def start(key):
        return module.init(key, *inputs, **how)["params"][name]["ffn"]["conv_out"]["bias"]

    return jax.jit(start)(jax.random.key(0))


def test_training_starts_with_a_step_of_1_a_scale_of_1_and_a_mean_of_0():
    """A clamped quant_step or scale has no gradient."""
    found = first_bias(Fusion(Gaussian()), "block_1", NOTHING)
    np.testing.assert_array_equal(found, [1, 1, 1, 1, 0, 0])
    context = CheckerboardContext(2, Gaussian(), prior_blocks=1)
    found = first_bias(context, "prior_0", 1, NOTHING, NOTHING, method="parameters")
    np.testing.assert_array_equal(found, [1, 1, 0, 0])


def test_what_is_below_0_between_the_hyper_analysis_layers_leaks():
    module, y = HyperAnalysis(), jax.random.uniform(jax.random.key(0), (1, 8, 8, 2))
    shapes = jax.eval_shape(module.init, jax.random.key(0), y)["params"]
    params = jax.tree.map(jnp.abs, small_model.random_parameters(shapes))
    params["block"] = jax.tree.map(jnp.zeros_like, params["block"])  # which passes y on
    apply = jax.jit(lambda params: module.apply({"params": params}, y))
    negative = {**params, "down_0": jax.tree.map(jnp.negative, params["down_0"])}
    z = apply(params)
    np.testing.assert_allclose(apply(negative), -LEAKY_SLOPE_DEPTHWISE * z, rtol=1e-5)
    assert z.shape == (1, 2, 2, 2)


def test_the_step_is_at_least_a_half():
    prior = jnp.array([-3.0, 0.7, 2.0, 0.1, -1.0, 4.0])
    found = split_prior(prior, Gaussian(), 2)
    expected = {"quant_step": [0.5, 0.7], "scale": [2.0, 0.1], "mean": [-1.0, 4.0]}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values)


def test_an_elements_values_of_a_parameter_lie_side_by_side():
    family, channels = Mixture(components=3), 2
    assert family_parameters.width(family) == 9
    init = family_parameters.parameters_init(family, channels, before=(5.0,))
    bias = init(None, (10 * channels,))
    np.testing.assert_array_equal(bias[:channels], 5)
    found = family_parameters.split_parameters(bias[channels:], family)
    for name, values in family.start().items():
        np.testing.assert_allclose(found[name].reshape(channels, 3), [values] * channels)


@pytest.mark.parametrize(
    ("channels", "steps", "first"), [(10, 4, [0, 2, 5, 7]), (3, 3, [0, 1, 2]), (5, 1, [0])]
)
def test_slices_are_as_equal_as_the_channels_allow(channels, steps, first):
    division = ChannelGroupsContext(channels, Gaussian(), steps=steps).division()
    found = [blocks[0].channels for blocks in division]
    assert found == list(zip(first, [*first[1:], channels], strict=True))


def test_later_steps_read_what_is_decoded_and_then_the_context():
    """As published weights have their channels."""
    first, second = CheckerboardContext(2, Gaussian()).groups()
    assert (first.reads, second.reads) == (("prior",), ("y", "reduced"))


def test_a_density_is_the_one_that_is_chosen():
    (group,) = FactorisedHyperprior(2, 8, Gaussian(), density="fourier_basis").groups()
    assert group.family == FourierBasis()


@pytest.mark.parametrize(
    ("asked", "size"), [(3, 15), (15, 15), (24, 15), (25, 25), (240, 240), (999, 240), (1000, 1000)]
)
def test_finite_scalars_have_the_largest_alphabet_that_is_not_too_large(asked, size):
    assert FiniteScalarHyperprior(4, asked, Gaussian()).alphabet() == size


def test_the_index_of_finite_scalars_is_that_of_the_codes_that_training_sees():
    hyperprior = FiniteScalarHyperprior(4, 15, Gaussian())
    z = 2 * jax.random.normal(jax.random.key(0), (1, 3, 4, 2))
    found = hyperprior.apply({}, z, method="quantise")
    np.testing.assert_allclose(
        hyperprior.apply({}, found.indices, method="embed"), found.quantized, atol=1e-6
    )


def test_each_step_of_the_autoregressive_prior_has_an_adaptor_of_its_own():
    prior = AutoregressivePrior(3, hidden=4, blocks=1)
    z = jax.random.normal(jax.random.key(0), (1, 2, 2, 4))

    def logits(params, step):
        return prior.apply({"params": params}, step, z, method="parameters")["logits"]

    def every(prior, z):
        return [prior.parameters(step, z) for step in range(4)]

    shapes = jax.eval_shape(lambda: prior.init(jax.random.key(0), z, method=every))["params"]
    params = small_model.random_parameters(shapes)
    second = jax.jit(lambda params: logits(params, 1))
    before = second(params)
    for step in range(4):
        for kind in ("inputs", "adaptors"):
            name = f"{kind}_{step}"
            changed = {**params, name: jax.tree.map(lambda leaf: leaf + 1, params[name])}
            assert np.array_equal(second(changed), before) == (step != 1), name


def test_the_second_member_of_a_cell_lies_between_four_of_the_first():
    first, second, *rest = (g.mask((4, 6)) for g in AutoregressivePrior(3).groups())
    np.testing.assert_array_equal(second[1:, 1:], first[:-1, :-1])
    np.testing.assert_array_equal(first + second + sum(rest), 1)


def test_a_uniform_prior_is_not_counted_and_a_static_one_is():
    for prior, counted in ((z_prior.UniformPrior(7), False), (z_prior.StaticPrior(7), True)):
        (group,) = prior.groups()
        assert (group.counted, group.family.size) == (counted, 7)
