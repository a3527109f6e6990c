# SPDX-License-Identifier: Apache-2.0
"""``python -m scripts.docker_stores``: make all missing stores, in parallel, and print their folders."""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from scripts.docker_stores import recipes
from scripts.docker_stores.making import MakingFailed, store
from scripts.guest.roots import NotMade


def _one(kind: tuple[str, str]) -> str:
    return f"{' '.join(kind)}: {store(*kind, recipes.STATES[0]).parent}"


try:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as guests:
        for line in guests.map(_one, itertools.product(recipes.MODES, recipes.FILE_SYSTEMS)):
            print(line, flush=True)
except (MakingFailed, NotMade, FileNotFoundError) as error:
    sys.exit(f"Docker's stores: {error}")
