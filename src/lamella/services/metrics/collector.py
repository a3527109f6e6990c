# SPDX-License-Identifier: Apache-2.0
"""The store's numbers as metrics, read when somebody asks for them, and never older than need be."""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from lamella._version import __version__
from lamella.services.metrics.kept import Kept
from lamella.services.metrics.operations import COUNTED, ERRORS, error_name
from lamella.services.metrics.sources import read_sample, read_usage
from lamella.services.metrics.table import MODES, STATES, TABLE
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.status import PoolMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lamella.services.metrics.kept import Reading
    from lamella.services.metrics.sources import Hosted, Sample

SAMPLE_FRESH = 2.0
"""Seconds for which the cheap numbers are not read again."""
USAGE_FRESH = 60.0
"""Seconds for which the usage is not counted again: that reads the mappings of every device."""
USAGE_REST = 20.0
"""Counting takes at most a twentieth of the time."""
PATIENCE = 2.0
"""Seconds that a scrape waits for new numbers, before it takes the last ones."""


class StoreCollector(Collector):
    """Reads *hosted* in threads of its own, between :meth:`start` and :meth:`stop`."""

    def __init__(self, hosted: Hosted) -> None:
        self._errors: Counter[str] = Counter(dict.fromkeys(ERRORS, 0))
        self._lock = threading.Lock()
        self.sample = Kept(
            "metrics: pool", lambda: read_sample(hosted), fresh=SAMPLE_FRESH, failed=self._count
        )
        self.usage = Kept(
            "metrics: usage",
            lambda: read_usage(hosted),
            fresh=USAGE_FRESH,
            rest=USAGE_REST,
            failed=self._count,
        )
        self._started = time.time()

    def start(self) -> None:
        """Begin to read."""
        self._started = time.time()
        self.sample.start()
        self.usage.start()

    def stop(self) -> None:
        """Stop to read; a read that hangs is left alone."""
        self.sample.stop(PATIENCE)
        self.usage.stop(PATIENCE)

    def _count(self, error: Exception) -> None:
        with self._lock:
            self._errors[error_name(type(error).__name__)] += 1

    def describe(self) -> Iterator[Metric]:
        """The metrics that :meth:`collect` may give, without values: for "?name[]=" in a request."""
        for name, metric in TABLE.items():
            if name not in COUNTED:
                yield Metric(name, metric.help, metric.type)

    def collect(self) -> Iterator[Metric]:
        """The metrics of :data:`TABLE` that are read; the others are counted in ``operations``."""
        sample, usage = self.sample.get(PATIENCE), self.usage.get(0)
        yield InfoMetricFamily(
            "lamella_build",
            TABLE["lamella_build"].help,
            {"version": __version__, "python": platform.python_version()},
        )
        yield _gauge("lamella_start_time_seconds", self._started)
        yield _gauge("lamella_store_up", sample.value is not None and sample.error is None)
        yield self._read_errors()
        if sample.value is not None:
            yield from _of_pool(sample, sample.value)
        if usage.value is not None:
            for name in ("exclusive", "shared"):
                sizes = {kind: getattr(space, name) for kind, space in usage.value.items()}
                yield _gauges(f"lamella_usage_{name}_bytes", sizes)
            yield _gauge("lamella_usage_age_seconds", usage.age())
            yield _gauge("lamella_usage_duration_seconds", usage.duration)

    def _read_errors(self) -> Metric:
        name = "lamella_store_read_errors_total"
        family = CounterMetricFamily(name, TABLE[name].help, labels=TABLE[name].labels)
        with self._lock:
            counted = dict(self._errors)
        for error, count in counted.items():
            family.add_metric([error], count)
        return family


def _of_pool(reading: Reading[Sample], sample: Sample) -> Iterator[Metric]:
    gauges, status = sample.gauges, sample.gauges.status
    yield InfoMetricFamily(
        "lamella_store",
        TABLE["lamella_store"].help,
        {"pool": gauges.pool_name, "mode": gauges.mode, "engine": gauges.engine},
    )
    yield _gauge("lamella_sample_age_seconds", reading.age())
    if status.mode is not PoolMode.FAIL:  # a failed pool has no numbers
        yield _gauge("lamella_pool_data_size_bytes", status.total_data * gauges.chunk_size)
        yield _gauge("lamella_pool_data_used_bytes", status.used_data * gauges.chunk_size)
        yield _gauge("lamella_pool_metadata_size_bytes", status.total_metadata * BLOCK_SIZE)
        yield _gauge("lamella_pool_metadata_used_bytes", status.used_metadata * BLOCK_SIZE)
        yield _gauge("lamella_pool_transaction_id", status.transaction_id)
    yield _gauge("lamella_pool_chunk_size_bytes", gauges.chunk_size)
    yield _gauge("lamella_pool_minimum_free_ratio", gauges.min_free_percent / 100)
    yield _one_of("lamella_pool_state", (*STATES, gauges.health.state), gauges.health.state)
    yield _one_of("lamella_pool_mode", MODES, MODES[status.mode])
    yield _gauge("lamella_pool_needs_check", status.needs_check)
    yield _gauge("lamella_pool_devices", sum(gauges.devices.values()))
    yield _gauges("lamella_devices", gauges.devices)
    yield _gauge("lamella_images", gauges.images)
    yield _gauges("lamella_snapshots", sample.snapshots)
    if gauges.host_free is not None:
        yield _gauge("lamella_host_free_bytes", gauges.host_free)
    if gauges.group_free is not None:
        yield _gauge("lamella_group_free_bytes", gauges.group_free)


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, TABLE[name].help, value=value)


def _gauges(name: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label, and a value for each of its values."""
    family = GaugeMetricFamily(name, TABLE[name].help, labels=TABLE[name].labels)
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _one_of(name: str, states: Iterable[str], now: str) -> Metric:
    return _gauges(name, {state: state == now for state in states})
