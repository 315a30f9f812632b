"""`glc info` and `glc models`: what files hold; `glc verify`: whether .glc files are sound."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from glc_jax.cli import jobs, messages, process, streams
from glc_jax.cli.jobs import UsageError
from glc_jax.errors import BitstreamError, GLCError, InputError, OutputError

DAMAGED, NO_WEIGHTS = 1, 3
"""Exit statuses of `glc verify`."""


def info(options: argparse.Namespace) -> int:
    """`glc info`."""
    process.prepare_numpy()
    from glc_jax import companions, facts, weights

    known = None
    if options.weights is not None or weights.VARIABLE in os.environ:
        known = companions.describe_model(weights.resolve(options.weights))

    def show(source: str) -> None:
        data = jobs.read(source)
        with messages.about(source):
            found = facts.of_file(data, known, options.plugins)
        if options.json:
            streams.show(json.dumps({"file": source, **found}))
        else:
            streams.show(f"{messages.printable(source)}\n{facts.file_text(found)}")

    sources, errors = _files(options.inputs)
    return _each(sources, show, len(errors))


def models(options: argparse.Namespace) -> int:
    """`glc models`."""
    from glc_jax import facts, weights

    named = {path: path for path in options.paths} or weights.packaged()

    def show(name: str) -> None:
        found = facts.of_weights(named[name])
        if options.json:
            streams.show(json.dumps({"weights": name, **found}))
        else:
            streams.show(f"{messages.printable(name)}\n{facts.weights_text(found)}")

    return _each(named, show)


def verify(options: argparse.Namespace) -> int:
    """`glc verify`: decodes the symbols, which every check is about, and draws nothing."""
    from glc_jax import companions, weights

    if options.conformance is not None:
        return _conformance(options)
    if not options.inputs:
        raise UsageError("name .glc files or folders to verify.")
    given = None if options.weights is None else weights.resolve(options.weights)
    if given is not None:
        companions.describe_model(given)
    sources, errors = _files(options.inputs)
    found = [DAMAGED] * len(errors)
    for source in sources:
        status, result, detail = _verified(source, given, options)
        found.append(status)
        if options.json:
            streams.show(json.dumps({"file": source, "result": result, "detail": detail}))
        elif status or not options.quiet:
            about = f" ({detail.rstrip('.')})" if detail else ""
            streams.show(messages.printable(f"{source}: {result}{about}"))
    return DAMAGED if DAMAGED in found else max(found, default=0)


def _verified(
    source: str, given: Path | None, options: argparse.Namespace
) -> tuple[int, str, str | None]:
    """Exit status, one word or two, and the reason, of one file."""
    from glc_jax import bitstream, weights

    try:
        data = jobs.read(source)
    except InputError as error:
        return DAMAGED, "unreadable", str(error).removeprefix(f"{source}: ")
    try:
        container = bitstream.parse(data, max_pixels=options.max_pixels)
        path = given or weights.at_hand(container.fingerprint)
        if path is None or weights.describe(path).fingerprint != container.fingerprint:
            return NO_WEIGHTS, "weights missing", f"made with {container.fingerprint.hex()}"
        codec = process.load_codec(path, device=options.device, plugins=options.plugins)
        codec.verify(data, options.max_pixels)
    except BitstreamError as error:
        return DAMAGED, "damaged", str(error)
    return 0, "sound", None


def _conformance(options: argparse.Namespace) -> int:
    """`glc verify --conformance`: whether this machine decodes a corpus to what it should."""
    from glc_jax import conformance

    if options.inputs:
        raise UsageError("--conformance takes a corpus and no further files.")
    found = []
    with conformance.opened(Path(options.conformance)) as folder:
        contents = conformance.manifest(folder)
        paths = {
            name: conformance.weights_path(folder, about)
            for name, about in contents["weights"].items()
        }
        for expected in contents["files"]:
            path = paths[expected["weights"]]
            if path is None:
                reason = f"the weights {expected['weights']!r}"
                one = conformance.Verdict(expected["name"], None, reason)
            else:
                codec = process.load_codec(path, device=options.device, plugins=options.plugins)
                one = conformance.verdict(codec, folder, expected)
            status = {True: 0, False: DAMAGED, None: NO_WEIGHTS}[one.conforms]
            word = {True: "conforms", False: "differs", None: "weights missing"}[one.conforms]
            found.append(status)
            if options.json:
                result = {"file": one.name, "result": word, "detail": one.reason}
                streams.show(json.dumps(result))
            elif status or not options.quiet:
                about = f" ({one.reason})" if one.reason else ""
                streams.show(messages.printable(f"{one.name}: {word}{about}"))
    if not options.quiet:
        messages.tell(f"{found.count(0)} of {len(found)} conform.")
    return DAMAGED if DAMAGED in found else max(found, default=0)


def _files(items: Iterable[str]) -> tuple[list[str], list[GLCError]]:
    """The .glc files that are meant, folders walked, and what could not be looked into."""
    sources: list[str] = []
    errors: list[GLCError] = []
    for item in items:
        try:
            found = jobs.find_glc(item, errors) if os.path.isdir(item) else [item]
            sources += map(str, found)
        except InputError as error:
            errors.append(error)
    for error in errors:
        messages.complain(str(error))
    return sources, errors


def _each(items: Iterable[str], show: Callable[[str], None], failed: int = 0) -> int:
    """Shows every item that can be shown; the exit status tells whether all could."""
    for item in items:
        try:
            show(item)
        except OutputError:
            raise  # standard output, which would fail for every item
        except GLCError as error:
            messages.complain(str(error))
            failed += 1
    return int(failed > 0)
