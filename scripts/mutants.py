"""Plants faults in a copy of the code, one at a time, and says which the tests do not catch.

    python scripts/mutants.py                   all of tests/mutants.toml (half an hour and more)
    python scripts/mutants.py --only entropy    those whose file or fault has this in it
    python scripts/mutants.py -j 4              four at once

A fault is an entry of the list:

    [[mutant]]
    file = "glc_jax/losses/pixel.py"
    fault = "a sum instead of a mean"
    text = "return jnp.mean(jnp.abs(difference), axis=(1, 2, 3))"
    with = "return jnp.sum(jnp.abs(difference), axis=(1, 2, 3))"
    test = "tests/losses/test_pixel.py::test_means_of_each_image"

`text` must stand in the file exactly once, or the entry is stale. Only the named test runs, or
several with spaces between: whoever adds an entry says what is to catch it. First all of them run
without any fault, since a test that fails anyway catches nothing (--unchecked leaves that out).
Exit status: 0 every fault was caught, 1 some were not, 2 wrong usage.

Tools that make mutants by rules (mutmut, cosmic-ray) change one operator at a time and run every
test that reaches it; with a compilation in most tests that takes days, and faults such as a mean
over the wrong axes are not among theirs.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import importlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from typing import NoReturn

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIELDS = ("file", "fault", "text", "with", "test")
QUICK = ("-m", "not slow")
CAUGHT, SURVIVED, STALE, BROKEN = "caught", "survived", "stale", "broken"
RESULTS = {0: SURVIVED, 1: CAUGHT}  # of pytest's exit status


class MutantsError(Exception):
    """What the user can do something about, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One fault; see the module for its fields."""

    file: str
    fault: str
    text: str
    replacement: str
    test: str

    @property
    def tests(self) -> tuple[str, ...]:
        """The arguments that name its tests to pytest."""
        return tuple(self.test.split())

    def plant(self, folder: pathlib.Path) -> str | None:
        """Writes the fault into a copy of the code: the file's text before, or None if stale."""
        path = folder / self.file
        before = path.read_text() if path.is_file() else ""
        if before.count(self.text) != 1:
            return None
        path.write_text(before.replace(self.text, self.replacement))
        return before


def read(path: pathlib.Path) -> list[Mutant]:
    """The list of faults; raises MutantsError where it is none."""
    try:
        entries = tomllib.loads(path.read_text())["mutant"]
        wrong = [entry for entry in entries if sorted(entry) != sorted(FIELDS)]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise MutantsError(f"{path}: is no list of mutants ({error}).") from error
    if wrong:
        raise MutantsError(f"{path}: an entry has {', '.join(FIELDS)}, not {', '.join(wrong[0])}.")
    return [Mutant(*(entry[name] for name in FIELDS)) for entry in entries]


@contextlib.contextmanager
def copy_of(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """A copy of the checkout: what git knows or would add, and the reference folder beside it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = pathlib.Path(place) / root.name
        for name in filter(None, names.split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        if (root.parent / "shared").is_dir():
            (folder.parent / "shared").symlink_to(root.parent / "shared")
        yield folder


def prepare() -> None:
    """Imports what most tests import, once: each run of tests is a fork of this process."""
    sys.dont_write_bytecode = True  # bytecode is matched by seconds and sizes of its source
    sys.path.insert(0, str(ROOT))
    try:
        importlib.import_module("tests.conftest")  # its settings of JAX's cache
    finally:
        sys.path.remove(str(ROOT))
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
    for name in ("jax", "flax.linen", "optax", "PIL.Image", "safetensors", "hypothesis", "pytest"):
        importlib.import_module(name)


class Run:
    """pytest in a process of its own, within a copy of the code.

    Attributes:
      status: pytest's exit status, 124 where the time was up; None while it runs.
    """

    def __init__(self, folder: pathlib.Path, arguments: Sequence[str], limit: float) -> None:
        self._log = tempfile.NamedTemporaryFile("w+", prefix="mutants-")  # noqa: SIM115
        self._deadline = time.monotonic() + limit
        self.status: int | None = None
        sys.stdout.flush()
        self._pid = os.fork()
        if not self._pid:
            self._within(folder, arguments)

    def _within(self, folder: pathlib.Path, arguments: Sequence[str]) -> NoReturn:
        """What the new process does."""
        status = 3
        try:
            os.setsid()  # so that what the tests start ends with them
            for stream in (1, 2):
                os.dup2(self._log.fileno(), stream)
            os.chdir(folder)
            os.environ["PYTHONPATH"] = str(folder)
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.path.insert(0, str(folder))
            import pytest

            options = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning"]
            status = int(pytest.main([*options, *arguments]))
            sys.stdout.flush()
        finally:
            os._exit(status)

    def poll(self) -> int | None:
        """The exit status, once there is one."""
        if self.status is None:
            pid, how = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(how)
            elif time.monotonic() > self._deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                self.status = 124
            if self.status is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
        return self.status

    def wait(self) -> int:
        """The exit status."""
        while self.poll() is None:
            time.sleep(0.02)
        return self.status

    @property
    def printed(self) -> str:
        """What the tests printed."""
        self._log.seek(0)
        return self._log.read()


def check_tests(folder: pathlib.Path, tests: Sequence[str], limit: float) -> None:
    """Raises MutantsError where the tests do not all pass without a fault."""
    run = Run(folder, tests, limit * max(1, len(tests)))
    if run.wait():
        raise MutantsError(f"without any fault the tests do not pass:\n{run.printed[-2000:]}")


def quick_tests(folder: pathlib.Path, tests: Sequence[str], limit: float) -> set[str]:
    """Of all named tests, those that are not slow, or not with all of their parameters."""
    run = Run(folder, ["--collect-only", *QUICK, *tests], limit * 4)
    if run.wait() not in (0, 5):
        raise MutantsError(f"the tests cannot be listed:\n{run.printed[-2000:]}")
    found = [line for line in run.printed.splitlines() if "::" in line]
    return {
        test
        for test in tests
        if any(line == test or line.startswith((f"{test}::", f"{test}[")) for line in found)
    }


def table(results: Sequence[tuple[Mutant, bool, str]]) -> str:
    """By package: planted, caught by a quick test, caught by a slow one, not caught."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for mutant, quick, result in results:
        parent = str(pathlib.PurePosixPath(mutant.file).parent)
        kind = result if result != CAUGHT else ("quick" if quick else "slow")
        for name in (parent, "all"):
            counts[name].update(["planted", kind])
    lines = ["| where | planted | caught by a quick test | by a slow one | not caught |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for name in [*sorted(counts.keys() - {"all"}), *(["all"] if counts else [])]:
        found = counts[name]
        missed = found["planted"] - found["quick"] - found["slow"]
        lines.append(
            f"| {name} | {found['planted']} | {found['quick']} | {found['slow']} | {missed} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="in the file's name or fault")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many at once (default: 1)")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one (default: 300)")
    parser.add_argument(
        "--unchecked", action="store_true", help="take it that the tests pass without a fault"
    )
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the tests' last lines")
    options = parser.parse_args(arguments)
    try:
        if options.jobs < 1:
            raise MutantsError("-j takes a number from 1 on.")
        mutants = read(options.root / "tests" / "mutants.toml")
        chosen = [m for m in mutants if options.only in m.file or options.only in m.fault]
        if not chosen:
            raise MutantsError(f"no fault has {options.only!r} in its file's name or words.")
        results = _run(chosen, options)
    except MutantsError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    print(table(results))
    return int(any(result != CAUGHT for _, _, result in results))


def _run(mutants: Sequence[Mutant], options: argparse.Namespace) -> list[tuple[Mutant, bool, str]]:
    results, waiting = [], list(reversed(mutants))
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(copy_of(options.root)) for _ in range(options.jobs)]
        prepare()
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        if not options.unchecked:
            check_tests(free[0], tests, options.limit)
        quick = quick_tests(free[0], tests, options.limit)
        running: list[tuple[Mutant, pathlib.Path, str, Run]] = []

        def tell(mutant: Mutant, result: str, printed: str) -> None:
            results.append((mutant, any(test in quick for test in mutant.tests), result))
            print(f"{result:8s} {mutant.file}: {mutant.fault}", flush=True)
            if result in (STALE, BROKEN) or options.verbose:
                print("    " + "\n    ".join(printed.splitlines()[-8:]), flush=True)

        while waiting or running:
            while waiting and free:
                mutant = waiting.pop()
                before = mutant.plant(free[-1])
                if before is None:
                    tell(mutant, STALE, f"its text is not in {mutant.file} exactly once")
                    continue
                folder = free.pop()
                only = QUICK if any(test in quick for test in mutant.tests) else ()
                run = Run(folder, [*only, *mutant.tests], options.limit)
                running.append((mutant, folder, before, run))
            time.sleep(0.02)
            for one in [one for one in running if one[-1].poll() is not None]:
                mutant, folder, before, run = one
                (folder / mutant.file).write_text(before)
                # 1: a test failed; below 0: it killed the process. A fault with which nothing can
                # be imported, or that takes for ever, is none that happens.
                result = CAUGHT if run.status < 0 else RESULTS.get(run.status, BROKEN)
                tell(mutant, result, run.printed)
                running.remove(one)
                free.append(folder)
    return results


if __name__ == "__main__":
    sys.exit(main())
