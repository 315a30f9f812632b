"""The networks of weights files of version 1, from docs/format.md's appendix: NumPy int64.

It shares no code with glc_jax. `MODEL` is the entropy model that such files do not spell out.
"""

from collections.abc import Mapping

import numpy as np

MEMBERS = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]]
CLAMP = 32639

Tensors = Mapping[str, np.ndarray]


def model(codebook_size: int, channels: int, exponent: int) -> dict:
    """What newer weights files have as "entropy/model"."""
    z = {"name": "z", "shape": ["h", "w"], "indices": True, "exponent": 0, "unit": None}
    y = {
        "name": "y",
        "shape": ["4*h", "4*w", channels],
        "indices": False,
        "exponent": exponent,
        "unit": "quant_step",
    }
    first = {
        "latent": "z",
        "blocks": [[0, 1, 0, 1, 0, 0]],
        "family": {"name": "categorical", "fields": {"size": codebook_size}},
        "centre": None,
        "program": None,
        "reads": [],
    }
    quarter = channels // 4
    steps = [
        {
            "latent": "y",
            "blocks": [
                [m // 2, 2, m % 2, 2, g * quarter, (g + 1) * quarter] for g, m in enumerate(members)
            ],
            "family": {"name": "gaussian", "fields": {}},
            "centre": "mean",
            "program": step,
            "reads": ["y", "reduced"] if step else ["z"],
        }
        for step, members in enumerate(MEMBERS)
    ]
    return {"latents": [z, y], "groups": [first, *steps]}


class Networks:
    """The exact networks, one picture [h, w, c] at a time."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.exponent = int(tensors["exact/unit_exponent"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[f"exact/layers/{name}"].astype(np.int64)

    def run(self, step: int, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        """What the program of a step would give, of inputs with b = 1."""
        found = self.first(inputs[0][0]) if step == 0 else self.later(step, *(x[0] for x in inputs))
        return {name: value[None] for name, value in found.items()}

    def first(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        h = self["hyperprior/quantizer/codebook"][indices]
        h = self.upsample("hyperprior/h_s/up_1", self.upsample("hyperprior/h_s/up_0", h))
        h = self.block("hyperprior/h_s/block", h)
        h = self.block("hyperprior/fusion/block_1", self.block("hyperprior/fusion/block_0", h))
        quant_step, scale, mean = np.split(h, 3, axis=-1)
        return {
            "quant_step": np.maximum(quant_step, (1 << self.exponent) // 2),
            "scale": scale,
            "mean": mean,
            "reduced": self.dense("context/reduction", h),
        }

    def later(self, step: int, y: np.ndarray, reduced: np.ndarray) -> dict[str, np.ndarray]:
        context = self.end("context/y_hat", y)
        h = np.concatenate([context, reduced], axis=-1)
        h = self.block(f"context/adaptor_{step}", h)
        for i in range(3):
            h = self.block(f"context/prior_{i}", h)
        scale, mean = np.split(h, 2, axis=-1)
        return {"scale": scale, "mean": mean}

    def block(self, path: str, x: np.ndarray) -> np.ndarray:
        h = leaky(self.dense(f"{path}/depth_conv/conv_in", x), 655)
        h = self.depthwise(f"{path}/depth_conv/depthwise", h)
        if f"exact/layers/{path}/depth_conv/adaptor/kernel" in self.tensors:
            x = self.dense(f"{path}/depth_conv/adaptor", x)
        x = self.dense(f"{path}/depth_conv/conv_out", h, skip=x)
        a, b = np.split(self.dense(f"{path}/ffn/conv_in", x), 2, axis=-1)
        h = self.end(f"{path}/ffn/gate", a * leaky(b, 6554))
        return self.dense(f"{path}/ffn/conv_out", h, skip=x)

    def upsample(self, path: str, x: np.ndarray) -> np.ndarray:
        h = leaky(shuffle(self.dense(f"{path}/subpixel", x)), 655)
        h = leaky(self.conv3x3(f"{path}/conv", h), 6554)
        return np.clip(h + shuffle(self.dense(f"{path}/shortcut", x)), -CLAMP, CLAMP)

    def end(self, path: str, total: np.ndarray, skip: np.ndarray | None = None) -> np.ndarray:
        total = total + self[f"{path}/bias"]
        if skip is not None:
            total = total + (skip << self[f"{path}/skip_shift"])
        return np.clip(total >> self[f"{path}/shift"], -CLAMP, CLAMP)

    def dense(self, path: str, x: np.ndarray, skip: np.ndarray | None = None) -> np.ndarray:
        return self.end(path, np.einsum("hwi,io->hwo", x, self[f"{path}/kernel"]), skip)

    def conv3x3(self, path: str, x: np.ndarray) -> np.ndarray:
        kernel, total = self[f"{path}/kernel"], 0
        for row, column, window in windows(x):
            total = total + np.einsum("hwi,io->hwo", window, kernel[row, column])
        return self.end(path, total)

    def depthwise(self, path: str, x: np.ndarray) -> np.ndarray:
        kernel = self[f"{path}/kernel"]
        return self.end(path, sum(window * kernel[r, c] for r, c, window in windows(x)))


def windows(x: np.ndarray):
    """(row, column, x as that member of every 3x3 window sees it)."""
    height, width, channels = x.shape
    padded = np.zeros((height + 2, width + 2, channels), np.int64)
    padded[1:-1, 1:-1] = x
    for row in range(3):
        for column in range(3):
            yield row, column, padded[row : row + height, column : column + width]


def leaky(x: np.ndarray, slope: int) -> np.ndarray:
    return np.maximum(x, (x * slope + 2**15) >> 16)


def shuffle(x: np.ndarray) -> np.ndarray:
    height, width, channels = x.shape
    out = np.zeros((2 * height, 2 * width, channels // 4), np.int64)
    for dy in range(2):
        for dx in range(2):
            out[dy::2, dx::2] = x[..., 2 * dy + dx :: 4]
    return out
