# SPDX-License-Identifier: Apache-2.0
"""Clear what a new volume's extents held before: signatures, the first bytes, or everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import MissingError
from lamella.lvm.disks.signatures import find_signatures, wipe_signature
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.physical_volumes import Confirm, never

if TYPE_CHECKING:
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.session.session import Session


ZEROED = 4096
"""Bytes at a new volume's start that LVM clears."""


def wipe_lv(
    session: Session,
    found: FoundGroup,
    lv: LogicalVolume,
    *,
    zero: bool,
    wipe_signatures: bool,
    confirm: Confirm = never,
    yes: bool = False,
) -> bool:
    """Wipe a new volume's signatures (after asking) and zero its first 4096 bytes. Does not commit.

    False if a signature was to stay; nothing is zeroed then where the session has an activator.
    """
    if session.test or not (zero or wipe_signatures) or not lv.writable:
        return True
    kernel = session.kernel(found) is not None
    left = 0
    device = open_lv(found, lv.name)
    if wipe_signatures:
        try:
            signatures = find_signatures(device)
        except MissingError as error:
            session.note("signature", f"WARNING: {error.message}.")
            signatures = []
        path = f"/dev/{found.group.name}/{lv.name}"
        for signature in signatures:
            question = (
                f"WARNING: {signature.type} signature detected on {path} at offset {signature.offset}. "
                "Wipe it? [y/n]: "
            )
            if not yes and not confirm(question):
                session.note("signature", f"Aborted wiping of {signature.type}.", level="error")
                left += 1
                if kernel:
                    continue
                break
            said = f"Wiping {signature.type} signature on {path}."
            session.note("signature", said, level="print")
            wipe_signature(device, signature)
    if left and kernel:
        many = "s" if left > 1 else ""
        for line in (
            f"{left} existing signature{many} left on the device.",
            f"Failed to wipe signatures on logical volume {found.group.name}/{lv.name}.",
        ):
            session.note("signature", line, level="error")
        return False
    if zero:
        device.write_zeros(0, min(ZEROED, device.size))
        device.flush()
    return not left


def clear_lv(session: Session, found: FoundGroup, lv: LogicalVolume, *, whole: bool) -> None:
    """Write zeros over a volume's first 4096 bytes, or over all of it. Does not commit."""
    if session.test:
        return
    device = open_lv(found, lv.name)
    device.write_zeros(0, device.size if whole else min(4096, device.size))
    device.flush()
