"""Snippets for the host: the capture in sh, read by the engine, and the files for containers."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zoo
from snippet_lab import SNIPPETS, use_snippets

use_snippets()

import lifespan_executor  # noqa: E402
import service_lifespan  # noqa: E402

ROOT = SNIPPETS.parent
SHELLS = [shell for shell in (["dash"], ["busybox", "ash"], ["bash", "--posix"]) if shutil.which(shell[0])]
SHELL = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


def path(folder: Path, *programs: str, busybox: bool = False) -> str:
    """A PATH of nothing but these programs and those of a small host; of busybox's own where that is asked for."""
    names = "cat cut date grep sed tr sort awk mkdir readlink uname sleep head getconf sh".split()
    box = shutil.which("busybox") if busybox else None
    for name in names:
        if box is None:
            (folder / name).symlink_to(shutil.which(name))
        elif name in subprocess.run([box, "--list"], capture_output=True, text=True).stdout.split():
            (folder / name).symlink_to(box)
    for program in programs:
        (folder / Path(program).name).symlink_to(program)
    return str(folder)


def capture(shell: list[str], path: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    found = [shutil.which(shell[0]), *shell[1:], str(SNIPPETS / "capture.sh"), *arguments]
    return subprocess.run(found, cwd=cwd, env={"PATH": path}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def diagnosed(bundle: Path, *arguments: str) -> dict:
    """What a bare Python says of the bundle, as on another machine."""
    command = [sys.executable, "-S", "-I", str(ROOT / "scripts" / "hang.py"), "diagnose", str(bundle), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PY_SPY = str(Path(sys.executable).parent / "py-spy") if (Path(sys.executable).parent / "py-spy").exists() else shutil.which("py-spy")


@SHELL
def test_a_capture_in_sh_is_a_bundle_that_names_the_cause(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = path(tmp_path / "bin", PY_SPY, busybox=shell[0] == "busybox")
    with zoo.hang("executor-shutdown") as hung:
        done = capture(shell, programs, str(hung.pid), "evidence", cwd=tmp_path)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "evidence\n")
        assert hung.holds()  # neither mended nor ended
        answer = diagnosed(tmp_path / "evidence", "--code", str(hung.truth.folder))
    assert (answer["state"], answer["cause"], answer["samples"]) == ("loop-blocked", "executor-shutdown", 3)
    assert (Path(answer["blocking_frame"]["file"]).name, answer["blocking_frame"]["line"]) in hung.truth.marked
    assert answer["kernel_wait"]["syscall"] == "futex" and answer["process"]["server"] == "uvicorn"
    assert answer["process"]["python"] and answer["confidence"] >= 0.9
    for file in (tmp_path / "evidence").rglob("*.json"):
        json.loads(file.read_text())


@pytest.mark.parametrize("cause", ["sleep", "socket", "subprocess"])
def test_the_kernel_s_word_is_kept_so_that_leaves_in_c_are_told_apart(cause, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = path(tmp_path / "bin", PY_SPY)
    with zoo.hang(cause) as hung:
        done = capture(SHELLS[0], programs, str(hung.pid), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert diagnosed(tmp_path / done.stdout.strip(), "--code", str(hung.truth.folder))["cause"] == cause


@SHELL
def test_a_stopped_process_is_left_alone_and_named(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = path(tmp_path / "bin", PY_SPY, busybox=shell[0] == "busybox")
    with zoo.hang("sleep") as hung:
        hung.server.process.send_signal(signal.SIGSTOP)
        try:
            done = capture(shell, programs, str(hung.pid), "evidence", cwd=tmp_path)
        finally:
            hung.server.process.send_signal(signal.SIGCONT)
    assert done.returncode == 0 and not list((tmp_path / "evidence").glob("*/sample-*"))
    assert diagnosed(tmp_path / "evidence")["state"] == "stopped"


@SHELL
def test_what_cannot_be_captured_gets_a_line_with_the_next_command(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "there").mkdir()
    without = path(tmp_path / "bin", busybox=shell[0] == "busybox")
    for arguments in ([], ["many"], ["0"], ["-12"], [""]):
        done = capture(shell, without, *arguments, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("usage: capture.sh PID"), arguments
    assert capture(shell, without, "-h", cwd=tmp_path).returncode == 0
    done = capture(shell, without, "1", cwd=tmp_path)
    assert done.returncode == 2 and "py-spy is not on PATH. Next: pip install py-spy" in done.stderr
    (tmp_path / "bin" / "py-spy").symlink_to(PY_SPY)
    done = capture(shell, without, "4194305", cwd=tmp_path)
    assert done.returncode == 2 and "Process 4194305 is not running. Next: ps" in done.stderr
    with subprocess.Popen(["sleep", "30"]) as process:
        done = capture(shell, without, str(process.pid), "there", cwd=tmp_path)
        assert done.returncode == 2 and "there is there already" in done.stderr
        done = capture(shell, without, str(process.pid), "no python", cwd=tmp_path)
        process.kill()
    assert done.returncode == 2 and "py-spy cannot read" in done.stderr and "Next: sudo " in done.stderr


# -- containers ------------------------------------------------------------------------------------------


def manifest(name: str) -> dict:
    return yaml.safe_load((SNIPPETS / name).read_text())


def seconds(text: str) -> int:
    return int(re.fullmatch(r"(\d+)s", text)[1])


def instructions() -> list[tuple[str, str]]:
    text = (SNIPPETS / "debug.Dockerfile").read_text().replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_each_grants_the_one_capability_and_nothing_more():
    app = manifest("debug.compose.yaml")["services"]["app"]
    assert app["cap_add"] == ["SYS_PTRACE"] and not {"privileged", "pid", "security_opt", "user"} & set(app)
    context = manifest("debug.ephemeral.yaml")
    assert context == {"securityContext": {"runAsUser": 0, "capabilities": {"add": ["SYS_PTRACE"]}}}
    text = "".join((SNIPPETS / name).read_text() for name in ("debug.compose.yaml", "debug.ephemeral.yaml", "debug.Dockerfile"))
    assert set(re.findall(r"\b(?:CAP_)?SYS_\w+", text)) == {"SYS_PTRACE"}


def test_the_image_stops_by_signal_within_the_grace_of_compose():
    steps = instructions()
    assert [name for name, _ in steps] == ["FROM", "WORKDIR", "COPY", "RUN", "COPY", "COPY", "USER", "CMD"]
    command = json.loads(steps[-1][1])  # no shell in front
    grace = int(command[command.index("--timeout-graceful-shutdown") + 1])
    app = manifest("debug.compose.yaml")["services"]["app"]
    assert grace + max(lifespan_executor.DRAIN, service_lifespan.GRACE) < seconds(app["stop_grace_period"])
    assert app["build"]["dockerfile"] == "debug.Dockerfile"
    assert any("py-spy" in rest for name, rest in steps if name == "RUN") and dict(steps)["USER"] != "root"


def test_the_health_check_of_compose_runs_and_tells_an_answer_from_none(tmp_path):
    test = manifest("debug.compose.yaml")["services"]["app"]["healthcheck"]["test"]
    assert test[0] == "CMD"
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health/live" else 404)
            self.end_headers()

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, *test[2:-1], test[-1].replace(":8000", f":{server.server_port}")]
        clean = {"PATH": "/usr/bin:/bin", "no_proxy": "127.0.0.1"}
        assert subprocess.run(command, env=clean).returncode == 0
        server.shutdown()
        assert subprocess.run(command, env=clean, capture_output=True, timeout=20).returncode != 0


def test_what_was_not_run_is_said():
    for name in ("debug.Dockerfile", "debug.compose.yaml", "debug.ephemeral.yaml"):
        assert re.search(r"[Nn]ot run", (SNIPPETS / name).read_text())
