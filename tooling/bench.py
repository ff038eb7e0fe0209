"""Measure how fast the engine is, beside py-spy on the same process, and say which target is missed.

    python tooling/bench.py                                   the table
    python tooling/bench.py --write                           also docs/bench.md and docs/bench.svg
    python tooling/bench.py --pystack /venv/bin/pystack --python314 /usr/bin/python3.14
                                                              with the time that these take for the same process

A row is the median of --runs (7). Ours and the peer's runs alternate, so that other work on the machine slows both.
Beside the time stands what it took of a CPU, which other work slows least. Pauses are what the kernel shows: how long
the target's main thread was in a tracing stop.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import postgres
from hangdebug.report import svg

HANG = ROOT / "scripts" / "hang.py"
SPY = Path(sys.executable).with_name("py-spy")
PAGE, PICTURE = ROOT / "docs" / "bench.md", ROOT / "docs" / "bench.svg"
BUNDLE = ROOT / "tests" / "bundles" / "lock.tar.gz"
BUNDLES = 400
STARTS, ASKED = 20.0, 2.0  # seconds in which the target must serve, and for which its hanging request is given up
REST = 1.2  # seconds between two looks, for a look wakes what it looks at: each finds a target that hung for a second
BLOCKS, MIXED = 200, 1000  # files with a finding each, and files of the standard library, that `fix --check` reads

# A server with so many threads, parked below some frames; GET /hang blocks its event loop for good.
TARGET = """
import sys, threading
import uvicorn
from fastapi import FastAPI
count, port = int(sys.argv[1]), int(sys.argv[2])
app, lock, parked = FastAPI(), threading.Lock(), threading.Event()

@app.get("/health")
async def health():
    return {"status": "ok"}

@app.get("/hang")
async def hang():
    lock.acquire()

def deep(frames):
    deep(frames - 1) if frames else parked.wait()

lock.acquire()
for number in range(count - 1):
    threading.Thread(target=deep, args=(8,), name=f"worker-{number}", daemon=True).start()
uvicorn.run(app, port=port, log_level="error")
"""
# What the files that `fix --check` reads are made of: as many correct handlers as ones that block.
HANDLERS = """
import asyncio, time
from concurrent.futures import ThreadPoolExecutor
import requests
from fastapi import FastAPI
app = FastAPI()

def work(item):
    return requests.get(f"http://upstream/{item}", timeout=5).json()

@app.get("/slow/NUMBER")
async def slow(item: int):
    time.sleep(1)
    return work(item)

@app.get("/well/NUMBER")
async def well(item: int):
    await asyncio.sleep(1)
    return await asyncio.to_thread(work, item)

@app.get("/all/NUMBER")
async def all_of_them(items: str):
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work, item) for item in items.split(",")]
        return [future.result() for future in futures]

@app.get("/calm/NUMBER")
async def calm(items: str):
    return await asyncio.gather(*(asyncio.to_thread(work, item) for item in items.split(",")))
"""
LOOP = "select _run_once run_forever run_until_complete run serve main __call__ invoke <module>".split()


@dataclass(frozen=True)
class Row:
    """One measurement: ours and the peer's in `unit`, the most that ours may be, and what the ratio is to.

    `cpu` is how many milliseconds of a CPU ours took, None where that is not what is measured.
    """

    name: str
    ours: float
    most: float
    unit: str = "ms"
    peer: float | None = None
    beside: str = ""
    cpu: float | None = None

    @property
    def missed(self) -> bool:
        return self.ours > self.most

    @property
    def ratio(self) -> str:
        return f"{self.ours / self.peer:.1f} x" if self.peer else ""


# -- what is measured ----------------------------------------------------------------------------------


def environment(cache: Path) -> dict[str, str]:
    """As a user has it, with a cache of its own: bytecode is written."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "XDG_CACHE_HOME": str(cache)}


@dataclass(frozen=True)
class Taken:
    """Milliseconds that a command took, and how many of them it had a CPU, its children too."""

    wall: float
    cpu: float


def taken(command: Sequence[object], cache: Path) -> Taken:
    began, before = time.perf_counter(), cpu_of_children()
    subprocess.run(
        list(map(str, command)),
        env=environment(cache),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return Taken(1000 * (time.perf_counter() - began), cpu_of_children() - before)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (used.ru_utime + used.ru_stime)


def hang(*words: object) -> list[object]:
    return [sys.executable, HANG, *words]


def medians(commands: Sequence[Sequence[object]], cache: Path, runs: int, rest: float = 0) -> list[Taken]:
    """Of each command, run in turn, after `rest` seconds each; the first round warms up and does not count."""
    found: list[list[Taken]] = [[] for _ in commands]
    for turn in range(runs + 1):
        for kept, command in zip(found, commands):
            time.sleep(rest)
            one = taken(command, cache)
            if turn:
                kept.append(one)
    return list(map(median, found))


def median(found: Sequence[Taken]) -> Taken:
    return Taken(statistics.median(one.wall for one in found), statistics.median(one.cpu for one in found))


def beside_spy(name: str, ours: Taken, most: float, spy: Taken) -> Row:
    return Row(name, ours.wall, most, peer=spy.wall, beside="py-spy dump", cpu=ours.cpu)


def start_up(cache: Path, runs: int) -> Iterator[Row]:
    bare, version = medians([[sys.executable, "-S", "-c", "pass"], hang("--version")], cache, runs)
    yield Row(
        "start-up: `--version`, over the peer",
        version.wall - bare.wall,
        60,
        peer=bare.wall,
        beside="python -S -c pass",
        cpu=version.cpu - bare.cpu,
    )
    cold = []
    for _ in range(runs):
        shutil.rmtree(cache, ignore_errors=True)
        cold.append(taken(hang("--version"), cache))
    first = median(cold)
    yield Row("a first run, without bytecode", first.wall, 250, cpu=first.cpu)


def dump(threads: int) -> str:
    """py-spy's text of so many threads with 15 frames each: a loop, and a pool that waits in forty places."""
    lines = ["Process 4284: python -m uvicorn app.main:app", "Python v3.11.7 (/usr/bin/python3.11)", ""]
    lines += ['Thread 4284 (idle): "MainThread"', "    select (selectors.py:468)"]
    lines += [f"    {name} (asyncio/base_events.py:{600 + number})" for number, name in enumerate(LOOP[1:4])]
    lines += [f"    {name} (uvicorn/server.py:{60 + number})" for number, name in enumerate(LOOP[4:])]
    steps = [f"    step_{number} (/srv/app/service/pipeline_{number % 5}.py:{30 + number})" for number in range(9)]
    pool = ["_worker (concurrent/futures/thread.py:81)", "run (threading.py:982)"]
    pool += ["_bootstrap_inner (threading.py:1045)", "_bootstrap (threading.py:1002)"]
    for number in range(1, threads):
        lines.append(f'Thread {4284 + number} (idle): "ThreadPoolExecutor-0_{number}"')
        lines.append(f"    {'wait (threading.py:320)' if number % 3 else 'acquire (threading.py:451)'}")
        lines.append(
            f"    fetch_{number % 40} (/srv/app/service/clients/store_{number % 40 % 7}.py:{20 + number % 40})"
        )
        lines += [*steps, *(f"    {one}" for one in pool)]
    return "\n".join(lines)


def pastes(cache: Path, folder: Path, runs: int) -> Iterator[Row]:
    files = {count: folder / f"{count}.txt" for count in (5, 5_000, 10_000, 50_000)}
    for count, file in files.items():
        file.write_text(dump(count))
    (small,) = medians([hang("diagnose", files[5])], cache, runs)
    yield Row("a paste of 5 threads", small.wall, 120, cpu=small.cpu)
    (large,) = medians([hang("diagnose", files[10_000])], cache, runs)
    yield Row("a paste of 10,000 threads", large.wall, 1500, cpu=large.cpu)
    yield Row("its memory", memory(hang("diagnose", files[10_000]), cache), 80, "MB")
    some, many = medians([hang("diagnose", files[5_000]), hang("diagnose", files[50_000])], cache, max(3, runs // 2))
    yield Row("50,000 threads over 5,000", many.wall / some.wall, 11, "x")


def memory(command: Sequence[object], cache: Path) -> float:
    """The most megabytes that it had, asked by a process of which it is the only child."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=-3, stderr=-3); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        env=environment(cache),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) / 1024


@contextmanager
def target(threads: int, hung: bool, folder: Path) -> Iterator[int]:
    """The pid of a server with so many threads. It is ended afterwards."""
    port, script = postgres.free_port(), folder / "target.py"
    script.write_text(TARGET)
    with subprocess.Popen([sys.executable, script, str(threads), str(port)]) as server:
        try:
            ask(f"http://127.0.0.1:{port}/health", STARTS)
            if hung:
                with suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/hang", timeout=ASKED)
            yield server.pid
        finally:
            server.kill()


def ask(url: str, limit: float) -> None:
    """Raises OSError where it does not answer in time."""
    end = time.monotonic() + limit
    while True:
        try:
            urllib.request.urlopen(url, timeout=limit).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def live(cache: Path, folder: Path, runs: int, peers: dict[str, list[str]]) -> Iterator[Row]:
    with target(5, True, folder) as pid:
        spy = [SPY, "dump", "--json", "--pid", pid]
        few, hung, quick = medians(
            [spy, hang("diagnose", "--pid", pid), hang("diagnose", "--quick", "--pid", pid)], cache, runs, REST
        )
        yield beside_spy("5 threads, hung", hung, 600, few)
        yield beside_spy("5 threads, `--quick`", quick, 4 * few.wall, few)
        yield from pauses(pid, cache, runs)
        for name, command in peers.items():
            (one,) = medians([[*command, pid]], cache, runs, REST)
            yield beside_spy(f"`{name}` on it, for comparison", one, float("inf"), few)
    with target(5, False, folder) as pid:
        few, well = medians([[SPY, "dump", "--json", "--pid", pid], hang("diagnose", "--pid", pid)], cache, runs)
        yield beside_spy("5 threads, healthy", well, 1200, few)
    with target(1000, True, folder) as pid:
        many, ours = medians([[SPY, "dump", "--json", "--pid", pid], hang("diagnose", "--pid", pid)], cache, runs, REST)
        yield beside_spy("1,000 threads, hung", ours, 2 * many.wall, many)
        kept, made = folder / "evidence", folder / "report"
        taken(hang("capture", "--pid", pid, "--out", kept), cache)
        (page,) = medians([hang("report", kept, "--out", made)], cache, runs)
        size = (made / "report.html").stat().st_size
        yield Row("a report of 1,000 alike threads", page.wall, 2000, cpu=page.cpu)
        yield Row("its page", size / (1 << 20), 2, "MB")


def pauses(pid: int, cache: Path, runs: int) -> Iterator[Row]:
    found: dict[str, list[tuple[float, float]]] = {"spy": [], "ours": []}
    for _ in range(runs):
        found["spy"].append(stopped_during([SPY, "dump", "--json", "--pid", pid], pid, cache))
        found["ours"].append(stopped_during(hang("diagnose", "--pid", pid), pid, cache))
    (longest, total), (ours, all_ours) = (
        [statistics.median(column) for column in zip(*found[who])] for who in ("spy", "ours")
    )
    if not longest or not ours:
        print("The pauses are too short to be seen beside the other work on this machine.", flush=True)
        return
    yield Row("its longest pause", ours, 1.1 * longest, peer=longest, beside="py-spy dump")
    yield Row("the sum of its pauses", all_ours, 1.3 * total, peer=total, beside="py-spy dump")


def stopped_during(command: Sequence[object], pid: int, cache: Path) -> tuple[float, float]:
    """Milliseconds of the longest tracing stop of the process's main thread meanwhile, and of all together."""
    over, spans = threading.Event(), [0.0]

    def look() -> None:
        descriptor, since = os.open(f"/proc/{pid}/stat", os.O_RDONLY), 0.0
        while not over.is_set():
            stopped = os.pread(descriptor, 200, 0).rpartition(b") ")[2][:1] == b"t"
            now = time.perf_counter()
            if stopped and not since:
                since = now
            elif since and not stopped:
                spans.append(1000 * (now - since))
                since = 0.0
        os.close(descriptor)

    thread = threading.Thread(target=look)
    thread.start()
    taken(command, cache)
    over.set()
    thread.join()
    return max(spans), sum(spans)


def groups(cache: Path, folder: Path, runs: int) -> Iterator[Row]:
    copies = [folder / f"{number}.tar.gz" for number in range(BUNDLES)]
    for copy in copies:
        shutil.copyfile(BUNDLE, copy)
    tenth, whole = medians(
        [hang("diagnose", *copies[: BUNDLES // 10]), hang("diagnose", *copies)], cache, max(3, runs // 2)
    )
    yield Row(f"{BUNDLES} bundles in groups", whole.wall / 1000, BUNDLES * 0.03, "s", cpu=whole.cpu)
    yield Row(f"{BUNDLES} bundles over {BUNDLES // 10}", whole.wall / tenth.wall, 11, "x")


def checks(cache: Path, folder: Path, runs: int) -> Iterator[Row]:
    """`fix --check` beside a process that parses the same files, and does nothing else."""
    library = Path(os.__file__).parent
    mixed = [str(path) for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts][:MIXED]
    blocking = folder / "blocking"
    blocking.mkdir()
    for number in range(BLOCKS):
        (blocking / f"handlers_{number}.py").write_text(HANDLERS.replace("NUMBER", str(number)))
    parse = "import ast, sys, pathlib\nfor name in sys.argv[1:]:\n"
    parse += "    try: ast.parse(pathlib.Path(name).read_bytes())\n    except (SyntaxError, ValueError): pass"
    files = list(map(str, sorted(blocking.iterdir())))
    for name, given, most in ((f"{len(mixed)} mixed files", mixed, 1.5), (f"{BLOCKS} files that all block", files, 4)):
        parser, ours = medians(
            [[sys.executable, "-S", "-c", parse, *given], hang("fix", "--check", *given)], cache, max(3, runs // 2)
        )
        yield Row(f"`fix --check` of {name}", ours.cpu / parser.cpu, most, "x", peer=1, beside="ast.parse")
    (one,) = medians([hang("fix", "--check", files[0])], cache, runs)
    yield Row("`fix --check` of one file", one.wall, 150, cpu=one.cpu)


def panel(cache: Path, folder: Path, runs: int) -> Iterator[Row]:
    """From `make notebook`'s command until the panel can be used, with one key press for its first cell."""
    import browser

    if why := browser.missing():
        print(f"The panel was not measured. {why}", flush=True)
        return
    found = []
    with browser.chromium() as chrome:
        for number in range(max(3, runs // 2)):
            place = folder / f"panel-{number}"
            place.mkdir()
            browser.copied(place)
            began = time.perf_counter()
            with browser.serving(place) as site:
                page = browser.opened(chrome, site, "triage.ipynb")
                page.locator(".jp-Notebook").focus()
                page.keyboard.press("Shift+Enter")
                page.locator(".hang button.mod-primary").first.wait_for()
                found.append(time.perf_counter() - began)
                page.close()
    yield Row("JupyterLab, from its command to the panel", statistics.median(found), 6, "s")


# -- what is written -----------------------------------------------------------------------------------


def shown(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if value < 10 or unit in ("x", "s") else f"{value:,.0f} {unit}"


def table(rows: Sequence[Row]) -> str:
    lines = ["| what | measured | of a CPU | at most | ratio | beside |", "|---|---|---|---|---|---|"]
    for row in rows:
        most = shown(row.most, row.unit) if row.most < float("inf") else ""
        beside = f"`{row.beside}` {shown(row.peer, row.unit)}" if row.peer else ""
        ours = f"{shown(row.ours, row.unit)}{' **missed**' * row.missed}"
        cpu = shown(row.cpu, "ms") if row.cpu is not None else ""
        lines.append(f"| {row.name} | {ours} | {cpu} | {most} | {row.ratio} | {beside} |")
    return "\n".join(lines)


def page(rows: Sequence[Row], runs: int, load: float) -> str:
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    missed = [row.name for row in rows if row.missed]
    verdict = f"Missed: {'; '.join(missed)}." if missed else "Every target is met."
    return (
        "# How fast it is\n\n"
        f"`make bench` wrote this: medians of {runs}, {machine}. The load of the machine was {load:.1f} when it began; "
        "above the number of its CPUs, other work slows all rows, and the ratios tell more than the times.\n\n"
        f"{table(rows)}\n\n{verdict}\n\n"
        "![Each row as a share of its target: a bar that ends left of the line meets it](bench.svg)\n"
    )


def picture(rows: Sequence[Row]) -> bytes:
    """A bar a row: its share of its target, which is the line."""
    rows = [row for row in rows if row.most < float("inf")]
    left, high, wide = 330, 22, 400
    parts = [svg.text(16, 26, "Each row as a share of its target", 600, bold=True)]
    for number, row in enumerate(rows):
        top, share = 44 + number * high, row.ours / row.most
        parts.append(svg.text(left - 10, top + 12, row.name.replace("`", ""), left - 30, anchor="end"))
        fill = svg.VERMILLION if row.missed else svg.GREEN
        parts.append(svg.box(left, top, max(1.0, wide * min(share, 1.25)), high - 6, fill))
        parts.append(svg.text(left + wide * 1.27, top + 12, f"{share:.0%}", 60, fill=svg.FAINT))
    bottom = 44 + len(rows) * high
    parts.append(svg.line([(left + wide, 38), (left + wide, bottom)], svg.INK, 1.5))
    alt = "; ".join(f"{row.name}: {row.ours / row.most:.0%} of its target" for row in rows)
    return svg.card(bottom + 14, parts, alt)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="how often each row is measured (default: 7)")
    parser.add_argument("--write", action="store_true", help="write docs/bench.md and docs/bench.svg")
    parser.add_argument("--pystack", metavar="PATH", help="measure `pystack remote` too")
    parser.add_argument("--python314", metavar="PATH", help="measure `asyncio pstree` too")
    arguments = parser.parse_args()
    peers = {}
    if arguments.pystack:
        peers["pystack remote"] = [arguments.pystack, "remote"]
    if arguments.python314:
        peers["asyncio pstree"] = [arguments.python314, "-m", "asyncio", "pstree"]
    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, cache = Path(name), Path(name) / "cache"
        for found in (
            start_up(cache, arguments.runs),
            pastes(cache, folder, arguments.runs),
            live(cache, folder, arguments.runs, peers),
            groups(cache, folder, arguments.runs),
            checks(cache, folder, arguments.runs),
            panel(cache, folder, arguments.runs),
        ):
            for row in found:
                rows.append(row)
                print(table([row]).splitlines()[-1], flush=True)
    missed = sum(row.missed for row in rows)
    print(f"\n{missed} of {len(rows)} targets are missed." if missed else "\nEvery target is met.")
    if arguments.write:
        PAGE.write_text(page(rows, arguments.runs, load), encoding="utf-8")
        PICTURE.write_bytes(picture(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
