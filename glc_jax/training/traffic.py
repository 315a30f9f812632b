"""What a compiled program sends between devices, read from its HLO text.

A collective operation counts as often as it runs: in the body of a loop once for each round, where
XLA knows how many there are.
"""

import collections
import re
from typing import NamedTuple

import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_LOOP = re.compile(r" while\(.*body=%?([\w.-]+)")
_ROUNDS = re.compile(r'known_trip_count"?:\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Sent(NamedTuple):
    """How many collectives of one kind a run of the program has, and the bytes of their results."""

    count: int
    bytes: int


def traffic(hlo: str) -> dict[str, Sent]:
    """The collectives of a compiled module's text, by kind, on each device."""
    lines, entry = _computations(hlo)
    found: dict[str, Sent] = {}

    def run(name: str, times: int) -> None:
        for line in lines[name]:
            if match := _COLLECTIVE.search(line):
                shapes, kind, _ = match.groups()
                before = found.get(kind, Sent(0, 0))
                found[kind] = Sent(before.count + times, before.bytes + times * _bytes(shapes))
            elif match := _LOOP.search(line):
                rounds = _ROUNDS.search(line)
                run(match.group(1), times * (int(rounds.group(1)) if rounds else 1))
            else:
                branches = ",".join(_BRANCHES.findall(line)).replace("%", "").replace(" ", "")
                for called in [*_CALLED.findall(line), *filter(None, branches.split(","))]:
                    run(called, times)

    run(entry, 1)
    return found


def sent_by_a_device(found: dict[str, Sent], devices: int) -> float:
    """Bytes that each device sends in a ring: an all-reduce passes every value nearly twice."""
    rounds = {"all-reduce": 2.0}
    share = (devices - 1) / devices
    return sum(rounds.get(kind, 1.0) * share * sent.bytes for kind, sent in found.items())


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the first that runs."""
    lines, name, entry = collections.defaultdict(list), "", ""
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            name = match.group(2)
            entry = name if match.group(1) else entry
        else:
            lines[name].append(line)
    return lines, entry


def _bytes(shapes: str) -> int:
    """Bytes of what a list of HLO shapes such as "(f32[2,3]{1,0}, bf16[])" holds."""
    total = 0
    for kind, sizes in _SHAPE.findall(shapes):
        bits = re.search(r"\d+", kind)
        values = np.prod([int(size) for size in sizes.split(",") if size], dtype=np.int64)
        total += int(values) * (int(bits.group()) // 8 if bits else 1)  # pred has a byte
    return total
