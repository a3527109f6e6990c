# SPDX-License-Identifier: Apache-2.0
"""A volume whose file system was not unmounted, with its journal replayed in memory and nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.ranges import merged
from lamella.errors import ReadOnlyError
from lamella.fs.ext4.journal import recover_journal
from lamella.thin.interface import ThinVolume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

PAGE = 4096


class JournalOverlay(ThinVolume):
    """*volume* with its journal replayed in memory; closing this closes it.

    What replaying writes is at most what the journal holds. Raises what
    :func:`lamella.fs.ext4.journal.recover_journal` raises for a journal that cannot be replayed.
    """

    def __init__(self, volume: ThinVolume) -> None:
        self._below = volume
        self._pages: dict[int, bytearray] = {}
        self.name = volume.name
        self.size = volume.size
        self.dev_id = volume.dev_id
        self.chunk_size = volume.chunk_size
        self.read_only = False
        recover_journal(self)
        self.read_only = True

    def replayed(self) -> list[tuple[int, int]]:
        """(first chunk, length) of the chunks in which replaying changed something, in order."""
        chunks = sorted({page * PAGE // self.chunk_size for page in self._pages})
        return list(merged((chunk, 1) for chunk in chunks))

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        self._below.read_into(offset, view)
        end = offset + len(view)
        for number in range(offset // PAGE, -(-end // PAGE)) if self._pages else ():
            page = self._pages.get(number)
            if page is not None:
                start, stop = max(number * PAGE, offset), min((number + 1) * PAGE, end)
                view[start - offset : stop - offset] = page[start - number * PAGE : stop - number * PAGE]

    def write(self, offset: int, data: Buffer) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.name} is open for reading only", hint="open it for writing")
        view = memoryview(data).cast("B")
        self.check_range(offset, len(view))
        end = offset + len(view)
        for number in range(offset // PAGE, -(-end // PAGE)):
            start, stop = max(number * PAGE, offset), min((number + 1) * PAGE, end)
            self._page(number)[start - number * PAGE : stop - number * PAGE] = view[
                start - offset : stop - offset
            ]

    def _page(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if page is None:
            start = number * PAGE
            page = bytearray(self._below.read(start, min(PAGE, self.size - start)))
            page.extend(bytes(PAGE - len(page)))
            self._pages[number] = page
        return page

    def flush(self) -> None:
        """Nothing: what was replayed is in memory only."""

    def discard(self, offset: int, length: int) -> None:
        """Nothing: it is advice."""

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """All of it: a replayed journal may have written anywhere."""
        length = self.size - offset if length is None else length
        self.check_range(offset, length)
        if length:
            yield offset, length

    def close(self) -> None:
        """Close the volume below."""
        self._below.close()
