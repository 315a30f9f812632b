"""What real files cost beyond the float model's estimate, of the packaged model."""

import pytest
from skimage import data

from glc_jax import weights
from glc_jax.evaluation.coding import CodingMeter
from tests import small_model

OVERHEAD = 14  # bytes
LOSS = 0.005


def test_every_byte_is_accounted_for(tmp_path):
    small_model.write_weights(tmp_path / "small.safetensors")
    meter = CodingMeter(weights.load(tmp_path / "small.safetensors"))
    coding = meter.measure(small_model.picture(60, 40), 1.0)
    model = meter.codec.entropy_model
    bits = model.bits(model.encode(meter.codec.analyse(small_model.picture(60, 40), 1.0)))
    first = model.latents.index(next(one for one in model.latents if one.name == "z"))
    z_bits = sum(bits[group.name] for group in model.groups if group.latent == first)
    assert coding.z_bits == pytest.approx(z_bits)
    assert coding.exact_y_bits == pytest.approx(sum(bits.values()) - z_bits)
    assert coding.z_bits < coding.exact_y_bits / 4  # each of y's four groups has more
    ideal = (coding.exact_y_bits + coding.z_bits) / 8
    assert 0 < coding.bytes - coding.payload < OVERHEAD
    # The coder's words have a precision of 2^-32, so that it can only cost, and ends within a byte.
    assert 0 <= coding.payload - ideal < 1.01
    assert coding.encode_seconds < coding.compress_seconds


@pytest.fixture(scope="module")
def meter() -> CodingMeter:
    return CodingMeter(weights.load(weights.resolve()))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0, 1, 2, 3])
def test_exactness_and_files_cost_next_to_nothing(meter, rate):
    coding = meter.measure(data.astronaut(), rate)
    assert coding.exact_y_bits < (1 + LOSS) * coding.float_y_bits
    assert coding.bytes < OVERHEAD + (1 + LOSS) * coding.float_bits / 8
