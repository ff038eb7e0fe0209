"""What references/privacy.md says is read, written, sent and started, watched by strace while each verb runs.

Each test is a line of that page. They are skipped where strace is not here, or may not trace.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HANG, DUMP = ROOT / "scripts" / "hang.py", ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
STRACE = shutil.which("strace")
pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(not STRACE, reason="strace is not installed. Next: apt-get install strace"),
]
CALLS = (
    "network,open,openat,creat,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "truncate,chmod,fchmodat,chown,kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal,execve,execveat,"
    "process_vm_writev,ptrace"
)
WAITS = """
import asyncio, os, subprocess, sys
async def main():
    print("waiting", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
SECRET = "PLANTED_IN_THE_ENVIRONMENT"
CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<args>.*)\) += (?P<result>-?\w+)")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
WRITES = ("creat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat truncate "
          "chmod fchmodat chown").split()  # fmt: skip
SIGNALS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
# Of a process, nothing else under /proc/PID is opened.
READ = re.compile(
    r"(?:task(?:/\d+(?:/(?:stat|status|syscall|wchan|children|sched|schedstat|comm))?)?|fd|fdinfo/\d+|maps|mem|exe|cmdline|comm|stat"
    r"|status|net/(?:tcp6?|udp6?|unix)|root/.*|statm|smaps|ns/\w+|limits|cgroup|mountinfo|cwd)"
)


@dataclass(frozen=True)
class Watched:
    """The system calls of a run: (pid, name, arguments, result)."""

    calls: tuple[tuple[int, str, str, str], ...]
    done: subprocess.CompletedProcess[str]
    work: Path

    def named(self, *names: str) -> list[tuple[int, str, str, str]]:
        return [one for one in self.calls if one[1] in names]

    @property
    def opened(self) -> list[tuple[str, str]]:
        """The path and the flags of each file that was opened."""
        return [
            (PATH.findall(args)[0], args) for _, _, args, result in self.named("open", "openat") if result[0] != "-"
        ]

    @property
    def started(self) -> set[str]:
        return {Path(PATH.findall(args)[0]).name for _, _, args, result in self.named("execve") if result == "0"}

    @property
    def connected(self) -> set[str]:
        """The addresses of other machines' and this one's servers: sockets of files and of the kernel are none."""
        found = [args for _, _, args, _ in self.named("connect", "sendto", "sendmsg") if "AF_INET" in args]
        return {
            f"{address[0]}:{port[1]}"
            for args in found
            for address, port in [(re.findall(r'"([\d.:a-f]+)"', args), re.search(r"port=htons\((\d+)\)", args))]
            if address and port
        }

    @property
    def written(self) -> set[str]:
        """What was made, changed, renamed or removed, but for what no file keeps."""
        made = {path for path, args in self.opened if re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", args)}
        calls = [args for _, _, args, result in self.named(*WRITES) if result == "0"]
        # what is removed by a folder's descriptor is below a folder that was opened by its path before
        made |= {path for args in calls if not re.match(r"\d+,", args) for path in PATH.findall(args)}
        return {path for path in made if not path.startswith(("/dev/", "/proc/self/"))}


@pytest.fixture(scope="module")
def target() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, env={**os.environ, "PLANTED": SECRET}
    ) as process:
        try:
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def watched(folder: Path, *words: object) -> Watched:
    """Run hang.py under strace, in a folder of its own."""
    work, scratch, log = folder / "work", folder / "tmp", folder / "calls"
    for one in (work, scratch):
        one.mkdir(parents=True, exist_ok=True)
    trace = [STRACE, "-f", "-qq", "--seccomp-bpf", "-s", "400", "-e", f"trace={CALLS}", "-o", log]
    done = subprocess.run(
        [*trace, sys.executable, HANG, *map(str, words)],
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(folder / "cache")},
    )
    if not log.exists() or ("ptrace" in done.stderr and "not permitted" in done.stderr):
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[:1]}")
    found = [CALL.match(line) for line in joined(log.read_text()).splitlines()]
    return Watched(tuple((int(one[1]), one[2], one[3], one[4]) for one in found if one), done, work)


def joined(text: str) -> str:
    """The log with each call that was interrupted by another one's as one line."""
    begun: dict[tuple[str, str], str] = {}
    lines = []
    for line in text.splitlines():
        start = re.match(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$", line)
        end = re.match(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$", line)
        if start:
            begun[start[1], start[2]] = line.removesuffix(" <unfinished ...>")
        elif end and (end[1], end[2]) in begun:
            lines.append(begun.pop((end[1], end[2])) + end[3])
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def captured(target: int, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    found = watched(tmp_path_factory.mktemp("capture"), "capture", "--pid", target, "--out", "kept", "--zip")
    assert found.done.returncode == 0, found.done.stderr
    return found


@pytest.fixture(scope="module")
def diagnosis(target: int, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    found = watched(tmp_path_factory.mktemp("diagnose"), "diagnose", "--pid", target)
    assert found.done.returncode == 0, found.done.stderr
    return found


@pytest.fixture(scope="module")
def recording(target: int, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watched(tmp_path_factory.mktemp("record"), "record", "--pid", target, "--seconds", "1", "--out", "kept")


@pytest.fixture(scope="module")
def stacks(target: int, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    found = watched(tmp_path_factory.mktemp("stacks"), "stacks", "--pid", target)
    assert found.done.returncode == 0, found.done.stderr
    return found


@pytest.fixture(scope="module")
def triaged(target: int, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watched(tmp_path_factory.mktemp("triage"), "triage", "--pid", target)


@pytest.fixture(params=["captured", "diagnosis", "recording", "stacks", "triaged"])
def live(request: pytest.FixtureRequest) -> Watched:
    return request.getfixturevalue(request.param)


def test_a_look_at_a_process_connects_to_nobody(live: Watched) -> None:
    assert live.connected == set()
    assert not live.named("bind", "listen", "accept", "accept4")


def test_a_look_at_a_process_starts_py_spy_and_nothing_else(live: Watched) -> None:
    assert live.started - {Path(sys.executable).name} == {"py-spy"}


def test_a_look_at_a_process_signals_nobody(live: Watched, target: int) -> None:
    sent = [one for one in live.named(*SIGNALS) if not re.search(r", (?:0|SIG_0)$", one[2])]
    assert not [one for one in sent if re.search(rf"\b{target}\b", one[2])], sent


def test_a_look_at_a_process_writes_to_no_memory(live: Watched) -> None:
    assert not live.named("process_vm_writev")
    assert not [one for one in live.named("ptrace") if "POKE" in one[2] or "SETREGS" in one[2]]
    assert not [path for path, args in live.opened if re.match(r"/proc/\d+/mem$", path) and "O_RDONLY" not in args]


def test_of_a_process_nothing_is_read_but_what_the_page_names(live: Watched, target: int) -> None:
    prefix = f"/proc/{target}/"
    read = {path.removeprefix(prefix) for path, _ in live.opened if path.startswith(prefix)}
    assert read and not [path for path in read if not READ.fullmatch(path)]
    assert not [path for path, _ in live.opened if path.endswith("/environ")]


def test_a_capture_writes_to_the_place_that_is_named(captured: Watched) -> None:
    allowed = (
        str(captured.work / "kept"),
        "kept",
        str(captured.work.parent / "tmp"),
        str(captured.work.parent / "cache"),
        ".hang-",
    )
    assert not {path for path in captured.written if not path.startswith(allowed)}
    kept = [path for path in (captured.work / "kept").rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if SECRET in path.read_text(errors="replace")]


@pytest.mark.parametrize("verb", ["diagnosis", "stacks"])
def test_a_diagnosis_keeps_nothing(verb: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(verb)
    allowed = (str(found.work.parent / "tmp"), str(found.work.parent / "cache"))
    assert not {path for path in found.written if not path.startswith(allowed)}
    assert not os.listdir(found.work) and not os.listdir(found.work.parent / "tmp")


def test_a_repair_writes_to_the_file_that_is_named_and_to_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for name in ("app.py", "other.py"):
        (tmp_path / "work" / name).write_text("import time\nasync def f():\n    time.sleep(1)\n")
    found = watched(tmp_path, "fix", "app.py:3", "--write")
    assert found.done.returncode == 0, found.done.stderr
    assert found.started == {Path(sys.executable).name} and found.connected == set() and not found.named(*SIGNALS)
    changed = {Path(path).name for path in found.written if "cache" not in path}
    assert "app.py" in changed and not {name for name in changed if name != "app.py" and not name.startswith(".hang-")}
    assert os.listdir(tmp_path / "work") and "time.sleep" not in (tmp_path / "work" / "app.py").read_text()
    assert "time.sleep" in (tmp_path / "work" / "other.py").read_text()


@pytest.mark.parametrize(
    "words", [("diagnose", DUMP), ("diagnose", DUMP, "--json"), ("report", DUMP, "--out", "report"), ("fix", "app.py")]
)
def test_what_reads_files_starts_connects_and_signals_nothing(words: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "app.py").write_text("import time\nasync def f():\n    time.sleep(1)\n")
    found = watched(tmp_path, *words)
    assert found.done.returncode == 0, found.done.stderr
    assert found.started == {Path(sys.executable).name} and found.connected == set() and not found.named(*SIGNALS)
    assert not {path for path in found.written if "cache" not in path and not path.startswith(("report", ".hang-"))}
    assert (tmp_path / "work" / "app.py").read_text().count("time.sleep(1)") == 1


class Redirects(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def redirecting() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_proof_connects_to_the_url_alone_and_follows_no_redirect(tmp_path: Path) -> None:
    with redirecting() as port:
        found = watched(tmp_path, "verify", "--url", f"http://127.0.0.1:{port}/", "--expect", "302")
    assert found.connected == {f"127.0.0.1:{port}"}, found.done.stdout + found.done.stderr
    assert found.started - {Path(sys.executable).name} == {"curl"}
    assert not {path for path in found.written if "cache" not in path and "/tmp/" not in path}


def test_a_proof_leaves_this_machine_only_when_it_is_said(tmp_path: Path) -> None:
    found = watched(tmp_path, "verify", "--url", "http://192.0.2.1/")
    assert found.done.returncode == 2 and "--allow-remote" in found.done.stderr
    assert found.connected == set() and "curl" not in found.started


def test_a_fleet_is_captured_by_kubectl_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "kubectl"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    found = watched(tmp_path, "fleet", "kubectl", "--selector", "app=news", "--out", "kept")
    assert "kubectl" in found.started <= {"kubectl", "sh", "dash", Path(sys.executable).name}, found.done.stderr
    assert found.connected == set() and not found.named(*SIGNALS)
    assert not {path for path in found.written if not re.search(r"cache|/tmp/|^kept", path)}


def test_an_assistants_server_listens_on_no_port(tmp_path: Path) -> None:
    found = watched(tmp_path, "mcp")
    assert found.started == {Path(sys.executable).name} and found.connected == set()
    assert not found.named("bind", "listen", "accept", "accept4") and not found.named(*SIGNALS)
    assert not {path for path in found.written if "cache" not in path}
