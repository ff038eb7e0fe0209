"""`verify` with real curl against real servers: healthy, hung, dead, and odd ones."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import lab
from client import get
from hangdebug.errors import BadRequest, MissingTool, NoProcess, ours
from hangdebug.repair.model import Probe
from hangdebug.repair.proof import verify as verifying
from hangdebug.repair.proof.verify import PHASES, Verification, table, verify

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def odd():
    with lab.start(Path(__file__).parent, "odd_streams:app") as server:
        yield server.url


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    monkeypatch.setattr(verifying, "PAUSE", 0.05)


@pytest.fixture
def fresh():
    with lab.start(Path(__file__).parent, "odd_streams:app") as server:
        yield server.url


@pytest.fixture
def mute():
    """It accepts connections, as a hung server does, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/health"


def test_the_bundled_hang_fails_and_its_repair_passes(tmp_path):
    with lab.newsroom(delay=30) as news:
        began = time.monotonic()
        hung = verify([news.health_url, news.articles_url], stream_url=news.stream_url, aborts=100, deadline=1)
        assert time.monotonic() - began < 10
    assert not hung.passed and (hung.streams, hung.aborts) == (1, 1)
    assert [probe.ok for probe in hung.probes if probe.phase != "after aborts"] == [True] * 12
    assert [probe.status for probe in hung.failed] == [None] * 4
    assert "FAILED: 4 of 16 probes" in table(hung) and "1 of 100 aborts" in table(hung)

    lab.overlay(lab.copy_app(tmp_path))
    with lab.newsroom(tmp_path, delay=30) as news:
        well = verify([news.health_url, news.articles_url], stream_url=news.stream_url, deadline=1)
    assert well.passed and (well.opened, well.streams, well.aborts) == (5, 5, 5)
    assert "PASSED" in table(well) and well.notes == ()


def test_every_phase_and_probe_is_reported_as_it_happens(fresh):
    phases, probes = [], []
    result = verify(
        f"{fresh}/health",
        stream_url=f"{fresh}/endless",
        aborts=7,
        concurrency=3,
        on_probe=probes.append,
        on_phase=phases.append,
    )
    assert tuple(phases) == PHASES and tuple(probes) == result.probes and result.passed
    assert tuple(dict.fromkeys(probe.phase for probe in probes)) == PHASES
    assert [probe.at for probe in probes] == sorted(probe.at for probe in probes) and probes[0].at == 0
    assert result.aborts == 7 and get(f"{fresh}/opened") == b"7"


def test_without_a_stream_there_is_a_baseline_only(odd):
    result = verify([f"{odd}/health", f"{odd}/health"])
    assert result.passed and {probe.phase for probe in result.probes} == {"baseline"}
    assert len(result.probes) == 3 and len(result.commands) == 1


def test_a_server_that_accepts_and_never_answers_costs_two_deadlines(mute):
    began = time.monotonic()
    result = verify([mute], stream_url=mute, aborts=1000, deadline=0.5)
    assert time.monotonic() - began < 3
    assert not result.passed and result.opened == 0 and len(result.probes) == 2
    assert all(probe.status is None and 0.4 < probe.seconds < 1.5 for probe in result.probes)
    assert "no answer" in table(result) and "Nothing was replayed" in table(result)


@pytest.mark.parametrize(
    "path, said",
    [
        ("/nothing-here", "answers 404 instead of a stream"),
        ("/broken", "answers 500 instead of a stream"),
        ("/health", "ended by itself before it could be cut off"),
        ("/empty", "closed the connection without a first byte"),
        ("/silent", "gave no first byte within 0.5 s"),
    ],
)
def test_what_is_no_stream_proves_nothing_and_is_said(odd, monkeypatch, path, said):
    monkeypatch.setattr(verifying, "FIRST_BYTE", 0.5)
    result = verify(f"{odd}/health", stream_url=odd + path, deadline=0.5)
    assert not result.failed and not result.passed and result.aborts == 0
    assert f"{odd}{path} {said}" in table(result) and "NOT PROVED" in table(result)


def test_streams_that_stop_coming_end_the_phase(fresh, monkeypatch):
    monkeypatch.setattr(verifying, "FIRST_BYTE", 0.5)
    began = time.monotonic()
    result = verify(f"{fresh}/health", stream_url=f"{fresh}/once", aborts=1000, deadline=0.5)
    assert time.monotonic() - began < 5
    assert (result.opened, result.streams, result.aborts, result.passed) == (6, 1, 1, False)


def test_streams_too_short_to_cut_off_do_not_go_on_for_ever(odd, monkeypatch):
    # The first stream is cut off in time, the others are waited for.
    monkeypatch.setattr(verifying, "ROUNDS", 1)
    monkeypatch.setattr(
        verifying.curl,
        "read",
        lambda streams, wait, read=verifying.curl.read: (
            read(streams, wait),
            len(streams) > 1 and [stream.curl.wait(5) for stream in streams],
        ),
    )
    result = verify(f"{odd}/health", stream_url=f"{odd}/brief", aborts=3)
    assert (result.opened, result.streams, result.aborts) == (3, 3, 1) and not result.passed


def test_a_500_misses_and_a_404_does_too_unless_it_is_expected(odd):
    typo = verify(f"{odd}/nothing-here")
    assert not typo.passed and "answers 404. Is it the right URL? Where that is right, --expect 404." in table(typo)
    assert verify(f"{odd}/nothing-here", expect=[404]).passed
    broken = verify([f"{odd}/health", f"{odd}/broken"])
    assert [(probe.url, probe.status) for probe in broken.failed] == [(f"{odd}/broken", 500)] * 2


def test_a_stream_given_as_a_url_to_probe_is_explained(odd):
    result = verify(f"{odd}/endless", deadline=0.5)
    assert not result.passed and "answers 200, but the answer does not end" in table(result)


def test_the_commands_can_be_pasted_into_a_shell(odd):
    *probes, stream = verify(f"{odd}/health?a=[1]&b='x'", stream_url=f"{odd}/brief").commands
    for command in probes:
        assert subprocess.run(command, shell=True, capture_output=True, text=True).stdout.startswith("200 0.")
    output = subprocess.run(stream, shell=True, capture_output=True, text=True).stdout
    assert output.startswith("HTTP/1.1 200 OK") and output.endswith("data: 2\n\n")


def test_a_port_where_nothing_listens_is_said():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    with pytest.raises(NoProcess, match="Nothing listens at"):
        verify(url)


@pytest.mark.parametrize(
    "url",
    [
        "-o/tmp/stolen",
        "--output=x",
        "127.0.0.1:8000/health",
        "file:///etc/passwd",
        "http://",
        "",
        "http:///health",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://a b/",
        "http://a/\n-o/x",
        "http://[::1/",
    ],
)
def test_what_is_no_url_never_reaches_curl(url, odd):
    for wrong in ({"urls": url}, {"urls": f"{odd}/health", "stream_url": url or "-"}):
        with pytest.raises(BadRequest, match="not an http or https URL"):
            verify(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"urls": []},
        {"aborts": 0},
        {"concurrency": 0},
        {"deadline": 0},
        {"deadline": float("nan")},
        {"deadline": -1},
    ],
)
def test_arguments_that_make_no_sense_are_refused(odd, wrong):
    with pytest.raises(BadRequest) as refused:
        verify(**{"urls": f"{odd}/health", **wrong})
    assert refused.value.next.startswith(ours("verify"))


def test_a_missing_curl_comes_with_the_command_that_installs_it(odd, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool) as missing:
        verify(f"{odd}/health")
    assert missing.value.next == "sudo apt-get install curl"


def curls() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == "curl"]


def test_ctrl_c_while_a_stream_is_open_ends_the_curls(odd):
    def interrupt(probe: Probe) -> None:
        if probe.phase == "while streaming":
            assert len(curls()) == 1
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        verify(f"{odd}/health", stream_url=f"{odd}/endless", on_probe=interrupt)
    assert curls() == []


@pytest.mark.parametrize("arguments", [{"urls": "/slow"}, {"urls": "/health", "stream_url": "/silent"}])
def test_ctrl_c_while_waiting_for_curl_ends_it(odd, arguments, monkeypatch):
    monkeypatch.setattr(verifying, "ROUNDS", 1)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            verify(**{name: odd + path for name, path in arguments.items()}, deadline=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert curls() == []


def test_a_server_that_dies_half_way_is_a_failed_probe(fresh):
    pid = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == "LISTEN" and connection.laddr.port == int(fresh.rpartition(":")[2])
    )

    def end(phase: str) -> None:
        if phase == "after aborts":
            psutil.Process(pid).kill()
            psutil.wait_procs([psutil.Process(pid)], timeout=5)

    result = verify(f"{fresh}/health", stream_url=f"{fresh}/endless", on_phase=end)
    assert not result.passed and any("connect" in note for note in result.notes)


def test_the_table_ranks_what_was_measured():
    seconds = [0.010, 0.020, 0.030, 0.040]
    probes = [Probe("http://h/", "baseline", 200, each, 0, True, "curl") for each in seconds]
    lost = Probe("http://h/", "baseline", None, 2.0, 0, False, "curl")
    head, row = table(Verification((*probes[::-1],), 2.0)).splitlines()[:2]
    assert row.split() == ["baseline", "4", "0", "200", "0.020", "s", "0.040", "s", "http://h/"]
    head, row = table(Verification((lost, *probes), 2.0)).splitlines()[:2]
    assert row.split() == ["baseline", "5", "1", "none,200", "0.030", "s", "no", "answer", "http://h/"]
    assert len(head) < 110
