# SPDX-License-Identifier: Apache-2.0
"""Lists of volumes in the settings: ``activation/volume_list``, ``read_only_volume_list`` and
``auto_activation_volume_list``.

An entry is ``vg``, ``vg/lv``, ``@tag`` (of the group or the volume) or ``@*``: any tag that the host has
(``tags`` section, ``tags/hosttags``). Where the host has tags and ``volume_list`` is not set, it is
``["@*"]`` (lvm.conf(5)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.lvm.session.host_tags import host_tags

if TYPE_CHECKING:
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.session.config import Config

ACTIVATE = "activation/volume_list"
READ_ONLY = "activation/read_only_volume_list"
AUTOMATIC = "activation/auto_activation_volume_list"


@dataclass(frozen=True, slots=True)
class VolumeLists:
    """The lists that are set, by setting, and the host's tags."""

    lists: dict[str, list[str]] = field(default_factory=dict)
    host_tags: frozenset[str] = frozenset()

    @classmethod
    def configured(cls, config: Config) -> VolumeLists:
        """Those of *config*."""
        tags = host_tags(config)
        names = (ACTIVATE, READ_ONLY, AUTOMATIC)
        lists = {name: config.strings(name) for name in names if config.find(name) is not None}
        if tags:
            lists.setdefault(ACTIVATE, ["@*"])
        return cls(lists, frozenset(tags))

    def has(self, setting: str, group: VolumeGroup, lv: LogicalVolume) -> bool | None:
        """Whether the list contains the volume; None: there is no such list."""
        if setting not in self.lists:
            return None
        names = (group.name, f"{group.name}/{lv.name}")
        tags = {*lv.tags, *group.tags}
        return any(
            entry in names
            or (entry == "@*" and bool(tags & self.host_tags))
            or (entry.startswith("@") and entry[1:] in tags)
            for entry in self.lists[setting]
        )

    def may_activate(self, group: VolumeGroup, lv: LogicalVolume) -> bool:
        """Whether the volume may be activated at all."""
        return self.has(ACTIVATE, group, lv) is not False
