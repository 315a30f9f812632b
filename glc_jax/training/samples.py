"""What is random about each sample of a batch: a function of the run's key, step and slot."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

_TURNS_PERIOD = 1000  # steps after which the turns begin anew: float32 counts them exactly


class Samples(NamedTuple):
    """What is random about each sample of a batch, whatever device it is on.

    rate: float32 [B], the rate point. keys: [B] random keys. quantised: bool [B], whether stage
    I's generator sees the sample's latent through the codebook. codebook_ready: bool scalar,
    false until k-means has set the codebook; until then nothing is quantised. step: int scalar.
    beside: float32 [B, H, W, 3] in [-1, 1], the pictures of `Stage.beside` by name.
    """

    rate: jax.Array
    keys: jax.Array
    quantised: jax.Array
    codebook_ready: jax.Array
    step: jax.Array
    beside: Mapping[str, jax.Array] = {}


@dataclasses.dataclass(frozen=True)
class Turns:
    """The rate points take turns over the slots of all steps, and so do quantised samples.

    So a batch may be smaller than the rate points are many, and samples go through the codebook
    evenly, at `quantised_share`; none does before `kmeans_step`.
    """

    batch: int
    rate_points: int
    quantised_share: float
    kmeans_step: int

    def draw(self, step: jax.Array, rng: jax.Array, slots: jax.Array) -> Samples:
        """The samples at `slots` [B] int32 of step `step`, whose key is `rng`.

        Each depends on its own slot alone, so that a batch may be divided in any way.
        """
        keys = jax.vmap(lambda slot: jax.random.fold_in(rng, slot))(slots)
        turn = step % _TURNS_PERIOD * self.batch + slots
        rate = turn % self.rate_points
        share = self.quantised_share
        quantised = jnp.floor((turn + 1) * share) > jnp.floor(turn * share)
        ready = jnp.asarray(step >= self.kmeans_step)
        return Samples(rate.astype(jnp.float32), keys, quantised & ready, ready, jnp.asarray(step))
