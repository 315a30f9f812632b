"""Unwrapping what released checkpoints are wrapped in, and matching tensors with a table."""

import numpy as np
import pytest

from conversion import checkpoint, official
from glc_jax.errors import WeightsError
from tests.conversion import micro

STATE = {"a.weight": np.zeros((2, 3), np.float32), "a.bias": np.ones(2, np.float32)}
ENTRIES = [
    official.Entry("a.weight", (2, 3), ("params/a/kernel",), official.LINEAR),
    official.Entry("a.bias", (2,), ("params/a/bias",), official.SAME),
]


@pytest.mark.parametrize("route", micro.ROUTES, ids="_".join)
def test_every_nesting_saved_by_torch(route):
    unwrapped = checkpoint.unwrap(checkpoint.read(micro.nesting_file(route)))
    (found,) = unwrapped.found
    assert found.route == route
    assert unwrapped.aside == []
    expected = micro.short_state()
    assert found.state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.state[name], array)


def test_the_averaged_weights_of_stage_one_are_preferred_and_the_others_named():
    other = {"b.weight": np.zeros(1, np.float32)}
    unwrapped = checkpoint.unwrap({"params": other, "params_ema": STATE, "iteration": 5})
    assert unwrapped.found == [checkpoint.Found(("params_ema",), STATE)]
    assert unwrapped.aside == ["params (1 tensors)", "iteration (int)"]


def test_a_discriminator_beside_the_generator_and_alone():
    other = {"module.main.0.weight": np.zeros(1, np.float32)}
    unwrapped = checkpoint.unwrap({"net": {"params": STATE, "params_d": other}})
    stripped = {"main.0.weight": other["module.main.0.weight"]}
    assert unwrapped.found == [
        checkpoint.Found(("net", "params_d", "module."), stripped),
        checkpoint.Found(("net", "params"), STATE),
    ]
    alone = checkpoint.unwrap({"params_d": other})
    assert alone.found == [checkpoint.Found(("params_d", "module."), stripped)]


def test_nothing_is_dropped_silently():
    optimizer = {"state": {0: {"exp_avg": STATE["a.bias"]}}, "groups": [STATE["a.bias"]]}
    unwrapped = checkpoint.unwrap({"state_dict": {**STATE, "note": "x"}, "optimizer": optimizer})
    assert unwrapped.aside == ["optimizer (2 tensors)", "state_dict.note (str)"]


def test_lists_that_share_their_items_are_visited_once():
    nested = [STATE["a.bias"]]
    for _ in range(31):
        nested = [nested, nested]
    unwrapped = checkpoint.unwrap({"state_dict": STATE, "optimizer": nested})
    assert unwrapped.aside == ["optimizer (1 tensors)"]


def test_a_prefix_that_only_some_names_carry_stays():
    state = {"module.a": np.zeros(1), "b": np.zeros(1)}
    assert checkpoint.unwrap(state).found == [checkpoint.Found((), state)]


@pytest.mark.parametrize("value", [{}, [], 3, None, {"epoch": 3}, {"state_dict": {"epoch": 3}}])
def test_no_state_dict(value):
    with pytest.raises(WeightsError, match="there is no state dict under"):
        checkpoint.unwrap(value)


def test_a_nesting_without_end():
    endless = {"epoch": 1}
    endless["state_dict"] = endless
    with pytest.raises(WeightsError, match="has no end"):
        checkpoint.unwrap(endless)


def test_matching_gives_views_by_our_names():
    parameters = checkpoint.match(STATE, ENTRIES)
    assert set(parameters) == {"params/a/kernel", "params/a/bias"}
    assert np.shares_memory(parameters["params/a/kernel"], STATE["a.weight"])
    assert parameters["params/a/kernel"].shape == (3, 2)


def test_every_problem_is_listed():
    state = {
        "a.weight": np.zeros((3, 2), np.float32),
        "c.weight": np.zeros(7, np.float32),
        "d.weight": np.zeros(1, np.float32),
    }
    with pytest.raises(WeightsError) as caught:
        checkpoint.match(state, ENTRIES)
    assert str(caught.value).splitlines()[1:] == [
        "  wrong shape: a.weight is [3, 2], not [2, 3]",
        "  missing: a.bias [2]",
        "  unknown: c.weight [7]",
        "  unknown: d.weight [1]",
    ]


def test_integers_are_no_weights():
    with pytest.raises(WeightsError, match=r"wrong type: a\.bias is int64"):
        checkpoint.match({**STATE, "a.bias": np.ones(2, np.int64)}, ENTRIES)
