"""The blocks of E and G, each a chain of steps.

A block is called with a whole map. It can also be run step by step on windows of a map that is too
large to handle at once (`glc_jax.tiles`): a `Step` says how far it sees and what it must be told
of the rest of the map. `__call__` walks the same steps, so there is one description of each block.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.models import layers
from glc_jax.models.given import Conv, Dense, Given

NORM_EPSILON = 1e-6

# GroupNorm hides how bright and how colourful a picture is from every residual branch; only the
# path past the branches carries it. That path therefore keeps its scale at the start of training
# and the branches begin near zero: with PyTorch's default, colours take many times the steps.
PATH_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
BRANCH_OUT_INIT = nn.initializers.variance_scaling(1 / 300, "fan_in", "truncated_normal")

conv1x1 = functools.partial(layers.conv1x1, init=PATH_INIT)
conv3x3 = functools.partial(layers.conv3x3, init=PATH_INIT)


class Step(NamedTuple):
    """One method of a module, as it acts on the maps that the step before left.

    A step gets one map, x, or two, x and the branch h beside it, and gives one or two.

    Attributes:
      method: its name.
      halo: how many rows and columns beyond a position it reads, on every side, of the last map.
        Beyond the picture it must find zeros.
      norm: it takes, as `moments`, those of the last map over the whole picture.
      window: it works within squares of this side, cut from the picture's top left corner, and
        takes, as `inside`, which positions lie in the picture; 0: it does not.
      up, down: the factors by which its result is larger or smaller than what it gets. One that
        makes smaller reads a row and a column beyond the last, below and to the right.
      maps: how many it gives.
      features: the last map that it gives has as many channels as the module's field `features`
        says; otherwise as many as the last that it gets.
    """

    method: str = "__call__"
    halo: int = 0
    norm: bool = False
    window: int = 0
    up: int = 1
    down: int = 1
    maps: int = 1
    features: bool = False


class Part(NamedTuple):
    """A module in the chain of a network: its name among the parameters, type, fields, steps."""

    name: str
    kind: type[nn.Module]
    fields: dict[str, Any]
    steps: tuple[Step, ...]

    def make(self, **more: Any) -> nn.Module:
        """The module."""
        return self.kind(**self.fields, **more)


class Moments(NamedTuple):
    """Mean and variance of each norm group over a whole map, each [B, groups]."""

    mean: jax.Array
    variance: jax.Array


class GroupNorm(Given, nn.Module):
    """GroupNorm (Wu and He 2018) over the whole image, with scale and bias, then an activation.

    [B, H, W, C] -> [B, H, W, C]. Where `x` is a window of a map, `moments` are those of the map;
    None: computed from `x`.
    """

    groups: int
    activation: Callable[[jax.Array], jax.Array] | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, moments: Moments | None = None) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        dtype = nn.dtypes.canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        if moments is None:
            h = group_norm(x, *(one.reshape(self.groups, -1) for one in (scale, bias)))
        else:
            h = _normalised(x, scale, bias, moments)
        h = jnp.asarray(h, dtype)
        return self.activation(h) if self.activation else h


@jax.jit
def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """GroupNorm of a whole map: [B, H, W, C], twice [groups, C / groups] -> [B, H, W, C]."""
    moments = moments_of(x, len(scale))
    return _normalised(x, scale.reshape(-1), bias.reshape(-1), moments)


def _normalised(x: jax.Array, scale: jax.Array, bias: jax.Array, moments: Moments) -> jax.Array:
    channels = x.shape[-1]
    mean, variance = (
        jnp.repeat(moment, channels // moment.shape[-1], axis=1)[:, None, None, :]
        for moment in moments
    )
    factor = jax.lax.rsqrt(variance + NORM_EPSILON) * scale
    return (x - mean) * factor + bias


def moments_of(x: jax.Array, groups: int) -> Moments:
    """Those of a whole map [B, H, W, C]."""
    b, h, w, c = x.shape
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    x = x.reshape(b, h, w, groups, c // groups)
    mean = x.mean((1, 2, 4))
    return Moments(mean, ((x - mean[:, None, None, :, None]) ** 2).mean((1, 2, 4)))


class ResidualBlock(nn.Module):
    """norm, swish, 3x3, norm, swish, 3x3, plus the input: [B, H, W, C] -> [B, H, W, features]."""

    features: int
    norm_groups: int
    dtype: Any = None

    STEPS: ClassVar = (
        Step("activate_1", norm=True, maps=2),
        Step("convolve_1", halo=1, maps=2, features=True),
        Step("activate_2", norm=True, maps=2),
        Step("convolve_2", halo=1, features=True),
    )

    def setup(self):
        norm = functools.partial(GroupNorm, self.norm_groups, nn.swish, self.dtype)
        self.norm_1, self.norm_2 = norm(), norm()
        self.conv_1 = conv3x3(self.features, self.dtype, None)
        self.conv_2 = conv3x3(self.features, self.dtype, None, init=BRANCH_OUT_INIT)
        self.shortcut = conv1x1(self.features, self.dtype, None)

    def activate_1(self, x: jax.Array, moments: Moments | None = None) -> tuple:
        return x, self.norm_1(x, moments)

    def convolve_1(self, x: jax.Array, h: jax.Array) -> tuple:
        return x, self.conv_1(h)

    def activate_2(self, x: jax.Array, h: jax.Array, moments: Moments | None = None) -> tuple:
        return x, self.norm_2(h, moments)

    def convolve_2(self, x: jax.Array, h: jax.Array) -> jax.Array:
        h = self.conv_2(h)
        return h + (x if x.shape[-1] == self.features else self.shortcut(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.convolve_2(*self.activate_2(*self.convolve_1(*self.activate_1(x))))


class Downsample(nn.Module):
    """Zero-pads one row below and one column right, then 3x3 of stride 2."""

    dtype: Any = None

    STEPS: ClassVar = (Step(down=2),)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = ((0, 1), (0, 1))
        conv = Conv(
            x.shape[-1],
            (3, 3),
            strides=2,
            padding=padding,
            kernel_init=PATH_INIT,
            dtype=self.dtype,
            name="conv",
        )
        return conv(x)


class Upsample(nn.Module):
    """Nearest neighbour x2, then 3x3."""

    dtype: Any = None

    STEPS: ClassVar = (Step(halo=1, up=2),)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return layers.DoubledConv3x3(PATH_INIT, self.dtype, name="conv")(x)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """softmax(q k^T * c^-0.5) v over all positions of a map: three [B, H, W, C] -> [B, H, W, C].

    inside: bool [B, H, W], the positions that are attended to; None: all. Where none is inside,
    the result is of no meaning, and finite.
    """
    b, h, w, c = q.shape
    q, k, v = (t.reshape(b, h * w, c) for t in (q, k, v))
    logits = (jnp.einsum("bic,bjc->bij", q, k) * c**-0.5).astype(jnp.float32)
    if inside is not None:
        logits = jnp.where(inside.reshape(b, 1, h * w), logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bij,bjc->bic", weights, v).reshape(b, h, w, c)


def attend_in_windows(
    q: jax.Array, k: jax.Array, v: jax.Array, window: int, inside: jax.Array | None = None
) -> jax.Array:
    """`attend` within non-overlapping windows, cut from the top left; the last ones are smaller.

    inside: bool [B, H, W], as in `attend`.
    """
    b, h, w, _ = q.shape
    full_h, full_w = h - h % window, w - w % window

    def tile(y0: int, y1: int, x0: int, x1: int, wh: int, ww: int) -> jax.Array:
        """Attention in the windows [wh, ww] that tile the rectangle [y0:y1, x0:x1]."""
        rows, columns = (y1 - y0) // wh, (x1 - x0) // ww

        def split(t):
            rest = t.shape[3:]
            t = t[:, y0:y1, x0:x1].reshape(b, rows, wh, columns, ww, *rest)
            return t.swapaxes(2, 3).reshape(b * rows * columns, wh, ww, *rest)

        out = attend(split(q), split(k), split(v), None if inside is None else split(inside))
        out = out.reshape(b, rows, columns, wh, ww, -1).swapaxes(2, 3)
        return out.reshape(b, y1 - y0, x1 - x0, -1)

    y_spans = [(0, full_h, window), (full_h, h, h - full_h)]
    x_spans = [(0, full_w, window), (full_w, w, w - full_w)]
    strips = []
    for y0, y1, wh in y_spans:
        if y1 > y0:
            row = [tile(y0, y1, x0, x1, wh, ww) for x0, x1, ww in x_spans if x1 > x0]
            strips.append(jnp.concatenate(row, axis=2))
    return jnp.concatenate(strips, axis=1)


class AttentionBlock(nn.Module):
    """One-head self-attention, residual: [B, H, W, C] -> [B, H, W, C].

    With `train` it attends over the whole map; otherwise within `window` x `window` windows,
    which is what the published decoder does.
    """

    norm_groups: int
    window: int = 32
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        moments: Moments | None = None,
        inside: jax.Array | None = None,
    ) -> jax.Array:
        channels = x.shape[-1]
        h = GroupNorm(self.norm_groups, None, self.dtype, name="norm")(x, moments)
        q, k, v = (conv1x1(channels, self.dtype, name)(h) for name in ("q", "k", "v"))
        h = attend(q, k, v) if train else attend_in_windows(q, k, v, self.window, inside)
        return x + conv1x1(channels, self.dtype, "out", init=BRANCH_OUT_INIT)(h)


class Parts:
    """Makes the parts of a network whose fields are those of `Encoder` and `Generator`."""

    def __init__(self, norm_groups: int, window: int, dtype: Any) -> None:
        self.norm_groups, self.window, self.dtype = norm_groups, window, dtype

    def conv1x1(self, name: str, features: int) -> Part:
        fields = {"features": features, "dtype": self.dtype, "kernel_init": PATH_INIT}
        return Part(name, Dense, fields, (Step(features=True),))

    def conv3x3(self, name: str, features: int) -> Part:
        fields = {"features": features, "kernel_size": (3, 3), "padding": ((1, 1), (1, 1))}
        fields |= {"dtype": self.dtype, "kernel_init": PATH_INIT}
        return Part(name, Conv, fields, (Step(halo=1, features=True),))

    def norm(self, name: str, swish: bool) -> Part:
        fields = {"groups": self.norm_groups, "activation": nn.swish if swish else None}
        return Part(name, GroupNorm, fields | {"dtype": self.dtype}, (Step(norm=True),))

    def residual(self, name: str, features: int) -> Part:
        fields = {"features": features, "norm_groups": self.norm_groups, "dtype": self.dtype}
        return Part(name, ResidualBlock, fields, ResidualBlock.STEPS)

    def attention(self, name: str) -> Part:
        fields = {"norm_groups": self.norm_groups, "window": self.window, "dtype": self.dtype}
        return Part(name, AttentionBlock, fields, (Step(norm=True, window=self.window),))

    def down(self, name: str) -> Part:
        return Part(name, Downsample, {"dtype": self.dtype}, Downsample.STEPS)

    def up(self, name: str) -> Part:
        return Part(name, Upsample, {"dtype": self.dtype}, Upsample.STEPS)


def run_parts(parts: Sequence[Part], x: jax.Array, train: bool, remat: bool) -> jax.Array:
    """The chain over a whole map, within the compact method of the module that owns the parts.

    With `remat` the gradient computes the blocks' insides again instead of keeping them.
    """
    for part in parts:
        kind = part.kind
        if remat and kind in (ResidualBlock, AttentionBlock, Downsample, Upsample):
            kind = nn.remat(kind, static_argnums=(2,) if kind is AttentionBlock else ())
        module = kind(**part.fields, name=part.name)
        x = module(x, train) if part.kind is AttentionBlock else module(x)
    return x
