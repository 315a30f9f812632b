"""Modules that are imported when something of them is first used.

JAX takes half a second to import, and who only decodes integers on the host needs none of it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


def module(name: str) -> Any:
    """Stands for a module, which its first attribute to be read imports."""
    return _Later(name)


class _Later(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)
