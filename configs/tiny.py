"""The small model that ships in the package: the full model's code path with smaller numbers.

    python scripts/train.py --config configs/tiny.py:stage1 --workdir runs/tiny1 \\
        --config.data.folder=PHOTOS --config.eval.folder=HELD_OUT
    python scripts/train.py --config configs/tiny.py:stage2 --workdir runs/tiny2 \\
        --config.init_from=runs/tiny1 --config.data.folder=PHOTOS
    python scripts/train.py --config configs/tiny.py:stage3 --workdir runs/tiny3 \\
        --config.init_from=runs/tiny2 --config.data.folder=PHOTOS
    python scripts/export.py runs/tiny3 -o tiny.safetensors

Against the hatching (docs/model_tiny.md says in what the packaged weights' last run was another):

    python scripts/train.py --config configs/tiny.py:texture --workdir runs/tiny4 \\
        --config.init_from=runs/tiny3 --config.data.folder=PHOTOS
    python scripts/export.py runs/tiny3 runs/tiny4 -o tiny4.safetensors

What stands on a model:

    python scripts/train.py --config configs/tiny.py:restore --workdir runs/restore \\
        --config.init_from=tiny.safetensors --config.data.folder=PHOTOS
    python scripts/export.py runs/restore -o tiny-restore.safetensors
    python scripts/train.py --config configs/tiny.py:style --workdir runs/style \\
        --config.init_from=tiny.safetensors --config.data.folder=PHOTOS \\
        --config.data.style_folder=PAINTINGS
    python scripts/export.py runs/style -o tiny-style.safetensors

Hardware: any computer; the data are held in memory, decoded. Cost: on two cores of an AMD EPYC with
AVX-512 the stages make 5, 6.5, 1.1 and 0.7 steps/s, so stages 1 to 3 take an hour and a half. What
comes of them, and what the packaged model took, says docs/model_tiny.md; more steps of stage 3 are
better ones.
"""

from ml_collections import ConfigDict

from glc_jax.training import base


def model_config() -> ConfigDict:
    """The model section: fields of `glc_jax.models.glc.build`."""
    return ConfigDict(
        {
            "latent_channels": 64,
            "codebook_size": 1024,
            "hyper_codebook_size": 1024,
            "rate_points": 4,
            "vqvae": {
                "base_channels": 16,
                "multipliers": (1, 2, 4, 8, 10),
                "encoder_blocks": (1, 1, 1, 2, 1),
                "generator_blocks": (1, 3, 4, 3, 2),
                "norm_groups": 1,
                "window": 32,
                "latent_conv": True,
                "output_swish": True,
            },
            "code_predictor": {
                "positions": 64,
                "width": 128,
                "layers": 2,
                "heads": 4,
                "mlp_width": 256,
            },
        }
    )


def get_config(stage: str = "stage1") -> ConfigDict:
    """The whole config of "stage1", "stage2", "stage3", "texture", "restore" or "style".

    "texture" is stage 3 again, of G and g_s alone, with LPIPS of VGG16 and a discriminator: files
    stay as they are, and what is drawn of them has less hatching.
    """
    config = base.get_config("stage3" if stage == "texture" else stage)
    config.name = "tiny"
    config.model = model_config()
    config.model.entropy = base.entropy_section()
    config.dtype = "float32"
    config.ema = 0.999

    config.data.crop = 128
    config.data.scale = (0.4, 1.0)
    config.data.cache_gb = 2.0
    config.data.threads = 1
    config.batch = 8
    config.steps = 4000

    for section in (config.optimizer, config.adversarial.optimizer):
        section.learning_rate = 2e-4
        section.warmup_steps = 200
        section.tail_steps = 3000
        section.b2 = 0.98
    config.adversarial.optimizer.tail_steps = 0
    config.adversarial.base_channels = 32
    config.adversarial.layers = 2

    config.losses.multiscale_l1 = 1.0
    config.lpips_network = "alex"
    config.dists_window = 96
    config.codebook.kmeans_step = 0

    config.log_every = 50
    config.checkpoint.every = 500
    config.checkpoint.keep = 2
    config.eval.every = 1000
    config.eval.batch = 4

    if stage == "stage1":
        config.linear_start_batches = 64
        config.data.crop = 64
        config.data.scale = (0.3, 0.9)
        config.losses.lpips = 0.3
        config.optimizer.learning_rate = 4e-4
        config.codebook.quantised_share = 0.25
    else:  # a crop has few values of z, so their use shows only over many steps
        config.codebook.decay = 0.998
        config.codebook.revive_every = 1000
    if stage == "stage2":
        config.steps = 2000
        config.optimizer.tail_steps = 1500
        config.optimizer.learning_rate = 8e-4
        config.codebook.kmeans_step = 30  # once z has left its initialisation
    if stage in ("stage3", "texture"):
        config.optimizer.learning_rate = 4e-4
        config.data.crop = 192  # VGG16's last layer, in DISTS, sees 211 pixels
        config.data.scale = (0.35, 1.0)
        config.batch = 2
        config.losses.dists = 6.0
        config.dists_window = 192
        config.dists_group = 2
        config.losses.spectral_excess = 2.0
        config.losses.latent = 0.0
        config.losses.code_prediction = config.losses.pixel_code_prediction = 0.0
        config.lambdas = (10.0, 4.8, 2.5, 1.2)
        config.codebook.kmeans_step = -1
    if stage == "texture":
        config.steps = 500
        config.trainable = "(vqvae/generator|g_s)/"
        config.ema = 0.998
        config.optimizer.learning_rate = 3e-4
        config.optimizer.tail_steps = 300
        config.jitter = 32
        config.losses.multiscale_l1 = 2.5  # or PSNR falls
        config.losses.lpips = 1.4
        config.losses.lpips_vgg = 4.0
        config.losses.dists = 5.0
        config.dists_group = 1
        config.losses.spectral_excess = 3.0
        config.losses.rate = config.losses.codebook = config.losses.hyper_codebook = 0.0
        config.adversarial.network = "features"
        config.adversarial.weight = 0.42
        config.adversarial.optimizer.learning_rate = 1e-3
        config.adversarial.optimizer.b1 = 0.5
        config.adversarial.optimizer.b2 = 0.9
    if stage == "style":
        config.steps = 4000
        config.batch = 2
        config.optimizer.learning_rate = 3e-4  # more spoils G's copy in its first steps
        config.optimizer.b2 = 0.99
        config.optimizer.tail_steps = 2000
        config.ema = 0.99
        config.data.scale = (0.3, 1.0)
        config.losses.multiscale_l1 = 0.0
        config.codebook.kmeans_step = -1
        config.eval.crop = 256
    if stage == "restore":
        config.batch = 4
        config.steps = 4000
        config.optimizer.learning_rate = 3e-4
        config.optimizer.tail_steps = 2000
        config.losses.update({"l1": 1.0, "lpips": 1.0, "spectral_excess": 0.5, "rate": 0.5})
        config.data.degrade.clean = 0.3
        config.losses.code_prediction = 0.0  # the packaged model has no predictor
        config.lambdas = (10.0, 4.8, 2.5, 1.2)
        config.codebook.kmeans_step = -1
    return config
