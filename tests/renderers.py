"""A Snapshot as the text of each format: what the readers must turn back into the same Snapshot.

`faithful` says what a format cannot hold, by taking it out of a Snapshot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Callable

from hangdebug.evidence.model import Frame, Snapshot, Thread


@dataclass(frozen=True)
class Format:
    """How to write a format, its name, and what is lost on the way."""

    name: str
    render: Callable[[Snapshot], str]
    faithful: Callable[[Thread], Thread]
    pid: bool = False


def pyspy_text(snapshot: Snapshot) -> str:
    lines = [f"Process {snapshot.pid}: {snapshot.command}"]
    for one in snapshot.threads:
        lines.append(
            f'Thread {one.os_id} ({"active" if one.active else "idle"}{"+gil" * bool(one.owns_gil)}): "{one.name}"'
        )
        lines += [f"    {frame}" for frame in one.frames]
    return "\n".join(lines)


def pyspy_json(snapshot: Snapshot) -> str:
    return json.dumps(
        [
            {
                "pid": snapshot.pid,
                "thread_name": one.name,
                "os_thread_id": one.os_id,
                "active": one.active,
                "owns_gil": one.owns_gil,
                "frames": [
                    {"name": f.function, "filename": f.file, "short_filename": None, "line": f.line or 0}
                    for f in one.frames
                ],
            }
            for one in snapshot.threads
        ],
        indent=2,
    )


def faulthandler(snapshot: Snapshot) -> str:
    lines = ["Fatal Python error: Aborted"]
    for one in snapshot.threads:
        lines += [
            "",
            f"{'Current thread' if one is snapshot.threads[-1] else 'Thread'} {address(one)} (most recent call first):",
        ]
        lines += [f'  File "{f.file}", line {f.line or "???"} in {f.name}' for f in one.frames]
    return "\n".join(lines)


def faulthandler_314(snapshot: Snapshot) -> str:
    text = faulthandler(snapshot)
    for one in snapshot.threads:
        text = text.replace(f"{address(one)} (", f"{address(one)} [{one.name[:15]}] (")
    return text


def pystack(snapshot: Snapshot) -> str:
    lines = []
    for one in snapshot.threads:
        lines.append(
            f"Traceback for thread {one.os_id} (python3.11) "
            f"[{'Has the GIL' * bool(one.owns_gil)}] (most recent call last):"
        )
        for f in reversed(one.frames):
            lines += [f'    (Python) File "{f.file}", line {f.line or "?"}, in {f.name}'] + [
                f"        {f.text}"
            ] * bool(f.text)
        lines.append("")
    return "\n".join(lines)


def gdb(snapshot: Snapshot) -> str:
    lines = []
    for number, one in enumerate(snapshot.threads):
        lines += [
            "",
            f'Thread {number + 1} (Thread 0x7f2e477136c0 (LWP {one.os_id}) "python"):',
            "Traceback (most recent call first):",
        ]
        for f in one.frames:
            lines += [f'  File "{f.file}", line {f.line or "?"}, in {f.name}'] + [f"    {f.text}"] * bool(f.text)
    return "\n".join(lines)


def current_frames(snapshot: Snapshot) -> str:
    lines = []
    for number, one in enumerate(snapshot.threads):
        lines += ["", f"# Thread: {one.name}({139845583238848 + number})"]
        for f in reversed(one.frames):
            lines += [f'  File "{f.file}", line {f.line or "?"}, in {f.name}'] + [f"    {f.text}"] * bool(f.text)
    return "\n".join(lines)


def profiling(snapshot: Snapshot) -> str:
    lines = []
    for one in snapshot.threads:
        main = "main thread, " if one.name == "MainThread" else ""
        lines.append(f"Stack dump for PID {snapshot.pid}, thread {one.os_id} ({main}idle; most recent call last):")
        for f in reversed(one.frames):
            lines += [f'  File "{f.file}", line {f.line or "?"}, in {f.function}'] + [f"    {f.text}"] * bool(f.text)
        lines.append("")
    return "\n".join(lines)


def pyspy_raw(snapshot: Snapshot) -> str:
    return "\n".join(
        ";".join([f"thread ({one.os_id}): {one.name}", *map(str, reversed(one.frames))]) + " 5"
        for one in snapshot.threads
    )


def austin(snapshot: Snapshot) -> str:
    return "\n".join(
        ";".join(
            [
                f"P{snapshot.pid}",
                f"T0:{one.os_id}",
                *[f"{f.file}:{f.function}:{f.line or 0}" for f in reversed(one.frames)],
            ]
        )
        + " 100098"
        for one in snapshot.threads
    )


def austin_where(snapshot: Snapshot) -> str:
    lines = []
    for one in snapshot.threads:
        lines += ["", f"\U0001f412 Process {snapshot.pid} \U0001f9f5 Thread 0:{one.os_id}", ""]
        lines += [f"    {f.function} ({f.file}:{f.line or 0})" for f in reversed(one.frames)]
    return "\n".join(lines)


def uwsgi(snapshot: Snapshot) -> str:
    lines = ["*** uWSGI Python tracebacker output ***", ""]
    for one in snapshot.threads:
        lines += [
            f"thread_id = {one.name} filename = {f.file} lineno = {f.line or 0} function = {f.name} line = {f.text}"
            for f in reversed(one.frames)
        ] + [""]
    return "\n".join(lines[2:])


def pyflame(snapshot: Snapshot) -> str:
    lines = []
    for one in snapshot.threads:
        lines += [
            f"{ident(one)}{'*' * bool(one.owns_gil)}:",
            *[f"{f.file}:{f.name}:{f.line or 0}" for f in one.frames],
            "",
        ]
    return "\n".join(lines)


def ident(one: Thread) -> str:
    return str(139845583238848 + (one.os_id or 0))


def address(one: Thread) -> str:
    return f"0x{0x7F0000000000 + (one.os_id or 0):016x}"


def bare(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(replace(frame, function=frame.name) for frame in frames)


def by_address(one: Thread) -> Thread:
    return Thread(bare(one.frames), address(one))


def by_id(one: Thread) -> Thread:
    return Thread(one.frames, "", one.os_id)


FORMATS = (
    Format("py-spy text", pyspy_text, lambda one: one, True),
    Format("py-spy JSON", pyspy_json, lambda one: one, True),
    Format("faulthandler", faulthandler, by_address),
    Format("faulthandler", faulthandler_314, lambda one: Thread(bare(one.frames), one.name[:15] or address(one))),
    Format("pystack", pystack, lambda one: Thread(bare(one.frames), "", one.os_id, None, one.owns_gil or None)),
    Format("gdb", gdb, lambda one: Thread(bare(one.frames), "", one.os_id)),
    Format("traceback", current_frames, lambda one: Thread(bare(one.frames), one.name)),
    Format(
        "profiling.sampling",
        profiling,
        lambda one: Thread(one.frames, one.name if one.name == "MainThread" else "", one.os_id, False),
    ),
    Format("collapsed stacks", pyspy_raw, lambda one: Thread(one.frames, one.name, one.os_id)),
    Format("collapsed stacks", austin, by_id, True),
    Format("austin --where", austin_where, by_id, True),
    Format("uWSGI tracebacker", uwsgi, lambda one: Thread(bare(one.frames), one.name)),
    Format("file:function:line", pyflame, lambda one: Thread(bare(one.frames), ident(one))),
)
