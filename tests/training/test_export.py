"""From trained parameters to a weights file that writes files."""

import contextlib
import io
import runpy
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glc_jax
from glc_jax import weights
from glc_jax.errors import ConfigError
from glc_jax.training import checkpoints
from glc_jax.training.config import read
from glc_jax.training.export import at_rates, base_of, calibration_targets, export, mean_of
from tests.conftest import REPOSITORY
from tests.small_model import picture
from tests.training import small


@pytest.fixture(scope="module")
def trained() -> tuple[dict, dict]:
    """(config, parameters), with tables whose rows differ."""
    config = small.config(3)
    params = small.parameters(config)
    for seed, part in enumerate(("g_a", "g_s")):
        shape = params[part]["rate_scale"].shape
        rows = 1 + 0.1 * np.arange(shape[0])[:, None] + np.random.default_rng(seed).random(shape)
        params[part]["rate_scale"] = rows.astype(np.float32)
    return config, params


def test_rate_points_can_be_placed_between_the_trained_ones(trained):
    config, params = trained
    placed_config, placed = at_rates(config, params, [0, 1.25, 3])
    assert placed_config["model"]["rate_points"] == 3
    assert config["model"]["rate_points"] == 4
    for part in ("g_a", "g_s"):
        rows, found = params[part]["rate_scale"], placed[part]["rate_scale"]
        expected = [rows[0], 0.75 * rows[1] + 0.25 * rows[2], rows[3]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert placed["vqvae"] is params["vqvae"]


@pytest.mark.parametrize("rates", [[], [0, 0], [1, 0.5], [-1, 2], [0, 3.5], [0, float("nan")]])
def test_rates_that_cannot_be_points_are_told(trained, rates):
    with pytest.raises(ConfigError, match=r"increase within 0 \.\. 3"):
        at_rates(*trained, rates)


def _run(workdir, config, seed):
    """A run's folder with one checkpoint of random parameters, which come back."""
    params = jax.tree.map(jnp.asarray, small.parameters(config, seed))
    workdir.mkdir()
    checkpoints.write_config(workdir, read(config))
    saved = checkpoints.Checkpoints(workdir, keep=1, best="lpips")
    saved.save(small.parts(config).initial_state(params))
    saved.close()
    return params


@pytest.mark.slow
def test_of_several_runs_the_mean_is_taken_and_the_last_config(tmp_path):
    names = [tmp_path / name for name in ("first", "second", "other")]
    first = _run(names[0], small.config(3), 0)
    second = _run(names[1], small.config(3, batch=4), 1)
    config, params = mean_of(names[:2])
    assert config["batch"] == 4
    jax.tree.map(
        lambda found, a, b: np.testing.assert_allclose(found, (a + b) / 2, atol=1e-6),
        params,
        first,
        second,
    )
    of_one = mean_of(names[:1])[1]
    assert small.largest_difference(of_one, first) == 0
    _run(names[2], small.config(3, model__latent_channels=16), 2)
    with pytest.raises(ConfigError, match="latent_channels is 16 there and 8 here"):
        mean_of([names[0], names[2]])
    with pytest.raises(ConfigError, match="nothing holds no run"):
        mean_of([names[0], tmp_path / "nothing"])


def test_a_weights_file_is_a_source_like_a_run(trained, tmp_path):
    config, params = trained
    path = tmp_path / "w.safetensors"
    described = {"name": "small", "model": config["model"]}
    tree = {"params": jax.tree.map(lambda leaf: np.asarray(leaf, jnp.bfloat16), params)}
    weights.save(path, tree, described, {"stage": "stage2"})
    found_config, found = mean_of([path])
    assert found_config["model"] == read(config).model
    assert (found_config["name"], found_config["stage"]) == ("small", "stage2")
    assert read(found_config).batch > 0
    chex.assert_trees_all_equal(
        found, jax.tree.map(lambda leaf: leaf.astype(np.float32), tree["params"])
    )
    other = jax.tree.map(lambda leaf: np.float32(leaf) + 1, tree["params"])
    weights.save(tmp_path / "other.safetensors", {"params": other}, described)
    mean = mean_of([path, tmp_path / "other.safetensors"])[1]
    wanted = jax.tree.map(lambda leaf: leaf.astype(np.float32) + 0.5, tree["params"])
    chex.assert_trees_all_close(mean, wanted, rtol=1e-6)


def test_calibration_has_every_rate_of_pictures_in_turn():
    class Model:
        def apply(self, variables, x, *rate, method):
            return {"y": rate[0], "x": x} if method == "targets" else 2 * x

    images = [np.full((3, 1, 1, 1), 51 * number, np.uint8) for number in range(4)]
    params = {"g_a": {"rate_scale": np.zeros((4, 2))}}
    found = list(calibration_targets(Model(), params, [{"image": i} for i in images], 4))
    rates = [one["y"].tolist() for one in found]
    assert rates == [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]
    values = [float(one["x"].mean()) for one in found]
    np.testing.assert_allclose(values, 2 * (np.arange(4) * 0.4 - 1), atol=1e-6)


def test_the_weights_that_a_run_began_with_are_found_through_the_runs_before_it(tmp_path):
    weights_file = tmp_path / "w.safetensors"
    weights_file.write_bytes(b"")
    for name, source in {"one": weights_file, "two": tmp_path / "one", "none": ""}.items():
        (tmp_path / name).mkdir()
        config = small.config("restore", init_from=str(source))
        checkpoints.write_config(tmp_path / name, read(config))
    assert base_of(config | {"init_from": str(tmp_path / "two")}) == str(weights_file)
    assert base_of(config | {"init_from": str(weights_file)}) == str(weights_file)
    with pytest.raises(ConfigError, match="--base"):
        base_of(config | {"init_from": str(tmp_path / "none")})


@pytest.mark.slow
def test_what_was_exported_writes_files_at_the_placed_rates(trained, tmp_path):
    def exported(name, config, params):
        path = tmp_path / name
        batches = [small.batch(seed) for seed in range(2)]
        export(
            config,
            params,
            batches,
            path,
            count=2,
            dtype="float32",
            training_parts=False,
            provenance={},
        )
        return glc_jax.load(path)

    image = picture(32, 48, 5)
    whole = exported("whole.safetensors", *trained)
    placed = exported("placed.safetensors", *at_rates(*trained, [0.5, 1.5]))
    assert (whole.highest_rate, placed.highest_rate) == (3, 1)
    for point, rate in ((0, 0.5), (1, 1.5)):
        one, other = (
            codec.analyse(image, at)["y"] for codec, at in ((placed, point), (whole, rate))
        )
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    data = placed.compress(image, 1)
    assert placed.decompress(data).shape == image.shape


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", "is a folder"),
        ("nowhere/w.safetensors", "there is no folder"),
        ("photo.jpg", "no weights file"),
        ("w.safetensors", "is a source itself"),
    ],
)
def test_an_output_that_cannot_be_is_told_before_anything_is_read(tmp_path, output, told):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 somebody's photograph")
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    command = ["export.py", str(tmp_path / "w.safetensors"), "-o", str(tmp_path / output)]
    status, said = script(command)
    assert status == 2
    assert told in said
    assert (tmp_path / "photo.jpg").stat().st_size == 24


def test_weights_without_pictures_are_told_of_data(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, {"params": trained[1]}, {"name": "small", "model": trained[0]["model"]})
    status, said = script(["export.py", str(path), "-o", str(tmp_path / "new.safetensors")])
    assert status == 2
    assert "--data" in said
    assert not (tmp_path / "new.safetensors").exists()


def script(command):
    """Exit status and standard error of scripts/export.py, run within this process."""
    said = io.StringIO()
    main = runpy.run_path(str(REPOSITORY / "scripts" / "export.py"))["main"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", command)
        status = main()
    return status, said.getvalue()
