"""py-spy's JSON, as `py-spy dump --json` prints it: a list of threads, each with its frames, innermost first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps.grammar import A_LOCK, python_of
from hangdebug.evidence.model import Frame, Snapshot, Thread

# What Cython, mypyc, CPython and C libraries put between Python's frames and compiled code of somebody's own.
MACHINERY = re.compile(
    r"^(?:__Pyx_|__pyx_gb_|_?_?Py[A-Z_]|_PyEval|CPyPy_|CPy_|task_step|context_run|cfunction_|method_)"
)
SYSTEM = re.compile(r"^(?:/usr)?/lib(?:64|32)?/|/lib-dynload/|/libpython[23]|/bin/python[\d.]*t?$|^\[")
INSTALLED = re.compile(r"/(?:site|dist)-packages/(.+)$")
MYPYC = "CPyDef_"  # what mypyc calls a function, before its own name
Known = dict[object, Any]  # frames by what they say, and stacks by their frames
START = re.compile(r"\[\s*\{")
MOST_STARTS = 64


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a list of threads; text before, between and after the lists is left out."""
    text = "\n".join(lines)
    found: list[Snapshot] = []
    position = 0
    for _ in range(MOST_STARTS):
        start = START.search(text, position)
        if not start:
            break
        try:
            value, position = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.end()
            continue
        if isinstance(value, list):
            found += snapshots(value)
    return tuple(found)


def snapshots(value: list[Any]) -> list[Snapshot]:
    """The threads of one list, a Snapshot for each pid among them (py-spy < 0.4 prints no pid)."""
    threads = [item for item in value if isinstance(item, dict) and isinstance(item.get("frames"), list)]
    pids = list(dict.fromkeys(number(item.get("pid")) for item in threads))
    made = []
    known: Known = {}
    for pid in pids:
        stacks = tuple(thread(item, known) for item in threads if number(item.get("pid")) == pid)
        made.append(Snapshot(stacks, pid, "", python_of(stacks), "py-spy JSON"))
    return made


def thread(item: dict[str, Any], known: Known) -> Thread:
    """One thread. `known` holds the frames and stacks so far: a thousand threads have few different ones."""
    frames = tuple(shared_frame(entry, known) for entry in item["frames"] if isinstance(entry, dict))
    frames = known.setdefault(tuple(map(id, frames)), frames)
    flags = [value if isinstance(value, bool) else None for value in (item.get("active"), item.get("owns_gil"))]
    return Thread(frames, str(item.get("thread_name") or ""), number(item.get("os_thread_id")), flags[0], flags[1])


def shared_frame(entry: dict[str, Any], known: Known) -> Frame:
    if entry.get("locals"):
        return frame(entry)
    get = entry.get
    key = (get("name"), get("filename"), get("short_filename"), get("module"), repr(get("line")))  # for True is 1
    try:
        found: Frame | None = known.get(key)
    except TypeError:  # a list where a name belongs: it comes from a stranger
        return frame(entry)
    if found is None:
        found = known[key] = frame(entry)
    return found


def frame(entry: dict[str, Any]) -> Frame:
    file = entry.get("filename") or entry.get("short_filename") or entry.get("module") or "?"
    return Frame(
        str(entry.get("name") or "?"),
        str(file),
        number(entry.get("line")) or None,
        locals=addresses(entry.get("locals")),
        locks=locks(entry.get("locals")),
    )


def locks(value: Any) -> tuple[str, ...]:
    """The names of those that are locks."""
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    return tuple(
        str(row.get("name")) for row in rows if number(row.get("addr")) and A_LOCK.search(str(row.get("repr")))
    )


def addresses(value: Any) -> dict[str, str]:
    """Where the objects of `--locals` are, by name, without what they hold."""
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    return {str(row.get("name")): hex(row["addr"]) for row in rows if number(row.get("addr"))}


def number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def compiled_frames(text: str) -> dict[int, tuple[Frame, ...]]:
    """From a dump with native frames: those above each thread's first Python frame that are not CPython's machinery.

    By the thread's kernel id, innermost first. A frame of an installed extension bears the extension's path.
    """
    try:
        rows = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return {}
    found: dict[int, tuple[Frame, ...]] = {}
    for row in rows if isinstance(rows, list) else []:
        frames = row.get("frames") if isinstance(row, dict) else None
        os_id = number(row.get("os_thread_id")) if isinstance(row, dict) else None
        if os_id is None or not isinstance(frames, list):
            continue
        native: list[Frame] = []
        for entry in frames:
            if not isinstance(entry, dict) or not entry.get("module"):
                break
            native += native_frame(entry)
        if native:
            found[os_id] = with_own_names(native)
    return found


def native_frame(entry: dict[str, Any]) -> list[Frame]:
    """One frame, or none where it is of the system, of CPython or of the compiler's making."""
    module, name, one = str(entry["module"]), str(entry.get("name") or "?"), frame(entry)
    if SYSTEM.search(module) or MACHINERY.match(name) or one.file.endswith((".h", ".hpp")) or name.startswith("0x"):
        return []
    if INSTALLED.search(module):
        return [replace(one, file=module, line=None)]
    return [replace(one, function=name.partition(MYPYC)[2] or name)]


def with_own_names(frames: list[Frame]) -> tuple[Frame, ...]:
    """Cython has two functions for one of Python's, `module_function` within `function`: one frame, with that name."""
    kept: list[Frame] = []
    for one in frames:
        inner = kept[-1] if kept else None
        if inner is not None and inner.file == one.file and inner.function.endswith(f"_{one.function}"):
            kept[-1] = replace(inner, function=one.function)
        elif inner != one:
            kept.append(one)
    return tuple(kept)
