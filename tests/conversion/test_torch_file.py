"""Reading files of torch.save: right values, and nothing that a file says is trusted."""

import contextlib
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversion import torch_file
from glc_jax.errors import WeightsError
from tests.conversion import micro, torch_zip

BASE = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
FILES = sorted(micro.FOLDER.glob("*.pth*"))


@pytest.mark.parametrize("file", ["types.pth", "types_protocol_4.pth"])
def test_every_type_and_layout(file):
    loaded = torch_file.load(micro.FOLDER / file)
    expected = {
        "float": BASE,
        "transposed": BASE.T,
        "shared": BASE[1:, ::2],
        "double": BASE.astype(np.float64),
        "half": BASE.astype(np.float16),
        "bfloat16": BASE.astype(ml_dtypes.bfloat16),
        "long": np.arange(3, dtype=np.int64),
        "int": np.arange(3, dtype=np.int32),
        "short": np.arange(3, dtype=np.int16),
        "char": np.arange(-1, 2, dtype=np.int8),
        "byte": np.arange(3, dtype=np.uint8),
        "bool": np.array([True, False]),
        "scalar": np.float32(2.5),
        "empty": np.empty((0, 3), np.float32),
        "parameter": BASE + 1,
    }
    for name, array in expected.items():
        assert loaded[name].dtype == array.dtype, name
        np.testing.assert_array_equal(loaded[name], array, err_msg=name, strict=False)
    others = [1, -(2**40), 2.5, None, True, "text", (1,), (1, 2), (1, 2, 3, 4), {}]
    assert loaded["others"] == others
    assert loaded[7] == "a key that is a number"
    assert set(loaded) == {*expected, "others", 7}


def test_arrays_are_views_of_the_file_and_outlive_a_release():
    array = torch_file.load(micro.FOLDER / "types.pth")["transposed"]
    assert not array.flags.owndata
    assert not array.flags.writeable
    torch_file.release(array)
    np.testing.assert_array_equal(array, BASE.T)


def test_release_of_an_ordinary_array_does_nothing():
    array = np.ones(3)
    torch_file.release(array)
    np.testing.assert_array_equal(array, 1)


def test_the_old_format_gets_the_command_that_saves_it_anew():
    with pytest.raises(WeightsError, match=r"torch\.save\(torch\.load\('.*legacy\.pth'"):
        torch_file.load(micro.FOLDER / "legacy.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x89PNG not a checkpoint", r"not a file of torch\.save"),
        (b"PK\x03\x04 and then nothing", "damaged or incomplete"),
    ],
)
def test_foreign_files(tmp_path, content, message):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        torch_file.load(path)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            torch_file.load(path)


def test_another_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(WeightsError, match=r"not one that torch\.save wrote"):
        torch_file.load(tmp_path / "x.zip")


def test_a_repacked_archive(tmp_path):
    path = torch_zip.write(tmp_path / "x.pth", torch_zip.DICT, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="packed anew"):
        torch_file.load(path)


def test_big_endian_files(tmp_path):
    path = torch_zip.write(tmp_path / "x.pth", torch_zip.DICT, byteorder=b"big")
    with pytest.raises(WeightsError, match="big-endian"):
        torch_file.load(path)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("posix", "system"),
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch", "FloatStorage.from_file"),
        ("torch.jit", "load"),
        ("numpy", "load"),
        ("conversion.torch_file", "load"),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_no_code_runs(tmp_path, module, attribute, stacked):
    if stacked:
        called = torch_zip.text(module) + torch_zip.text(attribute) + b"\x93"
    else:
        called = torch_zip.name(module, attribute)
    victim = tmp_path / "victim"
    program = called + torch_zip.items(torch_zip.text(f"touch {victim}")) + torch_zip.REDUCE
    path = torch_zip.write(tmp_path / "x.pth", program)
    with pytest.raises(WeightsError, match=f"refers to {module}.{attribute}, which could run code"):
        torch_file.load(path)
    assert not victim.exists()


TENSOR = torch_zip.tensor("0", 4, (4,), (1,))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        torch_zip.TUPLE,
        torch_zip.REDUCE,
        torch_zip.PERSISTENT,
        torch_zip.SETITEMS,
        b"h\x05",  # a value never memorised
        b"I1\n",  # an instruction that torch.save does not write
        b"\x82\x01",  # an extension code
        torch_zip.DICT + torch_zip.EMPTY_TUPLE + torch_zip.REDUCE,
        torch_zip.name("torch", "FloatStorage") + torch_zip.EMPTY_TUPLE + torch_zip.REDUCE,
        TENSOR + torch_zip.EMPTY_TUPLE + torch_zip.REDUCE,
        TENSOR + torch_zip.DICT + torch_zip.BUILD,  # numpy arrays have a __setstate__
        torch_zip.name("collections", "OrderedDict") + torch_zip.DICT + torch_zip.BUILD,
        torch_zip.name("collections", "OrderedDict")
        + torch_zip.items(torch_zip.LIST)
        + torch_zip.REDUCE,
        torch_zip.DICT + TENSOR + torch_zip.NONE + b"s",  # a tensor as a key
        torch_zip.storage("0", 5) + torch_zip.NONE,
        torch_zip.storage("1", 4),
        torch_zip.storage("0", -1),
        torch_zip.tensor("0", 4, (5,), (1,)),
        torch_zip.tensor("0", 4, (4,), (1,), offset=1),
        torch_zip.tensor("0", 4, (2, 2), (3, 1)),
        torch_zip.tensor("0", 4, (2,), (2**61,)),
        torch_zip.tensor("0", 4, (2,), (-1,), offset=1),
        torch_zip.tensor("0", 4, (2,), (1,), offset=-1),
        torch_zip.tensor("0", 4, (2**40,), (0,)),  # a terabyte when copied
        torch_zip.tensor("0", 4, (2**61, 2**61), (0, 0)),
        torch_zip.tensor("0", 4, (0, 2**61, 2**61), (0, 0, 0)),
        torch_zip.tensor("0", 4, (1,) * 65, (1,) * 65),
        torch_zip.tensor("0", 4, (2, 2), (2,)),
    ],
)
def test_malformed_pickles(tmp_path, program):
    path = torch_zip.write(tmp_path / "x.pth", program, {"0": bytes(16)})
    with pytest.raises(WeightsError, match="damaged"):
        torch_file.load(path)


def test_a_huge_memo_index_allocates_nothing(tmp_path):
    program = torch_zip.NONE + b"r" + struct.pack("<I", 2**32 - 1)
    assert torch_file.load(torch_zip.write(tmp_path / "x.pth", program)) is None


def test_a_name_that_appears_twice_in_the_archive(tmp_path):
    path = torch_zip.write(tmp_path / "x.pth", TENSOR, {"0": bytes(16)})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(WeightsError, match="twice"):
        torch_file.load(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_never_shows_as_another_error(tmp_path_factory, data):
    content = bytearray((micro.FOLDER / "types.pth").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path_factory.mktemp("damaged") / "x.pth"
    path.write_bytes(content[:length])
    with contextlib.suppress(WeightsError):
        torch_file.load(path)


def as_torch_sees_it(torch, value):
    """What torch.load gave, in our reader's types."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return value.numpy()
    if isinstance(value, dict):
        return {key: as_torch_sees_it(torch, item) for key, item in value.items()}
    return value


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("file", [f for f in FILES if f.stem != "legacy"], ids=lambda f: f.name)
def test_against_torch_load(file):
    torch = pytest.importorskip("torch")
    expected = torch.load(file, weights_only=False)
    assert_same(torch_file.load(file), as_torch_sees_it(torch, expected))


def test_against_torch_save_of_now(tmp_path):
    """The torch that is installed, whichever version, and each protocol of pickle."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    checkpoint = {"state_dict": module.state_dict(), "module": dict(module.named_parameters())}
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.pth"
        torch.save(checkpoint, path, pickle_protocol=protocol)
        assert_same(torch_file.load(path), as_torch_sees_it(torch, checkpoint))
