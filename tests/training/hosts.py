"""Program: one process of a run of several, each with some virtual CPU devices.

python -m tests.training.hosts PORT PROCESSES PROCESS WORKDIR CONFIG.json; writes nothing but what
training writes. `start` and `finish` are for those who run it.
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import portpicker

from tests.conftest import IN_HASTE, REPOSITORY

DEADLINE = 600


def start(
    config_file: pathlib.Path, workdir: pathlib.Path, processes: int, devices: int = 1
) -> list[subprocess.Popen]:
    """The processes of one run, just started; each has so many devices."""
    port = portpicker.pick_unused_port()
    flags = f"{IN_HASTE} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.training.hosts", str(port), str(processes)]
    return [
        subprocess.Popen(
            [*command, str(process), str(workdir), str(config_file)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(processes)
    ]


def finish(run: list[subprocess.Popen]) -> None:
    """Wait for all processes; each must have reached the last step."""
    for process in run:
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, output[-3000:]
        assert "finished at step 8" in output


def main(port: str, processes: str, process: str, workdir: str, config: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if int(processes) > 1:
        jax.distributed.initialize(f"localhost:{port}", int(processes), int(process))
    from glc_jax.training.loop import train

    fields = json.loads(pathlib.Path(config).read_text())
    state = train(fields, pathlib.Path(workdir))
    print(f"finished at step {int(state.step)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
