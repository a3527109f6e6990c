# SPDX-License-Identifier: Apache-2.0
"""Growing a file system while it is mounted: the kernel does it, asked by an ioctl.

Requests and structures are those of ``linux/ext4.h`` (Documentation/filesystems/ext4) and xfs_fs.h.
"""

from __future__ import annotations

import fcntl
import os
import struct

from lamella.block.system import explain, explaining
from lamella.errors import BusyError, UnsupportedError

EXT4_IOC_RESIZE_FS = 0x40086610
XFS_IOC_FSGEOMETRY_V1 = 0x80705864
XFS_IOC_FSGROWFSDATA = 0x4010586E
_GEOMETRY_SIZE = 112
_GEOMETRY = struct.Struct("=8IQ")
"""The beginning of struct xfs_fsop_geom_v1: block size first, imaxpct eighth, then the data blocks."""


def grow_mounted(
    point: str | os.PathLike[str], filesystem: str, size: int, *, device: tuple[int, int] | None = None
) -> None:
    """Let the file system mounted at *point* fill its device, which has *size* bytes now.

    *device* is that device's (major, minor), where *point* is in the hands of others: a folder of another
    mount namespace can lead anywhere by the time that it is opened.

    Raises :class:`UnsupportedError` for other file systems than ext4 and xfs, :class:`BusyError` where
    another device's is mounted there, and what the kernel says.
    """
    where = os.fspath(point)
    with explaining("open", where):
        descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if device is not None and os.fstat(descriptor).st_dev != os.makedev(*device):
            raise BusyError(
                f"what is mounted at {where} is not device {device[0]}:{device[1]}",
                hint="its mount was changed in the meantime; try again",
            )
        if filesystem == "ext4":
            block = os.fstatvfs(descriptor).f_frsize
            fcntl.ioctl(descriptor, EXT4_IOC_RESIZE_FS, struct.pack("=Q", size // block))
        elif filesystem == "xfs":
            answer = fcntl.ioctl(descriptor, XFS_IOC_FSGEOMETRY_V1, bytes(_GEOMETRY_SIZE))
            block, _, _, _, _, _, _, imaxpct, blocks = _GEOMETRY.unpack_from(answer)
            if size // block > blocks:
                fcntl.ioctl(descriptor, XFS_IOC_FSGROWFSDATA, struct.pack("=QI4x", size // block, imaxpct))
        else:
            raise UnsupportedError(
                f"a mounted {filesystem} cannot be grown", hint="unmount it, and resize it then"
            )
    except OSError as error:
        raise explain(error, f"grow the {filesystem} at", where) from error
    finally:
        os.close(descriptor)
