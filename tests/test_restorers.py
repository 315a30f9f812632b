"""Restorers beside a small model: what they write, for whom, and which files are refused."""

import functools

import ml_dtypes
import numpy as np
import pytest

import glc_jax
from glc_jax import bitstream, companions, weights
from glc_jax.errors import WeightsError
from tests import small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """base.safetensors, and restorers of it: own, its own encoder, and other, another's."""
    folder = tmp_path_factory.mktemp("companions")
    small_model.write_weights(folder / "base.safetensors")
    base = weights.load(folder / "base.safetensors")
    for name, seed in (("own", 0), ("other", 1)):
        save(folder / f"{name}.safetensors", base, small_model.parameters(seed))
    return folder


def save(path, base, params, kind=companions.RESTORER):
    side = companions.encoder_side(params)
    return companions.save(path, kind, f"small-{path.stem}", side, base, {"of": "a test"})


@functools.cache
def load(folder, name=None):
    restorer = None if name is None else folder / f"{name}.safetensors"
    return glc_jax.load(folder / "base.safetensors", restorer=restorer)


@pytest.fixture(scope="module")
def image():
    return small_model.picture(40, 56)


@pytest.fixture(scope="module")
def plain(folder, image):
    return load(folder).compress(image, rate=2)


def test_without_restore_the_bytes_are_the_same(folder, image, plain):
    codec = load(folder, "other")
    assert codec.compress(image, rate=2) == codec.compress(image, 2, restore=False) == plain
    codec.compress(image, rate=2, restore=True)
    assert codec.compress(image, rate=2) == plain
    assert codec.compress_to_size(image, len(plain)) == load(folder).compress_to_size(
        image, len(plain)
    )


def test_the_models_own_encoder_as_a_restorer_changes_nothing(folder, image, plain):
    assert load(folder, "own").compress(image, rate=2, restore=True) == plain


def test_a_restorer_is_an_encoder(folder, image, plain):
    """What it writes is what the same model with that encoder would, under the model's own name."""
    base = weights.load(folder / "base.safetensors")
    side = companions.encoder_side(small_model.parameters(1))
    tree = {**base.tree, "params": companions.restoring(base.tree["params"], side)}
    weights.save(folder / "grafted.safetensors", tree, base.config)
    expected = bitstream.parse(glc_jax.load(folder / "grafted.safetensors").compress(image, rate=2))
    codec = load(folder, "other")
    found = bitstream.parse(codec.compress(image, rate=2, restore=True))
    assert found.fingerprint == codec.fingerprint != expected.fingerprint
    assert (found.payload, found.symbols_check) == (expected.payload, expected.symbols_check)
    assert found.payload != bitstream.parse(plain).payload


def test_restoring_at_a_size_and_in_memory(folder, image):
    codec = load(folder, "other")
    sizes = [len(codec.compress(image, rate, restore=True)) for rate in (0, 3)]
    middle = sum(sizes) // 2
    data, rate = codec.compress_to_size(image, middle, restore=True)
    assert len(data) <= middle
    assert data == codec.compress(image, rate, restore=True)
    assert len(codec.compress(image, rate + 3 / bitstream.RATE_LEVELS, restore=True)) > middle
    for rate in (None, 1):
        data = codec.compress(image, 3 if rate is None else rate, restore=True)
        np.testing.assert_array_equal(codec.restore(image, rate), load(folder).decompress(data))


def test_the_packaged_restorer_is_found_by_its_model(folder, image, monkeypatch):
    with pytest.raises(
        WeightsError, match=r"'small-0' have no restorer in this package; train one"
    ):
        load(folder).compress(image, restore=True)
    stranger = small_model.write_weights(folder / "stranger.safetensors", seed=1)
    base = weights.load(folder / "base.safetensors")
    files = ["a-stranger's", "b-stylist", "base", "other"]
    save(folder / f"{files[0]}.safetensors", weights.load(stranger.path), small_model.parameters(0))
    save(folder / f"{files[1]}.safetensors", base, small_model.parameters(0), companions.STYLIST)
    packaged = {name: folder / f"{name}.safetensors" for name in files}
    monkeypatch.setattr(weights, "packaged", lambda: packaged)
    codec = glc_jax.load(folder / "base.safetensors")
    expected = weights.describe(packaged["other"])
    assert codec.restorer == expected
    assert (expected.kind, expected.name) == ("restorer", "small-other")
    assert expected.config["base"] == base.fingerprint.hex()
    data = codec.compress(image, restore=True)
    assert data == load(folder, "other").compress(image, restore=True)
    monkeypatch.setattr(
        weights, "_packaged_fingerprints", weights._packaged_fingerprints.__wrapped__
    )
    assert weights.find(base.fingerprint) == packaged["base"]
    assert weights.find(expected.fingerprint) is None  # it decodes nothing


def test_a_restorer_in_bfloat16_is_used_in_float32(folder, image):
    base = weights.load(folder / "base.safetensors")
    params = dict(weights.flatten(small_model.parameters(1)))
    short = {path: leaf.astype(ml_dtypes.bfloat16) for path, leaf in params.items()}
    save(folder / "short.safetensors", base, weights.unflatten(short))
    rounded = {path: leaf.astype(np.float32) for path, leaf in short.items()}
    save(folder / "rounded.safetensors", base, weights.unflatten(rounded))
    files = [load(folder, name).compress(image, restore=True) for name in ("short", "rounded")]
    assert files[0] == files[1]


def refused(folder, name, image, plain, says):
    """By everything that restores, while what does not goes on as ever."""
    codec = load(folder, name)
    for call in (
        lambda: codec.compress(image, restore=True),
        lambda: codec.compress_to_size(image, 500, restore=True),
        lambda: codec.restore(image),
    ):
        with pytest.raises(WeightsError, match=says):
            call()
    assert codec.compress(image, rate=2) == plain


def test_a_restorer_of_other_weights_is_refused(folder, image, plain):
    small_model.write_weights(folder / "stranger.safetensors", seed=1)
    stranger = weights.load(folder / "stranger.safetensors")
    save(folder / "foreign.safetensors", stranger, small_model.parameters(0))
    own = load(folder).fingerprint.hex()
    says = f"a restorer of the weights {stranger.fingerprint.hex()}; these are {own} \\(small-0\\)"
    refused(folder, "foreign", image, plain, says)
    with pytest.raises(WeightsError, match=says):
        load(folder, "foreign").restorer  # noqa: B018


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "a model", "a stylist", "no base"])
def test_a_restorer_that_is_none_is_refused(folder, image, plain, damage):
    path = folder / "damaged.safetensors"
    data = bytearray((folder / "other.safetensors").read_bytes())
    says = {
        "flipped": "do not match the digest; the file is damaged",
        "cut": "not a readable safetensors file",
        "missing": "no such weights file",
        "a model": "holds a model, not a restorer",
        "a stylist": "holds a stylist, not a restorer",
        "no base": "the description of the weights is damaged",
    }[damage]
    if damage == "flipped":
        data[-100] ^= 1
    elif damage == "cut":
        del data[-100:]
    elif damage == "a model":
        data = (folder / "base.safetensors").read_bytes()
    elif damage == "no base":
        base = weights.describe(folder / "base.safetensors").fingerprint.hex()
        data = data.replace(b'\\"base\\": \\"' + base.encode(), b'\\"base\\": \\"zzzz')
        assert b"zzzz" in data
    path.write_bytes(data)
    if damage == "a stylist":
        base = weights.load(folder / "base.safetensors")
        save(path, base, small_model.parameters(0), companions.STYLIST)
    elif damage == "missing":
        path.unlink()
    refused(folder, "damaged", image, plain, says)


def test_parameters_of_another_shape_are_refused(folder, image, plain):
    base = weights.load(folder / "base.safetensors")
    params = small_model.parameters(1)
    params["g_a"]["rate_scale"] = params["g_a"]["rate_scale"][:, :4]
    save(folder / "misfit.safetensors", base, params)
    refused(folder, "misfit", image, plain, "do not fit their own config")


def test_a_restorer_is_no_model(folder):
    base = weights.describe(folder / "base.safetensors").fingerprint.hex()
    says = f"small-other: holds a restorer, not a model; name the model's weights \\({base}\\)"
    with pytest.raises(WeightsError, match=says):
        glc_jax.load(folder / "other.safetensors")
