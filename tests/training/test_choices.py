"""Every choice of an entropy model, by config alone: trained, exported, in files that decode."""

import dataclasses
import functools
import json
import logging
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glc_jax
from glc_jax import weights
from glc_jax.entropy import quantize
from glc_jax.errors import ConfigError
from glc_jax.models import choices, glc
from glc_jax.training import export, start
from glc_jax.training.config import plain, read
from tests import small_model
from tests.training import small

SETS = [
    {"hyperprior": "fsq", "context": "none", "distribution": "laplace"},
    {
        "hyperprior": "factorised",
        "context": "space_channel",
        "steps": 4,
        "distribution": "logistic",
    },
    {"context": "checkerboard", "distribution": "gaussian_mixture", "z_prior": "autoregressive"},
    {
        "context": "channel_groups",
        "steps": 2,
        "distribution": "generalised_gaussian",
        "z_prior": "uniform",
    },
    {"context": "none", "distribution": "student_t"},
]
"""Every choice in at least one of them, so that a compilation serves several."""


def config_of(entropy, stage=2, **changes):
    fields = {f"model__entropy__{part}": value for part, value in entropy.items()}
    return small.config(
        stage,
        model__code_predictor=None,
        losses__code_prediction=0.0,
        losses__pixel_code_prediction=0.0,
        batch=4,
        **fields,
        **changes,
    )


def trained(config, steps=3):
    """Parameters after some steps from the model's own initialisation, and the last metrics."""
    made = small.parts(config)
    params = small.started(config)
    state = made.initial_state(jax.tree.map(jnp.asarray, params))
    train_step = small.jit_train_step(config)
    for i in range(steps):
        state, metrics = train_step(state, small.batch(i, 4), jax.random.key(0))
    before = dict(weights.flatten(params))
    moved = {path.split("/")[0] for path, leaf in state.ema.items() if np.any(leaf != before[path])}
    return jax.device_get(state.averaged()), jax.device_get(metrics), moved


class Batches:
    def __getitem__(self, number):
        return small.batch(number, 4)


def codec_of(path, config, params):
    """The exported weights, read again."""
    described = {"name": "small", "model": read(config).model}
    fields = {"count": 2, "dtype": "float32", "training_parts": False, "provenance": {}}
    export.export(described, params, Batches(), path, **fields)
    assert weights.load(path).preview["map"].shape[0] == described["model"]["rate_points"]
    return glc_jax.load(path)


def check(path, config):
    """Trained, exported, written and read: the bytes are what the model's estimate says."""
    params, metrics, moved = trained(config)
    assert np.isfinite(list(metrics.values())).all()
    with_parameters = {"hyperprior", "context", "z_prior"} & params.keys()
    assert moved >= with_parameters
    codec = codec_of(path, config, params)
    picture = small_model.picture(72, 120, 50)
    data, estimate = codec.compress(picture, 2.0), codec.estimate(picture, 2.0)
    codec.verify(data)
    expected = (estimate.bits_y + estimate.bits_z) / 8
    assert 0.9 * expected - 14 < len(data) <= 1.005 * expected + 14
    return codec, data


@pytest.mark.slow
@pytest.mark.parametrize("entropy", SETS, ids=lambda entropy: "-".join(map(str, entropy.values())))
def test_choices_train_and_code(tmp_path, entropy):
    check(tmp_path / "w.safetensors", config_of(entropy))


@pytest.mark.parametrize("part", choices.PARTS)
def test_every_choice_is_in_a_set(part):
    used = {entropy.get(part) for entropy in SETS if isinstance(entropy.get(part), str)}
    assert used | {getattr(choices.Choices, part)} == set(choices.PARTS[part])


def test_all_parts_compute_in_the_precision_asked_for():
    chosen = choices.Choices(z_prior="autoregressive")
    parts = choices.entropy_parts(chosen, 8, 16, jnp.bfloat16)
    assert [part.dtype for part in parts] == 3 * [jnp.bfloat16]


def test_an_entrys_own_fields_are_what_a_part_has():
    """Those of the config go before what the model would give."""
    entry = {"name": "categorical", "codebook_size": 7}
    hyperprior, *_ = choices.entropy_parts(choices.Choices(hyperprior=entry), 8, 16, None)
    assert (hyperprior.codebook_size, hyperprior.channels) == (7, 8)


@pytest.mark.slow
def test_stage_three_trains_a_chosen_model(tmp_path):
    entropy = {"hyperprior": "fsq", "context": "none", "distribution": "logistic"}
    config = config_of(entropy, 3, losses__lpips=0.0, adversarial__weight=0.0)
    codec, data = check(tmp_path / "w.safetensors", config)
    assert codec.decompress(data).shape == (72, 120, 3)


def test_a_model_as_published_is_the_one_without_a_section():
    """So that runs and weights of earlier releases are of the same model."""
    config = small.config(2)
    assert "entropy" in config["model"]
    assert "entropy" not in read(config).model
    assert read(config_of({"context": "none"})).model["entropy"] == {"context": "none"}
    named = read(config_of({"context": {"name": "channel_groups", "steps": 3}})).model
    assert named["entropy"] == {"context": {"name": "channel_groups", "steps": 3}}
    assert glc.build(named) == glc.build(
        {**named, "entropy": {"context": "channel_groups", "steps": 3}}
    )
    json.dumps(plain(named))


@pytest.mark.parametrize(
    ("entropy", "expected"),
    [
        ({"contxt": "none"}, "contxt is no field"),
        ({"context": "nine"}, "no context 'nine'"),
        ({"context": "no_such_module:Context"}, "cannot be imported"),
        ({"context": 3}, "give a name, or a mapping"),
        ({"context": {"name": "none", "colour": 1}}, "cannot be made"),
        ({"context": "none", "steps": 2}, "'none' cannot be made"),
        ({"context": "channel_groups", "steps": 9}, "8 channels do not make 9 slices"),
        ({"steps": -1}, "steps is -1"),
        ({"distribution": "deep_factorized"}, "no distribution 'deep_factorized'"),
        ({"distribution": {"name": "student_t", "degrees": 99}}, "degrees"),
        ({"hyperprior": {"name": "factorised", "density": "flat"}}, "no density 'flat'"),
        ({"hyperprior": "factorised", "z_prior": "uniform"}, "a distribution of z of its own"),
    ],
)
def test_what_cannot_be_is_said_before_anything_compiles(entropy, expected):
    given = small.config(2)
    given["model"]["entropy"] = entropy
    with pytest.raises(ConfigError, match=expected):
        small.parts(given)


def test_a_quantiser_has_schedules_and_the_scale():
    """From the config; a quantiser of someone's own sees how wide each distribution is."""
    config = config_of(
        {}, quantizer={"name": f"{__name__}:ScaledNoise", "amount": {"start": 1.0, "end": 0.0}}
    )
    made = small.parts(config)
    params = {"params": made.abstract_parameters}
    images = jax.ShapeDtypeStruct((4, small.CROP, small.CROP, 3), jnp.float32)
    samples = jax.eval_shape(
        lambda: made.turns.draw(jnp.int32(0), jax.random.key(0), jnp.arange(4))
    )
    forward = functools.partial(made.stage.forward, made.model)
    jax.eval_shape(forward, params, images, samples)
    assert ScaledNoise.seen == [(4, 8, 8, 8)] * 4  # the steps of y; z is no number


def test_what_fits_is_taken_from_a_model_with_other_parts(tmp_path, caplog):
    """Not what happens to have a name and a shape in common."""
    published = config_of({})
    source = small.weights_file(tmp_path / "published.safetensors", published)
    given = dict(weights.flatten(small.parameters(published)))
    other = config_of({"context": "checkerboard", "z_prior": "uniform"}, init_from=source)
    with caplog.at_level(logging.WARNING):
        found = dict(weights.flatten(start.given_parameters(small.parts(other))))
    parts = {path.split("/")[0] for path in found}
    assert {"vqvae", "g_a", "g_s", "hyperprior", "context"} <= parts
    for path, leaf in found.items():
        if not path.startswith("context/"):
            np.testing.assert_array_equal(leaf, given[path], err_msg=path)
    anew = [path for path in found if path.startswith("context/")]
    kernels = [path for path in anew if path.endswith("kernel") and path in given]
    assert kernels
    assert not any(np.array_equal(found[path], given[path]) for path in kernels)
    assert "has no parameters for: context/" in caplog.text


def test_a_context_of_other_steps_is_another_part():
    """Its networks have the same names and shapes, and see other neighbours."""
    four, two = (
        read(config_of({"context": "channel_groups", "steps": steps})).model for steps in (4, 2)
    )
    assert start._other_parts(four, two) == {"context"}
    assert start._other_parts(two, two) == set()


STEADY = quantize.Schedule(1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class ScaledNoise:
    """Noise in proportion to the scale."""

    amount: quantize.Schedule = STEADY
    seen: ClassVar[list] = []

    def __call__(self, values, moment):
        self.seen.append(moment.scale.shape)
        noisy = values + self.amount(moment.step) * moment.scale * 0.1
        return quantize.Quantised(noisy, noisy)


@pytest.mark.slow
def test_an_averaged_codebook_moves_where_it_is_used():
    """With the rotation's gradient, and none for the rows."""
    choice = {"update": "average", "gradient": "rotation", "revive_every": 0}
    config = config_of({}, **{f"codebook__{name}": value for name, value in choice.items()})
    state = small.state(config)
    new, _ = small.jit_train_step(config)(state, small.batch(0, 4), jax.random.key(0))
    path = "hyperprior/quantizer/codebook"
    rows = new.params["hyperprior"]["quantizer"]["codebook"]
    moved = np.abs(np.asarray(rows) - state.ema[path]).max(axis=1) > 0
    decay = config["codebook"]["decay"]
    share = (np.asarray(new.code_use[path]) - decay / 16) / (1 - decay)
    np.testing.assert_array_equal(moved, share > 1e-6)
    assert moved.any()


@pytest.mark.parametrize("field", ["update", "gradient"])
def test_codebooks_that_cannot_be_are_told(field):
    with pytest.raises(ConfigError, match=rf"codebook.{field}"):
        small.parts(config_of({}, **{f"codebook__{field}": "magic"}))
