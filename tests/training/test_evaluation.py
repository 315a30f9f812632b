"""What is measured of held-out pictures."""

import numpy as np

from glc_jax.training.evaluation import averages, make_eval_step
from glc_jax.training.measures import MEASURES
from glc_jax.training.pictures import to_float
from tests.training import small


def test_what_fills_up_a_batch_counts_for_nothing():
    images = small.batch(size=3)["image"]
    noise = np.float32([[0], [64 / 127.5], [0]]).reshape(3, 1, 1, 1)

    def reconstruct(model, variables, images):
        return {"toy": (to_float(images) + noise, None)}

    step = make_eval_step(None, reconstruct, {"psnr": MEASURES["psnr"]})
    weight = np.float32([0, 1, 0])  # the others come out as they were, with a PSNR of infinity
    sums, _ = step({}, {"image": images, "weight": weight}, {})
    difference = np.minimum(images[1].astype(float) + 64, 255) - images[1]
    expected = 10 * np.log10(255**2 / np.mean(np.square(difference)))
    np.testing.assert_allclose(averages(sums)["psnr"], expected, rtol=1e-6)
