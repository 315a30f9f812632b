"""A Google Cloud Storage of this process's own, for all processes that it starts.

gcp-storage-emulator keeps the objects. What it lacks and the clients need is here, as the service's
documentation has it: each object's generation is larger than the one before and a download says it
(TensorStore cannot read an object again whose generation is 0), conditions on generations are
heeded (412, 304), requests are answered beside each other, and one that was cut off, as a killed
process does it, changes nothing.
"""

import contextlib
import functools
import io
import itertools
import os
import socketserver
import threading
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import parse_qs, urlparse

import portpicker
from gcp_storage_emulator import server, storage
from gcp_storage_emulator.handlers import buckets

BUCKET = "gs://bucket"
VARIABLES = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL")  # gcsfs's and TensorStore's


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of an empty bucket; fsspec and TensorStore find it there."""
    port = portpicker.pick_unused_port()
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, f"http://localhost:{port}"))
    with Service(("localhost", port)) as service:
        thread = threading.Thread(target=service.serve_forever, daemon=True)
        thread.start()
        try:
            yield BUCKET
        finally:
            service.shutdown()
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


class Unmet(Exception):
    """A condition that a request made does not hold; the argument is the answer's status."""


class Objects(storage.Storage):
    """Objects in memory, whose generations only ever grow; what is deleted is gone.

    What one request asks about generations is in `match` and `not_match`, None where it asks
    nothing; 0 is that of an object that is not there. `read` is the generation of what it read.
    """

    def __init__(self):
        super().__init__(use_memory_fs=True)
        self.generations = itertools.count(1)
        buckets.create_bucket("bucket", self)
        self.buckets["bucket"]["softDeletePolicy"] = {"retentionDurationSeconds": 0}
        self.begin({})

    def begin(self, query: dict[str, list[str]]) -> None:
        """What the request that comes next asks for."""
        asked = (query.get(f"ifGeneration{which}") for which in ("Match", "NotMatch"))
        self.match, self.not_match = (int(numbers[0]) if numbers else None for numbers in asked)
        self.read: str | None = None

    def create_file(self, bucket, name, content, described, file_id=None):
        self._check(bucket, name)
        described["generation"] = str(next(self.generations))
        super().create_file(bucket, name, content, described, file_id)

    def get_file_obj(self, bucket, name):
        found = super().get_file_obj(bucket, name)
        self.read = found["generation"]
        return found

    def get_file(self, bucket, name, show_error=True):
        if not bucket.startswith("_"):  # what is being uploaded is no object yet
            self._check(bucket, name)
        return super().get_file(bucket, name, show_error=False)

    def delete_file(self, bucket, name):
        self._check(bucket, name)
        super().delete_file(bucket, name)

    def _check(self, bucket: str, name: str) -> None:
        now = int(self.objects.get(bucket, {}).get(name, {}).get("generation", 0))
        if self.match is not None and now != self.match:
            raise Unmet(HTTPStatus.PRECONDITION_FAILED)
        if self.not_match is not None and now == self.not_match:
            raise Unmet(HTTPStatus.NOT_MODIFIED)

    def _write_config_to_file(self):
        """Nothing: there is no file."""


class Service(socketserver.ThreadingTCPServer):
    """One object store, used by one request at a time."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 128

    def __init__(self, place: tuple[str, int]):
        self.objects, self.lock = Objects(), threading.Lock()
        super().__init__(place, functools.partial(Answer, self.objects))


class Answer(server.RequestHandler):
    """The emulator's answer to one request that came whole."""

    def parse_request(self) -> bool:
        """Takes the body in as well; False ends a request that was cut off."""
        if not super().parse_request():
            return False
        body = self._body()
        if body is None:
            return False
        for name in ("Transfer-Encoding", "Content-Length"):
            del self.headers[name]
        self.headers["Content-Length"] = str(len(body))
        self.rfile = io.BytesIO(body)
        return True

    def _body(self) -> bytes | None:
        """The bytes that follow the headers; None where some are missing."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            size = int(self.headers.get("Content-Length", 0))
            data = self.rfile.read(size)
            return data if len(data) == size else None
        whole = b""
        while line := self.rfile.readline().strip():
            size = int(line, 16)
            data = self.rfile.read(size + 2)
            if len(data) != size + 2:
                return None
            if size == 0:
                return whole
            whole += data[:-2]
        return None

    def _answer(self, method: str) -> None:
        with self.server.lock, contextlib.suppress(ConnectionError):
            self.storage.begin(parse_qs(urlparse(self.path).query))
            try:
                server.Router(self).handle(method)
            except Unmet as unmet:
                self.storage.read = None
                self.send_response(unmet.args[0])
                self.send_header("Content-Length", "0")
                self.end_headers()

    do_GET = functools.partialmethod(_answer, "GET")
    do_POST = functools.partialmethod(_answer, "POST")
    do_PUT = functools.partialmethod(_answer, "PUT")
    do_PATCH = functools.partialmethod(_answer, "PATCH")
    do_DELETE = functools.partialmethod(_answer, "DELETE")

    def end_headers(self) -> None:
        """Beside the emulator's own, the generation of what was read."""
        if self.storage.read:
            self.send_header("X-Goog-Generation", self.storage.read)
        super().end_headers()
