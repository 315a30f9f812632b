"""OpenVINO's compiled programs on disk: found by all that made them, harmless when damaged."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import (
    autoencoder,
    codec,
    engines,
    openvino_program,
    program_store,
    weights,
    xla_programs,
)
from glc_jax.models import glc
from glc_jax.program_store import ProgramStore
from tests import small_model
from tests.test_engines import needs_openvino

PIXELS = jax.ShapeDtypeStruct((1, 16, 16, 3), np.uint8)
PARAMS = {"a": {"kernel": np.float32([1, 2]), "bias": np.float32(3)}}


@pytest.fixture
def store(tmp_path):
    return ProgramStore(tmp_path / "programs")


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder where JAX keeps programs, and so this package its own, those of OpenVINO alone."""
    monkeypatch.setattr(xla_programs, "_store", lambda: None)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / program_store.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def encoder():
    return glc.build(small_model.MODEL).vqvae.encoder


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "small.safetensors"
    small_model.write_weights(path)
    return weights.load(path)


def test_what_was_saved_is_loaded(store):
    assert store.load("a") is None
    store.save("a", b"one")
    store.save("b", b"two")
    store.save("a", b"three")
    assert store.load("a") == b"three"
    assert store.load("b") == b"two"
    store.remove("a")
    store.remove("nothing")
    assert store.load("a") is None


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:-1] + b"?"])
def test_a_damaged_program_is_no_program_and_goes(store, tmp_path, spoil):
    store.save("a", b"a program")
    (file,) = (tmp_path / "programs").iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    assert store.load("a") is None
    assert not file.exists()


def test_what_was_used_least_recently_goes_first(store, tmp_path, monkeypatch):
    monkeypatch.setattr(program_store, "STORE_BYTES", 3 * 132 + 50)
    for age, name in enumerate("abc"):
        store.save(name, bytes(100))
        os.utime(tmp_path / "programs" / f"{name}.program", (age, age))
    assert store.load("a")  # used now
    store.save("d", bytes(100))
    assert [name for name in "abcd" if store.load(name)] == ["a", "c", "d"]


def test_a_very_large_program_is_not_kept(store, monkeypatch):
    monkeypatch.setattr(program_store, "MOST_BYTES", 5)
    store.save("a", bytes(6))
    store.save("b", bytes(5))
    assert store.load("a") is None
    assert store.load("b") == bytes(5)


def test_a_folder_that_cannot_be_written_to_is_as_none(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = ProgramStore(tmp_path / "file")
    store.save("a", b"one")
    assert store.load("a") is None


def test_it_lies_beside_the_programs_of_jax_if_there_are_any(beside):
    program_store.beside_jax().save("a", b"one")
    assert [file.name for file in beside.iterdir()] == ["a.program"]
    for folder in (None, "gs://bucket/folder"):
        jax.config.update("jax_compilation_cache_dir", folder)
        assert program_store.beside_jax() is None


def key(fixed, params=PARAMS, arrays=(PIXELS,), *compiled_for, function=autoencoder._encode):
    return program_store.key(function, fixed, params, arrays, *compiled_for)


def test_a_key_is_of_all_that_makes_a_program(encoder, monkeypatch):
    other_values = {"a": {"kernel": np.float32([1, 4]), "bias": np.float32(3)}}
    other_names = {"b": PARAMS["a"]}
    other_type = {"a": {"kernel": np.int32([1, 2]), "bias": np.float32(3)}}
    wider = jax.ShapeDtypeStruct((1, 16, 32, 3), np.uint8)
    floats = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
    keys = [
        key(encoder),
        key(encoder.clone(dtype=jnp.bfloat16)),
        key(encoder.clone(window=8)),
        key(encoder.clone(blocks=(1, 2, 1))),
        *(key(encoder, params) for params in (other_values, other_names, other_type)),
        *(key(encoder, PARAMS, arrays) for arrays in ((wider,), (floats,), (PIXELS, PIXELS))),
        key(encoder, PARAMS, [PIXELS]),
        *(key(encoder, PARAMS, (PIXELS,), release) for release in ("1", "2")),
        key(encoder, function=autoencoder._generate),
    ]
    for module in ("jax", "flax"):
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.__version__", "0.0.1")
            keys.append(key(encoder))
    with monkeypatch.context() as patch:
        patch.setattr(program_store, "_code", lambda: "other code")
        keys.append(key(encoder))
    assert len({*keys}) == len(keys)
    assert all(len(one) == 64 for one in keys)


def test_equal_things_have_one_key(encoder):
    copies = {"a": {name: jnp.asarray(value) for name, value in PARAMS["a"].items()}}
    arrays = (np.zeros(PIXELS.shape, np.uint8),)
    assert key(encoder.clone(), copies, arrays) == key(encoder)


class Foreign(nn.Module):
    """What a user may have written, in a file that no key is of."""

    size: int = 1
    dtype: object = None


class ForeignValue:
    """NumPy would take it for its dtype."""

    dtype = np.dtype(np.float32)


@pytest.mark.parametrize(
    "fixed",
    [
        *(Foreign(), Foreign(dtype=jnp.float32), Foreign, ForeignValue(), ForeignValue, object()),
        *(nn.swish, (1, nn.swish), {"a": nn.swish}),
    ],
)
def test_what_does_not_say_all_has_no_key(fixed):
    assert key(fixed) is None
    kinds = (np.float32, jnp.float32, jnp.bfloat16, np.dtype("int8"), jnp.dtype("bfloat16").type)
    assert key((1, 2.5, "a", None, *kinds, {"b": True})) is not None


def test_a_function_of_someone_else_has_no_key(encoder):
    def own(fixed, params, x):
        return x

    assert key(encoder, function=own) is None
    own.__module__ = autoencoder.__name__  # it may close over anything
    assert key(encoder, function=own) is None


def held_by(made):
    programs = made._autoencoder()._engine._programs.values()
    return sum(kept.bytes_held for kept in programs)


@needs_openvino
def test_the_next_process_traces_and_compiles_nothing(beside, loaded, monkeypatch):
    picture = small_model.picture(32, 48)
    first = codec.Codec(loaded)
    data = first.compress(picture)
    drawn = first.decompress(data)
    engines.finish()
    assert len(list(beside.iterdir())) == 2  # E and G

    for name in ("trace", "Traced"):
        monkeypatch.setattr(openvino_program, name, None)
    second = codec.Codec(loaded)
    assert second.compress(picture) == data
    np.testing.assert_array_equal(second.decompress(data), drawn)
    assert held_by(second) == held_by(first) != 0


@needs_openvino
def test_the_fast_mode_has_programs_of_its_own(beside, loaded):
    for fast in (False, True):
        codec.Codec(loaded).compress(small_model.picture(32, 48), fast=fast)
    engines.finish()
    assert len(list(beside.iterdir())) == 2


@needs_openvino
def test_what_openvino_cannot_read_is_made_anew(beside, loaded):
    picture = small_model.picture(32, 48)
    data = codec.Codec(loaded).compress(picture)
    engines.finish()
    (file,) = beside.iterdir()
    program_store.beside_jax().save(file.stem, b"no program")
    assert codec.Codec(loaded).compress(picture) == data


@needs_openvino
def test_where_jax_keeps_nothing_nothing_is_kept(beside, loaded, tmp_path):
    jax.config.update("jax_compilation_cache_dir", None)
    codec.Codec(loaded).compress(small_model.picture(32, 48))
    engines.finish()
    assert not list(tmp_path.iterdir())


@needs_openvino
def test_a_restorer_is_compiled_once(monkeypatch, loaded):
    made = []
    choose = engines.choose
    monkeypatch.setattr(engines, "choose", lambda *given: made.append(given) or choose(*given))
    restoring = codec.Codec(loaded)
    monkeypatch.setattr(codec.Codec, "_restoring", restoring.params)
    for _ in range(2):
        restoring.compress(small_model.picture(32, 48), restore=True)
    assert len(made) == 2  # E of the restorer, and what says how much memory there is
