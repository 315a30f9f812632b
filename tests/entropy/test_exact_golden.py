"""What exactness costs with the official layout, on the golden files (GLC.md)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import weights
from glc_jax.entropy import export
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.models import glc
from tests import official_weights

PARTS = ("hyper_dec", "z_vq", "y_prior_fusion", "y_spatial_prior")


@pytest.mark.slow
@pytest.mark.parametrize(("kernel_bits", "others"), [(16, 0.002), (8, 0.01)])
def test_bits_are_within_a_quarter_percent_of_the_published_estimate(
    reference, kernel_bits, others
):
    """Programs and tables together. others: symbols where a mean lies on the other side."""
    leaves = {}
    for entry in official_weights.entries():
        if entry.official.startswith(PARTS):
            leaves |= entry.to_ours(official_weights.tensor(0, entry.official, entry.shape))
    golden = {name: np.load(reference / f"golden_{name}.npz") for name in "ab"}
    samples = {
        name: {part: file[part].transpose(1, 2, 0)[None] for part in ("z", "y")}
        for name, file in golden.items()
    }
    variables = {"params": jax.tree.map(jnp.asarray, weights.unflatten(leaves)["params"])}
    model = glc.build({**official_weights.MODEL, "code_predictor": None})
    tree = export.export(
        model.entropy_model(), model.run, variables, list(samples.values()), kernel_bits
    )
    exact = ExactModel(tree)
    for name, file in golden.items():
        coded = exact.encode({"z": file["z_indices"][None], "y": samples[name]["y"]})
        bits = sum(b for group, b in exact.bits(coded).items() if group.startswith("y/"))
        assert bits / float(file["bit_y"]) < 1.0025
        assert np.mean(coded.symbols["y"][0].transpose(2, 0, 1) != file["y_q"]) < others
