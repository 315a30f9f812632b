"""From a trained entropy model to the integers of a weights file.

Each group's function becomes a program (`exact`), each family's distribution tables; what
`exact_model.ExactModel` reads is their tree of arrays and one JSON text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import memory
from glc_jax.entropy import exact, families, lower
from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.exact_model import CENTRE_LIMIT, VERSION, ExactModel
from glc_jax.entropy.families import Family, name_of
from glc_jax.entropy.groups import EntropyModel, Group, Latent, decoded_mask
from glc_jax.entropy.integer import LIMIT, HostFloat64
from glc_jax.errors import ConfigError

VALUE_EXPONENT = 12
"""Decoded values, and the means under them, are integers in units of 2^-12."""

KERNEL_BITS = (8, 16)
"""Of the integers in kernels: the first that cost at most DEAR more than the float model."""

DEAR = 0.002

TRIED = 4
"""Batches over which it is measured what kernels of few bits cost."""

Apply = Callable[..., Any]
"""Apply(variables, function, *arrays) calls function(model, *arrays) with the trained parts."""


def export(
    entropy_model: EntropyModel,
    apply: Apply,
    variables: Any,
    samples: Sequence[Mapping[str, Any]],
    kernel_bits: int | None = None,
) -> dict[str, Any]:
    """The tree of arrays of a weights file.

    Args:
      entropy_model: latents and groups.
      apply: runs a function of the model: `lambda v, f, *a: module.apply(v, *a, method=f)`.
      variables: what `apply` takes first, a tree of arrays.
      samples: for each batch the real values of every latent by name, [B, H, W, C], of pictures
        like those that will be coded and at all rates: a few hundred crops.
      kernel_bits: 8 or 16, of the integers in kernels of products (`exact.compile`), of which 8
        take half of the time and half of the space. None: 8, unless over the first TRIED batches
        the groups that have programs take DEAR more bits with them than the float model says.

    Raises:
      ConfigError: a function has no exact form.
      WeightsError: there is no data, or a range is not finite or beyond what integers hold.
    """
    few, many = KERNEL_BITS
    tree = _Export(entropy_model, apply, variables, samples, kernel_bits or few).tree()
    if kernel_bits is None:
        taken, expected = _bits(entropy_model, apply, variables, samples[:TRIED], tree)
        if not taken <= (1 + DEAR) * expected:
            return _Export(entropy_model, apply, variables, samples, many).tree()
    return tree


def modules(entropy_model: EntropyModel) -> list[str]:
    """The modules of the families in use, which are imported."""
    return [type(group.family).__module__ for group in entropy_model.groups]


def _bits(entropy_model, apply, variables, samples, tree) -> tuple[float, float]:
    """What the groups that have programs take, by the programs and by the float model."""
    written = ExactModel(tree, HostFloat64(), families.from_file(modules(entropy_model)))
    counted = jax.jit(lambda variables, targets: apply(variables, entropy_model.counted, targets))
    taken = expected = 0.0
    for targets in samples:
        to_code, bits = jax.device_get(counted(variables, targets))
        coded, pictures = written.encode(to_code), len(next(iter(targets.values())))
        spent = [written.bits(coded, picture) for picture in range(pictures)]
        for group in written.groups:
            if group.program is not None:
                taken += sum(of_picture[group.name] for of_picture in spent)
                expected += float(np.sum(bits[group.name]))
    return taken, expected


class _Export:
    def __init__(self, entropy_model, apply, variables, samples, kernel_bits) -> None:
        self.model, self.apply, self.kernel_bits = entropy_model, apply, kernel_bits
        self.variables = jax.tree.map(jnp.asarray, variables)
        self.latents = {latent.name: latent for latent in entropy_model.latents}
        look = jax.jit(self._floats)  # no attribute: a circle would keep the weights in memory
        self.seen = [self._seen(look, targets) for targets in samples]
        look.clear_cache()
        memory.give_back()
        self.exponents: dict[str, Any] = {
            latent.name: None if latent.vectors else self._exponent(latent)
            for latent in entropy_model.latents
        }
        self.shapes = {latent.name: f"b, {latent.shape}" for latent in entropy_model.latents}

    def _exponent(self, latent: Latent) -> int:
        centred = any(centre_of(group.family) for group in self.model.of(latent.name))
        return VALUE_EXPONENT if centred else 0

    def _seen(self, look: Callable[..., Any], targets: Mapping[str, Any]) -> dict[str, Any]:
        """What each group's function reads over one batch, and each latent's symbols."""
        floats = {name: jnp.asarray(value, jnp.float32) for name, value in targets.items()}
        found, symbols = look(self.variables, floats)
        reads: dict[str, list[np.ndarray]] = {}
        for group in self.model.groups:
            values = []
            for name in self.reads(group):
                value = np.asarray(found[group.name][name])
                if name in self.latents and self.latents[name].vectors:
                    value = np.asarray(symbols[name])
                    if name == group.latent:
                        value = value * self._mask_before(group, value.shape[1:])
                values.append(value)
            reads[group.name] = values
        return {"reads": reads, "symbols": {n: np.asarray(s) for n, s in symbols.items()}}

    def _floats(self, variables: Any, targets: Mapping[str, jax.Array]) -> tuple[Any, Any]:
        """By group what its function reads, and by latent its symbols, in the float model."""
        found: dict[str, Any] = {}

        def run(model: Any, targets: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            def watch(group: Group, state: Mapping[str, jax.Array]) -> None:
                found[group.name] = {name: state[name] for name in self.reads(group)}

            coded = self.model.code(model, targets, watch=watch)
            return {name: one.symbols for name, one in coded.items()}

        symbols = self.apply(variables, run, targets)
        return found, symbols

    def _before(self, group: Group) -> list[Group]:
        """The groups of the same latent that come before."""
        groups = self.model.of(group.latent)
        return groups[: groups.index(group)]

    def _mask_before(self, group: Group, shape: Sequence[int]) -> np.ndarray:
        masks = [one.mask(shape) for one in self._before(group)]
        return np.logical_or.reduce(masks) if masks else np.zeros(shape, bool)

    def reads(self, group: Group) -> list[str]:
        """What a group's program reads: what the group names, followed to what is not derived."""
        found: list[str] = []
        pending = list(group.reads)
        while pending:
            name = pending.pop(0)
            if name in self.model.derived:
                pending = [*self.model.derived[name].reads, *pending]
            elif name not in found:
                found.append(name)
        return found

    def tree(self) -> dict[str, Any]:
        programs, entries, tables, pool = {}, [], {}, _Pool()
        measured = {group.name: self._measure(group) for group in self.model.groups}
        forms = {g.name: self._forms(g, measured) for g in self.model.groups if measured[g.name]}
        for group in self.model.groups:
            # Let go of one by one: they hold the weights, as floats.
            found, number = measured.pop(group.name), None
            if found is not None:
                exponents = [self.exponents[name] for name in self.reads(group)]
                program = found.compile(exponents, forms[group.name], self.kernel_bits)
                number = len(programs)
                programs[str(number)] = pool.stored(program)
                self.exponents |= program.exponents
            del found
            memory.give_back()
            arrays = self._tables(group)
            if arrays:
                tables[str(len(entries))] = arrays
            entries.append(self._entry(group, number))
        content = {
            "version": VERSION,
            "latents": [self._latent(latent) for latent in self.model.latents],
            "groups": entries,
        }
        text = np.frombuffer(json.dumps(content, separators=(",", ":")).encode(), np.uint8)
        tree: dict[str, Any] = {
            "model": text,
            "programs": programs,
            "arrays": {str(i): array for i, array in enumerate(pool.arrays)},
            "tables": tables,
        }
        return {name: part for name, part in tree.items() if len(part)}

    def _latent(self, latent: Latent) -> dict[str, Any]:
        return {
            "name": latent.name,
            "shape": list(sizes_of.split(latent.shape)),
            "indices": latent.vectors,
            "exponent": self.exponents[latent.name] or 0,
            "unit": latent.unit,
        }

    def _entry(self, group: Group, number: int | None) -> dict[str, Any]:
        fields = dataclasses.asdict(group.family)
        return {
            "name": group.name,
            "latent": group.latent,
            "blocks": [
                [*block.rows, *block.columns, *(block.channels or (0, 0))] for block in group.blocks
            ],
            "family": {"name": name_of(group.family), "fields": fields},
            "centre": centre_of(group.family),
            "program": number,
            "reads": self.reads(group) if number is not None else [],
        }

    def _function(self, group: Group) -> Callable[..., dict[str, jax.Array]]:
        """A group's function of what the decoder has: integers of vectors, values of the rest."""
        names, wanted = self.reads(group), self._wanted(group)

        def of_model(model: Any, *arrays: jax.Array) -> dict[str, jax.Array]:
            state = dict(zip(names, arrays, strict=True))
            for name in names:
                if name not in self.latents or not self.latents[name].vectors:
                    continue
                symbols = state[name]
                state[name] = getattr(model, self.latents[name].part).embed(symbols)
                if name == group.latent:
                    mask = decoded_mask(self._before(group), symbols.shape)
                    state[name] = state[name] * mask[..., None]
            given = self.model.parameters(model, group, state)
            return {name: given[name] for name in wanted if name in given}

        return lambda *arrays: self.apply(self.variables, of_model, *arrays)

    def _wanted(self, group: Group) -> set[str]:
        """What a group's function must give: its parameters, units, what later groups read."""
        later = self.model.groups[self.model.groups.index(group) + 1 :]
        read = {name for one in later for name in self.reads(one)}
        units = {latent.unit for latent in self.model.latents if latent.unit}
        own = set() if group.family.static else set(group.family.parameters)
        return own | read | units

    def _measure(self, group: Group) -> exact.Measured | None:
        """The group's function with its ranges; None where there is nothing to compute."""
        calibration = [tuple(seen["reads"][group.name]) for seen in self.seen]
        if not self.reads(group):
            return None
        shapes = [self.shapes[name] for name in self.reads(group)]
        found = exact.measure(self._function(group), calibration, shapes)
        if not found.graph.outputs:
            return None
        for name, node in found.graph.outputs.items():
            self.shapes.setdefault(name, ", ".join(str(size) for size in node.shape))
        memory.give_back()
        return found

    def _forms(self, group: Group, measured: Mapping[str, Any]) -> dict[str, exact.OutputForm]:
        """The centre in the units of the values; what picks a table in 16 bits, and with one
        exponent in all groups of a latent, so that their programs are alike."""
        forms, centre = {}, centre_of(group.family)
        for name in measured[group.name].graph.outputs:
            if name == centre:
                forms[name] = exact.OutputForm(self.exponents[group.latent], CENTRE_LIMIT)
            elif name in group.family.parameters:
                largest = max(
                    found.largest(name)
                    for one in self.model.of(group.latent)
                    if (found := measured[one.name]) and name in found.graph.outputs
                )
                forms[name] = exact.OutputForm(lower.magnitude_exponent(largest, LIMIT), LIMIT)
        return forms

    def _tables(self, group: Group) -> dict[str, np.ndarray]:
        if group.counted:
            counts = sum(
                np.bincount(seen["symbols"][group.latent].reshape(-1), minlength=group.family.size)
                for seen in self.seen
            )
            return group.family.tables(counts=counts)
        if not group.family.static or not group.family.parameters:
            return group.family.tables()
        constants = self.apply(
            self.variables, lambda model: self.model.parameters(model, group, {})
        )
        return group.family.tables(
            **{name: np.asarray(constants[name], np.float64) for name in group.family.parameters}
        )


class _Pool:
    """The arrays of all programs; what several of them use, such as a shared layer, once."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._known: dict[Any, int] = {}

    def stored(self, program: exact.Program) -> dict[str, np.ndarray]:
        """{"program": its JSON, "arrays": the number in the pool of each of its arrays}."""
        arrays = dict(program.to_arrays())
        text = arrays.pop("program")
        numbers = [self._number(arrays[str(i)]) for i in range(len(arrays))]
        return {"program": text, "arrays": np.asarray(numbers, np.int32)}

    def _number(self, array: np.ndarray) -> int:
        content = hashlib.sha256(np.ascontiguousarray(array)).digest()
        key = (array.dtype.str, array.shape, content)
        if key not in self._known:
            self._known[key] = len(self.arrays)
            self.arrays.append(array)
        return self._known[key]


def centre_of(family: Family) -> str | None:
    """The name of the parameter that is the family's centre; None where that is 0."""
    markers = {name: object() for name in family.parameters}
    centre = family.centre(**markers)
    for name, marker in markers.items():
        if centre is marker:
            return name
    if centre == 0:
        return None
    raise ConfigError(
        f"The centre of {type(family).__name__} is neither 0 nor one of its parameters, so that a "
        "file could not have it in integers."
    )
