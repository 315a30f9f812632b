"""XLA's programs on disk: another process reads them, and computes as the one that made them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import codec, engines, program_store, weights, xla_programs
from glc_jax.entropy import windows
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.group_coders import TableCoder
from glc_jax.entropy.integer import Float64, x64
from glc_jax.xla_programs import Jitted
from tests import small_model

X = np.float32([1, 2, 3])


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder where JAX keeps programs, and so this package its own, on one device."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / program_store.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


def function(body):
    """A function as one of this package: found on disk by its name, whatever it does."""

    def own(*arguments):
        return body(*arguments)

    own.__module__, own.__qualname__ = codec.__name__, "own"
    return own


def times(factor, x):
    return {"product": factor * x, "none": None, "both": (x, x + factor)}


def refusing(*arguments):
    raise AssertionError("this was traced")


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_is_on_disk_is_neither_traced_nor_compiled(beside):
    same(Jitted(function(times), 1)(3, X), times(3, X))
    assert len(list(beside.iterdir())) == 1
    again = Jitted(function(refusing), 1)
    for x in (X, jnp.asarray(X), 2 * X):
        same(again(3, x), times(3, x))
    with pytest.raises(AssertionError, match="traced"):
        again(4, X)


def test_what_is_prepared_is_on_disk(beside):
    Jitted(function(times), 1).prepare(3, jax.ShapeDtypeStruct(X.shape, X.dtype))
    same(Jitted(function(refusing), 1)(3, X), times(3, X))


def test_other_shapes_types_statics_and_settings_are_other_programs(beside, monkeypatch):
    jitted = Jitted(function(times), 1)
    for factor, x in [(3, X), (3, X[:2]), (3, np.int32([1])), (4, X)]:
        same(jitted(factor, x), times(factor, x))
    with x64():
        same(jitted(3, np.float64([0.1])), times(3, np.float64([0.1])))
        jitted(3, X)
    assert len(list(beside.iterdir())) == 6
    for name, value in [("XLA_FLAGS", "--other"), ("processor", lambda: "another")]:
        with monkeypatch.context() as patch:
            if name == "processor":
                patch.setattr(program_store, name, value)
            else:
                patch.setenv(name, value)
            with pytest.raises(AssertionError, match="traced"):
                Jitted(function(refusing), 1)(3, X)


@pytest.mark.parametrize("damage", [b"", b"no pickle", b"\x80\x04K\x01."])
def test_what_cannot_be_read_is_compiled_anew(beside, damage):
    Jitted(function(times), 1)(3, X)
    (file,) = beside.iterdir()
    program_store.beside_jax().save(file.stem, damage)
    same(Jitted(function(times), 1)(3, X), times(3, X))
    same(Jitted(function(refusing), 1)(3, X), times(3, X))


def test_what_jax_itself_has_read_is_not_written(beside):
    """XLA cannot write it: what comes back lacks its functions."""

    def read_by_jax(factor, x):
        jax.monitoring.record_event("/jax/compilation_cache/cache_hits")
        return times(factor, x)

    same(Jitted(function(read_by_jax), 1)(3, X), times(3, X))
    assert not beside.exists()


def test_what_cannot_be_written_runs_all_the_same(beside, monkeypatch):
    monkeypatch.setattr(xla_programs, "_stored", refusing)
    same(Jitted(function(times), 1)(3, X), times(3, X))
    assert not beside.exists()


def test_jax_finds_it_by_our_key_alone(beside, monkeypatch):
    """So that JAX has read, and we cannot write, only what this store had and lost."""
    jit, names = jax.jit, []
    jitted = Jitted(function(times), 1)
    monkeypatch.setattr(jax, "jit", lambda of: names.append(of.__name__) or jit(of))
    jitted(3, X)
    (file,) = beside.iterdir()
    assert names == [f"own_{file.stem[:16]}"]


def test_elsewhere_it_is_as_jax_has_it(beside, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", None)
    same(Jitted(function(times), 1)(3, X), times(3, X))
    jax.config.update("jax_compilation_cache_dir", str(beside.parent))
    for name, value in [("device_count", 2), ("default_backend", "gpu")]:
        with monkeypatch.context() as patch:
            patch.setattr(jax, name, lambda value=value: value)
            jitted = Jitted(function(times), 1)
            jitted.prepare(3, X)
            same(jitted(3, X), times(3, X))
    assert not beside.exists()


def test_without_jit_nothing_is_compiled(beside):
    def concrete(factor, x):
        return {"product": factor * float(x[0])}  # which no tracer has

    with jax.disable_jit():
        assert Jitted(function(concrete), 1)(3, X) == {"product": 3.0}
    assert not beside.exists()


def test_a_function_that_no_key_is_of_runs_all_the_same(beside):
    same(Jitted(times, 1)(3, X), times(3, X))
    assert not beside.exists()


def test_coding_from_disk_is_the_same(beside, tmp_path, monkeypatch):
    path = tmp_path / "small.safetensors"
    small_model.write_weights(path)
    loaded, picture = weights.load(path), small_model.picture(32, 48)
    programs = [codec._analyse, codec._synthesise]

    def coded():
        windows._compiled.cache_clear()
        for program in programs:
            program.jitted._programs.clear()
        one = codec.Codec(loaded, engine=engines.XLA)
        data = one.compress(picture)
        return data, one.decompress(data)

    data, drawn = coded()
    assert len(list(beside.iterdir())) == 4  # of the entropy model two; to_code and synthesis
    monkeypatch.setattr(jax.stages.Lowered, "compile", refusing)
    again = coded()
    assert again[0] == data
    np.testing.assert_array_equal(again[1], drawn)


def test_programs_of_other_tables_are_others():
    """The thresholds of the tables are constants of what is compiled."""
    groups = ExactModel(small_model.tree()["entropy"], Float64()).groups
    tables = next(group.coder for group in groups if group.coder.parameters).tables
    other = dataclasses.replace(tables, thresholds=tables.thresholds + 1)
    same, alike, apart = (
        program_store._described(TableCoder(one).index)
        for one in (tables, dataclasses.replace(tables), other)
    )
    assert None is not same == alike != apart
