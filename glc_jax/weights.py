"""Weights files: safetensors with the model's config, its origin and a digest in the metadata.

Tensor names are paths into the tree, joined by "/": "params/..." is what Flax sees, "entropy/..."
the exact entropy model, "preview/..." what `glc_jax.preview` draws with. This module knows no JAX,
so that the header of a file can be read quickly.

Version 1 had the integers of GLC's own entropy networks under "exact/..." and "z_prior/...", and
a fingerprint over everything in the file; such files are still read.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from glc_jax import bitstream, files, hub
from glc_jax.errors import BitstreamError, OutputError, WeightsError

FORMAT = "glc_jax"
FORMAT_VERSION = 2
PACKAGE = "glc_jax.pretrained"
SUFFIX = ".safetensors"
DEFAULT = "tiny"
TRAINING_PARTS = ("code_predictor", "pixel_code_predictor")
"""Parts of a model that no file needs; a weights file may hold them."""

VARIABLE = "GLC_WEIGHTS"  # of the environment: what stands in for DEFAULT

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Description:
    """What the header of a weights file says, without its tensors.

    Attributes:
      path: the file.
      config: {"name": str, "model": the arguments of `glc_jax.models.glc.build`}, and of a
        companion (`companions`) its "kind" and the fingerprint of its model, "base".
      provenance: where the weights come from, free-form strings and numbers.
      digest: SHA-256 over config and tensors, hex.
      fingerprint: the bytes by which a .glc file names these weights.
      parameters: number of values under "params/".
      dtype: safetensors' name of the type that most parameters have, such as "BF16".
      file_bytes: size of the file.
    """

    path: pathlib.Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    digest: str
    fingerprint: bytes
    parameters: int
    dtype: str
    file_bytes: int

    @property
    def name(self) -> str:
        """The model's name, as `glc models` shows it."""
        return self.config["name"]

    @property
    def kind(self) -> str | None:
        """What kind of companion this is; None for a model."""
        return self.config.get("kind")

    @property
    def highest_rate(self) -> float:
        """The largest rate, that of the last trained point; GLC's own, 3, where none is named."""
        return float(self.config["model"].get("rate_points", 4) - 1)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A weights file in memory: a nested dict of numpy arrays and what describes it."""

    tree: Tree
    config: dict[str, Any]
    provenance: dict[str, Any]
    digest: str
    fingerprint: bytes

    @property
    def has_entropy(self) -> bool:
        """Whether there is an exact entropy model."""
        return bool(self.tree.keys() & {"exact", "entropy"})

    @property
    def entropy(self) -> Tree | None:
        """The exact entropy model, also of a file of version 1; None where there is none."""
        if "exact" in self.tree:
            from glc_jax.entropy import version_1

            return version_1.upgrade(self.tree["exact"], self.tree.get("z_prior"))
        return self.tree.get("entropy")

    @property
    def preview(self) -> Tree | None:
        """The map of `glc_jax.preview`; None where there is none."""
        return self.tree.get("preview")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested dict as ("a/b/c", leaf), in sorted order of the path's parts."""
    for key in sorted(tree):
        value, path = tree[key], f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}/")
        else:
            yield path, value


def unflatten(leaves: Mapping[str, Any]) -> Tree:
    """The inverse of `flatten`."""
    tree: Tree = {}
    for path, value in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def digest_of(config: Mapping[str, Any], leaves: Mapping[str, Any]) -> str:
    """SHA-256, hex, over the model section of the config and every tensor in order of its name."""
    return _digest(config["model"], leaves)


def fingerprint_of(config: Mapping[str, Any], leaves: Mapping[str, Any]) -> bytes:
    """The first bytes of a digest over what decides a file's bytes and its picture.

    So neither the map of previews counts nor do training parts: the code predictors, and the
    codebook of stage I.
    """
    model = {name: value for name, value in config["model"].items() if name not in TRAINING_PARTS}
    parts = (f"params/{part}/" for part in (*TRAINING_PARTS, "vqvae/quantizer"))
    unused = (*parts, "preview/")
    used = {path: leaf for path, leaf in leaves.items() if not path.startswith(unused)}
    return _first(_digest(model, used))


def _first(digest: str) -> bytes:
    return bytes.fromhex(digest)[: bitstream.FINGERPRINT_BYTES]


def _digest(model: Mapping[str, Any], leaves: Mapping[str, Any]) -> str:
    sha = hashlib.sha256(json.dumps(model, sort_keys=True).encode())
    for path in sorted(leaves):
        leaf = leaves[path]
        sha.update(f"{path} {leaf.dtype} {tuple(leaf.shape)}".encode())
        sha.update(_raw(leaf))
    return sha.hexdigest()


def _raw(leaf: Any) -> memoryview:
    """The bytes of an array, or of what gives one, in C order."""
    return np.asarray(leaf, order="C").reshape(-1).view(np.uint8).data


# safetensors' names of the types that weights have.
_SAFETENSORS_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_safetensors(
    path: str | os.PathLike, leaves: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file tensor by tensor; an existing one is replaced only at the end.

    safetensors' own writer wants all tensors in memory, twice. Here a leaf is anything with
    `shape`, `dtype` and what `np.asarray` needs, and only one is in memory at a time.

    Raises:
      OutputError: the file cannot be written.
    """
    path = pathlib.Path(path)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # Wide types first, so that every tensor is aligned to its type.
    order = sorted(leaves, key=lambda name: (-np.dtype(leaves[name].dtype).itemsize, name))
    for name in order:
        shape, dtype = tuple(leaves[name].shape), np.dtype(leaves[name].dtype)
        start, end = end, end + math.prod(shape) * dtype.itemsize
        kind = _SAFETENSORS_DTYPES[dtype.name]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (start, end)}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with files.writing(path) as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in order:
            file.write(_raw(leaves[name]))


def check_output(
    path: str | os.PathLike, sources: Sequence[str | os.PathLike] = (), force: bool = False
) -> None:
    """What can be known of a file before the work that it is for.

    Args:
      path: the weights file to write; one that is there already is replaced.
      sources: what the weights are made from, which they do not replace.
      force: replace a file that holds no weights of this project's.

    Raises:
      OutputError: `path` is a source, a folder, a file of another kind, or where nothing can be
        written.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file.")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: nothing can be written into {path.parent}.")
    if not path.is_file():
        return
    if any(os.path.exists(source) and os.path.samefile(source, path) for source in sources):
        raise OutputError(f"{path}: is a source itself; name another output.")
    if path.stat().st_size and not force and not _is_own(path):
        raise OutputError(
            f"{path}: exists already and is no weights file; choose another name, or use --force."
        )


def _is_own(path: pathlib.Path) -> bool:
    """Whether a file holds weights of glc_jax, of whatever version."""
    try:
        with _open(path) as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except WeightsError:
        return False


def save(
    path: str | os.PathLike,
    tree: Mapping[str, Any],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
) -> Description:
    """Write a weights file; an existing one is replaced only once the new one is complete.

    Args:
      path: the file to write.
      tree: nested dict of arrays with the top-level keys "params" and, for real files, "entropy".
        A leaf may also be an object with `shape`, `dtype` and `__array__`, whose
        values are asked for only when they are written.
      config: {"name": str, "model": mapping}, JSON-serialisable.
      provenance: where the weights come from, JSON-serialisable.

    Raises:
      OutputError: the file cannot be written.
    """
    leaves = {
        name: leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for name, leaf in flatten(tree)
    }
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(config, sort_keys=True),
        "provenance": json.dumps(provenance or {}, sort_keys=True),
        "sha256": digest_of(config, leaves),
        "fingerprint": fingerprint_of(config, leaves).hex(),
    }
    write_safetensors(path, leaves, metadata)
    return describe(path)


def describe(path: str | os.PathLike) -> Description:
    """Read the header of a weights file.

    Raises:
      WeightsError: no such file, or it is damaged, foreign or of a newer version.
    """
    path = pathlib.Path(path)
    with _open(path) as file:
        metadata = file.metadata() or {}
        header = _checked_header(path, metadata)
        parameters, dtypes = 0, {}
        for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            part = file.get_slice(name)
            size = int(np.prod(part.get_shape(), dtype=np.int64))
            if name.startswith("params/"):
                dtypes[part.get_dtype()] = dtypes.get(part.get_dtype(), 0) + size
                parameters += size
    return Description(
        path=path,
        **header,
        parameters=parameters,
        dtype=max(dtypes, key=dtypes.get, default="empty"),
        file_bytes=path.stat().st_size,
    )


def load(path: str | os.PathLike) -> Weights:
    """Read a weights file whole and verify its digest.

    Raises:
      WeightsError: no such file, or it is damaged, foreign or of a newer version.
    """
    import ml_dtypes  # noqa: F401  (gives NumPy bfloat16, which safetensors asks it for)

    path = pathlib.Path(path)
    with _open(path) as file:
        header = _checked_header(path, file.metadata() or {})
        version = int(file.metadata()["format_version"])
        leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    sound = digest_of(header["config"], leaves) == header["digest"]
    if sound and version > 1:
        sound = fingerprint_of(header["config"], leaves) == header["fingerprint"]
    if not sound:
        raise WeightsError(f"{path}: the tensors do not match the digest; the file is damaged.")
    try:
        tree = unflatten(leaves)
    except (AttributeError, TypeError):
        raise WeightsError(f"{path}: the tensor names contradict each other.") from None
    return Weights(tree=tree, **header)


def tensor(path: str | os.PathLike, name: str) -> np.ndarray | None:
    """One tensor of a weights file, its digest not verified; None if the file has no such tensor.

    Raises:
      WeightsError: no such file, or it is damaged.
    """
    with _open(pathlib.Path(path)) as file:
        return file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118


def packaged() -> dict[str, pathlib.Path]:
    """The weights files that ship with the package, by name; companions of models too."""
    folder = pathlib.Path(str(resources.files(PACKAGE)))
    return {file.stem: file for file in sorted(folder.glob(f"*{SUFFIX}"))}


def resolve(name_or_path: str | os.PathLike | None = None) -> pathlib.Path:
    """The file that a packaged name, a path or an address of the hub (hf:owner/name) means.

    None is $GLC_WEIGHTS, or else "tiny".

    Raises:
      WeightsError: it is none of these, or the hub does not give it.
    """
    if name_or_path is None:
        name_or_path = os.environ.get(VARIABLE) or DEFAULT
    if not isinstance(name_or_path, str | os.PathLike):
        kind = type(name_or_path).__name__
        raise WeightsError(f"Weights are named by a string or a path, not by {kind}.")
    files = packaged()
    if str(name_or_path) in files:
        return files[str(name_or_path)]
    if str(name_or_path).startswith(hub.SCHEME):
        return hub.fetch(str(name_or_path))
    path = pathlib.Path(name_or_path)
    if not path.is_file():
        names = ", ".join(files) or "none"
        raise WeightsError(
            f"{name_or_path or repr('')}: no such weights file, nor the name of a packaged one "
            f"({names})."
        )
    return path


@functools.cache
def _packaged_fingerprints() -> dict[bytes, pathlib.Path]:
    described = {path: describe(path) for path in packaged().values()}
    return {found.fingerprint: path for path, found in described.items() if found.kind is None}


def find(wanted: bytes) -> pathlib.Path | None:
    """The packaged weights file with this fingerprint, or None."""
    return _packaged_fingerprints().get(wanted)


def highest_rate(wanted: bytes) -> float:
    """The highest rate of the weights with this fingerprint; GLC's own, 3, if not at hand."""
    path = at_hand(wanted)
    return 3.0 if path is None else describe(path).highest_rate


def at_hand(wanted: bytes) -> pathlib.Path | None:
    """The file that decodes what names this fingerprint: $GLC_WEIGHTS, a packaged one, or None."""
    if os.environ.get(VARIABLE) and describe(resolve()).fingerprint == wanted:
        return resolve()
    return find(wanted)


def matching(wanted: bytes) -> pathlib.Path:
    """The file that decodes what names this fingerprint: $GLC_WEIGHTS or a packaged one.

    Raises:
      BitstreamError: none has it.
    """
    path = at_hand(wanted)
    if path is None:
        models = (file.stem for file in _packaged_fingerprints().values())
        names = ", ".join(models) or "there are none"
        raise BitstreamError(
            f"made with weights {wanted.hex()}, which no packaged model has ({names}); name the "
            f"right weights file with --weights or {VARIABLE}."
        )
    return path


def _open(path: pathlib.Path):
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        if _is_torch(path):
            raise WeightsError(
                f"{path}: a checkpoint of PyTorch; make a weights file of it with glc convert "
                f"{path} -o weights.safetensors."
            ) from error
        raise WeightsError(f"{path}: not a readable safetensors file ({error}).") from error


def _is_torch(path: pathlib.Path) -> bool:
    """Whether a file begins as those of torch.save do: a zip archive, formerly a pickle."""
    with open(path, "rb") as file:
        return file.read(4).startswith((b"PK\3\4", b"\x80\2"))


def _checked_header(path: pathlib.Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: a safetensors file, but not weights of glc_jax; checkpoints of the official "
            "PyTorch code are converted with glc convert."
        )
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise WeightsError(
            f"{path}: weights of format version {version!r}; this glc_jax reads up to "
            f"{FORMAT_VERSION}. Install a newer one."
        )
    try:
        config = json.loads(metadata["config"])
        provenance = json.loads(metadata["provenance"])
        digest = metadata["sha256"]
        mark = metadata["fingerprint"] if int(version) > 1 else digest
        valid = (
            isinstance(config["name"], str)
            and isinstance(config["model"], dict)
            and isinstance(provenance, dict)
            and isinstance(config.get("kind", ""), str)
            and ("kind" in config) == ("base" in config)
            and len(bytes.fromhex(config.get("base", ""))) in (0, bitstream.FINGERPRINT_BYTES)
            and len(bytes.fromhex(digest)) == hashlib.sha256().digest_size
            and len(_first(mark)) == bitstream.FINGERPRINT_BYTES
        )
    except (KeyError, ValueError, TypeError):
        valid = False
    if not valid:
        raise WeightsError(f"{path}: the description of the weights is damaged.")
    return {
        "config": config,
        "provenance": provenance,
        "digest": digest,
        "fingerprint": _first(mark),
    }
