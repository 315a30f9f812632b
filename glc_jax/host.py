"""The symbols of a file without JAX, in NumPy: for a single look, which is not worth compiling."""

from __future__ import annotations

from collections.abc import Sequence

from glc_jax import bitstream, named
from glc_jax.entropy import families
from glc_jax.entropy.exact_model import Coded, ExactModel
from glc_jax.entropy.integer import HostFloat64
from glc_jax.errors import WeightsError
from glc_jax.models import sizes
from glc_jax.weights import Weights


def entropy_model(loaded: Weights, plugins: Sequence[str] = ()) -> ExactModel:
    """The entropy model of weights that have one.

    plugins: names of modules whose classes the weights may use, as of `codec.Codec`.

    Raises:
      WeightsError: they need a class of no plugin.
      InputError: a plugin cannot be imported.
    """
    named.import_plugins(plugins)
    return ExactModel(loaded.entropy, HostFloat64(), families.from_file(plugins))


def coarsest(container: bitstream.Container, loaded: Weights) -> tuple[int, int]:
    """The height and width of the coarsest latent of a parsed file.

    Raises WeightsError where the weights' config makes no model.
    """
    try:
        multiple = sizes.size_multiple(loaded.config["model"])
    except (KeyError, TypeError) as error:
        name = loaded.config["name"]
        raise WeightsError(f"The config of the weights {name!r} makes no model: {error}") from error
    return -(-container.height // multiple), -(-container.width // multiple)


def decode(
    container: bitstream.Container, loaded: Weights, plugins: Sequence[str] = ()
) -> tuple[ExactModel, Coded]:
    """The entropy model of the weights that made a parsed file, and what it reads.

    Raises BitstreamError where the file is damaged, and as the two above.
    """
    height, width = coarsest(container, loaded)
    model = entropy_model(loaded, plugins)
    return model, model.decode(container.payload, container.options, height, width)
