"""The smallest GLC that has every kind of layer, for checkpoint files of a few kilobytes."""

from ml_collections import ConfigDict


def model_config() -> ConfigDict:
    """The model section: fields of `glc_jax.models.glc.build`."""
    return ConfigDict(
        {
            "latent_channels": 4,
            "codebook_size": 8,
            "hyper_codebook_size": 8,
            "rate_points": 4,
            "vqvae": {
                "base_channels": 2,
                "multipliers": (1, 2),
                "encoder_blocks": (1, 1),
                "generator_blocks": (1, 1),
                "norm_groups": 2,
                "window": 32,
                "latent_conv": True,
                "output_swish": True,
            },
            "code_predictor": {
                "positions": 16,
                "width": 4,
                "layers": 1,
                "heads": 2,
                "mlp_width": 8,
            },
        }
    )
