"""What the shell is offered, asked as argcomplete's shell function asks."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("argcomplete")


def offered(line: str, folder) -> set[str]:
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "offered"),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    subprocess.run([sys.executable, "-m", "glc_jax"], env=environment, cwd=folder, check=True)
    return {word.strip() for word in (folder / "offered").read_text().splitlines()}


def test_commands_options_and_names(tmp_path):
    (tmp_path / "own.safetensors").write_bytes(b"")
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert {"compress", "convert"} <= offered("glc co", tmp_path)
    assert offered("glc restore --resto", tmp_path) == {"--restorer"}
    assert {"--style", "--style-strength"} <= offered("glc decompress --st", tmp_path)
    assert {"--target-bytes", "--target-bpp"} <= offered("glc compress --target", tmp_path)
    assert offered("glc verify --device ", tmp_path) == {"cpu", "gpu", "tpu"}
    assert offered("glc compress --weights ", tmp_path) == {"tiny", "own.safetensors"}
    for option in ("restore --restorer", "stylise --stylist"):
        companions = offered(f"glc {option} ", tmp_path)
        assert "own.safetensors" in companions
        assert "tiny" not in companions  # which is a model
    assert "photo.jpg" in offered("glc stylise a.png --style ph", tmp_path)
    assert "photo.jpg" in offered("glc compress ph", tmp_path)
