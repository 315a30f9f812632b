"""The exact model of a weights file that nobody has to trust, and what several groups agree on."""

import contextlib
import copy
import itertools
import json
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glc_jax.entropy import windows
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.integer import LIMIT, HostFloat64, arithmetic_for
from glc_jax.entropy.program import INDEX_LIMIT, Builder
from glc_jax.errors import BitstreamError, WeightsError
from tests.entropy.changes import changed
from tests.entropy.test_program import ODD, places

MOST_BYTES = 64 * 2**20
"""The model below takes a few hundred kB of a picture of one z."""

SHAPE = ("b", "2*h", "2*w", 2)


def first_program() -> Builder:
    """z -> step, scale and mean, the same for the four positions of a cell."""
    builder = Builder()
    z = builder.input(("b", "h", "w"), INDEX_LIMIT)
    table = np.random.default_rng(0).integers(20, 300, (4, 6))
    x = builder.add("rows", [z], {"table": table})
    x = builder.add("broadcast", [x], shape=["b", "h", 2, "w", 2, 6], axes=[0, 1, 3, 5])
    x = builder.add("reshape", [x], shape=["b", "2*h", "2*w", 6])
    for start, name in ((0, "step"), (2, "scale"), (4, "mean")):
        stops = [*SHAPE[:3], start + 2]
        part = builder.add("slice", [x], starts=[0, 0, 0, start], stops=stops, strides=[1] * 4)
        builder.output(name, part, 6)
    return builder


def later_program() -> Builder:
    """y so far and the first mean -> scale and mean."""
    builder = Builder()
    y = builder.input(SHAPE, (1 << 31) - 1, 6)
    mean = builder.input(SHAPE, LIMIT, 6)
    nothing = {"shift": np.zeros((), int), "bias": np.zeros((), int)}
    y = builder.add("round", [y], nothing, limit=LIMIT)
    builder.output("scale", builder.add("leaky", [y], slope=4000), 6)
    builder.output("mean", builder.add("sum", [y, mean], signs=[1, -1]), 6)
    return builder


def group(name: str, blocks: list[list[int]], program: int, reads: list[str]) -> dict:
    return {
        "name": name,
        "latent": "y",
        "blocks": blocks,
        "family": {"name": "gaussian", "fields": {"smallest_scale": 1e-6}},
        "centre": "mean",
        "program": program,
        "reads": reads,
    }


CONTENT = {
    "version": 1,
    "latents": [
        {"name": "z", "shape": ["h", "w"], "indices": True, "exponent": 0, "unit": None},
        {"name": "y", "shape": [*SHAPE[1:]], "indices": False, "exponent": 6, "unit": "step"},
    ],
    "groups": [
        {
            "name": "z",
            "latent": "z",
            "blocks": [[0, 1, 0, 1, 0, 0]],
            "family": {"name": "categorical", "fields": {"size": 4}},
            "centre": None,
            "program": None,
            "reads": [],
        },
        group("y/0", [[0, 2, 0, 2, 0, 2]], 0, ["z"]),
        group("y/1", [[0, 2, 1, 2, 0, 1], [1, 2, 0, 2, 0, 1]], 1, ["y", "mean"]),
        group("y/2", [[0, 2, 1, 2, 1, 2], [1, 2, 0, 2, 1, 2]], 1, ["y", "mean"]),
        group("y/3", [[1, 2, 1, 2, 0, 2]], 1, ["y", "mean"]),
    ],
}


def made_tree() -> dict:
    pool, stored = {}, {}
    for number, builder in enumerate((first_program(), later_program())):
        arrays = builder.program().to_arrays()
        text, start = arrays.pop("program"), len(pool)
        pool |= {str(start + i): arrays[str(i)] for i in range(len(arrays))}
        stored[str(number)] = {"program": text, "arrays": np.arange(start, len(pool))}
    frequencies = np.array([1 << 23, 1 << 22, 1 << 21, 1 << 21], np.int32)
    tables = {"0": {"frequencies": frequencies}}
    return {"programs": stored, "arrays": pool, "tables": tables}


TREE = made_tree()
PLACES = list(places(CONTENT))
TARGETS = {
    "z": np.array([[[1]]]),
    "y": np.random.default_rng(0).laplace(size=(1, 2, 2, 2)).astype(np.float32),
}


def with_content(content) -> dict:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {**TREE, "model": np.frombuffer(text, np.uint8)}


TREE = with_content(CONTENT)


def use(tree) -> None:
    """All that a codec does with a model: it works, or what is wrong is said."""
    with contextlib.suppress(WeightsError, BitstreamError):
        model = ExactModel(tree, HostFloat64())
        coded = model.encode(TARGETS)
        payload, options = model.write(coded)
        model.decode(payload, options, 1, 1)
        model.bits(coded)
        model.latent(coded, "y")


SIZES = st.sampled_from(
    ["h*w", "h**4", "1048576*h", "1099511627776", "0*h", "q", "h - 9", "floordiv(h, 0)", "h h"]
)
NAMES = st.sampled_from(["z", "y", "scale", "mean", "step", "y/0", "none such"])
SLOWLY = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), ODD | SIZES | NAMES), min_size=1, max_size=3)


def test_what_is_prepared_is_what_runs(monkeypatch):
    compiled, prepared, ran = windows._compiled(), [], []

    def forms(arguments):
        fixed, arrays = arguments[:7], arguments[7:]
        return fixed, [(np.shape(x), np.dtype(x.dtype)) for x in jax.tree.leaves(arrays)]

    class Noting:
        def prepare(self, *arguments):
            prepared.append(forms(arguments))
            compiled.prepare(*arguments)

        def __call__(self, *arguments):
            ran.append(forms(arguments))
            return compiled(*arguments)

    monkeypatch.setattr(windows, "_compiled", Noting)
    monkeypatch.setattr(windows, "WINDOW_BYTES", 2**14)
    model = ExactModel(TREE, arithmetic_for("cpu"))
    model.prepare(24, 40)
    assert not ran
    rng = np.random.default_rng(0)
    y = rng.laplace(size=(1, 48, 80, 2)).astype(np.float32)
    model.encode({"z": rng.integers(0, 4, (1, 24, 40)), "y": y})
    assert len(ran) > len(prepared) == 4  # several windows of each of the programs
    assert [one for one, _ in itertools.groupby(ran)] == [
        one for one, _ in itertools.groupby(prepared)
    ]


def test_the_model_that_is_changed_works():
    model = ExactModel(TREE, HostFloat64())
    coded = model.encode(TARGETS)
    read = model.decode(*model.write(coded), 1, 1)
    np.testing.assert_array_equal(read.values["y"], coded.values["y"])


@settings(SLOWLY, max_examples=60)
@given(CHANGES, st.booleans())
def test_a_changed_description_works_or_is_refused(changes, remove):
    use(with_content(changed(CONTENT, changes, remove)))


@pytest.mark.slow
@settings(SLOWLY, max_examples=800)
@given(CHANGES, st.booleans())
def test_many_changed_descriptions_work_or_are_refused(changes, remove):
    use(with_content(changed(CONTENT, changes, remove)))


# What such changes once came to: each field that names something, or says how large it is.
FATAL = {
    "the name of a latent": (("latents", 1, "name"), "q"),
    "two latents of one name": (("latents", 1, "name"), "z"),
    "a latent larger than any machine": (("latents", 1, "shape", 2), "1099511627776"),
    "a latent of no size": (("latents", 1, "shape", 0), "h - 1"),
    "a latent without channels": (("latents", 1, "shape"), ["2*h", "2*w"]),
    "a unit that nothing gives": (("latents", 1, "unit"), "none such"),
    "a unit that is a latent": (("latents", 0, "unit"), "z"),
    "a group that reads what nothing gives": (("groups", 2, "reads", 1), "none such"),
    "a group that reads what comes later": (("groups", 1, "reads", 0), "mean"),
    "blocks beyond the channels": (("groups", 1, "blocks", 0), [0, 2, 0, 2, 2, 4]),
    "blocks of huge steps": (("groups", 4, "blocks", 0), [0, 1 << 60, 0, 2, 0, 2]),
    "an alphabet larger than any machine": (("groups", 0, "family", "fields", "size"), 1 << 62),
    "a family's field of another type": (("groups", 1, "family", "fields", "smallest_scale"), "x"),
    "a version of text": (("version",), "1"),
    "a scale of nothing": (("groups", 1, "family", "fields", "smallest_scale"), float("nan")),
}


def test_a_latent_too_large_is_refused_before_it_is_made():
    content = changed(CONTENT, [(("latents", 1, "shape", 2), "1099511627776")], remove=False)
    model = ExactModel(with_content(content), HostFloat64())
    with pytest.raises(WeightsError, match="too large"):
        model.decode(bytes(20), 0, 1, 1)


@pytest.mark.parametrize("case", FATAL)
def test_what_a_description_may_not_say(case):
    path, value = FATAL[case]
    tracemalloc.start()
    try:
        use(with_content(changed(CONTENT, [(path, value)], remove=False)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


@settings(SLOWLY, max_examples=60)
@given(st.binary(max_size=200) | st.sampled_from([b"[" * 100_000, b"1", b'"a"', b"{}", b"[]"]))
def test_any_bytes_for_a_description_are_refused(text):
    with pytest.raises(WeightsError):
        ExactModel(with_content(text), HostFloat64())


@settings(SLOWLY, max_examples=40)
@given(
    st.sampled_from([*TREE, "programs/0", "programs/1/arrays", "tables/0/frequencies", "arrays/3"]),
    st.sampled_from([None, 1.5, "text", np.zeros(3), np.zeros((2, 2), np.int64), {}, {"0": 1}]),
)
def test_parts_of_other_types_are_refused(path, value):
    tree = copy.deepcopy(dict(TREE))
    *parents, name = path.split("/")
    node = tree
    for parent in parents:
        node = node[parent]
    node[name] = value
    use(tree)


def test_an_option_needs_every_group_of_its_latent():
    """One certain zero that is none, in the last group of y alone: y is coded without."""
    model = ExactModel(TREE, HostFloat64())
    coded = model.encode(TARGETS)
    last = coded.groups[-1]
    index = np.full_like(last.index, 3)
    for group in range(1, 5):
        coded.groups[group] = coded.groups[group]._replace(index=index)
    coded.groups[0] = coded.groups[0]._replace(symbols=np.zeros((1, 1, 1), np.int32))
    assert model.write(coded)[1] & 2
    surprise = last._replace(index=np.zeros_like(index), symbols=np.ones_like(last.symbols))
    coded.groups[-1] = surprise
    assert not model.write(coded)[1] & 2
