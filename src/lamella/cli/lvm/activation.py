# SPDX-License-Identifier: Apache-2.0
"""``-a`` and ``--refresh`` of ``lvchange`` and ``vgchange``: activation and deactivation of volumes."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from lamella.cli.lvm.kernel import NO_KERNEL
from lamella.cli.lvm.lv_merge import complete_delayed, deactivate_with_merging
from lamella.errors import BusyError, LamellaError, PermissionDeniedError
from lamella.lvm.session.volume_lists import AUTOMATIC, READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from lamella.cli.lvm.context import Context
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup


@contextmanager
def locked(context: Context, chosen: FoundGroup) -> Iterator[FoundGroup]:
    """The group, read again under its lock; nothing is written."""
    allowed = dict.fromkeys(("missing_ok", "read_only_ok", "unknown_ok", "active_ok"), True)
    with context.session.editing(chosen.group.name, uuid=chosen.group.uuid, **allowed) as found:
        yield found


def _one_udev_wait(context: Context) -> AbstractContextManager[None]:
    """Wait for udev once, for all volumes."""
    return context.activator.one_udev_wait() if context.activator is not None else nullcontext()


def _activating(context: Context) -> bool:
    return not context.args.text("activate").endswith("n")


def _skipped(context: Context, found: FoundGroup, lv: LogicalVolume) -> bool:
    """Whether ``-ay`` or ``-aay`` skips the volume."""
    if not _activating(context):
        return False
    full = f"{found.group.name}/{lv.name}"
    if "ACTIVATION_SKIP" in lv.flags and not context.args.has("ignoreactivationskip"):
        context.console.verbose(f"ACTIVATION_SKIP flag set for LV {full}, skipping activation.")
        return True
    if context.args.text("activate") != "ay":
        return False
    if "NOAUTOACTIVATE" in lv.flags or "NOAUTOACTIVATE" in found.group.flags:
        return True
    return context.environment.volume_lists.has(AUTOMATIC, found.group, lv) is False


def change_activation(context: Context, found: FoundGroup, lvs: list[LogicalVolume]) -> None:
    """``lvchange -a``: each volume by itself; failures are reported and counted."""
    if not context.config.flag("global/activation") or context.test:
        if _activating(context):
            for lv in lvs:
                if not found.group.is_visible(lv):
                    _may_use_part(context, found, lv)
        return
    names = [lv.name for lv in lvs]
    with locked(context, found) as fresh, _one_udev_wait(context):
        for name in names:
            if name in fresh.group.lvs:
                _one(context, fresh, fresh.group.lvs[name])


def _one(context: Context, found: FoundGroup, lv: LogicalVolume) -> bool:
    """Activate or deactivate one volume; returns whether that worked."""
    full = f"{found.group.name}/{lv.name}"
    activating = _activating(context)
    if _skipped(context, found, lv):
        return True
    activator = context.activator
    try:
        if activator is None:
            if activating or context.view(found).kernel(lv) is not None:
                raise PermissionDeniedError(
                    NO_KERNEL.format("activate" if activating else "deactivate", full)
                )
            return True
        if not activating:
            deactivate_with_merging(context, activator, found, lv)
        elif not context.environment.volume_lists.may_activate(found.group, lv):
            context.console.fail(f"Not activating {full} since it does not pass activation filter.")
            return False
        else:
            read_only = _read_only(context, found, lv)
            if not found.group.is_visible(lv) and not _component(context, activator, found, lv):
                return False
            complete_delayed(context, activator, found, lv, refresh=False)
            activator.activate(found, [lv.name], read_only=read_only)
    except LamellaError as error:
        context.console.fail_with(error)
        return False
    return True


def _read_only(context: Context, found: FoundGroup, lv: LogicalVolume) -> bool:
    """Whether the volume is activated read-only, whatever its metadata says."""
    chosen = context.environment.volume_lists.has(READ_ONLY, found.group, lv)
    return bool(chosen) or not found.group.is_visible(lv)


def _component(context: Context, activator: KernelActivator, found: FoundGroup, lv: LogicalVolume) -> bool:
    """Whether to activate a part of a pool as a volume of its own, read-only: the user is asked."""
    from lamella.lvm.activation.device_tree import part_layer

    full = f"{found.group.name}/{lv.name}"
    if not part_layer(found.group, lv):
        return _may_use_part(context, found, lv)
    holder = next(
        one
        for one in found.group.lvs.values()
        if one.thin_pool is not None and lv.name in (one.thin_pool.data, one.thin_pool.metadata)
    )
    if activator.is_active(found, lv.name):
        return True
    if not _may_use_part(context, found, lv):
        return False
    if activator.is_active(found, holder.name):
        context.console.fail(
            f"Activation of logical volume {full} is prohibited while logical volume "
            f"{found.group.name}/{holder.name} is active."
        )
        return False
    return True


def _may_use_part(context: Context, found: FoundGroup, lv: LogicalVolume) -> bool:
    """Whether the hidden volume is a part of a pool, and the user wants it activated; reports if not."""
    from lamella.lvm.activation.device_tree import part_layer

    if part_layer(found.group, lv) and context.console.ask(
        "Do you want to activate component LV in read-only mode? [y/n]: "
    ):
        context.console.print("Allowing activation of component LV.")
        return True
    context.console.fail(f"Operation not permitted on hidden LV {found.group.name}/{lv.name}.")
    return False


def change_group_activation(context: Context, found: FoundGroup) -> None:
    """``vgchange -a`` for one group."""
    group = found.group
    if context.config.flag("global/activation") and not context.test:
        with locked(context, found) as fresh:
            group = fresh.group
            if _activating(context) or _idle(context, fresh):
                with _one_udev_wait(context):
                    for lv in _of_group(group):
                        _one(context, fresh, lv)
            else:
                return
            active = active_count(context, fresh)
    else:
        active = 0
    context.console.print(f'{active} logical volume(s) in volume group "{group.name}" now active')


def _of_group(group: VolumeGroup) -> list[LogicalVolume]:
    return [lv for lv in group.lvs.values() if group.is_visible(lv)]


def active_count(context: Context, found: FoundGroup) -> int:
    """How many of the visible volumes are active."""
    activator = context.activator
    if activator is None:
        view = context.view(found)
        return sum(view.kernel(lv) is not None for lv in view.visible_lvs)
    return sum(activator.is_active(found, lv.name) for lv in _of_group(found.group))


def _idle(context: Context, found: FoundGroup) -> bool:
    """Whether no volume of the group is in use; those in use are reported as a failure."""
    activator = context.activator
    if activator is None:
        return True
    group, count = found.group, 0
    for lv in _of_group(group):
        if not activator.is_open(found, lv.name):
            continue
        try:
            activator.check_unused(found, lv.name)
        except BusyError as error:
            context.console.warn(error.message)
            count += 1
    if count:
        context.console.fail(
            f'Can\'t deactivate volume group "{group.name}" with {count} open logical volume(s)'
        )
    return not count


def monitor(context: Context, found: FoundGroup, lvs: list[LogicalVolume]) -> None:
    """``--monitor``: register the active pools among these volumes with dmeventd, or unregister them."""
    if context.activator is None or context.test:
        return
    for lv in lvs:
        if lv.thin_pool is not None:
            context.activator.watch(found, lv.name, context.args.yes("monitor"))


def refresh(context: Context, found: FoundGroup, lvs: list[LogicalVolume]) -> None:
    """``--refresh``: reload the tables of active volumes from the metadata."""
    from lamella.cli.lvm.kernel import accepts_partial

    partial = frozenset() if accepts_partial(context.args, context.config) else found.partial_lvs()
    names = []
    for lv in lvs:
        if lv.name in partial:
            said = f"Refusing refresh of partial LV {found.group.name}/{lv.name}."
            context.console.fail(f"{said} Use '--activationmode partial' to override.")
        else:
            names.append(lv.name)
    activator = context.activator
    if activator is None or context.test:
        return
    with locked(context, found) as fresh:
        for name in names:
            if name not in fresh.group.lvs:
                continue
            try:
                complete_delayed(context, activator, fresh, fresh.group.lvs[name], refresh=True)
                activator.refresh(fresh, [name])
            except LamellaError as error:
                context.console.fail_with(error)
