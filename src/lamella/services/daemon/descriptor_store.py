# SPDX-License-Identifier: Apache-2.0
"""One descriptor that the service manager holds while the daemon restarts: systemd's descriptor store.

systemd drops the descriptor itself when the service is stopped for good.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.block.system import explaining

if TYPE_CHECKING:
    from lamella.services.daemon.notify import Notifier


class DescriptorStore:
    """What the manager of *notifier* holds as *name*. *passed* is what it has passed to this process.

    A :class:`lamella.services.fuse.keeping.Keeping`.
    """

    def __init__(self, notifier: Notifier, name: str, passed: int | None) -> None:
        self._notifier = notifier
        self._name = name
        self._passed = passed

    def keep(self, descriptor: int, token: str) -> None:
        with explaining("hand a descriptor to", "the service manager"):
            self._notifier.store(self._name, descriptor)

    def take(self, token: str) -> int | None:
        # Were it left there, it would outlive a crash of this process, after which nobody may go on with it.
        self._notifier.tell(FDSTOREREMOVE=1, FDNAME=self._name)
        passed, self._passed = self._passed, None
        return passed

    def discard(self) -> None:
        passed = self.take("")
        if passed is not None:
            with suppress(OSError):
                os.close(passed)
