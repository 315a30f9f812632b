"""Networks that `exact.compile` has not been written for: what a researcher might try.

`THEMES` names groups of functions x -> array of one picture's features [b, h, w, 8] (or integers
[b, h, w]); a theme is compiled as one function, an output each.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

CHANNELS = 8


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Random weights of a layer's usual size."""
    scale = 1 / np.sqrt(np.prod(shape[:-1]))
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


D = weights(CHANNELS, CHANNELS)
E = weights(CHANNELS, CHANNELS, seed=1)


def module(made: nn.Module):
    """The function of a Flax module with random parameters."""
    variables = made.init(jax.random.key(0), jnp.zeros((1, 4, 6, CHANNELS)))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32), variables
    )
    return lambda x: made.apply(variables, x)


def _flat(x):
    return x.reshape(x.shape[0], -1, CHANNELS)


def _nearest(x):
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def _pixel_shuffle(x):
    b, h, w, _ = x.shape
    parts = x.reshape(b, h, w, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(b, 2 * h, 2 * w, 2)


def _heads(x):
    return x.reshape(*x.shape[:3], 2, 4)


def _conv_nchw(x):
    return lax.conv_general_dilated(jnp.moveaxis(x, -1, 1), weights(5, 8, 3, 3), (1, 1), "SAME")


def _conv_of_a_line(x):
    numbers = ("NHC", "HIO", "NHC")
    return lax.conv_general_dilated(
        _flat(x), weights(3, 8, 5), (1,), "SAME", dimension_numbers=numbers
    )


def _residual(x):
    return functools.reduce(
        lambda a, i: a + jax.nn.gelu(a @ weights(8, 8, seed=i)) @ weights(8, 8, seed=i + 10),
        range(3),
        x,
    )


def _functions():
    """Functions of one value, behind a layer and before another."""
    of_jax = ["silu", "relu", "relu6", "leaky_relu", "hard_swish", "hard_tanh", "elu", "mish"]
    of_jax += ["sigmoid", "softplus", "soft_sign"]
    of_numpy = ["tanh", "exp", "abs", "square", "sign", "round", "floor", "sin"]
    names = {
        "gelu_exact": functools.partial(jax.nn.gelu, approximate=False),
        "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
        **{name: getattr(jax.nn, name) for name in of_jax},
        **{name: getattr(jnp, name) for name in of_numpy},
        "cube": lambda x: x**3,
        "log": lambda x: jnp.log(jnp.abs(x) + 0.1),
        "power": lambda x: (jnp.abs(x) + 0.1) ** 1.7,
    }
    return {name: (lambda x, f=f: f(x @ D) @ E) for name, f in names.items()}


PICTURES = {
    "functions": _functions,
    "norms": lambda: {
        "layer": module(nn.Sequential([nn.Dense(8), nn.LayerNorm(), nn.Dense(8)])),
        "rms": module(nn.Sequential([nn.Dense(8), nn.RMSNorm()])),
        "group": module(nn.Sequential([nn.Conv(8, (3, 3)), nn.GroupNorm(4), nn.Dense(8)])),
        "batch": module(nn.Sequential([nn.Dense(8), nn.BatchNorm(use_running_average=True)])),
        "standardize": lambda x: jax.nn.standardize(x @ D),
        "unit": lambda x: x / (1e-6 + jnp.linalg.norm(x, axis=-1, keepdims=True)),
        "gdn": lambda x: x * lax.rsqrt(jnp.square(x) @ jnp.abs(D) + 0.1),
        "igdn": lambda x: x * jnp.sqrt(jnp.square(x) @ jnp.abs(D) + 0.1),
        "gdn1": lambda x: x / (1 + jnp.abs(x) @ jnp.abs(D)),
    },
    "convolutions": lambda: {
        "plain": module(nn.Conv(12, (3, 3))),
        "stride": module(nn.Conv(12, (3, 3), (2, 2), padding=((1, 1), (1, 1)))),
        "stride_same": module(nn.Conv(12, (3, 3), (2, 2))),
        "valid": module(nn.Conv(12, (3, 3), padding="VALID")),
        "uneven": module(nn.Conv(12, (3, 2), padding=((2, 0), (1, 1)))),
        "dilation": module(nn.Conv(12, (3, 3), kernel_dilation=(2, 2))),
        "groups": module(nn.Conv(8, (3, 3), feature_group_count=4)),
        "depthwise": module(nn.Conv(8, (3, 3), feature_group_count=8)),
        "multiplier": module(nn.Conv(16, (3, 3), feature_group_count=8)),
        "transposed": module(nn.ConvTranspose(8, (4, 4), (2, 2))),
        "input_dilation": module(
            nn.Conv(8, (3, 3), padding=((2, 2), (2, 2)), input_dilation=(2, 2))
        ),
        "nchw": _conv_nchw,
        "line": _conv_of_a_line,
        "average_pool": lambda x: nn.avg_pool(x[:, :4, :4], (2, 2), (2, 2)),
        "max_pool": lambda x: nn.max_pool(x[:, :4, :4], (2, 2), (2, 2)),
        "sparse_box": lambda x: lax.reduce_window(
            *(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID"), window_dilation=(1, 2, 3, 1)
        ),
        "box": lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"),
    },
    "attention": lambda: {
        "all_positions": module(
            nn.Sequential([_flat, nn.MultiHeadDotProductAttention(num_heads=2)])
        ),
        "softmax": lambda x: jax.nn.softmax(x @ D),
        "by_hand": lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
        "causal": lambda x: jax.nn.softmax(
            jnp.where(np.tril(np.ones((8, 8), bool)), x[..., None] * x[..., None, :], -30.0)
        ),
        "log_softmax": jax.nn.log_softmax,
    },
    "shapes": lambda: {
        "repeat": lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2),
        "nearest": _nearest,
        "pixel_shuffle": _pixel_shuffle,
        "strided": lambda x: x[:, ::2, 1:],
        "strided_twice": lambda x: x[:, 1::2, ::2, 2:6],
        "first": lambda x: x[:, 0],
        "last": lambda x: x[:, -1],
        "new_axis": lambda x: x[..., None, :] * jnp.ones((2, 1)),
        "differences": lambda x: x[:, :-1] - x[:, 1:],
        "every_other_channel": lambda x: x[..., np.array([0, 2, 4])],
        "some_channels": lambda x: x[..., np.array([3, 1, 1])],
        "taken": lambda x: jnp.take(x, np.array([3, 1]), axis=-1),
        "reversed": lambda x: x[..., ::-1] @ D,
        "rolled": lambda x: jnp.roll(x, 1, axis=1),
        "padded": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
        "padded_by_edges": lambda x: jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge"),
        "concatenated": lambda x: jnp.concatenate([x @ D, 30 * x[..., :3]], -1) @ weights(11, 4),
        "stacked": lambda x: jnp.stack([x, 2 * x], 1),
        "tiled": lambda x: jnp.tile(x, (1, 2, 1, 1)),
        "padded_with_ones": lambda x: jnp.pad(
            x, ((0, 0), (1, 1), (0, 0), (0, 0)), constant_values=1.0
        ),
        "split": lambda x: jnp.split(x, 2, -1)[0] * jax.nn.sigmoid(jnp.split(x, 2, -1)[1]),
        "swapped": lambda x: jnp.swapaxes(x, 1, 2),
        "moved": lambda x: jnp.moveaxis(x @ D, -1, 1) * 3,
    },
    "products": lambda: {
        "outer": lambda x: jnp.einsum("bhwc,bhwd->bhwcd", x, x @ D),
        "transposed": lambda x: jnp.einsum("bhwc,dc->bdhw", x, D),
        "swapped": lambda x: jnp.einsum("cd,bhwc->bhwd", D, x),
        "inner": lambda x: jnp.einsum("bhwc,bhwc->bhw", x, x @ D),
        "whole": lambda x: jnp.einsum("bhwc,bhwc->b", x, x),
        "heads": lambda x: jnp.einsum("bhwnd,bhwmd->bhwnm", _heads(x), _heads(x)),
        "heads_out": lambda x: jnp.einsum("bhwnd,ndo->bhwo", _heads(x), weights(2, 4, 5)),
        "head_each": lambda x: jnp.einsum("bhwnd,nde->bhwne", _heads(x), weights(2, 4, 5)),
        "general": module(nn.DenseGeneral((2, 4))),
        "vector": lambda x: jnp.dot(x, D[:, 0]),
        "tensor": lambda x: jnp.tensordot(x, weights(8, 3, 2), 1),
        "chain": lambda x: x @ D @ E @ D @ E,
        "residual": _residual,
        "vmap": jax.vmap(lambda a: a @ D),
        "jit": jax.jit(lambda a: jax.nn.relu(a @ D)),
        "remat": jax.checkpoint(lambda a: jax.nn.relu(a @ D)),
    },
    "reductions": lambda: {
        "mean_of_picture": lambda x: x.mean(axis=(1, 2), keepdims=True) + x,
        "max_of_picture": lambda x: x.max(axis=(1, 2)),
        "min_of_channels": lambda x: x.min(axis=-1),
        "mean_of_channels": lambda x: jnp.mean(x @ D, -1),
        "variance": lambda x: jnp.var(x, -1),
        "deviation": lambda x: jnp.std(x @ D, -1),
        "variance_of_picture": lambda x: jnp.var(x, (1, 2)),
        "sum": lambda x: x.sum((1, 2)),
        "logsumexp": lambda x: jax.nn.logsumexp(x, axis=-1),
        "any": lambda x: jnp.any(x > 1, -1).astype(jnp.float32),
        "all": lambda x: jnp.all(x > -1, -1).astype(jnp.float32),
        "share": lambda x: (x > 0).astype(jnp.float32).mean(-1),
    },
    "arithmetic": lambda: {
        "where": lambda x: jnp.where(x > 0.3, x, -2 * x),
        "where_of_several": lambda x: jnp.where(x[..., :1] > x[..., 1:2], x, 2.0),
        "logic": lambda x: jnp.where((x > 0) & (x < 1) | ~(x > -1), x, 0.0),
        "clips": lambda x: jnp.clip(x, -1, 0.5) + jnp.minimum(x, 0.1) + jnp.maximum(x, x @ D),
        "clip_beyond": lambda x: jnp.clip(x * 3000, -2500.0, 2500.0),
        "clip_by_channel": lambda x: jnp.clip(x @ D, -(D[0] ** 2), jnp.ones(8)),
        "max_by_channel": lambda x: jnp.maximum(x @ D, D[0]),
        "hypotenuse": lambda x: jnp.hypot(x, 1.0),
        "remainder": lambda x: jnp.mod(jnp.round(4 * x) / 4 + 0.1, 1.0),
        "cleaned": jnp.nan_to_num,
        "one_minus": lambda x: 1 - x,
        "quotient": lambda x: 2 / (3 + jnp.abs(x)),
        "of_values": lambda x: x / (3 + jnp.abs(x @ D) @ jnp.abs(E)),
        "roots": lambda x: jnp.sqrt(jnp.abs(x) + 0.01) + lax.rsqrt(jnp.abs(x @ D) + 0.1),
        "tiny": lambda x: x * 1e-6,
        "huge": lambda x: x * 1e6,
        "nothing": lambda x: x * 0 + 3,
        "far_away": lambda x: x @ D + 1000.0,
        "uneven": lambda x: (x @ D) * np.float32([1e-4, 1, 1e3, 1, 1, 1, 1, 1])[::-1],
        "scalars": lambda x: jnp.float32(2) * x + np.float64(0.5) - True,
        "ramp": lambda x: x + jnp.arange(x.shape[1])[None, :, None, None] / 10,
        "wave": lambda x: x + jnp.sin(jnp.arange(x.shape[1]) * 0.1)[None, :, None, None],
        "by_size": lambda x: x / x.shape[1],
        "low_precision": module(nn.Sequential([nn.Dense(16, dtype=jnp.bfloat16), nn.gelu])),
    },
}
INTEGERS = {
    "one_hot": lambda i: jax.nn.one_hot(i, 8) @ D,
    "one_hot_clipped": lambda i: jax.nn.one_hot(jnp.clip(i, 1, 5) - 1, 8) @ D,
    "indexed": lambda i: jnp.asarray(D)[i],
    "taken": lambda i: jnp.take(jnp.asarray(D), i, axis=0),
    "beside_a_bias": lambda i: i[..., None] * 0.1 + D[0],
    "as_floats": lambda i: i.astype(jnp.float32) * 0.1,
    "remainder": lambda i: jnp.where((i - 3) % 2 == 0, 1.5, 0.25),
    "floor_division": lambda i: ((i - 5) // 2).astype(jnp.float32),
    "quotient": lambda i: i / 3,
}
