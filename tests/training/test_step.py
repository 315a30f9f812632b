"""One step of each stage: what moves, what stays, and how a batch may be divided."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest

from glc_jax.training import networks
from glc_jax.training.evaluation import averages, make_eval_step
from glc_jax.training.evaluators import chosen_measures
from glc_jax.training.parameters import select
from glc_jax.training.samples import Turns
from glc_jax.training.step import make_train_step
from tests.training import small

KEY = jax.random.key(7)

STAGES = [1, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (2, 3))]


# It keeps Adam from blowing up differences of gradients that are zero but for rounding.
EPS = 1e-3


@functools.cache
def _stepped(stage: int, **changes):
    config = small.config(stage, optimizer__eps=EPS, **changes)
    step = small.jit_train_step(config)
    state = small.state(config)
    return config, state, *step(state, small.batch(), KEY)


@pytest.mark.parametrize("stage", STAGES)
def test_exactly_the_trainable_parameters_move(stage):
    config, before, after, _ = _stepped(stage)
    trained = select(before.params, config["trainable"])
    flat_before, flat_after = select(before.params, ""), select(after.params, "")
    for path, leaf in flat_before.items():
        moved = not np.array_equal(leaf, flat_after[path])
        if path not in trained:
            assert not moved, path
    moved = [p for p in trained if not np.array_equal(flat_before[p], flat_after[p])]
    # What no loss of the first step reaches: stage 3's VQ-VAE codebook.
    assert set(trained) - set(moved) <= {"vqvae/quantizer/codebook"}
    assert set(after.ema) == set(trained)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_are_reported_unweighted_and_their_weighted_sum_is_the_loss(stage):
    config, _, _, metrics = _stepped(stage)
    names = [name for name in config["losses"] if name in metrics]
    expected = {
        1: {"l1", "multiscale_l1", "lpips", "codebook"},
        2: {"rate", "hyper_codebook", "latent", "code_prediction"},
        3: {"l1", "multiscale_l1", "lpips", "rate", "hyper_codebook", "latent"}
        | {"code_prediction", "pixel_code_prediction"},
    }[stage]
    assert set(names) == expected
    total = sum(config["losses"][name] * float(metrics[name]) for name in names)
    assert float(metrics["loss"]) == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_perceptual_losses_are_losses_and_are_measured_on_held_out_pictures():
    config = small.config(
        1,
        losses={"dists": 2.0, "spectral_excess": 0.5, "lpips_vgg": 1.5, "l1": 1.0},
        data__crop=64,
        eval__crop=64,
        eval__metrics=("psnr",),
        checkpoint__best="dists",
        jitter=16,
    )
    state, parts, batch = small.state(config), small.parts(config), small.batch()
    batch["image"] = np.tile(batch["image"], (1, 2, 2, 1))
    after, metrics = small.jit_train_step(config)(state, batch, KEY)
    total = sum(weight * float(metrics[name]) for name, weight in config["losses"].items())
    assert 0.05 < float(metrics["dists"]) < 1
    assert 0.05 < float(metrics["lpips_vgg"]) < 1.5
    assert float(metrics["spectral_excess"]) > 0.1
    assert float(metrics["loss"]) == pytest.approx(total, rel=1e-5)
    chosen = chosen_measures(parts)
    assert set(chosen) == {"psnr", "dists", "lpips_vgg", "spectral_excess"}
    eval_step = jax.jit(make_eval_step(parts.model, parts.stage.reconstruct, chosen))
    batch = {"image": batch["image"], "weight": np.ones(small.BATCH, np.float32)}
    sums, _ = eval_step(after.params, batch, networks.load(parts.networks))
    means = averages(jax.device_get(sums))
    assert {name for name in means if "/" not in name} == set(chosen)
    assert means["dists"] == pytest.approx((means["dists/latent"] + means["dists/codebook"]) / 2)
    assert 0.05 < means["dists"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_accumulated_parts_give_the_state_of_the_whole_batch(stage):
    _, _, whole, metrics = _stepped(stage)
    _, _, parts, part_metrics = _stepped(stage, accumulate=2)
    assert small.largest_difference(whole.params, parts.params) < 1e-6
    assert small.largest_difference(whole.code_use, parts.code_use) < 1e-6
    for name, value in metrics.items():
        assert float(part_metrics[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


@pytest.mark.slow
def test_the_discriminator_waits_for_its_start():
    config = small.config(1, adversarial__weight=0.5, adversarial__start=1)
    step = small.jit_train_step(config)
    start = small.state(config)
    first, metrics = step(start, small.batch(), KEY)
    assert float(metrics["discriminator"]) == 0
    assert small.largest_difference(first.discriminator, start.discriminator) == 0
    second, metrics = step(first, small.batch(), KEY)
    assert float(metrics["discriminator"]) > 0
    assert 0 < float(metrics["adaptive_weight"]) <= 1
    assert small.largest_difference(second.discriminator.params, first.discriminator.params) > 0
    stats = second.discriminator.batch_stats
    assert small.largest_difference(stats, first.discriminator.batch_stats) > 0


@pytest.mark.slow
def test_the_adversarial_loss_moves_the_generator():
    plain = _stepped(1)[2]
    config = small.config(1, adversarial__weight=0.5, optimizer__eps=EPS)
    step = small.jit_train_step(config)
    judged, _ = step(small.state(config), small.batch(), KEY)
    one, other = (select(state.params, "vqvae/generator") for state in (plain, judged))
    assert small.largest_difference(one, other) > 0


def test_the_average_lags_behind_the_parameters():
    config, before, after, _ = _stepped(1)
    decay = min(config["ema"], 1 / 10)  # the warm-up's decay at step 0
    for path, average in after.ema.items():
        start, now = (select(state.params, "")[path] for state in (before, after))
        np.testing.assert_allclose(average, decay * start + (1 - decay) * now, atol=1e-7)


def test_rates_and_codebook_shares_depend_on_the_slot_alone():
    turns = Turns(batch=8, rate_points=4, quantised_share=0.25, kmeans_step=0)
    slots = np.arange(8, dtype=np.int32)
    whole = turns.draw(5, KEY, slots)
    part = turns.draw(5, KEY, slots[3:5])
    assert whole.rate.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert whole.quantised.sum() == 2
    assert part.rate.tolist() == [3, 0]
    assert (jax.random.key_data(part.keys) == jax.random.key_data(whole.keys)[3:5]).all()
    late = dataclasses.replace(turns, kmeans_step=9)
    assert not late.draw(8, KEY, slots).quantised.any()
    assert late.draw(9, KEY, slots).quantised.any()


def test_a_batch_smaller_than_the_rate_points_reaches_them_all_in_turn():
    turns = Turns(batch=2, rate_points=4, quantised_share=0.25, kmeans_step=0)
    steps = [turns.draw(step, KEY, np.arange(2, dtype=np.int32)) for step in range(4)]
    assert [samples.rate.tolist() for samples in steps] == [[0, 1], [2, 3]] * 2
    assert sum(int(samples.quantised.sum()) for samples in steps) == 2


@pytest.mark.parametrize("stage", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_step_gives_a_state_of_the_types_that_it_took(stage):
    """Weak types too, or else the second step would be compiled anew."""
    parts = small.parts(small.config(stage, adversarial__weight=0.5 * (stage != 2)))
    before, batch = parts.abstract_state(), small.batch()
    step = make_train_step(parts)
    after, _ = jax.eval_shape(step, before, batch, KEY, networks.load(parts.networks))
    types = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state)
        for state in (before, after)
    ]
    assert types[0] == types[1]


@pytest.mark.slow
def test_two_steps_are_one_program():
    config = small.config(2, model__entropy__context="none", model__code_predictor=None)
    config["losses"] |= {"code_prediction": 0.0, "pixel_code_prediction": 0.0}
    parts = small.parts(config)
    step = jax.jit(chex.assert_max_traces(make_train_step(parts), n=1))
    state = small.state(config)
    for seed in (0, 1):
        state, _ = step(state, small.batch(seed), KEY, networks.load(parts.networks))
    assert int(state.step) == 2
