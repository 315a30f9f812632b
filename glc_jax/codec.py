"""Codec: pictures to .glc files and back, the only place where model, entropy and bitstream meet.

    image -E-> l -g_a-> y -h_a-> z              float, on any device
    z, y -> groups of symbols -> bytes          exact integers (entropy.exact_model), bitstream
    bytes -> groups of symbols -> y_hat         exact integers again
    y_hat -g_s-> l_hat -G-> image               float

Only the integers decide what the bytes mean, so a file decodes on every machine.
"""

from __future__ import annotations

import functools
import numbers
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from glc_jax import bitstream, companions, engines, images, memory, named, painting, weights
from glc_jax.autoencoder import Autoencoder, fitting
from glc_jax.entropy import families
from glc_jax.entropy.exact_model import Coded, ExactModel
from glc_jax.entropy.integer import x64
from glc_jax.errors import ConfigError, InputError, TooLargeError, WeightsError
from glc_jax.models import choices, glc, sizes
from glc_jax.models.pixels import to_model_range
from glc_jax.preview import draw as draw_preview
from glc_jax.xla_programs import Jitted

if TYPE_CHECKING:
    Picture = np.ndarray | Image.Image | str | os.PathLike[str]


class Estimate(NamedTuple):
    """The float model's own numbers for a picture, no file; h, w are the padded latent's size.

    Attributes:
      bits_y: the published estimate of what y costs, in bits.
      bits_z: of all that comes before y; of a codebook log2 of its size an index, in bits.
      z_indices: int32 [h / 4, w / 4].
      y_q: int32 [h, w, C].
      reconstruction: uint8 [height, width, 3].
    """

    bits_y: float
    bits_z: float
    z_indices: np.ndarray
    y_q: np.ndarray
    reconstruction: np.ndarray


class _EncoderSide(NamedTuple):
    """A model's parameters, and E and G with them."""

    params: Mapping[str, Any]
    autoencoder: Autoencoder


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    max_memory: int | str | None = None,
    plugins: Sequence[str] = (),
    restorer: str | os.PathLike[str] | None = None,
    stylist: str | os.PathLike[str] | None = None,
    engine: str | None = None,
) -> Codec:
    """The codec of a packaged model's name or of a weights file; None means the default.

    The other arguments are those of `Codec`.

    Raises:
      WeightsError: there is no such file, or it is damaged, foreign or newer.
      InputError: a plugin cannot be imported, or there is no such engine.
    """
    loaded = weights.load(weights.resolve(name_or_path))
    return Codec(loaded, max_memory, plugins, restorer, stylist, engine)


class Codec:
    """A model with its weights, ready to compress and decompress.

    The first call for a picture of a new (padded) size compiles; later ones are fast.

    `max_memory` (bytes, or "4GB") is what the process may take. Within it, E and G run in as little
    memory as they must (see `Autoencoder`); a picture that needs more even so is refused with a
    TooLargeError before anything of it is allocated. None, the default, stands for what the
    machine, its containers or the accelerator have free at that time.

    Weights may name parts of an entropy model that are not of this package. Their code is only
    used where its module is among `plugins`, which are imported; a weights file imports nothing.

    `restorer` and `stylist` are packaged names or files (see `companions`) that serve
    `compress(restore=True)` and `decompress(style=...)`; None, the default, stands for the packaged
    one of these weights.

    `engine` is what E and G run on: "xla", or "openvino" (the extra "fast"); None, the default, is
    OpenVINO on a CPU where it is installed, since it is quicker. Pictures of the two differ by at
    most 1 in 8 bits. `fast=True` computes E and G in bfloat16 where the machine has instructions
    for it: pictures differ a little more, and files by a few symbols, which decode everywhere as
    others do. On a CPU it needs OpenVINO.

    Attributes:
      config: {"name": str, "model": the arguments of `glc_jax.models.glc.build`}.
      params: float32 parameters, as the model's `apply` takes them under "params".
      plugins: names of modules.
    """

    def __init__(
        self,
        loaded: weights.Weights,
        max_memory: int | str | None = None,
        plugins: Sequence[str] = (),
        restorer: str | os.PathLike[str] | None = None,
        stylist: str | os.PathLike[str] | None = None,
        engine: str | None = None,
    ) -> None:
        companions.require_model(loaded)
        self._weights = loaded
        self._restorer = restorer
        self._stylist = stylist
        self.plugins = (plugins,) if isinstance(plugins, str) else tuple(plugins)
        named.import_plugins(self.plugins)
        self._max_memory = None if max_memory is None else memory.parse(max_memory)
        self._engine = engine
        self._sides: dict[tuple[bool, bool], _EncoderSide] = {}
        self._prepared: set[tuple[int, int]] = set()
        self.config = loaded.config
        self._model = _build(loaded, self.plugins)
        parts = loaded.tree.get("params", {})
        self.params = jax.device_put(
            jax.tree.map(
                lambda leaf: leaf.astype(np.float32, copy=False),
                {name: part for name, part in parts.items() if name not in weights.TRAINING_PARTS},
            )
        )
        self._multiple = sizes.size_multiple(self.config["model"])

    @property
    def fingerprint(self) -> bytes:
        """What a .glc file calls these weights."""
        return self._weights.fingerprint

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from."""
        return self._weights.provenance

    @property
    def restorer(self) -> weights.Description:
        """What serves `compress(restore=True)`, from its header; raises `WeightsError`."""
        return companions.find(companions.RESTORER, self._weights, self._restorer)

    @property
    def highest_rate(self) -> float:
        """The largest rate, that of the last trained point."""
        return float(self.config["model"]["rate_points"] - 1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights file that `load` reads; raises OutputError."""
        weights.save(path, self._weights.tree, self.config, self.provenance)

    def __reduce__(self) -> tuple[Any, ...]:
        """To a process of a pool, and for a copy: what it was made of; it compiles for itself."""
        companions = self._restorer, self._stylist
        made_of = (self._weights, self._max_memory, self.plugins, *companions, self._engine)
        return type(self), made_of

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        name = self.config["name"]
        return f"<glc_jax.Codec {name!r}, {count:,} parameters, weights {self.fingerprint.hex()}>"

    def compress(
        self,
        image: Picture,
        rate: float | None = None,
        restore: bool = False,
        fast: bool = False,
    ) -> bytes:
        """A picture as the bytes of a .glc file.

        Args:
          image: uint8 [height, width, 3], a Pillow image of any mode (see `images.to_rgb`), or the
            path of a file that Pillow reads.
          rate: 0 (fewest bytes) to `highest_rate`, used to a precision of 1/252 of it; None: the
            middle, 1.5 of a model with four rate points.
          restore: write the file of the picture that this one was before it was blurred, noisy
            or badly compressed, as far as the restorer can tell. Any decoder reads it.
          fast: see `Codec`.

        Raises:
          InputError: not such a picture, a rate out of range, or no fast mode here.
          TooLargeError: it needs more memory than there is.
          WeightsError: the weights have no integer entropy networks, or no restorer.
        """
        pixels, rate = _checked_pixels(image), self._checked_rate(rate)
        level = bitstream.nearest_level(rate, self.highest_rate)
        side = self._encoder_side(restore, fast)
        return self._code_latent(side, self._latent(pixels, side), pixels.shape, level)

    def restore(self, image: Picture, rate: float | None = None, fast: bool = False) -> np.ndarray:
        """A picture as it was before it was spoiled: uint8 [height, width, 3].

        What `decompress` gives of `compress(restore=True)`. rate: None is the highest. Raises as
        they do.
        """
        rate = self.highest_rate if rate is None else rate
        data = self.compress(image, rate, restore=True, fast=fast)
        return self.decompress(data, max_pixels=None, fast=fast)

    def compress_to_size(
        self, image: Picture, target_bytes: int, restore: bool = False, fast: bool = False
    ) -> tuple[bytes, float]:
        """The file of the highest rate that is at most `target_bytes` long, and its rate.

        Where even rate 0 is longer, that file: the nearest one. Raises as `compress` does.
        """
        pixels = _checked_pixels(image)
        real = isinstance(target_bytes, numbers.Real) and not isinstance(target_bytes, bool)
        if not real or target_bytes != target_bytes:  # NaN
            raise InputError(f"target_bytes must be a number of bytes, not {target_bytes!r}.")
        side = self._encoder_side(restore, fast)
        latent = self._latent(pixels, side)

        @functools.cache
        def at(step: int) -> bytes:
            return self._code_latent(side, latent, pixels.shape, step)

        low, high = 0, bitstream.RATE_LEVELS
        if len(at(high)) <= target_bytes:
            return at(high), self.highest_rate
        # Invariant: at(high) is too long; at(low) fits unless low is 0.
        while high - low > 1:
            middle = (low + high) // 2
            if len(at(middle)) <= target_bytes:
                low = middle
            else:
                high = middle
        return at(low), bitstream.rate_of(low, self.highest_rate)

    def decompress(
        self,
        data: bytes | str | os.PathLike[str],
        preview: bool = False,
        max_pixels: int | None = images.MAX_PIXELS,
        style: Picture | None = None,
        strength: float = 1.0,
        fast: bool = False,
    ) -> np.ndarray:
        """The picture of a .glc file: uint8 [height, width, 3].

        Args:
          data: the whole file, or its path.
          preview: a rough picture, by the linear map that came with the weights, without G;
            where there came none, a quarter of the pixels, from the latent's means over 2 x 2.
          max_pixels: refuse a larger width x height before anything is allocated; None: no limit.
          style: a picture of any size, as `compress` takes it, in whose manner this one is painted.
          strength: of the style, from 0, the ordinary picture, to 1.
          fast: see `Codec`; what is painted is not, since its weights change with each picture.

        Raises:
          BitstreamError: damaged, foreign, newer, too large, or coded with other weights.
          InputError: the style is no such picture, the strength is not within 0 .. 1, or there is
            no fast mode here.
          TooLargeError: the picture needs more memory than there is.
          WeightsError: there is no stylist of these weights.
        """
        container = self._container(data, max_pixels)
        height, width = container.height, container.width
        seen = self._style(style, strength)
        if preview:
            return self._preview(container, seen, fast)
        left = self.require_memory(height, width, "decompress")
        if seen is None:
            self._autoencoder(fast).prepare_generate(height, width, left)
        y_hat = self._decode_latent(container)
        rate = container.rate(self.highest_rate)
        return self._reconstruct(y_hat, rate, height, width, left, seen, fast)

    def stylise(
        self,
        image: Picture,
        style: Picture,
        strength: float = 1.0,
        rate: float | None = None,
    ) -> np.ndarray:
        """A picture painted in the manner of another: uint8 [height, width, 3].

        What `decompress` gives with this style of what `compress` gives. rate: None is the
        highest. Raises as they do.
        """
        rate = self.highest_rate if rate is None else rate
        _checked_strength(strength)
        data = self.compress(image, rate)
        return self.decompress(data, max_pixels=None, style=style, strength=strength)

    def _preview(
        self, container: bitstream.Container, style: painting.Style | None, fast: bool
    ) -> np.ndarray:
        """What the weights' map draws; without one, half the height and width, enlarged."""
        stored, size = self._weights.preview, (container.height, container.width)
        if stored is not None and style is None:
            coding = self.entropy_model.needed_bytes(*self._coarsest(*size))
            needed = memory.preview_bytes(self.config["model"], *size, coding)
            memory.require(needed, self._max_memory, *size, "to preview")
            y_hat = self._decode_latent(container)
            return draw_preview(stored, y_hat, container.rate(self.highest_rate), *size)
        height, width = ((side + 1) // 2 for side in (container.height, container.width))
        left = self.require_memory(height, width, "decompress")
        y_hat = self._decode_latent(container)
        rate = np.float32([container.rate(self.highest_rate)])
        latent = _halve(_synthesise(self._model, self.params, y_hat, rate))
        small = Image.fromarray(self._draw(latent, height, width, left, style, fast))
        large = small.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        return np.asarray(large)[: container.height, : container.width]

    def verify(
        self, data: bytes | str | os.PathLike[str], max_pixels: int | None = images.MAX_PIXELS
    ) -> None:
        """Decodes a .glc file's symbols, which its checks are about, and draws nothing.

        Arguments and errors as those of `decompress`.
        """
        self.decode_symbols(self._container(data, max_pixels))

    def integers(
        self, data: bytes | str | os.PathLike[str], max_pixels: int | None = images.MAX_PIXELS
    ) -> list[np.ndarray]:
        """The integers that a file's symbols stand for, by which decoders are compared.

        Of each latent: the indices of z [h, w] and y_hat in fixed point [h', w', C]. Arguments and
        errors as those of `decompress`.
        """
        coded = self.decode_symbols(self._container(data, max_pixels))
        return [values[0] for values in coded.values.values()]

    def _container(
        self, data: bytes | str | os.PathLike[str], max_pixels: int | None
    ) -> bitstream.Container:
        """A parsed file of these weights."""
        container = bitstream.parse(_checked_file(data), max_pixels=max_pixels)
        bitstream.require_weights(container, self.fingerprint, self.config["name"])
        container.rate(self.highest_rate)
        return container

    def estimate(self, image: Picture, rate: float | None = None) -> Estimate:
        """The float model's own numbers for a picture: what papers report, without a file.

        Arguments and errors as those of `compress`; the rate is used as it is.
        """
        pixels, rate = _checked_pixels(image), self._checked_rate(rate)
        left = self.require_memory(*pixels.shape[:2], "estimate")
        rates = np.float32([rate])
        with x64():
            precise = rates.astype(_estimate_dtype())
            found = _code_float(self._model, self.params, self._pad(pixels), precise)
        bits, symbols, y_hat = jax.tree.map(np.asarray, found)
        first = self._model.entropy_model().latents[0].name
        height, width = pixels.shape[:2]
        return Estimate(
            bits_y=float(bits["y"]),
            bits_z=float(sum(bits.values()) - bits["y"]),
            z_indices=symbols[first][0].astype(np.int32),
            y_q=symbols["y"][0].astype(np.int32),
            reconstruction=self._reconstruct(y_hat, rate, height, width, left),
        )

    def require_memory(self, height: int, width: int, operation: memory.Operation) -> int | None:
        """The bytes that a picture of this size may take; None where that is not known.

        Raises TooLargeError where it needs more.
        """
        left = None
        if self._max_memory is None and jax.default_backend() != "cpu":
            left = _device_free_bytes()
        coding = 0
        if operation != "estimate" and self._weights.has_entropy:
            coding = self.entropy_model.needed_bytes(*self._coarsest(height, width))
        needed = self._autoencoder().needed_bytes(height, width, operation, coding)
        how = (needed, self._max_memory, height, width, f"to {operation}", left)
        try:
            return memory.require(*how)
        except TooLargeError:  # unless there is room without what is kept for another picture
            for side in self._sides.values():
                side.autoencoder.rest()
            return memory.require(*how)

    def _coarsest(self, height: int, width: int) -> tuple[int, int]:
        """The size of the coarsest latent of a picture."""
        return -(-height // self._multiple), -(-width // self._multiple)

    def nearest_rate(self, rate: float | None) -> float:
        """The rate that a file states where this one is asked for; None: the middle.

        Raises InputError where it is out of range.
        """
        level = bitstream.nearest_level(self._checked_rate(rate), self.highest_rate)
        return bitstream.rate_of(level, self.highest_rate)

    def _checked_rate(self, rate: float | None) -> float:
        if rate is None:
            return self.highest_rate / 2
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
            raise InputError(f"rate must be a number, not {rate!r}.")
        if not 0 <= rate <= self.highest_rate:
            raise InputError(f"rate {rate} is not within 0 .. {self.highest_rate:g}.")
        return float(rate)

    def analyse(self, image: Picture, rate: float | None = None) -> dict[str, np.ndarray]:
        """What is entropy coded, before it is rounded, by latent of the entropy model.

        "y": float32 [1, h, w, C]; "z": int32 indices [1, h / 4, w / 4], of the padded picture.
        Arguments and errors as those of `compress`; the rate is used as it is.
        """
        pixels, rate = _checked_pixels(image), self._checked_rate(rate)
        side = self._encoder_side(restore=False)
        return self._analyse(side, self._latent(pixels, side), rate)

    def _analyse(self, side: _EncoderSide, latent: jax.Array, rate: float) -> dict[str, np.ndarray]:
        found = _analyse(self._model, side.params, latent, np.float32([rate]))
        return jax.tree.map(np.asarray, found)

    def _latent(self, pixels: np.ndarray, side: _EncoderSide) -> jax.Array:
        """l [1, h, w, C] of the padded picture."""
        left = self.require_memory(*pixels.shape[:2], "compress")
        finish = side.autoencoder.begin_encode(pixels, left)
        self._prepare_coding(side, *self._coarsest(*pixels.shape[:2]))
        return finish()

    def _prepare_coding(self, side: _EncoderSide, height: int, width: int) -> None:
        """Compiles what coding needs, once for each size of the coarsest latent."""
        if (height, width) in self._prepared or not self._weights.has_entropy:
            return
        self._prepared.add((height, width))
        model = self.config["model"]
        scale = self._multiple // sizes.downsampling(model)
        shape = (1, scale * height, scale * width, model["latent_channels"])
        latent, rate = (jax.ShapeDtypeStruct(one, np.float32) for one in (shape, (1,)))
        _analyse.prepare(self._model, side.params, latent, rate)
        self.entropy_model.prepare(height, width)

    def _encoder_side(self, restore: bool, fast: bool = False) -> _EncoderSide:
        """What makes y and z of a picture: the model's own, or the restorer's.

        Kept with what was compiled for it.
        """
        if (restore, fast) not in self._sides:
            params = self._restoring if restore else self.params
            engine = engines.choose(self._engine, fast)
            self._sides[restore, fast] = _EncoderSide(params, self._made(params, engine))
        return self._sides[restore, fast]

    @functools.cached_property
    def _restoring(self) -> Mapping[str, Any]:
        """The parameters with the restorer's among them."""
        restorer = companions.load(companions.RESTORER, self._weights, self._restorer)
        return companions.restoring(self.params, jax.device_put(restorer))

    def _reconstruct(
        self,
        y_hat: np.ndarray | jax.Array,
        rate: float,
        height: int,
        width: int,
        left: int | None,
        style: painting.Style | None = None,
        fast: bool = False,
    ) -> np.ndarray:
        """What is drawn of y_hat [1, h, w, C], within `left` bytes: uint8 [height, width, 3]."""
        latent = _synthesise(self._model, self.params, y_hat, np.float32([rate]))
        return self._draw(latent, height, width, left, style, fast)

    def _draw(
        self,
        latent: jax.Array,
        height: int,
        width: int,
        left: int | None,
        style: painting.Style | None,
        fast: bool,
    ) -> np.ndarray:
        """What G makes of l_hat [1, h, w, C], painted where there is a style.

        Painting takes less memory than the entropy networks did, so that it needs no room of its
        own.
        """
        if style is None:
            return self._autoencoder(fast).generate(latent, height, width, left)
        vqvae = self.params["vqvae"]
        latent, generator = painting.paint(
            self._model.vqvae.generator, vqvae["generator"], self._stylists, latent, style
        )
        params = {**self.params, "vqvae": {**vqvae, "generator": generator}}
        painter = self._made(params, engines.OnXLA())  # compiled once for all pictures' weights
        return painter.generate(latent, height, width, left)

    def _style(self, style: Picture | None, strength: float) -> painting.Style | None:
        """What `decompress` is told of a style; None where it changes nothing."""
        strength = _checked_strength(strength)
        if style is None or not strength:
            return None
        pixels = painting.sized(_checked_pixels(style))
        _ = self._stylists  # that there are none is known before anything is compiled
        left = self.require_memory(*pixels.shape[:2], "compress")
        return painting.style_of(self._autoencoder().encode(pixels, left), pixels, strength)

    @functools.cached_property
    def _stylists(self) -> Mapping[str, Any]:
        """The stylist's parameters."""
        return jax.device_put(companions.load(companions.STYLIST, self._weights, self._stylist))

    def _pad(self, pixels: np.ndarray) -> np.ndarray:
        """[height, width, 3] -> [1, H, W, 3], sides multiples of what the model takes."""
        height, width = pixels.shape[:2]
        padding = ((0, -height % self._multiple), (0, -width % self._multiple), (0, 0))
        return np.pad(pixels, padding, mode="edge")[None]

    def _autoencoder(self, fast: bool = False) -> Autoencoder:
        """The model's own E and G."""
        return self._encoder_side(False, fast).autoencoder

    def _made(self, params: Mapping[str, Any], engine: engines.Engine) -> Autoencoder:
        return Autoencoder(self.config["model"], self._model, params, engine)

    @functools.cached_property
    def entropy_model(self) -> ExactModel:
        """The exact entropy model, which makes payloads of latents.

        Raises WeightsError where the weights have none.
        """
        tree = self._weights.entropy
        if tree is None:
            raise WeightsError(
                f"The weights {self.config['name']!r} have no exact entropy model, so they can "
                "estimate but not write files; export or convert them anew."
            )
        return ExactModel(tree, make_family=families.from_file(self.plugins))

    def _code_latent(
        self, side: _EncoderSide, latent: jax.Array, shape: tuple[int, ...], level: int
    ) -> bytes:
        """The file of a picture [height, width, 3] whose latent is given."""
        rate = bitstream.rate_of(level, self.highest_rate)
        coded = self.entropy_model.encode(self._analyse(side, latent, rate))
        payload, options = self.entropy_model.write(coded)
        height, width = shape[:2]
        return bitstream.serialise(
            bitstream.Container(
                width, height, level, self.fingerprint, payload, options, _check(coded)
            )
        )

    def decode_symbols(self, container: bitstream.Container) -> Coded:
        """The symbols of a parsed file, and what they stand for.

        Raises BitstreamError where the file is damaged.
        """
        size = self._coarsest(container.height, container.width)
        coded = self.entropy_model.decode(container.payload, container.options, *size)
        bitstream.require_symbols(container, *(values[0] for values in coded.values.values()))
        return coded

    def _decode_latent(self, container: bitstream.Container) -> np.ndarray:
        """y_hat float32 [1, h, w, C] of a parsed file."""
        return self.entropy_model.latent(self.decode_symbols(container), "y")


def _check(coded: Coded) -> int:
    return bitstream.symbols_check(*(values[0] for values in coded.values.values()))


def _device_free_bytes() -> int | None:
    """What the accelerator has left; None where it does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def _build(loaded: weights.Weights, plugins: Sequence[str]) -> glc.GLC:
    """The model of a weights file; whether its parameters fit shows when a program is traced."""
    model = {**loaded.config["model"], **dict.fromkeys(weights.TRAINING_PARTS)}
    try:
        return glc.build(model, find=choices.of_file(plugins))
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, ConfigError) as error:
        name = loaded.config["name"]
        raise WeightsError(f"The config of the weights {name!r} makes no model: {error}") from error


def _checked_file(data: bytes | str | os.PathLike[str]) -> bytes:
    """The bytes of a file that may be given by its path."""
    if isinstance(data, (str, os.PathLike)):
        try:
            return pathlib.Path(data).read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(f"{data}: cannot be read ({error}).") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(f"A file must be its bytes or its path, not a {type(data).__name__}.")
    return bytes(data)


def _checked_pixels(image: Picture) -> np.ndarray:
    if isinstance(image, (str, os.PathLike)):
        image = images.read(image)
    elif not isinstance(image, np.ndarray):
        if not hasattr(image, "getbands"):
            raise InputError(
                "An image must be a numpy array, a Pillow image or a path, not a "
                f"{type(image).__name__}."
            )
        image = images.to_rgb(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"An image must be uint8 [height, width, 3] and not empty, not {image.dtype} "
            f"{list(image.shape)}."
        )
    for side in image.shape[:2]:
        if side > bitstream.MAX_SIDE:
            raise InputError(f"A side of {side} pixels is over the format's {bitstream.MAX_SIDE}.")
    return image


def _checked_strength(strength: float) -> float:
    if isinstance(strength, bool) or not isinstance(strength, numbers.Real):
        raise InputError(f"The strength of a style must be a number, not {strength!r}.")
    if not 0 <= strength <= 1:
        raise InputError(f"The strength {strength} of a style is not within 0 .. 1.")
    return float(strength)


def _program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once for each model and shape, whatever the codec object.

    Its `prepare` compiles for shapes in place of arrays. Raises WeightsError where the parameters
    are not those of the model.
    """
    compiled = Jitted(function, statics=1)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        with fitting():
            return compiled(*arguments)

    def prepare(*arguments: Any) -> None:
        with fitting():
            compiled.prepare(*arguments)

    run.jitted, run.prepare = compiled, prepare
    return run


@_program
def _analyse(
    model: glc.GLC, params: Mapping, latent: jax.Array, rate: jax.Array
) -> dict[str, jax.Array]:
    return model.apply({"params": params}, latent, rate, method="to_code")


def _estimate_dtype() -> type:
    """float64 where it can be had: what an estimate rounds is then free of float32's noise.

    In float32 about one y_q in 100,000 falls on the other side of a half, differently in every
    implementation, and a single one can show all over the picture.
    """
    return np.float32 if jax.default_backend() == "tpu" else np.float64


@_program
def _code_float(
    model: glc.GLC, params: Mapping, pixels: jax.Array, rate: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """Bits and symbols by latent, and y_hat (float32), computed in the type of `rate`."""
    variables = {"params": jax.tree.map(lambda leaf: leaf.astype(rate.dtype), params)}
    x = to_model_range(pixels, rate.dtype)
    latent = model.apply(variables, x, method="encode")
    code = model.apply(variables, latent, rate, method="code", estimate=True)
    bits = {name: code.bits(name)[0] for name in code.coded}
    symbols = {name: one.symbols for name, one in code.coded.items()}
    return bits, symbols, code.coded["y"].values.astype(jnp.float32)


@_program
def _synthesise(model: glc.GLC, params: Mapping, y_hat: jax.Array, rate: jax.Array) -> jax.Array:
    return model.apply({"params": params}, y_hat, rate, method="synthesis")


def _halve(latent: jax.Array) -> jax.Array:
    """Means over 2 x 2: [1, H, W, C] -> [1, H / 2, W / 2, C]; sides are multiples of 4."""
    _, height, width, channels = latent.shape
    return latent.reshape(1, height // 2, 2, width // 2, 2, channels).mean((2, 4))
