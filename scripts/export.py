"""A training run as a weights file: python scripts/export.py WORKDIR -o weights.safetensors.

Takes the averaged parameters of the newest checkpoint, makes the entropy model exact with
pictures of the run's own data, and writes what `glc --weights` and `glc_jax.load` read. Of several
runs, each begun from the one before (`init_from`), it writes the mean.

A weights file in place of a run is made exact anew, with the pictures of --data.

Of a run of the stage "restore" it writes the restorer, a companion of the weights that the run
began with (`init_from`, or --base).
"""

import argparse
import pathlib
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="WORKDIR",
        help="a folder or address that train.py wrote, or a weights file; of several the mean",
    )
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="weights file")
    parser.add_argument(
        "-f", "--force", action="store_true", help="replace a file that is no weights file"
    )
    parser.add_argument("--step", type=int, help="checkpoint of each (default: the newest)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument(
        "--data", help="pictures to calibrate with (default: the last run's own data)"
    )
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        metavar="RATE",
        help="rates of the run that become the points 0, 1, ... (default: the trained points)",
    )
    parser.add_argument(
        "--base",
        help="the weights, file or name, that a restorer stands on (default: init_from)",
    )
    parser.add_argument(
        "--base-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of a restorer: how much of its parameters is the base's own, 0 (default) to below 1",
    )
    parser.add_argument("--batches", type=int, default=32, help="of calibration pictures")
    parser.add_argument(
        "--kernel-bits",
        type=int,
        choices=[8, 16],
        help="of the weights of the integer entropy networks (default: 8, unless that costs 0.2 %% "
        "more bits than the float model)",
    )
    parser.add_argument(
        "--training-parts", action="store_true", help="keep the code predictors too"
    )
    arguments = parser.parse_args()

    from absl import logging

    from glc_jax import weights
    from glc_jax.errors import ConfigError, GLCError
    from glc_jax.training import inputs
    from glc_jax.training.config import read
    from glc_jax.training.export import at_rates, base_of, export, export_part, mean_of
    from glc_jax.training.stage_choices import open_stage

    logging.set_verbosity(logging.ERROR)  # Orbax warns of what it was asked for
    try:
        weights.check_output(arguments.output, arguments.sources, arguments.force)
        config, params = mean_of(arguments.sources, arguments.step)
        provenance = {"made_by": "scripts/export.py", "stage": config["stage"]}
        part = open_stage(read(config)).part
        if part:
            written = export_part(
                config,
                params,
                part,
                arguments.base or base_of(config),
                arguments.output,
                dtype=arguments.dtype,
                provenance=provenance,
                base_share=arguments.base_share,
            )
            print(_sentence(arguments.output, written))
            return 0
        if arguments.data:
            config["data"]["folder"] = arguments.data
        elif not (config["data"]["folder"] or config["data"]["tfds"]["name"]):
            raise ConfigError("A weights file names no pictures to calibrate with; --data does.")
        if arguments.rates:
            config, params = at_rates(config, params, arguments.rates)
        written = export(
            config,
            params,
            inputs.open_batches(read(config)),
            arguments.output,
            count=arguments.batches,
            dtype=arguments.dtype,
            training_parts=arguments.training_parts,
            provenance=provenance,
            kernel_bits=arguments.kernel_bits,
        )
    except GLCError as error:
        print(error, file=sys.stderr)
        return 2
    print(_sentence(arguments.output, written))
    return 0


def _sentence(path, written) -> str:
    return f"{path}: {written.parameters:,} parameters, {written.file_bytes:,} bytes"


if __name__ == "__main__":
    sys.exit(main())
