# SPDX-License-Identifier: Apache-2.0
"""A Debian guest with a real kernel, device-mapper, LVM2, Docker and the thin tools, for tests and benchmarks.

Two monitors run it: User-mode Linux, a kernel that is an ordinary process (``uml.py``), and QEMU by software
emulation (``qemu.py``). Both boot the same root images (``roots.py``) with the same ``init.sh``. Neither needs
root. What is made is kept in LAMELLA_GUEST_CACHE (or ``~/.cache/lamella-guest``).
"""
