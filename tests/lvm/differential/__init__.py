# SPDX-License-Identifier: Apache-2.0
"""Random sessions of LVM2's commands, by the real program and by ours on the same disks.

``python -m tests.lvm.differential`` runs many of them (``--help``); ``test_lines.py`` has
some that were kept.
"""
