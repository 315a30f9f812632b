"""Names of the networks behind the metrics: torchvision's AlexNet and VGG16, LPIPS's heads.

The tables are read as in `official`. The classifiers are not needed: LPIPS and DISTS read only
convolutions.
"""

from glc_jax.metrics.features import alexnet, vgg16

from .official import Layout, Row, conv

# [1, channels, 1, 1] <-> [channels]
HEAD = Layout(lambda a: a[0, :, 0, 0], lambda a: a[None, :, None, None], lambda s: (1, *s, 1, 1))

# Positions of the convolutions among torchvision's `features`.
ALEXNET_POSITIONS = (0, 3, 6, 8, 10)
VGG16_POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
ALEXNET_KERNELS = (11, 5, 3, 3, 3)
VGG16_WIDTHS = tuple(
    c for c, block in zip(vgg16.CHANNELS, vgg16.BLOCKS, strict=True) for _ in block
)

Shapes = dict[str, tuple[int, ...]]


def _convolutions(
    positions: tuple[int, ...], kernels: tuple[int, ...], widths: tuple[int, ...]
) -> tuple[list[Row], Shapes]:
    rows = [(f"features.{p}", f"features/conv_{i}", conv) for i, p in enumerate(positions)]
    shapes: Shapes = {}
    for i, (kernel, inputs, outputs) in enumerate(
        zip(kernels, (3, *widths[:-1]), widths, strict=True)
    ):
        shapes[f"features/conv_{i}/kernel"] = (kernel, kernel, inputs, outputs)
        shapes[f"features/conv_{i}/bias"] = (outputs,)
    return rows, shapes


def alexnet_table() -> tuple[list[Row], Shapes]:
    """torchvision's AlexNet: rows, and the shapes of our arrays."""
    return _convolutions(ALEXNET_POSITIONS, ALEXNET_KERNELS, alexnet.CHANNELS)


def vgg16_table() -> tuple[list[Row], Shapes]:
    """torchvision's VGG16 without batch normalisation."""
    return _convolutions(VGG16_POSITIONS, (3,) * len(VGG16_WIDTHS), VGG16_WIDTHS)


def lpips_table(widths: tuple[int, ...]) -> tuple[list[Row], Shapes]:
    """LPIPS's linear heads (lin0 .. lin4) over features of these widths."""
    rows: list[Row] = [
        (f"lin{i}.model.1.weight", f"heads/head_{i}", HEAD) for i in range(len(widths))
    ]
    return rows, {f"heads/head_{i}": (width,) for i, width in enumerate(widths)}
