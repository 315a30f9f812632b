"""Previews: a linear map from y_hat to a rough picture, without G and without JAX."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import glc_jax
from glc_jax import bitstream, host, memory, preview, weights
from glc_jax.entropy import families
from glc_jax.errors import BitstreamError, TooLargeError, WeightsError
from tests import small_model

POINTS, CHANNELS, CELLS = 3, 5, 4
RNG = np.random.default_rng(0)


def smooth(height: int, width: int) -> np.ndarray:
    """Colours that change slowly, as enlarging keeps them: uint8 [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 40 + phase) + np.cos(y / 35 - phase) for phase in (0, 1, 2)]
    return np.round(127 + 60 * np.stack(waves, -1)).astype(np.uint8)


def of_means(picture: np.ndarray, scale: float) -> np.ndarray:
    """A y_hat [1, h, w, C] of which the first channels hold each position's mean colours."""
    h, w = (side // 16 for side in picture.shape[:2])
    y_hat = RNG.normal(0, 1, (1, h, w, CHANNELS)).astype(np.float32)
    y_hat[0, ..., :3] = picture.reshape(h, 16, w, 16, 3).mean((1, 3)) * scale - 7
    return y_hat


@pytest.fixture(scope="module")
def fitted() -> dict[str, np.ndarray]:
    """Of y_hat whose scale is 1, 2 and 4 at the rate points."""
    fit = preview.Fit(POINTS, CHANNELS, downsampling=16)
    for point in range(POINTS):
        for turned in range(4):
            picture = np.rot90(smooth(256, 256), turned)
            fit.add(of_means(picture, 2**point), [point], picture[None])
    return fit.solve()


@pytest.mark.parametrize("point", range(POINTS))
def test_a_picture_that_its_positions_and_neighbours_tell_is_drawn(fitted, point):
    assert fitted["map"].shape == (POINTS, 9, CHANNELS + 1, CELLS, CELLS, 3)
    picture = smooth(192, 160)
    y_hat = of_means(picture, 2**point)
    drawn = preview.draw(fitted, y_hat, float(point), 190, 150)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (190, 150, 3)
    error = drawn.astype(float) - picture[:190, :150]
    assert np.sqrt(np.mean(error**2)) < 4
    mean_of_positions = picture.reshape(12, 16, 10, 16, 3).mean((1, 3)).repeat(16, 0).repeat(16, 1)
    assert np.mean(error**2) < np.mean((mean_of_positions - picture)[:190, :150] ** 2) / 4


def test_between_rate_points_the_maps_are_interpolated(fitted):
    one, two = fitted["map"][1].astype(np.float32), fitted["map"][2].astype(np.float32)
    both = {"map": np.stack([0.75 * one + 0.25 * two]).astype(np.float16)}
    y_hat = of_means(smooth(64, 64), 2.4)
    drawn = preview.draw(fitted, y_hat, 1.25, 64, 64).astype(int)
    assert abs(drawn - preview.draw(both, y_hat, 0.0, 64, 64)).max() <= 1


def test_a_rate_point_without_samples_takes_what_the_others_tell():
    fit = preview.Fit(2, CHANNELS, downsampling=16)
    picture = smooth(256, 256)
    y_hat = of_means(picture, 1)
    fit.add(y_hat, [1], picture[None])
    drawn = preview.draw(fit.solve(), y_hat, 0.0, 256, 256)
    assert np.mean((drawn.astype(float) - picture) ** 2) < 16


def test_what_y_hat_does_not_tell_is_the_constant():
    fit = preview.Fit(1, CHANNELS, downsampling=16)
    y_hat = RNG.normal(0, 1, (1, 8, 8, CHANNELS)).astype(np.float32)
    fit.add(y_hat, [0], np.full((1, 128, 128, 3), 200, np.uint8))
    drawn = preview.draw(fit.solve(), y_hat, 0.0, 128, 128).astype(int)
    assert abs(drawn - 200).max() <= 1


@pytest.mark.parametrize(("constant", "level"), [(3.0, 255), (-3.0, 0), (0.2, 153)])
def test_colours_end_at_black_and_white(constant, level):
    maps = np.zeros((1, 9, CHANNELS + 1, CELLS, CELLS, 3), np.float16)
    maps[0, 4, -1] = constant
    y_hat = np.zeros((1, 2, 2, CHANNELS), np.float32)
    assert (preview.draw({"map": maps}, y_hat, 0.0, 30, 32) == level).all()


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"map": np.zeros((POINTS, 9, CHANNELS, CELLS, CELLS, 3), np.float16)},
        {"map": np.zeros((POINTS, 9, CHANNELS + 1, CELLS, CELLS, 3), np.float32)},
        {"map": np.zeros((POINTS, 9, CHANNELS + 1, 99, 99, 3), np.float16)},
        {"map": np.full((POINTS, 9, CHANNELS + 1, CELLS, CELLS, 3), np.nan, np.float16)},
        {"map": np.zeros((2, 9, CHANNELS + 1, CELLS, CELLS, 3), np.float16)},
    ],
)
def test_what_is_no_map_is_told(found):
    with pytest.raises(WeightsError, match="preview map"):
        preview.draw(found, np.zeros((1, 4, 4, CHANNELS), np.float32), 2.0, 64, 64)


# ---------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def with_map(tmp_path_factory) -> weights.Weights:
    """The small model and a map that takes the first channel for a grey."""
    maps = np.zeros((4, 9, small_model.CHANNELS + 1, 1, 1, 3), np.float16)
    maps[:, 4, 0] = 0.05
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    tree = {**small_model.tree(), "preview": {"map": maps}}
    weights.save(path, tree, {"name": "small-0", "model": small_model.MODEL})
    return weights.load(path)


@pytest.fixture(scope="module")
def data(with_map) -> bytes:
    return glc_jax.Codec(with_map).compress(small_model.picture(100, 60), rate=1.5)


def test_the_map_is_no_part_of_the_fingerprint(with_map, tmp_path):
    without = small_model.write_weights(tmp_path / "small.safetensors")
    assert with_map.fingerprint == without.fingerprint
    assert with_map.digest != without.digest
    assert weights.load(without.path).preview is None


def test_codec_and_host_draw_the_same(with_map, data, monkeypatch):
    codec = glc_jax.Codec(with_map)
    monkeypatch.setattr(codec, "_reconstruct", None)
    monkeypatch.setattr(codec._autoencoder(), "generate", None)
    drawn = codec.decompress(data, preview=True)
    assert drawn.shape == (100, 60, 3)
    assert drawn.std() > 0
    np.testing.assert_array_equal(preview.of_file(bitstream.parse(data), with_map), drawn)


class Own(families.Laplace):
    """A distribution of someone's own."""


def test_the_host_finds_the_distributions_of_plugins(monkeypatch):
    monkeypatch.setattr(host, "ExactModel", lambda entropy, arithmetic, find: find)
    find = host.entropy_model(SimpleNamespace(entropy=None), (__name__,))
    assert type(find(f"{__name__}:Own")).__name__ == "Own"
    with pytest.raises(WeightsError, match="not part of glc_jax"):
        host.entropy_model(SimpleNamespace(entropy=None))(f"{__name__}:Own")


def test_what_a_preview_refuses(with_map, data):
    container = bitstream.parse(data)
    damaged = dataclasses.replace(container, symbols_check=container.symbols_check ^ 1)
    with pytest.raises(BitstreamError, match="damaged"):
        preview.of_file(damaged, with_map)
    with pytest.raises(BitstreamError, match="written with the weights 0000"):
        preview.of_file(dataclasses.replace(container, fingerprint=bytes(2)), with_map)
    with pytest.raises(TooLargeError, match="to preview"):
        preview.of_file(container, with_map, max_memory=memory.resident_bytes() + 1000)


def test_weights_without_a_map_and_large_pictures_are_left_to_the_codec(with_map, data):
    container = bitstream.parse(data)
    without = dataclasses.replace(with_map, tree=small_model.tree())
    assert preview.of_file(container, without) is None
    large = dataclasses.replace(container, width=preview.HOST_PIXELS, height=2)
    assert preview.of_file(large, with_map) is None


# ---------------------------------------------------------------------------- the packaged model


def test_the_packaged_model_draws_previews_without_jax(tmp_path):
    """Measured: 15.4 dB over cells of 4 x 4 pixels, where the mean colour has 11.8.

    The picture is harder than a photograph (`test_codec.test_preview_is_recognisable`).
    """
    corpus = "tests/conformance/packaged_leaves.glc"
    run = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from glc_jax import cli; "
            f"status = cli.run(['decompress', '-q', '--preview', {corpus!r}, '-o', sys.argv[1]]); "
            "print(status, 'jax' in sys.modules)",
            str(tmp_path / "rough.png"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["0", "False"]
    from conversion.calibration import dead_leaves

    drawn, picture = (
        np.asarray(image.reduce(4), np.float64)
        for image in (Image.open(tmp_path / "rough.png"), Image.fromarray(dead_leaves(5, 160)))
    )
    error = np.mean((drawn - picture) ** 2)
    assert error < np.mean((picture - picture.mean((0, 1))) ** 2) / 2
