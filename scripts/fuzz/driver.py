# SPDX-License-Identifier: Apache-2.0
"""Runs a target on changed inputs in a child process with limits, and collects its faults."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import mmap
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from scripts.fuzz.mutate import LIMIT, mutate

from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.fuzz.target import Target

CORPUS = Path(__file__).parent / "corpus"
MESSAGE_LIMIT = 4000
"""Most characters of an error: longer ones flood a terminal."""
HANG = 90.0
"""Seconds after which an input that neither ends nor takes processor time is given up."""
_HEAD = 16
_MEMORY = "/dev/shm"
"""Where the files that a target makes lie, if the system has it: a file on a disk takes a millisecond."""
_READING = os.O_RDONLY
_CHANGES = {
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
}
_CHANGES |= {"os.chown", "os.utime", "os.setxattr", "os.removexattr", "os.mknod"}
_MAKES_SECOND = {"os.rename", "os.link", "os.symlink"}
"""Those of them that make their second path."""


class _TooSlow(BaseException):
    """An input took more processor time than its target allows."""


class _Wrote(BaseException):
    """A parser tried to write."""


@dataclass
class Fault:
    """What an input did: ``what`` in a line, ``detail`` a traceback."""

    what: str
    detail: str
    data: bytes


@dataclass
class Report:
    """``inputs`` tried, ``outcomes`` different ends seen, ``faults`` one for each kind."""

    inputs: int = 0
    outcomes: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)


def kept(target: Target) -> list[bytes]:
    """The inputs in ``corpus/``, by which a fault was found once."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]


def fuzz(target: Target, rounds: int, *, seed: int = 0, seconds: float = 0.0) -> Report:
    """Try the seeds, what is kept, the large inputs, and *rounds* changed inputs.

    With *seconds*, no longer than that. The same *seed* and *rounds* try the same inputs, if nothing hangs.
    """
    report = Report()
    until = time.monotonic() + seconds if seconds else 0.0
    first: int | None = 0
    memory = _MEMORY if os.path.isdir(_MEMORY) else None
    with mmap.mmap(-1, _HEAD + LIMIT) as shared:
        while first is not None:
            with tempfile.TemporaryDirectory(prefix="lamella-fuzz-", dir=memory) as folder:
                first = _run_child(target, folder, first, rounds, seed, until, shared, report)
    return report


def _run_child(
    target: Target,
    folder: str,
    first: int,
    rounds: int,
    seed: int,
    until: float,
    shared: mmap.mmap,
    report: Report,
) -> int | None:
    """One child's work from input *first* on; the number to go on with if it did not get to the end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            with open(writing, "w") as out:
                _Child(target, folder, shared, out).run(first, rounds, seed, until)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    text = _listen(child, reading, shared)
    _, status = os.waitpid(child, 0)
    for line in text.splitlines():
        entry = json.loads(line)
        if "key" in entry:
            data = bytes.fromhex(entry["data"])
            report.faults.setdefault(entry["key"], Fault(entry["key"], entry["detail"], data))
        else:
            report.outcomes = max(report.outcomes, entry["outcomes"])
    number = int.from_bytes(shared[:8], "little")
    report.inputs += number - first
    if status == 0:
        return None
    if os.WIFEXITED(status):
        raise RuntimeError(f"the fuzzing of {target.name} failed: see its traceback above")
    size = int.from_bytes(shared[8:16], "little")
    key = f"the process was ended by the signal {os.WTERMSIG(status)} (9: it hung)"
    report.faults.setdefault(key, Fault(key, "", shared[_HEAD : _HEAD + size]))
    report.inputs += 1
    return number + 1


def _listen(child: int, reading: int, shared: mmap.mmap) -> str:
    """What the child reports, until it ends; one that hangs is killed."""
    text, seen, since = b"", b"", time.monotonic()
    with open(reading, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], 1.0)
            if ready:
                data = pipe.read(1 << 16)
                if not data:
                    return text.decode()
                text += data
            if shared[:8] != seen:
                seen, since = shared[:8], time.monotonic()
            elif time.monotonic() - since > HANG:
                os.kill(child, signal.SIGKILL)


class _Child:
    def __init__(self, target: Target, folder: str, shared: mmap.mmap, out: Any) -> None:
        self._target = target
        self._folder = os.path.realpath(folder)
        self._shared = shared
        self._out = out
        self._armed = False
        self._outcomes: set[object] = set()
        self._reported: set[str] = set()

    def run(self, first: int, rounds: int, seed: int, until: float) -> None:
        os.chdir(self._folder)
        tempfile.tempdir = self._folder
        sys.dont_write_bytecode = True  # what is imported late would count as a write
        pool = [*self._target.seeds(), *kept(self._target)]
        inputs = pool + (self._target.large() if self._target.large is not None else [])
        self._limit()
        for number in range(first, len(inputs) + rounds):
            if until and time.monotonic() > until:
                break
            if number < len(inputs):
                data = inputs[number]
            else:
                random = Random(f"{seed} {self._target.name} {number}")
                data = mutate(random, self._target, random.choice(pool), pool)
            self._note(number, data)
            outcome = self._one(data)
            if outcome not in self._outcomes:
                self._outcomes.add(outcome)
                if number >= len(inputs) and len(pool) < 2000:
                    pool.append(data)
        else:
            number = len(inputs) + rounds
        self._note(number, b"")
        print(json.dumps({"outcomes": len(self._outcomes)}), file=self._out, flush=True)

    def _note(self, number: int, data: bytes) -> None:
        self._shared[:_HEAD] = number.to_bytes(8, "little") + len(data).to_bytes(8, "little")
        self._shared[_HEAD : _HEAD + len(data)] = data

    def _limit(self) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_AS, (used + self._target.memory,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, _too_slow)
        faulthandler.disable()  # a crash is reported by the parent
        sys.addaudithook(self._audit)

    def _one(self, data: bytes) -> object:
        signal.setitimer(signal.ITIMER_PROF, self._target.seconds)
        self._armed = True
        try:
            return "read", self._target.read(data)
        except LamellaError as error:
            if len(str(error)) > MESSAGE_LIMIT:
                return self._fault(
                    f"an error of {len(str(error)) >> 10} KiB: {type(error).__name__}", error, data
                )
            return type(error).__name__, tuple(_places(error))
        except (Exception, _TooSlow, _Wrote) as error:
            return self._fault(f"{type(error).__name__}: {str(error)[:80]}", error, data)
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _fault(self, what: str, error: BaseException, data: bytes) -> str:
        places = list(_places(error))
        place = next((f"{file}:{line}" for file, line in reversed(places) if "/lamella/" in file), "")
        kind = type(error).__name__
        key = kind if isinstance(error, _TooSlow | MemoryError) else f"{kind} at {place}"
        if key not in self._reported:
            self._reported.add(key)
            detail = what + "\n" + "".join(traceback.format_exception(error))
            entry = {
                "key": f"{key} ({place})" if place not in key else key,
                "detail": detail,
                "data": data.hex(),
            }
            print(json.dumps(entry), file=self._out, flush=True)
        return key

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not isinstance(flags, int):
                return
            if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC) == _READING:
                return
            paths = (path,)
        elif event in _MAKES_SECOND:
            paths = arguments[event == "os.symlink" : 2]  # what a symbolic link names is not changed
        elif event in _CHANGES:
            paths = arguments[:1]
        else:
            return
        for path in paths:
            name = f"/proc/self/fd/{path}" if isinstance(path, int) else os.fsdecode(path)
            if f"{os.path.realpath(name)}/".startswith(f"{self._folder}/"):
                continue
            self._armed = False
            raise _Wrote(f"{event} of {path!r}")


def _too_slow(_number: int, _frame: object) -> NoReturn:
    raise _TooSlow("more processor time than the target allows")


def _places(error: BaseException) -> Iterator[tuple[str, int]]:
    """Files and lines of a traceback and of what it was raised from."""
    link: BaseException | None = error
    while link is not None:
        for frame, line in traceback.walk_tb(link.__traceback__):
            yield frame.f_code.co_filename, line
        link = link.__cause__


def save(fault: Fault, folder: Path) -> Path:
    """Write the input of *fault* to *folder*, under the name of its content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(fault.data).hexdigest()[:16]
    path.write_bytes(fault.data)
    return path
