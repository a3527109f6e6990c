# SPDX-License-Identifier: Apache-2.0
"""``vgck``: whether a group's metadata is sound; ``--updatemetadata`` repairs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.names import group_name, require_group
from lamella.cli.lvm.processing import each_group
from lamella.cli.lvm.targets import choose_groups

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def vgck(context: Context) -> None:
    """Check groups, or repair one. Reading a group has reported what is wrong with its copies already."""
    if context.args.has("updatemetadata"):
        _update(context)
        return
    groups = choose_groups(context, context.args.positionals, exported_ok=False)
    for found in each_group(context, groups):
        if found.partial:
            count = len(found.missing) + len(found.reappeared)
            context.console.fail(f"The volume group is missing {count} physical volumes.")
        elif found.damaged or any(copy in found.copies for copy in found.stale):
            context.console.failures += 1


def _update(context: Context) -> None:
    from lamella.lvm.operations.group_restore import update_metadata

    name = group_name(context.args.positionals[0])
    require_group(context.session, name)
    with context.editing(name, missing_ok=True, exported_ok=True) as found:
        update_metadata(context.session, found)
