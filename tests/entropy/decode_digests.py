"""Prints, as JSON, what the files of tests/data/version_1 decode to in this process.

    python -m tests.entropy.decode_digests

A test runs this under different flags and compares. Keys: "alone" and "batch" (the four files of
one size, in one batch), "interpreted" (without jit), "bytes" (int8 limbs); "float" is a digest of
what the float networks give on the same input, which flags are free to change.
"""

import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import bitstream, weights
from glc_jax.entropy.exact import EntropyNetworks
from glc_jax.entropy.integer import ByteLimbs, Float64
from glc_jax.entropy.symbol_coder import CodedSymbols, SymbolCoder
from glc_jax.models import glc
from tests import small_model

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "version_1"
NAMES = [f"rate_{rate}" for rate in range(4)]


def digest(*arrays: np.ndarray) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()


def main() -> None:
    loaded = weights.load(FOLDER / "small.safetensors")
    prior = loaded.tree["z_prior"]["frequencies"]
    networks = EntropyNetworks(loaded.tree["exact"], Float64())
    coder = SymbolCoder(networks.tables, prior.size, prior)

    def decoders(names):
        containers = [bitstream.parse((FOLDER / f"{name}.glc").read_bytes()) for name in names]
        rows = -(-containers[0].height // small_model.MULTIPLE)
        columns = -(-containers[0].width // small_model.MULTIPLE)
        opened = [
            coder.decoder(CodedSymbols(c.payload, c.z_prior, c.zeros_skipped)) for c in containers
        ]
        z_indices = np.stack([d.z(rows * columns).reshape(rows, columns) for d in opened])
        return z_indices, opened

    def decode(names, networks=networks):
        z_indices, opened = decoders(names)
        return networks.decode(
            z_indices,
            lambda step, index: np.stack([d.step(t) for d, t in zip(opened, index, strict=True)]),
        ).y_hat_fixed

    one = NAMES[:1]
    found = {
        "alone": [digest(decode([name])[0]) for name in NAMES],
        "batch": [digest(y_hat) for y_hat in decode(NAMES)],
        "bytes": [digest(decode(one, EntropyNetworks(loaded.tree["exact"], ByteLimbs()))[0])],
    }
    with jax.disable_jit():
        found["interpreted"] = [digest(decode(one)[0])]

    model = glc.build(small_model.MODEL)
    variables = {
        "params": jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), loaded.tree["params"])
    }
    floats = jax.jit(
        lambda z: model.apply(
            variables, model.apply(variables, z, method="embed_z"), method="prior_params"
        )
    )
    found["float"] = [digest(np.asarray(floats(decoders(NAMES)[0])))]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
