# SPDX-License-Identifier: Apache-2.0
"""What lvmconfig and its two other names accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import Command

_TYPES = "current|default|diff|full|list|missing|new|profilable|profilable-command|profilable-metadata"


def _command(name: str) -> Command:
    return Command(
        name,
        "Display and manipulate configuration information",
        options=(
            f"-f|--file=String -l|--list --atversion=String --typeconfig={_TYPES} --ignoreadvanced "
            "--ignoreunsupported --ignorelocal --mergedconfig --metadataprofile=String "
            "--sinceversion=String --showdeprecated --showunsupported --validate --withsummary "
            "--withcomments --withgeneralpreamble --withlocalpreamble --withspaces --unconfigured "
            "--withversions"
        ),
        forms=f"""\
  {name} [String...]
    optional: file list atversion typeconfig ignoreadvanced ignoreunsupported ignorelocal mergedconfig
      metadataprofile sinceversion showdeprecated showunsupported validate withsummary withcomments
      withgeneralpreamble withlocalpreamble withspaces unconfigured withversions
""",
    )


LVMCONFIG = _command("lvmconfig")
CONFIG = _command("config")
DUMPCONFIG = _command("dumpconfig")
