"""Who waits for whom: rings that are really closed, live; and waits that look like one, and are none."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import pyspy
from hangdebug.capture.processes import resolve
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Reading
from hangdebug.evidence.paste import read
from hangdebug.evidence.source import with_sources
from hangdebug.observe import observe
from hangdebug.report.text import as_json, as_markdown, as_text
from hangdebug.scene.graph import graph
from hangdebug.scene.locks import locks_held, names_entered, names_taken_above
from hangdebug.scene.scene import scene

DUMPS = Path(__file__).parent / "dumps"


def looked_at(name: str, folder: Path) -> Evidence:
    with zoo.hang(name) as server:
        return observe(resolve(server.pid), folder / "evidence", lambda line: None)[0]


@pytest.mark.live
@pytest.mark.parametrize(
    "name, kinds, first",
    [
        ("lock_order", ["lock", "lock"], "AnyIO worker thread"),
        ("three_locks", ["lock"] * 3, ""),
        ("across_await", ["lock", "task"], "MainThread"),
        ("loop_and_worker", ["future", "loop"], "MainThread"),
        ("join_in_lock", ["join", "lock"], "MainThread"),
        ("nested_submit", ["pool", "pool"], "export_"),
        ("entered_twice", ["lock"], "MainThread"),
    ],
)
def test_a_ring_is_drawn_as_it_was_built(name: str, kinds: list[str], first: str, tmp_path: Path) -> None:
    answer = diagnose(looked_at(name, tmp_path))
    ring = answer.waits_for
    assert answer.state == "deadlock" and [edge.kind for edge in ring] == kinds
    assert ring[0].thread.startswith(first)
    assert [edge.waits_for for edge in ring] == [edge.thread for edge in (*ring[1:], ring[0])], "it closes"
    assert all(edge.sure for edge in ring) and answer.confidence > 0.9
    drawn = " -> ".join([*(edge.thread for edge in ring), ring[0].thread])
    rows = json.loads(as_json(answer))["waits_for"]
    assert rows == [
        {"thread": edge.thread, "waits_for": edge.waits_for, "through": edge.through, "frame": str(edge.frame)}
        for edge in ring
    ]
    assert all(drawn in text for text in (as_text(answer), as_markdown(answer)))
    assert any(drawn in line for line in answer.evidence)


@pytest.mark.live
def test_names_alone_are_less_sure_and_say_why(tmp_path: Path) -> None:
    """`self.lock` of two classes: the kernel shows that nobody wakes, and still the objects are not known."""
    evidence = looked_at("loop_in_ring", tmp_path)
    live = diagnose(evidence)
    assert live.state == "deadlock" and 0.8 < live.confidence < 0.9
    assert any("two objects may each have a lock of that name" in line for line in live.doubts)
    pasted = diagnose(Evidence(evidence.snapshots[-1:], sources=evidence.sources, process=evidence.process))
    assert pasted.state == "deadlock" and pasted.confidence < 0.7
    bare = diagnose(Evidence(evidence.snapshots[-1:], process=evidence.process))
    assert bare.state == "loop-blocked" and not bare.waits_for


@pytest.mark.live
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_addresses_in_locals_tell_two_objects_apart(form: tuple[str, ...]) -> None:
    with zoo.hang("loop_in_ring") as server:
        command = [pyspy.program(), "dump", "--locals", "--pid", str(server.pid), *form]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def told(text: str) -> Diagnosis:
        return diagnose(with_sources(evidence_of(read(text))[0], zoo.HERE / "hung_more"))

    answer = told(text)
    assert answer.state == "deadlock" and all(edge.sure for edge in answer.waits_for) and answer.confidence > 0.7
    counters = next(
        frame.locals["self"] for thread in read(text)[0].threads for frame in thread.frames if frame.name == "count"
    )
    old, new = (counters, "0x7f0000000000") if not form else (f'"addr": {int(counters, 16)}', '"addr": 139637976727552')
    first = text.index(old)  # one of its two frames has another object now
    assert text.count(old) > 1 and told(text[:first] + new + text[first + len(old) :]).state == "loop-blocked"


@pytest.mark.live
def test_a_timeout_or_a_thread_that_wakes_makes_no_ring(tmp_path: Path) -> None:
    evidence = looked_at("lock_order", tmp_path)
    assert diagnose(evidence).state == "deadlock"

    def changed(change: Callable[[KernelWait, int], KernelWait]) -> Evidence:
        def all_of(readings: tuple[Reading | None, ...]) -> tuple[Reading | None, ...]:
            return tuple(
                one
                and replace(
                    one,
                    waits={
                        tid: change(word, index) if word.syscall == "futex" else word for tid, word in one.waits.items()
                    },
                )
                for index, one in enumerate(readings)
            )

        return replace(evidence, readings=all_of(evidence.readings), attached=all_of(evidence.attached))

    timed = changed(lambda word, index: replace(word, args=(*word.args[:3], 0x7F00, *word.args[4:])))
    waking = changed(lambda word, index: replace(word, switches=5 * index))
    assert [diagnose(one).state for one in (timed, waking)] == ["healthy"] * 2
    one_lock = changed(lambda word, index: replace(word, args=(0x1000, *word.args[1:])))
    assert len(diagnose(one_lock).waits_for) == 1, (
        "all wait for one lock: none of them is inside of it, whatever the names say"
    )


@pytest.mark.live
def test_a_lock_whose_holder_is_gone_is_told_from_one_whose_holder_works(tmp_path: Path) -> None:
    gone = diagnose(looked_at("dead_holder", tmp_path / "gone"))
    assert gone.state == "deadlock" and gone.waits_for[0].waits_for == "nobody that is left"
    killed = looked_at("killed_holder", tmp_path / "killed")
    assert diagnose(killed).kernel_wait.detail == "shared with no other process"
    works = diagnose(looked_at("lock", tmp_path / "works"))
    assert works.state == "loop-blocked"
    assert [(edge.thread, edge.waits_for) for edge in works.waits_for] == [("MainThread", "price-refresher")]
    assert any(
        line.startswith("price-refresher stands in refresh") and "http-client" in line for line in works.evidence
    )


@pytest.mark.live
def test_a_semaphore_that_another_process_has_too_is_nobodys_yet(tmp_path: Path) -> None:
    evidence = looked_at("killed_holder", tmp_path)

    def shared(one):
        return one and replace(
            one,
            waits={
                tid: replace(word, detail=word.detail and "shared with 7: python job.py")
                for tid, word in one.waits.items()
            },
        )

    other = replace(
        evidence, readings=tuple(map(shared, evidence.readings)), attached=tuple(map(shared, evidence.attached))
    )
    assert diagnose(other).state == "loop-blocked"


def test_a_dump_that_shows_nobody_at_work_is_a_ring_without_any_source() -> None:
    text = (DUMPS / "run-coroutine-threadsafe" / "py311-pyspy043-loop_and_worker.txt").read_text()
    assert [diagnose(one).state for one in evidence_of(read(text))] == ["deadlock"]
    busy = (
        text + '\nThread 99 (idle): "render_0"\n    render (app.py:3)\n    _worker (concurrent/futures/thread.py:83)\n'
    )
    assert [diagnose(one).state for one in evidence_of(read(busy))] == ["loop-blocked"]


SOURCE = """
a = Lock()
def f():
    with a, open(p) as file, self.b:
        c.acquire()
        try:
            with d:
                pass
            work()
        finally:
            c.release()
        after()
    last()
def g():
    with cond:
        cond.wait()
    with lock, cond:
        ready.wait()
"""


def lines() -> dict[str, dict[int, str]]:
    return {"app.py": dict(enumerate(SOURCE.splitlines(), 1))}


@pytest.mark.parametrize(
    "call, names", [("work()", {"a", "self.b", "c"}), ("after()", {"a", "self.b"}), ("last()", set())]
)
def test_what_a_line_is_inside_of(call: str, names: set[str]) -> None:
    number = next(number for number, text in lines()["app.py"].items() if call in text)
    assert {name for name, _ in names_taken_above(lines(), Frame("f", "app.py", number))} == names


@pytest.mark.parametrize(
    "inner, number, names",
    [
        (("Condition.wait",), 16, set()),
        (("wait",), 16, set()),
        (("Condition.wait", "Event.wait"), 18, {"lock", "cond"}),
        (("wait", "wait"), 18, {"lock", "cond"}),
    ],
)
def test_a_condition_gives_its_lock_up_while_it_waits(inner: tuple[str, ...], number: int, names: set[str]) -> None:
    frames = (*(Frame(name, "threading.py", 1) for name in inner), Frame("g", "app.py", number))
    known = lines()
    known["app.py"][1] = "cond = Condition()"
    assert {one.lock.name for one in locks_held(frames, known)} == names


@pytest.mark.parametrize(
    "text, names",
    [
        ("with a:", ["a"]),
        ("with self.a as x, b:  # both", ["self.a", "b"]),
        ("with (a):", ["a"]),
        ("with locks[key]:", ["locks[key]"]),
        ("with open(path):", []),
        ("async with a:", []),
        ("with", []),
        ("x = 3", []),
    ],
)
def test_what_a_with_line_enters(text: str, names: list[str]) -> None:
    assert list(names_entered(text)) == names


@pytest.mark.live
def test_a_large_pool_that_waits_for_itself_is_judged_in_bounded_time(tmp_path: Path) -> None:
    evidence = looked_at("nested_submit", tmp_path)
    snapshots = tuple(
        replace(
            one,
            threads=one.threads
            + tuple(
                replace(thread, os_id=10_000 + index, name=f"export_{index + 2}")
                for thread in one.threads
                if thread.name == "export_0"
                for index in range(60)
            ),
        )
        for one in evidence.snapshots
    )
    began = time.process_time()
    assert diagnose(replace(evidence, snapshots=snapshots)).cause == "threadpool-limit"
    assert time.process_time() - began < 10


def test_two_in_one_function_of_a_library_are_no_lock_without_the_kernels_word():
    def idle(number, *lines):
        return "\n".join([f'Thread {number} (idle): "w{number}"', *(f"    {line}" for line in lines)])

    def edges(file):
        last = "show (desk/views.py:9)", "wsgi_app (flask/app.py:1498)", "_bootstrap (threading.py:995)"
        inside = ("readinto (socket.py:706)", "ask (desk/bank.py:4)", f"get ({file}:52)", *last)
        text = "\n".join([idle(1, f"get ({file}:40)", *last), idle(2, *inside)])
        return graph(scene(evidence_of(read(text))[0])).edges

    assert len(edges("functools.py")) == 1
    assert not edges("zeep/transports.py")
