# SPDX-License-Identifier: Apache-2.0
"""Downloads step by step, from a registry that answers what it is told to: no byte from elsewhere gets in.

RFC 9110, 14.4 and 15.3.7: what a 206 holds, its Content-Range says; 15.3.1: a 200 holds the whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from lamella.errors import BadInputError, DeviceIOError, LamellaError, NetworkError, NoSpaceError
from lamella.images import download
from lamella.images.download import Downloader, Stopped, _Download, _Job, _start
from lamella.images.image_source import LayerBlob
from lamella.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOB = bytes(range(256)) * 4
BROKEN = urllib3.exceptions.ProtocolError("broken")


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def unread(_: object) -> Any:
    """Opens a layer's blob, which a download does not do."""
    raise AssertionError


def layer(data: bytes = BLOB, *, size: int | None = None, urls: tuple[str, ...] = ()) -> LayerBlob:
    return LayerBlob(sha(data), len(data) if size is None else size, "tar", sha(data), unread, urls)


class Response:
    """An answer: its *parts* arrive one by one; one that is an exception breaks the connection."""

    def __init__(self, status: int, *parts: bytes | BaseException, place: str | None = None) -> None:
        self.status = status
        self.headers = {} if place is None else {"Content-Range": place}
        self.parts = list(parts)
        self.closed = 0

    def read1(self, amount: int, *, decode_content: bool) -> bytes:
        assert (amount, decode_content) == (256 << 10, False)
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, BaseException):
            raise part
        return part

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1

    def close(self) -> None:
        self.closed += 1


def whole(*parts: bytes | BaseException) -> Response:
    return Response(200, *parts)


def part(start: int, *parts: bytes | BaseException) -> Response:
    return Response(206, *parts, place=f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}")


class Patience:
    expired = False

    def __init__(self, say: Any) -> None:
        self.say = say
        self.counted: list[int] = []

    def __enter__(self) -> Patience:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def received(self, count: int) -> None:
        self.counted.append(count)

    def error(self, what: str) -> NetworkError:
        return NetworkError(f"{what}: no progress")


class Client:
    """Answers with what it is given, in order; :attr:`asked` has (address or digest, offset)."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.patiences: list[Patience] = []

    def blob(self, digest: str, offset: int) -> Response:
        self.asked.append((digest, offset))
        return self.answers.pop(0)

    elsewhere = blob

    def patience(self, say: Any) -> Patience:
        self.patiences.append(Patience(say))
        return self.patiences[-1]


class Try:
    """One download into a file that holds *there* already."""

    def __init__(
        self, folder: Path, *answers: Response, there: bytes = b"", of: LayerBlob | None = None
    ) -> None:
        self.client: Any = Client(*answers)
        self.sleeps: list[float] = []
        self.owner = Downloader(self.client, folder, sleep=self.sleeps.append)
        self.job = _Job(of or layer())
        self.path = folder / "file"
        self.path.write_bytes(there)
        self.file = self.path.open("a+b")
        self.one: Any = _Download(self.owner, self.job, self.file.fileno())

    def run(self) -> bytes:
        try:
            self.one.run()
        finally:
            self.file.close()
        return self.path.read_bytes()

    @property
    def offsets(self) -> list[int]:
        return [offset for _, offset in self.client.asked]


@pytest.fixture(autouse=True)
def _even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "backoff", lambda failures: failures * 10.0)


# -- what an answer holds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "place", "start"),
    [
        (200, None, 0),
        (200, "bytes 5-9/10", 0),  # of no meaning there
        (206, "bytes 5-9/10", 5),
        (206, " bytes 0-9/* ", 0),
        (206, "bytes 9999999999999999999-9/10", 9999999999999999999),
        (206, "bytes 99999999999999999999-9/10", None),
        (206, None, None),
        (206, "bytes */10", None),
        (206, "items 5-9/10", None),
        (206, "bytes 5-9/10, bytes 1-2/10", None),
        (416, "bytes 5-9/10", None),
        (404, None, None),
    ],
)
def test_where_the_bytes_of_an_answer_begin(status: int, place: str | None, start: int | None) -> None:
    answer: Any = Response(status, place=place)
    assert _start(answer) == start


# -- one blob --------------------------------------------------------------------------------------


def test_a_blob_arrives(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(BLOB[:100], BLOB[100:]))
    answer = one.client.answers[0]
    assert one.run() == BLOB
    assert one.client.asked == [(sha(BLOB), 0)]
    assert one.client.patiences[0].counted == [100, 924]
    assert (one.job.received, one.job.waiting, one.sleeps, answer.closed) == (1024, "", [], 1)
    one.client.patiences[0].say("for it")
    assert one.job.waiting == "for it"


@pytest.mark.parametrize("there", [1, 100, 1023, 1024])
def test_it_goes_on_from_what_is_there(tmp_path: Path, there: int) -> None:
    one = Try(tmp_path, part(there, BLOB[there:]), there=BLOB[:there])
    assert one.run() == BLOB
    assert one.offsets == ([there] if there < 1024 else [])
    assert one.job.received == 1024


def test_more_than_is_read_at_once_is_hashed(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 5)
    assert Try(tmp_path, there=data, of=layer(data)).run() == data


@pytest.mark.parametrize("there", [b"x" * 1025, b"x" * 5000])
def test_what_is_too_long_begins_anew(tmp_path: Path, there: bytes) -> None:
    one = Try(tmp_path, whole(BLOB), there=there)
    assert one.run() == BLOB
    assert one.offsets == [0]
    again = Try(tmp_path, whole(BLOB[:-1] + b"?"), there=there)
    with pytest.raises(BadInputError, match="wrong digest"):
        again.run()
    assert again.offsets == [0], "it is not what lay there that was wrong"


def test_what_was_loaded_whole_and_is_wrong_is_not_loaded_again(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(b"?" * 1024), whole(BLOB))
    with pytest.raises(BadInputError, match="wrong digest"):
        one.run()
    assert one.offsets == [0]


def test_what_lay_there_and_was_wrong_is_loaded_once_more(tmp_path: Path) -> None:
    one = Try(tmp_path, part(4, BLOB[4:]), whole(BLOB), there=b"????")
    assert one.run() == BLOB
    assert one.offsets == [4, 0]
    bad = Try(tmp_path, part(4, BLOB[4:]), whole(b"?" * 1024), there=b"????")
    with pytest.raises(BadInputError) as caught:
        bad.run()
    assert caught.value.message == (
        f"the layer {sha(BLOB)} has the wrong digest: {sha(BLOB)} expected, {sha(b'?' * 1024)} found"
    )
    single = Try(tmp_path, part(1, BLOB[1:]), whole(BLOB), there=b"?")
    assert single.run() == BLOB
    full = Try(tmp_path, whole(BLOB), there=b"?" * 1024)
    assert full.run() == BLOB


@pytest.mark.parametrize("size", [0, 1])
def test_a_layer_of_no_bytes(tmp_path: Path, size: int) -> None:
    assert Try(tmp_path, of=layer(b"")).run() == b""
    one = Try(tmp_path, whole(b"x"), of=layer(b"x", size=size))
    if size:
        assert one.run() == b"x"
        return
    with pytest.raises(BadInputError, match=r"the manifest says that the layer .* has 0 bytes"):
        one.run()
    assert one.client.asked == []
    empty = "sha512:" + hashlib.sha512(b"").hexdigest()
    assert Try(tmp_path, of=LayerBlob(empty, 0, "", "", unread)).run() == b""


def test_more_bytes_than_the_manifest_says(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(BLOB[:1000], BLOB[1000:] + b"!"))
    with pytest.raises(BadInputError, match="is longer than the 1024 bytes of its manifest"):
        one.run()
    assert one.path.read_bytes() == BLOB[:1000], "none of them is kept"


# -- interruptions ---------------------------------------------------------------------------------


def test_a_broken_connection_loses_nothing(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(BLOB[:10], BROKEN), part(10, BLOB[10:20], BROKEN), part(20, BLOB[20:]))
    one.job.waiting = "x"
    assert one.run() == BLOB
    assert one.offsets == [0, 10, 20]
    assert one.sleeps == [10.0, 20.0]
    assert one.job.waiting == ""


def test_an_answer_that_ends_early_is_an_interruption(tmp_path: Path) -> None:
    """Of a whole; after a part as asked for the rest is asked for at once."""
    one = Try(tmp_path, whole(BLOB[:10]), part(10, BLOB[10:20]), part(20, BLOB[20:30]), part(30, BLOB[30:]))
    assert one.run() == BLOB
    assert one.sleeps == [10.0]
    empty = Try(tmp_path, part(4), part(4, BLOB[4:]), there=BLOB[:4])
    assert empty.run() == BLOB
    assert empty.sleeps == [10.0], "a part of nothing is no progress"


def test_it_is_given_up_after_five_interruptions(tmp_path: Path) -> None:
    one = Try(tmp_path, *(whole() for _ in range(9)))
    said: list[str] = []
    one.one._say = said.append
    with pytest.raises(NetworkError) as caught:
        one.run()
    assert caught.value.message == (
        f"the download of the layer {sha(BLOB)} was interrupted 5 times: 1024 bytes are missing"
    )
    assert one.sleeps == [10.0, 20.0, 30.0, 40.0]
    assert said == [f"interrupted, trying again ({number} of 4)" for number in range(1, 5)]
    assert len(one.client.asked) == 5


@pytest.mark.parametrize(("limit", "given_up"), [(100, False), (101, True)])
def test_progress_begins_the_count_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, given_up: bool
) -> None:
    """Counted from the interruption before; what lay there is none."""
    monkeypatch.setattr(download, "RETRY_RESET_LIMIT", limit)
    answers = [part(at, BLOB[at : at + 100], BROKEN) for at in range(200, 900, 100)]
    one = Try(tmp_path, *answers, part(900, BLOB[900:]), there=BLOB[:200])
    if given_up:
        with pytest.raises(NetworkError, match="was interrupted 5 times: broken"):
            one.run()
        assert one.sleeps == [10.0, 20.0, 30.0, 40.0]
        return
    assert one.run() == BLOB
    assert one.sleeps == [10.0] * 7


def test_a_server_that_stays_silent(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(BROKEN))
    silent = Patience(None)
    silent.expired = True
    one.client.patience = lambda say: silent
    with pytest.raises(NetworkError, match=f"the download of the layer {sha(BLOB)}: no progress"):
        one.run()
    assert one.sleeps == []


def test_a_download_is_stopped(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(BLOB))
    one.owner._stop.set()
    with pytest.raises(Stopped):
        one.run()
    assert one.path.read_bytes() == b""


# -- ranges ----------------------------------------------------------------------------------------


def test_a_server_without_ranges_sends_the_whole(tmp_path: Path) -> None:
    one = Try(tmp_path, whole(BLOB[:50], BROKEN), whole(BLOB), there=BLOB[:100])
    assert one.run() == BLOB
    assert one.offsets == [100, 50]


@pytest.mark.parametrize(
    "answer",
    [
        Response(416),
        Response(404),
        Response(403),
        Response(501),
        Response(206, b"?"),
        Response(206, b"?", place="bytes 99-1023/1024"),
        Response(206, b"?", place="bytes 101-1023/1024"),
        Response(206, b"?", place="bytes 0-1023/1024"),
    ],
)
def test_any_other_range_is_not_put_in(tmp_path: Path, answer: Response) -> None:
    answer.closed = 0
    one = Try(tmp_path, answer, whole(BLOB[:500], BROKEN), whole(BLOB), there=BLOB[:100])
    assert one.run() == BLOB
    assert one.offsets == [100, 0, 0], "ranges are not asked for again"
    assert answer.closed
    assert one.sleeps == [10.0]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_for_the_range_again(tmp_path: Path, status: int) -> None:
    busy = Response(status)
    one = Try(tmp_path, busy, part(100, BLOB[100:]), there=BLOB[:100])
    assert one.run() == BLOB
    assert one.offsets == [100, 100]
    assert busy.closed
    again = Try(tmp_path, *(Response(status) for _ in range(5)), there=BLOB[:100])
    with pytest.raises(NetworkError, match=f"was interrupted 5 times: the status {status}"):
        again.run()
    first = Try(tmp_path, *(Response(status) for _ in range(5)))
    with pytest.raises(NetworkError, match=f"was interrupted 5 times: the status {status}"):
        first.run()


def test_a_first_answer_may_be_a_part_from_the_start(tmp_path: Path) -> None:
    one = Try(tmp_path, part(0, BLOB[:7]), part(7, BLOB[7:]))
    assert one.run() == BLOB
    assert one.sleeps == []
    with pytest.raises(NetworkError, match="failed with the status 206"):
        Try(tmp_path, part(1, BLOB[1:])).run()


def test_what_is_not_there(tmp_path: Path) -> None:
    for status, words in (
        (404, "the registry does not have the layer .*: blob unknown"),
        (403, "with the status 403"),
    ):
        answer = Response(status)
        with pytest.raises(NetworkError, match=words):
            Try(tmp_path, answer).run()
        assert answer.closed


def test_other_addresses_are_tried_in_turn(tmp_path: Path) -> None:
    of = layer(urls=("https://one", "https://two"))
    one = Try(tmp_path, Response(404), Response(403), whole(BLOB), of=of)
    assert one.run() == BLOB
    assert one.client.asked == [(sha(BLOB), 0), ("https://one", 0), ("https://two", 0)]
    assert of.urls == ("https://one", "https://two")
    last = Try(tmp_path, Response(404), Response(404), Response(404), of=of)
    answers = list(last.client.answers)
    with pytest.raises(NetworkError, match="does not have the layer"):
        last.run()
    assert [address for address, _ in last.client.asked] == [sha(BLOB), "https://one", "https://two"]
    assert all(answer.closed for answer in answers)
    kept = Try(tmp_path, Response(404), whole(BLOB[:9], BROKEN), part(9, BLOB[9:]), of=of)
    assert kept.run() == BLOB
    assert kept.client.asked == [(sha(BLOB), 0), ("https://one", 0), ("https://one", 9)]
    there = Try(tmp_path, Response(404), Response(404), part(0, BLOB), there=BLOB[:5], of=of)
    assert there.run() == BLOB
    assert there.client.asked == [(sha(BLOB), 5), (sha(BLOB), 0), ("https://one", 0)]


# -- many ------------------------------------------------------------------------------------------


class Told:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def start(self, what: str, total: int | None, *, unit: str = "bytes", had: int = 0) -> None:
        self.said.append((what, total, had))

    def advance(self, amount: int) -> None:
        self.said.append(amount)

    def waiting(self, why: str) -> None:
        self.said.append(why)

    def done(self) -> None:
        self.said.append("done")


def downloader(folder: Path, *answers: Response, parallel: int = 1) -> tuple[Client, Any]:
    client: Any = Client(*answers)
    return client, Downloader(client, folder, parallel=parallel, sleep=lambda _: None)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def file_of(data: bytes) -> str:
    return sha(data).replace(":", "-")


def test_a_downloader_and_a_job_begin_with_nothing(tmp_path: Path) -> None:
    client: Any = Client()
    owner = Downloader(client, tmp_path)
    assert (owner._parallel, owner._jobs, owner._threads, owner._progress) == (3, {}, [], QUIET)
    assert (owner._client, owner._folder) == (client, tmp_path)
    assert owner._sleep == owner._stop.wait, "who waits is woken by close"
    job = _Job(layer())
    assert (job.received, job.waiting, job.error, job.done.is_set()) == (0, "", None, False)
    one = Try(tmp_path).one
    assert (one._position, one._urls, one._ranges, one._hasher.hexdigest()) == (
        0, [], True, hashlib.sha256().hexdigest(),
    )  # fmt: skip


def test_layers_are_fetched_in_order_and_each_once(tmp_path: Path) -> None:
    first, second = b"first", b"second"
    client, owner = downloader(tmp_path / "new" / "folder", whole(first), whole(second))
    owner.start([layer(first), layer(second), layer(first)])
    owner.start([layer(second)])
    pieces = [owner.fetch(layer(data)) for data in (first, second, first)]
    assert [piece.path for piece in pieces] == [
        str(tmp_path / "new" / "folder" / file_of(data)) for data in (first, second, first)
    ]
    assert pieces[0].name == f"the layer {sha(first)}"
    assert (tmp_path / "new" / "folder" / file_of(second)).read_bytes() == second
    assert client.asked == [(sha(first), 0), (sha(second), 0)]
    assert names(tmp_path / "new" / "folder") == sorted([file_of(first), file_of(second)])
    owner.close()


@pytest.mark.parametrize(("parallel", "layers", "threads"), [(3, 2, 2), (3, 5, 3), (1, 4, 1)])
def test_as_many_threads_as_are_of_use(tmp_path: Path, parallel: int, layers: int, threads: int) -> None:
    _, owner = downloader(tmp_path, parallel=parallel)
    gate = threading.Event()
    owner._download = lambda job: gate.wait(20)
    owner.start([layer(bytes([number])) for number in range(layers)])
    assert [thread.name for thread in owner._threads] == ["lamella-download"] * threads
    assert all(thread.daemon for thread in owner._threads)
    owner.start([layer(bytes([number])) for number in range(layers)])
    assert len(owner._threads) == threads
    gate.set()
    mine = list(owner._threads)
    owner.close()
    assert owner._threads == []
    assert not any(thread.is_alive() for thread in mine)


def test_an_error_is_raised_where_it_is_waited_for_and_tried_again(tmp_path: Path) -> None:
    client, owner = downloader(tmp_path, Response(403), whole(BLOB))
    with pytest.raises(NetworkError, match="with the status 403"):
        owner.fetch(layer())
    owner.fetch(layer())
    assert (tmp_path / file_of(BLOB)).read_bytes() == BLOB
    assert len(client.asked) == 2
    owner.close()


def test_a_closed_downloader_downloads_nothing_more(tmp_path: Path) -> None:
    client, owner = downloader(tmp_path)
    owner._stop.set()
    with pytest.raises(Stopped):
        owner.fetch(layer())
    assert client.asked == []
    owner.close()
    assert owner._stop.is_set()
    _, other = downloader(tmp_path)
    other.close()
    assert other._stop.is_set()


def test_closing_does_not_wait_for_a_dead_server(tmp_path: Path) -> None:
    _, owner = downloader(tmp_path)
    waited: list[float] = []
    owner._threads.append(SimpleNamespace(join=waited.append))
    owner.close()
    assert waited == [2.0]


def run(folder: Path, *answers: Response, of: LayerBlob | None = None) -> BaseException | None:
    _, owner = downloader(folder, *answers)
    try:
        owner._download(_Job(of or layer()))
    except LamellaError as error:
        return error
    return None


def test_a_file_from_an_earlier_run_is_checked(tmp_path: Path) -> None:
    (tmp_path / file_of(BLOB)).write_bytes(BLOB)
    assert run(tmp_path) is None
    (tmp_path / file_of(BLOB)).write_bytes(b"?" * 1024)
    assert run(tmp_path, whole(BLOB)) is None
    assert (tmp_path / file_of(BLOB)).read_bytes() == BLOB
    assert names(tmp_path) == [file_of(BLOB)]


def test_what_is_kept_of_a_download_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can go on later is; what is wrong, and what fills the disk, is not."""
    partial = file_of(BLOB) + ".partial"
    error = run(tmp_path, whole(BLOB[:9], BROKEN), *(Response(503) for _ in range(4)))
    assert isinstance(error, NetworkError)
    assert (tmp_path / partial).read_bytes() == BLOB[:9]
    error = run(tmp_path, part(9, b"?" * 1015), whole(b"?" * 1024))
    assert isinstance(error, BadInputError)
    assert names(tmp_path) == []
    real = os.write
    for number, kind, left in ((errno.ENOSPC, NoSpaceError, []), (errno.EIO, DeviceIOError, [partial])):

        def fail(descriptor: int, data: Any, number: int = number) -> int:
            if len(data) == 1000:
                raise OSError(number, "x")
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", fail)
        error = run(tmp_path, whole(BLOB[:24], BLOB[24:]))
        monkeypatch.setattr(os, "write", real)
        assert isinstance(error, kind)
        assert str(error).startswith(f"cannot write {tmp_path / partial}: ")
        assert isinstance(error.__cause__, OSError)
        assert names(tmp_path) == left


def test_a_folder_that_there_is_no_space_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr("pathlib.Path.mkdir", fail)
    assert isinstance(run(tmp_path / "new"), NoSpaceError)


def test_a_layers_file_is_deleted_when_it_is_released(tmp_path: Path) -> None:
    client, owner = downloader(tmp_path, whole(BLOB), whole(BLOB))
    owner.fetch(layer())
    owner.release(layer())
    assert names(tmp_path) == []
    owner.release(layer())
    owner.fetch(layer())
    assert len(client.asked) == 2, "it is loaded again"
    owner.close()


class Steps:
    """In place of a job's event: each look finds what the next of *steps* has done."""

    def __init__(self, steps: Iterable[Any]) -> None:
        self.steps = list(steps)
        self.waited: list[float] = []

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self.steps.pop(0)()
        return not self.steps


def test_progress_is_told_where_it_is_waited_for(tmp_path: Path) -> None:
    _, owner = downloader(tmp_path)
    told = Told()
    owner.start([], told)
    assert owner._progress is told
    owner.start([])
    assert owner._progress is told, "until another one is given"
    job: Any = _Job(layer())
    job.received = 10

    def step(received: int, waiting: str) -> Any:
        def do() -> None:
            job.received, job.waiting = received, waiting

        return do

    steps = Steps([step(10, ""), step(15, "for it"), step(15, "for it"), step(15, ""), step(40, "")])
    job.done = steps
    owner._wait(job)
    label = f"layer {sha(BLOB)[7:19]}: downloading"
    assert told.said == [(label, 1024, 10), 0, 5, 0, "for it", 0, 25, "done"]
    assert steps.waited == [0.1] * 5
    told.said.clear()
    owner._jobs[sha(BLOB)] = job
    job.done = Steps([step(40, "")])
    owner.fetch(layer())
    assert told.said[0] == (label, 1024, 40)
    job.done = threading.Event()
    job.done.set()
    told.said.clear()
    owner.fetch(layer())
    assert told.said == [], "what is there already is not waited for"
