"""The same files decode to the same integers in differently configured processes."""

import json
import os
import subprocess
import sys

import pytest

from tests import kept_files
from tests.conftest import REPOSITORY
from tests.entropy.decode_digests import containers, digest

FLAGS = [
    "--xla_cpu_max_isa=SSE4_2",  # an older processor: other vector widths, no fused multiply-add
    "--xla_cpu_enable_fast_math=true",
    "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0",
]


def digests(flags: str = "", cores: set[int] | None = None) -> dict[int, dict[str, list[str]]]:
    """What `decode_digests` prints in a process of its own, on the given cores, by version."""
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
    found = json.loads(done.stdout.splitlines()[-1])
    return {int(version): digests for version, digests in found.items()}


@pytest.fixture(scope="module")
def recorded():
    """By version what the files decoded to when they were written, and their payloads."""
    found = {}
    for version in kept_files.VERSIONS:
        files = kept_files.files(version)
        values = [digest(files[name][1]["y_hat"]) for name in kept_files.SAME_SIZE]
        found[version] = values, [digest(container.payload) for container in containers(version)]
    return found


def assert_recorded(found, recorded):
    assert set(found) == set(recorded)
    for version, (values, payloads) in recorded.items():
        assert found[version]["alone"] == values
        assert found[version]["batch"] == values
        assert found[version]["payloads"] == payloads
        assert found[version]["bytes"] == values[:1]
        assert found[version]["interpreted"] == values[:1]


@pytest.mark.slow
def test_flags_that_change_floats_do_not_change_what_a_file_means(recorded):
    plain = digests()
    assert_recorded(plain, recorded)
    floats = {plain[1]["float"][0]}
    for flags in FLAGS:
        found = digests(flags)
        assert_recorded(found, recorded)
        floats.add(found[1]["float"][0])
    # The flags do reach the arithmetic: the float networks notice.
    assert len(floats) > 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot pin to cores here")
def test_one_thread_as_many(recorded):
    assert_recorded(digests(cores={min(os.sched_getaffinity(0))}), recorded)
