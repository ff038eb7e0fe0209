"""asyncio's tasks out of a live process: read exactly, on every Python at hand, and without disturbing it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import servers
from hangdebug.capture.interpreter import layout, tasks
from hangdebug.capture.interpreter.coroutines import Moved
from hangdebug.capture.interpreter.layout import TASK_LISTS_SINCE, measured_specimen
from hangdebug.capture.interpreter.memory import Memory, Unreadable, open_memory
from hangdebug.capture.interpreter.objects import KNOWN_ROWS, Objects
from hangdebug.capture.interpreter.runtimes import runtime_of
from hangdebug.capture.interpreter.tasks import failed_tasks_of, layout_for, tasks_of, walk
from hangdebug.evidence.model import Task

KNOWN = Path(__file__).with_name("known_tasks.py")


def pythons() -> list[Path]:
    """The interpreters of this machine that can be walked, one for each version and build."""
    return [Path(path) for version, path in sorted(servers.pythons().items()) if (3, 9) <= version[:2] <= (3, 15)]


@pytest.fixture(params=pythons(), ids=str)
def python(request) -> Path:
    return request.param


@contextmanager
def running(python: Path, *args: str) -> Iterator[int]:
    """known_tasks.py, once it has said that its tasks wait; the pid."""
    with subprocess.Popen([str(python), str(KNOWN), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"waiting\n"
            yield process.pid
        finally:
            process.kill()


def marked(name: str) -> int:
    """The line of known_tasks.py that ends in `# NAME`."""
    lines = KNOWN.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {name}"))


def by_name(pid: int) -> dict[str, Task]:
    """Nothing is started for it, but for a Python that is not known yet."""
    if not is_known(pid):
        tasks.probe(pid)
    found = tasks_of(pid)
    assert found.note == ""
    assert len({task.name for task in found.tasks}) == len(found.tasks)
    return {task.name: task for task in (*found.tasks, *failed_tasks_of(pid))}


def is_known(pid: int) -> bool:
    """Whether it is a version of which a row is on file."""
    found = runtime_of(pid)
    return found is not None and tuple(map(int, (found.version or "0").split("."))) in KNOWN_ROWS


def own(task: Task) -> list[tuple[str, int | None]]:
    """The frames in known_tasks.py, innermost first."""
    return [(frame.name, frame.line) for frame in task.frames if frame.file == str(KNOWN)]


@pytest.mark.live
def test_known_tasks_are_read_exactly(python: Path) -> None:
    with running(python) as pid:
        found = by_name(pid)
    assert set(found) == {
        "twice",
        "list\u00e9n",
        "flag",
        "nap",
        "deep",
        "timed",
        "put",
        "bad",
        "main",
        "inner",
        "subclass",
        "manager",
        "generator",
        "door",
        "swallow",
        "late",
        "several",
        "both",
        "stack",
        "ready",
    }
    assert own(found["twice"]) == [("enter_twice", marked("twice"))]
    assert own(found["list\u00e9n"]) == [("source", marked("source")), ("listen", marked("listen"))]
    assert own(found["flag"]) == [("wait_for_flag", marked("flag"))]
    assert own(found["deep"]) == [("deep", marked("bottom")), *[("deep", marked("deeper"))] * 30]
    assert own(found["timed"]) == [("timed", marked("timed"))]
    assert own(found["main"]) == [("main", marked("main")), ("outer", marked("outer"))]
    assert [frame.name for frame in found["nap"].frames] == ["sleep"]
    assert [frame.name for frame in found["twice"].frames][:2] == ["acquire", "__aenter__"]
    assert {name for name, task in found.items() if task.timed} == {"timed", "nap"}
    assert found["bad"].state == "failed: ValueError: spoilt" and not found["bad"].frames
    assert (found["bad"].coroutine, found["bad"].ends) == ("Jobs.end_badly", {"set"})
    assert all(task.state == "pending" for name, task in found.items() if name != "bad")


@pytest.mark.live
def test_what_they_wait_for_is_named_with_its_counts(python: Path) -> None:
    with running(python) as pid:
        found = by_name(pid)
    lock = found["twice"].awaits
    assert (lock.kind, lock.method, lock.counts) == ("Lock", "__aenter__", {"locked": 1, "waiters": 1})
    assert found["twice"].inside == (lock.id,)
    assert str(found["flag"].awaits) == "Event.wait (set 0, waiters 1)"
    assert found["list\u00e9n"].waits_on.startswith("Queue.get (items 0, maxsize 0, getters 1, putters 0")
    assert found["put"].waits_on.startswith("Queue.put (items 1, maxsize 1, getters 0, putters 1")
    assert found["nap"].awaits.kind == "timer"
    assert (found["deep"].awaits.kind, found["main"].awaits.kind) == ("Future", "Task")
    assert found["main"].awaits.id == found["inner"].id
    assert "release" in found["inner"].ends and not found["twice"].ends
    assert str(found["subclass"].awaits) == "Semaphore.acquire (permits 0, waiters 1)"


@pytest.mark.live
def test_who_is_inside_of_a_lock_is_seen_through_managers_and_generators(python: Path) -> None:
    with running(python) as pid:
        found = by_name(pid)
    door = found["door"].awaits
    assert (door.kind, door.counts) == ("Semaphore", {"permits": 0, "waiters": 1})
    assert {name for name, task in found.items() if door.id in task.inside} == {"manager", "generator"}


@pytest.mark.live
@pytest.mark.parametrize("kind", ["", "pure"])
def test_what_ends_a_wait_is_seen(python: Path, kind: str) -> None:
    with running(python, *filter(None, [kind])) as pid:
        found = by_name(pid)
    assert {name for name, task in found.items() if task.expired} == {"late"} and not found["late"].timed
    assert {name for name, task in found.items() if task.ready} == {"ready"}
    assert found["several"].awaits.of == (found["swallow"].id,) and not found["several"].timed
    assert found["swallow"].id in found["both"].awaits.of
    assert len(found["stack"].inside) == 1 and found["stack"].inside != found["manager"].inside
    assert found["stack"].holds[-1].endswith("gateway") and not found["door"].holds
    assert found["bad"].state == "failed: ValueError: spoilt" and found["nap"].awaits.kind == "timer"


@pytest.mark.live
def test_the_names_are_as_py_spy_prints_them(python: Path) -> None:
    with running(python) as pid:
        names = {task.frames[-1].function for task in by_name(pid).values() if task.frames}
        version = layout_for(pid).version
    assert ("Jobs.listen" in names) == (version >= (3, 11)) and ("listen" in names) == (version < (3, 11))


@pytest.mark.live
def test_a_thousand_tasks_take_less_than_a_second_and_do_not_disturb(python: Path) -> None:
    with running(python, "1000") as pid:
        known = layout_for(pid)
        before = settled(pid)
        began = time.monotonic()
        found = tasks_of(pid, known)
        took = time.monotonic() - began
        assert switches(pid) == before
    assert len(found.tasks) == (1020 if known.version < TASK_LISTS_SINCE else 1019) and took < 1.0  # one has ended


def settled(pid: int) -> list[str]:
    """The counters once they rest: the target has gone back to its wait."""
    before, now = [], switches(pid)
    while before != now:
        time.sleep(0.05)
        before, now = now, switches(pid)
    return now


def switches(pid: int) -> list[str]:
    return [
        line
        for task in sorted(Path(f"/proc/{pid}/task").iterdir())
        for line in (task / "status").read_text().splitlines()
        if "ctxt_switches" in line
    ]


@contextmanager
def with_lists() -> Iterator[int]:
    """known_tasks.py under an interpreter that keeps its tasks in lists. Skips where there is none."""
    found = [path for version, path in sorted(servers.pythons().items()) if version >= (3, 14)]
    if not found:
        pytest.skip("no Python newer than 3.13 is here. Next: python tests/newer_python.py")
    with running(Path(found[0])) as pid:
        yield pid


@pytest.mark.live
def test_a_list_that_is_changed_while_it_is_read_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node's two neighbours must name it; then the interpreter is asked itself."""
    with with_lists() as pid:
        monkeypatch.setattr(tasks, "layouts", {})
        monkeypatch.setattr(tasks, "known_layout", lambda pid: None)
        tasks.probe(pid)
        nodes = [task.id + layout_for(pid).task_node for task in tasks_of(pid).tasks]
        honest = Memory.word
        monkeypatch.setattr(Memory, "word", lambda self, at: honest(self, at) + 16 * (at == nodes[3] + 8))
        with pytest.raises(Moved), open_memory(pid) as memory:
            walk(Objects(memory, layout_for(pid)), pid)
        found = tasks_of(pid)
        known = layout_for(pid)
        monkeypatch.setattr(tasks, "layouts", {})
        assert tasks_of(pid, known).note == tasks.MOVED  # nothing is started that was not asked for
    assert found.note == layout.NOTE and len(found.tasks) == len(nodes)


@pytest.mark.live
def test_lists_that_do_not_prove_themselves_are_left_to_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    with with_lists() as pid:
        with measured_specimen(pid) as one:
            for field in ("threads", "left_tasks", "next_thread", "thread_tasks", "task_node", "collector", "items"):
                wrong = replace(one.layout, **{field: getattr(one.layout, field) + 512})
                with pytest.raises((Unreadable, AssertionError, LookupError)):
                    tasks.check_layout(replace(one, layout=wrong))
        monkeypatch.setattr(tasks, "layouts", {})
        monkeypatch.setattr(tasks, "known_layout", lambda pid: None)
        monkeypatch.setattr(tasks, "check_layout", lambda one: (_ for _ in ()).throw(Unreadable("odd")))
        tasks.probe(pid)
        found = tasks_of(pid)
    assert found.note == layout.NOTE and found.tasks


@pytest.mark.live
def test_the_tasks_of_a_known_python_are_read_with_nothing_started(python: Path, monkeypatch) -> None:
    def refuse(*words: object, **options: object) -> None:
        raise AssertionError("something was started")

    with running(python) as pid:
        monkeypatch.setattr(subprocess, "Popen", refuse)
        if not is_known(pid):
            pytest.skip(f"{python} is of a version that has to be measured; --probe-interpreter does it")
        tasks.probe(pid)
        found = tasks_of(pid)
        monkeypatch.undo()
    assert found.note == "" and len(found.tasks) == (19 if "3.14" in str(python) or "3.15" in str(python) else 20)


@pytest.mark.live
def test_an_unknown_interpreter_is_started_when_asked_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []
    whole = tasks.measured_specimen
    monkeypatch.setattr(tasks, "measured_specimen", lambda pid: begun.append(pid) or whole(pid))
    monkeypatch.setattr(tasks, "layouts", {})
    monkeypatch.setattr(tasks, "known_layout", lambda pid: None)
    with (
        running(Path(sys.executable)) as one,
        running(Path(sys.executable)) as other,
        ThreadPoolExecutor(4) as pool,
    ):
        unasked = list(map(tasks_of, (one, other)))
        assert not begun and all(one.note.endswith(tasks.NOT_KNOWN) and not one.tasks for one in unasked)
        for pid in (one, other):
            tasks.probe(pid)
        found = list(pool.map(tasks_of, (one, other, one, other)))
    assert len(begun) == 1 and all(len(reading.tasks) == 20 for reading in found)


@pytest.mark.live
def test_a_process_without_asyncio_has_no_tasks() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            process.stdout.readline()
            found = tasks_of(process.pid)
        finally:
            process.kill()
    assert (found.tasks, found.note) == ((), "")


@pytest.mark.live
def test_what_cannot_be_read_is_a_note() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert "were not read" in tasks_of(ended.pid).note
    with subprocess.Popen(["sleep", "30"]) as other:
        try:
            found = tasks_of(other.pid)
        finally:
            other.kill()
    assert (found.tasks, found.note) == ((), f"its asyncio tasks were not read: {tasks.NOT_KNOWN}")


class Spoilt(Memory):
    """Memory in which every `period`-th word that is asked for reads as another address."""

    def word(self, at: int) -> int:
        found = super().word(at)
        self.pages[-1] = self.pages.get(-1, b"") + b"."
        asked = len(self.pages[-1])
        return found ^ (0xFF << (asked % 48)) if asked % self.pages[-2][0] == 0 else found


@pytest.mark.live
@pytest.mark.parametrize("period", [3, 7, 20, 50, 100, 173, 251])
def test_spoilt_memory_gives_fewer_tasks_and_never_an_error(period: int) -> None:
    with running(Path(sys.executable), "50") as pid:
        known = layout_for(pid)
        with open_memory(pid) as memory:
            spoilt = Spoilt(memory.descriptor, {-2: bytes([period])})
            began = time.monotonic()
            try:
                found = walk(Objects(spoilt, known), pid).tasks
            except Unreadable:
                found = ()
            assert time.monotonic() - began < 5
            whole = walk(Objects(memory, known), pid).tasks
    assert len(found) <= len(whole) == 70


@pytest.mark.live
def test_a_layout_that_does_not_prove_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Path(sys.executable)) as pid, measured_specimen(pid) as one:
        tasks.check_layout(one)
        for field in (
            "lasti",
            "code_file",
            "task_coroutine",
            "future_state",
            "shared_keys",
            "modules",
            "future_exception",
        ):
            wrong = replace(one.layout, **{field: getattr(one.layout, field) + 8})
            with pytest.raises(Unreadable):
                tasks.check_layout(replace(one, layout=wrong))


@pytest.mark.live
@pytest.mark.parametrize(
    "says",
    [
        '{"version": [3, 11]}',
        '{"version": "x"}',
        "[]",
        "{" * 5000,
        "",
        '{"version": [3, 11], "implementation": "cpython", "bits": 64, "flags": "", "runtime": "x"}',
        '{"version": [3, 13], "implementation": "cpython", "bits": 64, "flags": "t"}',
    ],
)
def test_an_interpreter_that_says_something_else_is_a_note(says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "first_line", lambda process, seconds: says.encode())
    monkeypatch.setattr(tasks, "layouts", {})  # what fails here is not to be remembered by the next test
    monkeypatch.setattr(tasks, "known_layout", lambda pid: None)
    with running(Path(sys.executable)) as pid:
        tasks.probe(pid)
        found = tasks_of(pid)
    assert found.tasks == () and "were not read" in found.note and tasks.NOT_KNOWN not in found.note
