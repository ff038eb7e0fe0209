"""The kernel's evidence: read from /proc of real threads in known waits, decoded the same from a file."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hangdebug.capture import proc
from hangdebug.evidence import bundle, kernel
from hangdebug.evidence.model import Clients, KernelWait

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/syscall").exists(), reason="Linux tells this in /proc, here is none"
)


def waiting(call) -> KernelWait:
    """What the kernel says of a thread of this process that runs `call`, once it is asleep in it."""

    def run() -> None:
        with suppress(OSError):  # the test closes what the call waits for
            call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        objects = proc.copy_objects(os.getpid(), ())
        known = kernel.Objects(
            dict(pairs(objects["fds.tsv"])),
            kernel.peers_by_inode(objects["net.txt"]),
            dict(pairs(objects["children.tsv"])),
        )
        found = kernel.parse_reading(proc.copy_threads(os.getpid()), known).waits.get(thread.native_id or 0)
        if found and found.state in "SD" and found.syscall not in (None, "running"):
            return found
        time.sleep(0.01)
    raise AssertionError("the thread never slept")


def pairs(text: str) -> list[tuple[int, str]]:
    return [(int(line.split("\t")[0]), line.split("\t")[1]) for line in text.splitlines() if "\t" in line]


def test_a_sleep_is_a_nanosleep_or_a_select_on_nothing() -> None:
    found = waiting(lambda: time.sleep(5))
    if sys.version_info >= (3, 11):
        assert found.syscall == "clock_nanosleep"
    else:
        assert found.syscall in ("select", "pselect6") and found.args[:4] == (0, 0, 0, 0)


def test_a_lock_is_a_futex() -> None:
    lock = threading.Lock()
    lock.acquire()
    assert waiting(lambda: lock.acquire(timeout=5)).syscall == "futex"
    lock.release()


def test_a_socket_is_known_by_its_peer() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.create_connection(server.getsockname())) as client,
    ):
        found = waiting(lambda: client.recv(1))
        assert found.syscall == "recvfrom"
        assert found.detail == f"fd {client.fileno()} -> 127.0.0.1:{server.getsockname()[1]}"


def test_a_socket_with_a_timeout_is_polled_and_known_too() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.create_connection(server.getsockname())) as client,
    ):
        client.settimeout(5)
        found = waiting(lambda: client.recv(1))
        assert found.syscall in ("poll", "ppoll")
        assert found.detail == f"fd {client.fileno()} -> 127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.live
def test_a_child_is_known_by_its_command() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = waiting(child.wait)
        assert found.syscall in ("wait4", "waitid")
        assert found.detail.startswith(f"child {child.pid}: {sys.executable}")
        child.stdin.close()


def test_a_file_lock_is_known_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "job.lock"
    with path.open("w") as holder, path.open("w") as waiter:
        fcntl.flock(holder, fcntl.LOCK_EX)
        found = waiting(lambda: fcntl.flock(waiter, fcntl.LOCK_EX))
        assert (found.syscall, found.detail) == ("flock", f"fd {waiter.fileno()} -> {path}")
        fcntl.flock(holder, fcntl.LOCK_UN)


def test_a_thread_on_a_cpu_runs_and_uses_it() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)], daemon=True)
    thread.start()
    waits, until = [], time.monotonic() + 30  # beside other work it gets little of the CPU
    while len(waits) < 6 or (waits[-1].cpu - waits[0].cpu <= 0.1 and time.monotonic() < until):
        waits.append(kernel.parse_reading(proc.copy_threads(os.getpid())).waits[thread.native_id])
        time.sleep(0.1)
    stop.set()
    assert waits[-1].cpu - waits[0].cpu > 0.1
    assert any(one.syscall == "running" for one in waits)


def test_clients_are_counted_by_what_became_of_them() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        silent, speaking, gone, waiting_ = (socket.create_connection(("127.0.0.1", port)) for _ in range(4))
        accepted = [server.accept()[0] for _ in range(3)]
        speaking.sendall(b"GET /")
        gone.close()
        deadline = time.monotonic() + 5
        found = None
        while time.monotonic() < deadline and found != Clients(open=3, abandoned=1, unread=1, backlog=1):
            found = kernel.count_clients(proc.copy_objects(os.getpid(), (port,))["net.txt"], (port,))
        assert found == Clients(open=3, abandoned=1, unread=1, backlog=1)
        for one in (silent, speaking, waiting_, *accepted):
            one.close()


def test_who_was_sent_nothing_since_it_asked_is_counted() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        silent, asking, answered = (socket.create_connection(("127.0.0.1", port)) for _ in range(3))
        accepted = [server.accept()[0] for _ in range(3)]
        asking.sendall(b"GET /")
        answered.sendall(b"GET /")
        accepted[2].recv(5)
        time.sleep(0.05)
        accepted[2].sendall(b"HTTP/1.1 200 OK")
        answered.recv(15)
        rows = [line.split() for line in proc.copy_answers(os.getpid(), (port,)).splitlines()[1:]]
        rows = [row for row in rows if row[-1].endswith(f":{port}") or row[0] != "peer"]  # none of another test's
        for one in (silent, asking, answered, *accepted):
            one.close()
    seen = [(str(port), False), (str(port), True), ("peer", False), ("peer", False)]  # the last two are the clients
    assert sorted((row[0], row[2] == "-1") for row in rows) == seen
    peers = sorted((row[1] == "-1", row[3]) for row in rows if row[0] == "peer")
    assert peers == [(False, f"127.0.0.1:{port}"), (True, f"127.0.0.1:{port}")]  # the one that asked has had no answer


def test_a_peer_owes_an_answer_that_has_sent_nothing_since_it_was_asked() -> None:
    rows = "peer\t-1\t9000\t10.1.2.3:443\npeer\t8000\t5000\t[fd00::5]:80\npeer\t4000\t5000\t10.1.2.4:443\n"
    found = kernel.with_answers(Clients(open=1), rows + "peer\t-1\t20\t10.1.2.5:443\npeer\t-1\t-1\t\npeer\n")
    assert found.owing == (("10.1.2.3:443", 9.0), ("[fd00::5]:80", 5.0)) and found.heard == 4.0


def test_it_is_known_when_a_peer_was_last_heard_of() -> None:
    found = kernel.with_answers(Clients(open=1), "8000\t7200\t-1\npeer\t300\t40\npeer\t9000\t-1\n")
    assert (found.waits, found.heard) == ((7.2,), 0.3)


@pytest.mark.parametrize(
    "text, unanswered, waited",
    [
        ("# port received sent\n", 0, 0.0),
        ("8000\t7200\t-1\n", 1, 7.2),  # never sent anything
        ("8000\t7200\t9000\n8000\t2000\t2100\n", 2, 7.2),  # nothing since it asked again
        ("8000\t7200\t7100\n", 0, 0.0),  # answered
        ("8000\t300\t-1\n", 0, 0.0),  # just now
        ("8000\t7200\nx\ty\tz\n8000\t\t\n", 0, 0.0),
    ],
)
def test_a_client_waits_that_has_had_nothing_for_a_second(text: str, unanswered: int, waited: float) -> None:
    found = kernel.with_answers(Clients(open=3), text)
    assert (found.open, len(found.waits or ()), max(found.waits or (0,))) == (3, unanswered, waited)


@pytest.mark.parametrize(
    "text, name, args",
    [
        ("202 0x7f 0x189 0x0 0x0 0x0 0xffffffff 0x1 0x2", "futex", (127, 393, 0, 0, 0, 4294967295)),
        ("running", "running", ()),
        ("-1 0x7ffd 0x7f52", None, ()),
        ("", None, ()),
        ("9999 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0", "syscall 9999", (0,) * 6),
    ],
)
def test_a_syscall_line_is_a_name_and_its_arguments(text: str, name: str, args: tuple) -> None:
    assert kernel.syscall(text, kernel.X86_64) == (name, args)


def test_rows_that_make_no_sense_are_left_out() -> None:
    text = "# at 1.5 arch x86_64 hz 100\n\nx\ty\n5\n7\tS 1\t2\t3\twchan\t0 0x3 0 0 0 0 0 0 0\t\n8\tS\t\t\t\tjunk\t\n"
    found = kernel.parse_reading(text, kernel.Objects({3: "/dev/tty"}))
    assert found.at == 1.5 and set(found.waits) == {7, 5}
    assert str(found.waits[7]) == "read (fd 3 -> /dev/tty)" and found.waits[7].switches == 5


@pytest.mark.parametrize(
    "name, text",
    [
        ("kernel-before-0.tsv", "# at 12:5 arch x86_64 hz none\n5\tS\t\t\t\t\t\n"),
        ("kernel-before-0.tsv", "# at 1.5 arch x86_64 hz 0\n5\tS 1 1 1 1 1 1 1 1 1 1 1 1 1 1\t1\t1\t\t\t\n"),
        ("net.txt", "0: zz zz 01 00:00 00:0 0 0 0 41325 1\n"),
        ("fds.tsv", "3\u00b2\tsocket:[1]\n"),
        ("process.json", "[" * 100_000),
        ("tasks-0.json", "[" * 100_000),
        ("functions.json", "[" * 100_000),
        ("queues-0.json", '{"\u00b2": 1}'),
        ("sources.json", '{"app.py": {"\u00b2": "x"}}'),
    ],
)
def test_a_part_of_a_bundle_that_makes_no_sense_costs_that_part_alone(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "sample-0.json").write_text(
        '[{"thread_name": "a", "frames": [{"name": "f", "filename": "a.py"}]}]'
    )
    (tmp_path / "7" / name).write_text(text)
    (found,) = bundle.read_bundle(tmp_path)
    assert found.snapshots[0].threads[0].name == "a"


@pytest.mark.parametrize(
    "text, address",
    [
        ("0100007F:1538", "127.0.0.1:5432"),
        ("0000000000000000FFFF00000403020A:0050", "10.2.3.4:80"),
        ("00000000000000000000000001000000:0050", "[::1]:80"),
    ],
)
def test_addresses_of_the_tcp_tables(text: str, address: str) -> None:
    assert kernel.readable_address(text) == address
