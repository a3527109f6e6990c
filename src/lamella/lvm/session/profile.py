# SPDX-License-Identifier: Apache-2.0
"""Profiles: small files of settings, for one command or attached to a group or volume in its metadata.

A profile NAME is the file ``NAME.profile`` in ``/etc/lvm/profile`` (``config/profile_dir``), or in
the folder ``lvm/profile`` of Lamella's state root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from lamella.errors import NotFoundError, UsageError
from lamella.lvm.session.config import Config, read_file
from lamella.lvm.session.known_settings import known_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.format.text import Section

SUFFIX = ".profile"


@dataclass(frozen=True, slots=True)
class AutoExtend:
    """A pool is extended by *percent* once it is *threshold* per cent full; 100: never."""

    threshold: int = 100
    percent: int = 20


def find_profile(name: str, folders: Sequence[Path]) -> Path:
    """The file of profile *name*. Raises :class:`NotFoundError`, with LVM2's message."""
    if fault := name_fault(name):
        raise UsageError(fault, hint="give a name, without a folder")
    reason = ""
    for folder in folders:
        path = folder / (name + SUFFIX)
        try:
            if S_ISREG(path.stat().st_mode):
                return path
        except OSError as error:  # also of a name that is too long
            reason = reason or os.strerror(error.errno or ENOENT)
    where = folders[0] if folders else Path()
    raise NotFoundError(
        f"{where / (name + SUFFIX)}: stat failed: {reason or os.strerror(ENOENT)}",
        hint=f"write the profile as a file {name}{SUFFIX} in that folder",
    )


def load_profile(name: str, folders: Sequence[Path]) -> Section:
    """The settings of profile *name*."""
    return read_file(find_profile(name, folders))


def with_profile(config: Config, profile: str, folders: Sequence[Path]) -> Config:
    """The settings of the profile, then those of the configuration.

    Without a name, and as with LVM2 for a profile that does not exist, only the latter.
    """
    try:
        return config.with_layer(load_profile(profile, folders), first=True) if profile else config
    except NotFoundError:
        return config


def auto_extend(config: Config, profile: str, folders: Sequence[Path]) -> AutoExtend:
    """A pool's settings: see :func:`with_profile`."""
    settings = with_profile(config, profile, folders)
    return AutoExtend(
        settings.number("activation/thin_pool_autoextend_threshold"),
        settings.number("activation/thin_pool_autoextend_percent"),
    )


def name_fault(name: str) -> str:
    """LVM2's message about a name that no profile can have; "" for one that can be."""
    if not name:
        return "Undefined profile name."
    return f"{name}: bad profile name, it contains '/'." if "/" in name else ""


def unprofilable(section: Section) -> list[str]:
    """Settings of a profile that a metadata profile cannot hold."""
    found = []
    for name, content in section.items():
        if not isinstance(content, dict):
            found.append(name)
            continue
        for key in content:
            path = f"{name}/{key}"
            setting = known_settings().by_path.get(path)
            if setting is None or "m" not in setting.flags:
                found.append(path)
    return found


def profile_text(threshold: int, percent: int) -> str:
    """The text of a profile that extends pools."""
    return (
        "activation {\n"
        f"  thin_pool_autoextend_threshold={threshold}\n"
        f"  thin_pool_autoextend_percent={percent}\n"
        "}\n"
    )
