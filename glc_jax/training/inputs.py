"""The pictures that a config names, as sources and as batches."""

from collections.abc import Callable, Iterable

from glc_jax.data.pipeline import Batches, Beside, training_batches
from glc_jax.data.sources import CachedSource, FolderSource, Source, SyntheticSource, TFDSSource
from glc_jax.data.styles import Styles
from glc_jax.errors import ConfigError
from glc_jax.training.config import Config, Data, Evaluation

SYNTHETIC = "synthetic:"  # and how many: pictures made in memory


def open_source(fields: Data | Evaluation) -> Source:
    """The pictures that a section names: a folder, made-up ones, or else a TFDS data set."""
    tfds = fields.tfds
    if fields.folder:
        return _named_source(fields.folder)
    if tfds.name:
        return TFDSSource(tfds.name, tfds.split, tfds.key, tfds.data_dir or None)
    raise ConfigError("No data: set config.data.folder or config.data.tfds.name.")


def _named_source(folder: str) -> Source:
    if not folder.startswith(SYNTHETIC):
        return FolderSource(folder)
    count = folder.removeprefix(SYNTHETIC)
    if not count.isdecimal():
        raise ConfigError(f"{folder}: say how many, as in {SYNTHETIC}64.")
    return SyntheticSource(int(count))


def _degraded(config: Config, crop: int) -> Beside:
    """The crop, spoiled."""
    config.data.degrade.check()
    return config.data.degrade


def _style(config: Config, crop: int) -> Beside:
    """A piece of one of the styles, whatever the crop shows."""
    data = config.data
    if not data.style_folder:
        raise ConfigError("No styles: set config.data.style_folder.")
    styles = CachedSource(_named_source(data.style_folder), int(data.cache_gb * 2**30))
    return Styles(styles, crop)


BESIDE: dict[str, Callable[[Config, int], Beside]] = {"degraded": _degraded, "style": _style}
"""What can come beside each picture; the number is the crop's pixels a side."""


def open_beside(config: Config, names: Iterable[str], crop: int) -> dict[str, Beside]:
    """What makes the pictures of these names; raises `ConfigError` where one is not to be had."""
    return {name: BESIDE[name](config, crop) for name in names}


def open_batches(
    config: Config, shard: tuple[int, int] = (0, 1), beside: Iterable[str] = ()
) -> Batches:
    """The training batches, or part `shard[0]` of `shard[1]` of each; see `sharding.data_shard`.

    `beside` names what comes with each picture.
    """
    data = config.data
    source = open_source(data)
    if data.cache_gb:
        source = CachedSource(source, int(data.cache_gb * 2**30))
    return training_batches(
        source,
        batch=config.batch,
        crop=data.crop,
        scale=data.scale,
        flip=data.flip,
        seed=config.seed,
        threads=data.threads,
        shard=shard,
        beside=open_beside(config, beside, data.crop),
    )
