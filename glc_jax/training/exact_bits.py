"""The evaluator that holds estimate and files together: exact bits beside the estimate."""

import functools
import logging
from typing import Any

import jax
import numpy as np

from glc_jax import weights
from glc_jax.entropy import export, families
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.integer import NumPy
from glc_jax.errors import GLCError
from glc_jax.models import glc
from glc_jax.models.pixels import to_model_range
from glc_jax.training import sharding
from glc_jax.training.boards import Boards
from glc_jax.training.evaluation import first_crops

logger = logging.getLogger(__name__)


class ExactBits:
    """What a file would spend: held-out crops coded in integers, beside the float estimate.

    The averaged parameters are exported as for a weights file, calibrated on every other crop of
    the first `PICTURES` at each rate, kernels in 16 bits; the rest is counted: in NumPy, since
    every evaluation has new programs, which would have to be compiled. Where the entropy model has
    no exact form, a warning says why. Made from an `evaluators.Place`.
    """

    PICTURES = 8

    def __init__(self, place: Any):
        self.mesh, config = place.mesh, place.parts.config
        self.transforms = "bpp" in place.parts.stage.gives  # else there is nothing to code
        self.points = config.model["rate_points"]
        fields = config.eval
        used = first_crops(place.held_out, fields.crop, self.PICTURES)
        self.calibration, self.counted = used[::2], used[1::2] if len(used) > 1 else used
        self.model = glc.build({**config.model, **dict.fromkeys(weights.TRAINING_PARTS)})
        self.analyse = jax.jit(self._analyse)
        self.counts = jax.jit(functools.partial(self.model.apply, method="counted"))

    def __call__(self, params: Any, step: int, board: Boards) -> dict[str, float]:
        if not self.transforms:
            return {}
        try:
            return self._measured(params)
        except GLCError as error:
            logger.warning("Step %d: files of this model cannot be written: %s", step, error)
            return {}

    def _measured(self, params: Any) -> dict[str, float]:
        everywhere = jax.jit(lambda p: p, out_shardings=sharding.replicated(self.mesh))(params)
        variables = {"params": _on_host(everywhere)}
        seen = [self._targets(variables, self.calibration, point) for point in range(self.points)]
        entropy_model = self.model.entropy_model()
        tree = export.export(entropy_model, self.model.run, variables, seen, kernel_bits=16)
        exact = ExactModel(tree, NumPy(), families.from_file(export.modules(entropy_model)))
        spent, expected = {}, {}
        for point in range(self.points):
            targets = self._targets(variables, self.counted, point)
            to_code, bits = jax.device_get(self.counts(variables, targets))
            coded = exact.encode(to_code)
            for picture in range(len(self.counted)):
                for group, value in exact.bits(coded, picture).items():
                    spent[group] = spent.get(group, 0.0) + value
            for group, value in bits.items():
                expected[group] = expected.get(group, 0.0) + float(value.sum())
        crop = self.counted.shape[1] * self.counted.shape[2]
        pixels = crop * len(self.counted) * self.points
        of_y = {group.name for group in entropy_model.of("y")}
        sums = [sum(v for n, v in found.items() if n in of_y) for found in (spent, expected)]
        return {
            "exact/bpp": sum(spent.values()) / pixels,
            "exact/bpp_estimate": sum(expected.values()) / pixels,
            "exact/y_over_estimate": sums[0] / max(sums[1], 1e-9) - 1,
        }

    def _targets(self, variables: Any, images: np.ndarray, point: int) -> dict[str, np.ndarray]:
        rate = np.full(len(images), point, np.float32)
        return jax.device_get(self.analyse(variables, images, rate))

    def _analyse(self, variables: Any, images: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        latent = self.model.apply(variables, to_model_range(images), method="encode")
        return self.model.apply(variables, latent, rate, method="targets")


def _on_host(params: Any) -> dict[str, Any]:
    used = {name: part for name, part in params.items() if name not in weights.TRAINING_PARTS}
    return jax.device_get(used)
