# SPDX-License-Identifier: Apache-2.0
"""Changes to inputs, the same for the same random numbers."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from scripts.fuzz.target import Target

LIMIT = 1 << 22
"""Bytes that an input does not outgrow by changes."""
_INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40]
_INTERESTING += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1]
_NUMBERS = [b"0", b"-1", b"1", b"255", b"65536", b"4294967296", b"9223372036854775808", b"1e400", b"9" * 30]
_TREES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1 << 62,
    1 << 64,
    1e308,
    1.5,
    "",
    "a" * 300,
    "\udc80",
    "\x00",
    "/",
]
_TREES += ["..", [], {}, [None], {"": ""}, [[[[]]]], "sha256:" + "0" * 64, "sha512:" + "a" * 128, "\u202e"]


def mutate(random: Random, target: Target, data: bytes, others: Sequence[bytes]) -> bytes:
    """*data* changed in one to eight places; *others* are further inputs to take pieces of."""
    if target.mutate is not None and random.random() < 0.5:
        changed = bytearray(target.mutate(random, data))
    else:
        changed = bytearray(data)
        for _ in range(1 << random.randrange(4)):
            _change(random, changed, target.words, others)
    if target.reseal is not None and random.random() < 0.5:
        target.reseal(changed)
    return bytes(changed[:LIMIT])


def mutate_used(random: Random, data: bytes, block: int) -> bytes:
    """*data* changed within one to four of those of its blocks, of *block* bytes each, that hold anything.

    For disks: most of one is empty, and a change there is no other input.
    """
    image = bytearray(data)
    used = _used_blocks(data, block)
    for _ in range(random.randrange(1, 5) if used else 0):
        start = random.choice(used)
        piece = image[start : start + block]
        kept = len(piece)
        _change(random, piece, (), [data[(other := random.choice(used)) : other + block]])
        image[start : start + kept] = piece.ljust(kept, b"\0")[:kept]
    return bytes(image)


@lru_cache(maxsize=256)
def _used_blocks(data: bytes, block: int) -> list[int]:
    """Places of the blocks that hold anything; each input is changed many times."""
    return [place for place in range(0, len(data), block) if data.count(0, place, place + block) < block]


def _change(random: Random, data: bytearray, words: Sequence[bytes], others: Sequence[bytes]) -> None:
    kind = random.randrange(10)
    size = len(data)
    place = random.randrange(size + 1)
    length = min(size - place, random.choice((1, 2, 4, 8, 16, 64, 512, 4096)))
    if kind == 0 and place < size:
        data[place] ^= 1 << random.randrange(8)
    elif kind == 1 and place < size:
        data[place] = random.randrange(256)
    elif kind == 2:
        width = random.choice((1, 2, 4, 8))
        value = random.choice(_INTERESTING) + random.randrange(-2, 3)
        piece = (value & ((1 << 8 * width) - 1)).to_bytes(width, random.choice(("little", "big")))
        data[place : place + width] = piece[: max(0, size - place)]
    elif kind == 3:
        del data[place : place + length]
    elif kind == 4:
        data[place:place] = data[place : place + length]
    elif kind == 5:
        source = random.randrange(size + 1)
        data[place : place + length] = data[source : source + length]
    elif kind == 6 and words:
        word = random.choice(words)
        data[place : place + random.choice((0, len(word)))] = word
    elif kind == 7 and others:
        other = random.choice(others)
        source = random.randrange(len(other) + 1)
        data[place : place + random.choice((0, length))] = other[source : source + max(length, 1)]
    elif kind == 8:
        data[place : place + length] = random.choice((b"\0", b"\xff")) * length
    elif random.random() < 0.2:
        del data[place:]
    else:
        data[place : place + random.choice((0, 1, 4))] = random.choice(_NUMBERS)


def mutate_json(random: Random, data: bytes) -> bytes:
    """*data*, a JSON value, with one to four of its parts replaced; what is not JSON stays as it is."""
    try:
        holder = [json.loads(data)]
    except (ValueError, RecursionError):
        return data
    for _ in range(random.randrange(1, 5)):
        at: Any = holder
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = random.choice(keys)
            if isinstance(at[key], dict | list) and at[key] and random.random() < 0.8:
                at = at[key]
                continue
            _replace(random, at, key)
            break
    return b"\n".join(json.dumps(value).encode() for value in holder)


def _replace(random: Random, at: Any, key: Any) -> None:
    value, kind = at[key], random.randrange(6)
    if kind == 0:
        del at[key]
    elif kind == 1 and isinstance(value, str):
        place = random.randrange(len(value) + 1)
        at[key] = (
            value[:place]
            + random.choice(("", "\x00", "/", ":", "@", ",", "..", "é", "A"))
            + value[place + 1 :]
        )
    elif kind == 2 and isinstance(at, list):
        at.insert(key, value)
    elif kind == 3 and isinstance(value, int):
        at[key] = value + random.choice((-1, 1, 1 << 31, 1 << 63))
    else:
        at[key] = copy.deepcopy(random.choice(_TREES))
