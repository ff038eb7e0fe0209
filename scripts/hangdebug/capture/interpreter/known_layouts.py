"""The layouts of CPython 3.9 to 3.15, measured beforehand (layout.py): nothing has to be started to read a process.

From 3.13 on the interpreter publishes where a part of it stands (`_Py_DebugOffsets`, at the start of `_PyRuntime`), and
that is taken from there.

A row is believed only where the target's own types have the sizes that they had when it was measured. A debug build, a
free-threaded one, and a patch release that moved a field are told so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hangdebug.capture.interpreter.layout import Layout
from hangdebug.capture.interpreter.memory import Unreadable, open_memory
from hangdebug.capture.interpreter.objects import BASIC_SIZE, FIRST, Objects
from hangdebug.capture.interpreter.runtimes import SAYS_ITS_OFFSETS, Runtime, runtime_of

# The fields of Layout from `interpreter` to `wide`, in their order there, then the six that are known from 3.14 on, and
# at last `task_cancels`.
ROWS = {
    (3, 9): (32, 856, 112, 104, 120, 64, 40, 176, 56, 32, 16, 104, 152, 144, 160, 80, 48, 864, 24, 48, 72, 0),
    (3, 10): (32, 856, 112, 104, 120, 64, 40, 176, 48, 24, 16, 96, 160, 152, 168, 88, 48, 872, 24, 48, 72, 0),
    (3, 11): (40, 888, 128, 112, 136, 32, 72, 184, 40, 112, 112, 24, 136, 128, 144, 88, 48, 872, 24, 48, 72, 168),
    (3, 12): (40, 944, 128, 112, 136, 32, 68, 192, 32, 72, 72, 56, 136, 128, 144, 88, 48, 880, 24, 40, 56, 168),
    (3, 13): (632, 7656, 128, 112, 136, 32, 68, 200, 32, 72, 72, 56, 120, 112, 128, 96, 48, 880, 24, 40, 56, 104),
    (3, 14): (
        *(808, 7688, 128, 112, 136, 32, 68, 208, 32, 72, 72, 56, 128, 120, 136, 104, 48, 880, 32, 40, 56),
        *(7344, 10880, 8, 880, 152, 7480, 112),
    ),
    (3, 15): (
        *(936, 7592, 128, 112, 136, 32, 68, 208, 32, 72, 72, 56, 128, 120, 136, 104, 48, 888, 32, 40, 56),
        *(7336, 10856, 8, 1048, 152, 7456, 112),
    ),
}
# The sizes in bytes of these types: what a field moved to would change them.
MEASURED = ("FunctionType", "CodeType", "CoroutineType", "FrameType", "ModuleType", "Task", "Future")
SIZES = {
    (3, 9): (120, 176, 104, 368, 56, 184, 144),
    (3, 10): (128, 176, 96, 360, 56, 192, 152),
    (3, 11): (136, 184, 152, 120, 56, 176, 128),
    (3, 12): (144, 192, 144, 120, 56, 176, 128),
    (3, 13): (144, 200, 144, 136, 56, 144, 104),
    (3, 14): (152, 208, 152, 152, 56, 168, 112),
    (3, 15): (152, 208, 152, 152, 104, 168, 112),
}
# Where an interpreter says what stands where, from its `_PyRuntime` on: by the field of Layout; and where it describes
# code objects, whose fields are OF_CODE further on. It says there too that it runs without its lock.
PUBLISHED: dict[tuple[int, int], tuple[dict[str, int], int]] = {
    (3, 13): ({"interpreter": 40, "modules": 88}, 272),
    (3, 14): ({"interpreter": 40, "modules": 96, "threads": 72}, 312),
    (3, 15): ({"interpreter": 40, "modules": 96, "threads": 72}, 376),
}
OF_CODE = {"code_file": 8, "code_name": 24, "code_table": 32, "code_first": 40, "code_size": 72}
FREE_THREADED, FARTHEST = 16, 1 << 20
MODULES = ("types", "_asyncio")  # that have them; without asyncio there are no tasks to read

# Of which libraries' types it was seen: the workers of a server share them.
proved: set[tuple[Layout, str]] = set()


def known_layout(pid: int) -> Layout | None:
    """The layout of the interpreter in `pid`; None for one that is not known, or not as it was when it was measured."""
    try:
        runtime = runtime_of(pid)
        return checked_layout(pid, runtime) if runtime is not None and runtime.at is not None else None
    except (Unreadable, LookupError, ValueError, OverflowError):
        return None


def checked_layout(pid: int, runtime: Runtime) -> Layout | None:
    """The same. Raises Unreadable, LookupError for a version without a row, ValueError."""
    major, minor = map(int, (runtime.version or "0.0").split("."))
    version, at = (major, minor), runtime.at or 0
    *row, cancels = ROWS[version]
    layout = replace(Layout(version, runtime.file.inode, at - runtime.file.start, *row), task_cancels=cancels)
    if version in PUBLISHED:
        layout = replace(layout, **published(pid, at, version))
    proof = layout, runtime.file.path
    if proof in proved:
        return layout
    sizes = type_sizes(pid, layout, at)
    if not sizes.items() <= dict(zip(MEASURED, SIZES[version])).items():
        return None
    if sizes:  # without these types it has no asyncio either: nothing is read with the fields that could be wrong
        proved.add(proof)
    return layout


def published(pid: int, runtime: int, version: tuple[int, int]) -> dict[str, Any]:
    """The fields of the layout that the interpreter in `pid` publishes. Raises Unreadable where it says nothing."""
    with open_memory(pid) as memory:
        if memory.read(runtime, len(SAYS_ITS_OFFSETS)) != SAYS_ITS_OFFSETS or memory.word(runtime + FREE_THREADED):
            raise Unreadable("what should be its description is something else")
        places, code = PUBLISHED[version]
        places = {**places, **{name: code + place for name, place in OF_CODE.items()}}
        found = {name: memory.word(runtime + place) for name, place in places.items()}
    if not all(0 < value < FARTHEST for value in found.values()):
        raise Unreadable("its description makes no sense")
    return found


def type_sizes(pid: int, layout: Layout, runtime: int) -> dict[str, int]:
    """The sizes of those types in `pid` that are MEASURED and there. Raises Unreadable."""
    with open_memory(pid) as memory:
        objects = Objects(memory, layout)
        modules = objects.mapping(memory.word(memory.word(runtime + layout.interpreter) + layout.modules))
        found: dict[str, int] = {}
        for name in MODULES:
            if name in modules:
                found.update(objects.mapping(memory.word(modules[name] + FIRST)))
        if "sys" not in modules:
            raise Unreadable("what should be sys.modules is something else")
        return {name: memory.word(found[name] + BASIC_SIZE) for name in MEASURED if name in found}
