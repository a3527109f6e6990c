# SPDX-License-Identifier: Apache-2.0
"""Show the pool's state, usage and settings, in the lines of ``docker info``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella._version import __version__
from lamella.cli.lists import add_format, print_rows
from lamella.cli.output import print_json, print_warnings
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

    from lamella.store.results import Info

EXAMPLE = """\
example:
  lamella info
  lamella info --json
  lamella info --format '{{.Driver}} {{.DockerRootDir}}'
"""
JSON = """\
containers          how many containers there are
images              how many images
mounted             how many of both are mounted, as seen from here
root                the store's folder
mode                "loop-lvm" or "direct-lvm"
engine              "user" or "kernel"
pool_name           the pool's name in device-mapper
chunk_size          bytes of a chunk
base_size           bytes of the base device
filesystem          "ext4" or "xfs"
device_names.*      the pool's files or devices, by docker info's labels
data_used           bytes of data in use
data_total          bytes of the data device
data_available      bytes that can still be written
metadata_used       bytes of metadata in use
metadata_total      bytes of the metadata device
metadata_available  bytes of metadata that are free
min_free            bytes that must be free before anything new is made
deferred_removal    dm.use_deferred_removal
deferred_deletion   dm.use_deferred_deletion
deferred_deleted    deleted devices that are still in use
library_version     Lamella's version and the engine's
warnings[]          warnings, also printed on standard error
state               the pool's state in a word
driver_status[]     docker info's lines, a pair of label and value each
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_format(parser, "-f")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        info = store.info()
    if args.json:
        print_json(info.as_dict())
        return 0
    if args.format:
        print_rows(args.format, [_fields(info)], {})
        return 0
    print(f"Containers: {info.containers}")
    if info.mounted:
        print(f" Mounted: {info.mounted}")
    print(f"Images: {info.images}")
    print("Storage Driver: devicemapper")
    for label, value in info.lines():
        print(f" {label}: {value}")
    print_warnings(info.warnings)
    return 0


def _fields(info: Info) -> dict[str, object]:
    """The fields of Docker's ``info`` that mean something here, for templates."""
    return {
        "Architecture": os.uname().machine,
        "Containers": info.containers,
        "ContainersPaused": 0,
        "ContainersRunning": 0,
        "ContainersStopped": info.containers,
        "DockerRootDir": info.root,
        "Driver": "devicemapper",
        "DriverStatus": [list(line) for line in info.lines()],
        "Images": info.images,
        "KernelVersion": os.uname().release,
        "Name": os.uname().nodename,
        "OSType": "linux",
        "ServerVersion": __version__,
        "Warnings": [f"WARNING: {warning}" for warning in info.warnings],
    }
