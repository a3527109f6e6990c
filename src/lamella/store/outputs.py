# SPDX-License-Identifier: Apache-2.0
"""Output targets: a stream of the caller, or a file that is complete once it exists."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.images.output import output_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@contextmanager
def output(target: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    """The stream *target* as it is, or the file of that name as :func:`output_file` makes it."""
    if isinstance(target, str | os.PathLike):
        with output_file(Path(target)) as file:
            yield file
    else:
        yield target
