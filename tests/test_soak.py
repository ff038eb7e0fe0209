"""The tools that measure what a diagnosis costs and gives away: both work, and both find what they are there for."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import planted
import soak
import zoo
from hangdebug.capture import redact

SECONDS = 10.0


@pytest.mark.live
@pytest.mark.slow
def test_a_server_under_load_is_never_accused_and_neither_grows() -> None:
    with zoo.hang("background_threads") as server:
        found = soak.soak(server.pid, f"{server.url}/health", SECONDS)
    assert found.alarms == 0 and sum(found.states.values()) >= 2, found.states
    assert found.lost == 0 and len(found.alone) > 10 and len(found.watched) > 10
    assert found.grown < soak.MOST_GROWTH and found.ours < 4 * soak.MOST_GROWTH
    assert soak.percentile(found.watched, 0.5) < 10 * soak.percentile(found.alone, 0.5)


def test_a_false_alarm_is_counted_and_told() -> None:
    found = soak.Soaked(Counter({"healthy": 3, "loop-blocked": 1, "inconclusive": 1}), [0.1], [0.2], 0, 0, 0)
    assert found.alarms == 1 and "1 false alarms" in soak.told(found) and "p99 +100%" in soak.told(found)


@pytest.mark.live
@pytest.mark.slow
def test_of_ninety_planted_secrets_none_of_a_known_shape_gets_through() -> None:
    done = subprocess.run([sys.executable, planted.__file__], capture_output=True, text=True, timeout=120)
    assert "90 secrets of 30 kinds were planted" in done.stdout and "0 of them of a known shape" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.live
@pytest.mark.slow
def test_a_net_with_a_hole_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the patterns of keys, a key in a thread's name gets through, and is found."""
    monkeypatch.setattr(redact, "TEXT", ())
    monkeypatch.setattr(redact, "LOOSE", ())
    plants = planted.plants()
    text = planted.captured(plants, tmp_path)
    through = {(one.kind.name, one.place) for one in plants if one.secret in text}
    assert ("AWS key id", "a thread's name") in through and ("AWS secret", "a task's name") in through
