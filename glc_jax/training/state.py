"""What a training run carries from step to step."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from glc_jax.training.parameters import Flat, replace, select


@flax.struct.dataclass
class DiscriminatorState:
    """The discriminator's own parameters (flat), BatchNorm averages (a tree) and optimiser."""

    params: Flat
    batch_stats: Any
    opt_state: optax.OptState


@flax.struct.dataclass
class TrainState:
    """Everything that changes from step to step: what a checkpoint keeps.

    step: int32 scalar, the number of steps done.
    params: the whole model's parameter tree, float32; those not trained are constants.
    opt_state, ema: of the trained leaves only, as flat dicts. ema is their running average.
    code_use: for each codebook that trains, [K] float32: running mean of each code's share.
    discriminator: None where the adversarial loss is off.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    ema: Flat
    code_use: Flat
    discriminator: DiscriminatorState | None = None

    def averaged(self) -> dict[str, Any]:
        """The parameter tree with the running averages in place: what one evaluates and ships."""
        return replace(self.params, self.ema)


def create(
    params: Mapping[str, Any],
    trainable: str,
    codebooks: tuple[str, ...],
    optimiser: optax.GradientTransformation,
    discriminator: DiscriminatorState | None = None,
) -> TrainState:
    """The state before the first step; `codebooks` are paths of the codebooks that it follows."""
    trained = select(params, trainable)
    flat = select(params, "")
    sizes = {path: flat[path].shape[0] for path in codebooks}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimiser.init(trained),
        # A copy, since the train step donates its input and a buffer can be donated only once.
        ema={path: jnp.array(leaf, copy=True) for path, leaf in trained.items()},
        code_use={path: jnp.full((size,), 1.0 / size, jnp.float32) for path, size in sizes.items()},
        discriminator=discriminator,
    )
