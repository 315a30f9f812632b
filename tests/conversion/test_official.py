"""The tables of official names: complete, one to one, and the right layouts."""

import importlib
import json
import math

import numpy as np
import pytest

from conversion import kinds, official
from glc_jax.models import sizes
from tests import official_weights
from tests.conversion import micro


def test_the_table_is_the_official_layout(reference):
    layout = json.loads((reference / "state_dict_layout.json").read_text())
    expected = {name: tuple(shape) for name, shape in layout["tensors"]}
    assert {e.official: e.shape for e in official_weights.entries()} == expected


def test_every_tensor_and_every_parameter_once():
    entries = official_weights.entries()
    assert len(entries) == len({e.official for e in entries}) == 792
    assert sum(math.prod(e.shape) for e in entries) == 163_988_099
    ours = [name for e in entries for name in e.ours]
    shapes = kinds.model_shapes(official_weights.MODEL)
    assert sorted(ours) == sorted(f"params/{name}" for name in shapes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # What GLC.md says of the sequences: number and kind of layer.
        ("vqgan.encoder.blocks.0.weight", "vqvae/encoder/conv_in/kernel"),
        ("vqgan.encoder.blocks.7.conv_out.weight", "vqvae/encoder/level_2_block_0/shortcut/kernel"),
        ("vqgan.encoder.blocks.12.conv.bias", "vqvae/encoder/down_3/conv/bias"),
        ("vqgan.encoder.blocks.16.q.bias", "vqvae/encoder/level_4_attention_1/q/bias"),
        ("vqgan.encoder.blocks.18.norm.weight", "vqvae/encoder/middle_attention/norm/scale"),
        ("vqgan.encoder.blocks.20.weight", "vqvae/encoder/norm_out/scale"),
        ("vqgan.encoder.blocks.22.bias", "vqvae/encoder/conv_out/bias"),
        ("vqgan.encoder.quant_conv.bias", "vqvae/encoder/latent_conv/bias"),
        ("vqgan.generator.blocks.2.v.bias", "vqvae/generator/middle_attention/v/bias"),
        ("vqgan.generator.blocks.4.norm1.bias", "vqvae/generator/level_4_block_0/norm_1/bias"),
        ("vqgan.generator.blocks.10.conv.bias", "vqvae/generator/up_4/conv/bias"),
        ("vqgan.generator.blocks.25.conv2.bias", "vqvae/generator/level_0_block_2/conv_2/bias"),
        ("vqgan.generator.blocks.26.bias", "vqvae/generator/norm_out/bias"),
        ("vqgan.generator.blocks.28.bias", "vqvae/generator/conv_out/bias"),
        ("vqgan.quantize.embedding.weight", "vqvae/quantizer/codebook"),
        ("z_vq.embedding.weight", "hyperprior/quantizer/codebook"),
        ("enc.enc_2.1.block.0.conv1.2.weight", "g_a/after_1/depth_conv/depthwise/kernel"),
        ("dec.dec_1.0.block.0.conv2.weight", "g_s/before_0/depth_conv/conv_b/kernel"),
        ("hyper_enc.3.bias", "hyperprior/h_a/down_1/bias"),
        ("y_spatial_prior.2.block.1.conv_out.bias", "context/prior_2/ffn/conv_out/bias"),
    ],
)
def test_names(name, expected):
    entry = next(e for e in official_weights.entries() if e.official == name)
    assert entry.ours == (f"params/{expected}",)


def test_layouts():
    """Index by index, not by inverting one with the other."""
    random = np.random.default_rng(0)
    conv = random.standard_normal((5, 4, 3, 2))
    assert official.CONV.ours(conv)[2, 1, 3, 4] == conv[4, 3, 2, 1]
    conv_1x1 = random.standard_normal((5, 4, 1, 1))
    assert official.CONV_1X1.ours(conv_1x1)[3, 4] == conv_1x1[4, 3, 0, 0]
    linear = random.standard_normal((5, 4))
    assert official.LINEAR.ours(linear)[3, 4] == linear[4, 3]
    depthwise = random.standard_normal((5, 1, 3, 2))
    assert official.DEPTHWISE.ours(depthwise)[2, 1, 4] == depthwise[4, 0, 2, 1]
    rate_scale = random.standard_normal((4, 5, 1, 1))
    assert official.RATE_SCALE.ours(rate_scale)[3, 4] == rate_scale[3, 4, 0, 0]
    for layout, array in (
        (official.CONV, conv),
        (official.CONV_1X1, conv_1x1),
        (official.LINEAR, linear),
        (official.DEPTHWISE, depthwise),
        (official.RATE_SCALE, rate_scale),
        (official.SAME, linear),
    ):
        assert layout.official_shape(layout.ours(array).shape) == array.shape
        np.testing.assert_array_equal(layout.official(layout.ours(array)), array)


def test_packed_projections_are_cut_in_the_order_q_k_v():
    entry = next(
        e
        for e in official_weights.entries()
        if e.official == "code_pred_loss.ft_layers.8.self_attn.in_proj_weight"
    )
    array = np.arange(math.prod(entry.shape), dtype=np.float32).reshape(entry.shape)
    parts = entry.to_ours(array)
    layer = "params/code_predictor/layer_8"
    np.testing.assert_array_equal(parts[f"{layer}/q/kernel"], array[:512].T)
    np.testing.assert_array_equal(parts[f"{layer}/k/kernel"], array[512:1024].T)
    np.testing.assert_array_equal(parts[f"{layer}/v/kernel"], array[1024:].T)
    np.testing.assert_array_equal(entry.to_official(parts), array)


@pytest.mark.parametrize("name", ["natural", pytest.param("face", marks=pytest.mark.slow), "tiny"])
def test_every_config_has_a_table(name):
    model = importlib.import_module(f"configs.{name}").model_config().to_dict()
    assert len(kinds.glc_entries(model)) > 500
    assert len(kinds.vqvae_entries(model)) > 100


def test_a_model_that_the_table_does_not_cover_is_noticed():
    model = micro.config()["model"]
    shapes = kinds.model_shapes(model)
    with pytest.raises(ValueError, match="novelty/kernel"):
        official.entries(official.glc(model), {**shapes, "novelty/kernel": (1, 1)})
    with pytest.raises(ValueError, match="mapped twice"):
        official.entries(2 * official.glc(model), shapes)


def test_codeformers_numbers():
    """vqgan_code1024.pth: facts of its public code, two residual blocks a level on both sides."""
    model = importlib.import_module("configs.face").model_config().to_dict()
    shapes = {e.official: e.shape for e in kinds.vqvae_entries(model)}
    expected = {
        "encoder.blocks.0.weight": (64, 3, 3, 3),
        "encoder.blocks.4.conv_out.weight": (128, 64, 1, 1),
        "encoder.blocks.16.conv_out.weight": (512, 256, 1, 1),
        "encoder.blocks.17.q.weight": (512, 512, 1, 1),
        "encoder.blocks.19.q.weight": (512, 512, 1, 1),
        "encoder.blocks.21.q.weight": (512, 512, 1, 1),
        "encoder.blocks.23.weight": (512,),
        "encoder.blocks.24.weight": (256, 512, 3, 3),
        "quantize.embedding.weight": (1024, 256),
        "generator.blocks.0.weight": (512, 256, 3, 3),
        "generator.blocks.2.q.weight": (512, 512, 1, 1),
        "generator.blocks.5.q.weight": (512, 512, 1, 1),
        "generator.blocks.7.q.weight": (512, 512, 1, 1),
        "generator.blocks.9.conv_out.weight": (256, 512, 1, 1),
        "generator.blocks.20.conv.weight": (128, 128, 3, 3),
        "generator.blocks.21.conv_out.weight": (64, 128, 1, 1),
        "generator.blocks.23.weight": (64,),
        "generator.blocks.24.weight": (3, 64, 3, 3),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert not any("quant_conv" in name for name in shapes)
    attention = sorted(name for name in shapes if name.endswith(".q.weight"))
    assert len(attention) == 6
    downsampling = sizes.downsampling(model)
    assert downsampling == 32
