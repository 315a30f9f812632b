"""`glc convert`: the converter of PyTorch checkpoints, which is no part of the library.

It is `python -m conversion` of a clone, and lies in `glc_jax.conversion` once it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

NAME = "glc_jax.conversion"


def convert(arguments: Sequence[str]) -> int:
    """`glc convert`; takes what follows that word on the command line."""
    import glc_jax
    from glc_jax.cli import process

    if importlib.util.find_spec(NAME) is None:  # a clone, where it lies beside glc_jax
        glc_jax.__path__.append(str(Path(glc_jax.__file__).parents[1]))
    process.prepare_jax()
    return importlib.import_module(f"{NAME}.__main__").main(list(arguments), prog="glc convert")
