"""The stages that a config may name; one of someone's own is "package.module:Class"."""

from glc_jax import named
from glc_jax.training.config import Config
from glc_jax.training.restoration import RestorationStage
from glc_jax.training.stage import Stage
from glc_jax.training.stages import JointStage, TransformStage, VQVAEStage
from glc_jax.training.styling import StyleStage

STAGES: dict[str, type[Stage]] = {
    "stage1": VQVAEStage,
    "stage2": TransformStage,
    "stage3": JointStage,
    "restore": RestorationStage,
    "style": StyleStage,
}


def open_stage(config: Config) -> Stage:
    """The stage that the config names; raises `ConfigError` where there is none."""
    return named.find(config.stage, STAGES, "stage")(config)
