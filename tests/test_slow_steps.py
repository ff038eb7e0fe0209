"""What asyncio's debug mode logs of a real program: which coroutine held the loop, no surer than a log is."""

from __future__ import annotations

import pytest

import record_bundles
import zoo
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.paste import read


def logged(name: str) -> tuple[Diagnosis, zoo.Truth]:
    (shot,) = record_bundles.wanted([name], everything=False)
    return record_bundles.judged(shot.archive), zoo.truth(name)


def test_a_long_step_is_a_suspicion_that_names_the_coroutine() -> None:
    answer, truth = logged("logged_step")
    assert answer.state == "loop-blocked" and answer.confidence < 0.7
    assert answer.blocking_frame.function == "price" and truth.marked == (
        ("logged_step.py", answer.blocking_frame.line),
    )
    assert "held the event loop for 1.2" in answer.summary and answer.doubts
    assert any("2 such steps" in line for line in answer.evidence)


def test_a_short_step_is_no_hang() -> None:
    answer, _ = logged("short_step")
    assert answer.state == "inconclusive" and answer.blocking_frame.function == "price"


@pytest.mark.parametrize("took", ["1 seconds", "99999999 seconds", ". seconds", "-3 seconds"])
def test_an_odd_log_is_no_crash(took: str) -> None:
    text = f"Executing <Task pending name='T' coro=<f() running at /srv/app.py:1>> took {took}"
    assert worst(map(diagnose, evidence_of(read(text)))).confidence < 0.7
