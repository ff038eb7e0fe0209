"""What asyncio's debug mode logs of a real program: which coroutine held the loop, no surer than a log is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.paste import read

PROGRAM = """
import asyncio, time

async def price(item):
    await asyncio.sleep(0)
    time.sleep({pause})
    await asyncio.sleep(0.01)  # here it stands when the log is written

async def main():
    await asyncio.gather(*(price(item) for item in ("tea", "milk")))

asyncio.run(main(), debug=True)
"""


def logged(pause: float, folder: Path) -> Diagnosis:
    (folder / "prices.py").write_text(PROGRAM.format(pause=pause))
    done = subprocess.run([sys.executable, "prices.py"], cwd=folder, capture_output=True, text=True, check=True)
    assert "Executing <Task" in done.stderr
    return worst(map(diagnose, evidence_of(read(done.stderr))))


def test_a_long_step_is_a_suspicion_that_names_the_coroutine(tmp_path: Path) -> None:
    answer = logged(1.2, tmp_path)
    assert answer.state == "loop-blocked" and answer.confidence < 0.7
    assert (answer.blocking_frame.function, answer.blocking_frame.line) == ("price", 7)
    assert "held the event loop for 1.2" in answer.summary and answer.doubts
    assert any("2 such steps" in line for line in answer.evidence)


def test_a_short_step_is_no_hang(tmp_path: Path) -> None:
    answer = logged(0.2, tmp_path)
    assert answer.state == "inconclusive" and answer.blocking_frame.function == "price"


@pytest.mark.parametrize("took", ["1 seconds", "99999999 seconds", ". seconds", "-3 seconds"])
def test_an_odd_log_is_no_crash(took: str) -> None:
    text = f"Executing <Task pending name='T' coro=<f() running at /srv/app.py:1>> took {took}"
    assert worst(map(diagnose, evidence_of(read(text)))).confidence < 0.7
