"""`glc convert`, as it is found from a clone, and what it does not write over."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from glc_jax import cli
from tests.cli.stand_in import picture, said

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "tests/data/checkpoints/micro_glc.pth.tar"


def convert(*arguments) -> int:
    return cli.run(["convert", *map(str, arguments)])


def test_nothing_but_weights_is_written_over(here, capsys):
    shutil.copy(CHECKPOINT, "own.pth.tar")
    kept = picture("photo.png").read_bytes()
    for force in ([], ["--force"]):
        assert convert("own.pth.tar", "-o", "own.pth.tar", *force) == 1
        assert "is a source itself" in said(capsys)[0]
    assert convert("own.pth.tar", "-o", "photo.png") == 1
    assert said(capsys) == [
        "error: photo.png: exists already and is no weights file; choose another name, or use "
        "--force."
    ]
    assert Path("photo.png").read_bytes() == kept
    save_file({"unet": np.ones(3, np.float32)}, "anothers.safetensors", {"format": "pt"})
    kept = Path("anothers.safetensors").read_bytes()
    assert convert("own.pth.tar", "-o", "anothers.safetensors") == 1
    assert "is no weights file" in said(capsys)[0]
    assert Path("anothers.safetensors").read_bytes() == kept
    assert Path("own.pth.tar").read_bytes() == CHECKPOINT.read_bytes()


def test_help_names_the_command(here, capsys):
    with pytest.raises(SystemExit) as stopped:
        convert("--help")
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: glc convert ")


def test_a_checkpoint_as_weights_is_pointed_there(here, capsys):
    picture("photo.png")
    assert cli.run(["compress", "photo.png", "--weights", str(CHECKPOINT)]) == 1
    assert said(capsys) == [
        f"glc: {CHECKPOINT}: a checkpoint of PyTorch; make a weights file of it with glc convert "
        f"{CHECKPOINT} -o weights.safetensors."
    ]
