"""A run that is killed again and again ends as one that was not; see `kills`."""

import chex
import pytest
from etils import epath

from tests.training import kills, small

KILLS = 2  # twenty of them, by hand: python -m tests.training.kills 20 --bucket


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def whole(place):
    return kills.prepare(place, kills.STEPS_A_KILL * (KILLS + 1))


def check(place, whole, workdir) -> None:
    result = kills.killed_run(KILLS, place, workdir)
    assert result.kills == KILLS
    chex.assert_trees_all_equal(small.saved_state(workdir), whole)


@pytest.mark.slow
def test_a_killed_run_in_a_folder_ends_as_a_whole_one(place, whole, tmp_path):
    check(place, whole, epath.Path(tmp_path))


@pytest.mark.slow
def test_a_killed_run_in_a_bucket_ends_as_a_whole_one(place, whole, bucket_place):
    check(place, whole, bucket_place / "killed")
