"""The same files decode to the same integers in differently configured processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.entropy.decode_digests import FOLDER, NAMES, digest

FLAGS = [
    "--xla_cpu_max_isa=SSE4_2",  # an older processor: other vector widths, no fused multiply-add
    "--xla_cpu_enable_fast_math=true",
    "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0",
]


def digests(flags: str = "", cores: set[int] | None = None) -> dict[str, list[str]]:
    """What `decode_digests` prints in a process of its own, on the given cores."""
    before = os.sched_getaffinity(0) if cores else None
    if cores:
        os.sched_setaffinity(0, cores)  # of this thread, whose processes inherit it
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.entropy.decode_digests"],
            cwd=REPOSITORY,
            env=os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if before:
            os.sched_setaffinity(0, before)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def recorded():
    """What the files decoded to when they were written."""
    return [digest(np.load(FOLDER / f"{name}.npz")["y_hat"]) for name in NAMES]


def assert_recorded(found, recorded):
    assert found["alone"] == recorded
    assert found["batch"] == recorded
    assert found["bytes"] == recorded[:1]
    assert found["interpreted"] == recorded[:1]


@pytest.mark.slow
def test_flags_that_change_floats_do_not_change_what_a_file_means(recorded):
    plain = digests()
    assert_recorded(plain, recorded)
    floats = {plain["float"][0]}
    for flags in FLAGS:
        found = digests(flags)
        assert_recorded(found, recorded)
        floats.add(found["float"][0])
    # The flags do reach the arithmetic: the float networks notice.
    assert len(floats) > 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot pin to cores here")
def test_one_thread_as_many(recorded):
    assert_recorded(digests(cores={min(os.sched_getaffinity(0))}), recorded)
