"""Weights from the hub, against a stand-in of its server on this machine."""

import hashlib
import http.server
import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from glc_jax import hub, weights
from glc_jax.errors import WeightsError

constants = pytest.importorskip("huggingface_hub.constants")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(http.server.ThreadingHTTPServer):
    """Answers as the hub does for the files of one repository, at main and at a tag."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = files, []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        parts = self.path.strip("/").split("/")
        if parts[:2] != ["lab", "model"]:
            code = "GatedRepo" if parts[:2] == ["lab", "gated"] else "RepoNotFound"
            self.answer(403 if code == "GatedRepo" else 404, {"X-Error-Code": code})
        elif parts[3] not in ("main", "v1", COMMIT):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif (name := "/".join(parts[4:])) not in self.server.files:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})
        else:
            data = self.server.files[name]
            tag = hashlib.sha256(data).hexdigest()
            self.answer(200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, data)

    do_HEAD = do_GET

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "glc.safetensors"
    weights.save(path, {"params": {"kernel": np.arange(6.0)}}, {"name": "published", "model": {}})
    return path


@pytest.fixture
def server(weights_file, tmp_path, monkeypatch):
    data = weights_file.read_bytes()
    with Server({"glc.safetensors": data, "sizes/large.safetensors": data}) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        hub.fetch.cache_clear()
        yield found
        found.shutdown()
    hub.fetch.cache_clear()


@pytest.mark.parametrize(
    "address", ["hf:lab/model", "hf:lab/model/sizes/large.safetensors", "hf:lab/model@v1"]
)
def test_an_address_is_a_weights_file(server, weights_file, address):
    found = weights.resolve(address)
    assert found.read_bytes() == weights_file.read_bytes()
    assert weights.describe(found).name == "published"
    asked = {path for _, path, _ in server.asked}
    assert any(path.startswith("/lab/model/resolve/") for path in asked)
    count = len(server.asked)
    weights.resolve(address)
    assert len(server.asked) == count


def test_what_was_fetched_works_offline(server, weights_file, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between huggingface_hub's tries
    weights.resolve("hf:lab/model")
    server.shutdown()
    server.server_close()
    hub.fetch.cache_clear()
    assert weights.resolve("hf:lab/model").read_bytes() == weights_file.read_bytes()
    with pytest.raises(WeightsError, match="not on this machine yet, and the hub cannot be reach"):
        weights.resolve("hf:lab/model/sizes/large.safetensors")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("hf:lab/absent", "lab/absent is not on the hub, or is private"),
        ("hf:lab/gated", "lab/gated needs its owner's consent"),
        ("hf:lab/model@v9", "lab/model has no revision 'v9'"),
        ("hf:lab/model/other.safetensors", "has no other.safetensors; name the file"),
        ("hf:lab", "an address is written hf:OWNER/NAME"),
        ("hf:lab/model/weights.pth", "weights.pth is no weights file"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(server, address, says):
    with pytest.raises(WeightsError) as caught:
        weights.resolve(address)
    assert str(caught.value).startswith(f"{address}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_warnings_of_each_try_are_not_passed_on(monkeypatch, caplog):
    import huggingface_hub
    from huggingface_hub import utils

    log = utils.logging.get_logger("huggingface_hub.utils._http")
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)

    def unreachable(*arguments, **options):
        log.warning("Retrying in 1s [Retry 1/5].")
        raise huggingface_hub.errors.LocalEntryNotFoundError("nothing there")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    before = utils.logging.get_verbosity()
    with pytest.raises(WeightsError, match="the hub cannot be reached"):
        hub.fetch("hf:lab/unreachable")
    assert not caplog.records
    assert utils.logging.get_verbosity() == before
    log.warning("one of somebody else's")
    assert [record.message for record in caplog.records] == ["one of somebody else's"]


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub.fetch.cache_clear()
    with pytest.raises(WeightsError, match=r"pip install 'glc-jax\[hub\]'"):
        weights.resolve("hf:lab/model")


def test_nothing_is_imported_for_other_weights():
    script = (
        "import sys; from glc_jax import weights; weights.resolve(); "
        "print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n"
