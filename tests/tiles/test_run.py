"""E and G by tiles give what they give over the whole picture, whatever is kept and however cut."""

import jax
import numpy as np
import pytest

from glc_jax import engines
from glc_jax.models.pixels import to_model_range, to_pixels
from glc_jax.tiles import plan
from glc_jax.tiles.maps import Memory, Picture, Pixels, Strips
from glc_jax.tiles.run import run
from tests import small_model
from tests.tiles.networks import network, whole

# Float noise of another order of summation; values reach about 5.
NOISE = 2e-5

# Neither side a multiple of a tile or of a window of attention (16, at half resolution).
HEIGHT, WIDTH = 76, 104

MEMORY = Memory()


def plan_of(kind: str, work: float) -> plan.Plan:
    """The plan of most work up to this, for a picture that is worth planning."""
    found = [p for p in plan.plans(network(kind)[2], 4096, 4096) if p.work <= work]
    return found[-1]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of 16 x 16 and 32 x 32, so that these pictures have many."""
    monkeypatch.setattr(plan, "TILE_VALUES", 8 * 32 * 32)


def encoded(
    chosen: plan.Plan, picture: np.ndarray, height: int, width: int, engine=None
) -> np.ndarray:
    _, params, chain = network("E")
    latent = Strips(height // 2, width // 2, 4, MEMORY)
    source = Pixels(picture, height, width)
    run(chain, chosen, params, source, latent, MEMORY, engine=engine)
    return latent.window(0, 0, height // 2, width // 2)


def generated(
    chosen: plan.Plan, latent: np.ndarray, height: int, width: int, engine=None
) -> np.ndarray:
    _, params, chain = network("G")
    source, picture = Strips(*latent.shape[1:], MEMORY), Picture(height, width)
    source.write(0, 0, latent[0])
    run(chain, chosen, params, source, picture, MEMORY, to_pixels, engine)
    return picture.pixels


@pytest.mark.parametrize("work", [1, 1.5, 2])
def test_encoder(work):
    chosen = plan_of("E", work)
    picture = small_model.picture(HEIGHT - 3, WIDTH - 7)
    padded = np.pad(picture, ((0, 3), (0, 7), (0, 0)), mode="edge")
    expected = np.asarray(whole("E")(to_model_range(padded[None])))
    np.testing.assert_allclose(encoded(chosen, picture, HEIGHT, WIDTH), expected, atol=NOISE)


@pytest.mark.parametrize("work", [1, 1.5, 2])
def test_generator_differs_by_one_level_at_most(work):
    chosen = plan_of("G", work)
    shape = (1, HEIGHT // 2, WIDTH // 2, 4)
    latent = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    expected = np.asarray(to_pixels(whole("G")(latent)))[0, : HEIGHT - 3, : WIDTH - 7]
    found = generated(chosen, latent, HEIGHT - 3, WIDTH - 7)
    difference = np.abs(found.astype(int) - expected)
    assert expected.std() > 20
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


class Counting(engines.OnXLA):
    """Notes the programs that it is asked for."""

    def __init__(self):
        super().__init__()
        self.programs = set()

    def run(self, function, fixed, params, *arrays):
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(arrays)]
        self.programs.add((function, fixed, *shapes))
        return super().run(function, fixed, params, *arrays)


def test_many_sizes_share_few_programs():
    chosen, engine = plan_of("E", 1), Counting()

    def programs(height: int, width: int) -> int:
        """Those so far, this size's included."""
        encoded(chosen, small_model.picture(height, width), height, width, engine)
        return len(engine.programs)

    first = programs(128, 128)
    assert first >= len(set(network("E")[2].stages)) // 2
    for size in [(192, 128), (128, 256), (256, 192), (320, 384)]:
        assert programs(*size) == first
