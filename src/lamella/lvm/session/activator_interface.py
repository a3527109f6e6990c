# SPDX-License-Identifier: Apache-2.0
"""The interface to activation that the commands on volume groups use.

:class:`lamella.lvm.activation.activator.KernelActivator` implements it. Without an activator a session
refuses to change groups that are active in the kernel, and carries out messages in user space.
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
        """Whether the volume itself can be used, and not only devices below it."""

    def active_in(self, found: FoundGroup) -> list[str]:
        """Names of the volumes, hidden ones included, that have a device in the kernel."""

    def is_open(self, found: FoundGroup, name: str) -> bool:
        """Whether the volume is active and in use: mounted, open in a process, below another device."""

    def check_unused(self, found: FoundGroup, name: str) -> None:
        """Raise :class:`BusyError` with LVM2's message if the volume is in use."""

    def pool_status(self, found: FoundGroup, pool: str) -> str | None:
        """The parameters of the thin pool's status line; None for a pool without a device."""

    def activate(self, found: FoundGroup, names: Iterable[str], *, read_only: bool = False) -> None:
        """Create the devices of the volumes and of all that they need. Active ones stay as they are.

        Rolled back on failure.
        """

    def deactivate(self, found: FoundGroup, names: Iterable[str]) -> None:
        """Remove the devices of the volumes, and those below them that nothing else needs.

        Raises :class:`BusyError` with LVM2's message for a volume that is in use; those before it are
        deactivated.
        """

    def changing(self, found: FoundGroup, names: Iterable[str] | None = None) -> AbstractContextManager[None]:
        """Enclose the commit of a group that was changed in memory; *names*: only in these volumes.

        Devices of active volumes get tables that match the group as it now is: loaded before the block, with
        what has moved suspended, and resumed after it; then devices are renamed. If the block raises, the
        old tables stay. Volumes that left the group must have been deactivated before.
        """

    def send_messages(self, found: FoundGroup, pool: str) -> None:
        """Send the messages that are queued in the pool's segment to the kernel's pool.

        An inactive pool is activated for it. Raises :class:`CorruptError` if the pool's transaction id does
        not match the metadata's. The caller removes the messages from the metadata and commits.
        """
