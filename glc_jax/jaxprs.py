"""Walks through what JAX traced, for those that write it in operations of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from jax.extend import core

Value = TypeVar("Value")

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


def walk(
    jaxpr: Any,
    constants: Sequence[Value],
    inputs: Sequence[Value],
    constant: Callable[[np.ndarray], Value],
    equation: Callable[[Any, list[Value]], Sequence[Value]],
) -> list[Value]:
    """The values of a jaxpr's outputs.

    Args:
      jaxpr: without its constants.
      constants, inputs: the values of its constvars and invars.
      constant: gives the value of an array.
      equation: gives those of an equation's outvars, from those of its invars.
    """
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            return constant(np.asarray(atom.val, atom.aval.dtype))
        return known[atom]

    for one in jaxpr.eqns:
        results = equation(one, [read(atom) for atom in one.invars])
        known |= dict(zip(one.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def called(equation: Any) -> tuple[Any, list[np.ndarray]] | None:
    """The jaxpr of the function that an equation calls, and its constants; None: it calls none."""
    field = _CALLS.get(equation.primitive.name)
    if field is None:
        return None
    inner = equation.params[field]
    if hasattr(inner, "consts"):
        return inner.jaxpr, [np.asarray(value) for value in inner.consts]
    return inner, []
