# SPDX-License-Identifier: Apache-2.0
"""Options about layout that the commands on logical volumes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm.errors import BadCommand
from lamella.lvm.operations.sizes import parse_size
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context

PAGE_SECTORS = 8


def read_ahead(context: Context) -> int | None:
    """Sectors of ``--readahead``: None is auto, 0 is none; rounded to pages as LVM2 does."""
    text = context.args.text("readahead") or context.config.text("activation/readahead")
    if text == "auto":
        return None
    if text == "none":
        return 0
    sectors = parse_size(text, unit="s").size // SECTOR
    rounded = max(sectors // PAGE_SECTORS * PAGE_SECTORS, PAGE_SECTORS) if sectors else 0
    if rounded != sectors:
        context.console.warn(
            f"WARNING: Overriding readahead to {rounded} sectors, a multiple of 4K page size."
        )
    return rounded


def policy(context: Context) -> str:
    """``--alloc`` or ``--contiguous``; "" to inherit."""
    args = context.args
    if args.has("contiguous") and args.yes("contiguous"):
        return "contiguous"
    text = args.text("alloc")
    return "" if text == "inherit" else text


def stripe_options(context: Context) -> tuple[int, int]:
    """(stripes, bytes on each before the next) from ``-i`` and ``-I``."""
    args = context.args
    stripes = args.number("stripes", 1)
    default = context.config.number("metadata/stripesize") * 1024
    size = args.size("stripesize", default)
    if stripes == 1:
        if args.has("stripesize"):
            context.console.print("Ignoring stripesize argument with single stripe.")
        return 1, default
    if not args.has("stripesize"):
        end = "." if context.name == "lvcreate" else ""
        context.console.print(f"Using default stripesize {human(size)}{end}")
    elif size < 4096 or size & (size - 1):
        raise BadCommand(f"Invalid stripe size {human(size)}.")
    return stripes, size
