# SPDX-License-Identifier: Apache-2.0
"""What is on a disk or volume already: file systems, partition tables and so on, found with libblkid.

libblkid wants a file descriptor. A volume on several disks has none, so its start and end, where signatures
are, are copied to a sparse file of the same size in memory.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lamella.errors import DeviceIOError, MissingError

if TYPE_CHECKING:
    from lamella.block.device import BlockDevice

EDGE = 1 << 20
"""Bytes at the start and at the end of a device that are searched."""
MAX_SIGNATURES = 128

# blkid.h
_SUBLKS_TYPE, _SUBLKS_LABEL, _SUBLKS_UUID = 1 << 5, 1 << 1, 1 << 3
_SUBLKS_USAGE, _SUBLKS_MAGIC, _SUBLKS_BADCSUM = 1 << 7, 1 << 9, 1 << 10
_PARTS_FORCE_GPT, _PARTS_MAGIC = 1 << 1, 1 << 3


@dataclass(frozen=True, slots=True)
class Signature:
    """One thing that was found: ``offset`` and ``length`` in bytes are what to wipe."""

    type: str
    """libblkid's name: "ext4", "xfs", "gpt", "LVM2_member"."""
    usage: str
    """"filesystem", "raid", "crypto", "other", or "partition table"."""
    offset: int
    length: int
    label: str = ""
    uuid: str = ""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libblkid.so.1", use_errno=True)
    except OSError as error:
        raise MissingError(
            "libblkid, which recognises file systems, is not installed",
            hint="install it: libblkid1 on Debian and Ubuntu, libblkid on Fedora",
        ) from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    library.blkid_new_probe.restype = pointer
    library.blkid_free_probe.argtypes = [pointer]
    library.blkid_probe_set_device.argtypes = [pointer, number, ctypes.c_int64, ctypes.c_int64]
    for name in ("superblocks", "partitions"):
        getattr(library, f"blkid_probe_enable_{name}").argtypes = [pointer, number]
        getattr(library, f"blkid_probe_set_{name}_flags").argtypes = [pointer, number]
    library.blkid_do_probe.argtypes = [pointer]
    library.blkid_do_wipe.argtypes = [pointer, number]
    library.blkid_probe_lookup_value.argtypes = [
        pointer,
        text,
        ctypes.POINTER(text),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    return library


def find_signatures(device: BlockDevice) -> list[Signature]:
    """Every signature that libblkid finds on *device*; reads only. Raises :class:`MissingError` without
    libblkid.
    """
    library = _library()
    descriptor = _image(device)
    try:
        probe = library.blkid_new_probe()
        if not probe:
            raise DeviceIOError(f"cannot look for signatures on {device.name}: libblkid has no memory")
        try:
            if library.blkid_probe_set_device(probe, descriptor, 0, device.size):
                raise DeviceIOError(f"cannot look for signatures on {device.name}: libblkid refuses it")
            return _probe(library, probe)
        finally:
            library.blkid_free_probe(probe)
    finally:
        os.close(descriptor)


def wipe_signature(device: BlockDevice, signature: Signature) -> None:
    """Overwrite the signature with zeros, and flush."""
    device.write(signature.offset, bytes(signature.length))
    device.flush()


def _image(device: BlockDevice) -> int:
    """A file in memory with the start and end of *device* at their places and a hole between."""
    descriptor = os.memfd_create("lamella-signatures", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, device.size)
        starts = {0: min(EDGE, device.size)}
        if device.size > EDGE:
            low = max(EDGE, device.size - EDGE)
            starts[low] = device.size - low
        for start, length in starts.items():
            for offset, count in device.data_ranges(start, length):
                data = device.read(offset, count)
                if data.count(0) != len(data):
                    os.pwrite(descriptor, data, offset)
    except OSError as error:
        os.close(descriptor)
        raise DeviceIOError(f"cannot look for signatures on {device.name}: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _probe(library: ctypes.CDLL, probe: int) -> list[Signature]:
    library.blkid_probe_enable_superblocks(probe, 1)
    flags = _SUBLKS_TYPE | _SUBLKS_LABEL | _SUBLKS_UUID | _SUBLKS_USAGE | _SUBLKS_MAGIC | _SUBLKS_BADCSUM
    library.blkid_probe_set_superblocks_flags(probe, flags)
    library.blkid_probe_enable_partitions(probe, 1)
    library.blkid_probe_set_partitions_flags(probe, _PARTS_MAGIC | _PARTS_FORCE_GPT)
    found: list[Signature] = []
    while library.blkid_do_probe(probe) == 0 and len(found) < MAX_SIGNATURES:
        table = _value(library, probe, b"PTTYPE")
        prefix = b"PT" if table else b"SB"
        offset, magic = _value(library, probe, prefix + b"MAGIC_OFFSET"), b""
        if offset:
            magic = _value(library, probe, prefix + b"MAGIC")
            kind = table or _value(library, probe, b"TYPE")
            found.append(
                Signature(
                    type=kind.decode("ascii", "replace"),
                    usage="partition table" if table else _value(library, probe, b"USAGE").decode(),
                    offset=int(offset),
                    length=len(magic),
                    label=_value(library, probe, b"LABEL").decode("utf-8", "replace"),
                    uuid=_value(library, probe, b"UUID").decode("ascii", "replace"),
                )
            )
        # Wiping it from the copy lets the same probe find what else is there.
        if library.blkid_do_wipe(probe, 0):
            break
    return found


def _value(library: ctypes.CDLL, probe: int, name: bytes) -> bytes:
    data, length = ctypes.c_char_p(), ctypes.c_size_t()
    if library.blkid_probe_lookup_value(probe, name, ctypes.byref(data), ctypes.byref(length)):
        return b""
    raw = ctypes.string_at(data, length.value)
    return raw if name.endswith(b"MAGIC") else raw.rstrip(b"\0")
