"""What a run is made of, made once from its config: everything behind it sees its part only."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range
from glc_jax.training import checks
from glc_jax.training.codebook import Codebooks
from glc_jax.training.config import Config
from glc_jax.training.critic import Critic, critic
from glc_jax.training.objectives import Loss, objectives
from glc_jax.training.optimiser import learning_rate, optimiser
from glc_jax.training.parameters import select
from glc_jax.training.samples import Samples, Turns
from glc_jax.training.stage import Stage
from glc_jax.training.stage_choices import open_stage
from glc_jax.training.state import TrainState, create

_CRITIC, _OWN = 1, 2  # folded into the seed's key for what is not the model


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a training run.

    model: computes in the config's dtype; parameters are float32 in any case. losses: those in
    use. turns: what is random about each sample. networks: names of the frozen networks that the
    losses and the critic need. critic: called with the axis's name under pmap, else None.
    """

    config: Config
    model: glc.GLC
    stage: Stage
    losses: tuple[Loss, ...]
    turns: Turns
    codebooks: Codebooks
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule

    @property
    def trainable(self) -> str:
        return self.config.trainable

    @property
    def accumulate(self) -> int:
        return self.config.accumulate

    @property
    def ema(self) -> float:
        return self.config.ema

    @functools.cached_property
    def networks(self) -> tuple[str, ...]:
        judge = self.critic()
        own = set(judge.sight.networks) if judge else set()
        return tuple(sorted(own.union(*(loss.networks for loss in self.losses))))

    def samples(self, step: jax.Array, rng: jax.Array, batch: Mapping[str, jax.Array]) -> Samples:
        """What is random about the samples of a batch, and the pictures beside them."""
        drawn = self.turns.draw(step, rng, batch["index"])
        beside = {name: to_model_range(batch[name]) for name in self.stage.beside}
        return drawn._replace(beside=beside)

    def critic(self, axis_name: str | None = None) -> Critic | None:
        """The discriminator's part, or None where the adversarial loss is off."""
        return critic(self.config, axis_name)

    def random_parameters(self) -> Any:
        """The model's own initialisation, from the config's seed; call it under `jax.jit`."""
        side = sizes.initial_side(self.config.model)
        return self.with_own_parameters(_random(self.model, side, self.config.seed))

    def with_own_parameters(self, params: Any) -> Any:
        """The model's parameters and, as they begin, those of the stage's own part."""
        if not self.stage.part:
            return params
        key = jax.random.fold_in(jax.random.key(self.config.seed), _OWN)
        return {**params, self.stage.part: self.stage.own_parameters(params, key)}

    @functools.cached_property
    def abstract_parameters(self) -> Any:
        """The model's parameter tree as shapes."""
        shapes = _shapes(self.model, sizes.initial_side(self.config.model))
        return jax.eval_shape(self.with_own_parameters, shapes)

    def initial_state(self, params: Any) -> TrainState:
        """The state before the first step with these parameters; under `jax.jit` or on shapes."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), _CRITIC)
        judge = self.critic()
        return create(
            params,
            self.trainable,
            self.codebooks.paths,
            self.optimiser,
            judge and judge.init(key, self.config.data.crop),
        )

    def abstract_state(self) -> TrainState:
        """The state as shapes."""
        return jax.eval_shape(self.initial_state, self.abstract_parameters)


def _random(model: glc.GLC, side: int, seed: int) -> Any:
    """A model's parameters, initialised on a picture of `side` x `side`."""
    picture, rate = jnp.zeros((1, side, side, 3)), jnp.zeros((1,))
    return model.init(jax.random.key(seed), picture, rate)["params"]


@functools.lru_cache(maxsize=8)
def _shapes(model: glc.GLC, side: int) -> Any:
    """Their shapes; tracing them takes seconds, so it is done once for each model."""
    return jax.eval_shape(lambda: _random(model, side, seed=0))


def assemble(config: Config) -> Parts:
    """The parts of the run that a config describes, without files; nothing is compiled.

    Raises `ConfigError` for what contradicts itself.
    """
    stage = open_stage(config)
    checks.check(config, stage)
    fields = config.codebook
    parts = Parts(
        config=config,
        model=glc.build(config.model, jnp.dtype(config.dtype).type, config.remat),
        stage=stage,
        losses=objectives(config, stage.gives),
        turns=Turns(
            config.batch,
            config.model["rate_points"],
            fields.quantised_share,
            fields.kmeans_step,
        ),
        codebooks=Codebooks(
            stage.codebooks, fields.decay, fields.dead_below, fields.revive_every, fields.update
        ),
        optimiser=optimiser(config.optimizer, config.steps),
        schedule=learning_rate(config.optimizer, config.steps),
    )
    checks.check_best(config, parts.losses)
    checks.check_trained(config, select(parts.abstract_parameters, config.trainable))
    parts.critic()
    return parts
