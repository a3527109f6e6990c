# SPDX-License-Identifier: Apache-2.0
"""The environment variables that Lamella goes by, for the reference and the man pages.

Each is read where it is needed; a test compares this list with the sources.
"""

from __future__ import annotations

VARIABLES = {
    "LAMELLA_ROOT": "The store's folder, where --root names none. Without both: /var/lib/lamella for root, "
    "else lamella in the user's data folder ($XDG_DATA_HOME or ~/.local/share).",
    "LAMELLA_ENGINE": "The engine, where --engine names none: auto, user or kernel.",
    "LAMELLA_DEVICES": "For the LVM commands and direct-lvm: the disks to look at, separated by commas: "
    "files, block devices or NBD addresses.",
    "LAMELLA_DEBUG": "Not empty: a fault of Lamella shows its traceback.",
    "NO_COLOR": "Set: no colours in error messages.",
    "TERM": "dumb: no colours and no progress bar.",
    "PATH": "Where helper programs such as mkfs.xfs are looked for, besides /usr/sbin and /sbin.",
    "DOCKER_CONFIG": "The folder of Docker's config.json, whose credentials pull uses; by default ~/.docker.",
    "LVM_SYSTEM_DIR": "For the LVM commands and direct-lvm: the folder of lvm.conf; by default /etc/lvm.",
    "LVM_VG_NAME": "For the LVM commands: the volume group of names that have none.",
    "OPENBLAS_NUM_THREADS": "Set to 1 by the thin tools where it is not set: numpy needs no threads.",
}
