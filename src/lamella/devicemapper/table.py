# SPDX-License-Identifier: Apache-2.0
"""Device-mapper tables as values: one class for each target that we make, and any other kept as it is.

Authority for the parameters: the kernel's ``Documentation/admin-guide/device-mapper/``. Starts, lengths
and offsets are sectors of 512 bytes; devices are written "major:minor", as the kernel prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lamella.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_SECTORS = 1 << 55
"""The kernel counts bytes of a device in 63 bits."""
MAX_NUMBER = (1 << 64) - 1
MAX_DIGITS = 30


@dataclass(frozen=True, slots=True)
class Target:
    """A run of sectors mapped in one way; this class stands for every target without one of its own."""

    start: int
    length: int
    name: str = ""
    """The target's name: only for targets without a class of their own."""
    text: str = ""
    """Its parameters, likewise."""

    @property
    def kind(self) -> str:
        """The target's name as the kernel has it."""
        return self.name

    @property
    def parameters(self) -> str:
        """The rest of the table line."""
        return self.text

    @property
    def line(self) -> str:
        """The whole table line, as dmsetup prints it."""
        return f"{self.start} {self.length} {self.kind} {self.parameters}"


@dataclass(frozen=True, slots=True)
class _Known(Target):
    KIND: ClassVar[str] = ""

    @property
    def kind(self) -> str:
        return self.KIND


@dataclass(frozen=True, slots=True)
class Linear(_Known):
    """Sectors of one device."""

    KIND: ClassVar[str] = "linear"
    device: str = ""
    offset: int = 0

    @property
    def parameters(self) -> str:
        return f"{self.device} {self.offset}"


@dataclass(frozen=True, slots=True)
class Striped(_Known):
    """Chunks of *chunk* sectors, from each (device, offset) in turn."""

    KIND: ClassVar[str] = "striped"
    chunk: int = 0
    stripes: tuple[tuple[str, int], ...] = ()

    @property
    def parameters(self) -> str:
        areas = " ".join(f"{device} {offset}" for device, offset in self.stripes)
        return f"{len(self.stripes)} {self.chunk} {areas}"


@dataclass(frozen=True, slots=True)
class Zero(_Known):
    """Reads as zeros, forgets what is written."""

    KIND: ClassVar[str] = "zero"

    @property
    def parameters(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Error(_Known):
    """Fails every request."""

    KIND: ClassVar[str] = "error"

    @property
    def parameters(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class SnapshotOrigin(_Known):
    """The origin of old-style snapshots."""

    KIND: ClassVar[str] = "snapshot-origin"
    device: str = ""

    @property
    def parameters(self) -> str:
        return self.device


@dataclass(frozen=True, slots=True)
class ThinPool(_Known):
    """A pool. *chunk* is sectors, *low_water* chunks; *features* the words after their number.

    Made by :mod:`lamella.lvm.activation.device_tree` for pools of LVM2, and by the loop-lvm backend.
    """

    KIND: ClassVar[str] = "thin-pool"
    metadata: str = ""
    data: str = ""
    chunk: int = 128
    low_water: int = 0
    features: tuple[str, ...] = ()

    @property
    def parameters(self) -> str:
        # The kernel prints a blank behind the number and behind each word.
        words = "".join(f"{word} " for word in (str(len(self.features)), *self.features))
        return f"{self.metadata} {self.data} {self.chunk} {self.low_water} {words}"


@dataclass(frozen=True, slots=True)
class Thin(_Known):
    """A thin volume of the pool that is device *pool*."""

    KIND: ClassVar[str] = "thin"
    pool: str = ""
    device_id: int = 0
    origin: str = ""
    """An external origin's device, or none."""

    @property
    def parameters(self) -> str:
        return f"{self.pool} {self.device_id}" + (f" {self.origin}" if self.origin else "")


@dataclass(frozen=True, slots=True)
class TargetLine:
    """One target of a live table: its parameters or, of a status, its state, in *text*."""

    start: int
    length: int
    kind: str
    text: str

    @property
    def line(self) -> str:
        return f"{self.start} {self.length} {self.kind} {self.text}"


def parse_table(text: str) -> tuple[Target, ...]:
    """The targets of a table, a line each. Raises :class:`BadInputError` naming the line."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found.append(parse_target(line, f"line {number} of the table"))
    return tuple(found)


def sole_target(lines: Sequence[TargetLine]) -> Target | None:
    """The one target that a device's table has; None if there are none or several."""
    return parse_target(lines[0].line) if len(lines) == 1 else None


def parse_target(line: str, what: str = "the table line") -> Target:
    """One line: "START LENGTH TARGET PARAMETERS". Raises :class:`BadInputError`."""
    words = line.split()
    try:
        start, length, kind = _number(words[0]), _number(words[1]), words[2]
        if length == 0 or start + length > MAX_SECTORS or len(kind.encode(errors="surrogateescape")) > 15:
            raise ValueError
        return _PARSERS.get(kind, _other(kind, line))(start, length, words[3:])
    except (ValueError, IndexError) as error:  # also what UTF-8 cannot say
        raise BadInputError(
            f"{what} makes no sense: {line[:200]!r}", hint="a line is: START LENGTH TARGET PARAMETERS"
        ) from error


def total_sectors(table: Iterable[Target]) -> int:
    """Sectors of the device that the table makes."""
    return max((target.start + target.length for target in table), default=0)


def _number(word: str) -> int:
    """What the kernel reads as a number; ``int`` alone would take "1_000", " 1" and digits of any script."""
    if not (word.isascii() and word.isdigit()) or len(word) > MAX_DIGITS or int(word) > MAX_NUMBER:
        raise ValueError(word)
    return int(word)


def _other(kind: str, line: str) -> Callable[[int, int, list[str]], Target]:
    def make(start: int, length: int, words: list[str]) -> Target:
        pieces = line.strip("\n").split(" ", 3)
        kept = pieces[3] if len(pieces) == 4 and pieces[2] == kind else " ".join(words)
        return Target(start, length, kind, kept)

    return make


def _linear(start: int, length: int, words: list[str]) -> Target:
    device, offset = words
    return Linear(start, length, device=device, offset=_number(offset))


def _striped(start: int, length: int, words: list[str]) -> Target:
    count, chunk, *areas = words
    if len(areas) != 2 * _number(count):
        raise ValueError(count)
    stripes = tuple((areas[at], _number(areas[at + 1])) for at in range(0, len(areas), 2))
    return Striped(start, length, chunk=_number(chunk), stripes=stripes)


def _bare(made: type[Zero] | type[Error]) -> Callable[[int, int, list[str]], Target]:
    def make(start: int, length: int, words: list[str]) -> Target:
        if words:
            raise ValueError(words)
        return made(start, length)

    return make


def _snapshot_origin(start: int, length: int, words: list[str]) -> Target:
    (device,) = words
    return SnapshotOrigin(start, length, device=device)


def _thin_pool(start: int, length: int, words: list[str]) -> Target:
    metadata, data, chunk, low_water, *rest = words
    features = tuple(rest[1:])
    if rest and _number(rest[0]) != len(features):
        raise ValueError(rest)
    return ThinPool(
        start, length, metadata=metadata, data=data, chunk=_number(chunk), low_water=_number(low_water),
        features=features,
    )  # fmt: skip


def _thin(start: int, length: int, words: list[str]) -> Target:
    pool, device_id, *origin = words
    if len(origin) > 1:
        raise ValueError(origin)
    return Thin(start, length, pool=pool, device_id=_number(device_id), origin=origin[0] if origin else "")


_PARSERS: dict[str, Callable[[int, int, list[str]], Target]] = {
    "linear": _linear,
    "striped": _striped,
    "zero": _bare(Zero),
    "error": _bare(Error),
    "snapshot-origin": _snapshot_origin,
    "thin-pool": _thin_pool,
    "thin": _thin,
}
