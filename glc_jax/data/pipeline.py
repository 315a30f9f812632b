"""From a source to batches: a Grain pipeline that is a pure function of (seed, step).

Example number i = step * batch + slot is the same picture, crop and flip whatever the number of
hosts, threads or restarts, so resuming at step s needs nothing but s.
"""

import collections
import dataclasses
import logging
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from glc_jax.data.augment import random_crop
from glc_jax.data.sources import Source
from glc_jax.errors import ConfigError, InputError

logger = logging.getLogger(__name__)

LOGGED_SKIPS = 20  # further unusable pictures are counted, not named


class Skipped:
    """Counts the pictures that could not be used, and logs the first few by name."""

    def __init__(self):
        self.reasons: dict[int, str] = {}
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, index: int, reason: str) -> None:
        """Notes picture `index` once, however often it comes up."""
        with self.lock:
            if index in self.reasons:
                return
            self.reasons[index] = reason
            if len(self.reasons) <= LOGGED_SKIPS:
                logger.warning("Skipped a picture: %s", reason)

    def indices(self) -> list[int]:
        """The pictures skipped so far, in order."""
        with self.lock:
            return sorted(self.reasons)

    def resume(self, indices: Iterable[int]) -> None:
        """Skip what an earlier part of the run skipped, readable again or not."""
        with self.lock:
            self.reasons |= {
                index: "skipped earlier in this run"
                for index in indices
                if index not in self.reasons
            }


Beside = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes another picture of a crop's size, from the crop and a random generator."""


class RandomCrops(grain.transforms.RandomMap):
    """Picture index -> {"image": uint8 [crop, crop, 3]} and what `beside` makes of it.

    An unusable picture's place is taken by the next one in the source, so that it costs the run
    nothing and every other example stays where it was. It is skipped for good: a checkpoint
    carries what was, so that the examples after a restart are those of a run without one.
    """

    def __init__(
        self,
        source: Source,
        crop: int,
        scale: tuple[float, float],
        flip: bool,
        skipped: Skipped,
        beside: Mapping[str, Beside],
    ):
        self.beside = beside
        self.source = source
        self.crop = crop
        self.scale = scale
        self.flip = flip
        self.skipped = skipped

    def random_map(self, element: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See the class; raises `ConfigError` when no picture of the source can be used."""
        seed = rng.integers(2**63)
        for offset in range(len(self.source)):
            index = (element + offset) % len(self.source)
            if index in self.skipped.reasons:
                continue
            try:
                picture = self.source[index]
                crop_rng = np.random.default_rng(seed)
                image = random_crop(picture, self.crop, self.scale, self.flip, crop_rng)
            except InputError as error:
                name, reason = self.source.name(index), str(error)
                self.skipped.add(index, reason if name in reason else f"{name} {reason}")
                continue
            more = {
                name: make(image, np.random.default_rng((seed, number)))
                for number, (name, make) in enumerate(self.beside.items(), 1)
            }
            return {"image": image, **more}
        raise ConfigError(
            f"None of the {len(self.source)} pictures can be used for crops of "
            f"{self.crop}: {collections.Counter(self.skipped.reasons.values()).most_common(1)}"
        )


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a run: `batches[step]`, or `batches.iterate(step)` with prefetching.

    A batch is {"image": uint8 [b, crop, crop, 3], "index": int32 [b]}, where b = batch / parts and
    "index" is the slot in the whole batch; part i has slots i * b to (i + 1) * b - 1. What comes
    beside the image has its own name. `pictures` is how many the source has.
    """

    dataset: grain.MapDataset
    pictures: int
    skipped: Skipped
    threads: int

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return self.dataset[step]

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps: the pictures that were skipped."""
        return {"pictures": self.pictures, "skipped": self.skipped.indices()}

    def resume(self, notes: Mapping[str, Any]) -> None:
        """Go on as `notes` say, where they are of the same number of pictures."""
        if notes.get("pictures") == self.pictures:
            self.skipped.resume(notes["skipped"])

    def iterate(self, step: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches from `step` on, for ever, prepared ahead by `threads` threads."""
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=2 * self.threads)
        iterator = iter(self.dataset.to_iter_dataset(options))
        state = iterator.get_state()
        iterator.set_state({**state, "next_index": step})
        return iterator


def training_batches(
    source: Source,
    *,
    batch: int,
    crop: int,
    scale: tuple[float, float],
    flip: bool,
    seed: int,
    threads: int = 2,
    shard: tuple[int, int] = (0, 1),
    beside: Mapping[str, Beside] = types.MappingProxyType({}),
) -> Batches:
    """Shuffled, augmented batches of `source`: part `shard[0]` of `shard[1]` of each.

    `beside` makes further pictures of each crop. `batch` is the size of a whole batch;
    `ConfigError` when the parts do not divide it, or when no picture of the source is as large as
    the crop.
    """
    part, parts = shard
    if batch % parts:
        raise ConfigError(f"A batch of {batch} cannot be divided into {parts} equal parts.")
    skipped = Skipped()
    crops = RandomCrops(source, crop, scale, flip, skipped, beside)
    crops.random_map(0, np.random.default_rng(seed))  # one that can be used exists, or it raises
    local = batch // parts

    def with_slots(step: int, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        del step
        slots = np.arange(part * local, (part + 1) * local, dtype=np.int32)
        return {**images, "index": slots}

    dataset = (
        grain.MapDataset.range(len(source))
        .shuffle(seed=seed)
        .repeat()
        .random_map(crops, seed=seed)
        .batch(local, drop_remainder=True)[part::parts]
        .map_with_index(with_slots)
    )
    return Batches(dataset, len(source), skipped, threads)
