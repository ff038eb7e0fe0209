"""The news service hangs as in production, its repair holds, and nothing is ever left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

import lab
from client import eventually, get, reading, slowest

NOTEBOOKS = Path(lab.__file__).parent
OWNER = """
import sys, time
import lab
with lab.newsroom() as news:
    print(news.pid, news.feeds.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["as it was", "repaired"])
def app_dir(request, tmp_path):
    lab.copy_app(tmp_path)
    if request.param == "repaired":
        lab.overlay(tmp_path)
    return tmp_path


def leave_after_first_event(news: lab.Newsroom) -> float:
    """Open the stream, read one event, go away. Seconds until the event came."""
    began = time.monotonic()
    with reading(news.stream_url) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.readline() == b"event: feed\n"
        return time.monotonic() - began


def feed_connections(news: lab.Newsroom) -> int:
    port = urlsplit(news.feeds.url).port
    open_ones = psutil.Process(news.pid).net_connections("tcp")
    return sum(one.status == "ESTABLISHED" and one.raddr.port == port for one in open_ones)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.live
def test_the_stream_brings_every_feed_and_the_front_page_shows_it(app_dir):
    with lab.newsroom(app_dir, delay=1) as news:
        assert get(news.articles_url) == b"[]"
        with reading(news.stream_url) as stream:
            lines = [line for line in stream.read().decode().splitlines() if line.startswith("data: ")]
        *feeds, last = [json.loads(line[len("data: ") :]) for line in lines]
        assert last == {}
        assert {feed["feed"] for feed in feeds} == {"city", "sport", "wire", "markets", "weather", "traffic"}
        assert all(len(feed["articles"]) >= 3 and feed["error"] is None for feed in feeds)
        assert len(json.loads(get(news.articles_url))) >= 18


@pytest.mark.live
def test_it_hangs_when_a_reader_leaves():
    with lab.newsroom(delay=30) as news:
        assert get(news.health_url) and get(news.articles_url)
        assert leave_after_first_event(news) < 2
        assert eventually(lambda: get(news.health_url) is None)
        assert get(news.health_url) is None and get(news.articles_url) is None
        assert feed_connections(news) == 4  # its workers read feeds that nobody waits for


@pytest.mark.live
def test_the_repair_answers_and_its_workers_stop_early(tmp_path):
    lab.overlay(lab.copy_app(tmp_path))
    with lab.newsroom(tmp_path, delay=30) as news:
        for _ in range(3):
            assert leave_after_first_event(news) < 2
        assert slowest(news.health_url, 1.0) < 0.5
        assert get(news.articles_url) is not None
        assert eventually(lambda: feed_connections(news) == 0, 5)  # and not after 30 s
        news.server.process.terminate()
        assert news.server.process.wait(5) is not None


def test_a_copy_can_be_made_again_over_a_repaired_one(tmp_path):
    changed = [path.relative_to(tmp_path) for path in lab.overlay(lab.copy_app(tmp_path))]
    assert all((tmp_path / path).read_text() != (lab.NEWSROOM / path).read_text() for path in changed)
    lab.copy_app(tmp_path)
    assert all((tmp_path / path).read_text() == (lab.NEWSROOM / path).read_text() for path in changed)


def test_a_diff_of_another_text_is_refused():
    ((name, diff), *_) = lab.diffs(lab.NEWSROOM / "repair.diff")
    text = (lab.NEWSROOM / name).read_text()
    assert lab.patched(text, diff) != text
    with pytest.raises(lab.LabError, match="another text"):
        lab.patched(text.replace("headlines", "lines"), diff)


def test_the_repair_is_not_laid_over_the_bundled_service():
    with pytest.raises(lab.LabError, match="folder of a copy"):
        lab.overlay(NOTEBOOKS / "lab_site" / ".." / "newsroom")


@pytest.mark.live
def test_a_start_that_fails_keeps_the_log_and_ends_the_feeds(tmp_path, monkeypatch):
    before = set(psutil.Process().children())  # of another test of this process, ended and not waited for yet
    monkeypatch.setattr(lab.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("import no_such_module\n")
    with pytest.raises(lab.LabError, match="no_such_module") as raised:
        lab.newsroom(tmp_path)
    (log,) = tmp_path.glob("lab-*.log")
    assert str(log) in str(raised.value)
    assert set(psutil.Process().children()) <= before


@pytest.mark.live
def test_a_python_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(lab.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(lab.LabError, match="Cannot run no-such-python"):
        lab.newsroom(python="no-such-python")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def owner(tmp_path):
    """A process of its own that runs the newsroom, with its temporary files in `tmp_path`."""
    env = {**os.environ, "PYTHONPATH": str(NOTEBOOKS), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.live
def test_nothing_is_left_when_the_owner_is_killed(owner):
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2 and not any(map(gone, pids))
    owner.kill()
    assert eventually(lambda: all(map(gone, pids)))


@pytest.mark.live
@pytest.mark.parametrize("moment", ["feeds start", "service starts", "both run"])
def test_nothing_is_left_after_ctrl_c(owner, tmp_path, moment):
    myself = psutil.Process(owner.pid)
    if moment == "both run":
        owner.stdout.readline()
    wanted = 1 if moment == "feeds start" else 2
    assert eventually(lambda: len(myself.children()) >= wanted)
    pids = [child.pid for child in myself.children()]
    owner.send_signal(signal.SIGINT)
    _, errors = owner.communicate(timeout=10)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert all(map(gone, pids)) and list(tmp_path.iterdir()) == []


def test_ctrl_c_waits_for_the_end_of_a_held_block():
    steps = []
    with pytest.raises(KeyboardInterrupt), lab.uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        steps.append("the block went on")
    assert steps == ["the block went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_the_feed_server_ends_with_its_parent_by_itself():
    parent = (
        "import subprocess, sys\n"
        "feeds = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE)\n"
        "feeds.stdout.readline()\n"
        "print(feeds.pid)\n"
    )
    command = [sys.executable, "-c", parent, str(lab.NEWSROOM / "feedserver.py")]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert eventually(lambda: gone(pid))
