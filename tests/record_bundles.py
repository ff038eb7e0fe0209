"""Hang every server, and keep the evidence of it: tests/bundles/NAME.tar.gz, and what it must say in expected.json.

    python tests/record_bundles.py                 every bundle that is not there yet
    python tests/record_bundles.py sleep lock      those of these servers anew; a bundle's own name does too: sleep@3.9
    python tests/record_bundles.py --all           all of them anew
    python tests/record_bundles.py sleep --python venv39/bin/python --loop uvloop --under gunicorn
                                                   another one of a server, under that Python, loop and program
    python tests/record_bundles.py --judge         hang nothing: let today's engine answer what is there, and keep that

A change to the engine then needs no live server to be judged: tests/test_bundles.py reads all of them in seconds.
NAME is the server's for Python 3.11, asyncio and uvicorn, and SERVER@PYTHON-LOOP-PROGRAM-LOOK where one of these is
another and shows something else. LOOK is the way in which the evidence was taken: who asks for help has rarely all of
it. The Pythons are those that `make zoo` finds; one without packages gets a venv in build/zoo.

A bundle is what observe() keeps, secrets struck out by the engine itself, the paths of this machine replaced.
It is written only if the server hung all the time, the archive says the same as what was taken, that is the truth of
the server, and nothing in it tells of this machine. Each has three tries: on a busy machine a server may hang late.

Of expected.json the truth is what the server says of itself; `golden` is what the engine said when it was written.
Exit status 1 when one could not be recorded, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import getpass
import gzip
import io
import json
import multiprocessing
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts"), str(HERE.parent / "notebooks")]

import capture_dumps
import lab
import postgres
import servers
import test_healthy
import zoo
import zoo_matrix
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import proc as capture_proc
from hangdebug.capture import pyspy
from hangdebug.capture.bundle import PAUSE, SAMPLES, SHORT_PAUSE, capture, sleep_between
from hangdebug.capture.processes import Target, on_port, resolve
from hangdebug.errors import HangError, ours
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read
from hangdebug.observe import observe

OUT = HERE / "bundles"
EXPECTED = OUT / "expected.json"
SUFFIX = ".tar.gz"  # a third of a zip: the samples of one process resemble each other
PLAIN = "3.11"
TRIES, JOBS = 3, 2
COMMON = {"root", "app", "web", "user", "python", "localhost"}  # names of hosts and users, and words of any source
LESS = 0.7  # at most so sure may an answer be that less evidence than usual makes vaguer
SHORT = {"uvicorn --workers 2": "workers", "uvicorn --reload": "reload", "uvicorn in a container": "container"}
# Where the files of a bundle may lie: the application's, its Python's, and what every machine has.
SCRATCH, CHECKOUT = "/srv/scratch", "/srv/checkout"
NEUTRAL = re.compile(r"/(?:srv|usr|dev|proc|memfd:)")
PATH = re.compile(r'"(?:file|filename|cwd)": "(/[^"]*)"|^\d+\t(/\S*)')
# The slash that a path begins with: not one within another path, but maybe the first of a line in a JSON text. It comes
# before its conditions because a literal is found fast.
START = r"/(?:(?<![\w/.]/)|(?<=\\[nt]/))"
PRIVATE = ("/root", "/home", "/tmp", "/Users", "/private")


class Refused(Exception):
    """Why a bundle is not written."""


@dataclass(frozen=True)
class Shot:
    """A bundle to be: a server under a Python's version, an event loop and one of servers.KINDS."""

    server: str
    python: str = PLAIN
    loop: str = "asyncio"
    under: str = "uvicorn"
    look: str = "whole"

    @property
    def name(self) -> str:
        more = [self.loop] * (self.loop != "asyncio") + [SHORT.get(self.under, self.under)] * (self.under != "uvicorn")
        more += [re.sub(r"\W+", "-", self.look)] * (self.look != "whole")
        return f"{self.server}@{'-'.join([self.python, *more])}" if more or self.python != PLAIN else self.server

    @property
    def archive(self) -> Path:
        return OUT / f"{self.name}{'.txt' if self.look in TEXTS else SUFFIX}"


# Where the evidence differs in kind from that of Python 3.11 on asyncio.
MORE = (
    # 3.9: py-spy sees no qualified names and another line for the end of a `with`; a client that leaves cuts the stack.
    *(
        Shot(name, "3.9")
        for name in (
            "aclose",
            "aexit",
            "executor_shutdown",
            "gc",
            "newsdesk",
            "failed_consumer",
            "interpreter_exit",
            "join_in_lock",
            "last_join",
            "leaked_permit",
            "lock",
            "never_set",
            "three_locks",
            "threadpool_limit",
            "unjoined",
            "waiting_streams",
        )
    ),
    # 3.13: a thread is joined in C, without a frame in threading.py.
    *(
        Shot(name, "3.13")
        for name in (
            "thread_join",
            "executor_shutdown",
            "aclose",
            "join_in_lock",
            "last_join",
            "left_behind",
            "interpreter_exit",
            "unjoined",
            "nested_submit",
            "default_executor",
            "parked_pool",
        )
    ),
    # 3.14 keeps its tasks in lists of its own, and 3.15 has the collector and frames of another kind.
    *(
        Shot(name, version)
        for version in ("3.14", "3.15")
        for name in ("executor_shutdown", "gc", "reentered", "threadpool_limit", "unset_event", "none", "slow_requests")
    ),
    # uvloop: the loop is one C frame, and its descriptors are another's.
    *(
        Shot(name, "3.12", "uvloop")
        for name in (
            "sleep",
            "executor_shutdown",
            "threadpool_limit",
            "reentered",
            "none",
            "subprocess",
            "thread_join",
            "regex",
            "run_coroutine_threadsafe",
            "graceful_shutdown",
            "never_set",
            "own_pool",
            "slow_requests",
        )
    ),
    # Behind every server program the process that is ill has to be found among several.
    Shot("sleep", under="uvicorn --workers 2"),
    Shot("reentered", loop="uvloop", under="uvicorn --workers 2"),
    Shot("run_coroutine_threadsafe", under="uvicorn --reload"),
    Shot("threadpool_limit", loop="uvloop", under="uvicorn --reload"),
    Shot("executor_shutdown", under="gunicorn"),
    Shot("none", loop="uvloop", under="gunicorn"),
    Shot("regex", under="hypercorn"),
    Shot("threadpool_limit", loop="uvloop", under="hypercorn"),
    Shot("slow_requests", under="granian"),
    Shot("thread_join", loop="uvloop", under="granian"),
    Shot("subprocess", under="uvicorn in a container"),
    Shot("threadpool_limit", loop="uvloop", under="uvicorn in a container"),
)

# The same with less evidence: one sample ("once"), no second look where the first is in doubt ("capture"), a system
# without /proc ("no kernel"), a capture that ended early, capture.sh, and what Python prints of itself.
LOOKS = (
    Shot("bare_fork", look="no kernel"),
    Shot("lock_order", look="no kernel"),
    Shot("loop_in_ring", look="no kernel"),
    Shot("loop_in_ring", look="once, no kernel"),
    Shot("threadpool_limit", look="sh"),
    Shot("full_house", look="sh"),
    Shot("default_executor", look="sh"),
    Shot("own_pool", look="once, no kernel"),
    Shot("sleep", look="no kernel"),
    Shot("sleep", look="interrupted"),
    Shot("cpu_bound", look="capture"),
    Shot("slow_requests", look="no kernel"),
    Shot("graceful_shutdown", look="sh"),
    Shot("last_call", look="sh"),
    Shot("last_task", look="sh"),
    Shot("reentered", look="cut short"),
    Shot("dns", look="faulthandler"),
    Shot("serialization", look="faulthandler"),
    Shot("sleep", under="uvicorn --workers 2", look="faulthandler"),
    Shot("import_hangs", under="gunicorn"),
    Shot("import_hangs", under="gunicorn", look="no kernel"),
    Shot("import_hangs", under="gunicorn", look="once"),
    Shot("script_start", look="no kernel"),
    Shot("script_start", look="once"),
    Shot("packs_journal", look="once"),
    Shot("shared_lock", look="no kernel"),
    Shot("wsgi_polls", look="capture"),
    *(
        Shot(name, look="capture")
        for name in "bare_future behind_a_slow_one connections_in_coroutines gevent_waits trio_channel".split()
    ),
    Shot("wsgi_naps", look="once"),
)
FIELDS = ("server", "python", "loop", "under", "look")


# -- what to record ------------------------------------------------------------------------------------


def every() -> dict[str, Shot]:
    """All bundles that should be there, by name: those of the lists above, and what was recorded besides."""
    known = [name for folder in (*zoo.FOLDERS, zoo.SITUATIONS) for name in zoo.names(folder)]
    plain, entries = (
        [Shot(name, look=zoo.truth(name).look) for name in known],
        [one for one in expected().values() if one["server"] in known],
    )
    besides = [Shot(*(one[key] for key in FIELDS if key in one)) for one in entries]
    return {shot.name: shot for shot in (*plain, *MORE, *LOOKS, *besides)}


def wanted(names: Iterable[str], everything: bool) -> list[Shot]:
    """Raises LookupError for what is neither a server's name nor a bundle's."""
    shots = every()
    names = [name.replace("-", "_") if "@" not in name else name for name in names]
    for name in names:
        if name not in shots:
            zoo.find(name)
    if names:
        return [shot for shot in shots.values() if {shot.name, shot.server} & set(names)]
    return [shot for shot in shots.values() if everything or not shot.archive.exists() or shot.name not in expected()]


def expected() -> dict[str, Any]:
    return json.loads(EXPECTED.read_text(encoding="utf-8")) if EXPECTED.is_file() else {}


@cache
def python_for(version: str) -> str:
    """A Python of this version with what the servers need. Raises Refused."""
    if zoo_matrix.version_of(sys.executable) == version:
        return sys.executable
    found = next((path for path in zoo_matrix.found_pythons() if zoo_matrix.version_of(path) == version), None)
    if found is None:
        raise Refused(f"there is no Python {version} here")
    try:
        return zoo_matrix.environment(found)
    except (subprocess.CalledProcessError, OSError) as error:
        raise Refused(f"no environment for Python {version}: {error}") from None


# -- recording it --------------------------------------------------------------------------------------


def attempt(shot: Shot, python: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The entry for expected.json once the bundle is written, None where it is not; and what failed."""
    alone = zoo_matrix.busy if zoo.truth(shot.server).state == "loop-busy" else nullcontext()
    failed: list[str] = []
    with alone:  # two servers that burn a CPU would look idle beside each other
        while len(failed) < TRIES:
            try:
                return record(shot, python, last=len(failed) == TRIES - 1), failed
            except (Refused, HangError, lab.LabError, postgres.PostgresError, AssertionError) as error:
                failed.append(" ".join(str(error).splitlines()[:1]))
    return None, failed


def record(shot: Shot, python: str, last: bool) -> dict[str, Any]:
    """Hang, look, compare, write. Raises Refused, and what the zoo and the engine raise."""
    with tempfile.TemporaryDirectory(prefix="bundles-") as scratch:
        folder, partial = Path(scratch) / "evidence", Path(scratch) / shot.archive.name
        env = {"PYTHONFAULTHANDLER": "1"} if shot.look == "faulthandler" else {}
        with zoo.hang(shot.server, python=python, loop=shot.loop, under=shot.under, timeout=40, env=env) as hung:
            with loaded(hung):
                look(hung, shot, folder)
            stays = shot.look not in ENDS and servers.KINDS[shot.under].workers == 1 and not hung.truth.recovers
            if stays and not hung.holds():
                raise Refused("it recovered while it was looked at")
        live = judged(folder / STACKS if shot.look in TEXTS else folder)
        make_neutral(folder, places(hung.truth, python))
        pack(folder, partial)
        told = leaks(partial, names_here())
        if told:
            raise Refused(f"it tells of this machine: {told[0]}")
        truth, kept = truth_of(hung.truth), judged(partial)
        if essence(kept) != essence(live):
            raise Refused(f"the archive says otherwise than what was taken: {essence(live)} became {essence(kept)}")
        wrong = "" if shot.look != "whole" and lesser(kept, truth) else difference(kept, truth)
        if wrong and not (last and hung.truth.needs_kernel):  # that one is written as it is, for nothing better comes
            raise Refused(f"{wrong}, {kept.confidence}: {kept.summary}")
        shot.archive.parent.mkdir(exist_ok=True)
        part = shot.archive.with_name(shot.archive.name + ".part")
        part.write_bytes(partial.read_bytes())
        os.replace(part, shot.archive)
    return {
        "server": shot.server,
        "python": shot.python,
        "loop": shot.loop,
        "under": shot.under,
        **({"look": shot.look} if shot.look != "whole" else {}),
        "truth": truth,
        **({"differs": wrong} if wrong else {}),
        "golden": golden(kept),
    }


@contextmanager
def loaded(hung: zoo.Hung) -> Iterator[None]:
    """A healthy server is looked at under its load, and must answer meanwhile, as in test_healthy.py; a program that
    serves nobody only has to run on."""
    with ExitStack() as stack:
        if hung.truth.state == "healthy" and not hung.truth.ready:
            stack.enter_context(test_healthy.answering(hung.url + (hung.truth.control or "/health")))
            stack.enter_context(test_healthy.asked(hung.url, hung.truth.load))
        yield


def target(hung: zoo.Hung, shot: Shot) -> Target:
    """By pid where that leads to the server, be it through uvicorn's supervisor; by port where others stand between."""
    by_pid = shot.under.startswith("uvicorn") and not servers.KINDS[shot.under].before
    return resolve(hung.pid) if by_pid or hung.truth.ready else on_port(int(hung.url.rpartition(":")[2]))


def look(hung: zoo.Hung, shot: Shot, folder: Path) -> None:
    """Take the evidence into `folder` in the way that the shot names. What is left out was never there."""
    if shot.look == "whole":
        observe(target(hung, shot), folder, lambda line: None)
    elif shot.look in TEXTS:
        folder.mkdir()
        (folder / STACKS).write_text(TEXTS[shot.look](hung), encoding="utf-8")
    elif shot.look == "sh":
        by_shell(hung, folder)
    else:
        where = resolve(hung.ill) if "no kernel" in shot.look else target(hung, shot)
        no_kernel = mock.patch.object(capture_proc, "has_proc", return_value=False)  # as on a system without /proc
        with no_kernel if "no kernel" in shot.look else nullcontext(), suppress(Cut):
            capture(
                where, folder, samples=1 if "once" in shot.look else SAMPLES, pause=CUTS.get(shot.look, sleep_between)
            )


class Cut(Exception):
    """The end of a capture that is cut short."""


def cut(seconds: float) -> bool:
    """Ends a capture as a power cut does, once the first sample is there."""
    if seconds in (PAUSE, SHORT_PAUSE):
        raise Cut
    return sleep_between(seconds)


CUTS = {"cut short": cut, "interrupted": lambda seconds: True}


def by_shell(hung: zoo.Hung, folder: Path) -> None:
    """snippets/capture.sh, for a host that has py-spy and nothing else: no tasks, no queues, no lines of code."""
    command = ["sh", str(HERE.parent / "snippets" / "capture.sh"), str(hung.pid), str(folder)]
    path = os.pathsep.join([str(Path(pyspy.program()).parent), os.environ["PATH"]])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if done.returncode:
        raise Refused(f"capture.sh says {done.stderr.strip()}")


def faulthandler(hung: zoo.Hung) -> str:
    """What Python prints of all threads when it is aborted: no names, no lines of code, nothing of the kernel."""
    size = hung.server.log.stat().st_size
    os.kill(hung.pid, signal.SIGABRT)
    hung.server.process.wait(20)
    return hung.server.log.read_bytes()[size:].decode()


def debug_log(hung: zoo.Hung) -> str:
    """What a program has logged in asyncio's debug mode: which steps were long."""
    lines = hung.server.log.read_text(encoding="utf-8").splitlines(True)
    return "".join(line for line in lines if line.startswith("Executing "))


STACKS = "stacks.txt"
TEXTS = {"faulthandler": faulthandler, "log": debug_log}  # what people paste
ENDS = ("faulthandler",)  # the process is gone afterwards


def pack(folder: Path, archive: Path) -> None:
    """The files of `folder` as a .tar.gz that is the same whenever and by whomever it is packed; a text as it is."""
    if (folder / STACKS).is_file():
        archive.write_bytes((folder / STACKS).read_bytes())
        return
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as opened:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = tarfile.TarInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")
            info.size = file.stat().st_size
            opened.addfile(info, io.BytesIO(file.read_bytes()))
    archive.write_bytes(gzip.compress(raw.getvalue(), 9, mtime=0))


# -- nothing of this machine ---------------------------------------------------------------------------


def make_neutral(folder: Path, names: Mapping[str, str]) -> None:
    """Replace the paths of this machine in every file, and what the manifest says of its kernel."""
    drawn = re.compile(rf"{beginning([tempfile.gettempdir()])}/(?:zoo|lab|postgres|bundles)-\w+")
    known = re.compile(beginning(names) + r"(?=[/\s\"'):,\\]|$)")
    for file in (path for path in folder.rglob("*") if path.is_file()):
        text = drawn.sub(SCRATCH, file.read_text(encoding="utf-8"))
        file.write_text(known.sub(lambda one: names[one[0]], text), encoding="utf-8")
    if not (folder / "manifest.json").is_file():
        return
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["platform"] = f"{platform.system()}-{platform.machine()}"
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def beginning(paths: Iterable[str]) -> str:
    """The pattern of a path that begins as one of these does."""
    return f"{START}(?:{'|'.join(re.escape(path[1:]) for path in paths)})"


def places(truth: zoo.Truth, python: str) -> dict[str, str]:
    """Paths of this machine and the neutral ones, longest first. Whose a frame is still shows in what follows them."""
    known = dict(interpreter(python).places)
    known.update({os.path.realpath(path): name for path, name in known.items()})
    known.update({str(HERE.parent): CHECKOUT, str(truth.folder): "/srv/app"})
    return dict(sorted(known.items(), key=lambda one: -len(one[0])))


@cache
def interpreter(python: str) -> capture_dumps.Interpreter:
    return capture_dumps.interpreter(python)


def names_here() -> list[str]:
    """Of this host, its kernel and its user, those that stand in no bundle by right."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have no name
        user = ""
    return [name for name in (socket.gethostname(), platform.release(), user) if name and name not in COMMON]


def leaks(archive: Path, words: Iterable[str] = ()) -> list[str]:
    """What in an archive tells of the machine it was recorded on: its paths, and any of `words`."""
    lines: dict[str, str] = {}  # the samples of one process have few different ones
    for name, text in texts(archive):
        lines.update({line: lines.get(line, name) for line in text.splitlines()})
    return [f"{name}: {told}" for line, name in lines.items() for told in telling(line, tuple(words))]


def telling(line: str, words: tuple[str, ...] = ()) -> list[str]:
    strange = [path for pair in PATH.findall(line) for path in pair if path and not NEUTRAL.match(path)]
    return strange + [line.strip()[:160]] * any(one.search(line) for one in private(words))


@cache
def private(words: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """What no text may hold: the paths of this machine and of most others, and these words."""
    here = (str(HERE.parent), str(Path.home()), tempfile.gettempdir(), os.path.realpath(sys.prefix), sys.base_prefix)
    paths = [*PRIVATE, *(path for path in here if len(path) > 1 and not NEUTRAL.match(path))]
    return tuple(map(re.compile, (rf"{beginning(paths)}\b", *(rf"\b{re.escape(word)}\b" for word in words))))


def texts(archive: Path) -> Iterator[tuple[str, str]]:
    if archive.suffix == ".txt":
        yield archive.name, archive.read_text(encoding="utf-8")
        return
    with tarfile.open(archive, "r:gz") as opened:
        for member in opened:
            yield member.name, opened.extractfile(member).read().decode("utf-8")


# -- what it says --------------------------------------------------------------------------------------


def judged(file: Path) -> Diagnosis:
    return worst(map(diagnose, evidence_in(file)))


def evidence_in(file: Path) -> tuple[Evidence, ...]:
    """What is kept of one shot: a bundle, or a text as people paste it."""
    return evidence_of(read(file.read_text(encoding="utf-8"))) if file.suffix == ".txt" else read_bundle(file)


def truth_of(truth: zoo.Truth) -> dict[str, Any]:
    return {"state": truth.state, "cause": truth.cause, "marked": [list(place) for place in truth.marked]}


def golden(answer: Diagnosis) -> dict[str, Any]:
    """What the engine says of it today. `process` is the one of several that is named."""
    return {
        **essence(answer),
        "process": answer.process.pid,
        "summary": answer.summary,
        "evidence": list(answer.evidence),
        "doubts": [without_place(doubt) for doubt in answer.doubts],
    }


def without_place(text: str) -> str:
    """The text, its commands without the place of this tree and of this Python."""
    return text.replace(ours(), "python scripts/hang.py")


def essence(answer: Diagnosis) -> dict[str, Any]:
    frame = answer.blocking_frame
    return {
        "state": answer.state,
        "cause": answer.cause,
        "frame": f"{frame.function}:{frame.line}" if frame else None,
        "confidence": answer.confidence,
    }


def difference(answer: Diagnosis, truth: Mapping[str, Any]) -> str:
    """What an answer says otherwise than the server; "" where state, cause and frame are right."""
    if (answer.state, answer.cause) != (truth["state"], truth["cause"]):
        return f"{answer.state}, {answer.cause}, which is {truth['state']}, {truth['cause']}"
    frame, marked = answer.blocking_frame, truth["marked"]
    if marked and not (frame and any(frame.file.endswith(file) and frame.line == line for file, line in marked)):
        return f"{f'{frame.file}:{frame.line}' if frame else 'no frame'}, where {marked} is marked"
    return ""


def lesser(answer: Diagnosis, truth: Mapping[str, Any]) -> bool:
    """Whether less evidence than usual says less, with a doubt: nothing for sure, or no more than that it waits."""
    doubtful = answer.confidence <= LESS and bool(answer.doubts)
    quiet = answer.state in ("healthy", "inconclusive")
    vague = answer.state == truth["state"] and (answer.cause in ("other", "cpu-bound") or answer.blocking_frame is None)
    return doubtful and (quiet or vague)


def judge() -> int:
    """Let today's engine answer every bundle that is there, and keep what is true. How many answers are not."""
    entries, wrong = expected(), 0
    for name, entry in entries.items():
        archive = every()[name].archive
        if not archive.is_file():
            print(f"{name}: there is no {archive.name}. Next: make bundles", file=sys.stderr)
            wrong += 1
            continue
        answer = judged(archive)
        less = "look" in entry and lesser(answer, entry["truth"])
        differs = "" if less else difference(answer, entry["truth"])
        if differs and not entry.get("differs"):
            print(f"{name}: {differs}; what was kept of it stays", file=sys.stderr)
            wrong += 1
            continue
        if golden(answer) != entry["golden"]:
            print(f"{name}: {', '.join(map(str, essence(answer).values()))}")
        entry["golden"] = golden(answer)
    write(entries)
    return wrong


def write(entries: Mapping[str, Any]) -> None:
    EXPECTED.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", encoding="utf-8")


# -- the command line ----------------------------------------------------------------------------------


def run(todo: list[tuple[Shot, str]], jobs: int) -> list[str]:
    """Record them; every entry is kept as it comes, so that a later run goes on. The names of those that failed."""
    lost = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        started = {pool.submit(attempt, shot, python): shot for shot, python in todo}
        for number, done in enumerate(as_completed(started), 1):
            shot, (entry, failed) = started[done], done.result()
            for why in failed:
                print(f"  {shot.name}: {why}", file=sys.stderr, flush=True)
            if entry is None:
                lost.append(shot.name)
                continue
            write({**expected(), shot.name: entry})
            size = f"{shot.archive.stat().st_size / 1024:.1f} KB"
            said = ", ".join(map(str, list(entry["golden"].values())[:4]))
            print(f"{number}/{len(todo)}  {shot.name}  {size}  {said}  {entry.get('differs', '')}".rstrip(), flush=True)
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a server or a bundle to record anew")
    parser.add_argument("--python", metavar="PATH", help="record the named servers (default: all) under it besides")
    parser.add_argument("--loop", choices=zoo_matrix.LOOPS, help="the same on this event loop")
    parser.add_argument("--under", choices=servers.KINDS, help="the same under this server program")
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many at once (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="record all of them anew")
    parser.add_argument("--judge", action="store_true", help="only answer anew what was recorded")
    options = parser.parse_args()
    if options.judge:
        return 1 if judge() else 0
    try:
        shots = wanted(options.names, options.all)
        if options.python or options.loop or options.under:
            version = zoo_matrix.version_of(options.python) if options.python else PLAIN
            if not version:
                parser.error(f"{options.python} is no Python")
            chosen = dict.fromkeys(shot.server for shot in (shots if options.names else every().values()))
            shots = [Shot(name, version, options.loop or "asyncio", options.under or "uvicorn") for name in chosen]
    except LookupError as error:
        parser.error(str(error.args[0]))
    todo, lost = [], []
    for shot in shots:
        try:
            python = options.python or python_for(shot.python)
            why = zoo.missing(shot.server) or servers.missing(shot.under, python)
            if why:
                raise Refused(why)  # noqa: TRY301
            todo.append((shot, python))
        except (Refused, LookupError) as error:
            print(f"  {shot.name}: {error}", file=sys.stderr)
            lost.append(shot.name)
    lost += run(todo, max(1, options.jobs))
    if lost:
        print(f"{len(lost)} not recorded: {' '.join(lost)}", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nrecord_bundles: interrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
