"""Measure how long py-spy pauses its target: references/capturing.md quotes the table.

    python tooling/pause.py 5 40 200

The target spins and notes every moment in which it did not run; the longest such gap during a dump is the pause.
The longest gap in as long a time without a dump says how far the machine's own noise goes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

DUMPS, REST = 7, 0.3
SPIN = """
import json, sys, threading, time
parked = threading.Event()
def deep(frames):
    deep(frames - 1) if frames else parked.wait()
for _ in range(int(sys.argv[1])):
    threading.Thread(target=deep, args=(20,), daemon=True).start()
print("ready", flush=True)
last, gaps, end = time.monotonic(), [], time.monotonic() + float(sys.argv[2])
while last < end:
    now = time.monotonic()
    if now - last > 0.0005:
        gaps.append((last, now))
    last = now
print(json.dumps(gaps))
"""


def measure(threads: int) -> tuple[list[float], list[float]]:
    """Longest gaps in ms: one for each dump, and one for each rest of the same length before it."""
    spy = str(Path(sys.executable).with_name("py-spy"))
    seconds = DUMPS * (1.0 + 2 * REST)
    target = subprocess.Popen(
        [sys.executable, "-c", SPIN, str(threads), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    spans = []
    with target:
        target.stdout.readline()
        for _ in range(DUMPS):
            time.sleep(REST)
            began = time.monotonic()
            subprocess.run([spy, "dump", "--json", "--pid", str(target.pid)], stdout=subprocess.DEVNULL, check=True)
            spans.append((began, time.monotonic()))
        gaps = json.loads(target.stdout.read())
    rests = [(began - min(REST, ended - began), began) for began, ended in spans]
    return [longest(gaps, span) for span in spans], [longest(gaps, span) for span in rests]


def longest(gaps: list[tuple[float, float]], span: tuple[float, float]) -> float:
    inside = [end - begin for begin, end in gaps if begin < span[1] and end > span[0]]
    return 1000 * max(inside, default=0.0)


def main() -> None:
    print("| threads | median pause | longest | noise without a dump |\n|---|---|---|---|")
    for threads in map(int, sys.argv[1:] or ["5", "40", "200"]):
        pauses, noise = measure(threads)
        print(f"| {threads} | {statistics.median(pauses):.0f} ms | {max(pauses):.0f} ms | {max(noise):.0f} ms |")


if __name__ == "__main__":
    main()
