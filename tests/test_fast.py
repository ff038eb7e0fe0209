"""A test that is not marked live starts no server, whatever it tries, and no process that stays."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

import conftest
import lab
import zoo

REFUSED = pytest.raises(RuntimeError, match="not marked live")


def test_a_server_of_the_zoo_is_refused() -> None:
    with REFUSED, zoo.hang("sleep"):
        pass


def test_the_news_service_is_refused() -> None:
    with REFUSED, lab.newsroom():
        pass


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.Popen([sys.executable, "-c", ""]),
        lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
        os.fork,
        multiprocessing.get_context("fork").Process(target=print).start,
    ],
    ids=["Popen", "posix_spawn", "fork", "multiprocessing"],
)
def test_a_process_that_stays_is_refused(start) -> None:
    with REFUSED:
        start()


def test_a_program_that_is_waited_for_may_run_for_a_while_and_no_longer(monkeypatch) -> None:
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True).stdout == "1\n"
    assert subprocess.run.__kwdefaults__["timeout"] == conftest.RUN_LIMIT
    monkeypatch.setitem(subprocess.run.__kwdefaults__, "timeout", 0.2)
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(30)"])
    assert time.monotonic() - began < 10


@pytest.mark.live
def test_a_live_test_may_start_one() -> None:
    assert subprocess.Popen([sys.executable, "-c", ""]).wait() == 0
    assert subprocess.run.__kwdefaults__["timeout"] is None
