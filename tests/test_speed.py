"""What makes the engine fast, as far as it is no noise: what is imported, built, read and looked at, and how often."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Callable

import pytest

import bench
import zoo
from hangdebug import sources
from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.capture import bundle, proc, pyspy
from hangdebug.capture.processes import resolve
from hangdebug.evidence import light, paste
from hangdebug.evidence.bundle import evidence_of_process
from hangdebug.evidence.dumps import pyspy_text
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Snapshot, Thread
from hangdebug.evidence.vocabulary import Role
from hangdebug.observe import observe_briefly
from hangdebug.scene import scene as scenes

ROOT = Path(__file__).resolve().parent.parent
HANG = ROOT / "scripts" / "hang.py"
STACKS = 1 + 40 * 3  # different ones in a dump of tooling/bench.py
MOST_READERS = 4  # share how a frame of py-spy's looks
PASTE = ROOT / "tests" / "dumps" / "lock" / "py311-pyspy043.txt"

# Prints which modules a run of hang.py has imported, and how many of the engine's patterns it has built.
LOADED = """
import re, runpy, sys
built, real, before = [], re.compile, set(sys.modules)
def counted(*recipe):
    built.append(sys._getframe(1).f_globals["__name__"])
    return real(*recipe)
re.compile = counted
script, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit:
    pass
print("\\n", *sorted(set(sys.modules) - before), sum(one.startswith("hangdebug") for one in built))
"""


def loaded(*words: object) -> tuple[set[str], int]:
    command = [sys.executable, "-c", LOADED, HANG, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    *modules, built = done.stdout.splitlines()[-1].split()
    return set(modules), int(built)


@pytest.mark.slow
def test_a_start_imports_the_arguments_alone_and_builds_no_pattern() -> None:
    modules, built = loaded("--version")
    ours = {name for name in modules if name.startswith("hangdebug")}
    assert ours == {"hangdebug", "hangdebug.cli", "hangdebug.cli_arguments", "hangdebug.errors", "hangdebug.files"}
    assert built == 0 and not {"json", "dataclasses", "inspect", "subprocess", "tempfile", "hashlib"} & modules


@pytest.mark.slow
def test_a_paste_needs_neither_a_process_nor_an_archive_nor_a_rewrite() -> None:
    modules, built = loaded("diagnose", PASTE)
    rooms = {name.split(".")[1] for name in modules if name.startswith("hangdebug.")}
    assert rooms == {
        "answer",
        "causes",
        "cli",
        "cli_arguments",
        "errors",
        "evidence",
        "files",
        "report",
        "scene",
        "sources",
    }
    assert not {"tarfile", "zipfile", "psutil", "subprocess", "asyncio", "html", "concurrent.futures"} & modules
    assert 0 < built < 100, "of more than two hundred patterns"


@pytest.mark.slow
def test_no_module_builds_a_pattern_when_it_is_imported() -> None:
    names = [
        ".".join(path.relative_to(ROOT / "scripts").with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "scripts" / "hangdebug").rglob("*.py"))
        if path.name not in ("specimen.py", "__main__.py", "terminal.py")  # programs; it stands left of the stand-in
    ]
    code = (
        "import importlib, json, re, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "built, real = [], re.compile\n"
        "def counted(*recipe):\n"
        "    built.append(sys._getframe(1).f_globals['__name__'])\n"
        "    return real(*recipe)\n"
        "re.compile = counted\n"
        "for name in sys.argv[2:]:\n"
        "    importlib.import_module(name)\n"
        "print([one for one in built if one.startswith('hangdebug')])\n"
    )
    command = [sys.executable, "-c", code, str(ROOT / "scripts"), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_many_sources_are_read_by_all_cpus_and_grouped_as_few_are(tmp_path: Path) -> None:
    names = [tmp_path / f"{number}.txt" for number in range(sources.MANY + 8)]
    for name in names:
        name.write_text(PASTE.read_text())
    command = [sys.executable, HANG, "diagnose", *names, ROOT / "LICENSE", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    (group,) = json.loads(done.stdout)
    assert (group["count"], group["names"]) == (len(names), list(map(str, names)))
    assert group["diagnosis"]["state"] == "loop-blocked" and "LICENSE" in done.stderr


# -- bytecode ------------------------------------------------------------------------------------------


def run(home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_"))}
    return subprocess.run(
        [sys.executable, str(HANG), "--version"], env={**env, "HOME": str(home), **more}, capture_output=True, text=True
    )


def kept_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pyc"))


@pytest.mark.slow
def test_bytecode_is_kept_for_the_user_and_never_beside_the_sources(tmp_path: Path) -> None:
    before = kept_below(ROOT / "scripts")
    assert run(tmp_path).returncode == 0
    first = {path: path.stat().st_mtime_ns for path in kept_below(tmp_path / ".cache" / "backend-hang-debug")}
    assert {path.name.partition(".")[0] for path in first} >= {"cli", "cli_arguments", "errors"}
    assert all("hangdebug" in path.parts for path in first), "the standard library keeps its own"
    assert run(tmp_path).returncode == 0
    assert first == {path: path.stat().st_mtime_ns for path in kept_below(tmp_path)}
    assert kept_below(ROOT / "scripts") == before


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", ["no home", "a file", "everybody's", "unwanted"])
def test_where_bytecode_cannot_be_kept_or_trusted_none_is(tmp_path: Path, spoilt: str) -> None:
    home = tmp_path / "home"
    if spoilt == "a file":
        home.write_text("")
    elif spoilt != "no home":
        (home / ".cache").mkdir(parents=True)
        (home / ".cache").chmod(0o777 if spoilt == "everybody's" else 0o700)
    where = Path(os.devnull) / "home" if spoilt == "no home" else home
    done = run(where, **({"PYTHONDONTWRITEBYTECODE": "1"} if spoilt == "unwanted" else {}))
    assert done.returncode == 0 and not done.stderr and not kept_below(tmp_path)


# -- reading -------------------------------------------------------------------------------------------


def test_each_different_line_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often a line is asked for its frame does not depend on how many threads show it."""
    asked: Counter[str] = Counter()
    real = pyspy_text.one_frame

    def counted(line: str) -> list[Frame]:
        asked[line] += 1
        return real(line)

    monkeypatch.setattr(pyspy_text, "one_frame", counted)
    calls = []
    for threads in (150, 600):
        asked.clear()
        (found,) = paste.read(bench.dump(threads))
        assert len(found.threads) == threads and len({id(one.frames) for one in found.threads}) <= STACKS
        calls.append({line: count for line, count in asked.items() if "(/srv/app" in line})
    assert calls[0] == calls[1]
    assert len(calls[0]) == 40 + 9 and max(calls[0].values()) <= 2 * MOST_READERS


def test_most_readers_are_not_asked_for_a_text_without_a_frame_of_theirs() -> None:
    lines = bench.dump(20).splitlines()
    able = [one for one in paste.READERS if paste.can_speak(getattr(one, "GRAMMAR", None), lines)]
    with_grammar = {one.GRAMMAR.format for one in able if getattr(one, "GRAMMAR", None)}
    assert with_grammar == {"py-spy text", "py-spy-asyncio text", "austin --where"}, "they share how a frame looks"


def test_a_stack_that_many_threads_share_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    viewed: list[Thread] = []
    real = scenes.view_of

    def counted(evidence: Evidence, thread: Thread, role: Role, kernel: KernelWait | None) -> scenes.View:
        viewed.append(thread)
        return real(evidence, thread, role, kernel)

    monkeypatch.setattr(scenes, "view_of", counted)
    (found,) = evidence_of(paste.read(bench.dump(600)))
    one = scenes.scene(found)
    assert len(one.last) == 600 and len(viewed) <= STACKS
    assert scenes.scene(found) is one, "a scene is built once"


# -- looking -------------------------------------------------------------------------------------------

ROW = "{}\tS 1 {} 0\t7\t1\tfutex_wait\t{}\t"
FUTEX, EPOLL = "202 0x7f52 0x189 0x0 0x0 0x0 0x0 0x7ffe 0x7f00", "232 0x5 0x7f60 0x400 {} 0x0 0x0 0x7ffe 0x7f00"
SELECT = (Frame("select", "/usr/lib/python3.11/selectors.py", 468),)
HANDLER = (Frame("acquire", "/srv/app/main.py", 12), Frame("_run", "/usr/lib/python3.11/asyncio/events.py", 80))


def rows(*threads: tuple[int, str, str]) -> proc.Rows:
    """What was read of threads: an id, what tells whether it has run, and its system call."""
    return {tid: (ran, ROW.format(tid, tid, call)) for tid, ran, call in threads}


def stands(look: Snapshot, after: proc.Rows, now: proc.Rows, settled: set[int] | None = None) -> bool:
    return bundle.stand_still(look, set(after) if settled is None else settled, after, now, polls=(5,))


def test_who_has_not_run_is_not_looked_at_again() -> None:
    look = Snapshot((Thread(HANDLER, "MainThread", 1), Thread(SELECT, "loop", 2)))
    after = rows((1, "100 0 3", FUTEX), (2, "50 0 9", EPOLL.format("0x64")))
    assert stands(look, after, dict(after))
    idle_again = {**after, **rows((2, "60 0 10", EPOLL.format("0x31")))}
    assert stands(look, after, idle_again), "the loop polls again, and its stack is the same"


@pytest.mark.parametrize(
    "changed, settled",
    [
        (rows((1, "101 0 4", FUTEX)), None),  # it has run, and may be elsewhere by now
        (rows((1, "100 0 3", FUTEX), (3, "1 0 1", FUTEX)), None),  # a thread has begun
        (rows((1, "100 0 3", FUTEX)), set()),  # the look itself has moved it
        ({}, None),  # it has ended
    ],
)
def test_who_moved_is_looked_at_again(changed: proc.Rows, settled: set[int] | None) -> None:
    look = Snapshot((Thread(HANDLER, "MainThread", 1),))
    assert not stands(look, rows((1, "100 0 3", FUTEX)), changed, settled)


def test_a_loop_that_runs_a_handler_is_looked_at_again() -> None:
    look = Snapshot((Thread(SELECT, "MainThread", 1),))
    after = rows((1, "100 0 3", EPOLL.format("0x64")))
    for call in (FUTEX, "running", "1 0x9 0x7f60 0x400 0x0 0x0 0x0 0x7ffe 0x7f00"):
        assert not stands(look, after, rows((1, "101 0 4", call)))


def test_a_thread_without_a_number_is_looked_at_again() -> None:
    assert not stands(Snapshot((Thread(HANDLER, "MainThread"),)), {}, {})


def test_a_sample_that_repeats_another_is_read_as_that_one() -> None:
    look = json.dumps([{"thread_name": "MainThread", "os_thread_id": 1, "frames": [{"name": "f", "filename": "a.py"}]}])
    texts = {"sample-0.json": look, "sample-1.json": json.dumps({"same_as": "sample-0.json"})}
    found = evidence_of_process(texts, {})
    assert len(found.snapshots) == 2 and found.snapshots[0].threads is found.snapshots[1].threads
    lost = evidence_of_process({"sample-1.json": texts["sample-1.json"], "sample-0.json": look[:20]}, {})
    assert not lost.snapshots, "what it repeats is not there"


@pytest.mark.live
@pytest.mark.parametrize("samples, looks", [(None, 1), (1, 1), (3, 3)])
def test_a_hung_server_is_paused_once_unless_more_is_asked_for(
    samples: int | None, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    real = pyspy.dump

    def counted(pid: int, missed: Callable[[str], object]) -> str:
        taken.append(pid)
        return real(pid, missed)

    monkeypatch.setattr(pyspy, "dump", counted)
    with zoo.hang("lock") as hung:
        (found,) = observe_briefly(resolve(hung.pid), lambda line: None, samples)
    assert len(taken) == looks and len(found.snapshots) == (samples or bundle.SAMPLES)
    assert (diagnose(found).state, diagnose(found).cause) == ("loop-blocked", "lock")


@pytest.mark.live
def test_how_long_a_thread_has_slept_is_known_without_a_look() -> None:
    code = "import threading, time\nprint('ready', flush=True)\nthreading.Event().wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as sleeper:
        try:
            assert sleeper.stdout is not None and sleeper.stdout.readline()
            began = time.monotonic()
            time.sleep(0.6)
            slept = proc.asleep(sleeper.pid, rows_of(sleeper.pid))
            if not slept:
                pytest.skip("this kernel does not say when a thread ran")
            assert set(slept) == {sleeper.pid} and 0.5 < slept[sleeper.pid] < time.monotonic() - began + 0.5
        finally:
            sleeper.kill()
    assert proc.asleep(sleeper.pid, {sleeper.pid: ("", "")}) == {}


def rows_of(pid: int) -> proc.Rows:
    known: proc.Rows = {}
    proc.copy_threads(pid, known)
    return known


# -- the stand-ins that make a start cheap ---------------------------------------------------------------


def test_a_light_dataclass_is_one() -> None:
    @light.dataclass(frozen=True)
    class Place:
        """Two fields that count, and two that do not."""

        file: str
        line: int = 0
        note: str = dataclasses.field(default="", compare=False)
        seen: list[int] = dataclasses.field(default_factory=list, compare=False, repr=False)

        @property
        def text(self) -> str:
            return f"{self.file}:{self.line}"

    one, other = Place("a.py", 3), Place("a.py", line=3, note="here")
    assert one == other and hash(one) == hash(other) and one != Place("a.py") and one != ("a.py", 3)
    assert one.seen == [] and one.seen is not other.seen and one.text == "a.py:3"
    assert repr(other).endswith("Place(file='a.py', line=3, note='here')")
    assert dataclasses.replace(one, line=4) == Place("a.py", 4)
    assert dataclasses.asdict(one) == {"file": "a.py", "line": 3, "note": "", "seen": []}
    assert pickle.loads(pickle.dumps(Frame("f", "a.py", 3))) == Frame("f", "a.py", 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.line = 4
    for wrong in (Place, lambda: Place("a", 1, "", [], 5), lambda: Place("a", lines=3), lambda: Place(lines=3)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        Place("a.py", file="b.py")


def test_a_light_dataclass_that_is_not_frozen_can_be_changed_and_is_no_key() -> None:
    @light.dataclass
    class Draft:
        lines: int = 0

    @light.dataclass(eq=False)
    class Own:
        lines: int = 0

    @light.dataclass(frozen=True)
    class Finished:
        given: int = 2
        twice: int = dataclasses.field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", 2 * self.given)

    assert (Finished().twice, Finished(3).twice) == (4, 6)
    draft = Draft()
    draft.lines += 1
    assert draft == Draft(1) and Own() != Own()
    with pytest.raises(TypeError):
        hash(draft)


def test_a_pattern_is_built_when_it_is_first_asked() -> None:
    one = light.compile(r"(?P<word>\w+)!", light.I)
    assert "built" not in vars(one)
    assert one.match("Halt!")["word"] == "Halt" and "match" in vars(one) and one.groups == 1
