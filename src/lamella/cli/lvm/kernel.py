# SPDX-License-Identifier: Apache-2.0
"""The kernel's device-mapper as the options and ``lvm.conf`` let a command use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm.settings import profile_folders
from lamella.errors import LamellaError, MissingError

if TYPE_CHECKING:
    from lamella.cli.lvm.console import Console
    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.devicemapper.client import DeviceMapper
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.session.config import Config

NO_KERNEL = "Cannot {} {}: this needs device-mapper of the kernel, and root."
NO_DRIVER = """\
Failure to communicate with kernel device-mapper driver.
Check that device-mapper is available in the kernel."""


def open_device_mapper() -> DeviceMapper:
    """The kernel's device-mapper, whatever the settings say. Raises :class:`MissingError` in LVM2's words."""
    from lamella.devicemapper.client import CONTROL, DeviceMapper

    try:
        return DeviceMapper()
    except LamellaError as error:
        cause = error.__cause__
        why = f"{CONTROL}: open failed: {cause.strerror}" if isinstance(cause, OSError) else error.message
        raise MissingError(f"{why}\n{NO_DRIVER}") from error


def accepts_partial(args: Arguments, config: Config) -> bool:
    """Whether volumes of which disks are missing may be activated: ``--partial``, or an activation mode."""
    mode = args.text("activationmode") or config.text("activation/activation_mode")
    return args.has("partial") or mode == "partial"


def make_activator(config: Config, args: Arguments, console: Console) -> KernelActivator | None:
    """The activator, set up as LVM2's settings say.

    None where device-mapper is not to be used (``global/activation=0``), is absent, or needs root.
    """
    if not config.flag("global/activation") or not Path("/dev/mapper/control").exists():
        return None
    from lamella.devicemapper.client import DeviceMapper
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.activation.device_tree import Settings

    if not DeviceMapper.available():
        return None
    try:
        dm = DeviceMapper()
    except LamellaError as error:
        console.verbose(error.message)
        return None

    def threshold(group: VolumeGroup, lv: LogicalVolume) -> int:
        from lamella.lvm.session.profile import auto_extend

        return auto_extend(config, lv.profile or group.profile, profile_folders(args, config)).threshold

    said: set[str] = set()

    def warn_once(text: str) -> None:
        if text not in said:
            said.add(text)
            console.warn(text)

    settings = Settings(
        threshold,
        partial=accepts_partial(args, config),
        read_only=args.has("readonly"),
        disabled=frozenset(config.strings("global/thin_disabled_features")),
        warn=warn_once,
    )
    checks = config.find("global/thin_check_executable") != ""
    wanted = (config.flag("activation/monitoring") or args.has("monitor")) and not args.has(
        "ignoremonitoring"
    )
    return KernelActivator(dm, settings, check_pools=checks, monitor=wanted, warn=console.warn)
