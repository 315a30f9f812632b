"""Keeping a codebook in use: k-means before training, revival of dead codes during it."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from glc_jax.entropy.codebooks import moved
from glc_jax.errors import ConfigError
from glc_jax.training.parameters import Flat


def code_share(indices: jax.Array, size: int) -> jax.Array:
    """Each code's share of `indices` (any shape): float32 [size], of sum 1."""
    return jnp.bincount(indices.reshape(-1), length=size).astype(jnp.float32) / indices.size


def perplexity(share: jax.Array) -> jax.Array:
    """exp of the entropy of shares [K], of any sum: the number of codes in effective use."""
    share = share / jnp.sum(share)
    return jnp.exp(-jnp.sum(share * jnp.log(share + 1e-10)))


def revive(
    codebook: jax.Array, use: jax.Array, vectors: jax.Array, threshold: float, rng: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Dead codes move to random vectors of the current batch.

    A code is dead when its running share `use` [K] is below `threshold` / K (Dhariwal et al.
    2020, arXiv 2005.00341, section 3.1). codebook [K, C], vectors [n, C].

    Returns the codebook, the use (a revived code starts as if used evenly) and the bool mask of
    the revived rows.
    """
    size = codebook.shape[0]
    dead = use < threshold / size
    chosen = jax.random.randint(rng, (size,), 0, vectors.shape[0])
    revived = jnp.where(dead[:, None], vectors[chosen].astype(codebook.dtype), codebook)
    return revived, jnp.where(dead, 1.0 / size, use), dead


def kmeans(vectors: jax.Array, size: int, rng: jax.Array, iterations: int = 10) -> jax.Array:
    """`size` centres of vectors [n, C] by Lloyd's algorithm, from randomly chosen vectors.

    With fewer vectors than centres some are chosen twice; small noise keeps those apart.
    A centre that attracts nothing stays where it is.
    """
    pick, noise = jax.random.split(rng)
    count, channels = vectors.shape
    order = jax.random.permutation(pick, max(count, size)) % count
    spread = 1e-3 * jnp.std(vectors)
    centres = vectors[order[:size]] + spread * jax.random.normal(noise, (size, channels))

    def lloyd(_, centres: jax.Array) -> jax.Array:
        squares = jnp.sum(centres**2, axis=1)
        nearest = jax.lax.map(  # in chunks: the whole table of distances would not fit
            lambda vector: jnp.argmin(squares - 2 * centres @ vector), vectors, batch_size=4096
        )
        members = jax.ops.segment_sum(jnp.ones(count), nearest, size)
        sums = jax.ops.segment_sum(vectors, nearest, size)
        means = sums / jnp.maximum(members, 1)[:, None]
        return jnp.where(members[:, None] > 0, means, centres)

    return jax.lax.fori_loop(0, iterations, lloyd, centres)


class Kept(NamedTuple):
    """What `Codebooks.keep_in_use` gives: the parts of a state, and metrics by name."""

    trained: Flat
    ema: Flat
    code_use: Flat
    metrics: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Codebooks:
    """The codebooks at `paths`, whose use is followed and whose dead codes are revived.

    decay: of the running share of each code. dead_below: of an even share. revive_every: steps
    between revivals; 0: never. update: "gradient", or "average": rows follow their vectors
    (`entropy.codebooks.moved`) and no gradient. Raises `ConfigError` for another.
    """

    paths: tuple[str, ...]
    decay: float
    dead_below: float
    revive_every: int
    update: str = "gradient"

    def __post_init__(self) -> None:
        if self.update not in ("gradient", "average"):
            raise ConfigError(f"codebook.update is {self.update!r}; give gradient or average.")

    @property
    def averaged(self) -> tuple[str, ...]:
        """The paths of those that follow averages."""
        return self.paths if self.update == "average" else ()

    def without_gradient(self, gradients: Flat) -> Flat:
        """The gradients with 0 for the codebooks that need none."""
        return {p: jnp.zeros_like(g) if p in self.averaged else g for p, g in gradients.items()}

    def moved(self, trained: Flat, before: Flat, code_use: Flat, shares: Flat, sums: Flat) -> Flat:
        """The trained leaves, averaged codebooks moved on from `before` by a batch's vectors."""
        new = {
            path: moved(before[path], code_use[path], shares[path], sums[path], self.decay)
            for path in self.averaged
            if path in before
        }
        return {**trained, **new}

    def keep_in_use(
        self,
        step: jax.Array,
        trained: Flat,
        ema: Flat,
        code_use: Flat,
        shares: Flat,
        vectors: Flat,
        rng: jax.Array,
    ) -> Kept:
        """After step `step`, counted from 0, in which the codes had `shares` of `vectors`.

        A revived code's running average begins anew with it. Metrics are the share of codes in use
        and their perplexity, by the running share.
        """
        trained, ema, uses, metrics = dict(trained), dict(ema), {}, {}
        due = (step + 1) % max(self.revive_every, 1) == 0
        due &= self.revive_every > 0
        for number, path in enumerate(self.paths):
            use = self.decay * code_use[path] + (1 - self.decay) * shares[path]
            name = path.split("/")[0]
            metrics[f"codes/{name}/perplexity"] = perplexity(use)
            metrics[f"codes/{name}/alive"] = jnp.mean(use * use.size > self.dead_below)
            if path in trained:
                flat = vectors[path].reshape(-1, vectors[path].shape[-1])
                key = jax.random.fold_in(rng, number)
                revived, fresh_use, dead = revive(trained[path], use, flat, self.dead_below, key)
                dead = dead & due
                trained[path] = jnp.where(dead[:, None], revived, trained[path])
                ema[path] = jnp.where(dead[:, None], revived, ema[path])
                use = jnp.where(dead, fresh_use, use)
            uses[path] = use
        return Kept(trained, ema, uses, metrics)
