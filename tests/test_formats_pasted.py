"""What people's hands, other tools and other programs make of a dump.

Every text here was printed by a program of tests/pasted, by a capture of the zoo that a test bends as people do, or by
Python while the test runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest

from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.errors import NotADump
from hangdebug.evidence.model import Snapshot
from hangdebug.evidence.paste import read

HERE = Path(__file__).parent
PASTED, DUMPS = HERE / "pasted", HERE / "dumps"
SPIED = re.sub(r"  # <-- .*", "", (DUMPS / "executor-shutdown" / "py311-pyspy043.txt").read_text())
SLEEPING = re.sub(r"  # <-- .*", "", (DUMPS / "sleep" / "py311-faulthandler.txt").read_text())


def told(text: str) -> Diagnosis:
    return worst(map(diagnose, evidence_of(read(text))))


def shape(snapshots: tuple[Snapshot, ...]) -> list:
    return [
        [(f.name, f.file, f.line) for f in one.frames]
        for snapshot in snapshots
        for one in snapshot.threads
        if one.frames
    ]


def test_uwsgis_tracebacker_is_read() -> None:
    """`uwsgi -w slow --py-tracebacker SOCKET`, two requests, `uwsgi --connect-and-read SOCKET1`."""
    (snapshot,) = read((PASTED / "uwsgi.txt").read_text())
    assert [one.name for one in snapshot.threads] == ["uWSGIWorker1Core1", "uWSGIWorker1Core0"]
    frames = snapshot.threads[0].frames
    assert [(one.function, one.line) for one in frames] == [("price", 9), ("quote", 13), ("application", 19)]
    assert frames[0].text == "time.sleep(3600)" and frames[0].file == "/srv/app/slow.py"
    assert len(read((PASTED / "uwsgi.txt").read_text() * 2)) == 2
    assert told((PASTED / "uwsgi.txt").read_text()).cause == "sleep"


def test_a_cell_that_was_interrupted_is_read_from_ipython_7() -> None:
    (snapshot,) = read((PASTED / "ipython7.txt").read_text())
    (thread,) = snapshot.threads
    assert [(one.function, one.line) for one in thread.frames] == [
        ("wait", 312),
        ("wait", 581),
        ("collect", 9),
        ("<listcomp>", 15),
        ("build", 14),
        ("<module>", 2),
    ]
    assert (snapshot.format, thread.frames[2].text, snapshot.python) == ("IPython traceback", "DONE.wait()", "3.9")
    answer = told((PASTED / "ipython7.txt").read_text())
    assert (answer.cause, answer.blocking_frame.function, answer.blocking_frame.line) == ("lock", "collect", 9)


@pytest.mark.slow
def test_a_cell_that_was_interrupted_is_read_from_this_ipython() -> None:
    done = subprocess.run([sys.executable, str(PASTED / "interrupted.py")], capture_output=True, text=True, timeout=60)
    (snapshot,) = read(done.stdout + done.stderr)
    (thread,) = snapshot.threads
    assert [one.name for one in thread.frames][-2:] == ["build", "<module>"]
    collect = next(one for one in thread.frames if one.function == "collect")
    assert (collect.line, collect.text, Path(collect.file).name) == (9, "DONE.wait()", "report.py")
    assert (thread.frames[0].name, thread.frames[0].text) == ("wait", "waiter.acquire()")


def test_a_recipe_that_writes_a_colon_after_file() -> None:
    """As many services print themselves on a signal: `# Thread: name(ident)` and `File: "...", line N, in f`."""
    done, begun = threading.Event(), threading.Event()
    worker = threading.Thread(target=lambda: (begun.set(), done.wait()), name="Worker-1")
    worker.start()
    try:
        assert begun.wait(10)
        lines = []
        for ident, frame in sys._current_frames().items():
            name = {one.ident: one.name for one in threading.enumerate()}.get(ident, "")
            lines.append(f"\n# Thread: {name}({ident})")
            for file, number, function, source in traceback.extract_stack(frame):
                lines += [f'File: "{file}", line {number}, in {function}'] + [f"  {source.strip()}"] * bool(source)
    finally:
        done.set()
        worker.join()
    found = {one.name: one for one in read("\n".join(lines))[0].threads}
    assert found["Worker-1"].frames[-1].name == "_bootstrap" and "wait" in {
        one.name for one in found["Worker-1"].frames
    }
    assert any("extract_stack(frame)" in one.text for one in found["MainThread"].frames), found["MainThread"]


BENT = {
    "strings of code": lambda text: (
        "dump = [\n" + "\n".join(f"    {json.dumps(line)}," for line in text.splitlines()) + "\n]"
    ),
    "strings with line ends": lambda text: "\n".join(
        "        " + json.dumps(line + "\n") for line in text.splitlines()
    ),
    "single quotes": lambda text: "\n".join(f"    '{line}'," for line in text.splitlines()),
    "comments": lambda text: "\n".join(f"        # {line}" for line in text.splitlines()),
    "ids taken out": lambda text: re.sub(r"Thread \d+ \(", "Thread (", text),
    "ids replaced": lambda text: re.sub(r"Thread \d+ \(", "Thread N (", text),
    "ids cut short": lambda text: re.sub(r"Thread \d+ \(", "Thread 0x7f... (", text),
    "names in the ids' place": lambda text: re.sub(r'Thread \d+ (\(\S+\)): ("[^"]*")', r"Thread \2 \1:", text),
    "no lines in files": lambda text: re.sub(r"(?m)(\.py):\d+\)$", r"\1)", text),
    "lines elided": lambda text: re.sub(r"(?m)(\.py):\d+\)$", r"\1:...)", text),
}


@pytest.mark.parametrize("how", BENT)
def test_a_dump_bent_by_hand_is_read(how: str) -> None:
    clean, bent = shape(read(SPIED)), shape(read(BENT[how](SPIED)))
    if how.endswith(("files", "elided")):
        clean, bent = [[[frame[:2] for frame in one] for one in found] for found in (clean, bent)]
    assert bent == clean
    assert told(BENT[how](SPIED)).state == told(SPIED).state


def test_heads_by_hand_keep_stacks_apart() -> None:
    """Threads' usual names head the stacks that people copy by hand; a line of prose after an empty one does too."""
    blocks = SPIED.split("\nThread ")[1:]
    named = [re.match(r'\d+ \(\S+\): "([^"]*)"', block)[1] for block in blocks]
    known = "\n\n".join(f"{name} (see below)\n" + block.partition("\n")[2] for name, block in zip(named, blocks))
    assert next(one.name for one in read(known)[0].threads) == "MainThread"
    prose = "\n\n".join("  and the next one\n" + block.partition("\n")[2] for block in blocks)
    assert shape(read(prose)) == shape(read(SPIED))


def test_faulthandlers_addresses_may_be_cut_short() -> None:
    cut = re.sub(r"0x[0-9a-f]{16}", "0x...", SLEEPING)
    assert shape(read(cut)) == shape(read(SLEEPING)) and len(read(cut)) == 1


def test_elided_paths_are_those_of_the_library() -> None:
    cut = re.sub(
        r'"/usr/local/lib/python3\.\d+/(?:site-packages/)?',
        '".../',
        re.sub(r'"\S*/site-packages/', '"\u2026/', SLEEPING),
    )
    assert '"\u2026/uvicorn' in cut and '".../asyncio' in cut
    one, two = told(SLEEPING), told(cut)
    assert (two.state, two.cause, two.blocking_frame.line) == (one.state, one.cause, one.blocking_frame.line)


@pytest.mark.parametrize("wrap", [r"\1\n", r"\1,\n    "])
def test_frames_that_mail_wrapped_are_whole_again(wrap: str) -> None:
    text = re.sub(r"  # <-- .*", "", (DUMPS / "sleep" / "py311-current_frames.txt").read_text())
    pattern = r"(line \d+, in) " if wrap == r"\1\n" else r'(File "[^"]+"), '
    assert shape(read(re.sub(pattern, wrap, text))) == shape(read(text))


def test_a_tasks_repr_over_several_lines_is_one() -> None:
    line = (
        "WARNING: Executing <Task pending name='Task-3' coro=<confirm() running "
        "at /srv/app.py:12> wait_for=<Future pending "
        "cb=[Task.task_wakeup()] created at /srv/x.py:3> created at /srv/y.py:4> took 2.345 seconds"
    )
    wrapped = re.sub(r" (coro=|wait_for=|created)", r"\n    \1", line)
    assert read(wrapped)[0].tasks == read(line)[0].tasks
    answer = told(wrapped)
    assert (answer.state, answer.blocking_frame.line) == ("loop-blocked", 12) and answer.confidence <= 0.65
    assert told(line.replace("2.345", "0.145")).state == "inconclusive"


def test_a_call_tree_is_read_from_its_root() -> None:
    thread = read(SPIED)[0].threads[0]
    tree = "\n".join(
        "  " * depth + "\u2192 " * bool(depth) + str(frame) for depth, frame in enumerate(reversed(thread.frames[:4]))
    )
    (found,) = read(tree)[0].threads
    assert [one.name for one in found.frames] == [one.name for one in thread.frames[:4]]


def test_functions_joined_to_a_frame_by_arrows_are_no_prose() -> None:
    joined = read(
        'Thread 12: "git"\n    join -> _communicate -> run (subprocess.py:512)\n    files (/srv/app/index.py:9)\n'
    )
    assert shape(joined) == [[("run", "subprocess.py", 512), ("files", "/srv/app/index.py", 9)]]
    assert shape(read("See the worker (pid 12, dumped at 17:31).\n" + SPIED)) == shape(read(SPIED))


def test_threads_without_a_frame_are_no_error() -> None:
    """A server written in C shows its threads, and no Python frame while it is idle."""
    head = re.match(r"(?s).*?\n\n", SPIED)[0] + 'Thread 12 (idle): "uWSGIWorker1Core0"\n'
    assert told(head).state == "inconclusive"
    with pytest.raises(NotADump):
        read('Thread 12 (idle): "uWSGIWorker1Core0"\n')


def test_a_name_stands_for_the_pool_that_was_cut_off() -> None:
    """asyncio.run joins the default executor: its thread's own frames end before the pool's."""
    text = (
        'Thread 1 (idle): "MainThread"\n    run_until_complete (asyncio/base_events.py:641)\n'
        "    close (asyncio/runners.py:71)\n"
        'Thread 2 (idle): "Thread-1 (_do_shutdown)"\n    shutdown (concurrent/futures/thread.py:235)\n'
        "    _do_shutdown (asyncio/base_events.py:621)\n"
        'Thread 3 (idle): "asyncio_0"\n    wait (subprocess.py:1264)\n    fetch (/srv/app/main.py:9)\n'
    )
    answer = told(text)
    assert (answer.state, answer.cause, answer.blocking_frame.function) == ("exit-hang", "default-executor", "fetch")


def test_a_loop_that_polls_on_windows_is_idle() -> None:
    """There a selector has a function of its own below `select`, and a proactor one above it."""
    for poll in (
        "    _select (selectors.py:314)\n    select (selectors.py:323)\n",
        "    _poll (asyncio\\windows_events.py:775)\n    select (asyncio\\windows_events.py:446)\n",
    ):
        text = (
            f'Thread 8 (idle): "MainThread"\n{poll}    _run_once (asyncio\\base_events.py:1961)\n'
            f"    run_forever (asyncio\\base_events.py:645)\n"
        )
        answer = told(text)
        assert answer.state == "inconclusive" and answer.confidence <= 0.6
        assert "idle" in answer.summary and "list of tasks" in answer.summary  # one dump is no clean bill of health


def test_the_place_to_look_at_is_named_where_no_loop_runs() -> None:
    """The one inside of the application's code: not the main thread that joins it, nor one that waits for work."""
    text = (
        'Thread 1 (idle): "MainThread"\n    join (threading.py:1119)\n    <module> (/srv/app/batch.py:30)\n'
        'Thread 2 (idle): "reports"\n    get (queue.py:171)\n    send (/srv/app/reports.py:8)\n'
        'Thread 3 (idle): "loader"\n    readinto (socket.py:706)\n    get '
        "(requests/api.py:73)\n    load (/srv/app/batch.py:12)\n"
    )
    answer = told(text)
    assert (answer.blocking_frame.function, answer.cause) == ("load", "http-client")
    assert "load (/srv/app/batch.py:12)" in answer.summary and answer.confidence < 0.7


def test_a_suspended_coroutines_stack_is_no_threads() -> None:
    text = (
        '  File "/srv/app/main.py", line 9, in consume\n    await queue.get()\n'
        '  File "/usr/local/lib/python3.11/asyncio/queues.py", line 158, in get\n    await getter\n'
    )
    assert told(text).state in ("inconclusive", "tasks-waiting")
    assert told("Traceback (most recent call last):\n" + text).confidence <= 0.3


def test_a_joined_pool_is_a_blocked_loop_though_the_application_has_no_frame_there() -> None:
    """Django's handler leaves its thread-sensitive context: only asgiref and the pool stand on the loop's thread."""
    text = (
        'Thread 7 (idle): "MainThread"\n    _wait_for_tstate_lock (threading.py:1139)\n    join (threading.py:1119)\n'
        "    shutdown (concurrent/futures/thread.py:235)\n    __aexit__ (asgiref/sync.py:148)\n"
        "    __call__ (django/core/handlers/asgi.py:165)\n"
    )
    answer = told(text)
    assert (answer.state, answer.cause) == ("loop-blocked", "executor-shutdown") and answer.confidence <= 0.6


TIMER = "faulthandler.dump_traceback_later(1, exit=True)"  # set where nothing is left to do but to wait
IMPORTS = {
    "main.py": "import rates\n",
    "rates.py": f"""
import faulthandler, socket
ours, theirs = socket.socketpair()
{TIMER}
ours.recv(1)
""",
}
ENDS = {
    "main.py": f"""
import asyncio, faulthandler, socket
ours, theirs = socket.socketpair()
async def main():
    asyncio.get_running_loop().run_in_executor(None, ours.recv, 1)
    {TIMER}
asyncio.run(main())
"""
}
ASKS = {
    "main.py": f"""
import asyncio, faulthandler, socket
from redis import Redis
silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
async def main():
    {TIMER}
    Redis(port=silent.getsockname()[1], socket_timeout=None).get("key")
asyncio.run(main())
"""
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "files, command, state, cause",
    [
        (IMPORTS, ("-m", "uvicorn", "main:app"), "startup-hang", None),
        (ENDS, ("main.py",), "exit-hang", "default-executor"),
        (ASKS, ("main.py",), "loop-blocked", "database"),
    ],
    ids=["a start, in one stack", "threads without names", "a client, and no word of waiting"],
)
def test_what_faulthandler_prints_of_a_live_process(files, command, state, cause, tmp_path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
    )
    [evidence] = evidence_of(read(done.stderr))
    answer = diagnose(evidence)
    assert answer.state == state and cause in (None, answer.cause), answer
    assert answer.confidence < 0.9  # one dump shows one moment
