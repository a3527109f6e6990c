# SPDX-License-Identifier: Apache-2.0
"""The service of the daemon that serves metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from lamella import logs
from lamella.errors import LamellaError
from lamella.services.metrics.address import Address
from lamella.services.metrics.collector import PATIENCE, StoreCollector
from lamella.services.metrics.operations import Operations
from lamella.services.metrics.server import MetricsServer, application
from lamella.thin.status import PoolMode

if TYPE_CHECKING:
    from lamella.services.metrics.sources import Hosted

log = logs.logger(__name__)


STUCK = 60.0
"""Seconds after which a store that does not answer is not healthy: what is read takes milliseconds."""


class MetricsService:
    """Serves the metrics of *hosted* on *address*, as :class:`Address` has it. A service of the daemon.

    :attr:`operations` is where other services count what they do.
    """

    name = "metrics"

    def __init__(self, hosted: Hosted, address: str) -> None:
        self._address = Address.parse(address)
        self._registry = CollectorRegistry()
        self.operations = Operations(self._registry)
        self._collector = StoreCollector(hosted)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)
        self._server: MetricsServer | None = None

    @property
    def address(self) -> str:
        """Where it serves: with the port that the system chose, where it was asked to."""
        return str(self._server.address if self._server is not None else self._address)

    def start(self) -> None:
        """Begin to serve. Raises :class:`lamella.errors.BusyError` and the like where it cannot."""
        self._server = MetricsServer(self._address, application(self._registry, self.health))
        self._collector.start()
        self._server.serve()
        log.info("serving metrics on %s", self.address)

    def stop(self) -> None:
        """Stop; doing so twice is harmless."""
        server, self._server = self._server, None
        if server is not None:
            server.shut()
            self._collector.stop()

    def health(self) -> tuple[bool, str]:
        """Whether the pool can be written to, and its state in words."""
        found = self._collector.sample.get(PATIENCE)
        waited = self._collector.sample.reading_for()
        if waited > STUCK:
            return False, f"the store has not answered for {waited:.0f} s"
        if found.error is not None:
            reason = found.error.message if isinstance(found.error, LamellaError) else str(found.error)
            return False, f"the store cannot be read: {reason}"
        if found.value is None:
            return False, "the store has not been read yet"
        health, status = found.value.gauges.health, found.value.gauges.status
        writable = status.mode is PoolMode.WRITE and not status.needs_check
        well = writable and health.state not in ("suspended", "missing-disk")
        return well, "\n".join([health.state, *health.lines()])
