"""Checkpoints, curves and pictures in a bucket: a real server's answers, in this process."""

import importlib.util
import os
import socket

import jax
import numpy as np
import pytest
import tensorstore as ts
from etils import epath

from glc_jax import images
from glc_jax.data import address
from glc_jax.data.sources import FolderSource
from glc_jax.errors import ConfigError, InputError
from glc_jax.training import boards, checkpoints
from glc_jax.training.config import Config
from tests.small_model import picture
from tests.training.test_checkpoints import toy

UNKNOWN, ABSENT = b"", b"\2"  # TensorStore's generations of a write that failed, and of nothing


@pytest.fixture
def place(bucket_place) -> epath.Path:
    return bucket_place / "checkpoints_and_more"


def test_the_bucket_answers_as_the_service_does(place):
    """TensorStore reads an object again, and writes and deletes it only where nobody else did."""
    store = ts.KvStore.open(f"{place}/answers/").result()
    first = store.write("a", b"1").result()
    assert store.read("a").result().stamp.generation == first.generation
    again = store.read("a", if_not_equal=first.generation).result()
    assert again.state == "unspecified"  # as it was
    second = store.write("a", b"2", if_equal=first.generation).result()
    assert store.read("a", if_not_equal=first.generation).result().value == b"2"
    for wrong in (first.generation, ABSENT):
        assert store.write("a", b"3", if_equal=wrong).result().generation == UNKNOWN
        assert store.write("a", None, if_equal=wrong).result().generation == UNKNOWN
    assert store.write("b", b"4", if_equal=ABSENT).result().generation != UNKNOWN
    assert store["a"] == b"2"
    assert store.write("a", None, if_equal=second.generation).result().generation == ABSENT
    assert store.read("a").result().state == "missing"


def test_a_request_that_was_cut_off_changes_nothing(place):
    host = os.environ["TENSORSTORE_GCS_HTTP_URL"].removeprefix("http://").split(":")
    chunked = "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    for sent in ("Content-Length: 9\r\n\r\nhalf", chunked):
        with socket.create_connection((host[0], int(host[1]))) as client:
            head = "POST /upload/storage/v1/b/bucket/o?uploadType=media&name=cut HTTP/1.1\r\n"
            client.sendall((head + sent).encode())
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
    assert not (epath.Path("gs://bucket") / "cut").exists()


def opened(workdir: epath.Path) -> checkpoints.Checkpoints:
    return checkpoints.Checkpoints(workdir, keep=2, best="lpips")


@pytest.mark.slow
def test_a_run_in_a_bucket_is_saved_resumed_and_read(place):
    workdir = place / "run"
    checkpoints.write_config(workdir, Config(name="tiny"))
    kept = opened(workdir)
    for step in (4, 8):
        kept.save(toy(step), {"lpips": 0.5}, {"skipped": [step]})
    kept.close()
    assert checkpoints.read_config(workdir) == Config(name="tiny")
    assert checkpoints.averaged_parameters(workdir)["g_a"]["kernel"][0, 0] == 8
    # One that was cut off before its last file, and one whose data are gone.
    (workdir / "checkpoints" / "8" / "state" / "d").rmtree()
    (workdir / "checkpoints" / "12" / "state").mkdir(parents=True)
    (workdir / "checkpoints" / "12" / "state" / "manifest.ocdbt").write_bytes(b"cut")
    kept = opened(workdir)
    assert int(kept.restore(jax.eval_shape(toy)).step) == 4
    assert kept.notes(4) == {"skipped": [4]}
    kept.save(toy(8))
    kept.close()
    assert checkpoints.averaged_parameters(workdir)["g_a"]["kernel"][0, 0] == 8


def test_curves_go_to_a_bucket(place):
    board = boards.open_boards(Config(), place / "curves")
    board.scalars(3, "train", {"l1": 0.5})
    board.close()
    (events,) = (place / "curves" / "tensorboard").glob("events*")
    assert b"train/l1" in events.read_bytes()


def test_pictures_come_from_a_bucket(place):
    for name in ("deeper/b.png", "a.png"):
        data = images.encode(picture(20, 30, len(name)), name)
        (place / "pictures" / name).write_bytes(data)
    (place / "pictures" / "notes.txt").write_text("no picture")
    source = FolderSource(str(place / "pictures"))
    assert [source.name(i).rpartition("pictures/")[2] for i in range(2)] == [
        "a.png",
        "deeper/b.png",
    ]
    np.testing.assert_array_equal(source[0], picture(20, 30, 5))
    (place / "pictures" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: cannot be read"):
        source[0]
    with pytest.raises(InputError, match="no pictures"):
        FolderSource(str(place / "nothing"))


def test_addresses_that_cannot_be(monkeypatch):
    address.check("runs/here", "", "gs://bucket/run")
    with pytest.raises(ConfigError, match="begin with gs://"):
        address.check("ftp://host/run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install gcsfs"):
        address.check("gs://bucket/run")
