"""The smoke test as someone runs it on a new machine."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_every_part_of_training_works_in_one_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "scripts/smoke.py", str(tmp_path / "smoke")],
        cwd=REPOSITORY,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("stage1", "stage2", "stage3"):
        assert f"{stage}: step 20" in done.stdout
    assert "a .glc file of" in done.stdout
    assert "Everything works on" in done.stdout
    assert "WARNING:absl" not in done.stderr
