"""Numbers that change over training, as values of a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from glc_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """From `start` to `end` within `steps` steps, then `end`.

    Attributes:
      steps: 0 means `end` from the beginning.
      kind: "linear", or "geometric": by the same factor at each step.
      begin: the step up to which it is `start`.
    """

    start: float
    end: float
    steps: int = 0
    kind: str = "linear"
    begin: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "geometric"):
            raise ConfigError(f"A schedule is linear or geometric, not {self.kind!r}.")
        if self.kind == "geometric" and not (self.start > 0 and self.end > 0):
            raise ConfigError("A geometric schedule runs between numbers above 0.")
        if self.steps < 0 or self.begin < 0:
            raise ConfigError("A schedule's steps must not be negative.")

    def __call__(self, step: jax.Array | int) -> jax.Array:
        """Its value at `step`: float32 scalar."""
        since = jnp.asarray(step, jnp.float32) - self.begin
        share = jnp.clip(since / self.steps, 0, 1) if self.steps else jnp.float32(since >= 0)
        if self.kind == "linear":
            return self.start + share * (self.end - self.start)
        return self.start * (self.end / self.start) ** share


def schedule_from_config(value: float | Mapping[str, Any] | Schedule) -> Schedule:
    """A number stays what it is; a mapping gives a `Schedule`'s fields.

    Raises:
      ConfigError: it is neither, or the fields make no schedule.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Schedule(float(value), float(value))
    try:
        return Schedule(**dict(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{value!r} makes no schedule: {error}.") from error
