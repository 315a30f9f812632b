"""How long a piece of work takes."""

import time
from collections.abc import Callable
from typing import TypeVar

import jax

T = TypeVar("T")


def fastest(run: Callable[[], T], repeats: int) -> tuple[float, T]:
    """Seconds of the fastest of `repeats` runs, after one that does not count, and the result.

    JAX's arrays in the result are waited for.
    """
    result = jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times), result
