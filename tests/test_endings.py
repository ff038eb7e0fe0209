"""A run that is ended, at any moment and by any signal, leaves nothing: no process, no half-written file, no stop.

HANG_LONG=1 ends each verb at 50 moments instead of a few.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hangdebug.capture import bundle, pyspy
from hangdebug.errors import HangError
from hangdebug.files import Ended, end, heard, held, uninterrupted

ROOT = Path(__file__).parents[1]
HANG, DUMP = ROOT / "scripts" / "hang.py", ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
TINY = ROOT / "tests" / "tiny_server.py"
MOMENTS = 50 if os.environ.get("HANG_LONG") else 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WAITS = """
import threading, time
for _ in range(20):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print("waiting", flush=True)
while True:
    time.sleep(0.01)
"""
BAD = """from concurrent.futures import ThreadPoolExecutor
async def gen(loop):
    with ThreadPoolExecutor() as pool:
        yield await loop.run_in_executor(pool, fetch)
"""
QUIET = next(n for n, line in enumerate(HANG.read_text().splitlines(), 1) if "signal(SIGINT, SIG_DFL)" in line)
START = f"{sys.executable} {TINY} good {{port}}"
VERBS = {  # the words, and about how many seconds it takes
    "capture": (("capture", "--pid", "TARGET", "--out", "kept", "--zip"), 2.0),
    "record": (("record", "--pid", "TARGET", "--seconds", "1"), 2.0),
    "diagnose": (("diagnose", "--pid", "TARGET"), 2.0),
    "stacks": (("stacks", "--pid", "TARGET"), 2.0),
    "diagnose a dump": (("diagnose", str(DUMP)), 0.5),
    "report": (("report", str(DUMP), "--out", "report"), 0.6),
    "fix": (("fix", "app.py", "--write"), 0.5),
    "verify": (("verify", "--url", "http://127.0.0.1:{port}/health", "--start", START, "--save", "check.json"), 4.0),
    "triage": (("triage",), 8.0),
}


@pytest.fixture(scope="module")
def target() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A shell starts what it leaves in the background with SIGINT ignored, and so would all that we start here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_is_ended_leaves_nothing(verb: str, target: int, ctrl_c: None, tmp_path: Path) -> None:
    words, takes = VERBS[verb]
    chance = random.Random(verb)
    for moment in range(MOMENTS):
        number = SIGNALS[moment % 3]
        work, scratch, mark = tmp_path / f"work{moment}", tmp_path / f"tmp{moment}", uuid.uuid4().hex
        work.mkdir()
        scratch.mkdir()
        (work / "app.py").write_text(BAD)
        after = chance.random() * takes
        with subprocess.Popen(
            [sys.executable, HANG, *(str(target) if word == "TARGET" else word for word in words)],
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(scratch), "HANG_TEST": mark},
        ) as job:
            try:
                job.communicate(timeout=after)
            except subprocess.TimeoutExpired:
                job.send_signal(number)
            _, errors = job.communicate(timeout=30)
        said = f"{verb}, {number.name} after {after:.2f} s: status {job.returncode}\n{errors}"
        assert "Traceback" not in errors or started(errors), said
        assert job.returncode in (0, 1, 128 + number, -number), said
        assert not left_running(mark), said
        assert not [*scratch.iterdir(), *work.rglob("*.part"), *work.rglob(".hang-*")], said
        assert psutil.Process(target).status() not in ("stopped", "tracing-stop"), said
        for file in work.rglob("*.json"):
            json.loads(file.read_text())
        assert verb != "fix" or compile((work / "app.py").read_text(), "app.py", "exec"), said


def started(errors: str) -> bool:
    """Whether it was Python itself that was starting, or the first lines of hang.py, which tell it to be quiet."""
    lines = [int(found) for found in re.findall(r'hang\.py", line (\d+)', errors)]
    return all(line <= QUIET for line in lines)


def left_running(mark: str) -> list[psutil.Process]:
    """The processes that a run started, which inherited its environment; a moment is theirs to end in."""
    for _ in range(20):
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HANG_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        if not found:
            return []
        time.sleep(0.1)
    return found


# -- the parts -----------------------------------------------------------------------------------------


@pytest.fixture
def quiet() -> Iterator[None]:
    yield
    heard.clear()
    held.clear()


def test_an_ending_waits_for_the_block_that_holds_it_and_only_the_first_counts(quiet: None) -> None:
    done = []
    with pytest.raises(Ended, match="SIGTERM"), uninterrupted():  # noqa: PT012
        with uninterrupted():
            end(signal.SIGTERM)
            end(signal.SIGINT)
        done.append("inner")
    end(signal.SIGINT)  # what impatience sends ends no clean-up
    assert done == ["inner"]


def test_an_ending_at_once_where_nothing_holds_it(quiet: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        end(signal.SIGHUP)


DROPS = """
import sys, time, weakref
sys.path.insert(0, sys.argv[1])
from hangdebug.files import Ended, end, listen, obey
class Thing: pass
listen()
try:
    thing = Thing()
    kept = weakref.ref(thing, lambda ref: end(15))
    del thing  # what its callback raises is dropped
    time.sleep(9)
except Ended as stop:
    sys.exit(obey(stop))
"""


@pytest.mark.slow
def test_an_ending_that_python_drops_is_sent_again() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", DROPS, ROOT / "scripts"], stderr=subprocess.DEVNULL)
    assert done.returncode == 128 + signal.SIGTERM and time.monotonic() - began < 8


FAKE_SPY = """#!{python}
import os, signal, sys, time
if "--version" in sys.argv:
    print("py-spy 0.4.9")
    sys.exit()
os.kill(int(sys.argv[-1]), signal.SIGSTOP)  # as an old one does that is ended while it attaches
time.sleep(60)
"""


@pytest.mark.live
def test_a_target_that_a_hanging_pyspy_left_stopped_is_let_go_on(
    target: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "py-spy"
    fake.write_text(FAKE_SPY.format(python=sys.executable))
    fake.chmod(0o755)
    monkeypatch.setattr(pyspy, "program", lambda: str(fake))
    monkeypatch.setattr(pyspy, "TIMEOUT", 0.5)
    with pytest.raises(HangError, match="gave no answer"):
        pyspy.run_pyspy(target, ["dump", "--pid", str(target)], 0.5)
    assert psutil.Process(target).status() in ("running", "sleeping")


def test_what_is_begun_side_by_side_is_done_however_much_it_is() -> None:
    with bundle.side_by_side() as pool:
        looks = [pool.submit(time.sleep, 0.01) for _ in range(40)]
    assert [one.result() for one in looks] == [None] * 40


def test_what_is_looked_at_side_by_side_ends_soon_where_the_run_is_ended() -> None:
    with pytest.raises(KeyboardInterrupt), bundle.side_by_side() as pool:  # noqa: PT012
        waits = pool.submit(pyspy.ending.wait, 20)
        raise KeyboardInterrupt
    assert waits.result() is True and not pyspy.ending.is_set()


def test_a_thread_in_whose_start_an_ending_comes_is_waited_for(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would go on, and write into the folder that is removed."""
    honest, done = threading.Thread.start, []

    def ended_in(thread: threading.Thread) -> None:
        honest(thread)
        end(signal.SIGTERM)

    monkeypatch.setattr(threading.Thread, "start", ended_in)
    with pytest.raises(Ended), bundle.side_by_side() as pool:
        pool.submit(lambda: done.append(pyspy.ending.wait(20)))
    assert done == [True]
