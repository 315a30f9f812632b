"""The command line with a stand-in for the codec: names, streams, exit statuses, messages.

The stand-in writes real containers, so `glc info` and the checks before decoding are the real ones.
"""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glc_jax import bitstream, cli, images, weights
from glc_jax.cli import process, streams
from glc_jax.errors import InputError
from tests.cli.stand_in import HEIGHT, WIDTH, StandIn, Stream, files, picture, said
from tests.test_images import forbid

CORPUS = Path(__file__).parents[1] / "conformance"

# ---------------------------------------------------------------------------- names


def test_there_and_back(here, capsys):
    picture("photo.jpg")
    assert cli.run(["compress", "photo.jpg", "--rate", "0"]) == 0
    out = capsys.readouterr()
    size = os.path.getsize("photo.glc")
    assert out.err.startswith(
        f"photo.jpg -> photo.glc: {size} bytes, {8 * size / (HEIGHT * WIDTH):.4f} bpp, rate 0, "
    )
    assert out.out == ""
    assert cli.run(["decompress", "photo.glc"]) == 0
    read = images.read("photo.png")
    assert read.shape == (HEIGHT, WIDTH, 3)
    assert (read == 200).all()
    assert files() == ["photo.glc", "photo.jpg", "photo.png"]


def test_fast_reaches_the_codec(here, capsys):
    picture("a.png")
    assert cli.run(["compress", "a.png", "-o", "slow.glc"]) == 0
    assert cli.run(["compress", "a.png", "-o", "fast.glc", "--fast"]) == 0
    assert os.path.getsize("fast.glc") == os.path.getsize("slow.glc") + 7
    assert cli.run(["compress", "a.png", "-o", "small.glc", "--fast", "--target-bytes", "300"]) == 0
    assert bitstream.parse(Path("small.glc").read_bytes()).payload[7:] != b""
    assert cli.run(["decompress", "fast.glc", "--fast"]) == 0
    assert (images.read("fast.png") == 201).all()
    capsys.readouterr()
    assert cli.run(["decompress", "fast.glc", "--fast", "--style", "a.png", "-o", "x.png"]) == 2
    assert "painted in a style takes as long" in said(capsys)[0]
    assert "x.png" not in files()


def test_quiet(here, capsys):
    picture("photo.png")
    assert cli.run(["compress", "-q", "photo.png"]) == 0
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "")


def test_named_output_is_replaced(here):
    picture("photo.png")
    for rate in ("3", "0"):
        assert cli.run(["compress", "photo.png", "-o", "x.glc", "--rate", rate]) == 0
    assert bitstream.parse(Path("x.glc").read_bytes()).level == 0


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
        "limit, of which 50 kB is left; make the picture smaller, or say how much may be used "
        "(--max-memory, max_memory=).",
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
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["- -> -", "- -> -"]


def test_named_pipes_are_read_once(here):
    """As the shell's <(command) gives them. Whoever opens them again gets what is no picture."""
    pipe, data = here / "pipe", picture("photo.png").read_bytes()
    os.mkfifo(pipe)

    def write() -> None:
        pipe.write_bytes(data)
        while True:  # waits for a reader, for ever where there is none
            time.sleep(1)
            pipe.write_bytes(b"no picture")

    threading.Thread(target=write, daemon=True).start()
    assert cli.run(["compress", "pipe", "-o", "x.glc"]) == 0
    assert bitstream.parse(Path("x.glc").read_bytes()).width == WIDTH


def test_an_endless_pipe_is_given_up(here, monkeypatch, capsys):
    monkeypatch.setattr(streams, "PIPED_BYTES", 2**16)
    monkeypatch.setattr(sys, "stdin", Stream(bytes(2**20)))
    assert cli.run(["compress", "-", "-o", "x.glc"]) == 1
    (line,) = said(capsys)
    assert line.startswith("glc: standard input: has more than 65,536 bytes")
    assert not files()


# ---------------------------------------------------------------------------- targets


def test_target_bytes_and_bpp(here, capsys):
    picture("photo.png")
    fixed = bitstream.overhead(WIDTH, HEIGHT)
    assert cli.run(["compress", "photo.png", "-o", "x.glc", "--target-bytes", "250"]) == 0
    assert os.path.getsize("x.glc") == 200 + fixed
    bpp = 8 * 350 / (WIDTH * HEIGHT)
    assert cli.run(["compress", "photo.png", "-o", "x.glc", "--target-bpp", str(bpp)]) == 0
    assert os.path.getsize("x.glc") == 300 + fixed
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "rate 2, " in lines[1]


@pytest.mark.parametrize(("target", "reached"), [("50", 100), ("9000", 400)])
def test_target_out_of_reach_gives_the_nearest_and_a_warning(here, capsys, target, reached):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "--target-bytes", target]) == 0
    size = os.path.getsize("photo.glc")
    assert size == reached + bitstream.overhead(WIDTH, HEIGHT)
    (line,) = said(capsys)
    assert line.startswith(f"glc: warning: photo.png: {int(target):,} bytes are out of reach; ")
    assert f"the nearest file has {size}" in line
    assert cli.run(["compress", "-f", "photo.png", "--target-bpp", "0.001"]) == 0
    assert said(capsys)[0].startswith("glc: warning: photo.png: 0.001 bpp are out of reach; ")


def test_preview(here):
    picture("photo.png")
    assert cli.run(["compress", "photo.png"]) == 0
    assert cli.run(["decompress", "--preview", "photo.glc", "-o", "p.png"]) == 0
    assert (images.read("p.png") == 9).all()


def test_the_rate_that_is_printed_is_that_of_the_file(here, capsys):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "--rate", "0.001"]) == 0
    assert bitstream.parse(Path("photo.glc").read_bytes()).level == 0
    assert ", rate 0, " in capsys.readouterr().err
    assert cli.run(["compress", "photo.png", "--force", "--rate", "3"]) == 0  # the highest
    assert bitstream.parse(Path("photo.glc").read_bytes()).level == 252


def test_quality_of_a_picture(here, capsys, monkeypatch):
    picture("photo.png")
    assert cli.run(["compress", "photo.png"]) == 0
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    monkeypatch.setattr(StandIn, "decompress", lambda *_, **__: noise)
    for suffix in ("jpg", "webp", "avif"):
        for quality in ("10", "90"):
            name = f"x{quality}.{suffix}"
            assert cli.run(["decompress", "photo.glc", "-o", name, "--quality", quality]) == 0
        assert os.path.getsize(f"x10.{suffix}") < 0.6 * os.path.getsize(f"x90.{suffix}")
    said(capsys)
    assert cli.run(["decompress", "photo.glc", "-o", "x.png", "--quality", "50"]) == 1
    assert said(capsys) == ["glc: x.png: PNG has no quality to set; leave --quality out."]


def test_results_for_scripts(here, capsys):
    """One JSON object a line on standard output, nothing on standard error."""
    picture("in/a.png"), picture("in/b\n.png")
    assert cli.run(["compress", "--json", "in", "-o", "out", "--rate", "0.5"]) == 0
    out = capsys.readouterr()
    first, second = map(json.loads, out.out.splitlines())
    assert first["source"] == "in/a.png"
    assert first["target"] == "out/a.glc"
    assert first["bytes"] == os.path.getsize("out/a.glc")
    assert first["rate"] == 0.5
    assert second["source"] == "in/b\n.png"
    assert out.err == ""
    assert cli.run(["decompress", "--json", "out/a.glc", "-o", "x.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
    assert cli.run(["compress", "in/a.png", "-o", "-", "--json"]) == 2


@pytest.mark.parametrize("threads", ["1", "2", "9"])
def test_files_are_read_and_written_beside_the_coding(here, capsys, monkeypatch, threads):
    """In other threads, at most so many ahead; reports keep the order of the files."""
    names = [picture(f"in/{name}.png").name for name in "abcdef"]
    Path("in/c.png").write_bytes(b"no picture")
    ahead, most, read, compress = [0], [0], images.read, StandIn.compress

    def counted_read(source, **options):
        assert threading.current_thread() is not threading.main_thread()
        found = read(source, **options)
        ahead[0] += 1
        most[0] = max(most[0], ahead[0])
        return found

    def counted_compress(self, image, rate, restore, fast):
        assert threading.current_thread() is threading.main_thread()
        time.sleep(0.05)
        ahead[0] -= 1
        return compress(self, image, rate)

    monkeypatch.setattr(images, "read", counted_read)
    monkeypatch.setattr(StandIn, "compress", counted_compress)
    assert cli.run(["compress", "in", "-o", "out", "-j", threads]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].split(" -> ")[0] for line in lines[:-1]] == [
        *(f"in/{name}" for name in names[:2]),
        "glc",
        *(f"in/{name}" for name in names[3:]),
    ]
    assert "in/c.png: not a picture" in lines[2]
    assert most[0] <= int(threads) + 1
    assert most[0] > 1
    assert files("out") == ["a.glc", "b.glc", "d.glc", "e.glc", "f.glc"]


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("command", "names"),
    [("compress", ("photo.png", "new.glc")), ("decompress", ("photo.glc", "new.jpg"))],
)
def test_habit_of_other_encoders_is_pointed_to_o(here, capsys, command, names):
    """cwebp and avifenc: `avifenc IN OUT`."""
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    assert cli.run([command, *names]) == 2
    assert said(capsys) == [
        f"glc: {names[1]}: there is no such input; name the output with -o {names[1]}."
    ]


def test_the_same_habit_a_second_time(here, capsys):
    picture("photo.png")
    cli.run(["compress", "-q", "photo.png"])
    assert cli.run(["compress", "photo.png", "photo.glc"]) == 2
    assert said(capsys) == [
        "glc: photo.glc: is a .glc file already; name the output with -o photo.glc."
    ]
    assert files() == ["photo.glc", "photo.png"]


@pytest.mark.parametrize("arguments", [[""], ["a.png", ""], ["a.png", "-o", ""]])
def test_an_empty_name_is_one_sentence(here, capsys, arguments):
    """`glc compress "$photo"`, where there is no such variable."""
    picture("a.png")
    assert cli.run(["compress", *arguments]) == 2
    (line,) = said(capsys)
    assert line.startswith("glc: a name is empty")
    assert files() == ["a.png"]


def test_name_that_begins_with_a_dash(here, capsys, monkeypatch):
    picture("-dash.png")
    arguments = ["compress", "-dash.png"]
    monkeypatch.setattr(sys, "argv", ["glc", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.run()
    assert stopped.value.code == 2
    (line,) = said(capsys)
    assert "for the file of that name write ./-dash.png" in line
    assert cli.run(["compress", "./-dash.png"]) == 0


def test_compressing_again_says_what_it_costs(here, capsys):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "-o", "one.glc"]) == 0
    for name in ("two.jpg", "two.png", "two.webp", "two.avif"):
        assert cli.run(["decompress", "one.glc", "-o", name]) == 0
        said(capsys)
        assert cli.run(["compress", name, "-o", "three.glc"]) == 0
        assert said(capsys) == [
            f"glc: warning: {name}: was compressed by glc before; each time loses more."
        ]
    assert images.was_coded("one.glc")
    assert not images.was_coded("photo.png")


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
        ["compress", "photo.png", "--rate", "-0.1"],
        ["compress", "photo.png", "--rate", "nan"],
        ["compress", "photo.png", "--rate", "much"],
        ["compress", "photo.png", "--rate", "3.5"],
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
        ["decompress", "photo.png", "--quality", "0"],
        ["decompress", "photo.png", "--quality", "101"],
        ["evaluate", "."],
        ["evaluate", ".", "-o", "out", "--rates", "7"],
        ["evaluate", ".", "-o", "out", "--against", "gif"],
        ["evaluate", ".", "-o", "out", "--degrade", "fog3"],
        ["evaluate", ".", "-o", "out", "--degrade", "jpeg0"],
        ["evaluate", ".", "-o", "out", "--restorer", "own.safetensors"],
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
    def fail(self, image, rate, restore, fast):
        raise failure

    monkeypatch.setattr(StandIn, "compress", fail)
    picture("photo.png")
    assert cli.run(["compress", "photo.png"]) == status
    (line,) = said(capsys)
    assert says in line
    assert files() == ["photo.png"]


def test_interrupt_that_other_code_swallows_still_stops(here, capsys, monkeypatch):
    """JAX drops exceptions raised in its callbacks, and turns some into others."""

    def swallow(self, image, rate, restore, fast):
        with contextlib.suppress(KeyboardInterrupt):
            process.interrupt(15, None)
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
    def fail(self, image, rate, restore, fast):
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
    assert first["payload"] == {}  # the stand-in has no groups
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


def test_info_tells_the_bytes_of_each_group(capsys):
    folder = Path(__file__).parents[1] / "data" / "version_2"
    file, own = str(folder / "rate_0.glc"), str(folder / "small.safetensors")
    assert cli.run(["info", "--json", file, "--weights", own]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["payload"]) == ["z", "y/0", "y/1", "y/2", "y/3"]
    payload = found["sections"]["payload"]
    assert payload - 1.01 < sum(found["payload"].values()) <= payload


def test_models(here, capsys):
    path = os.environ[weights.VARIABLE]
    assert cli.run(["models", path]) == 0
    text = capsys.readouterr().out
    assert "stand-in, 6 parameters, F32" in text
    assert "trained on: nothing at all" in text
    assert cli.run(["models", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [model["weights"] for model in listed] == list(weights.packaged())


def test_one_bad_file_does_not_hide_the_others_of_a_folder(here, capsys):
    picture("in/b.png")
    cli.run(["compress", "-q", "in"])
    Path("in/a.glc").write_bytes(b"no .glc file")
    assert cli.run(["info", "in"]) == 1
    assert "in/b.glc" in capsys.readouterr().out


# ---------------------------------------------------------------------------- verify


def container(payload: bytes, fingerprint: bytes) -> bytes:
    return bitstream.serialise(bitstream.Container(WIDTH, HEIGHT, 84, fingerprint, payload, 0, 7))


def test_verify(here, capsys):
    own = weights.describe(os.environ[weights.VARIABLE]).fingerprint
    good, bad, foreign = container(bytes(50), own), container(b"xxx", own), container(b"", b"??")
    for name, data in {"good": good, "bad": bad, "foreign": foreign, "cut": good[:-1]}.items():
        Path(f"{name}.glc").write_bytes(data)
    expected = {
        "good.glc": (0, "good.glc: sound"),
        "foreign.glc": (3, "foreign.glc: weights missing (made with 3f3f)"),
        "bad.glc": (1, "bad.glc: damaged (The file is damaged: its check does not match its "),
        "cut.glc": (1, "cut.glc: damaged ("),
        "none.glc": (1, "none.glc: unreadable (cannot be read (No such file or directory))"),
    }
    for name, (status, line) in expected.items():
        assert cli.run(["verify", name]) == status
        assert capsys.readouterr().out.startswith(line)
    assert cli.run(["verify", "-q", "good.glc", "foreign.glc"]) == 3
    assert capsys.readouterr().out == "foreign.glc: weights missing (made with 3f3f)\n"
    assert cli.run(["verify", "foreign.glc", "bad.glc", "good.glc"]) == 1
    capsys.readouterr()
    assert cli.run(["verify", "--json", "."]) == 1
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert {line["file"]: line["result"] for line in lines} == {
        "bad.glc": "damaged",
        "cut.glc": "damaged",
        "foreign.glc": "weights missing",
        "good.glc": "sound",
    }


# ---------------------------------------------------------------------------- evaluate


def test_evaluate_prints_what_the_report_holds(here, capsys, monkeypatch):
    from glc_jax import evaluation

    picture("in/a.png")
    picture("in/report/images/b.png")  # an earlier report's

    def run(dataset, codec, output, *, rates, against, inception, progress, **settings):
        assert [picture.name for picture in dataset.pictures] == ["a.png"]
        assert (output, rates, against, inception) == ("in/report", [0, 2.5], ["jpeg"], None)
        progress(1, 2, "a.png")
        return {
            "methods": [{"id": "glc", "label": "GLC"}, {"id": "jpeg", "label": "JPEG"}],
            "metrics": {
                "psnr": {"label": "PSNR", "decimals": 2},
                "fid": {"label": "FID", "decimals": 1},
            },
            "averages": [
                row("glc", "0", 0.02, 0.0201, 20.126),
                row("glc", "2.5", 0.03, 0.03, 21.0),
                row("jpeg", "2.5", 0.11, None, 19.0),
            ],
            "means": [],
            "degradations": [],
            "notes": ["FID was not computed."],
            "failures": [
                {
                    "image": "b.png",
                    "method": "glc",
                    "point": "0",
                    "reason": "odd.",
                    "degradation": None,
                }
            ],
        }

    def row(method, point, bpp, estimated, psnr):
        measured = {"bpp": bpp, "bpp_estimated": estimated, "psnr": psnr, "fid": None}
        return {"degradation": None, "method": method, "point": point, **measured}

    monkeypatch.setattr(evaluation, "run", run)
    command = ["evaluate", "in", "-o", "in/report", "--rates", "0", "2.5", "--against", "jpeg"]
    assert cli.run(command) == 1
    out = capsys.readouterr()
    assert out.out.splitlines() == [
        "codec  rate     bpp  estimated   PSNR  FID",
        "  GLC     0  0.0200     0.0201  20.13    -",
        "  GLC   2.5  0.0300     0.0300  21.00    -",
        " JPEG   2.5  0.1100          -  19.00    -",
    ]
    assert out.err.splitlines() == [
        "glc: FID was not computed.",
        "glc: b.png (glc, rate 0): odd.",
        f"Look at {os.path.join('in/report', 'index.html')}",
    ]


def test_evaluate_of_degraded_pictures(here, companion, capsys, monkeypatch):
    from glc_jax import evaluation

    companion("restorer")
    picture("in/a.png")

    def run(dataset, codec, output, *, degradations, restore, **settings):
        spoilt = np.full((8, 8, 3), 100, np.uint8)
        assert [one.name for one in degradations] == ["noise25", "down2"]
        assert [int(np.ptp(one(spoilt))) > 9 for one in degradations] == [True, False]
        assert restore
        assert codec.restorer == companion("restorer")
        measured = {"bpp": None, "bpp_estimated": None, "psnr": 20.0}
        coded = {"method": "glc", "point": "1", **measured, "bpp": 0.02}
        return {
            "methods": [{"id": "glc", "label": "GLC"}],
            "metrics": {"psnr": {"label": "PSNR", "decimals": 2}},
            "degradations": ["noise25", "down2"],
            "averages": [
                {"degradation": "noise25", "method": None, "point": None, **measured},
                {"degradation": "noise25", **coded},
            ],
            "means": [coded],
            "notes": [],
            "failures": [
                {
                    "image": "b.png",
                    "method": None,
                    "point": None,
                    "reason": "odd.",
                    "degradation": "down2",
                }
            ],
        }

    monkeypatch.setattr(evaluation, "run", run)
    command = ["evaluate", "in", "-o", "report", "--degrade", "noise25", "down2", "noise25"]
    assert cli.run([*command, "--restore"]) == 1
    out = capsys.readouterr()
    assert out.out.splitlines() == [
        "  input      codec  rate     bpp  estimated   PSNR",
        "noise25  not coded     -       -          -  20.00",
        "noise25        GLC     1  0.0200          -  20.00",
        "   mean        GLC     1  0.0200          -  20.00",
    ]
    assert out.err.splitlines()[0] == "glc: b.png, down2: odd."


def test_a_file_is_no_folder_for_a_report(here, capsys):
    kept = picture("in/a.png").read_bytes()
    assert cli.run(["evaluate", "in", "-o", "in/a.png"]) == 2
    assert said(capsys) == ["glc: in/a.png: is a file; the report needs a folder."]
    assert Path("in/a.png").read_bytes() == kept


def test_evaluate_of_nothing(here, capsys):
    os.mkdir("empty")
    assert cli.run(["evaluate", "empty", "-o", "report"]) == 1
    assert said(capsys) == ["glc: empty: no pictures in this folder."]
    assert cli.run(["evaluate", "empty", "-o", "report", "--dataset", "imagenet"]) == 1
    assert "kodak" in said(capsys)[0]
    assert not os.path.exists("report")


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


def test_the_bytes_of_each_group_of_packaged_weights_are_told_without_jax():
    loaded = python(
        "-c",
        "import sys; from glc_jax import cli; "
        f"cli.run(['info', '--json', {str(CORPUS / 'packaged_leaves.glc')!r}]); "
        "print('jax' in sys.modules)",
    )
    found, jax = loaded.stdout.splitlines()
    groups, payload = json.loads(found)["payload"], json.loads(found)["sections"]["payload"]
    assert list(groups) == ["z", "y/0", "y/1", "y/2", "y/3"]
    assert payload - 8 < sum(groups.values()) <= payload
    assert jax == "False"


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
