"""What can go wrong with a target, each with its sentence: it ends, changes, hides, or holds very much."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.capture import bundle, proc, processes, pyspy
from hangdebug.capture.processes import Target, on_port, resolve
from hangdebug.errors import HangError, NoProcess, NotPython
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Reading, Snapshot, Thread
from hangdebug.observe import observe, observe_briefly

HANG = Path(__file__).parents[1] / "scripts" / "hang.py"
VERY_MANY = 200 if os.environ.get("HANG_LONG") else 50  # workers of one server
SLEEPS = "print('ready', flush=True); import time; time.sleep(600)"


# -- it becomes another one ------------------------------------------------------------------------------


@pytest.mark.live
def test_a_number_that_is_another_processs_by_now_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, asked = proc.identity, []

    def reused(pid: int) -> tuple[str, str] | None:
        asked.append(pid)
        return honest(pid) if len(asked) < 4 else ("99999999999", "/usr/bin/python3")

    monkeypatch.setattr(proc, "identity", reused)
    with zoo.running(SLEEPS) as target:
        bundle.capture(Target((target.pid,)), tmp_path / "evidence", samples=5)
    (found,) = read_bundle(tmp_path / "evidence")
    assert 0 < len(found.snapshots) < 5 and any("not the one any more" in note for note in found.notes)
    with pytest.raises(NoProcess, match="not the one any more") as caught:
        bundle.check_still(target.pid)
    assert "another process's" in caught.value.why


@pytest.mark.live
@pytest.mark.slow
def test_a_number_that_the_kernel_gave_to_another_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with the kernel's own numbers."""
    last, honest, looks = Path("/proc/sys/kernel/ns_last_pid"), pyspy.dump, []
    if os.geteuid() != 0 or not os.access(last, os.W_OK):
        pytest.skip("It takes root to choose the next number. Next: sudo make test")
    command = [sys.executable, "-c", SLEEPS]
    with ExitStack() as stack, zoo.running(SLEEPS) as target:

        def reused(pid: int, missed: object) -> str:
            looks.append(pid)
            if len(looks) == 3:
                target.kill()
                target.wait()
                for _ in range(200):  # other processes take numbers too
                    last.write_text(str(pid - 1))
                    other = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
                    stack.callback(other.kill)
                    if other.pid == pid:
                        other.stdout.readline()
                        return honest(pid, missed)
                    other.kill()
                pytest.skip("The number was not to be had. Next: try again")
            return honest(pid, missed)

        monkeypatch.setattr(pyspy, "dump", reused)
        bundle.capture(Target((target.pid,)), tmp_path / "evidence", samples=5)
    (found,) = read_bundle(tmp_path / "evidence")
    assert len(found.snapshots) == 2 and any("not the one any more" in note for note in found.notes)


@pytest.mark.live
def test_a_target_that_replaces_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys; print('ready', flush=True); sys.stdin.readline(); os.execv('/bin/sleep', ['sleep', '600'])"
    honest, taken = pyspy.dump, []
    with zoo.running(code) as target:

        def replaced(pid: int, missed: object) -> str:
            if len(taken) == 2:
                target.stdin.write(b"\n")
                target.stdin.flush()
                while "sleep" not in os.readlink(f"/proc/{pid}/exe"):
                    time.sleep(0.01)
            taken.append(honest(pid, missed) if len(taken) < 2 else taken[0])
            return taken[-1]

        monkeypatch.setattr(pyspy, "dump", replaced)
        bundle.capture(Target((target.pid,)), tmp_path / "evidence", samples=5)
    (found,) = read_bundle(tmp_path / "evidence")
    assert len(found.snapshots) == 2 and any("not the one any more" in note for note in found.notes)


@pytest.mark.live
def test_a_zombie_and_a_process_without_its_main_thread_are_told_apart() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NoProcess, match="is not running") as caught:
            resolve(ended.pid)
        assert "not collected its exit status" in caught.value.why
    code = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); "
        "print('ready', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with zoo.running(code) as target:
        while "Z" not in Path(f"/proc/{target.pid}/status").read_text().split("State:")[1][:4]:
            time.sleep(0.02)
        with pytest.raises(NoProcess, match=r"main thread of process \d+ has ended, and others go on") as caught:
            resolve(target.pid)
        assert caught.value.next.startswith(f"ls /proc/{target.pid}/task")


@pytest.mark.live
def test_a_target_that_ends_before_the_first_sample_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pyspy.dump
    with zoo.running(SLEEPS) as target:

        def gone(pid: int, missed: object) -> str:
            target.kill()
            target.wait()
            return honest(pid, missed)

        monkeypatch.setattr(pyspy, "dump", gone)
        with pytest.raises(NoProcess, match="is not running"):
            bundle.capture(Target((target.pid,)), tmp_path / "evidence")


# -- it may not be seen -----------------------------------------------------------------------------------


def as_nobody(*words: object) -> subprocess.CompletedProcess[str]:
    """hang.py as a user without rights: the engine is read through this process's descriptors of its own folder."""
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, str(HANG)]
    return subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=60, cwd="/")


@pytest.mark.live
def test_a_process_of_another_user_is_told_with_the_line_for_root() -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("It takes root to become another user. Next: sudo make test")
    with zoo.running(SLEEPS) as target:
        done = as_nobody("diagnose", "--pid", target.pid)
    if "Permission denied" in done.stderr and "hang.py:" not in done.stderr:
        pytest.skip("The other user may not read this tree. Next: move it out of the home folder")
    assert done.returncode == 2 and "does not let you attach" in done.stderr and "sudo " in done.stderr, done.stderr


HIDES = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
RESOLVES = """
import os, sys
sys.path[0] = sys.argv[1]
from hangdebug.capture.processes import resolve
from hangdebug.errors import HangError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for pid in map(int, sys.argv[2:]):
    try:
        print("seen", resolve(pid))
    except HangError as error:
        print(error)
    print("----")
"""


@pytest.mark.live
@pytest.mark.slow
def test_a_process_that_proc_hides_is_told_from_one_that_has_ended() -> None:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("It takes root to mount another /proc. Next: sudo make test")
    with zoo.running(SLEEPS) as target:
        command = [sys.executable, "-c", RESOLVES, HANG.parent, target.pid, (1 << 22) - 1]
        command = ["unshare", "--mount", "sh", "-c", HIDES, "sh", *map(str, command)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "mount" in done.stderr:
        pytest.skip(f"/proc cannot be mounted here: {done.stderr}")
    hidden, _, ended = done.stdout.partition("----")
    assert "hidepid" in hidden and "sudo" in hidden and "is not running" in ended, done.stdout + done.stderr


def test_where_there_is_no_proc_that_is_said_and_not_that_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "has_proc", lambda: False)
    with pytest.raises(NoProcess) as caught:
        resolve((1 << 22) - 1)
    assert ("/proc is not mounted" in caught.value.why) == (sys.platform == "linux")


def test_a_machine_without_proc_is_read_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "text_of", lambda path: None)
    assert proc.tracer_of(1) is None and proc.identity(1) is None and not pyspy.is_stopped(1)
    assert proc.copy_sockets(1, "", ()) == ""


@pytest.mark.live
def test_a_port_of_a_server_that_is_no_python_is_told() -> None:
    if not shutil.which("perl"):
        pytest.skip("It takes another language's server. Next: apt-get install perl")
    code = (
        "use IO::Socket; $| = 1; $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1'); "
        'print $s->sockport, "\n"; sleep 600'
    )
    with subprocess.Popen(["perl", "-e", code], stdout=subprocess.PIPE, text=True) as server:
        try:
            with pytest.raises(NotPython, match="is not a Python process"):
                on_port(int(server.stdout.readline()))
        finally:
            server.kill()


@pytest.mark.live
def test_a_port_that_only_a_forked_child_has_still_leads_to_its_parent() -> None:
    code = (
        "import multiprocessing, socket, time\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,)); child.start()\n"
        "s.close(); print(child.pid, flush=True); child.join()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        port, child = int(server.stdout.readline()), int(server.stdout.readline())
        try:
            assert set(on_port(port).workers) == {server.pid, child}
        finally:
            os.kill(child, signal.SIGKILL)


def test_what_the_kernel_forbids_is_told_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, why in (("1", "ptrace_scope is 1"), ("3", "ptrace_scope is 3"), ("0", "another user")):
        monkeypatch.setattr(Path, "is_file", lambda self: True)
        monkeypatch.setattr(Path, "read_text", lambda self, allowed=allowed: f"{allowed}\n")
        assert why in pyspy.not_permitted(os.getpid()).why


# -- it holds more than anybody expects -------------------------------------------------------------------


def looked_at(pid: int) -> tuple[str, float]:
    began = time.monotonic()
    answer = worst(map(diagnose, observe_briefly(resolve(pid), lambda line: None)))
    return answer.state, time.monotonic() - began


@pytest.mark.live
@pytest.mark.slow
def test_a_thousand_threads_are_read() -> None:
    code = (
        "import threading, time\nfor _ in range(1000):\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    with zoo.running(code) as target:
        state, took = looked_at(target.pid)
    assert state in ("inconclusive", "healthy") and took < 60


@pytest.mark.live
@pytest.mark.slow
def test_threads_that_come_and_go_are_no_fork(tmp_path: Path) -> None:
    code = (
        "import threading, time\nprint('ready', flush=True)\n"
        "while True:\n    threading.Thread(target=time.sleep, args=(0.02,)).start(); time.sleep(0.002)"
    )
    with zoo.running(code) as target:
        found = observe(resolve(target.pid), tmp_path / "evidence", lambda line: None)
    assert found[0].snapshots and not [note for note in found[0].notes if "after a fork" in note]


@pytest.mark.live
@pytest.mark.slow
def test_very_many_open_files_are_read() -> None:
    code = (
        "import os, resource, time\nmost = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))\n"
        "kept = [os.open('/dev/null', 0) for _ in range(min(60_000, most - 100))]\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    with zoo.running(code) as target:
        count = len(os.listdir(f"/proc/{target.pid}/fd"))
        state, took = looked_at(target.pid)
    assert count > 900 and state == "inconclusive" and took < 60


@pytest.mark.live
@pytest.mark.slow
def test_the_processes_of_a_server_with_very_many_workers_fit_into_a_bundle() -> None:
    code = (
        f"import os, time\nfor _ in range({VERY_MANY}):\n    if os.fork() == 0: time.sleep(600)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    with zoo.running(code) as target:
        state, _ = looked_at(target.pid)
    assert state in ("inconclusive", "healthy")


@pytest.mark.live
@pytest.mark.slow
def test_two_captures_at_once_both_answer() -> None:
    with zoo.running(SLEEPS) as target:
        jobs = [
            subprocess.Popen([sys.executable, HANG, "diagnose", "--pid", str(target.pid)], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        answers = [job.communicate(timeout=120)[0].decode() for job in jobs]
    assert all("confidence" in answer for answer in answers) and all(job.returncode == 0 for job in jobs)


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("good", [0, 1, 2, 4])
def test_a_pyspy_that_hangs_at_any_call_leaves_the_target_going(
    good: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is asked for its version, beside the first look; so many calls are answered before one hangs."""
    program, real = tmp_path / "py-spy", pyspy.program()
    program.write_text(
        f'#!/bin/sh\necho x >> calls\n[ "$(grep -c x calls)" -le {good} ] || exec sleep 60\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyspy, "program", lambda: str(program))
    monkeypatch.setattr(pyspy, "TIMEOUT", 3.0)
    monkeypatch.setattr(pyspy.run_pyspy, "__defaults__", (3.0, None))
    code = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.001)"
    with zoo.running(code) as target:
        told = what_is_told(target.pid)
        time.sleep(0.3)
        assert Path(f"/proc/{target.pid}/stat").read_text().rpartition(") ")[2][0] in "SR"
        here = {int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cwd") if leads_to(path, tmp_path)}
    assert here == {os.getpid(), target.pid}  # no py-spy is left
    assert ("py-spy" in told) if good < 2 else told in ("inconclusive", "healthy")


def what_is_told(pid: int) -> str:
    """The state, or the sentence where there is none."""
    try:
        return worst(map(diagnose, observe_briefly(resolve(pid), lambda line: None))).state
    except HangError as error:
        return error.what


def leads_to(link: Path, place: Path) -> bool:
    with suppress(OSError):
        return os.readlink(link) == str(place)
    return False


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("moved", ["the target", "we"])
def test_a_clock_that_is_elsewhere_changes_no_answer(moved: str, tmp_path: Path) -> None:
    """Another time of the system, as after a move to another machine: what elapsed is counted on one clock alone."""
    away = ["unshare", "--time", "--fork", "--kill-child", "--monotonic", "100000000", "--boottime", "100000000"]
    if not shutil.which("unshare") or subprocess.run([*away, "true"], capture_output=True).returncode:
        pytest.skip("It takes root, and a kernel with namespaces of time. Next: sudo make test")
    (tmp_path / "app.py").write_text(
        "import asyncio, time\nasync def handler():\n    time.sleep(600)\nasync def main():\n"
        "    print('ready', flush=True)\n    await handler()\nasyncio.run(main())\n"
    )
    command, look = [sys.executable, tmp_path / "app.py"], [sys.executable, HANG, "diagnose", "--json", "--pid"]
    with subprocess.Popen([*(away if moved == "the target" else []), *command], stdout=subprocess.PIPE) as started:
        try:
            started.stdout.readline()
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
            look = [*(away if moved == "we" else []), *look, (children or [str(started.pid)])[0]]
            done = subprocess.run(look, capture_output=True, text=True, timeout=60)
        finally:
            started.kill()
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["cause"]) == ("loop-blocked", "sleep") and answer["confidence"] >= 0.9


def in_calls(*calls: tuple[str, int]) -> Evidence:
    """A worker thread that the kernel had in these calls: three before the first attach, then one with each sample."""
    frames = (Frame("send", "/srv/app/push.py", 7), Frame("work", "/srv/app/push.py", 20))
    sample = Snapshot((Thread(frames, "pusher", 7, active=False),), 5)
    readings = tuple(Reading(n / 10, {7: KernelWait(name, (3, at), "fd 3", "S")}) for n, (name, at) in enumerate(calls))
    return Evidence((sample,) * (len(calls) - 3), attached=readings[3:], readings=readings[:3])


@pytest.mark.parametrize(
    "then, said",
    [(("futex", 1), True), (("sendto", 90), True), (("sendto", 1), False)],
    ids=["another call", "the rest of it", "the same, begun again"],
)
def test_a_write_that_the_look_cut_short_is_told(then: tuple[str, int], said: bool) -> None:
    answer = diagnose(in_calls(*[("sendto", 1)] * 4, then, then))
    assert any("to attach cuts a write short" in line for line in answer.doubts) == said
    moves = diagnose(in_calls(("sendto", 1), ("sendto", 2), ("sendto", 3), ("sendto", 4), then, then))
    assert not any("to attach cuts a write short" in line for line in moves.doubts)


@pytest.mark.live
@pytest.mark.slow
def test_a_blocked_send_that_is_cut_short_is_told_live() -> None:
    code = (
        "import socket, threading, time\none, other = socket.socketpair()\n"
        "def push():\n    one.send(bytes(50 << 20))\n    time.sleep(600)\n"
        "threading.Thread(target=push, name='pusher', daemon=True).start()\ntime.sleep(0.5)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    with zoo.running(code) as target:
        answer = worst(map(diagnose, observe_briefly(resolve(target.pid), lambda line: None)))
    assert any(line.startswith("pusher stood in one write") for line in answer.doubts), answer.doubts


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv") or not os.path.exists("/usr/bin/python3"),
    reason="only root can become another user: sudo make test",
)
def test_evidence_that_root_saved_is_no_empty_folder_to_another_user():
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        saved = Path(base) / "evidence"
        (saved / "41").mkdir(parents=True)
        saved.chmod(0o700)
        engine = Path(base) / "engine"
        shutil.copytree(HANG.parent, engine, ignore=shutil.ignore_patterns("__pycache__"))
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3"]
        done = subprocess.run(
            [*as_nobody, engine / "hang.py", "diagnose", saved], capture_output=True, text=True, cwd=base
        )
        assert done.returncode == 2 and f"You may not read {saved}." in done.stderr
        assert 'Next: sudo chown -R "$(id -un)"' in done.stderr and "no evidence" not in done.stderr
