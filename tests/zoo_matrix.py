"""Hang every server under every Python, event loop and program that serves it; diagnose each live; print the table.

    python tests/zoo_matrix.py                                    the Pythons 3.9 to 3.15 that are found here
    python tests/newer_python.py                                  first, for 3.14 and 3.15 where Debian's are older
    python tests/zoo_matrix.py --interpreter PATH                 another one too: a venv is made in build/zoo for it
    python tests/zoo_matrix.py --all --out docs/zoo.md            every server on both loops; also write the table

Every server runs on asyncio under every Python, and on uvloop under one; a few of them run under every server
program, paired with Pythons and loops. The truth is what each server says of itself. What was answered is kept in
build/zoo, so an interrupted run goes on where it was, until the engine or a server changes.

Exit status 1 when an answer differs from the truth, 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts"), str(HERE.parent / "notebooks")]

import lab
import newer_python
import servers
import zoo
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.capture.processes import on_port, resolve
from hangdebug.observe import observe_briefly

KEPT = HERE.parent / "build" / "zoo"
PACKAGES = (
    "fastapi",
    "uvicorn",
    "uvloop",
    "requests",
    "sqlalchemy",
    "psycopg[binary,pool]",
    "redis",
    "asgiref",
    "grpcio",
    "httpx",
    "nest_asyncio",
    "aiosqlite",
    "sqlalchemy[asyncio]",
    "gunicorn",
    "uvicorn-worker",
    "hypercorn",
    "granian",
)
PROBE = "import fastapi, uvicorn, uvloop, requests, sqlalchemy, psycopg_pool, redis"
MINORS = range(9, 16)
LOOPS = ("asyncio", "uvloop")
# Those that show something under any server program: one of each state, and a healthy one.
SAMPLE = (
    "sleep",
    "executor_shutdown",
    "threadpool_limit",
    "reentered",
    "none",
    "subprocess",
    "thread_join",
    "run_coroutine_threadsafe",
    "regex",
)
BESIDE = (
    "sleep",
    "reentered",
    "none",
    "thread_join",
)  # where a healthy worker stands beside: one request hangs one of two
WORKERS = 4  # most of a cell's time is waiting
HARMLESS = ("healthy", "inconclusive")
SURE = 0.9

busy = multiprocessing.Lock()  # two servers that burn a CPU would look idle beside each other


@dataclass(frozen=True)
class Cell:
    """What is tried: a server under a Python (its path and version), a loop and one of servers.KINDS."""

    name: str
    python: str
    version: str
    loop: str = "asyncio"
    under: str = "uvicorn"

    @property
    def key(self) -> str:
        return f"{self.name} {self.version} {self.loop} {self.under}"


@dataclass(frozen=True)
class Row:
    """What was answered. `seconds` is the time from the first look; `wrong` says what differs, "" if nothing."""

    key: str
    name: str
    version: str
    loop: str
    under: str
    state: str
    cause: str
    frame: str = "-"
    confidence: float = 0.0
    seconds: float = 0.0
    wrong: str = ""
    false_alarm: bool = False


# -- what to try ---------------------------------------------------------------------------------------


def cells(names: Iterable[str], pythons: list[tuple[str, str]], everything: bool) -> list[Cell]:
    """`pythons` are (path, version) pairs. The last but one has uvloop for all servers, `everything` all of them."""
    names = list(names)
    made = [Cell(name, *python) for python in pythons for name in names]
    on_uvloop = pythons if everything else pythons[-2:][:1]
    made += [Cell(name, *python, "uvloop") for python in on_uvloop for name in names]
    return list(dict.fromkeys(made + paired(names, pythons, everything)))


def paired(names: list[str], pythons: list[tuple[str, str]], everything: bool) -> list[Cell]:
    """Every pair of server program, Python and loop, each time with other servers of the sample."""
    made, turn = [], 0
    for row, under in enumerate(servers.KINDS):
        sample = [name for name in (BESIDE if servers.KINDS[under].workers > 1 else SAMPLE) if name in names]
        for column, python in enumerate(pythons):
            for loop in LOOPS if everything else (LOOPS[(row + column) % 2],):
                some = (
                    sample if everything or not sample else [sample[(turn + step) % len(sample)] for step in range(2)]
                )
                made += [Cell(name, *python, loop, under) for name in some]
                turn += 2
    return made


def found_pythons() -> list[str]:
    """The interpreters 3.9 to 3.15 on PATH, in pyenv's folder and unpacked beside, oldest first, one a version."""
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    made = []
    for minor in MINORS:
        known = [shutil.which(f"python3.{minor}"), *sorted(glob.glob(f"{root}/versions/3.{minor}.*/bin/python"))]
        known += [path for path in newer_python.installed() if path.endswith(f"/python3.{minor}")]
        made += [path for path in known if path and version_of(path) == f"3.{minor}"][:1]
    return made


def environment(interpreter: str) -> str:
    """A Python that has what the servers need: this one, or that of a venv made for it. Raises CalledProcessError."""
    if subprocess.run([interpreter, "-c", PROBE], stderr=subprocess.DEVNULL).returncode == 0:
        return interpreter
    folder = KEPT / version_of(interpreter)
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES], check=True)
        (folder / "ready").touch()
    return str(python)


@cache
def version_of(python: str) -> str:
    """Such as "3.11"; "" for what does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


# -- trying it -----------------------------------------------------------------------------------------


def attempt(cell: Cell) -> Row:
    """Hang, diagnose, compare. A server that does not hang at the first try, on a busy machine, has a second."""
    truth = zoo.truth(cell.name)
    if truth.state == "loop-busy":
        with busy:
            return answered(cell)
    return answered(cell)


def answered(cell: Cell, tries: int = 2) -> Row:
    try:
        with zoo.hang(cell.name, python=cell.python, loop=cell.loop, under=cell.under, timeout=40) as hung:
            began = time.monotonic()
            port = int(hung.url.rpartition(":")[2])
            target = resolve(hung.pid) if hung.truth.signal or cell.under == "uvicorn" else on_port(port)
            answer = worst(map(diagnose, observe_briefly(target, lambda line: None)))
            seconds = time.monotonic() - began
    except (zoo.ZooError, lab.LabError) as error:
        if tries > 1:
            return answered(cell, tries - 1)
        return Row(cell.key, *cell_columns(cell), "-", "-", wrong=f"did not hang: {str(error).splitlines()[-1][:100]}")
    truth, frame = hung.truth, answer.blocking_frame
    alarm = truth.state == "healthy" and answer.state not in HARMLESS
    place = f"{os.path.basename(frame.file)}:{frame.line}" if frame else "-"
    return Row(
        cell.key,
        *cell_columns(cell),
        answer.state,
        answer.cause,
        place,
        answer.confidence,
        round(seconds, 1),
        difference(answer, truth),
        alarm,
    )


def cell_columns(cell: Cell) -> tuple[str, str, str, str]:
    return cell.name, cell.version, cell.loop, cell.under


def difference(answer, truth: zoo.Truth) -> str:
    """What a diagnosis says otherwise than the server; "" where state, cause and frame are right."""
    if (answer.state, answer.cause) != (truth.state, truth.cause):
        return f"{truth.state}, {truth.cause}"
    frame = answer.blocking_frame
    if truth.marked and not (
        frame and any(frame.file.endswith(file) and frame.line == line for file, line in truth.marked)
    ):
        return " or ".join(f"{os.path.basename(file)}:{line}" for file, line in truth.marked)
    return ""


def run(todo: list[Cell], kept: Path, workers: int) -> list[Row]:
    """Try what `kept` does not know yet; every row is written as it comes, so that a later run can go on."""
    known = {row.key: row for row in rows_in(kept)}
    rows = [known[cell.key] for cell in todo if cell.key in known]
    new = [cell for cell in todo if cell.key not in known]
    kept.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool, kept.open("a") as notes:
        for done in as_completed([pool.submit(attempt, cell) for cell in new]):
            row = done.result()
            rows.append(row)
            notes.write(json.dumps(asdict(row)) + "\n")
            notes.flush()
            print(f"{len(rows)}/{len(todo)}  {'  '.join(columns(row))}", flush=True)
    order = {cell.key: index for index, cell in enumerate(todo)}
    return sorted(rows, key=lambda row: order[row.key])


def rows_in(kept: Path) -> list[Row]:
    return [Row(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.is_file() else []


def edition() -> str:
    """A short name of what is tried: it changes with the engine and with the servers."""
    folders = [
        HERE.parent / "scripts",
        HERE.parent / "notebooks" / "lab_site",
        *(HERE / folder for folder in zoo.FOLDERS),
    ]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


# -- telling it ----------------------------------------------------------------------------------------


def columns(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.version,
        row.loop,
        row.under,
        row.state,
        row.cause,
        row.frame,
        f"{row.confidence:.2f}",
        f"{row.seconds:.1f}",
        f"no: {row.wrong}" if row.wrong else "yes",
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def calibration(rows: list[Row]) -> str:
    """The whole in three sentences."""
    sure = [row for row in rows if row.confidence > SURE]
    right, hit = sum(not row.wrong for row in rows), sum(not row.wrong for row in sure)
    share = f" ({100 * hit / len(sure):.1f} %)" if sure else ""
    return (
        f"{right} of {len(rows)} answers are as built: state, cause and frame. False alarms on healthy servers: "
        f"{sum(row.false_alarm for row in rows)}. Of {len(sure)} answers with a "
        f"confidence above {SURE}, {hit} are right{share}."
    )


def summary(rows: list[Row]) -> str:
    """A line for every Python and loop, and one for every server program."""
    versions = {(row.version, row.loop): tuple(map(int, row.version.split("."))) for row in rows}
    kinds = list(servers.KINDS)
    first = [
        (*key, *figures([row for row in rows if (row.version, row.loop) == key]))
        for key in sorted(versions, key=lambda key: (versions[key], key[1]))
    ]
    second = [
        (kind, *figures([row for row in rows if row.under == kind]))
        for kind in sorted({row.under for row in rows}, key=kinds.index)
    ]
    head = ("as built", "false alarms", "mean s", "longest s")
    return table(("Python", "loop", *head), first) + "\n\n" + table(("server", *head), second)


def figures(rows: list[Row]) -> tuple[str, str, str, str]:
    seconds = [row.seconds for row in rows]
    return (
        f"{sum(not row.wrong for row in rows)} of {len(rows)}",
        str(sum(row.false_alarm for row in rows)),
        f"{sum(seconds) / len(seconds):.1f}",
        f"{max(seconds):.1f}",
    )


def page(rows: list[Row]) -> str:
    head = ("case", "Python", "loop", "server", "state", "cause", "frame", "confidence", "seconds", "as built")
    return (
        f"# Every server, hung and diagnosed\n\n`make zoo` writes this page; a case is a server of `tests/`.\n\n"
        f"## In short\n\n{calibration(rows)}\n\n{summary(rows)}\n\n## Every "
        f"answer\n\n{table(head, map(columns, rows))}\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpreter", action="append", default=[], metavar="PATH", help="another Python; repeat it")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="one case; repeat it")
    parser.add_argument("--all", action="store_true", help="every case on both loops, the sample under everything")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run of the same edition answered")
    parser.add_argument("--jobs", type=int, default=WORKERS, help="how many at once (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write the table there as Markdown")
    arguments = parser.parse_args()
    known = [name for folder in zoo.FOLDERS for name in zoo.names(folder)]
    unknown = set(arguments.only) - set(known)
    if unknown:
        parser.error(f"no case is called {', '.join(sorted(unknown))}. There are: {', '.join(known)}")
    names = [name for name in known if not arguments.only or name in arguments.only]
    for name in [name for name in names if zoo.missing(name)]:
        print(f"{name} is left out: {zoo.missing(name)}", file=sys.stderr)
        names.remove(name)
    try:
        pythons = [
            environment(path) for path in dict.fromkeys(arguments.interpreter or found_pythons() or [sys.executable])
        ]
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"zoo: no environment for the servers: {error}", file=sys.stderr)
        return 2
    wanted = cells(names, [(path, version_of(path)) for path in pythons], arguments.all)
    todo = [cell for cell in wanted if not servers.missing(cell.under, cell.python)]
    for why in dict.fromkeys(filter(None, (servers.missing(cell.under, cell.python) for cell in wanted))):
        print(f"left out: {why}", file=sys.stderr)
    kept = KEPT / f"rows-{edition()}.jsonl"
    if arguments.fresh:
        kept.unlink(missing_ok=True)
    rows = run(todo, kept, max(1, arguments.jobs))
    print(f"\n{summary(rows)}\n\n{calibration(rows)}")
    if arguments.out:
        Path(arguments.out).write_text(page(rows), encoding="utf-8")
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nzoo: interrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
