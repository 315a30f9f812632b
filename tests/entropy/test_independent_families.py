"""What docs/format.md says of each family's symbols is what the library writes."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from glc_jax.entropy import families, tables
from glc_jax.entropy.range_coder import RangeEncoder
from tests.independent_decoder import Parameters, read_group
from tests.integer_coder import IntegerReader

CHANNELS, POSITIONS = 3, 40
GAUSSIAN = pathlib.Path(tables.__file__).parent / "gaussian_tables.npz"
EXPONENTS = {"scale": 9, "shape": 11, "mean": 12, "weight": 10, "logits": 25}

FAMILIES = [
    families.Categorical(7),
    families.CategoricalLogits(5),
    families.Gaussian(),
    families.Laplace(),
    families.Logistic(),
    families.StudentT(degrees=2.0),
    families.GeneralisedGaussian(),
    families.Mixture(3, "gaussian"),
    families.Mixture(2, "laplace"),
    families.Mixture(1, "logistic"),
    families.DeepFactorized(),
    families.FourierBasis(4),
]


def tables_of(family, rng):
    if isinstance(family, families.Categorical):
        return family.tables(counts=rng.integers(0, 50, family.size))
    if family.static:
        weights = family.init(jax.random.key(0), CHANNELS)
        return family.tables(**{name: np.asarray(value) for name, value in weights.items()})
    return family.tables()


def parameters_of(family, rng):
    """Integers [POSITIONS, C * width] by name."""
    if family.static:
        return {}
    spread = {"scale": 3.0, "shape": 1.0, "mean": 9.0, "weight": 3.0, "logits": 4.0}
    return {
        name: np.rint(
            rng.normal(0.4, spread[name], (POSITIONS, CHANNELS * family.width(name)))
            * 2.0 ** EXPONENTS[name]
        ).astype(np.int64)
        for name in family.parameters
    }


def symbols_of(family, rng):
    if family.discrete:
        return rng.integers(0, family.size, (POSITIONS, CHANNELS))
    symbols = np.rint(rng.standard_t(2, (POSITIONS, CHANNELS)) * 5).astype(np.int64)
    symbols[0] = [-32768, 32767, -1024]  # escapes
    return symbols


@pytest.mark.parametrize("option", [False, True])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_it_reads_what_the_library_writes(family, option):
    rng = np.random.default_rng(1)
    arrays, parameters = tables_of(family, rng), parameters_of(family, rng)
    coder, symbols = family.coder(arrays), symbols_of(family, rng)
    integers = {name: parameters[name] for name in coder.parameters}
    index = coder.index(np, EXPONENTS, **integers)
    index = np.broadcast_to(index, symbols.shape)
    if option and isinstance(family, families.LocationScale):
        symbols = np.where(index == 0, 0, symbols)
    if option and not coder.wants_option(symbols, index, None, EXPONENTS):
        option = isinstance(family, families.Categorical)
    rows = {name: value.reshape(symbols.size, -1) for name, value in parameters.items()}
    encoder = RangeEncoder()
    coder.encode(encoder, symbols.reshape(-1), index.reshape(-1), rows, EXPONENTS, option)

    name = next(name for name, cls in families.FAMILIES.items() if type(family) is cls)
    described = {"name": name, "fields": dataclasses.asdict(family)}
    state = {name: value[None, :, None] for name, value in parameters.items()}
    with np.load(GAUSSIAN) as packaged:
        scale_tables = arrays or dict(packaged)
    places = [(0, row, 0, channel) for row in range(POSITIONS) for channel in range(CHANNELS)]
    exponents = {name: np.asarray(value) for name, value in EXPONENTS.items()}
    found = read_group(
        IntegerReader(encoder.finish()),
        described,
        scale_tables,
        arrays,
        Parameters(state, exponents, 4),
        places,
        option,
    )
    assert found == symbols.reshape(-1).tolist()
