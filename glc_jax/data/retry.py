"""Reading again what could not be read: storage over a network fails now and then."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

PAUSES = (0.2, 1.0, 5.0)  # seconds before the second attempt, the third, and the last
LASTING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

T = TypeVar("T")


def patiently(read: Callable[[], T], name: str) -> T:
    """`read()`, tried again after each of `PAUSES` where it raises an OSError that may pass.

    The last attempt's error is raised; that of a file which is not there, or not to be read, at
    once.
    """
    for pause in PAUSES:
        try:
            return read()
        except LASTING:
            raise
        except OSError as error:
            logger.warning("%s: %s; trying again in %g s", name, error, pause)
            time.sleep(pause)
    return read()
