"""GLC for natural images at the official sizes: 163,988,099 parameters.

    python scripts/train.py --config configs/natural.py:stage1 --workdir runs/natural1 \\
        --config.data.tfds.name=imagenet2012 --config.eval.folder=HELD_OUT --distributed
    python scripts/train.py --config configs/natural.py:stage2 --workdir runs/natural2 \\
        --config.init_from=runs/natural1 --config.data.tfds.name=open_images_v4 --distributed
    python scripts/train.py --config configs/natural.py:stage3 --workdir runs/natural3 \\
        --config.init_from=runs/natural2 --config.data.tfds.name=open_images_v4 --distributed
    python scripts/export.py runs/natural3 -o natural.safetensors --training-parts

    python scripts/train.py --config configs/natural.py:restore --workdir runs/restore \\
        --config.init_from=natural.safetensors --config.data.tfds.name=open_images_v4 --distributed
    python scripts/export.py runs/restore -o natural-restore.safetensors
    python scripts/train.py --config configs/natural.py:style --workdir runs/style \\
        --config.init_from=natural.safetensors --config.data.tfds.name=open_images_v4 \\
        --config.data.style_folder=PAINTINGS --distributed
    python scripts/export.py runs/style -o natural-style.safetensors

Hardware: a TPU v4-32 slice (16 chips) or 8 GPUs of 40 GB or more; docs/training.md has the exact
commands. Cost, estimated and not measured: stage 1 is 1.3 TFLOP an image, stage 2 0.25, stage 3
2.2 (scripts/benchmark.py counts them); at 35 % of a v4-32's peak in bfloat16 that is 24 h, 4 h and
20 h. The paper does not publish its loss weights, schedule or batch; those here are our choice.
"""

from ml_collections import ConfigDict

from glc_jax.training import base


def model_config() -> ConfigDict:
    """The model section: fields of `glc_jax.models.glc.build`."""
    return ConfigDict(
        {
            "latent_channels": 256,
            "codebook_size": 16384,
            "hyper_codebook_size": 16384,
            "rate_points": 4,
            "vqvae": {
                "base_channels": 128,
                "multipliers": (1, 1, 2, 2, 4),
                "encoder_blocks": (2, 2, 2, 2, 2),
                "generator_blocks": (3, 3, 3, 3, 3),
                "norm_groups": 32,
                "window": 32,
                "latent_conv": True,
                "output_swish": True,
            },
            "code_predictor": {
                "positions": 256,
                "width": 512,
                "layers": 9,
                "heads": 8,
                "mlp_width": 1024,
            },
        }
    )


def get_config(stage: str = "stage1") -> ConfigDict:
    """The whole config of "stage1", "stage2", "stage3", "restore" or "style"."""
    config = base.get_config(stage)
    config.name = "natural"
    config.model = model_config()
    config.model.entropy = base.entropy_section()

    config.data.crop = config.eval.crop = 256
    config.data.scale = (0.5, 1.0)
    config.batch = 256
    config.steps = 400_000
    config.optimizer.learning_rate = 1e-4
    config.lpips_network = "vgg"
    config.codebook.kmeans_step = 1000
    config.adversarial.weight = 0.8
    config.adversarial.start = 50_000

    if stage == "stage2":
        config.steps = 300_000
        config.adversarial.weight = 0.0
    if stage == "stage3":
        config.steps = 200_000
        config.optimizer.learning_rate = 5e-5
        config.adversarial.start = 0
        config.codebook.kmeans_step = -1
    if stage == "style":
        config.steps = 100_000
        config.batch = 64
        config.adversarial.weight = 0.0
        config.codebook.kmeans_step = -1
    if stage == "restore":
        config.steps = 100_000
        config.adversarial.weight = 0.0
        config.losses.rate = 0.1
        config.codebook.kmeans_step = -1
    return config
