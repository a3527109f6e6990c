# SPDX-License-Identifier: Apache-2.0
"""mke2fs's options, as ``dm.mkfsarg`` passes them: what they mean for a file system of ours."""

from __future__ import annotations

import getopt
import os
import uuid as uuids
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lamella.errors import UsageError
from lamella.fs.ext4 import superblock as sb
from lamella.units import parse_size, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

FEATURES: Final[dict[str, tuple[str, int]]] = {
    "has_journal": ("compat", sb.COMPAT_HAS_JOURNAL),
    "ext_attr": ("compat", sb.COMPAT_EXT_ATTR),
    "resize_inode": ("compat", sb.COMPAT_RESIZE_INODE),
    "dir_index": ("compat", sb.COMPAT_DIR_INDEX),
    "filetype": ("incompat", sb.INCOMPAT_FILETYPE),
    "extent": ("incompat", sb.INCOMPAT_EXTENTS),
    "extents": ("incompat", sb.INCOMPAT_EXTENTS),
    "64bit": ("incompat", sb.INCOMPAT_64BIT),
    "flex_bg": ("incompat", sb.INCOMPAT_FLEX_BG),
    "large_dir": ("incompat", sb.INCOMPAT_LARGEDIR),
    "metadata_csum_seed": ("incompat", sb.INCOMPAT_CSUM_SEED),
    "meta_bg": ("incompat", sb.INCOMPAT_META_BG),
    "sparse_super": ("ro_compat", sb.RO_COMPAT_SPARSE_SUPER),
    "large_file": ("ro_compat", sb.RO_COMPAT_LARGE_FILE),
    "huge_file": ("ro_compat", sb.RO_COMPAT_HUGE_FILE),
    "uninit_bg": ("ro_compat", sb.RO_COMPAT_GDT_CSUM),
    "uninit_groups": ("ro_compat", sb.RO_COMPAT_GDT_CSUM),
    "dir_nlink": ("ro_compat", sb.RO_COMPAT_DIR_NLINK),
    "extra_isize": ("ro_compat", sb.RO_COMPAT_EXTRA_ISIZE),
    "metadata_csum": ("ro_compat", sb.RO_COMPAT_METADATA_CSUM),
}
"""mke2fs's names of the features that the writer keeps right."""
DEFAULT_FEATURES: Final = (
    "has_journal",
    "ext_attr",
    "resize_inode",
    "dir_index",
    "filetype",
    "extent",
    "64bit",
    "flex_bg",
    "sparse_super",
    "large_file",
    "huge_file",
    "dir_nlink",
    "extra_isize",
    "metadata_csum",
)
"""As mke2fs 1.46 and Debian 12 have it; every kernel since 3.18 writes them. (1.47's ``orphan_file`` needs
5.15 and ``metadata_csum_seed`` 4.4, so neither is among them.)"""
_IGNORED_EXTENDED = {
    "nodiscard",
    "discard",
    "lazy_itable_init",
    "lazy_journal_init",
    "assume_storage_prezeroed",
    "no_copy_xattrs",
    "nolazy_itable_init",
}
"""Extended options that change nothing here: nothing is ever zeroed without need."""
_CLEARED = uuids.UUID(int=0)


@dataclass(slots=True)
class MkfsOptions:
    """What a command line asked for; sizes in bytes unless said otherwise, None for "as usual"."""

    features: set[str] = field(default_factory=lambda: set(DEFAULT_FEATURES))
    block_size: int = 4096
    inode_ratio: int | None = None
    inode_size: int = 256
    inode_count: int | None = None
    reserved_percent: float = 5.0
    stride: int = 0
    """RAID stride in blocks."""
    stripe_width: int = 0
    """RAID stripe width in blocks."""
    resize_blocks: int | None = None
    """Largest size in blocks for which group descriptors are reserved."""
    label: bytes = b""
    uuid: uuids.UUID | None = None
    hash_seed: uuids.UUID | None = None
    journal_size: int | None = None
    """MiB."""
    groups_per_flex: int = 16
    root_owner: tuple[int, int] = (0, 0)

    def mask(self, kind: str) -> int:
        """Feature bits of one kind: ``"compat"``, ``"incompat"`` or ``"ro_compat"``."""
        bits = 0
        for name in self.features:
            of_kind, bit = FEATURES[name]
            if of_kind == kind:
                bits |= bit
        return bits


def parse_options(arguments: Sequence[str]) -> MkfsOptions:
    """Read mke2fs's options. Raises :class:`UsageError` for what is unknown, malformed or not supported."""
    options = MkfsOptions()
    split: list[str] = []
    for argument in arguments:
        split.extend(argument.split())
    try:
        found, rest = getopt.gnu_getopt(split, "b:i:I:N:m:O:E:L:U:J:t:G:qjFv")
    except getopt.GetoptError as error:
        raise UsageError(
            f"mkfs argument not understood: {error.msg}",
            hint="use -b -i -I -N -m -O -E -L -U -J -G as mke2fs has them",
        ) from error
    if rest:
        raise UsageError(f"mkfs argument {rest[0]!r} is not an option", hint="give options of mke2fs only")
    for flag, value in found:
        _apply(options, flag, value)
    _agree(options)
    return options


def _refused(option: str, why: str) -> UsageError:
    return UsageError(f"mkfs option {option}: {why}", hint="see mke2fs(8) for what it takes")


def _number(flag: str, value: str, low: int, high: int) -> int:
    number = whole_number(value, high)
    if number is None or number < low:
        raise _refused(f"{flag} {value}", f"not a number from {low} to {high}")
    return number


def _power(flag: str, value: str, low: int, high: int) -> int:
    number = _number(flag, value, low, high)
    if number & (number - 1):
        raise _refused(f"{flag} {value}", "not a power of two")
    return number


def _uuid(flag: str, value: str) -> uuids.UUID | None:
    if value in ("random", "time"):
        return None
    if value in ("clear", "null"):
        return _CLEARED
    try:
        return uuids.UUID(value)
    except ValueError:
        raise _refused(f"{flag} {value}", "not a UUID") from None


def _apply(options: MkfsOptions, flag: str, value: str) -> None:
    match flag:
        case "-b":
            options.block_size = _power(flag, value, 1024, 4096)
        case "-i":
            options.inode_ratio = _number(flag, value, 1024, 1 << 26)
        case "-I":
            options.inode_size = _power(flag, value, 128, 4096)
        case "-N":
            options.inode_count = _number(flag, value, 16, (1 << 32) - 1)
        case "-m":
            try:
                options.reserved_percent = float(value)
            except ValueError:
                options.reserved_percent = -1
            if not 0 <= options.reserved_percent <= 50:
                raise _refused(f"-m {value}", "not a percentage from 0 to 50")
        case "-O":
            _features(options, value)
        case "-E":
            for part in filter(None, value.split(",")):
                _extended(options, *part.partition("=")[::2])
        case "-L":
            options.label = os.fsencode(value)
            if len(options.label) > 16:
                raise UsageError(f"label {value!r} is longer than 16 bytes", hint="choose a shorter label")
        case "-U":
            options.uuid = _uuid(flag, value)
        case "-J":
            for part in filter(None, value.split(",")):
                name, _, given = part.partition("=")
                if name != "size":
                    raise UsageError(
                        f"mkfs option -J {part}: only the size of the journal can be given",
                        hint="use -J size=MIB",
                    )
                options.journal_size = _number("-J size=", given, 1, 1 << 20)
        case "-G":
            options.groups_per_flex = _power(flag, value, 1, 1 << 16)
        case "-t":
            if value != "ext4":
                raise UsageError(f"mkfs option -t {value}: only ext4 can be made", hint="leave -t out")


def _features(options: MkfsOptions, value: str) -> None:
    for name in filter(None, value.replace(" ", ",").split(",")):
        if name == "none":
            options.features.clear()
            continue
        bare = name.removeprefix("^")
        if bare not in FEATURES:
            if name.startswith("^"):
                continue  # what is never set needs no clearing
            raise UsageError(
                f"the ext4 feature {name} cannot be used", hint=f"there are: {', '.join(sorted(FEATURES))}"
            )
        bare = {"extents": "extent", "uninit_groups": "uninit_bg"}.get(bare, bare)
        if name.startswith("^"):
            options.features.discard(bare)
        else:
            options.features.add(bare)


def _extended(options: MkfsOptions, name: str, value: str) -> None:
    match name.replace("-", "_"):
        case "stride":
            options.stride = _number("-E stride=", value, 1, 0xFFFF)
        case "stripe_width":
            options.stripe_width = _number("-E stripe_width=", value, 1, 0xFFFFFFFF)
        case "resize":
            blocks = whole_number(value)
            options.resize_blocks = parse_size(value) // options.block_size if blocks is None else blocks
        case "hash_seed":
            options.hash_seed = _uuid("-E hash_seed=", value)
        case "root_owner":
            user, _, group = value.partition(":")
            options.root_owner = (
                _number("-E root_owner=", user, 0, 0xFFFFFFFE),
                _number("-E root_owner=", group, 0, 0xFFFFFFFE),
            )
        case known if known in _IGNORED_EXTENDED:
            pass
        case _:
            raise UsageError(
                f"mkfs option -E {name} is not known",
                hint="there are: stride, stripe_width, resize, hash_seed, root_owner, nodiscard, discard, "
                "lazy_itable_init, lazy_journal_init, assume_storage_prezeroed",
            )


def _agree(options: MkfsOptions) -> None:
    """Refuse combinations that make no file system, and drop what another choice rules out."""
    features = options.features
    for needed in ("extent", "filetype"):
        if needed not in features:
            raise UsageError(f"the ext4 feature {needed} cannot be left out", hint="change -O")
    if options.inode_size > options.block_size:
        raise UsageError(
            f"inode size {options.inode_size} is larger than the block size {options.block_size}",
            hint="choose a smaller -I",
        )
    if "metadata_csum_seed" in features and "metadata_csum" not in features:
        raise UsageError("metadata_csum_seed needs metadata_csum", hint="leave one of them out of -O")
    if "metadata_csum" in features:
        features.discard("uninit_bg")
    if "meta_bg" in features:
        features.discard("resize_inode")
    if options.resize_blocks == 0 or "sparse_super" not in features:
        features.discard("resize_inode")
    if options.inode_size == 128:
        features.discard("extra_isize")
