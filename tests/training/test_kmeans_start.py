"""A codebook begins at the centres of what the next batches quantise, and so does its average."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.models.pixels import to_model_range
from glc_jax.training import sharding
from glc_jax.training.kmeans_start import initialise_codebooks
from glc_jax.training.parts import Parts
from glc_jax.training.samples import Turns
from glc_jax.training.stage import LATENT_CODEBOOK, Codes, Forward
from glc_jax.training.state import TrainState

BATCH, STEP = 4, 6


class Plain:
    """Quantises each pixel."""

    beside = ()

    def forward(self, model, variables, images, samples):
        codes = Codes(None, None, images.reshape(len(images), -1, 3), None)
        return Forward({LATENT_CODEBOOK: codes})


class Beside(Plain):
    """Quantises each pixel of what comes beside the picture."""

    beside = ("other",)

    def forward(self, model, variables, images, samples):
        return super().forward(model, variables, samples.beside["other"], samples)


def parts(trainable: str = "", stage: Plain | None = None) -> SimpleNamespace:
    made = SimpleNamespace(
        config=SimpleNamespace(
            mesh=SimpleNamespace(shard_from=2**20),
            seed=0,
            codebook=SimpleNamespace(kmeans_batches=2),
        ),
        trainable=trainable,
        codebooks=SimpleNamespace(paths=(LATENT_CODEBOOK,)),
        turns=Turns(BATCH, 4, 1.0, 0),
        stage=stage or Plain(),
        model=None,
    )
    made.samples = functools.partial(Parts.samples, made)
    return made


def started(made: SimpleNamespace) -> TrainState:
    """After `initialise_codebooks` at step 6; every batch has a colour of its own."""
    params = {"vqvae": {"quantizer": {"codebook": jnp.zeros((2, 3))}, "other": jnp.ones(2)}}
    averages = {LATENT_CODEBOOK: jnp.zeros((2, 3))}
    state = TrainState(jnp.asarray(STEP), params, (), averages, {}, None)
    batches = {
        step: {
            "image": np.full((BATCH, 2, 2, 3), 20 * step, np.uint8),
            "other": np.full((BATCH, 2, 2, 3), 250 - 20 * step, np.uint8),
            "index": np.arange(BATCH, dtype=np.int32),
        }
        for step in range(10)
    }
    return initialise_codebooks(made, sharding.make_mesh(1, BATCH, 1), state, batches)


def test_centres_are_those_of_the_next_batches_and_the_average_has_them_too():
    state = started(parts())
    colours = to_model_range(jnp.asarray([20 * STEP, 20 * STEP + 20], jnp.uint8))
    codebook = state.params["vqvae"]["quantizer"]["codebook"]
    found = np.sort(np.asarray(codebook), axis=0)
    np.testing.assert_allclose(found, np.asarray(colours)[:, None].repeat(3, 1), atol=1e-3)
    np.testing.assert_array_equal(state.ema[LATENT_CODEBOOK], codebook)
    assert int(state.step) == STEP
    assert (state.params["vqvae"]["other"] == 1).all()


def test_a_stage_may_quantise_what_comes_beside_the_picture():
    state = started(parts(stage=Beside()))
    colours = to_model_range(jnp.asarray([230 - 20 * STEP, 250 - 20 * STEP], jnp.uint8))
    found = np.sort(np.asarray(state.params["vqvae"]["quantizer"]["codebook"]), axis=0)
    np.testing.assert_allclose(found, np.asarray(colours)[:, None].repeat(3, 1), atol=1e-3)


def test_a_codebook_that_does_not_train_stays():
    state = started(parts("vqvae/other"))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.ema))
