"""GLC for faces: latents of 1/32 size, a codebook of 1024.

    python scripts/train.py --config configs/face.py:stage1 --workdir runs/face1 \\
        --config.data.tfds.name=celeb_a_hq/512 --config.eval.folder=HELD_OUT --distributed
    python scripts/train.py --config configs/face.py:stage2 --workdir runs/face2 \\
        --config.init_from=runs/face1 --config.data.tfds.name=celeb_a_hq/512 --distributed
    python scripts/train.py --config configs/face.py:stage3 --workdir runs/face3 \\
        --config.init_from=runs/face2 --config.data.tfds.name=celeb_a_hq/512 --distributed
    python scripts/export.py runs/face3 -o face.safetensors

Stage 1 may start from CodeFormer's public VQ-VAE instead, converted by `python -m conversion`:
--config.init_from=FILE. Hardware: 8 GPUs of 40 GB or more, or a TPU v4-32 slice. Cost, estimated
and not measured: stage 1 is 2.4 TFLOP an image of 512x512, stage 2 0.3, stage 3 3.6; at 35 % of
the bfloat16 peak of 8 A100 that is 14 h, 2 h and 15 h. Loss weights and schedule are our choice.
"""

from ml_collections import ConfigDict

from glc_jax.training import base


def model_config() -> ConfigDict:
    """The model section: fields of `glc_jax.models.glc.build`.

    The VQ-VAE has the layout of CodeFormer's public vqgan_code1024.pth, its natural start.
    """
    return ConfigDict(
        {
            "latent_channels": 256,
            "codebook_size": 1024,
            "hyper_codebook_size": 1024,
            "rate_points": 4,
            "vqvae": {
                "base_channels": 64,
                "multipliers": (1, 2, 2, 4, 4, 8),
                "encoder_blocks": (2, 2, 2, 2, 2, 2),
                "generator_blocks": (2, 2, 2, 2, 2, 2),
                "norm_groups": 32,
                "window": 32,
                "latent_conv": False,
                "output_swish": False,
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
    config.name = "face"
    config.model = model_config()
    config.model.entropy = base.entropy_section()

    config.data.crop = config.eval.crop = 512
    config.data.scale = (0.8, 1.0)
    config.batch = 64
    config.steps = 300_000
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
