# SPDX-License-Identifier: Apache-2.0
"""What services did: counted by operation and result, timed, and failures by class of error.

Services do not import this: they are given :meth:`Operations.observe` to call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram, disable_created_metrics

from lamella import errors
from lamella.services.metrics.table import TABLE

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

COUNTED = (
    "lamella_operations_total",
    "lamella_operation_duration_seconds",
    "lamella_control_commands_total",
    "lamella_control_command_duration_seconds",
    "lamella_errors_total",
)
"""The metrics that are made here; all others are read."""

OK = "ok"
OTHER = "Exception"
"""Stands for errors that are no :class:`lamella.errors.LamellaError`: defects, and the system's."""

ERRORS = (
    *sorted(
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.LamellaError)
    ),
    OTHER,
)
"""The classes of errors. A class outside ``lamella.errors`` is counted as the one that it is derived from."""

CODES = {
    "NOT_FOUND": "NotFoundError",
    "ALREADY_EXISTS": "ExistsError",
    "INVALID_ARGUMENT": "UsageError",
    "FAILED_PRECONDITION": "BusyError",
    "RESOURCE_EXHAUSTED": "NoSpaceError",
    "UNIMPLEMENTED": "UnsupportedError",
    "DATA_LOSS": "CorruptError",
    "PERMISSION_DENIED": "PermissionDeniedError",
    "UNAVAILABLE": "MissingError",
}
"""What the snapshotter's answers with gRPC's codes are counted as: the most frequent class of each."""

EXIT_CODES = {0: OK} | {
    value.exit_code: name for name, value in vars(errors).items() if name in ERRORS and name != OTHER
}
"""What commands' exit codes are counted as; others are of what is none of our errors."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds. A snapshot takes milliseconds, a command over the control socket up to minutes."""


def error_name(name: str) -> str:
    """The one of :data:`ERRORS` for *name*, which is that of a class or of gRPC's code."""
    if name in ERRORS:
        return name
    if name in CODES:
        return CODES[name]
    kinds = [errors.LamellaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.__name__ == name:
            return next(base.__name__ for base in kind.__mro__ if base.__name__ in ERRORS)
    return OTHER


class Operations:
    """Counters of one daemon. The methods may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each one, which Prometheus itself does not need

        def counter(name: str) -> Counter:
            return Counter(name, TABLE[name].help, TABLE[name].labels, registry=registry)

        def histogram(name: str) -> Histogram:
            table = TABLE[name]
            return Histogram(name, table.help, table.labels, buckets=BUCKETS, registry=registry)

        self._operations = counter("lamella_operations_total")
        self._commands = counter("lamella_control_commands_total")
        self._errors = counter("lamella_errors_total")
        self._operation_times = histogram("lamella_operation_duration_seconds")
        self._command_times = histogram("lamella_control_command_duration_seconds")
        for error in ERRORS:  # so that the first error is an increase from 0
            self._errors.labels(error)

    def observe(self, operation: str, seconds: float, result: str) -> None:
        """Count one *operation*, such as "Prepare", that took *seconds*.

        *result* is "ok", or the name of the error's class, or gRPC's name of the code of the answer.
        Operations come from a service's own table, never from a request, as each one is a series for ever.
        """
        self._operation_times.labels(operation).observe(seconds)
        self._count(self._operations, operation, result)

    def observe_command(self, command: str, seconds: float, code: int) -> None:
        """Count one *command* that was carried out for another process, and ended with the exit *code*.

        As with operations, *command* is one of a table, never just what somebody sent.
        """
        self._command_times.labels(command).observe(seconds)
        self._count(self._commands, command, EXIT_CODES.get(code, OTHER))

    def _count(self, counter: Counter, name: str, result: str) -> None:
        well = result.lower() == OK
        counter.labels(name, OK if well else "error").inc()
        if not well:
            self._errors.labels(error_name(result)).inc()
