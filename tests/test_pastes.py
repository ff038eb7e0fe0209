"""Texts as people paste them, each with an expert's judgement of what it can show: tests/pastes.

A case begins with `===== NAME LABEL`. The label says which states are right and which never, the functions that may be
named as the blocking frame ("frame": "may be missing" where none has to be), the cause, and what the report says or
never says. given.txt holds one text of each kind that was judged wrongly once, healthy.txt odd programs that are well,
the others are neighbours of theirs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import commands
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.paste import read

FOLDER = Path(__file__).parent / "pastes"


@dataclass(frozen=True)
class Case:
    name: str
    label: dict[str, Any]
    text: str


def cases() -> list[Case]:
    found = []
    for file in sorted(FOLDER.glob("*.txt")):
        for part in re.split(r"(?m)^===== ", file.read_text(encoding="utf-8"))[1:]:
            head, text = part.split("\n", 1)
            name, label = head.split(" ", 1)
            found.append(Case(f"{file.stem}-{name}", json.loads(label), text))
    return found


CASES = cases()
EACH = pytest.mark.parametrize("case", CASES, ids=[one.name for one in CASES])


@cache
def told(text: str) -> Diagnosis:
    return worst(map(diagnose, evidence_of(read(text))))


def answer_to(case: Case) -> Diagnosis:
    return told(case.text)


@EACH
def test_a_paste_is_judged_for_what_it_can_show(case: Case) -> None:
    answer, label = answer_to(case), case.label
    assert all(commands.check(line) <= 1 for line in commands.printed_by(answer))
    assert answer.state in label["states"] and answer.state not in label.get("never", ())
    assert answer.cause == label.get("cause", answer.cause)
    frame = answer.blocking_frame
    names = {one.rpartition(".")[2] for one in label.get("functions", ())}
    if frame is None:
        assert not names or label.get("frame") == "may be missing"
    elif names:
        assert frame.function.rpartition(".")[2] in names
    words = " ".join([answer.summary, *answer.evidence, *answer.doubts, *answer.exonerated, *answer.others])
    assert all(one in words for one in label.get("says", ()))
    assert label.get("silent", "\0") not in words


@EACH
def test_a_paste_is_never_sure(case: Case) -> None:
    """One moment, seen by somebody else: and what is not sure comes with the next command."""
    answer = answer_to(case)
    assert answer.confidence <= 0.9
    assert answer.confidence >= 0.8 or any("Next: " in one for one in answer.doubts)


def test_how_much_was_read_is_said_with_the_numbers_of_the_other_lines() -> None:
    stack = 'Thread 7 (idle): "MainThread"\n    wait (threading.py:320)\n    pull (feed.py:4)\n    <module> (feed.py:9)'
    text = f"It hangs since Monday.\n\nWhat I see:\n{stack}\n\nAny idea?\nThanks\n"
    answer = worst(map(diagnose, evidence_of(read(text))))
    assert answer.read == "4 of 8 lines were read"
    assert "Of the text 4 of 8 lines were read; not lines 1, 3, 9-10." in answer.doubts
    assert worst(map(diagnose, evidence_of(read(stack)))).read == "4 of 4 lines were read"


def test_of_ranks_that_wait_for_one_the_odd_one_is_named() -> None:
    rank = 'Process {0}: train.py\nThread {0} (active): "MainThread"\n    {1}\n    <module> (train.py:9)\n'
    places = ["sync (step.py:50)", "sync (step.py:50)", "load (data.py:22)", "sync (step.py:50)"]
    text = "\n".join(rank.format(70 + index, place) for index, place in enumerate(places))
    answer = worst(map(diagnose, evidence_of(read(text))))
    assert answer.process.pid == 72 and answer.blocking_frame is not None and answer.blocking_frame.function == "load"
    assert len(answer.others) == 3


@pytest.mark.parametrize(
    "text, read_of_it",
    [
        (
            "seen today:\n└── (T) Task-1\n    └──  main app.py:60\n"
            "        └──  Lock.acquire /usr/lib/python3.14/asyncio/locks.py:9",
            "3 of 4 lines were read; not line 1",
        ),
        (
            "all tasks:\n<Task pending name='T' coro=<load() running at /srv/a.py:3>>\n\nwhy?",
            "1 of 3 lines were read; not lines 1, 4",
        ),
        ("hello\n[1] [CRITICAL] WORKER TIMEOUT (pid:9)\nbye", "1 of 3 lines were read; not lines 1, 3"),
        (
            "In the notebook:\nCell In[7], line 4, in load(name)\n----> 4     return pull(name)\n\n"
            "File /srv/a.py:7, in pull(url)\n----> 7     return url.read()\n\nIt never ends",
            "4 of 6 lines were read; not lines 1, 8",
        ),
        ("first\nMainThread;<module> (a.py:9);pull (a.py:4) 480", "1 of 2 lines were read; not line 1"),
    ],
    ids=["pstree", "tasks", "log", "notebook", "collapsed"],
)
def test_every_form_says_which_lines_were_not_read(text: str, read_of_it: str) -> None:
    assert read(text)[0].read == read_of_it


def test_threads_that_were_left_out_are_counted() -> None:
    head = 'Thread 7 (idle): "AnyIO worker thread"\n    pull (feed.py:4)\n    run (anyio/_backends/_asyncio.py:859)\n'
    assert len(read(f"{head}... (39 more threads, all identical)")[0].threads) == 40
    assert len(read(f"{head}I took 3 more dumps, all with the same stack")[0].threads) == 1
