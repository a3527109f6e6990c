# SPDX-License-Identifier: Apache-2.0
"""Tags that a host has, by the section ``tags`` of the settings (lvm(8), lvm.conf(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.errors import UsageError
from lamella.lvm.format.names import is_valid_tag
from lamella.lvm.session.config import Config

if TYPE_CHECKING:
    from lamella.lvm.format.text import Section


def host_tags(config: Config) -> list[str]:
    """The tags in LVM2's order: file by file, each the host's name with ``tags/hosttags``, then those of its
    section.

    A tag with a ``host_list`` is set only on the hosts that it names. Raises :class:`UsageError`.
    """
    found: dict[str, None] = {}
    for layer in reversed(config.layers):
        found |= dict.fromkeys(tags_of(layer))
    return list(found)


def tags_of(layer: Section) -> list[str]:
    """Those of the settings of one file."""
    host = os.uname().nodename
    one = Config([layer])
    found = [host] if one.flag("tags/hosttags") else []
    section = one.find("tags")
    for name, content in section.items() if isinstance(section, dict) else ():
        if not isinstance(content, dict):
            continue
        tag = name.removeprefix("@")
        if not is_valid_tag(tag):
            raise UsageError(f"Invalid tag in config file: {name}")
        hosts: object = content.get("host_list", [host])
        hosts = list(hosts) if isinstance(hosts, list) else [hosts]
        if not all(isinstance(each, str) for each in hosts):
            raise UsageError(f"Invalid hostname string for tag {name}")
        if host in hosts and tag not in found:
            found.append(tag)
    return found


def file_of(tag: str) -> str:
    """The file of settings, in LVM2's folder, for hosts that have the tag. It overrides those before it."""
    return f"lvm_{tag}.conf"
