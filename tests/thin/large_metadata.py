# SPDX-License-Identifier: Apache-2.0
"""Large thin metadata, the same each time, in the XML form that ``thin_restore`` reads."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Run = tuple[int, int, int, int]
"""Origin's block, data block, length in blocks, time."""
CHUNK = 128
"""Sectors."""


def large_xml(mappings: int, devices: int, single: float, seed: int) -> Iterator[str]:
    """About *mappings* data blocks mapped by *devices* devices; about half are snapshots of earlier ones.

    *single* is the probability that a run is one block long. A snapshot shares some 70 % of its origin.
    """
    chooser = random.Random(seed)
    per_device, free = mappings // devices, 0
    made: list[list[Run]] = []
    for time in range(1, devices + 1):
        runs: list[Run] = []
        if made and chooser.random() < 0.5:
            for run in chooser.choice(made):
                origin, data, length, _ = run
                chance = chooser.random()
                if chance < 0.7:
                    runs.append(run)
                elif chance < 0.9 and length > 1:
                    kept, new = length // 2, length - length // 2
                    runs += [(origin, data, kept, run[3]), (origin + kept, free, new, time)]
                    free += new
                elif chance < 0.95:
                    runs.append((origin, free, length, time))
                    free += length
        else:
            origin, done = chooser.randint(0, 1000), 0
            while done < per_device:
                length = 1 if chooser.random() < single else chooser.randint(2, 64)
                runs.append((origin, free, length, time))
                free += length
                done += length
                if chooser.random() < 0.1:
                    free += chooser.randint(0, 3)
                origin += length + (0 if chooser.random() < 0.3 else chooser.randint(1, 20))
        made.append(runs)
    yield (
        f'<superblock uuid="" time="{devices + 1}" transaction="42" flags="0" version="2" '
        f'data_block_size="{CHUNK}" nr_data_blocks="{free + 5000}">\n'
    )
    for time, runs in enumerate(made, 1):
        yield (
            f'  <device dev_id="{time * 7}" mapped_blocks="{sum(run[2] for run in runs)}" '
            f'transaction="{time}" creation_time="{time}" snap_time="{time}">\n'
        )
        for origin, data, length, when in runs:
            if length == 1:
                yield f'    <single_mapping origin_block="{origin}" data_block="{data}" time="{when}"/>\n'
            else:
                yield (
                    f'    <range_mapping origin_begin="{origin}" data_begin="{data}" length="{length}" '
                    f'time="{when}"/>\n'
                )
        yield "  </device>\n"
    yield "</superblock>\n"
