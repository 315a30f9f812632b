"""The rate-distortion curves of the GLC paper, for comparison.

data/published_rd.csv: read off the plots of Jia et al., "Generative latent coding for ultra-low
bitrate image compression", CVPR 2024 (arXiv 2512.20194), for GLC, MS-ILLM, HiFiC and FCC. Rates
are the paper's, so for GLC they are estimates and not files.
"""

import collections
import csv
import importlib.resources
from typing import NamedTuple

SOURCE = "read off the plots of Jia et al., CVPR 2024 (arXiv 2512.20194)"


class Curve(NamedTuple):
    """One method's points in one plot, by rising rate; bpp and the metric's own unit."""

    method: str
    metric: str
    bpp: list[float]
    value: list[float]


def curves(dataset: str) -> list[Curve]:
    """The curves for "Kodak", "CLIC 2020" or "DIV2K"; metrics named PSNR, MS-SSIM, LPIPS, DISTS,
    FID, KID as in the paper."""
    path = importlib.resources.files("glc_jax.evaluation") / "data" / "published_rd.csv"
    points = collections.defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["dataset"] == dataset:
                point = float(row["bpp"]), float(row["value"])
                points[row["method"], row["metric"]].append(point)
    return [
        Curve(method, metric, *(list(column) for column in zip(*sorted(found), strict=True)))
        for (method, metric), found in points.items()
    ]
