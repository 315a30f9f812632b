"""A restorer from a folder of pictures to files: trained, stopped, resumed, exported, used."""

import contextlib
import io
import runpy
import sys

import chex
import numpy as np
import pytest

import glc_jax
from glc_jax import companions, weights
from glc_jax.training.config import plain
from glc_jax.training.loop import train
from tests import small_model
from tests.conftest import REPOSITORY
from tests.training import small
from tests.training.test_resume import stopped

pytestmark = pytest.mark.slow


def export(*arguments: str) -> tuple[int, str]:
    """Exit status and output of scripts/export.py."""
    said = io.StringIO()
    main = runpy.run_path(str(REPOSITORY / "scripts" / "export.py"))["main"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export.py", *arguments])
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            status = main()
    return status, said.getvalue()


def test_a_restorer_is_trained_resumed_exported_and_writes_files(tmp_path):
    base, other = str(tmp_path / "base.safetensors"), str(tmp_path / "other.safetensors")
    small_model.write_weights(base)
    small_model.write_weights(other, seed=1)
    config = small.config(
        "restore",
        data__folder=str(small.folder(tmp_path / "pictures")),
        eval__folder=str(small.folder(tmp_path / "held_out", 2)),
        eval__every=4,
        eval__batch=2,
        eval__metrics=("psnr",),
        checkpoint__best="bpp",
        checkpoint__every=2,
        steps=4,
        optimizer__tail_steps=1,
        codebook__kmeans_step=-1,
        init_from=base,
        losses={"latent": 1.0, "rate": 0.1, "hyper_codebook": 1.0},
    )
    config["model"] = {**plain(config["model"]), **small_model.MODEL}
    whole = train(config, tmp_path / "whole")
    stopped(config, tmp_path / "run", 3)
    chex.assert_trees_all_equal(train(config, tmp_path / "run"), whole)

    before = weights.load(base)
    after = dict(weights.flatten(whole.params))
    assert {path.split("/")[0] for path in whole.ema} == {"restorer"}
    for path, leaf in weights.flatten(before.tree["params"]):
        assert np.array_equal(after[path], np.asarray(leaf, np.float32)), path

    made = str(tmp_path / "restorer.safetensors")
    assert export(str(tmp_path / "run"), "-o", made, "--base", other)[0] == 2
    status, said = export(str(tmp_path / "run"), "-o", made)
    assert status == 0, said
    assert weights.describe(made).config["base"] == before.fingerprint.hex()
    trained = companions.load(companions.RESTORER, before, made)
    assert any(
        np.any(leaf != after[path])
        for path, leaf in weights.flatten(trained)
        if not path.endswith("rate_scale")
    )

    picture = small_model.picture(48, 64)
    codec = glc_jax.load(base, restorer=made)
    data = codec.compress(picture, 1, restore=True)
    assert data != codec.compress(picture, 1)
    np.testing.assert_array_equal(glc_jax.load(base).decompress(data), codec.decompress(data))
    np.testing.assert_array_equal(
        codec.restore(picture), codec.decompress(codec.compress(picture, 3, restore=True))
    )
    fitting, rate = codec.compress_to_size(picture, len(data), restore=True)
    assert len(fitting) <= len(data)
    assert rate >= 1
