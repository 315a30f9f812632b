"""What is done with a run's state every `eval.every` steps: evaluators, named in the config.

An evaluator is a class, made once a run from a `Place` and called with the averaged parameters. One
of someone's own is named as "package.module:Class" in `eval.evaluators`.
"""

import logging
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from glc_jax import named
from glc_jax.data.sources import Source
from glc_jax.errors import ConfigError
from glc_jax.training import inputs, networks, sharding
from glc_jax.training.boards import Boards
from glc_jax.training.config import Evaluation
from glc_jax.training.evaluation import averages, held_out_batches, make_eval_step
from glc_jax.training.exact_bits import ExactBits
from glc_jax.training.measures import Measure, measures
from glc_jax.training.parts import Parts

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where an evaluator works: a run's parts, its mesh, and the held-out pictures."""

    parts: Parts
    mesh: jax.sharding.Mesh
    held_out: Source


class Evaluator(Protocol):
    """Called on all hosts at the same steps, with parameters that lie on the mesh."""

    def __init__(self, place: Place): ...

    def __call__(self, params: Any, step: int, board: Boards) -> dict[str, float]:
        """What was measured, by name: it goes to the log and the board as held_out/NAME."""
        ...


class HeldOut:
    """The means of the measures over centre crops, and the first few pictures on the board."""

    def __init__(self, place: Place):
        self.parts, self.mesh, _ = place
        fields = self.parts.config.eval
        data_axis = self.mesh.shape[sharding.DATA]
        if fields.batch % data_axis:
            raise ConfigError(
                f"eval.batch of {fields.batch} cannot be divided among {data_axis} devices."
            )
        chosen = chosen_measures(self.parts)
        self.batches = held_out_batches(
            place.held_out,
            batch=fields.batch,
            crop=fields.crop,
            shard=sharding.data_shard(self.mesh),
            beside=inputs.open_beside(self.parts.config, self.parts.stage.beside, fields.crop),
        )
        names = [name for measure in chosen.values() for name in measure.networks]
        self.networks = jax.device_put(networks.load(names), sharding.replicated(self.mesh))
        self.step = jax.jit(
            make_eval_step(self.parts.model, self.parts.stage.reconstruct, chosen),
            out_shardings=sharding.replicated(self.mesh),
        )

    def __call__(self, params: Any, step: int, board: Boards) -> dict[str, float]:
        totals: dict[str, float] = {}
        for number, local in enumerate(self.batches):
            batch = sharding.global_batch(local, self.mesh)
            sums, pictures = self.step(params, batch, self.networks)
            for name, value in jax.device_get(sums).items():
                totals[name] = totals.get(name, 0.0) + float(value)
            if number == 0:
                count = min(self.parts.config.eval.pictures, len(local["image"]))
                shown = {name: np.asarray(value)[:count] for name, value in pictures.items()}
                board.pictures(step, local["image"][:count], shown)
        return averages(totals)


def chosen_measures(parts: Parts) -> dict[str, Measure]:
    """Those of `eval.metrics` and those that are losses; `ConfigError` for one that cannot be."""
    fields, known = parts.config.eval, measures(parts.config.lpips_network)
    unknown = [name for name in fields.metrics if name not in known]
    if unknown:
        raise ConfigError(f"eval.metrics: there is no {unknown[0]!r}; {', '.join(known)}.")
    names = {*fields.metrics, *(loss.name for loss in parts.losses if loss.name in known)}
    chosen = {name: measure for name, measure in known.items() if name in names}
    for name, measure in chosen.items():
        if measure.against and measure.against not in parts.stage.beside:
            raise ConfigError(
                f"eval.metrics: {name} is for stages with a {measure.against}, which "
                f"{parts.config.stage} has not."
            )
        if fields.crop < measure.smallest:
            raise ConfigError(
                f"eval.crop is {fields.crop}; {name} takes at least {measure.smallest}, or leave "
                "it out of eval.metrics."
            )
    return chosen


EVALUATORS: dict[str, type] = {"held_out": HeldOut, "exact_bits": ExactBits}


class Evaluators:
    """All of a run's, in order; none where no pictures are held out."""

    def __init__(self, parts: Parts, mesh: jax.sharding.Mesh):
        fields: Evaluation = parts.config.eval
        self.run: list[Evaluator] = []
        if fields.folder or fields.tfds.name:
            place = Place(parts, mesh, inputs.open_source(fields))
            self.run = [
                named.find(name, EVALUATORS, "evaluator")(place) for name in fields.evaluators
            ]
        self.averaged = jax.jit(lambda state: state.averaged())

    def __bool__(self) -> bool:
        return bool(self.run)

    def __call__(self, state: Any, step: int, board: Boards) -> dict[str, float]:
        """What all of them measured of the averaged parameters; logged and on the board."""
        params = self.averaged(state)
        measured: dict[str, float] = {}
        for evaluator in self.run:
            measured |= evaluator(params, step, board)
        line = "  ".join(f"{name} {value:.4g}" for name, value in measured.items())
        logger.info("held out at step %d:  %s", step, line)
        board.scalars(step, "held_out", measured)
        return measured
