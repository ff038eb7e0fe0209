"""uWSGI's tracebacker, asked over its socket or printed before a worker is killed (`harakiri`): one frame a line.

    *** uWSGI Python tracebacker output ***

    thread_id = uWSGIWorker1Core0 filename = /srv/app/wsgi.py lineno = 13 function = quote line = return price(item) * 2
    thread_id = uWSGIWorker1Core0 filename = /srv/app/wsgi.py lineno = 9 function = price line = time.sleep(3600)

The outermost call comes first. Threads are known by name, or by Python's ident where they have none.
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.evidence.dumps.grammar import LONGEST_SKIPPED, MOST_SKIPPED, python_of
from hangdebug.evidence.frames import calls
from hangdebug.evidence.model import Frame, Snapshot, Thread

FRAME = re.compile(
    r"thread_id = (?P<thread>.{1,200}?) filename = (?P<file>.{1,1000}?) lineno = (?P<line>\d{1,9}) "
    r"function = (?P<function>\S{1,300})(?: line = (?P<text>.{0,1000}))?"
)


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample: a thread that comes again after others begins the next one."""
    samples: list[dict[str, list[list[Frame]]]] = []
    skipped: list[str] = []
    last = None
    for line in lines:
        found = FRAME.search(line) if "lineno = " in line else None
        if found:
            number, text = int(found["line"]) or None, (found["text"] or "").strip()
            frame = Frame(found["function"], found["file"], number, text=text)
            if not samples or found["thread"] != last and found["thread"] in samples[-1]:
                samples.append({})
            last = found["thread"]
            stacks = samples[-1].setdefault(last, [[]])
            if stacks[-1] and calls(frame, "threading.py:_bootstrap"):  # another thread of the same name
                stacks.append([])
            stacks[-1].append(frame)
        elif line.strip() and len(skipped) < MOST_SKIPPED:
            skipped.append(line.strip()[:LONGEST_SKIPPED])
    return tuple(snapshot(one, skipped) for one in samples)


def snapshot(stacks: dict[str, list[list[Frame]]], skipped: list[str]) -> Snapshot:
    threads = tuple(Thread(tuple(reversed(frames)), name) for name, alike in stacks.items() for frames in alike)
    return Snapshot(threads, None, "", python_of(threads), "uWSGI tracebacker", tuple(skipped))
