"""Checkpoints with a toy state: the best stay, damaged ones are passed over and replaced."""

import shutil

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from glc_jax.training import checkpoints, state


def toy(step: int = 0) -> state.TrainState:
    """A state of a few values, all of them `step`."""
    params = {"g_a": {"kernel": np.full((2, 3), step, np.float32)}}
    created = state.create(params, "", (), optax.sgd(0.1))
    return created.replace(step=np.int32(step))


def saved_steps(workdir) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def test_the_best_of_many_outlives_the_last_ones(tmp_path):
    kept = checkpoints.Checkpoints(tmp_path, keep=2, best="lpips")
    for step, lpips in ((1, 0.5), (2, 0.2), (3, 0.4), (4, None), (5, 0.3), (6, None)):
        kept.save(toy(step), None if lpips is None else {"lpips": lpips})
    kept.close()
    assert saved_steps(tmp_path) == [2, 5, 6]
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        assert manager.latest_step() == 6


@pytest.mark.parametrize("damage", ["state/d", "state"])
def test_a_damaged_checkpoint_is_passed_over_and_replaced(tmp_path, damage, caplog):
    kept = checkpoints.Checkpoints(tmp_path, keep=2, best="lpips")
    for step in (4, 8):
        kept.save(toy(step), notes={"skipped": [step]})
    kept.close()
    shutil.rmtree(tmp_path / "checkpoints" / "8" / damage)
    assert checkpoints.averaged_parameters(tmp_path)["g_a"]["kernel"][0, 0] == 4

    kept = checkpoints.Checkpoints(tmp_path, keep=2, best="lpips")
    restored = kept.restore(jax.eval_shape(toy))
    assert int(restored.step) == 4
    assert kept.notes(4) == {"skipped": [4]}
    assert "Ignored checkpoint 8" in caplog.text
    kept.save(toy(8))
    kept.close()
    assert saved_steps(tmp_path) == [4, 8]
    again = checkpoints.Checkpoints(tmp_path, keep=2, best="lpips")
    assert int(again.restore(jax.eval_shape(toy)).step) == 8
    again.close()
    assert checkpoints.averaged_parameters(tmp_path)["g_a"]["kernel"][0, 0] == 8


def test_reading_parameters_complains_of_nothing_else_in_a_checkpoint(tmp_path, caplog):
    kept = checkpoints.Checkpoints(tmp_path, keep=2, best="lpips")
    kept.save(toy(4), notes={"skipped": [4]})
    kept.close()
    checkpoints.averaged_parameters(tmp_path)
    assert "notes" not in caplog.text


def test_the_averages_are_read_where_there_are_some(tmp_path):
    saved = toy(4)
    kept = checkpoints.Checkpoints(tmp_path, keep=2, best="lpips")
    kept.save(saved.replace(ema={"g_a/kernel": np.full((2, 3), 0.5, np.float32)}))
    kept.close()
    assert checkpoints.averaged_parameters(tmp_path)["g_a"]["kernel"][0, 0] == 0.5
