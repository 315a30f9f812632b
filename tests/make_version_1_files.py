"""Made tests/data/version_1, once: weights of a small model, .glc files, and what they decode to.

    python -m tests.make_version_1_files FOLDER

The files in tests/data are not to be made anew: they are what later releases must still read.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import bitstream, weights
from glc_jax.codec import Codec
from glc_jax.entropy import calibrate, tables
from glc_jax.entropy.exact import EntropyNetworks
from glc_jax.entropy.symbol_coder import CodedSymbols, SymbolCoder
from glc_jax.models import glc
from tests import small_model

SHAPE = (80, 112)
ODD_SHAPE = (37, 51)


def decode(data: bytes, loaded: weights.Weights) -> dict[str, np.ndarray]:
    """z_indices [H, W], y_q and y_hat [4H, 4W, C] of a file, by the library's integer path."""
    container = bitstream.parse(data)
    z_size = loaded.config["model"]["hyper_codebook_size"]
    coder = SymbolCoder(tables.gaussian(), z_size, loaded.tree["z_prior"]["frequencies"])
    decoder = coder.decoder(
        CodedSymbols(container.payload, container.z_prior, container.zeros_skipped)
    )
    rows, columns = (-(-n // small_model.MULTIPLE) for n in (container.height, container.width))
    z_indices = decoder.z(rows * columns).reshape(1, rows, columns)
    latent = EntropyNetworks(loaded.tree["exact"]).decode(
        z_indices, lambda step, table_index: decoder.step(table_index[0])[None]
    )
    return {
        "z_indices": z_indices[0].astype(np.int16),
        "y_q": latent.y_q[0],
        "y_hat": latent.y_hat_fixed[0],
    }


def make_weights(path: pathlib.Path, pictures: list[np.ndarray]) -> weights.Weights:
    """The small model, its codebook made of values of z, its prior fit to the first picture."""
    model, params = glc.build(small_model.MODEL), small_model.parameters()
    stacked = np.stack([picture for picture in pictures if picture.shape[:2] == SHAPE])
    images = jnp.asarray(stacked, jnp.float32) / 127.5 - 1

    def apply(method: str, *inputs: jax.Array) -> jax.Array:
        return model.apply({"params": params}, *inputs, method=method)

    y = apply("analysis", apply("encode", images), (jnp.arange(len(images)) + 3) % 4.0)
    z = apply("hyper_analysis", y)
    vectors = np.asarray(z).reshape(-1, z.shape[-1])
    rows = np.random.default_rng(0).choice(len(vectors), 32, replace=False)
    params["hyperprior"]["quantizer"]["codebook"] = vectors[rows]
    indices = np.asarray(apply("quantize_z", z).indices)
    frequencies = np.bincount(indices[0].reshape(-1), minlength=32) * 2**16 + 1
    frequencies[frequencies.argmax()] += 2**24 - frequencies.sum()
    tree = {
        "params": params,
        "exact": calibrate.quantise(params, [(indices, np.asarray(y))]),
        "z_prior": {"frequencies": frequencies},
    }
    weights.save(path, tree, {"name": "small", "model": small_model.MODEL})
    return weights.load(path)


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"flat": np.full((*SHAPE, 3), 90, np.uint8)}
    pictures |= {f"rate_{rate}": small_model.picture(*SHAPE, seed=rate) for rate in range(4)}
    pictures["odd"] = small_model.picture(*ODD_SHAPE, seed=4)
    loaded = make_weights(folder / "small.safetensors", list(pictures.values()))
    codec = Codec(loaded)
    for number, (name, picture) in enumerate(pictures.items()):
        data = codec.compress(picture, rate=(number + 3) % 4)
        (folder / f"{name}.glc").write_bytes(data)
        np.savez_compressed(
            folder / f"{name}.npz", **decode(data, loaded), image=codec.decompress(data)
        )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
