"""The codec as a user meets it, with a small untrained model: bytes out, the same picture back."""

import copy
import dataclasses
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import glc_jax
from glc_jax import bitstream, companions, weights
from glc_jax import codec as codec_module
from glc_jax.codec import Codec
from glc_jax.errors import BitstreamError, InputError, WeightsError
from tests import small_model


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Codec:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    small_model.write_weights(path)
    return glc_jax.load(path)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return small_model.picture(100, 60)


@pytest.fixture(scope="module")
def data(codec, image) -> bytes:
    return codec.compress(image, rate=1.5)


def test_a_file_decodes_to_a_picture_of_its_size(codec, image, data):
    container = bitstream.parse(data)
    assert (container.height, container.width) == image.shape[:2]
    assert container.rate(3) == 1.5
    assert container.fingerprint == codec.fingerprint
    decoded = codec.decompress(data)
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape


def test_another_codec_of_the_same_weights_decodes_the_same(codec, data, tmp_path):
    codec.save(tmp_path / "copy.safetensors")
    other = glc_jax.load(tmp_path / "copy.safetensors")
    np.testing.assert_array_equal(other.decompress(data), codec.decompress(data))


def test_compressing_again_gives_the_same_bytes(codec, image, data):
    assert codec.compress(image, rate=1.5) == data


def test_the_file_agrees_with_the_float_model(codec, image, data):
    estimate = codec.estimate(image, rate=1.5)
    difference = np.abs(estimate.reconstruction.astype(int) - codec.decompress(data))
    # A y_q that lies near a half may round the other way, and then its surroundings differ.
    assert (difference <= 2).mean() > 0.7
    bits = 8 * len(data)
    overhead = 8 * (bitstream.overhead(image.shape[1], image.shape[0]) + 1)
    assert bits <= 1.005 * (estimate.bits_y + estimate.bits_z) + overhead
    assert estimate.z_indices.shape == (7, 4)  # of 112 x 64 padded pixels
    assert estimate.y_q.shape == (28, 16, small_model.CHANNELS)


def test_a_preview_by_weights_without_a_map_draws_a_quarter_of_the_pixels(
    codec, image, data, monkeypatch
):
    drawn, generate = [], codec._autoencoder().generate

    def noted(latent, height, width, left):
        drawn.append((latent.shape, height, width))
        return generate(latent, height, width, left)

    monkeypatch.setattr(codec._autoencoder(), "generate", noted)
    preview = codec.decompress(data, preview=True)
    assert preview.shape == image.shape == (100, 60, 3)
    assert drawn == [((1, 14, 8, small_model.CHANNELS), 50, 30)]  # of 112 x 64 padded pixels
    picture = codec.decompress(data)
    difference = abs(preview.mean((0, 1)) - picture.mean((0, 1)))
    assert difference.max() < 20
    assert (preview != picture).any()


def test_a_preview_is_of_the_latents_means_over_2_x_2():
    latent = np.arange(2 * 8 * 4 * 3.0).reshape(2, 8, 4, 3)[:1]
    halved = np.asarray(codec_module._halve(jnp.asarray(latent)))
    assert halved.shape == (1, 4, 2, 3)
    for y in range(4):
        for x in range(2):
            mean = latent[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((0, 1))
            np.testing.assert_allclose(halved[0, y, x], mean)


def test_no_rate_is_the_middle(codec, image, data):
    assert codec.nearest_rate(None) == 1.5
    assert codec.compress(image) == data


@pytest.mark.slow
def test_preview_is_recognisable():
    """The packaged model: at a quarter of the size, far nearer to the picture than its mean is.

    Measured: 25.0 dB, where the whole decode has 25.2 and the mean colour 9.9.
    """
    datasets = pytest.importorskip("sklearn.datasets")
    picture = datasets.load_sample_image("china.jpg")[:384, :640]
    packaged = glc_jax.load()
    preview = packaged.decompress(packaged.compress(picture), preview=True)

    def reduced(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).reduce(4), np.float64)

    target = reduced(picture)
    error = np.mean((reduced(preview) - target) ** 2)
    assert error < np.mean((target - target.mean((0, 1))) ** 2) / 20


def test_pillow_images_are_taken_as_they_are_shown(codec, image, data):
    from PIL import Image

    assert codec.compress(Image.fromarray(image), rate=1.5) == data


def test_target_size_gives_the_highest_rate_that_fits(codec, image):
    sizes = {rate: len(codec.compress(image, rate=rate)) for rate in (0.0, 3.0)}
    middle = (sizes[0.0] + sizes[3.0]) // 2
    found, rate = codec.compress_to_size(image, target_bytes=middle)
    assert len(found) <= middle
    assert codec.compress(image, rate=rate) == found
    assert len(codec.compress(image, rate=rate + 3 / bitstream.RATE_LEVELS)) > middle
    assert codec.compress_to_size(image, target_bytes=1)[1] == 0
    assert codec.compress_to_size(image, target_bytes=10**6)[1] == 3


@pytest.mark.parametrize(("target", "level"), [(59, 49), (60, 50), (9, 0), (262, 252), (261, 251)])
def test_a_file_of_exactly_the_target_size_fits(codec, image, monkeypatch, target, level):
    monkeypatch.setattr(codec, "_code_latent", lambda side, latent, shape, at: bytes(10 + at))
    found, rate = codec.compress_to_size(image, target)
    assert len(found) == 10 + level
    assert rate == bitstream.rate_of(level, 3)


def test_a_restored_file_is_the_restorers_and_any_codec_of_the_weights_reads_it(
    codec, image, data, tmp_path
):
    codec.save(tmp_path / "base.safetensors")
    base = weights.load(tmp_path / "base.safetensors")
    flat = weights.flatten(companions.encoder_side(base.tree["params"]))
    own = weights.unflatten({path: np.float32(1.1) * leaf for path, leaf in flat})
    companions.save(tmp_path / "own.safetensors", "restorer", "own", own, base, {})
    restoring = Codec(base, restorer=tmp_path / "own.safetensors")
    assert restoring.compress(image, rate=1.5) == data
    # As a model would whose own encoder this is; what decodes is not of the encoder's side.
    tree = {**base.tree, "params": companions.restoring(base.tree["params"], own)}
    whole = Codec(dataclasses.replace(base, tree=tree))
    file = restoring.compress(image, rate=1.5, restore=True)
    assert file == whole.compress(image, rate=1.5) != data
    assert restoring.compress_to_size(image, len(file), restore=True) == (
        whole.compress_to_size(image, len(file))
    )
    restored = codec.decompress(restoring.compress(image, rate=3, restore=True))
    np.testing.assert_array_equal(restoring.restore(image), restored)
    with pytest.raises(WeightsError, match="have no restorer"):
        codec.compress(image, restore=True)


def test_sides_are_padded_with_the_edge(codec, image):
    """Not mirrored: what is coded is that of the picture with its last row and column repeated."""
    height, width = (
        -(-side // small_model.MULTIPLE) * small_model.MULTIPLE for side in image.shape[:2]
    )
    missing = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    alone = codec.analyse(image)
    for mode, same in (("edge", True), ("reflect", False)):
        padded = codec.analyse(np.pad(image, missing, mode=mode))
        assert np.array_equal(padded["y"], alone["y"]) == same
        assert not same or np.array_equal(padded["z"], alone["z"])


def test_paths_are_taken_for_pictures_and_files(codec, image, data, tmp_path):
    Image.fromarray(image).save(tmp_path / "photo.png")
    (tmp_path / "photo.glc").write_bytes(data)
    for path in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert codec.compress(path, rate=1.5) == data
    picture = codec.decompress(data)
    for file in (tmp_path / "photo.glc", str(tmp_path / "photo.glc"), bytearray(data)):
        np.testing.assert_array_equal(codec.decompress(file), picture)
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        codec.compress("none.png")
    with pytest.raises(InputError, match=r"none\.glc: cannot be read"):
        codec.decompress("none.glc")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda codec, image: codec.compress(None), "a Pillow image or a path, not a NoneType"),
        (lambda codec, image: codec.compress(image, rate="a"), "rate must be a number, not 'a'"),
        (lambda codec, image: codec.compress_to_size(image, "a"), "number of bytes, not 'a'"),
        (lambda codec, image: codec.compress_to_size(image, np.nan), "number of bytes, not nan"),
        (lambda codec, image: codec.decompress(None), "its bytes or its path, not a NoneType"),
    ],
)
def test_wrong_types_say_what_is_taken(codec, image, call, says):
    with pytest.raises(InputError, match=says):
        call(codec, image)


def test_verify_is_about_the_symbols(codec, data):
    codec.verify(data)
    container = bitstream.parse(data)
    for change in ({"symbols_check": container.symbols_check ^ 1}, {"fingerprint": b"??"}):
        with pytest.raises(BitstreamError):
            codec.verify(bitstream.serialise(dataclasses.replace(container, **change)))


def test_a_copy_in_another_process_or_this_one_is_the_same_codec(codec, image, data):
    for copied in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert repr(copied) == repr(codec)
        assert copied.compress(image, rate=1.5) == data


def test_a_plugin_is_a_name():
    with pytest.raises(InputError, match="A plugin is a module's name, not a int"):
        glc_jax.load(plugins=[3])


def test_a_codec_says_what_it_is(codec):
    assert repr(codec).startswith("<glc_jax.Codec 'small-0', ")
    assert codec.fingerprint.hex() in repr(codec)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(codec, image):
    with pytest.raises(InputError, match="uint8"):
        codec.compress(image)


@pytest.mark.parametrize("rate", [-0.1, 3.1, float("nan")])
def test_rates_out_of_range_are_refused(codec, image, rate):
    with pytest.raises(InputError, match="rate"):
        codec.compress(image, rate=rate)


def test_other_weights_are_refused_by_name(codec, data, tmp_path):
    small_model.write_weights(tmp_path / "other.safetensors", seed=1)
    other = glc_jax.load(tmp_path / "other.safetensors")
    with pytest.raises(BitstreamError, match=codec.fingerprint.hex()):
        other.decompress(data)


def test_too_many_pixels_are_refused(codec, data):
    with pytest.raises(BitstreamError, match="pixels"):
        codec.decompress(data, max_pixels=100)


class TestWeightsFile:
    @pytest.fixture
    def path(self, tmp_path):
        small_model.write_weights(tmp_path / "small.safetensors")
        return tmp_path / "small.safetensors"

    def test_a_missing_file_names_the_packaged_models(self, tmp_path):
        with pytest.raises(WeightsError, match="no such weights file"):
            glc_jax.load(tmp_path / "nothing.safetensors")

    def test_a_flipped_bit_is_found(self, path):
        damaged = bytearray(path.read_bytes())
        damaged[-100] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged"):
            glc_jax.load(path)

    @pytest.mark.parametrize("length", [0, 7, 100, 5000])
    def test_a_cut_file_is_refused(self, path, length):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            glc_jax.load(path)

    def test_a_foreign_file_is_told_apart(self, tmp_path):
        from safetensors.numpy import save_file

        save_file({"a": np.zeros(3)}, tmp_path / "foreign.safetensors")
        with pytest.raises(WeightsError, match="not weights of glc_jax"):
            glc_jax.load(tmp_path / "foreign.safetensors")

    def test_a_newer_version_is_told_apart(self, path, monkeypatch):
        monkeypatch.setattr(weights, "FORMAT_VERSION", 3)
        small_model.write_weights(path)
        monkeypatch.undo()
        with pytest.raises(WeightsError, match="newer"):
            glc_jax.load(path)

    def test_parameters_that_do_not_fit_the_config_are_refused(self, path, image):
        loaded = weights.load(path)
        del loaded.tree["params"]["g_a"]["rate_scale"]
        weights.save(path, loaded.tree, loaded.config)
        with pytest.raises(WeightsError, match=r"rate_scale.*g_a"):
            glc_jax.load(path).compress(image)

    def test_weights_without_an_exact_model_estimate_but_write_no_files(self, path, image):
        loaded = weights.load(path)
        del loaded.tree["entropy"]
        weights.save(path, loaded.tree, loaded.config)
        codec = glc_jax.load(path)
        assert codec.estimate(image, rate=0).bits_y > 0
        with pytest.raises(WeightsError, match="no exact entropy model"):
            codec.compress(image)
