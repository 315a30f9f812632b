"""What an installation has: a wheel, built from a copy of the sources, in a fresh environment.

Beside a user's own folders `configs` and `conversion`, which are none of its business.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ("glc_jax", "conversion", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")
CHECKPOINT = ROOT / "tests/data/checkpoints/micro_glc.pth.tar"
CONFIG = ROOT / "tests/conversion/micro_config.py"

pytestmark = pytest.mark.slow


def run(*command, cwd) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip = (sys.executable, "-m", "pip")
    done = run(*pip, "wheel", "-q", "--no-deps", "-w", "out", ".", cwd=folder)
    if "Could not find a version that satisfies the requirement setuptools" in done.stderr:
        pytest.skip("setuptools cannot be fetched here")
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "out").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """The bin folder of an environment with the wheel in it; the rest is this Python's."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "beside.pth").write_text("\n".join(here))
    pip = run(folder / "venv/bin/pip", "install", "-q", "--no-deps", wheel, cwd=folder)
    assert pip.returncode == 0, pip.stderr
    return folder / "venv/bin"


def test_wheel_installs_nothing_under_other_names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"glc_jax"}
    sources = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("glc_jax/**/*.py")}
    for folder in ("conversion", "configs"):
        sources |= {f"glc_jax/{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert "glc_jax/pretrained/tiny.safetensors" in names
    assert "glc_jax/pretrained/tiny-style.safetensors" in names


@pytest.mark.parametrize("command", ["glc", "python -m glc_jax"])
def test_convert_works_beside_folders_of_the_same_names(installed, tmp_path, command):
    for name in ("configs", "conversion"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not meant')")
    program, *rest = command.split()
    done = run(
        *(installed / program, *rest, "convert", CHECKPOINT, "--config", CONFIG),
        *("-o", "micro.safetensors"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "wrote micro.safetensors" in done.stdout
    done = run(installed / program, *rest, "models", "micro.safetensors", cwd=tmp_path)
    assert "micro_config" in done.stdout
