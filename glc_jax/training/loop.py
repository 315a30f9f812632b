"""The training run: batches in, steps, and everything that happens between them."""

import dataclasses
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from glc_jax.data import address
from glc_jax.data.pipeline import Batches
from glc_jax.training import checkpoints, config, inputs, networks, sharding, watch
from glc_jax.training.boards import Boards, open_boards
from glc_jax.training.evaluators import Evaluators
from glc_jax.training.kmeans_start import initialise_codebooks
from glc_jax.training.parts import Parts, assemble
from glc_jax.training.profile import Profiler
from glc_jax.training.programs import program_flops
from glc_jax.training.running import Running
from glc_jax.training.start import check_resumable, starting_state
from glc_jax.training.state import TrainState
from glc_jax.training.step import make_train_step

logger = logging.getLogger(__name__)


def train(given: Mapping[str, Any] | config.Config, workdir: epath.PathLike) -> TrainState:
    """Train as the config says, resuming what `workdir` holds; returns the last state.

    Stops early, with a checkpoint, on SIGTERM. Raises subclasses of `GLCError`: before anything
    is compiled for a mistake in the config, the data or the machine; later `running.Diverged`.
    """
    parts = assemble(given if isinstance(given, config.Config) else config.read(given))
    fields = parts.config
    address.check(workdir, fields.init_from, fields.data.folder, fields.eval.folder)
    workdir = epath.Path(workdir)
    check_resumable(parts, workdir)
    mesh = sharding.make_mesh(fields.mesh.model, fields.batch, fields.accumulate)
    frozen = networks.load(parts.networks)
    batches = inputs.open_batches(fields, sharding.data_shard(mesh), parts.stage.beside)
    frozen = jax.device_put(frozen, sharding.replicated(mesh))
    evaluators = Evaluators(parts, mesh)
    workdir.mkdir(parents=True, exist_ok=True)

    first = jax.process_index() == 0
    boards = open_boards(fields, workdir) if first else Boards()
    kept = checkpoints.Checkpoints(workdir, fields.checkpoint.keep, fields.checkpoint.best)
    try:
        state = starting_state(parts, mesh, kept)
        notes = kept.notes(int(state.step)) if int(state.step) else {}
        batches.resume(notes)
        if first:
            checkpoints.write_config(workdir, fields)
        run = Run(
            parts=parts,
            mesh=mesh,
            frozen=frozen,
            batches=batches,
            evaluators=evaluators,
            kept=kept,
            boards=boards,
            ledger=watch.Ledger(notes),
            profiler=Profiler(fields.profile, workdir),
            watchdog=watch.Watchdog(60 * fields.watchdog_minutes),
        )
        with stop_requests() as stop_requested:
            return run(state, stop_requested)
    finally:
        kept.close()
        boards.close()


@dataclasses.dataclass(frozen=True)
class Run:
    """A run ready to go: everything that the main loop uses."""

    parts: Parts
    mesh: jax.sharding.Mesh
    frozen: Mapping[str, Any]
    batches: Batches
    evaluators: Evaluators
    kept: checkpoints.Checkpoints
    boards: Boards
    ledger: watch.Ledger
    profiler: Profiler
    watchdog: watch.Watchdog

    def __call__(self, state: TrainState, stop_requested: Callable[[int], bool]) -> TrainState:
        """The main loop, from the state's step to the last."""
        fields, ledger, running = self.parts.config, self.ledger, Running()
        step, steps = int(state.step), fields.steps
        everywhere = sharding.replicated(self.mesh)
        rng = jax.jit(lambda: jax.random.key(fields.seed), out_shardings=everywhere)()
        incoming = prefetch(self.batches.iterate(step), self.mesh)
        train_step: Any = None
        try:
            while step < steps:
                self.watchdog.beat()
                if step == fields.codebook.kmeans_step:
                    state = initialise_codebooks(self.parts, self.mesh, state, self.batches)
                with ledger.spent("waiting"):
                    batch = next(incoming)
                if train_step is None:
                    with ledger.spent("compiling"):
                        train_step, flops = self.compile(state, batch, rng)
                self.profiler.before(step)
                state, metrics = train_step(state, batch, rng, self.frozen)
                step, ledger.steps = step + 1, ledger.steps + 1
                running.add(step, metrics)
                self.profiler.after(step, metrics)

                last, stopping = step == steps, stop_requested(step)
                at_end = last or stopping
                log = is_due(step, fields.log_every, at_end)
                evaluate = is_due(step, fields.eval.every, last) and self.evaluators
                save = is_due(step, fields.checkpoint.every, at_end) or at_end
                if not (log or evaluate or save):
                    continue
                means = running.means()  # waits for the steps under way; ends the run if one is bad
                if log:
                    self.log(step, means, flops, state)
                    running.clear()
                measured = None
                if evaluate:
                    with ledger.spent("evaluating"):
                        measured = self.evaluators(state, step, self.boards)
                if save:
                    with ledger.spent("saving"):
                        self.save(state, measured)
                if stopping and not last:
                    logger.info("Asked to stop: saved step %d", step)
                    return state
            logger.info("Finished: step %d", step)  # scripts/pod.sh waits for this line
        finally:
            self.profiler.stop()
            self.watchdog.stop()
        return state

    def compile(self, state: TrainState, batch: Any, rng: jax.Array) -> tuple[Any, float]:
        """The compiled train step, and its operations on each device."""
        fields = self.parts.config.mesh
        shardings = sharding.state_shardings(state, self.mesh, fields.shard_from)
        step = sharding.jit_step(make_train_step(self.parts), self.mesh, shardings)
        compiled = step.lower(state, batch, rng, self.frozen).compile()
        return compiled, program_flops(compiled)

    def save(self, state: TrainState, measured: Mapping[str, float] | None) -> None:
        """A checkpoint, with what all hosts skipped and where the time went."""
        skipped = self.batches.skipped
        skipped.resume(sharding.union(skipped.indices()))
        self.kept.save(state, measured, {**self.ledger.notes(), **self.batches.notes()})

    def log(self, step: int, means: Mapping[str, float], flops: float, state: TrainState) -> None:
        """A line in the log, and everything on the boards."""
        fields, skipped = self.parts.config, len(self.batches.skipped)
        speed = self.ledger.read(fields.batch, flops)
        shown = {**means, **({"skipped": skipped} if skipped else {})}
        logger.info("%s", watch.progress_line(step, fields.steps, speed, shown))
        self.boards.scalars(step, "train", {**means, **speed, "skipped": skipped})
        self.boards.code_use(step, jax.device_get(state.code_use))


def prefetch(batches: Iterator[Any], mesh: jax.sharding.Mesh) -> Iterator[dict[str, jax.Array]]:
    """The batches on the devices, each one's copy begun while the one before is used."""
    ahead = None
    for local in batches:
        batch, ahead = ahead, sharding.global_batch(local, mesh)
        if batch is not None:
            yield batch


def is_due(step: int, interval: int, at_end: bool) -> bool:
    """Whether what happens every `interval` steps, and at the end, happens now; 0 is never."""
    return interval > 0 and (at_end or step % interval == 0)


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
