# SPDX-License-Identifier: Apache-2.0
"""``pvremove``, ``pvresize`` and ``pvchange``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block.opening import is_remote
from lamella.cli.lvm.disks_to_scan import remember_files
from lamella.cli.lvm.errors import Unusable
from lamella.cli.lvm.processing import each_disk
from lamella.cli.lvm.targets import choose_disks
from lamella.errors import LamellaError, UsageError
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.targets import ChosenDisk
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import FoundGroup


def pvremove(context: Context) -> None:
    """Wipe the labels of disks that no group uses."""
    from lamella.lvm.operations.physical_volumes import remove_pv

    args = context.args
    removed = []
    context.extra_devices += [path for path in args.positionals if os.path.isfile(path) or is_remote(path)]
    with context.session.all_locked():
        paths = dict.fromkeys(args.positionals)
        refused = {path: excluded for path in paths if (excluded := context.exclusion(path))}
        for path, excluded in refused.items():
            said = f"Cannot use {path}: {excluded}"
            context.console.fail(f"No device found for {path}." if "not found" in excluded else said)
        for path in paths:
            if path in refused:
                continue
            disk = context.session.scan.disk(path)
            if disk is not None and disk.label is None and not args.has("force"):
                context.console.fail(f"No PV found on device {path}.")
                continue
            try:
                if disk is not None and disk.label is not None:
                    remove_pv(context.session, path, force=args.count("force"), confirm=context.console.ask)
            except LamellaError as error:
                context.console.fail_with(error)
                continue
            removed.append(os.path.abspath(path))
            context.console.print(f'Labels on physical volume "{path}" successfully wiped.')
    if not context.test:
        remember_files(args, [], removed)


def pvresize(context: Context) -> None:
    """Set the size that LVM uses of a disk; without a size, all of it."""
    size = context.args.size("setphysicalvolumesize")
    done = failed = 0
    with context.session.all_locked(keep_hints=True):
        try:
            disks = choose_disks(context, context.args.positionals)
        except LamellaError:
            _print_resized(context, 0, 0)
            raise
        for chosen in each_disk(context, disks):
            try:
                resized = _resize(context, chosen, size)
            except Unusable as error:
                _lost_with_group(context, chosen, error)
                continue
            if resized:
                done += 1
                context.console.print(f'Physical volume "{chosen.disk.path}" changed')
            else:
                failed += 1
    _print_resized(context, done, failed)
    if failed:
        context.console.failures += 1


def _print_resized(context: Context, done: int, failed: int) -> None:
    context.console.print(
        f"{done} physical volume(s) resized or updated / {failed} physical volume(s) not resized"
    )


def _lost_with_group(context: Context, chosen: ChosenDisk, error: Unusable) -> None:
    """Report that the group cannot be changed, and so the disk, if it was named, not be found."""
    context.console.fail_with(error)
    if context.args.positionals:
        context.console.fail(f'Failed to find physical volume "{chosen.disk.path}".')


def _resize(context: Context, chosen: ChosenDisk, size: int) -> bool:
    from lamella.lvm.operations.physical_volumes import resize_pv

    disk = chosen.disk
    real = disk.size
    if size and size != real:
        word = "is less than" if size < real else "exceeds"
        if size > real:
            context.console.warn(
                f"WARNING: {disk.path}: Overriding real size {human(real)}. You could lose data."
            )
        question = (
            f"{disk.path}: Requested size {human(size)} {word} real size {human(real)}. Proceed?  [y/n]: "
        )
        if not context.console.ask(question):
            context.console.fail(f"Physical Volume {disk.path} not resized.")
            return False
        context.console.warn(
            f"WARNING: {disk.path}: Pretending size is {size // 512} not {real // 512} sectors."
        )
    try:
        if chosen.found is None:
            resize_pv(context.session, disk, None, size)
        else:
            with context.editing(chosen.found.group.name, chosen.found.group.uuid) as found:
                _leave_an_extent(found, disk, size or real, context.environment.pv_min_size)
                resize_pv(context.session, disk, found, size)
    except Unusable:
        raise
    except LamellaError as error:
        context.console.warn_with(error)
        return False
    return True


def _leave_an_extent(found: FoundGroup, disk: Disk, size: int, smallest: int) -> None:
    label = disk.label
    extent = found.group.extent_size
    # What is too small for any physical volume has LVM2's other error.
    if label is not None and label.data_areas and smallest <= size < label.data_areas[0][0] + extent:
        need = f"at least one physical extent of {extent // 512} sectors"
        raise UsageError(f"Size must leave space for {need} on PV {disk.path}.")


def pvchange(context: Context) -> None:
    """Change whether disks may be allocated from, their tags, identity, or the use of their areas."""
    args = context.args
    if args.has("all") and args.positionals:
        raise UsageError("Option --all and PhysicalVolumePath are exclusive.")
    done = failed = 0
    with context.session.all_locked(keep_hints=not args.has("uuid")):
        arguments = [] if args.has("all") else args.positionals
        try:
            disks = choose_disks(context, arguments, select=True)
        except LamellaError:
            _print_changed(context, 0, 0)
            raise
        for chosen in each_disk(context, disks):
            try:
                changed = _change(context, chosen)
            except Unusable as error:
                _lost_with_group(context, chosen, error)
                continue
            except LamellaError as error:
                context.console.fail_with(error)
                context.console.fail(f"Physical volume {chosen.disk.path} not changed")
                failed += 1
                continue
            if changed:
                done += 1
                context.console.print(f'Physical volume "{chosen.disk.path}" changed')
            else:
                failed += 1
                context.console.print(f"Physical volume {chosen.disk.path} not changed")
    _print_changed(context, done, failed)


def _print_changed(context: Context, done: int, failed: int) -> None:
    context.console.print(
        f"{done} physical volume{'' if done == 1 else 's'} changed / "
        f"{failed} physical volume{'' if failed == 1 else 's'} not changed"
    )


def _change(context: Context, chosen: ChosenDisk) -> bool:
    from lamella.lvm.operations.physical_volumes import change_pv
    from lamella.lvm.operations.pv_orphan import change_orphan, check_not_used

    args = context.args
    disk = chosen.disk
    allocatable = args.yes("allocatable") if args.has("allocatable") else None
    ignore = args.yes("metadataignore") if args.has("metadataignore") else None
    if chosen.found is None:
        if args.has("addtag") or args.has("deltag"):
            raise UsageError(f"Can't change tag on Physical Volume {disk.path} not in volume group")
        force = args.count("force")
        check_not_used(context.session, disk, force)
        if allocatable is not None:
            raise UsageError(f"Allocatability not supported by orphan lvm2 format PV {disk.path}")
        return change_orphan(
            context.session, disk, new_identity=args.has("uuid"), metadata_ignore=ignore, force=force
        )
    with context.editing(chosen.found.group.name, chosen.found.group.uuid) as found:
        assert disk.label is not None
        pv = next(pv for pv in found.group.pvs if pv.uuid == disk.label.uuid)
        changed = change_pv(
            context.session,
            found,
            pv,
            allocatable=allocatable,
            add_tags=args.tags("addtag"),
            delete_tags=args.tags("deltag"),
            new_identity=args.has("uuid"),
            metadata_ignore=ignore,
        )
        if not changed and any(args.has(name) for name in ("addtag", "deltag")):
            context.session.commit(found, ())  # as LVM2, which writes tags whether they are new or not
            changed = True
    return changed
