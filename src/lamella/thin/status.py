# SPDX-License-Identifier: Apache-2.0
"""The options of a pool, the states of pools and thin devices, and the kernel's words for all of them.

The words and their order are those of the kernel's thin-pool and thin targets (``pool_status``,
``emit_flags`` and ``thin_status`` in ``drivers/md/dm-thin.c``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from lamella.block.device import SECTOR
from lamella.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_METADATA_LOW_WATER = 1024
"""Blocks (4 MiB): with fewer free the kernel sends an event."""

Discards = Literal["passdown", "nopassdown", "ignore"]
"""What becomes of a discard: see :attr:`PoolOptions.discards`. The words are LVM2's."""
DISCARD_WORDS: dict[Discards, str] = {
    "passdown": "discard_passdown",
    "nopassdown": "no_discard_passdown",
    "ignore": "ignore_discard",
}
"""The kernel's words. A table leaves out "discard_passdown", which is the default."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How a pool behaves; nothing of it is stored in the pool."""

    zero: bool = True
    """Zero the rest of a new chunk that is only partly written."""
    discards: Discards = "passdown"
    """Give discarded chunks back to the pool *and* discard them on the data device; or only the first;
    or ignore discards."""
    error_if_no_space: bool = False
    """Fail a write at once when the data device is full, instead of waiting for it to grow."""
    low_water_chunks: int = 0
    """With so many chunks free or fewer, ``Pool.on_low_water`` is called."""
    no_space_timeout: float = 60.0
    """Seconds that a write waits for a full data device to grow; then it fails."""

    def features(self, *, read_only: bool = False) -> tuple[str, ...]:
        """The feature words that a thin-pool table line ends with."""
        return (
            *(["skip_block_zeroing"] if not self.zero else []),
            *([DISCARD_WORDS[self.discards]] if self.discards != "passdown" else []),
            *(["read_only"] if read_only else []),
            *(["error_if_no_space"] if self.error_if_no_space else []),
        )

    @classmethod
    def from_features(cls, words: Collection[str]) -> PoolOptions:
        """The options that the feature words of a thin-pool table line stand for."""
        return cls(
            zero="skip_block_zeroing" not in words,
            discards=next((kind for kind, word in DISCARD_WORDS.items() if word in words), "passdown"),
            error_if_no_space="error_if_no_space" in words,
        )


class PoolMode(IntEnum):
    """The states of a pool, in the kernel's order: from each on, less is possible."""

    WRITE = 0
    OUT_OF_DATA_SPACE = 1
    """Nothing new can be mapped until chunks come free or the data device grows."""
    OUT_OF_METADATA_SPACE = 2
    """No metadata blocks are left but the reserve; the metadata device has to grow."""
    READ_ONLY = 3
    FAIL = 4
    """Not even the last committed metadata could be read back."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool's state at one moment. Metadata counts blocks of 4096 bytes, data counts chunks."""

    transaction_id: int
    used_metadata: int
    """The kernel's reserve (the smaller of 4096 blocks and a tenth) counts as used."""
    total_metadata: int
    used_data: int
    total_data: int
    held_root: int
    """Block of the held metadata snapshot; 0: none."""
    mode: PoolMode
    discards: Discards
    error_if_no_space: bool
    needs_check: bool
    metadata_low_water: int

    @property
    def mode_word(self) -> str:
        if self.mode is PoolMode.WRITE:
            return "rw"
        return "out_of_data_space" if self.mode is PoolMode.OUT_OF_DATA_SPACE else "ro"

    def line(self) -> str:
        """The parameters of the kernel's status line, with its trailing blank."""
        if self.mode is PoolMode.FAIL:
            return "Fail"
        return (
            f"{self.transaction_id} {self.used_metadata}/{self.total_metadata} "
            f"{self.used_data}/{self.total_data} {self.held_root or '-'} {self.mode_word} "
            f"{DISCARD_WORDS[self.discards]} "
            f"{'error_if_no_space' if self.error_if_no_space else 'queue_if_no_space'} "
            f"{'needs_check' if self.needs_check else '-'} {self.metadata_low_water} "
        )


def parse_status(text: str) -> PoolStatus:
    """The state that the parameters of a kernel's status line tell of (``pool_status`` in ``dm-thin.c``).

    The kernel says "ro" of two states; without ``needs_check`` and with no free metadata block left it is
    :attr:`PoolMode.OUT_OF_METADATA_SPACE`. "Fail", and "Error" (it could not read its own numbers), tell
    nothing else: all numbers are 0 then. Raises :class:`lamella.errors.BadInputError`.
    """
    words = text.split()
    if words in (["Fail"], ["Error"]):
        return PoolStatus(0, 0, 0, 0, 0, 0, PoolMode.FAIL, "passdown", False, False, 0)
    try:
        transaction, metadata, data, held, mode, discards, policy, check, *low = words
        used_metadata, total_metadata = map(int, metadata.split("/"))
        used_data, total_data = map(int, data.split("/"))
        found = _MODES[mode]
        if found is PoolMode.READ_ONLY and check == "-" and used_metadata >= total_metadata:
            found = PoolMode.OUT_OF_METADATA_SPACE
        return PoolStatus(
            transaction_id=int(transaction),
            used_metadata=used_metadata,
            total_metadata=total_metadata,
            used_data=used_data,
            total_data=total_data,
            held_root=0 if held == "-" else int(held),
            mode=found,
            discards=_DISCARDS[discards],
            error_if_no_space=policy == "error_if_no_space",
            needs_check=check == "needs_check",
            metadata_low_water=int(low[0]) if low else 0,
        )
    except (ValueError, KeyError) as error:
        raise BadInputError(
            f"not the status line of a thin pool: {text[:200]!r}", hint="see: dmsetup status"
        ) from error


_MODES = {"rw": PoolMode.WRITE, "out_of_data_space": PoolMode.OUT_OF_DATA_SPACE, "ro": PoolMode.READ_ONLY}
_DISCARDS = {word: kind for kind, word in DISCARD_WORDS.items()}


def discards_of(word: str) -> Discards | None:
    """LVM2's *word* for what becomes of a discard as that type; None for any other word."""
    return next((kind for kind in DISCARD_WORDS if kind == word), None)


def metadata_low_water(device_blocks: int) -> int:
    """Free metadata blocks at which the kernel sends an event: a quarter of the device, 1024 at most."""
    return min(MAX_METADATA_LOW_WATER, device_blocks // 4)


class ThinStatus(NamedTuple):
    """A thin device's state: bytes that are mapped, and where the last mapped chunk ends (0: none)."""

    mapped: int
    end: int
    failed: bool = False

    def line(self) -> str:
        """The parameters of the kernel's status line: mapped sectors, and the highest mapped one or "-"."""
        if self.failed:
            return "Fail"
        return f"{self.mapped // SECTOR} {self.end // SECTOR - 1 if self.end else '-'}"


def parse_thin_status(text: str) -> ThinStatus:
    """The parameters of a thin device's status line. Raises :class:`BadInputError` for anything else."""
    words = text.split()
    if words in (["Fail"], ["Error"]):
        return ThinStatus(0, 0, failed=True)
    try:
        mapped, highest = words[:2]
        return ThinStatus(int(mapped) * SECTOR, 0 if highest == "-" else (int(highest) + 1) * SECTOR)
    except ValueError as error:
        raise BadInputError(
            f"invalid status of a thin device from the kernel: {text[:200]!r}",
            hint="this Lamella may be too old for this kernel",
        ) from error
