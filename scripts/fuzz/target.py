# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: a parser with inputs that it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


@dataclass(frozen=True)
class Target:
    """One parser.

    ``seeds`` makes valid inputs. ``read`` reads an input to its end, returns anything hashable by which
    outcomes differ (or None), and raises LamellaError for what it refuses; it may write only below the
    current folder. ``seconds`` of processor time and ``memory`` bytes are the most that one input may take.
    ``large`` makes further inputs that are tried once and not changed: long ones, on which work that grows
    with the square of its input shows. ``words`` are put into inputs. ``mutate``, if given, makes half of all
    changes in place of the general ones; ``reseal`` makes checksums right again after half of them.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    seconds: float = 2.0
    memory: int = 512 << 20
    large: Callable[[], list[bytes]] | None = None
    words: tuple[bytes, ...] = ()
    mutate: Callable[[Random, bytes], bytes] | None = None
    reseal: Callable[[bytearray], object] | None = None
