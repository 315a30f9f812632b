"""A stage of one's own whose steps compile in a moment, to run the whole loop with."""

import jax
import jax.numpy as jnp

from glc_jax.models.pixels import to_model_range
from glc_jax.training.config import Config
from glc_jax.training.stages import Forward
from tests.training import small

NAME = "tests.training.toy:ToyStage"


class ToyStage:
    """x_hat = (1 + the mean of a kernel) * images + noise from each sample's key."""

    codebooks = ()
    gives = frozenset({"x_hat"})

    def __init__(self, config: Config):
        pass

    def forward(self, model, variables, images, samples):
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(samples.keys)
        return Forward({}, x_hat=self._scaled(variables, images) + 0.1 * noise)

    def reconstruct(self, model, variables, images):
        return {"toy": (self._scaled(variables, to_model_range(images)), None)}

    def _scaled(self, variables, images):
        generator = variables["params"]["vqvae"]["generator"]
        return images * (1 + jnp.mean(generator["conv_out"]["kernel"]))


def config(place, **changes) -> dict:
    """A config of the toy stage, with pictures and first parameters below a folder."""
    found = small.config(
        1,
        stage=NAME,
        losses={"l1": 1.0},
        trainable="vqvae/generator/conv_out/",
        codebook__kmeans_step=-1,
        data__folder=str(small.folder(place / "pictures")),
        eval__folder=str(small.folder(place / "held_out", 3)),
        data__crop=48,
        eval__crop=48,
        eval__metrics=("psnr", "spectral_excess"),
        eval__every=4,
        eval__batch=2,
        checkpoint__best="spectral_excess",
        **changes,
    )
    found["init_from"] = small.weights_file(place / "start.safetensors", found)
    return found
