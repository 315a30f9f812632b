"""Weights whose entropy model has a class of someone's own."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from glc_jax import images, weights
from glc_jax.cli import process, run
from tests import small_model

MODULE = "distributions_of_someone"
SOURCE = """
import dataclasses
from glc_jax.entropy.families import Gaussian
loaded = True

@dataclasses.dataclass(frozen=True)
class Mine(Gaussian):
    pass
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A picture, and weights that name a class of a module which can be imported."""
    name = f"{MODULE}:Mine"
    tree = copy.deepcopy(small_model.tree())
    content = json.loads(tree["entropy"]["model"].tobytes())
    families = [group["family"] for group in content["groups"]]
    assert [family["name"] for family in families].count("gaussian") == 4
    for family in families:
        family["name"] = name if family["name"] == "gaussian" else family["name"]
    tree["entropy"]["model"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
    model = {**small_model.MODEL, "entropy": {"distribution": name}}
    weights.save(tmp_path / "w.safetensors", tree, {"name": "outside", "model": model})
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    Image.fromarray(small_model.picture(40, 56)).save(tmp_path / "a.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "prepare_jax", lambda device: None)
    return tmp_path


@pytest.mark.slow
def test_a_class_of_someone_is_used_only_where_its_module_is_named(outside, capsys):
    model = ["--weights", "w.safetensors"]
    plugin = ["--plugin", MODULE]
    assert run(["compress", "a.png", *model]) == 1
    told = capsys.readouterr().err
    assert f"'{MODULE}:Mine'" in told
    assert "--plugin" in told
    assert len(told.splitlines()) == 1
    assert run(["compress", "a.png", *model, "--plugin", "no_such_module"]) == 1
    assert "'no_such_module' cannot be imported" in capsys.readouterr().err
    assert not (outside / "a.glc").exists()

    assert run(["compress", "a.png", *model, *plugin]) == 0
    assert run(["info", "a.glc", *model, *plugin]) == 0
    assert "y/3" in capsys.readouterr().out
    assert run(["info", "a.glc", *model]) == 1
    assert "--plugin" in capsys.readouterr().err
    assert run(["verify", "a.glc", *model, *plugin]) == 0
    assert run(["decompress", "a.glc", "-o", "b.png", *model, *plugin]) == 0
    assert images.read(outside / "b.png").shape == (40, 56, 3)
