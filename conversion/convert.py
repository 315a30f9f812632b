"""From checkpoint files to weights files, and back."""

import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from glc_jax import weights
from glc_jax.errors import InputError, OutputError, WeightsError

from . import calibration, checkpoint, kinds, safetensors_file, torch_file
from .official import Entry

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
GLC_ONLY = "params/g_a/rate_scale"  # a parameter that a VQ-VAE alone does not have
NAMED_MISSING = 3  # of the parameters that a message is about
TORCH_SUFFIXES = (".pth.tar", ".pth", ".pt")


class Cast:
    """A copy of an array as another type, made anew whenever its values are asked for."""

    def __init__(self, array: np.ndarray, dtype: np.dtype) -> None:
        self.array, self.dtype, self.shape = array, dtype, array.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.array(self.array, dtype or self.dtype, order="C")
        torch_file.release(self.array)
        return values


class Report(NamedTuple):
    """What a conversion found and wrote.

    found: a line for each state dict that was converted. aside: what was not. cost: what the
    integer networks cost, where the checkpoint has such networks. written: the weights file.
    """

    found: list[str]
    aside: list[str]
    cost: calibration.Cost | None
    written: weights.Description


def to_weights(
    path: str | os.PathLike,
    out: str | os.PathLike,
    dtype: str = "float32",
    config: kinds.Config | None = None,
    pictures: Sequence[pathlib.Path] = (),
) -> Report:
    """Convert the checkpoint file `path` to the weights file `out`.

    Args:
      path: a file of `torch.save`, or safetensors.
      out: the file to write.
      dtype: one of DTYPES, of the parameters.
      config: the model, where it is not a released one.
      pictures: files and folders to calibrate the integer networks of GLC with; see
        `calibration.pictures`.

    Raises:
      WeightsError: `path` cannot be used; the message names everything that does not fit.
      InputError: a picture cannot be read.
      OutputError: `out` cannot be written.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint.")
    found, aside = checkpoint.unwrap(checkpoint.read(path))
    lines, leaves, configs = [], {}, []
    for route, state in found:
        try:
            converted = kinds.convert_state(state, config)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        place = f" under {'.'.join(route)}" if route else ""
        values = sum(array.size for array in state.values())
        lines.append(f"{converted.what}: {len(state)} tensors, {values:,} values{place}")
        leaves |= {name: Cast(array, DTYPES[dtype]) for name, array in converted.leaves.items()}
        aside += [f"{name} (tensor without use here)" for name in converted.aside]
        configs.append(converted.config)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {
        "checkpoint": path.name,
        "checkpoint_sha256": sha256,
        "contains": "; ".join(lines),
        "dtype": dtype,
    }
    # A generator's config describes the file; a discriminator beside it has none of its own.
    config, cost = configs[-1], None
    tree = weights.unflatten(leaves)
    if GLC_ONLY in leaves:
        samples = calibration.pictures(pictures)
        tree["entropy"], cost = calibration.exact_model(config["model"], leaves, samples)
        kind = "named" if pictures else "synthetic"
        provenance["calibration"] = f"{len(samples)} {kind} pictures"
        provenance["exact_entropy_model_cost"] = f"{cost.share:+.2%} bits on them"
    return Report(lines, aside, cost, weights.save(out, tree, config, provenance))


def official_state(path: str | os.PathLike) -> dict[str, Any]:
    """The official state dict, by official name, of a weights file of GLC or its VQ-VAE.

    Its values become arrays when they are asked for. Raises WeightsError.
    """
    description = weights.describe(path)
    model = description.config["model"]
    leaves = {name: Cast(a, a.dtype) for name, a in safetensors_file.load(path).items()}
    if weights.digest_of(description.config, leaves) != description.digest:
        raise WeightsError(f"{path}: the tensors do not match the digest; the file is damaged.")
    parts = {name.split("/")[1] for name in leaves if name.startswith("params/")}
    if "network" in model or not parts:
        raise WeightsError(
            f"{path} holds {description.name}, neither GLC nor its VQ-VAE; there is no way back."
        )
    entries = kinds.vqvae_entries(model) if parts == {"vqvae"} else kinds.glc_entries(model)
    missing = [name for entry in entries for name in entry.ours if name not in leaves]
    if missing:
        named = ", ".join(missing[:NAMED_MISSING])
        more = f" and {len(missing) - NAMED_MISSING} more" if len(missing) > NAMED_MISSING else ""
        raise WeightsError(
            f"{path} lacks {len(missing)} of the official model's parameters ({named}{more}), as "
            "weights that are for compressing alone do; there is no way back."
        )
    return {entry.official: Official(entry, leaves) for entry in entries}


class Official:
    """An official tensor, put together from our parameters when its values are asked for."""

    def __init__(self, entry: Entry, leaves: Mapping[str, Any]) -> None:
        self.entry, self.leaves, self.shape = entry, leaves, entry.shape
        self.dtype = leaves[entry.ours[0]].dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        arrays = {name: np.asarray(self.leaves[name]) for name in self.entry.ours}
        return np.asarray(self.entry.to_official(arrays), dtype)


def to_torch(path: str | os.PathLike, out: str | os.PathLike) -> int:
    """Write a weights file as a state dict with the official names; returns the tensors' number.

    `out` ends in .safetensors, or in one of TORCH_SUFFIXES, for which torch must be installed and
    which puts the state dict under "state_dict", as the official file does. Raises WeightsError,
    InputError and OutputError.
    """
    name = pathlib.Path(out).name
    if name.endswith(".safetensors"):
        state = official_state(path)
        weights.write_safetensors(out, state, {"format": "pt"})
        return len(state)
    if not name.endswith(TORCH_SUFFIXES):
        raise InputError(f"{out} must end in .safetensors or {', '.join(TORCH_SUFFIXES)}.")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            f"writing {out} needs torch; install it, or choose a name that ends in .safetensors, "
            "which torch users load with safetensors.torch.load_file."
        ) from error
    state = official_state(path)
    try:
        torch.save({"state_dict": {name: _tensor(torch, a) for name, a in state.items()}}, out)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{out}: cannot be written ({error}).") from error
    return len(state)


def _tensor(torch: Any, array: Official) -> Any:
    array = np.asarray(array, order="C")
    if array.dtype == DTYPES["bfloat16"]:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
