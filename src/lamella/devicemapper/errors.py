# SPDX-License-Identifier: Apache-2.0
"""The kernel's error numbers as Lamella's errors, each naming the device and the next step."""

from __future__ import annotations

import errno
import os

from lamella.errors import (
    BusyError,
    CorruptError,
    DeviceIOError,
    ExistsError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    UsageError,
)

_CLASSES: dict[int, tuple[type[LamellaError], str | None]] = {
    errno.ENXIO: (NotFoundError, "dmsetup ls lists the devices"),
    errno.ENODATA: (NotFoundError, None),
    errno.EBUSY: (BusyError, None),
    errno.EEXIST: (ExistsError, None),
    errno.ENOSPC: (NoSpaceError, None),
    errno.EILSEQ: (CorruptError, "dmesg says what is damaged"),
    errno.EOPNOTSUPP: (UnsupportedError, None),
    errno.EINVAL: (UsageError, "dmesg says why"),
    errno.EIO: (DeviceIOError, "dmesg says more"),
    errno.ENOTTY: (UnsupportedError, "this kernel's device-mapper is too old for it"),
    errno.ENOMEM: (LamellaError, "free some memory; tables are kept in kernel memory"),
    errno.EPERM: (PermissionDeniedError, "device-mapper requires CAP_SYS_ADMIN"),
    errno.EACCES: (PermissionDeniedError, "device-mapper requires CAP_SYS_ADMIN"),
}


def explained(error: OSError, doing: str, what: str) -> LamellaError:
    """The error to raise for a failed ioctl; raise it from *error*, which has the number."""
    kind, hint = _CLASSES.get(error.errno or 0, (LamellaError, "see also dmesg"))
    return kind(f"device-mapper cannot {doing} {what}: {os.strerror(error.errno or 0)}", hint=hint)
