"""The readers: every dump is read whole, dirt is taken off, and no text gets more than an error."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from by_folder import by_folder
from hangdebug.errors import NotADump
from hangdebug.evidence.model import Frame, Snapshot, Thread
from hangdebug.evidence.paste import read

DUMPS = Path(__file__).parent / "dumps"
TEXTS = sorted(DUMPS.rglob("*-pyspy*.txt"))
HUNG = (DUMPS / "executor-shutdown" / "py311-pyspy043.txt").read_text()


@by_folder(TEXTS)
def test_no_line_of_a_real_dump_is_skipped(file: Path) -> None:
    text = file.read_text()
    frames = [frame for one in read(text) for thread in one.threads for frame in thread.frames]
    assert len(frames) == sum(line.startswith("    ") for line in text.splitlines())
    assert not any(one.skipped for one in read(text))


def test_text_and_json_of_one_process_agree_but_for_paths() -> None:
    text = read((DUMPS / "sleep" / "py311-pyspy043.txt").read_text())[0]
    parsed = read((DUMPS / "sleep" / "py311-pyspy043.json").read_text())[0]
    assert text.pid == parsed.pid
    for one in text.threads:
        other = next(thread for thread in parsed.threads if thread.os_id == one.os_id)
        assert [(f.function, f.line) for f in one.frames] == [(f.function, f.line) for f in other.frames]


DIRT = {
    "markdown fence": lambda text: f"It hangs, see below (app.py).\n\n```text\n{text}\n```\nAny idea?",
    "quoted": lambda text: "\n".join(f"> {line}" for line in text.splitlines()),
    "time stamps": lambda text: "\n".join(f"2026-11-21T21:00:00.123456789Z {line}" for line in text.splitlines()),
    "colours": lambda text: text.replace("Thread", "\x1b[1mThread\x1b[0m").replace("(", "\x1b[32m("),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace("    ", "\t"),
    "remarks": lambda text: text.replace("thread.py:235)", "thread.py:235)   <-- it is stuck here?"),
    "byte order mark": lambda text: "\ufeff" + text,
    "no-break spaces": lambda text: text.replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
    "indented": lambda text: "\n".join(f"        {line}" for line in text.splitlines()),
}


@pytest.mark.parametrize("name", DIRT)
def test_dirt_changes_nothing(name: str) -> None:
    clean, dirty = read(HUNG)[0], read(DIRT[name](HUNG))[0]
    assert [(t.name, t.os_id, len(t.frames)) for t in dirty.threads] == [
        (t.name, t.os_id, len(t.frames)) for t in clean.threads
    ]
    assert dirty.threads[0].frames[:3] == clean.threads[0].frames[:3]


def test_several_processes_are_several_snapshots() -> None:
    other = HUNG.replace("Process ", "Process 9", 1)
    first, second = read(HUNG + "\n" + other)
    assert second.pid == int(f"9{first.pid}") and len(second.threads) == len(first.threads)


def test_locals_are_no_frames() -> None:
    text = HUNG.replace(
        "    Thread.join (threading.py:1119)\n",
        "    Thread.join (threading.py:1119)\n        Arguments:\n"
        '            self: <Thread at 0x7f>\n        Locals:\n            waiter: "f (evil.py:3)"\n',
    )
    assert [len(t.frames) for t in read(text)[0].threads] == [len(t.frames) for t in read(HUNG)[0].threads]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "hello",
        'Thread 1 (idle): "MainThread"',
        "[]",
        "[{}]",
        '[{"frames": 3}]',
        "[" * 100_000,
        '{"a": [{"frames": []}]}',
        "x (y) z",
        "\0" * 1000,
        "Process 1: x",
    ],
)
def test_text_without_a_stack_is_an_error_that_says_what_to_run(text: str) -> None:
    with pytest.raises(NotADump) as caught:
        read(text)
    assert "py-spy dump" in caught.value.next


@pytest.mark.slow
@given(st.text(max_size=2000))
@settings(deadline=None, max_examples=200)
def test_any_text_gives_snapshots_or_an_error(text: str) -> None:
    with contextlib.suppress(NotADump):
        assert all(isinstance(one, Snapshot) for one in read(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["frames", "pid", "name", "line", "filename", "thread_name", "os_thread_id", "active"]),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
@settings(deadline=None, max_examples=200)
def test_any_json_gives_snapshots_or_an_error(value: object) -> None:
    with contextlib.suppress(NotADump):
        read(json.dumps([value]))


@pytest.mark.parametrize(
    "line", ["a" * 200_000, "(" * 200_000, "a (" * 60_000, "a b " * 50_000 + "(x.py:1", " (" + "a)" * 90_000]
)
def test_a_long_line_costs_bounded_time(line: str) -> None:
    began = time.process_time()
    with pytest.raises(NotADump):
        read("\n".join([line] * 3))
    assert time.process_time() - began < 5


WORD = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,12}", fullmatch=True)
FRAME = st.builds(
    Frame,
    st.lists(WORD, min_size=1, max_size=3).map(".".join),
    WORD.map(lambda word: f"app/{word}.py"),
    st.none() | st.integers(1, 99999),
)
THREAD = st.builds(
    Thread,
    st.lists(FRAME, min_size=1, max_size=6).map(tuple),
    WORD,
    st.integers(1, 1 << 22),
    st.booleans(),
    st.just(False),
)
SNAPSHOT = st.builds(
    Snapshot,
    st.lists(THREAD, min_size=1, max_size=4, unique_by=lambda one: one.os_id).map(tuple),
    st.integers(1, 1 << 22),
    WORD,
)


@pytest.mark.slow
@given(SNAPSHOT)
@settings(deadline=None)
def test_what_is_rendered_as_py_spy_text_reads_back_equal(snapshot: Snapshot) -> None:
    assert read(rendered(snapshot)) == (
        Snapshot(snapshot.threads, snapshot.pid, snapshot.command, None, "py-spy text"),
    )


def rendered(snapshot: Snapshot) -> str:
    lines = [f"Process {snapshot.pid}: {snapshot.command}"]
    for thread in snapshot.threads:
        lines.append(f'Thread {thread.os_id} ({"active" if thread.active else "idle"}): "{thread.name}"')
        lines += [f"    {frame}" for frame in thread.frames]
    return "\n".join(lines)


@pytest.mark.slow
def test_a_dump_in_a_days_log_is_found_in_bounded_time() -> None:
    noise = "GET /health (200) in 3 ms: ok\n" * 300_000
    began = time.process_time()
    found = read(noise + HUNG + "\n" + noise)
    assert time.process_time() - began < 10
    assert [(t.name, len(t.frames)) for t in found[0].threads] == [
        (t.name, len(t.frames)) for t in read(HUNG)[0].threads
    ]
