# SPDX-License-Identifier: Apache-2.0
"""``vgmknodes``: make the missing names of active volumes below ``/dev``, and remove those of inactive ones.

Authority: vgmknodes(8), and what LVM2 2.03.16 was seen to do in a guest with a kernel.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lamella.cli.lvm.activation import locked, refresh
from lamella.cli.lvm.kernel import open_device_mapper
from lamella.cli.lvm.processing import each_chosen
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.targets import ChosenGroup
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.scan import FoundGroup


def vgmknodes(context: Context) -> None:
    """The names of all devices below ``/dev/mapper``, then the links ``/dev/VG/LV`` of the chosen volumes.

    ``--test`` holds back ``--refresh`` only, as with LVM2: names are neither metadata nor devices.
    """
    from lamella.devicemapper.mknodes import mend_names

    with open_device_mapper() as dm:
        for problem in mend_names(dm):
            context.console.fail(problem)
    chosen = choose_volumes(context, context.args.positionals)
    activator = context.activator
    if activator is None:  # global/activation=0
        return
    for one in each_chosen(context, chosen):
        try:
            _mend(context, activator, one)
        except LamellaError as error:
            context.console.fail_with(error)


def _mend(context: Context, activator: KernelActivator, chosen: ChosenGroup) -> None:
    from lamella.lvm.activation.links import mend_link

    lvs = volumes_of(context, chosen)
    if context.args.has("refresh"):
        refresh(context, chosen.found, [lv for lv in lvs if chosen.found.group.is_visible(lv)])
    with _held(context, chosen.found) as fresh:
        for name in [lv.name for lv in lvs if lv.name in fresh.group.lvs]:
            lv = fresh.group.lvs[name]
            with context.processing_volume(fresh, lv):
                try:
                    mend_link(fresh.group, lv, activator.info(fresh, name), context.console.warn)
                except LamellaError as error:
                    context.console.fail_with(error)


@contextmanager
def _held(context: Context, found: FoundGroup) -> Iterator[FoundGroup]:
    """The group under its lock; with ``--ignorelockingfailure`` as it was read, if that cannot be had."""
    if not context.args.has("ignorelockingfailure"):
        with locked(context, found) as fresh:
            yield fresh
        return
    from lamella.lvm.session.locks import group_lock

    with ExitStack() as held:
        try:
            held.enter_context(group_lock(context.environment.lock_dir, found.group.name, write=False))
        except LamellaError as error:
            context.console.warn_with(error)
        yield found
