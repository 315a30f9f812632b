"""The pictures that a config names, as sources and as batches."""

from glc_jax.data.pipeline import Batches, training_batches
from glc_jax.data.sources import CachedSource, FolderSource, Source, SyntheticSource, TFDSSource
from glc_jax.errors import ConfigError
from glc_jax.training.config import Config, Data, Evaluation

SYNTHETIC = "synthetic:"  # and how many: pictures made in memory


def open_source(fields: Data | Evaluation) -> Source:
    """The pictures that a section names: a folder, made-up ones, or else a TFDS data set."""
    tfds = fields.tfds
    if fields.folder.startswith(SYNTHETIC):
        count = fields.folder.removeprefix(SYNTHETIC)
        if not count.isdecimal():
            raise ConfigError(f"{fields.folder}: say how many, as in {SYNTHETIC}64.")
        return SyntheticSource(int(count))
    if fields.folder:
        return FolderSource(fields.folder)
    if tfds.name:
        return TFDSSource(tfds.name, tfds.split, tfds.key, tfds.data_dir or None)
    raise ConfigError("No data: set config.data.folder or config.data.tfds.name.")


def open_batches(config: Config, shard: tuple[int, int] = (0, 1)) -> Batches:
    """The training batches, or part `shard[0]` of `shard[1]` of each; see `sharding.data_shard`."""
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
    )
