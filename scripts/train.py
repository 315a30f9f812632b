"""Trains one stage: python scripts/train.py --config configs/tiny.py:stage1 --workdir DIR.

Any field of the config can be set: --config.batch=16 --config.data.folder=PHOTOS. Run again with
the same --workdir to resume. docs/training.md has the commands for each machine.
"""

import logging
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "FILE.py:STAGE, such as tiny.py:stage1.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder or address (gs://) for checkpoints and curves."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other hosts; on a TPU pod no further flag is needed."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes in all.")
_PROCESS = flags.DEFINE_integer("process", None, "The number of this process, from 0.")


def main(argv: list[str]) -> None:
    import jax

    from glc_jax.errors import GLCError
    from glc_jax.training.loop import train

    log_to_stdout()
    if _DISTRIBUTED.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    try:
        train(_CONFIG.value.to_dict(), _WORKDIR.value)
    except GLCError as error:
        fail(str(error))


def log_to_stdout() -> None:
    """glc_jax's own lines on stdout; of the libraries only what is wrong."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("glc_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)


def fail(sentence: str) -> None:
    """Print what is wrong and exit with 2."""
    print(sentence, file=sys.stderr)
    sys.exit(2)


def parse_flags(argv: list[str]) -> list[str]:
    """Flags as absl parses them, but a mistake is one sentence and exit code 2."""
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise ValueError(f"{rest[1]} is no flag.")
        if _CONFIG.value is None or _WORKDIR.value is None:
            raise ValueError("Give --config and --workdir.")
        _CONFIG.value.to_dict()  # where a file that could not be read is reported
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        fail(" ".join(str(error).split()))
    return rest


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
