"""A process that the kernel holds: frozen with its group, or in a wait that nobody can interrupt. It gets no worse.

To attach to a thread in state D takes as long as its wait, and every thread that was attached before stands still
meanwhile: such a process is read while it runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import proc, pyspy
from hangdebug.capture.processes import resolve
from hangdebug.errors import HangError
from hangdebug.evidence.bundle import evidence_in
from hangdebug.observe import observe_briefly

HERE = Path(__file__).parent

# -- frozen --------------------------------------------------------------------------------------------

HEAD = "# at 24031.9892 arch x86_64 hz 100\n"
# As they were recorded of a process with two threads: one sleeps, the other waits for a lock.
FROZEN = {
    "cgroups of version 2": (
        "25337\tS 25302\t3\t5\tget_signal\t230 0x1 0x1 0x7ffd1d6dfdb0 0x0 0x0 0x0 0x7ffd1 0x7f866\t\n"
        "25340\tS 25302\t2\t0\tget_signal\t202 0x7f866c0 0x189 0x0 0x0 0x0 0xffffffff 0x7f866 0x7f866\t\n"
    ),
    "cgroups of version 1": (
        "25337\tD 25302\t2\t4\thrtimer_nanosleep\t230 0x1 0x1 0x7fff9b824c10 0x0 0x0 0x0 0x7fff9 0x7f5c3\t\n"
        "25340\tD 25302\t1\t0\tfutex_do_wait\t202 0x7f866c0 0x189 0x0 0x0 0x0 0xffffffff 0x7f866 0x7f866\t\n"
    ),
}
RUNS = "25341\tS 25302\t2\t0\thrtimer_nanosleep\t230 0x1 0x1 0x7f866d083c40 0x0 0x0 0x0 0x7f866 0x7f866\t\n"


def judged(rows: str, status: str = "sleeping") -> Diagnosis:
    facts = f'{{"pid": 25337, "command": "python", "status": "{status}"}}'
    texts = {f"25337/kernel-before-{n}.tsv": HEAD + rows for n in range(2)}
    return worst(map(diagnose, evidence_in({**texts, "25337/process.json": facts, "manifest.json": "{}"}, Path("x"))))


@pytest.mark.parametrize("kind", FROZEN)
def test_a_frozen_process_is_stopped_and_no_signal_is_proposed(kind: str) -> None:
    answer = judged(FROZEN[kind])
    assert answer.state == "stopped" and "unpause" in answer.summary and "kill" not in answer.summary
    assert any("freezer" in line for line in answer.evidence)


@pytest.mark.parametrize("kind", FROZEN)
def test_a_process_with_a_thread_that_runs_is_not_frozen(kind: str) -> None:
    with pytest.raises(HangError, match="holds no evidence"):  # and it was not looked at
        judged(FROZEN[kind] + RUNS)


def test_a_process_that_a_signal_stopped_is_told_from_a_frozen_one() -> None:
    rows = FROZEN["cgroups of version 2"].replace("\tS ", "\tT ").replace("get_signal", "do_signal_stop")
    answer = judged(rows, "stopped")
    assert answer.state == "stopped" and "kill -CONT" in answer.summary


GROUPS = {  # by version: the folder of all groups, the switch, and what it is set to
    "1": ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
    "2": ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
    "2 alone": ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
}


@contextmanager
def frozen(pid: int, version: str) -> Iterator[None]:
    """The process in a control group of its own, which is frozen. It skips the test where that cannot be made."""
    root, switch, on, off = GROUPS[version]
    group = Path(root) / f"hang-{pid}"
    try:
        if not list(Path(root).glob("cgroup.procs")):
            raise FileNotFoundError(root)
        group.mkdir()
    except OSError as error:
        pytest.skip(f"Groups of version {version} cannot be made here: {error.strerror or error}. Next: as root")
    try:
        if not (group / switch).exists():
            pytest.skip("The kernel has no freezer here. Next: another machine")
        (group / "cgroup.procs").write_text(str(pid))
        (group / switch).write_text(on)
        time.sleep(0.3)
        yield
        (group / switch).write_text(off)
    finally:
        with suppress(OSError):
            (group / switch).write_text(off)
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
            group.rmdir()


def looked_at(pid: int) -> tuple[Diagnosis, float]:
    began = time.monotonic()
    return worst(map(diagnose, observe_briefly(resolve(pid), lambda line: None))), time.monotonic() - began


IDLE = "import asyncio\nprint('ready', flush=True)\nasyncio.run(asyncio.sleep(600))\n"


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("version", GROUPS)
def test_a_process_that_is_frozen_is_told_and_not_called_healthy(version: str, tmp_path: Path) -> None:
    with zoo.running(IDLE, tmp_path) as target, frozen(target.pid, version):
        answer, took = looked_at(target.pid)
    assert answer.state == "stopped" and "frozen" in answer.summary and took < 8


# -- in a wait that nobody can interrupt ----------------------------------------------------------------

VFORK = """
#include <unistd.h>
int hold(int seconds) { int child = vfork(); if (child == 0) { sleep(seconds); _exit(0); } return child; }
"""
WAITS_FOR_A_CHILD = """
import asyncio, ctypes
library = ctypes.CDLL("./hold.so")
async def handler():
    library.hold(60)
async def main():
    print("ready", flush=True)
    await asyncio.create_task(handler())
asyncio.run(main())
"""
READS = """
import asyncio
async def handler():
    with open("mount/report.csv") as file:
        return file.read()
async def main():
    print("ready", flush=True)
    await asyncio.create_task(handler())
asyncio.run(main())
"""


MAPS = READS.replace(
    """    with open("mount/report.csv") as file:
        return file.read()
""",
    """    return mmap.mmap(os.open("mount/report.csv", os.O_RDONLY), 4096, prot=mmap.PROT_READ)[10]
""",
).replace("import asyncio", "import asyncio, mmap, os")


def attached(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of each py-spy that is started from now on."""
    honest, words = pyspy.run_pyspy, []

    def run(pid: int, given: list[str], *more: object) -> subprocess.CompletedProcess[str]:
        words.append(given)
        return honest(pid, given, *more)

    monkeypatch.setattr(pyspy, "run_pyspy", run)
    return words


@pytest.mark.live
@pytest.mark.slow
def test_a_loop_that_waits_for_a_vforked_child_is_read_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("cc"):
        pytest.skip("It takes a compiler. Next: apt-get install gcc")
    (tmp_path / "hold.c").write_text(VFORK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "hold.so", "hold.c"], cwd=tmp_path, check=True)
    words = attached(monkeypatch)
    with zoo.running(WAITS_FOR_A_CHILD, tmp_path) as target:
        while not (proc.text_of(f"/proc/{target.pid}/stat") or "").rpartition(") ")[2].startswith("D"):
            time.sleep(0.02)
        answer, took = looked_at(target.pid)
    assert answer.process.pid == target.pid and answer.state == "loop-blocked" and took < 8
    assert answer.blocking_frame is not None and answer.blocking_frame.function == "handler"
    assert words and all("--nonblocking" in one for one in words)
    assert any("nobody pause it" in line for line in answer.doubts)


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("code, cause, line", [(READS, "file-io", 5), (MAPS, "file-io", 4)], ids=["reads", "maps"])
def test_a_loop_that_waits_for_a_hung_mount_is_read_while_it_runs(
    code: str, cause: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wait could be interrupted, and would then go on as one that cannot: attaching would have to wait for it.

    What is mapped from there is not opened either: that would hold us as well.
    """
    place = tmp_path / "mount"
    place.mkdir()
    words = attached(monkeypatch)
    with subprocess.Popen([sys.executable, HERE / "hung_mount.py", place], stdout=subprocess.PIPE) as mount:
        if mount.stdout.readline() != b"mounted\n":
            pytest.skip("Nothing can be mounted here. Next: as root, with /dev/fuse")
        with zoo.running(code, tmp_path) as target:
            try:
                assert mount.stdout.readline() == b"asked\n"
                time.sleep(0.2)
                answer, took = looked_at(target.pid)
                still = (proc.text_of(f"/proc/{target.pid}/stat") or "").rpartition(") ")[2][:1]
            finally:
                mount.kill()  # before the process, which ends only where the mount is gone
                subprocess.run(["umount", "-l", place], check=False)
    assert (answer.state, answer.cause) == ("loop-blocked", cause) and took < 8
    assert answer.blocking_frame is not None and answer.blocking_frame.line == line
    assert words and all("--nonblocking" in one for one in words) and still == "S"


@pytest.mark.live
@pytest.mark.slow
def test_a_process_that_can_be_paused_is_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = attached(monkeypatch)
    with zoo.running(IDLE, tmp_path) as target:
        looked_at(target.pid)
    assert words and not any("--nonblocking" in one for one in words)


def test_a_disk_that_answers_is_no_wait_that_nobody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([{("7", "1 1 1")}, {("7", "2 2 2")}])
    monkeypatch.setattr(proc, "out_of_reach", lambda pid: next(moments))
    assert not proc.cannot_be_paused(1)
    monkeypatch.setattr(proc, "out_of_reach", lambda pid: {("7", "1 1 1")})
    assert proc.cannot_be_paused(1)
    with pytest.raises(HangError, match="cannot be paused now"):
        pyspy.dump_native(1)
