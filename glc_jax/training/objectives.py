"""Losses as objects: a name, a weight, a function, and the frozen networks that it needs.

A `PictureLoss` sees the pictures alone; its gradient is taken at the reconstruction and pulled back
with that of all others. A `ModelLoss` sees the whole forward pass and may call the model. A config
names them with their weights,

    config.losses.lpips = 1.0
    config.losses.edges = {"of": "my_module:Edges", "weight": 0.5, "radius": 3}

the second one of someone's own: a dataclass that extends one of the two, with fields beside the
name and the weight. A weight of 0 leaves a loss out.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from glc_jax import named
from glc_jax.errors import ConfigError
from glc_jax.losses import code_prediction, perceptual, pixel, spectrum
from glc_jax.losses import style as vgg_style
from glc_jax.models import glc, sizes
from glc_jax.training.config import Config
from glc_jax.training.pictures import jittered
from glc_jax.training.samples import Samples
from glc_jax.training.stage import HYPER_CODES, LATENT_CODEBOOK, Forward

Networks = Mapping[str, Any]  # the weights of frozen networks by name; see `networks`


class Seen(NamedTuple):
    """What a `ModelLoss` may look at; gradients flow through `variables` and `out`."""

    model: glc.GLC
    variables: Any
    images: jax.Array  # float32 [B, H, W, 3] in [-1, 1]
    samples: Samples
    out: Forward


@dataclasses.dataclass(frozen=True)
class Loss:
    """What all losses have.

    needs: what a stage must give (`Stage.gives`). networks: names of frozen networks.
    """

    name: str
    weight: float
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def networks(self) -> tuple[str, ...]:
        return ()

    def check(self, config: Config) -> None:
        """Raises `ConfigError` where the rest of the config does not suit this loss."""


@dataclasses.dataclass(frozen=True)
class PictureLoss(Loss):
    """A loss of reconstructions x_hat against images, both float32 [B, H, W, 3] in [-1, 1].

    against: which pictures the images are: those of `Stage.beside` of this name; "": the originals.
    """

    needs = ("x_hat",)
    against: ClassVar[str] = ""

    def __call__(
        self, x_hat: jax.Array, images: jax.Array, networks: Networks, key: jax.Array
    ) -> jax.Array:
        """A float32 scalar, the mean over the batch; `key` is the step's, for all samples."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ModelLoss(Loss):
    """A loss of the forward pass."""

    def __call__(self, seen: Seen) -> jax.Array:
        """A float32 scalar, the mean over the batch."""
        raise NotImplementedError


class L1(PictureLoss):
    """The mean absolute difference."""

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(pixel.l1(x_hat, images))


class MultiscaleL1(PictureLoss):
    """L1 of the pictures at 1/2, 1/4 and 1/8 of their size."""

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(pixel.multiscale_l1(x_hat, images))


class Colour(PictureLoss):
    """L1 of the means over blocks of 32 pixels."""

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(pixel.colour(x_hat, images))


@dataclasses.dataclass(frozen=True)
class LPIPS(PictureLoss):
    """LPIPS v0.1 with `network` "alex" or "vgg", computed in `dtype`."""

    network: str = "alex"
    jitter: int = 0
    dtype: str = "float32"

    @property
    def networks(self):
        return (f"lpips_{self.network}",)

    def __call__(self, x_hat, images, networks, key):
        pieces = jittered(x_hat, images, self.jitter, key)
        x, y = (piece.astype(self.dtype) for piece in pieces)
        return jnp.mean(perceptual.lpips(networks[self.networks[0]], x, y))

    def check(self, config):
        _check_jitter(self, config)


@dataclasses.dataclass(frozen=True)
class DISTS(PictureLoss):
    """DISTS of the centres of `group` crops at once; see `losses.perceptual.dists`.

    In float32, for the sake of its variances.
    """

    window: int = 192
    group: int = 1
    jitter: int = 0

    @property
    def networks(self):
        return ("dists",)

    def __call__(self, x_hat, images, networks, key):
        x, y = jittered(x_hat, images, self.jitter, key)
        return jnp.mean(perceptual.dists(networks["dists"], x, y, self.window, self.group))

    def check(self, config):
        _check_jitter(self, config)
        if self.window < 16:
            raise ConfigError(f"dists_window is {self.window}; it must be at least 16.")
        part = config.batch // config.accumulate
        if self.group < 1 or part % self.group:
            raise ConfigError(
                f"dists_group is {self.group}, which does not divide the {part} crops of a pass."
            )


class Style(PictureLoss):
    """How far x_hat is from the style of the picture beside it; see `losses.style`."""

    needs = ("x_hat", "style")
    against = "style"

    @property
    def networks(self):
        return ("lpips_vgg",)

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(vgg_style.style(networks["lpips_vgg"], x_hat, images))


class Content(PictureLoss):
    """How far what x_hat shows is from what the original shows; see `losses.style`."""

    @property
    def networks(self):
        return ("lpips_vgg",)

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(vgg_style.content(networks["lpips_vgg"], x_hat, images))


class SpectralExcess(PictureLoss):
    """Power in fine patterns that the original does not have; see `losses.spectrum`."""

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(spectrum.spectral_excess(x_hat, images))

    def check(self, config):
        if config.data.crop < spectrum.SMALLEST:
            raise ConfigError(
                f"data.crop is {config.data.crop}; the spectral loss takes at least "
                f"{spectrum.SMALLEST}."
            )


@dataclasses.dataclass(frozen=True)
class Commitment(ModelLoss):
    """Squared distances of codebooks and encoder, once the codebooks are set.

    Of those below `part`; `need` is what a stage gives that has them.
    """

    part: str = "vqvae"
    need: str = LATENT_CODEBOOK

    @property
    def needs(self):
        return (self.need,)

    def __call__(self, seen):
        codes = seen.out.codes
        own = [code.loss for path, code in codes.items() if path.startswith(f"{self.part}/")]
        return sum(own) * seen.samples.codebook_ready


@dataclasses.dataclass(frozen=True)
class Rate(ModelLoss):
    """Bits per pixel (see `Forward`), each sample's times the lambda of its rate point."""

    lambdas: tuple[float, ...] = ()
    needs = ("bpp",)

    def __call__(self, seen):
        lambdas = jnp.asarray(self.lambdas, jnp.float32)
        return jnp.mean(lambdas[seen.samples.rate.astype(jnp.int32)] * seen.out.bpp)

    def check(self, config):
        points = config.model["rate_points"]
        if len(self.lambdas) != points:
            raise ConfigError(f"lambdas has {len(self.lambdas)} values for {points} rates.")


class LatentError(ModelLoss):
    """The squared error of l_hat against l = E(x) without gradient."""

    needs = ("latent_hat",)

    def __call__(self, seen):
        return jnp.mean(code_prediction.latent_mse(seen.out.latent_hat, seen.out.latent))


class CodePrediction(ModelLoss):
    """The cross entropy of the codes of E(x), predicted from l_hat."""

    needs = ("latent_hat",)

    def __call__(self, seen):
        logits = seen.model.apply(seen.variables, seen.out.latent_hat, method="predict_codes")
        return jnp.mean(code_prediction.cross_entropy(logits, seen.out.indices))

    def check(self, config):
        _check_predictor(config)


class PixelCodePrediction(ModelLoss):
    """The cross entropy of the codes of E(x), predicted from E(x_hat)."""

    needs = ("latent_hat", "x_hat")

    def __call__(self, seen):
        model, variables = seen.model, seen.variables
        again = model.apply(variables, seen.out.x_hat, True, method="encode")
        logits = model.apply(variables, again, method="predict_codes_from_pixels")
        return jnp.mean(code_prediction.cross_entropy(logits, seen.out.indices))

    def check(self, config):
        _check_predictor(config)


def _check_jitter(loss: Any, config: Config) -> None:
    if not 0 <= loss.jitter <= config.data.crop - 32:
        raise ConfigError(
            f"jitter is {loss.jitter}; of a crop of {config.data.crop} at least 32 pixels must be "
            "left."
        )


def _check_predictor(config: Config) -> None:
    predictor = config.model["code_predictor"]
    if not predictor:
        raise ConfigError("The model has no code predictor: losses.code_prediction must be 0.")
    positions = (config.data.crop // sizes.downsampling(config.model)) ** 2
    if positions != predictor["positions"]:
        raise ConfigError(
            f"A crop of {config.data.crop} has {positions} latent positions, but the code "
            f"predictor is for {predictor['positions']}."
        )


def known(config: Config) -> dict[str, Callable[..., Loss]]:
    """The losses of this package, each with its fields but for name and weight."""
    lpips = functools.partial(LPIPS, jitter=config.jitter, dtype=config.dtype)
    dists = {"window": config.dists_window, "group": config.dists_group}
    return {
        "l1": L1,
        "multiscale_l1": MultiscaleL1,
        "colour": Colour,
        "lpips": functools.partial(lpips, network=config.lpips_network),
        "lpips_vgg": functools.partial(lpips, network="vgg"),
        "dists": functools.partial(DISTS, jitter=config.jitter, **dists),
        "spectral_excess": SpectralExcess,
        "style": Style,
        "content": Content,
        "codebook": Commitment,
        "hyper_codebook": functools.partial(Commitment, part="hyperprior", need=HYPER_CODES),
        "rate": functools.partial(Rate, lambdas=config.lambdas),
        "latent": LatentError,
        "code_prediction": CodePrediction,
        "pixel_code_prediction": PixelCodePrediction,
    }


def objectives(config: Config, gives: frozenset[str]) -> tuple[Loss, ...]:
    """The config's losses of which the stage gives what they need, without those of weight 0.

    Raises `ConfigError` for one that does not exist or does not suit the config, and for one of
    someone's own that the stage cannot feed.
    """
    ready, found = known(config), []
    for name, entry in config.losses.items():
        fields = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        of = fields.pop("of", name)
        try:
            loss = named.find(of, ready, "loss")(name=name, **fields)
            weight = float(loss.weight)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config.losses.{name} does not fit {of}: {error}.") from error
        if not weight:
            continue
        lacking = [need for need in loss.needs if need not in gives]
        if lacking and of not in ready:
            raise ConfigError(
                f"The loss {name} needs {', '.join(lacking)}, which {config.stage} does not give."
            )
        if not lacking:
            loss.check(config)
            found.append(loss)
    return tuple(found)
