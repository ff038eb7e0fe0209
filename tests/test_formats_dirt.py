"""Pastes are dirty: what chats, terminals and log collectors do to a dump changes nothing of what is read."""

from __future__ import annotations

import contextlib
import html
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangdebug.errors import NotADump
from hangdebug.evidence.model import Snapshot
from hangdebug.evidence.paste import read

DUMPS = Path(__file__).parent / "dumps" / "executor-shutdown"
FORMS = ("pyspy043", "faulthandler", "pystack", "gdb", "current_frames", "austin_where", "asyncio_spy")
CLEAN = {form: re.sub(r"  # <-- .*", "", (DUMPS / f"py311-{form}.txt").read_text()) for form in FORMS}


def each_line(prefix: str):
    return lambda text: "\n".join(prefix + line for line in text.splitlines())


def docker_json(text: str) -> str:
    return "\n".join(
        json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-11-21T21:00:00.1Z"})
        for line in text.splitlines()
    )


def broken(text: str, width: int) -> str:
    """As a terminal shows it: colours take no columns, and a line ends where the width does."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    return "\n".join(line[at : at + width] for line in lines for at in range(0, max(len(line), 1), width))


DIRT = {
    "markdown fence": lambda text: f"It hangs, see below (app.py).\n\n```text\n{text}\n```\nAny idea?\n",
    "quoted twice": each_line("> > "),
    "kubectl": each_line("[pod/web-7d5f9/app] "),
    "docker compose": each_line("web-1  | "),
    "docker compose with time stamps": each_line("web-1  | 2026-11-21T21:00:00.123456789Z "),
    "journald": each_line("Nov 21 21:00:00 host-3 uvicorn[4284]: "),
    "CRI": each_line("2026-11-21T21:00:00.123456789Z stderr F "),
    "logging": each_line("2026-11-21 21:00:00,123 ERROR app.watchdog: "),
    "CloudWatch": each_line("2026-11-21T21:00:00.123Z "),
    "logging without time": each_line("ERROR:app.watchdog:"),
    "stern": each_line("web-7d5f9-x2x4z app "),
    "heroku": each_line("2026-11-21T21:00:00.123456+00:00 app[web.1]: "),
    "docker's JSON log": docker_json,
    "one JSON record": lambda text: json.dumps({"level": "error", "message": "hung:\n" + text}),
    "an escaped string": lambda text: 'stack="' + json.dumps(text)[1:-1] + '"',
    "colours": lambda text: text.replace("Thread", "\x1b[1mThread\x1b[0m").replace("File", "\x1b[32mFile\x1b[0m"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace("    ", "\t"),
    "byte order mark": lambda text: "\ufeff" + text,
    "no-break spaces": lambda text: text.replace("  ", "\u00a0\u00a0"),
    "no indentation": lambda text: "\n".join(line.strip() for line in text.splitlines()),
    "deep indentation": each_line("          "),
    "HTML": lambda text: f"<pre><code>{html.escape(text)}</code></pre>",
    "smart quotes": lambda text: re.sub(r'"([^"\n]*)"', "\u201c\\1\u201d", text),
    "double spacing": lambda text: text.replace("\n", "\n\n"),
    "elisions": lambda text: text.replace("\n\n", "\n    ...\n\n    [...]\n\n"),
    "prose after": lambda text: text + "\n\nThe main thread is stuck in headlines() I think (see the docs).\nThanks!\n",
    "broken at 80 columns": lambda text: broken(text, 80),
    "broken at 66 columns, quoted": lambda text: each_line("> ")(broken(text, 66)),
    "newest line first": lambda text: "\n".join(reversed(text.splitlines())),
}


def shape(snapshots: tuple[Snapshot, ...]) -> list:
    """What must not change. Source lines may: a text turned over has them above their frames."""
    return [
        (
            one.format,
            one.pid,
            [(t.name, t.os_id, [(f.name, f.file, f.line) for f in t.frames]) for t in one.threads if t.frames],
            len(one.tasks),
        )
        for one in snapshots
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dirt", DIRT)
def test_dirt_changes_nothing(form: str, dirt: str) -> None:
    clean, dirty = shape(read(CLEAN[form])), shape(read(DIRT[dirt](CLEAN[form])))
    if dirt == "newest line first":
        clean, dirty = [[(*one[:2], sorted(one[2], key=str), one[3]) for one in shapes] for shapes in (clean, dirty)]
    assert dirty == clean


BESIDE = {  # a frame in its clean form, and what people make of it
    "bullets": "  - {}",
    "numbers": "{n}. {}",
    "hashes": "#{n}  {}",
    "arrows": "--> {}",
    "a tree": "\u2502   \u2514\u2500\u2500 {}",
    "a remark behind": "    {}   <-- stuck here?",
    "an arrow behind": "    {}  \u2190 waits",
    "a comment behind": "    {}  # why?",
    "inline code": "- `{}`",
    "brackets": "[{n}] {}",
    "a star": "* {}",
    "`at`": "    at {}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beside", BESIDE)
def test_what_stands_beside_frames_changes_nothing(form: str, beside: str) -> None:
    text, count = [], 0
    for line in re.sub(r"\x1b\[[\d;]*m", "", CLEAN[form]).splitlines():
        is_frame = re.search(r'File "|^    \S.* \(.*:\d+\)$', line) and "Thread 0x" not in line
        count += bool(is_frame)
        text.append(BESIDE[beside].format(line.strip(), n=count) if is_frame else line)
    assert count > 20
    assert shape(read("\n".join(text))) == shape(read(CLEAN[form]))


@pytest.mark.parametrize("form", ["pyspy043", "faulthandler", "asyncio_spy"])
@pytest.mark.parametrize("joint", [" <- ", " \u2190 ", ", ", " | ", "; ", "   "])
def test_frames_joined_on_one_line(form: str, joint: str) -> None:
    """As issue trackers and chats fold them: one line a stack."""
    lines: list[str] = []
    for line in CLEAN[form].splitlines():
        if line.startswith("  ") and lines and lines[-1].startswith("  "):
            lines[-1] += joint + line.strip()
        else:
            lines.append(line)
    assert shape(read("\n".join(lines))) == shape(read(CLEAN[form]))


@pytest.mark.parametrize("form", ["pyspy043", "faulthandler"])
def test_a_dump_that_lost_its_line_ends(form: str) -> None:
    """As some chats and forms paste it. The process's own line cannot be told from what follows it."""
    text = CLEAN[form].partition("\n\n")[2] if form == "pyspy043" else CLEAN[form].partition("Extension modules")[0]
    clean = shape(read(text))
    assert shape(read(" ".join(text.split()))) == clean


def test_windows_paths_are_paths() -> None:
    text = 'Thread 0x00001f2c (most recent call first):\n  File "C:\\new\\nested\\app.py", line 3 in f\n'
    assert read(text)[0].threads[0].frames[0].file == "C:\\new\\nested\\app.py"
    spied = 'Thread 12 (idle): "MainThread"\n    f (C:\\Program Files (x86)\\new\\app.py:3)\n'
    assert read(spied)[0].threads[0].frames[0].file == "C:\\Program Files (x86)\\new\\app.py"


def test_utf_16_without_its_mark_is_still_read() -> None:
    raw = CLEAN["pyspy043"].encode("utf-16-le").decode("utf-8", "replace")
    assert shape(read(raw)) == shape(read(CLEAN["pyspy043"]))


def test_what_is_skipped_is_told_and_bounded() -> None:
    noise = "\n".join(f"note {n}: nothing to see here " + "x" * 5000 for n in range(5000))
    (found,) = read(CLEAN["faulthandler"] + noise)
    assert 0 < len(found.skipped) <= 50 and max(map(len, found.skipped)) <= 200


PIECES = st.sampled_from(
    [
        "Thread ",
        "0x7f00",
        " (most recent call first):",
        "Traceback (most recent call last):",
        '  File "a.py", line 3',
        " in f",
        ", in f",
        "Process 1: ",
        "    f (a.py:3)",
        "P1;T1;",
        "a.py:f:3",
        ";",
        " 17",
        "\n",
        "  ",
        "<Task pending name='x' coro=<f() running at a.py:3>>",
        "└── (T) x",
        "Stack dump, thread 1 (task 2; most recent call last):",
        "#5 Frame 0x1, for file a.py, line 3, in f",
        "[{",
        "\\n",
        "&lt;",
        "<",
        ">",
        "(",
        ")",
        '"',
        "Stack for <",
        "Locals:",
        "\x1b[",
        "|",
        "{",
        "}",
        "'",
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join))
@settings(deadline=2000, max_examples=300)
def test_any_mixture_gives_snapshots_or_an_error(text: str) -> None:
    with contextlib.suppress(NotADump):
        assert all(isinstance(one, Snapshot) for one in read(text))


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "unit",
    [
        'File "',
        'File "a.py", line 3 in ',
        "a (",
        "Thread (",
        "<Task pending name='",
        "<Task a",
        "coro=<f() ",
        ";a.py:f:3",
        "Stack for <",
        "Thread: a ",
        "<Thread(",
        "\x1b]",
        "> ",
        "&lt;",
        "\\n  ",
        "Executing <Handle f(",
        " (T) ",
        "(most recent call",
        "[1] ",
        '{"a":',
        "f (a.py:3) ",
        "for file ",
        "0x1 a ",
        " -> ",
        "wait_for=<",
        "\u2514",
        "web | ",
        "<br>",
    ],
)
def test_a_long_line_costs_bounded_time(unit: str) -> None:
    began = time.process_time()
    with contextlib.suppress(NotADump):
        read("\n".join([unit * (200_000 // len(unit))] * 2))
    assert time.process_time() - began < 5
