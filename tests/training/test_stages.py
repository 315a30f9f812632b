"""What a stage hands to the losses, with a model of three numbers: no network is compiled."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.losses import code_prediction
from glc_jax.models.vqvae import VectorQuantized
from glc_jax.training import objectives
from glc_jax.training.config import Config
from glc_jax.training.samples import Samples
from glc_jax.training.stages import (
    LATENT_CODEBOOK,
    Codes,
    JointStage,
    TransformStage,
    VQVAEStage,
)
from tests import small_model

SIDE, CHANNELS, SIZE = 8, 3, 5
IMAGES = jax.random.uniform(jax.random.key(0), (4, SIDE, SIDE, CHANNELS), minval=-1)
WEIGHTS = {"encoder": 2.0, "coder": 0.5, "generator": 3.0}
HYPER_CODEBOOK = "hyperprior/quantizer/codebook"
CODEBOOKS = {"hyperprior": {"quantizer": {"codebook": np.zeros((SIZE, CHANNELS))}}}
SIZES = {"codebook_size": SIZE, "hyper_codebook_size": SIZE}
CONFIG = Config(model={**small_model.MODEL, **SIZES}, quantizer="straight_through")


class Model:
    """l is the picture times a number at half its size, l_hat is l times one, and so on."""

    def apply(self, variables, *arguments, method, **options):
        return getattr(self, method)(variables, *arguments, **options)

    def encode(self, weights, x, train):
        halves = x.reshape(x.shape[0], SIDE // 2, 2, SIDE // 2, 2, CHANNELS)
        return weights["encoder"] * halves.mean((2, 4))

    def generate(self, weights, latent, train):
        return weights["generator"] * jnp.repeat(jnp.repeat(latent, 2, 1), 2, 2)

    def vector_quantize(self, weights, latent):
        indices = jnp.clip(jnp.round(latent[..., 0]), 0, SIZE - 1).astype(jnp.int32)
        return VectorQuantized(jnp.zeros_like(latent), indices, jnp.mean(latent**2), None)

    def code(self, weights, latent, rate, quantise, vectors, training):
        z = latent[:, ::2, ::2]
        vq = self.vector_quantize(weights, z)
        decoded, _ = quantise(latent, None)
        bits = {"y/0": jnp.sum(jnp.abs(latent), (1, 2, 3)) * (1 + rate), "y/1": 7.0 * (1 + rate)}
        coded = {
            "z": SimpleNamespace(
                quantised=vq, values=vectors(SimpleNamespace(name="z"), vq, z), bits={"z": 99.0}
            ),
            "y": SimpleNamespace(bits=bits, values=decoded),
        }
        latent_hat = weights["coder"] * latent + coded["z"].values.mean()
        return SimpleNamespace(coded=coded, targets={"z": z}, latent_hat=latent_hat)

    def entropy_model(self):
        def group(name, latent, parameters):
            return SimpleNamespace(
                name=name, latent=latent, family=SimpleNamespace(parameters=parameters)
            )

        groups = [group("z", "z", ()), group("y/0", "y", ("scale",)), group("y/1", "y", ("a",))]
        return SimpleNamespace(of=lambda latent: [one for one in groups if one.latent == latent])


def samples(ready: bool = True) -> Samples:
    keys = jax.random.split(jax.random.key(1), 4)
    quantised = jnp.array([True, False, False, True]) & ready
    return Samples(jnp.arange(4.0), keys, quantised, jnp.asarray(ready), jnp.asarray(5))


def forward(stage: type, weights=None, ready: bool = True):
    found = dict(WEIGHTS) if weights is None else weights
    variables = {"params": CODEBOOKS, **found}
    return stage(CONFIG).forward(Model(), variables, IMAGES, samples(ready))


def gradient(stage: type, of: str) -> dict[str, float]:
    """Of the sum of one field, by each of the model's three numbers."""
    weights = {name: jnp.asarray(value) for name, value in WEIGHTS.items()}
    found = jax.grad(lambda weights: jnp.sum(getattr(forward(stage, weights), of)))(weights)
    return {name: float(value) for name, value in found.items()}


def test_stage_1_draws_some_samples_through_the_codebook_and_the_others_as_they_are():
    out = forward(VQVAEStage)
    plain = WEIGHTS["generator"] * jnp.repeat(jnp.repeat(out.latent, 2, 1), 2, 2)
    for number, quantised in enumerate([True, False, False, True]):
        np.testing.assert_allclose(out.x_hat[number], 0 * plain[0] if quantised else plain[number])
    np.testing.assert_allclose(forward(VQVAEStage, ready=False).x_hat, plain, rtol=1e-6)
    share = out.codes[LATENT_CODEBOOK].share
    np.testing.assert_allclose(share.sum(), 1, rtol=1e-6)


def test_stage_2_leaves_the_encoder_and_stage_3_moves_it_but_not_the_target():
    assert gradient(TransformStage, "latent_hat")["encoder"] == 0
    assert gradient(TransformStage, "bpp")["encoder"] == 0
    assert gradient(TransformStage, "latent_hat")["coder"] != 0
    for of in ("latent_hat", "bpp", "x_hat"):
        assert gradient(JointStage, of)["encoder"] != 0
    for stage in (TransformStage, JointStage):
        assert gradient(stage, "latent") == dict.fromkeys(WEIGHTS, 0)


def test_bits_are_those_of_y_over_the_pictures_pixels():
    """z's bits are the same whatever is trained, and are not in it."""
    out = forward(TransformStage)
    latent = np.abs(np.asarray(out.latent, np.float64)).sum((1, 2, 3))
    np.testing.assert_allclose(out.bpp, (latent + 7) * np.arange(1, 5) / SIDE**2, rtol=1e-5)


def test_each_rates_own_bpp_is_that_of_its_samples():
    out = forward(TransformStage)
    found = [float(out.metrics[f"bpp_y_{point}"]) for point in range(4)]
    np.testing.assert_allclose(found, out.bpp, rtol=1e-6)  # one sample has each of the four rates


def test_z_goes_on_as_it_is_until_its_codebook_is_set():
    ready, early = (forward(TransformStage, ready=ready) for ready in (True, False))
    scaled = WEIGHTS["coder"] * ready.latent
    np.testing.assert_allclose(ready.latent_hat, scaled, rtol=1e-5)  # this codebook is all 0
    np.testing.assert_allclose(
        early.latent_hat - scaled, ready.latent[:, ::2, ::2].mean(), rtol=1e-3
    )
    assert early.codes[HYPER_CODEBOOK].vectors.shape == (4, 4, CHANNELS)


def seen(**out):
    fake = SimpleNamespace(**{name: value for name, value in out.items() if name != "ready"})
    waiting = SimpleNamespace(codebook_ready=jnp.asarray(out.get("ready", True)))
    return objectives.Seen(LOGITS, {}, IMAGES, waiting, fake)


class _Logits:
    def apply(self, variables, x, *rest, method):
        return {"predict_codes": 1.0, "predict_codes_from_pixels": 2.0}.get(method, 1.0) * x


LOGITS = _Logits()


@pytest.mark.parametrize(("ready", "expected"), [(True, 2.5), (False, 0.0)])
def test_commitment_waits_for_the_codebook(ready, expected):
    loss = objectives.Commitment("codebook", 1.0)
    losses = {LATENT_CODEBOOK: 2.5, HYPER_CODEBOOK: 7.0}
    codes = {path: Codes(None, None, None, jnp.asarray(one)) for path, one in losses.items()}
    assert (
        float(loss(seen(codes=codes, ready=ready))) == expected
    )  # the other has a loss of its own


def test_codes_are_predicted_from_the_decoded_latent_and_from_the_picture():
    logits = jax.random.normal(jax.random.key(3), (2, 6, SIZE))
    indices = jnp.arange(12).reshape(2, 6) % SIZE
    given = seen(latent_hat=logits, x_hat=logits, indices=indices)
    wanted = code_prediction.cross_entropy(logits, indices).mean()
    found = objectives.CodePrediction("code_prediction", 1.0)(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    wanted = code_prediction.cross_entropy(2 * logits, indices).mean()
    found = objectives.PixelCodePrediction("pixel_code_prediction", 1.0)(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_error_of_the_latent_is_squared():
    latent, decoded = jnp.zeros((2, 2, 2, 3)), jnp.full((2, 2, 2, 3), 3.0)
    found = objectives.LatentError("latent", 1.0)(seen(latent=latent, latent_hat=decoded))
    assert float(found) == 9
