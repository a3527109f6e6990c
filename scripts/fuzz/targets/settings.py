# SPDX-License-Identifier: Apache-2.0
"""What people write: sizes, options, selections, templates, changes of an image, and files of settings."""

from __future__ import annotations

import json
import subprocess
import traceback
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from scripts.fuzz.mutate import mutate_json
from scripts.fuzz.target import Target

from lamella import units
from lamella.cli.go_template import Template
from lamella.devicemapper.table import parse_table
from lamella.driver import options
from lamella.driver.direct_lvm.record import Record
from lamella.errors import LamellaError
from lamella.fs import acl
from lamella.fs.ext4.mkfs_options import parse_options
from lamella.images.credentials import find_credentials
from lamella.lvm.format.dump import parse_settings
from lamella.lvm.operations import sizes
from lamella.lvm.report.selection import Selection
from lamella.lvm.report.times import parse_period
from lamella.lvm.session.system_devices import SystemDevices
from lamella.store.dockerfile_instructions import apply_changes
from lamella.store.filters import moment

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA: dict[str, object] = {
    "Id": "1",
    "Names": ["a", "b"],
    "Config": {"Env": ["A=1"], "Labels": {"x": None}},
    "Size": 1.5,
}
_DATA["Label"] = "text".__add__


def _ends(readers: dict[str, Callable[[], object]]) -> object:
    """How each reader ends; what is no LamellaError is raised when all have been asked."""
    ends, faults = [], []
    for name, reader in readers.items():
        try:
            ends.append((name, type(reader())))
        except LamellaError as error:
            *_, (_, line) = traceback.walk_tb(error.__traceback__)
            ends.append((name, line))
        except Exception as error:
            faults.append(error)
    if faults:
        raise faults[0]
    return tuple(ends)


def _read_words(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    return _ends(
        {
            "size": lambda: units.parse_size(text),
            "LVM size": lambda: sizes.parse_size(text, signs="+-"),
            "extents": lambda: sizes.parse_extents(text, signs="+-"),
            "number": lambda: sizes.parse_number(text, signs="+-"),
            "period": lambda: parse_period(text),
            "moment": lambda: moment(text),
            "settings": lambda: parse_settings(text),
            "option": lambda: options.parse([text], partial=True),
            "direct option": lambda: options.parse([text], "direct-lvm", partial=True),
            "mke2fs": lambda: parse_options(text.split()),
            "table": lambda: parse_table(text),
            "list of rights": lambda: acl.from_text(data),
            "rights": lambda: acl.to_text(data),
        }
    )


def _read_expression(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    return _ends(
        {
            "volumes": lambda: Selection.parse(text, "lvs"),
            "disks": lambda: Selection.parse(text, "pvs"),
            "template": lambda: Template(text).render(_DATA),
            "change": lambda: apply_changes({"Env": ["A=1"]}, [text]),
        }
    )


def _read_files(data: bytes) -> object:
    path = Path("settings")
    path.write_bytes(data)
    answer = subprocess.CompletedProcess([], 0, b'{"Username": "u", "Secret": "s"}', b"")
    with patch("lamella.images.credentials.programs.run", lambda *_a, **_n: answer):
        return _ends(
            {
                "record": lambda: Record.load(path),
                "credentials": lambda: find_credentials("a.b:5000", path),
                "devices": lambda: SystemDevices.read(path),
            }
        )


_WORDS = (
    b"10G|1.5GiB|100%FREE|+20%VG|-3|0x10k|4096s|16e|@1700000000|yesterday|2024-01-02 03:04:05|3 weeks ago|"
    b"last monday|2024-01|seqno=5,pvmetadatacopies=1|dm.basesize=10G|dm.thinp_percent=95|dm.fs=xfs|"
    b"dm.mountopt=nodiscard|-b 4096 -O ^has_journal,quota -E stride=4,root_owner=1:2|-J size=4 -i 8192 -L a|"
    b"0 2048 linear 8:1 0|0 8 thin-pool 7:0 7:1 128 0 1 skip_block_zeroing|0 8 thin 7:2 1|0 8 error|"
    b"0 64 striped 2 16 7:0 0 7:1 0|user::rwx,user:1000:r--,mask::rwx,group::r-x,other::---|"
    b"2024-01-02T03:04:05.678Z|10m|1h30m"
)
_EXPRESSIONS = [
    b'lv_size > 10m && (lv_name =~ "^a.*b$" || !(lv_tags = {"x" && "y"}))',
    b"pv_free >= 1.5g || vg_name != vg1",
    b'lv_time since "2024-01-01" && lv_attr=~"^V"',
    b'{{range $i, $n := .Names}}{{if eq $n "a"}}{{$i}}{{else}}{{printf "%5s" $n}}{{end}}{{end}}',
    b"{{json .Config}} {{index .Config.Env 0 | upper}} {{with .Size}}{{.}}{{end}}",
    b'{{len .Names}}{{join .Names ","}} {{.Label "x"}}{{pad "a" 1 2}}{{(index .Names 0)}}',
    b'CMD ["/bin/sh", "-c", "x"]',
    b"ENV A=1 B=\"x y\" C='z'",
    b"EXPOSE 80/tcp 90-95/udp",
    b"VOLUME /a /b",
    b"LABEL a.b=c",
    b"STOPSIGNAL SIGTERM",
    b"ONBUILD RUN x",
    b"HEALTHCHECK --interval=5s CMD true",
]
_FILES = [
    json.dumps(
        {
            "auths": {"a.b:5000": {"auth": "dTpw", "identitytoken": "t"}, "https://index.docker.io/v1/": {}},
            "credHelpers": {"c.d": "pass"},
        }
    ).encode(),
    json.dumps({"auths": {}, "credsStore": "store"}).encode(),
    json.dumps(
        {
            "group": "vg", "pool": "pool", "made": True, "disks": {"/dev/sda": "u"}, "group_uuid": "g",
            "pool_uuid": "p", "profile": "", "ready": True, "version": 1,
        }
    ).encode(),
    b"# LVM uses devices listed in this file.\nVERSION=1.1.5\nSYSTEMID=host\n"
    b"IDTYPE=loop_file IDNAME=/x/y DEVNAME=/dev/loop0 PVID=abcdefghijklmnopqrstuvwxyz012345 PART=1\n",
    b"/dev/sda\n/dev/sdb\n",
]  # fmt: skip
_PIECES = "² ٣ 9999999999999999999999 1e400 nan inf 0x -0 %VG since && || ! ( ) { } [ ] =~ !~ \" ' \\ {{ }}"
_PIECES += (
    " {{end}} {{range .}} .Config PART=² VERSION=1.² PART= IDTYPE= dm. stride= resize= @² 31 02-30 \u202e"
)

TARGETS = [
    Target("words", lambda: _WORDS.split(b"|"), _read_words, words=tuple(_PIECES.encode().split()),
           large=lambda: [b"9" * 60_000, b"1." + b"0" * 60_000, b"9" * 5000 + b".5G", b"@" + b"1" * 5000]),
    Target("expressions", lambda: list(_EXPRESSIONS), _read_expression, words=tuple(_PIECES.encode().split()),
           large=lambda: [b"(" * 60_000, b"!" * 60_000, b"{{if .}}" * 10_000, b"CMD " + b"[" * 60_000,
                          b"{{" + b"(" * 50_000 + b"}}", b"lv_name=~" + b"(" * 50_000]),
    Target("settings", lambda: list(_FILES), _read_files, words=tuple(_PIECES.encode().split()),
           mutate=mutate_json,
           large=lambda: [b"[" * 100_000, b'{"auths":' * 50_000, b"VERSION=1.1." + b"9" * 5000,
                          b"IDTYPE=x PART=" + b"9" * 5000]),
]  # fmt: skip
