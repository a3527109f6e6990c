# SPDX-License-Identifier: Apache-2.0
"""LVM2's settings: ``--config`` before a command profile before ``lvm.conf`` before the defaults.

A setting is named by its path, ``section/name``. The defaults are those that
``lvmconfig --type default`` of LVM2 2.03.16 prints, for the settings that mean something here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import system
from lamella.errors import CorruptError, UsageError

if TYPE_CHECKING:
    from lamella.lvm.format.text import Section, Value

DEFAULTS: dict[str, int | float | str | list[str]] = {
    "devices/filter": ["a|.*|"],
    "devices/global_filter": ["a|.*|"],
    "devices/use_devicesfile": 0,
    "devices/devicesfile": "system.devices",
    "devices/search_for_devnames": "auto",
    "devices/default_data_alignment": 1,
    "devices/data_alignment": 0,
    "devices/data_alignment_detection": 1,
    "devices/data_alignment_offset_detection": 1,
    "devices/require_restorefile_with_uuid": 1,
    "devices/hints": "all",
    "devices/pv_min_size": 2048,
    "devices/issue_discards": 0,
    "devices/allow_mixed_block_sizes": 0,
    "devices/allow_changes_with_duplicate_pvs": 0,
    "allocation/maximise_cling": 1,
    "allocation/use_blkid_wiping": 1,
    "allocation/wipe_signatures_when_zeroing_new_lvs": 1,
    "allocation/thin_pool_metadata_require_separate_pvs": 0,
    "allocation/thin_pool_crop_metadata": 0,
    "allocation/thin_pool_zero": 1,
    "allocation/thin_pool_discards": "passdown",
    "allocation/thin_pool_chunk_size_policy": "generic",
    "allocation/zero_metadata": 1,
    "allocation/physical_extent_size": 4096,
    "backup/backup": 1,
    "backup/archive": 1,
    "backup/retain_min": 10,
    "backup/retain_days": 30,
    "global/test": 0,
    "global/units": "r",
    "global/suffix": 1,
    "global/activation": 1,
    "global/locking_dir": "/run/lock/lvm",
    "global/wait_for_locks": 1,
    "global/metadata_read_only": 0,
    "global/sparse_segtype_default": "thin",
    "global/system_id_source": "none",
    "global/lvdisplay_shows_full_device_path": 0,
    "local/system_id": "",
    "activation/error_when_full": 0,
    "activation/readahead": "auto",
    "activation/monitoring": 1,
    "activation/thin_pool_autoextend_threshold": 100,
    "activation/thin_pool_autoextend_percent": 20,
    "activation/auto_set_activation_skip": 1,
    "metadata/check_pv_device_sizes": 1,
    "metadata/pvmetadatacopies": 1,
    "metadata/vgmetadatacopies": 0,
    "metadata/pvmetadatasize": 0,
    "metadata/pvmetadataignore": 0,
    "metadata/stripesize": 64,
    "metadata/record_lvs_history": 0,
    "tags/hosttags": 0,
    "report/output_format": "basic",
    "report/compact_output": 0,
    "report/compact_output_cols": "",
    "report/aligned": 1,
    "report/buffered": 1,
    "report/headings": 1,
    "report/separator": " ",
    "report/prefixes": 0,
    "report/quoted": 1,
    "report/columns_as_rows": 0,
    "report/binary_values_as_numeric": 0,
    "report/time_format": "%Y-%m-%d %T %z",
    "report/mark_hidden_devices": 1,
    "log/prefix": "  ",
    "log/verbose": 0,
    "log/silent": 0,
}
"""Sizes are in KiB, as in ``lvm.conf``; an absent ``*_cols`` or ``*_sort`` is the report's own."""

IN_FOLDER = {"config/profile_dir": "profile", "backup/backup_dir": "backup", "backup/archive_dir": "archive"}
"""Settings whose default is a folder in :func:`config_folder`."""

SECTIONS = frozenset(
    (
        *(
            "activation",
            "allocation",
            "backup",
            "config",
            "devices",
            "dmeventd",
            "global",
            "lamella",
            "local",
        ),
        *("log", "metadata", "report", "shell", "tags"),
    )
)
PROFILABLE = {
    "allocation/thin_pool_zero": int,
    "allocation/thin_pool_discards": str,
    "allocation/thin_pool_chunk_size": int,
    "allocation/thin_pool_chunk_size_policy": str,
    "activation/thin_pool_autoextend_threshold": int,
    "activation/thin_pool_autoextend_percent": int,
}
"""What a metadata profile may set for thin pools. (It may set cache and VDO settings as well.)"""

_COMMENT_LINES = re.compile(r"(?m)^[ \t]*#.*\n?")
_TRUE = ("y", "yes", "on", "true")
_FALSE = ("n", "no", "off", "false")


def config_folder() -> Path:
    """LVM2's folder: ``$LVM_SYSTEM_DIR``, or ``/etc/lvm``."""
    return Path(os.environ.get("LVM_SYSTEM_DIR") or "/etc/lvm")


def parse_text(text: str) -> Section:
    """The settings in *text*. Raises :class:`UsageError` with LVM2's message."""
    if not text.strip():
        return {}
    from lamella.lvm.format.text import parse

    try:
        return parse(text, merge=True)
    except CorruptError as error:
        raise UsageError(error.message, hint="the form is: section { name=value }") from error


def read_file(path: Path) -> Section:
    """The settings in a file; none if it does not exist. Raises for what cannot be read or parsed."""
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise system.explain(error, "read the settings in", str(path)) from error
    return parse_text(_COMMENT_LINES.sub("", text))


@dataclass(slots=True, eq=False, repr=False)
class Config:
    """Layers of settings; the first that has one counts."""

    layers: list[Section] = field(default_factory=list)

    @classmethod
    def load(cls, override: str = "", folder: Path | None = None) -> Config:
        """``--config`` over ``lvmlocal.conf`` over ``lvm.conf``."""
        place = folder if folder is not None else config_folder()
        return cls(
            [layer for layer in (parse_text(override), read_file(place / "lvmlocal.conf")) if layer]
            + [read_file(place / "lvm.conf")]
        )

    def unknown_sections(self) -> list[str]:
        """Sections of the first layer that LVM2 does not know."""
        return [name for name in (self.layers[0] if self.layers else {}) if name not in SECTIONS]

    def with_layer(self, layer: Section, *, first: bool = False) -> Config:
        """A copy with *layer* above ``lvm.conf`` and below ``--config``, or above everything."""
        at = 0 if first else max(len(self.layers) - 1, 0)
        return Config([*self.layers[:at], layer, *self.layers[at:]])

    def find(self, path: str) -> Value | Section | None:
        """The value of a setting as some layer has it; None if none does."""
        for layer in self.layers:
            at: Value | Section | None = layer
            for name in path.split("/"):
                at = at.get(name) if isinstance(at, dict) else None
                if at is None:
                    break
            if at is not None:
                return at
        return None

    def _value(self, path: str) -> Value | Section | None:
        found = self.find(path)
        if found is None and path in IN_FOLDER:
            return str(config_folder() / IN_FOLDER[path])
        return DEFAULTS.get(path) if found is None else found  # type: ignore[return-value]  # list[str] is one

    def number(self, path: str) -> int:
        """A whole number. Raises :class:`UsageError` where a layer has something else."""
        value = self._value(path)
        if isinstance(value, int | float):
            return int(value)
        if isinstance(value, str) and value.isdigit():
            return int(value)
        if value is None:
            return 0
        raise self._invalid(path, value, "integer")

    def flag(self, path: str) -> bool:
        """A switch: a number, or yes and no in LVM2's spellings."""
        value = self._value(path)
        if isinstance(value, int | float):
            return bool(value)
        if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
            return value.lower() in _TRUE
        if value is None:
            return False
        expected = 'boolean value: 0/1, "y/n", "yes/no", "on/off", "true/false"'
        raise self._invalid(path, value, expected, bare=True)

    def text(self, path: str) -> str:
        """A string."""
        value = self._value(path)
        return "" if value is None else str(value)

    def strings(self, path: str) -> list[str]:
        """A list of strings; a single one is a list of one."""
        value = self._value(path)
        if value is None:
            return []
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    @staticmethod
    def _invalid(path: str, value: object, expected: str, *, bare: bool = False) -> UsageError:
        kind = "number"
        for one, word in ((str, "string"), (list, "array"), (dict, "section")):
            kind = word if isinstance(value, one) else kind
        ending = expected if bare else f"{expected} value"
        return UsageError(
            f'Configuration setting "{path}" invalid. Found {kind} value "{value}", expected {ending}.'
        )


def accepted_name(filters: list[str], names: list[str]) -> str:
    """Under which of these names LVM2's filter patterns accept a device; "" if they reject it.

    As in LVM2 (lib/filters/filter-regex.c): the first name that a pattern accepts, and by which the device is
    then called; a device of which no name matches is accepted, and one of which names are only rejected is
    not.
    """
    verdicts = [_verdict(filters, name) for name in names]
    if True in verdicts:
        return names[verdicts.index(True)]
    return "" if False in verdicts else names[0]


def _verdict(filters: list[str], path: str) -> bool | None:
    """Whether the patterns (``a|^/dev/sd|``, ``r|.*|``) accept *path*: the first match wins, None if none
    matches.
    """
    for pattern in filters:
        verdict, mark = pattern[:1], pattern[1:2]
        closing = {"(": ")", "[": "]", "{": "}"}.get(mark, mark)
        body = pattern[2:]
        if verdict not in ("a", "r") or not mark or not body.endswith(closing):
            raise UsageError(
                f'Invalid filter pattern "{pattern}".', hint='write it as "a|regex|" or "r|regex|"'
            )
        try:
            if re.search(body[: -len(closing)], path):
                return verdict == "a"
        except re.error as error:
            raise UsageError(f'Invalid filter pattern "{pattern}": {error}.') from error
    return None
