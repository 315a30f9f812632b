"""Trains, exports and codes in minutes: python scripts/smoke.py WORKDIR [--distributed].

20 steps of each stage of configs/smoke.py on pictures made in memory, a weights file, and a .glc
file written and read. Ends with what each part took, and with 1 where one failed. WORKDIR may be
in a bucket; what lies there of an earlier smoke test is gone on with.
"""

import argparse
import os
import pathlib
import runpy
import sys
import tempfile
import time

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs" / "smoke.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", help="a folder or an address such as gs://bucket/smoke")
    parser.add_argument("--distributed", action="store_true", help="join the other hosts of a pod")
    arguments = parser.parse_args()

    # Nearly all of the time goes into compiling, which is quicker without much optimisation.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0".strip()
    import jax

    if arguments.distributed:
        jax.distributed.initialize()
    from absl import logging
    from etils import epath

    from glc_jax.errors import GLCError

    logging.set_verbosity(logging.ERROR)  # Orbax warns of what it was asked for
    began = time.perf_counter()
    workdir = epath.Path(arguments.workdir)
    try:
        for stage, before in (("stage1", ""), ("stage2", "stage1"), ("stage3", "stage2")):
            if not train(stage, workdir, str(workdir / before) if before else ""):
                print("Asked to stop; the same command goes on.")
                return 0
        if jax.process_index() == 0:
            code(workdir / "stage3")
    except GLCError as error:
        print(error, file=sys.stderr)
        return 1
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    print(f"Everything works on {devices}: {time.perf_counter() - began:.0f} s")
    return 0


def train(stage: str, workdir, init_from: str) -> bool:
    """One stage, from the one before; whether it came to its end."""
    from glc_jax.training.loop import train

    began = time.perf_counter()
    config = runpy.run_path(str(CONFIG))["get_config"](stage)
    config.init_from = init_from
    state = train(config.to_dict(), workdir / stage)
    print(f"{stage}: step {int(state.step)}, {time.perf_counter() - began:.0f} s", flush=True)
    return int(state.step) == config.steps


def code(run) -> None:
    """A weights file of the run, and one of its pictures through a .glc file."""
    import numpy as np

    import glc_jax
    from glc_jax.data.sources import SyntheticSource
    from glc_jax.errors import InputError
    from glc_jax.training import inputs
    from glc_jax.training.config import read
    from glc_jax.training.export import export, mean_of

    began = time.perf_counter()
    config, params = mean_of([run])
    picture = SyntheticSource(1)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "smoke.safetensors"
        export(
            config,
            params,
            inputs.open_batches(read(config)),
            path,
            count=4,
            dtype="bfloat16",
            training_parts=False,
            provenance={"made_by": "scripts/smoke.py"},
        )
        codec = glc_jax.load(path)
        data = codec.compress(picture, 1.5)
        decoded = codec.decompress(data)
    if decoded.shape != picture.shape or codec.decompress(data).tobytes() != decoded.tobytes():
        raise InputError("The .glc file did not come back as one picture of the same size.")
    error = np.mean(np.abs(decoded.astype(float) - picture))
    print(
        f"export and a .glc file of {len(data)} bytes, mean error {error:.0f} of 255: "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
