"""The frozen networks that losses and measures look through, by name."""

from collections.abc import Iterable
from typing import Any

from glc_jax.errors import ConfigError
from glc_jax.metrics import dists, lpips_weights

LPIPS = "lpips_"  # and then lpips_weights' name of the network


def load(names: Iterable[str]) -> dict[str, Any]:
    """The weights of "lpips_alex", "lpips_vgg" and "dists", as many as are asked for.

    Raises `WeightsError` where they are not installed and `ConfigError` for other names.
    """
    return {name: _load(name) for name in sorted(set(names))}


def _load(name: str) -> Any:
    if name == "dists":
        return dists.load()
    if name.startswith(LPIPS):
        return lpips_weights.load(name.removeprefix(LPIPS))
    raise ConfigError(f"There is no network {name!r}: lpips_alex, lpips_vgg or dists.")
