"""GLC, the generative latent image codec (CVPR 2024), in JAX and Flax.

    codec = glc_jax.load("tiny")
    data = codec.compress(image, rate=1.5)
    image = codec.decompress(data)

Importing this package registers the .glc format with Pillow and does nothing else: JAX is imported
by the first use of `load` or `Codec`, so that `PIL.Image.open` and the command line start at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from glc_jax import pillow_plugin
from glc_jax.errors import GLCError

if TYPE_CHECKING:
    from glc_jax.codec import Codec, load

__all__ = ["Codec", "GLCError", "load"]

pillow_plugin.register()


def __getattr__(name: str) -> Any:
    if name in ("Codec", "load"):
        return getattr(importlib.import_module("glc_jax.codec"), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("glc-jax")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
