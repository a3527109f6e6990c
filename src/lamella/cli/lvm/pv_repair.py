# SPDX-License-Identifier: Apache-2.0
"""``pvck --repair`` and ``--repairtype``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.errors import LamellaError, NotFoundError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.operations.pv_repair import GroupText

SETTINGS = (
    "mda_num", "mda_offset", "mda_size", "mda2_offset", "mda2_size", "device_size", "data_offset",
    "metadata_offset", "seqno",
)  # fmt: skip
SMALLEST_TEXT = 256
"""Bytes; no text of a group is shorter."""


def repair(context: Context, path: str) -> None:
    """Write what is damaged on a disk from a text of its group."""
    from lamella.lvm.disks.disk import open_shared
    from lamella.lvm.operations.pv_repair import NEEDS_FILE, Repair

    args = context.args
    settings, uuid = _settings(args.text("settings"))
    kinds = ("pv_header", "metadata") if args.has("repair") else (args.text("repairtype"),)
    source = _source(context, args.text("file")) if args.has("file") else None
    if source is None and "metadata" in kinds:
        raise Failed(NEEDS_FILE.replace("pv_header info", "metadata repair"))
    try:
        device = open_shared(path, context.test)
    except NotFoundError as error:
        raise Failed(f"Cannot access device {path}.\nFailed to set up device {path}.") from error
    names = (path, os.path.realpath(path))
    sector = args.number("labelsector") if args.has("labelsector") else 1
    with device:
        work = Repair(
            device, names, settings, context.console.print, context.console.ask, uuid, context.test, sector
        )
        for kind in kinds:
            if kind == "label_header":
                work.label_header()
            elif kind == "pv_header":
                work.pv_header(source)
            elif source is not None:
                work.metadata(source, only=settings.get("mda_num", 0))


def _settings(text: str) -> tuple[dict[str, int], str]:
    """The numbers of ``--settings``, and ``pv_uuid`` without dashes. Raises :class:`Failed`."""
    from lamella.lvm.format.dump import parse_settings
    from lamella.lvm.format.ids import is_uuid, without_dashes

    uuid, numbers = "", []
    for word in text.replace(",", " ").split():
        name, _equals, value = word.partition("=")
        if name != "pv_uuid":
            numbers.append(word)
            continue
        uuid = without_dashes(value)
        if not is_uuid(uuid):
            raise Failed("Failed to parse UUID from pv_uuid setting.\nInvalid setting: pv_uuid")
    return parse_settings(" ".join(numbers), SETTINGS), uuid


def _source(context: Context, path: str) -> GroupText:
    from lamella.lvm.operations.pv_repair import GroupText

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Failed(f"Cannot open file: {path}") from error
    if not content:
        raise Failed(f"Empty file: {path}")
    if len(content) < SMALLEST_TEXT:
        raise Failed("Invalid raw text metadata in file.  File size is too small.")
    try:
        return GroupText.parse(content, context.environment.header("Repaired by pvck."))
    except LamellaError as error:
        raise Failed(error.message) from error
