"""All stacks of a process, for `hang stacks`; and the evidence as a report prints it.

Equal stacks are printed once. The one that the answer is about comes first, then the loop's, then those at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.frames import is_application, library_path, package
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Task, Thread
from hangdebug.report.text import facts, printable, short
from hangdebug.scene.graph import graph
from hangdebug.scene.locks import Lock, locks_held, locks_wanted
from hangdebug.scene.rings import described
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.scene import scene as scene_of
from hangdebug.scene.waits import name_of, wait

MOST_TEXT, MOST_ROWS = 200_000, 100  # letters of a dump, rows of the kernel
SHOWN_IDS, MOST_TARGETS = 6, 3
FOLDED = 2  # so many frames of libraries in a row are one line
ROLES = {"event-loop": "event loop", "worker": "pool thread", "main": "main thread"}


def as_stacks(evidence: Evidence, answer: Diagnosis, whole: bool = False) -> str:
    """Every stack of the last sample, each with the kernel's wait and its locks; `whole` folds no frame."""
    scene = scene_of(evidence)
    lines = [", ".join(facts(answer)) + f": {counted(len(scene.last), 'thread')}", ""]
    groups: dict[object, list[View]] = {}
    for view in scene.last:
        groups.setdefault((view.thread.frames, view.role, *beside(scene, view)), []).append(view)
    for members in sorted(groups.values(), key=lambda group: importance(group, answer)):
        lines += [head(members), *(f"      {line}" for line in beside(scene, members[0]))]
        lines += [f"   {line}" for line in frame_lines(members[0].thread.frames, answer, whole)] + [""]
    bare = [thread for thread in evidence.snapshots[-1].threads if not thread.frames]
    lines += [f"{counted(len(bare), 'thread')} without a Python frame", ""] if bare else []
    tasks: dict[object, list[Task]] = {}
    for task in evidence.later or evidence.tasks:
        tasks.setdefault((task.frames, str(task.awaits or task.waits_on)), []).append(task)
    for same in sorted(tasks.values(), key=lambda group: (group[0].frames[:1] == (), -len(group))):
        waits = str(same[0].awaits or same[0].waits_on)
        names = ", ".join(task.name for task in same[:SHOWN_IDS]) + (", ..." if same[SHOWN_IDS:] else "")
        lines += [f"{len(same)} x  coroutine {names}", *([f"      awaits {waits}"] if waits else [])]
        lines += [f"   {line}" for line in frame_lines(same[0].frames, answer, whole)] + [""]
    return printable("\n".join(lines))


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def importance(group: list[View], answer: Diagnosis) -> tuple[bool, bool, bool, bool, int]:
    """The thread at fault first, then the loop's; then those in the application's code, at work, and most alike."""
    first = group[0]
    fault = answer.thread is not None and any(view.thread == answer.thread for view in group)
    return not fault, first.role != "event-loop", first.frame is None, first.idle, -len(group)


def head(members: list[View]) -> str:
    """How many, what they are called, and their ids: those of the kernel, which `top -H` shows too."""
    first, names = members[0], list(dict.fromkeys(map(name_of, members)))
    ids = [str(view.thread.os_id) for view in members if view.thread.os_id]
    shown = ", ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" if ids[SHOWN_IDS:] else "")
    called = names[0] + (f" and {counted(len(names) - 1, 'other name')}" if names[1:] else "")
    what = [ROLES.get(first.role, ""), "idle" if first.idle else "", f"thread {shown}" if shown else ""]
    told = ", ".join(word for word in what if word)
    return f"{len(members)} x  {called}" + (f"   {told}" if told else "")


def beside(scene: Scene, view: View) -> tuple[str, ...]:
    """What the kernel says of it, the locks that it waits for and is inside of, and whom it waits for."""
    if view.idle and view.role == "worker":
        return ()
    one, sources = wait(scene, view), scene.evidence.sources
    found = [f"kernel: {kernel_words(one.kernel)}"] if one.kernel is not None and one.kernel.syscall else []
    found += [f"wants {lock_words(lock)}" for lock in dict.fromkeys(locks_wanted(one, sources))]
    for held in locks_held(view.thread.frames, sources):
        found.append(f"inside of {lock_words(held.lock)}, since {short(held.frame)}")
    seen, node = graph(scene), identity(view)
    targets = seen.edges[node].targets[:MOST_TARGETS] if node in seen.edges else ()
    return (*found, *(f"waits for {described(scene, seen, node, target).through}" for target in targets))


def kernel_words(word: KernelWait) -> str:
    state = state_in_words(word)
    return f"{word}{f', {state}' if state and word.syscall != 'running' else ''}"


def lock_words(lock: Lock) -> str:
    owner = f" of {lock.owner}" if lock.owner else ""
    return f"{lock.name}{owner}{f' at {lock.at}' if lock.at else ''}"


def frame_lines(frames: tuple[Frame, ...], answer: Diagnosis, whole: bool) -> Iterator[str]:
    """Innermost first. What it stands in is always shown; further out the frames of libraries are one line."""
    place = (answer.blocking_frame.file, answer.blocking_frame.line) if answer.blocking_frame else None
    if not frames:
        return
    yield line_of(frames[0], place)
    for own, run in groupby(frames[1:], is_application):
        kept = list(run)
        if own or whole or len(kept) < FOLDED:
            yield from (line_of(frame, place) for frame in kept)
        else:
            names = list(dict.fromkeys(package(frame) or str(library_path(frame.file)) for frame in kept))
            yield f"   ... {len(kept)} frames of {', '.join(names[:4])}{', ...' if names[4:] else ''}"


def line_of(frame: Frame, place: tuple[str, int | None] | None) -> str:
    return f"{'->' if (frame.file, frame.line) == place else '  '} {short(frame)}"


# -- as a report prints it -----------------------------------------------------------------------------


def kernel_rows(evidence: Evidence) -> Iterator[tuple[str, ...]]:
    """The kernel's word on each thread before the first attach, alike ones as one row."""
    reading = evidence.readings[-1] if evidence.readings else next((one for one in evidence.attached if one), None)
    if reading is None:
        return
    names = {thread.os_id: thread.name for thread in evidence.snapshots[-1].threads}
    groups: dict[tuple[str, str, str], list[str]] = {}
    for tid, word in reading.waits.items():
        key = (word.syscall or "unknown", word.detail or "", state_in_words(word))
        groups.setdefault(key, []).append(f"{names.get(tid) or 'no Python thread'} ({tid})")
    for (call, detail, letter), members in list(groups.items())[:MOST_ROWS]:
        who = ", ".join(members[:3]) + (f" and {len(members) - 3} more" if len(members) > 3 else "")
        yield who, call, detail, letter


def state_in_words(wait: KernelWait) -> str:
    words = {
        "S": "asleep",
        "D": "asleep, and cannot be woken",
        "R": "runs",
        "T": "stopped",
        "t": "traced",
        "Z": "ended",
    }
    return words.get(wait.state, wait.state)


def printed(evidence: Evidence) -> str:
    """The last sample as py-spy would print it, alike stacks once."""
    snapshot = evidence.snapshots[-1]
    groups: dict[tuple[Frame, ...], list[Thread]] = {}
    for thread in snapshot.threads:
        groups.setdefault(thread.frames, []).append(thread)
    blocks = [f"Process {snapshot.pid}: {snapshot.command}"]
    for frames, threads in groups.items():
        heads = [f'Thread {one.os_id or "?"}: "{one.name}"' for one in threads[:3]]
        more = [f"and {len(threads) - 3} more threads in the same place"] if len(threads) > 3 else []
        blocks.append("\n".join([*heads, *more, *(f"    {short(frame)}" for frame in frames)]))
    return "\n\n".join(blocks)


def beginning(text: str) -> str:
    """The beginning of a dump, up to a line's end: a secret that was cut in two would not be known for one."""
    if len(text) <= MOST_TEXT:
        return text
    end = text.rfind("\n", 0, MOST_TEXT) + 1 or MOST_TEXT
    return f"{text[:end]}... {len(text) - end:,} characters more, see the evidence itself"
