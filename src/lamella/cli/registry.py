# SPDX-License-Identifier: Apache-2.0
"""Which commands there are: their family, the module that holds them, and one line of help.

A plain table, so that ``lamella --help`` and every other command start without importing the rest.
"""

from __future__ import annotations

from typing import NamedTuple

from lamella.cli.lvm.syntax.commands import SUMMARIES as LVM_NAMES

__all__ = ["COMMANDS", "DM_NAMES", "LVM_NAMES", "THIN_TOOL_NAMES", "Command"]


class Command(NamedTuple):
    """One command of ``lamella``; its module is ``lamella.cli.commands.<module>``."""

    family: str
    help: str
    module: str


STORE = "store"
IMAGES = "images and containers"
LVM = "LVM (flags and output as LVM2's)"
DM = "device-mapper (as dmsetup)"
THIN_TOOLS = "thin tools (as thin-provisioning-tools')"

COMMANDS: dict[str, Command] = {
    "quickstart": Command(STORE, "make a store, unpack a layered image, show copy-on-write", "quickstart"),
    "setup": Command(STORE, "make a store, with the options you choose", "setup"),
    "info": Command(STORE, "the pool and its use, in docker info's lines", "info"),
    "check": Command(STORE, "verify everything: metadata, reference counts, file systems, state", "check"),
    "repair": Command(STORE, "mend the pool's metadata into a new place, and keep the damaged", "repair"),
    "grow": Command(STORE, "give the pool more room, also while containers run on it", "grow"),
    "df": Command(STORE, "what takes the space", "df"),
    "map": Command(STORE, "what stands on what, from the disks to the containers", "map"),
    "activate": Command(STORE, "put the pool into the kernel, and containers' devices", "activate"),
    "deactivate": Command(STORE, "take the pool or containers out of the kernel", "deactivate"),
    "teardown": Command(STORE, "remove the store and what setup made", "teardown"),
    "pull": Command(IMAGES, "fetch an image from a registry into the pool", "pull"),
    "load": Command(IMAGES, "unpack an image archive into the pool", "load"),
    "save": Command(IMAGES, "write images to an archive", "save"),
    "images": Command(IMAGES, "list images", "images"),
    "tag": Command(IMAGES, "give an image another name", "tag"),
    "inspect": Command(IMAGES, "everything known of an image or container, as JSON", "inspect"),
    "rmi": Command(IMAGES, "remove images", "rmi"),
    "create": Command(IMAGES, "create a container: a writable snapshot of an image", "create"),
    "ps": Command(IMAGES, "list containers", "ps"),
    "rm": Command(IMAGES, "remove containers", "rm"),
    "mount": Command(IMAGES, "mount a container, or an image read-only", "mount"),
    "umount": Command(IMAGES, "unmount a container or an image", "umount"),
    "resize": Command(IMAGES, "make a container's file system larger, also while mounted", "resize"),
    "ls": Command(IMAGES, "list files in a container or image", "ls"),
    "cat": Command(IMAGES, "print files of a container or image", "cat"),
    "cp": Command(IMAGES, "copy files in or out", "cp"),
    "diff": Command(IMAGES, "what a container changed in its image", "diff"),
    "commit": Command(IMAGES, "make an image of a container's changes", "commit"),
    "export": Command(IMAGES, "write a container's file system as a tar archive", "export"),
}

DM_NAMES: dict[str, str] = {"dmsetup": "tables, status and tree of device-mapper devices"}

THIN_TOOL_NAMES: dict[str, str] = {
    "thin_check": "check a thin pool's metadata",
    "thin_dump": "print a thin pool's metadata as XML or text",
    "thin_repair": "save what can be saved of damaged metadata, into another place",
    "thin_restore": "make metadata from XML",
}
