# SPDX-License-Identifier: Apache-2.0
"""A layer as a verified stream: a thread reads, hashes and decompresses while the consumer writes.

Nothing says "end" before everything was checked: the blob's size and digest, and the diff id of
what came out of it. Only a few pieces wait in between, so memory does not grow with the layer.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

from lamella.errors import BadInputError, LamellaError
from lamella.images.content import READ_SIZE
from lamella.images.decompress import MAGIC_SIZE, bad_stream, decompressor, format_errors, sniff
from lamella.images.digest import Hasher, new_hasher
from lamella.interruptible import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from lamella.images.content import Piece, Reader

PIECE = 1 << 20
"""Bytes per piece handed over: large, as each hand-over may wait for the interpreter's lock."""
PIECES_WAITING = 4


class _CheckedInput:
    """The blob's bytes as they are read, counted and hashed on the way."""

    def __init__(self, reader: Reader, digest: str | None) -> None:
        self._reader = reader
        self._hasher: Hasher | None = new_hasher(digest) if digest else None
        self._ahead = b""
        self.taken = 0

    def peek(self) -> bytes:
        self._ahead = self._take(READ_SIZE)
        return self._ahead[:MAGIC_SIZE]

    def read(self, size: int = -1, /) -> bytes:
        if self._ahead:
            data = self._ahead if 0 <= size >= len(self._ahead) else self._ahead[:size]
            self._ahead = self._ahead[len(data) :]
            return data
        return self._take(size if size > 0 else READ_SIZE)

    def readinto(self, target: memoryview, /) -> int:
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def _take(self, size: int) -> bytes:
        data = self._reader.read(size)
        if self._hasher is not None:
            self._hasher.update(data)
        self.taken += len(data)
        return data

    def hexdigest(self) -> str:
        return self._hasher.hexdigest() if self._hasher is not None else ""


class LayerStream:
    """The uncompressed tar of a layer, verified; use it as a context manager.

    ``readinto`` and ``read`` give as much as was asked for, less only at the end. Leaving the ``with``
    block without an error reads and checks whatever is left (a tar's reader stops before its
    padding), so a wrong layer cannot pass unseen; ``close()`` before that abandons the rest
    unchecked. ``position`` counts the bytes given, ``taken`` the blob's bytes read so far.

    Errors: :class:`BadInputError` for a wrong digest, size, diff id or compression, or more than
    *max_size* bytes; the class of the operating system's error where reading fails.
    """

    def __init__(
        self,
        piece: Piece,
        *,
        digest: str | None = None,
        size: int | None = None,
        diff_id: str | None = None,
        max_size: int | None = None,
    ) -> None:
        self.name = piece.name
        self.diff_id = diff_id
        self.position = 0
        self._digest = digest
        self._size = size
        self._max_size = max_size
        self._view = memoryview(b"")
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._finished = False
        self._ended = False
        self._error: BaseException | None = None
        self._input: _CheckedInput | None = None
        self._thread = threading.Thread(target=self._work, args=(piece,), name="lamella-layer", daemon=True)
        self._thread.start()

    # The worker's side -----------------------------------------------------------------------

    def _work(self, piece: Piece) -> None:
        try:
            with closing(piece.open()) as reader:
                self._pump(reader)
        except BaseException as error:  # raised in the consumer, in its own thread
            self._error = error
        with self._changed:
            self._finished = True
            self._changed.notify()

    def _pump(self, reader: Reader) -> None:
        source = self._input = _CheckedInput(reader, self._digest)
        kind = "plain" if self._digest and self._digest == self.diff_id else sniff(source.peek())
        algorithm = self.diff_id or "sha256"
        # An uncompressed blob's digest is its diff id: hash it once.
        same = (
            kind == "plain" and self._digest is not None and _algorithm(self._digest) == _algorithm(algorithm)
        )
        hasher = None if same else new_hasher(algorithm)
        output = decompressor(kind, source)
        errors = format_errors()
        length = 0
        while True:
            try:
                data = output.read(PIECE)
            except LamellaError:
                raise
            except errors as error:
                self._check_rest_of_blob(source)
                raise bad_stream(error, kind, self.name) from error
            if not data:
                break
            length += len(data)
            if self._max_size is not None and length > self._max_size:
                raise BadInputError(f"{self.name} is larger than {self._max_size} bytes when unpacked")
            if hasher is not None:
                hasher.update(data)
            if not self._enqueue(data):
                return
        if source.read(1):
            raise BadInputError(f"{self.name} has data after the end of its {kind} stream")
        self._check(source, hasher.hexdigest() if hasher is not None else source.hexdigest())

    def _check_rest_of_blob(self, source: _CheckedInput) -> None:
        """Read the rest of the blob, and report damage of the blob itself rather than of its compression."""
        while source.read(PIECE):
            pass
        self._check_blob(source)

    def _check(self, source: _CheckedInput, found: str) -> None:
        self._check_blob(source)
        if self.diff_id is not None:
            _compare(self.name, "diff id", self.diff_id, found)
        else:
            self.diff_id = f"sha256:{found}"

    def _check_blob(self, source: _CheckedInput) -> None:
        if self._size is not None and source.taken != self._size:
            raise BadInputError(
                f"{self.name} has the wrong size: {self._size} bytes expected, {source.taken} found"
            )
        if self._digest is not None:
            _compare(self.name, "digest", self._digest, source.hexdigest())

    def _enqueue(self, data: bytes) -> bool:
        with self._changed:
            while len(self._waiting) >= PIECES_WAITING and not self._stopped:
                self._changed.wait()
            self._waiting.append(data)
            self._changed.notify()
            return not self._stopped

    # The consumer's side ---------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """Bytes of the blob that were read so far."""
        return self._input.taken if self._input is not None else 0

    def _next(self) -> bool:
        """Make ``_view`` the next piece; False at the verified end."""
        if self._ended:
            return False
        checkpoint()
        with self._changed:
            while not self._waiting and not self._finished:
                self._changed.wait()
            if self._waiting:
                self._view = memoryview(self._waiting.popleft())
                self._changed.notify()
                return True
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._stopped:
            raise ValueError("the layer stream is closed")
        self._ended = True
        return False

    def readinto(self, target: memoryview | bytearray, /) -> int:
        """Fill *target*; the number of bytes, smaller than its length only at the end."""
        view = memoryview(target).cast("B")
        done, wanted = 0, len(view)
        while done < wanted:
            if not self._view and not self._next():
                break
            count = min(len(self._view), wanted - done)
            view[done : done + count] = self._view[:count]
            self._view = self._view[count:]
            done += count
        self.position += done
        return done

    def read(self, size: int = -1, /) -> bytes:
        """*size* bytes (fewer at the end), or with -1 all the rest in memory: for small layers only."""
        if size < 0:
            return b"".join(self.pieces())
        if size <= len(self._view):
            data = bytes(self._view[:size])
            self._view = self._view[size:]
            self.position += size
            return data
        buffer = bytearray(size)
        count = self.readinto(buffer)
        return bytes(memoryview(buffer)[:count])

    def pieces(self) -> Iterator[memoryview]:
        """The rest of the stream as pieces of up to 1 MiB, without copying them."""
        while self._view or self._next():
            view, self._view = self._view, memoryview(b"")
            self.position += len(view)
            yield view

    def verify(self) -> None:
        """Read what is left and check everything; raises if anything is wrong."""
        for _ in self.pieces():
            pass

    def close(self) -> None:
        """Stop the thread and drop the rest, unchecked. Closing twice does nothing."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()
        self._view = memoryview(b"")

    def __enter__(self) -> LayerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._stopped:
                self.verify()
        finally:
            self.close()


def _algorithm(digest: str) -> str:
    return digest.partition(":")[0]


def _compare(name: str, what: str, expected: str, found: str) -> None:
    found = f"{_algorithm(expected)}:{found}"
    if found != expected:
        raise BadInputError(
            f"{name} does not have the {what} it should have: {expected} expected, {found} found"
        )
