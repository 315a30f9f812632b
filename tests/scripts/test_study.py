"""The study's arithmetic: the table and the page from results; the run itself takes minutes."""

import re

import numpy as np
import pytest

from scripts import study_entropy_models as study


def run_of(choice, seed=0, more=1.0):
    errors = (0.2, 0.15, 0.12, 0.1)
    rates = [
        {"bytes": more * 100 / e, "estimate": 99 / e, "bytes_z": 50.0, "error": e} for e in errors
    ]
    seconds = {"seconds_encode": 0.25, "seconds_decode": 0.5}
    return {"choice": choice, "seed": seed, "rates": rates, "parameters": 1234, **seconds}


RESULTS = {
    "setting": {"steps": 10, "weights": "00", "train": 3, "held_out": 2},
    "runs": [
        run_of("GLC"),
        run_of("GLC", 1, 1.02),
        run_of("context: none", 0, 1.1),
        run_of("z_prior: autoregressive", 0, 0.95),
    ],
}


def test_bytes_are_compared_at_equal_error():
    assert study.difference(run_of("x", more=1.1), run_of("GLC")) == pytest.approx(10.0, abs=1e-6)
    flat = run_of("x")
    flat["rates"] = [{**rate, "error": 0.1} for rate in flat["rates"]]
    assert np.isnan(study.difference(flat, run_of("GLC")))


def test_the_table_says_the_spread_of_what_was_repeated():
    rows = {row.split(" | ")[0][2:]: row for row in study.table(RESULTS).splitlines()[2:]}
    assert list(rows) == ["GLC", "context: none", "z_prior: autoregressive"]
    assert "+1.0 % (+0.0 to +2.0)" in rows["GLC"]
    assert "| +10.0 % |" in rows["context: none"]
    assert "| -5.0 % |" in rows["z_prior: autoregressive"]
    assert "1,234" in rows["GLC"]


def test_the_page_keeps_everything_but_the_table(tmp_path):
    (tmp_path / "images").mkdir()
    page = tmp_path / "page.md"
    page.write_text(f"before\n{study.BEGIN}\nold\n{study.END}\nafter\n")
    study.write_page(RESULTS, page)
    study.write_page(RESULTS, page)
    text = page.read_text()
    assert re.fullmatch(
        r"before\n<!-- study -->\n10 steps, 3 .* 00\.\n\n\|.*\|\n<!-- /study -->\nafter\n",
        text,
        re.S,
    )
    assert (tmp_path / "images" / "entropy_study.png").stat().st_size > 5000


def test_crops_lie_within_the_latents():
    latents = np.arange(2 * 10 * 12 * 1.0).reshape(2, 10, 12, 1)
    crops = study._crops(latents, np.random.default_rng(0), 20, 10)
    assert crops.shape == (20, 10, 10, 1)
    assert {c[0, 0, 0] % 120 for c in crops} == {0.0, 1.0, 2.0}


def test_a_folder_without_pictures_is_one_sentence(tmp_path, capsys):
    assert study.main([str(tmp_path), str(tmp_path), "-o", str(tmp_path / "study.json")]) == 1
    assert capsys.readouterr().err == f"study: {tmp_path}: no pictures in this folder.\n"
    assert not (tmp_path / "study.json").exists()


@pytest.mark.parametrize("text", ["no JSON", '{"name": "somebody\'s"}', "[1]"])
def test_a_file_of_another_kind_is_left_alone(tmp_path, capsys, text):
    output = tmp_path / "mine.json"
    output.write_text(text)
    assert study.main([str(tmp_path), str(tmp_path), "-o", str(output)]) == 1
    assert capsys.readouterr().err == (
        f"study: {output}: holds no results of a study; name another file.\n"
    )
    assert output.read_text() == text
