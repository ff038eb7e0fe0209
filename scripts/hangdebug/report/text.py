"""A Diagnosis as text for people, as Markdown for a ticket, as JSON for programs; many at once, and why it is so."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from hangdebug import shipped
from hangdebug.answer.model import Asked, Diagnosis, StateEntry, Step
from hangdebug.answer.states import ENTRIES
from hangdebug.answer.states import RULES as DECIDE
from hangdebug.causes import CAUSES
from hangdebug.causes.model import Cause
from hangdebug.errors import BadRequest, ours, printable
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame
from hangdebug.scene.waits import drawing

SCHEMA_VERSION = 1
NEXT = "Next: "
SHOWN_FRAMES = 12
SHOWN_NAMES = 6


def as_json(diagnosis: Diagnosis, **more: Any) -> str:
    """The contract, and `more` keys after its own."""
    return json_text({**as_dict(diagnosis), **more})


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
        "remedy": remedy
        and {
            "snippet": remedy.snippet,
            "fix": remedy.fix,
            "command": remedy.command,
            "by_hand": remedy.by_hand,
        },
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


def said_and_next(d: Diagnosis) -> tuple[list[str], list[str]]:
    """The doubts in words, and the commands that would settle them, each with its comment."""
    then = [doubt[len(NEXT) :] for doubt in d.doubts if doubt.startswith(NEXT)]
    return [doubt for doubt in d.doubts if not doubt.startswith(NEXT)], then


def as_markdown(d: Diagnosis) -> str:
    """For a ticket: what comes from the evidence is escaped, or stands in a fence that it cannot close."""
    lines = [
        f"## {d.state} / {d.cause} (confidence {d.confidence:.2f})",
        "",
        plain(d.summary),
        "",
        plain(f"Process: {', '.join(facts(d))}"),
    ]
    shown = [f"waits for  {drawing(d.waits_for)}"] if d.waits_for else []
    if d.thread:
        shown += [
            f"{'->' if marked(d, index) else '  '} {short(frame)}"
            for index, frame in enumerate(d.thread.frames[:SHOWN_FRAMES])
        ]
    lines += ["", fenced("\n".join(shown))] if shown else []
    doubts, then = said_and_next(d)
    then += [f"{d.remedy.command}   # the repair as a diff"] if d.remedy and d.remedy.command else []
    for title, items in (
        ("Evidence", d.evidence),
        ("Doubts", doubts),
        ("Not the cause", d.exonerated),
        ("Other processes", d.others),
    ):
        lines += ["", f"**{title}**", "", *(f"- {plain(item)}" for item in items)] if items else []
    lines += ["", f"**By hand**: {plain(d.remedy.by_hand)}"] if d.remedy and d.remedy.by_hand else []
    if d.remedy and d.remedy.snippet:
        lines += ["", f"**Pattern to copy**: `snippets/{d.remedy.snippet}`"]
    lines += ["", "**What to run next**", "", fenced("\n".join(then), "sh")] if then else []
    return printable("\n".join(lines)) + "\n"


def facts(d: Diagnosis) -> list[str]:
    process = d.process
    found = [
        f"pid {process.pid}" if process.pid else "",
        f"Python {process.python}" if process.python else "",
        process.server or "",
        f"supervisor {process.supervisor_pid}" if process.supervisor_pid else "",
        f"{d.samples} sample{'s' if d.samples != 1 else ''}",
        d.read,
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
    lines += [f"  by hand  {d.remedy.by_hand}"] if d.remedy.by_hand else []
    lines += [f"  pattern  {os.path.join(shipped('snippets'), d.remedy.snippet)}"] if d.remedy.snippet else []
    lines += [f"  diff     {d.remedy.command}"] if d.remedy.command else []
    return lines


# -- what comes from outside is shown, and does nothing ------------------------------------------------


def inert(words: str) -> str:
    """For HTML."""
    import html

    return html.escape(printable(words))


def json_text(value: object) -> str:
    """JSON for people and programs: what no terminal should be sent is escaped, other letters stand as they are."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1] for char in text)


def plain(text: str) -> str:
    """One line of Markdown that shows just these characters: no markup, no link, nobody notified."""
    text = " ".join(printable(text).split())
    text = re.sub(r"([\\`*_\[\]<>&|~])", r"\\\1", text).replace("://", ":\\//").replace("www.", "www\\.")
    text = re.sub(r"(@(?=\w)|#(?=\d))", r"\1<!-- -->", text)  # or a person, or an issue, would get a message
    return re.sub(r"^([#+=-]|\d+(?=[.)]))", r"\\\1", text)


def fenced(text: str, language: str = "text") -> str:
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


# -- many diagnoses: one entry for those that agree in state, cause and frame ---------------------------


@dataclass(frozen=True)
class Group:
    """Diagnoses that say the same: the surest of them, and the names of what each was made of."""

    answer: Diagnosis
    names: tuple[str, ...]


def groups(found: Iterable[tuple[str, Diagnosis]]) -> tuple[Group, ...]:
    """The largest group first. A frame is the same if function, file name and line are."""
    best: dict[tuple[object, ...], Diagnosis] = {}
    names: dict[tuple[object, ...], list[str]] = {}
    for name, answer in found:
        key = key_of(answer)
        names.setdefault(key, []).append(name)
        if key not in best or answer.confidence > best[key].confidence:
            best[key] = answer
    return tuple(Group(best[key], tuple(names[key])) for key in sorted(names, key=lambda key: -len(names[key])))


def key_of(answer: Diagnosis) -> tuple[object, ...]:
    """What diagnoses that say the same have in common: state, cause and frame."""
    frame = answer.blocking_frame
    place = frame and (frame.function.rpartition(".")[2], frame.file.replace("\\", "/").rpartition("/")[2], frame.line)
    return answer.state, answer.cause, place


def as_groups(found: Iterable[Group]) -> str:
    lines = []
    for group in found:
        answer, names = group.answer, group.names
        frame = answer.blocking_frame
        where = f" in {frame.function} ({frame.file}:{frame.line})" if frame else ""
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        lines += [
            f"{len(names):>4} x  {answer.state} / {answer.cause}{where}   confidence {answer.confidence:.2f}",
            f"        {', '.join(names[:SHOWN_NAMES])}{more}",
        ]
    return printable("\n".join(lines)) + "\n"


def as_json_groups(found: Iterable[Group]) -> str:
    """A list of {"count", "names", "diagnosis"}; each diagnosis is the contract of version 1."""
    return json_text(group_rows(found)) + "\n"


def group_rows(found: Iterable[Group]) -> list[dict[str, Any]]:
    return [
        {"count": len(group.names), "names": list(group.names), "diagnosis": as_dict(group.answer)} for group in found
    ]


# -- why this answer: --explain ------------------------------------------------------------------------

SPOKE, SILENT = "=>", "  "


def explained(diagnosis: Diagnosis) -> str:
    """The rules, the one that spoke marked, then the certainty as a table that ends in the figure shown."""
    lines = ["", "rules asked, in this order; => is the one that spoke"]
    lines += [line for asked in diagnosis.trace.asked for line in rule_lines(asked)] or ["  none"]
    lines += ["", "certainty"]
    lines += step_lines((*diagnosis.trace.steps, Step("as shown", diagnosis.confidence, "")))
    return printable("\n".join(lines)) + "\n"


def rule_lines(asked: Asked) -> list[str]:
    """The rule and its state, and below it what the rule saw."""
    head = f"  {SPOKE if asked.spoke else SILENT} {asked.rule} ({asked.state})"
    return [head, f"       {asked.saw}"] if asked.saw else [f"{head}: does not apply"]


def step_lines(steps: Sequence[Step]) -> list[str]:
    """A row a step: the figure after it, its name, its reason."""
    width = max(len(step.name) for step in steps)
    return [f"  {step.figure:.2f}  {step.name:{width}}  {step.reason}".rstrip() for step in steps]


def as_trace(diagnosis: Diagnosis) -> dict[str, Any]:
    """The same for programs: what `--json --explain` adds under the key "explain"."""
    trace = diagnosis.trace
    return {
        "asked": [
            {"rule": one.rule, "state": one.state, "saw": one.saw or None, "spoke": one.spoke} for one in trace.asked
        ],
        "steps": [{"name": one.name, "figure": one.figure, "reason": one.reason} for one in trace.steps],
    }


# -- one entry of the manual ---------------------------------------------------------------------------
# What a word of an answer means: one entry of a cause, a state or a rule, with its repair.
#
# The texts are those of the modules themselves, of which references/causes.md and references/rewrites.md are made too.


def explanation_of(word: str) -> str:
    """The entry of a cause, a state, a rule that decides or one that rewrites. Raises BadRequest for another word."""
    from hangdebug.repair.rules import RULES as REWRITE  # an answer needs none of them

    asked = word.strip().lower()
    found = [cause_entry(cause, here=True) for cause in CAUSES if cause.id == asked]
    found += [state_entry(state) for name, state in ENTRIES.items() if name == asked]
    found += [
        f"## {rule.name}\n\nDecides the state {state.name}; its question: {rule.question}?\n\n{page(rule.ask)}\n"
        for state, rule in DECIDE
        if rule.name == asked
    ]
    found += [
        f"## {rule.code} {rule.id}\n\n{rewrite_page(rule.id)}\n"
        for rule in REWRITE
        if asked.replace("-", "_") in (rule.id, rule.code.lower())
    ]
    if not found:
        known = [*(cause.id for cause in CAUSES), *ENTRIES, *(rule.id for rule in REWRITE)]
        near = get_close_matches(asked, dict.fromkeys([*known, *(rule.name for _, rule in DECIDE)]), 3, 0.5)
        raise BadRequest(
            f"{word} is no cause, no state and no rule.",
            f"Near to it: {', '.join(near)}." if near else "An answer begins with its state and its cause.",
            ours("explain", *near[:1]),
        )
    return "\n".join(found)


def cause_entry(cause: Cause, here: bool = False) -> str:
    """The docstring of its module, what it is confused with, what repairs it; `here` with paths of this machine."""
    snippet = os.path.join(shipped("snippets") if here else "snippets", cause.snippet or "")
    fix = ours("fix", "FILE:LINE") if here else "hang.py fix FILE:LINE"
    lines = [f"## {cause.id}", "", page(sys.modules[cause.match.__module__]), ""]
    lines += [f"- Not {other if here else f'[{other}](#{other})'}: {how}" for other, how in cause.confused_with.items()]
    lines += [f"- Pattern to copy: `{snippet}`"] if cause.snippet else []
    lines += [f"- Rewrite: `{fix}` ({cause.fix})"] if cause.fix else []
    return "\n".join(lines).rstrip() + "\n"


def state_entry(state: StateEntry) -> str:
    """The docstring of its module, and the rules that can decide for it."""
    module = import_module(f"hangdebug.answer.states.{state.name.replace('-', '_')}")
    rules = [f"- {rule.name}: {page(rule.ask).partition(chr(10))[0]}" for rule in state.rules]
    return "\n".join([f"## {state.name}", "", page(module), "", "Decided by:", "", *rules]) + "\n"


def rewrite_page(name: str) -> str:
    return page(import_module(f"hangdebug.repair.rules.{name}"))


def page(of: object) -> str:
    import inspect

    return inspect.getdoc(of) or ""


def known_words() -> str:
    """What can be explained, in the order in which it is tried or asked."""
    from hangdebug.repair.rules import RULES as REWRITE  # an answer needs none of them

    rows: dict[str, list[str]] = {
        "causes": [cause.id for cause in CAUSES],
        "states": list(ENTRIES),
        "rewrites": [rule.id for rule in REWRITE],
    }
    return "\n".join(
        textwrap.fill(f"{name:9} {', '.join(words)}", 100, subsequent_indent=" " * 10, break_on_hyphens=False)
        for name, words in rows.items()
    )
