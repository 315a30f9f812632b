"""Nothing of the user's is lost: what no command overwrites, with --force or without."""

import os
from pathlib import Path

import pytest

from glc_jax import cli, images
from tests.cli.stand_in import StandIn, files, picture, said


def test_a_name_within_the_folder_of_o_is_chosen_by_glc(here, capsys):
    """`glc decompress comp -o orig` must not destroy what was compressed."""
    kept = [picture(f"orig/{name}.png").read_bytes() for name in "abc"]
    picture("orig/d.jpg")
    assert cli.run(["compress", "-q", "orig", "-o", "comp"]) == 0
    assert cli.run(["decompress", "-q", "comp", "-o", "orig"]) == 1
    assert said(capsys) == [
        "glc: orig/a.png: and 2 other outputs exist already; --skip-existing leaves them, "
        "--force replaces them.",
        "glc: 3 of 4 failed.",
    ]
    assert [Path(f"orig/{name}.png").read_bytes() for name in "abc"] == kept
    assert files("orig") == ["a.png", "b.png", "c.png", "d.jpg", "d.png"]
    assert cli.run(["decompress", "-q", "comp", "-o", "orig", "--force"]) == 0
    assert [Path(f"orig/{name}.png").read_bytes() for name in "abc"] != kept


def test_an_interrupted_folder_goes_on(here, capsys, monkeypatch):
    """Nothing is done twice, neither with --skip-existing nor when the command is only repeated."""
    for name in "abcd":
        picture(f"in/{name}.png")
    done, compress = [], StandIn.compress

    def counted(self, image, rate, restore, fast):
        if len(done) == 2:
            done.append("interrupted")
            raise KeyboardInterrupt
        done.append(rate)
        return compress(self, image, rate)

    monkeypatch.setattr(StandIn, "compress", counted)
    assert cli.run(["compress", "-q", "in", "-o", "out"]) == 130
    assert files("out") == ["a.glc", "b.glc"]
    command = ["compress", "in", "-o", "out", "--rate", "3"]
    assert cli.run([*command, "--skip-existing"]) == 0
    assert done == [1.5, 1.5, "interrupted", 3, 3]
    assert "glc: 2 left out, since their output exists." in said(capsys)
    assert cli.run(command) == 1
    assert len(done) == 5
    assert cli.run(["compress", "in/a.png", "-o", "out/a.glc", "--skip-existing"]) == 0
    assert len(done) == 5


def test_a_file_that_comes_meanwhile_is_not_replaced(here, capsys, monkeypatch):
    """Two commands for one folder: what another wrote since the start is left alone."""
    picture("photo.png")
    compress = StandIn.compress

    def slow(self, image, rate, restore, fast):
        Path("photo.glc").write_bytes(b"another's")
        return compress(self, image, rate)

    monkeypatch.setattr(StandIn, "compress", slow)
    assert cli.run(["compress", "photo.png"]) == 1
    assert said(capsys) == ["glc: photo.glc: exists already."]
    assert Path("photo.glc").read_bytes() == b"another's"
    assert sorted(os.listdir()) == ["photo.glc", "photo.png"]


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("output", ["b.jpg", "new.png", "new.CR2", "new.heic", "new.psd"])
def test_a_glc_file_takes_no_pictures_name(here, capsys, output, force):
    picture("a.png")
    kept = picture("b.jpg").read_bytes()
    assert cli.run(["compress", "a.png", "-o", output, *force]) == 1
    (line,) = said(capsys)
    assert line.startswith(f"glc: {output}: has a picture's name")
    assert files() == ["a.png", "b.jpg"]
    assert Path("b.jpg").read_bytes() == kept


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_picture_takes_no_glc_files_name(here, capsys, force):
    picture("a.png")
    assert cli.run(["compress", "-q", "a.png"]) == 0
    kept = Path("a.glc").read_bytes()
    os.rename("a.glc", "b.glc")
    os.link("b.glc", "other.glc")
    assert cli.run(["decompress", "b.glc", "-o", "c.glc", *force]) == 1
    assert said(capsys)[0].startswith("glc: c.glc: is the name of a .glc file")
    assert cli.run(["decompress", "b.glc", "-o", "other.glc", *force]) == 1
    assert said(capsys)[0].startswith("glc: other.glc: is an input itself")
    assert Path("other.glc").read_bytes() == kept
    assert files() == ["a.png", "b.glc", "other.glc"]


def test_an_output_is_never_another_input(here, capsys):
    """A .glc file under a picture's name, which the output of another input would replace."""
    picture("a.jpg")
    assert cli.run(["compress", "-q", "a.jpg"]) == 0
    os.mkdir("in")
    os.rename("a.glc", "in/a.glc")
    os.symlink("in/a.glc", "a.png")
    before = Path("a.png").read_bytes()
    assert cli.run(["decompress", "in/a.glc", "-o", ".", "--force"]) == 1
    assert said(capsys) == ["glc: a.png: is an input itself; name another output."]
    assert Path("a.png").read_bytes() == before


def test_a_name_of_o_replaces_its_own_kind_only(here, capsys):
    picture("a.png")
    Path("notes.txt").write_text("of value")
    Path("paper.pdf").write_bytes(b"%PDF-1.7 of value")
    assert cli.run(["compress", "a.png", "-o", "notes.txt"]) == 1
    assert said(capsys)[0].startswith("glc: notes.txt: exists already and is no .glc file")
    assert cli.run(["compress", "-q", "a.png"]) == 0
    assert cli.run(["decompress", "a.glc", "-o", "paper.pdf"]) == 1
    assert said(capsys)[0].startswith("glc: paper.pdf: exists already and does not say that glc")
    assert Path("notes.txt").read_text() == "of value"
    Path("empty").write_bytes(b"")
    assert cli.run(["compress", "a.png", "-o", "empty"]) == 0
    assert cli.run(["compress", "a.png", "-o", "notes.txt", "--force"]) == 0
    assert Path("notes.txt").read_bytes() == Path("a.glc").read_bytes()
    assert cli.run(["compress", "a.png", "-o", "notes.txt", "--rate", "0"]) == 0


def test_a_picture_that_glc_did_not_make_is_not_replaced(here, companion, capsys):
    companion("restorer")
    picture("a.png"), picture("original.png")
    before = Path("original.png").read_bytes()
    assert cli.run(["compress", "-q", "a.png"]) == 0
    for command in (["decompress", "a.glc"], ["restore", "a.png"]):
        assert cli.run([*command, "-o", "original.png"]) == 1
        (line,) = said(capsys)
        assert line.startswith("glc: original.png: exists already and does not say that glc made")
    assert Path("original.png").read_bytes() == before
    assert cli.run(["decompress", "-q", "a.glc", "-o", "original.png", "--force"]) == 0
    assert (images.read("original.png") == 200).all()
    assert cli.run(["decompress", "-q", "a.glc", "-o", "original.png"]) == 0


@pytest.mark.parametrize("name", ["single.glc", "single.jpg"])
def test_several_inputs_make_no_folder_with_a_files_name(here, capsys, name):
    picture("a.png"), picture("b.png")
    assert cli.run(["compress", "a.png", "b.png", "-o", name]) == 2
    (line,) = said(capsys)
    assert line.startswith(f"glc: {name}: several inputs need a folder")
    assert not os.path.exists(name)
    assert cli.run(["compress", "a.png", "b.png", "-o", f"{name}/"]) == 0
    assert files() == ["a.png", "b.png", name, f"{name}/a.glc", f"{name}/b.glc"]
