"""What one runs first on a new machine: every part of training, on made-up pictures, in minutes.

    python scripts/smoke.py runs/smoke

trains 20 steps of each stage on pictures made in memory, exports the result, and writes and reads a
.glc file: under 2 minutes on 2 CPU cores. On a pod every host runs it, with --distributed. A stage
alone is `python scripts/train.py --config configs/smoke.py:stage1 --workdir runs/smoke1`.

Hardware: any. Cost: minutes; the pictures that come out are worth nothing.
"""

from ml_collections import ConfigDict

from glc_jax.training import base


def model_config() -> ConfigDict:
    """The model section: fields of `glc_jax.models.glc.build`."""
    return ConfigDict(
        {
            "latent_channels": 8,
            "codebook_size": 32,
            "hyper_codebook_size": 32,
            "rate_points": 4,
            "vqvae": {
                "base_channels": 8,
                "multipliers": (1, 2, 2),
                "encoder_blocks": (1, 1, 1),
                "generator_blocks": (1, 1, 1),
                "norm_groups": 2,
                "window": 32,
                "latent_conv": True,
                "output_swish": True,
            },
            "code_predictor": {
                "positions": 64,
                "width": 16,
                "layers": 1,
                "heads": 2,
                "mlp_width": 16,
            },
        }
    )


def get_config(stage: str = "stage1") -> ConfigDict:
    """The whole config of "stage1", "stage2", "stage3", "restore" or "style"."""
    config = base.get_config(stage)
    config.name = "smoke"
    config.model = model_config()
    config.model.entropy = base.entropy_section()
    config.dtype = "float32"
    config.ema = 0.9

    config.data.folder = "synthetic:64"  # as many pictures, made in memory
    config.data.crop = 32
    config.data.threads = 1
    config.batch = 16
    config.steps = 20
    for section in (config.optimizer, config.adversarial.optimizer):
        section.learning_rate = 1e-3
        section.warmup_steps = 2
        section.tail_steps = 5

    config.losses.lpips = 0.0  # the only one that needs weights from another package
    config.codebook.kmeans_step = 2
    config.codebook.kmeans_batches = 2
    config.codebook.revive_every = 5
    config.adversarial.base_channels = 4
    config.adversarial.layers = 1
    config.adversarial.start = 10

    config.log_every = 5
    config.checkpoint.every = 10
    config.checkpoint.best = "spectral_excess"
    config.eval.folder = "synthetic:16"
    config.eval.every = 20
    config.eval.crop = 64
    config.eval.batch = 16
    config.eval.metrics = ("psnr", "spectral_excess")
    config.eval.evaluators = ("held_out",)  # exact_bits takes longer than all the rest

    if stage in ("stage1", "stage3"):
        config.adversarial.weight = 0.5
    if stage == "stage3":
        config.codebook.kmeans_step = -1
        config.adversarial.start = 0
    if stage == "style":  # without VGG16, which is of another package: it learns to copy
        config.data.style_folder = "synthetic:16"
        config.losses.style = config.losses.content = 0.0
        config.losses.l1 = config.losses.multiscale_l1 = 1.0
        config.codebook.kmeans_step = -1
    if stage == "restore":
        config.codebook.kmeans_step = -1
    return config
