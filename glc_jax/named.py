"""Parts that a config names: this package's by a plain name, one of someone's own by its path.

A path is "package.module:Class". It runs its module, so a config may name one and a weights file
may not: what a file names is found in the modules that whoever opens it has listed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glc_jax.errors import ConfigError, InputError, WeightsError

Entry = str | Mapping[str, Any]
"""A name, or a mapping of "name" and fields."""


class Paths(Mapping[str, Any]):
    """Classes by name, of which each is imported when it is asked for.

    paths: "package.module:Class" by name.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)

    def __getitem__(self, name: str) -> Any:
        return _imported(self._paths[name])

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def find(name: str, known: Mapping[str, Any], what: str) -> Any:
    """`known[name]`, or what "package.module:Class" names.

    `what` is the kind of part, for messages. Raises `ConfigError` where there is none.
    """
    if name in known:
        return known[name]
    if ":" not in name:
        raise ConfigError(
            f"There is no {what} {name!r}: {', '.join(map(str, known))}, or one of your own as "
            "'package.module:Class'."
        )
    try:
        return _imported(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"The {what} {name!r} cannot be imported: {error}") from error


def _imported(path: str) -> Any:
    """What "package.module:Class" names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def find_for_file(
    name: str, known: Mapping[str, Any], what: str, plugins: Sequence[str] = ()
) -> Any:
    """The same for a name that a file gives: nothing is imported because a file says so.

    Other classes than the known ones are found only in the modules of `plugins`, which whoever
    opens the file has named and imported. Raises `WeightsError` for others.
    """
    if name in known:
        return known[name]
    module, _, attribute = name.partition(":")
    if module not in plugins:
        raise WeightsError(
            f"The weights need the {what} {name!r}, which is not part of glc_jax: name its "
            "module with --plugin (plugins=) if you trust it."
        )
    found = getattr(sys.modules.get(module), attribute, None)
    if found is None:
        raise WeightsError(f"The module {module!r} has no {what} {attribute!r}.")
    return found


def import_plugins(plugins: Sequence[str]) -> None:
    """Imports the modules whose classes files may name; raises `InputError` where one cannot be."""
    for plugin in plugins:
        if not isinstance(plugin, str):
            raise InputError(f"A plugin is a module's name, not a {type(plugin).__name__}.")
        try:
            importlib.import_module(plugin)
        except (ImportError, ValueError) as error:
            raise InputError(f"The plugin {plugin!r} cannot be imported: {error}.") from error


def entry(given: Entry, what: str) -> tuple[str, dict[str, Any]]:
    """The name and the fields of an entry of a config; raises `ConfigError` where it is none."""
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        raise ConfigError(
            f"The {what} is {given!r}: give a name, or a mapping of 'name' and fields."
        )
    return fields["name"], {name: value for name, value in fields.items() if name != "name"}
