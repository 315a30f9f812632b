"""What contradicts itself in a config, said before anything is compiled."""

from collections.abc import Iterable, Mapping
from typing import Any

from glc_jax.errors import ConfigError
from glc_jax.models import sizes
from glc_jax.training import linear_start
from glc_jax.training.config import Config
from glc_jax.training.critic import LAST_LAYER
from glc_jax.training.measures import MEASURES


def check(config: Config, stage: Any) -> None:
    """Raises `ConfigError` for fields that do not go together."""
    multiple = sizes.size_multiple(config.model)
    for name, crop in (("data.crop", config.data.crop), ("eval.crop", config.eval.crop)):
        if crop <= 0 or crop % multiple:
            raise ConfigError(f"{name} is {crop}; it must be a multiple of {multiple}.")
    if config.steps < 1 or config.batch < 1 or config.accumulate < 1:
        raise ConfigError("steps, batch and accumulate must be at least 1.")
    points = config.model["rate_points"]
    if "bpp" in stage.gives and config.batch % points and points % config.batch:
        raise ConfigError(
            f"Batches of {config.batch} do not hold the {points} rate points equally often."
        )
    if config.part_from and not (stage.part and config.init_from):
        raise ConfigError(
            "part_from needs init_from, and a stage that trains a part beside the model."
        )
    if config.linear_start_batches and not config.init_from:
        linear_start.check(config.model)
    if config.adversarial.weight and "x_hat" not in stage.gives:
        raise ConfigError(
            f"{config.stage} has no picture to show a discriminator: adversarial.weight=0."
        )
    if config.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype is {config.dtype!r}; it must be float32 or bfloat16.")


def check_best(config: Config, losses: Iterable[Any]) -> None:
    """Raises `ConfigError` where `checkpoint.best` is not measured on held-out pictures."""
    best = config.checkpoint.best
    kind = best.split("/")[0]
    lower = {name for name, measure in MEASURES.items() if measure.less_is_better} | {"bpp"}
    if kind not in lower:
        raise ConfigError(
            f"checkpoint.best is {best!r}; it must be one of {', '.join(sorted(lower))}, of which "
            "less is better, or one of their parts such as lpips/rate_0."
        )
    measured = {"bpp", *config.eval.metrics, *(loss.name for loss in losses)}
    if kind not in measured:
        raise ConfigError(
            f"checkpoint.best is {kind}, which is only measured where it is a loss or among "
            "eval.metrics."
        )


def check_trained(config: Config, trained: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where `trainable` lacks what a loss needs."""
    fields = config.adversarial
    if fields.weight and fields.adaptive and LAST_LAYER not in trained:
        raise ConfigError(
            f"The adaptive adversarial weight needs {LAST_LAYER} among the trained parameters; "
            "widen `trainable` or set adversarial.adaptive=False."
        )
