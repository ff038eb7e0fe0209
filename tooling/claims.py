"""Run what is commonly said about executors and shutdown, and print what happened here.

    python tooling/claims.py            run each claim, print the table
    python tooling/claims.py --write    and keep it in references/executors.md

Each claim is a function that tries it and gives what happened, the figure, and whether the claim held. They run side
by side: the longest waits for 32 s, because that is its point.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Callable

TOOLING = Path(__file__).resolve().parent
ROOT = TOOLING.parent
PAGE = ROOT / "references" / "executors.md"
TITLE = "## What common advice gets wrong\n"
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "notebooks"), str(ROOT / "tests")]

import lab
from client import eventually, get, reading
from hangdebug.repair.proof.pressure import pressure

ABORTS, AT_ONCE = 200, 20
POOL = 16  # threads, of claims_app.py's one pool
PAST_THIRTY = 32.0  # seconds


@dataclass(frozen=True)
class Outcome:
    """What happened, in words that do not change between runs; the figure; and whether the claim held."""

    happened: str
    figure: str
    held: bool


def stops_running_work() -> Outcome:
    pool = ThreadPoolExecutor(1)
    running = pool.submit(time.sleep, 1)
    while not running.running():
        time.sleep(0.001)
    queued = pool.submit(time.sleep, 1)
    began = time.monotonic()
    pool.shutdown(wait=False, cancel_futures=True)
    returned = time.monotonic() - began
    running.result()
    ended = time.monotonic() - began
    return Outcome(
        "It returned at once and dropped what was queued; the running call ran to its end.",
        f"returned after {returned * 1000:.2f} ms, the call ended {ended:.2f} s later",
        ended < 0.5 or not queued.cancelled(),
    )


def drops_queued_work() -> Outcome:
    begun: list[int] = []
    pool = ThreadPoolExecutor(1)
    for number in range(5):
        pool.submit(lambda number=number: (begun.append(number), time.sleep(0.1)))
    pool.shutdown(wait=False)
    before = len(begun)
    time.sleep(1)
    return Outcome(
        "Calls that had waited in the queue were begun after it; only `cancel_futures=True` drops them.",
        f"{len(begun) - before} of 5 begun afterwards",
        len(begun) == before,
    )


def is_done_at_exit() -> Outcome:
    script = """
        import time
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        pool.submit(time.sleep, 2)
        pool.shutdown(wait=False, cancel_futures=True)
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    took = time.monotonic() - began
    return Outcome(
        "The interpreter joined the thread on its way out.",
        f"a script with a call of 2 s took {took:.1f} s",
        took < 1.5,
    )


def threads_after_aborts(name: str) -> tuple[int, int]:
    """Threads of a fresh server, and after ABORTS streams were cut off."""
    with lab.start(TOOLING, "claims_app:app") as server:
        before = len(list(Path(f"/proc/{server.pid}/task").iterdir()))
        found = pressure(
            f"{server.url}/health", f"{server.url}/stream/{name}", aborts=ABORTS, concurrency=AT_ONCE, pid=server.pid
        )
        if not found.result.complete:
            raise RuntimeError(f"only {found.result.aborts} of {ABORTS} streams were cut off")
        return before, found.counts[-1][1]


def bounds_threads() -> Outcome:
    before, own = threads_after_aborts("own-pool")
    fresh, shared = threads_after_aborts("shared-pool")
    if shared > fresh + POOL:
        raise RuntimeError(f"one pool of {POOL} for the application came to {shared} threads from {fresh}")
    return Outcome(
        f"Each stream left a thread behind; one pool for the application kept to its {POOL}.",
        f"{before} threads before, {own} after {ABORTS} aborts; with one pool {shared}",
        own < before + ABORTS / 2,
    )


def gives_up_after_thirty() -> Outcome:
    pool = ThreadPoolExecutor(1)
    pool.submit(time.sleep, PAST_THIRTY)
    began = time.monotonic()
    pool.shutdown(wait=True)
    took = time.monotonic() - began
    return Outcome(
        "It waited until the call ended. There is no timeout, and no argument for one.",
        f"waited {took:.1f} s for a call of {PAST_THIRTY:g} s",
        took < PAST_THIRTY - 1,
    )


def warns() -> Outcome:
    script = """
        import gc
        from concurrent.futures import ThreadPoolExecutor
        {opened}
        del one
        gc.collect()
    """

    def warnings(opened: str) -> int:
        code = textwrap.dedent(script).replace("{opened}", opened)
        done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, check=True)
        return done.stderr.count(": ResourceWarning: ")

    pool = warnings("one = ThreadPoolExecutor(1); one.submit(print)")
    file = warnings("one = open(__import__('os').devnull)")
    return Outcome(
        "Python said nothing of a pool that was never shut down, and did of a file that was never closed.",
        f"{pool} warnings for the pool, {file} for the file",
        pool > 0 or file == 0,
    )


def is_awaited_to_the_end() -> Outcome:
    with lab.start(TOOLING, "claims_app:app") as server:
        steps = []
        for name in ("plain", "shielded"):
            with reading(f"{server.url}/stream/{name}") as stream:
                stream.readline()
            eventually(lambda: get(f"{server.url}/reached") != b"[]", 2)
            time.sleep(0.5)
            steps.append((get(f"{server.url}/reached") or b"").decode())
    if "finally" not in steps[0]:
        raise RuntimeError("the client left, and the stream was not told")
    plain, shielded = steps[0].count("after the await"), steps[1].count("after the await")
    return Outcome(
        "The client left, and the line after the await never ran; under a shield it did.",
        f"reached {plain} times, under `CancelScope(shield=True)` {shielded} times",
        plain > 0 or shielded != 1,
    )


def stops_by_handler() -> Outcome:
    took = {}
    for handler in ("replaced", "chained"):
        with lab.start(TOOLING, "claims_app:app", env={"HANDLER": handler}) as server:
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            try:
                server.process.wait(5)
            except subprocess.TimeoutExpired:
                if b"handler" not in (get(f"{server.url}/reached") or b""):
                    raise RuntimeError("the server neither ended nor went on") from None
            took[handler] = time.monotonic() - began if server.process.poll() is not None else None
    stopped = took["replaced"] is not None
    return Outcome(
        "The handler ran, and uvicorn went on serving. One that calls its predecessor stopped it.",
        f"still serving after 5 s; chained, it ended in {took['chained'] or 99:.1f} s",
        stopped or took["chained"] is None,
    )


def is_closed_with_the_response() -> Outcome:
    with lab.start(TOOLING, "claims_app:app") as server:
        with reading(f"{server.url}/stream/sync") as stream:
            stream.readline()
        time.sleep(0.3)
        at_once = seconds_of(f"{server.url}/health")
        if at_once > 1:  # Python 3.9 drops the last reference to it right then
            return Outcome(
                "It was, at once, and so joined its pool on the event loop's thread.",
                f"/health took {at_once:.1f} s",
                held=False,
            )
        with ThreadPoolExecutor(1) as aside:
            collecting = aside.submit(get, f"{server.url}/collect", 10)
            time.sleep(0.2)
            blocked = seconds_of(f"{server.url}/health")
            collecting.result()
    return Outcome(
        "Nothing closed it. The garbage collector did, and joined its pool on the event loop's thread.",
        f"answering before; at the collection /health took {blocked:.1f} s",
        blocked < 1,
    )


def seconds_of(url: str) -> float:
    """How long it takes to answer. Raises RuntimeError where it does not within 10 s."""
    began = time.monotonic()
    if get(url, 10) is None:
        raise RuntimeError(f"{url} does not answer")
    return time.monotonic() - began


CLAIMS: dict[str, Callable[[], Outcome]] = {
    "`shutdown(wait=True)` gives up after 30 seconds.": gives_up_after_thirty,
    "`shutdown(wait=False, cancel_futures=True)` stops the running work.": stops_running_work,
    "`shutdown(wait=False)` drops what is queued.": drops_queued_work,
    "After a non-blocking shutdown the process can exit at once.": is_done_at_exit,
    "A pool for each request is fine as long as it is shut down with `wait=False`.": bounds_threads,
    "A pool that is not shut down gives a `ResourceWarning`.": warns,
    "`await asyncio.to_thread(pool.shutdown)` in a `finally` is a clean end.": is_awaited_to_the_end,
    "A SIGTERM handler in the lifespan makes the shutdown clean.": stops_by_handler,
    "A sync generator's `with` block is left when its client leaves.": is_closed_with_the_response,
}

HEAD = f"""\
{TITLE}
Each line was run, not argued: `make claims` runs them again on your Python and prints the same table with your
figures. This one is of {{where}}.
What to do instead is above, and in `references/shutdown.md`.

| it is said | what happened | measured |
|---|---|---|
"""


def run(claims: dict[str, Callable[[], Outcome]]) -> dict[str, Outcome]:
    """Run them two at a time, the first one beside all the others."""
    with ThreadPoolExecutor(2) as pool:
        begun = {claim: pool.submit(try_) for claim, try_ in claims.items()}
        return {claim: call.result() for claim, call in begun.items()}


def row(claim: str, outcome: Outcome) -> str:
    happened = "It held here after all." if outcome.held else outcome.happened
    return f"| {claim} | {happened} | {outcome.figure} |"


def page(outcomes: dict[str, Outcome]) -> str:
    packages = (f"{name} {version(name)}" for name in ("starlette", "uvicorn", "anyio"))
    where = ", ".join([f"Python {platform.python_version()}", *packages])
    return HEAD.format(where=where) + "".join(f"{row(*one)}\n" for one in outcomes.items())


def section() -> tuple[str, str]:
    """The page before the table of claims, and the table with its heading: the last part of the page."""
    before, _, after = PAGE.read_text(encoding="utf-8").partition(TITLE)
    return before, TITLE + after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the table in references/executors.md")
    write = parser.parse_args().write
    outcomes = run(CLAIMS)
    print(page(outcomes), end="")
    held = [claim for claim, outcome in outcomes.items() if outcome.held]
    if write and not held:
        PAGE.write_text(section()[0] + page(outcomes), encoding="utf-8")
    if held:
        print(f"claims: {len(held)} held on this Python; the page was not written.", file=sys.stderr)
    return 1 if held else 0


if __name__ == "__main__":
    sys.exit(main())
