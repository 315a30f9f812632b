"""The stage "style" at toy size: what trains, what each loss is shown, resuming, exporting."""

import contextlib
import dataclasses
import runpy
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax import companions, weights
from glc_jax.data.pipeline import training_batches
from glc_jax.data.styles import Styles
from glc_jax.errors import ConfigError, InputError
from glc_jax.models import colours
from glc_jax.models.pixels import to_model_range
from glc_jax.training import checkpoints, inputs, styling
from glc_jax.training.config import read
from glc_jax.training.loop import train
from glc_jax.training.objectives import PictureLoss, objectives
from glc_jax.training.stage_choices import open_stage
from glc_jax.training.styling import StyleStage
from tests.conftest import REPOSITORY
from tests.training import small

NAME = "tests.training.test_styling"


@dataclasses.dataclass(frozen=True)
class Edges(PictureLoss):
    """How far the differences of neighbours are from those of the style; it compiles quickly.

    (The mean colours are the style's from the start.)
    """

    against = "style"
    needs = ("x_hat", "style")

    def __call__(self, x_hat, images, networks, key):
        one, other = (
            jnp.mean(jnp.square(x[:, :, 1:] - x[:, :, :-1]), (1, 2)) for x in (x_hat, images)
        )
        return jnp.mean(jnp.abs(one - other))


class Shown(PictureLoss):
    """The mean of the pictures that it is shown: the originals."""

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(images)


class Styled(Edges):
    """The same, of the styles."""

    def __call__(self, x_hat, images, networks, key):
        return jnp.mean(images)


def config_of(place, **changes) -> dict:
    """A config of the stage, with pictures, styles and first parameters below a folder."""
    losses = {name: {"of": f"{NAME}:{name.title()}", "weight": 1.0} for name in ("edges",)}
    more = {name: {"of": f"{NAME}:{name.title()}", "weight": 1e-9} for name in ("shown", "styled")}
    found = small.config(
        1,
        stage="style",
        losses={**losses, **more},
        trainable="stylist/",
        codebook__kmeans_step=-1,
        data__folder=str(small.folder(place / "pictures")),
        data__style_folder=str(small.folder(place / "styles", 3)),
        steps=6,
        batch=2,
        checkpoint__every=3,
        checkpoint__best="spectral_excess",
        eval__metrics=("spectral_excess",),
        eval__crop=48,
        **changes,
    )
    found["init_from"] = small.weights_file(place / "start.safetensors", found)
    return found


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    return config_of(tmp_path_factory.mktemp("style"))


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> tuple:
    """A run without a stop: (folder, last state)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(config, workdir)


@pytest.mark.slow
def test_the_stylist_trains_and_the_model_stays(config, whole):
    _, last = whole
    base = dict(weights.flatten(weights.load(config["init_from"]).tree["params"]))
    found = dict(weights.flatten(jax.device_get(last.params)))
    assert found.keys() - base.keys() == set(last.ema)
    assert all(path.startswith("stylist/") for path in last.ema)
    for path, leaf in base.items():
        np.testing.assert_array_equal(found[path], leaf)
    copy = {p for p in last.ema if p.startswith("stylist/generator/")}
    moved = {p for p in copy if np.any(found[p] != base[p.replace("stylist", "vqvae", 1)])}
    norms = {p for p in copy if p.split("/")[-2].startswith("norm")}
    assert not moved & norms  # which the style decides
    assert {p for p in copy if p.endswith("kernel")} <= moved


@pytest.mark.slow
def test_a_resumed_run_equals_one_without_a_stop(config, whole, tmp_path):
    @contextlib.contextmanager
    def requests():
        yield lambda current: current == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glc_jax.training.loop.stop_requests", requests)
        assert int(train(config, tmp_path).step) == 1
    chex.assert_trees_all_equal(train(config, tmp_path), whole[1])


@pytest.mark.slow
def test_it_exports_a_companion_of_what_it_began_with(config, whole, tmp_path):
    path = tmp_path / "style.safetensors"
    script = runpy.run_path(str(REPOSITORY / "scripts" / "export.py"))["main"]
    with pytest.MonkeyPatch.context() as patch:
        command = ["export.py", str(whole[0]), "-o", str(path), "--dtype", "float32"]
        patch.setattr(sys, "argv", command)
        assert script() == 0
    base = weights.load(config["init_from"])
    loaded = companions.load(companions.STYLIST, base, path)
    averaged = checkpoints.averaged_parameters(whole[0])["stylist"]
    chex.assert_trees_all_equal(loaded, averaged)
    assert weights.describe(path).name == "small-style"


@pytest.mark.slow
def test_a_loss_is_shown_what_it_is_against(config):
    step = small.jit_train_step(config)
    begun = small.parts(config)
    params = jax.jit(begun.with_own_parameters)(small.parameters(config))
    batch = {**small.batch(size=2), "style": small.batch(1, size=2)["image"]}
    _, metrics = step(begun.initial_state(params), batch, jax.random.key(0))
    for name, pictures in (("shown", "image"), ("styled", "style")):
        expected = jnp.mean(to_model_range(batch[pictures]))
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-4)


class Model:
    """Latents are pictures, coding adds the rate, and G doubles."""

    vqvae = types.SimpleNamespace(generator=types.SimpleNamespace(dtype=None))

    def apply(self, variables, x, *rest, method, estimate=False):
        if method == "encode":
            return x
        if method == "generate":
            return 2 * x
        (rate,) = rest
        bits = 5 * jnp.arange(1.0, len(x) + 1)
        latent_hat = x + rate[:, None, None, None]
        return types.SimpleNamespace(latent_hat=latent_hat, bits=lambda: bits)


@pytest.fixture
def stage(monkeypatch) -> StyleStage:
    """The stage, whose pictures are content + 10 * style * G's number + 100 * the style's manner,
    before their colours."""
    network = types.SimpleNamespace(apply=lambda _, content, style: content + 10 * style)
    monkeypatch.setattr(styling, "Stylist", lambda dtype: network)
    monkeypatch.setattr(styling.stylist, "own_generator", lambda generator, own: own["generator"])
    monkeypatch.setattr(styling.manner, "seen", lambda network, number, latent: number * latent)

    def drawn(network, number, latent, wanted):
        return types.SimpleNamespace(picture=number * latent + 100 * wanted)

    monkeypatch.setattr(styling.manner, "drawn", drawn)
    return StyleStage(types.SimpleNamespace(model={"rate_points": 4}))


def unmapped(*_) -> colours.Affine:
    """Colours as they are."""
    return colours.Affine(jnp.eye(3)[None], jnp.zeros((1, 3)))


VARIABLES = {"params": {"vqvae": {"generator": 1.0}, "stylist": {"network": {}, "generator": 3.0}}}
CONTENT, STYLE = jax.random.uniform(jax.random.key(0), (2, 2, 4, 5, 3))


def test_what_is_drawn_is_of_the_samples_rates_the_styles_manner_and_colours(stage, monkeypatch):
    samples = types.SimpleNamespace(rate=jnp.array([0.0, 2.0]), beside={"style": STYLE})
    found = stage.forward(Model(), VARIABLES, CONTENT, samples).x_hat
    given, wanted = (colours.moments(picture) for picture in (found, STYLE))
    np.testing.assert_allclose(given.mean, wanted.mean, rtol=1e-3)
    monkeypatch.setattr(
        styling.colours, "mapping", lambda *_: (jnp.eye(3)[None], jnp.zeros((1, 3)))
    )
    found = stage.forward(Model(), VARIABLES, CONTENT, samples).x_hat
    coded = CONTENT + np.array([0, 2]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(found, 3 * (coded + 10 * STYLE) + 100 * STYLE, rtol=1e-5)


def test_held_out_pictures_are_of_the_highest_rate_plain_and_styled(stage, monkeypatch):
    monkeypatch.setattr(
        styling.colours, "mapping", lambda *_: (jnp.eye(3)[None], jnp.zeros((1, 3)))
    )
    images, style = (np.asarray(255 * x, np.uint8) for x in (CONTENT, STYLE))
    found = stage.reconstruct(Model(), VARIABLES, images, {"style": style})
    coded, style = to_model_range(images) + 3, to_model_range(style)
    assert found.keys() == {"plain", "styled"}
    np.testing.assert_allclose(found["plain"][0], 2 * coded, rtol=1e-5)
    expected = 3 * (coded + 10 * style) + 100 * style
    np.testing.assert_allclose(found["styled"][0], expected, rtol=1e-4, atol=1e-4)
    for _, bpp in found.values():
        np.testing.assert_allclose(bpp, np.array([5, 10]) / 20)


def test_style_and_content_are_losses_of_this_stage_alone():
    from configs import tiny

    for stage, expected in (("style", {"style", "content"}), ("stage1", set()), ("stage3", set())):
        config = read(tiny.get_config(stage).to_dict())
        names = {loss.name for loss in objectives(config, open_stage(config).gives)}
        assert names & {"style", "content"} == expected


class Grey:
    """Styles of one grey each, of sides from a pixel to hundreds; the third cannot be read."""

    sides = ((40, 300), (1, 1), (0, 0), (7, 12), (64, 64))

    def __len__(self):
        return len(self.sides)

    def name(self, index):
        return f"style {index}"

    def __getitem__(self, index):
        if index == 2:
            raise InputError("damaged")
        return np.full((*self.sides[index], 3), 10 * index, np.uint8)


def test_styles_depend_on_seed_step_and_slot_and_on_nothing_else():
    fields = {"batch": 4, "crop": 16, "scale": (0.5, 1.0), "flip": True, "seed": 3}

    class Pictures(Grey):
        sides = ((40, 40),)

    def batches(**changes):
        return training_batches(
            Pictures(), **{**fields, **changes}, beside={"style": Styles(Grey(), 16)}
        )

    whole = batches()
    for step in range(6):
        halves = [batches(shard=(part, 2))[step]["style"] for part in range(2)]
        np.testing.assert_array_equal(np.concatenate(halves), whole[step]["style"])
    seen = {int(style[0, 0, 0]) for step in range(12) for style in whole[step]["style"]}
    assert seen == {0, 10, 30, 40}
    first = [batches(seed=seed)[0]["style"][:, 0, 0, 0].tolist() for seed in range(4)]
    assert len(set(map(tuple, first))) > 1


def test_a_folder_without_a_readable_style_is_told():
    class Broken(Grey):
        sides = ((0, 0),) * 2

        def __getitem__(self, index):
            raise InputError("damaged")

    with pytest.raises(ConfigError, match="styles can be read"):
        Styles(Broken(), 16)(np.zeros((16, 16, 3), np.uint8), np.random.default_rng(0))


def test_a_config_without_styles_is_told():
    config = types.SimpleNamespace(data=types.SimpleNamespace(style_folder=""))
    with pytest.raises(ConfigError, match="style_folder"):
        inputs.open_beside(config, ("style",), 16)
