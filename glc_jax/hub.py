"""Weights by address from the Hugging Face hub: hf:OWNER/NAME[/FILE][@REVISION].

huggingface_hub (the extra `hub`) fetches them, and is imported only then; it keeps what it has
fetched, so the same address works offline afterwards. Its own variables hold: HF_TOKEN, HF_HOME,
HF_ENDPOINT, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import sys
from typing import NamedTuple

from glc_jax.errors import WeightsError

SCHEME = "hf:"
FILE = "glc.safetensors"
"""What scripts/publish.py calls the weights, and an address without a file means."""

_NAME = r"[\w.-]+"
_ADDRESS = re.compile(rf"{SCHEME}({_NAME}/{_NAME})(?:/([^@]+))?(?:@(.+))?")


class Address(NamedTuple):
    """A file of a repository; `revision` is a branch, a tag or a commit, None the main branch."""

    repository: str
    file: str
    revision: str | None


def parse(address: str) -> Address:
    """The parts of hf:OWNER/NAME[/FILE][@REVISION].

    Raises:
      WeightsError: it is no such address, or its file cannot be weights.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise WeightsError(f"{address}: an address is written hf:OWNER/NAME[/FILE][@REVISION].")
    repository, file, revision = match.groups()
    if file is not None and not file.endswith(".safetensors"):
        raise WeightsError(f"{address}: {file} is no weights file; their names end .safetensors.")
    return Address(repository, file or FILE, revision)


@functools.cache
def fetch(address: str) -> pathlib.Path:
    """The file behind an address, fetched unless it is here already.

    Raises:
      WeightsError: it cannot be had, and why.
    """
    repository, file, revision = parse(address)
    try:
        import huggingface_hub
        from huggingface_hub import errors, utils
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{address}: needs huggingface_hub; pip install 'glc-jax[hub]'."
        ) from error
    if sys.stderr is None or not sys.stderr.isatty():
        utils.disable_progress_bars()
    # It warns of each try before the last; what comes of them is said once, below.
    verbosity = utils.logging.get_verbosity()
    utils.logging.set_verbosity_error()
    try:
        return pathlib.Path(
            huggingface_hub.hf_hub_download(
                repository,
                file,
                revision=revision,
                library_name="glc_jax",
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    except errors.GatedRepoError as error:
        reason = "needs its owner's consent, and then a token (hf auth login)"
        raise WeightsError(f"{address}: {repository} {reason}.") from error
    except errors.RepositoryNotFoundError as error:
        reason = "is not on the hub, or is private and needs a token (hf auth login)"
        raise WeightsError(f"{address}: {repository} {reason}.") from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{address}: {repository} has no revision {revision!r}.") from error
    except errors.LocalEntryNotFoundError as error:
        reason = "is not on this machine yet, and the hub cannot be reached"
        raise WeightsError(f"{address}: {reason}.") from error
    except errors.EntryNotFoundError as error:
        reason = f"has no {file}; name the file, as in hf:{repository}/FILE"
        raise WeightsError(f"{address}: {repository} {reason}.") from error
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{address}: cannot be fetched ({reason[:200]}).") from error
    finally:
        utils.logging.set_verbosity(verbosity)
