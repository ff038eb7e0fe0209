"""Every place that makes a verdict is reached by evidence on file: a recorded bundle, or a dump.

A place that none reaches is a rule that nobody has seen at work. It is named here, with its line.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import architecture
from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.answer.model import Verdict
from hangdebug.errors import NotADump
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read

HERE = Path(__file__).parent
ANSWER = architecture.ENGINE / "answer"
MAKERS = {"Verdict", "verdict_of"}  # what makes a verdict
# Live tests reach these, and no evidence on file does yet. Each line goes when a bundle comes: the test says so.
NOT_YET: set[str] = {
    "lifespan_wait.py verdict_of",
    "states/exit_hang.py cancellation_swallowed",
    "states/exit_hang.py library_hook",
    "states/exit_hang.py runner_ends",
    "states/exit_hang.py stopped_listening",
    "states/healthy.py loop_moves_on",
    "states/healthy.py pool_at_work",
    "states/inconclusive.py connections_in_use",
    "states/inconclusive.py coroutines_wait_for_connections",
    "states/inconclusive.py on_purpose",
    "states/inconclusive.py pool_of_unknown_size",
    "states/inconclusive.py pool_unclear",
    "states/inconclusive.py request_before_a_lock",
    "states/inconclusive.py short_step",
    "states/inconclusive.py threads_before_a_lock",
    "states/inconclusive.py workers_unclear",
    "states/loop_blocked.py logged_step",
    "states/startup_hang.py importing",
    "states/startup_hang.py lifespan",
    "states/startup_hang.py loading_on_loop",
    "states/stopped.py by_the_kernel",
    "states/threadpool_exhausted.py calls_queued",
    "states/threadpool_exhausted.py full",
    "states/threadpool_exhausted.py no_connection_left",
}

Place = tuple[Path, int, int]  # a file, the first and the last line of a call in it


def places() -> dict[Place, str]:
    """Every call that makes a verdict -> "file function"."""
    found = {}
    for path in sorted(ANSWER.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if (
                        isinstance(node, ast.Call)
                        and getattr(node.func, "id", getattr(node.func, "attr", "")) in MAKERS
                    ):
                        found[path, node.lineno, node.end_lineno] = f"{path.relative_to(ANSWER)} {function.name}"
    return found


def evidence() -> Iterator[Evidence]:
    for path in sorted((HERE / "bundles").glob("*.tar.gz")):
        yield from read_bundle(path)
    dumps = sorted((HERE / "dumps").rglob("py*.*"))
    for path in (one for one in dumps if ".truth." not in one.name and "py310" not in one.name):
        yield from evidence_of(read(path.read_text()))
    for path in sorted((HERE / "pasted").rglob("*")):
        if path.is_file() and path.suffix != ".py":
            with contextlib.suppress(NotADump):
                yield from evidence_of(read(path.read_text()))


@pytest.fixture(scope="module")
def reached() -> set[tuple[Path, int]]:
    """The lines of answer/ that stood on the stack whenever a verdict was made."""
    seen: set[tuple[Path, int]] = set()
    made = Verdict.__init__

    def noted(self: Verdict, *arguments: object, **more: object) -> None:
        made(self, *arguments, **more)
        frame = sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if ANSWER in path.parents:
                seen.add((path, frame.f_lineno))
            frame = frame.f_back

    Verdict.__init__ = noted
    try:
        for one in evidence():
            diagnose(one)
    finally:
        Verdict.__init__ = made
    return seen


def test_every_place_that_makes_a_verdict_is_reached_by_evidence_on_file(reached: set[tuple[Path, int]]) -> None:
    known = places()
    missed = {
        (path, first): name
        for (path, first, last), name in known.items()
        if not any((path, line) in reached for line in range(first, last + 1))
    }
    stale = NOT_YET - set(missed.values())
    assert not stale, f"A bundle reaches these now. Next: take them out of NOT_YET: {stale}"
    missed = {place: name for place, name in missed.items() if name not in NOT_YET}
    print(f"{len(known) - len(missed)} of {len(known)} places that make a verdict are reached")
    assert len(known) > 40
    words = "\n".join(f"answer/{path.relative_to(ANSWER)}:{line} in {name}" for (path, line), name in missed.items())
    assert not missed, f"No bundle and no dump reaches\n{words}\nNext: a server that does, and make bundles NAMES=..."
