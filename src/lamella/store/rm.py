# SPDX-License-Identifier: Apache-2.0
"""Removing a container: its record, then its thin device, by either engine.

How the device goes, in one transaction with the record: :mod:`lamella.driver.user_engine`, and with the
kernel's engine :mod:`lamella.driver.kernel_engine` and :mod:`lamella.thin.kernel.quick_removal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import NotFoundError
from lamella.store import umount

if TYPE_CHECKING:
    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Catalog
    from lamella.store.root import Root


def remove_container(
    root: Root, devices: DeviceSet, catalog: Catalog, name: str, *, force: bool
) -> list[str]:
    """Remove the container called *name*, as :meth:`lamella.store.Store.remove_container` says."""
    try:
        container = catalog.find_container(name)
    except NotFoundError:
        if force:
            return []
        raise

    def record(_: object) -> None:
        for layer in catalog.drop_container(container):
            devices.state.mark_deleted(layer.device)

    def when_open(device: str) -> None:
        if force:
            umount.unmount_store_mount(root, device)
        else:
            umount.require_unmounted(root, device, f"container {container.name}")

    devices.delete([container.device], record=record, when_open=when_open)
    if devices.state.device(container.device) is None:
        return []
    return umount.deferred_deletion_warnings(root, container.device)
