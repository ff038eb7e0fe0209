"""`hang.py record` on a server that really computes: three files that agree, kept when cut short, none half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

import client
import zoo
from hangdebug.errors import CannotWrite, HangError, ours
from hangdebug.evidence.paste import read
from hangdebug.report import recording

ROOT = Path(__file__).parents[1]
HANG = [sys.executable, str(ROOT / "scripts" / "hang.py"), "record"]
FILES = ["flame.html", "flame.svg", "speedscope.json", "stacks.txt"]


@pytest.fixture(scope="module")
def busy():
    with zoo.hang("cpu_bound") as hung:
        yield hung


def record(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*HANG, *map(str, words)], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.live
def test_a_busy_server_is_recorded_as_stacks_a_picture_and_for_speedscope(busy, tmp_path):
    done = record("--port", busy.url.rpartition(":")[2], "--seconds", 1, cwd=tmp_path)
    folder = tmp_path / done.stdout.strip()
    assert done.returncode == 0 and folder.name.startswith(f"recording-{busy.pid}-") and names(folder) == FILES
    (file,) = {file for file, _ in busy.truth.marked}
    (snapshot,) = read((folder / "stacks.txt").read_text())
    assert Path(snapshot.threads[0].frames[0].file).name == file and snapshot.threads[0].frames[0].name == "shortest"
    assert "shortest (cpu_bound.py" in ElementTree.fromstring((folder / "flame.svg").read_text()).get("aria-label")
    scope = json.loads((folder / "speedscope.json").read_text())
    (own,) = {one["name"] for one in scope["shared"]["frames"] if one["file"] == file} - {"best_route"}
    assert own == "shortest" and 0.5 < scope["profiles"][0]["endValue"] < 1.5
    diagnosed = subprocess.run(
        [*HANG[:2], "diagnose", str(folder / "stacks.txt"), "--json"], capture_output=True, text=True
    )
    assert json.loads(diagnosed.stdout)["blocking_frame"]["function"] == "shortest"


@pytest.mark.live
def test_ctrl_c_keeps_what_there_is_and_leaves_no_tool_running(busy, tmp_path):
    with subprocess.Popen(
        [*HANG, "--pid", str(busy.pid), "--seconds", "60", "--out", "cut"],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as job:
        assert "sampling for 60 s" in job.stderr.readline()
        assert client.eventually(
            lambda: tools(job.pid) and sum(tools(job.pid)[0].cpu_times()[:2]) >= 0.05, 20
        )  # it samples by now
        spies = tools(job.pid)
        job.send_signal(signal.SIGINT)
        errors = job.communicate(timeout=30)[1]
    assert job.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert names(tmp_path / "cut") == FILES and not any(psutil.pid_exists(one.pid) for one in spies)


def tools(pid: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children() if "py-spy" in one.name()]


@pytest.mark.live
def test_what_cannot_be_written_leaves_nothing_half_written(busy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    done = record("--pid", busy.pid, "--seconds", 1, "--out", "file", cwd=tmp_path)
    assert done.returncode == 2 and "cannot be written" in done.stderr and "\nNext: " in done.stderr
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CannotWrite, match="cannot be written"):
        recording.write_files(tmp_path / "full", {"stacks.txt": b"x"})
    assert names(tmp_path / "full") == []


@pytest.mark.slow
def test_a_process_that_is_not_there_or_not_python_is_one_sentence(tmp_path):
    for words in (("--pid", 2**31 - 1), ("--port", 1), ()):
        done = record(*words, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("hang.py: ") and "\nNext: " in done.stderr
    assert names(tmp_path) == []


@pytest.mark.live
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user: sudo make test"
)
def test_another_users_process_is_told_as_such_with_the_command_for_root(busy, tmp_path):
    """And not as one that is no Python process, though its executable is not to be seen."""
    tmp_path.chmod(0o777)
    stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*stranger, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"another user may not run {sys.executable}")
    for verb in ("record", "diagnose"):
        done = subprocess.run(
            [*stranger, *HANG[:2], verb, "--pid", str(busy.pid)], cwd=tmp_path, capture_output=True, text=True
        )
        assert (
            done.returncode == 2
            and "The kernel does not let you attach" in done.stderr
            and "Next: sudo " in done.stderr
        )
        assert (
            f"{'record' if verb == 'record' else 'capture'} --pid {busy.pid}" in done.stderr and names(tmp_path) == []
        )


def test_a_process_that_ran_nothing_is_told_to_be_diagnosed(tmp_path, monkeypatch):
    from hangdebug.capture import pyspy

    monkeypatch.setattr(pyspy, "record", lambda *words, **more: "")
    with pytest.raises(HangError, match="ran no Python code") as raised:
        recording.record(4284, 2, tmp_path)
    assert raised.value.next == ours("diagnose", "--pid", 4284) and names(tmp_path) == []


@pytest.mark.live
def test_of_several_workers_the_busy_one_is_recorded(busy):
    assert recording.busiest((os.getpid(), busy.pid)) == busy.pid
