"""What a stage of training is: what it is given, and what it gives to the losses."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax

from glc_jax.models.glc import GLC
from glc_jax.training.config import Config
from glc_jax.training.evaluation import Reconstructions
from glc_jax.training.samples import Samples

Pictures = Mapping[str, jax.Array]  # by the names of `Stage.beside`: uint8 [B, H, W, 3]

LATENT_CODEBOOK = "vqvae/quantizer/codebook"
HYPER_CODES = "hyperprior codes"  # what a stage gives whose hyperprior has codebooks


@flax.struct.dataclass
class Codes:
    """How a batch used one codebook.

    share: [K], each code's share of all positions. sums: [K, C], of what was quantised to it, over
    the number of all positions. vectors: [B, h * w, C], what was quantised. loss: scalar, the mean
    squared distance to the codes.
    """

    share: jax.Array
    sums: jax.Array
    vectors: jax.Array
    loss: jax.Array


@flax.struct.dataclass
class Forward:
    """What a forward pass gives, as far as the stage has it.

    x_hat: [B, H, W, 3]. latent: [B, h, w, C], E(x) without gradient. indices: [B, h, w], the codes
    nearest to it. latent_hat: [B, h, w, C]. bpp: [B], bits per pixel of the symbols whose
    distributions are trained. codes: by the codebook's path. metrics: scalars by name.
    """

    codes: dict[str, Codes]
    x_hat: jax.Array | None = None
    latent: jax.Array | None = None
    indices: jax.Array | None = None
    latent_hat: jax.Array | None = None
    bpp: jax.Array | None = None
    metrics: dict[str, jax.Array] = flax.struct.field(default_factory=dict)


class Stage:
    """A stage of training, made from the run's config.

    gives: the fields of `Forward` that it sets, the paths of its codebooks and the names of
    `beside`: a loss is in use where the stage gives what it needs. codebooks: paths of those that
    it quantises with and keeps in use. beside: names of pictures that come with each sample, as in
    `inputs.BESIDE`. part: the name of its parameters beside the model's, of which a weights file of
    their own is made; "" for none. Values are means over the batch or have one row a sample, so
    that equal parts of a batch can be averaged.
    """

    gives: frozenset[str]
    codebooks: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    part: str = ""

    def __init__(self, config: Config): ...

    def forward(self, model: GLC, variables: Any, images: jax.Array, samples: Samples) -> Forward:
        """images: float32 [B, H, W, 3] in [-1, 1]."""
        raise NotImplementedError

    def reconstruct(
        self, model: GLC, variables: Any, images: jax.Array, beside: Pictures
    ) -> Reconstructions:
        """Held-out uint8 pictures [B, H, W, 3]: each way to x_hat by its name, with its bpp."""
        raise NotImplementedError

    def own_parameters(self, params: Any, key: jax.Array) -> Any:
        """The first parameters of its `part`, from the model's and a random key."""
        raise NotImplementedError
