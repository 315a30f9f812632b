"""The command line with a stand-in for the codec: names, streams, exit statuses, messages.

The stand-in writes real containers, so `glc info` and the checks before decoding are the real ones.
"""

import contextlib
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glc_jax import bitstream, cli, facts, images, memory, weights
from glc_jax.errors import BitstreamError, InputError
from tests.test_images import forbid

HEIGHT, WIDTH = 48, 64


class StandIn:
    """A codec whose files have 100 bytes of payload at rate 0 and 400 at rate 3."""

    highest_rate = 3.0

    def __init__(self, path, max_memory):
        self.fingerprint = weights.describe(path).fingerprint
        self.max_memory = max_memory

    def require_memory(self, height, width, operation):
        """A byte for each pixel."""
        memory.require(height * width, self.max_memory or 10**9, height, width, f"to {operation}")

    def compress(self, image, rate):
        height, width, _ = image.shape
        payload = bytes(round(100 + 100 * rate))
        return bitstream.serialise(
            bitstream.Container(width, height, rate, self.fingerprint, payload, False, False, 7)
        )

    def compress_to_size(self, image, target_bytes):
        rates = [
            rate for rate in (3.0, 2.0, 1.0) if len(self.compress(image, rate)) <= target_bytes
        ]
        rate = rates[0] if rates else 0.0
        return self.compress(image, rate), rate

    def decompress(self, data, preview, max_pixels):
        container = bitstream.parse(data, max_pixels=max_pixels)
        if container.fingerprint != self.fingerprint:
            raise BitstreamError("other weights.")
        return np.full((container.height, container.width, 3), 9 if preview else 200, np.uint8)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, a weights file that GLC_WEIGHTS names, and the stand-in."""
    model = tmp_path / "model.safetensors"
    weights.save(
        model,
        {"params": {"kernel": np.zeros((2, 3), np.float32)}},
        {
            "name": "stand-in",
            "model": {"vqvae": {"multipliers": [1] * 5}, "hyper_codebook_size": 1024},
        },
        {"trained on": "nothing at all"},
    )
    monkeypatch.setenv(weights.VARIABLE, str(model))
    monkeypatch.setattr(cli, "_codec", StandIn)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def picture(path, size=(WIDTH, HEIGHT), **options) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(options.pop("mode", "RGB"), size, options.pop("color", "teal")).save(path, **options)
    return path


def files(folder=".") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.*"))


def said(capsys) -> list[str]:
    """The lines on standard error."""
    return capsys.readouterr().err.splitlines()


# ---------------------------------------------------------------------------- names


def test_there_and_back(here, capsys):
    picture("photo.jpg")
    assert cli.run(["compress", "photo.jpg", "--rate", "0"]) == 0
    out = capsys.readouterr()
    size = os.path.getsize("photo.glc")
    assert out.out.startswith(
        f"photo.jpg -> photo.glc: {size} bytes, {8 * size / (HEIGHT * WIDTH):.4f} bpp, rate 0, "
    )
    assert out.err == ""
    assert cli.run(["decompress", "photo.glc"]) == 0
    read = images.read("photo.png")
    assert read.shape == (HEIGHT, WIDTH, 3)
    assert (read == 200).all()
    assert files() == ["photo.glc", "photo.jpg", "photo.png"]


def test_quiet(here, capsys):
    picture("photo.png")
    assert cli.run(["compress", "-q", "photo.png"]) == 0
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "")


def test_named_output_is_replaced(here):
    picture("photo.png")
    for rate in ("3", "0"):
        assert cli.run(["compress", "photo.png", "-o", "x.glc", "--rate", rate]) == 0
    assert bitstream.parse(Path("x.glc").read_bytes()).rate == 0


def test_name_that_glc_chose_is_not_replaced(here, capsys):
    """`glc compress photo.png; glc decompress photo.glc` must not destroy photo.png."""
    original = picture("photo.png").read_bytes()
    assert cli.run(["compress", "photo.png"]) == 0
    capsys.readouterr()
    assert cli.run(["decompress", "photo.glc"]) == 1
    assert said(capsys) == [
        "glc: photo.png: exists already; --skip-existing leaves it, --force replaces it."
    ]
    assert Path("photo.png").read_bytes() == original
    assert cli.run(["decompress", "--force", "photo.glc"]) == 0
    assert Path("photo.png").read_bytes() != original


def test_input_is_never_the_output(here, capsys):
    picture("photo.png")
    os.symlink("photo.png", "link.png")
    for output in ("photo.png", "link.png", "./photo.png"):
        for force in ([], ["--force"]):
            assert cli.run(["compress", "photo.png", "-o", output, *force]) == 1
            assert "is an input itself" in said(capsys)[0]


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

    def counted(self, image, rate):
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

    def slow(self, image, rate):
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
    assert said(capsys)[0].startswith("glc: paper.pdf: exists already and is no picture")
    assert Path("notes.txt").read_text() == "of value"
    Path("empty").write_bytes(b"")
    assert cli.run(["compress", "a.png", "-o", "empty"]) == 0
    assert cli.run(["compress", "a.png", "-o", "notes.txt", "--force"]) == 0
    assert Path("notes.txt").read_bytes() == Path("a.glc").read_bytes()
    assert cli.run(["compress", "a.png", "-o", "notes.txt", "--rate", "0"]) == 0
    picture("old.png")
    assert cli.run(["decompress", "a.glc", "-o", "old.png"]) == 0
    assert (images.read("old.png") == 200).all()


@pytest.mark.parametrize("name", ["single.glc", "single.jpg"])
def test_several_inputs_make_no_folder_with_a_files_name(here, capsys, name):
    picture("a.png"), picture("b.png")
    assert cli.run(["compress", "a.png", "b.png", "-o", name]) == 2
    (line,) = said(capsys)
    assert line.startswith(f"glc: {name}: several inputs need a folder")
    assert not os.path.exists(name)
    assert cli.run(["compress", "a.png", "b.png", "-o", f"{name}/"]) == 0
    assert files() == ["a.png", "b.png", name, f"{name}/a.glc", f"{name}/b.glc"]


def test_an_unreadable_subfolder_is_a_failure(here, capsys, monkeypatch):
    picture("in/a.png"), picture("in/secret/b.png")
    forbid(monkeypatch, "secret")
    assert cli.run(["compress", "-q", "in", "-o", "out"]) == 1
    assert said(capsys) == [
        "glc: in/secret: this folder cannot be read (Permission denied).",
        "glc: 1 of 2 failed.",
    ]
    assert files("out") == ["a.glc"]


def test_what_does_not_fit_into_memory_is_refused_and_the_rest_is_done(here, capsys, monkeypatch):
    picture("in/a.png"), picture("in/b.png", size=(300, 200)), picture("in/c.png")
    assert cli.run(["compress", "-q", "in", "-o", "out", "--max-memory", "50kB"]) == 1
    assert said(capsys) == [
        "glc: in/b.png: 300 x 200 pixels need about 60 kB of memory to compress, and 50 kB is the "
        "limit; make the picture smaller, or say how much may be used (--max-memory, max_memory=).",
        "glc: 1 of 3 failed.",
    ]
    assert files("out") == ["a.glc", "c.glc"]


def test_memory_is_asked_for_before_the_picture_is_decoded(here, capsys):
    """A picture that claims more than there is: its pixels, which are not there, are not read."""
    picture("huge.png", size=(2000, 1000))
    data = Path("huge.png").read_bytes()
    Path("huge.png").write_bytes(data[:200])
    assert cli.run(["compress", "huge.png", "--max-memory", "1MB"]) == 1
    assert "2000 x 1000 pixels need about 2 MB" in said(capsys)[0]


def test_several_inputs_go_to_a_folder(here):
    picture("a.png"), picture("b.jpg")
    assert cli.run(["compress", "a.png", "b.jpg", "-o", "out"]) == 0
    assert files("out") == ["a.glc", "b.glc"]
    assert cli.run(["decompress", "out", "-o", "back"]) == 0
    assert files("back") == ["a.png", "b.png"]


def test_folder_keeps_its_shape_and_skips_other_files(here):
    picture("in/a.png"), picture("in/sub/b.webp")
    Path("in/notes.txt").write_text("no picture")
    assert cli.run(["compress", "in", "-o", "out"]) == 0
    assert files("out") == ["a.glc", "sub/b.glc"]
    assert cli.run(["compress", "in"]) == 0
    assert "in/sub/b.glc" in files()


def test_one_name_with_two_suffixes_gives_two_files(here):
    picture("in/a.png"), picture("in/a.jpg"), picture("in/b.png")
    assert cli.run(["compress", "in", "-o", "out"]) == 0
    assert files("out") == ["a.jpg.glc", "a.png.glc", "b.glc"]


def test_one_name_in_two_folders_is_not_written_twice(here, capsys):
    picture("a/x.png"), picture("b/x.png")
    assert cli.run(["compress", "a/x.png", "b/x.png", "-o", "out"]) == 1
    assert files("out") == ["x.png.glc"]
    assert said(capsys)[0] == "glc: b/x.png: would be out/x.png.glc, as a/x.png is already."


@pytest.mark.parametrize("output", ["out", "out/"])
def test_one_input_into_a_folder(here, output):
    picture("photo.png")
    if output == "out":
        os.mkdir("out")
    assert cli.run(["compress", "photo.png", "-o", output]) == 0
    assert files("out") == ["photo.glc"]


def test_suffix_of_the_output_chooses_its_format(here):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "-o", "x.glc"]) == 0
    for suffix, kind in ((".jpg", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF")):
        assert cli.run(["decompress", "x.glc", "-o", f"x{suffix}"]) == 0
        with Image.open(f"x{suffix}") as image:
            assert image.format == kind


class Stream(io.BytesIO):
    """Standard input or output: has a buffer, is no terminal."""

    @property
    def buffer(self):
        return self

    def isatty(self):
        return False


def test_pipes(here, monkeypatch, capsys):
    data = picture("photo.png").read_bytes()
    compressed, decompressed = Stream(), Stream()
    monkeypatch.setattr(sys, "stdin", Stream(data))
    monkeypatch.setattr(sys, "stdout", compressed)
    assert cli.run(["compress", "-"]) == 0
    assert bitstream.parse(compressed.getvalue()).width == WIDTH
    monkeypatch.setattr(sys, "stdin", Stream(compressed.getvalue()))
    monkeypatch.setattr(sys, "stdout", decompressed)
    assert cli.run(["decompress", "-", "-o", "-"]) == 0
    assert images.read(io.BytesIO(decompressed.getvalue())).shape == (HEIGHT, WIDTH, 3)
    assert files() == ["photo.png"]
    assert [line.split(":")[0] for line in said(capsys)] == ["- -> -", "- -> -"]


# ---------------------------------------------------------------------------- targets


def test_target_bytes_and_bpp(here, capsys):
    picture("photo.png")
    fixed = bitstream.overhead(WIDTH, HEIGHT)
    assert cli.run(["compress", "photo.png", "-o", "x.glc", "--target-bytes", "250"]) == 0
    assert os.path.getsize("x.glc") == 200 + fixed
    bpp = 8 * 350 / (WIDTH * HEIGHT)
    assert cli.run(["compress", "photo.png", "-o", "x.glc", "--target-bpp", str(bpp)]) == 0
    assert os.path.getsize("x.glc") == 300 + fixed
    out = capsys.readouterr()
    assert out.err == ""
    assert "rate 2" in out.out


@pytest.mark.parametrize(("target", "reached"), [("50", 100), ("9000", 400)])
def test_target_out_of_reach_gives_the_nearest_and_a_warning(here, capsys, target, reached):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "--target-bytes", target]) == 0
    size = os.path.getsize("photo.glc")
    assert size == reached + bitstream.overhead(WIDTH, HEIGHT)
    (line,) = said(capsys)
    assert line.startswith(f"glc: warning: photo.png: {int(target):,} bytes are out of reach; ")
    assert f"the nearest file has {size}" in line


def test_preview(here):
    picture("photo.png")
    assert cli.run(["compress", "photo.png"]) == 0
    assert cli.run(["decompress", "--preview", "photo.glc", "-o", "p.png"]) == 0
    assert (images.read("p.png") == 9).all()


# ---------------------------------------------------------------------------- bad input


def test_good_files_are_done_and_the_status_tells_of_the_others(here, capsys):
    picture("in/a.png"), picture("in/c.png")
    Path("in/b.png").write_bytes(b"no picture")
    os.mkdir("empty")
    assert cli.run(["compress", "in", "missing.png", "empty", "-o", "out"]) == 1
    assert files("out") == ["a.glc", "c.glc"]
    assert said(capsys) == [
        "glc: empty: no pictures in this folder.",
        "glc: in/b.png: not a picture in a format that Pillow reads.",
        "glc: missing.png: no such file.",
        "glc: 3 of 5 failed.",
    ]


def test_transparency_needs_a_background(here, capsys):
    picture("photo.png", mode="RGBA", color=(0, 0, 0, 0))
    assert cli.run(["compress", "photo.png"]) == 1
    (line,) = said(capsys)
    assert line.startswith("glc: photo.png: has transparent pixels;")
    assert "--background" in line
    assert files() == ["photo.png"]
    assert cli.run(["compress", "photo.png", "--background", "white"]) == 0


def test_animation_warns(here, capsys):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    assert cli.run(["compress", "moving.gif"]) == 0
    assert said(capsys) == ["glc: warning: moving.gif: only the first of several frames is used."]


def test_max_pixels(here, capsys):
    picture("photo.png")
    limit = str(WIDTH * HEIGHT - 1)
    assert cli.run(["compress", "photo.png", "--max-pixels", limit]) == 1
    assert "--max-pixels" in said(capsys)[0]
    assert cli.run(["compress", "photo.png"]) == 0
    capsys.readouterr()
    assert cli.run(["decompress", "photo.glc", "-o", "x.png", "--max-pixels", limit]) == 1
    (line,) = said(capsys)
    assert line.startswith("glc: photo.glc: ")
    assert "--max-pixels" in line
    assert files() == ["photo.glc", "photo.png"]


@pytest.mark.parametrize("damage", ["cut", "altered", "foreign", "other weights", "empty"])
def test_bad_glc_files(here, capsys, damage):
    picture("photo.png")
    assert cli.run(["compress", "-q", "photo.png"]) == 0
    data = bytearray(Path("photo.glc").read_bytes())
    if damage == "cut":
        del data[-20:]
    elif damage == "altered":
        data[30] ^= 4
    elif damage == "foreign":
        data = bytearray(b"\x89PNG\r\n\x1a\n")
    elif damage == "empty":
        data.clear()
    else:
        container = bitstream.parse(bytes(data))
        data = bitstream.serialise(bitstream.Container(**{**vars(container), "fingerprint": b"??"}))
    Path("photo.glc").write_bytes(data)
    for command in (["decompress", "photo.glc", "-o", "x.png"], ["info", "photo.glc"]):
        status = cli.run(command)
        lines = said(capsys)
        if command[0] == "info" and damage == "other weights":
            assert status == 0
            continue
        assert status == 1
        assert len(lines) == 1
        assert lines[0].startswith("glc: photo.glc: ")
    assert files() == ["photo.glc", "photo.png"]


@pytest.mark.parametrize("name", ["missing.safetensors", "foreign.safetensors"])
def test_bad_weights(here, capsys, name):
    picture("photo.png")
    Path("foreign.safetensors").write_bytes(b"no weights")
    assert cli.run(["compress", "photo.png", "--weights", name]) == 1
    (line,) = said(capsys)
    assert line.startswith(f"glc: {name}: ")
    assert "photo.glc" not in files()


@pytest.mark.parametrize("output", ["missing/x.glc", "photo.png/x.glc"])
def test_unwritable_output(here, capsys, output):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "-o", output]) == 1
    assert len(said(capsys)) == 1
    assert files() == ["photo.png"]


@pytest.mark.parametrize("output", ["x.xyz", "x"])
def test_unknown_picture_format(here, capsys, output):
    picture("photo.png")
    assert cli.run(["compress", "photo.png"]) == 0
    capsys.readouterr()
    assert cli.run(["decompress", "photo.glc", "-o", output]) == 1
    assert said(capsys)[0].startswith(f"glc: {output}: ")
    assert not os.path.exists(output)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["compress"],
        ["frobnicate"],
        ["compress", "photo.png", "--rate", "3.1"],
        ["compress", "photo.png", "--rate", "nan"],
        ["compress", "photo.png", "--rate", "much"],
        ["compress", "photo.png", "--rate", "1", "--target-bytes", "100"],
        ["compress", "photo.png", "--target-bytes", "0"],
        ["compress", "photo.png", "--target-bpp", "-1"],
        ["compress", "photo.png", "--max-pixels", "0"],
        ["compress", "photo.png", "--max-memory", "much"],
        ["compress", "photo.png", "--max-memory", "0GB"],
        ["compress", "photo.png", "--force", "--skip-existing"],
        ["compress", "photo.png", "--background", "nocolour"],
        ["compress", "photo.png", "-", "-o", "out"],
        ["compress", "photo.png", "photo.png", "-o", "photo.png"],
        ["evaluate", "."],
        ["evaluate", ".", "-o", "out", "--rates", "7"],
    ],
)
def test_wrong_usage(here, capsys, arguments):
    picture("photo.png")
    try:
        status = cli.run(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    (line,) = said(capsys)
    assert line.startswith("glc")
    assert files() == ["photo.png"]


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (InputError("odd."), 1, "odd."),
        (MemoryError(), 1, "too large for this machine"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 1, "too large for this machine"),
    ],
)
def test_failure_midway_leaves_nothing(here, capsys, monkeypatch, failure, status, says):
    def fail(self, image, rate):
        raise failure

    monkeypatch.setattr(StandIn, "compress", fail)
    picture("photo.png")
    assert cli.run(["compress", "photo.png"]) == status
    (line,) = said(capsys)
    assert says in line
    assert files() == ["photo.png"]


def test_interrupt_that_other_code_swallows_still_stops(here, capsys, monkeypatch):
    """JAX drops exceptions raised in its callbacks, and turns some into others."""
    monkeypatch.setattr(cli, "_signals", [])

    def swallow(self, image, rate):
        with contextlib.suppress(KeyboardInterrupt):
            cli._interrupt(15, None)
        raise InputError("what the interrupt was turned into.")

    monkeypatch.setattr(StandIn, "compress", swallow)
    picture("a.png"), picture("b.png")
    assert cli.run(["compress", "a.png", "b.png", "-o", "out"]) == 128 + 15
    assert said(capsys) == ["glc: interrupted."]
    assert files() == ["a.png", "b.png"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_process(here, number):
    """A process that waits for its standard input is stopped."""
    with subprocess.Popen(
        [sys.executable, "-m", "glc_jax", "info", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(timeout=10) == 128 + number
        assert process.stderr.read() == "glc: interrupted.\n"


def test_defects_of_ours_keep_their_traceback(here, monkeypatch):
    def fail(self, image, rate):
        raise RuntimeError("a bug")

    monkeypatch.setattr(StandIn, "compress", fail)
    picture("photo.png")
    with pytest.raises(RuntimeError, match="a bug"):
        cli.run(["compress", "photo.png"])


# ---------------------------------------------------------------------------- info, models


def test_info(here, capsys):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png", "--rate", "1.25"])
    size = os.path.getsize("photo.glc")
    assert cli.run(["info", "photo.glc"]) == 0
    text = capsys.readouterr().out
    assert f"{WIDTH} x {HEIGHT} pixels" in text
    assert f"{size} bytes, {8 * size / (WIDTH * HEIGHT):.4f} bpp" in text
    assert "nothing at all" in text
    assert cli.run(["info", "--json", "photo.glc", "."]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert cli.run(["info", "missing.glc", "photo.glc"]) == 1
    assert "64 x 48" in capsys.readouterr().out
    assert (first["width"], first["height"], first["rate"]) == (WIDTH, HEIGHT, 1.25)
    assert sum(first["sections"].values()) == first["bytes"] == size
    assert first["payload"] == {"z": 10 / 8, "y": 225 - 10 / 8}  # one index of 1024
    assert first["weights"]["name"] == "stand-in"


def test_info_of_foreign_weights_says_so(here, capsys, monkeypatch):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    mine = os.environ[weights.VARIABLE]
    monkeypatch.delenv(weights.VARIABLE)
    assert cli.run(["info", "--json", "photo.glc"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weights"]["name"] is None
    assert found["payload"] is None
    assert cli.run(["info", "--json", "photo.glc", "--weights", mine]) == 0
    assert json.loads(capsys.readouterr().out)["weights"]["name"] == "stand-in"


@pytest.mark.parametrize("name", ["natural", "face", "tiny"])
def test_z_stride_is_that_of_the_models(name):
    from glc_jax.models import glc

    model = importlib.import_module(f"configs.{name}").model_config()
    assert facts.z_stride(model) == glc.size_multiple(model)


def test_models(here, capsys):
    path = os.environ[weights.VARIABLE]
    assert cli.run(["models", path]) == 0
    text = capsys.readouterr().out
    assert "stand-in, 6 parameters, F32" in text
    assert "trained on: nothing at all" in text
    assert cli.run(["models", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [model["weights"] for model in listed] == list(weights.packaged())


# ---------------------------------------------------------------------------- evaluate


def test_evaluate_prints_what_the_report_holds(here, capsys, monkeypatch):
    from glc_jax import evaluation

    picture("in/a.png")

    def run(dataset, codec, output, *, rates, inception, progress, **settings):
        assert [picture.name for picture in dataset.pictures] == ["a.png"]
        assert (output, rates, inception) == ("report", [0, 2.5], None)
        progress(1, 2, "a.png")
        return {
            "metrics": {"psnr": {"label": "PSNR", "decimals": 2}, "fid": {"label": "FID"}},
            "averages": [
                {"point": "0", "bpp": 0.02, "psnr": 20.126, "fid": None},
                {"point": "2.5", "bpp": 0.03, "psnr": 21.0, "fid": None},
            ],
            "notes": ["FID was not computed."],
            "failures": [{"image": "b.png", "method": "glc", "point": "0", "reason": "odd."}],
        }

    monkeypatch.setattr(evaluation, "run", run)
    assert cli.run(["evaluate", "in", "-o", "report", "--rates", "0", "2.5"]) == 1
    out = capsys.readouterr()
    assert out.out.splitlines() == [
        "rate 0: 0.0200 bpp, PSNR 20.13",
        "rate 2.5: 0.0300 bpp, PSNR 21.00",
        f"Look at {os.path.join('report', 'index.html')}",
    ]
    assert out.err.splitlines() == ["glc: FID was not computed.", "glc: b.png (rate 0): odd."]


def test_evaluate_of_nothing(here, capsys):
    os.mkdir("empty")
    assert cli.run(["evaluate", "empty", "-o", "report"]) == 1
    assert said(capsys) == ["glc: empty: no pictures in this folder."]
    assert cli.run(["evaluate", "empty", "-o", "report", "--dataset", "imagenet"]) == 1
    assert "kodak" in said(capsys)[0]
    assert not os.path.exists("report")


# ---------------------------------------------------------------------------- terminal, process


def test_progress_is_for_terminals(monkeypatch):
    pipe, terminal = Stream(), io.StringIO()
    for stream in (pipe, terminal):
        monkeypatch.setattr(stream, "isatty", lambda stream=stream: stream is terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with cli._bar("2 files", 2) as update:
            update(advance=1)
    assert pipe.getvalue() == b""
    assert "2 files" in terminal.getvalue()
    assert "50%" in terminal.getvalue()


def test_jax_settings_leave_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    cli.prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cache" / "glc_jax")
    assert (tmp_path / "cache" / "glc_jax").is_dir()
    monkeypatch.setattr(os, "environ", {"JAX_COMPILATION_CACHE_DIR": "mine", "HOME": str(tmp_path)})
    cli.prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "mine"
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ  # nothing of theirs is evicted
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(tmp_path / "file")})
    cli.prepare_jax()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


# ---------------------------------------------------------------------------- start-up


def python(*arguments, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("module", ["glc_jax", "glc_jax.cli"])
def test_import_loads_neither_jax_nor_numpy(module):
    heavy = python(
        "-c",
        f"import {module}, sys; print(*{{'jax', 'flax', 'numpy', 'rich'}} & set(sys.modules))",
    )
    assert heavy.stdout.strip() == ""


def test_info_does_not_import_jax(here):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    loaded = python(
        "-c",
        "import sys; from glc_jax import cli; cli.run(['info', 'photo.glc']); "
        "cli.run(['models']); print('jax' in sys.modules)",
    )
    assert loaded.stdout.splitlines()[-1] == "False"


def start_up(*arguments) -> float:
    """Seconds of processor time that `glc` takes, which other processes disturb least."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python("-m", "glc_jax", *arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def test_help_starts_at_once():
    assert start_up("--help") < 0.3


def test_info_starts_at_once(here):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    assert start_up("info", "photo.glc") < 0.5


def test_main_prints_version_and_exits():
    run = python("-m", "glc_jax", "--version")
    assert run.stdout.startswith("glc ")
    assert run.stderr == ""


def test_closed_pipe_is_no_traceback(here):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    names = " ".join(["photo.glc"] * 2000)
    run = subprocess.run(
        f"'{sys.executable}' -m glc_jax info {names} | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "photo.glc\n"
    assert run.stderr == ""
