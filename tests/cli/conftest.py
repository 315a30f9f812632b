"""The folder in which the command line's tests run."""

import numpy as np
import pytest

from glc_jax import companions, weights
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


@pytest.fixture
def companion(here, monkeypatch):
    """Packs companions of the model, or of a stranger's: `companion("restorer", base=None)`."""
    packaged = {}
    monkeypatch.setattr(weights, "packaged", lambda: packaged)
    own = weights.load(weights.resolve())

    def save(kind, base=own, name=None):
        name = name or f"stand-in-{kind}"
        path = here.parent / f"{name}.safetensors"
        params = {"kernel": np.ones(3, np.float32)}
        companions.save(path, kind, name, params, base, {"of": "a test"})
        packaged[name] = path
        return path

    return save
