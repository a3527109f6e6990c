# SPDX-License-Identifier: Apache-2.0
"""``python -m scripts.docker_stores``: make all stores that are not there, and say where they are."""

from __future__ import annotations

import itertools
import time

from scripts.docker_stores import recipes
from scripts.docker_stores.making import store

for mode, fs in itertools.product(recipes.MODES, recipes.FILE_SYSTEMS):
    started = time.monotonic()
    folder = store(mode, fs, recipes.STATES[0]).parent
    print(f"{mode} {fs}: {folder} ({time.monotonic() - started:.1f} s)", flush=True)
