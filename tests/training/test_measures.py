"""What held-out pictures are measured by: which way round, in which range, through what."""

import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.training import measures, networks
from glc_jax.training.measures import MEASURES

PICTURE = np.float32([[[[0, 51, 255]]]])
ORIGINAL = np.uint8([[[[255, 102, 0]]]])


def test_ranges_and_order_are_those_that_each_metric_takes(monkeypatch):
    def noted(*arguments):
        params, picture, original = arguments if len(arguments) == 3 else (None, *arguments)
        return params, np.asarray(picture).ravel(), np.asarray(original).ravel()

    monkeypatch.setattr(measures, "lpips", noted)
    monkeypatch.setattr(measures, "dists", noted)
    monkeypatch.setattr(measures.spectrum, "spectral_excess", noted)
    networks = {name: name for name in ("lpips_alex", "lpips_vgg", "dists")}
    signed = np.float32([[-1, -0.6, 1], [1, -0.2, -1]])
    for name, network, wanted in (
        ("lpips", "lpips_alex", signed),
        ("lpips_vgg", "lpips_vgg", signed),
        ("dists", "dists", (signed + 1) / 2),
        ("spectral_excess", None, signed),
    ):
        measure = MEASURES[name]
        params, *found = measure.function(jnp.asarray(PICTURE), jnp.asarray(ORIGINAL), networks)
        np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=name)
        assert (params, measure.networks) == (network, (network,) if network else ())


def test_psnr_is_of_pixels_and_more_is_better():
    assert [name for name, one in MEASURES.items() if not one.less_is_better] == ["psnr"]
    other = np.float32(ORIGINAL) + np.float32([[[[-5, 5, 5]]]])
    found = MEASURES["psnr"].function(jnp.asarray(other), jnp.asarray(ORIGINAL), {})
    np.testing.assert_allclose(found, 20 * np.log10(255 / 5), rtol=1e-5)


def test_lpips_looks_through_the_configs_network():
    assert measures.measures("vgg")["lpips"].networks == ("lpips_vgg",)
    assert measures.measures("alex")["lpips"].networks == ("lpips_alex",)
    assert measures.measures("alex")["lpips_vgg"].networks == ("lpips_vgg",)


def test_networks_are_loaded_once_by_their_names(monkeypatch):
    loaded = []
    monkeypatch.setattr(networks.lpips_weights, "load", lambda name: loaded.append(name) or name)
    monkeypatch.setattr(networks.dists, "load", lambda: "the one")
    found = networks.load(["lpips_vgg", "dists", "lpips_alex", "lpips_vgg"])
    assert found == {"lpips_vgg": "vgg", "lpips_alex": "alex", "dists": "the one"}
    assert sorted(loaded) == ["alex", "vgg"]
    with pytest.raises(ConfigError, match="no network 'vgg'"):
        networks.load(["vgg"])
