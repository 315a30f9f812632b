"""What training's tests share: one bucket, since TensorStore asks where it is only once."""

import importlib.util

import pytest
from etils import epath


@pytest.fixture(scope="session")
def bucket_place() -> epath.Path:
    """The address of a bucket on an emulator's server in this process."""
    for package in ("gcp_storage_emulator", "gcsfs"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from tests.training import bucket

    with bucket.served() as served:
        yield epath.Path(served)
