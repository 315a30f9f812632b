"""Sizes as text: what they evaluate to, and that nothing else gets through."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_jax.entropy import sizes
from glc_jax.errors import WeightsError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4*h", 20),
        ("- floordiv(- h, 2)", 3),
        ("mod(h, 3) + w**2", 51),
        ("max(h, w) - min(h, 3)", 4),
        (12, 12),
        ("-h", -5),
    ],
)
def test_values(text, value):
    assert sizes.evaluate(text, {"h": 5, "w": 7}) == value


def test_shapes_are_split_and_bound():
    assert sizes.split("(b, 4*h, max(h, 2), 64)") == ("b", "4*h", "max(h, 2)", "64")
    declared = [("b", "h", 3), ("b", "4*h", "w*2")]
    assert sizes.bind(declared, [(2, 5, 3), (2, 20, 6)]) == {"b": 2, "h": 5, "w": 3}
    for shapes in ([(2, 5, 3), (2, 21, 6)], [(2, 5, 4), (2, 20, 6)], [(2, 5), (2, 20, 6)]):
        with pytest.raises(WeightsError):
            sizes.bind(declared, shapes)


@pytest.mark.parametrize(
    "text",
    [
        *("", "(", "h +", "lambda: 1", "h.x", "__import__('os')", "'a'*h", "2.5*h", "1e9"),
        *("h**h**h", "2**41", "9999999*9999999", "floordiv(h, 0)", "mod(h, 0)", "h**-1", "h/2"),
        *("True", "floordiv(h)", "max(h, h, h)", "-" * 250 + "h", "(" * 150 + "h" + ")" * 150),
        *("h\0", "\ud800", True, None, 1.5, [1], {"a": 1}, 1 << 41, -(1 << 41), 10**400),
    ],
)
def test_what_is_no_size(text):
    with pytest.raises(WeightsError):
        sizes.evaluate(text, {"h": 5})
    if text != "x":  # which has no size yet, and gets one
        with pytest.raises(WeightsError):
            sizes.bind([(text, "h")], [(5, 5)])


@pytest.mark.parametrize("shape", [None, 3, "hw", {"h": 1}, ["-h"], [["h"]]])
def test_what_is_no_shape(shape):
    with pytest.raises(WeightsError):
        sizes.shape(shape, {"h": 5, "w": 2})


@given(st.text("hw0123456789+-*(), floordivmax'.\"", max_size=40))
def test_any_text_is_a_size_or_refused(text):
    with contextlib.suppress(WeightsError):
        assert abs(sizes.evaluate(text, {"h": 5, "w": 7})) <= sizes.MAX_SIZE
