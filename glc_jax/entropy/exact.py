"""Any JAX function becomes a program over integers: the same numbers on every machine.

    program = exact.compile(function, calibration, shapes=("b, h, w", "b, 4*h, 4*w, 64"))
    outputs = program(*inputs)                      # integers
    outputs["scale"] * 2.0**-program.exponents["scale"]

A file can be read only where the probabilities come out bit for bit as they did for the writer.
So what computes them is traced (`graph`), its ranges are measured on calibration data, and it is
written down as a program of a few integer operations (`lower`, `program`), which the weights file
keeps. Nobody describes a network twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.entropy import graph as graphs
from glc_jax.entropy import lower, program
from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.integer import BYTE_LIMIT, LIMIT, NumPy
from glc_jax.entropy.lower import OutputForm
from glc_jax.entropy.program import Program
from glc_jax.errors import ConfigError, WeightsError

__all__ = ["CompiledProgram", "Measured", "OutputForm", "Program", "Report", "compile", "measure"]

Function = Callable[..., Mapping[str, jax.Array]]

KERNEL_LIMITS = {8: BYTE_LIMIT, 16: LIMIT}
"""The largest integer in a kernel of so many bits."""


@dataclass(frozen=True)
class OutputReport:
    """How far an output's integers are from the float function, over the calibration data.

    error: root mean square of the difference, over the root mean square of the float values.
    largest: of the differences, in the output's own units. saturated: share of its elements at
    the limit.
    """

    error: float
    largest: float
    saturated: float


@dataclass(frozen=True)
class Report:
    """What exactness costs: each output, and the rounding that loses most.

    worst_layer: the line of the function whose rounding adds most to the error (relative root
    mean square) of what it reads, and worst_error, how much. saturations: how many rounded values
    were at their limit, over all of the program.
    """

    outputs: Mapping[str, OutputReport]
    worst_layer: str
    worst_error: float
    saturations: int

    def __str__(self) -> str:
        lines = [
            f"{name}: error {one.error:.3%}, largest {one.largest:.3g}, saturated "
            f"{one.saturated:.3%}"
            for name, one in self.outputs.items()
        ]
        lines.append(f"loses most: {self.worst_layer} ({self.worst_error:.3%})")
        lines.append(f"saturations: {self.saturations}")
        return "\n".join(lines)


class CompiledProgram(Program):
    """A program that still knows the function and the data that it was made from."""

    def __init__(
        self,
        made: Program,
        graph: graphs.Graph,
        places: Sequence[lower.Place],
        calibration: Sequence[tuple[Any, ...]],
    ) -> None:
        super().__init__(made.structure.text, made.arrays)
        self._graph, self._places, self._calibration = graph, places, calibration

    def report(self) -> Report:
        """The integers against the float function, over the calibration data."""
        totals: dict[Any, np.ndarray] = {}
        for arguments in self._calibration:
            for key, sums in self._compared(arguments).items():
                before = totals.get(key, np.zeros_like(sums))
                totals[key] = before + sums
                totals[key][3] = max(before[3], sums[3])
        outputs = {
            key: OutputReport(
                float(np.sqrt(sums[0] / max(sums[1], 1e-30))),
                float(sums[3]),
                float(sums[2] / max(sums[4], 1)),
            )
            for key, sums in totals.items()
            if isinstance(key, str)
        }
        errors = {
            place: float(np.sqrt(sums[0] / max(sums[1], 1e-30)))
            for place, sums in totals.items()
            if not isinstance(place, str)
        }
        lost = self._own_losses(errors)
        worst = max(lost, key=lost.get) if lost else None
        saturations = sum(int(sums[2]) for key, sums in totals.items() if not isinstance(key, str))
        return Report(
            outputs,
            worst.node.source if worst else "nothing is rounded",
            lost[worst] if worst else 0.0,
            saturations,
        )

    def _own_losses(self, errors: Mapping[lower.Place, float]) -> dict[lower.Place, float]:
        """Each rounding's error beyond the largest of those that its value depends on."""
        worst: dict[graphs.Node, float] = {}
        for place, error in errors.items():
            worst[place.node] = max(error, worst.get(place.node, 0.0))
        before: dict[graphs.Node, float] = {}
        for node in self._graph.nodes:
            reached = [max(before[part], worst.get(part, 0.0)) for part in node.inputs]
            before[node] = max(reached, default=0.0)
        return {place: error - before[place.node] for place, error in errors.items()}

    def _compared(self, arguments: Sequence[Any]) -> dict[Any, np.ndarray]:
        """By output's name and by place: squared error, squares, saturated, largest, count."""
        shapes = [np.shape(x) for x in arguments]
        sizes = self.check(shapes)
        floats = graphs.evaluate(self._graph, arguments, sizes)
        inputs = [self.integers_of(i, x) for i, x in enumerate(arguments)]
        arithmetic = NumPy()
        watched = tuple({place.number for place in self._places})
        values = program.execute(
            arithmetic,
            self.structure,
            tuple(sorted(sizes.items())),
            self.prepared(arithmetic),
            inputs,
            watched,
        )
        limits = {place.number: place.limit for place in self._places}
        pairs = {
            name: (
                self._graph.outputs[name],
                values[name],
                exponent,
                limits.get(self.structure.outputs[name]["value"], lower.STATE_LIMIT),
            )
            for name, exponent in self.exponents.items()
        }
        pairs |= {
            place: (place.node, values[place.number], place.exponent, limits[place.number])
            for place in self._places
        }
        return {
            key: _sums(np.asarray(floats[node], np.float64), integers, exponent, limit)
            for key, (node, integers, exponent, limit) in pairs.items()
            if floats[node].shape == integers.shape
        }


def _sums(floats: np.ndarray, integers: np.ndarray, exponent: Any, limit: int) -> np.ndarray:
    values = np.ldexp(integers.astype(np.float64), -np.asarray(exponent))
    error = values - floats
    saturated = np.count_nonzero(np.abs(integers) >= limit)
    largest = np.abs(error).max() if error.size else 0.0
    return np.array([(error**2).sum(), (floats**2).sum(), saturated, largest, error.size])


def compile(
    function: Function,
    calibration: Iterable[tuple[Any, ...]],
    shapes: Sequence[str],
    *,
    input_exponents: Sequence[int | np.ndarray | None] | None = None,
    forms: Mapping[str, OutputForm] | None = None,
    kernel_bits: int = 16,
) -> CompiledProgram:
    """The program of a function.

    Args:
      function: arrays -> dict of arrays, closing over trained weights: a Flax module's `apply`,
        or plain jax.numpy.
      calibration: argument tuples like those that will come, arrays of the shapes below. The
        largest magnitude of every value over them, with one bit above, is what the integers hold;
        what is larger saturates.
      shapes: one string an argument, in the notation of `jax.export.symbolic_shape`:
        "b, 4*h, 4*w, 64".
      input_exponents: of the arguments that come as integers x for values x 2^-e, as other
        programs give them. None for one of them (or for all): floats, rounded to 16 bits.
      forms: of the outputs that must come in a certain one; others have 24 bits.
      kernel_bits: 8 or 16, of the integers in kernels of products (depthwise ones have 16).

    Raises:
      ConfigError: the function uses what has no exact integer form; the sentence names the
        primitive and the line.
      WeightsError: there is no data, a value is not finite, or a sum exceeds 52 bits.
    """
    measured = measure(function, calibration, shapes)
    return measured.compile(input_exponents, forms, kernel_bits)


@dataclass(frozen=True)
class Measured:
    """A function that was traced, and the largest magnitudes of its values."""

    graph: graphs.Graph
    ranges: Mapping[graphs.Node, float]
    calibration: Sequence[tuple[np.ndarray, ...]]

    def largest(self, output: str) -> float:
        """The largest magnitude of an output."""
        return self.ranges[self.graph.outputs[output]]

    def compile(
        self,
        input_exponents: Sequence[int | np.ndarray | None] | None = None,
        forms: Mapping[str, OutputForm] | None = None,
        kernel_bits: int = 16,
    ) -> CompiledProgram:
        """The program; see `compile`."""
        exponents = input_exponents or [None] * len(self.graph.inputs)
        limit = KERNEL_LIMITS[kernel_bits]
        made, places = lower.lower(self.graph, self.ranges, exponents, forms or {}, limit)
        for arguments in self.calibration:
            made.check([x.shape for x in arguments])
        return CompiledProgram(made, self.graph, places, self.calibration)


def measure(
    function: Function, calibration: Iterable[tuple[Any, ...]], shapes: Sequence[str]
) -> Measured:
    """The first half of `compile`: the function's graph, and its ranges over the calibration."""
    samples = [tuple(np.asarray(x) for x in arguments) for arguments in calibration]
    if not samples:
        raise WeightsError("Making the entropy networks exact needs at least one picture.")
    if {len(arguments) for arguments in samples} != {len(shapes)}:
        raise ConfigError(f"The calibration data do not have {len(shapes)} arguments each.")
    dtypes = [jnp.asarray(x).dtype for x in samples[0]]
    graph = graphs.trace(function, shapes, dtypes)
    return Measured(graph, _ranges(graph, samples), samples)


def _ranges(
    graph: graphs.Graph, samples: Iterable[Sequence[np.ndarray]]
) -> dict[graphs.Node, float]:
    """The largest magnitude of every node over the samples."""
    declared = [node.shape for node in graph.inputs]
    nodes = [node for node in graph.nodes if node.kind != "constant"]
    largest = np.zeros(len(nodes))

    def magnitudes(
        sizes: tuple[tuple[str, int], ...], constants: Sequence[jax.Array], *arguments: jax.Array
    ) -> jax.Array:
        values = graphs.evaluate(graph, arguments, dict(sizes), constants)
        found = [jnp.max(jnp.abs(values[n].astype(jnp.float32)), initial=0.0) for n in nodes]
        return jnp.stack(found)

    jitted = jax.jit(magnitudes, static_argnums=0)
    programs: dict[Any, Any] = {}
    constants = [jnp.asarray(node.value) for node in graph.constants]
    for arguments in samples:
        sizes = tuple(sorted(sizes_of.bind(declared, [x.shape for x in arguments]).items()))
        if sizes not in programs:
            programs[sizes] = _compiled_in_haste(jitted.lower(sizes, constants, *arguments))
        largest = np.maximum(
            largest, np.asarray(programs[sizes](constants, *arguments), np.float64)
        )
    ranges = dict(zip(nodes, largest.tolist(), strict=True))
    for node in graph.nodes:
        if node.kind == "constant":
            value = np.asarray(node.value, np.float64)
            ranges[node] = float(np.abs(value).max()) if value.size else 0.0
    return ranges


def _compiled_in_haste(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiled for a few runs: XLA takes a fourth of the time without its optimisations."""
    if jax.default_backend() == "cpu":
        options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # a release without them
            return lowered.compile(compiler_options=options)
    return lowered.compile()
