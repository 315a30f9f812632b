"""A Google Cloud Storage of this process's own: an emulator, and all who have to know of it."""

import contextlib
import os
from collections.abc import Iterator

import portpicker

BUCKET = "gs://bucket"


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of an empty bucket; fsspec and TensorStore find it there.

    Processes started meanwhile find it, too.
    """
    from gcp_storage_emulator.server import create_server

    port = portpicker.pick_unused_port()
    place = f"http://localhost:{port}"
    variables = {
        "STORAGE_EMULATOR_HOST": place,
        "TENSORSTORE_GCS_HTTP_URL": place,
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    try:
        yield BUCKET
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
