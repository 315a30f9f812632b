"""Prints, as JSON, what the files of tests/data decode to in this process, by version.

    python -m tests.entropy.decode_digests

A test runs this under different flags and compares. Keys: "alone", the four files of one size;
"interpreted" (without jit) and "bytes" (int8 limbs), the first of them; "batch", the four encoded
again in one batch, and "payloads", the bytes that this writes; "float" is a digest of what the
float networks give on the same input, which flags are free to change.
"""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import bitstream, weights
from glc_jax.entropy.exact_model import Coded, ExactModel
from glc_jax.entropy.integer import ByteLimbs, Float64
from glc_jax.models import glc
from tests import kept_files, small_model


def digest(*arrays: np.ndarray | bytes) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(array if isinstance(array, bytes) else np.ascontiguousarray(array))
    return sha.hexdigest()


def containers(version: int) -> list[bitstream.Container]:
    """The files of one size."""
    files = kept_files.files(version)
    return [bitstream.parse(files[name][0]) for name in kept_files.SAME_SIZE]


def decode(model: ExactModel, container: bitstream.Container) -> Coded:
    sides = container.height, container.width
    height, width = (-(-side // small_model.MULTIPLE) for side in sides)
    return model.decode(container.payload, container.options, height, width)


def targets(model: ExactModel, decoded: list[Coded]) -> dict[str, np.ndarray]:
    """What an encoder that made these symbols may have been given, as one batch."""
    unit = np.concatenate([one.units["y"] for one in decoded])
    values = np.concatenate([one.values["y"] for one in decoded])
    exponent = next(latent.exponent for latent in model.latents if latent.name == "y")
    z = np.concatenate([one.symbols["z"] for one in decoded])
    return {"z": z, "y": np.ldexp(values.astype(np.float64), -exponent) * unit}


def digests(version: int) -> dict[str, list[str]]:
    loaded = weights.load(kept_files.folder(version) / "small.safetensors")
    model = ExactModel(loaded.entropy, Float64())
    files = containers(version)
    alone = [decode(model, container) for container in files]
    together = model.encode(targets(model, alone))
    limbs = decode(ExactModel(loaded.entropy, ByteLimbs()), files[0])
    with jax.disable_jit():
        interpreted = decode(model, files[0])
    return {
        "alone": [digest(one.values["y"][0]) for one in alone],
        "batch": [digest(y_hat) for y_hat in together.values["y"]],
        "payloads": [digest(model.write(together, i)[0]) for i in range(len(files))],
        "bytes": [digest(limbs.values["y"][0])],
        "interpreted": [digest(interpreted.values["y"][0])],
        "float": [digest(floats(loaded, together.symbols["z"]))],
    }


def floats(loaded: weights.Weights, indices: np.ndarray) -> np.ndarray:
    """The prior's parameters of y, in floats."""
    model = glc.build(small_model.MODEL)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), loaded.tree["params"])

    def prior(model: glc.GLC, indices: jax.Array) -> jax.Array:
        return model.hyperprior.prior_params(model.hyperprior.embed(indices))

    return np.asarray(jax.jit(lambda z: model.run({"params": params}, prior, z))(indices))


if __name__ == "__main__":
    print(json.dumps({version: digests(version) for version in kept_files.VERSIONS}))
