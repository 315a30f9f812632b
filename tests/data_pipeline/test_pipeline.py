"""Batches are a function of (seed, step), however they are read."""

import logging

import numpy as np
import pytest

from glc_jax.data.pipeline import training_batches
from glc_jax.data.sources import CachedSource, FolderSource
from glc_jax.errors import ConfigError, InputError

FIELDS = {"batch": 6, "crop": 16, "scale": (0.5, 1.0), "flip": True, "seed": 3}


class Plain:
    """Pictures of one colour each: picture i is all i."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), small: tuple[int, ...] = ()):
        self.count, self.broken, self.small = count, broken, small

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"picture {index}"

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self.broken:
            raise InputError(f"{self.name(index)}: damaged")
        side = 8 if index in self.small else 24
        return np.full((side, side, 3), index, np.uint8)


def colours(batches, steps) -> list[int]:
    return [int(image[0, 0, 0]) for step in steps for image in batches[step]["image"]]


def test_resuming_continues_at_the_very_next_example():
    batches = training_batches(Plain(20), **FIELDS)
    for first in (0, 5):
        resumed = training_batches(Plain(20), **FIELDS).iterate(first)
        for step in range(first, first + 4):
            batch = next(resumed)
            np.testing.assert_array_equal(batch["image"], batches[step]["image"])
            np.testing.assert_array_equal(batch["index"], np.arange(6))


def test_a_batch_of_one_works():
    batches = training_batches(Plain(4), **{**FIELDS, "batch": 1})
    assert sorted(colours(batches, range(4))) == [0, 1, 2, 3]


def test_each_epoch_has_every_picture_once_in_another_order():
    batches = training_batches(Plain(18), **FIELDS)
    first, second = colours(batches, range(3)), colours(batches, range(3, 6))
    assert sorted(first) == sorted(second) == list(range(18))
    assert first != second


def test_another_seed_gives_another_order():
    one, other = (
        colours(training_batches(Plain(18), **{**FIELDS, "seed": seed}), range(3))
        for seed in (3, 4)
    )
    assert one != other


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_divide_each_batch_in_order(hosts):
    whole = training_batches(Plain(20), **FIELDS)
    parts = [training_batches(Plain(20), **FIELDS, shard=(h, hosts)) for h in range(hosts)]
    for step in (0, 7):
        for name in ("image", "index"):
            together = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(together, whole[step][name])


def test_broken_and_small_pictures_give_way_to_the_next_one(caplog):
    good = training_batches(Plain(20), **FIELDS)
    bad = training_batches(Plain(20, broken=(4, 5), small=(19,)), **FIELDS)
    with caplog.at_level(logging.WARNING):
        replaced = colours(bad, range(7))
    expected = [{4: 6, 5: 6, 19: 0}.get(colour, colour) for colour in colours(good, range(7))]
    assert replaced == expected
    assert len(bad.skipped) == 3
    assert sum("picture 4" in record.message for record in caplog.records) == 1
    assert any("picture 19 is 8x8, too small" in record.message for record in caplog.records)


def test_no_usable_picture_at_all_is_an_error_at_once():
    with pytest.raises(ConfigError, match="None of the 3 pictures"):
        training_batches(Plain(3, small=(0, 1, 2)), **FIELDS)


def test_what_was_skipped_once_stays_so_after_a_restart():
    source = Plain(20, broken=(4,))
    before = training_batches(source, **FIELDS)
    seen = colours(before, range(7))
    assert before.notes() == {"pictures": 20, "skipped": [4]}
    again = training_batches(Plain(20), **FIELDS)  # it can be read today
    again.resume(before.notes())
    assert colours(again, range(7)) == seen
    anew = training_batches(Plain(20), **FIELDS)
    anew.resume({"pictures": 21, "skipped": [4]})  # of other pictures
    anew.resume({})
    assert colours(anew, range(7)) != seen


def test_parts_must_divide_the_batch():
    with pytest.raises(ConfigError, match="cannot be divided into 4 equal parts"):
        training_batches(Plain(3), **FIELDS, shard=(0, 4))


def test_the_cache_changes_nothing_and_stays_within_its_bytes(tmp_path):
    from tests.training.small import folder

    source = FolderSource(folder(tmp_path / "pictures"))
    one_picture = source[0].nbytes
    cached = CachedSource(source, one_picture + source[1].nbytes)
    for index in (0, 1, 2, 0, 1, 2):
        np.testing.assert_array_equal(cached[index], source[index])
    assert set(cached.pictures) == {0, 1}
    assert cached.free == 0


def marked(number: int):
    """A picture beside another: its own colour and something random, kept apart by a number."""

    def make(image, rng):
        assert image.shape == (16, 16, 3)
        return np.stack(
            [image[..., 0], rng.integers(0, 256, (16, 16)), image[..., 0] * 0 + number], -1
        )

    return make


BESIDE = {"one": marked(1), "other": marked(2)}


def test_what_comes_beside_is_made_of_the_crop_and_the_same_wherever_it_is_read():
    whole = training_batches(Plain(20), **FIELDS, beside=BESIDE)
    alone = training_batches(Plain(20), **FIELDS)
    parts = [training_batches(Plain(20), **FIELDS, shard=(h, 3), beside=BESIDE) for h in range(3)]
    resumed = training_batches(Plain(20), **FIELDS, threads=3, beside=BESIDE).iterate(7)
    batch, later = whole[7], next(resumed)
    assert set(batch) == {"image", "index", "one", "other"}
    np.testing.assert_array_equal(batch["image"], alone[7]["image"])
    for number, name in enumerate(BESIDE, 1):
        np.testing.assert_array_equal(batch[name][..., 0], batch["image"][..., 0])
        assert (batch[name][..., 2] == number).all()
        np.testing.assert_array_equal(later[name], batch[name])
        together = np.concatenate([part[7][name] for part in parts])
        np.testing.assert_array_equal(together, batch[name])
    draws = [batch[name][slot, ..., 1] for name in BESIDE for slot in range(6)]
    draws += [whole[8]["one"][slot, ..., 1] for slot in range(6)]
    assert len({draw.tobytes() for draw in draws}) == 18  # each sample and name has its own
