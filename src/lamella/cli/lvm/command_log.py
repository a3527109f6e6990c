# SPDX-License-Identifier: Apache-2.0
"""The command log: what a command said about each object, and whether it succeeded there (lvmreport(7)).

With ``log/report_command_log`` or ``--logonly`` the messages of a command are collected instead of printed,
and reported at its end, as a table or as ``"log"`` of the JSON document.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGED = frozenset((
    "fullreport", "lvchange", "lvconvert", "lvcreate", "lvdisplay", "lvextend", "lvreduce", "lvremove",
    "lvrename", "lvresize", "lvs", "lvscan", "pvchange", "pvcreate", "pvdisplay", "pvmove", "pvremove",
    "pvresize", "pvs", "pvscan", "vgcfgbackup", "vgchange", "vgck", "vgcreate", "vgdisplay", "vgexport",
    "vgextend", "vgimport", "vgreduce", "vgremove", "vgrename", "vgs", "vgscan",
))  # fmt: skip
"""The commands that have a log, and end with a JSON document where that is the format."""


@dataclass(slots=True, eq=False, repr=False)
class LogEntry:
    """An item of the log; the names are those of the fields, without ``log_``."""

    seq_num: int
    type: str
    object_type: str
    object_name: str
    object_id: str
    object_group: str
    object_group_id: str
    message: str
    errno: int
    """0, or -1 from the first error on."""
    ret_code: int = 0
    """Of a status: 1 for success, else the exit code."""
    context: str = "processing"


@dataclass(slots=True, eq=False, repr=False)
class _Object:
    """What is processed, with what was said about it and its parts. Without a type: the command."""

    type: str = ""
    name: str = ""
    uuid: str = ""
    group: str = ""
    group_uuid: str = ""
    has_status: bool = True
    failed: bool = False
    content: list[tuple[str, str] | _Object] = field(default_factory=list)
    """(type, message), and parts."""

    def part(self, type_: str, name: str, uuid: str) -> _Object | None:
        """The part that is there already."""
        for one in self.content:
            if isinstance(one, _Object) and (one.type, one.name, one.uuid or uuid) == (
                type_,
                name,
                uuid or one.uuid,
            ):
                return one
        return None


class CommandLog:
    """The log of one command."""

    def __init__(self) -> None:
        self._open = [_Object()]
        self._seen: LamellaError | None = None
        self._last: _Object | None = None
        """The object that what is said next is about although its processing has ended."""
        self.failed_before = False
        """Whether an error was printed before anything was logged."""

    def add(self, type_: str, text: str) -> None:
        """Log a message (``print``, ``warn`` or ``error``) about the object that is being processed."""
        about = self._last or self._open[-1]
        about.content += [(type_, line.strip()) for line in text.split("\n")]
        if type_ == "error":
            for one in (*self._open, about):
                one.failed = True

    @contextmanager
    def processing(
        self,
        type_: str,
        name: str,
        uuid: str = "",
        *,
        group: str = "",
        group_uuid: str = "",
        status: bool = True,
        lingers: bool = False,
    ) -> Iterator[None]:
        """What is said meanwhile is about this object; an object may be taken up again.

        An error that ends it is logged there. Without *status* it gets no line about its success. If it
        *lingers*, so is what is said afterwards, until something else is processed.
        """
        if any((one.type, one.name) == (type_, name) for one in self._open):
            yield  # it is being processed already
            return
        there = self._open[-1].part(type_, name, uuid)
        if there is None:
            there = _Object(type_, name, uuid, group, group_uuid, status)
            self._open[-1].content.append(there)
        there.uuid = there.uuid or uuid
        self._last = None
        depth = len(self._open)
        self._open.append(there)
        try:
            yield
        except LamellaError as error:
            if not isinstance(error, BadCommand):
                self.add_error(error)
            raise
        finally:
            del self._open[depth:]
            self._last = there if lingers and depth == 1 else None

    def succeeded(self, type_: str, name: str, uuid: str, *, group: str = "", group_uuid: str = "") -> None:
        """A part of the object that is processed was dealt with, and nothing said about it."""
        self._open[-1].content.append(_Object(type_, name, uuid, group, group_uuid))

    def identify(self, uuid: str) -> None:
        """Give the object that is being processed its identifier, once it is known."""
        if not self._open[-1].uuid:
            self._open[-1].uuid = uuid

    def add_error(self, error: LamellaError) -> None:
        """Log an error that ends the command, or what it did with an object; once."""
        from lamella.cli.lvm.console import error_lines

        if error is not self._seen and (lines := error_lines(error)):
            self.add("error", "\n".join(lines))
        if error is not self._seen:
            for one in self._open:
                one.failed = True
        self._seen = error

    def entries(self) -> list[LogEntry]:
        """All items in order."""
        found: list[LogEntry] = []
        self._number(self._open[0], found)
        return found

    def _number(self, about: _Object, found: list[LogEntry]) -> None:
        items: list[tuple[str, str, int] | _Object] = [
            one if isinstance(one, _Object) else (*one, 0) for one in about.content
        ]
        if about.type and about.has_status:
            items.append(("status", "failure", 5) if about.failed else ("status", "success", 1))
        for one in items:
            if isinstance(one, _Object):
                self._number(one, found)
                continue
            type_, message, code = one
            failed = type_ == "error" or (found[-1].errno != 0 if found else self.failed_before)
            where = (about.type, about.name, about.uuid, about.group, about.group_uuid)
            found.append(LogEntry(len(found) + 1, type_, *where, message, -1 if failed else 0, code))
