"""docs/entropy_models.md: its examples run, and parts outside this package write real files."""

import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.small_model import picture

PAGE = (REPOSITORY / "docs" / "entropy_models.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, re.DOTALL))
OWN = ("my_distribution", "my_context", "my_z_prior", "my_hyperprior", "my_quantiser")


def run(place, *command, **environment):
    paths = os.pathsep.join([str(place), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def place(tmp_path):
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_each_part_of_one_s_own_takes_less_than_40_lines():
    assert {f"{name}.py" for name in OWN} <= EXAMPLES.keys()
    assert all(EXAMPLES[f"{name}.py"].count("\n") < 40 for name in OWN)


def test_a_distribution_becomes_bytes_of_the_size_that_its_bits_say(place):
    done = run(place, str(place / "bits_to_bytes.py"))
    assert done.returncode == 0, done.stderr
    before, after = re.findall(r"([\d.]+) bits a value", done.stdout)
    assert float(before) < float(after) < 1.005 * float(before)


def test_a_network_becomes_bytes_of_the_size_that_its_bits_say(place):
    done = run(place, str(place / "network_to_bytes.py"))
    assert done.returncode == 0, done.stderr
    size, expected = map(float, re.match(r"(\d+) bytes, ([\d.]+) expected", done.stdout).groups())
    assert expected <= size < 1.005 * expected + 2
    assert expected < 140  # the odd columns follow from the even ones


@pytest.mark.slow
def test_parts_outside_the_package_train_and_code_real_files(place):
    """Named in a config, trained, exported; the file decodes elsewhere under other flags."""
    entropy = {
        "distribution": "my_distribution:HyperbolicSecant",
        "context": "my_context:Stripes",
        "z_prior": "my_z_prior:Halves",
        "hyperprior": "my_hyperprior:LookupFree",
    }
    done = run(
        place,
        "scripts/train.py",
        "--config=configs/smoke.py:stage2",
        f"--workdir={place / 'run'}",
        "--config.steps=8",
        "--config.eval.every=0",
        "--config.quantizer={'name': 'my_quantiser:NoiseByScale', 'strength': 0.5}",
        *(f"--config.model.entropy.{part}={name}" for part, name in entropy.items()),
    )
    assert done.returncode == 0, done.stderr
    weights, file = place / "own.safetensors", place / "picture.glc"
    done = run(
        place,
        "scripts/export.py",
        str(place / "run"),
        "-o",
        str(weights),
        "--batches=2",
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    Image.fromarray(picture(70, 90)).save(place / "picture.png")
    plugins = [f"--plugin={name}" for name in OWN[:4]]
    named = ["--weights", str(weights), *plugins]
    glc = ["-m", "glc_jax"]
    done = run(place, *glc, "compress", str(place / "picture.png"), "-o", str(file), *named)
    assert done.returncode == 0, done.stderr
    flags = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
    again = [*glc, "decompress", str(file), "-o", str(place / "again.png"), *named]
    done = run(place, *again, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    assert Image.open(place / "again.png").size == (90, 70)
    done = run(place, *glc, "verify", str(file), *named)
    assert done.returncode == 0, done.stderr
    refused = run(place, *glc, "verify", str(file), "--weights", str(weights))
    assert refused.returncode != 0
    assert "--plugin" in refused.stderr + refused.stdout
