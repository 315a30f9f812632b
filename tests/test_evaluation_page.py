"""The report's page in a real browser: the slider moves, tables sort, nothing logs an error."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from glc_jax.evaluation import datasets, page, runner

from .test_evaluation import FakeCodec, picture

webdriver = pytest.importorskip("selenium.webdriver", reason="the page's test needs selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
NAMES = ["a 10.png", "a 9.png", "<b>&'quoted'.png"]
SIZES = [(120, 160), (96, 200), (150, 100)]
PHONE = {"deviceMetrics": {"width": 360, "height": 740, "pixelRatio": 2.0, "touch": True}}

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of three pictures at three rates, of two models and JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, (height, width)) in enumerate(zip(NAMES, SIZES, strict=True)):
        Image.fromarray(picture(height, width, seed)).save(folder / name)
    (folder / "broken.png").write_bytes(b"")
    output = tmp_path_factory.mktemp("report")
    results = runner.run(
        datasets.load(folder),
        FakeCodec(),
        output,
        rates=(0, 1, 2.5),
        other_codecs=[FakeCodec("second")],
        against=["webp"],
        metrics=("psnr",),
    )
    return output, results


def start(**experimental):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for name, value in experimental.items():
        options.add_experimental_option(name, value)
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def desktop(report):
    browser = start()
    yield browser
    browser.quit()


@pytest.fixture
def browser(desktop, report):
    desktop.get((report[0] / "index.html").as_uri())
    yield desktop
    assert desktop.get_log("browser") == []


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def position(browser):
    """Of the divider in percent, as assistive technology hears it; checked to be what is drawn."""
    value = float(find(browser, "#stage").get_attribute("aria-valuenow"))
    drawn = browser.execute_script(
        "const stage = document.getElementById('stage').getBoundingClientRect();"
        "const handle = document.getElementById('handle').getBoundingClientRect();"
        "return 100 * (handle.left + handle.width / 2 - stage.left) / stage.width;"
    )
    clip = find(browser, "#image-right").value_of_css_property("clip-path")
    assert drawn == pytest.approx(value, abs=1)
    assert clip.startswith("inset(0")
    return value


def shown(browser, side):
    """The path of the picture on one side, once it has been loaded."""
    image = find(browser, f"#image-{side}")
    WebDriverWait(browser, 20).until(
        lambda _: browser.execute_script(
            "return arguments[0].complete && arguments[0].naturalWidth > 0", image
        )
    )
    return image.get_attribute("src")


def column(browser, table, index):
    cells = browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody td:nth-child({index})")
    return [cell.text for cell in cells]


def test_mouse_drags_the_divider(browser):
    box = browser.execute_script(
        "return document.getElementById('stage').getBoundingClientRect().toJSON()"
    )

    def mouse(kind, share, buttons):
        """An event at a share of the picture's width."""
        x, y = box["left"] + share * box["width"], box["top"] + 0.4 * box["height"]
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "clickCount": 1})

    assert position(browser) == 50
    mouse("mousePressed", 0.3, 1)
    assert position(browser) == pytest.approx(30, abs=1)
    mouse("mouseMoved", 0.75, 1)
    assert position(browser) == pytest.approx(75, abs=1)
    mouse("mouseMoved", 1.1, 1)
    assert position(browser) == 100  # held, it follows beyond the edge
    mouse("mouseMoved", 0.6, 1)
    mouse("mouseReleased", 0.6, 0)
    mouse("mouseMoved", 0.2, 0)
    assert position(browser) == pytest.approx(60, abs=1)  # released, it stays


def test_keys_move_the_divider(browser):
    stage = find(browser, "#stage")
    for key, expected in (
        (Keys.ARROW_RIGHT, 52),
        (Keys.ARROW_LEFT, 50),
        (Keys.SHIFT + Keys.ARROW_LEFT, 40),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.END, 100),
    ):
        stage.send_keys(key)
        assert position(browser) == expected


def test_pictures_rates_and_codecs(browser, report):
    results = report[1]
    first = results["items"][0]
    assert first["image"] in find(browser, "#current").text
    assert shown(browser, "left").endswith("images/original/%3Cb%3E%26'quoted'.png")
    assert "/images/glc/2.5/" in shown(browser, "right")

    Select(find(browser, "#rate")).select_by_value("0")
    assert "/images/glc/0/" in shown(browser, "right")
    item = next(i for i in results["items"] if i["image"] == first["image"] and i["point"] == "0")
    caption = find(browser, "#caption-right").text
    assert f"{item['bytes']:,} bytes" in caption
    assert f"{item['bpp']:.4f} bpp" in caption
    assert f"PSNR {item['psnr']:.2f} dB" in caption

    Select(find(browser, "#left")).select_by_visible_text("WebP")
    assert "/images/webp/0/" in shown(browser, "left")
    Select(find(browser, "#right")).select_by_visible_text("GLC second")
    assert "/images/glc-2/0/" in shown(browser, "right")

    find(browser, "#stage").send_keys("2")
    assert "/images/webp/1/" in shown(browser, "left")
    find(browser, "#next").click()
    assert "(2 of 3)" in find(browser, "#current").text
    find(browser, "#stage").send_keys("pp")
    assert "(3 of 3)" in find(browser, "#current").text
    find(browser, "#strip button").click()
    assert "(1 of 3)" in find(browser, "#current").text
    find(browser, "#zoom").click()
    ratio = browser.execute_script("return devicePixelRatio")
    assert find(browser, "#stage").size["width"] == pytest.approx(first["width"] / ratio, abs=1)


def test_tables_sort(browser, report):
    assert sorted(column(browser, "items", 1)) == sorted(NAMES)
    heads = browser.find_elements(By.CSS_SELECTOR, "#items th")
    heads[0].find_element(By.TAG_NAME, "button").click()
    assert column(browser, "items", 1) == ["<b>&'quoted'.png", "a 9.png", "a 10.png"]
    size = next(i for i, head in enumerate(heads) if head.text.startswith("bytes"))
    for direction in ("ascending", "descending"):
        heads[size].find_element(By.TAG_NAME, "button").click()
        assert heads[size].get_attribute("aria-sort") == direction
        assert heads[0].get_attribute("aria-sort") is None
        values = [int(text.replace(",", "")) for text in column(browser, "items", size + 1)]
        assert values == sorted(values, reverse=direction == "descending")

    find(browser, "#averages th:nth-child(5) button").click()
    values = [float(text) for text in column(browser, "averages", 5)]
    assert values == sorted(values)
    assert len(values) == 9
    with (report[0] / "items.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["method"], r["point"]) == ("glc", "0")]
    mean = np.mean([float(row["bpp"]) for row in rows])
    assert f"{mean:.4f}" in column(browser, "averages", 5)


def test_a_row_shows_its_picture(browser):
    Select(find(browser, "#items-method")).select_by_visible_text("WebP")
    Select(find(browser, "#items-point")).select_by_value("1")
    rows = browser.find_elements(By.CSS_SELECTOR, "#items tbody tr")
    row = next(row for row in rows if "a 9.png" in row.text)
    row.find_element(By.TAG_NAME, "button").click()
    assert shown(browser, "right").endswith("/images/webp/1/a%209.png")
    assert "a 9.png" in find(browser, "#current").text
    assert row.get_attribute("aria-current") == "true"


def test_everything_loads_and_says_what_failed(browser):
    browser.execute_script("document.querySelector('#curves').scrollIntoView()")
    plots = browser.find_elements(By.CSS_SELECTOR, ".plots img")
    assert len(plots) == 1
    for image in [*plots, *browser.find_elements(By.CSS_SELECTOR, "#strip img")]:
        browser.execute_script("arguments[0].scrollIntoView()", image)
        WebDriverWait(browser, 20).until(
            lambda _, image=image: browser.execute_script(
                "return arguments[0].naturalWidth > 0", image
            )
        )
        assert image.get_attribute("loading") == "lazy"
    notes = find(browser, "#notes").text
    assert "broken.png" in notes
    assert "FID and KID were not computed" in notes
    assert find(browser, "#bd-rates").is_displayed()
    urls = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert all(url.startswith(("file:", "data:")) for url in urls)


def test_a_finger_on_a_phone(report):
    browser = start(mobileEmulation=PHONE)
    try:
        browser.get((report[0] / "index.html").as_uri())
        box = browser.execute_script(
            "return document.getElementById('stage').getBoundingClientRect().toJSON()"
        )
        assert box["width"] > 300
        y = box["top"] + box["height"] / 2
        for kind, x in (("touchStart", 200), ("touchMove", 240), ("touchMove", 90)):
            browser.execute_cdp_cmd(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            )
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        expected = 100 * (90 - box["left"]) / box["width"]
        assert position(browser) == pytest.approx(expected, abs=1)
        page_width = browser.execute_script("return document.documentElement.scrollWidth")
        assert page_width <= 360  # nothing but tables and the strip scrolls sideways
        assert browser.get_log("browser") == []
    finally:
        browser.quit()


def test_names_cannot_become_markup(report):
    text = page.render(report[1], {}).decode()
    assert "<b>&'quoted'" not in text
    assert "</script><script>" not in page.render(
        {**report[1], "notes": ["</script><script>alert(1)</script>"]}, {}
    ).decode().replace("</script>\n<script>", "")
