"""Maps on the host that are written tile by tile, read window by window, and let go of by rows."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Protocol

import numpy as np

STRIP_ROWS = 32
SPARE_BYTES = 64 * 2**20
FLOAT_BYTES = 4


class Readable(Protocol):
    """What a pass reads."""

    height: int
    width: int

    def window(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """[1, height, width, C] from this corner on, which may lie outside; zeros beyond."""

    def release_above(self, row: int) -> None:
        """Rows above this one are not read again."""


class Memory:
    """Buffers for the strips of one picture; those given back are used again.

    The system's first pages cost ten times the copy into them. So what is given back is kept while
    all together is no more than was in use at one time, or SPARE_BYTES; beyond that the system has
    it back, which malloc would not do.
    """

    def __init__(self) -> None:
        self._spare: list[np.ndarray] = []
        self._used, self._most = 0, SPARE_BYTES

    def take(self, values: int) -> np.ndarray:
        """Uninitialised float32 [values]."""
        self._used += FLOAT_BYTES * values
        self._most = max(self._most, self._used)
        for i, buffer in enumerate(self._spare):
            if buffer.size == values:
                return self._spare.pop(i)
        self._let_go()  # of other sizes, to make room
        return np.frombuffer(_pages(FLOAT_BYTES * values), np.float32)

    def give(self, buffer: np.ndarray) -> None:
        """Takes back a buffer that `take` gave."""
        self._used -= buffer.nbytes
        self._spare.append(buffer)
        self._let_go()

    def _let_go(self) -> None:
        """The oldest first."""
        while self._used + sum(spare.nbytes for spare in self._spare) > self._most:
            del self._spare[0]


def _pages(size: int) -> mmap.mmap:
    """Memory from the system. Of a private mapping its pages come quicker, where there is one."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


class Strips:
    """A float32 map [height, width, C] in strips of rows, each in memory while it is needed.

    A pass that reads one map and writes another therefore holds little more than the larger one.
    """

    def __init__(self, height: int, width: int, channels: int, memory: Memory) -> None:
        self.height, self.width, self.channels = height, width, channels
        self._memory = memory
        self._strips: list[np.ndarray | None] = [None] * -(-height // STRIP_ROWS)
        self._released = 0

    def write(self, row: int, column: int, tile: np.ndarray) -> None:
        """A tile [h, w, C]; what lies outside is dropped."""
        tile = tile[: self.height - row, : self.width - column]
        for index, inner, outer in self._spans(row, row + tile.shape[0]):
            if self._strips[index] is None:
                buffer = self._memory.take(STRIP_ROWS * self.width * self.channels)
                self._strips[index] = buffer.reshape(STRIP_ROWS, self.width, self.channels)
            self._strips[index][inner, column : column + tile.shape[1]] = tile[outer]

    def window(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        first, last = max(row, 0), min(row + height, self.height)
        left, right = max(column, 0), min(column + width, self.width)
        window = np.empty((1, height, width, self.channels), np.float32)
        window[0, : first - row] = window[0, last - row :] = 0
        window[0, :, : left - column] = window[0, :, right - column :] = 0
        target = window[0, :, left - column : right - column]
        for index, inner, outer in self._spans(first, last, row):
            target[outer] = self._strips[index][inner, left:right]
        return window

    def release_above(self, row: int) -> None:
        for index in range(self._released, min(max(row, 0) // STRIP_ROWS, len(self._strips))):
            self._memory.give(self._strips[index].reshape(-1))
            self._strips[index] = None
            self._released = index + 1

    def release(self) -> None:
        """Nothing is read again."""
        self.release_above(len(self._strips) * STRIP_ROWS)

    @staticmethod
    def _spans(
        first: int, last: int, origin: int | None = None
    ) -> Iterator[tuple[int, slice, slice]]:
        """Strips of rows first .. last: (index, rows in it, rows from `origin` or else `first`)."""
        origin = first if origin is None else origin
        while first < last:
            index = first // STRIP_ROWS
            start, end = index * STRIP_ROWS, min(last, (index + 1) * STRIP_ROWS)
            yield index, slice(first - start, end - start), slice(first - origin, end - origin)
            first = end


class Pixels:
    """A picture uint8 [h, w, 3] as a map of a larger size, its last row and column repeated."""

    def __init__(self, picture: np.ndarray, height: int, width: int) -> None:
        self.picture, self.height, self.width = picture, height, width

    def window(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        h, w = self.picture.shape[:2]
        rows, columns = np.arange(row, row + height), np.arange(column, column + width)
        if row >= 0 and column >= 0 and row + height <= h and column + width <= w:
            return self.picture[None, row : row + height, column : column + width]
        # What lies outside the map is zeroed by the program that reads the window.
        return self.picture[rows.clip(0, h - 1)[:, None], columns.clip(0, w - 1)][None]

    def release_above(self, row: int) -> None:
        pass


class Picture:
    """Where the tiles of a picture uint8 [h, w, 3] are put; what lies beyond it is dropped."""

    def __init__(self, height: int, width: int) -> None:
        self.pixels = np.empty((height, width, 3), np.uint8)

    def write(self, row: int, column: int, tile: np.ndarray) -> None:
        height, width = self.pixels.shape[:2]
        if row < height and column < width:
            tile = tile[: height - row, : width - column]
            self.pixels[row : row + tile.shape[0], column : column + tile.shape[1]] = tile
