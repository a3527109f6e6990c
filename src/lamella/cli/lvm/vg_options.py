# SPDX-License-Identifier: Apache-2.0
"""Options that several commands on groups share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand
from lamella.cli.lvm.settings import load_profile_of

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
        if args.has("metadataprofile") or args.has("profile"):
            raise BadCommand("Only one of --metadataprofile and --detachprofile permitted.")
        return ""
    name = args.text("metadataprofile") or args.text("profile")
    if not name:
        return None
    checks = context.config.flag("config/checks")
    said = "Failed to apply metadata profile"
    load_profile_of(name, "metadata", said, context.profile_folders, checks=checks)
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
