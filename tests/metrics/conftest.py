import pathlib

import numpy as np
import pytest


@pytest.fixture(scope="session")
def torch_references():
    """Values of the PyTorch packages for the inputs of seeded.py; see make_references.py."""
    return np.load(pathlib.Path(__file__).parent / "data" / "torch_references.npz")


@pytest.fixture(scope="session")
def golden(reference):
    """Two pairs of pictures with their values from the PyTorch packages."""
    return np.load(reference / "golden_metrics.npz")
