# SPDX-License-Identifier: Apache-2.0
"""Options about layout that the commands on logical volumes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.lvm.operations.allocation import Clinging
from lamella.lvm.operations.lv_changes import dm_major
from lamella.lvm.operations.sizes import parse_size
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.syntax.parse import Arguments

PAGE_SECTORS = 8
MAX_MINOR = 0xFFFFF
MAX_STRIPES = 128
MAX_STRIPE_SIZE = 512 << 30


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


def device_number(context: Context) -> tuple[int | None, int | None]:
    """(major, minor) that ``-My``, ``--major`` and ``--minor`` ask for; None for what the kernel chooses."""
    args = context.args
    if args.has("persistent") and not args.yes("persistent"):
        if args.has("minor") or args.has("major"):
            raise Failed("Options --major and --minor are incompatible with -Mn.")
        return None, None
    if args.has("persistent") and not args.has("minor"):
        raise Failed("Please specify minor number with --minor when using -My.")
    major = 0 if context.activator is None else dm_major()
    if args.has("major"):
        context.console.warn(
            f"WARNING: Ignoring supplied major number {args.number('major')} - kernel assigns major numbers "
            f"dynamically. Using major number {major} instead."
        )
    minor = args.number("minor")
    if not 0 <= minor <= MAX_MINOR:
        raise Failed(f"Minor number {minor} outside range 0-{MAX_MINOR}.")
    return (major, minor) if args.has("minor") else (None, None)


def policy(context: Context) -> str:
    """``--alloc`` or ``--contiguous``; "" to inherit."""
    args = context.args
    if args.has("contiguous") and args.yes("contiguous"):
        return "contiguous"
    text = args.text("alloc")
    # LVM2 takes both names, and writes the shorter one.
    return {"inherit": "", "cling_by_tags": "cling"}.get(text, text)


def clinging(context: Context) -> Clinging:
    """What the settings say about disks that belong together."""
    config = context.config
    return Clinging(
        tuple(config.strings("allocation/cling_tag_list")), config.flag("allocation/maximise_cling")
    )


def contiguous_conflict(args: Arguments) -> bool:
    """Whether ``--contiguous y`` and another ``--alloc`` are given."""
    return args.yes("contiguous") and args.text("alloc", "contiguous") != "contiguous"


def stripe_options(context: Context) -> tuple[int, int]:
    """(stripes, bytes on each before the next) from ``-i`` and ``-I``. Raises :class:`BadCommand`."""
    args = context.args
    stripes = args.number("stripes", 1)
    default = context.config.number("metadata/stripesize") * 1024
    size = args.size("stripesize", default)
    if not 1 <= stripes <= MAX_STRIPES:
        raise BadCommand(f"Number of stripes ({stripes}) must be between 1 and {MAX_STRIPES}.")
    if stripes == 1:
        if args.has("stripesize"):
            context.console.print("Ignoring stripesize argument with single stripe.")
        return 1, default
    if not args.has("stripesize"):
        end = "." if context.name == "lvcreate" else ""
        context.console.print(f"Using default stripesize {human(size)}{end}")
    elif size > MAX_STRIPE_SIZE:
        raise BadCommand(f"Stripe size cannot be larger than {human(MAX_STRIPE_SIZE)}.")
    elif size < 4096 or size & (size - 1):
        raise BadCommand(f"Invalid stripe size {human(size)}.")
    return stripes, size
