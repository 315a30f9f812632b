"""Weights that stand on a model's: which parameters they are, and that they go with no other."""

import numpy as np
import pytest

from glc_jax import companions, weights
from glc_jax.companions import RESTORER
from glc_jax.errors import WeightsError

PATHS = (
    *("vqvae/encoder/conv/kernel", "vqvae/generator/conv/kernel", "vqvae/quantizer/codebook"),
    *("g_a/kernel", "g_a/rate_scale", "g_s/kernel", "context/prior/kernel"),
    *("hyperprior/h_a/kernel", "hyperprior/h_s/kernel", "hyperprior/quantizer/codebook"),
)
ENCODERS = {path for path in PATHS if "encoder" in path or "g_a" in path or "h_a" in path}
CONFIG = {"name": "small", "model": {"rate_points": 4}}


def parameters(offset: float = 0.0, paths=PATHS) -> weights.Tree:
    return weights.unflatten(
        {path: np.full((2, 2), PATHS.index(path) + offset, np.float32) for path in paths}
    )


def model(path, offset: float = 0.0, name: str = "small") -> weights.Weights:
    weights.save(path, {"params": parameters(offset)}, {**CONFIG, "name": name})
    return weights.load(path)


@pytest.fixture
def base(tmp_path) -> weights.Weights:
    return model(tmp_path / "base.safetensors")


def restorer(path, base, kind: str = RESTORER):
    own = companions.encoder_side(parameters(100.0))
    return companions.save(path, kind, "small-restore", own, base, {"stage": "restore"})


def test_the_encoders_side_is_what_no_decoder_needs():
    own = companions.encoder_side(parameters())
    assert {path for path, _ in weights.flatten(own)} == ENCODERS
    assert len(ENCODERS) == 4


def test_a_restoring_model_has_the_restorers_encoders_and_its_own_decoders():
    params, own = parameters(), companions.encoder_side(parameters(100.0))
    found = dict(weights.flatten(companions.restoring(params, own)))
    assert set(found) == set(PATHS)
    for number, path in enumerate(PATHS):
        assert (found[path] == number + 100 * (path in ENCODERS)).all()
    assert (params["g_a"]["kernel"] == PATHS.index("g_a/kernel")).all()  # as it was


def test_a_companion_comes_back_as_floats_with_its_model_named(base, tmp_path):
    path = tmp_path / "own.safetensors"
    own = companions.encoder_side(parameters(0.5))
    half = weights.unflatten({p: leaf.astype(np.float16) for p, leaf in weights.flatten(own)})
    description = companions.save(path, RESTORER, "mine", half, base, {"stage": "restore"})
    assert (description.kind, description.name) == (RESTORER, "mine")
    assert description.config["base"] == base.fingerprint.hex()
    assert description.config["model"] == base.config["model"]
    assert description.provenance["stage"] == "restore"
    found = dict(weights.flatten(companions.load(RESTORER, base, path)))
    assert set(found) == ENCODERS
    for name, leaf in found.items():
        assert leaf.dtype == np.float32
        assert (leaf == PATHS.index(name) + 0.5).all()


def test_a_companion_of_other_weights_or_of_another_kind_is_refused(base, tmp_path):
    restorer(tmp_path / "own.safetensors", base)
    other = model(tmp_path / "other.safetensors", 1.0, "other")
    says = f"a restorer of the weights {base.fingerprint.hex()}; these are .* \\(other\\)"
    with pytest.raises(WeightsError, match=says):
        companions.load(RESTORER, other, tmp_path / "own.safetensors")
    restorer(tmp_path / "style.safetensors", base, "styliser")
    with pytest.raises(WeightsError, match="holds a styliser, not a restorer"):
        companions.load(RESTORER, base, tmp_path / "style.safetensors")
    with pytest.raises(WeightsError, match="holds a model, not a restorer"):
        companions.load(RESTORER, base, tmp_path / "base.safetensors")


def test_the_packaged_companion_is_found_by_its_model_and_kind(base, tmp_path, monkeypatch):
    other = model(tmp_path / "other.safetensors", 1.0, "other")
    made = [("a", other, RESTORER), ("b", base, "styliser"), ("c", base, RESTORER)]
    packaged = {"base": tmp_path / "base.safetensors"}
    for name, of, kind in made:
        packaged[name] = tmp_path / f"{name}.safetensors"
        own = parameters(ord(name), ["g_a/kernel"])
        companions.save(packaged[name], kind, name, own, of, {})
    monkeypatch.setattr(weights, "packaged", lambda: packaged)
    weights._packaged_fingerprints.cache_clear()
    marks = {name: weights.describe(path).fingerprint for name, path in packaged.items()}
    assert weights.find(marks["base"]) == packaged["base"]
    assert weights.find(marks["c"]) is None  # no file is made with a companion alone
    weights._packaged_fingerprints.cache_clear()
    found = companions.load(RESTORER, base)
    assert (found["g_a"]["kernel"] == PATHS.index("g_a/kernel") + ord("c")).all()
    with pytest.raises(WeightsError, match=r"'other' have no styliser .*--styliser"):
        companions.load("styliser", other)


def test_a_companion_is_no_model(base, tmp_path):
    companions.require_model(base)
    restorer(tmp_path / "own.safetensors", base)
    says = f"small-restore: holds a restorer, not a model; .*{base.fingerprint.hex()}"
    with pytest.raises(WeightsError, match=says):
        companions.require_model(weights.load(tmp_path / "own.safetensors"))
