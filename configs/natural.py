"""GLC for natural images at the official sizes: 163,988,099 parameters."""

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
