"""The metrics of the steps under way: summed on the device, looked at only now and then.

The host starts steps ahead of the device, a few at most, and fetches nothing before it is asked:
the device never waits for a round trip.
"""

import collections
import math
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.errors import GLCError

IN_FLIGHT = 2  # steps that may be started and not finished: each holds a batch on the device


class Diverged(GLCError):
    """A loss was NaN or infinite; the message names the step and the loss."""


@flax.struct.dataclass
class _Total:
    """Sums and number of steps; of the first step that is not finite its number and metrics."""

    sums: dict[str, jax.Array]
    count: jax.Array
    bad_step: jax.Array  # 0: all were finite
    bad: dict[str, jax.Array]


class Running:
    """`add` each step's metrics; `means` waits for them and raises `Diverged` if one is bad."""

    def __init__(self, in_flight: int = IN_FLIGHT):
        self.in_flight = in_flight
        self.flying: collections.deque[jax.Array] = collections.deque()
        self.total: _Total | None = None

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Note step number `step`; waits only while too many steps before it are under way."""
        total = _first(metrics) if self.total is None else self.total
        self.total = _add(total, step, dict(metrics))
        self.flying.append(self.total.count)
        while len(self.flying) > self.in_flight:
            jax.block_until_ready(self.flying.popleft())

    def means(self) -> dict[str, float]:
        """The mean of each metric since `clear`; {} where no step was added."""
        if self.total is None:
            return {}
        self.flying.clear()
        total = jax.device_get(self.total)
        check_finite(int(total.bad_step), total.bad)
        return {name: float(value / total.count) for name, value in total.sums.items()}

    def clear(self) -> None:
        """Begin anew with the next step."""
        self.total = None


def _first(metrics: Mapping[str, jax.Array]) -> _Total:
    zeros = {name: np.float32(0) for name in metrics}  # NumPy's, which all hosts may pass
    return _Total(zeros, np.int32(0), np.int32(0), zeros)


@jax.jit
def _add(total: _Total, step: jax.Array, metrics: dict[str, jax.Array]) -> _Total:
    finite = jnp.all(jnp.stack([jnp.isfinite(value) for value in metrics.values()]))
    first = ~finite & (total.bad_step == 0)
    return _Total(
        jax.tree.map(jnp.add, total.sums, metrics),
        total.count + 1,
        jnp.where(first, step, total.bad_step),
        jax.tree.map(lambda new, old: jnp.where(first, new, old), metrics, total.bad),
    )


def check_finite(step: int, metrics: Mapping[str, float]) -> None:
    """Raises `Diverged` unless every metric of step `step` is finite."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        # The total and the gradient follow from the losses, so the culprit is named first.
        bad.sort(key=lambda name: name in ("loss", "gradient_norm"))
        others = f" (and {', '.join(bad[1:])})" if bad[1:] else ""
        raise Diverged(
            f"Step {step}: {bad[0]} is {metrics[bad[0]]}{others}. The run stopped; the last good "
            "checkpoint is kept."
        )
