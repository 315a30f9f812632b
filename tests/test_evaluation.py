"""The runner, its data sets and its files, with a codec that needs no model."""

import csv
import dataclasses
import io
import json
import pathlib
import shutil
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from glc_jax import evaluation
from glc_jax.errors import BitstreamError, ConfigError, InputError, OutputError
from glc_jax.evaluation import curves, datasets, methods, published, quality, results, runner
from glc_jax.metrics.psnr import psnr


class FakeCodec:
    """A codec's face over Pillow's JPEG at a few qualities, and a count of what was asked."""

    def __init__(self, name="fake", broken=()):
        self.config = {"name": name}
        self.fingerprint = name.encode()
        self.broken = broken
        self.compressed = 0
        self.fast = set()

    def compress(self, image, rate, fast=False):
        if image.shape[:2] in self.broken:
            raise BitstreamError("this size is beyond me.")
        self.compressed += 1
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(10 + 20 * rate))
        return buffer.getvalue()

    def decompress(self, data, fast=False):
        self.fast.add(fast)
        return np.asarray(Image.open(io.BytesIO(data)))

    def estimate(self, image, rate):
        return types.SimpleNamespace(bits_y=7.5 * len(self.compress(image, rate)), bits_z=14.0)


class OneColour(FakeCodec):
    """Five bytes for a picture of at most 255 x 255."""

    def compress(self, image, rate, fast=False):
        return bytes([*image.shape[:2], *image.mean((0, 1)).astype(np.uint8)])

    def decompress(self, data, fast=False):
        return np.full((*data[:2], 3), list(data[2:]), np.uint8)


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    for name, size, seed in (("a.png", (64, 80), 0), ("sub/b.png", (64, 80), 1)):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(*size, seed)).save(path / name)
    return path


def run(folder, output, codec=None, **settings):
    settings = {"rates": (0, 1.5), "metrics": ("psnr",), **settings}
    return evaluation.run(datasets.load(folder), codec or FakeCodec(), output, **settings)


def test_a_file_that_stands_at_several_rates_is_measured_once(folder, tmp_path, monkeypatch):
    measured, measure = [], quality.PairMeter.measure

    def counted(meter, original, shown):
        measured.append((original.tobytes(), shown.tobytes()))
        return measure(meter, original, shown)

    monkeypatch.setattr(quality.PairMeter, "measure", counted)
    found = run(folder, tmp_path, OneColour(), rates=(0, 1, 2), against=["webp"])
    smallest = [item for item in found["items"] if item["method"] == "webp"]
    assert [item["at_limit"] for item in smallest] == [True] * 6
    assert all(item["psnr"] is not None for item in smallest)
    assert len({item["psnr"] for item in smallest}) == 2  # of the two pictures
    assert "cannot make files as small as GLC fake's for 6 of 6" in " ".join(found["notes"])
    assert len(measured) == len(set(measured))


@pytest.mark.parametrize(("size", "told"), [(100, 0), (101, 1)])
def test_only_smallest_files_that_are_larger_are_remarked_on(size, told):
    both = [types.SimpleNamespace(id=name, label=name) for name in ("glc", "webp")]
    item = {"degradation": None, "image": "a.png", "point": "0"}
    items = [
        {**item, "method": "glc", "bytes": 100, "at_limit": False},
        {**item, "method": "webp", "bytes": size, "at_limit": True},
    ]
    assert len(runner._caveats(both, items, [], (), has_inception=False)) == told


def test_equal_files_of_two_pictures_have_values_of_their_own(tmp_path):
    (tmp_path / "in").mkdir()
    board = (-1) ** np.indices((64, 80)).sum(0)[..., None] * np.ones(3, int)
    for size in (10, 20):
        Image.fromarray(np.uint8(100 + size * board)).save(tmp_path / f"in/{size}.png")
    found = run(tmp_path / "in", tmp_path / "out", OneColour(), rates=(0,))
    assert {item["bytes"] for item in found["items"]} == {5}
    values = [item["psnr"] for item in found["items"]]
    np.testing.assert_allclose(values, 20 * np.log10([255 / 10, 255 / 20]), rtol=1e-6)


def test_numbers_are_those_of_the_files(folder, tmp_path):
    found = run(folder, tmp_path / "report")
    assert found["dataset"]["label"] == "pictures"  # not where it lies
    assert [(i["image"], i["point"]) for i in found["items"]] == [
        (name, point) for name in ("a.png", "sub/b.png") for point in ("0", "1.5")
    ]
    for item in found["items"]:
        report = tmp_path / "report"
        original, shown = (
            np.asarray(Image.open(report / item["files"][name]))
            for name in ("original", "reconstruction")
        )
        np.testing.assert_array_equal(original, np.asarray(Image.open(folder / item["image"])))
        data = (report / item["files"]["file"]).read_bytes()
        assert item["bytes"] == len(data)
        assert item["bpp"] == 8 * len(data) / (64 * 80)
        np.testing.assert_allclose(item["bpp_estimated"], (7.5 * len(data) + 14) / (64 * 80))
        np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(data))))
        np.testing.assert_allclose(item["psnr"], psnr(original[None], shown[None])[0], rtol=1e-6)
        assert Image.open(report / item["files"]["thumbnail"]).size == (80, 64)
    low = [item for item in found["items"] if item["point"] == "0"]
    row = found["averages"][0]
    assert (row["method"], row["point"], row["images"]) == ("glc", "0", 2)
    for name in ("bytes", "bpp", "bpp_estimated", "psnr"):
        np.testing.assert_allclose(row[name], np.mean([item[name] for item in low]))
    assert [item["warm"] for item in found["items"]] == [False, True, True, True]


def test_the_fast_mode_is_measured_and_said(folder, tmp_path):
    usual, quick = FakeCodec(), FakeCodec()
    run(folder, tmp_path / "report", usual)
    found = run(folder, tmp_path / "report", quick, fast=True)
    assert (usual.fast, quick.fast) == ({False}, {True})  # and nothing of the usual is taken over
    assert [method["label"] for method in found["methods"]] == ["GLC fake, fast"]


def row(method, point, bpp, value, **more):
    found = {**dict.fromkeys(quality.METRICS), "degradation": None}
    return {**found, "method": method, "point": point, "bpp": bpp, "psnr": value, **more}


def test_seconds_are_those_without_compilation_where_there_are_any():
    seconds = [(False, 9.0, 5.0), (True, 1.0, 2.0), (True, 3.0, 4.0)]
    items = [
        row("glc", "0", 1.0, 30.0, warm=warm, encode_seconds=one, decode_seconds=other, bytes=8)
        | {"bpp_estimated": None}
        for warm, one, other in seconds
    ]
    (found,) = results.averages(items, {})
    assert (found["encode_seconds"], found["decode_seconds"]) == (2, 3)
    assert (found["images"], found["bpp"], found["bpp_estimated"]) == (3, 1, None)
    (found,) = results.averages(items[:1], {(None, "glc", "0"): {"fid": 7.0}})
    assert (found["encode_seconds"], found["fid"], found["kid"]) == (9, 7, None)


def test_bd_rates_are_against_every_other_method():
    points = [("0", 1.0, 30.0), ("1", 2.0, 33.0), ("2", 4.0, 36.0)]
    rows = [row("glc", *point) for point in points]
    rows += [row("jpeg", name, 2 * bpp, value) for name, bpp, value in points]
    (found,) = results.bd_rates(rows, None, "glc")
    assert (found["method"], found["anchor"], found["metric"]) == ("glc", "jpeg", "psnr")
    assert found["percent"] == pytest.approx(-50)
    assert found["overlap"] == pytest.approx(1)


def test_ranges_of_pixels_are_those_of_each_metric(monkeypatch):
    def limits(*arguments):
        return jnp.stack([f(a) for a in arguments[-2:] for f in (jnp.min, jnp.max)])

    for module, name in ((quality.lpips, "lpips"), (quality.dists, "dists")):
        monkeypatch.setattr(module, name, limits)
    monkeypatch.setattr(quality.ms_ssim, "ms_ssim", limits)
    one = np.array([0, 51], np.uint8).reshape(1, 1, 2, 1)
    other = np.array([102, 255], np.uint8).reshape(1, 1, 2, 1)
    unit = np.array([0, 0.2, 0.4, 1])
    for name in quality.PAIR_METRICS[1:]:
        found = quality._pair_function(name)(one, other)
        wanted = 2 * unit - 1 if name.startswith("lpips") else unit
        np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=name)


def test_results_file_csv_and_plots(folder, tmp_path):
    found = run(folder, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    assert found["schema"] == "glc_jax.evaluation/2"
    assert found["methods"][0]["fingerprint"] == b"fake".hex()
    assert {"jax", "numpy", "python", "glc-jax"} <= found["versions"].keys()
    assert found["machine"]["cores"] >= 1
    with (tmp_path / "items.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["bytes"]) for row in rows] == [item["bytes"] for item in found["items"]]
    assert rows[0]["dists"] == ""
    assert [path.name for path in tmp_path.glob("rd_*.png")] == ["rd_psnr.png"]
    assert Image.open(tmp_path / "rd_psnr.png").size[0] > 900


def test_finished_work_is_not_done_again(folder, tmp_path):
    first = run(folder, tmp_path)
    again = FakeCodec()
    assert run(folder, tmp_path, again)["items"] == first["items"]
    assert again.compressed == 0

    more = FakeCodec()
    assert len(run(folder, tmp_path, more, rates=(0, 1.5, 3))["items"]) == 6
    assert more.compressed == 2 * 2  # a file and an estimate for each picture, at rate 3 only

    (tmp_path / first["items"][0]["files"]["file"]).unlink()
    Image.fromarray(picture(64, 80, seed=9)).save(folder / "sub/b.png")
    changed = FakeCodec()
    later = run(folder, tmp_path, changed)["items"]
    assert later != first["items"]
    shown = np.asarray(Image.open(tmp_path / later[-1]["files"]["original"]))
    np.testing.assert_array_equal(shown, picture(64, 80, seed=9))
    assert changed.compressed == 2 * (1 + 2)

    other = FakeCodec("other")
    run(folder, tmp_path, other)
    assert other.compressed == 2 * 4


def test_other_metrics_are_measured_anew(folder, tmp_path, monkeypatch):
    """Each stand-in for a metric gives the length of its name."""
    monkeypatch.setattr(quality, "_pair_function", lambda name: lambda *_: np.array([len(name)]))
    monkeypatch.setattr(quality, "_MIN_SIZES", dict.fromkeys(quality.PAIR_METRICS, 1))
    run(folder, tmp_path, metrics=("psnr",))
    again = FakeCodec()
    found = run(folder, tmp_path, again, metrics=("psnr", "dists"))
    assert {(item["psnr"], item["dists"]) for item in found["items"]} == {(4, 5)}
    assert again.compressed == 2 * 4
    found = run(folder, tmp_path, again, metrics=("dists",))
    assert {(item["psnr"], item["dists"]) for item in found["items"]} == {(None, 5)}


def test_encoders_match_the_sizes_of_this_run(folder, tmp_path):
    """Other weights give other sizes, and so other files of the encoders beside them."""

    class Coarser(FakeCodec):
        def compress(self, image, rate, fast=False):
            return super().compress(image, rate / 2)

    def sizes(found):
        return [(item["method"], item["bytes"], item["settings"]) for item in found["items"]]

    first = run(folder, tmp_path / "a", FakeCodec(), rates=(3,), against=["webp"])
    other = run(folder, tmp_path / "a", Coarser("coarser"), rates=(3,), against=["webp"])
    fresh = run(folder, tmp_path / "b", Coarser("coarser"), rates=(3,), against=["webp"])
    assert sizes(other) == sizes(fresh)
    assert sizes(other)[2:] != sizes(first)[2:]


def test_features_are_kept_for_one_patch_size_and_network(folder, tmp_path, monkeypatch):
    taken = []

    class Features:
        def __init__(self, weights, patch_size):
            self.patch_size = patch_size

        def of(self, image):
            taken.append(self.patch_size)
            return np.zeros((1, quality.inception.FEATURES), np.float32)

    unmeasured, sets = quality.SetDistances(1, None, None, None), []
    monkeypatch.setattr(quality, "PatchFeatures", Features)
    monkeypatch.setattr(quality, "set_distances", lambda *two: sets.append(two) or unmeasured)
    monkeypatch.setattr(quality.fid.Gaussian, "update", lambda self, batch: None)
    monkeypatch.setattr(runner.inception_weights, "load", lambda source, sha256: None)
    settings = {"inception": "any", "inception_sha256": "1", "patch_size": 32, "rates": (0,)}
    for change, count in (
        ({}, 4),
        ({}, 0),
        ({"inception_sha256": "2"}, 4),
        ({"inception_sha256": "2"}, 0),
        ({"inception_sha256": "2", "patch_size": 16}, 4),
    ):
        taken.clear()
        run(folder, tmp_path, **{**settings, **change})
        assert taken == [{**settings, **change}["patch_size"]] * count
        assert [len(one.features) for one in sets.pop()] == [2, 2]  # of both pictures


def test_an_interrupted_run_continues(folder, tmp_path):
    class Interrupted(FakeCodec):
        def compress(self, image, rate, fast=False):
            if self.compressed == 3:
                raise KeyboardInterrupt
            return super().compress(image, rate)

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, Interrupted())
    rest = FakeCodec()
    found = run(folder, tmp_path, rest)
    assert len(found["items"]) == 4
    assert rest.compressed == 2 * 3


def test_damaged_records_are_made_again(folder, tmp_path):
    first = run(folder, tmp_path)
    for path in (tmp_path / ".work").rglob("*.json"):
        path.write_text(path.read_text()[:30])
    again = FakeCodec()
    values = run(folder, tmp_path, again)["items"]
    assert again.compressed == 2 * 4
    assert [i["psnr"] for i in values] == [i["psnr"] for i in first["items"]]


def test_what_fails_is_reported_and_the_rest_is_done(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no picture")
    Image.fromarray(picture(40, 40)).save(folder / "small.png")
    steps = []
    found = run(
        folder,
        tmp_path,
        FakeCodec(broken=((40, 40),)),
        against=("jpeg",),
        progress=lambda done, total, name: steps.append((done, total)),
    )
    assert len(found["items"]) == 2 * 2 * 2
    failures = {(f["image"], f["method"], f["point"]): f["reason"] for f in found["failures"]}
    assert "broken.png" in failures["broken.png", None, None]
    assert failures["small.png", "glc", "0"] == "this size is beyond me."
    assert "no GLC fake file to match" in failures["small.png", "jpeg", "1.5"]
    assert len(failures) == 1 + 4
    assert steps[-1] == (16, 16)
    assert steps == sorted(steps)


def test_nothing_measured_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"")
    with pytest.raises(OutputError, match=r"None of the 1 pictures.*a\.png"):
        run(tmp_path / "in", tmp_path / "out")
    (tmp_path / "file").write_bytes(b"")
    Image.fromarray(picture(20, 20)).save(tmp_path / "in/a.png")
    with pytest.raises(OutputError, match="cannot be written"):
        run(tmp_path / "in", tmp_path / "file")


@pytest.mark.parametrize("name", ["index.html", "results.json", "images"])
def test_a_folder_of_something_else_is_left_alone(folder, tmp_path, name):
    site = tmp_path / "site"
    site.mkdir()
    (site / name).write_text("{}")
    with pytest.raises(OutputError, match=f"holds {name}, which is no report's"):
        run(folder, site)
    assert [path.name for path in site.iterdir()] == [name]
    assert (site / name).read_text() == "{}"


def test_a_report_within_its_own_input_is_not_measured(folder):
    run(folder, folder / "report", rates=(0,))
    found = datasets.load(folder, leave_out=folder / "report")
    assert [picture.name for picture in found.pictures] == ["a.png", "sub/b.png"]


def test_background_of_an_evaluation(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (picture,) = datasets.load(tmp_path).pictures
    with pytest.raises(InputError, match="--background"):
        picture.load()
    (picture,) = datasets.load(tmp_path, background="#010203").pictures
    assert (picture.load() == [1, 2, 3]).all()


def test_a_report_is_known_without_its_records_and_force_needs_none(folder, tmp_path):
    run(folder, tmp_path / "report", rates=(0,))
    shutil.rmtree(tmp_path / "report" / ".work")  # as docs/evaluation.md allows
    run(folder, tmp_path / "report", rates=(0,))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("mine")
    run(folder, tmp_path / "site", rates=(0,), force=True)
    assert "mine" not in (tmp_path / "site/index.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": ()}, "rates"),
        ({"rates": (1, 1.0)}, "rates"),
        ({"against": ("gif",)}, "gif"),
        ({"metrics": ("vmaf",)}, "vmaf"),
    ],
)
def test_settings_that_make_no_sense(folder, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(folder, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "avif")) for n in methods.ENCODERS],
)
def test_encoders_come_as_near_as_their_qualities_allow(name):
    image = picture(96, 128)
    method = methods.Matched(name)
    encoder = method.encoder

    def size(quality_setting):
        buffer = io.BytesIO()
        options = encoder.options
        Image.fromarray(image).save(buffer, encoder.format, quality=quality_setting, **options)
        return buffer.tell()

    smallest, middle, largest = map(size, (encoder.lowest, 60, encoder.highest))
    for target, expected in ((0, smallest), (middle, middle), (10**9, largest)):
        file = method.compress(image, target)
        assert len(file.data) == expected == size(file.settings["quality"])
        assert file.at_limit == (file.settings["quality"] == encoder.lowest)
        assert method.decompress(file.data).shape == image.shape

    target = (middle + largest) // 2
    file = method.compress(image, target)
    neighbours = [size(file.settings["quality"] + step) for step in (-1, 1)]
    assert min(neighbours) <= target <= max(neighbours)
    assert abs(len(file.data) - target) <= min(abs(neighbour - target) for neighbour in neighbours)


def test_encoder_that_cannot_be_small_enough_is_a_note(folder, tmp_path):
    notes = run(folder, tmp_path, OneColour(), rates=(0,), against=["webp"])["notes"]
    assert any("WebP cannot make files as small as GLC fake's for 2 of 2" in n for n in notes)
    notes = run(folder, tmp_path, rates=(3,), against=["webp"])["notes"]
    assert not any("WebP" in note for note in notes)


def test_two_models_and_an_encoder(folder, tmp_path):
    found = run(folder, tmp_path, other_codecs=[FakeCodec("b")], against=["webp", "webp"])
    assert [method["id"] for method in found["methods"]] == ["glc", "glc-2", "webp"]
    assert [method["matches"] for method in found["methods"]] == [None, None, "glc"]
    assert len(found["items"]) == 2 * 3 * 2
    sizes = {(i["image"], i["method"], i["point"]): i["bytes"] for i in found["items"]}
    for (image, method, point), size in sizes.items():
        if method == "webp":
            assert size < 2 * sizes[image, "glc", point]
    same = [rate for rate in found["bd_rates"] if rate["anchor"] == "glc-2"]
    np.testing.assert_allclose((same[0]["percent"], same[0]["overlap"]), (0, 1), atol=1e-9)


def test_metrics_that_a_small_picture_cannot_have(folder, tmp_path):
    Image.fromarray(picture(12, 200)).save(folder / "thin.png")
    found = run(folder, tmp_path, metrics=("psnr", "ms_ssim", "lpips"), rates=(0,))
    thin = next(item for item in found["items"] if item["image"] == "thin.png")
    assert thin["psnr"] > 0
    assert (thin["ms_ssim"], thin["lpips"]) == (None, None)
    assert found["averages"][0]["ms_ssim"] is None
    assert 0 < found["averages"][0]["lpips"] < 1
    assert any("MS-SSIM" in note and "3 pictures" in note for note in found["notes"])
    assert "ms_ssim" not in found["metrics"]


def test_equal_pictures_have_no_psnr():
    image = picture(32, 32)
    assert quality.PairMeter(["psnr"]).measure(image, image) == {"psnr": None}


def test_metric_without_weights_is_a_note(monkeypatch):
    from glc_jax.errors import WeightsError
    from glc_jax.metrics import lpips_weights

    def missing(net):
        raise WeightsError("the package is not there.")

    monkeypatch.setattr(lpips_weights, "load", missing)
    meter = quality.PairMeter(["psnr", "lpips"])
    assert meter.names == ("psnr",)
    assert meter.notes == ["LPIPS (Alex) was not computed: the package is not there."]


@pytest.fixture
def seeded_inception(tmp_path):
    import hashlib

    import safetensors.numpy

    from .metrics.seeded import inception_state

    path = tmp_path / "inception.safetensors"
    safetensors.numpy.save_file(inception_state(), path)
    return {
        "inception": path,
        "inception_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


@pytest.mark.slow
def test_fid_over_patches(folder, tmp_path, seeded_inception, monkeypatch):
    settings = {**seeded_inception, "patch_size": 32, "rates": (0,)}
    found = run(folder, tmp_path / "report", **settings)
    row = found["averages"][0]
    assert row["patches"] == 2 * (2 * 2 + 1 * 2)
    assert row["fid"] > 0
    assert row["kid"] is None
    assert any("KID was not computed" in note for note in found["notes"])
    assert any("fewer than its 2048" in note for note in found["notes"])

    def unneeded(*args):
        raise AssertionError("the features were kept")

    monkeypatch.setattr(quality.PatchFeatures, "of", unneeded)
    originals, shown = (
        quality.FeatureSet([lambda p=path: np.load(p)["features"] for path in sorted(paths)])
        for paths in (
            (tmp_path / "report/.work/original").glob("*.npz"),
            (tmp_path / "report/.work/glc/0").glob("*.npz"),
        )
    )
    seen = []
    monkeypatch.setattr(quality, "set_distances", lambda *sets: seen.append(sets) or measured)
    measured = quality.SetDistances(12, row["fid"], None, None)
    assert run(folder, tmp_path / "report", **settings)["averages"] == found["averages"]
    np.testing.assert_array_equal(seen[0][0].features, originals.features)
    np.testing.assert_array_equal(seen[0][1].features, shown.features)


def test_features_are_those_of_every_patch_in_batches_of_one_size(monkeypatch):
    sizes = []

    def brightness(weights, batch):
        sizes.append(batch.shape)
        return weights * batch.mean((1, 2, 3), keepdims=True)[:, :, 0, 0] * np.ones(2048)

    monkeypatch.setattr(quality.inception, "features", brightness)
    features = quality.PatchFeatures(np.float32(2), 8)
    image = np.arange(5 * 4, dtype=np.uint8).reshape(5, 4, 1).repeat(8, 0).repeat(8, 1)
    found = features.of(image.repeat(3, 2))
    assert found.shape == (5 * 4 + 4 * 3, 2048)
    np.testing.assert_allclose(found[:20, 0], 2 * np.arange(20), rtol=1e-6)
    assert set(sizes) == {(16, 8, 8, 3)}


def test_without_inception_there_are_no_numbers(folder, tmp_path):
    found = run(folder, tmp_path)
    assert all(row["fid"] is None and row["kid"] is None for row in found["averages"])
    assert any("FID and KID were not computed" in note for note in found["notes"])


# ---------------------------------------------------------------------------- the script


@pytest.mark.slow
def test_script_measures_a_real_model(folder, tmp_path):
    """In a process of its own: real .glc files, beside JPEG and a second model."""
    from glc_jax import codec

    from . import small_model

    weights, report = tmp_path / "small.safetensors", tmp_path / "report"
    small_model.write_weights(weights)
    loaded = codec.load(weights)
    script = pathlib.Path(__file__).parents[1] / "scripts" / "evaluate.py"
    command = [sys.executable, script, folder, "-o", report, "--weights", weights]
    command += ["--rates", "0", "2.5", "--metrics", "psnr", "--against", "jpeg", weights]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"Look at {report / 'index.html'}"
    found = json.loads((report / "results.json").read_text())
    assert [method["id"] for method in found["methods"]] == ["glc", "glc-2", "jpeg"]
    assert found["methods"][0]["fingerprint"] == loaded.fingerprint.hex()
    for item in found["items"]:
        shown = np.asarray(Image.open(report / item["files"]["reconstruction"]))
        if item["method"] == "glc":
            data = (report / item["files"]["file"]).read_bytes()
            np.testing.assert_array_equal(loaded.decompress(data), shown)
            original = np.asarray(Image.open(folder / item["image"]))
            estimate = loaded.estimate(original, float(item["point"]))
            bits = estimate.bits_y + estimate.bits_z
            np.testing.assert_allclose(item["bpp_estimated"], bits / (64 * 80), rtol=1e-5)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["codec", "rate", "bpp"]
    assert len([line for line in lines if "GLC" in line and " 2.5 " in line]) == 2


@pytest.mark.parametrize("arguments", [[], ["absent", "-o", "out"], [".", "-o", "o", "--dataset"]])
def test_script_complains_in_one_sentence(tmp_path, arguments):
    script = pathlib.Path(__file__).parents[1] / "scripts" / "evaluate.py"
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == (1 if "absent" in arguments else 2)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- data sets


def kodak(folder, count=24, size=(768, 512)):
    for i in range(count):
        width, height = size if i % 4 else size[::-1]
        Image.new("RGB", (width, height), (i, 0, 0)).save(folder / f"kodim{i + 1:02d}.png")
    return folder


def test_kodak_is_recognised(tmp_path):
    found = datasets.load(kodak(tmp_path), "kodak")
    assert (found.label, found.patch_size, len(found.pictures)) == ("Kodak", 64, 24)
    assert found.pictures[0].key == "kodim01"
    assert found.pictures[0].load().shape == (768, 512, 3)


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (23, (768, 512), "holds 23 pictures, and that set has 24"),
        (24, (768, 500), "24 pictures are not 768 x 512"),
    ],
)
def test_what_is_not_kodak_is_refused(tmp_path, count, size, message):
    with pytest.raises(InputError, match=message):
        datasets.load(kodak(tmp_path, count, size), "kodak")


def test_patch_counts_tell_resized_pictures():
    protocol = datasets.PROTOCOLS["div2k"]
    with pytest.raises(InputError, match=r"give 6,300 patches of 256 x 256.*gives 6,573"):
        datasets.check(protocol, 100, lambda: [(2040, 1356)] * 100, "folder")


def test_unknown_data_set(tmp_path):
    with pytest.raises(ConfigError, match="kodak, clic2020, div2k"):
        datasets.load(tmp_path, "imagenet")


def test_names_that_differ_only_in_suffix_or_case(tmp_path):
    for name in ("a.png", "a.webp", "B.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    keys = [picture.key for picture in datasets.load(tmp_path).pictures]
    assert keys == ["B", "a.png", "a.webp", "c__d"]


def test_tfds_needs_a_name_and_prepared_data(tmp_path):
    with pytest.raises(ConfigError, match="clic2020, div2k"):
        datasets.load("tfds")
    with pytest.raises(ConfigError, match="clic2020, div2k"):
        datasets.load("tfds", "kodak")


def test_pictures_from_tfds(monkeypatch):
    from glc_jax.data import sources

    class Source:
        def __init__(self, *arguments):
            assert arguments == ("div2k", "validation", "hr", "/data")

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return picture(300, 400, index)

        def name(self, index):
            return f"div2k[{index}]"

    monkeypatch.setattr(sources, "TFDSSource", Source)
    with pytest.raises(InputError, match="holds 2 pictures, and that set has 100"):
        datasets.load("tfds:/data", "div2k")
    small = dataclasses.replace(datasets.PROTOCOLS["div2k"], pictures=2, patch_counts={256: 2})
    monkeypatch.setitem(datasets.PROTOCOLS, "div2k", small)
    found = datasets.load("tfds:/data", "div2k")
    assert [(p.key, p.name) for p in found.pictures] == [
        ("div2k-0000", "div2k[0]"),
        ("div2k-0001", "div2k[1]"),
    ]
    np.testing.assert_array_equal(found.pictures[1].load(), picture(300, 400, 1))


# ---------------------------------------------------------------------------- curves


def test_published_curves_are_complete():
    for protocol in datasets.PROTOCOLS.values():
        found = published.curves(protocol.published)
        ours = {curve.metric: curve for curve in found if curve.method == "GLC"}
        assert {"PSNR", "LPIPS", "DISTS"} <= ours.keys()
        assert all(curve.bpp == sorted(curve.bpp) for curve in found)
        names = {metric.published for metric in quality.METRICS.values()}
        assert {curve.metric for curve in found} <= names
    assert len(published.curves("Kodak")[0].bpp) in (1, 2, 3, 4)


def test_bd_rate_against_the_published_curve():
    curve = next(
        curve
        for curve in published.curves("Kodak")
        if (curve.method, curve.metric) == ("GLC", "PSNR")
    )
    rows = [
        {"method": "glc", "bpp": 1.05 * bpp, **dict.fromkeys(quality.METRICS), "psnr": value}
        for bpp, value in zip(curve.bpp, curve.value, strict=True)
    ]
    found = {rate["anchor"]: rate for rate in results.bd_rates(rows, "Kodak", "glc")}
    np.testing.assert_allclose(found["published GLC"]["percent"], 5, atol=1e-6)
    assert found["published GLC"]["metric"] == "psnr"


def test_plot_needs_values():
    rows = [{"method": "glc", "bpp": 0.1, "bpp_estimated": None, "psnr": None}]
    assert curves.plot("psnr", rows, {"glc": "GLC"}, "title") is None
    rows[0]["psnr"] = 20.0
    image = curves.plot("psnr", rows, {"glc": "GLC"}, "title", "Kodak")
    assert Image.open(io.BytesIO(image)).format == "PNG"
