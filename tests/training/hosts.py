"""Program: one process of a run of several, each with one virtual CPU device.

python -m tests.training.hosts PORT PROCESSES PROCESS WORKDIR CONFIG.json; writes nothing but what
training writes.
"""

import json
import pathlib
import sys

import jax


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
