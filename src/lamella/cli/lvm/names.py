# SPDX-License-Identifier: Apache-2.0
"""The names of groups, volumes and disks on command lines: ``vg/lv``, ``/dev/vg/lv``, ``/dev/mapper/vg-lv``,
``@tag``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed, Unusable
from lamella.errors import NotFoundError
from lamella.lvm.format.names import is_valid_name, split_dm_name

if TYPE_CHECKING:
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session

DEVICES = "/dev/"


@dataclass(slots=True, eq=False, repr=False)
class Named:
    """A group, or with *lv* a volume in it; with *tag* everything that has the tag."""

    vg: str
    lv: str = ""
    tag: str = ""
    blank: bool = False
    """Whether it is a volume without a name: ``vg/``."""


def skip_dev(text: str) -> str:
    """``/dev/vg/lv`` as ``vg/lv``; ``/dev/mapper/vg-lv`` likewise."""
    if text.startswith("/dev/mapper/"):
        vg, lv, layer = split_dm_name(text.removeprefix("/dev/mapper/"))
        return f"{vg}/{lv}-{layer}" if layer else f"{vg}/{lv}" if lv else vg
    return text.removeprefix(DEVICES)


def group_name(text: str) -> str:
    """The name of a group as typed, without ``/dev/``. Raises :class:`BadCommand` for one with a slash."""
    name = skip_dev(text)
    if "/" in name:
        raise BadCommand(f"Invalid volume group name {text}.")
    return name


def volume_name(text: str, *, blank_ok: bool = False) -> Named:
    """A volume as typed; the group is "" if it was left out.

    Raises :class:`NotFoundError` for a bad path, and without *blank_ok* for one without a volume (``vg/``).
    """
    if text.startswith("@"):
        return Named("", tag=text[1:])
    name = skip_dev(text)
    vg, slash, lv = name.partition("/")
    if "/" in lv:
        raise NotFoundError(f'"{name}": Invalid path for Logical Volume.')
    if slash and not lv and not blank_ok:
        raise NotFoundError(f'Failed to find logical volume "{name}"')
    return Named(vg, lv, blank=bool(slash and not lv))


def named_volume(text: str, group: str) -> tuple[str, str]:
    """(group, volume) of a volume that is to be made or used, where *group* ("": not yet) is its group.

    Without a slash, *text* is the volume's name. Raises :class:`BadCommand`.
    """
    name = skip_dev(text)
    vg, slash, lv = name.partition("/")
    if not slash:
        vg, lv = group, name
    elif "/" in lv:
        raise BadCommand(f'"{name}": Invalid path for Logical Volume.')
    if group and vg != group:
        raise BadCommand(f'Please use a single volume group name ("{vg}" or "{group}").')
    if not lv:
        raise BadCommand('Logical volume name "" is invalid.')
    return vg, lv


def one_volume(text: str) -> tuple[str, str]:
    """(group, volume) of an argument that must name a volume. Raises :class:`BadCommand`."""
    group, name = named_volume(text, "")
    if not is_valid_name(name):
        raise BadCommand(f'Logical volume name "{name}" is invalid.')
    group = group or os.environ.get("LVM_VG_NAME", "")
    if not group:
        raise BadCommand("Please specify a logical volume path.")
    return group, name


def volume_to_convert(text: str) -> tuple[str, str]:
    """:func:`one_volume` with lvconvert's errors, which are not about the usage. Raises :class:`Failed`."""
    named = volume_name(text)
    if named.lv:
        return named.vg, named.lv
    group = os.environ.get("LVM_VG_NAME", "")
    if not group:
        raise Failed(f"Cannot find VG name for LV {named.vg}.")
    return group, named.vg


def check_group_name(name: str) -> None:
    """Raise :class:`Unusable` for a name that no group can have."""
    if not is_valid_name(name):
        raise Unusable(
            f'Volume group name "{name}" has invalid characters.\nCannot process volume group {name}'
        )


def require_group(session: Session, name: str) -> FoundGroup:
    """The group called *name*. Raises :class:`Failed` with LVM2's two lines where there is none."""
    check_group_name(name)
    try:
        return session.find(name)
    except NotFoundError as error:
        raise Failed(f"{error.message}\nCannot process volume group {name}") from error
