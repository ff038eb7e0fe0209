"""Threads told apart: who is inside of a lock, what runs below Python's frames, whose word counts, who is innocent."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import record_bundles
import test_bundles
from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence import kernel
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.dumps.pyspy_json import compiled_frames
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Thread
from hangdebug.scene.locks import HELPER, calls_entered, same_lock
from hangdebug.scene.open_requests import seconds_until_long
from hangdebug.scene.scene import loop_polls, scene

RUN = Frame("Handle._run", "asyncio/events.py", 84)
ONCE = Frame("BaseEventLoop._run_once", "asyncio/base_events.py", 1922)
SELECT = Frame("EpollSelector.select", "selectors.py", 468)
UVLOOP = Frame("run", "uvloop/__init__.py", 96)


def recorded(name: str) -> Evidence:
    return read_bundle(test_bundles.archive(name))[0]


def judged(evidence: Evidence) -> Diagnosis:
    return diagnose(evidence)


@pytest.mark.parametrize(
    "inner, syscall, polls",
    [
        (SELECT, "epoll_wait", True),
        (SELECT, "futex", True),  # it asks for the GIL on its way out
        (ONCE, "epoll_wait", True),
        (ONCE, None, True),
        (ONCE, "recvfrom", False),
        (RUN, "epoll_wait", False),
        (RUN, None, False),
        (RUN, "recvfrom", False),
        (UVLOOP, "epoll_pwait", True),
        (UVLOOP, "running", True),
        (UVLOOP, "recvfrom", False),
        (UVLOOP, "futex", False),
        (UVLOOP, None, True),
    ],
)
def test_a_loop_waits_for_events_in_the_selectors_own_call_alone(
    inner: Frame, syscall: str | None, polls: bool
) -> None:
    assert loop_polls((inner, ONCE), KernelWait(syscall)) == polls


def test_a_native_look_keeps_what_is_neither_pythons_nor_the_systems() -> None:
    def frame(name: str, file: str, module: str | None, line: int = 7) -> dict[str, object]:
        return {"name": name, "filename": file, "module": module, "line": line}

    own, driver = "/srv/app/stock.cpython-311-x86_64-linux-gnu.so", "/srv/venv/lib/python3.11/site-packages/d/_d.so"
    frames = [
        frame("recv", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
        frame("sock_recv", "socketmodule.c", "/usr/lib/python3.11/lib-dynload/_socket.so"),
        frame("d_fetch", "/build/d.c", driver),
        frame("Py_DECREF", "object.h", own),
        frame("stock_ask", "stock.pyx", own, 15),
        frame("ask", "stock.pyx", own, 13),
        frame("__Pyx_Coroutine_SendEx", "stock.pyx", own),
        frame("CPyDef_answer", "build/__native.c", own, 90),
        frame("_PyEval_EvalFrameDefault", "ceval.c", "/usr/bin/python3.11"),
        frame("Handle._run", "asyncio/events.py", None),
        frame("main", "/srv/app/main.py", own),
    ]
    text = json.dumps([{"os_thread_id": 7, "frames": frames}, {"os_thread_id": 8, "frames": frames[-2:]}, 3])
    assert compiled_frames(text) == {
        7: (
            Frame("d_fetch", driver, None),
            Frame("ask", "stock.pyx", 15),
            Frame("answer", "build/__native.c", 90),
        )
    }
    assert compiled_frames("") == compiled_frames("{") == compiled_frames("3") == {}


def test_compiled_code_is_named_by_the_native_look_and_without_one_by_the_kernel() -> None:
    evidence = recorded("compiled_handler")
    answer = judged(evidence)
    assert (answer.state, answer.cause) == ("loop-blocked", "socket") and answer.blocking_frame is not None
    assert answer.blocking_frame.function == "ask_for_stock" and answer.confidence > 0.8
    assert answer.remedy is None or answer.remedy.command is None
    blind = judged(replace(evidence, compiled={}))
    assert (blind.state, blind.cause, blind.blocking_frame) == ("loop-blocked", "socket", None)
    assert blind.confidence <= 0.6 and any("compiled code runs below it" in line for line in blind.evidence)
    assert not any("idle" in line for line in (*blind.evidence, *blind.exonerated))


def test_what_was_seen_before_the_attach_counts_where_the_look_has_ended_a_write() -> None:
    evidence = recorded("log_wire")
    answer = judged(evidence)
    assert (answer.state, answer.cause) == ("loop-blocked", "logging")
    assert any("the look itself has ended this wait" in line for line in answer.evidence)
    moved = [
        replace(one, waits={key: replace(word, switches=index) for key, word in one.waits.items()})
        for index, one in enumerate(evidence.readings)
    ]
    assert judged(replace(evidence, readings=tuple(moved))).state == "healthy", "it woke in between: it was slow"


@pytest.mark.parametrize(
    "one, other, same",
    [
        ('with locked("stock"):', 'with locked("stock"):', False),  # False: it may be
        ('with locked("stock"):', 'with locked("bill"):', None),
        ("with locked(name):", 'with locked("bill"):', False),
        ('with locked("stock"):', 'with opened("stock"):', None),
        ('with locks.of("stock") as held:', 'with locks.of("stock"):', False),
    ],
)
def test_a_lock_that_a_helper_takes_is_known_by_its_call(one: str, other: str, same: bool | None) -> None:
    (first,), (second,) = calls_entered(one), calls_entered(other)
    assert first.kinds == second.kinds == {HELPER}
    assert same_lock(first, second) is same


def test_no_address_tells_locks_apart_where_each_thread_waits_at_its_own() -> None:
    """From Python 3.14 on a lock has no futex of its own: then equal names are all that there is."""
    evidence = recorded("passed_locks")
    assert judged(evidence).state == "deadlock"
    process = replace(evidence.process, python="3.14")
    assert judged(replace(evidence, process=process)).state != "deadlock"


def test_a_lock_has_one_holder_who_is_the_answer() -> None:
    answer = judged(recorded("wsgi_holder"))
    assert any("requests wait for Thread-" in line for line in answer.evidence)
    assert answer.kernel_wait is not None and answer.kernel_wait.syscall == "recvfrom"


def test_connections_that_were_accepted_meanwhile_are_counted_and_those_that_only_wait_are_not() -> None:
    row = "   {}: 0100007F:{} 0100007F:{} {} 00000000:00000000 00:00000000 00000000  0 0 {} 1 0 20 4 0 10 -1\n"
    before = row.format(0, "1F90", "0000", "0A", 11) + row.format(1, "1F90", "C001", "01", 21)
    after = before + row.format(2, "1F90", "C002", "01", 22) + row.format(3, "1F90", "C003", "01", 0)
    after += row.format(4, "2000", "C004", "01", 24)
    assert kernel.accepted_between(before, after, (0x1F90,)) == 1
    assert kernel.accepted_between(after, before, (0x1F90,)) == 0


def test_a_server_with_one_thread_and_no_pause_is_stuck_only_if_it_accepts_nobody_else() -> None:
    evidence = recorded("wsgi_polls")
    assert evidence.accepted == 0 and judged(evidence).state == "sync-worker-blocked"
    assert judged(replace(evidence, accepted=1)).state == "healthy"
    assert judged(replace(evidence, accepted=None)).state == "inconclusive"


def test_a_request_that_goes_round_a_loop_of_its_own_has_no_answer_all_the_same() -> None:
    evidence = recorded("asks_again")
    answer, clients = judged(evidence), evidence.clients
    assert answer.state == "healthy" and answer.confidence <= 0.6 and "goods" in answer.summary
    assert clients is not None and clients.waits
    young = replace(evidence, clients=replace(clients, waits=(3.0,)))
    assert judged(young).confidence > 0.6 and seconds_until_long(scene(young)) == 2.0


def test_a_busy_loop_is_named_by_the_function_that_all_samples_share_whatever_the_last_one_shows() -> None:
    evidence = recorded("cpu_bound")
    frames = {
        str(judged(replace(evidence, snapshots=(*evidence.snapshots[:-1], one))).blocking_frame)
        for one in evidence.snapshots
    }
    assert len(frames) == 1


def test_a_thread_beside_the_loop_is_told_why_it_is_innocent() -> None:
    answer = judged(recorded("background_threads"))
    assert answer.state == "healthy" and answer.confidence > 0.6
    assert any("waits for its next job" in line or "wakes by itself" in line for line in answer.exonerated)


def test_a_session_s_thread_is_no_longer_left_out() -> None:
    evidence = recorded("stands_for_session")
    assert judged(evidence).state == "tasks-waiting"
    unknown = judged(replace(evidence, functions=None))
    assert unknown.confidence <= 0.6 and any("load_table" in line for line in unknown.doubts)


def test_the_loop_of_a_scene_with_a_native_look_stands_in_the_compiled_frame() -> None:
    seen = scene(recorded("compiled_handler"))
    assert all(isinstance(view.thread, Thread) and not view.idle for view in seen.loop)
    assert {view.frame.function for view in seen.loop if view.frame} == {"ask_for_stock"}
    assert "compiled_handler" in record_bundles.expected()


def test_a_request_is_accused_by_how_long_nobody_has_answered_it() -> None:
    evidence = recorded("silent_peer")
    assert judged(evidence).state == "tasks-waiting" and judged(evidence).confidence <= 0.6
    clients = evidence.clients
    assert clients is not None and clients.waits
    owing = (("10.1.2.3:443", 9.0), ("10.1.2.3:443", 5.0), ("10.1.2.4:80", 5.0))
    told = judged(replace(evidence, clients=replace(clients, owing=owing))).evidence[-1]
    assert told == "Asked by this process, and silent since: 10.1.2.3:443 (9 s), 10.1.2.4:80 (5 s)."
    young = replace(evidence, apart=1.0, clients=replace(clients, waits=(4.0, 3.0)))
    assert (judged(young).state, seconds_until_long(scene(young))) == ("healthy", 2.0)  # the younger of both counts
    assert judged(replace(young, apart=6.0)).state == "tasks-waiting"
    heard = replace(evidence, clients=replace(clients, heard=0.2))
    assert judged(heard).state == "healthy", "an answer may be on its way"
    streams = replace(evidence, clients=replace(clients, waits=()))
    assert judged(streams).state == "healthy", "each client has had a part of its answer"
    begun = tuple(replace(task, begun=True) for task in evidence.later)
    assert judged(replace(evidence, later=begun)).confidence > 0.8


def test_a_loop_that_woke_has_run_what_was_ready() -> None:
    evidence = recorded("set_from_thread")
    assert judged(evidence).state == "tasks-waiting"
    woken = [
        replace(one, waits={key: replace(word, switches=index) for key, word in one.waits.items()})
        for index, one in enumerate(evidence.readings)
    ]
    assert judged(replace(evidence, readings=tuple(woken))).state == "healthy"
