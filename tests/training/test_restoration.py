"""The stage "restore", with the model of a few numbers of test_stages, and what it makes a file."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import companions, weights
from glc_jax.entropy.quantize import Quantised
from glc_jax.errors import ConfigError, WeightsError
from glc_jax.training import restoration, start
from glc_jax.training.config import Config, plain
from glc_jax.training.export import export_part
from glc_jax.training.parts import Parts
from glc_jax.training.restoration import RestorationStage
from tests.training.test_stages import CODEBOOKS, CONFIG, IMAGES, SIDE, SIZE, Model, samples

SPOILED = jax.random.uniform(jax.random.key(7), IMAGES.shape, minval=-1)
PARAMS = {
    "vqvae": {"encoder": {"k": np.float32([2.0])}, "generator": {"k": np.float32([3.0])}},
    "g_s": {"k": np.float32([0.5])},
    "hyperprior": CODEBOOKS["hyperprior"],
    "restorer": {"vqvae": {"encoder": {"k": np.float32([1.5])}}},
}
RATES = np.arange(4.0)[:, None, None, None]


class RestoringModel(Model):
    """Its numbers are the parameters', and l_hat grows with the rate."""

    def apply(self, variables, *arguments, method, **options):
        params = variables["params"]
        numbers = {
            "encoder": params["vqvae"]["encoder"]["k"],
            "generator": params["vqvae"]["generator"]["k"],
            "coder": params["g_s"]["k"],
        }
        return getattr(self, method)(numbers, *arguments, **options)

    def code(self, weights, latent, rate, quantise=Quantised, vectors=None, training=False):
        vectors = vectors or (lambda latent, found, target: found.quantized)
        code = super().code(weights, latent, rate, quantise, vectors, training)
        code.latent_hat = code.latent_hat * (1 + rate)[:, None, None, None]
        return code


def stage(**changes) -> RestorationStage:
    return RestorationStage(dataclasses.replace(CONFIG, stage="restore", **changes))


def forward(of: RestorationStage, params=None):
    drawn = samples()._replace(beside={"degraded": SPOILED})
    variables = {"params": PARAMS if params is None else params}
    return of.forward(RestoringModel(), variables, IMAGES, drawn)


def halves(images) -> np.ndarray:
    return np.asarray(images, np.float64).reshape(4, SIDE // 2, 2, SIDE // 2, 2, 3).mean((2, 4))


def test_the_target_is_the_clean_pictures_l_hat_at_the_samples_rate():
    out = forward(stage())
    np.testing.assert_allclose(out.latent, 0.5 * (1 + RATES) * 2 * halves(IMAGES), atol=1e-5)
    codes = np.clip(np.round(2 * halves(IMAGES)[..., 0]), 0, SIZE - 1)
    np.testing.assert_array_equal(out.indices, codes)


def test_what_is_given_is_the_restorers_of_the_spoiled_picture_and_costs_its_bits():
    out = forward(stage())
    latent = 1.5 * halves(SPOILED)
    np.testing.assert_allclose(out.latent_hat, 0.5 * (1 + RATES) * latent, atol=1e-5)
    bits = (np.abs(latent).sum((1, 2, 3)) + 7) * np.arange(1, 5)
    np.testing.assert_allclose(out.bpp, bits / SIDE**2, rtol=1e-5)


def test_the_encoder_that_learns_is_the_restorers():
    fields = ("latent_hat", "bpp", "x_hat", "latent")

    def squares(params):
        out = forward(_drawing(), params)
        return jnp.stack([jnp.sum(getattr(out, name) ** 2) for name in fields])

    found = jax.jit(jax.jacrev(squares))(jax.tree.map(jnp.asarray, PARAMS))
    own = found["restorer"]["vqvae"]["encoder"]["k"][:, 0]
    assert [bool(one) for one in own] == [True, True, True, False]
    assert not jnp.any(found["vqvae"]["encoder"]["k"])
    for leaf in jax.tree.leaves(found):
        assert not jnp.any(leaf[3])  # the target stays where it is


@functools.cache
def _drawing() -> RestorationStage:
    return stage(losses={"l1": 1.0})


def test_a_picture_is_drawn_only_where_a_loss_needs_it():
    for losses in ({}, {"l1": 0.0, "latent": 1.0, "rate": 1.0}):
        plain = stage(losses=losses)
        assert forward(plain).x_hat is None
        assert "x_hat" not in plain.gives
    critic = dataclasses.replace(CONFIG.adversarial, weight=1.0)
    for drawing in (_drawing(), stage(adversarial=critic)):
        assert drawing.gives == plain.gives | {"x_hat"}
        out = forward(drawing)
        upsampled = np.asarray(out.latent_hat).repeat(2, 1).repeat(2, 2)
        np.testing.assert_allclose(out.x_hat, 3 * upsampled, rtol=1e-5)


def test_held_out_pictures_are_restored_from_their_spoiled_ones(monkeypatch):
    seen = []
    monkeypatch.setattr(restoration, "through_rates", lambda *arguments: seen.append(arguments))
    beside = {"degraded": np.ones((1, 8, 8, 3), np.uint8)}
    stage().reconstruct(None, {"params": PARAMS}, np.zeros((1, 8, 8, 3), np.uint8), beside)
    ((_, variables, fields, images),) = seen
    assert variables["params"]["vqvae"]["encoder"]["k"] == 1.5
    assert variables["params"]["vqvae"]["generator"]["k"] == 3
    assert images is beside["degraded"]
    assert fields == CONFIG.model


def test_its_part_is_the_models_encoders():
    of = stage()
    assert (of.part, of.beside) == ("restorer", ("degraded",))
    base = {name: part for name, part in PARAMS.items() if name != "restorer"}
    own = of.own_parameters(base, jax.random.key(0))
    assert own == {"vqvae": {"encoder": PARAMS["vqvae"]["encoder"]}}


def test_a_run_begins_its_part_from_the_weights_of_init_from(tmp_path):
    params = {**PARAMS, "g_a": {"k": np.float32([7.0])}}
    base = {name: part for name, part in params.items() if name != "restorer"}
    path = tmp_path / "base.safetensors"
    described = {"name": "small", "model": plain(CONFIG.model)}
    own = {"vqvae": base["vqvae"] | {"unknown": {"k": np.float32([1.0])}}, "g_a": base["g_a"]}
    weights.save(path, {"params": {**base, **own}}, described)
    parts = SimpleNamespace(config=Config(model=CONFIG.model, init_from=str(path)), stage=stage())
    parts.with_own_parameters = functools.partial(Parts.with_own_parameters, parts)
    parts.abstract_parameters = jax.eval_shape(lambda: parts.with_own_parameters(base))
    given = dict(weights.flatten(start.given_parameters(parts)))
    wanted = dict(weights.flatten(base))
    wanted |= {"restorer/vqvae/encoder/k": [2.0], "restorer/g_a/k": [7.0]}
    assert given.keys() == wanted.keys()
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(given[name], leaf)


def test_a_run_may_begin_its_part_from_a_restorer_of_its_model(tmp_path):
    base = {name: part for name, part in PARAMS.items() if name != "restorer"}
    described = {"name": "small", "model": plain(CONFIG.model)}
    for name, value in (("base", 2.0), ("other", 4.0)):
        own = {"vqvae": base["vqvae"] | {"encoder": {"k": np.float32([value])}}}
        weights.save(tmp_path / name, {"params": {**base, **own}}, described)
    loaded, made = weights.load(tmp_path / "base"), str(tmp_path / "restorer")
    companions.save(made, companions.RESTORER, "mine", PARAMS["restorer"], loaded, {})

    def begun(init_from, **fields):
        config = Config(model=CONFIG.model, init_from=str(tmp_path / init_from), **fields)
        parts = SimpleNamespace(config=config, stage=stage())
        parts.with_own_parameters = functools.partial(Parts.with_own_parameters, parts)
        parts.abstract_parameters = jax.eval_shape(lambda: parts.with_own_parameters(base))
        return start.given_parameters(parts)

    found = begun("base", part_from=made)
    assert found["restorer"]["vqvae"]["encoder"]["k"] == [1.5]
    assert found["vqvae"]["encoder"]["k"] == [2.0]
    with pytest.raises(WeightsError, match="a restorer of the weights"):
        begun("other", part_from=made)
    with pytest.raises(WeightsError, match="holds a restorer, not a model"):
        begun("restorer")


def test_what_init_from_has_in_another_shape_or_not_at_all_is_random(tmp_path, caplog):
    base = {name: part for name, part in PARAMS.items() if name != "restorer"}
    given = {**base, "g_s": {"k": np.float32([7.0, 7.0])}}
    del given["hyperprior"]
    path = tmp_path / "base.safetensors"
    weights.save(path, {"params": given}, {"name": "small", "model": plain(CONFIG.model)})
    parts = SimpleNamespace(config=Config(model=CONFIG.model, init_from=str(path)), stage=stage())
    parts.with_own_parameters = functools.partial(Parts.with_own_parameters, parts)
    parts.random_parameters = lambda: parts.with_own_parameters(jax.tree.map(jnp.negative, base))
    parts.abstract_parameters = jax.eval_shape(parts.random_parameters)
    found = start.given_parameters(parts)
    assert found["g_s"]["k"] == [-0.5]
    assert found["vqvae"]["generator"]["k"] == [3.0]
    assert found["restorer"]["vqvae"]["encoder"]["k"] == [2.0]  # of init_from, not at random
    assert "has no parameters for: g_s/k, hyperprior/quantizer" in caplog.text


def _trained(tmp_path) -> tuple[dict, str]:
    """The parameters of a run, and the weights that it began with."""
    base = {name: part for name, part in PARAMS.items() if name != "restorer"}
    path = str(tmp_path / "base.safetensors")
    extra = {"code_predictor": {"k": np.float32([9.0])}}
    weights.save(path, {"params": {**base, **extra}}, {"name": "small", "model": {}})
    return {**PARAMS, "code_predictor": {"k": np.float32([8.0])}}, path


def export(params, base_path, path, part="restorer", **fields):
    config = {"name": "a run", "stage": "restore"}
    fields = {"dtype": "float32", "provenance": {"steps": 3}, **fields}
    return export_part(config, params, part, base_path, path, **fields)


def test_the_part_becomes_a_companion_of_the_weights_it_began_with(tmp_path):
    params, base = _trained(tmp_path)
    description = export(params, base, tmp_path / "own.safetensors")
    assert (description.kind, description.name) == ("restorer", "small-restore")
    assert description.provenance["steps"] == 3
    loaded = companions.load("restorer", weights.load(base), tmp_path / "own.safetensors")
    assert dict(weights.flatten(loaded)) == {"vqvae/encoder/k": [1.5]}


def test_a_share_of_a_restorer_may_be_its_bases_own(tmp_path):
    params, base = _trained(tmp_path)
    made = export(params, base, tmp_path / "own.safetensors", base_share=0.25)
    assert made.provenance == {"steps": 3, "base_share": 0.25}
    loaded = companions.load("restorer", weights.load(base), tmp_path / "own.safetensors")
    assert dict(weights.flatten(loaded)) == {"vqvae/encoder/k": [0.75 * 1.5 + 0.25 * 2.0]}
    for part, share in (("restorer", 1.0), ("restorer", -0.1), ("stylist", 0.5)):
        with pytest.raises(ConfigError, match="of a restorer alone, from 0 to less than 1"):
            export(params, base, tmp_path / "other.safetensors", part, base_share=share)


@pytest.mark.parametrize("name", ["vqvae/generator/k", "vqvae/encoder/k", "g_s/k"])
def test_a_part_is_not_exported_onto_other_weights(tmp_path, name):
    params, base = _trained(tmp_path)
    flat = dict(weights.flatten(params))
    for changed in ({**flat, name: flat[name] + 1}, {p: v for p, v in flat.items() if p != name}):
        with pytest.raises(ConfigError, match=f"did not begin with the weights .*: {name} differs"):
            export(weights.unflatten(changed), base, tmp_path / "own.safetensors")
    assert not (tmp_path / "own.safetensors").exists()


def test_a_part_is_not_exported_onto_another_part(tmp_path):
    params, base = _trained(tmp_path)
    export(params, base, tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match="holds a restorer, not a model"):
        export(params, tmp_path / "own.safetensors", tmp_path / "again.safetensors")
