"""Watch live processes: evidence first, more of it where the first answer is in doubt."""

from __future__ import annotations

import datetime
import shutil
import time
from pathlib import Path
from typing import Callable

from hangdebug.answer.certainty import WATCH_AGAIN
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.answer.states import ENTRIES
from hangdebug.capture.bundle import (
    Pause,
    capture,
    look_below_python,
    sample_for_a_second,
    side_by_side,
    sleep_between,
    watch_for_a_second,
    watch_requests,
)
from hangdebug.capture.processes import Target
from hangdebug.errors import BadBundle, BadRequest, NoProcess, ours
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.files import make_folder, scratch_folder, write_whole
from hangdebug.scene.loop import runs_without_a_frame
from hangdebug.scene.open_requests import seconds_until_long
from hangdebug.scene.scene import scene

STATES_TO_WATCH = ("threadpool-exhausted", "inconclusive")
STATES_TO_FOLLOW = ("inconclusive", "healthy")

Say = Callable[[str], None]


def observe(
    target: Target, folder: Path, say: Say, pause: Pause = sleep_between, samples: int | None = None
) -> tuple[Evidence, ...]:
    """Capture `target` into `folder`, and again where the evidence so far is in doubt; returns all of it.

    With `samples` so many looks are taken, and none in doubt.
    `pause` is called between two looks; where it gives True no more is taken, and what was taken is returned.
    Raises HangError when nothing could be read.
    """
    capture(target, folder, samples, say, pause)
    found = read_bundle(folder)
    if samples is not None or pause(0):
        return found
    known = [(one, diagnose(one)) for one in found if one.process.pid is not None]
    with side_by_side() as pool:
        again = [
            pool.submit(look_again, one, answer, folder / str(one.process.pid), say, pause) for one, answer in known
        ]
        more = [one.result() for one in again]  # what is not done when the pool is left is cancelled
    return read_bundle(folder) if any(more) else found


def look_again(evidence: Evidence, answer: Diagnosis, place: Path, say: Say, pause: Pause) -> bool:
    """Some seconds more, where they can tell a hang from work that makes progress. Returns whether there is more."""
    known = set(place.iterdir())
    pid = evidence.process.pid or 0
    seconds = seconds_until_long(scene(evidence)) if answer.state in STATES_TO_FOLLOW else 0
    if seconds:
        watch_requests(pid, place, seconds, evidence.process.listening, say, pause)
    second_loop = answer.state == "inconclusive" and answer.role == "event-loop"
    if (answer.state in STATES_TO_WATCH and answer.role in ("worker", "other")) or second_loop:
        watch_for_a_second(pid, place, say)
    nameless = answer.thread if answer.role == "event-loop" and answer.blocking_frame is None else None
    if nameless is not None and runs_without_a_frame(nameless):
        look_below_python(pid, place, say)
    if answer.role in ("event-loop", "main") and answer.confidence < WATCH_AGAIN:
        sample_for_a_second(pid, place, say)
    return bool(seconds) or set(place.iterdir()) != known


def observe_briefly(target: Target, say: Say, samples: int | None = None) -> tuple[Evidence, ...]:
    """The same, with nothing left on disk."""
    with scratch_folder() as folder:
        return observe(target, folder / "evidence", say, samples=samples)


def watch(
    find: Callable[[], Target], keep: str | None, every: float, say: Say, comes_back: bool = True
) -> tuple[Diagnosis, Path]:
    """Look every so many seconds, until a process hangs; returns the answer and where its evidence was kept.

    A stall that the next look, right after it, does not see is said and not kept: slow is no hang. A target that
    `comes_back`, such as what listens on a port, is waited for. Raises HangError where there is none from the
    beginning, and BadRequest where `keep` holds something.
    """
    target, last, now = find(), "", ""
    if keep and Path(keep).exists():
        other = ours("diagnose", "--port", "PORT", "--watch", "--save", "ANOTHER_FOLDER")
        raise BadRequest(f"{keep} is there already.", "Evidence of two moments must not be mixed.", other)
    with scratch_folder() as scratch:
        first, second = scratch / "first", scratch / "second"
        while True:
            for folder in (first, second):
                shutil.rmtree(folder, ignore_errors=True)
            try:
                answer = worst(map(diagnose, observe(target, first, silent)))
                now = answer.state
                if hangs(answer):
                    again = worst(map(diagnose, observe(target, second, silent)))
                    if hangs(again):
                        kept = Path(keep) if keep else new_folder(target)
                        copy(first, kept)
                        return answer, kept
                    now = f"{answer.state} for a moment, then {again.state}"
            except (NoProcess, BadBundle) as error:
                now = f"not there: {error.what}"
            if now != last:
                say(f"{datetime.datetime.now():%H:%M:%S}  {now}; looking every {every:g} s, Ctrl-C ends it")
                last = now
            time.sleep(every)
            try:
                target = find()
            except NoProcess:
                if not comes_back:
                    raise


def copy(folder: Path, to: Path) -> None:
    """All files, for their user alone. Raises CannotWrite."""
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        place = to / file.relative_to(folder)
        make_folder(place.parent)
        write_whole(place, file.read_bytes())


def hangs(answer: Diagnosis) -> bool:
    entry = ENTRIES[answer.state]
    return entry.decided and not entry.well


def silent(line: str) -> None:
    """Of many looks nobody wants to read what each did."""


def new_folder(target: Target, parent: Path = Path("."), name: str = "evidence") -> Path:
    """A name that no earlier evidence has: evidence-PID-TIME."""
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S")
    base = f"{name}-{target.supervisor or target.workers[0]}-{stamp}"
    names = [base, *(f"{base}-{number}" for number in range(2, 100))]
    return next((parent / name for name in names if not (parent / name).exists()), parent / base)
