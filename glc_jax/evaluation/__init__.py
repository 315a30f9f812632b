"""Measuring codecs with real files, and the report: `run` does all of it.

datasets     the pictures, and what a data set's name promises; degradations of them
methods      the codecs under test: GLC, and Pillow's encoders at matched sizes
quality      the metrics of pairs and of sets
store        what is done already, so that a run can be continued
results      averages, BD-rates, results.json, items.csv
published    the paper's curves
curves       rd_*.png
page         index.html
bench        measuring one picture after another
runner       `run`
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glc_jax.evaluation.runner import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name == "run":  # JAX is imported only when something is measured
        return importlib.import_module("glc_jax.evaluation.runner").run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
