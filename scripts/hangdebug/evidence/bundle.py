"""Read an evidence bundle: a folder, .zip or .tar.gz with one folder a process.

    manifest.json                   when, by what version, on what, what went wrong
    4284/process.json               facts about the process
    4284/kernel-before-0.tsv ...    the kernel's word before the first attach
    4284/sample-0.json  kernel-0.tsv   a py-spy dump, and the kernel's word just before it; and so on. Where the kernel
                                    says that nobody has moved, the dump is {"same_as": "sample-0.json"}
    4284/tasks-0.json  tasks-1.json  asyncio's tasks before the first attach, and after the last
    4284/queues-0.json  queues-1.json   how many calls wait in the queue of each pool thread, at the same moments
    4284/functions.json             the application's functions that could end the wait of one of them
    4284/kernel-watch-0.tsv ...     the same over a second without an attach, in doubt
    4284/profile.raw                a second of sampling, in doubt
    4284/native.json                one dump with native frames, where Python's stack of the loop ends in its machinery
    4284/fds.tsv  net.txt  children.tsv  shared.tsv  locks.tsv   what the numbers in the kernel's rows stand for
    4284/net-after.txt              its sockets once more, after the last sample
    4284/answers.tsv                when each client sent something, and was sent something, after the last sample
    4284/children-after.tsv         the same of the children after the last sample: who still writes to a full pipe
    4284/sockets.txt                what capture.sh saw of its sockets, which process.json tells otherwise
    4284/remarks.txt                what was in the way while it was read, one line each
    4284/sources.json               the lines around each of the application's frames

Every part but one sample may be missing: a process can die half way.

Parts of an evidence bundle that are no dump: asyncio's tasks, and the functions that could end their waits.

    tasks-N.json     {"note": "", "at": 812.5, "tasks": [{"name": "Task-7", "state": "pending",
                                                          "waits_on": "Lock.acquire (locked 1, waiters 2)", ...}]}
    functions.json   [{"name": "give", "owner": "Mailbox", "file": "app/mail.py", "line": 12, "last": 15,
                       "root": false, "yields": false, "ends": [["notify_all", 15]], "calls": [],
                       "awaits": [["with self.cond", 13]], "loops": []}, ...]

A bundle may come from anybody, or have been cut short: rows of another shape are left out.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hangdebug.errors import BadBundle, NotADump, ours
from hangdebug.evidence import kernel
from hangdebug.evidence import light as re
from hangdebug.evidence.dumps.collapsed import profile
from hangdebug.evidence.dumps.pyspy_json import compiled_frames
from hangdebug.evidence.model import Awaited, Clients, Evidence, Frame, Function, Process, Reading, Snapshot, Task
from hangdebug.evidence.paste import read

MOST_FILES, MOST_BYTES = 20_000, 256 << 20
NEXT = ours("capture", "--pid", "PID")
GZIP, BLOCK = b"\x1f\x8b", 1024  # how such a file begins; and what a tar adds to each of its files, about
SAMPLE = re.compile(r"^sample-(\d{1,9})\.(?:json|txt)$")
TASKS = re.compile(r"^tasks-\d+\.json$")
QUEUES = re.compile(r"^queues-\d+\.json$")
PID = re.compile(r"^\d+$")
NUMBER = re.compile(r"^[0-9]{1,20}$")
TYPES = {
    "pid": int,
    "command": str,
    "python": str,
    "server": str,
    "supervisor_pid": int,
    "cwd": str,
    "status": str,
    "cpus": int,
    "listens": bool,
    "served": bool,
}
NUMBERS = ("listening", "polls")
MOST_REMARKS = 8
LONGEST_NAME = 100  # characters of a sample that only names another one
NO_TASKS = "the bundle has no list of its tasks"
SAME = "same_as"  # in a sample for which no look was needed: the name of the one that it repeats
STOPPED = ("stopped", "tracing-stop")  # psutil's words for the kernel's T and t

Texts = Mapping[str, str]


def is_bundle(path: Path) -> bool:
    """Whether `path` should be read as a bundle: a folder, or an archive by its content."""
    try:
        return path.is_dir() or (path.is_file() and (is_tar(path) or is_zip(path)))
    except OSError:  # such as a name that is too long, when text is pasted as an argument
        return False


def is_tar(path: Path) -> bool:
    """By its first bytes: a dump pasted into a file may be large, and to try it as an archive takes long."""
    with path.open("rb") as opened:
        start = opened.read(262)
    return start[:2] == GZIP or start[257:262] == b"ustar"


def is_zip(path: Path) -> bool:
    """The same, and then by what stands at its end."""
    with path.open("rb") as opened:
        if opened.read(2) != b"PK":
            return False
    import zipfile

    return zipfile.is_zipfile(path)


def read_bundle(path: Path) -> tuple[Evidence, ...]:
    """The evidence of each process in the bundle, in the order of the manifest. Raises BadBundle."""
    return evidence_in(read_archive(path) if path.is_file() else read_folder(path), path)


def evidence_in(texts: Texts, path: Path) -> tuple[Evidence, ...]:
    """The same of its parts by name. Raises BadBundle."""
    inside = sorted({name.split("/")[-2] for name in texts if "/" in name})
    shortest = sorted(texts, key=len)
    root = next((name[: -len("manifest.json")] for name in shortest if name.endswith("manifest.json")), None)
    if root is None:  # it was lost: what holds the folder of a process
        folders = (name.rsplit("/", 2)[0] for name in shortest if name.count("/") > 1)
        root = next((f"{folder}/" for folder in folders), "")
    manifest = json_object(texts.get(root + "manifest.json", "{}"))
    pids = [name for name in inside if PID.match(name)]
    found = [
        evidence_of_process(
            {name[len(root + pid) + 1 :]: text for name, text in texts.items() if name.startswith(f"{root}{pid}/")},
            manifest,
        )
        for pid in pids
    ]
    kept = tuple(one for one in found if one.snapshots)
    if not kept:
        notes = "; ".join(notes_of(manifest)) or "It has no folder with a sample in it."
        raise BadBundle(f"{path} holds no evidence that can be read.", notes, NEXT)
    return kept


def evidence_of_process(texts: Texts, manifest: Mapping[str, Any]) -> Evidence:
    """The evidence of one process, from the texts of its folder by name."""
    process = process_facts(json_object(texts.get("process.json", "{}")))
    objects = objects_of(texts)
    if "sockets.txt" in texts:
        process = kernel.with_sockets(process, texts["sockets.txt"], objects.files, texts.get("net.txt", ""))
    snapshots, attached, stackless = read_samples(texts, process, objects)
    readings = read_readings(texts, "kernel-before-", objects)
    held = process.status in STOPPED or bool(readings and readings[-1].held)
    if not snapshots and held:  # py-spy cannot read it, and the kernel says enough
        snapshots = (Snapshot((), process.pid, process.command),)
    kept = [texts[name] for name in sorted(texts, key=by_number) if TASKS.match(name)]
    lists, moments = list(map(parse_tasks, kept)), list(filter(None, map(moment_of, kept)))
    queues = [json_object(texts[name]) for name in sorted(texts) if QUEUES.match(name)]
    return Evidence(
        snapshots,
        attached=attached,
        readings=readings,
        watch=read_readings(texts, "kernel-watch-", objects),
        profile=profile(texts.get("profile.raw", "")),
        process=process,
        clients=clients_in(texts, process.listening),
        sources=lines_of_source(json_object(texts.get("sources.json", "{}"))),
        notes=(*notes_of(manifest), *texts.get("remarks.txt", "").splitlines()[:MOST_REMARKS], *stackless),
        tasks=lists[0][0] if lists else (),
        later=lists[-1][0] if lists[1:] else (),
        apart=max(0.0, moments[-1] - moments[0]) if moments else 0.0,
        unread=next((note for _, note in lists if note), "" if lists else NO_TASKS),
        functions=parse_functions(texts.get("functions.json", "null")),
        queued=shortest_queues(queues),
        pool_sizes=sizes_of_pools(queues),
        compiled=compiled_frames(texts.get("native.json", "")),
        accepted=kernel.accepted_between(texts["net.txt"], texts["net-after.txt"], process.listening)
        if "net.txt" in texts and "net-after.txt" in texts
        else None,
        unread_children=unread_children(texts),
        taken=str(manifest.get("taken", "")),
    )


def clients_in(texts: Texts, listening: tuple[int, ...]) -> Clients | None:
    if "net.txt" not in texts:
        return None
    counted, answers = kernel.count_clients(texts["net.txt"], listening), texts.get("answers.tsv", "")
    return kernel.with_answers(counted, answers) if answers else counted


def objects_of(texts: Texts) -> kernel.Objects:
    children = children_in(texts.get("children.tsv", ""))
    return kernel.Objects(
        files=dict(numbered_rows(texts.get("fds.tsv", ""))),
        peers=kernel.peers_by_inode(texts.get("net.txt", "")),
        children={pid: command for pid, (command, _, _) in children.items()},
        shared=dict(numbered_rows(texts.get("shared.tsv", ""))),
        locks=locks_by_futex(texts.get("locks.tsv", "")),
        pipes={pipe: pid for pid, (_, pipes, _) in children.items() for pipe in pipes.split()},
    )


def locks_by_futex(text: str) -> dict[int, tuple[int, int]]:
    """Of each thread's own futex, by address: the lock before which it stands, and who has it, 0 where not known."""
    rows = ((at, row.partition("\t")) for at, row in numbered_rows(text))
    return {at: (int(lock), int(tid) if NUMBER.match(tid) else 0) for at, (lock, _, tid) in rows if NUMBER.match(lock)}


def children_in(text: str) -> dict[int, tuple[str, str, str]]:
    """Of each child by pid: its command, its pipes, and the pipe or socket to which it stands in a write."""
    rows = ((pid, ([*row.split("\t"), "", ""])[:3]) for pid, row in numbered_rows(text))
    return {pid: (command, pipes, written) for pid, (command, pipes, written) in rows}


def unread_children(texts: Texts) -> dict[int, str]:
    """The children that stood before the first attach and after the last in one write, by pid, with their commands.

    A pipe counts where this process has an end of it too: then it may be the one that is to read.
    """
    before = children_in(texts.get("children.tsv", ""))
    after = children_in(texts.get("children-after.tsv", ""))
    same = {pid: row for pid, row in after.items() if row[2] and row[2] == before.get(pid, ("", "", ""))[2]}
    own = set(texts.get("fds.tsv", "").split())
    return {pid: row[0] for pid, row in same.items() if not row[2].startswith("pipe:") or row[2] in own}


def read_samples(
    texts: Texts, process: Process, objects: kernel.Objects
) -> tuple[tuple[Snapshot, ...], tuple[Reading | None, ...], tuple[str, ...]]:
    """The dumps, the kernel's reading just before each, and a note for every sample without a stack."""
    looks: dict[str, Snapshot] = {}  # by name
    snapshots: list[Snapshot] = []
    attached: list[Reading | None] = []
    notes: list[str] = []
    for number, name in sorted((int(found[1]), found[0]) for found in map(SAMPLE.match, texts) if found):
        same = json_object(texts[name]).get(SAME) if len(texts[name]) < LONGEST_NAME else None
        try:
            looks[name] = looks[str(same)] if str(same) in looks else read(texts[name])[0]
        except NotADump:
            notes.append(f"{name} holds no stack")
            continue
        snapshot = looks[name]
        snapshots.append(
            replace(snapshot, pid=snapshot.pid or process.pid, command=snapshot.command or process.command)
        )
        row = texts.get(f"kernel-{number}.tsv")
        attached.append(kernel.parse_reading(row, objects) if row else None)
    return tuple(snapshots), tuple(attached), tuple(notes)


def read_readings(texts: Texts, prefix: str, objects: kernel.Objects) -> tuple[Reading, ...]:
    names = (name for name in sorted(texts, key=by_number) if name.startswith(prefix))
    return tuple(kernel.parse_reading(texts[name], objects) for name in names)


def lines_of_source(value: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Lines of source by file and number."""
    return {
        file: {int(number): str(text) for number, text in lines.items() if NUMBER.match(number)}
        for file, lines in value.items()
        if isinstance(lines, dict)
    }


def notes_of(manifest: Mapping[str, Any]) -> list[str]:
    notes = manifest.get("notes")
    return list(map(str, notes)) if isinstance(notes, list) else []


def shortest_queues(readings: list[dict[str, Any]]) -> dict[int, int]:
    """How many calls waited for each pool thread, at the least, in every reading that knows it."""
    found: dict[int, int] = {}
    for tid, row in (row for one in readings for row in one.items()):
        count = row[0] if isinstance(row, list) and row else row  # a number alone, in bundles of 0.2
        if NUMBER.match(tid) and type(count) is int:
            found[int(tid)] = min(count, found.get(int(tid), count))
    return found


def sizes_of_pools(readings: list[dict[str, Any]]) -> dict[int, int]:
    """How many threads the pool of each pool thread may have, where it says so."""
    rows = ((tid, row[1]) for one in readings for tid, row in one.items() if isinstance(row, list) and row[1:])
    return {int(tid): most for tid, most in rows if NUMBER.match(tid) and type(most) is int and most > 0}


def process_facts(value: Mapping[str, Any]) -> Process:
    """The fields that are there and of the right type: a bundle may come from anybody."""
    kept: dict[str, Any] = {}
    for key, item in value.items():
        if key in NUMBERS and isinstance(item, list):
            kept[key] = tuple(number for number in item if type(number) is int)
        elif key in TYPES and type(item) is TYPES[key]:
            kept[key] = item
    return Process(**kept)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object, or {} for anything else: a bundle may have been cut short while it was written."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def numbered_rows(text: str) -> list[tuple[int, str]]:
    rows = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return [(int(key), value) for key, value in rows if NUMBER.match(key)]


def by_number(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,9}", name)]


def read_archive(path: Path) -> Texts:
    """The text of every member. Nothing is unpacked to disk, so no name in an archive can lead out of it."""
    try:
        return read_tar(path) if is_tar(path) else read_zip(path)
    except BadBundle:
        raise
    except Exception as error:
        raise BadBundle(f"{path} cannot be read as an archive.", str(error) or type(error).__name__, NEXT) from error


def read_zip(path: Path) -> Texts:
    import zipfile

    with zipfile.ZipFile(path) as opened:
        members = [info for info in opened.infolist() if not info.is_dir()]
        check_limits(path, len(members), sum(info.file_size for info in members))
        return {info.filename: opened.read(info).decode("utf-8", "replace") for info in members}


def read_tar(path: Path) -> Texts:
    """What capture.sh packs. The sizes stand between the files, so the limit is looked at before each is read."""
    import gzip

    texts: dict[str, str] = {}
    size = 0
    with path.open("rb") as start:
        packed = start.read(2) == GZIP
    with (gzip.open if packed else open)(path, "rb") as raw, tar_of(Bounded(raw, path)) as opened:
        for member in opened:
            size += member.size
            check_limits(path, len(texts), size)
            file = opened.extractfile(member) if member.isfile() else None
            if file is not None:
                texts[member.name] = file.read().decode("utf-8", "replace")
    return texts


def tar_of(stream: Any) -> Any:
    import tarfile

    return tarfile.open(fileobj=stream, mode="r|")


class Bounded:
    """A stream of which no more is read than a bundle may hold: a header can say that it is as long as it likes."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path, self.count = stream, path, 0

    def read(self, size: int = -1) -> bytes:
        found: bytes = self.stream.read(size)
        self.count += len(found)
        check_limits(self.path, 0, self.count - MOST_FILES * BLOCK)
        return found


def read_folder(path: Path) -> Texts:
    """The files of the layout above, and no others: any folder can be named by mistake."""
    folders = (path, *(one for one in sorted(path.glob("[0-9]*")) if one.is_dir()))
    closed = next((one for one in folders if not os.access(one, os.R_OK | os.X_OK)), None)
    if closed is not None:
        raise not_yours(closed)
    files = [
        file
        for pattern in ("manifest.json", "[0-9]*/*.*")
        for file in sorted(path.glob(pattern))
        if file.is_file() and not file.is_symlink()
    ]
    check_limits(path, len(files), sum(file.stat().st_size for file in files))
    return {file.relative_to(path).as_posix(): read_file(file) for file in files}


def not_yours(path: Path) -> BadBundle:
    return BadBundle(
        f"You may not read {path}.",
        "Another user saved it, root perhaps: evidence is for its owner alone.",
        f'sudo chown -R "$(id -un)" {shlex.quote(str(path))}   # or ask its owner to diagnose it',
    )


def read_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except PermissionError as error:
        raise not_yours(file) from error
    except OSError as error:
        raise BadBundle(f"{file} cannot be read.", str(error), f"ls -l {file}") from error


def check_limits(path: Path, count: int, size: int) -> None:
    if count > MOST_FILES or size > MOST_BYTES:
        why = f"It has {count} files and {size >> 20} MB; the limits are {MOST_FILES} and {MOST_BYTES >> 20} MB."
        raise BadBundle(f"{path} is no evidence bundle.", why, NEXT)


# -- tasks and functions -------------------------------------------------------------------------------

TEXTS = ("name", "waits_on", "state", "coroutine")
NEEDED = {"name": str, "file": str, "line": int, "last": int}
OPTIONAL = {"owner": str, "root": bool, "yields": bool}
T = TypeVar("T", str, int)


# -- tasks-N.json --------------------------------------------------------------------------------------


def parse_tasks(text: str) -> tuple[tuple[Task, ...], str]:
    """The tasks, and what could not be read. Rows of another shape are left out."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return (), "the file of its asyncio tasks was cut short"
    rows = value.get("tasks") if isinstance(value, dict) else None
    note = value.get("note") if isinstance(value, dict) else None
    found = [parse_task(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(found), note if isinstance(note, str) else ""


def moment_of(text: str) -> float:
    """When the tasks were read, in seconds on a monotonic clock; 0 where that is not known."""
    try:
        return float(json.loads(text).get("at", 0))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return 0.0


def parse_task(row: dict[str, Any]) -> Task:
    texts = {key: row[key] for key in TEXTS if isinstance(row.get(key), str)}
    return Task(
        texts.pop("name", ""),
        tuple(parse_frame(one) for one in list_at(row, "frames") if isinstance(one, dict)),
        **texts,
        id=row["id"] if type(row.get("id")) is int else None,
        awaits=parse_awaited(row.get("awaits")),
        inside=tuple(one for one in list_at(row, "inside") if type(one) is int),
        timed=row.get("timed") is True,
        ends=frozenset(one for one in list_at(row, "ends") if isinstance(one, str)),
        cancels=row["cancels"] if type(row.get("cancels")) is int else 0,
        holds=tuple(one for one in list_at(row, "holds") if isinstance(one, str)),
        expired=row.get("expired") is True,
        ready=row["ready"] if type(row.get("ready")) is int else 0,
        begun=row.get("begun") is True,
    )


def list_at(row: dict[str, Any], key: str) -> list[Any]:
    found = row.get(key)
    return found if isinstance(found, list) else []


def parse_frame(row: dict[str, Any]) -> Frame:
    line = row.get("line")
    return Frame(str(row.get("function", "?")), str(row.get("file", "?")), line if type(line) is int else None)


def parse_awaited(row: Any) -> Awaited | None:
    if not isinstance(row, dict) or type(row.get("id")) is not int:
        return None
    counts = row.get("counts")
    known = (
        {str(name): count for name, count in counts.items() if type(count) is int} if isinstance(counts, dict) else {}
    )
    of = tuple(one for one in list_at(row, "of") if type(one) is int)
    return Awaited(str(row.get("kind", "")), row["id"], str(row.get("method", "")), known, of)


# -- functions.json -----------------------------------------------------------------------------------


def parse_functions(text: str) -> tuple[Function, ...] | None:
    """The functions; None where not all are known, also where a row has another shape."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    rows = [parse_function(row) for row in value] if isinstance(value, list) else [None]
    known = tuple(one for one in rows if one is not None)
    return known if len(known) == len(rows) else None


def parse_function(row: Any) -> Function | None:
    if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in NEEDED.items()):
        return None
    plain = {key: row[key] for key, kind in {**NEEDED, **OPTIONAL}.items() if type(row.get(key)) is kind}
    ends, calls, awaits = (parse_pairs(row.get(key), str) for key in ("ends", "calls", "awaits"))
    return Function(**plain, ends=ends, calls=calls, awaits=awaits, loops=parse_pairs(row.get("loops"), int))


def parse_pairs(value: Any, kind: type[T]) -> tuple[tuple[T, int], ...]:
    rows = value if isinstance(value, list) else []
    return tuple(
        (one[0], one[1])
        for one in rows
        if isinstance(one, list) and len(one) == 2 and type(one[0]) is kind and type(one[1]) is int
    )
