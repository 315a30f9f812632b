"""An entropy model as groups: the walk in floats, in integers, and through files agree."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import exact_model, export, families
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.groups import (
    WHOLE,
    Block,
    EntropyModel,
    Group,
    Latent,
    put,
    rounded,
    take,
)
from glc_jax.entropy.integer import ByteLimbs, Float64, FloatLimbs, HostFloat64, NumPy
from glc_jax.errors import BitstreamError, ConfigError, WeightsError
from glc_jax.models import glc
from tests import small_model

PARAMS = small_model.parameters()
MODEL = glc.build(small_model.MODEL)
VARIABLES = {"params": PARAMS}


def samples():
    """Values like those below, to calibrate with."""
    codebook = PARAMS["hyperprior"]["quantizer"]["codebook"]
    return [{**values, "z": codebook[values["z"]]} for values in map(targets, (100, 101))]


def exported(kernel_bits=None):
    """The small model's tree."""
    return export.export(MODEL.entropy_model(), MODEL.run, VARIABLES, samples(), kernel_bits)


@pytest.fixture(scope="module")
def tree():
    return exported(8)


@pytest.fixture(scope="module")
def exact(tree):
    return ExactModel(tree, Float64())


def targets(seed=0, batch=2, size=3):
    """Indices of z and real values of y."""
    rng = np.random.default_rng(seed)
    y = rng.laplace(size=(batch, 4 * size, 4 * size, small_model.CHANNELS))
    return {"z": rng.integers(0, 32, (batch, size, size)), "y": y.astype(np.float32)}


def assert_same(a, b):
    for name in a.symbols:
        np.testing.assert_array_equal(a.symbols[name], b.symbols[name])
        np.testing.assert_array_equal(a.values[name], b.values[name])
    for one, other in zip(a.groups, b.groups, strict=True):
        np.testing.assert_array_equal(one.index, other.index)


@pytest.mark.parametrize("arithmetic", [FloatLimbs(), ByteLimbs(), NumPy(), HostFloat64()])
@pytest.mark.parametrize("loudness", [1.0, 1e6])
def test_all_arithmetics_agree_bit_for_bit(exact, tree, arithmetic, loudness):
    """Also far outside the calibrated ranges, where everything saturates."""
    values = targets()
    values["y"] *= np.float32(loudness)
    other = ExactModel(tree, arithmetic)
    assert_same(other.encode(values), exact.encode(values))


def test_a_file_holds_what_was_encoded(exact):
    coded = exact.encode(targets(1))
    for picture in range(2):
        payload, options = exact.write(coded, picture)
        read = exact.decode(payload, options, 3, 3)
        for name in coded.symbols:
            np.testing.assert_array_equal(read.values[name][0], coded.values[name][picture])
        assert 8 * len(payload) - sum(exact.bits(coded, picture).values()) < 8.1


def test_a_batch_gives_what_its_pictures_give_alone(exact):
    values = targets(2, batch=3)
    together = exact.encode(values)
    for i in range(3):
        alone = exact.encode({name: value[i : i + 1] for name, value in values.items()})
        np.testing.assert_array_equal(alone.values["y"][0], together.values["y"][i])


@pytest.mark.slow
def test_compiled_or_not_is_the_same(exact):
    values = targets(4, batch=1)
    with jax.disable_jit():
        interpreted = exact.encode(values)
    assert_same(interpreted, exact.encode(values))


def test_the_later_steps_are_one_program(exact):
    """So that one compilation serves them."""
    structures = {group.program.structure for group in exact.groups[2:]}
    assert len(structures) == 1


def float_code(values, params=PARAMS):
    def of_model(model, y, z_hat):
        whole = model.entropy_model()
        return whole.code(model, {"z": z_hat, "y": y}, estimate=True)

    z_hat = params["hyperprior"]["quantizer"]["codebook"][values["z"]]
    return MODEL.apply(
        {"params": params}, jnp.asarray(values["y"]), jnp.asarray(z_hat), method=of_model
    )


@pytest.mark.parametrize(("kernel_bits", "others", "error"), [(8, 0.03, 0.02), (16, 0.005, 0.003)])
def test_integers_follow_the_float_model(kernel_bits, others, error):
    exact, values = ExactModel(exported(kernel_bits), Float64()), targets(7, batch=4)
    exactly, floats = exact.encode(values), float_code(values)
    np.testing.assert_array_equal(floats["z"].symbols, values["z"])
    same = exactly.symbols["y"] == np.asarray(floats["y"].symbols)
    assert np.mean(~same) < others
    errors = np.abs(exact.latent(exactly, "y") - np.asarray(floats["y"].values))[same]
    assert np.median(errors) < error


def kernels(tree):
    """The dtypes of matrices in the programs."""
    arrays = tree["arrays"].values()
    return {array.dtype for array in arrays if array.ndim > 1 and min(array.shape[-2:]) > 8}


def test_kernels_have_the_bits_that_were_asked_for(tree):
    assert kernels(tree) == {np.dtype(np.int8)}
    assert kernels(exported(16)) == {np.dtype(np.int16)}


def test_kernels_have_more_bits_where_few_are_dear(monkeypatch):
    monkeypatch.setattr(export, "DEAR", 1.0)
    assert kernels(exported()) == {np.dtype(np.int8)}
    monkeypatch.setattr(export, "DEAR", -1.0)
    assert kernels(exported()) == {np.dtype(np.int16)}


def test_what_kernels_cost_is_measured_on_the_groups_with_programs(tree):
    taken, expected = export._bits(MODEL.entropy_model(), MODEL.run, VARIABLES, samples()[:1], tree)
    floats = float_code(targets(100))["y"]
    assert expected == pytest.approx(sum(float(b.sum()) for b in floats.bits.values()), rel=1e-5)
    assert taken == pytest.approx(expected, rel=0.02)
    assert taken != expected


@pytest.mark.slow
def test_integers_follow_the_float_model_where_the_steps_are_large():
    """Quantisation steps about 4, by which y is divided before anything is calibrated."""
    params = jax.tree.map(np.copy, PARAMS)
    bias = params["hyperprior"]["fusion"]["block_1"]["ffn"]["conv_out"]["bias"]
    bias[: small_model.CHANNELS] = 4
    codebook = params["hyperprior"]["quantizer"]["codebook"]

    def loud(seed, batch):
        values = targets(seed, batch)
        return {**values, "y": 8 * values["y"]}

    samples = [{**(one := loud(seed, 2)), "z": codebook[one["z"]]} for seed in (100, 101)]
    variables = {"params": params}
    tree = export.export(MODEL.entropy_model(), MODEL.run, variables, samples, kernel_bits=16)
    exact = ExactModel(tree)
    values = loud(7, 2)
    exactly, floats = exact.encode(values), float_code(values, params)
    assert 3 < np.median(exactly.units["y"]) < 5
    assert np.mean(exactly.symbols["y"] != np.asarray(floats["y"].symbols)) < 0.005
    same = exactly.symbols["y"] == np.asarray(floats["y"].symbols)
    errors = np.abs(exact.latent(exactly, "y") - np.asarray(floats["y"].values))[same]
    assert np.median(errors) < 0.012


def test_bits_of_a_group_are_those_of_its_elements():
    """Group by group, computed beside it with the parameters that each element had."""
    values = targets(8)
    coded = float_code(values)["y"]
    each = families.Gaussian().estimate(coded.symbols, **coded.parameters)
    for group in MODEL.entropy_model().of("y"):
        mask = group.mask(each.shape[1:])
        wanted = np.where(mask, each, 0).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(coded.bits[group.name], wanted, rtol=1e-5)


def test_what_is_counted_with_are_the_parameters_of_the_element_s_own_group():
    """Those that the context gave for it, from what is decoded before."""
    values, given = targets(8), {}

    def of_model(model, y, z_hat):
        whole = model.entropy_model()

        def watch(group, state):
            if group.latent == "y":
                given[group.name] = whole.parameters(model, group, state)

        return whole.code(model, {"z": z_hat, "y": y}, watch=watch)["y"]

    z_hat = PARAMS["hyperprior"]["quantizer"]["codebook"][values["z"]]
    coded = MODEL.apply(VARIABLES, jnp.asarray(values["y"]), jnp.asarray(z_hat), method=of_model)
    for group in MODEL.entropy_model().of("y"):
        mask = group.mask(values["y"].shape[1:])
        for name in ("mean", "scale"):
            found = np.where(mask, coded.parameters[name], 0)
            np.testing.assert_allclose(found, np.where(mask, given[group.name][name], 0), rtol=1e-5)


def test_the_groups_of_a_latent_cover_it_once():
    for latent, shape in (("z", (6, 5)), ("y", (24, 20, small_model.CHANNELS))):
        masks = [group.mask(shape) for group in MODEL.entropy_model().of(latent)]
        np.testing.assert_array_equal(np.sum(masks, axis=0), 1)


@pytest.mark.parametrize("group", MODEL.entropy_model().of("y"), ids=lambda group: group.name)
def test_take_and_put_are_inverse(group):
    x = np.random.default_rng(0).normal(size=(2, 8, 4, small_model.CHANNELS))
    part = take(x, group.blocks)
    assert part.shape == (2, 4, 2, small_model.CHANNELS)
    back = np.zeros_like(x)
    put(back, group.blocks, part)
    np.testing.assert_array_equal(back, x * group.mask(x.shape[1:]))


def test_the_steps_are_those_of_the_paper():
    """Step 1 codes, of the channel groups 0 to 3, the members 3, 2, 1, 0 of each cell."""
    mask = MODEL.entropy_model().of("y")[1].mask((2, 2, 8))
    assert [int(np.flatnonzero(mask[..., c])[0]) for c in (0, 2, 4, 6)] == [3, 2, 1, 0]


def test_groups_out_of_order_are_refused():
    latents = (Latent("z", "p", "h, w"), Latent("y", "p", "h, w, 4"))
    gaussian = families.Gaussian()
    groups = [Group(name, name, (Block(),), gaussian, "p") for name in ("y", "z")]
    with pytest.raises(ConfigError, match="one after the other"):
        EntropyModel(latents, tuple(groups))


def test_a_centre_that_integers_cannot_have_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Odd(families.Gaussian):
        def centre(self, *, mean, **_):
            return (mean, mean)

    with pytest.raises(ConfigError, match="centre of Odd"):
        export.centre_of(Odd())
    assert export.centre_of(families.Gaussian()) == "mean"
    assert export.centre_of(families.Categorical(4)) is None


def test_export_needs_data():
    with pytest.raises(WeightsError, match="at least one picture"):
        export.export(MODEL.entropy_model(), MODEL.run, VARIABLES, [])


@pytest.mark.parametrize("part", ["model", "programs", "arrays"])
def test_incomplete_trees_are_refused(tree, part):
    tree = {k: v for k, v in tree.items() if k != part}
    with pytest.raises(WeightsError, match="incomplete"):
        ExactModel(tree)


def test_a_payload_too_short_for_its_size_is_refused_at_once(exact):
    with pytest.raises(BitstreamError, match="too short"):
        exact.decode(bytes(20), 0, 3000, 3000)


def test_y_of_a_million_is_clipped(exact):
    values = targets(9, batch=1)
    values["y"][0, 0, 0, 0] = 1e6
    coded = exact.encode(values)
    assert coded.symbols["y"].max() == 2**15 - 1
    payload, options = exact.write(coded)
    read = exact.decode(payload, options, 3, 3)
    np.testing.assert_array_equal(read.symbols["y"], coded.symbols["y"])


def test_rounding_is_half_to_even():
    values = jnp.array([0.5, 1.5, -0.5, 2.4])
    np.testing.assert_array_equal(rounded(values)[0], [0, 2, 0, 2])


def test_bits_are_counted_of_what_the_quantiser_gives_for_them():
    """Not of what goes on to the decoder: in training the two differ."""
    values = targets(8)

    def of_model(model, y, z_hat):
        whole = model.entropy_model()
        given = {"z": z_hat, "y": y}
        return whole.code(model, given, lambda r, scale: (jnp.round(r), jnp.round(r) + 3))["y"]

    z_hat = PARAMS["hyperprior"]["quantizer"]["codebook"][values["z"]]
    coded = MODEL.apply(VARIABLES, jnp.asarray(values["y"]), jnp.asarray(z_hat), method=of_model)
    each = families.Gaussian().bits(coded.symbols + 3, **coded.parameters)
    for group in MODEL.entropy_model().of("y"):
        wanted = np.where(group.mask(each.shape[1:]), each, 0).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(coded.bits[group.name], wanted, rtol=1e-4)


@pytest.mark.parametrize(("training", "scale"), [(False, 0.05), (True, 0.11)])
def test_training_counts_bits_with_scales_bounded_for_it(training, scale):
    """A scale that is far too small costs, and pushes, no more than that of the first table."""
    shape = (1, 2, 2, 3)
    given = {"scale": jnp.full(shape, 0.05), "mean": jnp.zeros(shape)}
    model = SimpleNamespace(part=SimpleNamespace(parameters=lambda step: given))
    group = Group("y", "y", WHOLE, families.Gaussian(), "part")
    whole = EntropyModel((Latent("y", "part", "h, w, 3"),), (group,))
    code = jax.jit(lambda y: whole.code(model, {"y": y}, training=training)["y"].bits["y"])
    each = jax.jit(families.Gaussian().bits)(jnp.ones(()), scale=scale)
    np.testing.assert_allclose(code(jnp.ones(shape)), 12 * each, rtol=1e-5)


def test_memory_counts_the_working_space_of_every_symbol(exact, monkeypatch):
    """Of a large picture it is more than any window of a program takes."""
    symbols = 2000 * 2000 * (1 + 16 * small_model.CHANNELS)
    needed = exact.needed_bytes(2000, 2000)
    monkeypatch.setattr(exact_model, "WORK_BYTES", exact_model.WORK_BYTES + 10)
    assert exact.needed_bytes(2000, 2000) - needed == 10 * symbols
