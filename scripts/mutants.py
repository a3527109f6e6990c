# SPDX-License-Identifier: Apache-2.0
"""Would the tests notice a small mistake? Make each of them in turn, where a mistake loses data.

mutmut thinks of the mistakes (``a < b`` becomes ``a <= b``, an argument becomes None, 1 becomes 2, …). They
are tried here and not by ``mutmut run``, which starts pytest anew for each: this imports everything
once, runs the tests once to see which functions each of them calls, and then forks a process for each
mistake, which changes the one function and runs the tests that call it, the quick ones first. So::

    python -m scripts.mutants                      # every module of MODULES
    python -m scripts.mutants lvm/session thin     # those below src/lamella/lvm/session and .../thin
    python -m scripts.mutants --function _commit lvm/session

prints what no test noticed, and how many were noticed of how many. ``docs/explanation/mutants.md`` has the
figures and what was made of the rest. Programs that the tests start see the mistake as well.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import os
import pickle
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libcst
import libcst.matchers as matchers
import pytest
from mutmut.mutation.file_mutation import create_mutations

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
_ALLOCATION = (
    "tests/lvm/operations/test_allocation.py",
    "tests/lvm/operations/test_allocation_recorded.py",
    "tests/lvm/operations/test_sizes.py",
)
MODULES: dict[str, tuple[str, ...]] = {
    "images/digest.py": ("tests/images/test_digest.py",),
    "images/download.py": ("tests/images/test_download.py",),
    "lvm/format/label.py": ("tests/lvm/format/test_label.py",),
    "lvm/format/metadata_area.py": ("tests/lvm/format/test_metadata_area.py",),
    "lvm/operations/allocation.py": _ALLOCATION,
    "lvm/operations/allocation_search.py": (
        "tests/lvm/operations/test_allocation_search.py",
        *_ALLOCATION[:2],
        "tests/lvm/operations/test_pool_allocation_recorded.py",
    ),
    "lvm/operations/free_space.py": ("tests/lvm/operations/test_free_space.py", *_ALLOCATION),
    "lvm/operations/lv_wipe.py": (
        "tests/lvm/operations/test_lv_wipe.py",
        "tests/lvm/operations/test_signatures.py",
        "tests/lvm/operations/test_write_errors.py",
    ),
    "lvm/operations/pv_move.py": ("tests/lvm/operations/test_pv_move_steps.py",),
    "lvm/session/commit.py": ("tests/lvm/session/test_commit.py",),
    "thin/engine/live_metadata.py": ("tests/thin/engine/test_live_metadata.py",),
    "thin/engine/pool_core.py": ("tests/thin/engine/test_pool_core.py",),
    "thin/tools/leak_repair.py": ("tests/thin/tools/test_leak_repair.py",),
    "thin/tools/metadata_builder.py": ("tests/thin/tools/test_metadata_builder.py",),
}
"""Modules below ``src/lamella``, and the tests that have to notice."""
_STRICT = re.compile(r",\s*(strict=\w+)?\)")
_OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)
JOBS = int(os.environ.get("LAMELLA_JOBS", "2"))
LONGEST = 15.0
"""Seconds that a test may take to be run for each mistake, on a machine that does nothing else."""
MEMORY = 8 << 30
"""Bytes of address space for one mistake's tests: some of them would never stop taking more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """The *source* of a module with one mistake, in *function*; *change* shows it."""

    function: str
    line: int
    change: str
    source: str


def _below(node: libcst.CSTNode) -> Iterator[libcst.CSTNode]:
    yield node
    for child in node.children:
        yield from _below(child)


def mutants_of(path: Path, only: str = "") -> list[Mutant]:
    """Every mistake that mutmut makes in the module at *path*, in functions with *only* in their name.

    Left out is what pyproject.toml excepts, what only words an error, and the ``strict`` of a ``zip``,
    which finds mistakes in this program and makes none.
    """
    code = path.read_text()
    module, mutations, _, _ = create_mutations(str(path), code)
    names: dict[libcst.CSTNode, str] = {}
    for node in module.body:
        if isinstance(node, libcst.FunctionDef):
            names[node] = node.name.value
        elif isinstance(node, libcst.ClassDef):
            for part in node.body.body:
                if isinstance(part, libcst.FunctionDef):
                    names[part] = f"{node.name.value}.{part.name.value}"
    messages = {id(node) for found in matchers.findall(module, matchers.Raise()) for node in _below(found)}
    mutants = []
    for mutation in mutations:
        function = names.get(mutation.contained_by_top_level_function or module)
        if function is None or only not in function or id(mutation.original_node) in messages:
            continue
        changed = module.deep_replace(mutation.original_node, mutation.mutated_node)
        assert isinstance(changed, libcst.Module)
        differing = list(difflib.unified_diff(code.splitlines(), changed.code.splitlines(), lineterm="", n=0))
        if len({_STRICT.sub(")", line[1:]) for line in differing[3:]}) == 1:
            continue
        line = int(differing[2].split()[1].lstrip("-").partition(",")[0])
        mutants.append(Mutant(function, line, "\n".join(differing[3:]), changed.code))
    return mutants


def _function(owner: Any, name: str) -> types.FunctionType:
    *classes, last = name.split(".")
    for each in classes:
        owner = inspect.getattr_static(owner, each)
    found = inspect.getattr_static(owner, last)
    found = getattr(found, "__func__", found)
    assert isinstance(found, types.FunctionType)
    return found


def make_mistake(module: types.ModuleType, mutant: Mutant) -> None:
    """Change the function in place, so that whoever imported it has the mistake."""
    changed = types.ModuleType(module.__name__)
    changed.__file__, changed.__package__ = module.__file__, module.__package__
    exec(compile(mutant.source, str(module.__file__), "exec"), changed.__dict__)
    ours, theirs = _function(module, mutant.function), _function(changed, mutant.function)
    ours.__code__ = theirs.__code__
    ours.__defaults__, ours.__kwdefaults__ = theirs.__defaults__, theirs.__kwdefaults__


@dataclass(slots=True)
class Trial:
    """A mistake being tried by the process *pid* in the folder of *slot*."""

    mutant: Mutant
    slot: Path
    pid: int
    descriptor: int
    deadline: float


@dataclass(slots=True, eq=False)
class Plugin:
    """Runs pytest's collected tests: once as the code is, and then for each mistake in a fork."""

    name: str
    mutants: list[Mutant]
    slots: list[Path]
    """A copy of the sources for each process at a time; the first is the one that is imported here."""
    say: Any
    failed: bool = False
    calls: dict[str, set[int]] = field(default_factory=dict)
    """For each function, the tests that call it, by their place in the list."""
    seconds: list[float] = field(default_factory=list)
    unnoticed: list[Mutant] = field(default_factory=list)
    slow: int = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._see_what_is_called(session)
        waiting, free, running = list(reversed(self.mutants)), list(self.slots), dict[int, Trial]()
        while waiting or running:
            while waiting and free:
                trial = self._start(session, waiting.pop(), free.pop())
                running[trial.descriptor] = trial
            poll = select.poll()
            for descriptor in running:
                poll.register(descriptor, select.POLLIN)
            first = min(trial.deadline for trial in running.values())
            poll.poll(max(0, (first - time.monotonic()) * 1000))
            for trial in list(running.values()):
                if self._finished(trial):
                    del running[trial.descriptor]
                    free.append(trial.slot)
        return True

    def _run(self, session: pytest.Session, chosen: list[int]) -> None:
        for place, number in enumerate(chosen):
            following = session.items[chosen[place + 1]] if place + 1 < len(chosen) else None
            item = session.items[number]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return

    def _see_what_is_called(self, session: pytest.Session) -> None:
        """Run all tests in a fork, which leaves this process as it is, and keep what they call."""
        module = importlib.import_module(self.name)
        codes = {_function(module, mutant.function).__code__: mutant.function for mutant in self.mutants}
        reading, writing = os.pipe()
        if not (pid := os.fork()):
            try:
                self._enter(self.slots[0])
                with open(writing, "wb") as pipe:
                    pickle.dump(self._run_as_it_is(session, codes), pipe)
            except BaseException as error:
                self.say(f"the tests did not run: {error!r}")
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            result = pickle.load(pipe)
        os.waitpid(pid, 0)
        self._leave(self.slots[0])
        for number, (failed, seconds, functions) in enumerate(result):
            self.seconds.append(seconds)
            if failed or seconds > LONGEST:
                what = "fails as the code is" if failed else f"takes {seconds:.0f} seconds"
                self.say(f"left out, for it {what}: {session.items[number].nodeid}")
                continue
            for function in functions:
                self.calls.setdefault(function, set()).add(number)

    def _run_as_it_is(
        self, session: pytest.Session, codes: dict[types.CodeType, str]
    ) -> list[tuple[bool, float, set[str]]]:
        """For each test: whether it failed, its seconds, and which functions of *codes* it called."""
        seen: set[str] = set()

        def look(frame: types.FrameType, event: str, _argument: object) -> None:
            if event == "call" and (function := codes.get(frame.f_code)):
                seen.add(function)

        threading.setprofile(look)
        found = []
        for number, item in enumerate(session.items):
            seen.clear()
            start = time.monotonic()
            sys.setprofile(look)
            following = session.items[number + 1] if number + 1 < len(session.items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            sys.setprofile(None)
            found.append((self.failed, time.monotonic() - start, set(seen)))
            self.failed = False
        return found

    def _enter(self, slot: Path) -> None:
        """In a fork: a group of processes and a folder for temporary files of its own."""
        os.setsid()
        (slot / "tmp").mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(slot / "tmp")
        os.environ["PYTHONPATH"] = str(slot / "src")

    def _leave(self, slot: Path) -> None:
        shutil.rmtree(slot / "tmp", ignore_errors=True)

    def _start(self, session: pytest.Session, mutant: Mutant, slot: Path) -> Trial:
        chosen = sorted(self.calls.get(mutant.function, ()), key=lambda number: self.seconds[number])
        seconds = sum(self.seconds[number] for number in chosen)
        limit, busy = 20 + 8 * seconds, int(3 + 8 * seconds)
        path = slot / "src" / (self.name.replace(".", "/") + ".py")
        path.write_text(mutant.source)
        # Seconds are all that a .pyc knows of its source.
        stamp = self.mutants.index(mutant) + 1_000_000_000
        os.utime(path, (stamp, stamp))
        if not (pid := os.fork()):
            try:
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                # One that never stops working is known by that before one that never stops waiting.
                used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
                resource.setrlimit(resource.RLIMIT_CPU, (used + busy, used + busy))
                self._enter(slot)
                make_mistake(importlib.import_module(self.name), mutant)
                self._run(session, chosen)
            except BaseException:
                os._exit(1)
            os._exit(1 if self.failed else 0)
        return Trial(mutant, slot, pid, os.pidfd_open(pid), time.monotonic() + limit)

    def _finished(self, trial: Trial) -> bool:
        pid, status = os.waitpid(trial.pid, os.WNOHANG)
        if not pid:
            if time.monotonic() < trial.deadline:
                return False
            self.slow += 1
        self.slow += bool(pid) and os.WIFSIGNALED(status) and os.WTERMSIG(status) in _OUT_OF_TIME
        try:  # with the programs that it started
            os.killpg(trial.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if not pid:
            os.waitpid(trial.pid, 0)
        os.close(trial.descriptor)
        self._leave(trial.slot)
        if pid and not status:
            self.unnoticed.append(trial.mutant)
            uncalled = "" if self.calls.get(trial.mutant.function) else " (called by no test)"
            self.say(
                f"{self.name}:{trial.mutant.line} in {trial.mutant.function}{uncalled}\n{trial.mutant.change}"
            )
        return True


def try_module(name: str, tests: tuple[str, ...], function: str | None) -> tuple[int, int]:
    """Try the module's mistakes; how many there are, and how many no test noticed."""
    mutants = mutants_of(ROOT / "src/lamella" / name, function or "")
    output = os.dup(1)

    def say(text: str) -> None:
        os.write(output, f"{text}\n".encode())

    with tempfile.TemporaryDirectory() as folder:
        slots = [Path(folder, str(number)) for number in range(JOBS)]
        for slot in slots:
            shutil.copytree(ROOT / "src", slot / "src", ignore=shutil.ignore_patterns("*.egg-info"))
        sys.path.insert(0, str(slots[0] / "src"))
        plugin = Plugin(f"lamella.{name.removesuffix('.py').replace('/', '.')}", mutants, slots, say)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        code = pytest.main(
            [
                "-p",
                "no:cacheprovider",
                "-q",
                "-m",
                "not guest",
                *(str(ROOT / each) for each in tests if (ROOT / each).exists()),
            ],
            plugins=[plugin],
        )
        os.dup2(output, 1)
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise SystemExit(f"the tests {' '.join(tests)} did not run")
    missed = len(plugin.unnoticed)
    say(f"{name}: {len(mutants) - missed} of {len(mutants)} noticed ({plugin.slow} by taking too long)")
    return len(mutants), missed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.mutants")
    parser.add_argument("--function", help="only functions with this in their name")
    parser.add_argument("modules", nargs="*", help="modules, or folders of them, below src/lamella")
    options = parser.parse_args(arguments)
    chosen = [name for name in MODULES if not options.modules or name.startswith(tuple(options.modules))]
    if len(chosen) == 1:
        try_module(chosen[0], MODULES[chosen[0]], options.function)
        return 0
    for name in chosen:  # each in a process of its own: what is imported stays
        if not (pid := os.fork()):
            try_module(name, MODULES[name], options.function)
            os._exit(0)
        os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
