"""The weights of FID's Inception v3, from a file or an address that the user names.

They are published as `pt_inception-2015-12-05-6726825d.pth` with the package pytorch-fid and
under `weights-inception-2015-12-05-6726825d.pth` with torch-fidelity (one file, Apache-2.0), and
in no pip package; nothing is fetched unless an address is given.
"""

import hashlib
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from glc_jax import files
from glc_jax.errors import OutputError, WeightsError
from glc_jax.metrics import array_pickle, torch_state
from glc_jax.metrics.features import inception

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MAX_BYTES = 512 * 2**20
_TIMEOUT_SECONDS = 60


def load(source: str | os.PathLike, sha256: str = SHA256) -> dict[str, dict[str, np.ndarray]]:
    """The network's weights as `inception.features` takes them, NumPy float32.

    `source` is a path, or an http(s) address, whose file is then kept in the user's cache
    folder. `sha256` is that of the file, by default the published one's. A name that ends in
    .safetensors is read as such, anything else as a file of torch.save; either holds the
    published names.

    Raises WeightsError when the file cannot be had, is another one, or lacks a tensor.
    """
    if str(source).startswith(("http://", "https://")):
        path = _fetch(str(source), sha256)
    else:
        path = pathlib.Path(source).expanduser()
    data = array_pickle.verified_bytes(path, sha256)
    if path.suffix == ".safetensors":
        try:
            state = safetensors.numpy.load(data)
        except safetensors.SafetensorError as error:
            raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    else:
        state = torch_state.loads(data, str(path))
    return from_state(state, str(path))


def from_state(state: Mapping[str, np.ndarray], name: str) -> dict[str, dict[str, np.ndarray]]:
    """The weights from the published tensors, batch normalisation folded into the kernels.

    `name` is what messages call the file. Raises WeightsError for a tensor that is missing or
    of another shape.
    """

    def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key not in state or state[key].shape != shape:
            found = f"has shape {state[key].shape}" if key in state else "is missing"
            raise WeightsError(f"{name} is not FID's Inception v3: {key} {found}")
        return np.asarray(state[key], np.float64)

    weights = {}
    for layer, (height, width), inputs, outputs in inception.CONVOLUTIONS:
        kernel = tensor(f"{layer}.conv.weight", (outputs, inputs, height, width))
        gain, bias, mean, variance = (
            tensor(f"{layer}.bn.{part}", (outputs,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gain / np.sqrt(variance + inception.BATCH_NORM_EPSILON)
        weights[layer] = {
            "kernel": (kernel.transpose(2, 3, 1, 0) * gain).astype(np.float32),
            "bias": (bias - mean * gain).astype(np.float32),
        }
    return weights


def _fetch(url: str, sha256: str) -> pathlib.Path:
    """The cached file of `url`, downloaded first where the cache has none of this SHA-256."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "glc_jax"
    suffix = ".safetensors" if url.endswith(".safetensors") else ".pth"
    path = cache / f"inception-{sha256[:16].lower()}{suffix}"
    if path.is_file():
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            data = response.read(MAX_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise WeightsError(
            f"cannot fetch Inception's weights from {url}: {error}; "
            "download the file elsewhere and give its path"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise WeightsError(
            f"{url} gave another file than expected: its SHA-256 is {found}, not {sha256}"
        )
    try:
        files.write(path, data)
    except OutputError as error:
        raise WeightsError(f"The cache folder cannot be written to. {error}") from error
    return path
