"""The small model that ships in the package: the full model's code path with smaller numbers."""

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
                "norm_groups": 8,
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
