"""Other tools' dumps: real captures of hung servers say what they must, and the shapes that people paste are known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.model import Frame, Snapshot
from hangdebug.evidence.paste import read

DUMPS = Path(__file__).parent / "dumps"
NAMES = {
    "asyncio_ps": "python -m asyncio",
    "asyncio_pstree": "python -m asyncio",
    "asyncio_spy": "py-spy-asyncio text",
    "austin": "collapsed stacks",
    "austin_where": "austin --where",
    "current_frames": "traceback",
    "faulthandler": "faulthandler",
    "gdb": "gdb",
    "profiling": "profiling.sampling",
    "pystack": "pystack",
    "profiling_tasks": "profiling.sampling",
    "pystack_native": "pystack",
    "pyspy_raw": "collapsed stacks",
    "task_stacks": "traceback",
    "spy_locals": "py-spy text",
    "spy_full": "py-spy text",
}
CAPTURES = sorted(file for name in NAMES for file in DUMPS.rglob(f"py*-{name}.*"))
FILES = pytest.mark.parametrize("file", CAPTURES, ids=lambda file: f"{file.parent.name}-{file.name}")
FILE = r'(?m)^ {2,4}(?:\(Python\) )?File "(?!<task>)'
BEGINS = {
    "austin --where": r"(?m)^    \x1b",
    "py-spy text": r"(?m)^    \S",
    "py-spy-asyncio text": r"(?m)^    \S",
    "faulthandler": FILE,
    "traceback": FILE,
    "pystack": FILE,
    "gdb": FILE,
    "profiling.sampling": FILE,
}
COUNTED = [file for file in CAPTURES if file.suffix == ".txt" or "task_stacks" in file.name]


def form(file: Path) -> str:
    return file.stem.partition("-")[2]


def told(text: str) -> Diagnosis:
    return worst(map(diagnose, evidence_of(read(text))))


@FILES
def test_a_capture_is_known_for_what_it_is(file: Path) -> None:
    found = read(file.read_text())
    assert len(found) == 1
    expected = NAMES[form(file)]
    assert found[0].format in ({expected, "py-spy text"} if expected == "py-spy-asyncio text" else {expected})


@pytest.mark.parametrize("file", COUNTED, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_every_frame_of_a_capture_is_read(file: Path) -> None:
    """Counted by what begins every frame's line in the format, and no other line."""
    text, snapshot = file.read_text(), read(file.read_text())[0]
    count = sum(len(one.frames) for one in (*snapshot.threads, *snapshot.tasks))
    assert count == len(re.findall(BEGINS[snapshot.format], text))


@pytest.mark.parametrize("file", sorted(DUMPS.rglob("*.collapsed")), ids=lambda file: f"{file.parent.name}-{file.name}")
def test_a_recording_gives_the_truth_or_a_doubt(file: Path) -> None:
    truth, answer = zoo.truth(file.parent.name), told(file.read_text())
    # Whether a coroutine waits for ever, stacks do not show, however many there are.
    assert answer.state == ("inconclusive" if truth.state == "healthy" else truth.state)
    assert answer.cause == truth.cause or (answer.cause == "other" and answer.confidence < 0.7)
    frame = answer.blocking_frame
    assert (frame is None) == (not truth.marked)
    assert frame is None or (Path(frame.file).name, frame.line) in truth.marked


@pytest.mark.parametrize("file", sorted(DUMPS.rglob("*.tasks")), ids=lambda file: f"{file.parent.name}-{file.name}")
def test_tasks_are_read_and_accuse_nobody(file: Path) -> None:
    snapshot = read(file.read_text())[0]
    served = [task for task in snapshot.tasks if task.coroutine in ("Server.serve", "serve")]
    assert len(served) == 1 and served[0].name == "Task-1"
    assert not snapshot.threads and told(file.read_text()).confidence <= 0.3


def test_the_tasks_of_a_full_pool_wait_for_its_threads() -> None:
    for name in ("asyncio_ps", "asyncio_pstree"):
        tasks = read((DUMPS / "threadpool-limit" / f"py314-{name}.tasks").read_text())[0].tasks
        waiting = [task for task in tasks if task.waits_on == "AsyncIOBackend.run_sync_in_worker_thread"]
        assert len(waiting) == 40, name
        assert all(task.coroutine == "RequestResponseCycle.run_asgi" for task in waiting)


def test_the_source_lines_of_a_dump_are_evidence() -> None:
    """faulthandler has none, so that it cannot tell time.sleep from any other C call; a traceback has them."""
    bare = told((DUMPS / "sleep" / "py311-faulthandler.txt").read_text())
    whole = told((DUMPS / "sleep" / "py311-current_frames.txt").read_text())
    assert (bare.cause, whole.cause) == ("other", "sleep")
    assert whole.blocking_frame.source.startswith("time.sleep(") and whole.confidence > bare.confidence


def frames(text: str) -> list[Frame]:
    return [frame for one in read(text) for stack in (*one.threads, *one.tasks) for frame in stack.frames]


STACK = (
    '  File "/srv/app/main.py", line 20, in <module>\n    run()\n  File '
    '"/srv/app/main.py", line 12, in work\n    wait()\n'
)
HEADS = {  # home-made heads: the name and ident that they say
    "# ThreadID: 140245": "140245",
    "# Thread: MainThread(140245)": "MainThread",
    "Thread 140245:": "140245",
    "--- Thread: MainThread (140245) ---": "MainThread",
    "=== Thread 140245 (MainThread) ===": "MainThread",
    "Thread: MainThread": "MainThread",
    "Stack for thread 140245:": "140245",
    'Thread "Worker-1":': "Worker-1",
    "<_MainThread(MainThread, started 140245)>": "MainThread",
    "Thread MainThread (id: 140245)": "MainThread",
    "<Thread(ThreadPoolExecutor-0_0, started daemon 140245)>": "ThreadPoolExecutor-0_0",
    "*** Thread 0x7f00aa ***": "0x7f00aa",
    "Thread: Worker-1, daemon: True": "Worker-1",
    "Traceback for thread 140245 (Worker-1):": "Worker-1",
    "ThreadID: 140245 Name: Worker-1": "Worker-1",
    "Thread ID 140245": "140245",
    "Thread name: Worker-1": "Worker-1",
}


@pytest.mark.parametrize("line", HEADS)
def test_home_made_heads_name_their_thread(line: str) -> None:
    (thread,) = read(f"{line}\n{STACK}")[0].threads
    assert thread.name == HEADS[line]
    assert [frame.name for frame in thread.frames] == ["work", "<module>"]
    assert [frame.text for frame in thread.frames] == ["wait()", "run()"]


@pytest.mark.parametrize(
    "prose",
    [
        "Thread pool is exhausted, I think",
        "The thread hangs here:",
        "threading is hard",
        "Thread safety: see below",
        "It is the main thread that is stuck.",
    ],
)
def test_prose_about_threads_is_no_head(prose: str) -> None:
    (one,) = read(f"{prose}\n{STACK}")[0].threads
    assert (one.name, len(one.frames)) == ("", 2)


def test_a_repeated_faulthandler_dump_is_several_samples() -> None:
    """`dump_traceback_later(repeat=True)` writes the same threads again and again."""
    text = (DUMPS / "executor-shutdown" / "py311-faulthandler.txt").read_text()
    again = text.replace("Fatal Python error: Aborted", "Timeout (0:00:05)!")
    assert len(read(again * 3)) == 3
    assert told(again * 3).samples == 3 and told(again * 3).confidence > told(text).confidence
    unsaid = text.replace("Fatal Python error: Aborted", "")
    assert len(read(unsaid * 3)) == 3


def test_threads_that_share_a_cut_name_stay_apart() -> None:
    """From 3.14 on faulthandler prints the kernel's names: 40 times `AnyIO worker th`."""
    (snapshot,) = read((DUMPS / "threadpool-limit" / "py314-faulthandler.txt").read_text())
    assert sum(thread.name == "AnyIO worker th" for thread in snapshot.threads) == 40


def test_a_stack_with_no_line_numbers_is_a_stack() -> None:
    assert frames('File "/srv/app/a.py" in f\nFile "/srv/app/b.py" in g\n') == [
        Frame("f", "/srv/app/a.py"),
        Frame("g", "/srv/app/b.py"),
    ]
    assert frames("Thread 12 (idle)\n\tf (a.py)\n\tg (b.py)\n") == [Frame("f", "a.py"), Frame("g", "b.py")]


def test_native_frames_of_py_spy_are_left_out() -> None:
    """Shapes of `dump --native`, which fails on the servers captured here ("Failed to merge")."""
    text = (
        'Thread 5 (idle): "MainThread"\n    clock_nanosleep (libc.so.6)\n    '
        "0x7f3a1c (libc-2.31.so)\n    PyEval_Call (python3.11)\n"
        "    std::list<int, x>::go (ext.cpython-311-x86_64-linux-gnu.so)\n   "
        " f (a.py:3)\n    loop (uvloop/loop.pyx:1379)\n"
    )
    assert frames(text) == [Frame("f", "a.py", 3), Frame("loop", "uvloop/loop.pyx", 1379)]
    assert read(text)[0].skipped == ()


def test_an_exceptions_traceback_is_no_thread_beside_a_dump() -> None:
    failed = "Traceback (most recent call last):\n" + STACK + "ValueError: no such order\n"
    dump = (DUMPS / "sleep" / "py311-current_frames.txt").read_text()
    assert len(read(failed + dump)[0].threads) == len(read(dump)[0].threads)
    assert any("ValueError" in line for line in read(failed + dump)[0].skipped)
    assert len(read(failed)[0].threads) == 1  # alone it is all there is


def test_what_the_shapes_of_other_years_look_like() -> None:
    """Shapes from the tools' documentation, of versions that were not run here."""
    assert frames("#5 Frame 0x7f2e48, for file /srv/app.py, line 32, in fetch (topic='sport')") == [
        Frame("fetch", "/srv/app.py", 32)
    ]
    assert frames("Thread 2 (LWP 153):\n#0 Frame 0x7f, for file a.py, line 3, in f ()\n") == [Frame("f", "a.py", 3)]
    assert frames('Stack (most recent call first):\n  File "a.py", line 3 in f\n') == [Frame("f", "a.py", 3)]
    assert frames('Current thread 0x7f:\n  File "a.py", line ??? in f\n  <truncated rest of calls>') == [
        Frame("f", "a.py")
    ]
    assert frames("P12;T7f01;a.py:main:3;b.py:f:4 17") == [Frame("f", "b.py", 4), Frame("main", "a.py", 3)]
    assert frames("File ~/app.py:12, in work(n)\n     10 x\n---> 12 wait()\n") == [Frame("work", "~/app.py", 12)]
    assert frames("│ /srv/app.py:12 in work    │") == [Frame("work", "/srv/app.py", 12)]


def test_asyncios_debug_line_is_a_task_that_held_the_loop() -> None:
    line = (
        "Executing <Task pending name='Task-3' coro=<confirm() running at /srv/app.py:12> wait_for=<Future pending "
        "cb=[Task.task_wakeup()] created at /srv/x.py:3> created at /srv/y.py:4> took 12.345 seconds"
    )
    (task,) = read(f"WARNING:asyncio:{line}\n")[0].tasks
    assert (task.name, task.state, task.coroutine, task.waits_on) == (
        "Task-3",
        "took 12.345 seconds",
        "confirm",
        "Future pending",
    )
    assert task.frames == (Frame("confirm", "/srv/app.py", 12),)
    (handle,) = read("Executing <TimerHandle when=12.5 tick() at /srv/app.py:9> took 0.300 seconds")[0].tasks
    assert (handle.coroutine, handle.frames) == ("tick", (Frame("tick", "/srv/app.py", 9),))


def test_a_nameless_main_thread_is_the_one_that_threading_did_not_start() -> None:
    """CPython 3.9 drops the frames below a cancelled coroutine, and its faulthandler has no names."""
    snapshot: Snapshot = read((DUMPS / "executor-shutdown" / "py39-faulthandler.txt").read_text())[0]
    assert not any(frame.name == "_run_once" for thread in snapshot.threads for frame in thread.frames)
    answer = told((DUMPS / "executor-shutdown" / "py39-faulthandler.txt").read_text())
    assert (answer.state, answer.cause, answer.role) == ("loop-blocked", "executor-shutdown", "event-loop")
