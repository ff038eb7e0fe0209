"""The list of what `fix` found: lines of text, JSON, SARIF, annotations of GitHub; and the list of what is known.

    app/a.py:3: HNG002 [sleep] time.sleep() stops the event loop; it becomes `await asyncio.sleep(1)`

A baseline knows a place by its file, its rule and the text of its line, so that lines above may come and go.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hangdebug import __version__, files
from hangdebug.errors import BadRequest, ours
from hangdebug.repair.model import Finding
from hangdebug.repair.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FORMATS = ("text", "json", "sarif", "github")
NOTES = frozenset(("lifespan",))  # what is deprecated, and blocks nothing
BASELINE_VERSION = 1


def write_list(findings: Sequence[Finding], skipped: Sequence[str], form: str) -> str:
    """`form` is one of FORMATS: "text" and "github" give a line for each finding."""
    if form == "json":
        return as_json(findings, skipped) + "\n"
    if form == "sarif":
        return as_sarif(findings, skipped) + "\n"
    return "".join(f"{as_annotation(item) if form == 'github' else item}\n" for item in findings)


def as_json(findings: Iterable[Finding], skipped: Iterable[str]) -> str:
    """Schema version 1: `skipped` in words, and `findings`; a `cell` is null where the file is no notebook."""
    rows = [
        {
            "file": item.file,
            "cell": item.cell or None,
            "line": item.line,
            "code": item.code,
            "rule": item.rule,
            "refused": item.refused,
            "message": item.message,
            "stays": item.stays,
        }
        for item in findings
    ]
    return json.dumps({"schema_version": 1, "findings": rows, "skipped": list(skipped)}, indent=2)


def as_sarif(findings: Iterable[Finding], skipped: Iterable[str]) -> str:
    """SARIF 2.1.0, as code scanning takes it: what blocks is a warning, what is only deprecated a note."""
    known = [
        {
            "id": rule.code,
            "name": rule.id,
            "shortDescription": {"text": rule.about},
            "help": {"text": rule.page},
            "defaultConfiguration": {"level": level(rule.id)},
        }
        for rule in RULES
    ]
    places = {rule.code: index for index, rule in enumerate(RULES)}
    results = [
        {
            "ruleId": item.code or item.rule,
            **({"ruleIndex": places[item.code]} if item.code in places else {}),
            "level": level(item.rule),
            "message": {"text": in_words(item)},
            "locations": [{"physicalLocation": location(item)}],
        }
        for item in findings
    ]
    driver = {"name": "backend-hang-debug", "version": __version__, "rules": known}
    told = [{"level": "warning", "message": {"text": each}} for each in skipped]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": told}],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def level(rule: str) -> str:
    return "note" if rule in NOTES else "warning"


def in_words(item: Finding) -> str:
    """The message; of a cell with its place, for a line of a cell is no line of the notebook's file."""
    where = f"Cell {item.cell}, line {item.line}: " if item.cell else ""
    return f"{where}{'Not rewritten: ' if item.refused else ''}{item.message}"


def location(item: Finding) -> dict[str, object]:
    region = {} if item.cell else {"region": {"startLine": item.line}}
    return {"artifactLocation": {"uri": uri(item.file)}, **region}


def uri(file: str) -> str:
    """Relative to the working directory where it is below that, as code scanning wants it."""
    from urllib.parse import quote  # only this list needs it, and each import takes its time

    path = Path(os.path.abspath(file))
    inside = Path.cwd() in path.parents
    return quote(path.relative_to(Path.cwd()).as_posix()) if inside else path.as_uri()


def as_annotation(item: Finding) -> str:
    """A workflow command of GitHub Actions, which shows the message beside the line of a pull request."""
    kind = "notice" if level(item.rule) == "note" else "warning"
    line = "" if item.cell else str(item.line)
    facts = {"file": item.file, "line": line, "title": f"{item.code} {item.rule}".strip()}
    where = ",".join(f"{name}={escaped(value, in_property=True)}" for name, value in facts.items() if value)
    return f"::{kind} {where}::{escaped(in_words(item))}"


def escaped(text: str, in_property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text


def summary(findings: Sequence[Finding], looked_at: int, skipped: int, known: int) -> str:
    """One line for a person: what was found in how many files, and what can be done about it."""
    files = count(looked_at, "file")
    rest = [f"{known} in the baseline"] * bool(known) + [f"{skipped} skipped"] * bool(skipped)
    aside = f" ({', '.join(rest)})" if rest else ""
    if not findings:
        return f"All checks passed: nothing found in {files}{aside}."
    ours = sum(not item.refused for item in findings)
    said = f"Found {count(len(findings), 'place')} in {len({item.file for item in findings})} of {files}{aside}"
    return f"{said}: {ours} fixable with --fix, {len(findings) - ours} to do by hand."


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# -- what is known -----------------------------------------------------------------------------------------


Known = tuple[str, str, str]


def key(item: Finding, folder: str) -> Known:
    return Path(os.path.relpath(os.path.abspath(item.file), folder)).as_posix(), item.code, item.source


def write_baseline(findings: Iterable[Finding], file: str) -> None:
    """Every place as known, in an order that keeps the file's differences small. Raises BadRequest."""
    folder = os.path.dirname(os.path.abspath(file))
    rows = [
        {"file": name, "code": code, "source": source, "count": number}
        for (name, code, source), number in sorted(Counter(key(item, folder) for item in findings).items())
    ]
    text = json.dumps({"schema_version": BASELINE_VERSION, "known": rows}, indent=2)
    files.write_whole(Path(file), text + "\n")


def without_known(findings: Iterable[Finding], file: str) -> list[Finding]:
    """The findings that the baseline does not know. Raises BadRequest where it cannot be read."""
    again = ours("fix", "--write-baseline", file, ".")
    try:
        rows = json.loads(Path(file).read_text("utf-8"))["known"]
        left = Counter({(row["file"], row["code"], row["source"]): int(row["count"]) for row in rows})
    except OSError as error:
        raise BadRequest(f"The baseline {file} cannot be read.", error.strerror or str(error), again) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{file} is no baseline.", "It is a JSON file that --write-baseline writes.", again) from error
    folder, new = os.path.dirname(os.path.abspath(file)), []
    for item in findings:
        here = key(item, folder)
        new += [item] if left[here] < 1 else []
        left[here] -= 1
    return new
