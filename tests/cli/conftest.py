"""The folder in which the command line's tests run."""

import numpy as np
import pytest

from glc_jax import weights
from glc_jax.cli import process
from tests.cli.stand_in import StandIn


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, a weights file that GLC_WEIGHTS names, and the stand-in."""
    model = tmp_path / "model.safetensors"
    weights.save(
        model,
        {"params": {"kernel": np.zeros((2, 3), np.float32)}},
        {
            "name": "stand-in",
            "model": {"vqvae": {"multipliers": [1] * 5}, "hyper_codebook_size": 1024},
        },
        {"trained on": "nothing at all"},
    )
    monkeypatch.setenv(weights.VARIABLE, str(model))
    monkeypatch.setattr(process, "load_codec", StandIn)
    monkeypatch.setattr(process, "signals", [])
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
