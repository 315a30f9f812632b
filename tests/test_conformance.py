"""The conformance corpus: made by its script, decoded to the same, and every difference seen."""

import hashlib
import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pytest

from glc_jax import cli, conformance, weights
from glc_jax.errors import OutputError
from tests import small_model

ROOT = pathlib.Path(__file__).parents[1]
COMMITTED = ROOT / "tests" / "conformance"
NAMES = ("odd", "one_pixel")
MOVED = "vqvae/generator/conv_out/bias"


@pytest.fixture(scope="module")
def module():
    """scripts/make_conformance.py."""
    spec = importlib.util.spec_from_file_location(
        "make_conformance", ROOT / "scripts" / "make_conformance.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(module, tmp_path_factory):
    """Two pictures of one padded size; weights of another seed stand for the packaged ones."""
    packaged = tmp_path_factory.mktemp("packaged") / "packaged.safetensors"
    tree = small_model.tree()
    other = weights.unflatten({k: v + (k == MOVED) for k, v in weights.flatten(tree["params"])})
    config = {"name": "other", "model": small_model.MODEL}
    weights.save(packaged, {**tree, "params": other}, config)
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    leaves = module.pictures()["leaves"][0]
    few = {"odd": (leaves[:9, :15], 0.0), "one_pixel": (leaves[:1, :1], 3.0)}
    resolve = weights.resolve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "pictures", lambda: few)
        patch.setattr(
            weights, "resolve", lambda name: packaged if name == weights.DEFAULT else resolve(name)
        )
        assert module.make(folder) == 4
    return folder, packaged


@pytest.fixture
def changed(corpus, tmp_path, monkeypatch):
    """A copy of the corpus that may be changed, its packaged weights at hand."""
    folder, packaged = corpus
    monkeypatch.setattr(weights, "find", lambda wanted: packaged if wanted == fingerprint else None)
    fingerprint = weights.describe(packaged).fingerprint
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def test_making_a_corpus_removes_nothing_else(module, tmp_path, capsys, monkeypatch):
    """Neither .glc files beside somebody's manifest.json, nor what a manifest names elsewhere."""
    monkeypatch.setattr(module, "make", lambda folder: pytest.fail("made"))
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, data in (("manifest.json", "{}"), ("photo.glc", "mine"), ("photo.zip", "mine")):
        (mine / name).write_text(data)
    for output in (mine, mine / "photo.glc"):
        assert module.main(["-o", str(output)]) == 1
    assert module.main(["-o", str(mine / "photo"), "--zip"]) == 1
    assert "photo.zip: exists already" in capsys.readouterr().err
    forged = json.loads((COMMITTED / "manifest.json").read_text())
    forged["files"][0]["name"] = "../mine/photo.glc"
    corpus = shutil.copytree(COMMITTED, tmp_path / "corpus")
    (corpus / "manifest.json").write_text(json.dumps(forged))
    module.clear(tmp_path / "new")
    with pytest.raises(OutputError, match="holds something else"):
        module.clear(corpus)
    (corpus / "packaged_one_pixel.glc").unlink()
    module.clear(corpus)
    assert list(corpus.iterdir()) == []
    assert sorted(p.name for p in mine.iterdir()) == ["manifest.json", "photo.glc", "photo.zip"]


def verify(folder, capsys) -> tuple[int, dict[str, tuple[str, str | None]]]:
    status = cli.run(["verify", "--json", "--conformance", str(folder)])
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return status, {line["file"]: (line["result"], line["detail"]) for line in lines}


@pytest.mark.slow
def test_corpus_conforms_as_folder_and_as_archive(changed, capsys):
    archive = shutil.make_archive(str(changed), "zip", changed)
    for corpus in (changed, archive):
        status, found = verify(corpus, capsys)
        assert status == 0
        assert found == dict.fromkeys(
            [f"{model}_{name}.glc" for model in ("packaged", "small") for name in NAMES],
            ("conforms", None),
        )


def test_integers_are_known_by_their_bytes_as_little_endian_int32():
    values = np.array([[1, -2], [3, 70000]], np.int64).T  # by columns in memory
    data = bytes([1, 0, 0, 0, 3, 0, 0, 0, 254, 255, 255, 255, 112, 17, 1, 0])
    expected = {"shape": [2, 2], "sha256": hashlib.sha256(data).hexdigest()}
    assert conformance.integers_of([values]) == [expected]


def test_fields_are_eighths_of_each_side_or_pixels():
    picture = np.arange(3 * 16 * 3).reshape(3, 16, 3).astype(np.uint8)
    fields = np.array(conformance.fields_of(picture))
    assert fields.shape == (3, 8, 3)
    np.testing.assert_allclose(fields[1, 2], picture[1, 4:6].mean(0))


def test_each_difference_is_seen(changed, capsys):
    manifest = json.loads((changed / "manifest.json").read_text())
    files = {entry["name"]: entry for entry in manifest["files"]}
    files["packaged_odd.glc"]["integers"][1]["sha256"] = "0" * 64
    files["packaged_one_pixel.glc"]["integers"][0]["sha256"] = "0" * 64
    files["small_odd.glc"]["fields"][3][2][0] += 1.5
    (changed / "manifest.json").write_text(json.dumps(manifest))
    data = (changed / "small_one_pixel.glc").read_bytes()
    (changed / "small_one_pixel.glc").write_bytes(data[:-1] + b"\0")
    status, found = verify(changed, capsys)
    assert status == 1
    assert found == {
        "packaged_odd.glc": ("differs", "other integers"),
        "packaged_one_pixel.glc": ("differs", "other integers"),
        "small_odd.glc": ("differs", "another picture: fields differ by up to 1.5"),
        "small_one_pixel.glc": ("differs", "not the file that the manifest describes."),
    }


def test_weights_are_those_of_the_manifests_digest(changed):
    entries = conformance.manifest(changed)["weights"]
    (about,) = (entry for entry in entries.values() if entry["file"])
    found = conformance.weights_path(changed, about)
    assert found == changed / about["file"]
    assert conformance.weights_path(changed, {**about, "digest": "0" * 64}) is None
    assert conformance.weights_path(changed, {**about, "file": "none.safetensors"}) is None


def test_missing_weights_are_no_difference(changed, capsys, monkeypatch):
    monkeypatch.setattr(weights, "find", lambda wanted: None)
    status, found = verify(changed, capsys)
    assert status == 3
    assert found["packaged_odd.glc"] == ("weights missing", "the weights 'packaged'")
    assert found["small_odd.glc"] == ("conforms", None)


@pytest.mark.parametrize("content", [None, "{}", '{"format": "glc_jax.conformance/9"}'])
def test_what_is_no_corpus_is_refused(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    assert cli.run(["verify", "--conformance", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    (tmp_path / "no.zip").write_bytes(b"no archive")
    assert cli.run(["verify", "--conformance", str(tmp_path / "no.zip")]) == 1
    assert cli.run(["verify"]) == 2


@pytest.mark.slow
@pytest.mark.skipif(not COMMITTED.is_dir(), reason="no corpus has been made for these weights")
def test_committed_corpus(capsys):
    status, found = verify(COMMITTED, capsys)
    assert status == 0
    assert len(found) >= 12
