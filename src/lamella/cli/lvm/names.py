# SPDX-License-Identifier: Apache-2.0
"""The names of groups, volumes and disks on command lines: ``vg/lv``, ``/dev/vg/lv``, ``/dev/mapper/vg-lv``,
``@tag``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.errors import NotFoundError
from lamella.lvm.format.names import is_valid_name, split_dm_name

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session

DEVICES = "/dev/"


@dataclass(slots=True, eq=False, repr=False)
class Named:
    """A group, or with *lv* a volume in it; with *tag* everything that has the tag."""

    vg: str
    lv: str = ""
    tag: str = ""


def skip_dev(text: str) -> str:
    """``/dev/vg/lv`` as ``vg/lv``; ``/dev/mapper/vg-lv`` likewise."""
    if text.startswith("/dev/mapper/"):
        vg, lv, layer = split_dm_name(text.removeprefix("/dev/mapper/"))
        return f"{vg}/{lv}-{layer}" if layer else f"{vg}/{lv}" if lv else vg
    return text.removeprefix(DEVICES)


def group_name(text: str) -> str:
    """The name of a group as typed, without ``/dev/``. Raises :class:`BadCommand`."""
    name = skip_dev(text).rstrip("/")
    if "/" in name or not is_valid_name(name):
        raise BadCommand(f"Invalid volume group name {text}.")
    return name


def volume_name(text: str) -> Named:
    """A volume as typed; the group is "" if it was left out. Raises :class:`NotFoundError` for a bad path."""
    if text.startswith("@"):
        return Named("", tag=text[1:])
    name = skip_dev(text)
    parts = name.rstrip("/").split("/")
    if len(parts) > 2 or not all(parts):
        raise NotFoundError(f'"{name}": Invalid path for Logical Volume.')
    if len(parts) == 2:
        return Named(parts[0], parts[1])
    return Named(parts[0])


def one_volume(context: Context, text: str) -> tuple[str, str]:
    """(group, volume) of an argument that must name a volume. Raises :class:`BadCommand`."""
    named = volume_name(text)
    if named.lv:
        return named.vg, named.lv
    default = os.environ.get("LVM_VG_NAME")
    if default and named.vg:
        return default, named.vg
    raise BadCommand("Please specify a logical volume path.")


def require_group(session: Session, name: str) -> FoundGroup:
    """The group called *name*. Raises :class:`Failed` with LVM2's two lines where there is none."""
    try:
        return session.find(name)
    except NotFoundError as error:
        raise Failed(f"{error.message}\nCannot process volume group {name}") from error
