"""scripts/pod.sh against a stand-in for gcloud that preempts the slice once."""

import os
import pathlib
import subprocess

import pytest

from tests.conftest import REPOSITORY

TRAIN = ("--config", "configs/natural.py:stage1", "--workdir", "gs://b/run", "--config.x=(0.5, 1)")


@pytest.fixture
def place(tmp_path) -> pathlib.Path:
    """The stand-in's folder, with the stand-in first on the path."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").symlink_to(pathlib.Path(__file__).parent / "gcloud")
    return tmp_path


def pod(place: pathlib.Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    fields = {"REPOSITORY": "https://example.org/glc_jax", "COMMIT": "abc123", "POLL": "0"}
    return subprocess.run(
        ["bash", "scripts/pod.sh", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path, "GCLOUD": str(place), **fields, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def calls(place: pathlib.Path) -> list[str]:
    file = place / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_a_preempted_run_is_started_again_until_it_has_ended(place):
    done = pod(place, "up", "glc", "--", *TRAIN)
    assert done.returncode == 0, done.stderr
    assert "The run has ended." in done.stdout
    made = [call for call in calls(place) if "queued-resources create" in call]
    assert len(made) == 2
    assert "--accelerator-type=v4-32" in made[0]
    assert "--spot" in made[0]
    assert sum("queued-resources delete" in call for call in calls(place)) == 1
    started = [call for call in calls(place) if "train.py" in call]
    assert len(started) == 2
    assert started[0] == started[1]
    assert "--worker=all" in started[0]
    assert r"--distributed --config configs/natural.py:stage1 --workdir gs://b/run" in started[0]
    assert r"--config.x=\(0.5\,\ 1\)" in started[0]  # as the worker's shell will read it
    installed = [call for call in calls(place) if "pip install" in call]
    assert len(installed) == 2
    assert "git checkout -q abc123" in installed[0]


def test_a_mistake_is_not_tried_again(place):
    (place / "mistake").touch()
    done = pod(place, "up", "glc", "--", *TRAIN)
    assert done.returncode == 1
    assert "no field" in done.stdout
    assert "mistake" in done.stderr
    assert sum("train.py" in call for call in calls(place)) == 1


def test_a_dry_run_prints_the_commands_and_runs_none(place):
    done = pod(place, "--dry-run", "up", "glc", "--", *TRAIN, SPOT="0", ZONE="here", TYPE="v5e-64")
    assert done.returncode == 0, done.stderr
    assert calls(place) == []
    lines = [line for line in done.stdout.splitlines() if line.startswith("+ gcloud")]
    assert len(lines) == 3
    assert "--zone=here" in lines[0]
    assert "--accelerator-type=v5e-64" in lines[0]
    assert "--spot" not in lines[0]


def test_down_deletes_and_a_wrong_word_explains(place):
    assert pod(place, "down", "glc").returncode == 0
    assert calls(place) == [
        "compute tpus queued-resources delete glc --zone=us-central2-b --force --quiet"
    ]
    done = pod(place, "sideways")
    assert done.returncode == 2
    assert "scripts/pod.sh up NAME" in done.stderr
