"""Snippets for the host: the capture in sh, read by the engine, and the files for containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import client
import zoo
from snippet_lab import SNIPPETS, use_snippets

use_snippets()

import lifespan_executor
import service_lifespan

import lab
from hangdebug.capture.processes import facts
from hangdebug.evidence.bundle import read_bundle

ROOT = SNIPPETS.parent
SHELLS = [shell for shell in (["dash"], ["busybox", "ash"], ["bash", "--posix"]) if shutil.which(shell[0])]
SHELL = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


def path(folder: Path, *programs: str, busybox: bool = False) -> str:
    """A PATH of nothing but these programs and those of a small host; of busybox's own where that is asked for."""
    names = (
        "cat cut date grep sed tr sort awk mkdir mv ls readlink uname sleep "
        "head getconf sh tar gzip dirname basename".split()
    )
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
    return subprocess.run(
        found, cwd=cwd, env={"PATH": path}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )


def diagnosed(bundle: Path, *arguments: str) -> dict:
    """What a bare Python says of the bundle, as on another machine."""
    command = [
        sys.executable,
        "-S",
        "-I",
        str(ROOT / "scripts" / "hang.py"),
        "diagnose",
        str(bundle),
        "--json",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PY_SPY = (
    str(Path(sys.executable).parent / "py-spy")
    if (Path(sys.executable).parent / "py-spy").exists()
    else shutil.which("py-spy")
)


@pytest.fixture
def programs(tmp_path):
    """A PATH for each shell, with py-spy."""
    found = {}
    for shell in SHELLS:
        (tmp_path / shell[0]).mkdir()
        found[shell[0]] = path(tmp_path / shell[0], PY_SPY, busybox=shell[0] == "busybox")
    return found


ASKED = ("state", "cause", "blocking_frame", "thread", "kernel_wait", "confidence")


def alike(answer: dict) -> dict:
    """What an answer says, without what it can say only with the lines of the code at hand."""
    told = {key: answer[key] for key in ASKED}
    told["blocking_frame"] = {key: told["blocking_frame"][key] for key in ("function", "file", "line")}
    return told


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """A server that hangs, and what Python captured of it."""
    folder = tmp_path_factory.mktemp("captured") / "live"
    with zoo.hang("executor-shutdown") as hung:
        command = [
            sys.executable,
            str(ROOT / "scripts" / "hang.py"),
            "capture",
            "--pid",
            str(hung.pid),
            "--out",
            str(folder),
        ]
        subprocess.run(command, check=True, capture_output=True)
        yield hung, folder, diagnosed(folder)


@pytest.mark.live
@SHELL
def test_a_capture_in_sh_gives_the_same_answer_as_one_in_python_and_says_what_it_lacks(shell, captured, tmp_path):
    hung, folder, live = captured
    work = tmp_path / "a folder"
    (work / "bin").mkdir(parents=True)
    programs = path(work / "bin", PY_SPY, busybox=shell[0] == "busybox")
    done = capture(shell, programs, str(hung.pid), "my evidence", cwd=work)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "my evidence.tar.gz\n")
    assert hung.holds()  # neither mended nor ended
    packed = diagnosed(work / "my evidence.tar.gz")
    assert alike(packed) == alike(live) == alike(diagnosed(work / "my evidence"))
    assert (live["state"], live["cause"], packed["samples"]) == ("loop-blocked", "executor-shutdown", 3)
    assert packed["blocking_frame"]["source"] is None and any("no asyncio tasks" in doubt for doubt in packed["doubts"])
    with_code = diagnosed(work / "my evidence.tar.gz", "--code", str(hung.truth.folder))
    assert (
        with_code["blocking_frame"] == live["blocking_frame"]
        and packed["process"]["python"] == live["process"]["python"]
    )
    ours, theirs = (
        {re.sub(r"\d+", "N", file.name) for file in place.rglob("*.*") if file.is_file()}
        for place in (work / "my evidence", folder)
    )
    assert ours - theirs == {"py-spy.log", "sockets.txt"}  # the same layout, where it can be had
    for file in (work / "my evidence").rglob("*.json"):
        json.loads(file.read_text())


@pytest.mark.live
@SHELL
def test_the_shell_s_evidence_too_is_its_user_s_alone_and_theirs_who_called_sudo(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = path(tmp_path / "bin", PY_SPY, busybox=shell[0] == "busybox")
    script = [shutil.which(shell[0]), *shell[1:], str(SNIPPETS / "capture.sh")]
    caller = 54321 if os.geteuid() == 0 else os.geteuid()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            for place, owner in ((tmp_path / "roots", os.geteuid()), (tmp_path / "theirs", caller)):
                place.mkdir()
                os.chown(place, owner, -1)
                command = [*script, str(process.pid), "evidence"]
                env = {"PATH": f"{programs}:/usr/bin:/bin", "SUDO_UID": str(caller), "SUDO_GID": str(caller)}
                subprocess.run(command, cwd=place, env=env, check=True, capture_output=True, timeout=60)
                found = [one.stat() for one in place.rglob("*")]
                assert len(found) > 5 and {one.st_uid for one in found} == {owner}
                assert not [one for one in found if one.st_mode & 0o077]
        finally:
            process.kill()


@pytest.mark.live
def test_what_the_sockets_tell_is_told_by_both(tmp_path):
    """Told to stop? No stack shows it."""
    (tmp_path / "bin").mkdir()
    with zoo.hang("graceful-shutdown") as hung:
        done = capture(SHELLS[0], path(tmp_path / "bin", PY_SPY), str(hung.pid), "evidence", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        live = facts(hung.pid)
    packed = read_bundle(tmp_path / "evidence.tar.gz")[0].process
    for name in ("listening", "listens", "served", "polls", "server", "status", "cwd", "python"):
        assert getattr(packed, name) == getattr(live, name), name
    answer = diagnosed(tmp_path / "evidence.tar.gz")
    assert (answer["state"], answer["cause"]) == (hung.truth.state, hung.truth.cause)


@pytest.mark.live
def test_of_a_server_with_a_loop_the_child_that_is_stuck_for_good_is_captured_too(tmp_path):
    (tmp_path / "bin").mkdir()
    with zoo.hang("fork") as hung:
        done = capture(SHELLS[0], path(tmp_path / "bin", PY_SPY), str(hung.pid), "evidence", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    answer = diagnosed(tmp_path / "evidence.tar.gz")
    assert (answer["state"], answer["cause"], answer["process"]["supervisor_pid"]) == ("deadlock", "fork", hung.pid)


@pytest.mark.live
def test_a_full_pool_is_not_accused_where_nobody_can_tell_whether_work_waits_for_it(tmp_path):
    """Its queue is read by Python alone; with the number of CPUs, which says how large the pool may be, it would be."""
    (tmp_path / "bin").mkdir()
    with zoo.hang("long_jobs") as busy:
        done = capture(SHELLS[0], path(tmp_path / "bin", PY_SPY), str(busy.pid), "evidence", cwd=tmp_path)
    answer = diagnosed(tmp_path / "evidence")
    assert done.returncode == 0 and busy.truth.state == "healthy"
    assert answer["state"] in ("healthy", "inconclusive") and answer["confidence"] < 0.8


@pytest.mark.live
def test_what_only_tasks_show_is_no_sure_answer(tmp_path):
    (tmp_path / "bin").mkdir()
    with zoo.hang("never-set") as hung:
        done = capture(SHELLS[0], path(tmp_path / "bin", PY_SPY), str(hung.pid), "evidence", cwd=tmp_path)
    answer = diagnosed(tmp_path / "evidence")
    assert done.returncode == 0 and answer["confidence"] < 0.8
    assert (
        any("is not known: the bundle has no list of its tasks" in doubt for doubt in answer["doubts"])
        and "Next: " in answer["doubts"][-1]
    )


PYTHON_LINE = [
    "-u",
    "-X",
    "dev",
    "{server}",
    "--port",
    "80",
    "--password=s3cret-1",
    "--token",
    "s3cret-2",
    "-ps3cret-3",
    "postgresql://ada:s3cret-4@h/x",
]


@pytest.mark.live
@SHELL
def test_no_value_of_an_option_is_kept_by_the_shell_either(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    server = tmp_path / "server.py"
    server.write_text(
        "import subprocess, time\nsubprocess.Popen(['sh', '-c', 'sleep 60 # s3cret-5'])\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    words = [word.format(server=server) for word in PYTHON_LINE]
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        text=True,
        env={"APP_SECRET": "s3cret-6"},
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            done = capture(
                shell,
                path(tmp_path / "bin", PY_SPY, busybox=shell[0] == "busybox"),
                str(process.pid),
                "evidence",
                cwd=tmp_path,
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert done.returncode == 0, done.stderr
    kept = {file: file.read_text() for file in (tmp_path / "evidence").rglob("*.*") if file.is_file()}
    assert len(kept) > 12 and not [file.name for file, text in kept.items() if "s3cret" in text]
    command = json.loads((tmp_path / "evidence" / str(process.pid) / "process.json").read_text())["command"]
    assert command == f"{sys.executable} *** *** *** {server} --port"


@pytest.mark.live
@pytest.mark.parametrize("shell", [["busybox", "ash"] if shutil.which("busybox") else SHELLS[0]], ids=["sh"])
def test_of_a_supervisor_each_worker_is_captured(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    with lab.newsroom(args=("--workers", "2")) as news:
        done = capture(
            shell,
            path(tmp_path / "bin", PY_SPY, busybox=shell[0] == "busybox"),
            str(news.pid),
            "evidence",
            cwd=tmp_path,
        )
        workers = {str(pid) for pid in lab.descendants(news.pid)}
    assert done.returncode == 0, done.stderr
    looked_at = {folder.name for folder in (tmp_path / "evidence").iterdir() if folder.is_dir()}
    assert len(looked_at) == 3 and looked_at - {str(news.pid)} <= workers  # the other one is multiprocessing's tracker
    for worker in looked_at - {str(news.pid)}:
        told = json.loads((tmp_path / "evidence" / worker / "process.json").read_text())
        assert told["supervisor_pid"] == news.pid and told["server"] == "uvicorn"
    assert all(one.process.listens for one in read_bundle(tmp_path / "evidence") if one.process.supervisor_pid)
    assert diagnosed(tmp_path / "evidence.tar.gz")["state"] == "healthy"


@pytest.mark.live
@SHELL
def test_an_interrupted_capture_says_where_the_rest_is_and_leaves_the_target_as_it_was(shell, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = path(tmp_path / "bin", busybox=shell[0] == "busybox")
    waiting = tmp_path / "bin" / "py-spy"  # one that has attached and takes long
    waiting.write_text("#!/bin/sh\ncase $1 in --version) echo py-spy 0 ;; *) echo > attached; exec sleep 60 ;; esac\n")
    waiting.chmod(0o755)
    command = [shutil.which(shell[0]), *shell[1:], str(SNIPPETS / "capture.sh"), "{pid}", "evidence"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as target:
        command = [word.format(pid=target.pid) for word in command]
        with subprocess.Popen(
            command, cwd=tmp_path, env={"PATH": programs}, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as script:
            assert client.eventually((tmp_path / "attached").exists, 20)
            os.killpg(script.pid, signal.SIGINT)  # as Ctrl-C does
            _, said = script.communicate(timeout=10)
        assert target.poll() is None
        target.communicate(b"\n")
    assert script.returncode == 130 and "interrupted; what was read until now is in evidence" in said
    assert list((tmp_path / "evidence").glob("*/kernel-before-3.tsv")) and not list(
        (tmp_path / "evidence").glob("*/sample-*")
    )


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to be somebody else")
def test_another_user_who_may_not_attach_is_shown_the_command_to_ask_for(tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "py-spy").symlink_to(PY_SPY)
    script = shutil.copy(SNIPPETS / "capture.sh", tmp_path)
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            for where, told in (
                (tmp_path, "cannot be made. Next: sh '"),
                (Path("/tmp"), 'Next: sudo env PATH="$PATH" sh \''),
            ):
                done = subprocess.run(
                    [
                        "setpriv",
                        "--reuid",
                        "65534",
                        "--clear-groups",
                        "sh",
                        script,
                        str(process.pid),
                        f"none-{os.getpid()}",
                    ],
                    cwd=where,
                    env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 2 and told in done.stderr, done.stderr
        finally:
            process.kill()
            shutil.rmtree(f"/tmp/none-{os.getpid()}", ignore_errors=True)


@pytest.mark.live
@pytest.mark.parametrize("cause", ["sleep", "socket", "subprocess"])
def test_the_kernel_s_word_is_kept_so_that_leaves_in_c_are_told_apart(cause, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = path(tmp_path / "bin", PY_SPY)
    with zoo.hang(cause) as hung:
        done = capture(SHELLS[0], programs, str(hung.pid), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert diagnosed(tmp_path / done.stdout.strip(), "--code", str(hung.truth.folder))["cause"] == cause


@pytest.mark.live
def test_a_stopped_process_is_left_alone_and_named(programs, tmp_path):
    with zoo.hang("sleep") as hung:
        hung.server.process.send_signal(signal.SIGSTOP)
        try:
            done = [
                capture(shell, programs[shell[0]], str(hung.pid), shell[0] + "-evidence", cwd=tmp_path)
                for shell in SHELLS
            ]
        finally:
            hung.server.process.send_signal(signal.SIGCONT)
    for shell, one in zip(SHELLS, done):
        bundle = tmp_path / f"{shell[0]}-evidence"
        assert one.returncode == 0 and not list(bundle.glob("*/sample-*"))
        assert diagnosed(bundle)["state"] == "stopped"


@pytest.mark.live
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
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        done = capture(shell, without, str(ended.pid), cwd=tmp_path)
        assert done.returncode == 2 and f"Process {ended.pid} is not running. Next: ps" in done.stderr
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
    build = manifest("debug.compose.yaml")["services"]["app"]["build"]
    text = build["dockerfile_inline"].replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_each_grants_the_one_capability_and_nothing_more():
    app = manifest("debug.compose.yaml")["services"]["app"]
    assert app["cap_add"] == ["SYS_PTRACE"] and not {"privileged", "pid", "security_opt", "user"} & set(app)
    context = manifest("debug.ephemeral.yaml")
    assert context == {"securityContext": {"runAsUser": 0, "capabilities": {"add": ["SYS_PTRACE"]}}}
    text = "".join((SNIPPETS / name).read_text() for name in ("debug.compose.yaml", "debug.ephemeral.yaml"))
    assert set(re.findall(r"\b(?:CAP_)?SYS_\w+", text)) == {"SYS_PTRACE"}


def test_the_image_stops_by_signal_within_the_grace_of_compose():
    steps = instructions()
    assert [name for name, _ in steps] == ["FROM", "WORKDIR", "COPY", "RUN", "COPY", "COPY", "USER", "CMD"]
    command = json.loads(steps[-1][1])  # no shell in front
    grace = int(command[command.index("--timeout-graceful-shutdown") + 1])
    app = manifest("debug.compose.yaml")["services"]["app"]
    assert grace + max(lifespan_executor.DRAIN, service_lifespan.GRACE) < seconds(app["stop_grace_period"])
    assert any("py-spy" in rest for name, rest in steps if name == "RUN") and dict(steps)["USER"] != "root"


@pytest.mark.slow
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
    for name in ("debug.compose.yaml", "debug.ephemeral.yaml"):
        assert re.search(r"[Nn]ot run", (SNIPPETS / name).read_text())
