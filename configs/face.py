"""GLC for faces: latents of 1/32 size, a codebook of 1024."""

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
