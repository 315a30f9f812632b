"""Writes data/torch_references.npz: what the usual PyTorch packages give for seeded inputs.

Not run by the tests, which need no PyTorch. To make the file anew, in an environment of its own:
    pip install . torch torchvision torch-fidelity torchmetrics pytorch-msssim
    python tests/metrics/make_references.py
The values in the repository came from torch 2.13.0, torch-fidelity 0.4.0, torchmetrics 1.9.0 and
pytorch-msssim 1.0.0 on a CPU.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from seeded import feature_sets, inception_images, inception_state, odd_sized_images


def inception_features() -> dict[str, np.ndarray]:
    import torch
    import torch_fidelity.feature_extractor_inceptionv3 as fidelity

    class Extractor(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            """Replaces the downloaded weights by the seeded ones."""
            seeded = {name: torch.from_numpy(value) for name, value in inception_state().items()}
            torch.nn.Module.load_state_dict(self, seeded, strict=False)

    fidelity.load_state_dict_from_url = lambda *args, **kwargs: None
    network = Extractor("seeded", ["2048"])
    found = {}
    for name, images in inception_images().items():
        with torch.no_grad():
            features = network(torch.from_numpy(images).permute(0, 3, 1, 2))[0]
        found[f"inception_{name}"] = features[:, ::32].numpy()
    return found


def distances() -> dict[str, np.ndarray]:
    import torch
    from pytorch_msssim import ms_ssim
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = (torch.from_numpy(features) for features in feature_sets())
    x, y = (torch.from_numpy(image).permute(0, 3, 1, 2) for image in odd_sized_images())
    fid = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    size = min(len(a), len(b))
    return {
        "fid": fid.numpy(),
        "squared_mmd": poly_mmd(a[:size], b[:size]).numpy(),
        "ms_ssim_odd": ms_ssim(x, y, data_range=1.0, size_average=False).numpy(),
    }


if __name__ == "__main__":
    path = pathlib.Path(__file__).parent / "data" / "torch_references.npz"
    np.savez(path, **inception_features(), **distances())
