"""What configs/*.py begin with: every field at its default, and the stages' common choices.

`config` says what each field is. Any of them can be set on the command line, as
in --config.batch=16 or --config.losses.lpips=0.5; a config of one's own changes what is its own:

    def get_config(stage: str = "stage1") -> ConfigDict:
        config = base.get_config(stage)
        config.steps = 1000
        return config
"""

import dataclasses

from ml_collections import ConfigDict, FieldReference

from glc_jax.models.choices import Choices
from glc_jax.training.config import Config

# A loss is in use in the stages that have what it needs; a weight of 0 leaves it out.
LOSSES = {
    "l1": 1.0,
    "multiscale_l1": 0.0,
    "colour": 0.0,  # against shifts of colour and brightness
    "lpips": 1.0,
    "lpips_vgg": 0.0,  # beside lpips_network="alex"
    "dists": 0.0,
    "spectral_excess": 0.0,  # against hatching
    "codebook": 1.0,
    "rate": 1.0,  # times the lambda of the sample's rate point, per bpp
    "hyper_codebook": 1.0,
    "latent": 1.0,
    "code_prediction": 0.05,
    "pixel_code_prediction": 0.05,
    "style": 1.0,
    "content": 0.0,  # in use where there is a style
}

TRAINABLE = {
    "stage1": "vqvae/",
    "stage2": "(?!vqvae/|pixel_code_predictor/)",
    "stage3": "",
    "restore": "restorer/",
    "style": "stylist/",
}


def named_part(default: str) -> FieldReference:
    """A field that takes a name, or a mapping of "name" and fields: also on the command line,

    --config.quantizer="{'name': 'soft_round', 'alpha': 6.0}"
    """
    return FieldReference(default, field_type=object)


def entropy_section() -> ConfigDict:
    """`config.model.entropy`: the parts of the entropy model, GLC's own to begin with."""
    parts = dataclasses.asdict(Choices())
    steps = parts.pop("steps")
    named = {name: named_part(default) for name, default in parts.items()}
    return ConfigDict({**named, "steps": steps})


def get_config(stage: str = "stage1") -> ConfigDict:
    """The base of a stage of `TRAINABLE`; it has no model yet."""
    config = ConfigDict(dataclasses.asdict(Config()))
    config.stage = stage
    config.trainable = TRAINABLE[stage]
    config.losses = ConfigDict(LOSSES)
    if stage == "restore":  # in the latent space, so that no generator runs
        config.losses.l1 = config.losses.lpips = 0.0
        config.losses.pixel_code_prediction = 0.0
        config.eval.evaluators = ("held_out",)
    if stage == "style":
        config.losses.l1 = config.losses.lpips = 0.0
        config.losses.content = 0.04
        config.checkpoint.best = "style"
        config.eval.metrics = ("style", "content")
        config.eval.evaluators = ("held_out",)
    del config.quantizer
    config.quantizer = named_part(Config.quantizer)
    return config
