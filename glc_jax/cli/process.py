"""What holds for the whole process: signals, JAX's settings, the codec that is kept."""

from __future__ import annotations

import argparse
import functools
import glob
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from glc_jax.cli import cache
from glc_jax.errors import ConfigError

if TYPE_CHECKING:
    from glc_jax.codec import Codec
    from glc_jax.weights import Weights

signals: list[int] = []
"""The signals that came: code that an exception passes through may swallow or change it."""

_loading = threading.Lock()


def interrupt(number: int, frame: object) -> NoReturn:
    """Handles a signal."""
    signals.append(number)
    raise KeyboardInterrupt


def prepare_jax(device: str | None = None) -> None:
    """Settings that JAX reads from the environment when it is imported; the user's own stay.

    Args:
      device: "cpu", "gpu" or "tpu"; None for the best that JAX finds.

    Raises:
      ConfigError: this JAX cannot use such a device.
    """
    # A short-lived process has no use for most of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device is not None:
        os.environ["JAX_PLATFORMS"] = _platforms(device)
    elif "JAX_PLATFORMS" not in os.environ and _has("libtpu") and not _tpu_is_there():
        # Where libtpu finds no TPU it says so in eight lines, unless it is not asked.
        os.environ["JAX_PLATFORMS"] = _platforms("gpu") if _gpu_is_there() else "cpu"
    cache.prepare()


def _platforms(device: str) -> str:
    """JAX's names of the platforms that make up a device's."""
    if device == "cpu":
        return "cpu"
    if device == "tpu":
        if not _has("libtpu"):
            raise ConfigError("this JAX cannot use a TPU; pip install 'jax[tpu]'.")
        return "tpu,cpu"
    for platform, plugins in _GPU_PLUGINS.items():
        if any(map(_has, plugins)):
            return f"{platform},cpu"
    raise ConfigError("this JAX cannot use a GPU; pip install 'jax[cuda12]'.")


_GPU_PLUGINS = {
    "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin"),
    "rocm": ("jax_rocm7_plugin", "jax_rocm60_plugin"),
}


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _tpu_is_there() -> bool:
    return bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))


def _gpu_is_there() -> bool:
    there = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/kfd")
    return there and any(map(_has, (name for names in _GPU_PLUGINS.values() for name in names)))


def finish() -> None:
    """Waits for what is still being written for the next process, unless a signal came."""
    if "glc_jax.engines" in sys.modules and not signals:
        from glc_jax import engines

        engines.finish()


def prepare_numpy() -> None:
    """One thread for NumPy's products, before it is imported; the user's own settings stay.

    Those of a single look are small, and OpenBLAS's threads wait by turning: on two busy
    processors a preview took eight times the processor time with two threads.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@functools.lru_cache(maxsize=2)
def load_weights(path: Path) -> Weights:
    """A weights file, kept for the next picture; raises WeightsError where it is damaged."""
    from glc_jax import weights

    return weights.load(path)


def load_codec(
    path: Path,
    max_memory: int | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    **companions: Path,
) -> Codec:
    """The codec of a weights file.

    It is loaded when the first input has turned out to be usable, and kept for the others.
    companions: "restorer" or "stylist", as `codec.load` takes them.

    Raises:
      InputError: a plugin cannot be imported.
      WeightsError: the file is damaged.
      ConfigError: there is no such device.
    """
    with _loading:  # the threads that read pictures ask for it as well
        return _load(path, max_memory, device, tuple(plugins), **companions)


def load_for(options: argparse.Namespace, path: Path, **companions: Path) -> Codec:
    """The same, as the options of a command have it."""
    return load_codec(path, options.max_memory, options.device, options.plugins, **companions)


@functools.lru_cache(maxsize=2)
def _load(
    path: Path,
    max_memory: int | None,
    device: str | None,
    plugins: tuple[str, ...],
    **companions: Path,
) -> Codec:
    prepare_jax(device)
    import jax

    from glc_jax import codec

    try:
        jax.devices()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        asked = device or os.environ.get("JAX_PLATFORMS", "any")
        raise ConfigError(f"JAX finds no device of the kind {asked!r} ({reason}).") from error
    return codec.load(path, max_memory, plugins, **companions)
