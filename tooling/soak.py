"""Diagnose a healthy server under steady load, again and again: false alarms, what it costs the server, and us.

    python tooling/soak.py --seconds 600

The time is cut into windows. In every second one the server is diagnosed each second, in the others it is left alone:
what else this machine does falls on both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in ("scripts", "notebooks", "tests"):
    sys.path.insert(0, str(ROOT / folder))

from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.states import ENTRIES
from hangdebug.capture.processes import resolve
from hangdebug.observe import observe_briefly

EVERY = 1.0  # seconds from one diagnosis to the next
RATE = 25.0  # requests a second
CLIENTS = 4
WARM_UP = 2.0  # seconds: the first answers and the first diagnosis cost more than all others
MOST_GROWTH = 8 << 20  # bytes


@dataclass(frozen=True)
class Soaked:
    """What came of it. Seconds are those of answers; memory is in bytes, from after the warm-up to the end."""

    states: Counter[str]
    alone: list[float]
    watched: list[float]
    lost: int
    grown: int
    ours: int

    @property
    def alarms(self) -> int:
        return sum(n for state, n in self.states.items() if not ENTRIES[state].well and state != "inconclusive")


def client(url: str, until: float, every: float) -> None:
    """Ask every `every` seconds, and print (when, seconds) of each answer: run as a process of its own."""
    rows: list[tuple[float, float | None]] = []
    where, due = url.removeprefix("http://").partition("/"), time.time()
    while due < until:
        time.sleep(max(0.0, due - time.time()))
        began = time.time()
        connection = HTTPConnection(where[0], timeout=5)
        try:
            connection.request("GET", f"/{where[2]}")
            connection.getresponse().read()
            rows.append((began, time.time() - began))
        except (OSError, HTTPException):
            rows.append((began, None))
        finally:
            connection.close()
        due += every
    print(json.dumps(rows))


def soak(pid: int, url: str, seconds: float) -> Soaked:
    window = max(2.0, min(10.0, seconds / 10))
    observe_briefly(resolve(pid), lambda line: None)
    began = time.time() + WARM_UP
    until = began + seconds
    command = [sys.executable, __file__, "--client", url, str(until), str(CLIENTS / RATE)]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    outputs: list[str] = []
    readers = [threading.Thread(target=lambda one=one: outputs.append(one.communicate()[0])) for one in clients]
    for reader in readers:
        reader.start()
    time.sleep(max(0.0, began - time.time()))
    states: Counter[str] = Counter()
    before, mine = resident(pid), resident(os.getpid())
    looks: list[tuple[float, float]] = []
    while time.time() < until:
        if int((time.time() - began) / window) % 2:
            start = time.time()
            states[worst(map(diagnose, observe_briefly(resolve(pid), lambda line: None))).state] += 1
            looks.append((start, time.time()))
            time.sleep(max(0.0, EVERY - (time.time() - start)))
        else:
            time.sleep(0.05)
    after, ours = resident(pid), resident(os.getpid())  # before the answers' times are read, which are ours too
    for reader in readers:
        reader.join()
    alone, watched, lost = [], [], 0
    for at, took in (row for text in outputs for row in json.loads(text)):
        if at < began:
            continue
        if took is None:
            lost += 1
        elif int((at - began) / window) % 2:
            watched.append(took)
        elif not any(first <= at <= last for first, last in looks):  # a look may last into the next window
            alone.append(took)
    return Soaked(states, alone, watched, lost, after - before, ours - mine)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def told(found: Soaked) -> str:
    lines = [f"{sum(found.states.values())} diagnoses: {dict(found.states)}; {found.alarms} false alarms"]
    for name, values in (("left alone", found.alone), ("diagnosed", found.watched)):
        middle, late = statistics.median(values or [0.0]) * 1000, percentile(values, 0.99) * 1000
        lines.append(f"{name:11} {len(values):>6} answers, median {middle:.2f} ms, p99 {late:.2f} ms")
    change = percentile(found.watched, 0.99) / percentile(found.alone, 0.99) - 1
    lines.append(f"p99 {change:+.0%}, {found.lost} requests without an answer")
    lines.append(f"memory: the server's {found.grown / 1e6:+.1f} MB, ours {found.ours / 1e6:+.1f} MB")
    return "\n".join(lines)


def main() -> int:
    if sys.argv[1:2] == ["--client"]:
        client(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
        return 0
    import zoo

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=600.0)
    given = options.parse_args()
    with zoo.hang("background_threads") as server:
        found = soak(server.server.pid, f"{server.url}/health", given.seconds)
    print(told(found))
    return 1 if found.alarms or found.lost or max(found.grown, found.ours) > MOST_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
