"""Setting a codebook to k-means centres of what it is about to quantise."""

import logging
from typing import Any

import jax
import jax.numpy as jnp

from glc_jax.data.pipeline import Batches
from glc_jax.models.pixels import to_model_range
from glc_jax.training import sharding
from glc_jax.training.codebook import kmeans
from glc_jax.training.parameters import replace, select
from glc_jax.training.parts import Parts
from glc_jax.training.state import TrainState

logger = logging.getLogger(__name__)


def initialise_codebooks(
    parts: Parts, mesh: jax.sharding.Mesh, state: TrainState, batches: Batches
) -> TrainState:
    """Set the stage's codebook to k-means centres of what the next batches would quantise.

    Those batches are trained on afterwards as usual. Done only where the codebook trains.
    """
    config = parts.config
    shardings = sharding.state_shardings(state, mesh, config.mesh.shard_from)
    trained = select(state.params, parts.trainable)
    paths = [path for path in parts.codebooks.paths if path in trained]
    if not paths:
        return state
    step, everywhere = int(state.step), sharding.replicated(mesh)

    def vectors_of(params: Any, batch: Any, step: jax.Array, rng: jax.Array) -> Any:
        samples = parts.samples(step, rng, batch)
        images = to_model_range(batch["image"])
        out = parts.stage.forward(parts.model, {"params": params}, images, samples)
        return {path: code.vectors for path, code in out.codes.items()}

    collect = jax.jit(vectors_of, out_shardings=everywhere)
    cluster = jax.jit(kmeans, static_argnums=1, out_shardings=everywhere)
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    collected = [
        collect(state.params, sharding.global_batch(batches[step + i], mesh), step + i, key)
        for i in range(config.codebook.kmeans_batches)
    ]
    centres = {}
    for path in paths:
        vectors = jnp.concatenate(
            [found[path].reshape(-1, found[path].shape[-1]) for found in collected]
        )
        centres[path] = cluster(vectors, trained[path].shape[0], key)
        logger.info("Codebook %s: k-means of %d vectors", path, vectors.shape[0])
    copies = {path: jnp.array(value, copy=True) for path, value in centres.items()}
    state = state.replace(params=replace(state.params, centres), ema={**state.ema, **copies})
    return jax.device_put(state, shardings)
