import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glc_jax.entropy import range_coder, tables
from glc_jax.errors import BitstreamError, WeightsError
from tests.entropy.symbol_coder import CodedSymbols, SymbolCoder
from tests.integer_coder import IntegerReader, IntegerWriter

TOTAL = 1 << 24


def family(*frequencies):
    """Tables that are not Gaussian at all."""
    arrays = tuple(np.array(f, np.int64) for f in frequencies)
    return tables.ScaleTables(np.arange(1, len(arrays)) << 16, arrays)


NASTY = family(
    [1, TOTAL - 3, 1, 1],  # nearly certain
    [1, 1, 1, TOTAL - 3],  # the escape is the likely symbol
    [TOTAL - 1, 1],  # 0 or an escape
    [TOTAL // 2 - 1, 1, TOTAL // 2 - 1, 1],  # never 0
    [1] * 2000 + [TOTAL - 4001] + [1] * 2001,  # a wide table
)


def round_trip(coder, z_indices, steps):
    coded = coder.encode(z_indices, steps)
    decoder = coder.decoder(coded)
    np.testing.assert_array_equal(decoder.z(z_indices.size), z_indices.reshape(-1))
    for y_q, table_index in steps:
        decoded = decoder.step(table_index)
        assert decoded.dtype == np.int16
        np.testing.assert_array_equal(decoded, y_q)
    return coded


@pytest.mark.parametrize("scale_tables", [tables.gaussian(), NASTY], ids=["gaussian", "nasty"])
def test_every_symbol_of_every_table_is_coded_as_integers_say(scale_tables):
    """The bytes are those of exact integer arithmetic, so constriction's tables are ours."""
    rng = np.random.default_rng(1)
    coder = SymbolCoder(scale_tables, z_size=1)
    magnitude = [2 ** (23 - m) for m in range(15)] + [2**9]
    for table, frequencies in enumerate(scale_tables.frequencies):
        radius = scale_tables.radius(table)
        y_q = rng.permutation(np.arange(-radius - 1, radius + 2)).astype(np.int16)
        coded = coder.encode(np.zeros(0, np.int64), [(y_q, np.full(y_q.shape, table, np.uint8))])
        writer = IntegerWriter()
        inside = np.abs(y_q) <= radius
        symbols = np.where(inside, y_q + radius, 2 * radius + 1)
        as_list = frequencies.tolist()
        for symbol in symbols.tolist():
            writer.write(symbol, as_list)
        writer.write(0, magnitude)  # both escaped residuals exceed the radius by 1
        writer.write(0, magnitude)
        for value in y_q[~inside].tolist():
            writer.write(int(value < 0), [2**23] * 2)
        assert coded.payload == writer.finish()
        reader = IntegerReader(coded.payload)
        assert [reader.read(as_list) for _ in symbols] == symbols.tolist()


def test_a_symbol_that_did_not_occur_counts_as_half():
    np.testing.assert_allclose(
        range_coder.counted_frequencies(np.array([2, 0, 1])) / TOTAL,
        np.array([2.5, 0.5, 1.5]) / 4.5,
        rtol=1e-5,
    )


@st.composite
def pictures(draw):
    count = draw(st.integers(1, NASTY.count))
    steps = []
    for _ in range(draw(st.integers(0, 4))):
        shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
        y_q = draw(hnp.arrays(np.int16, shape, elements=st.integers(-(2**15), 2**15 - 1)))
        steps.append((y_q, draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, count - 1)))))
    z_size = draw(st.sampled_from([1, 2, 3, 1000, 16384]))
    z_shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    z_indices = draw(hnp.arrays(np.int32, z_shape, elements=st.integers(0, z_size - 1)))
    return z_size, z_indices, steps


@given(pictures())
@settings(deadline=None)
def test_round_trip_of_anything(picture):
    z_size, z_indices, steps = picture
    round_trip(SymbolCoder(NASTY, z_size), z_indices, steps)


@given(st.lists(st.integers(0, 3), max_size=300), st.integers(0, 2**32))
@settings(deadline=None)
def test_payload_is_the_shortest_that_integers_can_find(symbols, seed):
    rng = np.random.default_rng(seed)
    frequencies = rng.multinomial(TOTAL - 4, rng.dirichlet([0.02] * 4)) + 1
    coder = SymbolCoder(NASTY, z_size=4, z_prior=frequencies)
    coded = coder.encode(np.array(symbols, np.int32), [])
    used = frequencies if coded.z_prior else np.full(4, TOTAL // 4)
    writer = IntegerWriter()
    for symbol in symbols:
        writer.write(symbol, used.tolist())
    assert coded.payload == writer.finish()
    assert 8 * len(coded.payload) < coder.z_bits(np.array(symbols, int))[0] + 8.1


@pytest.mark.parametrize(("side", "undecided"), [(-1, "7f" + "ff" * 15), (1, "80" + "00" * 15)])
def test_carries_reach_back_over_many_words(side, undecided):
    """An interval that straddles a half of the first word keeps all the words undecided."""
    outer, inner = TOTAL // 5, TOTAL // 9
    frequencies = [outer, inner, TOTAL - 1 - 2 * (outer + inner), inner, outer, 1]
    starts = np.cumsum([0, *frequencies])
    writer, symbols = IntegerWriter(), []
    ready = False
    while not ready:
        half = 2 ** (63 + 32 * writer.words)
        quantile = (half - writer.low) // (writer.width >> 24)
        straddling = int(np.searchsorted(starts, quantile, side="right")) - 1
        ready = writer.words >= 4 and straddling in (1, 2, 3)
        symbols.append(straddling + side if ready else straddling)
        writer.write(symbols[-1], frequencies)
    y_q = np.array(symbols, np.int16) - 2
    coder = SymbolCoder(family(frequencies), z_size=1)
    coded = round_trip(coder, np.zeros(0, int), [(y_q, np.zeros(y_q.size, np.uint8))])
    assert coded.payload == writer.finish()
    assert coded.payload[:16].hex() == undecided


@pytest.mark.parametrize("seed", range(3))
def test_every_prefix_of_an_undecided_stream_ends_as_integers_say(seed):
    """Ended while a word is undecided, the carry that constriction has made must be taken back."""
    rng = np.random.default_rng(seed)
    outer, inner = TOTAL // 5, TOTAL // 9
    frequencies = [outer, inner, TOTAL - 1 - 2 * (outer + inner), inner, outer, 1]
    starts = np.cumsum([0, *frequencies])
    alphabet = range_coder.Alphabet(np.array(frequencies))
    encoder, writer = range_coder.RangeEncoder(), IntegerWriter()
    carried = 0
    for _ in range(150):
        half = 2 ** (63 + 32 * writer.words)
        quantile = (half - writer.low) // (writer.width >> 24)
        if 0 <= quantile < TOTAL:  # stay astride of the half
            symbol = int(np.searchsorted(starts, quantile, side="right")) - 1
        else:
            symbol = int(rng.integers(6))
        writer.write(symbol, frequencies)
        encoder.encode(np.array([symbol]), alphabet)
        assert encoder.finish() == writer.finish()
        low = writer.low & (2**64 - 1)
        carried += low + 2**32 - 1 >= 2**64
    assert carried


def test_certain_zeros_are_left_out():
    y_q = np.array([0, 3, 0, -2], np.int16)
    table_index = np.array([0, 90, 0, 90], np.uint8)
    coder = SymbolCoder(tables.gaussian(), z_size=2)
    coded = round_trip(coder, np.zeros(1, int), [(y_q, table_index)])
    assert coded.zeros_skipped
    bulky = round_trip(
        coder,
        np.zeros(1, int),
        [(np.pad(y_q, (0, 10**6)), np.pad(table_index, (0, 10**6)))],
    )
    assert bulky.payload == coded.payload


def test_a_surprise_among_the_certain_zeros_is_kept():
    y_q = np.array([0, 0, 7, -1], np.int16)
    coder = SymbolCoder(tables.gaussian(), z_size=2)
    coded = round_trip(coder, np.zeros(1, int), [(y_q, np.zeros(4, np.uint8))])
    assert not coded.zeros_skipped


def test_real_bytes_are_what_the_tables_say():
    rng = np.random.default_rng(0)
    table_index = rng.integers(0, 150, 200_000).astype(np.uint8)
    scale = 2.0 ** ((np.maximum(table_index, 1) - 1) / 16 - 3.25) * (table_index > 0)
    y_q = np.rint(rng.normal(size=table_index.size) * scale).astype(np.int16)
    z_indices = rng.integers(0, 1024, 100)
    coder = SymbolCoder(tables.gaussian(), z_size=1024)
    coded = coder.encode(z_indices, [(y_q, table_index)])
    coded_tables = table_index > 0
    bits = tables.gaussian().bits(y_q[coded_tables], table_index[coded_tables]).sum() + 1000
    assert bits / 8 < len(coded.payload) < 1.0002 * bits / 8 + 1


def test_the_prior_of_z_is_used_where_it_helps():
    prior = np.array([TOTAL - 3, 1, 1, 1])
    coder = SymbolCoder(tables.gaussian(), z_size=4, z_prior=prior)
    likely = round_trip(coder, np.zeros(1000, int), [])
    assert likely.z_prior
    assert len(likely.payload) <= 1
    unlikely = round_trip(coder, np.full(1000, 3), [])
    assert not unlikely.z_prior
    assert len(unlikely.payload) in (250, 251)


def test_a_prior_that_the_weights_lack_is_an_error():
    with_prior = SymbolCoder(tables.gaussian(), 4, np.array([TOTAL - 3, 1, 1, 1]))
    coded = with_prior.encode(np.zeros(3, int), [])
    with pytest.raises(BitstreamError, match="prior"):
        SymbolCoder(tables.gaussian(), 4).decoder(coded).z(3)


@pytest.mark.parametrize("prior", [[1, 2, 3], [0, 0, 0, TOTAL], [TOTAL - 2, 1, 1]])
def test_a_malformed_prior_is_refused(prior):
    with pytest.raises(WeightsError, match="prior of z"):
        SymbolCoder(tables.gaussian(), 4, np.array(prior))


def test_a_count_that_the_payload_cannot_hold_is_refused_at_once():
    coder = SymbolCoder(tables.gaussian(), z_size=1024)
    coded = coder.encode(np.arange(100), [])
    with pytest.raises(BitstreamError, match="too short"):
        coder.decoder(coded).z(10**12)


def test_escapes_of_every_magnitude():
    magnitudes = 2 ** np.arange(15)
    y_q = np.concatenate([magnitudes, -magnitudes, 3 * magnitudes[:-1], [-(2**15), 2**15 - 1]])
    table_index = np.zeros(y_q.shape, np.uint8)
    for scale_tables in (tables.gaussian(), family([TOTAL - 1, 1])):
        coder = SymbolCoder(scale_tables, z_size=1)
        coded = round_trip(coder, np.zeros(0, int), [(y_q.astype(np.int16), table_index)])
        bits = scale_tables.bits(y_q, table_index).sum()
        assert abs(len(coded.payload) - bits / 8) < 1.1


@pytest.mark.parametrize("value", [-(2**15) - 1, 2**15])
def test_residuals_out_of_range_are_refused(value):
    coder = SymbolCoder(tables.gaussian(), z_size=2)
    with pytest.raises(ValueError, match="residuals"):
        coder.encode(np.zeros(1, int), [(np.array([value]), np.zeros(1, np.uint8))])


@given(st.binary(max_size=200), hnp.arrays(np.uint8, 300, elements=st.integers(0, 149)))
@settings(deadline=None)
def test_any_payload_gives_symbols_or_a_bitstream_error(payload, table_index):
    coder = SymbolCoder(tables.gaussian(), z_size=1000)
    decoder = coder.decoder(CodedSymbols(payload, False, False))
    try:
        assert decoder.z(5).max() < 1000
        assert decoder.step(table_index).shape == (300,)
    except BitstreamError:
        pass


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 16384, 65536])
def test_uniform_frequencies_are_as_equal_as_integers_allow(size):
    frequencies = range_coder.uniform_frequencies(size)
    assert frequencies.sum() == TOTAL
    assert frequencies.max() - frequencies.min() <= 1
