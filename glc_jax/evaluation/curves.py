"""Rate-distortion plots: one PNG for each metric."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glc_jax.evaluation import published
from glc_jax.evaluation.quality import METRICS

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_PUBLISHED_MARKERS = {"GLC": "o", "MS-ILLM": "s", "HiFiC": "^", "FCC": "D"}
_DOTS_PER_INCH = 160


def plot(
    metric: str,
    rows: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    title: str,
    dataset: str | None = None,
) -> bytes | None:
    """The PNG of one metric over real bpp; None when no row has the metric.

    rows: the averages of results.json; labels: method -> its name for a reader. Where a method
    has an estimated rate, that curve is dashed. `dataset` is the name of the published curves to
    add, in grey.
    """
    figure = Figure(figsize=(6.4, 4.4), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    shown = METRICS[metric]
    for curve in published.curves(dataset) if dataset else ():
        if curve.metric == shown.published:
            marker = _PUBLISHED_MARKERS.get(curve.method, "x")
            axes.plot(
                *(curve.bpp, curve.value),
                color="#8a8a8a",
                linestyle=":",
                marker=marker,
                markersize=4,
                label=f"{curve.method}, published",
            )
    drawn = [
        _draw(axes, [row for row in rows if row["method"] == method], metric, label, colour)
        for (method, label), colour in zip(labels.items(), _cycle(len(labels)), strict=True)
    ]
    if not any(drawn):
        return None
    unit = f" ({shown.unit})" if shown.unit else ""
    axes.set(xlabel="bits per pixel, of the files", ylabel=shown.label + unit)
    axes.set_title(title, loc="left")
    axes.set_xlim(left=0)
    better = "up" if shown.higher_is_better else "down"
    axes.set_title(f"better: {better} and left", loc="right", fontsize=8, color="#666666")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(
    axes: Axes, rows: Sequence[Mapping[str, Any]], metric: str, label: str, colour: str
) -> bool:
    points = sorted((row["bpp"], row[metric]) for row in rows if row[metric] is not None)
    if not points:
        return False
    axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=5, label=label)
    estimated = sorted(
        (row["bpp_estimated"], row[metric])
        for row in rows
        if row[metric] is not None and row["bpp_estimated"] is not None
    )
    if estimated:
        axes.plot(
            *zip(*estimated, strict=True),
            color=colour,
            linestyle="--",
            linewidth=1,
            alpha=0.6,
            label=f"{label}, estimated rate",
        )
    return True


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
