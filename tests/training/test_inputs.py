"""The pictures that a config names: which source, how much of it is kept, how batches are made."""

import pytest

from glc_jax.data.sources import CachedSource, SyntheticSource
from glc_jax.errors import ConfigError
from glc_jax.training import inputs
from glc_jax.training.config import TFDS, Config, Data


def test_batches_are_made_as_the_config_says(monkeypatch):
    monkeypatch.setattr(inputs, "training_batches", lambda source, **fields: (source, fields))
    fields = {"crop": 48, "scale": (0.4, 0.9), "threads": 3}
    for flip in (False, True):
        data = Data(folder="synthetic:5", flip=flip, **fields)
        source, found = inputs.open_batches(Config(data=data, batch=6, seed=11), shard=(1, 2))
        assert isinstance(source, SyntheticSource)
        assert len(source) == 5
        rest = {"batch": 6, "seed": 11, "shard": (1, 2), "beside": {}}
        assert found == {**fields, **rest, "flip": flip}


def test_decoded_pictures_are_kept_as_far_as_the_config_says(monkeypatch):
    monkeypatch.setattr(inputs, "training_batches", lambda source, **fields: source)
    monkeypatch.setattr(inputs, "CachedSource", lambda source, limit: (source, limit))
    config = Config(data=Data(folder="synthetic:5", cache_gb=0.25))
    source, limit = inputs.open_batches(config)
    assert isinstance(source, SyntheticSource)
    assert limit == 2**28


def test_a_folder_goes_before_a_data_set(monkeypatch):
    monkeypatch.setattr(inputs, "TFDSSource", lambda *fields: fields)
    tfds = TFDS(name="clic", split="test", key="photo")
    assert inputs.open_source(Data(tfds=tfds)) == ("clic", "test", "photo", None)
    assert isinstance(inputs.open_source(Data(folder="synthetic:2", tfds=tfds)), SyntheticSource)


def test_styles_are_of_the_crop_and_kept_as_well():
    config = Config(data=Data(style_folder="synthetic:4", cache_gb=0.5))
    made = inputs.open_beside(config, ("style",), 40)["style"]
    assert (made.crop, len(made.source)) == (40, 4)
    assert isinstance(made.source, CachedSource)


def test_made_up_pictures_are_counted():
    with pytest.raises(ConfigError, match="say how many"):
        inputs.open_source(Data(folder="synthetic:many"))
