"""Converting files: there and back, what is refused, and how much memory it takes."""

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

import glc_jax
from conversion import calibration, checkpoint, convert
from conversion.__main__ import main
from glc_jax import weights
from glc_jax.entropy import export
from glc_jax.errors import InputError, WeightsError
from tests import official_weights
from tests.conversion import micro, torch_zip

GLC_FILE = micro.FOLDER / "micro_glc.pth.tar"
VQVAE_FILE = micro.FOLDER / "micro_vqvae.pth"
CONFIG = ["--config", str(micro.CONFIG_FILE)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with two small pictures to calibrate with."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in (1, 2):
        Image.fromarray(calibration.dead_leaves(seed, 40)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory, pictures):
    """The micro checkpoint as a weights file."""
    path = tmp_path_factory.mktemp("converted") / "micro.safetensors"
    convert.to_weights(GLC_FILE, path, config=micro.config(), pictures=[pictures])
    return path


def assert_same_state(path, expected, dtype=np.float32):
    state = checkpoint.unwrap(checkpoint.read(path)).found[0].state
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].dtype == dtype
        np.testing.assert_array_equal(state[name], array.astype(dtype), err_msg=name)


def test_there_and_back_is_bit_identical(converted, pictures, tmp_path):
    back = tmp_path / "back.safetensors"
    assert convert.to_torch(converted, back) == 386
    assert_same_state(back, micro.glc_state())
    again = tmp_path / "again.safetensors"
    convert.to_weights(back, again, config=micro.config(), pictures=[pictures])
    assert weights.describe(again).digest == weights.describe(converted).digest


def test_there_and_back_with_torch(converted, tmp_path):
    torch = pytest.importorskip("torch")
    back = tmp_path / "back.pth.tar"
    convert.to_torch(converted, back)
    loaded = torch.load(back, weights_only=True)["state_dict"]
    for name, array in micro.glc_state().items():
        np.testing.assert_array_equal(loaded[name].numpy(), array, err_msg=name)


def test_without_torch_the_sentence_says_what_to_do(converted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs torch.*\.safetensors"):
        convert.to_torch(converted, tmp_path / "back.pth.tar")
    with pytest.raises(InputError, match="must end in"):
        convert.to_torch(converted, tmp_path / "back.npz")


@pytest.mark.slow
def test_bfloat16_halves_the_parameters(pictures, tmp_path):
    half = tmp_path / "half.safetensors"
    report = convert.to_weights(GLC_FILE, half, "bfloat16", micro.config(), [pictures])
    assert report.written.dtype == "BF16"
    back = tmp_path / "back.safetensors"
    convert.to_torch(half, back)
    assert_same_state(back, micro.glc_state(), ml_dtypes.bfloat16)


def test_the_file_says_where_it_comes_from(converted):
    described = weights.describe(converted)
    assert described.provenance["checkpoint"] == "micro_glc.pth.tar"
    assert len(described.provenance["checkpoint_sha256"]) == 64
    assert described.provenance["calibration"] == "2 named pictures"
    assert described.provenance["exact_entropy_model_cost"].endswith("% bits on them")
    assert described.config == json.loads(json.dumps(micro.config()))
    assert described.parameters == sum(array.size for array in micro.glc_state().values())


def test_the_result_compresses(converted):
    codec = glc_jax.load(converted)
    image = calibration.dead_leaves(7, 24)
    data = codec.compress(image, rate=2)
    assert codec.decompress(data).shape == image.shape


@pytest.mark.slow
def test_without_named_pictures_there_are_synthetic_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "SYNTHETIC_PICTURES", 1)
    monkeypatch.setattr(export, "DEAR", 1.0)
    out = tmp_path / "out.safetensors"
    report = convert.to_weights(GLC_FILE, out, config=micro.config())
    assert report.written.provenance["calibration"] == "1 synthetic pictures"
    assert report.cost.share == report.cost.exact / report.cost.estimated - 1
    assert report.cost.kernel_bits == 8


@pytest.mark.slow
def test_where_few_bits_of_kernels_are_dear_they_have_more(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "SYNTHETIC_PICTURES", 1)
    monkeypatch.setattr(export, "DEAR", -1.0)
    out = tmp_path / "out.safetensors"
    report = convert.to_weights(GLC_FILE, out, config=micro.config())
    assert report.cost.kernel_bits == 16
    entropy = weights.load(out).entropy
    kernels = [a for a in entropy["arrays"].values() if a.ndim == 2 and min(a.shape) > 1]
    assert any(np.abs(kernel.astype(int)).max() > 127 for kernel in kernels)


def test_large_pictures_give_their_middle(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.png")
    (found,) = calibration.pictures([tmp_path / "x.png"])
    np.testing.assert_array_equal(found, picture[22:278])


@pytest.mark.slow
def test_a_vq_vae_alone(tmp_path):
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    report = convert.to_weights(VQVAE_FILE, out, config=micro.config())
    (line,) = report.found
    assert line == "a VQ-VAE of stage I: 129 tensors, 3,057 values under params_ema"
    assert report.cost is None
    assert set(weights.load(out).tree) == {"params"}
    assert set(weights.load(out).tree["params"]) == {"vqvae"}
    convert.to_torch(out, back)
    assert_same_state(back, micro.vqvae_state())


@pytest.mark.slow
def test_the_command(pictures, tmp_path, capsys):
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    assert main([str(GLC_FILE), "-o", str(out), *CONFIG, "--calibrate", str(pictures)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "found the whole of GLC: 386 tensors, 12,541 values under state_dict"
    assert printed[1] == "left aside epoch (int)"
    assert printed[2].startswith("integer entropy networks: ")
    assert printed[3].startswith(f"wrote {out}: ")
    assert main(["--to-torch", str(out), "-o", str(back)]) == 0
    assert_same_state(back, micro.glc_state())


def test_errors_are_sentences_and_leave_no_file(tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    # Without its config the file is taken for the official one, whose every tensor it lacks.
    assert main([str(GLC_FILE), "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert "does not have the expected 792 tensors" in error
    assert "wrong shape: q_enc is [4, 4, 1, 1], not [4, 256, 1, 1]" in error
    assert "missing: vqgan.encoder.blocks.22.weight [256, 512, 3, 3]" in error
    assert main([str(tmp_path / "absent.pth"), "-o", str(out)]) == 1
    assert main([str(GLC_FILE), "-o", str(tmp_path / "no" / "folder"), *CONFIG]) == 1
    assert main(["--to-torch", str(GLC_FILE), "-o", str(out)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_weights_file_has_no_way_back(converted, tmp_path):
    content = bytearray(converted.read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        convert.to_torch(damaged, tmp_path / "back.safetensors")


@pytest.mark.parametrize("missing", ["q_enc", "z_vq.embedding.weight"])
def test_one_missing_and_one_unknown_tensor(tmp_path, missing):
    state = micro.glc_state()
    state["novelty"] = state.pop(missing)
    path = torch_zip.save(tmp_path / "x.pth", state)
    with pytest.raises(WeightsError) as caught:
        convert.to_weights(path, tmp_path / "out.safetensors", config=micro.config())
    problems = str(caught.value).splitlines()[1:]
    assert [line.split()[:2] for line in problems] == [
        ["missing:", missing],
        ["unknown:", "novelty"],
    ]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_the_full_model_there_and_back_within_one_and_a_half_times_its_size(tmp_path):
    """All 792 tensors bit for bit; each way in a process of its own, whose peak is measured."""
    source = torch_zip.save(tmp_path / "GLC_image.pth.tar", official_weights.state_dict(0))
    ours, back = tmp_path / "natural.safetensors", tmp_path / "back.safetensors"
    limit = 1.5 * source.stat().st_size
    for arguments in ([source, "-o", ours], ["--to-torch", ours, "-o", back]):
        # getrusage would count the pages that the child had before it ran its own program.
        code = (
            "import sys; from conversion.__main__ import main; status = main(sys.argv[1:]); "
            "lines = open('/proc/self/status').read().splitlines(); "
            "print(status, next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
        )
        command = [sys.executable, "-c", code, *map(str, arguments)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        status, peak_kilobytes = map(int, printed.splitlines()[-1].split())
        assert status == 0
        assert peak_kilobytes * 1024 < limit
    state = checkpoint.read(back)
    assert len(state) == 792
    for entry in official_weights.entries():
        expected = official_weights.tensor(0, entry.official, entry.shape)
        np.testing.assert_array_equal(state[entry.official], expected, err_msg=entry.official)
