"""Each degradation against its definition, what can be named, and what training draws."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from glc_jax.data import degrade
from glc_jax.data.degrade import DEGRADATIONS, Degradation, Recipe, parse
from glc_jax.errors import ConfigError
from tests.small_model import picture


def spoiled(kind: str, image: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return DEGRADATIONS[kind].spoil(image.astype(np.float32), strength, rng)


def flat(value: float, height: int = 90, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), value, np.float32)


def impulse(side: int) -> np.ndarray:
    """A point of 1000, 2000 and 3000 in the middle."""
    image = np.zeros((side, side, 3), np.float32)
    image[side // 2, side // 2] = 1000, 2000, 3000
    return image


def test_noise_has_its_deviation_in_every_colour_by_itself():
    found = spoiled("noise", flat(100), 20) - 100
    assert found.std((0, 1)) == pytest.approx([20] * 3, rel=0.03)
    assert abs(found.mean()) < 0.5
    colours = np.corrcoef(found.reshape(-1, 3).T)
    assert np.abs(colours - np.eye(3)).max() < 0.05


def test_grain_is_noise_that_the_colours_share():
    found = spoiled("grain", flat(100), 20) - 100
    assert found.std() == pytest.approx(20, rel=0.03)
    np.testing.assert_allclose(found, found[..., :1].repeat(3, 2), atol=1e-4)


@pytest.mark.parametrize("value", [255, 64])
def test_shot_noise_grows_as_the_root_of_the_light(value):
    found = spoiled("poisson", flat(value), 16)
    assert found.mean() == pytest.approx(value, abs=0.5)
    assert found.std() == pytest.approx(16 * np.sqrt(value / 255), rel=0.03)


def test_a_blur_is_a_gaussian_of_each_colour():
    found = spoiled("blur", impulse(41), 1.5)
    y, x = np.mgrid[-20:21, -20:21]
    gaussian = np.exp(-(x**2 + y**2) / (2 * 1.5**2)) / (2 * np.pi * 1.5**2)
    for colour in range(3):
        expected = 1000 * (colour + 1) * gaussian
        np.testing.assert_allclose(found[..., colour], expected, atol=0.02 * (colour + 1))
    np.testing.assert_allclose(spoiled("blur", flat(80), 3), 80, rtol=1e-5)  # up to the edges


@pytest.mark.parametrize("seed", range(4))
def test_a_smear_is_a_gaussian_wider_along_its_direction(seed):
    rng = np.random.default_rng(seed)
    angle, across = rng.uniform(0, np.pi), rng.uniform(0.1, 0.8)
    found = spoiled("smear", impulse(61), 4, seed)
    weights = found[..., 1] / 2000
    assert weights.sum() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(found[..., 2], 3000 * weights, atol=1e-2)
    y, x = np.mgrid[-30:31, -30:31]
    moments = [[(weights * a * b).sum() for a in (x, y)] for b in (x, y)]
    (narrow, wide), axes = np.linalg.eigh(moments)
    assert wide == pytest.approx(4**2, rel=0.06)  # cut off at three deviations
    assert narrow == pytest.approx((4 * across) ** 2, rel=0.06, abs=0.15)
    direction = axes[:, 1] @ [np.cos(angle), np.sin(angle)]
    assert abs(direction) > 0.99
    np.testing.assert_allclose(spoiled("smear", flat(80), 4), 80, rtol=1e-4)


@pytest.mark.parametrize(("side", "odd"), [(1, 1), (3, 3), (3.9, 3), (4.1, 5), (7, 7)])
def test_a_box_is_the_mean_of_an_odd_square(side, odd):
    found = spoiled("box", impulse(15), side)
    expected = np.zeros((15, 15))
    half = odd // 2
    expected[7 - half : 8 + half, 7 - half : 8 + half] = 1 / odd**2
    np.testing.assert_allclose(found[..., 0], 1000 * expected, atol=1e-3)
    np.testing.assert_allclose(found[..., 2], 3000 * expected, atol=3e-3)


def resized(image: np.ndarray, size: tuple[int, int], there: int, back: int) -> np.ndarray:
    height, width = image.shape[:2]
    planes = [Image.fromarray(image[..., i]).resize(size, there) for i in range(3)]
    return np.stack([np.asarray(plane.resize((width, height), back)) for plane in planes], -1)


def test_down_and_up_again():
    image = picture(60, 90).astype(np.float32)
    bicubic = Image.Resampling.BICUBIC
    expected = resized(image, (30, 20), bicubic, bicubic)
    np.testing.assert_allclose(spoiled("down", image, 3), expected)
    assert spoiled("down", image[:5, :7], 16).shape == (5, 7, 3)


def test_resampling_draws_a_filter_for_each_way():
    image, seen = picture(60, 90).astype(np.float32), set()
    for seed in range(12):
        one, other = np.random.default_rng(seed).integers(4, size=2)
        there, back = degrade.FILTERS[one], degrade.FILTERS[other]
        expected = resized(image, (45, 30), there, back)
        np.testing.assert_allclose(spoiled("resample", image, 2, seed), expected)
        seen.add((there, back))
    assert {one for one, _ in seen} == {other for _, other in seen} == set(degrade.FILTERS)


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_coding_is_that_of_pillow_at_its_quality(kind, name):
    image = picture(48, 64)
    for quality in (10, 60):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, name, quality=quality)
        expected = np.asarray(Image.open(buffer).convert("RGB"), np.float32)
        np.testing.assert_array_equal(spoiled(kind, image, quality), expected)
        np.testing.assert_array_equal(spoiled(kind, image + np.float32(0.4), quality), expected)
        np.testing.assert_array_equal(spoiled(kind, image, quality + 0.4), expected)
    assert spoiled(kind, flat(300), 90).min() > 250  # clipped, not wrapped around


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_more_is_worse_and_what_is_named_is_the_same_every_time(kind):
    image = picture(48, 64)
    one = DEGRADATIONS[kind]
    errors = []
    for strength in (one.weakest, one.strongest):
        name = f"{kind}{strength:g}"
        assert parse(name).name == name
        shown = parse(name)(image)
        assert (shown.dtype, shown.shape) == (np.uint8, image.shape)
        np.testing.assert_array_equal(shown, parse(name)(image))
        errors.append(np.mean((shown.astype(float) - image) ** 2))
    assert errors[0] < errors[1]


def test_what_is_named_is_rounded_and_clipped():
    image = np.full((40, 40, 3), 255, np.uint8)
    found = parse("noise25")(image)
    noise = np.random.default_rng(0).standard_normal(image.shape, np.float32)
    np.testing.assert_array_equal(found, np.clip(np.round(255 + 25 * noise), 0, 255))


@pytest.mark.parametrize(
    "name", ["", "noise", "25noise", "fog3", "noise25x", "noise-3", "noise1.", "Noise3", "noise 3"]
)
def test_what_is_no_degradation_is_told(name):
    with pytest.raises(ConfigError, match=r"There is no degradation .*: one of noise, grain"):
        parse(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("noise0", "more than 0 to 255"),
        ("noise256", "more than 0 to 255"),
        ("grain256", "more than 0 to 255"),
        ("poisson0", "more than 0 to 255"),
        ("blur20.5", "more than 0 to 20"),
        ("smear0.0", "more than 0 to 20"),
        ("box0", "1 to 63"),
        ("box64", "1 to 63"),
        ("down0.5", "1 to 16"),
        ("down17", "1 to 16"),
        ("resample17", "more than 0 to 16"),
        ("jpeg0", "1 to 95"),
        ("jpeg96", "1 to 95"),
        ("webp101", "0 to 100"),
    ],
)
def test_a_strength_out_of_range_is_told(name, says):
    with pytest.raises(ConfigError, match=says):
        parse(name)


@pytest.mark.parametrize("name", ["noise255", "blur20", "box63", "down16", "jpeg95", "webp0"])
def test_limits_are_inclusive(name):
    assert parse(name).strength == float(name.strip("abcdefghijklmnopqrstuvwxyz"))


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[str, float]]:
    """(kind, strength) of each degradation applied: each adds 1."""
    found = []

    def counted(kind):
        def spoil(image, strength, rng):
            found.append((kind, strength))
            return image + 1

        return spoil

    for kind, one in list(DEGRADATIONS.items()):
        monkeypatch.setitem(DEGRADATIONS, kind, one._replace(spoil=counted(kind)))
    return found


def counts(recipe: Recipe, drawn: list, times: int = 2000) -> Counter:
    """How often so many degradations were drawn; all of one picture are different."""
    found, image = Counter(), np.full((2, 2, 3), 7, np.uint8)
    for seed in range(times):
        drawn.clear()
        shown = recipe(image, np.random.default_rng(seed))
        assert (shown == 7 + len(drawn)).all()
        assert shown.dtype == np.uint8
        kinds = [kind for kind, _ in drawn]
        assert len(set(kinds)) == len(kinds)
        found[len(kinds)] += 1
    return found


def test_shares_of_clean_pictures_and_of_one_degradation(drawn):
    found = counts(Recipe(), drawn)
    assert found[0] / 2000 == pytest.approx(0.15, abs=0.025)
    assert found[1] / 2000 == pytest.approx(0.85 * 0.6, abs=0.035)
    for several in (2, 3):
        assert found[several] / 2000 == pytest.approx(0.85 * 0.2, abs=0.025)
    assert set(found) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"clean": 1.0}, {0}),
        ({"clean": 0.0, "single": 1.0}, {1}),
        ({"clean": 0.0, "single": 0.0}, {2, 3}),
        ({"clean": 0.0, "single": 0.0, "most": 1}, {1}),
        ({"clean": 0.0, "single": 0.0, "most": 5, "kinds": ("blur", "jpeg")}, {2}),
    ],
)
def test_how_many_can_come_together(drawn, fields, expected):
    assert set(counts(Recipe(**fields), drawn, 60)) == expected


def test_every_kind_is_drawn_as_often_first_and_over_its_whole_range(drawn):
    firsts, strengths = Counter(), {kind: [] for kind in DEGRADATIONS}
    for seed in range(3000):
        drawn.clear()
        Recipe(clean=0.0)(np.zeros((2, 2, 3), np.uint8), np.random.default_rng(seed))
        firsts[drawn[0][0]] += 1
        for kind, strength in drawn:
            strengths[kind].append(strength)
    for kind, one in DEGRADATIONS.items():
        assert firsts[kind] / 3000 == pytest.approx(1 / len(DEGRADATIONS), abs=0.025)
        low, high = sorted((one.weakest, one.strongest))
        assert low <= min(strengths[kind]) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(strengths[kind]) <= high


def test_a_recipe_clips_after_each_and_is_the_generators():
    recipe = Recipe(clean=0.0)
    image = picture(40, 40)
    one, same, other = (recipe(image, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_what_overshoots_is_clipped_before_the_next(monkeypatch):
    turned = Degradation(lambda image, strength, rng: 300 - image, 1, 2, "")
    monkeypatch.setitem(DEGRADATIONS, "blur", turned)
    monkeypatch.setitem(DEGRADATIONS, "box", turned)
    recipe = Recipe(clean=0.0, single=0.0, most=2, kinds=("blur", "box"))
    image = np.array([[[200, 20, 90]]], np.uint8)
    found = recipe(image, np.random.default_rng(0))
    np.testing.assert_array_equal(found, [[[200, 45, 90]]])  # 20 -> 280, which is 255 -> 45


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kinds": ("fog",)}, "degrade.kinds is .*there are noise"),
        ({"kinds": ()}, "degrade.kinds is"),
        ({"clean": 1.5}, "shares, from 0 to 1"),
        ({"single": -0.1}, "shares, from 0 to 1"),
        ({"most": 0}, "degrade.most is 0; it must be at least 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_told(fields, says):
    Recipe().check()
    with pytest.raises(ConfigError, match=says):
        Recipe(**fields).check()
