"""The small model that ships in the package: the full model's code path with smaller numbers.

    python scripts/train.py --config configs/tiny.py:stage1 --workdir runs/tiny1 \\
        --config.data.folder=PHOTOS --config.eval.folder=HELD_OUT
    python scripts/train.py --config configs/tiny.py:stage2 --workdir runs/tiny2 \\
        --config.init_from=runs/tiny1 --config.data.folder=PHOTOS
    python scripts/train.py --config configs/tiny.py:stage3 --workdir runs/tiny3 \\
        --config.init_from=runs/tiny2 --config.data.folder=PHOTOS
    python scripts/export.py runs/tiny3 -o tiny.safetensors

Hardware: any computer; the data are held in memory, decoded. Cost: on one core of an AMD EPYC
with AVX-512 stage 1 makes 2.1 steps/s, on two of them stage 3 makes 0.6; docs/model_tiny.md says
what the packaged model took.
"""

from ml_collections import ConfigDict


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
                "generator_blocks": (1, 1, 2, 3, 2),
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
    """The whole config of "stage1", "stage2" or "stage3"."""
    config = ConfigDict()
    config.name = "tiny"
    config.stage = {"stage1": 1, "stage2": 2, "stage3": 3}[stage]
    config.model = model_config()
    config.seed = 0
    config.init_from = ""  # a run's folder or a weights file
    config.linear_start_batches = 0  # without init_from: see training/linear_start.py

    config.data = ConfigDict()
    config.data.folder = ""
    config.data.tfds = ConfigDict({"name": "", "split": "train", "key": "image", "data_dir": ""})
    config.data.crop = 128
    config.data.scale = (0.4, 1.0)
    config.data.flip = True
    config.data.cache_gb = 2.0  # of decoded pictures, in memory
    config.data.threads = 1
    config.batch = 8
    config.accumulate = 1
    config.steps = 20_000

    config.trainable = {1: "vqvae/", 2: "(?!vqvae/|pixel_code_predictor/)", 3: ""}[config.stage]
    config.optimizer = optimizer(2e-4)
    config.ema = 0.999
    config.dtype = "float32"  # of the computation; parameters are float32 in any case
    config.remat = False  # True: less memory, about a third more time

    config.losses = ConfigDict()
    config.losses.l1 = 1.0
    config.losses.multiscale_l1 = 1.0
    config.losses.lpips = 1.0
    config.losses.dists = 0.0
    config.losses.spectral_excess = 0.0  # against hatching
    config.dists_window = 96  # pixels a side of the centre of each crop that DISTS sees
    config.dists_group = 4  # of these centres are compared as one picture
    config.lpips_network = "alex"
    config.losses.codebook = 1.0
    config.losses.rate = 1.0  # times the lambda of the sample's rate point, per bpp
    config.losses.hyper_codebook = 1.0
    config.losses.latent = 1.0
    config.losses.code_prediction = 0.05
    config.losses.pixel_code_prediction = 0.05
    config.lambdas = (16.0, 8.0, 4.0, 2.0)
    config.quantizer = "mixed"

    config.codebook = ConfigDict()
    config.codebook.kmeans_step = 0  # -1: never
    config.codebook.kmeans_batches = 16
    config.codebook.quantised_share = 1.0  # of stage I's samples that pass the codebook
    config.codebook.decay = 0.99
    config.codebook.dead_below = 0.03  # of an even share
    config.codebook.revive_every = 100
    if config.stage > 1:  # a crop has few values of z, so their use shows only over many steps
        config.codebook.decay = 0.998
        config.codebook.revive_every = 1000

    config.adversarial = ConfigDict()
    config.adversarial.weight = 0.0  # 0: no discriminator at all
    config.adversarial.start = 0
    config.adversarial.adaptive = True
    config.adversarial.base_channels = 32
    config.adversarial.layers = 2
    config.adversarial.optimizer = optimizer(2e-4, tail_steps=0)

    config.mesh = ConfigDict({"model": 1, "shard_from": 2**20})
    config.log_every = 50
    config.checkpoint = ConfigDict({"every": 500, "keep": 2, "best": "lpips"})
    config.eval = ConfigDict()
    config.eval.folder = ""
    config.eval.tfds = ConfigDict({"name": "", "split": "test", "key": "image", "data_dir": ""})
    config.eval.every = 1000
    config.eval.crop = 256
    config.eval.batch = 4
    config.eval.pictures = 4  # drawn in TensorBoard

    if config.stage == 1:
        config.linear_start_batches = 64
        config.data.crop = 64
        config.data.scale = (0.3, 0.9)
        config.losses.lpips = 0.3
        config.optimizer = optimizer(4e-4)
        config.codebook.quantised_share = 0.25
    if config.stage == 2:
        config.steps = 10_000
        config.optimizer = optimizer(8e-4)
        config.lambdas = (16.0, 8.0, 4.0, 2.0)
        config.codebook.kmeans_step = 30  # once z has left its initialisation
    if config.stage == 3:
        config.steps = 10_000
        config.optimizer = optimizer(4e-4)
        config.data.crop = 192  # VGG16's last layer, in DISTS, sees 211 pixels
        config.data.scale = (0.35, 1.0)
        config.batch = 2
        config.losses.lpips = 1.0
        config.losses.dists = 6.0
        config.dists_window = 192
        config.dists_group = 2
        config.losses.spectral_excess = 2.0
        config.losses.latent = 0.0
        config.losses.code_prediction = config.losses.pixel_code_prediction = 0.0
        config.lambdas = (10.0, 4.8, 2.5, 1.2)
        config.codebook.kmeans_step = -1
    return config


def optimizer(learning_rate: float, tail_steps: int = 5000) -> ConfigDict:
    """Adam's fields."""
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "warmup_steps": 200,
            "tail_steps": tail_steps,
            "b1": 0.9,
            "b2": 0.98,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
        }
    )
