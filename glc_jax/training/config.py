"""A run's config: every field with its meaning and default, read once into typed sections.

configs/*.py begin with these defaults and change what is theirs. `read` is the only place where a
mapping becomes a config; a field that a run's config.json of an earlier release lacks has its
default.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from glc_jax import weights
from glc_jax.data.degrade import Recipe
from glc_jax.errors import ConfigError
from glc_jax.models import choices


@dataclasses.dataclass(frozen=True)
class TFDS:
    """A TFDS data set; used where no folder is named."""

    name: str = ""
    split: str = "train"
    key: str = "image"
    data_dir: str = ""


@dataclasses.dataclass(frozen=True)
class Data:
    """The pictures that a run trains on."""

    folder: str = ""  # or gs://bucket/pictures, or synthetic:64 for made-up ones
    tfds: TFDS = TFDS()
    crop: int = 256  # pixels a side
    scale: tuple[float, ...] = (0.5, 1.0)  # random factor before cropping, from and to
    flip: bool = True
    cache_gb: float = 0.0  # of decoded pictures, in memory
    style_folder: str = ""  # as `folder`; of the stage "style"
    degrade: Recipe = dataclasses.field(default_factory=Recipe)  # of the stage "restore"
    threads: int = 16


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule; see `optimiser.learning_rate`."""

    learning_rate: float = 1e-4
    warmup_steps: int = 2000
    tail_steps: int = 50_000
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # 0: no clipping


@dataclasses.dataclass(frozen=True)
class Codebook:
    """How the stage's codebook begins and stays in use."""

    kmeans_step: int = -1  # before this step it is set to k-means centres; -1: never
    kmeans_batches: int = 16
    quantised_share: float = 1.0  # of stage I's samples that pass the codebook
    gradient: str = "straight_through"  # of what is quantised; or rotation
    update: str = "gradient"  # of the rows; or average: they follow what they stand for, by decay
    decay: float = 0.99  # of the running share of each code
    dead_below: float = 0.03  # of an even share
    revive_every: int = 100  # steps; 0: never


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """The discriminator and its loss."""

    weight: float = 0.0  # 0: no discriminator at all
    network: str = "patches"  # of the picture; or features: of VGG16, with small heads on them
    start: int = 0
    adaptive: bool = True  # times the weight that lets it pull as hard as the pixel losses
    base_channels: int = 64
    layers: int = 3  # of patches
    optimizer: Optimizer = Optimizer()


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How parameters are laid over devices; the batch takes the rest of them."""

    model: int = 1  # devices that share the parameters of `shard_from` values and more
    shard_from: int = 2**20


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: int = 2000  # steps; 0: only at the end, or when asked to stop
    keep: int = 3
    best: str = "lpips"  # the held-out measure of which the lowest is kept as well


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The held-out pictures and what is done with them."""

    folder: str = ""
    tfds: TFDS = TFDS(split="test")
    every: int = 10_000  # steps; 0: never
    crop: int = 256
    batch: int = 64
    pictures: int = 4  # drawn in TensorBoard
    evaluators: tuple[str, ...] = ("held_out", "exact_bits")  # names or "package.module:Class"
    metrics: tuple[str, ...] = ("psnr", "lpips", "spectral_excess")  # beside those that are losses


@dataclasses.dataclass(frozen=True)
class Profile:
    """A trace for TensorBoard's profiler, in WORKDIR/profile."""

    start: int = -1  # the step before which it begins; -1: none
    steps: int = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """All of it. Weights of losses are by name; see `objectives`."""

    name: str = ""
    stage: str = "stage1"  # a name or "package.module:Class"; see `stages`
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # see `models.glc.build`
    seed: int = 0
    init_from: str = ""  # a run's folder, a weights file or a packaged model's name
    part_from: str = ""  # beside weights, a restorer or stylist of theirs with which to begin
    linear_start_batches: int = 0  # without init_from: see training/linear_start.py
    data: Data = Data()
    batch: int = 256
    accumulate: int = 1  # parts into which a batch is cut
    steps: int = 400_000
    trainable: str = ""  # a regular expression over parameters' paths
    optimizer: Optimizer = Optimizer()
    ema: float = 0.9995
    dtype: str = "bfloat16"  # of the computation; parameters are float32 in any case
    remat: bool = False  # True: less memory, about a third more time
    losses: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dists_window: int = 192  # pixels a side of the centre of each crop that DISTS sees
    dists_group: int = 4  # of these centres are compared as one picture
    lpips_network: str = "vgg"  # of losses.lpips: alex or vgg
    jitter: int = 0  # pixels by which perceptual losses see a smaller piece, at a random place
    lambdas: tuple[float, ...] = (16.0, 8.0, 4.0, 2.0)  # of each rate point, per bpp
    quantizer: Any = "mixed"  # a name, or "name" and fields; see `entropy.quantize`
    codebook: Codebook = Codebook()
    adversarial: Adversarial = Adversarial()
    mesh: Mesh = Mesh()
    log_every: int = 100  # steps; 0: never
    boards: tuple[str, ...] = ("tensorboard",)  # or wandb; see `boards`
    watchdog_minutes: float = 0.0  # without a step, after which the run ends itself; 0: never
    checkpoint: Checkpoint = Checkpoint()
    eval: Evaluation = Evaluation()
    profile: Profile = Profile()


def read(given: Mapping[str, Any]) -> Config:
    """The config that a mapping describes, as configs/*.py or a run's config.json give it.

    Its model section is `choices.canonical`. Raises `ConfigError` for a field that does not exist
    and for a value of another kind.
    """
    stage = given.get("stage")
    if isinstance(stage, int):  # as releases before 0.2 wrote it
        given = {**given, "stage": f"stage{stage}"}
    config = _read_section(Config, given, "")
    return dataclasses.replace(config, model=choices.canonical(config.model))


def plain(config: Any) -> Any:
    """A config, or a section of one, as what JSON gives back: tuples are lists."""
    given = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config
    return json.loads(json.dumps(given))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The fields in which two configs differ, with both values; "" where they agree."""
    a, b = (dict(weights.flatten(plain(config))) for config in (one, other))
    names = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return ", ".join(f"{name} is {a.get(name)} there and {b.get(name)} here" for name in names)


def _read_section(kind: type, given: Mapping[str, Any], path: str) -> Any:
    kinds = typing.get_type_hints(kind)
    unknown = sorted(given.keys() - kinds.keys())
    if unknown:
        raise ConfigError(
            f"config.{path}{unknown[0]} is no field; there are {', '.join(sorted(kinds))}."
        )
    values = {name: _read_value(kinds[name], given[name], path + name) for name in given}
    return kind(**values)


def _read_value(kind: Any, value: Any, path: str) -> Any:
    """`value` as a field of type `kind`."""
    if kind is Any:  # whose own reader checks it
        return plain(value)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, Mapping):
            return _read_section(kind, value, f"{path}.")
    elif isinstance(kind, types.GenericAlias) and kind.__origin__ is tuple:
        if isinstance(value, list | tuple):
            return tuple(_read_value(kind.__args__[0], item, path) for item in value)
    elif typing.get_origin(kind) is not None:  # a mapping; likewise
        if isinstance(value, Mapping):
            return plain(value)
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    wanted = getattr(kind, "__name__", str(kind))
    raise ConfigError(f"config.{path} is {value!r}; it must be of the kind {wanted}.")
