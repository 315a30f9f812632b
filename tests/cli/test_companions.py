"""Restoring and styles on the command line: what is made, what it is called, what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glc_jax import bitstream, cli, images, weights
from tests.cli.stand_in import HEIGHT, WIDTH, StandIn, Stream, files, picture, said

PAINTING = (40, 50, 60)


@pytest.fixture
def stranger(tmp_path):
    """Other weights."""
    path = tmp_path / "stranger.safetensors"
    tree = {"params": {"kernel": np.ones(4, np.float32)}}
    weights.save(path, tree, {"name": "stranger", "model": {"rate_points": 4}})
    return weights.load(path)


@pytest.fixture
def painting(here):
    return str(picture("art/painting.png", color=PAINTING))


def value(path) -> int:
    """What all of a picture is."""
    pixels = images.read(path)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert (pixels == pixels[0, 0, 0]).all()
    return int(pixels[0, 0, 0])


# ---------------------------------------------------------------------------- compress --restore


def test_compress_restores_where_it_is_asked_to(here, companion, capsys):
    companion("restorer")
    picture("a.png")
    fixed = bitstream.overhead(WIDTH, HEIGHT)
    for option, less in (([], 0), (["--restore"], 5)):
        assert cli.run(["compress", "a.png", "-o", "a.glc", "--rate", "1", *option]) == 0
        assert os.path.getsize("a.glc") == fixed + 200 - less
        target = [*option, "--target-bytes", str(fixed + 300 - less)]
        assert cli.run(["compress", "a.png", "-o", "b.glc", *target]) == 0
        assert os.path.getsize("b.glc") == fixed + 300 - less
    assert said(capsys) == []
    container = bitstream.parse(Path("a.glc").read_bytes())
    assert container.fingerprint == weights.describe(weights.resolve()).fingerprint


def test_a_restorer_of_ones_own(here, companion, monkeypatch):
    own, used = companion("restorer", name="own"), []
    monkeypatch.setattr(weights, "packaged", dict)
    compress = StandIn.compress

    def noted(self, image, rate, restore, fast):
        used.append(self.restorer)
        return compress(self, image, rate, restore, fast)

    monkeypatch.setattr(StandIn, "compress", noted)
    picture("a.png")
    assert cli.run(["compress", "a.png", "--restore", "--restorer", str(own)]) == 0
    assert used == [own]


# ---------------------------------------------------------------------------- restore, stylise


def test_restore(here, companion, capsys):
    companion("restorer")
    picture("photo.jpg")
    assert cli.run(["restore", "photo.jpg"]) == 0
    line = capsys.readouterr().err
    assert line.startswith(f"photo.jpg -> photo-restored.png: {WIDTH} x {HEIGHT} pixels, rate 3, ")
    assert value("photo-restored.png") == 130  # the highest rate's
    assert cli.run(["restore", "photo.jpg", "--rate", "1", "-o", "new.png", "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out).items()
        >= {
            "source": "photo.jpg",
            "target": "new.png",
            "width": WIDTH,
            "height": HEIGHT,
            "rate": 1.0,
        }.items()
    )
    assert value("new.png") == 110
    assert cli.run(["restore", "photo.jpg", "--rate", "1", "-o", "fast.png", "--fast"]) == 0
    assert value("fast.png") == 111
    for quality in ("10", "90"):
        assert cli.run(["restore", "photo.jpg", "-o", f"{quality}.jpg", "--quality", quality]) == 0
    assert images.read("10.jpg").shape == (HEIGHT, WIDTH, 3)


def test_stylise(here, companion, painting):
    companion("stylist")
    picture("photo.jpg")
    command = ["stylise", "photo.jpg", "--style", painting]
    assert cli.run(command) == 0
    assert value("photo-stylised.png") == PAINTING[0]
    for strength, expected in (("0", 130), ("0.5", (130 + PAINTING[0]) // 2)):
        assert cli.run([*command, "--style-strength", strength, "-o", "new.png"]) == 0
        assert value("new.png") == expected


def test_decompress_in_a_style(here, companion, painting):
    companion("stylist")
    picture("photo.jpg")
    assert cli.run(["compress", "photo.jpg"]) == 0
    assert cli.run(["decompress", "photo.glc", "--style", painting]) == 0
    assert value("photo.png") == PAINTING[0]
    style = ["--style", painting, "--style-strength", "0"]
    assert cli.run(["decompress", "photo.glc", *style, "-o", "photo.png"]) == 0
    assert value("photo.png") == 200
    model = ["--weights", str(weights.resolve())]
    assert cli.run(["decompress", "photo.glc", "--style", painting, *model, "-f"]) == 0


def test_pipes(here, companion, monkeypatch):
    companion("restorer")
    given, written = Stream(picture("photo.png").read_bytes()), Stream()
    monkeypatch.setattr("sys.stdin", given)
    monkeypatch.setattr("sys.stdout", written)
    assert cli.run(["restore", "-"]) == 0
    assert np.asarray(Image.open(written)).max() == 130
    assert files() == ["photo.png"]


def test_transparency_of_pictures_and_styles(here, companion, capsys):
    companion("restorer"), companion("stylist")
    clear, photo = str(picture("clear.png", mode="RGBA", color=(0, 0, 0, 0))), "photo.png"
    picture(photo)
    cli.run(["compress", "-q", photo])
    stylise = ["stylise", photo, "--style", clear]
    decompress = ["decompress", "photo.glc", "--style", clear, "-o", "new.png"]
    for command in (["restore", clear], stylise, decompress):
        assert cli.run(command) == 1
        (line,) = said(capsys)
        assert line.startswith("glc: clear.png: has transparent pixels; say what goes behind")
        assert cli.run([*command, "--background", "#0a0b0c"]) == 0
    assert value("photo-stylised.png") == 10
    assert value("new.png") == 10


# ---------------------------------------------------------------------------- names


def test_a_folder_of_restored_pictures_goes_on_and_is_not_restored_again(here, companion, capsys):
    """Beside their sources, or in a folder among them: what was made is no input the next time."""
    companion("restorer")
    picture("in/a.jpg"), picture("in/sub/b.png")
    made = ["a-restored.png", "a.jpg", "sub/b-restored.png", "sub/b.png"]
    for again in ([], ["--skip-existing"], ["--force"]):
        assert cli.run(["restore", "in", *again]) == 0
        assert files("in") == made
    assert cli.run(["restore", "-q", "in"]) == 1
    assert "in/a-restored.png: and another output exist already" in said(capsys)[-2]
    for _ in range(2):
        assert cli.run(["restore", "in", "-o", "in", "--skip-existing"]) == 0
        assert files("in") == made
    for name in ("in/a-restored.png", "in/sub/b-restored.png"):
        os.remove(name)
    for _ in range(2):
        assert cli.run(["restore", "in", "-o", "in/new", "--skip-existing"]) == 0
        assert files("in") == ["a.jpg", "new/a.png", "new/sub/b.png", "sub/b.png"]


def test_a_picture_of_that_name_without_a_source_is_an_input(here, companion):
    companion("restorer")
    picture("in/old-restored.jpg"), picture("in/b-restored.png")
    assert cli.run(["restore", "in"]) == 0
    assert files("in") == [
        *("b-restored-restored.png", "b-restored.png"),
        *("old-restored-restored.png", "old-restored.jpg"),
    ]


def test_one_name_with_two_suffixes_gives_two_pictures(here, companion):
    companion("restorer")
    picture("in/a.png"), picture("in/a.jpg")
    for again in ([], ["--skip-existing"]):
        assert cli.run(["restore", "in", *again]) == 0
        assert files("in") == ["a.jpg", "a.jpg-restored.png", "a.png", "a.png-restored.png"]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_output_is_an_input_or_the_style(here, companion, painting, capsys, force):
    companion("restorer"), companion("stylist")
    picture("a.png", color="red")
    cli.run(["compress", "-q", "a.png"])
    os.link(painting, "link.png")
    os.makedirs("out")
    os.link(painting, "out/a.png")
    kept = {name: Path(name).read_bytes() for name in ("a.png", painting)}
    style = ["--style", painting]
    for command, named in (
        (["restore", "a.png", "-o", "a.png"], "a.png"),
        (["stylise", "a.png", *style, "-o", "a.png"], "a.png"),
        (["stylise", "a.png", *style, "-o", painting], painting),
        (["stylise", "a.png", *style, "-o", "link.png"], "link.png"),
        (["stylise", "a.png", *style, "-o", "out"], "out/a.png"),
        (["decompress", "a.glc", *style, "-o", painting], painting),
        (["decompress", "a.glc", *style, "-o", "out/"], "out/a.png"),
    ):
        assert cli.run([*command, *force]) == 1
        assert said(capsys) == [f"glc: {named}: is an input itself; name another output."]
    assert {name: Path(name).read_bytes() for name in kept} == kept


def test_a_name_that_glc_chose_is_not_taken(here, companion, painting, capsys):
    companion("restorer"), companion("stylist")
    picture("a.jpg")
    for command, mark in (["restore"], "restored"), (["stylise", "--style", painting], "stylised"):
        mine = picture(f"a-{mark}.png", color="red")
        kept = mine.read_bytes()
        assert cli.run([*command, "a.jpg"]) == 1
        (line,) = said(capsys)
        assert line.startswith(f"glc: {mine}: exists already; ")
        assert mine.read_bytes() == kept
        assert cli.run([*command, "a.jpg", "--force"]) == 0
        assert mine.read_bytes() != kept
        said(capsys)


def test_a_glc_file_or_another_file_is_not_replaced_by_a_picture(here, companion, capsys):
    companion("restorer")
    picture("a.png")
    Path("notes.txt").write_text("of value")
    for name in ("new.glc", "notes.txt"):
        assert cli.run(["restore", "a.png", "-o", name]) == 1
        assert said(capsys)[0].startswith(f"glc: {name}: ")
    assert Path("notes.txt").read_text() == "of value"
    assert not os.path.exists("new.glc")


# ---------------------------------------------------------------------------- refused


@pytest.fixture
def untouched(here, monkeypatch):
    """Nothing may be coded."""

    def coded(*arguments, **named):
        raise AssertionError("work was begun")

    monkeypatch.setattr("glc_jax.cli.process.load_codec", coded)


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("compress a.png --restorer own.safetensors", 2, "--restorer: says what --restore is to"),
        ("compress a.png --restore", 1, "'stand-in' have no restorer in this package; train one"),
        ("restore a.png", 1, "'stand-in' have no restorer in this package; train one"),
        ("evaluate . -o out --restore", 1, "'stand-in' have no restorer in this package"),
        ("stylise a.png --style a.png", 1, "'stand-in' have no stylist in this package"),
        ("stylise a.png", 2, "--style"),
        ("stylise a.png --style a.png --style-strength 1.5", 2, "1.5 is not a number from 0 to 1"),
        ("decompress a.glc --style-strength 0.5", 2, "--style-strength: goes with --style"),
        ("decompress a.glc --stylist own.safetensors", 2, "--stylist: goes with --style"),
        ("decompress a.glc --background white", 2, "--background: goes with --style"),
        ("decompress a.glc --style a.png --preview", 2, "not allowed with argument"),
        ("decompress a.glc --style a.png -o b.png", 1, "'stand-in' have no stylist in this"),
        ("restore a.png --rate 3.5", 2, "3.5 is above the highest rate of the weights stand-in"),
        ("restore a.png b.png", 2, "b.png: there is no such input; name the output with -o b.png"),
        ("restore a.png --background nocolour", 2, "--background: 'nocolour' is not a colour"),
    ],
)
def test_options_that_make_no_sense(here, untouched, monkeypatch, capsys, command, status, says):
    monkeypatch.setattr(weights, "packaged", dict)
    picture("a.png")
    own = weights.describe(weights.resolve()).fingerprint
    container = bitstream.Container(WIDTH, HEIGHT, 84, own, bytes(50), 0, 7)
    Path("a.glc").write_bytes(bitstream.serialise(container))
    try:
        found = cli.run(command.split())
    except SystemExit as stopped:
        found = stopped.code
    assert found == status
    (line,) = said(capsys)
    assert line.startswith("glc")
    assert says in line
    assert files() == ["a.glc", "a.png"]


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("restorer", "compress a.png --restore --restorer"),
        ("restorer", "restore a.png --restorer"),
        ("restorer", "evaluate . -o out --restore --restorer"),
        ("stylist", "stylise a.png --style a.png --stylist"),
        ("stylist", "decompress a.glc --style a.png --weights {model} --stylist"),
    ],
)
def test_a_companion_that_is_none_of_the_model(
    here, untouched, companion, stranger, capsys, kind, command
):
    picture("a.png")
    Path("damaged.safetensors").write_bytes(companion(kind).read_bytes()[:70])
    other = {"restorer": "stylist", "stylist": "restorer"}[kind]
    model = str(weights.resolve())
    fingerprint = weights.describe(model).fingerprint.hex()
    foreign = companion(kind, stranger, "foreign")
    for name, says in (
        ("missing", "missing: no such weights file"),
        ("damaged.safetensors", "damaged.safetensors: not a readable safetensors file"),
        (model, f"{model}: holds a model, not a {kind}."),
        (companion(other), f"holds a {other}, not a {kind}."),
        (foreign, f"foreign.safetensors: a {kind} of the weights {stranger.fingerprint.hex()}; "),
        (foreign, f"these are {fingerprint} (stand-in)."),
    ):
        assert cli.run([*command.format(model=model).split(), str(name)]) == 1
        (line,) = said(capsys)
        assert says in line
    assert files() == ["a.png", "damaged.safetensors"]


@pytest.mark.parametrize(
    "command",
    [
        "compress a.png",
        "decompress a.png",
        "restore a.png",
        "stylise a.png --style a.png",
        "info a.glc",
        "verify a.glc",
        "evaluate . -o report",
    ],
)
def test_a_companion_is_no_model(here, untouched, companion, monkeypatch, capsys, command):
    picture("a.png")
    path = companion("restorer")
    base = weights.describe(weights.resolve()).fingerprint.hex()
    expected = (
        f"glc: stand-in-restorer: holds a restorer, not a model; name the model's weights ({base}) "
        "and this file with --restorer."
    )
    assert cli.run([*command.split(), "--weights", str(path)]) == 1
    assert said(capsys) == [expected]


@pytest.mark.parametrize("style", ["missing.png", "notes.txt"])
def test_a_style_that_is_no_picture(here, untouched, companion, capsys, style):
    companion("stylist")
    picture("in/a.png"), picture("in/b.png")
    Path("notes.txt").write_text("no picture")
    assert cli.run(["stylise", "in", "--style", style]) == 1
    (line,) = said(capsys)
    assert line.startswith(f"glc: {style}: no")
    assert cli.run(["decompress", "in", "--style", style]) == 1
    assert len(said(capsys)) == 1


def test_models_lists_companions(here, companion, capsys):
    companion("restorer"), companion("stylist")
    base = weights.describe(weights.resolve()).fingerprint.hex()
    assert cli.run(["models"]) == 0
    text = capsys.readouterr().out
    for kind in ("restorer", "stylist"):
        assert f"stand-in-{kind}\n  {kind:9s} stand-in-{kind}, 3 parameters, F32\n" in text
    assert text.count(f"  stands on {base}, a model's weights\n            of: a test\n") == 2
    assert cli.run(["models", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(model["kind"], model["base"]) for model in listed] == [
        ("restorer", base),
        ("stylist", base),
    ]
