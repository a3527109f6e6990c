# SPDX-License-Identifier: Apache-2.0
"""Standard streams over given descriptors, as the command line has them; :mod:`lamella.cli.process` too."""

from __future__ import annotations

import io
import os
import stat

from lamella.errors import LamellaError

TYPE_CHECKING = False  # typing's, without importing it: every command imports this when it starts
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from typing_extensions import Buffer

PIPE_BUF = 4096
"""Bytes that a pipe which poll(2) calls writable takes without blocking."""


class Output(io.FileIO):
    """Standard output. The first failure raises an error that says what failed; later writes are dropped."""

    ended = False
    """Whether what is written now goes nowhere."""

    def write(self, data: Buffer, /) -> int:
        if self.ended:
            return memoryview(data).nbytes
        try:
            return self._write(data)
        except BrokenPipeError:
            self.ended = True
            raise
        except OSError as error:
            self.ended = True
            from lamella.block.system import explain

            raise explain(error, "write to", "the standard output") from error

    def _write(self, data: Buffer) -> int:
        return super().write(data)


class _WaitingOutput(Output):
    """The same where no signal interrupts a write: *wait* does not return before it can be made."""

    def __init__(self, descriptor: int, wait: Callable[[int], object]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._wait = wait

    def _write(self, data: Buffer) -> int:
        self._wait(self.fileno())
        return super()._write(memoryview(data).cast("B")[:PIPE_BUF])


class _WaitingError(io.FileIO):
    ended = False

    def __init__(self, descriptor: int, wait: Callable[[int], object]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._wait = wait

    def write(self, data: Buffer, /) -> int:
        if self.ended:
            return memoryview(data).nbytes
        self._wait(self.fileno())
        return super().write(memoryview(data).cast("B")[:PIPE_BUF])


class _WaitingInput(io.FileIO):
    def __init__(self, descriptor: int, wait: Callable[[int], object]) -> None:
        super().__init__(descriptor, "rb", closefd=False)
        self._wait = wait

    def readinto(self, target: Buffer, /) -> int | None:
        self._wait(self.fileno())
        return super().readinto(target)

    def readall(self) -> bytes:
        return b"".join(iter(self._piece, b""))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        self._wait(self.fileno())
        return super().read(size)

    def _piece(self) -> bytes:
        return self.read(1 << 16)


def output_text(raw: io.FileIO, encoding: str) -> io.TextIOWrapper:
    """Standard output as text."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",  # a name that the terminal cannot show must not fail
        line_buffering=os.isatty(raw.fileno()),
    )


class Streams:
    """The three streams of one command over *descriptors*, which stay open."""

    def __init__(
        self,
        descriptors: tuple[int, int, int],
        encodings: list[str],
        readable: Callable[[int], object],
        writable: Callable[[int], object],
    ) -> None:
        of_input, of_output, of_errors = encodings
        plain = [stat.S_ISREG(os.fstat(descriptor).st_mode) for descriptor in descriptors]  # never blocks
        source = io.FileIO(descriptors[0], "rb", closefd=False)
        output = Output(descriptors[1], "wb", closefd=False)
        errors = _WaitingError(descriptors[2], writable)
        if not plain[0]:
            source = _WaitingInput(descriptors[0], readable)
        if not plain[1]:
            output = _WaitingOutput(descriptors[1], writable)
        self._outputs: tuple[Output | _WaitingError, ...] = (output, errors)
        self.stdin: TextIO = io.TextIOWrapper(io.BufferedReader(source), encoding=of_input)
        self.stdout: TextIO = output_text(output, of_output)
        self.stderr: TextIO = io.TextIOWrapper(
            io.BufferedWriter(errors), encoding=of_errors, errors="backslashreplace", line_buffering=True
        )

    def finish(self) -> None:
        """Write what is still held, and nothing more: the descriptors' numbers will be those of others."""
        for stream, raw in zip((self.stdout, self.stderr), self._outputs, strict=True):
            try:
                stream.flush()
            except (LamellaError, OSError, ValueError):
                pass
            raw.ended = True
