"""An entropy model is one object: an ordered list of groups of integer symbols.

A file holds some latents (z, then y); each is coded in one or more groups, in order. A group says
where its symbols lie (`Block`), which family of distributions they have, and which function of
what was decoded before gives the family's parameters. Everything walks this one list: training
and the estimate here (`EntropyModel.code`), files in `exact_model`, calibration in `export`.

What the functions see and give is a state, arrays by name:

    z, y           the latents: what is decoded of them so far, 0 elsewhere
    scale, mean,   whatever the functions of earlier groups gave: parameters of their families,
    quant_step...  and what they keep for later ones

The functions belong to parts of a model, objects with a method `parameters(step, *reads)` that
gives a dict of arrays; Flax modules, usually, but nothing here knows Flax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glc_jax.entropy import later
from glc_jax.entropy.families import Family
from glc_jax.errors import ConfigError

if TYPE_CHECKING:
    import jax

jnp, lax = later.module("jax.numpy"), later.module("jax.lax")

State = dict[str, "jax.Array"]
Quantise = Callable[["jax.Array", "jax.Array | None"], tuple["jax.Array", "jax.Array"]]
"""(residuals, the scale of their distributions or None) -> what the decoder gets of them, what the
bits are counted of."""


@dataclass(frozen=True)
class Block:
    """Some positions of a latent, and some of its channels.

    rows, columns: (first, step). channels: (first, stop); None: all, or a latent without any.
    """

    rows: tuple[int, int] = (0, 1)
    columns: tuple[int, int] = (0, 1)
    channels: tuple[int, int] | None = None

    def of(self, x: Any, width: int = 1) -> tuple[slice, ...]:
        """What indexes x [B, H, W, ...], whose last axis has `width` values for each channel."""
        index = [slice(None), slice(self.rows[0], None, self.rows[1])]
        index.append(slice(self.columns[0], None, self.columns[1]))
        if self.channels is not None:
            index += [slice(None)] * (x.ndim - 4)
            index.append(slice(self.channels[0] * width, self.channels[1] * width))
        return tuple(index)


WHOLE = (Block(),)
"""Everything at once."""


@dataclass(frozen=True)
class Latent:
    """One array of integer symbols.

    Attributes:
      name: in the state.
      part: the part of the model that knows it: `embed(symbols)`, and for vectors
        `quantise(values)`, which gives an object with `indices` and `quantized`.
      shape: of one picture's symbols, in the sizes h and w of the coarsest latent: "h, w".
      vectors: whether a symbol is the index of a vector, and the array of them has no channels.
      unit: the name in the state of what one step of the symbols is worth; None: 1. What is
        coded is the target over the unit.
    """

    name: str
    part: str
    shape: str
    vectors: bool = False
    unit: str | None = None


@dataclass(frozen=True)
class Group:
    """Symbols that are coded together.

    Attributes:
      name: for people: "z", "y/0".
      latent: whose symbols they are.
      blocks: where they lie, all of the same number of rows and columns. Their order in a file is
        that of the blocks' arrays, concatenated along the channels.
      family: their distributions.
      part, step: the part whose `parameters(step, *reads)` gives the family's parameters, each in
        the shape of the whole latent, its last axis times the family's `width`.
      reads: names in the state.
      counted: whether how often each symbol occurs is counted when the weights are exported.
    """

    name: str
    latent: str
    blocks: tuple[Block, ...]
    family: Family
    part: str
    step: int = 0
    reads: tuple[str, ...] = ()
    counted: bool = False

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """True where its symbols lie: bool of the latent's shape without the batch."""
        mask = np.zeros((1, *shape), bool)
        for block in self.blocks:
            mask[block.of(mask)] = True
        return mask[0]


@dataclass(frozen=True)
class Derived:
    """An entry of the state that follows from others: `getattr(part, method)(*reads)`."""

    part: str
    method: str
    reads: tuple[str, ...]


class CodedLatent(NamedTuple):
    """What coding made of one latent.

    values: what the decoder has of it, the unit multiplied in (of vectors: the vectors).
    symbols: residuals as l_hat saw them, or indices. parameters: of the family, those of each
    element's own group. bits: of each group by name, [B]. quantised: what the part's `quantise`
    gave, for vectors.
    """

    values: jax.Array
    symbols: jax.Array
    parameters: dict[str, jax.Array]
    bits: dict[str, jax.Array]
    quantised: Any


Vectors = Callable[[Latent, Any, "jax.Array"], "jax.Array"]
"""(latent, what its part's `quantise` gave, target) -> the vectors that go on."""


def rounded(values: jax.Array, scale: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """What a file does: the nearest integer, half to even, for the decoder and for the bits."""
    del scale
    integers = jnp.round(values)
    return integers, integers


def quantised_vectors(latent: Latent, quantised: Any, values: jax.Array) -> jax.Array:
    """What a file does: the vectors that the indices stand for."""
    del latent, values
    return quantised.quantized


@dataclass(frozen=True)
class EntropyModel:
    """Latents and groups in the order of the file.

    Raises ConfigError where groups and latents do not fit together.
    """

    latents: tuple[Latent, ...]
    groups: tuple[Group, ...]
    derived: Mapping[str, Derived] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [latent.name for latent in self.latents]
        order = [names.index(g.latent) if g.latent in names else -1 for g in self.groups]
        if order != sorted(order) or set(order) != set(range(len(names))):
            raise ConfigError(
                f"The groups {[g.name for g in self.groups]} must code the latents {names}, one "
                "after the other."
            )

    def of(self, latent: str) -> list[Group]:
        """The groups of a latent."""
        return [group for group in self.groups if group.latent == latent]

    def parameters(self, model: Any, group: Group, state: Mapping[str, jax.Array]) -> State:
        """What a group's function gives."""
        reads = [self.read(model, name, state) for name in group.reads]
        given = getattr(model, group.part).parameters(group.step, *reads)
        return {
            name: value.astype(jnp.promote_types(value.dtype, jnp.float32))
            for name, value in given.items()
        }

    def to_code(self, model: Any, targets: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What `exact_model.ExactModel.encode` takes: indices of vectors, the rest as it is."""
        return {
            latent.name: getattr(model, latent.part).quantise(targets[latent.name]).indices
            if latent.vectors
            else targets[latent.name]
            for latent in self.latents
        }

    def counted(
        self, model: Any, targets: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """What the exact entropy model codes of `targets`, and each group's bits [B] by its name,
        as the float model's reports count them: the two sides of a comparison."""
        coded = self.code(model, targets, estimate=True)
        bits = {name: each for one in coded.values() for name, each in one.bits.items()}
        return self.to_code(model, targets), bits

    def read(self, model: Any, name: str, state: Mapping[str, jax.Array]) -> jax.Array:
        """An entry of the state, computed now where it is derived."""
        if name in state:
            return state[name]
        if name not in self.derived:
            raise ConfigError(f"A group reads {name!r}, which nothing before it gives.")
        derived = self.derived[name]
        reads = [self.read(model, other, state) for other in derived.reads]
        return getattr(getattr(model, derived.part), derived.method)(*reads)

    def code(
        self,
        model: Any,
        targets: Mapping[str, jax.Array],
        quantise: Quantise = rounded,
        vectors: Vectors = quantised_vectors,
        estimate: bool = False,
        training: bool = False,
        watch: Callable[[Group, State], None] | None = None,
    ) -> dict[str, CodedLatent]:
        """Codes the latents in floats, differentiably: by latent's name what came of it.

        Args:
          model: has the parts as attributes.
          targets: of each latent the real values [B, H, W, C].
          quantise: rounding, or a stand-in for training.
          vectors: those that the indices stand for, or a stand-in for training.
          estimate: count the bits as papers report them.
          training: count them with the families' bounds for training.
          watch: is shown the state that each group's function is about to read.
        """
        state: State = {}
        watch = watch or (lambda group, state: None)
        coded = {}
        for latent in self.latents:
            code = self._code_vectors if latent.vectors else self._code_values
            how = vectors if latent.vectors else quantise
            found, counted = code(model, latent, targets[latent.name], how, state, watch)
            bits = self._bits(latent, found, counted, estimate, training)
            coded[latent.name] = found._replace(bits=bits)
        return coded

    def _code_vectors(self, model, latent, target, vectors, state, watch):
        part = getattr(model, latent.part)
        quantised = part.quantise(target)
        values = vectors(latent, quantised, target)
        seen, assembled = jnp.zeros_like(values), {}
        for group in self.of(latent.name):
            state[latent.name] = seen
            watch(group, state)
            given = self.parameters(model, group, state)
            mask = group.mask(quantised.indices.shape[1:])
            _assemble(assembled, group, given, mask)
            state.update(given)
            seen = seen + jnp.asarray(mask[..., None], values.dtype) * values
        state[latent.name] = seen
        found = CodedLatent(values, quantised.indices, assembled, {}, quantised)
        return found, quantised.indices

    def _code_values(self, model, latent, target, quantise, state, watch):
        unit, scaled = None, target
        symbols = values = counted = jnp.zeros_like(target)
        assembled: State = {}
        for group in self.of(latent.name):
            state[latent.name] = values
            watch(group, state)
            given = self.parameters(model, group, state)
            state.update(given)
            if latent.unit and unit is None:
                unit = state[latent.unit]
                scaled = target / unit
            mask_of = group.mask(target.shape[1:])
            mask = jnp.asarray(mask_of, target.dtype)
            parameters = {name: given[name] for name in group.family.parameters}
            centre = group.family.centre(**parameters)
            decoded, bits_of = quantise(scaled - centre, group.family.spread(**parameters))
            symbols = symbols + mask * decoded
            counted = counted + mask * bits_of
            values = values + mask * (decoded + centre)
            _assemble(assembled, group, given, mask_of)
        state[latent.name] = values
        values = values if unit is None else values * unit
        return CodedLatent(values, symbols, assembled, {}, None), counted

    def _bits(self, latent, found, counted, estimate, training) -> dict[str, jax.Array]:
        bits, known = {}, {}
        for group in self.of(latent.name):
            family = group.family
            if family not in known:  # of groups of one family, all at once
                seen = family.trainable() if training else family
                count = seen.estimate if estimate else seen.bits
                known[family] = count(
                    counted, **{name: found.parameters[name] for name in family.parameters}
                )
            mask = group.mask(counted.shape[1:])
            each = jnp.where(mask, known[family], 0)
            bits[group.name] = jnp.sum(each, axis=tuple(range(1, each.ndim)))
        return bits


def _assemble(assembled: State, group: Group, given: State, mask: np.ndarray) -> None:
    """Writes a group's parameters where its symbols lie."""
    for name in group.family.parameters:
        value = given[name]
        if group.family.static:
            assembled[name] = value
            continue
        wide = np.broadcast_to(_widened(group, name, mask, value), value.shape[1:])
        assembled[name] = assembled.get(name, 0) + jnp.asarray(wide, value.dtype) * value


def _widened(group: Group, name: str, mask: np.ndarray, value: jax.Array) -> np.ndarray:
    """The mask of a parameter, whose last axis has `width` values for each element."""
    if value.ndim - 1 > mask.ndim:  # a latent without channels
        return mask[..., None]
    return np.repeat(mask, group.family.width(name), axis=-1)


def decoded_mask(groups: Sequence[Group], shape: Sequence[Any]) -> jax.Array:
    """1 where the symbols of the groups lie, else 0: float32 of `shape` [B, H, W, ...].

    Written so that it can be traced where H and W are symbols; blocks of all channels only.
    """
    rows, columns = (lax.broadcasted_iota(jnp.int32, tuple(shape), axis) for axis in (1, 2))
    total = jnp.zeros(tuple(shape), jnp.float32)
    for block in (block for group in groups for block in group.blocks):
        inside = (lax.rem(rows, block.rows[1]) == block.rows[0]) & (
            lax.rem(columns, block.columns[1]) == block.columns[0]
        )
        total = total + inside.astype(jnp.float32)
    return total


def take(x: np.ndarray, blocks: Sequence[Block], width: int = 1) -> np.ndarray:
    """The elements of x [B, H, W, ...] that lie in the blocks: their arrays side by side."""
    parts = [x[block.of(x, width)] for block in blocks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def put(x: np.ndarray, blocks: Sequence[Block], part: np.ndarray) -> None:
    """Writes `part` into x, where `take` finds it."""
    start = 0
    for block in blocks:
        where = block.of(x)
        if len(blocks) == 1:
            x[where] = part
            return
        channels = x[where].shape[-1]
        x[where] = part[..., start : start + channels]
        start += channels
