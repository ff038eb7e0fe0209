"""deploy/: whoever ends a process keeps a bundle first, in five seconds at most, and no more than there is room for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import client
import lab
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.bundle import is_bundle, read_bundle
from hangdebug.evidence.paste import read, text_of

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
MOST = 5.0  # seconds that a restart is delayed, at most
SLACK = 1.5  # for a machine that is busy with other work

STUCK = """
import http.server, sys, time
def wait_for_nothing():
    time.sleep(600)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wait_for_nothing()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WSGI = """
import os, time
def wait_for_nothing():
    time.sleep(600)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        wait_for_nothing()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""
ASGI = """
import os, re
def match_for_ever():
    re.match(r"(a+)+$", "a" * 60 + "b")  # the pattern holds the GIL
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/hang":
        match_for_ever()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def host(tmp_path):
    """Where the programs of deploy/ lie beside capture.sh; `hang` is not on this PATH, and py-spy is."""
    place = tmp_path / "opt"
    place.mkdir()
    for file in (*DEPLOY.glob("*.sh"), *DEPLOY.glob("*.py"), ROOT / "snippets" / "capture.sh"):
        shutil.copy(file, place)
    (place / "py-spy").symlink_to(shutil.which("py-spy", path=str(Path(sys.executable).parent)))
    return place


def environment(host: Path, **more: str) -> dict[str, str]:
    path = f"{host}:{os.environ['PATH']}"
    clean = ":".join(one for one in path.split(":") if not (Path(one) / "hang").exists())
    own = {"HANG_FOLDER": str(host.parent / "kept"), "PYTHONPATH": str(host.parent)}
    return {**os.environ, "PATH": clean, **own, **more}


def keep(host: Path, *words: str, program: str = "keep_evidence.sh", **more: str) -> subprocess.CompletedProcess:
    command = ["sh", str(host / program), *words]
    return subprocess.run(command, env=environment(host, **more), capture_output=True, text=True)


def kept(host: Path, pattern: str = "evidence-*") -> list[Path]:
    return sorted((host.parent / "kept").glob(pattern))


def answer_in(path: Path) -> Diagnosis:
    return worst(map(diagnose, read_bundle(path) if is_bundle(path) else evidence_of(read(text_of(str(path))))))


@pytest.fixture
def stuck(tmp_path):
    """A server that is asked, and hangs."""
    (tmp_path / "stuck.py").write_text(STUCK)
    port = free_port()
    process = subprocess.Popen([sys.executable, str(tmp_path / "stuck.py"), str(port)])
    assert client.eventually(lambda: listens(port))
    client.get(f"http://127.0.0.1:{port}/", 0.3)
    yield process.pid, port
    process.kill()
    process.wait()


# -- the program that all of them call -----------------------------------------------------------------


@pytest.mark.live
def test_a_bundle_is_kept_once_and_the_oldest_make_room(stuck, host):
    pid, _ = stuck
    folder = host.parent / "kept"
    folder.mkdir()
    others = [folder / f"evidence-{number}-20260101T00000{number}.tar.gz" for number in range(1, 5)]
    for number, other in enumerate((*others, folder / "evidence-notes.txt")):
        other.write_text("x" * 2000)
        os.utime(other, (1_700_000_000 + number,) * 2)
    done = keep(host, str(pid), HANG_KEEP="3")
    (made,) = kept(host, f"evidence-{pid}-*")
    assert done.returncode == 0 and answer_in(made).blocking_frame.function == "wait_for_nothing"
    assert made.stat().st_mode & 0o077 == 0
    assert kept(host) == sorted([made, *others[2:], folder / "evidence-notes.txt"])  # what is not its own stays
    done = keep(host, str(pid), HANG_MEGABYTES="0")
    assert "less than 1 minutes ago" in done.stderr and done.returncode == 0


@pytest.mark.live
def test_it_takes_no_longer_than_it_may_and_never_fails(stuck, host):
    pid, _ = stuck
    (host / "py-spy").unlink()
    (host / "py-spy").write_text("#!/bin/sh\nsleep 30\n")
    (host / "py-spy").chmod(0o755)
    began = time.monotonic()
    assert keep(host, str(pid), HANG_SECONDS="3").returncode == 0
    assert time.monotonic() - began < 3 + SLACK
    for words in (("4194305",), ("",), ("journal",)):
        assert keep(host, *words).returncode == 0
    assert keep(host, str(pid), "/proc/nowhere").returncode == 0


@pytest.mark.live
def test_a_liveness_probe_that_fails_has_kept_a_bundle(stuck, host):
    pid, port = stuck
    began = time.monotonic()
    done = keep(host, f"http://127.0.0.1:{port}/health/live", str(pid), program="liveness.sh")
    assert done.returncode == 1 and time.monotonic() - began < 2 + MOST + SLACK
    assert answer_in(kept(host)[0]).blocking_frame.function == "wait_for_nothing"


# -- gunicorn and uvicorn ------------------------------------------------------------------------------


def pid_at(port: int) -> int:
    return int(client.get(f"http://127.0.0.1:{port}/", 0.5) or 0)


def restarted(port: int, old: int, seconds: float) -> float:
    """Seconds until another worker answers. Raises AssertionError where none does in time."""
    began = time.monotonic()
    assert client.eventually(lambda: pid_at(port) not in (0, old), seconds)
    return time.monotonic() - began


@pytest.fixture
def served(host, tmp_path):
    """Starts a supervisor with one worker, lets the worker hang, and gives the port and the worker's pid."""
    running = []

    def start(text: str, *words: str) -> tuple[int, int]:
        (tmp_path / "application.py").write_text(text)
        port = free_port()
        command = [sys.executable, *(word.format(port=port) for word in words)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment(host), stdout=log, stderr=log)
        running.append(process)
        assert client.eventually(lambda: pid_at(port), 10), (tmp_path / "log").read_text()
        worker = pid_at(port)
        client.get(f"http://127.0.0.1:{port}/hang", 0.2)
        return port, worker

    yield start
    for process in running:
        for worker in lab.descendants(process.pid):
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.wait()


@pytest.mark.live
def test_gunicorn_keeps_a_bundle_and_the_worker_its_stacks_and_the_restart_is_not_late(served, host):
    words = ("-m", "gunicorn", "application:app", "--bind", "127.0.0.1:{port}", "--timeout", "6")
    port, worker = served(WSGI, *words, "--config", str(host / "gunicorn.conf.py"))
    took = restarted(port, worker, 6 + MOST + SLACK)
    assert took < 6 + 2 + SLACK  # gunicorn's own: a round once a second. Nobody waits for the bundle
    assert client.eventually(lambda: kept(host, f"evidence-{worker}-*.tar.gz"))
    bundle, stacks = kept(host, f"evidence-{worker}-*.tar.gz")[0], kept(host, f"evidence-{worker}-*.txt")[0]
    answer = answer_in(bundle)
    assert (answer.state, answer.blocking_frame.function) == ("sync-worker-blocked", "wait_for_nothing")
    assert "in wait_for_nothing" in stacks.read_text()


@pytest.mark.live
def test_uvicorn_keeps_a_bundle_before_its_supervisor_kills_a_worker(served, host):
    """Of two: alone it has no supervisor."""
    words = ("application:app", "--port", "{port}", "--workers", "2", "--timeout-worker-healthcheck", "1")
    served(ASGI, str(host / "uvicorn_keep.py"), *words)  # either may get the request
    log = host.parent / "log"
    assert client.eventually(lambda: "] died" in log.read_text(), 1 + MOST + 2 + SLACK), log.read_text()
    (bundle,) = kept(host)
    answer = answer_in(bundle)
    assert f"Child process [{answer.process.pid}] died" in log.read_text()
    assert answer.blocking_frame.function == "match_for_ever", answer


# -- systemd -------------------------------------------------------------------------------------------

MANAGER = "/lib/systemd/systemd"
BARKS = """
import os, socket, time
def forgets_its_watchdog():
    time.sleep(600)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
    to.sendto(b"WATCHDOG=1", os.environ["NOTIFY_SOCKET"])
forgets_its_watchdog()
"""
# A manager of this user in a mount namespace of its own, where /run is empty: nothing of this machine is touched.
SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/u/systemd && chmod 700 /run/u || exit 77
export XDG_RUNTIME_DIR=/run/u
{manager} --user --unit=basic.target >log 2>&1 & manager=$!
trap 'kill $manager' EXIT
for n in 1 2 3 4 5 6 7 8 9 10; do systemctl --user start stuck barks 2>/dev/null && break; sleep 0.3; done
systemctl --user show-environment >/dev/null || exit 77
systemctl --user show --property=MainPID --value stuck
sleep 0.7
date +%s.%N; systemctl --user stop stuck; date +%s.%N
for n in 1 2 3 4 5 6 7 8 9 10; do systemctl --user is-failed --quiet barks && break; sleep 0.3; done
systemctl --user show --property=Result --value barks
"""


@pytest.mark.live
def test_systemd_keeps_a_bundle_at_a_stop_and_the_stacks_of_one_whose_watchdog_barked(host, tmp_path):
    if os.geteuid() or not Path(MANAGER).exists() or not shutil.which("unshare"):
        pytest.skip("needs root, unshare, and systemd")
    units, folder = tmp_path / ".config" / "systemd" / "user", tmp_path / "kept"
    for name, text, more in (("stuck", STUCK, str(free_port())), ("barks", BARKS, "")):
        (tmp_path / f"{name}.py").write_text(text)
        (units / f"{name}.service.d").mkdir(parents=True)
        drop_in = (DEPLOY / "systemd" / "hang-evidence.conf").read_text()
        drop_in = drop_in.replace("/opt/hang", str(host)).replace("/var/lib/hang-evidence", str(folder))
        (units / f"{name}.service.d" / "hang-evidence.conf").write_text(drop_in)
        watchdog = "WatchdogSec=1\nNotifyAccess=all\n" if name == "barks" else ""
        start = f"ExecStart={sys.executable} {tmp_path}/{name}.py {more}\n"
        path = f"Environment=PATH={environment(host)['PATH']}\n"  # a manager gives its own to nobody
        unit = f"[Service]\n{path}{start}{watchdog}StandardError=file:{tmp_path}/{name}.err\n"
        (units / f"{name}.service").write_text(unit)
    journal = host / "journalctl"  # no journal runs here: what stands in it is what the unit wrote
    journal.write_text(f"#!/bin/sh\ncase $* in *_SYSTEMD_INVOCATION_ID=?*) cat {tmp_path}/barks.err ;; esac\n")
    journal.chmod(0o755)
    script = SCRIPT.format(manager=MANAGER)
    how = {"cwd": tmp_path, "env": environment(host, HOME=str(tmp_path)), "capture_output": True, "text": True}
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], **how)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no manager can run here: {done.stderr}")
    pid, before, after, result = done.stdout.split()
    assert float(after) - float(before) < MOST + SLACK and result == "watchdog"
    assert answer_in(kept(host, f"evidence-{pid}-*.tar.gz")[0]).process.pid == int(pid)
    (stacks,) = kept(host, "evidence-watchdog-*.txt")
    assert "in forgets_its_watchdog" in stacks.read_text()
