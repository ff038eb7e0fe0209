"""A Diagnosis as text for people, as Markdown for a ticket, and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.model import Frame
from hangdebug.scene.rings import drawing

SCHEMA_VERSION = 1
SHOWN_FRAMES = 12


def as_json(diagnosis: Diagnosis, **more: Any) -> str:
    """The contract, and `more` keys after its own."""
    return json.dumps({**as_dict(diagnosis), **more}, indent=2, ensure_ascii=False)


def as_dict(d: Diagnosis) -> dict[str, Any]:
    """The contract, version 1. Keys are always there; parts that do not apply are null."""
    frame, kernel, remedy = d.blocking_frame, d.kernel_wait, d.remedy
    return {
        "schema_version": SCHEMA_VERSION,
        "state": d.state,
        "cause": d.cause,
        "confidence": d.confidence,
        "summary": d.summary,
        "blocking_frame": frame
        and {"function": frame.function, "file": frame.file, "line": frame.line, "source": frame.source},
        "thread": d.thread and {"name": d.thread.name, "os_id": d.thread.os_id, "role": d.role},
        "kernel_wait": {"syscall": kernel.syscall, "detail": kernel.detail} if kernel and kernel.syscall else None,
        "evidence": list(d.evidence),
        "doubts": list(d.doubts),
        "exonerated": [*d.exonerated, *d.others],
        "remedy": remedy and {"snippet": remedy.snippet, "fix": remedy.fix, "command": remedy.command},
        "process": {
            "pid": d.process.pid,
            "python": d.process.python,
            "server": d.process.server,
            "supervisor_pid": d.process.supervisor_pid,
        },
        "samples": d.samples,
        "waits_for": [
            {
                "thread": one.thread,
                "waits_for": one.waits_for,
                "through": one.through,
                "frame": str(one.frame) if one.frame else None,
            }
            for one in d.waits_for
        ],
        "rule": d.rule,
    }


def as_text(d: Diagnosis) -> str:
    """The answer first, then the frame, the evidence, the doubts, what was exonerated, what to do."""
    lines = [f"{d.state} / {d.cause}   confidence {d.confidence:.2f}", d.summary, ""]
    lines += ["process    " + ", ".join(facts(d))]
    if d.blocking_frame:
        frame = d.blocking_frame
        lines += [f"frame      {frame.function} ({frame.file}:{frame.line})"]
        lines += [f"source     {frame.source}"] if frame.source else []
    if d.waits_for:
        lines += [f"waits for  {drawing(d.waits_for)}"]
    if d.thread:
        lines += ["", "stack      innermost first" + (f", thread {d.thread.name}" if d.thread.name else "")]
        lines += [
            f"  {'->' if marked(d, index) else '  '} {short(frame)}"
            for index, frame in enumerate(d.thread.frames[:SHOWN_FRAMES])
        ]
        rest = len(d.thread.frames) - SHOWN_FRAMES
        lines += [f"     ... {rest} more"] if rest > 0 else []
    for title, items in (
        ("evidence", d.evidence),
        ("doubts", d.doubts),
        ("not the cause", d.exonerated),
        ("other processes", d.others),
    ):
        lines += ["", title, *(f"  - {item}" for item in items)] if items else []
    lines += remedy_lines(d)
    return printable("\n".join(lines)) + "\n"


def as_markdown(d: Diagnosis) -> str:
    lines = [
        f"## {d.state} / {d.cause} (confidence {d.confidence:.2f})",
        "",
        d.summary,
        "",
        f"Process: {', '.join(facts(d))}",
    ]
    lines += ["", f"Waits for: {drawing(d.waits_for)}"] if d.waits_for else []
    if d.thread:
        stack = [
            f"{'->' if marked(d, index) else '  '} {short(frame)}"
            for index, frame in enumerate(d.thread.frames[:SHOWN_FRAMES])
        ]
        lines += ["", "```text", *stack, "```"]
    for title, items in (
        ("Evidence", d.evidence),
        ("Doubts", d.doubts),
        ("Not the cause", d.exonerated),
        ("Other processes", d.others),
    ):
        lines += ["", f"**{title}**", "", *(f"- {item}" for item in items)] if items else []
    lines += ["", *(line if not line else f"    {line}" for line in remedy_lines(d)[1:])] if d.remedy else []
    return printable("\n".join(lines)) + "\n"


def facts(d: Diagnosis) -> list[str]:
    process = d.process
    found = [
        f"pid {process.pid}" if process.pid else "",
        f"Python {process.python}" if process.python else "",
        process.server or "",
        f"supervisor {process.supervisor_pid}" if process.supervisor_pid else "",
        f"{d.samples} sample{'s' if d.samples != 1 else ''}",
    ]
    return [fact for fact in found if fact]


def marked(d: Diagnosis, index: int) -> bool:
    frame = d.thread.frames[index] if d.thread else None
    return bool(
        frame
        and d.blocking_frame
        and (frame.function, frame.file, frame.line)
        == (d.blocking_frame.function, d.blocking_frame.file, d.blocking_frame.line)
    )


def short(frame: Frame) -> str:
    """A library's frame without the place where the library is installed; the application's as it stands."""
    return str(replace(frame, file=library_path(frame.file) or frame.file, note=""))


def remedy_lines(d: Diagnosis) -> list[str]:
    if not d.remedy:
        return []
    lines = ["", "remedy"]
    lines += [f"  pattern  snippets/{d.remedy.snippet}"] if d.remedy.snippet else []
    lines += [f"  diff     {d.remedy.command}"] if d.remedy.command else []
    return lines


def printable(text: str) -> str:
    """Without control characters: a dump is untrusted, and a terminal obeys escape sequences."""
    return "".join(char if char == "\n" or char.isprintable() else "?" for char in text)
