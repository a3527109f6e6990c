# SPDX-License-Identifier: Apache-2.0
"""Which engine maps a store's blocks: this process itself, or the kernel's device-mapper."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import programs
from lamella.closing import on_error
from lamella.driver.options import XFS_BASE_MIN
from lamella.errors import LamellaError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from lamella.driver.backend import Engine, PoolBackend
    from lamella.driver.device_engine import DeviceEngine
    from lamella.driver.options import Options
    from lamella.driver.state import State

log = logs.logger(__name__)

ENVIRONMENT = "LAMELLA_ENGINE"
ENGINES = ("auto", "user", "kernel")


def asked_for(engine: str, configured: str = "") -> str:
    """The engine that was asked for: for "auto", the environment decides, and then the store's settings.

    Raises :class:`UsageError` for an unknown name.
    """
    for where, name in (
        ("", engine),
        (f" ({ENVIRONMENT})", os.environ.get(ENVIRONMENT, "")),
        (" (config.toml)", configured),
    ):
        if name and name not in ENGINES:
            raise UsageError(f"there is no engine {name!r}{where}", hint=f"known: {', '.join(ENGINES)}")
        if name and name != "auto":
            return name
    return "auto"


def choose(engine: str, backend: PoolBackend, options: Options | None = None) -> Engine:
    """The engine for the pool of *backend*: "auto" is the kernel's wherever that can be used.

    *options* are those of a set-up, for a pool that is not there yet.
    Raises :class:`UnsupportedError`, or what opening device-mapper raises, for a kernel that cannot.
    """
    if engine == "user":
        log.info("engine user: requested")
        return "user"
    unfit = backend.unfit_for_kernel(options)
    if engine == "kernel":
        if unfit:
            raise UsageError(f"the kernel cannot use this pool: {unfit}", hint="use --engine user")
        check_kernel()
        log.info("engine kernel: requested")
        return "kernel"
    if not unfit and kernel_can():
        log.info("engine kernel: this process may use device-mapper, which has thin pools")
        return "kernel"
    log.info("engine user: %s", unfit or "device-mapper cannot be used here")
    return "user"


def format_pool(state: State, backend: PoolBackend, options: Options) -> DeviceEngine:
    """Format the pool on the backend's devices, and open it with the backend's engine."""
    from lamella.driver.user_engine import UserEngine

    engine = UserEngine.format(state, backend, options)
    if backend.engine == "user":
        return engine
    engine.close()
    return open_pool(state, backend, options)


def open_pool(
    state: State, backend: PoolBackend, options: Options, *, read_only: bool = False, shared: bool = False
) -> DeviceEngine:
    """Open the pool with the backend's engine, *shared* by threads; the kernel's activates it if need be.

    Who only reads changes nothing: neither the pool, which an activation repairs first, nor what the kernel
    has. A pool that is not active is then read by this process, if it can read the file systems in it.
    """
    from lamella.driver.user_engine import InactivePoolReader, UserEngine

    if backend.engine == "user":
        return UserEngine.open(state, backend, options, read_only=read_only, shared=shared)

    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.kernel_engine import KernelEngine

    dm = DeviceMapper()
    with on_error(dm.close):
        active = backend.active(dm)
        if active is None and read_only and _read_here(state, options):
            reader = InactivePoolReader.open(state, backend, options)
            dm.close()
            return reader
        engine = KernelEngine.open(dm, active, state, backend, options, read_only=read_only)
        engine.shared = shared
        return engine


def _read_here(state: State, options: Options) -> bool:
    """Whether this process reads the file systems in the pool, without a kernel that mounts them."""
    from lamella.fs.kinds import of_kind

    return of_kind(state.pool().base_filesystem or options.filesystem).written_here


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
                "this kernel has no thin-pool target", hint="modprobe dm_thin_pool; or use --engine user"
            )
