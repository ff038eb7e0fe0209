"""Watch live processes: evidence first, more of it where the first answer is in doubt."""

from __future__ import annotations

import datetime
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Callable

from hangdebug.answer.certainty import WATCH_AGAIN
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.answer.states import ENTRIES
from hangdebug.capture.bundle import (
    AT_ONCE,
    Pause,
    capture,
    look_below_python,
    sample_for_a_second,
    sleep_between,
    watch_for_a_second,
)
from hangdebug.capture.processes import Target
from hangdebug.errors import BadBundle, NoProcess
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.scene.loop import runs_without_a_frame

STATES_TO_WATCH = ("threadpool-exhausted", "inconclusive")

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
    known = [(diagnose(one), one.process.pid) for one in found]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        again = [
            pool.submit(look_again, answer, pid, folder / str(pid), say) for answer, pid in known if pid is not None
        ]
    more = [one.result() for one in again]
    return read_bundle(folder) if any(more) else found


def look_again(answer: Diagnosis, pid: int, place: Path, say: Say) -> bool:
    """A second of watching or of sampling, where that can tell a hang from work that makes progress; whether it did."""
    known = set(place.iterdir())
    second_loop = answer.state == "inconclusive" and answer.role == "event-loop"
    if (answer.state in STATES_TO_WATCH and answer.role in ("worker", "other")) or second_loop:
        watch_for_a_second(pid, place, say)
    nameless = answer.thread if answer.role == "event-loop" and answer.blocking_frame is None else None
    if nameless is not None and runs_without_a_frame(nameless):
        look_below_python(pid, place, say)
    if answer.role in ("event-loop", "main") and answer.confidence < WATCH_AGAIN:
        sample_for_a_second(pid, place, say)
    return set(place.iterdir()) != known


def observe_briefly(target: Target, say: Say, samples: int | None = None) -> tuple[Evidence, ...]:
    """The same, with nothing left on disk."""
    with tempfile.TemporaryDirectory(prefix="hang-") as name:
        return observe(target, Path(name) / "evidence", say, samples=samples)


def watch(find: Callable[[], Target], keep: str | None, every: float, say: Say) -> tuple[Diagnosis, Path]:
    """Look every so many seconds, until a process hangs; returns the answer and where its evidence was kept.

    A target that `find` finds once and then no more is waited for: a server may be restarted meanwhile. Of a look at
    what is well, or cannot be judged, nothing is kept. Raises HangError where there is no target from the beginning.
    """
    target, last, now = find(), "", ""
    while True:
        with tempfile.TemporaryDirectory(prefix="hang-") as name:
            try:
                answer = worst(map(diagnose, observe(target, Path(name) / "evidence", lambda line: None)))
                now = answer.state
                if ENTRIES[answer.state].decided and not ENTRIES[answer.state].well:
                    folder = Path(keep) if keep else new_folder(target)
                    shutil.copytree(Path(name) / "evidence", folder)
                    return answer, folder
            except (NoProcess, BadBundle) as error:
                now = f"not there: {error.what}"
        if now != last:
            say(f"{datetime.datetime.now():%H:%M:%S}  {now}; looking every {every:g} s, Ctrl-C ends it")
            last = now
        time.sleep(every)
        with suppress(NoProcess):
            target = find()


def new_folder(target: Target, parent: Path = Path("."), name: str = "evidence") -> Path:
    """A name that no earlier evidence has: evidence-PID-TIME."""
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S")
    base = f"{name}-{target.supervisor or target.workers[0]}-{stamp}"
    names = [base, *(f"{base}-{number}" for number in range(2, 100))]
    return next((parent / name for name in names if not (parent / name).exists()), parent / base)
