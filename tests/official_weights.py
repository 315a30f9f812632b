"""Seeded stand-ins for the official checkpoint, with which the golden values were computed.

The official file cannot be shipped. These are the values of ../shared/reference's
reference_weights.py (a test compares them); names and shapes come from the conversion's table.
"""

import functools
import hashlib

import jax.numpy as jnp
import numpy as np

from configs import natural
from conversion import kinds, official
from glc_jax import weights

MODEL = natural.model_config().to_dict()


def tensor(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 values of one official tensor, scaled so that activations stay near 1."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "little")))
    noise = rng.standard_normal(shape).astype(np.float32)
    if name in ("q_enc", "q_dec"):
        ramp = np.linspace(0.8, 1.25, shape[0], dtype=np.float32).reshape(-1, 1, 1, 1)
        ramp = ramp if name == "q_enc" else 1.0 / ramp
        values = ramp * (1.0 + 0.05 * noise)
    elif name.endswith("embedding.weight"):
        values = 0.8 * noise
    elif name.endswith("position_emb"):
        values = 0.1 * noise
    elif len(shape) == 1 and name.endswith(".weight"):
        values = 1.0 + 0.1 * noise
    elif len(shape) == 1:
        values = 0.05 * noise
        if name.startswith("y_prior_fusion.1.block.1.conv_out"):
            third = shape[0] // 3  # quant_step, scales, means
            values[:third] += 1.2
            values[third : 2 * third] += 0.5
        if name.startswith("y_spatial_prior.2.block.1.conv_out"):
            values[: shape[0] // 2] += 0.5  # scales, means
    else:
        gain = 1.0
        if ".conv2." in name or "proj_out" in name:
            gain = 0.5
        elif "conv_out" in name or "out_conv" in name:
            gain = 0.2
        if "prior" in name and len(shape) == 4:
            gain *= 0.6
        values = noise * (gain / np.sqrt(int(np.prod(shape[1:]))))
    return values.astype(np.float32)


@functools.cache
def entries() -> list[official.Entry]:
    """The conversion's table of the full-size model."""
    return kinds.glc_entries(MODEL)


def state_dict(seed: int, beginnings: tuple[str, ...] = ("",)) -> dict[str, np.ndarray]:
    """The official state dict, or the part of it whose names start with `beginnings`."""
    return {
        entry.official: tensor(seed, entry.official, entry.shape)
        for entry in entries()
        if entry.official.startswith(beginnings)
    }


@functools.lru_cache(maxsize=1)  # 656 MB
def variables(seed: int) -> dict:
    """{"params": ...} of the full-size model, converted from the state dict of this seed."""
    leaves = kinds.convert_state(state_dict(seed)).leaves
    return weights.unflatten({name: jnp.array(leaf) for name, leaf in leaves.items()})
