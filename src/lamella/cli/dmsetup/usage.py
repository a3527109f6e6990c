# SPDX-License-Identifier: Apache-2.0
"""The text of ``dmsetup help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

TEXT = """\
Usage:

dmsetup
        [--version] [-h|--help]
        [-v|--verbose] [--manglename {none|hex|auto}]
        [--noflush] [--inactive]
        [-c|-C|--columns] [-o <fields>] [-O|--sort <sort_fields>]
        [--nameprefixes] [--unquoted] [--noheadings] [--rows]
        [--separator <separator>]
        [--root <folder>] [--engine {auto|user|kernel}] [--wait <seconds>]

\thelp
\tls [--target <target_type>] [-o <options>] [--tree]
\tinfo [<device>...]
\tdeps [-o <options>] [<device>...]
\tmknodes [<device>...]
\tstatus [<device>...] [--noflush] [--target <target_type>]
\ttable [<device>...] [--concise] [--target <target_type>] [--showkeys]
\ttargets
\tversion

<device> may be device name or (if only one) -u <uuid> or -j <major> -m <minor>
<fields> are comma-separated.  Use 'info -c -o help' for list.
Options are: devno, devname, blkdevname.
Tree specific options are: ascii, utf, vt100; compact, inverted, notrunc;
                           blkdevname, [no]device, active, open, rw and uuid.
With --engine user, or without the kernel's device-mapper: what it would have of the store in
--root. Devices are made, changed and removed by Lamella's other commands, or by dmsetup itself.
"""


def subcommands() -> list[str]:
    """The commands that it lists."""
    return [line.split()[0] for line in TEXT.splitlines() if line.startswith("\t")]


def usage(stream: TextIO) -> None:
    """Print it."""
    stream.write(TEXT)
