# SPDX-License-Identifier: Apache-2.0
"""Limits of dm-thin that programs outside the format have to keep to as well.

Source: the kernel's ``drivers/md/dm-thin.c`` and ``dm-thin-metadata.c``.
"""

MAX_DEVICE_ID = (1 << 24) - 1
"""The largest id of a thin device (``MAX_DEV_ID``)."""
MIN_CHUNK = 64 << 10
MAX_CHUNK = 1 << 30
"""Bytes of a chunk at least and at most (``DATA_DEV_BLOCK_SIZE_MIN_SECTORS``, ``..._MAX_SECTORS``); it is a
multiple of the least."""
