"""What a busy process runs: some seconds of samples by py-spy, as stacks, as a flame graph, and for speedscope.

    record(pid, 2.0, Path("recording"))    writes stacks.txt, flame.svg and speedscope.json into the folder

Only what runs is sampled: a thread that waits is no part of it, and a process that waits gives nothing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Callable

from hangdebug import __version__, files
from hangdebug.errors import HangError, ours
from hangdebug.evidence.dumps.collapsed import profile
from hangdebug.evidence.frames import is_application, library_path
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Thread
from hangdebug.report import svg
from hangdebug.report.svg import Picture

RATE = 100  # samples a second
SELDOM = 0.1  # of the samples: whoever runs in fewer waits most of the time
LOOK = 0.3  # seconds, to see which worker is busy
STACKS, FLAME, SPEEDSCOPE = "stacks.txt", "flame.svg", "speedscope.json"


def busiest(pids: Sequence[int]) -> int:
    """Of several workers the one that uses most of a CPU now. Raises MissingTool, NoProcess."""
    from hangdebug.capture import processes

    processes.require_psutil()
    if len(pids) == 1:
        return pids[0]
    looked = [processes.running_process(pid) for pid in pids]
    used = [processes.or_none(one.cpu_times) for one in looked]
    time.sleep(LOOK)
    now = [processes.or_none(one.cpu_times) for one in looked]
    spent = [sum(late[:2]) - sum(early[:2]) if early and late else -1.0 for early, late in zip(used, now)]
    return max(zip(spent, pids), key=lambda row: row[0])[1]


def record(pid: int, seconds: float, folder: Path, say: Callable[[str], object] = lambda line: None) -> Path:
    """Sample a process for some `seconds`, and write the three files into `folder`.

    What Ctrl-C cuts short is kept, and KeyboardInterrupt raised.

    Raises NoProcess, NotPermitted, NotPython, MissingTool, or HangError where nothing ran.
    """
    from hangdebug.capture import proc, pyspy, redact

    stopped: list[KeyboardInterrupt] = []
    text = pyspy.record(pid, RATE, seconds, idle=False, interrupted=stopped.append)
    text = redact.clean_text(proc.stacks_with_our_ids(pid, text))[0]
    stacks = tuple((thread, count) for thread, count in profile(text) if thread.frames)
    if stacks:
        made = {
            STACKS: text.encode("utf-8", "replace"),
            FLAME: flame(stacks).data,
            SPEEDSCOPE: json.dumps(speedscope(stacks, f"process {pid}"), indent=1).encode(),
        }
        write_files(folder, made)
        count = sum(count for _, count in stacks)
        say(f"process {pid}: {count} samples in {STACKS}, {FLAME}, {SPEEDSCOPE}")
        if count < seconds * RATE * SELDOM and not stopped:
            say(
                f"process {pid}: it mostly waits, and a flame graph shows no waits.\n"
                f"Next: {ours('diagnose', '--pid', pid)}"
            )
    if stopped:
        raise stopped[0]
    if not stacks:
        raise HangError(
            f"Process {pid} ran no Python code in these {seconds:g} s.",
            "It waits, and does not compute.",
            ours("diagnose", "--pid", pid),
        )
    return folder


def write_files(folder: Path, content: dict[str, bytes]) -> None:
    """Each file whole or not at all. Raises CannotWrite."""
    files.make_folder(folder)
    for name, one in content.items():
        files.write_whole(folder / name, one)


# -- for speedscope ------------------------------------------------------------------------------------


def speedscope(stacks: Stacks, name: str, rate: int | None = RATE) -> dict[str, Any]:
    """The stacks in speedscope's file format: shared frames, and one sampled profile a thread, outermost frame first.

    The weights are seconds, or where the `rate` is not known, samples.
    """
    unit, rate = ("seconds", rate) if rate else ("none", 1)
    frames: dict[tuple[str, str, int | None], int] = {}
    threads: dict[tuple[str, int | None], list[tuple[list[int], int]]] = {}
    for thread, count in stacks:
        indexes = [
            frames.setdefault((one.function, one.file, one.line), len(frames)) for one in reversed(thread.frames)
        ]
        threads.setdefault((thread.name, thread.os_id), []).append((indexes, count))
    profiles = [
        {
            "type": "sampled",
            "name": title or f"thread {number or '?'}",
            "unit": unit,
            "startValue": 0,
            "endValue": sum(count for _, count in rows) / rate,
            "samples": [indexes for indexes, _ in rows],
            "weights": [count / rate for _, count in rows],
        }
        for (title, number), rows in threads.items()
    ]
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "activeProfileIndex": 0,
        "exporter": f"hang.py {__version__}",
        "profiles": profiles,
        "shared": {
            "frames": [
                {"name": function, "file": file, **({"line": line} if line else {})} for function, file, line in frames
            ]
        },
    }


# -- the flame graph of a recording --------------------------------------------------------------------

ROW, DEEPEST, THINNEST, SIDE = 19, 60, 1.0, 14
YOURS, THEIRS, ROOT = svg.ORANGE, "#d6ebf5", svg.PALE

Stacks = Sequence[tuple[Thread, int]]  # a thread's stack, and how often it was seen


@dataclass
class Call:
    """A call in one place of the tree, and how often it was on the stack there. `below` are the calls that it made."""

    name: str
    yours: bool = False
    count: int = 0
    below: dict[object, Call] = field(default_factory=dict)


def flame(stacks: Stacks) -> Picture:
    """The picture: width is time, and what stands on a box was called by it. The application's own boxes stand out.

    Raises HangError where no stack was sampled.
    """
    root = tree(stacks)
    if not root.count:
        raise HangError("There is nothing to draw.", "No stack was sampled.", ours("record", "--pid", "PID"))
    depth = min(depth_of(root), DEEPEST)
    height = 58 + depth * ROW + 12
    parts = [
        svg.box(SIDE, 14, 14, 14, YOURS, svg.GREY),
        svg.text(SIDE + 20, 25, "your code (bold)", 200, bold=True),
        svg.box(180, 14, 14, 14, THEIRS, svg.GREY),
        svg.text(200, 25, "libraries", 120),
        svg.text(300, 25, f"width is time: all of it is {root.count} samples", 500, svg.FAINT),
    ]
    for call, x, width, level in boxes(root, SIDE, svg.WIDTH - 2 * SIDE, 0):
        parts.append(box_of(call, x, height - 12 - (level + 1) * ROW, width, root.count))
    busiest, share = hottest(stacks)
    top = (
        f"The widest of your own at the top is {busiest}, on the stack in {share:.0%} of {root.count} samples"
        if busiest
        else f"No frame of your own is in these {root.count} samples"
    )
    alt = f"Flame graph. {top}."
    return Picture(svg.card(height, parts, alt), alt, f"Read from below: a box was called by the one under it. {top}.")


def tree(stacks: Stacks) -> Call:
    """All stacks as one tree. The library calls that all of a thread's stacks begin with say nothing: they are cut."""
    root = Call("all")
    threads: dict[tuple[str, int | None], list[tuple[tuple[Frame, ...], int]]] = {}
    for thread, count in stacks:
        if thread.frames:
            threads.setdefault((thread.name, thread.os_id), []).append((thread.frames, count))
    for who, rows in threads.items():
        cut, here = in_common([frames for frames, _ in rows]), root
        below = f", below {cut} library calls" if cut else ""
        if len(threads) > 1:
            here = root.below.setdefault(who, Call(f"thread {who[0] or who[1] or '?'}{below}"))
        else:
            root.name = f"all{below}"
        for frames, count in rows:
            add(here, list(reversed(frames))[cut : DEEPEST + cut], count)
    root.count = sum(count for rows in threads.values() for _, count in rows)
    return root


def add(here: Call, calls: Sequence[Frame], count: int) -> None:
    here.count += count
    for frame in calls:
        fresh = Call(f"{frame.function} ({place(frame)})", is_application(frame))
        here = here.below.setdefault((frame.function, frame.file), fresh)
        here.count += count


def in_common(stacks: list[tuple[Frame, ...]]) -> int:
    """How many outermost calls every stack has that are a library's."""
    count = 0
    for level in zip(*(tuple(reversed(frames))[:-1] for frames in stacks)):
        if len({(frame.function, frame.file) for frame in level}) > 1 or is_application(level[0]):
            break
        count += 1
    return count


def place(frame: Frame) -> str:
    return library_path(frame.file) or frame.file.replace("\\", "/").rpartition("/")[2]


def depth_of(call: Call) -> int:
    level, found = [call], 0
    while level:
        found, level = found + 1, [below for one in level for below in one.below.values()]
    return found


def boxes(root: Call, x: float, width: float, level: int) -> Iterator[tuple[Call, float, float, int]]:
    """Every call that is wide enough to be seen, with its place; the widest of a level first."""
    waiting = [(root, x, width, level)]
    while waiting:
        call, x, width, level = waiting.pop()
        yield call, x, width, level
        for one in sorted(call.below.values(), key=lambda one: (-one.count, one.name)):
            wide = width * one.count / call.count
            if wide >= THINNEST and level + 1 < DEEPEST:
                waiting.append((one, x, wide, level + 1))
            x += wide


def box_of(call: Call, x: float, y: float, width: float, total: int) -> str:
    colour = YOURS if call.yours else ROOT if call.name.startswith(("all", "thread ")) else THEIRS
    title = f"{call.name}: {call.count} samples, {call.count / total:.1%}"
    shape = svg.box(x, y, width - 0.5, ROW - 1, colour, title=title)
    return shape + (svg.text(x + 4, y + 13, call.name, width - 8, size=11, bold=call.yours) if width > 24 else "")


def hottest(stacks: Stacks) -> tuple[str, float]:
    """The application's function that was innermost most often, with its commonest line; and its share of samples."""
    counts: dict[str, Counter[int | None]] = {}
    for thread, count in stacks:
        own = next((frame for frame in thread.frames if is_application(frame)), None)
        if own is not None:
            counts.setdefault(f"{own.function} ({place(own)}", Counter())[own.line] += count
    if not counts:
        return "", 0.0
    best = max(counts, key=lambda name: (sum(counts[name].values()), name))
    line = counts[best].most_common(1)[0][0]
    mostly = f", mostly line {line}" if line else ""
    return f"{best}{mostly})", sum(counts[best].values()) / sum(count for _, count in stacks)
