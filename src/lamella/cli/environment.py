# SPDX-License-Identifier: Apache-2.0
"""The environment variables that Lamella reads, for the reference and the man pages.

Each is read where it is needed; a test compares this list with the sources.
"""

from __future__ import annotations

VARIABLES = {
    "LAMELLA_ROOT": "The store's folder, unless --root is given. Default: /var/lib/lamella for root, else "
    "lamella in the user's data folder ($XDG_DATA_HOME or ~/.local/share).",
    "LAMELLA_ENGINE": "The engine, unless --engine is given: auto, user or kernel.",
    "LAMELLA_WAIT": "For how many seconds a command waits for another one that has the store, unless --wait "
    "is given. Default: 0.",
    "LAMELLA_DEVICES": "For the LVM commands and direct-lvm: the disks to look at, separated by commas: "
    "files, block devices or NBD addresses.",
    "LAMELLA_DEBUG": "If not empty, an internal error shows its traceback.",
    "LAMELLA_LOG": "What is logged, and where: LEVEL, LOGGER=LEVEL or several of these with commas between "
    "them, then :FILE to append to a file.",
    "NO_COLOR": "If set, error messages have no colours.",
    "TERM": "If dumb, there are no colours and no progress bar.",
    "PATH": "Searched for helper programs such as mkfs.xfs, besides /usr/sbin and /sbin.",
    "DOCKER_CONFIG": "The folder of Docker's config.json, whose credentials pull uses; by default ~/.docker.",
    "NOTIFY_SOCKET": "For serve, set by systemd: where it says that it is ready, and what it does.",
    "WATCHDOG_USEC": "For serve, set by systemd: within how many microseconds it is to be heard of.",
    "WATCHDOG_PID": "For serve, set by systemd: the process that WATCHDOG_USEC is for.",
    "LISTEN_FDS": "For serve, set by systemd: how many sockets it passes, from descriptor 3 on.",
    "LISTEN_PID": "For serve, set by systemd: the process that the sockets are for.",
    "LISTEN_FDNAMES": "For serve, set by systemd: the names of these sockets.",
    "JOURNAL_STREAM": "For serve, set by systemd: by which it sees that its log goes to the journal.",
    "XDG_DATA_HOME": "The user's data folder; see LAMELLA_ROOT.",
    "LVM_COMMAND_PROFILE": "For the LVM commands: the command profile, where --commandprofile names none.",
    "LVM_SYSTEM_DIR": "For the LVM commands and direct-lvm: the folder of lvm.conf; by default /etc/lvm.",
    "LVM_VG_NAME": "For the LVM commands: the volume group of volume names without one.",
    "OPENBLAS_NUM_THREADS": "Set to 1 by the thin tools if unset, so that numpy starts no threads.",
}
