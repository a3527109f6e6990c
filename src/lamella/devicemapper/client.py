# SPDX-License-Identifier: Apache-2.0
"""The kernel's device-mapper, driven by its ioctls: one method for each thing that it can do.

The descriptor of ``/dev/mapper/control`` is the only state. Nodes under ``/dev/mapper`` are another
matter: :mod:`lamella.devicemapper.nodes`.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.closing import Closing
from lamella.devicemapper import ioctl
from lamella.devicemapper.device import DeviceInfo, info_of
from lamella.devicemapper.errors import explained
from lamella.devicemapper.ioctl import NOTHING, Command, Flag
from lamella.devicemapper.table import TargetLine
from lamella.errors import (
    BusyError,
    ExistsError,
    LamellaError,
    MissingError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lamella.devicemapper.table import Target

log = logs.logger(__name__)

__all__ = ["CONTROL", "GONE", "DeviceInfo", "DeviceMapper", "TargetLine", "own_major"]

CONTROL = Path("/dev/mapper/control")
FIRST_BUFFER = 1024
"""So much ``fcntl.ioctl`` copies, and lets other threads run meanwhile. With a larger buffer it does not, and
a suspend or a wait would stand still for ever with the thread that it waits for."""
LISTING_BUFFER = 16 << 10
"""For answers that grow with the number of devices, and never have to wait."""
LARGEST_BUFFER = 64 << 20
POLL_SINCE = (4, 37, 0)
"""The interface's version from which on the control device can be polled."""
GONE = -1
"""The event number of a device that was removed."""
RETRY_PAUSE = 0.01


class DeviceMapper(Closing):
    """An open ``/dev/mapper/control``. Every method raises :class:`LamellaError` naming the device.

    ENXIO is :class:`NotFoundError`, EBUSY :class:`BusyError`, EEXIST :class:`ExistsError`, ENODATA
    :class:`NotFoundError`, ENOSPC :class:`NoSpaceError`, EILSEQ :class:`CorruptError`, EOPNOTSUPP
    :class:`UnsupportedError`; the kernel's number is the cause's ``errno``.
    """

    made_event = False
    """Whether the last :meth:`resume`, :meth:`rename` or :meth:`remove` made a uevent, with its cookie."""

    def __init__(self, path: Path = CONTROL) -> None:
        if os.geteuid() != 0:
            raise PermissionDeniedError(
                "only root may use device-mapper", hint="run it as root, or use --engine user"
            )
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise MissingError(
                f"this kernel has no device-mapper: {path} does not exist",
                hint="load it with: modprobe dm_thin_pool; or use --engine user, which does not need it",
            ) from error
        except OSError as error:
            raise MissingError(
                f"cannot open {path}: {os.strerror(error.errno or 0)}",
                hint="in a container give it the host's /dev/mapper; or use --engine user",
            ) from error
        try:
            self.version = self._call(Command.VERSION, "ask", "", what="device-mapper")[0].version
        except BaseException:
            os.close(self._fd)
            raise

    @staticmethod
    def available(path: Path = CONTROL) -> bool:
        """Whether we are root and the kernel has a device-mapper that answers us."""
        if os.geteuid() != 0 or not path.exists():
            return False
        try:
            DeviceMapper(path).close()
        except LamellaError:
            return False
        return True

    def close(self) -> None:
        """Give the descriptor up; twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- one device ------------------------------------------------------------------------------

    def create(
        self, name: str, uuid: str = "", *, minor: int | None = None, read_only: bool = False, cookie: int = 0
    ) -> DeviceInfo:
        """Make a device without a table.

        *name* is taken as it is; :func:`lamella.devicemapper.nodes.mangled` writes odd bytes as dmsetup
        does.
        """
        _check_name(name)
        flags = Flag.READ_ONLY if read_only else NOTHING
        dev = 0
        if minor is not None:
            flags |= Flag.PERSISTENT_DEV
            dev = os.makedev(own_major(), minor)
        try:
            answer, _ = self._call(
                Command.DEV_CREATE, "create", name, uuid=uuid, flags=flags, dev=dev, event_nr=cookie
            )
        except BusyError as error:
            raise self._taken(name, uuid, minor) or error from error.__cause__
        return info_of(answer)

    def _taken(self, name: str, uuid: str = "", minor: int | None = None) -> ExistsError | None:
        """What EBUSY mostly means where a device gets a name: it is another's already."""
        for what, info in (
            (f"name {name}", self.find(name)),
            (f"UUID {uuid}", self.find(uuid=uuid) if uuid else None),
            (f"number {minor}", self.find(number=(own_major(), minor)) if minor is not None else None),
        ):
            if info is not None:
                return ExistsError(
                    f"the {what} is that of device {info.name} ({info.number}) already",
                    hint=f"see: dmsetup info {info.name}",
                )
        return None

    def load(self, name: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        """Load a table into the device's inactive slot; :meth:`resume` makes it the live one."""
        if log.debugging:
            log.debug("table for %s: %s", name, "; ".join(_logged(target) for target in table))
        self._call(
            Command.TABLE_LOAD,
            "load a table into",
            name,
            flags=(Flag.READ_ONLY if read_only else NOTHING) | Flag.SECURE_DATA,
            data=ioctl.pack_targets(table),
            target_count=len(table),
        )

    def clear(self, name: str) -> None:
        """Drop the inactive table."""
        self._call(Command.TABLE_CLEAR, "clear the inactive table of", name)

    def suspend(self, name: str, *, flush: bool = True, freeze: bool = True) -> None:
        """Hold back requests. *freeze* a mounted file system first; *flush* waits for queued requests."""
        self._call(Command.DEV_SUSPEND, "suspend", name, flags=Flag.SUSPEND | _holding(flush, freeze))

    def resume(self, name: str, *, flush: bool = True, freeze: bool = True, cookie: int = 0) -> DeviceInfo:
        """Let requests go on, through the inactive table if one was loaded. See :meth:`suspend`."""
        flags = _holding(flush, freeze)
        answer, _ = self._call(Command.DEV_SUSPEND, "resume", name, flags=flags, event_nr=cookie)
        self.made_event = Flag.UEVENT_GENERATED in answer.flags
        return info_of(answer)

    @contextmanager
    def suspended(self, name: str, *, flush: bool = True, freeze: bool = True) -> Iterator[None]:
        """Suspended within the block, and resumed however it ends."""
        self.suspend(name, flush=flush, freeze=freeze)
        try:
            yield
        finally:
            self.resume(name)

    def create_with_table(
        self, name: str, table: Sequence[Target], uuid: str = "", *, read_only: bool = False, cookie: int = 0
    ) -> DeviceInfo:
        """Create, load and resume; a failure leaves no device behind."""
        self.create(name, uuid, read_only=read_only)
        try:
            self.load(name, table, read_only=read_only)
            return self.resume(name, cookie=cookie)
        except BaseException:
            with suppress(LamellaError):
                self.remove(name, retry=1.0)
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

    def remove(self, name: str, *, deferred: bool = False, cookie: int = 0, retry: float = 0.0) -> bool:
        """Remove the device; *deferred*: if it is open, when its last user closes it.

        *retry*: try again for so many seconds while it is busy, as udev's look at a new device makes it.
        Gives whether it is gone now.
        """
        end = time.monotonic() + retry
        while True:
            try:
                answer, _ = self._call(
                    Command.DEV_REMOVE,
                    "remove",
                    name,
                    flags=Flag.DEFERRED_REMOVE if deferred else NOTHING,
                    event_nr=cookie,
                )
                self.made_event = Flag.UEVENT_GENERATED in answer.flags
                return not (deferred and Flag.DEFERRED_REMOVE in answer.flags)
            except BusyError:
                if time.monotonic() >= end:
                    raise
                time.sleep(RETRY_PAUSE)

    def cancel_deferred_remove(self, name: str) -> None:
        """Take a deferred removal back. :class:`NotFoundError` if the device went already."""
        self.message(name, "@cancel_deferred_remove")

    def rename(self, name: str, new: str, *, cookie: int = 0) -> None:
        """Give the device another name."""
        _check_name(new)
        try:
            answer, _ = self._call(
                Command.DEV_RENAME, f"rename to {new}", name, data=ioctl.name_data(new), event_nr=cookie
            )
            self.made_event = Flag.UEVENT_GENERATED in answer.flags
        except BusyError as error:
            raise self._taken(new) or error from error.__cause__

    def set_uuid(self, name: str, uuid: str) -> None:
        """Give a device without UUID one."""
        self._call(Command.DEV_RENAME, "set the UUID of", name, data=ioctl.uuid_data(uuid), flags=Flag.UUID)

    def message(self, name: str, text: str, *, sector: int = 0) -> str:
        """Send a message to the target at *sector*; gives its answer, mostly ""."""
        answer, buffer = self._call(
            Command.TARGET_MSG, f"send {text[:200]!r} to", name, data=ioctl.message_data(sector, text)
        )
        return ioctl.unpack_message(buffer, answer)

    # -- what there is ---------------------------------------------------------------------------

    def info(self, name: str = "", *, uuid: str = "", number: tuple[int, int] | None = None) -> DeviceInfo:
        """What the kernel says of the device with that name, or that UUID, or that (major, minor)."""
        dev = os.makedev(*number) if number is not None else 0
        what = name or uuid or (f"{number[0]}:{number[1]}" if number is not None else "")
        if not what:
            raise UsageError("no device name given", hint="give its name, its UUID or its number")
        return info_of(self._call(Command.DEV_STATUS, "look at", name, uuid=uuid, dev=dev, what=what)[0])

    def find(
        self, name: str = "", *, uuid: str = "", number: tuple[int, int] | None = None
    ) -> DeviceInfo | None:
        """:meth:`info`, or None where there is no such device."""
        try:
            return self.info(name, uuid=uuid, number=number)
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
        return [TargetLine(*each) for each in ioctl.unpack_targets(buffer, answer)]

    def deps(self, name: str, *, inactive: bool = False) -> list[tuple[int, int]]:
        """(major, minor) of each device that the live table uses."""
        flags = Flag.QUERY_INACTIVE if inactive else NOTHING
        answer, buffer = self._call(Command.TABLE_DEPS, "read the dependencies of", name, flags=flags)
        return [(os.major(dev), os.minor(dev)) for dev in ioctl.unpack_deps(buffer, answer)]

    def list(self) -> list[tuple[str, int, int]]:
        """(name, major, minor) of every device, in the kernel's order: by name."""
        return [(name, os.major(dev), os.minor(dev)) for name, dev, _ in self._listed()]

    def _listed(self) -> Sequence[tuple[str, int, int | None]]:
        answer, buffer = self._call(Command.LIST_DEVICES, "list", "", what="devices")
        return tuple(ioctl.unpack_names(buffer, answer))

    def targets(self) -> dict[str, tuple[int, int, int]]:
        """The targets that the kernel has loaded, in its order, and their versions."""
        answer, buffer = self._call(Command.LIST_VERSIONS, "list", "", what="targets")
        return dict(ioctl.unpack_versions(buffer, answer))

    # -- events ----------------------------------------------------------------------------------

    def wait(self, name: str, event_nr: int, *, timeout: float | None = None) -> DeviceInfo:
        """Block until the device has seen more than *event_nr* events; :class:`NotFoundError` if it goes.

        After *timeout* seconds the answer's ``event_nr`` is still what it was.
        """
        if timeout is None:
            return info_of(self._call(Command.DEV_WAIT, "wait for", name, event_nr=event_nr)[0])
        end = time.monotonic() + timeout
        while True:
            info = self.info(name)
            left = end - time.monotonic()
            if info.event_nr > event_nr or left <= 0:
                return info
            since = self.event_numbers()
            if since.get(name) == info.event_nr:
                self.events(since, left)

    def event_numbers(self) -> dict[str, int]:
        """How many events each device has seen."""
        return {
            name: self.info(name).event_nr if event is None else event for name, _, event in self._listed()
        }

    def events(self, since: Mapping[str, int], timeout: float | None = None) -> dict[str, int]:
        """Wait until some device's event number is not as in *since*; gives those that differ.

        A removed device has the number :data:`GONE`. After *timeout* seconds: none. Other threads may use
        the client meanwhile, but not wait as well: each needs a client of its own.
        """
        if self.version < POLL_SINCE:
            raise UnsupportedError(
                f"this kernel's device-mapper is {'.'.join(map(str, self.version))}, "
                "which cannot wait for several devices",
                hint="wait for one device at a time; or use Linux 4.13 or later",
            )
        end = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            # Armed before looking: what happens between the two makes the poll return at once.
            self._call(Command.DEV_ARM_POLL, "wait for", "", what="events")
            now = self.event_numbers()
            changed = {name: number for name, number in now.items() if since.get(name) != number}
            changed |= dict.fromkeys(since.keys() - now.keys(), GONE)
            left = None if end is None else end - time.monotonic()
            if changed or (left is not None and left <= 0):
                return changed
            poll.poll(None if left is None else left * 1000)

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
        what: str = "",
    ) -> tuple[ioctl.Answer, bytearray]:
        """One ioctl, repeated with more room while the kernel asks for it, and when a signal broke it off.

        The kernel takes one of name, UUID and number; *what* names the thing in messages.
        """
        size = LISTING_BUFFER if command in (Command.LIST_DEVICES, Command.LIST_VERSIONS) else FIRST_BUFFER
        if uuid and command is not Command.DEV_CREATE:
            name, what = "", what or uuid
        while True:
            buffer = ioctl.pack(
                size,
                name=name,
                uuid=uuid,
                dev=dev,
                flags=flags,
                event_nr=event_nr,
                target_count=target_count,
                data=data,
            )
            try:
                fcntl.ioctl(self._fd, command.request, buffer, True)
            except InterruptedError:
                continue  # a handler that wants the call to end has raised by now
            except OSError as error:
                log.debug("ioctl %s %s: %s", command.name, what or name, error.strerror)
                raise explained(error, doing, what or name) from error
            answer = ioctl.unpack(buffer)
            log.debug("ioctl %s %s (%s)", command.name, what or name, doing)
            if Flag.BUFFER_FULL not in answer.flags:
                return answer, buffer
            size = len(buffer) * 8
            if size > LARGEST_BUFFER:
                raise LamellaError(
                    f"the kernel's answer about {what or name} passes {LARGEST_BUFFER >> 20} MiB"
                )


def _logged(target: Target) -> str:
    """The table line, but for targets whose parameters may hold a key."""
    if target.kind in ("crypt", "integrity", "verity"):
        return f"{target.start} {target.length} {target.kind} (not logged)"
    return target.line


def own_major(default: int | None = None) -> int:
    """Device-mapper's major number; *default* where the kernel has no device-mapper."""
    for line in Path("/proc/devices").read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[1] == "device-mapper":
            return int(words[0])
    if default is not None:
        return default
    raise MissingError("this kernel has no device-mapper", hint="modprobe dm_mod")


def _holding(flush: bool, freeze: bool) -> Flag:
    return (NOTHING if flush else Flag.NO_FLUSH) | (NOTHING if freeze else Flag.SKIP_LOCKFS)


def _check_name(name: str) -> None:
    if not name or "/" in name or name in (".", "..", CONTROL.name):
        raise UsageError(
            f"{name!r} cannot be a device's name",
            hint="it has 1 to 127 bytes, no slash among them; and /dev/mapper/control is not a device's",
        )
