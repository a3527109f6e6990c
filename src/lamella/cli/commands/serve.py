# SPDX-License-Identifier: Apache-2.0
"""Keep the store open and carry out the commands of other processes, until a signal ends it.

While it runs, commands of the store run inside it through ROOT/run/control.sock, with the same output and
exit codes; many may run at once. SIGTERM or Ctrl-C stops it: commands that run may end first. systemd is told
when it is ready, and may pass the sockets. The log goes to standard error."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import lamella
from lamella import interruptible, logs
from lamella.cli.hosted import COMMANDS as hosted_names
from lamella.cli.hosted import command_of
from lamella.cli.hosted_commands import HostedCommands
from lamella.cli.log_output import configure as configure_log
from lamella.cli.log_output import plain
from lamella.cli.log_output import share as share_log
from lamella.cli.parsing import seconds
from lamella.errors import BusyError, LamellaError
from lamella.services.control.service import ControlService
from lamella.services.daemon import activation, records
from lamella.services.daemon.daemon import Daemon
from lamella.services.daemon.descriptor_store import DescriptorStore
from lamella.services.daemon.notify import Notifier

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from lamella.driver.device_nodes import DeviceNodes
    from lamella.driver.device_set import DeviceSet
    from lamella.services.control.protocol import Request
    from lamella.services.daemon.daemon import Service
    from lamella.services.metrics.operations import Operations

log = logs.logger(__name__)

NOT_IMPORTED = (
    *("lamella.__main__", "lamella.services", "lamella.cli.lvm", "lamella.cli.dmsetup", "lamella.cli.thin"),
    "lamella.cli.start",
)
"""Modules that no command of the store needs; services are loaded where they are asked for."""
LATE_IMPORTS = (
    *("blake3", "bz2", "concurrent.futures.thread", "ctypes", "encodings.idna", "gzip", "http.client"),
    *("isal.igzip", "lzma", "platformdirs", "queue", "secrets", "ssl", "tempfile", "tomlkit", "urllib3"),
    *("xml.parsers.expat", "zoneinfo", "zstandard", "lamella.services.runtime_config.writing"),
)
"""What functions import of other packages."""

EXAMPLE = """\
example:
  lamella serve
  lamella serve --containerd --metrics 127.0.0.1:9110
"""
SOCKETS = ("control",)
"""The names of sockets that the service manager may pass."""
KEPT = "fuse"
"""The name of the descriptor that it keeps while the daemon restarts."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--containerd",
        metavar="SOCKET",
        nargs="?",
        const="",
        help="be containerd's snapshotter at SOCKET (default: ROOT/run/containerd.sock)",
    )
    parser.add_argument(
        "--content",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="a content store of containerd's to unpack layers from; may be repeated (default: those of "
        "containerd, Docker, k3s and RKE2 in their usual places)",
    )
    parser.add_argument(
        "--async-remove",
        action="store_true",
        help="remove containerd's snapshots when it cleans up, and not while it waits",
    )
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS",
        help="serve metrics to Prometheus at HOST:PORT, :PORT, [IPv6]:PORT or unix:/path",
    )
    parser.add_argument(
        "--stop-timeout",
        metavar="SEC",
        type=seconds,
        default=30.0,
        help="when stopping, wait that long for commands to end before they are rolled back (default 30)",
    )
    parser.add_argument(
        "--log-format",
        choices=records.FORMATS,
        help="default: journal if standard error is systemd's journal, else text",
    )


def run(args: argparse.Namespace) -> int:
    from lamella.store.hosting import HostedStore

    name = args.log_format or records.default_format(os.environ.get("JOURNAL_STREAM", ""))
    interruptible.share_memory()
    _import_all()
    share_log()
    configure_log(verbose=True, debug=args.debug, formatter=records.formatter(name, plain), stream=sys.stderr)
    # Taken out of the environment: no program that is started is to speak for this process.
    notifier = Notifier(
        os.environ.pop("NOTIFY_SOCKET", ""),
        os.environ.pop("WATCHDOG_USEC", ""),
        os.environ.pop("WATCHDOG_PID", ""),
    )
    passed = (
        os.environ.pop("LISTEN_FDS", ""),
        os.environ.pop("LISTEN_PID", ""),
        os.environ.pop("LISTEN_FDNAMES", ""),
    )
    sockets = activation.passed_sockets(SOCKETS, *passed, kept=KEPT)
    store = DescriptorStore(notifier, KEPT, activation.passed_descriptor(KEPT, *passed))
    _leave_terminal()
    notifier.tell(STATUS="opening the store")
    make_nodes = None
    if args.containerd is not None:
        make_nodes = _loop_devices(args.root, store if notifier.listens else None)
    if not notifier.listens:
        store.discard()
    with HostedStore.open(
        args.root, engine=args.engine, wait=args.wait, make_nodes=make_nodes, async_remove=args.async_remove
    ) as hosted:
        if make_nodes is None or hosted.engine == "kernel":
            _end_what_is_kept(hosted.root / "run", store)
        services: list[Service] = []
        operations: Operations | None = None
        if args.metrics is not None:
            from lamella.services.metrics import MetricsService

            metrics = MetricsService(hosted, args.metrics)
            operations = metrics.operations
            services.append(metrics)
        if args.containerd is not None:
            from lamella.services.containerd.content import Content
            from lamella.services.containerd.service import SnapshotService

            with suppress(LamellaError):  # a full pool is served all the same, so that things can be removed
                hosted.snapshots.base()
            address = Path(args.containerd).absolute() if args.containerd else None
            observe = partial(_observe_call, operations)
            services.append(SnapshotService(hosted, address, observe, content=Content(args.content)))
        control = ControlService(
            hosted.root / "run",
            HostedCommands(),
            listening=sockets.get("control"),
            stop_timeout=args.stop_timeout,
            observe=partial(_observe_command, operations),
        )
        services.append(control)

        def answers() -> None:
            # A command that has the store alone for a while, such as grow, is at work.
            with suppress(BusyError), hosted.store(read_only=True) as store:
                store.images()

        Daemon(services, notifier, answers=answers, hurry=control.interrupt).run()
        if control.running:
            # It waits for something that nothing ends, and the store for it. What it has not finished is
            # rolled back when the store is next opened.
            log.info("ending although commands have not ended")
            os._exit(1)
    return 0


def _loop_devices(root: str | None, store: DescriptorStore | None) -> Callable[[DeviceSet], DeviceNodes]:
    """How the user engine's snapshots become block devices, which containerd mounts. *store* keeps what is
    mounted while the daemon restarts; None: a process does."""
    from lamella.services.fuse.keeping import KeeperProcess
    from lamella.services.fuse.loop_nodes import LoopNodes
    from lamella.store.root import Root

    run = Root.at(root).run
    keeping = store or KeeperProcess(run)
    return lambda devices: LoopNodes(devices, run / "fuse", keeping)


def _end_what_is_kept(run: Path, store: DescriptorStore) -> None:
    """End what an earlier daemon has handed over: this one does not serve it, and nobody is to wait."""
    store.discard()
    if (run / "fuse.json").exists():
        from lamella.services.fuse import handover, leftovers
        from lamella.services.fuse.server import without_links

        handover.take(run / "fuse.json")
        leftovers.clear(without_links(run / "fuse"))


def _observe_call(operations: Operations | None, method: str, seconds: float, code: str) -> None:
    if operations is not None:
        operations.observe(method, seconds, "ok" if code == "OK" else code)


def _observe_command(operations: Operations | None, request: Request, seconds: float, code: int) -> None:
    name = command_of(request.arguments)
    if operations is not None and name in hosted_names:
        operations.observe_command(name, seconds, code)


def _import_all() -> None:
    """Load all that commands may need, before there is one.

    No client waits for it then; and no command is interrupted in the middle of an import, which could leave
    the lock of a module held for ever.
    """
    for found in pkgutil.walk_packages(lamella.__path__, "lamella."):
        if not found.name.startswith(NOT_IMPORTED):
            importlib.import_module(found.name)
    for name in LATE_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)


def _leave_terminal() -> None:
    """Give up the terminal that this was started from: else the clients' input could stop the process.

    The kernel stops a process in the background that reads from its own terminal, and not from another's.
    Ctrl-C still reaches it there. The leader of a session cannot do without ending the others.
    """
    import fcntl
    import termios

    if os.getsid(0) == os.getpid():
        return
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # there is none
        return
    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        os.close(terminal)
