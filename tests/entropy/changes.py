"""Changes of a description, as a fuzzer makes them."""

import copy
from collections.abc import Iterable
from typing import Any


def changed(content: Any, changes: Iterable[tuple[tuple, Any]], remove: bool) -> Any:
    """A copy of nested dicts and lists in which each (path, value) is set, or its path removed.

    A change whose path is gone by then is left out.
    """
    content = copy.deepcopy(content)
    for path, value in changes:
        inner = content
        try:
            for key in path[:-1]:
                inner = inner[key]
            if remove:
                del inner[path[-1]]
            else:
                inner[path[-1]] = copy.deepcopy(value)  # which may be set inside itself
        except (KeyError, IndexError, TypeError):
            continue
    return content
