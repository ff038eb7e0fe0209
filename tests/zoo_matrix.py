"""Hang every server under every Python and event loop that is given, diagnose each live, and print the table.

    python tests/zoo_matrix.py                                    this Python, asyncio and uvloop
    python tests/zoo_matrix.py --interpreter /usr/bin/python3.9   and others: a venv is made in build/zoo for each
    python tests/zoo_matrix.py --out docs/zoo.md                  also write the table

The truth is what each server says of itself. Exit status 1 when an answer differs from it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

import zoo  # noqa: E402

from hangdebug.capture import resolve  # noqa: E402
from hangdebug.diagnose import diagnose, worst  # noqa: E402
from hangdebug.live import observe_briefly  # noqa: E402

VENVS = HERE.parent / "build" / "zoo"
PACKAGES = ("fastapi", "uvicorn", "requests", "uvloop")
ALARMING = ("healthy", "inconclusive")
HEAD = ("server", "Python", "loop", "state", "cause", "frame", "confidence", "seconds", "as built")


@dataclass(frozen=True)
class Row:
    """One server hung and diagnosed. `seconds` is the time from the first look to the answer."""

    cells: tuple[str, ...]
    right: bool
    false_alarm: bool


def environment(interpreter: str) -> str:
    """The Python of a venv that has what the servers need. Raises CalledProcessError."""
    version = version_of(interpreter)
    python = VENVS / version / "bin" / "python"
    if not (VENVS / version / "ready").exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", VENVS / version], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (VENVS / version / "ready").touch()
    return str(python)


def version_of(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def row(name: str, python: str, version: str, loop: str) -> Row:
    with zoo.hang(name, python=python, loop=loop) as hung:
        began = time.monotonic()
        answer = worst(map(diagnose, observe_briefly(resolve(hung.pid), lambda line: None)))
        seconds = time.monotonic() - began
    truth, frame = hung.truth, answer.blocking_frame
    named = not truth.marked or frame is not None and any(
        frame.file.endswith(file) and frame.line == line for file, line in truth.marked)
    right = (answer.state, answer.cause) == (truth.state, truth.cause) and named
    place = f"{os.path.basename(frame.file)}:{frame.line}" if frame else "-"
    cells = (name, version, loop, answer.state, answer.cause, place, f"{answer.confidence:.2f}", f"{seconds:.1f}",
             "yes" if right else f"no: {truth.state}, {truth.cause}")
    return Row(cells, right, truth.state == "healthy" and answer.state not in ALARMING)


def table(rows: list[Row]) -> str:
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD), *(" | ".join(one.cells) for one in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def summary(rows: list[Row]) -> str:
    right, alarms = sum(one.right for one in rows), sum(one.false_alarm for one in rows)
    sure = [one for one in rows if float(one.cells[6]) > 0.9]
    hit = sum(one.right for one in sure)
    return (f"{right} of {len(rows)} answers are as built: state, cause and frame. False alarms: {alarms}. "
            f"Of {len(sure)} answers with a confidence above 0.9, {hit} are right.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpreter", action="append", default=[], metavar="PATH", help="another Python; repeat it")
    parser.add_argument("--only", action="append", default=[], metavar="SERVER", help="one server; repeat it")
    parser.add_argument("--loop", action="append", choices=("asyncio", "uvloop"), help="default: both")
    parser.add_argument("--out", metavar="FILE", help="write the table there as Markdown")
    arguments = parser.parse_args()
    pythons = [sys.executable, *map(environment, arguments.interpreter)]
    names = arguments.only or [name for folder in zoo.FOLDERS for name in zoo.names(folder)]
    rows = []
    for python in pythons:
        version = version_of(python)
        for name in names:
            for loop in arguments.loop or ("asyncio", "uvloop"):
                rows.append(row(name, python, version, loop))
                print("  ".join(rows[-1].cells), flush=True)
    print(f"\n{summary(rows)}")
    if arguments.out:
        Path(arguments.out).write_text(f"# Every server, hung and diagnosed\n\n{summary(rows)}\n\n{table(rows)}\n")
    return 0 if all(one.right for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
