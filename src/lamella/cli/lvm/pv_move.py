# SPDX-License-Identifier: Apache-2.0
"""``pvmove``: move extents to other disks of their group."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from lamella.block.opening import is_remote
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import clinging, policy
from lamella.cli.lvm.lv_sizes import named_ranges
from lamella.cli.lvm.names import skip_dev
from lamella.cli.lvm.targets import MISSING_DISKS, in_foreign_group
from lamella.errors import UnsupportedError
from lamella.lvm.format.names import is_valid_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume

INTERVAL = 15
"""Seconds between two lines of progress, where the output is not a terminal."""


def pvmove(context: Context) -> None:
    """Move the extents of a disk, or some of them; or report or abort unfinished moves."""
    args = context.args
    if args.has("abort") or not args.positionals:
        _begun(context, args.positionals[0] if args.positionals else "")
        return
    source = args.positionals[0]
    if source.startswith("@"):
        raise BadCommand("Tags cannot be used with this command.")
    _report_incomplete(context, source)
    owner, path = _find_source(context, source)
    volume = _volume(context, owner.group.name)
    with context.editing(owner.group.name, owner.group.uuid) as found:
        _move(context, found, source, path, volume)


def _move(context: Context, found: FoundGroup, text: str, path: str, volume: str) -> None:
    from lamella.lvm.operations.extent_ranges import parse_pv_ranges
    from lamella.lvm.operations.pv_move import MoveRequest, move_extents

    args = context.args
    if volume and volume not in found.group.lvs:
        raise Failed(f"Logical volume {volume} not found.")
    ((source, runs),) = parse_pv_ranges(found, [text], context.console.notice, allocatable_only=False)
    request = MoveRequest(
        source,
        runs,
        volume,
        policy(context),
        named_ranges(context, found, args.positionals[1:]),
        clinging(context),
    )
    progress = None if args.has("background") else _progress(context, path)
    move_extents(context.session, found, request, progress)
    if not args.has("background") and not context.test:
        context.console.print(f"{path}: Moved: 100.00%")


def _progress(context: Context, path: str) -> Callable[[int, int], None]:
    """Prints a line every interval; on a terminal every second, unless ``-i`` says otherwise."""
    interval = context.args.number("interval", 1 if sys.stdout.isatty() else INTERVAL)
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and interval and now - last >= interval:
            last = now
            context.console.print(f"{path}: Moved: {100 * done / total:.2f}%")
            sys.stdout.flush()

    return tell


def _candidates(text: str) -> list[str]:
    """What may be the path in ``path:ranges``: the longest first, since a path may hold colons."""
    plain = text.replace("\\:", "\0")
    found = [plain]
    while (at := found[-1].rfind(":")) > 0:
        found.append(found[-1][:at])
    return [each.replace("\0", ":") for each in found]


def _not_there(candidates: list[str]) -> str:
    """What LVM2 says where none of the paths exists; "" if one does."""
    if any(is_remote(each) or os.path.exists(each) for each in candidates):
        return ""
    return f"Cannot use {candidates[-1]}: device not found"


def _find_source(context: Context, text: str) -> tuple[FoundGroup, str]:
    """(group, path as LVM knows it) of the disk in ``path:ranges``. Raises :class:`BadCommand`."""
    scan = context.session.scan
    candidates = _candidates(text)
    for path in candidates:
        disk = scan.disk(path)
        if disk is None:
            continue
        for found in scan.groups:
            for pv in found.group.pvs:
                if found.disks.get(pv.uuid) is disk:
                    if in_foreign_group(context, disk):
                        raise BadCommand("")
                    return found, disk.path
        if disk.label is not None:  # LVM2's word for a physical volume without a group
            raise Failed("No extents available for allocation.")
        break
    path = next(each for each in candidates if is_remote(each) or os.path.exists(each))
    raise BadCommand(f'Failed to find physical volume "{path}".')


def _volume(context: Context, group: str) -> str:
    """The volume that ``-n`` names, "" without the option. Raises :class:`BadCommand`."""
    if not context.args.has("name"):
        return ""
    text = context.args.text("name")
    vg, slash, lv = skip_dev(text).rpartition("/")
    if slash and vg != group:
        raise BadCommand("Named LV and old PV must be in the same VG.\nFailed to find an LV name.")
    if not is_valid_name(lv):
        raise BadCommand(f"Logical volume name {lv} is invalid.")
    return lv


def _report_incomplete(context: Context, text: str) -> None:
    """Say which groups lack disks, as nothing is moved in them: LVM2 then ends with 0 where no disk is named,
    and does not find those of such a group.
    """
    candidates = _candidates(text)
    lost = _not_there(candidates) if text else ""
    if lost:
        context.console.warn(lost)
    lacking = [found for found in context.groups() if found.partial]
    for found in lacking:
        name = found.group.name
        context.console.warn(f"{MISSING_DISKS.format(name)}\nCannot process volume group {name}")
    if lost:
        raise BadCommand("")
    disks = [disk for path in candidates if (disk := context.session.scan.disk(path)) is not None]
    if any(disk in found.disks.values() for disk in disks[:1] for found in lacking):
        raise BadCommand(f'Failed to find physical volume "{disks[0].path}".')


def _begun(context: Context, text: str) -> None:
    """``pvmove`` alone and ``pvmove --abort``: our own moves leave nothing that could be continued."""
    from lamella.lvm.operations.pv_move import pvmove_volumes

    group, path = "", ""
    if text:
        group, path = _find_aborted(context, text)
    else:
        _report_incomplete(context, "")
    for found in context.groups():
        if group and found.group.name != group:
            continue
        for lv, source in pvmove_volumes(found.group):
            if not group or (source is not None and source.device == path):
                raise UnsupportedError(
                    f"{_shown(source)}: {found.group.name}/{lv.name} is a move that LVM2 has begun",
                    hint="LVM2 has to finish or abort it",
                )
    if path:
        context.console.print(f"{path}: No pvmove in progress - already finished or aborted.")


def _shown(pv: PhysicalVolume | None) -> str:
    return pv.device if pv is not None else "unknown device"


def _find_aborted(context: Context, text: str) -> tuple[str, str]:
    """(group's name, path) of the disk whose move is aborted; the group may lack disks."""
    if lost := _not_there(_candidates(text)):
        context.console.fail(lost)
        context.groups()  # says which lack disks
        raise Failed
    try:
        found, path = _find_source(context, text)
    except BadCommand as error:
        context.groups()
        raise Failed(error.message) from error
    return found.group.name, path
