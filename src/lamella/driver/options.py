# SPDX-License-Identifier: Apache-2.0
"""The storage options ``dm.*`` of Docker's devicemapper driver: names, defaults, checks and wording.

Authority: moby v24.0.9, ``daemon/graphdriver/devmapper/deviceset.go`` (``NewDeviceSet``). Keys are
case-insensitive, sizes are powers of 1024, and a key that Docker does not know is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import UnsupportedError, UsageError
from lamella.lvm.format.names import name_problem, reserved_reason
from lamella.thin.format.limits import MAX_CHUNK, MIN_CHUNK
from lamella.units import parse_size, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GIB = 1 << 30
MIB = 1 << 20
BASE_MIN = 32 * MIB
"""Smallest base device that we make: an ext4 of less has no room for a journal and a layer."""
BASE_MAX = 16 << 40
"""Largest base device: what an ext4 of 4 KiB blocks without 64-bit block numbers holds."""
XFS_BASE_MIN = 300 * MIB
"""Smallest base device for an XFS: what mkfs.xfs makes since xfsprogs 5.19."""
MAX_RETRIES = (1 << 31) - 1
METADATA_MIN = 1 * MIB
METADATA_MAX = 255 * 16320 * 4096
"""Largest metadata device that dm-thin uses: one index block of 255 bitmaps (about 15.9 GiB)."""
LOOP, DIRECT = "loop-lvm", "direct-lvm"
DIRECT_CHUNK = 512 << 10
"""Chunk size of Docker's automated direct-lvm (``lvconvert -c 512K``)."""


@dataclass(frozen=True)
class Options:
    """The values of the ``dm.*`` options. Sizes are in bytes; ``given`` names the keys that were set."""

    base_size: int = 10 * GIB
    """Size of the base device, and so of each image's and container's file system; it can be raised later."""
    filesystem: str = "ext4"
    """File system of the base device; XFS needs the kernel's engine."""
    mkfs_args: tuple[str, ...] = ()
    """An argument for making the base device's file system; may be given several times."""
    mount_options: tuple[str, ...] = ()
    """Options that containers and images are mounted with, separated by commas."""
    xfs_nospace_max_retries: int | None = None
    """How often the kernel retries writing an XFS's metadata to a full pool; None: its default."""
    loop_data_size: int = 100 * GIB
    """Size of the sparse file for data; it can be raised later."""
    loop_metadata_size: int = 2 * GIB
    """Size of the sparse file for metadata; it can be raised later."""
    chunk_size: int = 64 << 10
    """Size of the pool's chunks, the unit of allocation and of copy-on-write; a multiple of 64 KiB."""
    min_free_percent: int = 10
    """Share of the pool's data and metadata that must be free for anything new to be made; 0%: no check."""
    deferred_removal: bool = True
    """Let the kernel remove a device that is in use when its last user closes it."""
    deferred_deletion: bool = True
    """Delete the thin device of something in use later, instead of failing; needs deferred removal."""
    discard_on_delete: bool = True
    """Discard the chunks of deleted devices on the data device; off by default with dm.thinpooldev."""
    devices: tuple[str, ...] = ()
    """Disks for direct-lvm; Docker's ``dm.directlvm_device`` takes one, here it may be repeated."""
    force: bool = False
    """Use disks that have signatures on them."""
    data_percent: int = 95
    """Share of the volume group's extents for data."""
    metadata_percent: int = 1
    """Share of the volume group's extents for metadata; a spare for repairs takes as much again."""
    autoextend_threshold: int = 80
    """Use in per cent at which LVM extends the pool; 100: never."""
    autoextend_percent: int = 20
    """By how much of its size in per cent LVM extends the pool."""
    thin_pool_device: str = ""
    """A pool made by hand, as ``/dev/mapper/docker-thinpool``, ``docker-thinpool`` or ``docker/thinpool``."""
    group: str = "docker"
    """Name of the volume group."""
    pool: str = "thinpool"
    """Name of the thin pool in it."""
    zero: bool = False
    """LVM's flag: let the kernel zero what it provisions. The user engine does so anyway."""
    given: frozenset[str] = field(default=frozenset(), compare=False)


def known_options() -> list[str]:
    """Every key that set-up takes, in either mode."""
    return [*_PARSERS, *_DIRECT_PARSERS]


def mode_of(options: Iterable[str]) -> str | None:
    """The mode that the options belong to; None if they fit any."""
    for text in options:
        key, _ = split(text)
        if key in _DIRECT_PARSERS:
            return DIRECT
        if key in _LOOP_ONLY:
            return LOOP
    return None


def parse(options: Iterable[str], mode: str = LOOP, *, partial: bool = False) -> Options:
    """The :class:`Options` of texts such as ``dm.basesize=20G``, for a pool of that *mode*.

    *partial*: they change what was set up before, so none has to be there.

    Raises :class:`UsageError` in Docker's words for an unknown key or a bad value, and
    :class:`UnsupportedError` for a key that is known but cannot be served, with the reason.
    """
    direct = mode == DIRECT
    parsers = _PARSERS | _DIRECT_PARSERS if direct else _PARSERS
    refused, hint = (_REFUSED_DIRECT, _DIRECT_HINT) if direct else (REFUSED, _LOOP_HINT)
    found: dict[str, object] = {"chunk_size": DIRECT_CHUNK} if direct else {}
    given = set()
    for text in options:
        key, value = split(text)
        given.add(key)
        if key in refused:
            raise UnsupportedError(f"{key} is not served by the {mode} mode: {refused[key]}", hint=hint)
        if key not in parsers:
            raise UsageError(f"devmapper: Unknown option {key}", hint=f"{_meant(key)}known are {_listed()}")
        name, read = parsers[key]
        if name:
            parsed = read(key, value)
            before = found.get(name)
            found[name] = (
                before + parsed if isinstance(before, tuple) and isinstance(parsed, tuple) else parsed
            )
    assert set(found) <= {f.name for f in fields(Options)}
    made = Options(**found, given=frozenset(given))  # type: ignore[arg-type]  # each parser's type is its field's
    if made.deferred_deletion and not made.deferred_removal:
        if "dm.use_deferred_deletion" in given:
            raise UsageError(
                "devmapper: Deferred deletion can not be enabled as deferred removal is not enabled. "
                "Enable deferred removal using --storage-opt dm.use_deferred_removal=true parameter",
                hint="leave dm.use_deferred_removal alone, or set both to false",
            )
        made = Options(**{**found, "deferred_deletion": False}, given=frozenset(given))  # type: ignore[arg-type]  # as above
    if direct:
        _check_direct(made, partial=partial)
        if made.thin_pool_device and "dm.blkdiscard" not in given:
            made = replace(made, discard_on_delete=False)
    return made


def _meant(key: str) -> str:
    near = get_close_matches(key, known_options(), n=1, cutoff=0.75)
    return f"did you mean {near[0]}? " if near else ""


def _listed() -> str:
    """All options, those of one mode only behind the others."""
    both = sorted(set(_PARSERS) - set(_LOOP_ONLY))
    return (
        f"{', '.join(both)}; for loop-lvm also {', '.join(sorted(_LOOP_ONLY))}; for direct-lvm also "
        f"{', '.join(sorted(_DIRECT_PARSERS))}"
    )


def _check_direct(made: Options, *, partial: bool) -> None:
    """Docker's rules between the options of direct-lvm (``device_setup.go``, ``validateLVMConfig``)."""
    given = made.given
    if made.thin_pool_device:
        own = sorted(given & (set(_DIRECT_PARSERS) - {"dm.thinpooldev"}))
        if own:
            raise UsageError(
                f"devmapper: dm.thinpooldev takes over a pool that exists, and {own[0]} says how to make one",
                hint="give one or the other",
            )
        return
    if partial:
        return
    if not made.devices:
        raise UsageError(
            "must provide device path in `dm.directlvm_device` in order to configure direct-lvm",
            hint="name the disks: lamella setup direct-lvm /dev/sdX; or a pool made by hand: "
            "--storage-opt dm.thinpooldev=VG/POOL",
        )
    percents = {"dm.thinp_percent", "dm.thinp_metapercent"}
    if len(percents & given) == 1:
        raise UsageError(
            "must set both `dm.thinp_percent` and `dm.thinp_metapercent` if either is specified",
            hint="the defaults are 95 and 1",
        )
    if made.data_percent + made.metadata_percent > 100:
        raise UsageError(
            "combined `dm.thinp_percent` and `dm.thinp_metapercent` must not be greater than 100",
            hint="the spare for repairs takes as much again as the metadata; the defaults are 95 and 1",
        )


def split(text: str) -> tuple[str, str]:
    """Key (lower case) and value of ``key=value``. Raises :class:`UsageError` for anything else."""
    key, equals, value = text.partition("=")
    if not equals or not text.isprintable():
        raise UsageError(
            f"Unable to parse key/value option: {text if text.isprintable() else ascii(text)}",
            hint="write it as dm.basesize=10G",
        )
    return key.strip().lower(), value.strip()


def merge(stored: Iterable[str], new: Iterable[str]) -> list[str]:
    """Options kept from an earlier set-up with *new* ones over them, as texts; a repeated key is replaced."""
    fresh = list(new)
    replaced = {split(text)[0] for text in fresh}
    return [text for text in stored if split(text)[0] not in replaced] + fresh


def _size(key: str, value: str) -> int:
    try:
        size = parse_size(value)
    except UsageError as error:
        raise UsageError(f"devmapper: invalid size for {key}: {error.message}", hint=error.hint) from error
    return size


def _between(least: int, most: int, step: int) -> Callable[[str, str], int]:
    def read(key: str, value: str) -> int:
        size = _size(key, value)
        if not least <= size <= most or size % step:
            raise UsageError(
                f"devmapper: Invalid value {value} for option {key}",
                hint=f"give {least} to {most} bytes in multiples of {step}",
            )
        return size

    return read


def _boolean(key: str, value: str) -> bool:
    # The words that Go's strconv.ParseBool takes, which Docker uses.
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise UsageError(f"devmapper: Invalid value {value} for option {key}", hint="give true or false")


def _filesystem(key: str, value: str) -> str:
    if value not in ("ext4", "xfs"):
        raise UsageError(f"devmapper: Unsupported filesystem {value}", hint="give dm.fs=ext4 or dm.fs=xfs")
    return value


def _retries(key: str, value: str) -> int:
    number = whole_number(value, MAX_RETRIES)
    if number is None:
        raise UsageError(
            f"devmapper: Invalid value {value} for option {key}",
            hint=f"give a number from 0 to {MAX_RETRIES}",
        )
    return number


def _percent(key: str, value: str) -> int:
    if not value.endswith("%"):
        raise UsageError(f"devmapper: Option {key} requires % suffix", hint=f"write it as {key}=10%")
    number = whole_number(value[:-1], 99)
    if number is None:
        raise UsageError(
            f"devmapper: Invalid value {value} for option {key}", hint="give 0% (no check) to 99%"
        )
    return number


def _share(least: int, most: int) -> Callable[[str, str], int]:
    def read(key: str, value: str) -> int:
        number = whole_number(value.removesuffix("%"), 999)
        if number is None:
            raise UsageError(f"could not parse `{key}={value}`", hint="give a whole number of per cent")
        if not least <= number <= most:
            raise UsageError(
                f"{key} must be greater than {least - 1} and less than {most + 1}", hint="give another"
            )
        return number

    return read


def _lvm_name(key: str, value: str) -> str:
    problem = name_problem(value) or reserved_reason(value)
    if problem:
        raise UsageError(f"{key}={value}: {problem}", hint="letters, digits and _+.- may be used")
    return value


def _pool_device(key: str, value: str) -> str:
    if not value:
        raise UsageError(f"devmapper: Invalid value {value} for option {key}", hint="write it as VG/POOL")
    return value


def _one(key: str, value: str) -> tuple[str, ...]:
    if not value:
        raise UsageError(
            f"devmapper: Invalid value {value} for option {key}", hint="give a value after the ="
        )
    return (value,)


def _commas(key: str, value: str) -> tuple[str, ...]:
    return tuple(part for part in value.split(",") if part)


_PARSERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "dm.basesize": ("base_size", _between(BASE_MIN, BASE_MAX, 4096)),
    "dm.fs": ("filesystem", _filesystem),
    "dm.mkfsarg": ("mkfs_args", _one),
    "dm.mountopt": ("mount_options", _commas),
    "dm.xfs_nospace_max_retries": ("xfs_nospace_max_retries", _retries),
    "dm.loopdatasize": ("loop_data_size", _between(MIN_CHUNK, 1 << 60, SECTOR)),
    "dm.loopmetadatasize": ("loop_metadata_size", _between(METADATA_MIN, METADATA_MAX, 4096)),
    "dm.blocksize": ("chunk_size", _between(MIN_CHUNK, MAX_CHUNK, MIN_CHUNK)),
    "dm.min_free_space": ("min_free_percent", _percent),
    "dm.use_deferred_removal": ("deferred_removal", _boolean),
    "dm.use_deferred_deletion": ("deferred_deletion", _boolean),
    "dm.blkdiscard": ("discard_on_delete", _boolean),
    # Nothing waits for udev in user space, so there is no check to override; accepted for old configurations.
    "dm.override_udev_sync_check": ("", _boolean),
}

_DIRECT_PARSERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "dm.thinpooldev": ("thin_pool_device", _pool_device),
    "dm.directlvm_device": ("devices", _one),
    "dm.directlvm_device_force": ("force", _boolean),
    "dm.thinp_percent": ("data_percent", _share(1, 99)),
    "dm.thinp_metapercent": ("metadata_percent", _share(1, 99)),
    "dm.thinp_autoextend_threshold": ("autoextend_threshold", _share(1, 100)),
    "dm.thinp_autoextend_percent": ("autoextend_percent", _share(1, 100)),
    # What Docker fixes: its group is "docker", its pool "thinpool", without zeroing.
    "lamella.vg": ("group", _lvm_name),
    "lamella.pool": ("pool", _lvm_name),
    "lamella.zero": ("zero", _boolean),
}
_LOOP_ONLY = ("dm.loopdatasize", "dm.loopmetadatasize")

_LOOP_HINT = "leave the option out; or set the store up as direct-lvm: lamella setup direct-lvm DEVICE..."
_DIRECT = "it belongs to direct-lvm, which puts the pool on logical volumes"
_DIRECT_HINT = "leave the option out; or set the store up as loop-lvm: lamella setup loop-lvm"
REFUSED = {
    **dict.fromkeys(_DIRECT_PARSERS, _DIRECT),
    "dm.datadev": "it is deprecated, and puts the pool on two block devices",
    "dm.metadatadev": "it is deprecated, and puts the pool on two block devices",
    "dm.libdm_log_level": "it sets the log of libdevmapper, which is not used",
}
"""Options that Docker knows and the loop-lvm mode cannot serve, with the reason."""
_REFUSED_DIRECT = {
    **{key: reason for key, reason in REFUSED.items() if key not in _DIRECT_PARSERS},
    **dict.fromkeys(_LOOP_ONLY, "it belongs to loop-lvm, which puts the pool on two sparse files"),
}
