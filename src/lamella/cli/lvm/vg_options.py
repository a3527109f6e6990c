# SPDX-License-Identifier: Apache-2.0
"""Options that several commands on groups share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.errors import NotFoundError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def metadata_copies(context: Context, default: int = 0) -> int:
    """``--vgmetadatacopies``: 0 is "unmanaged"; "all" is ``ALL_COPIES``."""
    from lamella.lvm.operations.volume_groups import ALL_COPIES

    text = context.args.text("vgmetadatacopies")
    if not text:
        return default
    if text == "all":
        return ALL_COPIES
    return 0 if text == "unmanaged" else int(text)


def metadata_profile(context: Context) -> str | None:
    """The profile to attach: "" detaches it, None leaves it. One that does not exist ends the command."""
    args = context.args
    if args.has("detachprofile"):
        if args.has("metadataprofile"):
            raise BadCommand("Only one of --metadataprofile and --detachprofile permitted.")
        return ""
    name = args.text("metadataprofile") or args.text("profile")
    if not name:
        return None
    from lamella.lvm.session.profile import load_profile, misplaced, name_fault

    if fault := name_fault(name):
        raise Failed(f"{fault}\nFailed to add metadata profile {name}.")
    try:
        faults = misplaced(load_profile(name, context.profile_folders), "metadata")
    except NotFoundError as error:
        raise Failed(f"{error.message}\nFailed to apply metadata profile {name}.") from error
    if faults:
        lines = (*faults, f"Ignoring invalid metadata profile {name}.")
        raise Failed("\n".join((*lines, f"Failed to apply metadata profile {name}.")))
    return name


def new_system_id(context: Context) -> str:
    """``--systemid`` without what a system ID cannot have. Raises :class:`BadCommand`."""
    from lamella.lvm.session.system_id import BadSystemIdError, clean_system_id

    try:
        found = clean_system_id(context.args.text("systemid"))
    except BadSystemIdError as error:
        raise BadCommand(str(error)) from error
    if not found:
        context.console.warn("WARNING: Empty system ID supplied.")
    return found
