"""Optimisers and their learning-rate schedule, from the config's `optimizer` section."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from glc_jax.errors import ConfigError


def learning_rate(config: Mapping[str, Any], steps: int) -> optax.Schedule:
    """Linear warm-up, constant, then half a cosine to zero over the last `tail_steps`.

    `tail_steps = steps - warmup_steps` is the usual cosine schedule. Raises `ConfigError` when
    warm-up and tail are longer than the run.
    """
    warmup, tail = config["warmup_steps"], config["tail_steps"]
    if warmup + tail > steps:
        raise ConfigError(
            f"A warm-up of {warmup} and a tail of {tail} steps do not fit in {steps} steps."
        )

    def schedule(step: jax.Array) -> jax.Array:
        rising = jnp.minimum((step + 1) / (warmup + 1), 1.0)
        done = jnp.clip((step - (steps - tail)) / max(tail, 1), 0.0, 1.0)
        return config["learning_rate"] * rising * 0.5 * (1 + jnp.cos(jnp.pi * done))

    return schedule


def optimiser(config: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """AdamW over flat parameter dicts, behind clipping of the gradient's global norm.

    Weight decay touches kernels only: not biases, norms, rate scales and codebooks. Fields:
    learning_rate, warmup_steps, tail_steps, b1, b2, eps, weight_decay, clip_norm (0: no clipping).
    """

    def kernels(params: Mapping[str, jax.Array]) -> dict[str, bool]:
        return {path: path.endswith("kernel") for path in params}

    adam = optax.adamw(
        learning_rate(config, steps),
        b1=config["b1"],
        b2=config["b2"],
        eps=config["eps"],
        weight_decay=config["weight_decay"],
        mask=kernels,
    )
    if not config["clip_norm"]:
        return adam
    return optax.chain(optax.clip_by_global_norm(config["clip_norm"]), adam)
