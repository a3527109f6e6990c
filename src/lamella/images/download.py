# SPDX-License-Identifier: Apache-2.0
"""Downloading layers: several at once, resumed where they were interrupted, checked on the way.

A download grows in ``<folder>/<digest>.partial`` and gets its final name when its digest is right; so
an interrupted pull goes on where it stopped, in the same process or in a later one.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from typing import TYPE_CHECKING

import urllib3

from lamella.block.system import explain, write_all
from lamella.errors import BadInputError, NetworkError, NoSpaceError
from lamella.images.content import PathPiece
from lamella.images.digest import digest_of, file_name, new_hasher
from lamella.images.transport import ATTEMPTS, RETRY_STATUS, backoff, discard
from lamella.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lamella.images.digest import Hasher
    from lamella.images.image_source import LayerBlob
    from lamella.images.registry_client import RegistryClient
    from lamella.progress import Progress

PARALLEL = 3
"""Downloads at once: Docker's default (``max-concurrent-downloads``)."""
STEP = 256 << 10
POLL = 0.1
"""Seconds between two looks at a download that is waited for; Ctrl-C gets through meanwhile."""
RETRY_RESET_LIMIT = 1 << 20
"""Bytes received after which a broken connection resets the retry budget."""
_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)")


class Stopped(Exception):
    """The download was given up because its source is being closed."""


class _Job:
    def __init__(self, layer: LayerBlob) -> None:
        self.layer = layer
        self.done = threading.Event()
        self.received = 0
        self.waiting = ""
        """What the download waits for, if it does."""
        self.error: BaseException | None = None


class Downloader:
    """Fetches blobs of *client*'s repository into *folder* with up to *parallel* threads."""

    def __init__(
        self,
        client: RegistryClient,
        folder: Path,
        *,
        parallel: int = PARALLEL,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._client = client
        self._folder = folder
        self._parallel = parallel
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._jobs: dict[str, _Job] = {}
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._progress: Progress = QUIET
        self._lock = threading.Lock()

    def path(self, layer: LayerBlob) -> Path:
        assert layer.digest is not None
        return self._folder / file_name(layer.digest)

    def start(self, layers: Sequence[LayerBlob], progress: Progress = QUIET) -> None:
        """Queue *layers* in this order, each digest once. *progress* reports what :meth:`fetch` waits for."""
        fresh: list[_Job] = []
        with self._lock:
            if progress is not QUIET:
                self._progress = progress
            for layer in layers:
                assert layer.digest is not None
                if layer.digest not in self._jobs:
                    self._jobs[layer.digest] = job = _Job(layer)
                    fresh.append(job)
            while len(self._threads) < min(self._parallel, len(self._jobs)):
                thread = threading.Thread(target=self._work, name="lamella-download", daemon=True)
                self._threads.append(thread)
                thread.start()
        for job in fresh:
            self._queue.put(job)

    def fetch(self, layer: LayerBlob) -> PathPiece:
        """Wait for *layer*'s download (started here if it was not), and return the file."""
        self.start([layer])
        assert layer.digest is not None
        job = self._jobs[layer.digest]
        if not job.done.is_set():
            self._wait(job)
        if job.error is not None:
            with self._lock:
                self._jobs.pop(layer.digest, None)  # asked for again, it is tried again
            raise job.error
        return PathPiece(str(self.path(layer)), layer.name)

    def _wait(self, job: _Job) -> None:
        # Progress is told here, in the thread that waits: others have their own tasks to tell of.
        seen = job.received
        self._progress.start(f"{job.layer.label}: downloading", job.layer.size, had=seen)
        while not job.done.wait(POLL):
            seen, last = job.received, seen
            self._progress.advance(seen - last)
            if seen == last and job.waiting:
                self._progress.waiting(job.waiting)
        self._progress.advance(job.received - seen)
        self._progress.done()

    def release(self, layer: LayerBlob) -> None:
        """Delete *layer*'s file."""
        with self._lock:
            self._jobs.pop(layer.digest or "", None)
        self.path(layer).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop all downloads; partial files stay, to be resumed."""
        self._stop.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(2.0)  # one that waits for a dead server is left to end by itself
        self._threads.clear()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if self._stop.is_set():
                    raise Stopped
                self._download(job)
            except BaseException as error:  # raised in the thread that waits for this layer
                job.error = error
            job.done.set()

    def _download(self, job: _Job) -> None:
        layer = job.layer
        final = self.path(layer)
        partial = final.with_name(final.name + ".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if final.exists():
                # From an earlier run: trusted no more than any other partial download.
                os.replace(final, partial)
            with open(partial, "a+b") as file:
                _Download(self, job, file.fileno()).run()
            os.replace(partial, final)
        except OSError as error:
            failure = explain(error, "write", str(partial))
            if isinstance(failure, NoSpaceError):
                partial.unlink(missing_ok=True)
            raise failure from error
        except BadInputError:
            partial.unlink(missing_ok=True)
            raise


class _Download:
    """One blob on its way into the open file *descriptor*."""

    def __init__(self, owner: Downloader, job: _Job, descriptor: int) -> None:
        layer = job.layer
        assert layer.digest is not None
        self._owner = owner
        self._job = job
        self._layer = layer
        self._descriptor = descriptor
        self._digest = layer.digest
        self._hasher: Hasher = new_hasher(self._digest)
        self._position = 0
        self._urls: list[str] = []
        self._ranges = True
        """Whether it may help to ask for the rest only."""

    def run(self) -> None:
        """Download until the digest is right; else raise."""
        if not self._layer.size and self._digest != digest_of(b"", self._digest.partition(":")[0]):
            raise BadInputError(
                f"the manifest says that {self._layer.name} has 0 bytes, but not the digest of an empty blob",
                hint="the image was pushed by a faulty tool; push it again",
            )
        with self._owner._client.patience(self._say) as self._patience:
            self._run()

    def _say(self, text: str) -> None:
        self._job.waiting = text

    def _run(self) -> None:
        resumed = self._resume()
        failures, last = 0, self._position
        while True:
            try:
                # A server may send less than was asked for, and is then asked for the rest.
                while self._position < self._layer.size and self._receive():
                    pass
                if self._position < self._layer.size:
                    raise urllib3.exceptions.ProtocolError(
                        f"{self._layer.size - self._position} bytes are missing"
                    )
            except urllib3.exceptions.HTTPError as error:
                if self._patience.expired:
                    raise self._patience.error(f"the download of {self._layer.name}") from error
                failures = 1 if self._position - last >= RETRY_RESET_LIMIT else failures + 1
                last = self._position
                if failures >= ATTEMPTS:
                    raise NetworkError(
                        f"the download of {self._layer.name} was interrupted {failures} times: {error}",
                        hint="try again: it will go on from where it stopped",
                    ) from error
                self._say(f"interrupted, trying again ({failures} of {ATTEMPTS - 1})")
                self._owner._sleep(backoff(failures))
                continue
            found = f"{self._digest.partition(':')[0]}:{self._hasher.hexdigest()}"
            if found == self._digest:
                return
            if not resumed:
                raise BadInputError(
                    f"{self._layer.name} has the wrong digest: {self._digest} expected, {found} found",
                    hint="the registry's copy is damaged, or something on the way changes it",
                )
            resumed = False  # what lay here was wrong: once more from the start
            self._restart()

    def _resume(self) -> bool:
        """Hash what is there of an earlier download; False if that is nothing."""
        size = os.fstat(self._descriptor).st_size
        if size > self._layer.size:
            self._restart()
            return False
        while self._position < size:
            data = os.pread(self._descriptor, 1 << 20, self._position)
            self._hasher.update(data)
            self._position += len(data)
        self._job.received = self._position
        return self._position > 0

    def _restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self._position = self._job.received = 0
        self._hasher = new_hasher(self._digest)

    def _receive(self) -> bool:
        """One response's worth; whether it was a part as asked for, so that the next may be asked for."""
        with self._ask() as response:
            start = _start(response)
            part = response.status == 206 and start == self._position
            if start != self._position:
                self._restart()  # this server knows no ranges, and sends the whole
            before = self._position
            # read1: what has arrived, so that a broken connection loses nothing; and not decoded: some
            # storages call a gzip layer a gzip-encoded tar.
            while data := response.read1(STEP, decode_content=False):
                if self._owner._stop.is_set():
                    raise Stopped
                if self._position + len(data) > self._layer.size:
                    raise BadInputError(
                        f"{self._layer.name} is longer than the {self._layer.size} bytes of its manifest"
                    )
                write_all(self._descriptor, data)
                self._hasher.update(data)
                self._position += len(data)
                self._job.received = self._position
                self._job.waiting = ""
                self._patience.received(len(data))
            return part and self._position > before

    @property
    def _offset(self) -> int:
        """The byte from which on to ask."""
        return self._position if self._ranges else 0

    def _ask(self) -> urllib3.BaseHTTPResponse:
        client = self._owner._client
        response = self._urls and client.elsewhere(self._urls[0], self._offset)
        response = response or client.blob(self._digest, self._offset)
        if self._offset and not (response.status == 200 or _start(response) == self._offset):
            # Whatever is wrong with ranges here (refused, another one, several): the whole, then.
            if response.status in RETRY_STATUS:
                status = response.status
                discard(response)
                raise urllib3.exceptions.ProtocolError(f"the status {status}")
            discard(response)
            self._ranges = False
            return self._ask()
        if response.status == 404 and not self._urls and self._layer.urls:
            discard(response)
            self._urls = list(self._layer.urls)
            return self._ask()
        if _start(response) in (0, self._offset):
            return response
        status = response.status
        discard(response)
        if len(self._urls) > 1:
            self._urls.pop(0)
            return self._ask()
        if status == 404:
            raise NetworkError(
                f"the registry does not have {self._layer.name}: blob unknown",
                hint="the image was not pushed whole, or parts of it were deleted; push it again",
            )
        if status in RETRY_STATUS:
            raise urllib3.exceptions.ProtocolError(f"the status {status}")
        raise NetworkError(f"the download of {self._layer.name} failed with the status {status}")


def _start(response: urllib3.BaseHTTPResponse) -> int | None:
    """Where the bytes of a response begin in the blob; None if it does not say, or is none."""
    if response.status == 200:
        return 0
    place = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(place[1]) if response.status == 206 and place else None
