"""E and G over pictures of any size: the one place that decides how they run.

Over the whole picture, in one program for each size, where that takes little memory: on an
accelerator what it has, elsewhere AT_ONCE, or more where tiles would take long. Otherwise tile by
tile (`glc_jax.tiles`), in a few programs that serve every size, with as much memory as a plan says.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from glc_jax import memory
from glc_jax.engines import Engine
from glc_jax.errors import WeightsError
from glc_jax.memory import PICTURE_BYTES
from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range, to_pixels
from glc_jax.models.vqvae import Encoder, Generator
from glc_jax.tiles.maps import Memory, Picture, Pixels, Strips
from glc_jax.tiles.plan import Plan, plans
from glc_jax.tiles.run import run
from glc_jax.tiles.stages import Chain, chain

AT_ONCE = 2 * 10**9
"""Bytes that a whole picture may take at once on a CPU, which is quicker than tile by tile."""

LONG = 300
"""Multiplications for each byte from which on time counts for more than memory: the full-size model
has more than 500, the packaged one 147."""

AT_ONCE_SHARE = 2
"""Into how many parts memory is divided, one of which such a picture may take at once."""

AT_ONCE_MOST = 8 * 10**9
"""Bytes that it may take in any case."""

KEPT_SHARE = 4
"""Into how many parts memory is divided, one of which E and G may keep between two pictures."""

PROGRAMS_SHARE = 8
"""Into how many parts memory is divided, one of which their programs may take."""

COMFORTABLE = 10**9
"""Bytes that tiles take without asking whether fewer would do."""

MOST_WORK = 1.75
"""What saving memory may cost where nothing asks for it, in multiplications over the fewest."""

LATENT_BYTES = 12
"""Of each value of l beside the maps: l on its way between strips and arrays."""

TRANSFORM_BYTES = 40
"""Of each value of y while g_a and h_a, or g_s, run: by XLA's account 28, what goes in and out."""

BESIDE_CODING_BYTES = 8
"""Of each value of y while it is coded: l and y, or what is drawn."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Network:
    """E or G: the function that runs it at once, its module, its parameters and its chain.

    stride: of a position of its input, in pixels of the picture.
    """

    function: Callable[..., jax.Array]
    module: Encoder | Generator
    params: Mapping[str, Any]
    chain: Chain
    stride: int

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Of a picture of this size, which is padded."""
        return height // self.stride, width // self.stride

    @property
    def weight_bytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.params))


class Autoencoder:
    """E and G with their parameters.

    Pictures are padded to the sizes that the model takes by repeating their last row and column.

    Args:
      config: the model section of a config.
      model: the model that it describes.
      params: its parameters.
      engine: what they run on.

    Raises:
      WeightsError: the parameters are not those of the model.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        model: glc.GLC,
        params: Mapping[str, Any],
        engine: Engine,
    ) -> None:
        self._config, self._engine = config, engine
        self._holds: dict[_Network, tuple[tuple[int, ...], int]] = {}
        self._by_tiles_last: _Network | None = None
        self._multiple, self._downsampling = sizes.size_multiple(config), sizes.downsampling(config)
        channels, parts = config["latent_channels"], model.vqvae
        try:
            mine = params["vqvae"]["encoder"], params["vqvae"]["generator"]
            self._encoder = self._network(_encode, parts.encoder, mine[0], 3, 1)
            self._generator = self._network(
                _generate, parts.generator, mine[1], channels, self._downsampling
            )
        except KeyError as error:
            raise WeightsError(f"The weights do not fit their own config: no {error}.") from error

    def _network(
        self,
        function: Callable[..., jax.Array],
        module: Encoder | Generator,
        params: Mapping[str, Any],
        channels: int,
        stride: int,
    ) -> _Network:
        if self._engine.dtype is not None:
            module = module.clone(dtype=self._engine.dtype)
        stages = chain(module.parts(), channels, module.norm_groups, params)
        return _Network(function, module, params, stages, stride)

    def _of(self, operation: memory.Operation) -> _Network:
        """The network that an operation runs over pixels."""
        return self._encoder if operation == "compress" else self._generator

    def encode(self, picture: np.ndarray, limit: int | None = None) -> jax.Array:
        """E: uint8 [height, width, 3] -> l [1, h, w, C] of the padded picture.

        limit: bytes that it may take; where even the smallest plan needs more, that plan is used.
        """
        return self.begin_encode(picture, limit)()

    def begin_encode(
        self, picture: np.ndarray, limit: int | None = None
    ) -> Callable[[], jax.Array]:
        """`encode` for a caller with something else to do meanwhile: call what it gives."""
        height, width = self._padded(*picture.shape[:2])
        needed = self._whole(height, width, "compress", limit)
        if needed is not None:
            padding = [(0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)]
            pixels = np.pad(picture, padding, mode="edge")[None]
            begun = self._begin(self._encoder, pixels, needed)
            return lambda: jnp.asarray(self._finish(begun, limit))
        return lambda: self._encode_by_tiles(picture, height, width, limit)

    def _encode_by_tiles(
        self, picture: np.ndarray, height: int, width: int, limit: int | None
    ) -> jax.Array:
        room = self._for_maps(limit, height, width)
        plan = choose(self._encoder.chain, height, width, room)
        source = Pixels(picture, height, width)
        channels = self._encoder.chain.points[-1].channels[0]
        h, w = self._generator.input_size(height, width)
        buffers = Memory()
        latent = Strips(h, w, channels, buffers)
        self._by_tiles(self._encoder, plan, source, latent, buffers)
        # A tighter plan than without a limit: coding comes next and needs the programs' memory.
        if plan != choose(self._encoder.chain, height, width, None):
            self._engine.forget()
        return jnp.asarray(latent.window(0, 0, h, w))

    def generate(
        self, latent: jax.Array, height: int, width: int, limit: int | None = None
    ) -> np.ndarray:
        """G: l [1, h, w, C] -> uint8 [height, width, 3], cut from the top left.

        limit: as that of `encode`.
        """
        needed = self._whole(height, width, "decompress", limit)
        if needed is not None:
            begun = self._begin(self._generator, latent, needed)
            return self._finish(begun, limit)[0, :height, :width]
        _, h, w, channels = latent.shape
        plan = choose(self._generator.chain, h, w, self._for_maps(limit, height, width))
        buffers = Memory()
        source, picture = Strips(h, w, channels, buffers), Picture(height, width)
        source.write(0, 0, np.asarray(latent)[0])
        self._by_tiles(self._generator, plan, source, picture, buffers, to_pixels)
        return picture.pixels

    def _begin(self, network: _Network, array: Any, needed: int) -> Any:
        """What E or G makes of an array at once, in `needed` bytes; it may still be computed."""
        held = array.shape, needed
        if self._holds.get(network, held) != held:
            self.rest()
        self._holds[network] = held
        with fitting():
            return self._engine.run(network.function, network.module, network.params, array)

    def _finish(self, begun: Any, limit: int | None) -> np.ndarray:
        """What was begun.

        The memory in which it was computed is kept for another picture of its size where it is,
        with what is kept already, a small part of all.
        """
        try:
            return np.asarray(begun)
        finally:
            held = sum(needed for _, needed in self._holds.values())
            if limit is None or KEPT_SHARE * held > limit:
                self.rest()

    def rest(self) -> None:
        """The engine holds no memory for computing afterwards."""
        self._holds = {}
        self._engine.rest()

    def _by_tiles(
        self,
        network: _Network,
        plan: Plan,
        source: Any,
        target: Any,
        buffers: Memory,
        finish: Any = None,
    ) -> None:
        self.rest()
        if self._by_tiles_last is not network:  # the many programs of the other one take memory
            self._engine.forget()
        self._by_tiles_last = network
        given = network.chain, plan, network.params
        try:
            with fitting():
                run(*given, source, target, buffers, finish, self._engine)
        finally:
            self.rest()

    def prepare_generate(self, height: int, width: int, limit: int | None = None) -> None:
        """Begins to compile what `generate` needs for a picture of this size."""
        if self._whole(height, width, "decompress", limit) is not None:
            network, channels = self._generator, self._config["latent_channels"]
            h, w = network.input_size(*self._padded(height, width))
            shape = jax.ShapeDtypeStruct((1, h, w, channels), jnp.float32)
            with fitting():
                self._engine.prepare(network.function, network.module, network.params, shape)

    def needed_bytes(
        self, height: int, width: int, operation: memory.Operation, coding: int = 0
    ) -> int:
        """The least that a picture of this size takes.

        coding: bytes of which entropy coding says that it takes them (`ExactModel.needed_bytes`).
        """
        whole = memory.needed_bytes(self._config, height, width, operation)
        if operation == "estimate":
            return whole
        height, width = self._padded(height, width)
        h, w = self._generator.input_size(height, width)
        network = self._of(operation)
        maps = plans(network.chain, *network.input_size(height, width))[-1].bytes
        values, picture = h * w * self._config["latent_channels"], PICTURE_BYTES * height * width
        networks = min(whole, picture + maps + LATENT_BYTES * values)
        between = max(TRANSFORM_BYTES * values, coding + BESIDE_CODING_BYTES * values)
        return max(networks, picture + between)

    def _for_maps(self, limit: int | None, height: int, width: int) -> int | None:
        """What is left of a limit beside the picture and its like, and the engine's programs."""
        if limit is None:
            return None
        return limit - PICTURE_BYTES * height * width - self._engine.keep(limit // PROGRAMS_SHARE)

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        return height + -height % self._multiple, width + -width % self._multiple

    def _whole(
        self, height: int, width: int, operation: memory.Operation, limit: int | None
    ) -> int | None:
        """The bytes that a picture takes which is handled at once; None where it is not."""
        needed = memory.needed_bytes(self._config, height, width, operation)
        if jax.default_backend() == "cpu":
            most = AT_ONCE
            if limit is not None and self._work(height, width, operation) > LONG * needed:
                most = max(most, min(AT_ONCE_MOST, limit // AT_ONCE_SHARE))
            limit = most if limit is None else min(limit - self._programs(limit, operation), most)
        return needed if limit is None or needed <= limit else None

    def _programs(self, limit: int, operation: memory.Operation) -> int:
        """What programs take of a limit where a picture is handled at once."""
        network = self._of(operation)
        one = self._engine.program_bytes(len(network.chain.stages), network.weight_bytes)
        return max(one, self._engine.keep(limit // PROGRAMS_SHARE))

    def _work(self, height: int, width: int, operation: memory.Operation) -> float:
        """Multiplications of E or G over a picture."""
        network = self._of(operation)
        h, w = network.input_size(*self._padded(height, width))
        return h * w * network.chain.work


def _encode(encoder: Encoder, params: Mapping, pixels: jax.Array) -> jax.Array:
    return encoder.apply({"params": params}, to_model_range(pixels)).astype(jnp.float32)


def _generate(generator: Generator, params: Mapping, latent: jax.Array) -> jax.Array:
    return to_pixels(generator.apply({"params": params}, latent).astype(jnp.float32))


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Raises WeightsError where the parameters are not those of the model."""
    try:
        yield
    except FlaxError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"The weights do not fit their own config: {reason}") from error


def choose(network: Chain, height: int, width: int, limit: int | None) -> Plan:
    """The plan for an input of this size.

    The fewest multiplications that stay within COMFORTABLE bytes; beyond that, the least memory
    that costs at most MOST_WORK; and within the limit in any case, where some plan is.
    """
    possible = plans(network, height, width)
    chosen = next(
        (plan for plan in possible if plan.bytes <= COMFORTABLE and plan.work <= MOST_WORK),
        [plan for plan in possible if plan.work <= MOST_WORK][-1],
    )
    if limit is None or chosen.bytes <= limit:
        return chosen
    return next((plan for plan in possible if plan.bytes <= limit), possible[-1])
