"""Pictures that are spoiled before they are coded, and restorers, with a codec without a model."""

import dataclasses
import json
import types

import numpy as np
import pytest
from PIL import Image, ImageFilter

import glc_jax
from glc_jax import companions, evaluation, weights
from glc_jax.data import degrade
from glc_jax.errors import ConfigError, InputError, TooLargeError, WeightsError
from glc_jax.evaluation import datasets, quality, runner
from glc_jax.metrics.psnr import psnr
from tests import small_model
from tests.test_evaluation import FakeCodec, picture

NAMES = ("noise25", "box3")


class Restoring(FakeCodec):
    """Its restorer blurs, which helps against noise; `restored` counts."""

    def __init__(self, digest="1", **settings):
        super().__init__(**settings)
        self.restorer = types.SimpleNamespace(name="fake-restore", digest=digest)
        self.restored = 0

    def compress(self, image, rate, restore=False, fast=False):
        self.restored += restore
        if restore:
            image = np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(1)))
        return super().compress(image, rate)


@pytest.fixture(autouse=True)
def plotted(monkeypatch):
    """The rows of each plot, which takes longer than all else and is tested elsewhere."""
    rows = []
    monkeypatch.setattr(runner.curves, "plot", lambda metric, shown, *_: rows.append(shown))
    return rows


def run(folder, output, codec=None, names=NAMES, **settings):
    settings = {"rates": (0, 2), "metrics": ("psnr",), "restore": True, **settings}
    degradations = [degrade.parse(name) for name in names]
    dataset = datasets.load(folder, leave_out=output)
    return evaluation.run(
        dataset, codec or Restoring(), output, degradations=degradations, **settings
    )


def read(output, item, what):
    return np.asarray(Image.open(output / item["files"][what]))


def test_what_is_coded_is_degraded_and_what_it_is_compared_with_is_not(folder, tmp_path):
    found = run(folder, tmp_path)
    assert found["degradations"] == list(NAMES)
    assert [method["id"] for method in found["methods"]] == ["glc", "glc-restore"]
    assert found["methods"][1]["label"] == "GLC fake, restored"
    expected = [
        (name, method, image, point)
        for name in NAMES
        for method in (None, "glc", "glc-restore")
        for image in ("a.png", "sub/b.png")
        for point in (("0", "2") if method else (None,))
    ]
    keys = ("degradation", "method", "image", "point")
    assert [tuple(item[key] for key in keys) for item in found["items"]] == expected
    for item in found["items"]:
        original = np.asarray(Image.open(folder / item["image"]))
        spoilt = degrade.parse(item["degradation"])(original)
        assert (spoilt != original).any()
        np.testing.assert_array_equal(read(tmp_path, item, "original"), original)
        np.testing.assert_array_equal(read(tmp_path, item, "input"), spoilt)
        shown = spoilt
        if item["method"] is None:
            assert item["bytes"] is item["bpp"] is item["encode_seconds"] is None
        else:
            codec, restore = Restoring(), item["method"] == "glc-restore"
            data = codec.compress(spoilt, float(item["point"]), restore)
            assert (tmp_path / item["files"]["file"]).read_bytes() == data
            assert item["bytes"] == len(data)
            assert (item["bpp_estimated"] is None) == restore
            shown = read(tmp_path, item, "reconstruction")
            np.testing.assert_array_equal(shown, codec.decompress(data))
        np.testing.assert_allclose(item["psnr"], psnr(original[None], shown[None])[0], rtol=1e-6)


def test_rows_of_each_degradation_and_the_mean_over_them(folder, tmp_path, plotted):
    found = run(folder, tmp_path)
    rows = {(r["degradation"], r["method"], r["point"]): r for r in found["averages"]}
    assert len(rows) == len(found["averages"]) == 2 * (1 + 2 * 2)
    for key, row in rows.items():
        own = [i for i in found["items"] if (i["degradation"], i["method"], i["point"]) == key]
        assert row["images"] == len(own) == 2
        np.testing.assert_allclose(row["psnr"], np.mean([item["psnr"] for item in own]))
    assert len(found["means"]) == 1 + 2 * 2
    for row in found["means"]:
        own = [rows[name, row["method"], row["point"]] for name in NAMES]
        assert row["images"] == 4
        np.testing.assert_allclose(row["psnr"], np.mean([one["psnr"] for one in own]))
        if row["method"]:
            np.testing.assert_allclose(row["bpp"], np.mean([one["bpp"] for one in own]))
    noisy = [
        rows["noise25", *of]["psnr"] for of in ((None, None), ("glc", "2"), ("glc-restore", "2"))
    ]
    assert noisy[2] > max(noisy[:2]) + 1  # blurring helps against noise
    rate = next(rate for rate in found["bd_rates"] if rate["anchor"] == "glc-restore")
    assert rate["metric"] == "psnr"
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    lines = (tmp_path / "items.csv").read_text().splitlines()
    assert lines[0].startswith("image,width,height,degradation,method,point,")
    assert lines[1].startswith("a.png,80,64,noise25,,,,,,,")
    assert plotted == [[row for row in found["means"] if row["method"]]]


def test_one_degradation_has_no_mean(folder, tmp_path, plotted):
    found = run(folder, tmp_path, names=["noise25"], restore=False)
    assert found["means"] == []
    assert plotted == [[row for row in found["averages"] if row["method"]]]
    assert {item["degradation"] for item in found["items"]} == {"noise25"}
    assert [method["id"] for method in found["methods"]] == ["glc"]


def test_clean_pictures_through_the_restorer(folder, tmp_path):
    found = run(folder, tmp_path, names=[])
    assert {(item["degradation"], item["method"]) for item in found["items"]} == {
        (None, "glc"),
        (None, "glc-restore"),
    }
    for item in found["items"]:
        assert "input" not in item["files"]
        assert item["files"]["file"].startswith(f"files/{item['method']}/{item['point']}/")
    assert found["degradations"] == found["means"] == []
    assert len(found["averages"]) == 4


def test_nothing_stale_is_used_and_nothing_is_done_twice(folder, tmp_path):
    def made(names=NAMES, digest="1", spoil=None, **settings):
        """How many files, of them restored, and estimates, a run makes."""
        codec = Restoring(digest)
        degradations = [degrade.parse(name) for name in names]
        if spoil is not None:
            degradations = [Spoil(one.name, spoil) for one in degradations]
        dataset = datasets.load(folder)
        settings = {"rates": (0, 2), "metrics": ("psnr",), "restore": True, **settings}
        evaluation.run(dataset, codec, tmp_path, degradations=degradations, **settings)
        return codec.compressed, codec.restored

    plain, restored = 2 * 2 * 2, 2 * 2  # of two pictures at two rates: file and estimate; file
    assert made([], restore=False) == (plain, 0)
    assert made() == (2 * (plain + restored), 2 * restored)
    assert made() == (0, 0)
    assert made([], restore=False) == (0, 0)  # nor is anything of the clean pictures lost
    assert made([]) == (restored, restored)
    assert made(["noise25"]) == (0, 0)
    assert made(["noise25", "noise20"]) == (plain + restored, restored)
    assert made(digest="2") == (2 * restored, 2 * restored)
    assert made(restore=False) == (0, 0)
    # A degradation that changes what it does, under its old name.
    assert made(["noise25"], digest="2", spoil=lambda x: x // 2) == (plain + restored, restored)


@dataclasses.dataclass
class Spoil:
    name: str
    spoil: object

    def __call__(self, image):
        return self.spoil(image)


def test_an_input_is_measured_anew_with_other_metrics(folder, tmp_path, monkeypatch):
    """Each stand-in for a metric gives the length of its name."""
    monkeypatch.setattr(quality, "_pair_function", lambda name: lambda *_: np.array([len(name)]))
    monkeypatch.setattr(quality, "_MIN_SIZES", dict.fromkeys(quality.PAIR_METRICS, 1))
    for metrics, expected in ((("psnr",), (4, None)), (("psnr", "dists"), (4, 5))):
        found = run(folder, tmp_path, metrics=metrics)
        assert {(item["psnr"], item["dists"]) for item in found["items"]} == {expected}


def test_encoders_follow_the_sizes_of_the_same_input(folder, tmp_path):
    found = run(folder, tmp_path, rates=(3,), against=["webp"])
    keys = ("degradation", "image", "method")
    sizes = {tuple(item[key] for key in keys): item["bytes"] for item in found["items"]}
    for name in NAMES:
        for image in ("a.png", "sub/b.png"):
            own = sizes[name, image, "glc"]
            assert 0.6 * own < sizes[name, image, "webp"] < 1.5 * own
    assert sizes["noise25", "a.png", "webp"] > 1.5 * sizes["box3", "a.png", "webp"]


def test_features_of_degraded_pictures(folder, tmp_path, monkeypatch):
    """Each row's set is that of its own pictures, against the clean ones; kept for the next run."""
    taken, sets = [], []

    class Features:
        def __init__(self, weights, patch_size):
            self.patch_size = patch_size

        def of(self, image):
            taken.append(image)
            return np.full((1, quality.inception.FEATURES), image.mean(), np.float32)

    def distances(*both):
        sets.append([one.features[:, 0] for one in both])
        return quality.SetDistances(2, None, None, None)

    monkeypatch.setattr(quality, "PatchFeatures", Features)
    monkeypatch.setattr(quality, "set_distances", distances)
    monkeypatch.setattr(quality.fid.Gaussian, "update", lambda self, batch: None)
    monkeypatch.setattr(runner.inception_weights, "load", lambda source, sha256: None)
    settings = {"inception": "any", "inception_sha256": "1", "rates": (0,)}
    found = run(folder, tmp_path, **settings)
    originals = [np.asarray(Image.open(folder / name)) for name in ("a.png", "sub/b.png")]
    assert len(taken) == 2 * (1 + 2 * 3)
    assert len(sets) == len(found["averages"]) == 2 * 3
    for row in found["averages"]:
        own = [i for i in found["items"] if all(i[k] == row[k] for k in ("degradation", "method"))]
        what = "reconstruction" if row["method"] else "input"
        expected = [[image.mean() for image in originals]]
        expected += [[read(tmp_path, item, what).mean() for item in own]]
        assert any(np.allclose(pair, expected, rtol=1e-6) for pair in sets)
    taken.clear()
    run(folder, tmp_path, **settings)
    assert taken == []


def test_failures_say_of_which_input(folder, tmp_path, monkeypatch):
    Image.fromarray(picture(40, 40)).save(folder / "small.png")
    Image.fromarray(picture(30, 30)).save(folder / "tiny.png")
    measure, steps = quality.PairMeter.measure, []

    def limited(meter, original, shown):
        if original.shape[:2] == (30, 30):
            raise TooLargeError("too large for me.")
        return measure(meter, original, shown)

    monkeypatch.setattr(quality.PairMeter, "measure", limited)
    found = run(
        folder,
        tmp_path,
        Restoring(broken=((40, 40),)),
        rates=(0,),
        progress=lambda done, total, name: steps.append((done, total)),
    )
    failures = {(f["image"], f["degradation"], f["method"]): f for f in found["failures"]}
    assert set(failures) == {
        *(("small.png", name, method) for name in NAMES for method in ("glc", "glc-restore")),
        *(("tiny.png", name, None) for name in NAMES),
    }
    assert failures["tiny.png", "box3", None]["reason"] == "too large for me."
    assert steps == sorted(steps)
    assert steps[-1] == (16, 16)


def test_a_picture_that_cannot_be_read_fails_once(folder, tmp_path):
    (folder / "a.png").write_bytes(b"no picture")
    found = run(folder, tmp_path)
    assert [(f["image"], f["degradation"]) for f in found["failures"]] == [("a.png", None)]
    assert len(found["items"]) == 2 * (1 + 2 * 2)


def test_settings_that_make_no_sense(folder, tmp_path):
    with pytest.raises(ConfigError, match="degradations must be different"):
        run(folder, tmp_path / "out", names=("box3", "box3"))

    class None_(FakeCodec):
        @property
        def restorer(self):
            raise WeightsError("there is no restorer.")

    with pytest.raises(WeightsError, match="there is no restorer"):
        run(folder, tmp_path / "out", None_())
    assert not (tmp_path / "out").exists()
    run(folder, tmp_path / "out", None_(), restore=False, names=())


def test_an_input_error_of_a_restorer_is_a_failure(folder, tmp_path):
    class Broken(Restoring):
        def compress(self, image, rate, restore=False, fast=False):
            if restore:
                raise InputError("not this one.")
            return super().compress(image, rate)

    found = run(folder, tmp_path, Broken(), names=["box3"])
    assert {item["method"] for item in found["items"]} == {None, "glc"}
    assert {failure["method"] for failure in found["failures"]} == {"glc-restore"}


@pytest.mark.slow
def test_a_real_model_and_its_restorer(folder, tmp_path):
    base, restorer = tmp_path / "base.safetensors", tmp_path / "restorer.safetensors"
    small_model.write_weights(base)
    side = companions.encoder_side(small_model.parameters(1))
    companions.save(restorer, "restorer", "small-restore", side, weights.load(base), {})
    codec = glc_jax.load(base, restorer=restorer)
    found = run(folder, tmp_path / "report", codec, rates=(1,))
    assert found["methods"][1]["restorer_sha256"] == weights.describe(restorer).digest
    report, files = tmp_path / "report", {}
    for item in found["items"]:
        if item["method"]:
            restore = item["method"] == "glc-restore"
            data = (report / item["files"]["file"]).read_bytes()
            assert data == codec.compress(read(report, item, "input"), 1, restore=restore)
            shown = read(report, item, "reconstruction")
            np.testing.assert_array_equal(shown, codec.decompress(data))
            files.setdefault((item["image"], item["degradation"]), set()).add(data)
    assert [len(each) for each in files.values()] == [2] * 4
