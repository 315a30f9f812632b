"""Flax layers that take the parameters they are given without drawing others to compare with.

Flax traces a layer's initialiser each time the layer is applied, for the shape it would draw. That
is half of the time in which E or G is traced. The layers here compare the shape alone.
"""

from typing import Any

import flax.linen as nn


class Given:
    """Comes before `nn.Module` among a layer's bases."""

    def param(self, name: str, init_fn: Any, *init_args: Any, **options: Any) -> Any:
        """`nn.Module.param`, at once where the parameter is there in the shape that is asked for.

        init_args: what init_fn takes beside a key, its shape first.
        """
        if init_args and self.scope is not None and self.scope.has_variable("params", name):
            value = self.scope.get_variable("params", name)
            if getattr(value, "shape", None) == init_args[0]:
                return value
        return super().param(name, init_fn, *init_args, **options)


class Dense(Given, nn.Dense):
    """`nn.Dense`."""


class Conv(Given, nn.Conv):
    """`nn.Conv`."""
