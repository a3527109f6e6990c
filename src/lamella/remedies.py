# SPDX-License-Identifier: Apache-2.0
"""What to type for each :class:`lamella.errors.Remedy`.

The layers below name no commands of Lamella's; whoever shows their errors words them here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import Remedy

if TYPE_CHECKING:
    from lamella.errors import LamellaError, Step

COMMANDS = {
    Remedy.GROW_DATA: "grow the data (lamella grow --data SIZE), or delete what is not needed",
    Remedy.GROW_METADATA: "grow the metadata: lamella grow --metadata SIZE",
    Remedy.GROW_METADATA_FIRST: (
        "grow it first: lamella grow --metadata +100%, or lvextend --poolmetadatasize"
    ),
    Remedy.EXTEND_DATA: "lamella grow --data +20%",
    Remedy.EXTEND_METADATA: "lamella grow --metadata +100%",
    Remedy.DELETE_UNUSED: "lamella rm CONTAINER (or lamella rmi IMAGE) frees the space that only it uses",
    Remedy.ACTIVATE: "lamella activate",
    Remedy.DEACTIVATE: "lamella deactivate",
    Remedy.REPAIR: "lamella repair",
    Remedy.CHECK: "lamella check",
    Remedy.SEE_CHECK: "see: lamella check",
    Remedy.SEE_LOG_AND_CHECK: "dmesg says why; see lamella check",
    Remedy.SEE_LOG_THEN_CHECK: "dmesg says why; then: lamella check",
    Remedy.CHECK_LAYER: "its volume was changed or damaged; `lamella check` says more",
    Remedy.CHECK_METADATA: (
        "a store's pool: lamella repair; of any other thin_check lists all damage, and thin_repair makes a "
        "sound copy"
    ),
    Remedy.CLEAR_NEEDS_CHECK: (
        "a store's pool: lamella repair; any other: `thin_check --clear-needs-check-flag` on the metadata, "
        "or thin_repair if it finds damage"
    ),
    Remedy.REBUILD_METADATA: (
        "a store's pool: lamella repair; otherwise rebuild the metadata elsewhere with thin_repair"
    ),
    Remedy.MAKE_WRITABLE: "make the pool writable first; see: lamella check",
    Remedy.RESUME_POOL: ("lamella dmsetup info POOL, and when nothing is at work on it: dmsetup resume POOL"),
    Remedy.REATTACH_DISK: "put the disk back (lamella pvs shows which is missing)",
    Remedy.REMOVE_MISSING_DISK: (
        "put the disk back; if it is gone for good: lamella vgreduce --removemissing VG"
    ),
    Remedy.ATTACH_NBD: (
        "attach it first (nbd-client), or let lamella open the volumes itself (--engine user)"
    ),
    Remedy.UNMOUNT_LAZILY: "end what uses it, or unmount it lazily: lamella umount --lazy {target}",
}


def worded(step: Step, target: str = "") -> str:
    """*step* with the command to type; *target* is what it is applied to, if it has to name that."""
    return step if isinstance(step, str) else COMMANDS[step].replace("{target}", target)


def hint_of(error: LamellaError) -> str | None:
    """An error's next steps with the commands to type, or its hint."""
    if not error.steps:
        return error.hint
    return "; then ".join(worded(step, error.target) for step in error.steps)
