"""What E and G run on: each engine draws the same, and the fast mode nearly so."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from glc_jax import autoencoder, engines, openvino_program, weights
from glc_jax.codec import Codec
from glc_jax.errors import ConfigError, InputError
from glc_jax.tiles import plan
from tests import small_model
from tests.tiles import test_run as by_tiles
from tests.tiles.networks import network, whole

HERE = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HERE, reason="OpenVINO is not installed")
NOISE = 5e-5  # in float32


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "small.safetensors"
    small_model.write_weights(path)
    return weights.load(path)


def doubled(fixed, params, x):
    return fixed * x * params


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@needs_openvino
def test_on_a_cpu_openvino_is_chosen_where_it_is_installed(monkeypatch):
    assert engines.choose(None, False).name == engines.OPENVINO
    assert engines.choose("xla", False).name == engines.XLA
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert engines.choose(None, False).dtype is None
    assert engines.choose(None, True).name == engines.XLA
    assert engines.choose(None, True).dtype == jnp.bfloat16


def test_without_openvino_it_is_xla_and_fast_is_refused(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert engines.choose(None, False).name == engines.XLA
    with pytest.raises(InputError, match=r"needs OpenVINO .*pip install 'glc-jax\[fast\]'"):
        engines.choose(None, True)


def test_an_engine_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="no engine 'abacus': xla or openvino"):
        engines.choose("abacus", False)


@needs_openvino
@pytest.mark.parametrize("kind", ["E", "G"])
def test_openvino_gives_what_xla_gives(kind):
    module, params, _ = network(kind)
    shape = (1, 24, 40, 3) if kind == "E" else (1, 24, 40, 4)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def apply(module, params, x):
        return module.apply({"params": params}, x)

    found = np.asarray(engines.OpenVINO(False).run(apply, module, params, x))
    np.testing.assert_allclose(found, whole(kind)(x), atol=NOISE)


@needs_openvino
@pytest.mark.parametrize("work", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_openvino_by_tiles_is_the_whole_picture(monkeypatch, work):
    monkeypatch.setattr(plan, "TILE_VALUES", 8 * 32 * 32)
    height, width = by_tiles.HEIGHT, by_tiles.WIDTH
    picture = small_model.picture(height, width)
    engine, chosen = engines.OpenVINO(False), by_tiles.plan_of("E", work)
    found = by_tiles.encoded(chosen, picture, height, width, engine)
    expected = by_tiles.encoded(chosen, picture, height, width)
    np.testing.assert_allclose(found, expected, atol=NOISE)
    latent = np.random.default_rng(0).normal(size=(1, height // 2, width // 2, 4))
    latent, chosen = latent.astype(np.float32), by_tiles.plan_of("G", work)
    found = by_tiles.generated(chosen, latent, height, width, engine)
    expected = by_tiles.generated(chosen, latent, height, width)
    assert np.abs(found.astype(int) - expected).max() <= 1


@needs_openvino
def test_programs_are_made_once_for_each_shape_and_weights():
    engine, x = engines.OpenVINO(False), np.ones(5, np.float32)
    one, other = (np.full(5, value, np.float32) for value in (1, 2))
    for params, arrays in ((one, x), (other, x), (one, x), (one, x[:, None])):
        found = np.asarray(engine.run(doubled, 2.0, params, arrays))
        np.testing.assert_array_equal(found, 2 * arrays * params)
    assert len(engine._programs) == 3


@needs_openvino
def test_programs_that_take_too_much_together_go():
    engine, kept = engines.OpenVINO(False), []
    engine.run(doubled, 1.0, np.full(5, 5, np.float32), np.ones(5, np.float32))
    (only,) = engine._programs.values()
    assert 10**4 < only.bytes_held < 10**6
    assert engine.keep(2 * only.bytes_held) == 2 * only.bytes_held
    for value in range(4):
        params = np.full(5, value, np.float32)
        kept.append(params)
        found = np.asarray(engine.run(doubled, 1.0, params, np.ones(5, np.float32)))
        np.testing.assert_array_equal(found, params)
    assert len(engine._programs) == 2


@needs_openvino
def test_programs_take_a_share_of_memory_and_so_much_at_most():
    engine = engines.OpenVINO(False)
    assert engine.keep(10**15) == engines.KEPT_BYTES
    assert engine.keep(10**6) == 10**6
    assert engine.program_bytes(2, 10**6) > engine.program_bytes(1, 10**6) > 2 * 10**6


@needs_openvino
def test_what_was_prepared_is_not_made_again(monkeypatch):
    engine, params = engines.OpenVINO(False), np.ones(5, np.float32)
    engine.prepare(doubled, 3.0, params, jax.ShapeDtypeStruct((5,), np.float32))
    monkeypatch.setattr(openvino_program, "trace", None)
    found = engine.run(doubled, 3.0, params, jnp.ones(5, jnp.float32))
    np.testing.assert_array_equal(np.asarray(found), 3)


@needs_openvino
def test_what_cannot_be_translated_is_left_to_xla_unless_asked_for():
    def function(fixed, params, x):
        return jnp.cumsum(x) * params

    x, params = np.arange(4, dtype=np.float32), np.float32([2])
    chosen = engines.choose(None, False)
    chosen.prepare(function, 0, params, x)
    with pytest.warns(UserWarning, match="cumsum.*XLA computes it"):
        found = chosen.run(function, 0, params, x)
    np.testing.assert_array_equal(np.asarray(found), 2 * np.cumsum(x))
    for asked in (engines.choose("openvino", False), engines.choose(None, True)):
        with pytest.raises(ConfigError, match="cumsum"):
            asked.run(function, 0, params, x)


@needs_openvino
def test_what_openvino_fails_to_run_is_left_to_xla_unless_asked_for(monkeypatch):
    def fail(traced, fast):
        raise RuntimeError("no memory\nat src/core.cpp:1")

    monkeypatch.setattr(openvino_program.Traced, "compile", fail)
    x = np.ones(5, np.float32)
    chosen = engines.choose(None, False)
    with pytest.warns(UserWarning, match="OpenVINO failed: no memory. XLA computes it"):
        np.testing.assert_array_equal(np.asarray(chosen.run(doubled, 2.0, x, x)), 2)
    chosen.rest()
    with pytest.raises(ConfigError, match=r"OpenVINO failed: no memory\.$"):
        np.asarray(engines.choose(None, True).run(doubled, 2.0, x, x))


@needs_openvino
def test_an_openvino_that_cannot_be_imported_is_none(monkeypatch):
    openvino_program._openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: True)
    assert engines.choose(None, False).name == engines.XLA
    with pytest.raises(InputError, match="pip install"):
        engines.choose(None, True)
    openvino_program._openvino.cache_clear()


@needs_openvino
@pytest.mark.parametrize("at_once", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_files_and_pictures_of_a_codec_on_either(loaded, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
        monkeypatch.setattr(plan, "TILE_VALUES", 2**14)
    image = small_model.picture(100, 60)
    xla, openvino = Codec(loaded, engine="xla"), Codec(loaded, engine="openvino")
    data = xla.compress(image)
    assert openvino.compress(image) == data
    expected = xla.decompress(data)
    assert np.abs(openvino.decompress(data).astype(int) - expected).max() <= 1

    fast = openvino.compress(image, fast=True)
    assert abs(len(fast) - len(data)) < 0.1 * len(data)
    np.testing.assert_array_equal(xla.decompress(fast).shape, image.shape)
    assert psnr(openvino.decompress(data, fast=True), expected) > 42
    best = openvino.compress(image, 3, fast=True)
    assert openvino.compress_to_size(image, len(best), fast=True)[0] == best


@pytest.mark.parametrize("at_once", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_on_an_accelerator_fast_is_bfloat16(loaded, monkeypatch, at_once):
    """The same programs as on a GPU or TPU, run by XLA on this CPU."""
    if not at_once:
        monkeypatch.setattr(autoencoder, "AT_ONCE", 0)
        monkeypatch.setattr(plan, "TILE_VALUES", 2**14)
    image, codec = small_model.picture(64, 64), Codec(loaded, engine="xla")
    exact, fast = (
        codec._made(codec.params, engines.OnXLA(dtype)) for dtype in (None, jnp.bfloat16)
    )
    latent = exact.encode(image)
    found = fast.encode(image)
    assert found.dtype == jnp.float32
    assert 1e-4 < jnp.abs(found - latent).max() < 0.1 * jnp.abs(latent).max()
    drawn = fast.generate(latent, 64, 64), exact.generate(latent, 64, 64)
    assert 30 < psnr(*drawn) < 70


@needs_openvino
def test_fast_reaches_both_sides(loaded):
    asked, codec = [], Codec(loaded)
    for fast, autoencoder_ in ((fast, codec._autoencoder(fast)) for fast in (False, True)):
        for name in ("begin_encode", "generate"):
            call = getattr(autoencoder_, name)

            def noted(*arguments, call=call, what=(name, fast)):
                asked.append(what)
                return call(*arguments)

            setattr(autoencoder_, name, noted)
    image = small_model.picture(64, 64)
    for fast in (True, False):
        codec.decompress(codec.compress(image, fast=fast), fast=fast)
        assert asked == [("begin_encode", fast), ("generate", fast)]
        asked.clear()
        codec.decompress(codec.compress(image), preview=True, fast=fast)
        assert asked[-1] == ("generate", fast)
        asked.clear()
        codec.compress_to_size(image, 1000, fast=fast)
        assert asked == [("begin_encode", fast)]
        asked.clear()


@needs_openvino
@pytest.mark.slow
def test_the_benchmark_says_how_far_it_is(loaded, tmp_path):
    loaded_path, photo = tmp_path / "small.safetensors", tmp_path / "a.png"
    Codec(loaded).save(loaded_path)
    Image.fromarray(small_model.picture(80, 64)).save(photo)
    script = Path(__file__).parents[1] / "scripts/benchmark.py"
    command = [sys.executable, script, "--files", photo, "--rates", "1", "--weights", loaded_path]
    for more, equal in ((["--engine", "xla"], True), (["--fast"], False)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True)
        one, total = done.stdout.splitlines()
        assert ("; inf dB" in one or ", 1 levels at most" in one) is equal
        assert " 0 of " in total or not equal
        assert total.startswith("all: ")


@needs_openvino
def test_a_codec_falls_back_to_nothing_silently(loaded):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec = Codec(loaded)
        codec.decompress(codec.compress(small_model.picture(64, 64)))
    assert codec._autoencoder()._engine.name == engines.OPENVINO


def test_fast_where_it_cannot_be_had_is_told_before_any_work(loaded, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    codec = Codec(loaded)
    monkeypatch.setattr(codec, "require_memory", None)
    with pytest.raises(InputError, match="OpenVINO"):
        codec.compress(small_model.picture(64, 64), fast=True)
