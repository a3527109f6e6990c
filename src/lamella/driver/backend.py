# SPDX-License-Identifier: Apache-2.0
"""The interface of a pool's backend, which makes and opens the pool's metadata and data devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from lamella.closing import Closing
from lamella.driver.device_names import pool_name
from lamella.errors import LamellaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.devicemapper.client import DeviceMapper
    from lamella.devicemapper.table import Target
    from lamella.driver.options import Options
    from lamella.driver.stack_node import Node
    from lamella.thin.status import PoolStatus


@dataclass(frozen=True)
class PoolDevices(Closing):
    """The two open devices of a pool."""

    metadata: BlockDevice
    data: BlockDevice

    def close(self) -> None:
        """Close both."""
        self.data.close()
        self.metadata.close()


class DeviceTree(Protocol):
    """Where device-mapper devices are added in the order in which activating a pool would make them."""

    def attach(self, path: str) -> str:
        """ "major:minor" of disk *path*; for a file or an NBD address, of the device that it would get."""

    def add(self, name: str, uuid: str, table: tuple[Target, ...], *, read_only: bool = False) -> str:
        """Add a device whose table names others by "major:minor"; gives its own."""


Engine = Literal["user", "kernel"]


class PoolBackend(ABC):
    """Makes, opens, grows and removes the metadata and data devices of one pool.

    The driver above it knows nothing of files, logical volumes or disks. ``loop-lvm`` is
    :class:`lamella.driver.loop_lvm.backend.LoopLvm`.
    """

    mode: str
    """The backend's name, as ``lamella setup`` takes it."""
    engine: Engine = "user"
    """What maps the pool's blocks in this process: "user" or "kernel"."""
    beside_writer = False
    """Whether a writer of the store has the pool open, beside which this process reads it: the writer's locks
    on the pool's devices are no obstacle then."""

    def preflight(self, options: Options) -> list[str]:
        """Check whether :meth:`create` can succeed; writes nothing. Gives what was found, in lines.

        Raises what prevents it, before anything is made.
        """
        return []

    def plan(self, options: Options) -> list[str]:
        """What :meth:`create` does, as commands of the tools that it replaces."""
        return []

    def check_unchanged(self, before: Options, new: Options) -> None:  # noqa: B027 - most have nothing such
        """Raise :class:`lamella.errors.ExistsError` where *new* options ask for what cannot be changed."""

    @abstractmethod
    def create(self, options: Options) -> None:
        """Make both devices, of the sizes that *options* ask for, reading as zeros. They must not exist."""

    def begun(self) -> bool:
        """Whether an interrupted set-up left work that :meth:`create` continues."""
        return False

    def restart(self) -> None:
        """Prepare for :meth:`create` to be called again after an interrupted set-up."""
        self.remove()

    def release_unfinished(self) -> None:  # noqa: B027 - most have nothing such
        """Deactivate what other programs have activated of an interrupted set-up, before it continues."""

    def chunk_size(self, options: Options) -> int:
        """Bytes of the pool's chunks."""
        return options.chunk_size

    def exclusive(self, options: Options | None = None) -> AbstractContextManager[None]:
        """Lock other programs out of the pool's devices for the block; a nested block does nothing more.

        *options* are those of a set-up, for a pool that is not made yet.
        """
        return nullcontext()

    @abstractmethod
    def exists(self) -> bool:
        """Whether either device is there."""

    @abstractmethod
    def open(self, *, read_only: bool = False) -> PoolDevices:
        """Open both devices, for the user engine.

        Raises :class:`lamella.errors.NotFoundError` where one is missing, and
        :class:`lamella.errors.BusyError` while the kernel uses them.
        """

    def transaction_id(self) -> int | None:
        """The pool's last transaction, or None where that cannot be read at this moment."""
        from lamella.thin.format import superblock
        from lamella.thin.format.checksum import BLOCK_SIZE

        with suppress(LamellaError), self.open(read_only=True) as devices:
            start = devices.metadata.read(0, min(BLOCK_SIZE, devices.metadata.size))
            return superblock.unpack(start, name=devices.metadata.name, read_only=True).transaction_id
        return None

    # -- the kernel's engine ---------------------------------------------------------------------

    def open_inactive(self) -> PoolDevices:
        """Open both devices for reading, of a pool that is not active.

        Parts of it may be active, left by a process that was killed while it activated the pool.
        """
        return self.open(read_only=True)

    @abstractmethod
    def unfit_for_kernel(self, options: Options | None = None) -> str:
        """Why the kernel cannot use this pool's devices, in words; "" if it can.

        *options* name the devices of a pool that is not made yet.
        """

    @abstractmethod
    def active(self, dm: DeviceMapper) -> str | None:
        """Name of the pool's device-mapper device, if it is active."""

    @abstractmethod
    def activate(self, dm: DeviceMapper) -> str:
        """Activate the pool, with all devices below it; gives its name. It may be active already.

        The metadata must be that of a pool: the kernel would format what begins with zeros.
        """

    @abstractmethod
    def emulate(self, tree: DeviceTree, devices: PoolDevices, chunk_size: int) -> None:
        """Add to *tree* what :meth:`activate` would make, for the open pool with that chunk size in bytes."""

    @abstractmethod
    def deactivate(self, dm: DeviceMapper) -> None:
        """Deactivate the pool and what is below it; it need not be active.

        Raises :class:`lamella.errors.BusyError` while thin devices of it are active.
        """

    def grow_active(self, dm: DeviceMapper, options: Options) -> list[str]:
        """:meth:`grow`, of a pool that is active in the kernel."""
        return []

    @abstractmethod
    def grow(self, devices: PoolDevices, options: Options) -> list[str]:
        """Make the open devices as large as *options* ask for; never smaller. Gives warnings to print."""

    def extend(
        self, *, data: str, metadata: str, disks: Sequence[str], force: bool
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Add disks to the pool's volume group, and extend the pool's volumes, also active ones.

        Gives (data, metadata) in bytes before and after. Raises :class:`UsageError` where there is no group.
        """
        raise UsageError(f"a {self.mode} pool has no volume group", hint="lamella grow --data SIZE")

    @abstractmethod
    def remove(self) -> list[str]:
        """Remove what :meth:`create` made, and nothing else. Gives what could not be removed, in words."""

    def pool_name(self, root: Path) -> str:
        """The pool's name as ``docker info`` prints it."""
        return pool_name(root)

    def how_to_grow(self, what: str) -> str:
        """The command that extends the pool's *what*, "data" or "metadata"."""
        return "lamella setup"

    def repaired_metadata(self, root: Path) -> Path:
        """The file that a repair writes the metadata to, before :meth:`replace_metadata`."""
        return root / "tmp" / "metadata.repaired"

    @abstractmethod
    def replace_metadata(self, repaired: Path) -> str:
        """Replace the closed pool's metadata by the repaired in the file *repaired*; durable on return.

        The old metadata is kept; gives its name. A failure leaves it where it was.
        """

    def differences(self) -> str:
        """Why the open pool may not be the one that the store was set up with, or ""."""
        return ""

    def problems(self) -> list[str]:
        """What a check of the store should report about the devices below the pool."""
        return []

    def interrupted(self) -> str:
        """A change below the pool that was interrupted, and that the next one completes; "" without one."""
        return ""

    def missing_disks(self, devices: PoolDevices) -> tuple[list[str], bool]:
        """Disks below the open pool that are not there, and whether some of it lies on them."""
        return [], False

    @abstractmethod
    def structure(self, devices: PoolDevices, status: PoolStatus) -> tuple[list[Node], list[Node]]:
        """The storage stack below the open pool: its lowest nodes, and those right below the pool."""

    @abstractmethod
    def names(self) -> dict[str, str]:
        """The lines of ``docker info`` that name the open pool's devices, in its order: label to value."""

    def host_space(self) -> int | None:
        """Bytes that the host can still give to the pool's files, or None where they are reserved."""
        return None

    def group_free(self, devices: PoolDevices) -> int | None:
        """Bytes in free extents of the open pool's volume group, or None where it is in none."""
        return None

    @abstractmethod
    def warnings(self) -> list[str]:
        """What a user should know about this kind of pool."""
