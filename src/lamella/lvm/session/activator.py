# SPDX-License-Identifier: Apache-2.0
"""What commands on volume groups ask of whoever makes volumes usable: the kernel's device-mapper.

:class:`lamella.lvm.activation.activator.KernelActivator` is it. Without an activator a session refuses
to change groups that the kernel uses, and carries messages out in user space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from lamella.lvm.disks.scan import FoundGroup


class Activator(Protocol):
    """Activation of the volumes of groups; volumes are given by name."""

    def is_active(self, found: FoundGroup, name: str) -> bool:
        """Whether the volume itself can be used, and not only what lies below it."""

    def active_in(self, found: FoundGroup) -> list[str]:
        """Names of the volumes, hidden ones included, that the kernel has a device of."""

    def is_open(self, found: FoundGroup, name: str) -> bool:
        """Whether the volume is active and somebody uses it: a mount, a process, a device on top."""

    def check_unused(self, found: FoundGroup, name: str) -> None:
        """Raise :class:`BusyError`, in LVM2's words, if the volume is in use."""

    def pool_status(self, found: FoundGroup, pool: str) -> str | None:
        """The parameters of the thin pool's status line; None for a pool that the kernel has not."""

    def activate(self, found: FoundGroup, names: Iterable[str], *, read_only: bool = False) -> None:
        """Make the volumes' devices, and all that they need. Those that are active stay as they are.

        A failure leaves nothing behind that was not there before.
        """

    def deactivate(self, found: FoundGroup, names: Iterable[str]) -> None:
        """Take the volumes' devices down, and below them what nobody else needs.

        Raises :class:`BusyError`, in LVM2's words, for a volume that is in use; those before it are down.
        """

    def changing(self, found: FoundGroup, names: Iterable[str] | None = None) -> AbstractContextManager[None]:
        """Around the commit of a group that was changed in memory; *names*: only in these volumes.

        Devices of active volumes get tables that fit the group as it now is: loaded before the block,
        with what has moved suspended, and resumed after it; renames follow. If the block raises, the old
        tables stay. Volumes that left the group must have been deactivated before.
        """

    def send_messages(self, found: FoundGroup, pool: str) -> None:
        """Carry out the messages that are queued in the pool's segment, in the kernel's pool.

        A pool that is not active is activated for it. Raises :class:`CorruptError` if the pool's
        transaction id is not the text's. The text itself is the caller's to clear and commit.
        """
