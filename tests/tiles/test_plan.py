"""Plans: less memory for more work, tiles of few sizes, and what full-size models would take."""

import functools
import importlib
import itertools

import jax
import jax.numpy as jnp
import pytest

from glc_jax import memory
from glc_jax.autoencoder import COMFORTABLE, LONG, MOST_WORK, choose
from glc_jax.models import glc, sizes
from glc_jax.tiles import plan, stages

SIDES = {12: (3008, 4032), 50: (6016, 8192)}  # megapixels: padded height and width


@functools.cache
def chains(name: str) -> dict[str, tuple[stages.Chain, int]]:
    """E and G of a config, from its parameters' shapes, and what their input is divided by."""
    config = importlib.import_module(f"configs.{name}").model_config()
    model = glc.build(config).vqvae
    f, channels, groups = (
        sizes.downsampling(config),
        config["latent_channels"],
        config["vqvae"]["norm_groups"],
    )
    found = {}
    for kind, network, given, divided in (
        ("E", model.encoder, 3, 1),
        ("G", model.generator, channels, f),
    ):
        x = jax.ShapeDtypeStruct((1, f, f, given), jnp.float32)
        params = jax.eval_shape(network.init, jax.random.key(0), x)["params"]
        found[kind] = stages.chain(network.parts(), given, groups, params), divided
    return found


@pytest.mark.parametrize(("name", "long"), [("tiny", False), ("natural", True)])
@pytest.mark.parametrize(("network", "operation"), [("E", "compress"), ("G", "decompress")])
def test_the_full_size_model_takes_long_and_the_packaged_one_does_not(
    name, long, network, operation
):
    chain, divided = chains(name)[network]
    config = importlib.import_module(f"configs.{name}").model_config()
    needed = memory.needed_bytes(config, 1024, 1024, operation)
    assert (chain.work * (1024 / divided) ** 2 > LONG * needed) == long


@pytest.mark.parametrize("name", ["tiny", "natural"])
@pytest.mark.parametrize("network", ["E", "G"])
def test_each_plan_takes_less_memory_and_more_work(name, network):
    chain, divided = chains(name)[network]
    found = plan.plans(chain, 3008 // divided, 4032 // divided)
    assert found[0].work == 1
    assert [p.bytes for p in found] == sorted({p.bytes for p in found}, reverse=True)
    assert [p.work for p in found] == sorted(p.work for p in found)
    assert found[-1].bytes < 0.2 * found[0].bytes


# What is left of 2, 4 and 10 GB for the maps, beside Python, JAX, weights, the picture and y.
@pytest.mark.parametrize(
    ("name", "megapixels", "most"), [("tiny", 12, 1e9), ("tiny", 50, 2.5e9), ("natural", 12, 7e9)]
)
@pytest.mark.parametrize("network", ["E", "G"])
def test_photographs_fit_without_being_told_to(name, megapixels, most, network):
    chain, divided = chains(name)[network]
    height, width = (side // divided for side in SIDES[megapixels])
    chosen = choose(chain, height, width, limit=None)
    assert chosen.bytes <= most
    assert chosen.work <= MOST_WORK


def test_the_limit_decides_where_it_is_the_tightest():
    chain, _ = chains("natural")["E"]
    free = choose(chain, 3008, 4032, limit=None)
    assert free.bytes > COMFORTABLE
    assert choose(chain, 3008, 4032, limit=free.bytes) == free
    tight = choose(chain, 3008, 4032, limit=free.bytes - 1)
    assert tight.bytes < free.bytes
    assert tight.work > free.work
    assert choose(chain, 3008, 4032, limit=1) == plan.plans(chain, 3008, 4032)[-1]


def test_a_small_picture_keeps_every_map():
    chain, _ = chains("tiny")["E"]
    assert choose(chain, 640, 896, limit=None).work == 1


@pytest.mark.parametrize("network", ["E", "G"])
def test_tiles_hold_whole_windows_of_attention_and_come_in_few_sizes(network):
    chain, divided = chains("natural")[network]
    sizes = set()
    for height in range(64, 4096, 320):
        cuts = plan.plans(chain, height // divided, 2048 // divided)[0].cuts
        for first, last in itertools.pairwise(cuts):
            scale = chain.points[first].scale
            side = height // divided * scale[0] // scale[1]
            rows, _ = plan.tile_shape(chain, first, last, side, side)
            assert rows % stages.alignment(chain.stages[first:last]) == 0
            sizes.add((first, rows))
    assert len(sizes) <= 3 * len(cuts)


def test_margins_grow_with_what_a_piece_sees():
    chain, _ = chains("natural")["E"]
    steps = zip(chain.names, chain.stages, strict=True)
    names = [f"{name}/{stage.step.method}" for name, stage in steps]
    opening = names.index("level_0_block_0/activate_1")
    block = chain.stages[opening : opening + 4]
    assert stages.margin(block[:1]) == 0
    assert stages.margin(block[:2]) == 1
    assert stages.margin(block) == 2
    down = chain.stages[names.index("down_0/__call__")]
    assert stages.margin([*block, down]) == 4  # 2 and 1 beyond, in steps of two positions
    attention = chain.stages[names.index("middle_attention/__call__")]
    assert stages.margin([attention]) == 0
    assert stages.margin([*block, attention]) == attention.step.window
    assert stages.alignment([*block, attention]) == attention.step.window
    assert stages.alignment([down, attention]) == 2 * attention.step.window


def test_work_is_that_of_each_piece_and_once_more_of_what_comes_before_each_norm():
    chain, divided = chains("tiny")["G"]
    found = plan.plans(chain, 3008 // divided, 4032 // divided)

    def work(cuts) -> float:
        total = 0.0
        for first, last in itertools.pairwise(cuts):
            norms = [i for i in range(first + 1, last) if chain.stages[i].step.norm]
            for end in (*norms, last):
                total += sum(chain.points[i + 1].work for i in range(first, end))
        return total

    assert len(found) > 3
    for one in found:
        assert one.work == pytest.approx(work(one.cuts) / work(found[0].cuts))
