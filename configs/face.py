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
    """The whole config of "stage1", "stage2" or "stage3"."""
    config = ConfigDict()
    config.name = "face"
    config.stage = {"stage1": 1, "stage2": 2, "stage3": 3}[stage]
    config.model = model_config()
    config.seed = 0
    config.init_from = ""  # a run's folder or a weights file
    config.linear_start_batches = 0  # without init_from: see training/linear_start.py

    config.data = ConfigDict()
    config.data.folder = ""
    config.data.tfds = ConfigDict({"name": "", "split": "train", "key": "image", "data_dir": ""})
    config.data.crop = 512
    config.data.scale = (0.8, 1.0)
    config.data.flip = True
    config.data.cache_gb = 0.0  # of decoded pictures, in memory
    config.data.threads = 16
    config.batch = 64
    config.accumulate = 1
    config.steps = 300_000

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
    config.eval.crop = 512
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
