"""From a source to batches: a Grain pipeline that is a pure function of (seed, step).

Example number i = step * batch + slot is the same picture, crop and flip whatever the number of
hosts, threads or restarts, so resuming at step s needs nothing but s.
"""

import collections
import dataclasses
import logging
import threading
from collections.abc import Iterator

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


class RandomCrops(grain.transforms.RandomMap):
    """Picture index -> {"image": uint8 [crop, crop, 3]}, in Grain's words.

    An unusable picture's place is taken by the next one in the source, so that it costs the run
    nothing and every other example stays where it was.
    """

    def __init__(
        self, source: Source, crop: int, scale: tuple[float, float], flip: bool, skipped: Skipped
    ):
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
            return {"image": image}
        raise ConfigError(
            f"None of the {len(self.source)} pictures can be used for crops of "
            f"{self.crop}: {collections.Counter(self.skipped.reasons.values()).most_common(1)}"
        )


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a run: `batches[step]`, or `batches.iterate(step)` with prefetching.

    A batch is {"image": uint8 [b, crop, crop, 3], "index": int32 [b]}, where b = batch / hosts
    and "index" is the slot in the whole batch; host h gets slots h * b to (h + 1) * b - 1.
    """

    dataset: grain.MapDataset
    skipped: Skipped
    threads: int

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return self.dataset[step]

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
    host: int = 0,
    hosts: int = 1,
) -> Batches:
    """Shuffled, augmented batches of `source` for host `host` of `hosts`.

    `batch` is the whole batch of all hosts; `ConfigError` when the hosts do not divide it, or
    when no picture of the source is as large as the crop.
    """
    if batch % hosts:
        raise ConfigError(f"A batch of {batch} cannot be divided among {hosts} hosts.")
    skipped = Skipped()
    crops = RandomCrops(source, crop, scale, flip, skipped)
    crops.random_map(0, np.random.default_rng(seed))  # one that can be used exists, or it raises
    local = batch // hosts

    def with_slots(step: int, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        del step
        slots = np.arange(host * local, (host + 1) * local, dtype=np.int32)
        return {**images, "index": slots}

    dataset = (
        grain.MapDataset.range(len(source))
        .shuffle(seed=seed)
        .repeat()
        .random_map(crops, seed=seed)
        .batch(local, drop_remainder=True)[host::hosts]
        .map_with_index(with_slots)
    )
    return Batches(dataset, skipped, threads)
