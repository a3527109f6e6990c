# SPDX-License-Identifier: Apache-2.0
"""The table of commands: their family, their module, and one line of help.

A plain table, so that ``lamella --help`` and every command start without importing the other commands.
"""

from __future__ import annotations

from typing import NamedTuple

from lamella.cli.lvm.syntax.commands import SUMMARIES as LVM_NAMES

__all__ = ["COMMANDS", "DM_NAMES", "LVM_NAMES", "LVM_PROGRAM", "THIN_TOOL_NAMES", "Command"]


class Command(NamedTuple):
    """One command of ``lamella``; its module is ``lamella.cli.commands.<module>``."""

    family: str
    help: str
    module: str


STORE = "store"
IMAGES = "images and containers"
SERVICES = "services"
LVM = "LVM (flags and output as LVM2's)"
DM = "device-mapper (as dmsetup)"
THIN_TOOLS = "thin tools (as thin-provisioning-tools')"

COMMANDS: dict[str, Command] = {
    "quickstart": Command(STORE, "create a store, unpack a layered image, show copy-on-write", "quickstart"),
    "setup": Command(STORE, "create a store, with the options you choose", "setup"),
    "info": Command(STORE, "state and usage of the pool, in the lines of docker info", "info"),
    "check": Command(STORE, "verify everything: metadata, reference counts, file systems, state", "check"),
    "repair": Command(STORE, "repair the pool's metadata into a new device; keep the original", "repair"),
    "grow": Command(STORE, "extend the pool, also while containers use it", "grow"),
    "df": Command(STORE, "space used by images and containers", "df"),
    "map": Command(STORE, "show the storage stack, from the disks to the containers", "map"),
    "activate": Command(STORE, "activate the pool and containers' devices in device-mapper", "activate"),
    "deactivate": Command(STORE, "deactivate the pool or containers in device-mapper", "deactivate"),
    "teardown": Command(STORE, "remove the store and what setup created", "teardown"),
    "pull": Command(IMAGES, "fetch an image from a registry into the pool", "pull"),
    "load": Command(IMAGES, "unpack an image archive into the pool", "load"),
    "save": Command(IMAGES, "write images to an archive", "save"),
    "images": Command(IMAGES, "list images", "images"),
    "tag": Command(IMAGES, "give an image another name", "tag"),
    "inspect": Command(IMAGES, "details of an image or a container, as JSON", "inspect"),
    "history": Command(IMAGES, "how an image was made, and the size of each layer", "history"),
    "rmi": Command(IMAGES, "remove images", "rmi"),
    "prune": Command(IMAGES, "remove images that nothing uses", "prune"),
    "create": Command(IMAGES, "create a container: a writable snapshot of an image", "create"),
    "ps": Command(IMAGES, "list containers", "ps"),
    "rename": Command(IMAGES, "give a container another name", "rename"),
    "rm": Command(IMAGES, "remove containers", "rm"),
    "mount": Command(IMAGES, "mount a container, or an image read-only", "mount"),
    "umount": Command(IMAGES, "unmount a container or an image", "umount"),
    "resize": Command(IMAGES, "extend a container's file system, also while mounted", "resize"),
    "ls": Command(IMAGES, "list files in a container or image", "ls"),
    "cat": Command(IMAGES, "print files of a container or image", "cat"),
    "cp": Command(IMAGES, "copy files in or out", "cp"),
    "diff": Command(IMAGES, "changes of a container since its image", "diff"),
    "commit": Command(IMAGES, "create an image from a container's changes", "commit"),
    "export": Command(IMAGES, "write a container's file system as a tar archive", "export"),
    "snapshots": Command(SERVICES, "list, inspect and remove containerd's snapshots", "snapshots"),
    "serve": Command(SERVICES, "keep the store open and run commands for other processes", "serve"),
    "completion": Command(STORE, "print the completion script of bash, zsh or fish", "completion"),
}

LVM_PROGRAM: dict[str, str] = {"lvm": "any of LVM2's commands, also those without a program of their own"}

DM_NAMES: dict[str, str] = {"dmsetup": "tables, status and tree of device-mapper devices"}

THIN_TOOL_NAMES: dict[str, str] = {
    "thin_check": "check a thin pool's metadata",
    "thin_dump": "print a thin pool's metadata as XML or text",
    "thin_repair": "repair damaged metadata into another device or file",
    "thin_restore": "restore metadata from XML",
}
