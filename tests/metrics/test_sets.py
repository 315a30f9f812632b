"""FID, KID and Inception against torchmetrics, torch-fidelity and scipy."""

import collections
import hashlib
import http.server
import io
import pickle
import sys
import threading
import types
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.linalg

from glc_jax.errors import WeightsError
from glc_jax.metrics import inception_weights, torch_state
from glc_jax.metrics.features import inception
from glc_jax.metrics.fid import Gaussian, fid
from glc_jax.metrics.kid import kid, squared_mmd

from .seeded import feature_sets, inception_images, inception_state


def gaussian(features, batches):
    result = Gaussian(features.shape[1])
    for batch in np.array_split(features, batches):
        result.update(batch)
    return result


@pytest.mark.parametrize("batches", [1, 7, 300])
def test_streamed_moments_are_those_of_the_whole(batches):
    features = feature_sets()[0] + 1e6  # a sum of squares would lose ten digits here
    found = gaussian(features, batches)
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.T), atol=1e-8)
    assert found.count == 300


def test_an_empty_batch_changes_nothing():
    found = gaussian(feature_sets()[0], 2)
    before = found.covariance.copy()
    found.update(np.empty((0, 48), np.float32))
    np.testing.assert_array_equal(found.covariance, before)


def test_fid_equals_torchmetrics_and_scipy(torch_references):
    a, b = feature_sets()
    found = fid(gaussian(a, 3), gaussian(b, 4))
    np.testing.assert_allclose(found, torch_references["fid"], rtol=1e-9)
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(
        np.cov(a.T) + np.cov(b.T) - 2 * root.real
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_fid_follows_later_batches():
    a, b = feature_sets()
    growing = gaussian(a[:100], 1)
    before = fid(growing, gaussian(b, 1))
    growing.update(a[100:])
    np.testing.assert_allclose(fid(growing, gaussian(b, 1)), fid(gaussian(a, 1), gaussian(b, 1)))
    assert before != fid(growing, gaussian(b, 1))


def test_fid_of_fewer_samples_than_dimensions():
    a, b = (features[:20] for features in feature_sets())
    same = gaussian(a, 1)
    assert abs(fid(same, gaussian(a, 3))) < 1e-6
    assert np.isfinite(fid(same, gaussian(b, 1)))


def test_fid_needs_two_samples():
    with pytest.raises(ValueError, match="two samples"):
        fid(gaussian(feature_sets()[0], 1), Gaussian(48))


def test_squared_mmd_equals_torchmetrics(torch_references):
    a, b = feature_sets()
    np.testing.assert_allclose(squared_mmd(a[:250], b), torch_references["squared_mmd"], rtol=1e-9)


def test_kid_of_one_whole_subset_is_the_squared_mmd():
    a, b = feature_sets()
    found = kid(a[:250], b, subsets=3, subset_size=250)
    np.testing.assert_allclose(found.mean, squared_mmd(a[:250], b), rtol=1e-9)
    np.testing.assert_allclose(found.std, 0, atol=1e-9)


def test_kid_is_repeatable_and_near_zero_for_equal_distributions():
    a = feature_sets()[0]
    found = kid(a[:150], a[150:], subsets=20, subset_size=100)
    assert found == kid(a[:150], a[150:], subsets=20, subset_size=100)
    assert found != kid(a[:150], a[150:], subsets=20, subset_size=100, seed=1)
    assert abs(found.mean) < 0.05 * kid(*feature_sets(), subsets=20, subset_size=100).mean


def test_kid_draws_from_both_sets_anew_for_every_subset():
    """A plain loop over the same draws; a subset of b that stays the same has another mean."""
    a, b = feature_sets()
    found = kid(a, b, subsets=7, subset_size=60, seed=3)
    rng = np.random.default_rng(3)
    values = []
    for _ in range(7):
        x = a[rng.choice(len(a), 60, replace=False)].astype(np.float64)
        y = b[rng.choice(len(b), 60, replace=False)].astype(np.float64)
        kernel = lambda u, v: (u @ v / a.shape[1] + 1) ** 3  # noqa: E731
        within = sum(
            kernel(s[i], s[j]) for s in (x, y) for i in range(60) for j in range(60) if i != j
        )
        across = sum(kernel(u, v) for u in x for v in y)
        values.append(within / (60 * 59) - 2 * across / 60**2)
    np.testing.assert_allclose(
        (found.mean, found.std), (np.mean(values), np.std(values)), rtol=1e-9
    )


def test_kid_refuses_sets_smaller_than_a_subset():
    a, b = feature_sets()
    with pytest.raises(ValueError, match="1000"):
        kid(a, b)


@pytest.fixture(scope="module")
def seeded_state():
    return inception_state()


@pytest.mark.parametrize("name", inception_images())
def test_inception_equals_torch_fidelity(torch_references, seeded_state, name):
    params = inception_weights.from_state(seeded_state, "seeded")
    found = jax.jit(inception.features)(params, inception_images()[name])
    assert found.shape == (1, inception.FEATURES)
    expected = torch_references[f"inception_{name}"]
    np.testing.assert_allclose(found[:, ::32], expected, atol=1e-4)
    assert expected.std() > 0.5


def test_weights_by_path_and_hash(tmp_path, seeded_state):
    path = tmp_path / "inception.safetensors"
    safetensors.numpy.save_file(seeded_state, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found = inception_weights.load(path, sha256)
    expected = inception_weights.from_state(seeded_state, "seeded")
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(WeightsError, match="is not the expected weights file"):
        inception_weights.load(path)
    with pytest.raises(WeightsError, match="cannot read"):
        inception_weights.load(tmp_path / "absent.pth")


def test_missing_or_misshapen_tensor_is_named(seeded_state):
    name = "Mixed_6c.branch7x7_2.conv.weight"
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        inception_weights.from_state({k: v for k, v in seeded_state.items() if k != name}, "it")
    with pytest.raises(WeightsError, match=f"{name} has shape"):
        inception_weights.from_state({**seeded_state, name: np.zeros((3, 3))}, "it")


def test_weights_by_address_are_fetched_once(tmp_path, monkeypatch, seeded_state):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = safetensors.numpy.save(seeded_state)
    sha256 = hashlib.sha256(data).hexdigest()
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/inception.safetensors"
        for _ in range(2):
            inception_weights.load(url, sha256)
        with pytest.raises(WeightsError, match="another file than expected"):
            inception_weights.load(url, "0" * 64)
        server.shutdown()
    assert len(requests) == 2
    with pytest.raises(WeightsError, match="give its path"):
        inception_weights.load(url, "1" * 64)


@pytest.fixture
def fake_torch(monkeypatch):
    """Modules with the two names that a saved state dict refers to, for pickling them by name."""

    class FloatStorage:
        def __init__(self, key, count):
            self.pid = ("storage", FloatStorage, key, "cpu", count)

    def _rebuild_tensor_v2(*args):
        raise AssertionError("only pickled by name")

    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils
    for module, thing in ((torch, FloatStorage), (utils, _rebuild_tensor_v2)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return torch


def pickled_state(torch, tensors):
    """A state dict's pickle as torch.save writes it."""

    class Tensor:
        def __init__(self, key, array):
            self.key, self.array = key, array

        def __reduce__(self):
            storage = torch.FloatStorage(self.key, self.array.size)
            strides = tuple(step // 4 for step in self.array.strides)
            hooks = collections.OrderedDict()
            arguments = (storage, 0, self.array.shape, strides, False, hooks)
            return torch._utils._rebuild_tensor_v2, arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return obj.pid if isinstance(obj, torch.FloatStorage) else None

    file = io.BytesIO()
    tree = collections.OrderedDict(
        (name, Tensor(str(i), array)) for i, (name, array) in enumerate(tensors.items())
    )
    tree._metadata = {"version": 1}
    Pickler(file, protocol=2).dump(tree)
    return file.getvalue()


TENSORS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b.bias": np.array([1.5, -2], np.float32),
    "scalar": np.array(7, np.float32),
}


def old_format(torch, tensors):
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    parts.append(pickled_state(torch, tensors))
    parts.append(pickle.dumps([str(i) for i in range(len(tensors))], protocol=2))
    for array in tensors.values():
        parts.append(np.int64(array.size).tobytes() + array.tobytes())
    return b"".join(parts)


def new_format(torch, tensors, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled_state(torch, tensors))
        for i, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{i}", array.tobytes())
    return path.read_bytes()


def test_both_formats_of_torch_save(fake_torch, tmp_path):
    for data in (
        old_format(fake_torch, TENSORS),
        new_format(fake_torch, TENSORS, tmp_path / "new.pth"),
    ):
        found = torch_state.loads(data)
        assert list(found) == list(TENSORS)
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].shape == array.shape


def test_damaged_torch_files_are_clear_errors(fake_torch, tmp_path):
    good = [old_format(fake_torch, TENSORS), new_format(fake_torch, TENSORS, tmp_path / "new.pth")]
    damaged = [b"", b"nothing", pickle.dumps(print), *(data[: len(data) // 2] for data in good)]
    for data in damaged:
        with pytest.raises(WeightsError, match="is not a PyTorch file of plain tensors"):
            torch_state.loads(data)
