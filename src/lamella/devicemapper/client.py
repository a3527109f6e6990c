# SPDX-License-Identifier: Apache-2.0
"""The kernel's device-mapper, driven by its ioctls: one method for each thing that it can do.

The descriptor of ``/dev/mapper/control`` is the only state. Nodes under ``/dev/mapper`` are another
matter: :mod:`lamella.devicemapper.nodes`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.devicemapper import abi
from lamella.devicemapper.abi import NOTHING, Command, Flag
from lamella.errors import (
    BusyError,
    CorruptError,
    DeviceIOError,
    ExistsError,
    LamellaError,
    MissingError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from lamella.devicemapper.table import Target

CONTROL = Path("/dev/mapper/control")
FIRST_BUFFER = 16 << 10
LARGEST_BUFFER = 64 << 20


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the kernel says of one device."""

    name: str
    uuid: str
    major: int
    minor: int
    open_count: int
    event_nr: int
    target_count: int
    suspended: bool
    read_only: bool
    live_table: bool
    inactive_table: bool
    deferred_remove: bool
    internal_suspend: bool

    @property
    def number(self) -> str:
        """ "major:minor", as tables name devices."""
        return f"{self.major}:{self.minor}"

    @property
    def node(self) -> str:
        """The node that the kernel itself makes, at once, where ``/dev`` is a devtmpfs."""
        return f"/dev/dm-{self.minor}"


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


class DeviceMapper:
    """An open ``/dev/mapper/control``. Every method raises :class:`LamellaError` naming the device.

    ENXIO is :class:`NotFoundError`, EBUSY :class:`BusyError`, EEXIST :class:`ExistsError`, ENODATA
    :class:`NotFoundError`, ENOSPC :class:`NoSpaceError`, EILSEQ :class:`CorruptError`, EOPNOTSUPP
    :class:`UnsupportedError`; the kernel's number is the cause's ``errno``.
    """

    def __init__(self, path: Path = CONTROL) -> None:
        if os.geteuid() != 0:
            raise PermissionDeniedError(
                "device-mapper is for root only", hint="run it as root, or use --engine user"
            )
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise MissingError(
                f"this kernel has no device-mapper: {path} is not there",
                hint="load it with: modprobe dm_thin_pool; or use --engine user, which needs none",
            ) from error
        except OSError as error:
            raise MissingError(
                f"cannot open {path}: {os.strerror(error.errno or 0)}",
                hint="in a container give it the host's /dev/mapper; or use --engine user",
            ) from error
        try:
            self.version = self._call(Command.VERSION, "ask", "device-mapper")[0].version
        except BaseException:
            os.close(self._fd)
            raise

    @staticmethod
    def available(path: Path = CONTROL) -> bool:
        """Whether we are root and the kernel has device-mapper."""
        return os.geteuid() == 0 and path.exists()

    def close(self) -> None:
        """Give the descriptor up; twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- one device ------------------------------------------------------------------------------

    def create(
        self, name: str, uuid: str = "", *, minor: int | None = None, read_only: bool = False, cookie: int = 0
    ) -> DeviceInfo:
        """Make a device without a table."""
        _check_names(name, uuid)
        flags = Flag.READ_ONLY if read_only else NOTHING
        dev = 0
        if minor is not None:
            flags |= Flag.PERSISTENT_DEV
            dev = os.makedev(_own_major(), minor)
        answer, _ = self._call(
            Command.DEV_CREATE, "create", name, uuid=uuid, flags=flags, dev=dev, event_nr=cookie
        )
        return _info(answer)

    def load(self, name: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        """Load a table into the device's inactive slot; :meth:`resume` makes it the live one."""
        self._call(
            Command.TABLE_LOAD,
            "load a table into",
            name,
            flags=(Flag.READ_ONLY if read_only else NOTHING) | Flag.SECURE_DATA,
            data=abi.pack_targets(table),
            target_count=len(table),
        )

    def clear(self, name: str) -> None:
        """Drop the inactive table."""
        self._call(Command.TABLE_CLEAR, "clear the inactive table of", name)

    def suspend(self, name: str, *, flush: bool = True, freeze: bool = True) -> None:
        """Hold back requests. *freeze* a mounted file system first; *flush* waits for queued requests."""
        flags = Flag.SUSPEND
        if not flush:
            flags |= Flag.NO_FLUSH
        if not freeze:
            flags |= Flag.SKIP_LOCKFS
        self._call(Command.DEV_SUSPEND, "suspend", name, flags=flags)

    def resume(self, name: str, *, flush: bool = True, freeze: bool = True, cookie: int = 0) -> DeviceInfo:
        """Let requests go on, through the inactive table if one was loaded. See :meth:`suspend`."""
        flags = NOTHING
        if not flush:
            flags |= Flag.NO_FLUSH
        if not freeze:
            flags |= Flag.SKIP_LOCKFS
        answer, _ = self._call(Command.DEV_SUSPEND, "resume", name, flags=flags, event_nr=cookie)
        return _info(answer)

    @contextmanager
    def suspended(self, name: str, *, flush: bool = True, freeze: bool = True) -> Iterator[None]:
        """Suspended within the block, and resumed however it ends."""
        self.suspend(name, flush=flush, freeze=freeze)
        try:
            yield
        finally:
            self.resume(name)

    def create_with_table(
        self,
        name: str,
        table: Sequence[Target],
        uuid: str = "",
        *,
        read_only: bool = False,
        cookie: int = 0,
    ) -> DeviceInfo:
        """Create, load and resume; a failure leaves no device behind."""
        self.create(name, uuid, read_only=read_only)
        try:
            self.load(name, table, read_only=read_only)
            return self.resume(name, cookie=cookie)
        except BaseException:
            with suppress(LamellaError):
                self.remove(name)
            raise

    def reload(
        self, name: str, table: Sequence[Target], *, read_only: bool = False, freeze: bool = True
    ) -> None:
        """Give a live device another table, without losing a request."""
        self.load(name, table, read_only=read_only)
        try:
            self.suspend(name, freeze=freeze)
        except BaseException:
            with suppress(LamellaError):
                self.clear(name)
            raise
        self.resume(name)

    def remove(self, name: str, *, deferred: bool = False, cookie: int = 0) -> bool:
        """Remove the device; *deferred*: if it is open, when its last user closes it.

        Gives whether it is gone now.
        """
        answer, _ = self._call(
            Command.DEV_REMOVE,
            "remove",
            name,
            flags=Flag.DEFERRED_REMOVE if deferred else NOTHING,
            event_nr=cookie,
        )
        return not (deferred and Flag.DEFERRED_REMOVE in answer.flags)

    def cancel_deferred_remove(self, name: str) -> None:
        """Take a deferred removal back. :class:`NotFoundError` if the device went already."""
        self.message(name, "@cancel_deferred_remove")

    def rename(self, name: str, new: str, *, cookie: int = 0) -> None:
        """Give the device another name."""
        _check_names(new, "")
        self._call(Command.DEV_RENAME, f"rename to {new}", name, data=new.encode() + b"\0", event_nr=cookie)

    def set_uuid(self, name: str, uuid: str) -> None:
        """Give a device without UUID one."""
        _check_names(name, uuid)
        self._call(Command.DEV_RENAME, "set the UUID of", name, data=uuid.encode() + b"\0", flags=Flag.UUID)

    def message(self, name: str, text: str, *, sector: int = 0) -> str:
        """Send a message to the target at *sector*; gives its answer, mostly ""."""
        answer, buffer = self._call(
            Command.TARGET_MSG, f"send {text!r} to", name, data=abi.message_data(sector, text)
        )
        if Flag.DATA_OUT not in answer.flags:
            return ""
        return bytes(buffer[answer.data_start : answer.data_size]).partition(b"\0")[0].decode()

    # -- what there is ---------------------------------------------------------------------------

    def info(self, name: str = "", *, uuid: str = "") -> DeviceInfo:
        """What the kernel says of the device with that name, or that UUID."""
        return _info(self._call(Command.DEV_STATUS, "look at", name, uuid=uuid)[0])

    def find(self, name: str = "", *, uuid: str = "") -> DeviceInfo | None:
        """:meth:`info`, or None where there is no such device."""
        try:
            return self.info(name, uuid=uuid)
        except NotFoundError:
            return None

    def table(self, name: str, *, inactive: bool = False) -> list[TargetLine]:
        """The live (or the inactive) table."""
        flags = Flag.STATUS_TABLE | (Flag.QUERY_INACTIVE if inactive else NOTHING)
        return self._targets(name, "read the table of", flags)

    def status(self, name: str, *, flush: bool = True, inactive: bool = False) -> list[TargetLine]:
        """Each target's state. *flush*: a thin pool commits first, so that its numbers are exact."""
        flags = (NOTHING if flush else Flag.NO_FLUSH) | (Flag.QUERY_INACTIVE if inactive else NOTHING)
        return self._targets(name, "read the status of", flags)

    def _targets(self, name: str, doing: str, flags: Flag) -> list[TargetLine]:
        answer, buffer = self._call(Command.TABLE_STATUS, doing, name, flags=flags)
        return [TargetLine(*each) for each in abi.unpack_targets(buffer, answer)]

    def deps(self, name: str, *, inactive: bool = False) -> list[tuple[int, int]]:
        """(major, minor) of each device that the live table uses."""
        flags = Flag.QUERY_INACTIVE if inactive else NOTHING
        answer, buffer = self._call(Command.TABLE_DEPS, "read the dependencies of", name, flags=flags)
        return [(os.major(dev), os.minor(dev)) for dev in abi.unpack_deps(buffer, answer)]

    def list(self) -> list[tuple[str, int, int]]:
        """(name, major, minor) of every device."""
        answer, buffer = self._call(Command.LIST_DEVICES, "list", "devices")
        return [(name, os.major(dev), os.minor(dev)) for name, dev in abi.unpack_names(buffer, answer)]

    def targets(self) -> dict[str, tuple[int, int, int]]:
        """The targets that the kernel has loaded, and their versions."""
        answer, buffer = self._call(Command.LIST_VERSIONS, "list", "targets")
        return dict(abi.unpack_versions(buffer, answer))

    def wait(self, name: str, event_nr: int) -> DeviceInfo:
        """Block until the device has seen more than *event_nr* events. Interrupted by any signal."""
        answer, _ = self._call(Command.DEV_WAIT, "wait for", name, event_nr=event_nr)
        return _info(answer)

    # -- the call itself -------------------------------------------------------------------------

    def _call(
        self,
        command: Command,
        doing: str,
        name: str,
        *,
        uuid: str = "",
        flags: Flag = NOTHING,
        dev: int = 0,
        event_nr: int = 0,
        target_count: int = 0,
        data: bytes = b"",
    ) -> tuple[abi.Answer, bytearray]:
        size = FIRST_BUFFER
        named = (
            ""
            if name in ("devices", "device-mapper") or (uuid and command is not Command.DEV_CREATE)
            else name
        )
        while True:
            buffer = abi.pack(
                size,
                name=named,
                uuid=uuid,
                dev=dev,
                flags=flags,
                event_nr=event_nr,
                target_count=target_count,
                data=data,
            )
            try:
                fcntl.ioctl(self._fd, command.request, buffer, True)
            except OSError as error:
                raise _explained(error, doing, name or uuid) from error
            answer = abi.unpack(buffer)
            if Flag.BUFFER_FULL not in answer.flags:
                return answer, buffer
            size = len(buffer) * 4
            if size > LARGEST_BUFFER:
                raise LamellaError(f"the kernel's answer about {name} passes {LARGEST_BUFFER} bytes")


def _info(answer: abi.Answer) -> DeviceInfo:
    flags = answer.flags
    return DeviceInfo(
        answer.name,
        answer.uuid,
        os.major(answer.dev),
        os.minor(answer.dev),
        answer.open_count,
        answer.event_nr,
        answer.target_count,
        Flag.SUSPEND in flags,
        Flag.READ_ONLY in flags,
        Flag.ACTIVE_PRESENT in flags,
        Flag.INACTIVE_PRESENT in flags,
        Flag.DEFERRED_REMOVE in flags,
        Flag.INTERNAL_SUSPEND in flags,
    )


def _own_major() -> int:
    for line in Path("/proc/devices").read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[1] == "device-mapper":
            return int(words[0])
    raise MissingError("this kernel has no device-mapper", hint="modprobe dm_mod")


def _check_names(name: str, uuid: str) -> None:
    if not name or len(name.encode()) > abi.MAX_NAME or "/" in name or name in (".", ".."):
        raise UsageError(
            f"{name!r} cannot be a device's name", hint="it has 1 to 127 bytes, and no slash among them"
        )
    if len(uuid.encode()) > abi.MAX_UUID:
        raise UsageError(f"{uuid!r} is too long for a device's UUID", hint="it has 128 bytes at most")


_CLASSES: dict[int, tuple[type[LamellaError], str | None]] = {
    errno.ENXIO: (NotFoundError, "dmsetup ls lists the devices"),
    errno.ENODATA: (NotFoundError, None),
    errno.EBUSY: (BusyError, None),
    errno.EEXIST: (ExistsError, None),
    errno.ENOSPC: (NoSpaceError, None),
    errno.EILSEQ: (CorruptError, "dmesg says what is damaged"),
    errno.EOPNOTSUPP: (UnsupportedError, None),
    errno.EINVAL: (UsageError, "dmesg says why"),
    errno.EIO: (DeviceIOError, "dmesg says more"),
    errno.EPERM: (PermissionDeniedError, "device-mapper wants CAP_SYS_ADMIN"),
    errno.EACCES: (PermissionDeniedError, "device-mapper wants CAP_SYS_ADMIN"),
}


def _explained(error: OSError, doing: str, what: str) -> LamellaError:
    kind, hint = _CLASSES.get(error.errno or 0, (LamellaError, "dmesg may say more"))
    return kind(f"device-mapper cannot {doing} {what}: {os.strerror(error.errno or 0)}", hint=hint)
