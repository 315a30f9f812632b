"""What a weights file says in JSON comes back as what was exported."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import export, families
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.groups import Block, EntropyModel, Group, Latent
from glc_jax.entropy.integer import NumPy


class Parts:
    """A latent with fixed parameters, in two groups of two blocks each."""

    def __init__(self, family):
        self.family, self.y = family, self

    def parameters(self, step, y):
        ones = jnp.ones_like(y)
        given = self.family.start()
        wide = [jnp.tile(jnp.asarray(given[name]), 4) for name in self.family.parameters]
        return {
            name: jnp.repeat(ones, self.family.width(name), axis=-1) * value + 0.1 * step
            for name, value in zip(self.family.parameters, wide, strict=True)
        }


def groups_of(family):
    def at(step, rows):
        blocks = (Block(rows, channels=(0, 2)), Block((1 - rows[0], 2), channels=(2, 4)))
        return Group(f"y/{step}", "y", blocks, family, "y", step, ("y",))

    return at(0, (0, 2)), at(1, (1, 2))


def test_a_mixture_has_a_table_for_every_element_of_several_blocks():
    family = families.Mixture(3)
    model = EntropyModel((Latent("y", "y", "2*h, w, 4"),), groups_of(family))
    y = np.random.default_rng(0).normal(0, 1.5, (2, 4, 3, 4)).astype(np.float32)
    tree = export.export(model, lambda v, f, *a: f(Parts(family), *a), {}, [{"y": y}])
    exact = ExactModel(tree, NumPy())
    coded = exact.encode({"y": y})
    payload, options = exact.write(coded, 1)
    read = exact.decode(payload, options, 2, 3)
    np.testing.assert_array_equal(read.symbols["y"][0], np.rint(y[1]))


@pytest.mark.parametrize("made", [families.DeepFactorized((3, 2)), families.FourierBasis(4)])
def test_a_family_s_fields_come_back_from_json(made):
    fields = json.loads(json.dumps(dataclasses.asdict(made)))
    again = families.from_file()(families.name_of(made), **fields)
    assert again == made
    assert hash(again) == hash(made)
