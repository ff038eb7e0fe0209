"""An incident report as one HTML file that needs nothing else, as Markdown for a ticket, and as JSON for tools.

    write(gather(Path("evidence-4284")), Path("report"))     report.html, report.md, report.json, and the pictures

The Markdown has its pictures drawn in letters, so that a paste keeps them.

There is no script in the page, and its policy allows none: everything from the dump is escaped. Pictures are part of
it; those drawn as SVG are there on a bare Python too. Colours follow the reader's theme, and the printer's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from hangdebug import __version__
from hangdebug.answer.model import Diagnosis
from hangdebug.errors import printable
from hangdebug.evidence.frames import is_application
from hangdebug.evidence.model import Frame
from hangdebug.repair.model import Patch
from hangdebug.repair.proof.pressure import Check
from hangdebug.report.flame import interactive
from hangdebug.report.incident import Incident, gather
from hangdebug.report.recording import SPEEDSCOPE, ZOOMED, speedscope, write_files
from hangdebug.report.svg import at_night
from hangdebug.report.text import as_dict, facts, fenced, json_text, marked, plain, said_and_next, short
from hangdebug.report.text import inert as say

STYLE = (
    """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #595959; --paper: #ffffff; --edge: #d0d0d0; --code: #f5f5f5;
  --mark: #fdf0cc; --gone: #fbe3d6; --new: #dcebf5; --link: #005a94; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b0b0b0; --paper: #16181c; --edge: #41454d;
  --code: #1f2228; --mark: #4d3f12; --gone: #4f2a14; --new: #143a55; --link: #7cc4f4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--edge); padding-bottom: .2rem; }
p, li { overflow-wrap: anywhere; }
.answer { font-size: 1.1rem; border-left: .4rem solid #d55e00; padding: .2rem 0 .2rem 1rem; margin: .8rem 0; }
.well { border-left-color: #009e73; }
dl { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: .3rem .8rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: 1rem 0 1.5rem; }
figure svg, figure img { max-width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { margin-top: .4rem; }
pre, .code { background: var(--code); border: 1px solid var(--edge); border-radius: 6px; padding: .6rem .8rem;
  margin: .5rem 0; overflow-x: auto; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.code { padding: .6rem 0; }
.rows { white-space: pre; overflow-wrap: normal; }
.code div { white-space: pre; padding: 0 .8rem; width: max-content; min-width: 100%; }
.code .here { background: var(--mark); font-weight: bold; }
.code .gone { background: var(--gone); }
.code .new { background: var(--new); }
.code details { padding: 0 .8rem; }
.code details div { padding: 0 0 0 1.2rem; color: var(--soft); }
summary { cursor: pointer; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--edge);
  overflow-wrap: anywhere; }
th { white-space: nowrap; }
a { color: var(--link); }
.steps p { color: var(--soft); font-size: .9rem; margin: 0 0 1rem; }
@media screen and (max-width: 30rem) { body { padding: 1rem; } dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; } ul { padding-left: 1.2rem; } figure { overflow-x: auto; }
  figure svg, figure img { max-width: 42rem; } figcaption { position: sticky; left: 0; } }
@media print { :root { --ink: #000000; --soft: #333333; --paper: #ffffff; --edge: #999999; --code: #ffffff;
    --mark: #eeeeee; --gone: #ffffff; --new: #ffffff; --link: #000000; }
  body { max-width: none; padding: 0; font-size: 11pt; } h2 { break-after: avoid; }
  figure, .answer { break-inside: avoid; }
  tr, li, .code div, .steps pre, dd { break-inside: avoid; } .steps pre { break-after: avoid; }
  .rows { white-space: pre-wrap; font-size: 8pt; }
  .code, .code div { white-space: pre-wrap; overflow: visible; width: auto; }
  summary { list-style: none; } summary::-webkit-details-marker { display: none; }
  details.long:not([open]) > summary::after { content: ": not printed, for it is folded. It is in report.html."; }
  details:not(.long)::details-content { content-visibility: visible; block-size: auto; } }
@media screen and (prefers-color-scheme: dark) {
"""
    + at_night(":root")
    + "}\n"
)
NOTHING = "Nothing that looks like a secret was found."
POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


def report(
    source: Path | str,
    out: Path,
    *,
    code: Path | None = None,
    checks: Mapping[str, Check] | None = None,
    patch: Patch | None = None,
    host: str = "",
) -> tuple[Path, Path, Path]:
    """Gather and write: the paths of report.html, report.md and report.json. See gather() for the arguments.

    Raises HangError.
    """
    return write(gather(source, code=code, checks=checks, patch=patch, host=host), out)


def write(incident: Incident, out: Path) -> tuple[Path, Path, Path]:
    """The reports, each picture as a file to attach, and what was sampled, for speedscope.

    Every file is written whole or not at all. Raises CannotWrite where the folder cannot be written to.
    """
    files = {name: picture.data for name, picture in incident.pictures}
    if incident.stacks:
        files[ZOOMED] = interactive(incident.stacks).encode("utf-8", "replace")
        files[SPEEDSCOPE] = json.dumps(speedscope(incident.stacks, incident.name, None), indent=1).encode()
    files["report.md"] = as_markdown(incident).encode("utf-8", "replace")
    files["report.html"] = as_html(incident, out).encode("utf-8", "replace")
    files["report.json"] = as_json(incident).encode("utf-8", "replace")
    write_files(out, files)
    return out / "report.html", out / "report.md", out / "report.json"


def as_html(incident: Incident, out: Path | None = None) -> str:
    """The page; with `out`, the folder that it will lie in, it links to the evidence."""
    answer = incident.answer
    well = " well" if answer.state == "healthy" else ""
    taken = f", taken {incident.taken}" if incident.taken else ""
    parts = [
        f'<h1>{say(incident.title)}</h1><p class="answer{well}">{prose(answer.summary)}</p>',
        f"<dl>{''.join(f'<dt>{say(what)}</dt><dd>{say(words)}</dd>' for what, words in incident.first)}</dl>",
        f'<p class="soft"><strong>{say(incident.verdict)}</strong>, confidence {answer.confidence:.2f}. '
        f"{say(', '.join(facts(answer)))}. Evidence: {say(incident.name)}{say(taken)}.</p>",
    ]
    parts += [picture.html() for _, picture in incident.pictures]
    parts += [f'<p class="soft">{say(words)}</p>' for words in incident.absent]
    parts += [code_block(incident), stack(incident)]
    parts += [listed(title, items) for title, items in lists(answer)]
    parts.append(titled("The repair", diff(incident.diff)) if incident.diff else "")
    parts += [
        titled(f"Verification: {name}", f'<pre class="rows">{say(words)}</pre>') for name, words in incident.checks
    ]
    parts.append(listed("So that it does not come back", incident.prevention))
    if incident.then:
        steps = (f"<pre>{say(command)}</pre><p>{say(what)}</p>" for command, what in incident.then)
        parts.append(f'<section class="steps"><h2>What to run next</h2>{"".join(steps)}</section>')
    parts.append(evidence(incident, out))
    parts.append(listed("Struck out", incident.struck or (NOTHING,)))
    return document(incident.title, parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A page that needs nothing else and runs nothing. `parts` are HTML."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(digest)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{say(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *filter(None, parts),
            f'</main><p class="soft">Written by hang.py {__version__}.</p>',
            "</body>",
            "</html>",
            "",
        ]
    )


def lists(answer: Diagnosis) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (
        ("What says so", answer.evidence),
        ("Doubts", tuple(said_and_next(answer)[0])),
        ("Not the cause", answer.exonerated),
        ("Other processes", answer.others),
    )


def prose(words: str) -> str:
    """The engine's own sentences quote source lines in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", say(words))


def titled(title: str, body: str) -> str:
    return f"<section><h2>{say(title)}</h2>{body}</section>"


def listed(title: str, items: Sequence[str]) -> str:
    return titled(title, f"<ul>{''.join(f'<li>{prose(item)}</li>' for item in items)}</ul>") if items else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells that are HTML already."""
    top = "".join(f'<th scope="col">{say(one)}</th>' for one in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def code_block(incident: Incident) -> str:
    frame = incident.answer.blocking_frame
    if frame is None:
        return ""
    if not incident.code:
        where = say(f"{frame.function} ({frame.file}:{frame.line})")
        return titled("The line", f"<p><code>{where}</code>. Its source is not in the evidence.</p>")
    lines = [
        f"<div{here(number == frame.line)}>{'-&gt;' if number == frame.line else '  '} {number:>4}  {say(text)}</div>"
        for number, text in incident.code
    ]
    where = f'<p class="soft">{say(frame.file)}, in {say(frame.function)}</p>'
    return titled("The line", f'{where}<div class="code">{"".join(lines)}</div>')


def here(is_here: bool) -> str:
    return ' class="here"' if is_here else ""


def stack(incident: Incident) -> str:
    """Innermost first; runs of a library's frames are folded."""
    answer, blocks = incident.answer, []
    if answer.thread is None:
        return ""
    for mine, run in groupby(enumerate(answer.thread.frames), key=lambda pair: is_application(pair[1])):
        rows = [line(answer, index, frame) for index, frame in run]
        fold = len(rows) > 1 and not mine
        inner = "".join(rows)
        blocks.append(f"<details><summary>{len(rows)} library calls</summary>{inner}</details>" if fold else inner)
    name = say(answer.thread.name or str(answer.thread.os_id or "?"))
    said = f'<p class="soft">Thread {name}, innermost call first.</p>'
    return titled("The stack", f'{said}<div class="code">{"".join(blocks)}</div>')


def line(answer: Diagnosis, index: int, frame: Frame) -> str:
    mark = marked(answer, index)
    return f"<div{here(mark)}>{'-&gt; ' if mark else ''}{say(short(frame))}</div>"


def diff(text: str) -> str:
    rows = []
    for row in text.splitlines():
        changed = row[:1] in ("+", "-") and not row.startswith(("+++", "---"))
        kind = f' class="{"new" if row[0] == "+" else "gone"}"' if changed else ""
        rows.append(f"<div{kind}>{say(row) or ' '}</div>")
    return f'<div class="code">{"".join(rows)}</div>'


def evidence(incident: Incident, out: Path | None) -> str:
    """The kernel's rows and the dump, folded, and a link to where all of it lies."""
    parts = []
    if incident.kernel:
        rows = [tuple(map(say, row)) for row in incident.kernel]
        parts.append(
            f'<details class="long"><summary>What the kernel says of each thread</summary>'
            f"{table(('thread', 'system call', 'on what', 'state'), rows)}</details>"
        )
    parts.append(f'<details class="long"><summary>The dump</summary><pre>{say(incident.raw)}</pre></details>')
    if incident.kept is not None and out is not None:
        where = os.path.relpath(incident.kept, out).replace(os.sep, "/")
        link = f'<a href="./{quote(where)}">{say(incident.name)}</a>'
        parts.append(f"<p>All of it, on the machine where this was written: {link}</p>")
    return titled("The evidence", "".join(parts))


# -- as Markdown ---------------------------------------------------------------------------------------


def as_markdown(incident: Incident) -> str:
    """For a ticket. What comes from the dump is escaped, or stands in a fence that it cannot close."""
    answer, frame = incident.answer, incident.answer.blocking_frame
    taken = f", taken {incident.taken}" if incident.taken else ""
    lines = [
        f"# {plain(incident.title)}",
        "",
        plain(answer.summary),
        "",
        *(f"- **{plain(what)}**: {plain(words)}" for what, words in incident.first),
        "",
        f"**{plain(incident.verdict)}**, confidence {answer.confidence:.2f}.",
        plain(f"{', '.join(facts(answer))}. Evidence: {incident.name}{taken}."),
    ]
    for _, picture in incident.pictures:
        if picture.text:
            lines += ["", fenced(picture.text), "", plain(picture.caption)]
    lines += ["", *map(plain, incident.absent)] if incident.absent else []
    if incident.code and frame is not None:
        lines += [
            "",
            f"## The line, in {plain(frame.file)}",
            "",
            fenced(
                "\n".join(
                    f"{'->' if number == frame.line else '  '} {number:>4}  {text}" for number, text in incident.code
                ),
                "python",
            ),
        ]
    if answer.thread is not None:
        lines += [
            "",
            "## The stack, innermost first",
            "",
            fenced("\n".join(f"{'  ' if is_application(one) else '    '}{short(one)}" for one in answer.thread.frames)),
        ]
    for title, items in lists(answer):
        lines += ["", f"## {title}", "", *(f"- {plain(item)}" for item in items)] if items else []
    lines += ["", "## The repair", "", fenced(incident.diff, "diff")] if incident.diff else []
    for name, words in incident.checks:
        lines += ["", f"## Verification: {plain(name)}", "", fenced(words)]
    lines += ["", "## So that it does not come back", ""] if incident.prevention else []
    lines += [f"- {plain(item)}" for item in incident.prevention]
    if incident.then:
        commands = "\n".join(f"{command}   # {what}" for command, what in incident.then)
        lines += ["", "## What to run next", "", fenced(commands, "sh")]
    if incident.kernel:
        rows = "\n".join("  ".join(filter(None, row)) for row in incident.kernel)
        lines += ["", "## What the kernel says of each thread", "", fenced(rows)]
    struck = incident.struck or (NOTHING,)
    lines += ["", "## Struck out", "", *(f"- {plain(item)}" for item in struck)]
    if incident.pictures:
        names = ", ".join(name for name, _ in incident.pictures)
        lines += ["", f"The pictures are in report.html, and beside it: {names}."]
    return printable("\n".join(lines)) + "\n"


# -- as JSON -------------------------------------------------------------------------------------------


def as_json(incident: Incident) -> str:
    """The same for tools: `diagnosis` is the contract of version 1, `first` what a ticket asks first by its name."""
    return (
        json_text(
            {
                "schema_version": 1,
                "title": incident.title,
                "taken": incident.taken or None,
                "host": incident.host or None,
                "evidence": incident.name,
                "first": {what.lower(): words for what, words in incident.first},
                "diagnosis": as_dict(incident.answer),
                "repair": incident.diff or None,
                "verifications": dict(incident.checks),
                "prevention": list(incident.prevention),
                "next": [{"command": command, "what_for": what} for command, what in incident.then],
                "pictures": [{"file": name, "alt": one.alt, "caption": one.caption} for name, one in incident.pictures],
                "struck_out": list(incident.struck),
            }
        )
        + "\n"
    )
