# SPDX-License-Identifier: Apache-2.0
"""The metrics of Lamella's own: what each is called, its type, its labels and what it means.

Names follow Prometheus' conventions: base units, the unit at the end, ``_total`` for what only grows. What
prometheus_client adds about the process (``process_*``) is not here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric. *labels* are in the order in which values are given."""

    type: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()


STATES = (
    "fine",
    "data-low",
    "metadata-low",
    "host-low",
    "data-below-minimum",
    "metadata-below-minimum",
    "full",
    "metadata-full",
    "needs-check",
    "failed",
    "suspended",
    "missing-disk",
    "disk-missing-beside",
)
"""What :func:`lamella.thin.health.diagnose` calls the states of an open pool."""

MODES = ("write", "out_of_data_space", "out_of_metadata_space", "read_only", "fail")
"""dm-thin's modes, in the order of :class:`lamella.thin.status.PoolMode`."""

USAGE_KINDS = ("base", "layer", "container", "snapshot", "deleted", "other", "shared", "leaked")
"""The rows of ``lamella df`` that own chunks: their space adds up to what the pool has in use."""

SNAPSHOT_KINDS = ("view", "active", "committed")

TABLE = {
    "lamella_build": Metric("info", "The version of Lamella and of Python.", ("version", "python")),
    "lamella_start_time_seconds": Metric("gauge", "When the daemon began to serve metrics, since 1970."),
    "lamella_store": Metric("info", "What the store is set up with.", ("pool", "mode", "engine")),
    "lamella_store_up": Metric("gauge", "1 if the store could be read the last time, else 0."),
    "lamella_store_read_errors_total": Metric(
        "counter", "Reads of the store for these metrics that failed, by class of error.", ("error",)
    ),
    "lamella_sample_age_seconds": Metric("gauge", "Age of the numbers about the pool and its devices."),
    "lamella_pool_data_size_bytes": Metric("gauge", "Size of the pool's data device."),
    "lamella_pool_data_used_bytes": Metric("gauge", "Data that is in use, in whole chunks."),
    "lamella_pool_metadata_size_bytes": Metric("gauge", "Size of the pool's metadata device."),
    "lamella_pool_metadata_used_bytes": Metric(
        "gauge", "Metadata that is in use, with the kernel's reserve of it."
    ),
    "lamella_pool_chunk_size_bytes": Metric("gauge", "Size of the pool's chunks."),
    "lamella_pool_minimum_free_ratio": Metric(
        "gauge", "Share of data and of metadata below which nothing new is made (dm.min_free_space)."
    ),
    "lamella_pool_state": Metric("gauge", "1 for the pool's state, 0 for all others.", ("state",)),
    "lamella_pool_mode": Metric("gauge", "1 for the pool's mode in dm-thin, 0 for all others.", ("mode",)),
    "lamella_pool_needs_check": Metric("gauge", "1 if the pool's metadata has to be checked first, else 0."),
    "lamella_pool_transaction_id": Metric("gauge", "The pool's last transaction."),
    "lamella_pool_devices": Metric("gauge", "Thin devices in the pool."),
    "lamella_devices": Metric("gauge", "Thin devices in the pool, by what they are for.", ("kind",)),
    "lamella_images": Metric("gauge", "Images in the store."),
    "lamella_snapshots": Metric("gauge", "containerd's snapshots, by containerd's kinds.", ("kind",)),
    "lamella_host_free_bytes": Metric(
        "gauge", "Free on the file system that holds the pool's sparse files (loop-lvm only)."
    ),
    "lamella_group_free_bytes": Metric(
        "gauge", "In free extents of the pool's volume group (direct-lvm only)."
    ),
    "lamella_usage_exclusive_bytes": Metric(
        "gauge", "Data that one device alone maps, by what that is for.", ("kind",)
    ),
    "lamella_usage_shared_bytes": Metric(
        "gauge", "Data that others map too, counted where it was written.", ("kind",)
    ),
    "lamella_usage_age_seconds": Metric("gauge", "Age of the numbers named lamella_usage_*."),
    "lamella_usage_duration_seconds": Metric("gauge", "How long counting them took."),
    "lamella_operations_total": Metric(
        "counter", 'Operations of services, by result: "ok" or "error".', ("operation", "result")
    ),
    "lamella_operation_duration_seconds": Metric(
        "histogram", "How long operations of services took.", ("operation",)
    ),
    "lamella_control_commands_total": Metric(
        "counter",
        'Commands carried out for other processes, by result: "ok" or "error".',
        ("command", "result"),
    ),
    "lamella_control_command_duration_seconds": Metric(
        "histogram", "How long commands that were carried out for other processes took.", ("command",)
    ),
    "lamella_errors_total": Metric(
        "counter", "Operations and commands that failed, by class of error.", ("error",)
    ),
}
