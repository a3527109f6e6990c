# SPDX-License-Identifier: Apache-2.0
"""Every error that Lamella raises on purpose, and the exit code that each one stands for.

An error's message says what was being done and to which named thing; its *hint* says what to do
next. Both texts stand where the error is raised: search for their words. The command line prints them
(``lamella.cli.main``) and exits with the class's code; ``docs/reference/exit-codes.md``, made by
``make docs``, lists the codes. The LVM and thin-provisioning families keep the exit codes of the tools
that they replace.

Layers that know nothing of Lamella's commands name a :class:`Remedy` instead of a hint,
and ``lamella.remedies`` words it.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@unique
class Remedy(Enum):
    """A next step that Lamella has a command for.

    The value describes it without one; :mod:`lamella.remedies` words it with the command.
    """

    GROW_DATA = "grow the data, or delete what is not needed"
    GROW_METADATA = "grow the metadata"
    GROW_METADATA_FIRST = "grow it first: lvextend --poolmetadatasize, or a larger file"
    EXTEND_DATA = "extend the pool's data"
    EXTEND_METADATA = "extend the pool's metadata"
    DELETE_UNUSED = "delete containers or images that are not needed"
    ACTIVATE = "activate the pool"
    DEACTIVATE = "deactivate the pool"
    REPAIR = "repair the pool"
    CHECK = "check the pool"
    SEE_CHECK = "check the pool to see what is wrong"
    SEE_LOG_AND_CHECK = "dmesg says why"
    SEE_LOG_THEN_CHECK = "dmesg says why; then check the pool"
    CHECK_LAYER = "its volume was changed or damaged"
    CHECK_METADATA = "thin_check lists all damage, and thin_repair makes a sound copy"
    CLEAR_NEEDS_CHECK = (
        "`thin_check --clear-needs-check-flag` on the metadata, or thin_repair if it finds damage"
    )
    REBUILD_METADATA = "rebuild the metadata elsewhere with thin_repair"
    MAKE_WRITABLE = "make the pool writable first"
    RESUME_POOL = "dmsetup info POOL, and when nothing is at work on it: dmsetup resume POOL"
    REATTACH_DISK = "put the disk back (pvs shows which is missing)"
    REMOVE_MISSING_DISK = "put the disk back; if it is gone for good: vgreduce --removemissing VG"
    ATTACH_NBD = "attach it first (nbd-client)"
    UNMOUNT_LAZILY = "end what uses it, or unmount it lazily: umount --lazy {target}"


Step = Remedy | str
"""A remedy, or a next step that takes no command of Lamella's."""


def described(step: Step, target: str = "") -> str:
    """*step* without commands of Lamella's; *target* is what it is applied to, if it has to name that."""
    return step if isinstance(step, str) else step.value.replace("{target}", target)


class LamellaError(Exception):
    """Base of all expected failures.

    Parameters: *message*, one sentence that names the thing; *hint*, the next step, or None; or in its
    place *steps*, the next steps in order, *target* being what they are applied to.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str | None = None, steps: Sequence[Step] = (), target: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.steps = tuple(steps)
        self.target = target
        self.hint = "; then ".join(described(step, target) for step in steps) if steps else hint


class UsageError(LamellaError):
    """The request itself is invalid: a bad option, size, name or combination."""

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
