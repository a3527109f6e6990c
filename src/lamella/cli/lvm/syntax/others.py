# SPDX-License-Identifier: Apache-2.0
"""What the commands that begin with neither pv, vg nor lv accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import PARTIAL, REPORT, Command

FULLREPORT = Command(
    "fullreport",
    "Display full report",
    options=REPORT,
    unlisted=PARTIAL,
    forms="""\
  fullreport [VG...]
    optional: all options select sort aligned binary configreport foreign ignorelockingfailure logonly
      nameprefixes noheadings nosuffix readonly reportformat rows separator shared unbuffered units unquoted
""",
)

LASTLOG = Command(
    "lastlog",
    "Display last command's log report",
    options="--reportformat=basic|json|json_std -S|--select=String",
    forms="""\
  lastlog
    optional: select reportformat
""",
)

DEVTYPES = Command(
    "devtypes",
    "Display recognised built-in block device types",
    options=(
        "--aligned --binary --nameprefixes --noheadings --nosuffix --reportformat=basic|json|json_std --rows "
        "--separator=String --unbuffered --unquoted -O|--sort=String -S|--select=String -o|--options=String"
    ),
    forms="""\
  devtypes
    optional: options select sort aligned binary nameprefixes noheadings nosuffix reportformat rows
      separator unbuffered unquoted
""",
)

SEGTYPES = Command("segtypes", "List available segment types", options="", forms="  segtypes\n")

FORMATS = Command("formats", "List available metadata formats", options="", forms="  formats\n")

TAGS = Command("tags", "List tags defined on this host", options="", forms="  tags\n")

SYSTEMID = Command(
    "systemid", "Display the system ID, if any, currently set on this host", options="", forms="  systemid\n"
)

VERSION = Command(
    "version", "Display software and driver version information", options="", forms="  version [String...]\n"
)
