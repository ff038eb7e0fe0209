"""What fuzzing found stays mended: every case that ever failed is run, and some new ones of each target.

`make fuzz` runs many more (tooling/fuzz.py).
"""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import fuzz
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.capture.interpreter.objects import KNOWN_ROWS
from hangdebug.errors import BadRequest, NotADump
from hangdebug.evidence import paste
from hangdebug.evidence.bundle import evidence_in, read_archive
from hangdebug.evidence.dumps import asyncio_tools
from hangdebug.evidence.kernel import with_answers, with_sockets
from hangdebug.evidence.model import Clients, Frame, Process, Snapshot
from hangdebug.evidence.paste import read
from hangdebug.repair.proof import curl, pressure
from hangdebug.repair.proof.curl import read_requests
from hangdebug.scene.locks import names_taken_above

KEPT = sorted(path for path in fuzz.FOUND.glob("*-*") if path.is_file())
NOT_HERE = {"memory"} if sys.version_info[:2] not in KNOWN_ROWS else set()


@pytest.mark.parametrize("case", KEPT, ids=lambda path: path.name)
def test_a_case_that_failed_once(case: Path) -> None:
    fuzz.run_case(case.name.partition("-")[0], case.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(fuzz.TARGETS.keys() - NOT_HERE))
def test_some_new_cases(target: str) -> None:
    chance, until = random.Random(target), time.monotonic() + 0.5
    for _ in range(40):
        fuzz.run_case(target, chance.randbytes(60))
        if time.monotonic() > until:
            break


def test_the_tool_finds_a_fault_and_keeps_its_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def faulty(data: bytes) -> int:
        return len(data) // (data[0] % 7)

    monkeypatch.setitem(fuzz.TARGETS, "faulty", faulty)
    monkeypatch.setattr(fuzz.keep, "__defaults__", (tmp_path / "found",))
    cases, failures, _, _ = fuzz.by_chance("faulty", 0.2, 1)
    assert cases > 10 and len(failures) == 1 and failures[0].startswith("faulty: ZeroDivisionError at test_fuzz.py")
    (kept,) = (tmp_path / "found").iterdir()
    with pytest.raises(ZeroDivisionError):
        fuzz.run_case("faulty", kept.read_bytes())


# -- the same in words, for a case is bytes that choose from a corpus that changes ----------------------


@pytest.mark.parametrize(
    "head", ["HTTP/1.1", "HTTP/1.1 30\x9a", "HTTP/1.1 \u00b2\u00b2\u00b2 x", "x", "HTTP/1.1 2000 OK"]
)
def test_what_is_no_status_line_is_no_answer(head: str) -> None:
    assert curl.split_answer(head.encode("latin-1") + b"\r\nDate: x\r\n\r\nbody") == (None, {}, b"")
    assert curl.split_answer(b"HTTP/2 200\r\nA: b\r\n\r\nx") == (200, {"a": "b"}, b"x")


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e400", "-Infinity"])
def test_a_verification_with_numbers_that_are_none_is_none(number: str) -> None:
    assert pressure.read_check(json.dumps(fuzz.CHECK)) is not None
    assert pressure.read_check(json.dumps(fuzz.CHECK).replace('"baseline": 3', f'"baseline": {number}')) is None


@pytest.mark.parametrize("url", ["http://[::", "http://\u2047.0.0.1:8000/", "//[x"])
def test_a_request_to_what_is_no_url_is_a_sentence(url: str) -> None:
    with pytest.raises(BadRequest):
        read_requests(f'url = "{url}"\n', "http://127.0.0.1:8000/", "orders.http")


def test_a_task_far_out_on_a_line_is_read() -> None:
    (found,) = asyncio_tools.read(["\u2514" + " " * 2000 + "(T) save-1", "    \u2514\u2500\u2500  save /srv/app.py:6"])
    assert [task.name for task in found.tasks] == ["save-1"]


LARGE = {
    "one line of 30 MB": "x" * (30 << 20),
    "one line of 5 MB of brackets": "[" * (5 << 20),
    "200,000 brackets in braces": '{"a":' * 100_000 + "[" * 100_000,
    "50,000 frames": 'Thread 1 (idle): "MainThread"\n' + "    f (a.py:3)\n" * 50_000,
    "30,000 threads": "".join(f'Thread {n} (idle): "t{n}"\n    f (a.py:3)\n' for n in range(30_000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LARGE)
def test_a_large_text_is_read_or_refused_in_seconds(kind: str) -> None:
    began = time.process_time()
    with suppress(NotADump):
        assert read(LARGE[kind])
    assert time.process_time() - began < 20


def test_more_threads_than_can_be_judged_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "MOST_THREADS", 10)
    rows = json.dumps([{"pid": 7, "thread_id": n, "frames": [{"name": "f", "filename": "a.py"}]} for n in range(11)])
    for text in (rows, LARGE["30,000 threads"][:2000]):
        with pytest.raises(NotADump, match="threads are more than this tool judges: up to 10") as caught:
            read(text)
        assert "head -n" in caught.value.next


@pytest.mark.slow
def test_the_time_of_an_answer_grows_with_the_threads_and_not_with_their_square() -> None:
    took = []
    for count in (1000, 8000):
        snapshots = read("".join(f'Thread {n} (idle): "t{n}"\n    f (a.py:3)\n' for n in range(count)))
        began = time.process_time()
        assert worst(map(diagnose, evidence_of(snapshots))).state == "inconclusive"
        took.append(time.process_time() - began)
    assert took[1] < 25 * took[0]


def test_a_long_line_of_source_is_searched_once() -> None:
    sources = {"a.py": {1: "def f():", 2: "    " + "lock" * 20_000, 3: "    lock.acquire()", 4: "    wait()"}}
    began = time.process_time()
    assert list(names_taken_above(sources, Frame("f", "a.py", 4))) == [("lock", True)]
    assert time.process_time() - began < 1


def test_an_empty_line_among_the_sockets_is_no_socket() -> None:
    found = with_sockets(Process(), "\n \nrange 1 2\nlistened \u00b2\nepoll x y\nunix\n\n", {}, "\n\n")
    assert (found.listening, found.listens, found.served) == ((), False, False)
    assert with_answers(Clients(1), "\n \n# port received sent\npeer\n\n") == Clients(1, waits=())


@pytest.mark.parametrize("thread", ["2479\u00b22", "thread (2479\u00b22): save"])
def test_a_thread_whose_number_is_none_has_no_number(thread: str) -> None:
    austin = f"Process 7 \u00b7 Thread {thread}\n    f (a.py:3)\n"
    collapsed = f"P7;{thread if ' ' in thread else 'T' + thread};f (a.py:3) 12\n"
    found = [one for text in (austin, collapsed) for one in read_or_none(text)]
    assert all(thread.os_id is None for snapshot in found for thread in snapshot.threads)


def read_or_none(text: str) -> tuple[Snapshot, ...]:
    with suppress(NotADump):
        return read(text)
    return ()


@pytest.mark.parametrize("version", ["3.\u00b2", "3." + "9" * 5000, "3.-1", "\u00b2", "."])
@pytest.mark.parametrize("name", ["lock", "lock_order"])
def test_a_version_that_is_none_is_no_version(name: str, version: str) -> None:
    texts = dict(read_archive(fuzz.ROOT / "tests" / "bundles" / f"{name}.tar.gz"))
    place = next(one for one in texts if one.endswith("process.json"))
    texts[place] = json.dumps({**json.loads(texts[place]), "python": version})
    assert worst(map(diagnose, evidence_in(texts, Path("bundle")))).state in ("loop-blocked", "deadlock")
