"""What the notebook shows: tables, a stack, a source, a diff. Data in, `Shown` out.

Each view is HTML for a notebook and plain text for everything else. Colours are the theme's own or translucent,
so that light and dark both read well, and they are never the only sign: marks stand beside them.
"""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from typing import Any, Callable

from hangdebug.answer.model import Diagnosis
from hangdebug.errors import HangError, ours
from hangdebug.evidence.frames import calls, is_application, library_path, package
from hangdebug.evidence.kernel import in_words
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Task
from hangdebug.repair import fix
from hangdebug.repair.model import Patch, Probe
from hangdebug.report.flame import Stacks, flame, interactive
from hangdebug.report.incident import next_commands
from hangdebug.report.svg import Picture, at_night
from hangdebug.report.text import inert
from hangdebug.report.thread_rows import Stack, stacks_of
from hangdebug.scene.scene import Scene, View

AROUND = 10  # lines before and after the marked one
CONTEXT = 3  # lines around a change
LIBRARY = re.compile(r"[^\s(`]*/(?:(?:site|dist)-packages|lib(?:64)?/python3[.\d]*t?)/")
# Apart also for the colour-blind; so faint that the editor's own colours can be read on them.
ORANGE, BLUE, AMBER = "#d55e00", "#0072b2", "rgba(230, 159, 0, .12)"
REMOVED, ADDED = "rgba(213, 94, 0, .09)", "rgba(0, 114, 178, .09)"
CELL = "text-align: left; vertical-align: top; padding: 1px 8px; white-space: "
PLAIN = "list-style: none; margin: 0; padding: 0"
SHORT = 30  # characters that are not wrapped

# What stands below a handler that hangs, outwards. The first place that fits speaks.
MEANING = {
    ("threading.py:_wait_for_tstate_lock", "threading.py:join"): "waits until another thread has ended",
    ("concurrent/futures/thread.py:shutdown",): "joins the pool's threads, one after the other",
    ("concurrent/futures/_base.py:__exit__",): "the end of a `with` block: shutdown(wait=True)",
    ("asyncio/events.py:_run",): "runs ONE callback; until it returns, nothing else runs",
    ("asyncio/base_events.py:_run_once",): "one turn of the loop: poll, then run what is ready",
}
PACKAGES = {
    "starlette": "the framework: runs your handler, sends what it yields",
    "fastapi": "the framework",
    "anyio": "runs a coroutine as a task",
    "asyncio": "keeps the loop turning",
    "uvloop": "keeps the loop turning",
    "uvicorn": "the server, from its start",
    "click": "the command line",
    "runpy": "python -m",
    "<frozen runpy>": "python -m",
}
VERDICTS = ("PASSED", "FAILED", "NOT PROVED")
LOOPS = ("asyncio", "uvloop", "selectors", "nest_asyncio", "trio")
_shortened: list[tuple[str, str]] = []


@dataclass(frozen=True)
class Shown:
    """One thing to look at, as HTML and as text; a picture has `png` in place of HTML."""

    text: str
    html: str = ""
    png: bytes = b""

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.png:
            return {"image/png": self.png, "text/plain": self.text}, {"image/png": {"alt": self.text}}
        return {"text/html": self.html, "text/plain": self.text}, {}


def shorten(folders: Iterable[Path]) -> None:
    """From now on, name files relative to these folders."""
    _shortened[:] = [(f"{folder}/", "") for folder in folders]


def neutral(text: str) -> str:
    """`text` with short names of files: a library's without its place, the demo's relative to its folder."""
    for long, short in _shortened:
        text = text.replace(long, short)
    return LIBRARY.sub("", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], marked: int | None = None) -> Shown:
    """Rows of text. The `marked` one (from 0) stands out by an arrow and a colour."""
    rows = [tuple(cell if isinstance(cell, Coloured) else neutral(cell) for cell in row) for row in rows]
    if marked is not None:
        head = ("", *head)
        rows = [("->" if index == marked else "", *row) for index, row in enumerate(rows)]
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    text = "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))
    body = [tr(row, AMBER if index == marked else "") for index, row in enumerate(rows)]
    return Shown(text, f'<div style="overflow-x: auto"><table>{tr(head, tag="th")}{"".join(body)}</table></div>')


def tr(cells: Sequence[str], colour: str | Sequence[str] = "", tag: str = "td") -> str:
    """One row; `colour` is one for all of it, or one a cell."""
    colours = [colour] * len(cells) if isinstance(colour, str) else colour
    inner = [
        f'<{tag} style="{CELL}{wrap(cell)}; background: {paint or "none"}">{code(cell)}</{tag}>'
        for cell, paint in zip(cells, colours)
    ]
    return f"<tr>{''.join(inner)}</tr>"


def wrap(text: str) -> str:
    """A word is broken only where it has no room in a line of its own."""
    return "pre" if len(text) <= SHORT else "pre-wrap; overflow-wrap: break-word"


def code(text: str) -> str:
    style = "background: none; color: inherit; padding: 0; white-space: inherit"
    inner = text.html if isinstance(text, Coloured) else inert(text)
    return f'<code style="{style}">{inner}</code>' if text else ""


class Coloured(str):
    """A line of source, or words of which some are explained. `html` is the same in colours, or with what explains."""

    html = ""


def coloured(lines: Sequence[str]) -> list[Coloured]:
    """Lines of Python that follow one another, in the colours of the editor; plain where Pygments cannot tell."""
    found = [Coloured(line) for line in lines]
    for line, inner in zip(found, painted(lines)):
        line.html = inner
    return found


def painted(lines: Sequence[str]) -> list[str]:
    plain = [inert(line) for line in lines]
    try:
        from pygments.lexers import PythonLexer
        from pygments.token import Token
    except ImportError:
        return plain
    colours = [
        (Token.Literal.String, "string"),
        (Token.Comment, "comment"),
        (Token.Keyword, "keyword"),
        (Token.Literal.Number, "number"),
        (Token.Name.Function, "def"),
        (Token.Name.Class, "def"),
        (Token.Name.Builtin, "builtin"),
        (Token.Name.Decorator, "meta"),
        (Token.Operator.Word, "keyword"),
    ]
    parts = []
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens("\n".join(lines)):
        if kind in Token.Error:
            return plain
        name = next((name for token, name in colours if kind in token), "")
        for piece in re.split("(\n)", text):  # a docstring goes over many lines
            span = f'<span style="color: var(--jp-mirror-editor-{name}-color, inherit)">{inert(piece)}</span>'
            parts.append(span if name and piece.strip() else inert(piece))
    # An indent by itself is shrunk to one space where a notebook is made a page of: it goes into the span behind it.
    inner = [re.sub(r"^( +)(<span [^>]*>)", r"\2\1", line) for line in "".join(parts).split("\n")]
    return inner if len(inner) == len(lines) else plain


def evidence_for(answer: Diagnosis, evidence: Iterable[Evidence]) -> Evidence:
    """The evidence of the process that the answer is about."""
    pid = answer.process.pid
    return next(one for one in evidence if pid in (None, one.process.pid, one.snapshots[-1].pid))


NO_ANSWER = Diagnosis("inconclusive", "none", 0.0, "")


def threads(
    scene: Scene, sample: int = -1, answer: Diagnosis | None = None, word: str = "", unfolded: bool = False
) -> Shown:
    """All stacks of a sample, by default of the last one; as text a row a thread: its role, your frame, its last call.

    Each opens: the kernel's word, the locks, the frames. Only those with `word` in them are shown, open; `answer` is
    None where it is not to be told. The thread at fault, and all if `unfolded`, are open.
    """
    rows = []
    for view in sorted(scene.samples[sample], key=order):
        called = (view.inner or view.section or view.thread.frames)[0].name
        doing = ("waits for work", "") if view.idle else (place(view.frame), called)
        rows.append((view.thread.name or str(view.thread.os_id), view.role, *doing))
    text = table(("thread", "role", "your frame", "innermost call"), rows).text
    every, wanted = stacks_of(scene, answer or NO_ANSWER, sample), word.lower().strip()
    found = [one for one in every if wanted in "\n".join([one.head, *one.beside, *map(str, one.frames)]).lower()]
    mine = answer and answer.blocking_frame and (answer.blocking_frame.file, answer.blocking_frame.line)
    parts = [one_stack(one, scene.evidence, mine, unfolded or bool(wanted) or one.fault) for one in found]
    shown = f"{len(found)} of {len(every)}" if len(found) < len(every) else str(len(every))
    return Shown(text, f'<p class="hang-facts">{shown} different stacks; equal ones are shown once</p>{"".join(parts)}')


def one_stack(one: Stack, evidence: Evidence, mine: tuple[str, int | None] | None, is_open: bool) -> str:
    own = next((frame for frame in one.frames if is_application(frame)), None)
    doing = "waits for work" if one.rests and own is None else near(own or next(iter(one.frames), None))
    name, _, what = one.head.removeprefix("1 x  ").partition("   ")
    beside = "".join(f"<li>{with_calls(neutral(line))}</li>" for line in one.beside)
    fault, same = "hang-fault" if one.fault else "", [(frame.file, frame.line) == mine for frame in one.frames]
    return (
        f'<details class="hang-stack {fault}" {"open" if is_open else ""}><summary><b>{inert(name)}</b> '
        f"<span>{inert(what)}</span> <code>{inert(neutral(doing))}</code></summary>"
        f"<ul>{beside}</ul>{frames_of(one.frames, evidence, same)}</details>"
    )


def with_calls(words: str) -> str:
    """As HTML; what the kernel's call means is shown to whoever points at it: it stands first, or after "kernel: "."""
    said, between, call = words.rpartition("kernel: ")
    name = re.match(r"\w*", call)[0]  # type: ignore[index]
    means = in_words(name) if between or name == words else ""
    if not means:
        return inert(words)
    return f'{said}{between}<abbr title="{inert(means)}">{inert(name)}</abbr>{inert(call[len(name) :])}'


def order(view: View) -> tuple[int, str]:
    """The loop first, its workers next."""
    return ("event-loop", "main", "worker", "other").index(view.role), view.thread.name


def stack(answer: Diagnosis, evidence: Evidence) -> Shown:
    """The stack in question, innermost first: the frame, whose it is, what it does. Libraries' frames are folded."""
    if answer.thread is None:
        raise HangError("No thread is stuck, so there is no stack to read.", answer.summary)
    mine = answer.blocking_frame
    key = mine and (mine.function, mine.file, mine.line)
    frames = answer.thread.frames
    same = [(frame.function, frame.file, frame.line) == key for frame in frames]
    rows = [(one.function, at(one), owner(one), meaning(one, evidence)) for one in frames]
    text = table(("frame", "where", "whose", "what it does"), rows, same.index(True) if any(same) else None).text
    return Shown(text, frames_of(frames, evidence, same))


def frames_of(frames: Sequence[Frame], evidence: Evidence, same: Sequence[bool]) -> str:
    """Frames as HTML, innermost first, those marked that are the `same`. Libraries' frames are folded."""
    rows = [(one.function, at(one), owner(one), meaning(one, evidence)) for one in frames]
    parts = []
    for yours, members in groupby(zip(frames, same, rows), lambda one: is_application(one[0])):
        group = list(members)
        items = "".join(item(row, AMBER if marked else "") for _, marked, row in group)
        names = ", ".join(dict.fromkeys(package(frame) or "Python" for frame, _, _ in group))
        head = f"{len(group)} frame{'s' * (len(group) > 1)} of {inert(names)}"
        parts.append(
            items
            if yours
            else f'<li style="{PLAIN}"><details><summary style="cursor: pointer; opacity: .85">{head}'
            f'</summary><ol style="{PLAIN}; padding-left: 1.2em">{items}</ol></details></li>'
        )
    return f'<ol style="{PLAIN}">{"".join(parts)}</ol>'


def item(row: Sequence[str], colour: str) -> str:
    """One frame of a list."""
    function, where, whose, does = (inert(neutral(cell)) for cell in row)
    paint = f"; background: {colour}; box-shadow: inset 3px 0 {ORANGE}" if colour else ""
    said = f'<br><span style="opacity: .85">{does}</span>' if does else ""
    mark = f" <b>{whose}</b>" if whose == "YOURS" else ""
    style, name = f"{PLAIN}; padding: 2px 8px{paint}", f'<code style="background: none">{function}</code>'
    return f'<li style="{style}">{name} {where}{mark}{said}</li>'


def tasks(evidence: Evidence) -> Shown:
    """One row for all of asyncio's tasks that stand in the same place: what they wait for, and where."""
    if not evidence.tasks and not evidence.later:
        raise HangError(
            "No task is known.",
            evidence.unread or "A dump of stacks alone does not show them.",
            "capture the live process: its tasks are read from its memory",
        )
    found = Counter(map(described, evidence.later or evidence.tasks))
    rows = [(*row, str(count)) for row, count in found.most_common()]
    shown = table(("coroutine", "waits for", "your frame", "tasks"), rows)
    return Shown(f"{shown.text}\n{evidence.unread}".rstrip(), shown.html + inert(evidence.unread))


def described(task: Task) -> tuple[str, str, str]:
    mine = next((frame for frame in task.frames if is_application(frame)), None)
    return task.coroutine or task.name, str(task.awaits or task.waits_on or task.state), place(mine)


def place(frame: Frame | None) -> str:
    return f"{frame.name} ({at(frame)})" if frame else ""


def near(frame: Frame | None) -> str:
    """The same with the bare name of an application's file: it stands in a line with more."""
    return place(frame and replace(frame, file=library_path(frame.file) or Path(frame.file).name))


def at(frame: Frame) -> str:
    return f"{library_path(frame.file) or frame.file}:{frame.line}"


def owner(frame: Frame) -> str:
    if is_application(frame):
        return "YOURS"
    if package(frame) in LOOPS:
        return "event loop"
    return "library" if "-packages" in frame.file else "Python"


def meaning(frame: Frame, evidence: Evidence) -> str:
    if is_application(frame):
        return evidence.sources.get(frame.file, {}).get(frame.line or 0, "").strip()
    known = (said for places, said in MEANING.items() if calls(frame, *places))
    return next(known, PACKAGES.get(package(frame), ""))


def reasons(answer: Diagnosis) -> Shown:
    """What speaks for the answer, what against it, and what was looked at and is not to blame."""
    kinds = {
        "evidence": answer.evidence,
        "doubt": answer.doubts,
        "exonerated": answer.exonerated,
        "other process": answer.others,
    }
    rows = [(kind, line) for kind, lines in kinds.items() for line in lines]
    return table(("", f"confidence {answer.confidence:.2f}"), rows)


def source(answer: Diagnosis, evidence: Evidence) -> Shown:
    """The blocking frame in its source, as it was read when the evidence was taken. Raises HangError."""
    frame = answer.blocking_frame
    if frame is None:
        raise HangError("There is no blocking frame.", answer.summary)
    lines = evidence.sources.get(frame.file, {})
    if not lines or frame.line is None:
        raise HangError(
            f"The blocking frame is {frame.function}, line {frame.line} of {frame.file}.",
            "That file is not on this machine.",
            "open it where the code is kept",
        )
    near = [number for number in sorted(lines) if abs(number - frame.line) <= AROUND]
    rows = list(zip(map(str, near), coloured([neutral(lines[number]) for number in near])))
    return table(("line", neutral(frame.file)), rows, near.index(frame.line))


def kernel(scene: Scene, sample: int | None = None) -> Shown:
    """One row a thread: the system call in which it waits, as read before anything was attached, or at a sample."""
    evidence, index = scene.evidence, -1 if sample is None else sample
    readings = evidence.readings if sample is None else evidence.attached
    if not readings or readings[index] is None:
        raise HangError(
            "The kernel was not asked.",
            "Only Linux says in which system call a thread is, and only of a live process.",
        )
    rows = []
    for view in sorted(scene.samples[index], key=order):
        wait = readings[index].waits.get(view.thread.os_id or -1, KernelWait())
        call = Coloured(wait.syscall or "unknown")
        call.html = with_calls(call)
        rows.append((view.thread.name, view.role, call, in_words(wait.syscall), wait.detail or ""))
    return table(("thread", "role", "system call", "which means", "on what"), rows)


def diffs(patches: Sequence[Patch], refusal: str) -> Shown:
    """The rewrites, one under the other. Raises HangError where there are none."""
    if not patches:
        raise HangError("No rewrite is proposed.", refusal)
    shown = [side_by_side(patch, coloured) for patch in patches]
    return Shown("\n".join(one.text for one in shown), "".join(one.html for one in shown))


def picture(drawn: Picture) -> Picture:
    """The same with short names of files."""
    data = drawn.data if drawn.is_png else neutral(drawn.data.decode()).encode()
    return Picture(data, neutral(drawn.alt), neutral(drawn.caption))


def nothing(what: str) -> Shown:
    return Shown(what, f"<p>{inert(what)}</p>")


def side_by_side(patch: Patch | None, paint: Callable[[list[str]], list] = list) -> Shown:
    """Before and after in two columns, with `-` and `+` at the lines that differ. `paint` may be `coloured`.

    Raises HangError where there is no patch.
    """
    if patch is None:
        raise HangError("No rewrite is proposed for this place.", "", "see the remedy in the report below")
    old, new, rows = paint(patch.before.splitlines()), paint(patch.after.splitlines()), []
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        rows += [tr(("", "...", "", "..."))] if rows else []
        for kind, first, last, start, end in group:
            height = max(last - first, end - start)
            left = column(old, first, last, height, "" if kind == "equal" else "-")
            right = column(new, start, end, height, "" if kind == "equal" else "+")
            ground = ("", "") if kind == "equal" else (REMOVED, ADDED)
            rows += [
                tr((*one, *other), (*[ground[0] * bool(one[0])] * 2, *[ground[1] * bool(other[0])] * 2))
                for one, other in zip(left, right)
            ]
    head = tr(("", f"{neutral(patch.file)} as it is", "", "as it would be"), tag="th")
    widths = '<colgroup><col style="width: 4.5em"><col><col style="width: 4.5em"><col></colgroup>'
    text = fix.diff(replace(patch, file=neutral(patch.file)))
    stays = "".join(f"<p>It stays: {html.escape(neutral(words))}</p>" for words in patch.stays)
    return Shown(text, f'<table style="table-layout: fixed; width: 100%">{widths}{head}{"".join(rows)}</table>{stays}')


def column(lines: list[str], first: int, last: int, height: int, sign: str) -> list[tuple[str, str]]:
    """(number and sign, text) pairs, filled up with empty ones."""
    filled = [(f"{number + 1} {sign}".strip(), lines[number]) for number in range(first, last)]
    return filled + [("", "")] * (height - len(filled))


# -- the panel, as HTML ---------------------------------------------------------------------------------


def explained(answer: Diagnosis, source: str, stack: str) -> str:
    """The blocking frame in its source and the stack that leads there, both as HTML; beside them what says so."""
    lines = [
        ("What says so", answer.evidence),
        ("Doubts", answer.doubts),
        ("Not the cause", answer.exonerated),
        ("Other processes", answer.others),
    ]
    right = "".join(
        f"<h4>{title}</h4><ul>{''.join(f'<li>{inert(neutral(line))}</li>' for line in some)}</ul>"
        for title, some in lines
        if some
    )
    left = f"{source}<h4>The stack, innermost call first</h4>{stack}"
    return f'<div class="hang-beside"><div>{left}</div><div>{right}</div></div>'


def ended(desk: Any) -> bool:
    """Whether nothing was found that could be repaired: the way ends with the answer, and goes on elsewhere."""
    return bool(desk and desk.answer and not desk.guessing and desk.answer.state in ("healthy", "inconclusive"))


def ending(answer: Diagnosis, evidence: Evidence) -> str:
    """What was ruled out, what is in doubt, and where to look next, as HTML."""
    doubts = [doubt for doubt in answer.doubts if not doubt.startswith("Next: ")]
    lists = [
        ("What was looked at", answer.evidence),
        ("What was ruled out", (*answer.exonerated, *answer.others)),
        ("What is left in doubt", doubts),
    ]
    said = "".join(
        f"<h4>{title}</h4><ul>{''.join(f'<li>{inert(neutral(line))}</li>' for line in lines)}</ul>"
        for title, lines in lists
        if lines
    )
    waits = evidence.clients.waits if evidence.clients is not None else None
    hints = ["Save evidence again while a request has no answer: this is how it was at one moment."]
    if answer.process.pid is None:
        hints = ["Save evidence of the live process: stacks alone show neither what the kernel says nor the clients."]
    if waits == () and answer.state == "healthy":
        hints.append(
            "No client of this process has waited for an answer as long as a second. A request that hangs now waits "
            "elsewhere: at another process, at a proxy in front of it, or it was never sent."
        )
    rows = "".join(f"<li>{inert(hint)}</li>" for hint in hints) + "".join(
        f"<li><code>{inert(command)}</code> {inert(what)}</li>"
        for command, what in next_commands(answer, evidence, True, True, False)
    )
    if answer.process.pid is not None:
        watch = ours("diagnose", "--pid", answer.process.pid, "--watch")
        rows += f"<li><code>{inert(watch)}</code> keeps looking, and keeps the evidence of the first stall</li>"
    return f'<div class="hang-ending"><div>{said}</div><div><h4>Where to look next</h4><ul>{rows}</ul></div></div>'


def flame_graph(profile: Stacks) -> Shown:
    """The page that zooms and searches, in a frame of its own that can reach nothing else. Raises HangError."""
    if not profile:
        raise HangError(
            "There are no samples of running code.", "They are taken of a busy process: one that waits runs nothing."
        )
    whole = interactive(profile, at_night=False)  # the panel's theme turns it dark, whatever the browser's is
    height = int(re.search(r'id="graph" style="height:(\d+)px', whole)[1]) + 96  # type: ignore[index]
    frame = (
        f'<iframe class="hang-flame" title="Flame graph: click to zoom, type to search" sandbox="allow-scripts" '
        f'style="height: {height}px" srcdoc="{html.escape(neutral(whole))}"></iframe>'
    )
    return Shown(neutral(flame(profile).alt), frame)


def why_picked(pid: int, servers: Iterable[Any]) -> str:
    """Why a server is chosen already, in a sentence as HTML; "" where none is."""
    one = next((one for one in servers if one.pid == pid), None)
    if one is None:
        return ""
    port = f" on port {one.ports[0]}" if one.ports else ""
    return f'<p class="hang-why">Process {one.pid}{port} is chosen: {inert(one.health.words)}.</p>'


def links(*files: Path) -> str:
    """The files to take along: a browser may be far from this machine."""
    kinds = {".html": "text/html", ".md": "text/markdown", ".json": "application/json"}
    return " ".join(
        f'<a class="hang-link" download="{inert(file.name)}" href="data:{kinds[file.suffix]};base64,'
        f'{base64.b64encode(file.read_bytes()).decode()}">Download {inert(file.name)}</a>'
        for file in files
    )


def meter(doing: str, steps: int, most: int) -> str:
    done = f'value="{min(steps, most)}" max="{most}"' if most else ""
    words = inert(doing)
    bar = f'<progress aria-label="{words}" {done}></progress>'
    return f'<div class="hang-said" role="status">{bar} {words}</div>'


def said(words: str, fault: BaseException | None = None) -> str:
    """What came of it: a few lines, or what went wrong with the next step set off."""
    if fault is None:
        lines = [f"<b>{inert(line)}</b>" if line.startswith(VERDICTS) else inert(line) for line in words.splitlines()]
        return f'<pre class="hang-said" role="status">{chr(10).join(lines)}</pre>' if words else ""
    lines = [f"<div>{inert(line)}</div>" for line in words.splitlines() if not line.startswith("Next: ")]
    after = [f"<div>Next: {as_command(line[6:])}</div>" for line in words.splitlines() if line.startswith("Next: ")]
    return f'<div class="hang-alert" role="alert">{"".join(lines + after)}</div>'


def story(words: str) -> str:
    """Paragraphs for a reader, the first one as their head: their lines are as long as there is room."""
    head, *rest = (" ".join(part.split()) for part in words.split("\n\n"))
    paragraphs = "".join(f"<p>{quoted(one)}</p>" for one in rest)
    return f'<div class="hang-story" role="status"><b>{inert(head)}</b>{paragraphs}</div>'


def quoted(words: str) -> str:
    """A sentence as HTML, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", inert(words))


def as_command(words: str) -> str:
    """As code where it has an option or a path in it; else it is a sentence."""
    return f"<code>{inert(words)}</code>" if re.search(r"(^|\s)(-{1,2}\w|\S*/\S)", words) else inert(words)


def remark(words: str) -> str:
    """Why there is nothing to see in a tab: no fault."""
    return f'<div class="hang-remark">{"".join(f"<div>{inert(line)}</div>" for line in words.splitlines())}</div>'


def asked_so_far(probes: list[Probe]) -> str:
    """The last requests, newest last."""
    lines = [f"{one.phase:16} {one.status or 'none':>4}  {one.seconds:7.3f} s  {one.url}" for one in probes[-8:]]
    return f'<pre class="hang-said">{inert(chr(10).join(lines))}</pre>'


def heading(desk: Any) -> str:
    """Where one is on the way."""
    have = [
        desk is not None,
        bool(desk and desk.answer),
        bool(desk and desk.answer and not desk.guessing),
        bool(desk and desk.written),
        bool(desk and desk.after),
    ]
    now = have.index(False) if False in have else len(have)
    names = ("target", "evidence", "answer", "repair", "proof")[: 3 if ended(desk) else 5]
    items = "".join(
        f'<li class="{"hang-now" if index == now else ""}" {"aria-current=step" if index == now else ""}>'
        f"{'&#10003; ' if have[index] else ''}{name}</li>"
        for index, name in enumerate(names)
    )
    return f'<div class="hang-head"><b>A hung backend</b><ol>{items}</ol></div>'


def card(desk: Any) -> str:
    """The answer in a sentence."""
    answer = desk.answer
    if desk.guessing:
        title = inert(str(desk.case.title))
        return f'<div class="hang-card"><b>{title}</b><div>What is it? Look at the tabs, then choose above.</div></div>'
    kept = f"evidence kept in {desk.source}" if desk.target else f"read from {given(desk.source)}"
    facts = [
        *([f"pid {answer.process.pid}"] if answer.process.pid else []),
        f"confidence {answer.confidence:.2f}",
        f"{answer.samples} samples" if answer.samples > 1 else "1 sample",
        kept,
    ]
    said_of = "".join(f"<span>{inert(neutral(fact))}</span>" for fact in facts)
    well = "hang-well" if answer.state == "healthy" else ""
    return (
        f'<div class="hang-card {well}"><b>{inert(answer.state)} / {inert(answer.cause)}</b>'
        f"<div>{quoted(neutral(answer.summary))}</div><div class='hang-facts'>{said_of}</div></div>"
    )


def given(source: Path | str) -> str:
    """What a file or a text is called that was not taken from here."""
    return source.name if isinstance(source, Path) else "the pasted dump"


ALONE = """
[cell-index]:has(.hang) ~ [cell-index] { display: none; }
.hang { border: 0; border-radius: 0; max-width: none; min-height: 100vh; }
"""
NIGHT = at_night('[data-jp-theme-light="false"]')
STYLE = """
.hang { --hang-soft: #595959; }
[data-jp-theme-light="false"] .hang { --hang-soft: #bdbdbd; --jp-mirror-editor-def-color: #6cb2f5;
  --jp-mirror-editor-comment-color: #79b8b8; --jp-mirror-editor-meta-color: #c9a0ff; }
.hang td[style*="230, 159"] { --jp-mirror-editor-comment-color: currentcolor;
  --jp-mirror-editor-meta-color: currentcolor; --jp-mirror-editor-number-color: currentcolor; }
.hang-story { max-width: 76em; margin: 4px 0; } .hang-story p { margin: 6px 0; }
.hang .lm-TabBar-tab { color: var(--hang-soft) !important; }
.hang .lm-TabBar-tab.lm-mod-current { color: var(--jp-ui-font-color0, inherit) !important; }
.hang { border: 1px solid var(--jp-border-color2, #bdbdbd); border-radius: 8px; padding: 16px 20px;
  max-width: 1280px; overflow: hidden; }
.hang, .hang .widget-html-content { font-family: var(--jp-ui-font-family, sans-serif); font-size: 13px;
  line-height: 1.45; }
.hang .widget-html-content { color: var(--jp-ui-font-color1, inherit); }
.hang-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 28px;
  border-bottom: 1px solid var(--jp-border-color2, #bdbdbd); padding-bottom: 10px; }
.hang-head b { font-size: 16px; }
.hang-head ol { display: flex; gap: 20px; list-style: none; margin: 0; padding: 0;
  color: var(--hang-soft); }
.hang-head .hang-now { font-weight: 600; color: var(--jp-ui-font-color1, inherit);
  box-shadow: 0 2px var(--jp-brand-color1, #0072b2); }
.hang-target { margin: 12px 0 4px; }
.hang .widget-toggle-buttons button { width: auto; padding: 0 16px; margin: 0; border-radius: 0; box-shadow: none; }
.hang .widget-toggle-buttons button.mod-active { background: none; color: inherit; font-weight: 600;
  box-shadow: inset 0 -2px var(--jp-brand-color1, #0072b2); }
.hang-row { display: grid; gap: 12px; align-items: center;
  grid-template-columns: 96px minmax(140px, 1fr) 56px 84px 52px 56px minmax(200px, 1.2fr); }
.hang-row span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.hang-row > span:last-child { white-space: normal; }
.hang-list { max-height: 34vh; overflow-y: auto; flex-wrap: nowrap; }
.hang-list > * { flex: none; }
.hang-row span:nth-child(n+3):nth-child(-n+6) { text-align: right; font-variant-numeric: tabular-nums; }
.hang-names { color: var(--hang-soft); font-size: 11px; margin: 10px 0 0 100px; }
.hang-line { border-top: 1px solid var(--jp-border-color3, rgba(128, 128, 128, .25)); align-items: center;
  padding: 2px 0; }
.hang-line > .widget-html, .hang-line > .widget-html > div { flex: 1; width: 100%; }
.hang-line > button { width: 88px !important; flex: none; margin-right: 12px; }
.hang button.hang-picked { font-weight: 600; box-shadow: inset 3px 0 var(--jp-brand-color1, #0072b2); }
.hang i { font-style: normal; }
.hang-answers { color: #009e73; } .hang-quiet { color: var(--hang-soft); }
  .hang-waits { color: #d55e00; }
.hang-busy { color: #b37700; } .hang-stopped, .hang-gone { color: #b5578f; }
.hang-actions { align-items: center; gap: 8px; margin: 8px 0; flex-wrap: wrap; }
.hang button { border-radius: 3px; }
.hang button:focus-visible, .hang summary:focus-visible { outline: 2px solid var(--jp-brand-color1, #0072b2);
  outline-offset: 2px; }
.hang-said { margin: 4px 0; white-space: pre-wrap; background: none; color: var(--jp-ui-font-color1, inherit);
  font-size: 12px; overflow-wrap: anywhere; }
.hang progress { accent-color: var(--jp-brand-color1, #0072b2); width: 220px; vertical-align: middle;
  margin-right: 8px; }
.hang-alert { border-left: 4px solid #d55e00; background: rgba(213, 94, 0, .1); padding: 8px 12px; margin: 6px 0;
  border-radius: 2px; }
.hang-card { border-left: 4px solid #d55e00; background: rgba(128, 128, 128, .1); padding: 10px 16px;
  border-radius: 2px; margin: 6px 0; }
.hang-card b { font-size: 16px; } .hang-card.hang-well { border-color: #009e73; }
.hang-facts { display: flex; flex-wrap: wrap; gap: 4px 20px; color: var(--hang-soft);
  font-size: 12px; margin-top: 4px; }
.hang-turning { align-items: center; margin: 4px 0 8px; flex-wrap: wrap; }
.hang-beside { display: grid; grid-template-columns: minmax(0, 1fr) 250px; gap: 20px; }
.hang-ending { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 8px 32px; }
.hang-ending code { overflow-wrap: anywhere; }
.hang-why { margin: 10px 0 0; font-weight: 600; }
.hang-remark { margin: 4px 0; color: var(--jp-ui-font-color1, inherit); }
.hang-stack { border: 1px solid var(--jp-border-color2, #bdbdbd); border-radius: 3px; margin: 4px 0;
  padding: 4px 10px; }
.hang-fault { border-left: 4px solid #d55e00; }
.hang-stack summary { cursor: pointer; overflow-wrap: anywhere; }
.hang-stack summary span { color: var(--jp-ui-font-color1, inherit); margin: 0 12px 0 6px; }
.hang-stack code { background: none; color: inherit; }
.hang-flame { width: 100%; border: 1px solid var(--jp-border-color2, #bdbdbd); border-radius: 3px; }
[data-jp-theme-light="false"] .hang-flame { filter: invert(.89) hue-rotate(180deg); }
.hang abbr { text-decoration: underline dotted; cursor: help; }
.hang textarea { width: 100%; box-sizing: border-box; font-family: var(--jp-code-font-family, monospace); }
.hang .lm-TabBar-content { flex-wrap: wrap; align-items: flex-end; }
.hang .lm-TabBar-tab { flex: 0 0 auto !important; min-width: 0 !important; max-width: none !important; }
.hang td, .hang th { font-size: 12px; }
.hang-beside td:last-child { white-space: pre !important; }
.hang-beside > div { overflow-x: auto; }
.hang h4 { margin: 10px 0 4px; font-size: 12px; font-weight: 600; color: var(--hang-soft); }
.hang ul { margin: 0; padding-left: 18px; } .hang li { margin: 2px 0; }
.hang figure { margin: 8px 0; max-width: 900px; } .hang figure svg, .hang figure img { max-width: 100%;
  height: auto; display: block; }
.hang figcaption { color: var(--hang-soft); font-size: 12px; margin-top: 4px; }
.hang-link { margin-right: 20px; color: var(--jp-content-link-color, #0072b2); text-decoration: underline; }
"""
