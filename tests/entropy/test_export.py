"""Export beyond GLC's own groups: vectors in several groups, shared arrays, counts over batches."""

import json
from types import SimpleNamespace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import export, families
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.groups import Block, EntropyModel, Group, Latent
from glc_jax.entropy.integer import HostFloat64

SIZE = 4
CODEBOOK = jnp.asarray(np.random.default_rng(0).normal(size=(SIZE, 3)), jnp.float32)
KERNEL = jnp.asarray(np.random.default_rng(1).normal(size=(3, SIZE)), jnp.float32)


class Found(NamedTuple):
    indices: object
    quantized: object


class Vectors:
    """A codebook, and logits of an index from the neighbour to the left, by one kernel for all.

    They read the index's own place too, which is 0 as long as it is not decoded.
    """

    def quantise(self, values):
        distance = jnp.sum((values[..., None, :] - CODEBOOK) ** 2, axis=-1)
        indices = jnp.argmin(distance, axis=-1).astype(jnp.int32)
        return Found(indices, self.embed(indices))

    def embed(self, indices):
        return CODEBOOK[indices]

    def parameters(self, step, *reads):
        if not reads:
            return {}
        left = jnp.pad(reads[0], ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
        return {"logits": (2 * left + 3 * reads[0]) @ KERNEL}


PARTS = SimpleNamespace(v=Vectors())
HALVES = [(Block(columns=(number, 2)),) for number in (0, 1)]
MODEL = EntropyModel(
    (Latent("k", "v", "h, w", vectors=True),),
    (
        Group("k/0", "k", HALVES[0], families.Categorical(SIZE), "v", counted=True),
        Group("k/1", "k", HALVES[1], families.CategoricalLogits(SIZE), "v", 1, ("k",)),
    ),
    {},
)


def samples(*seeds):
    draws = [np.random.default_rng(seed).normal(size=(2, 4, 6, 3)) for seed in seeds]
    return [{"k": jnp.asarray(draw, jnp.float32)} for draw in draws]


def exported(model=MODEL, seeds=(0, 1)):
    def apply(variables, function, *arrays):
        return function(PARTS, *arrays)

    return export.export(model, apply, {}, samples(*seeds), kernel_bits=16)


@pytest.fixture(scope="module")
def tree():
    return exported()


def test_a_group_reads_what_came_before_and_nothing_else(tree):
    """In training the vectors not decoded yet are 0, and so they are in the program."""
    exact = ExactModel(tree, HostFloat64())
    indices = np.asarray(Vectors().quantise(samples(5)[0]["k"]).indices)
    coded = exact.encode({"k": indices})
    logits = coded.groups[1].parameters["logits"] * 2.0 ** -np.asarray(
        exact.groups[1].exponents["logits"]
    )
    left = np.asarray(CODEBOOK)[indices[:, :, 0::2]]
    np.testing.assert_allclose(logits, ((2 * left) @ KERNEL).reshape(logits.shape), atol=2e-3)
    payload, options = exact.write(coded, 1)
    read = exact.decode(payload, options, 4, 6)
    np.testing.assert_array_equal(read.symbols["k"][0], indices[1])


def test_indices_are_counted_over_all_batches(tree):
    counts = sum(
        np.bincount(np.asarray(Vectors().quantise(one["k"]).indices).reshape(-1), minlength=SIZE)
        for one in samples(0, 1)
    )
    expected = families.Categorical(SIZE).tables(counts=counts)["frequencies"]
    np.testing.assert_array_equal(tree["tables"]["0"]["frequencies"], expected)


def test_what_several_programs_use_is_stored_once():
    third = [(Block(columns=(number, 3)),) for number in range(3)]
    logits = families.CategoricalLogits(SIZE)
    groups = (
        Group("k/0", "k", third[0], families.Categorical(SIZE), "v"),
        Group("k/1", "k", third[1], logits, "v", 1, ("k",)),
        Group("k/2", "k", third[2], logits, "v", 2, ("k",)),
    )
    found = exported(EntropyModel(MODEL.latents, groups, {}))
    codebooks = [a for a in found["arrays"].values() if a.shape == (SIZE, 3)]
    kernels = [a for a in found["arrays"].values() if a.shape == (3, SIZE)]
    assert (len(codebooks), len(kernels)) == (1, 1)
    assert len(found["programs"]) == 2
    names = [entry["name"] for entry in json.loads(found["model"].tobytes())["groups"]]
    assert names == ["k/0", "k/1", "k/2"]


def test_what_picks_tables_has_one_exponent_in_all_groups_of_a_latent():
    """That of the largest, so that the programs of a latent's groups are alike."""

    class Growing(Vectors):
        def parameters(self, step, *reads):
            found = super().parameters(step, *reads)
            return {name: 20.0**step * value for name, value in found.items()}

    third = [(Block(columns=(number, 3)),) for number in range(3)]
    logits = families.CategoricalLogits(SIZE)
    first = Group("k/0", "k", third[0], families.Categorical(SIZE), "v")
    groups = [Group(f"k/{i}", "k", third[i], logits, "v", i, ("k",)) for i in (1, 2)]
    model = EntropyModel(MODEL.latents, (first, *groups), {})
    parts = SimpleNamespace(v=Growing())
    tree = export.export(model, lambda _, f, *a: f(parts, *a), {}, samples(0, 1))
    one, other = (group.exponents["logits"] for group in ExactModel(tree, HostFloat64()).groups[1:])
    assert one == other
