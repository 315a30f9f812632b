"""scripts/mutants.py: its own list, and what it plants in a project of two functions and says."""

import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "mutants.py"

SOURCE = """def mean(values):
    return sum(values) / len(values)


def first(values):
    return values[0]


def last(values):
    return values[-1]
"""
TESTS = """import pytest
from toy import first, last, mean


def test_mean():
    assert mean([1, 3]) == 2


@pytest.mark.slow
def test_first():
    assert first("ab") == "a"


def test_last_of_one():
    assert last("a") == "a"
"""


def mutant(fault: str, text: str, replacement: str, test: str) -> str:
    fields = {"file": "toy.py", "fault": fault, "text": text, "with": replacement}
    fields["test"] = f"tests/test_toy.py::{test}"
    lines = [f"{name} = {value!r}" for name, value in fields.items()]
    return "\n[[mutant]]\n" + "\n".join(lines) + "\n"


FAULTS = (
    mutant("a sum", "sum(values) / len(values)", "sum(values)", "test_mean")
    + mutant("the second", "values[0]", "values[1]", "test_first")
    + mutant("of one it is the same", "values[-1]", "values[0]", "test_last_of_one")
    + mutant("a text that stands thrice", "(values):", "(value):", "test_mean")
    + mutant("no Python", "return values[0]", "return (", "test_first")
    + mutant(
        "for ever", "return sum(values)", "while True: pass\n    return sum(values)", "test_mean"
    )
)


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "tests").mkdir(parents=True)
    (root / "toy.py").write_text(SOURCE)
    (root / "tests" / "test_toy.py").write_text(TESTS)
    (root / "tests" / "mutants.toml").write_text(FAULTS)
    (root / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = slow: takes long\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def mutants(root: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), "--root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_each_fault_of_the_list_stands_in_the_code_once_and_names_tests():
    faults = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]
    stale, nameless = [], []
    for fault in faults:
        if (ROOT / fault["file"]).read_text().count(fault["text"]) != 1:
            stale.append(f"{fault['file']}: {fault['fault']}")
        for test in fault["test"].split():
            file, *names = test.split("[")[0].split("::")
            written = (ROOT / file).read_text()
            if not all(re.search(rf"(def|class) {name}\b", written) for name in names):
                nameless.append(test)
    assert (stale, nameless) == ([], [])


@pytest.mark.slow  # as the next: each imports JAX, and this one waits for a test without end
def test_each_fault_has_its_result_and_the_code_is_as_it_was(project):
    done = mutants(project, "-j", "2", "--limit", "15")
    found = dict(
        reversed(line.split(" ", 1)) for line in done.stdout.splitlines() if " toy.py: " in line
    )
    assert {name.strip().removeprefix("toy.py: "): result for name, result in found.items()} == {
        "a sum": "caught",
        "the second": "caught",
        "of one it is the same": "survived",
        "a text that stands thrice": "stale",
        "no Python": "broken",
        "for ever": "broken",
    }
    assert done.returncode == 1
    assert "| all | 6 | 1 | 1 | 4 |" in done.stdout.splitlines()
    assert (project / "toy.py").read_text() == SOURCE
    chosen = mutants(project, "--only", "second")
    assert chosen.returncode == 0
    assert "| all | 1 | 0 | 1 | 0 |" in chosen.stdout.splitlines()


@pytest.mark.slow
def test_what_cannot_be_run_is_a_sentence(project):
    done = mutants(project, "--only", "no such fault")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mutants: no fault has 'no such fault'")
    (project / "toy.py").write_text(SOURCE.replace("/ len(values)", ""))
    failing = mutants(project, "--only", "a sum")
    assert failing.returncode == 2
    assert failing.stderr.startswith("mutants: without any fault the tests do not pass")
    shutil.copy(project / "toy.py", project / "tests" / "mutants.toml")
    assert mutants(project).returncode == 2
