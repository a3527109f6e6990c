# SPDX-License-Identifier: Apache-2.0
"""``lvconvert --merge``: thin snapshots take the place of their origins, and merges that had to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed, other_kind
from lamella.cli.lvm.names import volume_to_convert
from lamella.cli.lvm.processing import each_chosen
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.errors import BusyError, LamellaError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume


def merge(context: Context) -> None:
    """``--merge``: thin snapshots take the place of their origins."""
    args = context.args
    if args.has("mergethin"):
        for text in args.positionals:
            if not text.startswith("@"):
                volume_to_convert(text)
    for chosen in each_chosen(context, choose_volumes(context, args.positionals)):
        names = [lv.name for lv in volumes_of(context, chosen)]
        if not names:
            continue
        with context.editing(chosen.found.group.name) as found:
            for name in names:
                if name in found.group.lvs:
                    _merge_one(context, found, found.group.lvs[name])


def _merge_one(context: Context, found: FoundGroup, lv: LogicalVolume) -> None:
    from lamella.lvm.operations.thin_merge import merge_snapshot

    full = f"{found.group.name}/{lv.name}"
    try:
        if lv.thin_pool is not None or (lv.thin is None and context.args.has("mergethin")):
            kind = "thinpool" if lv.thin_pool is not None else "linear"
            raise other_kind(full, kind)
        if lv.thin is None:
            raise Failed(f"{full} cannot be merged because --trackchanges was not used.")
        why: list[str] = []

        def delayed(error: BusyError, word: str) -> None:
            context.console.warn(error.message)
            why.append(word)

        origin = merge_snapshot(context.session, found, lv, delayed=delayed)
    except LamellaError as error:
        context.console.fail_with(error)
        return
    if why:
        context.console.print(f"Delaying merge since {why[0]} is open.")
        replaced = f"{found.group.name}/{origin.name}"
        context.console.print(f"Merging of thin snapshot {full} will occur on next activation of {replaced}.")
        return
    context.console.print(f"Volume {full} replaced origin {found.group.name}/{origin.name}.")


def complete_delayed(
    context: Context, activator: KernelActivator, found: FoundGroup, origin: LogicalVolume, *, refresh: bool
) -> None:
    """Carry out the merge that waits for the activation of *origin*, which is about to be activated.

    An active origin is left as it is, but with *refresh* its table is changed if it is not in use. Raises
    :class:`BusyError` while the snapshot is in use.
    """
    from lamella.lvm.operations.thin_merge import complete_merge

    snapshot = found.group.merging_snapshot(origin)
    if snapshot is None:
        return
    session = context.session
    begun = origin.name in activator.begun_merges(found)
    if not begun:
        if activator.is_active(found, origin.name) and (not refresh or activator.is_open(found, origin.name)):
            return
        refused = f"Refusing to activate merging volume {found.group.name}/{origin.name}"
        _deactivate_snapshot(context, activator, found, snapshot, refused)
        activator.deactivate(found, [origin.name])
    complete_merge(session, found, origin, snapshot)
    if refresh:
        activator.activate(found, [origin.name])


def deactivate_with_merging(
    context: Context, activator: KernelActivator, found: FoundGroup, origin: LogicalVolume
) -> None:
    """Deactivate a volume, and the hidden snapshot that is to be merged into it with it."""
    activator.deactivate(found, [origin.name])
    snapshot = found.group.merging_snapshot(origin)
    if snapshot is None:
        return
    refused = f"Cannot fully deactivate merging origin volume {found.group.name}/{origin.name}"
    _deactivate_snapshot(context, activator, found, snapshot, refused)


def _deactivate_snapshot(
    context: Context, activator: KernelActivator, found: FoundGroup, snapshot: LogicalVolume, refused: str
) -> None:
    """Deactivate the snapshot. Raises :class:`BusyError`, which begins with *refused*, while it is in use."""
    try:
        activator.check_unused(found, snapshot.name)
        activator.deactivate(found, [snapshot.name])
    except BusyError as error:
        context.console.warn(error.message)
        full = f"{found.group.name}/{snapshot.name}"
        raise BusyError(
            f"{refused} while snapshot volume {full} is still active.", hint=f"close {full} first"
        ) from error
