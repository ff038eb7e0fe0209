"""What a busy process runs: some seconds of samples by py-spy, as stacks, as a flame graph, and for speedscope.

    record(pid, 2.0, Path("recording"))    writes stacks.txt, flame.svg, flame.html and speedscope.json into the folder

Only what runs is sampled: a thread that waits is no part of it, and a process that waits gives nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from hangdebug import __version__, files
from hangdebug.errors import HangError, ours
from hangdebug.evidence.dumps.collapsed import profile
from hangdebug.report.flame import Stacks, flame, interactive

RATE = 100  # samples a second
SELDOM = 0.1  # of the samples: whoever runs in fewer waits most of the time
LOOK = 0.3  # seconds, to see which worker is busy
STACKS, FLAME, ZOOMED, SPEEDSCOPE = "stacks.txt", "flame.svg", "flame.html", "speedscope.json"


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
    """Sample a process for some `seconds`, and write the four files into `folder`.

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
            ZOOMED: interactive(stacks).encode("utf-8", "replace"),
            SPEEDSCOPE: json.dumps(speedscope(stacks, f"process {pid}"), indent=1).encode(),
        }
        write_files(folder, made)
        count = sum(count for _, count in stacks)
        say(f"process {pid}: {count} samples in {STACKS}, {FLAME}, {ZOOMED}, {SPEEDSCOPE}")
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
