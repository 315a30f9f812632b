"""The training run: batches in, steps, and everything that happens between them."""

import logging
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from glc_jax.errors import ConfigError
from glc_jax.training import checkpoints, setup, sharding, watch
from glc_jax.training.codebook import kmeans
from glc_jax.training.evaluation import averages, held_out_batches, make_eval_step
from glc_jax.training.parameters import replace, select
from glc_jax.training.stages import STAGES, codebooks, draw_samples
from glc_jax.training.state import TrainState
from glc_jax.training.step import make_train_step, to_float

logger = logging.getLogger(__name__)

Config = Mapping[str, Any]


def train(config: Config, workdir: pathlib.Path) -> TrainState:
    """Train as the config says, resuming what `workdir` holds; returns the last state.

    Stops early, with a checkpoint, on SIGTERM. Raises subclasses of `GLCError`: before anything
    is compiled for a mistake in the config, the data or the machine; later `watch.Diverged`.
    """
    setup.check_config(config)
    setup.check_resumable(config, workdir)
    mesh = sharding.make_mesh(config["mesh"]["model"], config["batch"], config["accumulate"])
    setup.check_trainable(config, setup.abstract_parameters(config))
    perceptual = setup.load_perceptual(config)
    batches = setup.open_batches(config)
    evaluation = Evaluation(config, mesh)
    workdir.mkdir(parents=True, exist_ok=True)

    kept = checkpoints.Checkpoints(
        workdir, config["checkpoint"]["keep"], config["checkpoint"]["best"]
    )
    state = _starting_state(config, mesh, perceptual, kept)
    if jax.process_index() == 0:
        checkpoints.write_config(workdir, setup.plain(config))
    board = watch.Board(workdir, active=jax.process_index() == 0)
    try:
        with stop_requests() as stop_requested:
            return _run(config, mesh, state, batches, evaluation, kept, board, stop_requested)
    finally:
        kept.close()
        board.close()


def _starting_state(
    config: Config, mesh: Any, perceptual: Any, kept: checkpoints.Checkpoints
) -> TrainState:
    """The newest checkpoint's state, or the one before the first step, laid over the mesh."""
    smallest = config["mesh"]["shard_from"]
    abstract = jax.eval_shape(
        lambda params: setup.initial_state(config, params, perceptual),
        setup.abstract_parameters(config),
    )
    shardings = sharding.state_shardings(abstract, mesh, smallest)
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        abstract,
        shardings,
    )
    perceptual = jax.device_put(perceptual, shardings.perceptual)
    state = kept.restore(placed.replace(perceptual=perceptual))
    if state is not None:
        logger.info("Resumed at step %d", int(state.step))
        return state
    params = setup.initial_parameters(config)
    state = setup.initial_state(config, params, None)
    state = jax.device_put(state, shardings.replace(perceptual=None))
    return state.replace(perceptual=perceptual)


def _run(
    config: Config,
    mesh: Any,
    state: TrainState,
    batches: Any,
    evaluation: "Evaluation",
    kept: checkpoints.Checkpoints,
    board: watch.Board,
    stop_requested: Callable[[int], bool],
) -> TrainState:
    """The main loop, from the state's step to the last."""
    steps, every = config["steps"], config["log_every"]
    shardings = sharding.state_shardings(state, mesh, config["mesh"]["shard_from"])
    train_step = sharding.jit_step(
        make_train_step(setup.build_model(config), config), mesh, shardings
    )
    rng = jax.random.key(config["seed"])
    step = int(state.step)
    incoming = batches.iterate(step)
    clock = watch.Clock()
    summed: dict[str, float] = {}
    pending: tuple[int, Any] | None = None

    def settle() -> None:
        """Wait for the metrics of the step that was started last, and look at them."""
        nonlocal pending
        if pending is not None:
            number, metrics = pending
            pending = None
            metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
            watch.check_finite(number, metrics)
            for name, value in metrics.items():
                summed[name] = summed.get(name, 0.0) + value
            clock.steps += 1

    while step < steps:
        if step == config["codebook"]["kmeans_step"]:
            settle()
            state = initialise_codebooks(config, mesh, state, batches, shardings)
        waiting = time.perf_counter()
        batch = sharding.global_batch(next(incoming), mesh)
        clock.waited += time.perf_counter() - waiting
        settle()  # the batch was prepared while the step before was running
        state, metrics = train_step(state, batch, rng)
        step += 1
        pending = (step, metrics)

        last, stopping = step == steps, stop_requested(step)
        due = {
            name: last or stopping or step % max(interval, 1) == 0
            for name, interval in (
                ("log", every),
                ("eval", config["eval"]["every"]),
                ("save", config["checkpoint"]["every"]),
            )
        }
        if not any(due.values()):
            continue
        settle()
        if due["log"] and clock.steps:
            means = {name: value / clock.steps for name, value in summed.items()}
            speed = clock.read(config["batch"])
            skipped = {"skipped": len(batches.skipped)} if len(batches.skipped) else {}
            logger.info("%s", watch.progress_line(step, steps, speed, {**means, **skipped}))
            board.scalars(step, "train", {**means, **speed, "skipped": len(batches.skipped)})
            summed.clear()
        measured = None
        if due["eval"] and not stopping and evaluation.batches:
            measured = evaluation(state, board, step)
        if due["save"]:
            kept.save(state, measured)
        clock.restart()
        if stopping and not last:
            logger.info("Asked to stop: saved step %d", step)
            break
    return state


class Evaluation:
    """The held-out pictures of a config, and how to measure a state on them."""

    def __init__(self, config: Config, mesh: Any):
        fields = config["eval"]
        self.config, self.mesh, self.step = config, mesh, None
        self.batches: list[dict[str, np.ndarray]] = []
        if not (fields["folder"] or fields["tfds"]["name"]):
            return
        if fields["batch"] % mesh.shape[sharding.DATA]:
            raise ConfigError(
                f"eval.batch of {fields['batch']} cannot be divided among "
                f"{mesh.shape[sharding.DATA]} devices."
            )
        self.batches = held_out_batches(
            setup.open_source(fields),
            batch=fields["batch"],
            crop=fields["crop"],
            host=jax.process_index(),
            hosts=jax.process_count(),
        )

    def __call__(self, state: TrainState, board: watch.Board, step: int) -> dict[str, float]:
        """Means over the held-out pictures for the averaged parameters; logged and drawn."""
        if self.step is None:
            self.step = jax.jit(
                make_eval_step(setup.build_model(self.config), self.config),
                out_shardings=sharding.replicated(self.mesh),
            )
        params = jax.jit(lambda state: state.averaged())(state)
        totals: dict[str, float] = {}
        for number, local in enumerate(self.batches):
            batch = sharding.global_batch(local, self.mesh)
            sums, pictures = self.step(params, batch, state.perceptual)
            for name, value in jax.device_get(sums).items():
                totals[name] = totals.get(name, 0.0) + float(value)
            if number == 0:
                count = min(self.config["eval"]["pictures"], len(local["image"]))
                shown = {name: np.asarray(value)[:count] for name, value in pictures.items()}
                board.pictures(step, local["image"][:count], shown)
        measured = averages(totals)
        line = "  ".join(f"{name} {value:.4g}" for name, value in measured.items())
        logger.info("held out at step %d:  %s", step, line)
        board.scalars(step, "held_out", measured)
        board.code_use(step, jax.device_get(state.code_use))
        return measured


def initialise_codebooks(
    config: Config, mesh: Any, state: TrainState, batches: Any, shardings: Any
) -> TrainState:
    """Set the stage's codebook to k-means centres of what the next batches would quantise.

    Those batches are trained on afterwards as usual. Done only where the codebook trains.
    """
    trained = select(state.params, config["trainable"])
    paths = [path for path in codebooks(config["stage"]) if path in trained]
    if not paths:
        return state
    model, forward, step = setup.build_model(config), STAGES[config["stage"]], int(state.step)
    everywhere = sharding.replicated(mesh)

    def vectors_of(params: Any, batch: Any, step: jax.Array, rng: jax.Array) -> Any:
        samples = draw_samples(config, step, rng, batch["index"])
        out = forward(model, {"params": params}, config, to_float(batch["image"]), samples)
        return {path: code.vectors for path, code in out.codes.items()}

    collect = jax.jit(vectors_of, out_shardings=everywhere)
    cluster = jax.jit(kmeans, static_argnums=1, out_shardings=everywhere)
    key = jax.random.fold_in(jax.random.key(config["seed"]), step)
    collected = [
        collect(state.params, sharding.global_batch(batches[step + i], mesh), step + i, key)
        for i in range(config["codebook"]["kmeans_batches"])
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


@contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Yields a function of the step that says whether the run was asked to stop (SIGTERM).

    With several hosts all of them get the same answer at the same step, through the preemption
    service of `jax.distributed`.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    asked = False

    def note(signum: int, frame: Any) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: asked
    finally:
        signal.signal(signal.SIGTERM, before)
