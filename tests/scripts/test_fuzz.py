# SPDX-License-Identifier: Apache-2.0
"""A short pass of every fuzzed parser, the same each time, and what the driver must notice."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scripts.fuzz.driver import fuzz, kept
from scripts.fuzz.target import Target
from scripts.fuzz.targets import targets

from lamella.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 200


@pytest.mark.parametrize("name", targets())
def test_changed_input_is_read_or_refused(name: str) -> None:
    """One answer or one clear error within its limits, and nothing written; the corpus first."""
    target = targets()[name]
    report = fuzz(target, ROUNDS)
    assert not report.faults, "\n".join(f"{fault.what}\n{fault.detail}" for fault in report.faults.values())
    assert report.inputs == ROUNDS + len(target.seeds()) + len(kept(target)) + (
        len(target.large()) if target.large is not None else 0
    )


def _fails(data: bytes) -> None:
    raise KeyError(data)


def _hangs(data: bytes) -> None:
    while True:
        pass


def _takes_memory(data: bytes) -> bytes:
    return bytes(1 << 30)


def _writes(data: bytes) -> None:
    os.mkdir("/tmp/lamella-fuzz-must-not-be")


def _renames_away(data: bytes) -> None:
    with open("inside", "wb"):
        pass
    os.rename("inside", "/tmp/lamella-fuzz-must-not-be")


def _makes_while_reading(data: bytes) -> None:
    os.close(os.open("/tmp/lamella-fuzz-must-not-be", os.O_RDONLY | os.O_CREAT))


def _floods(data: bytes) -> None:
    raise BadInputError("x" * 100_000)


def _dies(data: bytes) -> None:
    os.abort()


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (_fails, "KeyError at "),
        (_hangs, "_TooSlow"),
        (_takes_memory, "MemoryError"),
        (_writes, "_Wrote at "),
        (_renames_away, "_Wrote at "),
        (_makes_while_reading, "_Wrote at "),
        (_floods, "BadInputError"),
        (_dies, "signal 6"),
    ],
)
def test_the_driver_notices(read: Callable[[bytes], object], words: str) -> None:
    target = Target("bad", lambda: [b"input"], read, seconds=0.1, memory=256 << 20)
    report = fuzz(target, 0)
    assert [fault.data for fault in report.faults.values()] == [b"input"]
    assert words in "".join(report.faults) + "".join(fault.detail for fault in report.faults.values())
    assert not os.path.exists("/tmp/lamella-fuzz-must-not-be")


def test_the_same_seed_tries_the_same_inputs() -> None:
    def tried(seed: int) -> dict[str, bytes]:
        def read(data: bytes) -> None:
            raise RuntimeError if b"\xff" in data else BadInputError("no")

        target = replace(targets()["names"], read=read)
        return {key: fault.data for key, fault in fuzz(target, 300, seed=seed).faults.items()}

    assert tried(1)
    assert tried(1) == tried(1)
