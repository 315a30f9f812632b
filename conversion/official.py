"""The official checkpoint's names and array layouts, beside this project's.

Read the tables with GLC.md's layer list or the public PyTorch code at hand: each row is (official
name, our name, what lies below). Where a row names several of ours, the official tensor is packed:
they are equal parts of it along its first axis. Rows for layers that a model lacks (a 1x1 shortcut
where the channel count stays) fall out by themselves, because the model's own parameter tree
decides what exists; `parameter_entries` makes sure that each parameter has exactly one row.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class Layout(NamedTuple):
    """How an official array becomes ours and back; `official_shape` takes our shape."""

    ours: Callable[[np.ndarray], np.ndarray]
    official: Callable[[np.ndarray], np.ndarray]
    official_shape: Callable[[tuple[int, ...]], tuple[int, ...]]


SAME = Layout(lambda a: a, lambda a: a, lambda s: s)
# [out, in, height, width] <-> [height, width, in, out]
CONV = Layout(
    lambda a: a.transpose(2, 3, 1, 0),
    lambda a: a.transpose(3, 2, 0, 1),
    lambda s: (s[3], s[2], s[0], s[1]),
)
# [out, in, 1, 1] <-> [in, out]
CONV_1X1 = Layout(
    lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None], lambda s: (s[1], s[0], 1, 1)
)
# [out, in] <-> [in, out]
LINEAR = Layout(lambda a: a.T, lambda a: a.T, lambda s: s[::-1])
# [channels, 1, height, width] <-> [height, width, channels]
DEPTHWISE = Layout(
    lambda a: a[:, 0].transpose(1, 2, 0),
    lambda a: a.transpose(2, 0, 1)[:, None],
    lambda s: (s[2], 1, s[0], s[1]),
)
# [points, channels, 1, 1] <-> [points, channels]
RATE_SCALE = Layout(lambda a: a[:, :, 0, 0], lambda a: a[:, :, None, None], lambda s: (*s, 1, 1))

Row = tuple[str, str | tuple[str, ...], "Layout | list[Row]"]

# ---- Layers

BIAS = ("bias", "bias", SAME)
conv: list[Row] = [("weight", "kernel", CONV), BIAS]
conv_1x1: list[Row] = [("weight", "kernel", CONV_1X1), BIAS]
linear: list[Row] = [("weight", "kernel", LINEAR), BIAS]
depthwise: list[Row] = [("weight", "kernel", DEPTHWISE), BIAS]
norm: list[Row] = [("weight", "scale", SAME), BIAS]
codebook: list[Row] = [("embedding.weight", "codebook", SAME)]

# ---- Blocks of the VQ-VAE

resample: list[Row] = [("conv", "conv", conv)]
residual: list[Row] = [
    ("norm1", "norm_1", norm),
    ("conv1", "conv_1", conv),
    ("norm2", "norm_2", norm),
    ("conv2", "conv_2", conv),
    ("conv_out", "shortcut", conv_1x1),
]
attention: list[Row] = [
    ("norm", "norm", norm),
    ("q", "q", conv_1x1),
    ("k", "k", conv_1x1),
    ("v", "v", conv_1x1),
    ("proj_out", "out", conv_1x1),
]

# ---- Blocks of the transform coding

feed_forward: list[Row] = [
    ("conv", "conv_in", conv_1x1),
    ("conv_out", "conv_out", conv_1x1),
]
depth_conv_block: list[Row] = [  # DepthConvBlock
    ("block.0.conv1.0", "depth_conv/conv_in", conv_1x1),
    ("block.0.depth_conv", "depth_conv/depthwise", depthwise),
    ("block.0.conv2", "depth_conv/conv_out", conv_1x1),
    ("block.0.adaptor", "depth_conv/adaptor", conv_1x1),
    ("block.1", "ffn", feed_forward),
]
gated_depth_conv_block: list[Row] = [  # DepthConvBlock2
    ("block.0.conv1.0", "depth_conv/conv_a", conv_1x1),
    ("block.0.conv1.2", "depth_conv/depthwise", depthwise),
    ("block.0.conv2", "depth_conv/conv_b", conv_1x1),
    ("block.0.out_conv", "depth_conv/conv_out", conv_1x1),
    ("block.1", "ffn", feed_forward),
]
residual_upsample: list[Row] = [
    ("subpel_conv.0", "subpixel", conv_1x1),
    ("conv", "conv", conv),
    ("upsample.0", "shortcut", conv_1x1),
]

# ---- Code prediction

transformer_layer: list[Row] = [
    ("norm1", "norm_1", norm),
    ("self_attn.in_proj_weight", ("q/kernel", "k/kernel", "v/kernel"), LINEAR),
    ("self_attn.in_proj_bias", ("q/bias", "k/bias", "v/bias"), SAME),
    ("self_attn.out_proj", "out", linear),
    ("norm2", "norm_2", norm),
    ("linear1", "mlp_in", linear),
    ("linear2", "mlp_out", linear),
]


def code_predictor(layers: int) -> list[Row]:
    """The transformer with `layers` layers."""
    return [
        ("position_emb", "positions", SAME),
        ("feat_emb", "embed", linear),
        *((f"ft_layers.{i}", f"layer_{i}", transformer_layer) for i in range(layers)),
        ("idx_pred_layer.0", "norm_out", norm),
        ("idx_pred_layer.1", "predict", linear),
    ]


# ---- The VQ-VAE: its layers are numbered in the order in which they run


def encoder_sequence(vqvae: Mapping[str, Any]) -> Iterator[Row]:
    """The layers of E in order, as (kind, our name, rows); `vqvae` is the config's section."""
    last = len(vqvae["multipliers"]) - 1
    yield "conv", "conv_in", conv
    for level, blocks in enumerate(vqvae["encoder_blocks"]):
        for i in range(blocks):
            yield "residual", f"level_{level}_block_{i}", residual
            if level == last:
                yield "attention", f"level_{level}_attention_{i}", attention
        if level != last:
            yield "down", f"down_{level}", resample
    yield from _middle()
    yield from _output(vqvae)


def generator_sequence(vqvae: Mapping[str, Any]) -> Iterator[Row]:
    """The layers of G in order, as for E."""
    last = len(vqvae["multipliers"]) - 1
    yield "conv", "conv_in", conv
    yield from _middle()
    for level in reversed(range(last + 1)):
        for i in range(vqvae["generator_blocks"][level]):
            yield "residual", f"level_{level}_block_{i}", residual
            if level == last:
                yield "attention", f"level_{level}_attention_{i}", attention
        if level != 0:
            yield "up", f"up_{level}", resample
    yield from _output(vqvae)


def _middle() -> Iterator[Row]:
    yield "residual", "middle_block_0", residual
    yield "attention", "middle_attention", attention
    yield "residual", "middle_block_1", residual


def _output(vqvae: Mapping[str, Any]) -> Iterator[Row]:
    yield "norm", "norm_out", norm
    if vqvae["output_swish"]:
        yield "swish", "", []  # has a number, but no parameters
    yield "conv", "conv_out", conv


def vqvae(config: Mapping[str, Any]) -> list[Row]:
    """The VQ-VAE alone; `config` is the section `vqvae` of a model config."""

    def numbered(sequence: Iterator[Row]) -> list[Row]:
        return [(f"blocks.{i}", ours, rows) for i, (_, ours, rows) in enumerate(sequence)]

    return [
        ("encoder", "encoder", numbered(encoder_sequence(config))),
        ("encoder.quant_conv", "encoder/latent_conv", conv_1x1),
        ("generator.post_quant_conv", "generator/latent_conv", conv_1x1),
        ("generator", "generator", numbered(generator_sequence(config))),
        ("quantize", "quantizer", codebook),
    ]


# ---- GLC


def glc(config: Mapping[str, Any]) -> list[Row]:
    """The whole of GLC; `config` is a model config (configs/natural.py)."""
    predictor = config["code_predictor"]
    predictor_rows = code_predictor(predictor["layers"]) if predictor else []
    return [
        ("q_enc", "g_a/rate_scale", RATE_SCALE),
        ("q_dec", "g_s/rate_scale", RATE_SCALE),
        ("enc.enc_1.0", "g_a/before_0", gated_depth_conv_block),
        ("enc.enc_1.1", "g_a/before_1", gated_depth_conv_block),
        ("enc.enc_2.0", "g_a/after_0", gated_depth_conv_block),
        ("enc.enc_2.1", "g_a/after_1", gated_depth_conv_block),
        ("hyper_enc.0", "hyperprior/h_a/block", depth_conv_block),
        ("hyper_enc.1", "hyperprior/h_a/down_0", conv),
        ("hyper_enc.3", "hyperprior/h_a/down_1", conv),
        ("hyper_dec.0", "hyperprior/h_s/up_0", residual_upsample),
        ("hyper_dec.1", "hyperprior/h_s/up_1", residual_upsample),
        ("hyper_dec.2", "hyperprior/h_s/block", depth_conv_block),
        ("y_prior_fusion.0", "hyperprior/fusion/block_0", depth_conv_block),
        ("y_prior_fusion.1", "hyperprior/fusion/block_1", depth_conv_block),
        ("y_spatial_prior_reduction", "context/reduction", conv_1x1),
        ("y_spatial_prior_adaptor_1", "context/adaptor_1", depth_conv_block),
        ("y_spatial_prior_adaptor_2", "context/adaptor_2", depth_conv_block),
        ("y_spatial_prior_adaptor_3", "context/adaptor_3", depth_conv_block),
        ("y_spatial_prior.0", "context/prior_0", depth_conv_block),
        ("y_spatial_prior.1", "context/prior_1", depth_conv_block),
        ("y_spatial_prior.2", "context/prior_2", depth_conv_block),
        ("dec.dec_1.0", "g_s/before_0", gated_depth_conv_block),
        ("dec.dec_1.1", "g_s/before_1", gated_depth_conv_block),
        ("dec.dec_2.0", "g_s/after_0", gated_depth_conv_block),
        ("dec.dec_2.1", "g_s/after_1", gated_depth_conv_block),
        ("vqgan", "vqvae", vqvae(config["vqvae"])),
        ("code_pred_loss", "code_predictor", predictor_rows),
        ("code_pred_pix_loss", "pixel_code_predictor", predictor_rows),
        ("z_vq", "hyperprior/quantizer", codebook),
    ]


# ---- The discriminator, in the PatchGAN code's numbering: convolution, norm, leaky, ...


def discriminator(layers: int) -> list[Row]:
    """The PatchGAN with `layers` strided layers after the first; ours are two collections."""
    rows: list[Row] = [("main.0", "params/conv_in", conv)]
    for i in range(1, layers + 2):
        position = 3 * i - 1
        rows += [
            (f"main.{position}.weight", f"params/conv_{i}/kernel", CONV),
            (f"main.{position + 1}.weight", f"params/norm_{i}/scale", SAME),
            (f"main.{position + 1}.bias", f"params/norm_{i}/bias", SAME),
            (f"main.{position + 1}.running_mean", f"batch_stats/norm_{i}/mean", SAME),
            (f"main.{position + 1}.running_var", f"batch_stats/norm_{i}/var", SAME),
        ]
    return [*rows, (f"main.{3 * layers + 5}", "params/conv_out", conv)]


# ---- From tables to entries


class Entry(NamedTuple):
    """One official tensor: its name and shape, and the parameters of ours that it becomes.

    The official array is cut in as many equal parts along its first axis as there are parameters;
    `layout` turns each part into one of them.
    """

    official: str
    shape: tuple[int, ...]
    ours: tuple[str, ...]
    layout: Layout

    def to_ours(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Our parameters, as views of `array` [self.shape]."""
        parts = np.split(array, len(self.ours)) if len(self.ours) > 1 else [array]
        return {name: self.layout.ours(part) for name, part in zip(self.ours, parts, strict=True)}

    def to_official(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """The official array, from our parameters by name."""
        parts = [self.layout.official(parameters[name]) for name in self.ours]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


def entries(
    rows: list[Row], shapes: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> list[Entry]:
    """One entry for each official tensor of the model whose parameters have these `shapes`.

    `shapes` maps "/"-joined names to shapes; our names in the entries get `prefix`. Raises
    ValueError if the rows do not give each parameter exactly once, which means that tables and
    model have come apart.
    """
    result = []
    for official, ours, layout in _leaves(rows, "", ""):
        if all(name in shapes for name in ours):
            first, *rest = layout.official_shape(shapes[ours[0]])
            names = tuple(prefix + name for name in ours)
            result.append(Entry(official, (first * len(ours), *rest), names, layout))
    mapped = sorted(name for entry in result for name in entry.ours)
    expected = sorted(prefix + name for name in shapes)
    if mapped != expected:
        different = sorted(set(mapped) ^ set(expected)) or "one is mapped twice"
        raise ValueError(f"the tables do not match the model: {different}")
    return result


def _leaves(
    rows: list[Row], official: str, ours: str
) -> Iterator[tuple[str, tuple[str, ...], Layout]]:
    for their_name, our_name, below in rows:
        if isinstance(below, Layout):
            names = our_name if isinstance(our_name, tuple) else (our_name,)
            yield official + their_name, tuple(ours + name for name in names), below
        else:
            yield from _leaves(below, f"{official}{their_name}.", f"{ours}{our_name}/")
