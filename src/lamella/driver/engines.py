# SPDX-License-Identifier: Apache-2.0
"""Which engine maps a store's blocks: this process itself, or the kernel's device-mapper."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import programs
from lamella.driver.options import XFS_BASE_MIN
from lamella.errors import LamellaError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from lamella.driver.backend import Engine, PoolBackend
    from lamella.driver.options import Options

log = logs.logger(__name__)

ENVIRONMENT = "LAMELLA_ENGINE"
ENGINES = ("auto", "user", "kernel")


def asked_for(engine: str, configured: str = "") -> str:
    """What *engine* comes to: given as "auto", the environment decides, and then the store's settings.

    Raises :class:`UnsupportedError` for an unknown name.
    """
    for where, name in (
        ("", engine),
        (f" ({ENVIRONMENT})", os.environ.get(ENVIRONMENT, "")),
        (" (config.toml)", configured),
    ):
        if name and name not in ENGINES:
            raise UnsupportedError(f"there is no engine {name!r}{where}", hint=f"known: {', '.join(ENGINES)}")
        if name and name != "auto":
            return name
    return "auto"


def choose(engine: str, backend: PoolBackend, options: Options | None = None) -> Engine:
    """The engine for the pool of *backend*: "auto" is the kernel's wherever that can be used.

    *options* are those of a set-up, for a pool that is not there yet.
    Raises :class:`UnsupportedError`, or what opening device-mapper raises, for a kernel that cannot.
    """
    if engine == "user":
        log.info("engine user: it was asked for")
        return "user"
    unfit = backend.unfit_for_kernel(options)
    if engine == "kernel":
        if unfit:
            raise UsageError(f"the kernel cannot use this pool: {unfit}", hint="use --engine user")
        check_kernel()
        log.info("engine kernel: it was asked for")
        return "kernel"
    if not unfit and kernel_can():
        log.info("engine kernel: this process may use device-mapper, which has thin pools")
        return "kernel"
    log.info("engine user: %s", unfit or "device-mapper cannot be used here")
    return "user"


def check_filesystem(engine: Engine, options: Options) -> None:
    """Raise :class:`LamellaError` where a store with these *options* cannot be made with *engine*."""
    if options.filesystem == "xfs" and engine == "user":
        raise UnsupportedError(
            "dm.fs=xfs needs a kernel that mounts the volumes: an XFS can only be written by mounting it, "
            "and the user engine writes file systems itself",
            hint="use --engine kernel as root, or dm.fs=ext4 (the default)",
        )
    if options.filesystem == "xfs" and options.base_size < XFS_BASE_MIN:
        raise UsageError(
            f"devmapper: an XFS of {options.base_size} bytes is too small",
            hint=f"give dm.basesize={XFS_BASE_MIN >> 20}M or more, or dm.fs=ext4",
        )
    from lamella.fs.kinds import of_kind

    of_kind(options.filesystem).check_tools()


def kernel_can() -> bool:
    """Whether we may use the kernel's device-mapper, and it has thin pools."""
    from lamella.devicemapper.client import DeviceMapper

    if not DeviceMapper.available():
        return False
    try:
        check_kernel()
    except LamellaError:
        return False
    return True


def check_kernel() -> None:
    """Raise :class:`LamellaError`, with what to do, unless the kernel has thin pools for us."""
    from lamella.devicemapper.client import DeviceMapper

    with DeviceMapper() as dm:
        if "thin-pool" in dm.targets():
            return
        with suppress(OSError):
            programs.run(["modprobe", "dm_thin_pool"], capture_output=True)
        if "thin-pool" not in dm.targets():
            raise UnsupportedError(
                "this kernel has no thin pools", hint="modprobe dm_thin_pool; or use --engine user"
            )
