"""scripts/benchmark.py: what it does not write over."""

import importlib.util
import pathlib
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "benchmark.py"


def test_results_replace_results_alone(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "benchmark_files", lambda arguments: 0)
    output = tmp_path / "photo.jpg"
    arguments = ["benchmark.py", "--files", "a.png", "--json", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    for data in (b"", b'{"results": []}'):
        output.write_bytes(data)
        assert module.main() == 0
    output.write_bytes(b"\xff\xd8 a photograph")
    with pytest.raises(SystemExit):
        module.main()
    assert "holds no results" in capsys.readouterr().err
    assert output.read_bytes() == b"\xff\xd8 a photograph"
