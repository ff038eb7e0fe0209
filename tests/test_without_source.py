"""Bundles that hold no line of the code: what the kernel's words alone tell, and what they cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.bundle import read_bundle

CAPTURE = Path(__file__).resolve().parent.parent / "snippets" / "capture.sh"
pytestmark = [pytest.mark.live, pytest.mark.skipif(not shutil.which("sh"), reason="needs a POSIX shell")]


def by_shell(pid: int, folder: Path) -> Path:
    """What capture.sh keeps of a process: no lines of code, no tasks, no queues."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", CAPTURE, str(pid), folder], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def answer(folder: Path) -> Diagnosis:
    return diagnose(read_bundle(folder)[0])


def changed(folder: Path, name: str, old: str, new: str = "") -> None:
    """The same capture with one of its facts taken away."""
    for file in folder.glob(f"[0-9]*/{name}"):
        text = file.read_text()
        assert old in text, name
        file.write_text(text.replace(old, new))


def test_a_sleep_of_sqlite_is_told_from_one_of_python(tmp_path):
    with zoo.hang("database") as hung:
        folder = by_shell(hung.pid, tmp_path / "evidence")
    one = answer(folder)
    assert (one.state, one.cause) == ("loop-blocked", "database") and one.kernel_wait.syscall == "clock_nanosleep"
    changed(folder, "fds.tsv", "orders.db", "orders.txt")
    assert answer(folder).cause == "other"  # some C library sleeps: which, nothing tells


def test_a_pipe_is_a_child_s_output_where_a_child_has_its_other_end(tmp_path):
    with zoo.hang("child_output") as hung:
        folder = by_shell(hung.pid, tmp_path / "evidence")
    one = answer(folder)
    assert (one.state, one.cause) == ("loop-blocked", "subprocess")
    assert re.match(r"fd \d+ -> pipe, of child \d+: .*python", one.kernel_wait.detail)
    for file in folder.glob("[0-9]*/children.tsv"):
        file.write_text("")
    one = answer(folder)  # whose it is, nothing tells
    assert one.confidence < 0.7 and any(doubt.startswith("No kind of evidence names") for doubt in one.doubts)


def test_a_full_pool_is_accused_with_doubt_where_its_queue_was_not_read(tmp_path):
    with zoo.hang("threadpool_limit") as hung:
        folder = by_shell(hung.pid, tmp_path / "evidence")
    one = answer(folder)
    assert (one.state, one.cause) == ("threadpool-exhausted", "threadpool-limit") and 0.5 < one.confidence < 0.8
    assert "Whether a call waits in its queue is not known." in one.doubts and one.doubts[-1].startswith("Next: ")


def test_a_full_pool_with_a_thread_for_each_client_is_not_accused(tmp_path):
    with zoo.hang("full_house") as busy:
        folder = by_shell(busy.pid, tmp_path / "evidence")
    one = answer(folder)
    assert one.state == "inconclusive" and one.doubts[-1].startswith("Next: ")


def test_a_lock_that_a_killed_process_held_is_told_from_one_that_another_may_release(tmp_path):
    with zoo.hang("killed_holder") as hung:
        folder = by_shell(hung.pid, tmp_path / "evidence")
    one = answer(folder)
    assert (one.state, one.cause) == ("deadlock", "lock") and one.kernel_wait.detail == "shared with no other process"
    assert one.confidence < 0.8 and any("a semaphore" in doubt for doubt in one.doubts)
    for file in folder.glob("[0-9]*/shared.tsv"):
        file.write_text("")
    one = answer(folder)
    assert (one.state, one.cause) == ("loop-blocked", "lock") and one.confidence < 0.8
    assert any("another process is left that could release" in doubt for doubt in one.doubts)
