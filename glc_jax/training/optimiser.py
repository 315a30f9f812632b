"""Optimisers and their learning-rate schedule, from the config's `optimizer` section."""

from collections.abc import Mapping

import jax
import optax

from glc_jax.errors import ConfigError
from glc_jax.training.config import Optimizer


def learning_rate(fields: Optimizer, steps: int) -> optax.Schedule:
    """Linear warm-up, constant, then half a cosine to zero over the last `tail_steps` of `steps`.

    `tail_steps = steps - warmup_steps` is the usual cosine schedule. Raises `ConfigError` when
    warm-up and tail are longer than the run.
    """
    warmup, tail = fields.warmup_steps, fields.tail_steps
    if warmup + tail > steps:
        raise ConfigError(
            f"A warm-up of {warmup} and a tail of {tail} steps do not fit in {steps} steps."
        )

    peak = fields.learning_rate
    pieces, ends = [optax.constant_schedule(peak)], []
    if warmup:
        pieces.insert(0, optax.linear_schedule(peak / (warmup + 1), peak, warmup))
        ends.append(warmup)
    if tail:
        pieces.append(optax.cosine_decay_schedule(peak, tail))
        ends.append(steps - tail)
    return optax.join_schedules(pieces, ends)


def optimiser(fields: Optimizer, steps: int) -> optax.GradientTransformation:
    """AdamW over flat parameter dicts, behind clipping of the gradient's global norm.

    Weight decay touches kernels only: not biases, norms, rate scales and codebooks.
    """

    def kernels(params: Mapping[str, jax.Array]) -> dict[str, bool]:
        return {path: path.endswith("kernel") for path in params}

    clip = fields.clip_norm
    return optax.chain(  # of one shape whether or not it clips, so that runs may change their mind
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.adamw(
            learning_rate(fields, steps),
            b1=fields.b1,
            b2=fields.b2,
            eps=fields.eps,
            weight_decay=fields.weight_decay,
            mask=kernels,
        ),
    )
