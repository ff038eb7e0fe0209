"""Feed the engine with what nobody meant it to read: every reader, the bundle's parts, memory, the rewrites.

    python tooling/fuzz.py --seconds 60              every target, mutated by chance; --targets paste,memory
    python tooling/fuzz.py --hypothesis              by hypothesis, which shrinks what fails
    python tooling/fuzz.py --atheris                 guided by coverage, where atheris is installed

A case is a row of bytes: they choose what of the corpus is taken, and what is done to it. A case fails that raises
anything but the engine's own errors, or takes more than LONGEST seconds. It is kept in tests/fuzz; the tests run it.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import faulthandler
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests"))

if "--atheris" in sys.argv:  # it marks the branches of what is imported, while that is imported
    import atheris

    marked = atheris.instrument_imports(include=["hangdebug"])
else:
    marked = nullcontext()
with marked:
    from hangdebug.answer.diagnose import diagnose, evidence_of, worst
    from hangdebug.capture import redact
    from hangdebug.capture.interpreter import runtimes, tasks
    from hangdebug.capture.interpreter.memory import Memory, open_memory
    from hangdebug.capture.interpreter.objects import known_layout
    from hangdebug.errors import BadSource, HangError
    from hangdebug.evidence.bundle import evidence_in, read_archive, read_bundle
    from hangdebug.evidence.paste import read, text_of
    from hangdebug.repair import fix
    from hangdebug.repair.proof import curl
    from hangdebug.repair.proof.curl import read_requests
    from hangdebug.repair.proof.pressure import read_check
    from hangdebug.repair.rules import RULES
    from hangdebug.report import page, text
    from hangdebug.report.incident import gather

FOUND = ROOT / "tests" / "fuzz"
# Seconds of the processor for a case; those after which it is broken off; and by the clock, for one that waits:
# beside other work these pass without it.
LONGEST, STUCK, WAITS = 2.0, 20, 300
SLOW, NOTED = 20, 0.2  # times the median time a byte, told of cases that take so many seconds at least
MOST = 300  # bytes of a case
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    -(2**63),
    1.5,
    float("inf"),
    float("nan"),
    "",
    "\u00b2",
    "\u0663",
    "\ud800",
    "\0",
    "\u202e",
    "\x1b[2J",
    "<script>",
    "a" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["x", 1],
    [[[[[[[[]]]]]]]],
)
ODD_TEXTS = (
    "\0",
    "\ufeff",
    "\u00b2",
    "\u0663",
    "\u202e",
    "\x1b[2J",
    "\r",
    "\x0c",
    "\t",
    "\\",
    "[" * 2000,
    "{" * 2000,
    "(" * 300,
    '"',
    "'",
    "'''",
    "999999999999999999999",
    "-1",
    "0x",
    "None",
    " " * 500,
    ":",
    "\n",
    "<a>",
    "&lt;",
    "\\n",
    "\u2514\u2500\u2500 (T) ",
    "<Task pending name='",
    'File "',
    "Thread 0x",
    "async def ",
    "await ",
    "lambda: ",
    "yield ",
    "with a as b:\n",
    "# \u00e9\n",
    "return",
    "del x\n",
    "\\\n",
    "f'{x}'",
    "match x:\n",
    "global x\n",
)


class Choices:
    """A row of bytes, read as decisions. When it is used up, every decision is the first one."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, count: int) -> int:
        return int.from_bytes(bytes(self.byte() for _ in range(3)), "big") % max(1, count)

    def of(self, row: Any) -> Any:
        return row[self.below(len(row))]

    @property
    def more(self) -> bool:
        return self.at < len(self.data)


# -- what is done to a text and to JSON ----------------------------------------------------------------


def mutated(given: str, choose: Choices, most: int = 12) -> str:
    """The text with up to `most` changes: cut, doubled, moved, replaced, odd signs put in."""
    for _ in range(most):
        if not choose.more:
            break
        at = choose.below(len(given) + 1)
        end = min(len(given), at + 1 + choose.below(40))
        act = choose.below(8)
        if act == 0:
            given = given[:at] + given[end:]
        elif act == 1:
            given = given[:end] + given[at:]
        elif act in (2, 3):
            given = given[:at] + choose.of(ODD_TEXTS) + given[at:]
        elif act == 4:
            given = given[:at] + chr(choose.below(0x3000)) + given[at + 1 :]
        elif act == 5:
            lines = given.split("\n")
            one, other = choose.below(len(lines)), choose.below(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            given = "\n".join(lines)
        elif act == 6:
            given = given[:at]
        else:
            lines = given.split("\n")
            lines.insert(choose.below(len(lines)), lines[choose.below(len(lines))])
            given = "\n".join(lines)
    return given


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value that holds something: its container and its key."""
    found: list[tuple[Any, Any]] = []
    rest = [value]
    while rest:
        one = rest.pop()
        keys: Iterable[Any] = one.keys() if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            rest.append(one[key])
    return found


def mutated_json(given: str, choose: Choices) -> str:
    """The JSON with other types and values at some of its places, keys left out, and then maybe broken as a text."""
    try:
        value = json.loads(given)
    except ValueError:
        return mutated(given, choose)
    for _ in range(1 + choose.below(4)):
        found = places(value)
        if not found:
            break
        container, key = choose.of(found)
        act = choose.below(6)
        if act == 0 and isinstance(container, dict):
            del container[key]
        elif act == 1 and isinstance(container, dict):
            container[choose.of(ODD_TEXTS)] = container.pop(key)
        elif act == 2:
            container[key] = json.loads(json.dumps(choose.of(found)[0])) if choose.below(2) else [container[key]]
        else:
            container[key] = copy.deepcopy(choose.of(ODD_VALUES))
    made = json.dumps(value)
    return mutated(made, choose, 3) if choose.below(4) == 0 else made


# -- the corpus ----------------------------------------------------------------------------------------


@cache
def pastes() -> list[str]:
    files = [*(ROOT / "tests" / "pasted").glob("*.txt"), *(ROOT / "tests" / "dumps").rglob("*.*")]
    texts = [file.read_text(errors="replace") for file in sorted(files) if file.stat().st_size < 30_000]
    for file in sorted((ROOT / "tests" / "pastes").glob("*.txt")):
        texts += [one for one in file.read_text().split("\n=== ") if one]
    return texts


@cache
def bundles() -> list[dict[str, str]]:
    files = sorted((ROOT / "tests" / "bundles").glob("*.tar.gz"))[::6]
    found = [dict(read_archive(file)) for file in files]
    return [one for one in found if sum(map(len, one.values())) < 300_000]


@cache
def sources() -> list[str]:
    texts = []
    for file in sorted((ROOT / "tests" / "rewrites").rglob("*.txt")):
        texts += [part.split("\n---")[0].partition("\n")[2] for part in file.read_text().split("\n=== ")]
    for folder in ("tests/hung", "tests/healthy", "snippets"):
        texts += [file.read_text() for file in sorted((ROOT / folder).glob("*.py"))]
    return [one for one in texts if one.strip() and len(one) < 6000]


ODD_NAMES = ("\u00b2.json", "tasks-9.json", "tasks-\u0663.json", "sample-99.txt", "sample-\u0663.json")
REQUESTS = (
    'url = "/orders"\nrequest = POST\nheader = "Content-Type: x"\ndata = "{\\"item\\": 7}"\nnext\nurl = /a\n',
    '# expect: 422\nPOST http://127.0.0.1:8000/orders HTTP/1.1\nContent-Type: text/x\n\n{"item": 7}\n###\nGET /\n',
)
ANSWERS = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nDate: x\r\nAge: 3\r\n\r\nbody",
    b"HTTP/2 302\r\nlocation: /x\r\n\r\n",
)
CHECK = {
    "kind": "pressure",
    "taken": "2026-01-01",
    "counts": [[0.1, 3], [0.2, 5]],
    "cut": [0, 1],
    "baseline": 3,
    "back": 0.4,
    "result": {
        "deadline": 2.0,
        "probes": [
            {"url": "http://x/", "phase": "p", "at": 0.1, "seconds": 0.2, "status": 200, "ok": True, "command": "curl"}
        ],
        "stream_url": None,
        "notes": ["n"],
        "commands": ["c"],
        **dict.fromkeys(("wanted", "opened", "streams", "aborts"), 1),
    },
}


# -- the targets: each takes a case, and raises where the engine does what it must not ------------------


def shown(found: Any) -> None:
    """Every form of an answer, with nothing in it that a terminal obeys."""
    answer = worst(map(diagnose, found))
    for made in (text.as_text(answer), text.as_markdown(answer), text.as_json(answer), text.explained(answer)):
        odd = [char for char in made if char not in "\n\t" and not char.isprintable()]
        assert not odd, f"{odd[0]!r} is shown"
    json.loads(text.as_json(answer))


def paste(data: bytes) -> int:
    choose = Choices(data)
    kind = choose.below(10)
    made = mutated(choose.of(pastes()), choose)
    if kind == 0:
        made = mutated_json(choose.of([one for one in pastes() if one[:1] in "[{"]), choose)
    if kind == 1:
        made = choose.of(pastes())[-3000:] + made[:3000]
    with suppress(HangError):
        shown(evidence_of(read(made)))
    return len(made)


def encoding(data: bytes) -> int:
    """A file in any encoding, or none."""
    choose = Choices(data)
    raw = mutated(choose.of(pastes())[:4000], choose).encode(
        choose.of(("utf-8", "utf-16", "utf-16-be", "latin-1", "utf-8-sig", "utf-32")), "replace"
    )
    raw = raw[: choose.below(len(raw) + 1)] if choose.below(3) == 0 else raw
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(raw)
        file.flush()
        with suppress(HangError):
            read(text_of(file.name))
    return len(raw)


def parts(data: bytes) -> int:
    """A bundle with parts of other types, cut short, or missing."""
    choose = Choices(data)
    texts = dict(choose.of(bundles()))
    for _ in range(1 + choose.below(4)):
        name = choose.of(sorted(texts))
        act = choose.below(8)
        if act == 0 and len(texts) > 1:
            del texts[name]
        elif act == 1:
            texts[name] = texts[choose.of(sorted(texts))]
        elif act == 2:
            texts[name.rpartition("/")[0] + "/" + choose.of(("\u00b2.json", "tasks-9.json", "sample-99.txt"))] = texts[
                name
            ]
        elif name.endswith(".json"):
            texts[name] = mutated_json(texts[name], choose)
        else:
            texts[name] = mutated(texts[name], choose)
    with suppress(HangError):
        shown(evidence_in(texts, Path("bundle")))
    return sum(map(len, texts.values()))


def report(data: bytes) -> int:
    """The report of such a bundle: nothing of it is markup, or a script."""
    choose = Choices(data)
    texts = dict(choose.of(bundles()))
    for _ in range(2):
        name = choose.of(sorted(texts))
        texts[name] = (mutated_json if name.endswith(".json") else mutated)(texts[name], choose)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in texts.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, errors="replace")
        place = next((one.parent for one in sorted(Path(folder).rglob("manifest.json"))), Path(folder))
        with suppress(HangError):
            made = page.as_html(gather(place)) + page.as_markdown(gather(place))
            assert "<script" not in made.lower().split("\n# ")[0]
    return sum(map(len, texts.values()))


def archive(data: bytes) -> int:
    """A zip or tar whose bytes are spoilt, with names and kinds of members that lead elsewhere."""
    choose = Choices(data)
    texts, buffer = choose.of(bundles()), io.BytesIO()
    names = [*texts, "../../etc/x", "/etc/passwd", "1/process.json", "1/sample-0.json", "\u00b2/sample-0.json"]
    if choose.below(2):
        with zipfile.ZipFile(buffer, "w", choose.of((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed:
            for name in dict.fromkeys(choose.of(names) for _ in range(1 + choose.below(4))):
                packed.writestr(name, choose.of(list(texts.values()))[:3000])
    else:
        with tarfile.open(fileobj=buffer, mode=choose.of(("w", "w:gz"))) as tar:
            for _ in range(1 + choose.below(4)):
                info, content = tarfile.TarInfo(choose.of(names)), choose.of(list(texts.values()))[:3000].encode()
                info.type = choose.of(
                    (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
                )
                info.linkname, info.size = choose.of(names), len(content) if info.isreg() else 0
                tar.addfile(info, io.BytesIO(content))
    raw = bytearray(buffer.getvalue())
    for _ in range(choose.below(6)):
        raw[choose.below(len(raw))] = choose.byte()
    raw = raw[: choose.below(len(raw) + 1)] if choose.below(4) == 0 else raw
    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        with suppress(HangError):
            read_bundle(Path(file.name))
    return len(raw)


KINDS = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)


class Spoilt(Memory):
    """This process's memory, of which some words read as something else: the task reader's layer in bad weather."""

    def word(self, at: int) -> int:
        return self.odd(super().word(at), 64)

    def small(self, at: int) -> int:
        return self.odd(super().small(at), 31)

    def read(self, at: int, size: int) -> bytes:
        found = super().read(at, size)
        return bytes(self.odd(one, 8) for one in found) if self.is_odd() and size else found

    def is_odd(self) -> bool:
        state.asked += 1
        return bool(state.asked % state.period == 0)

    def odd(self, value: int, bits: int) -> int:
        if not self.is_odd():
            return value
        act = state.choose.below(6)
        if act == 0:
            return state.choose.below(1 << 24) % (1 << bits)
        if act == 1:
            return (1 << bits) - 1
        if act == 2:
            return 0
        return (value ^ (1 << state.choose.below(bits))) % (1 << bits)


state = SimpleNamespace(choose=Choices(b""), period=1 << 60, asked=0, loop=None)


def own_tasks() -> None:
    """Tasks of this process that wait in many ways, in a loop that stands."""
    if state.loop is not None:
        return

    async def begin() -> None:
        lock, queue, condition = asyncio.Lock(), asyncio.Queue(1), asyncio.Condition()
        await lock.acquire()

        async def waits() -> None:
            async with lock, condition:
                pass

        async def source() -> Any:
            yield await queue.get()

        async def listens() -> None:
            async for _ in source():
                pass

        kept = [
            asyncio.create_task(one) for one in (waits(), listens(), asyncio.sleep(9999), condition_wait(condition))
        ]
        kept.append(asyncio.create_task(asyncio.wait_for(asyncio.gather(asyncio.sleep(9999), listens()), 9999)))
        state.kept = kept, lock, queue
        await asyncio.sleep(0.05)

    async def condition_wait(condition: asyncio.Condition) -> None:
        async with condition:
            await condition.wait()

    state.loop = asyncio.new_event_loop()
    state.loop.run_until_complete(begin())


def memory(data: bytes) -> int:
    own_tasks()
    if known_layout(os.getpid()) is None:
        raise SystemExit("The layout of this Python is not known here. Next: run it under Python 3.9 to 3.13")
    state.choose = choose = Choices(data)
    state.period, state.asked = 2 + choose.below(choose.of((10, 100, 1000))), choose.below(99)
    pid = os.getpid()
    with patched(tasks, "open_memory", spoilt):
        found = tasks.tasks_of(pid)
        json.loads(tasks.as_json(found))
        tasks.queues_of(pid)
        tasks.failed_tasks_of(pid)
        tasks.files_of(pid)
    return int(state.asked)


@contextmanager
def spoilt(pid: int) -> Iterator[Memory]:
    with open_memory(pid) as honest:
        yield Spoilt(honest.descriptor)


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def elf(data: bytes) -> int:
    """A program whose header and tables are spoilt."""
    choose = Choices(data)
    state.program = getattr(state, "program", None) or Path("/bin/true").read_bytes()
    raw = bytearray(state.program)
    for _ in range(1 + choose.below(8)):
        at = choose.below(choose.of((64, 1024, len(raw))))
        raw[at : at + 1 + choose.below(8)] = bytes(choose.byte() for _ in range(1 + choose.below(8)))
    raw = raw[: choose.below(len(raw) + 1)] if choose.below(4) == 0 else raw
    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        runtimes.read_image(file.name, runtimes.NAMES)
        runtimes.is_plain_interpreter(file.name)
    return len(raw)


def rewrites(data: bytes) -> int:
    """What a rewrite makes of any source parses, and a second run changes nothing more."""
    choose = Choices(data)
    made = choose.of(sources())
    if choose.below(3) == 0:
        made += "\n\n" + choose.of(sources())
    made = mutated(made, choose, 6)
    if choose.below(6) == 0:
        made = made.replace("\n", choose.of(("\r\n", "\r")))
    with suppress(BadSource):
        after, _ = fix.run_rules(RULES, made, "app.py", None)
        if after != made:
            assert fix.parses(after), "what was written does not parse"
            again, _ = fix.run_rules(RULES, after, "app.py", None)
            assert again == after, "a second run changes it once more"
    return len(made)


def secrets(data: bytes) -> int:
    """Cleaning never fails, and a second pass finds nothing."""
    choose = Choices(data)
    made = mutated(choose.of((*pastes(), *sources()))[:3000], choose)
    once, _ = redact.clean_text(made)
    assert redact.clean_text(once)[0] == once, "a second pass strikes out more"
    for line in made.splitlines()[:20]:
        redact.clean_code(line)
    redact.clean_command(made.split()[:20], 6)
    return len(made)


def proofs(data: bytes) -> int:
    """What a proof reads: files of requests, answers of servers, verifications that somebody kept."""
    choose = Choices(data)
    kind = choose.below(3)
    made = mutated(choose.of(REQUESTS), choose) if kind == 0 else mutated_json(json.dumps(CHECK), choose)
    if kind == 0:
        with suppress(HangError):
            read_requests(made, "http://127.0.0.1:8000/", "orders.http")
    elif kind == 1:
        raw = bytearray(choose.of(ANSWERS))
        for _ in range(choose.below(6)):
            raw[choose.below(len(raw))] = choose.byte()
        curl.split_answer(bytes(raw))
    else:
        read_check(made)
    return len(made)


TARGETS: dict[str, Callable[[bytes], int]] = {
    one.__name__: one for one in (paste, encoding, parts, report, archive, memory, elf, rewrites, secrets, proofs)
}


# -- the run -------------------------------------------------------------------------------------------


class Slow(Exception):
    """A case that took too long."""


def stuck(number: int, frame: object) -> None:
    raise Slow(f"no end within {STUCK} s of the processor, or {WAITS} s")


def run_case(name: str, data: bytes) -> tuple[int, float]:
    """The size of what the target read, and the seconds of the processor that it took. Raises what failed."""
    began = time.thread_time()
    signal.setitimer(signal.ITIMER_PROF, STUCK)
    signal.setitimer(signal.ITIMER_REAL, WAITS)
    try:
        size = TARGETS[name](data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.thread_time() - began
    if took > LONGEST:
        raise Slow(f"{took:.1f} s for {size} bytes")
    return size, took


def keep(name: str, data: bytes, error: BaseException, folder: Path = FOUND) -> str:
    """Keep a case that failed, and give the line that tells of it."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = next((one for one in reversed(frames) if "hangdebug" in one.filename), frames[-1])
    where = f"{Path(inner.filename).name}:{inner.lineno}"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-{hashlib.sha256(data).hexdigest()[:10]}").write_bytes(data)
    return f"{name}: {type(error).__name__} at {where}: {str(error)[:160]}"


def by_chance(name: str, seconds: float, seed: int) -> tuple[int, list[str], float, list[str]]:
    """Cases until the time is over: their number, what failed (each place once), the longest, and what was slow."""
    chance, until, known = random.Random(f"{name}{seed}"), time.monotonic() + seconds, Counter[str]()
    cases, longest, failures = 0, 0.0, []
    rates: list[float] = []
    slow: list[tuple[float, int, bytes]] = []
    while time.monotonic() < until:
        data = chance.randbytes(chance.choice((8, 20, 60, MOST)))
        cases += 1
        try:
            size, took = run_case(name, data)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            known[f"{place.filename}{place.lineno}{type(error)}"] += 1
            if known[f"{place.filename}{place.lineno}{type(error)}"] == 1:
                failures.append(keep(name, data, error))
            continue
        longest = max(longest, took)
        if cases % 50 == 0:
            rates.append(took / max(1, size))
        if took > NOTED:
            slow.append((took, size, data))
    usual = statistics.median(rates) if rates else 0.0
    told = [
        f"{name}: {took:.2f} s for {size} bytes, {took / max(1, size) / usual:.0f} times the median: {data.hex()}"
        for took, size, data in slow
        if usual and took / max(1, size) > SLOW * usual
    ]
    return cases, failures, longest, told


def by_hypothesis(name: str, cases: int) -> None:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=MOST))
    def case(data: bytes) -> None:
        run_case(name, data)

    case()


def by_coverage(name: str, seconds: float, seed: int) -> None:
    """Cases until the time is over, those after the first made of those that ran code which none had run before.

    Does not return: atheris ends the process.
    """
    import atheris

    known: set[str] = set()

    def case(data: bytes) -> None:
        try:
            run_case(name, data)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            at = traceback.extract_tb(error.__traceback__)[-1]
            if f"{at.filename}{at.lineno}{type(error)}" not in known:
                known.add(f"{at.filename}{at.lineno}{type(error)}")
                print(f"  {keep(name, data, error)}", flush=True)

    limits = [f"-max_total_time={seconds:.0f}", f"-max_len={MOST}", f"-seed={seed}"]
    atheris.Setup([sys.argv[0], *limits, "-len_control=0", "-timeout=0"], case)
    atheris.Fuzz()


def work(job: tuple[str, float, int]) -> tuple[str, tuple[int, list[str], float, list[str]]]:
    listen_for_stuck()
    return job[0], by_chance(*job)


def listen_for_stuck() -> None:
    faulthandler.enable()
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, stuck)


def guided(names: list[str], seconds: float, seed: int) -> int:
    """Each target by coverage, in a process of its own. Returns 1 where any failed."""
    if len(names) == 1:
        listen_for_stuck()
        by_coverage(names[0], seconds, seed)
    failed = 0
    for name in names:
        command = [sys.executable, __file__, "--atheris", "--targets", name]
        command += ["--seconds", str(seconds), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, check=False, text=True, errors="replace")
        runs = re.search(r"Done (\d+) runs", done.stderr)
        failures = done.stdout.splitlines() if runs else [f"  it ended with {done.returncode}: {done.stderr[-500:]}"]
        print(f"{name:10} {runs[1] if runs else 0:>8} cases  {len(failures):>3} failures", flush=True)
        print(*failures, sep="\n", end="\n" if failures else "")
        failed += len(failures)
    return 1 if failed else 0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=10.0, help="for each target (default: 10)")
    options.add_argument("--targets", default=",".join(TARGETS), help="which, with commas between (default: all)")
    options.add_argument("--seed", type=int, default=int(time.time()), help="the same one makes the same cases")
    options.add_argument("--jobs", type=int, default=1, help="processes side by side")
    options.add_argument("--hypothesis", action="store_true")
    options.add_argument("--atheris", action="store_true")
    options.add_argument("--cases", type=int, default=2000, help="of hypothesis, for each target (default: 2000)")
    given = options.parse_args()
    names = given.targets.split(",")
    if given.atheris:
        return guided(names, given.seconds, given.seed)
    if given.hypothesis:
        listen_for_stuck()
        for name in names:
            by_hypothesis(name, given.cases)
            print(f"{name:10} {given.cases:>8} cases", flush=True)
        return 0
    jobs = [(name, given.seconds, given.seed + number) for name in names for number in range(given.jobs)]
    total, failed = 0, 0
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        for name, (cases, failures, longest, slow) in pool.map(work, jobs):
            total, failed = total + cases, failed + len(failures)
            print(f"{name:10} {cases:>8} cases  {len(failures):>3} failures  longest {longest:.3f} s", flush=True)
            print(*[f"  {line}" for line in (*failures, *slow)], sep="\n", end="\n" if failures or slow else "")
    print(f"{total} cases, {failed} failures, seed {given.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
