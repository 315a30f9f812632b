"""The report of degraded pictures in a real browser: all side by side, every input chosen."""

import numpy as np
import pytest
from PIL import Image

from glc_jax.data import degrade
from glc_jax.evaluation import datasets, runner
from tests.evaluation.test_degraded import Restoring
from tests.test_evaluation import picture
from tests.test_evaluation_page import (
    By,
    Select,
    WebDriverWait,
    column,
    find,
    pytestmark,
    shown,
    start,
)

__all__ = ["pytestmark"]

NAMES = ("noise25", "box3")
CODECS = ("GLC fake", "GLC fake, restored")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder, output = (tmp_path_factory.mktemp(name) for name in ("pictures", "report"))
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(picture(96, 120, seed)).save(folder / name)
    results = runner.run(
        datasets.load(folder),
        Restoring(),
        output,
        rates=(0, 2),
        degradations=[degrade.parse(name) for name in NAMES],
        restore=True,
        metrics=("psnr",),
    )
    return output, results


@pytest.fixture(scope="module")
def desktop():
    browser = start()
    yield browser
    browser.quit()


@pytest.fixture
def browser(desktop, report):
    desktop.get((report[0] / "index.html").as_uri())
    WebDriverWait(desktop, 20).until(lambda _: column(desktop, "items", 1))
    yield desktop
    assert desktop.get_log("browser") == []


def test_clean_degraded_plain_and_restored(browser, report):
    output, results = report

    def captions():
        return [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#row figcaption")]

    def value(degradation, method, point):
        keys = {"image": "a.png", "degradation": degradation, "method": method, "point": point}
        item = next(i for i in results["items"] if all(i[k] == v for k, v in keys.items()))
        return f"PSNR {item['psnr']:.2f} dB"

    assert shown(browser, "left").endswith("/images/noise25/input/a.png")
    assert shown(browser, "right").endswith("/images/noise25/glc-restore/2/a.png")
    assert captions()[0] == "Original"
    assert captions()[1] == f"Degraded (noise25) · {value('noise25', None, None)}"
    for caption, name, method in zip(captions()[2:], CODECS, ("glc", "glc-restore"), strict=True):
        assert caption.startswith(f"{name} · ")
        assert caption.endswith(f" bytes · {value('noise25', method, '2')}")

    Select(find(browser, "#degradation")).select_by_value("box3")
    Select(find(browser, "#rate")).select_by_value("0")
    assert shown(browser, "left").endswith("/images/box3/input/a.png")
    assert value("box3", None, None) in find(browser, "#caption-left").text
    assert captions()[3].endswith(value("box3", "glc-restore", "0"))
    sources = browser.execute_script(
        "document.getElementById('row').scrollIntoView();"
        "return [...document.querySelectorAll('#row img')].map((image) => image.src)"
    )
    paths = ("original", "box3/input", "box3/glc/0", "box3/glc-restore/0")
    assert [source.split("/images/")[1] for source in sources] == [f"{p}/a.png" for p in paths]
    assert all((output / "images" / path / "a.png").exists() for path in paths)

    Select(find(browser, "#left")).select_by_visible_text("Original")
    assert shown(browser, "left").endswith("/images/original/a.png")


def test_tables(browser, report):
    results = report[1]
    inputs = column(browser, "averages", 1)
    assert inputs == [name for name in (*NAMES, "mean") for _ in range(5)]
    assert column(browser, "averages", 2)[:3] == ["not coded", CODECS[0], CODECS[0]]
    psnr = np.float64([row["psnr"] for row in results["means"]])
    assert [float(text) for text in column(browser, "averages", 8)[10:]] == list(psnr.round(2))

    Select(find(browser, "#items-degradation")).select_by_value("box3")
    Select(find(browser, "#items-method")).select_by_visible_text("Degraded")
    rows = browser.find_elements(By.CSS_SELECTOR, "#items tbody tr")
    assert len(rows) == 2
    rows[1].find_element(By.TAG_NAME, "button").click()
    assert shown(browser, "right").endswith("/images/box3/input/b.png")
    Select(find(browser, "#items-method")).select_by_visible_text(CODECS[1])
    browser.find_elements(By.CSS_SELECTOR, "#items tbody tr button")[0].click()
    assert shown(browser, "right").endswith("/images/box3/glc-restore/2/a.png")
