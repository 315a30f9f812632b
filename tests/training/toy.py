"""A stage of one's own whose steps compile in a moment, to run the whole loop with."""

import json

import jax
import jax.numpy as jnp

from glc_jax.models.pixels import to_model_range
from glc_jax.training.config import Config
from glc_jax.training.stage import Forward, Stage
from tests.training import small

NAME = "tests.training.toy:ToyStage"


class ToyStage(Stage):
    """x_hat = (1 + the mean of a kernel) * images + noise from each sample's key.

    Its metric "seen" tells which pictures a batch has, and in which order.
    """

    gives = frozenset({"x_hat"})

    def __init__(self, config: Config):
        pass

    def forward(self, model, variables, images, samples):
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(samples.keys)
        order = jnp.arange(1, len(images) + 1)
        return Forward(
            {},
            x_hat=self._scaled(variables, images) + 0.1 * noise,
            metrics={"seen": jnp.sum(order * images.mean((1, 2, 3)))},
        )

    def reconstruct(self, model, variables, images, beside):
        return {"toy": (self._scaled(variables, to_model_range(images)), None)}

    def _scaled(self, variables, images):
        generator = variables["params"]["vqvae"]["generator"]
        return images * (1 + jnp.mean(generator["conv_out"]["kernel"]))


class Lines:
    """A board that writes each line of scalars down: WORKDIR/lines.json."""

    def __init__(self, workdir, config):
        self.file = workdir / "lines.json"

    def scalars(self, step, values):
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def picture(self, step, name, picture):
        """Not kept."""

    histogram = picture

    def close(self):
        """Nothing is open."""


def lines(workdir) -> dict[int, dict[str, float]]:
    """What `Lines` wrote of training, by step."""
    found = map(json.loads, (workdir / "lines.json").read_text().splitlines())
    return {line["step"]: line for line in found if "train/l1" in line}


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
