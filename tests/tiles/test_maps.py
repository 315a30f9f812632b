"""Maps in strips read as the array they stand for, and hold only the rows that are needed."""

import numpy as np
import pytest

from glc_jax.tiles import maps


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(75, 40, 3)).astype(np.float32)


@pytest.fixture
def strips(values) -> maps.Strips:
    filled = maps.Strips(75, 40, 3, maps.Memory())
    for row in range(0, 75, 24):
        for column in range(0, 40, 24):
            tile = np.zeros((24, 24, 3), np.float32)
            part = values[row : row + 24, column : column + 24]
            tile[: part.shape[0], : part.shape[1]] = part
            filled.write(row, column, tile)
    return filled


@pytest.mark.parametrize(
    "corner", [(0, 0), (20, 5), (-3, -2), (60, 30), (30, -1)], ids=lambda corner: str(corner)
)
def test_windows_have_zeros_beyond_the_map(strips, values, corner):
    padded = np.pad(values, ((3, 40), (3, 40), (0, 0)))
    row, column = corner[0] + 3, corner[1] + 3
    expected = padded[row : row + 36, column : column + 30]
    np.testing.assert_array_equal(strips.window(*corner, 36, 30)[0], expected)


def test_rows_above_are_let_go_of_and_those_below_are_not(strips, values):
    strips.release_above(40)
    np.testing.assert_array_equal(strips.window(40, 0, 35, 40)[0], values[40:])
    assert [strip is None for strip in strips._strips] == [True, False, False]


def test_what_was_given_back_is_used_again(monkeypatch):
    monkeypatch.setattr(maps, "SPARE_BYTES", 0)
    memory = maps.Memory()
    buffers = [memory.take(100) for _ in range(5)]
    for buffer in buffers:
        memory.give(buffer)
    again = [memory.take(100) for _ in range(6)]
    assert [any(one is buffer for buffer in buffers) for one in again] == [True] * 5 + [False]


def test_all_together_is_no_more_than_was_used(monkeypatch):
    monkeypatch.setattr(maps, "SPARE_BYTES", 300 * 4)
    memory = maps.Memory()

    def held():
        return memory._used + sum(spare.nbytes for spare in memory._spare)

    memory.give(memory.take(100))
    memory.give(memory.take(200))
    assert held() == 300 * 4
    for buffer in [memory.take(100) for _ in range(10)]:
        memory.give(buffer)
    assert held() == 1000 * 4
    large = memory.take(700)
    assert held() == (700 + 300) * 4
    memory.give(large)
    assert held() == (700 + 300) * 4
    other = [memory.take(50) for _ in range(4)]
    assert held() == (700 + 300) * 4
    assert [buffer.size for buffer in memory._spare] == [100, 700]  # the oldest went
    for buffer in other:
        buffer[:] = 1  # it can be written


def test_pixels_repeat_their_last_row_and_column(values):
    picture = (values * 50).astype(np.uint8)
    padded = np.pad(picture, ((0, 5), (0, 8), (0, 0)), mode="edge")
    pixels = maps.Pixels(picture, 80, 48)
    np.testing.assert_array_equal(pixels.window(10, 6, 20, 20)[0], padded[10:30, 6:26])
    np.testing.assert_array_equal(pixels.window(60, 20, 20, 28)[0], padded[60:, 20:])


def test_a_picture_drops_what_lies_beyond_it():
    picture = maps.Picture(5, 7)
    for row in (0, 4, 8):
        for column in (0, 4, 8):
            picture.write(row, column, np.full((4, 4, 3), 10 * row + column, np.uint8))
    expected = 10 * np.array([0, 0, 0, 0, 4])[:, None] + np.array([0, 0, 0, 0, 4, 4, 4])
    np.testing.assert_array_equal(picture.pixels, expected[..., None].repeat(3, axis=2))
