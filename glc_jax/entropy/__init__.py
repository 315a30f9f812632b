"""From parameters to probabilities to bytes: differentiable in training, exact in files.

    family     distributions by name: bits for training, integer tables for the coder
    quantiser  rounding and its differentiable stand-ins, by name
    RangeEncoder, RangeDecoder    symbols <-> bytes, over integer frequencies

It stands alone: nothing of the codec is needed, and neither Flax nor Optax. Importing it takes a
moment; JAX is imported by the first use of what needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glc_jax.entropy.bounds import lower_bound, upper_bound
    from glc_jax.entropy.families import Family, family
    from glc_jax.entropy.quantize import Moment, Quantised
    from glc_jax.entropy.quantize import from_config as quantiser
    from glc_jax.entropy.range_coder import RangeDecoder, RangeEncoder

_HOMES = {
    "Family": "families",
    "Moment": "quantize",
    "Quantised": "quantize",
    "RangeDecoder": "range_coder",
    "RangeEncoder": "range_coder",
    "family": "families",
    "lower_bound": "bounds",
    "quantiser": "quantize",
    "upper_bound": "bounds",
}

__all__ = [
    "Family",
    "Moment",
    "Quantised",
    "RangeDecoder",
    "RangeEncoder",
    "family",
    "lower_bound",
    "quantiser",
    "upper_bound",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, "from_config" if name == "quantiser" else name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
