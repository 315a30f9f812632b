"""What the makers say that their chips can do: the measure of what a step uses of it."""

from typing import NamedTuple


class Chip(NamedTuple):
    """flops: bfloat16 operations a second. memory: bytes. link: bytes a second that one chip sends
    to the others of its slice, over all its links, in one direction."""

    flops: float
    memory: float
    link: float


# By the name that JAX gives a device (`device_kind`). TPUs: cloud.google.com/tpu/docs, the pages
# "TPU v4" (275 TFLOPS, 32 GiB, 2,400 Gbit/s), "TPU v5e" (197, 16, 1,600), "TPU v5p" (459, 95,
# 4,800) and "TPU v6e" (918, 32, 3,200); the interconnect there is both directions of all links.
# GPUs: NVIDIA's data sheets of A100 and H100 SXM, dense operations, NVLink in both directions.
_GBIT = 1e9 / 8 / 2  # of a published sum of both directions, bytes a second in one
CHIPS = {
    "TPU v4": Chip(275e12, 32 * 2**30, 2400 * _GBIT),
    "TPU v5 lite": Chip(197e12, 16 * 2**30, 1600 * _GBIT),
    "TPU v5": Chip(459e12, 95 * 2**30, 4800 * _GBIT),
    "TPU v6 lite": Chip(918e12, 32 * 2**30, 3200 * _GBIT),
    "NVIDIA A100-SXM4-40GB": Chip(312e12, 40e9, 300e9),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 80e9, 300e9),
    "NVIDIA H100 80GB HBM3": Chip(989e12, 80e9, 450e9),
    "NVIDIA H200": Chip(989e12, 141e9, 450e9),
}


def chip(kind: str) -> Chip | None:
    """The figures of a device kind; None where they are not known, as for CPUs."""
    return CHIPS.get(kind)
