"""Write an evidence bundle. Each part is on disk before the next is taken: a process may die half way."""

from __future__ import annotations

import datetime
import json
import platform
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from hangdebug import __version__, files
from hangdebug.capture import proc, processes, pyspy, redact
from hangdebug.capture.functions import functions_that_end_waits
from hangdebug.capture.interpreter import stacks, tasks
from hangdebug.capture.interpreter.awaited import COUNTS
from hangdebug.capture.interpreter.tasks import queues_of
from hangdebug.errors import BadRequest, HangError, NoProcess, NotPermitted, ours
from hangdebug.evidence import light as re
from hangdebug.evidence.bundle import SAME, STOPPED
from hangdebug.evidence.dumps.pyspy_json import native_frame
from hangdebug.evidence.frames import calls, is_application, is_parked, role_of, supervises
from hangdebug.evidence.kernel import parse_reading
from hangdebug.evidence.libraries import POLL
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Process, Snapshot, Task, Thread
from hangdebug.evidence.paste import read
from hangdebug.evidence.source import add_excerpts

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FORMAT = "backend-hang-debug evidence"
READINGS, FEW_READINGS, READING_PAUSE = 4, 2, 0.1  # few for one quick look
SAMPLES, PAUSE = 5, 0.12
LONG = 0.5  # seconds that the samples span: who has not run for so long need not be watched for as long again
SHORT_READING_PAUSE, SHORT_PAUSE = 0.02, 0.03
SETTLES = 0.005  # seconds in which a thread that was interrupted by a look is back in its wait
MOST_SECONDS = 3.0
AT_ONCE = 8  # processes
RATE, LOW_RATE, MANY_THREADS = 200, 20, 300  # samples a second; the lower rate for a process with many threads

ONE_OF_MANY = (
    "the process holds {} interpreters, and py-spy reads only the newest: no thread or loop of the others is here"
)
WRONG_IDS = "py-spy gave {} of its threads the number of its parent's, as it does after a fork; they were corrected"
TRACED = "process {} ({}) traces it, and has to let go before anybody else can pause it"
NOT_PAUSED = "a thread of it waits where the kernel lets nobody pause it (state D), so it was read while it ran"

KERNEL_ROWS = re.compile(r"kernel-[\w-]+\.tsv$")  # numbers and names of the kernel's own: nothing to strike out
CLEANERS = {"sources.json": redact.clean_sources}

manifest_lock = threading.RLock()  # processes are looked at side by side

Say = Callable[[str], None]
Pause = Callable[[float], bool]


def sleep_between(seconds: float) -> bool:
    """Between two looks. A caller's own can count them, and ends the capture early by giving True."""
    time.sleep(seconds)
    return False


def capture(
    target: processes.Target,
    folder: Path,
    samples: int | None = None,
    say: Say = lambda line: None,
    pause: Pause = sleep_between,
) -> Path:
    """Evidence of every process in `target`, one folder each below `folder`; returns `folder`.

    With `samples` so many looks are taken; else as many samples as SAMPLES, and a look only where somebody moved.
    What was taken stays when a process ends half way, or when `pause` says to stop, which one sample precedes.
    Raises HangError when no process could be read.
    """
    pyspy.program()
    start_folder(folder)
    with files.thread_pool(1) as pool:
        version = pool.submit(pyspy.version)
        failed = capture_processes(target, folder, samples, say, pause)
    change_manifest(folder, py_spy=version.result())
    for pid, error in failed:
        add_note(folder, f"process {pid}: {error.what} {error.why}".strip())
        say(f"process {pid}: {error.what}")
    if (failed and not any(folder.glob("*/process.json"))) or len(failed) == len(target.workers):
        clear(folder, target.workers)
        raise failed[0][1]
    return folder


def capture_processes(
    target: processes.Target, folder: Path, samples: int | None, say: Say, pause: Pause
) -> list[tuple[int, HangError]]:
    """The evidence of all processes, side by side: most of the time is waiting. Those that could not be read."""
    seen = threading.Event()  # the supervisor's first sample tells whether the processes below it are its workers

    def pause_or_end(seconds: float) -> bool:
        return pyspy.ending.is_set() or pause(seconds)

    def attempt(pid: int) -> tuple[int, HangError] | None:
        try:
            capture_process(pid, target.supervisor, folder, samples, say, seen, pause_or_end)
        except HangError as error:
            return pid, error
        finally:
            seen.set()
        return None

    with side_by_side() as pool:
        first = [pool.submit(attempt, pid) for pid in target.workers if pid == target.supervisor]
        if first:
            seen.wait()
        others = [pool.submit(attempt, pid) for pid in processes_below(target, folder)]
        return [failed for failed in (done.result() for done in first + others) if failed]


@contextmanager
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    """Threads for what is looked at at once. Where the block is interrupted, what they have begun is ended soon."""
    pool = files.thread_pool(AT_ONCE + 1)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pyspy.ending.set()
        raise
    finally:
        with files.uninterrupted():
            pool.shutdown(cancel_futures=True)  # nothing is left of them, but where the block was interrupted
            pyspy.ending.clear()


def processes_below(target: processes.Target, folder: Path) -> list[int]:
    """The target's processes but its supervisor; where that runs a loop itself, only a child that is stuck for good."""
    children = [pid for pid in target.workers if pid != target.supervisor]
    if target.supervisor is None or not runs_a_loop(folder / str(target.supervisor)):
        return children
    add_note(
        folder,
        f"process {target.supervisor} runs an event loop itself: its children were not examined, unless they are stuck",
    )
    return [child for child in children if proc.is_stuck_alone(child)][:1]


def runs_a_loop(place: Path) -> bool:
    """Whether the first sample in `place` shows the event loop of a server, which is no mere supervisor."""
    file = place / "sample-0.json"
    return file.is_file() and any(
        role_of(thread, snapshot) == "event-loop" and not supervises(snapshot)
        for snapshot in read(file.read_text())
        for thread in snapshot.threads
    )


def start_folder(folder: Path) -> None:
    """Raises BadRequest where evidence would be mixed with something else."""
    other = ours("capture", "--pid", "PID", "--out", "ANOTHER_FOLDER")
    files.make_folder(folder)
    if has_entries(folder):
        raise BadRequest(f"{folder} is not empty.", "Evidence of two moments must not be mixed.", other)
    here = platform.uname()  # platform.platform() would start `uname -p`
    taken = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    manifest = {
        "format": FORMAT,
        "version": 1,
        "taken": taken,
        "tool": __version__,
        "platform": f"{here.system}-{here.release}-{here.machine}",
        "notes": [],
        "removed": {},
    }
    write_part(folder / "manifest.json", json.dumps(manifest, indent=1))


def clear(folder: Path, pids: tuple[int, ...]) -> None:
    """Remove what a capture in vain has begun: the next one, as root perhaps, may then go to the same folder."""
    if any(folder.glob("*/sample-*.json")):
        return
    for pid in pids:
        shutil.rmtree(folder / str(pid), ignore_errors=True)
    with suppress(OSError):
        (folder / "manifest.json").unlink()
        folder.rmdir()


def has_entries(folder: Path) -> bool:
    """Raises CannotWrite."""
    try:
        return any(folder.iterdir())
    except OSError as error:
        raise files.cannot_write(folder, error) from error


def add_note(folder: Path, text: str) -> None:
    with manifest_lock:
        change_manifest(folder, notes=[*json.loads((folder / "manifest.json").read_text())["notes"], text])


def change_manifest(folder: Path, **rows: object) -> None:
    path = folder / "manifest.json"
    with manifest_lock:
        write_part(path, json.dumps({**json.loads(path.read_text()), **rows}, indent=1))


def add_remark(place: Path, text: str) -> None:
    """A note of one process alone, in its own folder; the same one is kept once."""
    path = place / "remarks.txt"
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    if f"{text}\n" not in known:
        write_part(path, f"{known}{text}\n")


def capture_process(
    pid: int, supervisor: int | None, folder: Path, samples: int | None, say: Say, seen: threading.Event, pause: Pause
) -> None:
    """The evidence of one process. The kernel speaks first, for attaching can end the very wait.

    `seen` is set when the first sample is on disk.
    """
    place = folder / str(pid)
    seen_as[pid] = proc.identity(pid)
    process = processes.facts(pid, supervisor)
    files.make_folder(place)
    write_part(place / "process.json", json.dumps(asdict(process), indent=1))
    runtime = processes.runtime_or_none(pid)
    from_memory = stacks.better_from_memory(pid, runtime)
    if runtime is not None and (runtime.interpreters or 0) > 1 and not from_memory:
        add_remark(place, ONE_OF_MANY.format(runtime.interpreters))
    began, tracer = time.monotonic(), proc.tracer_of(pid)
    known: proc.Rows = {}
    quiet, before = False, ""
    if proc.has_proc(pid):
        for name, text in proc.copy_objects(pid, process.listening).items():
            write_part(place / name, text)
        count = FEW_READINGS if samples == 1 else READINGS
        for index in range(count):
            before = kernel_rows(pid, known)
            write_part(place / f"kernel-before-{index}.tsv", before)
            quiet = quiet or min(proc.asleep(pid, known).values(), default=0) > LONG
            late = time.monotonic() - began > MOST_SECONDS / 3
            if late or index == count - 1 or pause(SHORT_READING_PAUSE if quiet else READING_PAUSE):
                break
        write_part(place / "shared.tsv", proc.copy_sharers(pid, known))
        write_part(place / "locks.tsv", proc.copy_locks(pid, known))
        keep_tasks(pid, place)
        say(f"process {pid}: read the kernel's evidence")
    if tracer is not None and proc.tracer_of(pid) == tracer:  # and not for a moment, as py-spy does
        add_remark(place, TRACED.format(*tracer))
        say(f"process {pid}: {TRACED.format(*tracer)}")
    if process.status in STOPPED or parse_reading(before).held:
        say(f"process {pid}: is stopped, so its stacks were not read")
    else:
        if tracer is None and proc.cannot_be_paused(pid):
            add_remark(place, NOT_PAUSED)
        plan = Plan(samples or SAMPLES, samples is not None, SHORT_PAUSE if quiet else PAUSE, from_memory)
        take_samples(process, place, plan, known, say, seen, pause)
        if proc.has_proc(pid):
            after = proc.copy_sockets(pid, proc.copy_descriptors(pid), process.listening)
            write_part(place / "net-after.txt", after)


seen_as: dict[int, tuple[str, str] | None] = {}  # what each process was when its capture began


def is_still(pid: int) -> bool:
    """Whether `pid` is the process, and runs the program, of which the capture began."""
    return pid not in seen_as or proc.identity(pid) == seen_as[pid]


def check_still(pid: int) -> None:
    """Raises NoProcess where the number is another process's now, or it runs another program."""
    if not is_still(pid):
        now = proc.identity(pid)
        same = now is not None and now[:1] == (seen_as.get(pid) or ("",))[:1]
        why = "It replaced itself by exec." if same else "It ended, and its number may be another process's by now."
        raise NoProcess(
            f"Process {pid} is not the one any more that was looked at first.", why, f"ps -o pid,lstart,args -p {pid}"
        )


@dataclass(frozen=True)
class Plan:
    """How many samples, whether each is a look at the stacks, and how many seconds lie between two.

    `from_memory` where py-spy does not read all stacks, and the process says where in its memory they are.
    """

    samples: int
    looks: bool
    pause: float
    from_memory: bool = False


def take_samples(
    process: Process, place: Path, plan: Plan, known: proc.Rows, say: Say, seen: threading.Event, pause: Pause
) -> None:
    """Take the samples that `plan` says, for at most MOST_SECONDS in all, and the sources that they name.

    A look pauses the process. Where the kernel says that nobody has moved since the last one, the sample is that again.
    `known` are the kernel's rows so far.
    """
    pid, began, taken = process.pid or 0, time.monotonic(), 0
    snapshots: list[Snapshot] = []
    missed: list[str] = []
    look, settled = "", frozenset[int]()
    after: proc.Rows = {}
    for index in range(plan.samples):
        if proc.has_proc(pid):
            write_part(place / f"kernel-{index}.tsv", kernel_rows(pid, known))
        name, late = f"sample-{index}.json", time.monotonic() - began > MOST_SECONDS / 2
        if snapshots and not plan.looks and stand_still(snapshots[-1], settled, after, known, process.polls):
            write_part(place / name, json.dumps({SAME: look}))
        elif late and snapshots:
            break
        else:
            try:
                dump, plan = look_at(pid, place, plan, missed)
                check_still(pid)
            except HangError as error:
                if index == 0:
                    raise
                add_remark(place, f"It could not be read any more after {index} samples: {error.what}")
                say(f"process {pid}: ended or could not be read any more after {index} samples; those are kept")
                break
            look, after = name, dict(known)
            time.sleep(SETTLES)
            kernel_rows(pid, after)
            settled = frozenset(tid for tid in known if proc.in_one_call(known, after, tid))
            known.clear()
            known.update(after)
            snapshots += keep_look(pid, place / name, dump)
            seen.set()
            keep_sources(pid, place, snapshots)
        taken += 1
        if index == plan.samples - 1 or pause(plan.pause):
            break
    if proc.has_proc(pid) and snapshots and is_still(pid):
        keep_tasks(pid, place)
        keep_clients(pid, place, process.listening)
    if missed:
        looks = "look" if len(missed) == 1 else "looks"
        add_remark(
            place, f"{len(missed)} {looks} failed by chance and {len(snapshots)} did not; py-spy said: {missed[-1]}"
        )
    say(f"process {pid}: took {taken} samples")


def look_at(pid: int, place: Path, plan: Plan, missed: list[str]) -> tuple[str, Plan]:
    """A dump, in the form of py-spy's JSON, and the plan for the next one. `missed` is what py-spy said in vain.

    Where it fails again and again, and the process says itself where its stacks are, they are read from its memory.
    Raises HangError.
    """
    found = stacks.dump(pid) if plan.from_memory else None
    if found is not None:
        return found, plan
    try:
        return pyspy.dump(pid, missed.append), plan
    except (NoProcess, NotPermitted):
        raise
    except HangError as error:
        found = stacks.dump(pid)
        if found is None:
            raise
        add_remark(place, f"{error.what} Its stacks were read from its memory, without a pause.")
        missed.clear()
        return found, replace(plan, from_memory=True)


def keep_look(pid: int, path: Path, dump: str) -> tuple[Snapshot, ...]:
    text, wrong = proc.dump_with_our_ids(pid, dump)
    if wrong:
        add_remark(path.parent, WRONG_IDS.format(wrong))
    write_part(path, text)
    return read(text)


def stand_still(look: Snapshot, settled: Set[int], after: proc.Rows, now: proc.Rows, polls: tuple[int, ...]) -> bool:
    """Whether another look would show the same: no thread has begun, and none of those in it has gone on.

    `after` is the kernel's word just after the look, `settled` are the threads that it has in the same call as before.
    """
    return set(now) <= set(after) and all(
        one.os_id is not None
        and one.os_id in settled
        and (
            proc.has_not_run(after, now, one.os_id)
            or proc.goes_on_waiting(after, now, one.os_id, is_idle(one.frames), polls)
        )
        for one in look.threads
    )


def is_idle(frames: tuple[Frame, ...]) -> bool:
    return bool(frames) and (is_parked(frames) or calls(frames[0], *POLL))


def sample_for_a_second(pid: int, place: Path, say: Say = lambda line: None) -> None:
    """A second of sampling: whether the loop's thread is ever seen outside of where the samples saw it."""
    threads = len(list(Path(f"/proc/{pid}/task").glob("*"))) if proc.has_proc(pid) else 0
    try:
        stacks = proc.stacks_with_our_ids(pid, pyspy.record(pid, LOW_RATE if threads > MANY_THREADS else RATE))
        check_still(pid)
        write_part(place / "profile.raw", stacks)
        say(f"process {pid}: in doubt, so it was sampled for a second")
    except HangError as error:
        say(f"process {pid}: {error.what}")


def watch_requests(pid: int, place: Path, seconds: float, listening: tuple[int, ...], say: Say, pause: Pause) -> None:
    """Read the tasks and the clients again after a while in which nothing attaches: who is still without an answer?"""
    if not proc.has_proc(pid) or pause(seconds):
        return
    keep_tasks(pid, place)
    keep_clients(pid, place, listening)
    say(f"process {pid}: a request had no answer, so it was watched for {seconds:.0f} s more")


def keep_clients(pid: int, place: Path, listening: tuple[int, ...]) -> None:
    """Which children stand in a write, and which clients have had no answer."""
    write_part(place / "children-after.tsv", proc.copy_children(pid))
    write_part(place / "answers.tsv", proc.copy_answers(pid, listening))


def look_below_python(pid: int, place: Path, say: Say = lambda line: None) -> None:
    """One dump with native frames, of which those are kept that are neither Python's, nor the system's."""
    try:
        rows = json.loads(proc.dump_with_our_ids(pid, pyspy.dump_native(pid))[0])
        check_still(pid)
    except HangError as error:
        say(f"process {pid}: {error.what}")
        return
    kept = [
        {"os_thread_id": row.get("os_thread_id"), "frames": frames}
        for row in rows
        for frames in [list(takewhile(lambda entry: entry.get("module"), row["frames"]))]
        if any(map(native_frame, frames))
    ]
    for row in kept:
        row["frames"] = [entry for entry in row["frames"] if native_frame(entry)]
    write_part(place / "native.json", json.dumps(kept, indent=1))
    say(f"process {pid}: its loop is in compiled code, so native frames were read once")


def watch_for_a_second(pid: int, place: Path, say: Say = lambda line: None) -> None:
    """A second in which nothing attaches: whether waiting threads wake by themselves."""
    if not proc.has_proc(pid) or not is_still(pid):
        return
    for index in range(2):
        time.sleep(index)
        write_part(place / f"kernel-watch-{index}.tsv", kernel_rows(pid))
    say(f"process {pid}: in doubt, so it was watched for a second")


def keep_sources(pid: int, place: Path, snapshots: list[Snapshot]) -> None:
    path = place / "sources.json"
    known = {}
    if path.exists():
        known = {
            file: {int(n): text for n, text in lines.items()} for file, lines in json.loads(path.read_text()).items()
        }
    write_part(path, json.dumps(add_excerpts(snapshots[-1:], known, f"/proc/{pid}"), indent=1))


def keep_tasks(pid: int, place: Path) -> None:
    """asyncio's tasks and their sources: before the first attach and after the last they show who still waits."""
    number = len(list(place.glob("tasks-*.json")))
    found = tasks.tasks_of(pid)
    groups = {one for task in found.tasks if task.awaits and runs_application(task) for one in task.awaits.of}
    waited = number and any(waits_for_a_task(task, groups) for task in found.tasks)
    if waited:
        found = replace(found, tasks=found.tasks + tasks.failed_tasks_of(pid))
    write_part(place / f"tasks-{number}.json", tasks.as_json(found))
    write_part(place / f"queues-{number}.json", json.dumps(queues_of(pid)))
    keep_sources(pid, place, [Snapshot(tuple(Thread(task.frames) for task in found.tasks))])
    if waited:
        known = functions_that_end_waits(tasks.files_of(pid), f"/proc/{pid}")
        write_part(place / "functions.json", json.dumps(None if known is None else list(map(asdict, known))))


def waits_for_a_task(task: Task, groups: Set[int]) -> bool:
    """Whether the application waits for another task. Who could end that takes longer to find out: ask only then.

    `groups` are the tasks for which the application waits as for a group.
    """
    if task.awaits is None or not (task.id in groups or runs_application(task)):
        return False
    return task.awaits.kind in COUNTS or (task.awaits.kind == "Future" and is_application(task.frames[0]))


def runs_application(task: Task) -> bool:
    return any(map(is_application, task.frames))


def kernel_rows(pid: int, known: proc.Rows | None = None) -> str:
    try:
        return proc.copy_threads(pid, known)
    except ProcessLookupError:
        return ""


def pack(folder: Path) -> Path:
    """The bundle as FOLDER.zip beside it; the folder stays. Returns the archive's path. Raises CannotWrite."""
    folder = folder if folder.name else folder.resolve()  # "." has no name
    archive = folder.with_name(folder.name + ".zip")
    try:
        with files.replacing(archive) as partial:
            partial.touch(exist_ok=False)
            partial.chmod(files.MINE)
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as opened:
                for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                    opened.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
        files.note(archive)
    except OSError as error:
        raise files.cannot_write(archive, error) from error
    return archive


def count_removed(path: Path, removed: dict[str, int]) -> None:
    """Count in the manifest what was struck out of a part, by kind."""
    list_ = path.parent.parent / "manifest.json"
    if not list_.is_file():  # the manifest itself, whose notes may quote an address
        return
    with manifest_lock:
        manifest = json.loads(list_.read_text())
        kinds = manifest["removed"].setdefault(f"{path.parent.name}/{path.name}", {})
        for kind, count in removed.items():
            kinds[kind] = kinds.get(kind, 0) + count
        write_part(list_, json.dumps(manifest, indent=1))


def write_part(path: Path, text: str) -> None:
    """All of it or nothing: a reader never sees half a file."""
    text, removed = (text, {}) if KERNEL_ROWS.match(path.name) else CLEANERS.get(path.name, redact.clean_text)(text)
    if path.name in ("process.json", "children.tsv", "children-after.tsv") and redact.STRUCK in text:
        removed["arguments"] = text.count(redact.STRUCK)
    if removed:
        count_removed(path, removed)
    files.write_whole(path, text)
