"""The models against the official PyTorch code's own outputs (GLC.md, "The golden files").

Each method gets the golden input of its stage (tests/test_codec_golden.py runs end to end).
Largest absolute errors reached (JAX 0.10, float32, x86) over golden_a and golden_b, where
the reference's values reach 7:

    latent 2.2e-5   y 2.2e-6   z 2.3e-6   prior_params 3.7e-6   y_hat 4.3e-6   scales 1.7e-6
    latent_hat 2.4e-6   x_hat 3.9e-5   x_hat_from_z 2.0e-5   vq_x_hat 2.4e-5   code logits 4.3e-6
"""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conversion import official
from glc_jax import weights
from glc_jax.entropy import groups
from glc_jax.entropy.distributions import gaussian_bits
from glc_jax.models import glc
from glc_jax.models.transforms import interpolate_rate_scale
from tests import official_weights
from tests.models import coding_y
from tests.models.make_golden_slices import take_slice

SLICES = pathlib.Path(__file__).parents[1] / "data" / "golden_slices.npz"

TENSORS = 2e-4  # absolute
SCALES = 1e-4
LOGITS = 5e-4
LOSSES = 1e-4  # relative

MODEL = glc.build(official_weights.MODEL)


@functools.cache
def stage(method: str):
    """One compiled method of the model, for all files and sizes."""
    return jax.jit(functools.partial(MODEL.apply, method=method))


def as_input(array: np.ndarray) -> jax.Array:
    """[C, H, W] -> [1, H, W, C]."""
    return jnp.asarray(array.transpose(1, 2, 0)[None])


def as_golden(array: jax.Array) -> np.ndarray:
    """[1, H, W, C] -> [C, H, W]."""
    return np.asarray(array)[0].transpose(2, 0, 1)


def to_pixels(x_hat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Raw output [3, H, W] -> the 8-bit picture of this shape [h, w, 3], as ints."""
    levels = np.clip(np.rint((x_hat.transpose(1, 2, 0) / 2 + 0.5) * 255), 0, 255)
    return levels[: shape[0], : shape[1]].astype(int)


def padded(image: np.ndarray) -> jax.Array:
    """uint8 [h, w, 3] -> what the encoder takes, [1, H, W, 3]."""
    height, width = image.shape[:2]
    image = np.pad(image, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    return jnp.asarray((image[None].astype(np.float32) / 255 - 0.5) * 2)


def analyse_y(model, y):
    return model.hyperprior.targets(y)["z"]


def quantise_z(model, z):
    return model.hyperprior.quantise(z)


def embed_z(model, indices):
    return model.hyperprior.embed(indices)


def prior_params(model, z_hat):
    return model.hyperprior.prior_params(z_hat)


def code_y(model, y, prior, quantise=groups.rounded):
    return coding_y.code_y(model.context, y, prior, quantise)


def preview_y(model, y, prior):
    zeros = jnp.zeros_like(y)
    return code_y(model, y, prior, lambda *_: (zeros, zeros))


class Stages:
    """Every stage of the pipeline on the golden input of that stage."""

    def __init__(self, golden: dict[str, np.ndarray], variables: dict) -> None:
        self.golden, self.variables = golden, variables
        self.rate = jnp.asarray([float(golden["q_index"])], jnp.float32)

    def run(self, method: str, *inputs: jax.Array):
        return stage(method)(self.variables, *inputs)

    def tensor(self, name: str) -> jax.Array:
        return as_input(self.golden[name])

    @functools.cached_property
    def latent(self) -> np.ndarray:
        return as_golden(self.run("encode", padded(self.golden["image"])))

    @functools.cached_property
    def y(self) -> np.ndarray:
        return as_golden(self.run("analysis", self.tensor("latent"), self.rate))

    @functools.cached_property
    def z(self) -> np.ndarray:
        return as_golden(self.run(analyse_y, self.tensor("y")))

    @functools.cached_property
    def z_indices(self) -> np.ndarray:
        return np.asarray(self.run(quantise_z, self.tensor("z")).indices)[0]

    @functools.cached_property
    def z_hat(self) -> np.ndarray:
        return as_golden(self.run(embed_z, jnp.asarray(self.golden["z_indices"])[None]))

    @functools.cached_property
    def prior_params(self) -> np.ndarray:
        return as_golden(self.run(prior_params, self.tensor("z_hat")))

    @functools.cached_property
    def coded(self):
        return self.run(code_y, self.tensor("y"), self.tensor("prior_params"))

    @functools.cached_property
    def y_q(self) -> np.ndarray:
        return as_golden(self.coded.symbols)

    @functools.cached_property
    def y_hat(self) -> np.ndarray:
        return as_golden(self.coded.values)

    @functools.cached_property
    def scales(self) -> np.ndarray:
        return as_golden(self.coded.parameters["scale"])

    @functools.cached_property
    def bits(self) -> np.ndarray:
        return as_golden(gaussian_bits(self.tensor("y_q"), self.tensor("scales")))

    @functools.cached_property
    def latent_hat(self) -> np.ndarray:
        return as_golden(self.run("synthesis", self.tensor("y_hat"), self.rate))

    @functools.cached_property
    def x_hat(self) -> np.ndarray:
        return as_golden(self.run("generate", self.tensor("latent_hat")))

    @functools.cached_property
    def x_hat_from_z(self) -> np.ndarray:
        prior = self.tensor("prior_params")
        zero = jnp.zeros_like(self.tensor("y"))
        y_hat = self.run(preview_y, zero, prior).values
        return as_golden(self.run("generate", self.run("synthesis", y_hat, self.rate)))

    @functools.cached_property
    def quantized(self):
        return self.run("vector_quantize", self.tensor("latent"))

    @functools.cached_property
    def vq_x_hat(self) -> np.ndarray:
        return as_golden(self.run("generate", self.quantized.quantized))


@pytest.fixture(scope="module", params=["a", "b"])
def stages(request, reference) -> Stages:
    golden = dict(np.load(reference / f"golden_{request.param}.npz"))
    return Stages(golden, official_weights.variables(int(golden["seed"])))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("latent", TENSORS),
        ("y", TENSORS),
        ("z", TENSORS),
        ("z_indices", 0),
        ("z_hat", 1e-6),
        ("prior_params", TENSORS),
        ("y_q", 0),
        ("y_hat", TENSORS),
        ("scales", SCALES),
        ("bits", 0.01),
        ("latent_hat", TENSORS),
        ("x_hat", TENSORS),
        ("x_hat_from_z", TENSORS),
        ("vq_x_hat", TENSORS),
    ],
)
def test_each_stage_on_its_golden_input(stages, name, tolerance):
    np.testing.assert_allclose(getattr(stages, name), stages.golden[name], rtol=0, atol=tolerance)


@pytest.mark.slow
def test_the_bits_of_the_golden_symbols(stages):
    assert stages.bits.astype(np.float64).sum() == pytest.approx(stages.golden["bit_y"], rel=1e-5)
    hyper_codebook_size = official_weights.MODEL["hyper_codebook_size"]
    bits_z = stages.z_indices.size * np.log2(hyper_codebook_size)
    assert bits_z == pytest.approx(stages.golden["bit_z"], rel=1e-12)


@pytest.mark.slow
def test_the_picture_from_the_golden_y_hat(stages):
    latent_hat = stages.run("synthesis", stages.tensor("y_hat"), stages.rate)
    x_hat = as_golden(stages.run("generate", latent_hat))
    wanted = stages.golden["x_hat_u8"].astype(int)
    assert np.abs(to_pixels(x_hat, wanted.shape) - wanted).max() <= 1


@pytest.mark.slow
def test_the_vq_vae_alone(stages):
    np.testing.assert_array_equal(stages.quantized.indices[0], stages.golden["vq_indices"])
    assert float(stages.quantized.loss) == pytest.approx(stages.golden["vq_loss"], rel=LOSSES)
    perplexity = float(stages.quantized.perplexity)
    assert perplexity == pytest.approx(stages.golden["vq_perplexity"], rel=LOSSES)


@pytest.mark.slow
def test_code_prediction(reference):
    golden = dict(np.load(reference / "golden_a.npz"))
    stages = Stages(golden, official_weights.variables(int(golden["seed"])))
    logits = np.asarray(stages.run("predict_codes", stages.tensor("latent_hat")))[0]
    pix_logits = np.asarray(stages.run("predict_codes_from_pixels", stages.tensor("latent")))[0]
    np.testing.assert_allclose(logits[:, :64], golden["code_logits_first64"], rtol=0, atol=LOGITS)
    for name, found in (("code", logits), ("pix", pix_logits)):
        lse = jax.nn.logsumexp(found, axis=-1)
        np.testing.assert_allclose(lse, golden[f"{name}_logits_lse"], rtol=0, atol=LOGITS)
        np.testing.assert_array_equal(found.argmax(-1), golden[f"{name}_logits_argmax"])
    targets = golden["vq_indices"].reshape(-1)
    cross_entropy = np.mean(jax.nn.logsumexp(logits, axis=-1) - logits[np.arange(256), targets])
    assert cross_entropy == pytest.approx(golden["cross_entropy_loss"], rel=LOSSES)
    mse = np.mean((golden["latent"] - golden["latent_hat"]) ** 2)
    assert mse == pytest.approx(golden["feat_mse_loss"], rel=LOSSES)


@pytest.mark.parametrize(("name", "ours"), [("q_enc", "g_a"), ("q_dec", "g_s")])
def test_rates_between_the_trained_points(reference, name, ours):
    golden = np.load(reference / "golden_rate_interpolation.npz")
    points, channels = official_weights.MODEL["rate_points"], golden[name].shape[1]
    shape = (points, channels, 1, 1)
    table = official.RATE_SCALE.ours(official_weights.tensor(int(golden["seed"]), name, shape))
    levels = jnp.linspace(0, points - 1, len(golden[name]))
    found = interpolate_rate_scale(jnp.asarray(table), levels)
    np.testing.assert_allclose(found, golden[name], rtol=0, atol=1e-6)


# ---- Where the golden files are not: slices of golden_b, tests/data


@pytest.fixture(scope="module")
def slices() -> dict[str, np.ndarray]:
    return dict(np.load(SLICES))


def assert_slice(found: np.ndarray, slices: dict[str, np.ndarray], name: str, tolerance: float):
    np.testing.assert_allclose(
        take_slice(found), slices[name], rtol=0, atol=tolerance, err_msg=name
    )


def test_slices_of_the_hyperprior(slices):
    """h_s and the fusion alone, whose weights are quickly made."""
    state = official_weights.state_dict(
        int(slices["seed"]), ("z_vq", "hyper_dec", "y_prior_fusion")
    )
    leaves = {}
    for entry in official_weights.entries():
        if entry.official in state:
            leaves |= entry.to_ours(state[entry.official])
    variables = weights.unflatten({name: jnp.array(leaf) for name, leaf in leaves.items()})
    z_hat = stage(embed_z)(variables, jnp.asarray(slices["z_indices"])[None])
    params = stage(prior_params)(variables, z_hat)
    assert_slice(as_golden(params), slices, "prior_params", TENSORS)


@pytest.mark.slow
def test_slices_of_the_encoder(slices):
    run = Stages(slices, official_weights.variables(int(slices["seed"]))).run
    latent = run("encode", padded(slices["image"]))
    y = run("analysis", latent, jnp.asarray([float(slices["q_index"])]))
    z = run(analyse_y, y)
    for name, found in (("latent", latent), ("y", y), ("z", z)):
        assert_slice(as_golden(found), slices, name, TENSORS)
    np.testing.assert_array_equal(run(quantise_z, z).indices[0], slices["z_indices"])


@pytest.mark.slow
def test_slices_of_the_decoder(slices):
    """From the golden symbols to the picture: what a file's reader does, in floats."""
    variables = official_weights.variables(int(slices["seed"]))
    run = Stages(slices, variables).run
    params = run(prior_params, run(embed_z, jnp.asarray(slices["z_indices"])[None]))
    y_q = as_input(slices["y_q"].astype(np.float32))

    def decode(model, params):
        # The symbols are known; what is "quantised" does not matter.
        return code_y(model, jnp.zeros_like(y_q), params, lambda *_: (y_q, y_q))

    coded = run(decode, params)
    latent_hat = run("synthesis", coded.values, jnp.asarray([float(slices["q_index"])]))
    x_hat = as_golden(run("generate", latent_hat))
    assert_slice(as_golden(coded.parameters["scale"]), slices, "scales", SCALES)
    assert_slice(as_golden(coded.values), slices, "y_hat", TENSORS)
    assert_slice(as_golden(latent_hat), slices, "latent_hat", TENSORS)
    assert_slice(x_hat, slices, "x_hat", TENSORS)
    assert_slice(to_pixels(x_hat, slices["image"].shape), slices, "x_hat_u8", 1)
    bits = np.asarray(gaussian_bits(coded.symbols, coded.parameters["scale"]), np.float64).sum()
    assert bits == pytest.approx(slices["bit_y"], rel=1e-5)


def test_the_seeded_weights_are_those_of_the_reference(reference):
    """Names, shapes and values, a tensor of every kind."""
    spec = importlib.util.spec_from_file_location("weights_", reference / "reference_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layout = {name: tuple(s) for name, s in json.loads(module.LAYOUT.read_text())["tensors"]}
    assert layout == {e.official: e.shape for e in official_weights.entries()}
    for name, shape in layout.items():
        if len(shape) == 1 or name.startswith(
            ("q_", "y_", "vqgan.encoder.blocks.14", "code_pred_l")
        ):
            found = official_weights.tensor(1, name, shape)
            np.testing.assert_array_equal(found, module.tensor(1, name, shape), err_msg=name)
