"""GLC for natural images at the official sizes: 163,988,099 parameters.

    python scripts/train.py --config configs/natural.py:stage1 --workdir runs/natural1 \\
        --config.data.tfds.name=imagenet2012 --config.eval.folder=HELD_OUT --distributed
    python scripts/train.py --config configs/natural.py:stage2 --workdir runs/natural2 \\
        --config.init_from=runs/natural1 --config.data.tfds.name=open_images_v4 --distributed
    python scripts/train.py --config configs/natural.py:stage3 --workdir runs/natural3 \\
        --config.init_from=runs/natural2 --config.data.tfds.name=open_images_v4 --distributed
    python scripts/export.py runs/natural3 -o natural.safetensors

Hardware: a TPU v4-32 slice (16 chips) or 8 GPUs of 40 GB or more; docs/training.md has the exact
commands. Cost, estimated and not measured: stage 1 is 1.3 TFLOP an image, stage 2 0.25, stage 3
2.2 (scripts/benchmark.py counts them); at 35 % of a v4-32's peak in bfloat16 that is 24 h, 4 h and
20 h. The paper does not publish its loss weights, schedule or batch; those here are our choice.
"""

from ml_collections import ConfigDict


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
    """The whole config of "stage1", "stage2" or "stage3"."""
    config = ConfigDict()
    config.name = "natural"
    config.stage = {"stage1": 1, "stage2": 2, "stage3": 3}[stage]
    config.model = model_config()
    config.seed = 0
    config.init_from = ""  # a run's folder or a weights file
    config.linear_start_batches = 0  # without init_from: see training/linear_start.py

    config.data = ConfigDict()
    config.data.folder = ""
    config.data.tfds = ConfigDict({"name": "", "split": "train", "key": "image", "data_dir": ""})
    config.data.crop = 256
    config.data.scale = (0.5, 1.0)
    config.data.flip = True
    config.data.cache_gb = 0.0  # of decoded pictures, in memory
    config.data.threads = 16
    config.batch = 256
    config.accumulate = 1
    config.steps = 400_000

    config.trainable = {1: "vqvae/", 2: "(?!vqvae/|pixel_code_predictor/)", 3: ""}[config.stage]
    config.optimizer = optimizer(1e-4)
    config.ema = 0.9995
    config.dtype = "bfloat16"  # of the computation; parameters are float32 in any case
    config.remat = False  # True: less memory, about a third more time

    config.losses = ConfigDict()
    config.losses.l1 = 1.0
    config.losses.multiscale_l1 = 0.0
    config.losses.lpips = 1.0
    config.losses.dists = 0.0
    config.losses.spectral_excess = 0.0  # against hatching
    config.dists_window = 192  # pixels a side of the centre of each crop that DISTS sees
    config.dists_group = 4  # of these centres are compared as one picture
    config.lpips_network = "vgg"
    config.losses.codebook = 1.0
    config.losses.rate = 1.0  # times the lambda of the sample's rate point, per bpp
    config.losses.hyper_codebook = 1.0
    config.losses.latent = 1.0
    config.losses.code_prediction = 0.05
    config.losses.pixel_code_prediction = 0.05
    config.lambdas = (16.0, 8.0, 4.0, 2.0)
    config.quantizer = "mixed"

    config.codebook = ConfigDict()
    config.codebook.kmeans_step = 1000  # -1: never
    config.codebook.kmeans_batches = 16
    config.codebook.quantised_share = 1.0  # of stage I's samples that pass the codebook
    config.codebook.decay = 0.99
    config.codebook.dead_below = 0.03  # of an even share
    config.codebook.revive_every = 100

    config.adversarial = ConfigDict()
    config.adversarial.weight = 0.8  # 0: no discriminator at all
    config.adversarial.start = 50_000
    config.adversarial.adaptive = True
    config.adversarial.base_channels = 64
    config.adversarial.layers = 3
    config.adversarial.optimizer = optimizer(1e-4)

    config.mesh = ConfigDict({"model": 1, "shard_from": 2**20})
    config.log_every = 100
    config.checkpoint = ConfigDict({"every": 2000, "keep": 3, "best": "lpips"})
    config.eval = ConfigDict()
    config.eval.folder = ""
    config.eval.tfds = ConfigDict({"name": "", "split": "test", "key": "image", "data_dir": ""})
    config.eval.every = 10_000
    config.eval.crop = 256
    config.eval.batch = 64
    config.eval.pictures = 4  # drawn in TensorBoard

    if config.stage == 2:
        config.steps = 300_000
        config.adversarial.weight = 0.0
    if config.stage == 3:
        config.steps = 200_000
        config.optimizer = optimizer(5e-5)
        config.adversarial.start = 0
        config.codebook.kmeans_step = -1
    return config


def optimizer(learning_rate: float, tail_steps: int = 50_000) -> ConfigDict:
    """Adam's fields."""
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "warmup_steps": 2000,
            "tail_steps": tail_steps,
            "b1": 0.9,
            "b2": 0.99,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
        }
    )
