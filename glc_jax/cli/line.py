"""The files of a command on their way: read ahead, coded one after another, written beside it.

Reading, drawing PNGs and writing take threads; the model runs in the main one, in the order of the
files, so what is reported has that order too.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from glc_jax.cli import jobs, messages, process, streams
from glc_jax.cli.jobs import STDIO, Job, UsageError
from glc_jax.errors import ConfigError, GLCError, OutputError, WeightsError

if TYPE_CHECKING:
    from concurrent import futures


class Steps(NamedTuple):
    """What is done to one file. The first and the last run in threads.

    read: gives what `code` takes. code: gives what `write` takes, the facts to report and the
    sentence that a person reads of them.
    """

    read: Callable[[Job], Any]
    code: Callable[[Job, Any], tuple[Any, dict[str, Any], str]]
    write: Callable[[Job, Any], None]


def work(options: argparse.Namespace, steps: Steps, **plan: Any) -> int:
    """Does every job that can be done, and reports each; the exit status tells whether all were.

    plan: what `jobs.plan` is to know beside the inputs, the output and --force.
    """
    todo, errors, failed, skipped = jobs.plan(
        options.inputs, options.output, existing=options.existing, **plan
    )
    total = len(todo) + failed
    for error in errors:
        messages.complain(str(error))
    if options.json and any(job.target == STDIO for job in todo):
        raise UsageError("--json and the file itself cannot both go to standard output.")
    if todo:
        with messages.bar(messages.label([job.source for job in todo]), len(todo)) as update:
            failed += _Line(steps, options, update).run(todo)
    if skipped and not options.quiet:
        messages.complain(
            f"{skipped} left out, since {'its' if skipped == 1 else 'their'} output exists."
        )
    if failed and total > 1:
        messages.complain(f"{failed} of {total} failed.")
    return int(failed > 0)


class _Line:
    """The files on their way: some are read ahead, one is coded, some are being written."""

    def __init__(self, steps: Steps, options: argparse.Namespace, update: Callable) -> None:
        self._steps, self._options, self._update = steps, options, update
        self._failed = 0
        self._writing: list[tuple[Job, futures.Future, dict[str, Any], str, float]] = []
        self._readers: futures.ThreadPoolExecutor | None = None
        self._writers: futures.ThreadPoolExecutor | None = None

    def run(self, todo: list[Job]) -> int:
        """How many failed."""
        from concurrent import futures

        ahead = self._options.jobs
        if len(todo) > 1:
            self._readers = futures.ThreadPoolExecutor(ahead)
            self._writers = futures.ThreadPoolExecutor(ahead)
        reading: dict[int, futures.Future | None] = {}
        try:
            for i, job in enumerate(todo):
                for k in range(i, min(i + 1 + ahead, len(todo))):
                    if k not in reading:
                        reading[k] = self._start(self._readers, self._read, todo[k])
                start = time.perf_counter()
                made = self._attempt(job, reading[i].result)
                reading[i] = None  # a picture is kept no longer than it is needed
                if made is not None:
                    made = self._attempt(job, functools.partial(self._steps.code, job, made))
                if made is not None:
                    output, found, sentence = made
                    future = self._start(self._writers, self._steps.write, job, output)
                    self._writing.append((job, future, found, sentence, start))
                    made = output = None
                self._finish(ahead if i + 1 < len(todo) else 0)
                if process.signals:
                    raise KeyboardInterrupt
        finally:
            if self._readers is not None:
                # One may wait for a pipe for ever. What is made already is still written.
                self._readers.shutdown(wait=False, cancel_futures=True)
                self._writers.shutdown()
        return self._failed

    def _start(
        self, pool: futures.ThreadPoolExecutor | None, step: Callable, *arguments: Any
    ) -> futures.Future:
        """Runs a step in a thread; of a single file here, so that an interrupt reaches it."""
        from concurrent import futures

        if pool is not None:
            return pool.submit(step, *arguments)
        done: futures.Future = futures.Future()
        try:
            done.set_result(step(*arguments))
        except BaseException as error:
            done.set_exception(error)
        return done

    def _read(self, job: Job) -> Any:
        job.check()
        return self._steps.read(job)

    def _attempt(self, job: Job, step: Callable[[], Any]) -> Any:
        """What reading or coding gives; None after an error that concerns this file alone."""
        try:
            return step()
        except (GLCError, MemoryError, RuntimeError) as error:
            self._finish(0)  # reports come in the order of the files
            self._fail(job, error)
            return None

    def _finish(self, left: int) -> None:
        """Reports what has been written, and waits until no more than `left` are being."""
        while len(self._writing) > left:
            job, future, found, sentence, start = self._writing.pop(0)
            try:
                future.result()
            except (GLCError, MemoryError, RuntimeError) as error:
                self._fail(job, error)
                continue
            self._update(advance=1)
            seconds = time.perf_counter() - start
            if self._options.json:
                names = {"source": job.source, "target": job.target}
                streams.show(json.dumps({**names, **found, "seconds": round(seconds, 3)}))
            elif not self._options.quiet:
                messages.tell(f"{job.source} -> {job.target}: {sentence}, {seconds:.1f} s")

    def _fail(self, job: Job, error: Exception) -> None:
        if process.signals:
            raise KeyboardInterrupt from error
        if isinstance(error, GLCError):
            # Some say themselves what they are about, and some are about no file.
            whole = isinstance(error, (OutputError, WeightsError, ConfigError))
            named = whole or str(error).startswith((job.source, "standard input"))
            messages.complain(str(error) if named else f"{job.source}: {error}")
        elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            messages.complain(f"{job.source}: the picture is too large for this machine's memory.")
        else:
            raise error
        self._failed += 1
        self._update(advance=1)
