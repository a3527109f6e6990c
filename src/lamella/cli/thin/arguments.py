# SPDX-License-Identifier: Apache-2.0
"""What the thin tools' command lines share: options, version, opening of input and output."""

from __future__ import annotations

import argparse
import os
import stat
from typing import TYPE_CHECKING

from lamella._version import __version__
from lamella.block import system
from lamella.cli.thin.command_line import ToolParser, number
from lamella.errors import BusyError, CorruptError, NoSpaceError, NotFoundError, UsageError

if TYPE_CHECKING:
    from typing import IO

    from lamella.block import FileDevice

TOOLS_VERSION = f"1.3.3 (Lamella {__version__})"
"""The version of thin-provisioning-tools whose behaviour is followed: LVM reads the first three numbers to
know which options it may use."""
BLOCK_SIZE = 4096
SMALLEST_OUTPUT = 8 * BLOCK_SIZE
"""Bytes below which an output is refused at once, as the tools do."""
_OUTPUT = (
    "The output file should either be a block device,\nor an existing file.  The file needs to be large\n"
    "enough to hold the metadata."
)


def parser(name: str, about: str) -> ToolParser:
    """A parser with the options that every tool has."""
    made = ToolParser(name, about)
    made.add_argument("-h", "--help", action="help", help="Print help")
    made.add_argument("-V", "--version", action=_Version, nargs=0, help="Print version")
    made.add_argument("-v", "--verbose", action=_Verbose, nargs=0, default=0, help=argparse.SUPPRESS)
    made.add_argument("--io-engine", help=argparse.SUPPRESS)
    return made


def add_quiet(made: ToolParser) -> None:
    """``--quiet``."""
    made.add_argument(
        "-q", "--quiet", action="store_true", help="Suppress output messages, return only exit code."
    )


def add_overrides(made: ToolParser, data_block_size: str) -> None:
    """Values to put in place of the superblock's; *data_block_size* is the help of that option."""
    flag = made.add_argument
    flag("--data-block-size", type=number(32), metavar="SECTORS", help=data_block_size)
    flag("--nr-data-blocks", type=number(64), metavar="NUM",
         help="Override the number of data blocks if needed")  # fmt: skip
    flag("--transaction-id", type=number(64), metavar="NUM",
         help="Override the transaction id if needed")  # fmt: skip


class _Version(argparse.Action):
    """``--version``: LVM2 reads the first line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        print(TOOLS_VERSION)
        parser.exit()


class _Verbose(argparse.Action):
    """``-v`` logs on standard error what is decided; ``-vv`` every request to the system as well."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from lamella.cli.log_output import configure

        namespace.verbose += 1
        configure(verbose=True, debug=namespace.verbose > 1)


def open_input(path: str, *, write: bool = False, live: bool = False, may_be_xml: bool = True) -> FileDevice:
    """Open the metadata in file or device *path*, refusing what cannot be metadata.

    It is locked against other programs, exclusively for *write*; only for a *live* pool's metadata snapshot
    it is not, because the pool holds it.
    """
    from lamella.block import FileDevice

    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise NotFoundError(f"Couldn't find input file '{path}'", hint="check the path") from None
    except OSError as error:
        raise system.explain(error, "open", path) from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise UsageError(f"Not a block device or regular file '{path}'.", hint="give one of these")
    if stat.S_ISBLK(mode) and not live and not write:
        _refuse_used_device(path)
    device = FileDevice(path, read_only=not write, lock=not live)
    if device.size < BLOCK_SIZE:
        device.close()
        raise CorruptError("Metadata device/file too small.  Is this binary metadata?", hint=None)
    if not may_be_xml and device.read(0, 16).startswith((b"<superblock", b"<?xml", b"<!DOCTYPE")):
        device.close()
        raise UsageError(
            "This looks like XML.  This tool only supports the binary metadata format.",
            hint="thin_restore turns XML into metadata",
        )
    return device


def add_output(made: ToolParser) -> None:
    """The options of tools that write metadata."""
    made.add_argument("-o", "--output", required=True, metavar="FILE", help="Specify the output device")
    add_quiet(made)


def open_output(path: str, *, not_same_as: str) -> FileDevice:
    """Open the device or file *path* that metadata is to be written to, locked exclusively."""
    from lamella.block import FileDevice

    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise NotFoundError(f"Output file does not exist.\n\n{_OUTPUT}", hint=None) from None
    except OSError as error:
        raise system.explain(error, "open", path) from error
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise UsageError(f"Not a block device or regular file '{path}'.", hint="give one of these")
    if os.path.exists(not_same_as) and os.path.samestat(found, os.stat(not_same_as)):
        raise UsageError(
            "The input and the output are the same file.", hint="give another one; the input is never changed"
        )
    device = FileDevice(path)
    if device.size < SMALLEST_OUTPUT:
        device.close()
        kind = "Output file too small." if device.size else "Zero size output file."
        raise NoSpaceError(f"{kind}\n\n{_OUTPUT}", hint=None)
    return device


def open_text(path: str) -> IO[bytes]:
    """Open the XML file *path* for reading."""
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise UsageError(f"Not a regular file '{path}'.", hint="give an XML file")
        return open(path, "rb")
    except FileNotFoundError:
        raise NotFoundError(f"Couldn't find input file '{path}'", hint="check the path") from None
    except OSError as error:
        raise system.explain(error, "open", path) from error


def _refuse_used_device(path: str) -> None:
    """Raise if block device *path* is mounted or part of device-mapper: it could change while being read."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        found = system.explain(error, "open", path)
        if isinstance(found, BusyError):
            found.hint = "deactivate the pool, or look at its metadata snapshot with --metadata-snap"
        raise found from error
