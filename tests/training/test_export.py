"""From trained parameters to a weights file that writes files."""

import numpy as np
import pytest

import glc_jax
from glc_jax.errors import ConfigError
from glc_jax.training.export import at_rates, export
from tests.small_model import picture
from tests.training import small


@pytest.fixture(scope="module")
def trained() -> tuple[dict, dict]:
    """(config, parameters), with tables whose rows differ."""
    config = small.config(3)
    params = small.parameters(config)
    for seed, part in enumerate(("g_a", "g_s")):
        shape = params[part]["rate_scale"].shape
        rows = 1 + 0.1 * np.arange(shape[0])[:, None] + np.random.default_rng(seed).random(shape)
        params[part]["rate_scale"] = rows.astype(np.float32)
    return config, params


def test_rate_points_can_be_placed_between_the_trained_ones(trained):
    config, params = trained
    placed_config, placed = at_rates(config, params, [0, 1.25, 3])
    assert placed_config["model"]["rate_points"] == 3
    assert config["model"]["rate_points"] == 4
    for part in ("g_a", "g_s"):
        rows, found = params[part]["rate_scale"], placed[part]["rate_scale"]
        expected = [rows[0], 0.75 * rows[1] + 0.25 * rows[2], rows[3]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert placed["vqvae"] is params["vqvae"]


@pytest.mark.parametrize("rates", [[], [0, 0], [1, 0.5], [-1, 2], [0, 3.5], [0, float("nan")]])
def test_rates_that_cannot_be_points_are_told(trained, rates):
    with pytest.raises(ConfigError, match=r"increase within 0 \.\. 3"):
        at_rates(*trained, rates)


@pytest.mark.slow
def test_what_was_exported_writes_files_at_the_placed_rates(trained, tmp_path):
    def exported(name, config, params):
        path = tmp_path / name
        batches = [small.batch(seed) for seed in range(2)]
        export(
            config,
            params,
            batches,
            path,
            count=2,
            dtype="float32",
            training_parts=False,
            provenance={},
        )
        return glc_jax.load(path)

    image = picture(32, 48, 5)
    whole = exported("whole.safetensors", *trained)
    placed = exported("placed.safetensors", *at_rates(*trained, [0.5, 1.5]))
    assert (whole.highest_rate, placed.highest_rate) == (3, 1)
    for point, rate in ((0, 0.5), (1, 1.5)):
        one, other = (codec.analyse(image, at)[0] for codec, at in ((placed, point), (whole, rate)))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    data = placed.compress(image, 1)
    assert placed.decompress(data).shape == image.shape
