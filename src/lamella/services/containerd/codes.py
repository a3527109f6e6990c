# SPDX-License-Identifier: Apache-2.0
"""The code and the text with which the service answers an error.

containerd makes one of its own errors of the code (``errgrpc.ToNative`` in github.com/containerd/errdefs/pkg
v0.3.0), and acts on some: ALREADY_EXISTS while unpacking means that the snapshot is there, and NOT_FOUND
while removing that it is gone. The same function reads FAILED_PRECONDITION as another error if the text ends
in ``: conflict`` or ``: not modified``, which no text of Lamella's does.
"""

from __future__ import annotations

import traceback

import grpc

from lamella import logs
from lamella.block.system import explain
from lamella.errors import (
    BadInputError,
    BusyError,
    CorruptError,
    DeviceIOError,
    ExistsError,
    LamellaError,
    MissingError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    UnsupportedError,
    UsageError,
)
from lamella.remedies import hint_of

log = logs.logger(__name__)

CODES: dict[type[LamellaError], grpc.StatusCode] = {
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ExistsError: grpc.StatusCode.ALREADY_EXISTS,
    UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    BadInputError: grpc.StatusCode.INVALID_ARGUMENT,
    BusyError: grpc.StatusCode.FAILED_PRECONDITION,
    ReadOnlyError: grpc.StatusCode.FAILED_PRECONDITION,
    NoSpaceError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    CorruptError: grpc.StatusCode.DATA_LOSS,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    MissingError: grpc.StatusCode.UNAVAILABLE,
    NetworkError: grpc.StatusCode.UNAVAILABLE,
    DeviceIOError: grpc.StatusCode.INTERNAL,
}
_LONGEST = 2000
"""Bytes of a text. It is a header of HTTP/2, where each byte may become three; gRPC's clients take 8 KiB."""


def answer(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code that stands for *error*, and what to say."""
    if isinstance(error, OSError):
        error = explain(error, "use", str(error.filename or "an open file"))
    if isinstance(error, MemoryError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, "there is not enough memory"
    if not isinstance(error, LamellaError):
        log.info("internal error\n%s", "".join(traceback.format_exception(error)).rstrip())
        return grpc.StatusCode.INTERNAL, _short(f"internal error: {type(error).__name__}: {error}")
    code = next((CODES[known] for known in type(error).__mro__ if known in CODES), grpc.StatusCode.INTERNAL)
    hint = hint_of(error)
    return code, _short(f"{error.message} ({hint})" if hint else error.message)


def _short(text: str) -> str:
    encoded = text.encode(errors="backslashreplace")
    if len(encoded) <= _LONGEST:
        return encoded.decode()
    return encoded[: _LONGEST - 3].decode(errors="ignore") + "..."
