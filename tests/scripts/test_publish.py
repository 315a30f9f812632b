"""scripts/publish.py: what is uploaded is what hf: addresses then give."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from glc_jax import hub, weights

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "publish.py"


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path) -> weights.Description:
    return weights.save(
        tmp_path / "own.safetensors",
        {"params": {"kernel": np.zeros((2, 3), np.float32)}},
        {"name": "own", "model": {}},
        {"trained on": "clouds"},
    )


def report(path, fingerprint: str, degradations: list[str]) -> pathlib.Path:
    found = {
        "degradations": degradations,
        "dataset": {"pictures": 24, "label": "Kodak"},
        "methods": [
            {"id": "glc", "label": "GLC own", "fingerprint": fingerprint},
            {"id": "avif", "label": "AVIF"},
        ],
        "metrics": {
            "psnr": {"label": "PSNR", "decimals": 2},
            "fid": {"label": "FID", "decimals": 1},
        },
        "averages": [
            {"method": "glc", "point": "0", "bpp": 0.02431, "psnr": 21.321, "fid": None},
            {"method": "avif", "point": "0", "bpp": 0.0761, "psnr": 25.6, "fid": 30.04},
        ],
        "notes": ["FID was computed from few."],
    }
    path.write_text(json.dumps(found))
    return path


def test_folder_has_weights_card_and_licence(publish, model, tmp_path, capsys):
    results = report(tmp_path / "results.json", model.fingerprint.hex(), [])
    out = tmp_path / "out"
    command = [model.path, "-o", out, "--repository", "lab/own", "--report", results]
    assert publish.main(list(map(str, command))) == 0
    assert capsys.readouterr().out == f"Now: hf upload lab/own {out}\n"
    assert sorted(path.name for path in out.iterdir()) == ["LICENSE", "README.md", hub.FILE]
    assert (out / hub.FILE).read_bytes() == model.path.read_bytes()
    assert "Apache License" in (out / "LICENSE").read_text()
    lines = (out / "README.md").read_text().splitlines()
    front = lines[1 : lines.index("---", 1)]
    assert {"license: apache-2.0", "library_name: glc_jax"} <= set(front)
    assert "| GLC own | 0 | 0.0243 | 21.32 | - |" in lines
    assert "| AVIF | 0 | 0.0761 | 25.60 | 30.0 |" in lines
    assert "- trained on: clouds" in lines
    assert "glc compress photo.jpg --weights hf:lab/own" in lines
    assert hub.parse("hf:lab/own").file == hub.FILE


def test_what_does_not_fit_is_refused(publish, model, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "own.txt").write_text("kept")
    other = report(tmp_path / "other.json", "ffff", [])
    degraded = report(tmp_path / "degraded.json", model.fingerprint.hex(), ["noise25"])
    for arguments, says in (
        (["-o", "full", "--repository", "lab/own"], "is not empty"),
        (["-o", "new", "--repository", "own"], "an address is written"),
        (["-o", "new", "--repository", "lab/own", "--report", other], "measures the weights ffff"),
        (["-o", "new", "--repository", "lab/own", "--report", degraded], "measures degraded"),
        (["-o", "new", "--repository", "lab/own", "--licence", "mit"], "needs its text"),
    ):
        words = [str(tmp_path / word) if word in ("full", "new") else word for word in arguments]
        assert publish.main([str(model.path), *map(str, words)]) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["own.txt"]
