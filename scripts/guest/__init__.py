# SPDX-License-Identifier: Apache-2.0
"""A Debian guest with a real kernel, device-mapper, LVM2 and Docker, for tests and benchmarks.

User-mode Linux runs it, a kernel that is an ordinary process (``uml.py``), or QEMU by software emulation
(``qemu.py``). Both boot the same root images (``roots.py``) with the same ``init.sh``. Neither needs root.
What is made is kept in LAMELLA_GUEST_CACHE (or ``~/.cache/lamella-guest``).
"""
