# SPDX-License-Identifier: Apache-2.0
"""Every error that Lamella raises on purpose, and the exit code that each one stands for.

An error's message says what was being done and to which named thing; its *hint* says what to do
next. The command line prints both and exits with the class's code; ``docs/exit-codes.md`` lists
the codes. The LVM and thin-provisioning families keep the exit codes of the tools they replace.
"""

from __future__ import annotations


class LamellaError(Exception):
    """Base of all expected failures.

    Parameters: *message*, one sentence that names the thing; *hint*, the next step, or None.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LamellaError):
    """The request itself makes no sense: a bad option, size, name or combination."""

    exit_code = 2


class NotFoundError(LamellaError):
    """A named thing (image, container, device, file, store) does not exist."""

    exit_code = 3


class ExistsError(LamellaError):
    """The thing to be made exists already, or differs from what was asked for."""

    exit_code = 4


class BusyError(LamellaError):
    """Somebody else holds it: another command, a mount, an open volume."""

    exit_code = 5


class CorruptError(LamellaError):
    """What is on disk is damaged: a bad checksum, magic, structure or reference count."""

    exit_code = 6


class NoSpaceError(LamellaError):
    """No room: data space, metadata space, inodes, the host's disk, or the minimum free space."""

    exit_code = 7


class ReadOnlyError(LamellaError):
    """A write was asked of something that may only be read (or needs a check first)."""

    exit_code = 8


class BadInputError(LamellaError):
    """Input from outside (archive, layer, manifest, digest) is malformed, truncated or hostile."""

    exit_code = 9


class MissingError(LamellaError):
    """A part of the system that is needed (a library, a program, a kernel feature) is not there."""

    exit_code = 10


class NetworkError(LamellaError):
    """A registry or a remote disk could not be reached, refused, or broke off."""

    exit_code = 11


class UnsupportedError(LamellaError):
    """Understood, but this engine, format version or feature flag cannot be served; says why."""

    exit_code = 12


class DeviceIOError(LamellaError):
    """The operating system failed a read, write or flush of a named file or device."""

    exit_code = 13


class PermissionDeniedError(LamellaError):
    """The operating system refuses access; the hint says which rights are needed."""

    exit_code = 14
