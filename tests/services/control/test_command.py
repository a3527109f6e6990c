# SPDX-License-Identifier: Apache-2.0
"""A command's thread, interrupted where it may be and where it may not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import os, signal, sys, threading, time
from lamella import interruptible
from lamella.cli.hosted_commands import HostedCommands
from lamella.services.control import context, protocol
from lamella.services.control.command import Command, keep_interruptions

interruptible.share_memory()
context.install()
keep_interruptions()
begun, told = threading.Event(), []


class Runner(HostedCommands):
    def run(self, program, arguments):
        try:
            return work()
        except KeyboardInterrupt as error:
            told.append(getattr(error, "number", 2))
            return 130


def carry_out(number):
    request = protocol.Request("l", [], {}, umask=0o22, view="", encodings=["utf-8"] * 3)
    files = [os.open("/", os.O_PATH), *(os.open("/dev/null", os.O_RDWR) for _ in range(3))]
    command = Command(request, files, Runner(), "it")
    thread = threading.Thread(target=lambda: told.append(command.run()))
    thread.start()
    begun.wait()
    command.cancel(number)
    thread.join()
    command.close()
    print(*told)
"""


def run(program: str) -> str:
    """What a program prints that begins as above: it changes the process's streams and variables."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(("number", "raised"), [("SIGINT", 2), ("SIGTERM", 15), ("SIGHUP", 1)])
def test_the_exception_is_the_signals(number: str, raised: int) -> None:
    program = f"""
    def work():
        begun.set()
        while True:
            time.sleep(0.01)
    carry_out(signal.{number})
    """
    assert run(program) == f"{raised} 130\n"


def test_who_holds_a_lock_finishes_first() -> None:
    program = """
    def work():
        with lock:
            with lock:
                begun.set()
                time.sleep(0.5)
            told.append("inner")
            time.sleep(0.1)
            told.append("outer")
        told.append("not reached")
    lock = interruptible.make_lock()
    carry_out(2)
    """
    assert run(program) == "inner outer 2 130\n"


def test_an_interruption_on_its_way_waits_for_the_lock() -> None:
    program = """
    import ctypes
    def work():
        begun.set()
        # A C function that releases no interpreter lock: the exception is set, and arrives when it has ended.
        while not told:
            with lock:
                for _ in range(1000):
                    pass
                if counted.count != counted.done:
                    os._exit(3)
                counted.count += 1
                counted.done += 1
    class counted:
        count = done = 0
    lock = interruptible.make_lock()
    carry_out(15)
    with lock:
        print(counted.count == counted.done)
    """
    assert run(program) == "15 130\nTrue\n"


def test_it_is_raised_again_where_it_cannot_be_raised() -> None:
    program = """
    class Slow:
        def __del__(self):
            begun.set()
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                pass
    def work():
        one = Slow()
        del one
        told.append("survived")
        while True:
            time.sleep(0.01)
    carry_out(2)
    """
    assert run(program) == "survived 2 130\n"


def test_threads_of_a_command_are_its_own() -> None:
    program = """
    def work():
        os.environ["ONE"] = "mine"
        os.chdir("/proc")
        found = []
        def inside():
            found.extend([os.environ.get("ONE"), os.getcwd(), sys.stdout.fileno() > 2])
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        begun.set()
        told.extend(found)
        return 0
    carry_out(2)
    print(os.environ.get("ONE"), os.getcwd() == "/proc", sys.stdout.fileno())
    """
    assert run(program) == "mine /proc True 0\nNone False 1\n"


def test_a_command_that_is_over_is_not_interrupted() -> None:
    program = """
    def work():
        begun.set()
        return 7
    carry_out(2)
    """
    assert run(program).split()[-1] in ("7", "130")
