"""An entropy model in exact integers: latents <-> the payload of a file.

`ExactModel` reads the tree of arrays that `export.export` makes, and walks its groups: run the
group's program on what is decoded so far, pick each symbol's table, code the symbols, put them in
their place. Nothing here knows how many groups there are, or what a hyperprior is.

The tree comes with a weights file and is not trusted.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glc_jax.entropy import later, windows
from glc_jax.entropy import program as programs
from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.families import Family, from_file
from glc_jax.entropy.group_coders import GroupCoder
from glc_jax.entropy.groups import Block, put, take
from glc_jax.entropy.integer import Arithmetic, arithmetic_for
from glc_jax.entropy.operations import require
from glc_jax.entropy.program import Program
from glc_jax.entropy.range_coder import RangeDecoder, RangeEncoder
from glc_jax.entropy.tables import RESIDUAL_LIMIT
from glc_jax.entropy.windows import Form, Pick, Plan
from glc_jax.errors import WeightsError

jax = later.module("jax")

VERSION = 1
CENTRE_LIMIT = (1 << 27) - 1
OPTIONS = 2
"""A file has room for the options of so many latents."""

SYMBOL_BYTES = 24
"""Of each symbol: itself, in its group and in place, its value, its unit, its table."""

WORK_BYTES = 24
"""Of each symbol, beside these, while a group is quantised, sorted by tables or read."""

_PIECE_ROWS = 64


@dataclass(frozen=True)
class LatentEntry:
    """A latent of the tree; see `groups.Latent`. Its values are integers x 2^-exponent."""

    name: str
    shape: tuple[str | int, ...]
    indices: bool
    exponent: int
    unit: str | None


@dataclass(frozen=True, eq=False)
class GroupEntry:
    """A group of the tree; see `groups.Group`. centre: the name of the output that is added."""

    name: str
    latent: int
    blocks: tuple[Block, ...]
    family: Family
    coder: GroupCoder
    centre: str | None
    program: Program | None
    reads: tuple[str, ...]
    channels: int

    @property
    def exponents(self) -> Mapping[str, Any]:
        """Of the program's outputs."""
        return {} if self.program is None else self.program.exponents


class CodedGroup(NamedTuple):
    """One group of a batch, as the coder sees it.

    symbols: integers [B, rows, columns, ...]. index: the table of each. parameters: of coders
    that make their tables on the fly, element by element over the whole batch, [n] or [n, width].
    """

    symbols: np.ndarray
    index: np.ndarray
    parameters: dict[str, np.ndarray]


class Coded(NamedTuple):
    """The outcome of the groups of a batch.

    groups: in order. symbols: by latent, in place, int32 [B, H, W, ...]. values: by latent,
    symbols and centres in fixed point, int32. units: by latent that has one, float64.
    """

    groups: list[CodedGroup]
    symbols: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    units: dict[str, np.ndarray]


class ExactModel:
    """The exact entropy model of one weights file, ready to write and read payloads.

    Compiles once per shape. Raises WeightsError where the tree is malformed.

    Args:
      tree: what `export.export` makes.
      arithmetic: None picks the one that suits JAX's default device.
      make_family: (name, **fields) -> Family; None: those of this package alone.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        arithmetic: Arithmetic | None = None,
        make_family: Callable[..., Family] | None = None,
    ) -> None:
        self.arithmetic = arithmetic or arithmetic_for(jax.default_backend())
        try:
            content = json.loads(np.asarray(tree["model"], np.uint8).tobytes().decode())
            if content["version"] > VERSION:
                raise WeightsError(
                    f"The weights hold an entropy model of version {content['version']}; this "
                    f"glc_jax reads up to {VERSION}. Install a newer one."
                )
            self.latents = [_latent(entry) for entry in content["latents"]]
            self._coders: dict[Any, GroupCoder] = {}
            self._prepared: dict[Any, Any] = {}
            self._plans: dict[Any, Plan] = {}
            self._alike: dict[Any, Plan] = {}
            self.groups = [
                self._group(entry, number, tree, make_family)
                for number, entry in enumerate(content["groups"])
            ]
        except (
            *(KeyError, TypeError, ValueError, AttributeError, IndexError),
            *(OverflowError, RecursionError),
        ) as error:
            raise WeightsError(
                f"The exact entropy model of the weights is incomplete: {error}."
            ) from error
        order = [group.latent for group in self.groups]
        require(order == sorted(order) and set(order) == set(range(len(self.latents))), "groups")
        self._check_names()

    def _check_names(self) -> None:
        """Whether every name stands for what is there when it is needed."""
        latents = [latent.name for latent in self.latents]
        require(len(set(latents)) == len(latents), "two latents of one name")
        given: set[str] = set()
        for group in self.groups:
            latent = self.latents[group.latent]
            given.add(latent.name)
            require(given.issuperset(group.reads), f"{group.name:.40} reads what nothing gives")
            require(not set(latents) & set(group.exponents), "an output has a latent's name")
            given.update(group.exponents)
            require(not latent.unit or latent.unit in given, "a unit that nothing gives")
            require(latent.unit not in latents, "a unit that is a latent")

    def _group(self, entry, number, tree, make_family) -> GroupEntry:
        names = [latent.name for latent in self.latents]
        make_family = make_family or from_file()
        made = make_family(str(entry["family"]["name"]), **dict(entry["family"]["fields"]))
        arrays = tree.get("tables", {}).get(str(number), {})
        key = (made, tuple((name, np.asarray(a).tobytes()) for name, a in sorted(arrays.items())))
        coder = self._coders.setdefault(key, made.coder(arrays))
        program = None
        if entry["program"] is not None:
            program = _program(tree, str(int(entry["program"]))).share(self._prepared)
        reads = tuple(str(name) for name in entry["reads"])
        require(len(reads) == (len(program.structure.inputs) if program else 0), "what is read")
        centre = entry["centre"]
        require(centre is None or (program and centre in program.exponents), "a centre")
        for parameter in (*coder.parameters, *coder.on_the_fly):
            require(program and parameter in program.exponents, "a family's parameter")
        latent = names.index(entry["latent"])
        blocks = tuple(_block(block) for block in entry["blocks"])
        shape = self.latents[latent].shape
        channels = sizes_of.evaluate(shape[2], {}) if len(shape) == 3 else 1
        require(channels > 0, "the channels of a latent")
        cut = {(b.rows[1], b.columns[1], *_width(b)) for b in blocks}
        require(len(cut) == 1, "blocks of a group that are not alike")
        return GroupEntry(
            str(entry["name"]), latent, blocks, made, coder, centre, program, reads, channels
        )

    # Coding.

    def encode(self, targets: Mapping[str, np.ndarray]) -> Coded:
        """Makes symbols of real values: nothing is written yet.

        Args:
          targets: of each latent [B, H, W, ...]: indices as integers, or what is to be rounded.
        """

        def symbols(number: int, latent: LatentEntry, known: _Known) -> np.ndarray:
            group = self.groups[number]
            target = take(np.asarray(targets[latent.name]), group.blocks)
            if latent.indices:
                return target
            unit = 1.0 if known.unit is None else take(known.unit, group.blocks)
            centre = known.centre * 2.0**-latent.exponent
            residual = np.rint(target / unit - centre)
            return np.clip(residual, -RESIDUAL_LIMIT, RESIDUAL_LIMIT - 1).astype(np.int32)

        declared = [latent.shape for latent in self.latents]
        fits = all(latent.name in targets for latent in self.latents)
        require(fits, "its latents are not those of the model")
        shapes = [np.shape(targets[latent.name]) for latent in self.latents]
        sizes = sizes_of.bind(declared, [shape[1:] for shape in shapes])
        return self._walk(shapes[0][0], sizes, symbols)

    def decode(self, payload: bytes, options: int, height: int, width: int) -> Coded:
        """Reads one picture: of height x width, the size of the coarsest latent.

        Raises BitstreamError where the payload is damaged.
        """
        decoder, sizes = RangeDecoder(payload), {"h": height, "w": width}
        first = self.latents[0]
        groups = [number for number, group in enumerate(self.groups) if group.latent == 0]
        self._require(decoder, groups, math.prod(sizes_of.shape(first.shape, sizes)), options)

        def symbols(number: int, latent: LatentEntry, known: _Known) -> np.ndarray:
            group, count = self.groups[number], known.index.size
            self._require(decoder, [number], count, options)
            option = self._option(group, options)
            read = group.coder.decode(
                decoder, known.index.reshape(-1), known.parameters, group.exponents, option
            )
            return read.reshape(known.index.shape)

        return self._walk(1, sizes, symbols)

    def _require(
        self, decoder: RangeDecoder, numbers: Sequence[int], count: int, options: int
    ) -> None:
        """Refuses a payload that cannot hold so many symbols of these groups, before they take
        any memory."""
        groups = [self.groups[number] for number in numbers]
        fewest = min(g.coder.fewest_bits(self._option(g, options)) for g in groups)
        decoder.require(count * fewest, f"its size of {count} symbols in {groups[0].name!r}")

    def latent(self, coded: Coded, name: str) -> np.ndarray:
        """The values of a latent, its unit multiplied in, rounded once: float32 [B, H, W, C]."""
        entry = next((latent for latent in self.latents if latent.name == name), None)
        require(entry, f"it has no latent {name!r}")
        found, unit = coded.values[name], coded.units.get(name)
        result = np.empty(found.shape, np.float32)
        for row in range(0, found.shape[1], _PIECE_ROWS):
            rows = np.s_[:, row : row + _PIECE_ROWS]
            values = np.ldexp(found[rows].astype(np.float64), -entry.exponent)
            result[rows] = values if unit is None else values * unit[rows]
        return result

    def prepare(self, height: int, width: int) -> None:
        """Compiles what one picture needs; height, width: of the coarsest latent."""
        if self.arithmetic.xp is not np:
            with _as_described():
                self._prepare({"h": height, "w": width})

    def _prepare(self, sizes: Mapping[str, int]) -> None:
        known: dict[str, Form] = {}
        for group in self.groups:
            latent = self.latents[group.latent]
            shape = (1, *sizes_of.shape(latent.shape, sizes))
            known.setdefault(latent.name, Form(shape, np.dtype(np.int32)))
            if group.program is not None:
                inputs = [known[name] for name in group.reads]
                plan, keep, pick = self._how(group, [x.shape for x in inputs])
                windows.prepare(group.program, plan, self.arithmetic, inputs, keep, pick)
                known |= {name: windows.output(plan, name) for name in keep}

    def needed_bytes(self, height: int, width: int) -> int:
        """The most that coding or decoding one picture takes at one time.

        Args:
          height, width: of the coarsest latent, as for `decode`.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        kept: dict[str, int] = {}
        window, sizes = 0, {"h": height, "w": width}
        for group in self.groups:
            latent = self.latents[group.latent]
            shapes[latent.name] = (1, *sizes_of.shape(latent.shape, sizes))
            if group.program is not None:
                plan = self._plan(group, [shapes[name] for name in group.reads])
                window = max(window, plan.bytes)
                shapes |= {name: kind.shape for name, kind in plan.kinds.items()}
                needed = self._needed_of(group) & set(plan.kinds)
                kept |= {name: windows.bytes_of(plan.kinds[name]) for name in needed}
                kept |= {
                    f"{name} side by side": 8 * plan.kinds[name].size
                    for name in group.coder.on_the_fly
                }
        symbols = sum(math.prod(shapes[latent.name]) for latent in self.latents)
        work = max(window, WORK_BYTES * symbols)
        return sum(kept.values()) + SYMBOL_BYTES * symbols + work

    def write(self, coded: Coded, picture: int = 0) -> tuple[bytes, int]:
        """The payload of one picture of a batch, and the options of its latents, one bit each."""
        parts, encoder = self._parts(coded, picture), RangeEncoder()
        options = self._options(parts)
        for group, part in zip(self.groups, parts, strict=True):
            group.coder.encode(encoder, *part, self._option(group, options))
        return encoder.finish(), options

    def bits(self, coded: Coded, picture: int = 0) -> dict[str, float]:
        """What the coder spends on each group of one picture, by the group's name."""
        parts = self._parts(coded, picture)
        options = self._options(parts)
        return {
            group.name: float(np.sum(group.coder.bits(*part, self._option(group, options))))
            for group, part in zip(self.groups, parts, strict=True)
        }

    def _parts(self, coded: Coded, picture: int) -> list[tuple[Any, ...]]:
        """Of each group what its coder takes: symbols, index, parameters, exponents."""
        parts = []
        for group, one in zip(self.groups, coded.groups, strict=True):
            count = one.symbols[picture].size
            parameters = {
                name: value[picture * count : (picture + 1) * count]
                for name, value in one.parameters.items()
            }
            flat = (one.symbols[picture].reshape(-1), one.index[picture].reshape(-1))
            parts.append((*flat, parameters, group.exponents))
        return parts

    def _options(self, parts: Sequence[tuple[Any, ...]]) -> int:
        """The bit of each latent all of whose groups want their coder's option."""
        options = (1 << min(len(self.latents), OPTIONS)) - 1
        for group, part in zip(self.groups, parts, strict=True):
            if not group.coder.wants_option(*part):
                options &= ~(1 << group.latent)
        return options

    def _option(self, group: GroupEntry, options: int) -> bool:
        return bool(group.latent < OPTIONS and options >> group.latent & 1)

    # The walk over the groups.

    def _walk(
        self,
        batch: int,
        sizes: Mapping[str, int],
        symbols_of: Callable[[int, LatentEntry, _Known], np.ndarray],
    ) -> Coded:
        with _as_described():
            return self._walk_as_described(batch, sizes, symbols_of)

    def _walk_as_described(self, batch, sizes, symbols_of) -> Coded:
        state: dict[str, np.ndarray] = {}
        exponents: dict[str, Any] = {}
        coded = Coded([], {}, {}, {})
        most = math.prod(sizes_of.shape(self.latents[0].shape, sizes))
        most = batch * (programs.MAX_GROWTH * most + programs.MAX_CONSTANT)
        for number, group in enumerate(self.groups):
            latent = self.latents[group.latent]
            if latent.name not in state:
                shape = (batch, *sizes_of.shape(latent.shape, sizes))
                require(math.prod(shape) <= most, "a latent is too large for the first one")
                coded.symbols[latent.name] = np.zeros(shape, np.int32)
                coded.values[latent.name] = state[latent.name] = np.zeros(shape, np.int32)
            known = self._known(group, latent, state, exponents, coded)
            symbols = np.asarray(symbols_of(number, latent, known), np.int32)
            put(coded.symbols[latent.name], group.blocks, symbols)
            value = symbols * np.int32(1 << latent.exponent) + known.centre
            put(coded.values[latent.name], group.blocks, value.astype(np.int32))
            coded.groups.append(CodedGroup(symbols, known.index, known.parameters))
        return coded

    def _known(self, group, latent, state, exponents, coded) -> _Known:
        """Runs a group's program; what it gives goes into the state."""
        shape, parameters = coded.symbols[latent.name].shape, {}
        if group.program is None:
            index = group.coder.index(np, {})
        else:
            index, given = self._run(group, [state[name] for name in group.reads])
            state.update(given)
            exponents.update(group.program.exponents)
            parameters = {
                name: _side_by_side(np.asarray(given[name]), group, len(shape) == 4)
                for name in group.coder.on_the_fly
            }
        index = take(np.broadcast_to(np.asarray(index), shape), group.blocks)
        centre: Any = np.int32(0)
        if group.centre:
            centre = take(np.asarray(state[group.centre]), group.blocks).astype(np.int32)
        if latent.unit and latent.name not in coded.units:
            unit = np.asarray(state[latent.unit], np.float64)
            coded.units[latent.name] = np.ldexp(unit, -np.asarray(exponents[latent.unit]))
        return _Known(index, centre, coded.units.get(latent.name), parameters)

    def _run(
        self, group: GroupEntry, inputs: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The table of each element, and those of the program's outputs that are needed."""
        plan, keep, pick = self._how(group, [np.shape(x) for x in inputs])
        given, index = windows.run(group.program, plan, self.arithmetic, inputs, keep, pick)
        return group.coder.index(np, {}) if index is None else index, given

    def _how(
        self, group: GroupEntry, shapes: Sequence[tuple[int, ...]]
    ) -> tuple[Plan, list[str], Pick | None]:
        """How a group's program runs, which outputs are kept, and what is picked by them."""
        program, coder = group.program, group.coder
        plan, pick = self._plan(group, shapes), None
        if coder.parameters:
            exponents = tuple(
                (name, tuple(np.atleast_1d(program.exponents[name]).tolist()))
                for name in coder.parameters
            )
            pick = Pick(coder.index, coder.parameters, exponents)
        return plan, sorted(set(program.exponents) & self._needed_of(group)), pick

    def _needed_of(self, group: GroupEntry) -> set[str]:
        """Names of what this group's coding and the groups after it need."""
        later = self.groups[self.groups.index(group) + 1 :]
        units = {latent.unit for latent in self.latents if latent.unit}
        read = {name for one in later for name in one.reads}
        return read | units | {*group.coder.on_the_fly, *filter(None, [group.centre])}

    def _plan(self, group: GroupEntry, shapes: Sequence[tuple[int, ...]]) -> Plan:
        """How its program runs over inputs of these shapes."""
        program, few_shapes = group.program, self.arithmetic.xp is not np
        key = (id(program), tuple(shapes))
        if key not in self._plans:
            form = (program.structure, *(array.shape for array in program.arrays), *shapes)
            plan = windows.adopted(self._alike.get(form), program, shapes)
            plan = plan or windows.plan(program, shapes, few_shapes, windows.WINDOW_BYTES)
            self._plans[key] = self._alike[form] = plan
        return self._plans[key]


@contextlib.contextmanager
def _as_described() -> Iterator[None]:
    """Raises WeightsError where what a weights file says of its model does not fit together."""
    try:
        yield
    except (ValueError, IndexError, TypeError) as error:
        raise WeightsError(
            f"The exact entropy model of the weights contradicts itself: {error}."
        ) from error


class _Known(NamedTuple):
    """What is known of a group's symbols before they are: see `CodedGroup`.

    centre: what is added to them, in fixed point. unit: of the whole latent, or None.
    """

    index: np.ndarray
    centre: Any
    unit: np.ndarray | None
    parameters: dict[str, np.ndarray]


def _side_by_side(values: np.ndarray, group: GroupEntry, channels: bool) -> np.ndarray:
    """A parameter of a group's elements, in order: int64 [n], or [n, width]."""
    count = values.shape[-1] // (group.channels if channels else 1)
    part = take(values, group.blocks, count).astype(np.int64)
    return part.reshape(-1) if count == 1 else part.reshape(-1, count)


def _program(tree: Mapping[str, Any], number: str) -> Program:
    """A program whose arrays lie in the pool of all programs."""
    stored, pool = tree["programs"][number], tree["arrays"]
    arrays = {str(i): pool[str(int(one))] for i, one in enumerate(stored["arrays"])}
    return Program.from_arrays({"program": stored["program"], **arrays})


def _latent(entry: Mapping[str, Any]) -> LatentEntry:
    shape = entry["shape"]
    require(2 <= len(shape) <= 3 and all(type(size) in (int, str) for size in shape), "a latent")
    exponent, unit = entry["exponent"], entry["unit"]
    require(type(exponent) is int and 0 <= exponent <= 15, "the exponent of a latent")
    require(unit is None or type(unit) is str, "the unit of a latent")
    return LatentEntry(str(entry["name"]), tuple(shape), bool(entry["indices"]), exponent, unit)


def _width(block: Block) -> tuple[int, ...]:
    return () if block.channels is None else (block.channels[1] - block.channels[0],)


def _block(numbers: Sequence[int]) -> Block:
    require(len(numbers) == 6 and all(type(n) is int and n >= 0 for n in numbers), "a block")
    row, row_step, column, column_step, start, stop = numbers
    require(row < row_step and column < column_step and start <= stop, "a block")
    return Block((row, row_step), (column, column_step), (start, stop) if stop else None)
