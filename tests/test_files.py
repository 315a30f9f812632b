"""Files appear whole or not at all."""

import os

import pytest

from glc_jax import files
from glc_jax.errors import OutputError


def test_write_replaces_a_whole_file(tmp_path):
    path = tmp_path / "out.bin"
    files.write(path, b"first")
    files.write(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_write_leaves_a_taken_name(tmp_path, monkeypatch, links):
    """Also on a file system that has no links."""
    if not links:

        def link(source, target):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "out.bin"
    files.write(path, b"first", replace=False)
    with pytest.raises(OutputError, match="exists already"):
        files.write(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_write_of_the_longest_name(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    files.write(path, b"data")
    assert path.read_bytes() == b"data"


def test_write_follows_links_and_pipes(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    files.write("/dev/null", b"gone")
    assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def fail(source, target):
        raise failure

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("where", ["missing/out.bin", "file/out.bin", "folder"])
def test_unwritable_places(tmp_path, where):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        files.write(tmp_path / where, b"data")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def half(error):
        with files.writing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(KeyError):
        half(KeyError("a tensor"))
    with pytest.raises(OutputError, match=r"out\.bin: cannot be written \(No space left"):
        half(OSError(28, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_file_is_readable_by_whom_the_process_says(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "out.bin", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "out.bin").stat().st_mode & 0o777 == 0o640
