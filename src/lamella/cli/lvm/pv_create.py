# SPDX-License-Identifier: Apache-2.0
"""``pvcreate``: create physical volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.disks_to_scan import remember_files
from lamella.cli.lvm.errors import BadCommand
from lamella.cli.lvm.pv_options import (
    check_uuid_options,
    disks_there,
    pv_options,
    read_restore_file,
    setting_up,
)
from lamella.errors import LamellaError
from lamella.lvm.format.ids import LENGTH, with_dashes, without_dashes

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def pvcreate(context: Context) -> None:
    """Each disk by itself: an error on one does not stop the others."""
    from lamella.lvm.operations.physical_volumes import create_pv

    args = context.args
    check_uuid_options(context)
    paths = disks_there(context, args.positionals)
    uuid = args.text("uuid")
    if uuid:
        if len(without_dashes(uuid)) != LENGTH:
            raise BadCommand("Couldn't read uuid: incorrect number of characters.")
        uuid = with_dashes(without_dashes(uuid))
    options = pv_options(context, uuid=uuid, restore=read_restore_file(context))
    made = []
    with context.session.all_locked():
        for path in dict.fromkeys(paths):
            try:
                with setting_up():
                    create_pv(context.session, path, options, confirm=context.console.ask)
            except LamellaError as error:
                context.console.fail_with(error)
                continue
            made.append(path)
            context.console.print(f'Physical volume "{path}" successfully created.')
    if not context.test:
        remember_files(args, made)
