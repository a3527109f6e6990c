# SPDX-License-Identifier: Apache-2.0
"""The lock of what commands of the daemon share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from lamella.interruptible import SharedLock


def test_a_shared_lock_has_what_conditions_ask_for() -> None:
    """From Python 3.14 on they ask for ``locked``, too."""
    lock = SharedLock()
    changed = threading.Condition(lock)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as other:
        assert not lock.locked()
        with changed:
            assert lock.locked()
            assert other.submit(lock.locked).result()
            changed.notify_all()
        assert not other.submit(lock.locked).result()
    assert {name for name in dir(threading.RLock()) if not name.startswith("_")} <= set(dir(lock))
