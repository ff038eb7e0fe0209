"""One process in every format: what is rendered reads back equal, and the diagnosis is the same or weaker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import renderers
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.model import Frame, Snapshot, Thread
from hangdebug.evidence.paste import read
from renderers import FORMATS, Format

DUMPS = Path(__file__).parent / "dumps"
CAPTURES = sorted(file for file in DUMPS.rglob("*-pyspy*.json") if ".truth." not in file.name)
FIRST = {file.parent: file for file in reversed(CAPTURES)}.values()
ONE_EACH = [file if file in FIRST else pytest.param(file, marks=pytest.mark.slow) for file in CAPTURES]
EACH = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.render.__name__)

WORD = st.from_regex(r"[a-z_][a-z_0-9]{0,12}", fullmatch=True)
FRAME = st.builds(
    Frame,
    st.lists(WORD, min_size=1, max_size=3).map(".".join),
    WORD.map(lambda word: f"/srv/{word}.py"),
    st.none() | st.integers(1, 99999),
)
THREAD = st.builds(
    Thread,
    st.lists(FRAME, min_size=1, max_size=6).map(tuple),
    st.from_regex(r"[A-Z][a-z]{3,9}-\d", fullmatch=True),
    st.integers(1, 1 << 22),
    st.booleans(),
    st.booleans(),
)
SNAPSHOT = st.builds(
    Snapshot,
    st.lists(THREAD, min_size=1, max_size=4, unique_by=(lambda one: one.os_id, lambda one: one.name)).map(tuple),
    st.integers(1, 1 << 22),
    WORD,
)


@pytest.mark.slow
@EACH
@given(snapshot=SNAPSHOT)
@settings(deadline=None, max_examples=25)
def test_what_is_rendered_reads_back_equal(form: Format, snapshot: Snapshot) -> None:
    (found,) = read(form.render(snapshot))
    assert found.threads == tuple(map(form.faithful, snapshot.threads))
    assert (found.format, found.pid, found.skipped) == (form.name, snapshot.pid if form.pid else None, ())


@pytest.mark.parametrize("file", ONE_EACH, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_one_capture_gives_one_diagnosis_in_every_format(file: Path) -> None:
    """Names of threads, py-spy's idle and active, and pids are lost in many formats: then it may only be less sure."""
    whole = read(file.read_text())
    full = told(whole)
    for form in FORMATS:
        name, answer = form.render.__name__, told(read("\n\n".join(map(form.render, whole))))
        if answer.state != full.state or answer.cause != full.cause:
            open_ = full.state == "inconclusive" or answer.state in ("healthy", "inconclusive")
            most = 0.7 if open_ else min(full.confidence, 0.7)
            assert answer.confidence < most, (name, answer.state, answer.cause, answer.confidence)
            assert answer.doubts, name
        else:
            assert answer.confidence <= full.confidence, name
            assert where(answer) == where(full), name


def told(snapshots: tuple[Snapshot, ...]) -> Diagnosis:
    return worst(map(diagnose, evidence_of(snapshots)))


def where(answer: Diagnosis) -> tuple | None:
    frame = answer.blocking_frame
    return frame and (frame.file, frame.line, frame.function.rsplit(".", 1)[-1])


@pytest.mark.parametrize(
    "form",
    [
        one
        for one in FORMATS
        if one.render
        in (renderers.pystack, renderers.gdb, renderers.current_frames, renderers.profiling, renderers.uwsgi)
    ],
    ids=lambda form: form.render.__name__,
)
def test_source_lines_come_back_with_their_frames(form: Format) -> None:
    frames = (
        Frame("wait", "/srv/a.py", 3, text="time.sleep(60)"),
        Frame("main", "/srv/a.py", 9),
        Frame("<module>", "/srv/b.py", 1, text="main()"),
    )
    (found,) = read(form.render(Snapshot((Thread(frames, "MainThread", 12),), 12)))
    assert [frame.text for frame in found.threads[0].frames] == ["time.sleep(60)", "", "main()"]


@pytest.mark.parametrize(
    "form",
    [
        one
        for one in FORMATS
        if one.render
        not in (  # nobody sorts these by hand
            renderers.pyspy_json,
            renderers.pyspy_raw,
            renderers.austin,
            renderers.uwsgi,
        )
    ],
    ids=lambda form: form.render.__name__,
)
def test_stacks_printed_the_other_way_round_are_turned(form: Format) -> None:
    """By who calls whom, whatever the format's custom is: people sort and paste as they like."""
    (snapshot,) = read((DUMPS / "executor-shutdown" / "py311-pyspy043.json").read_text())
    other = replace(snapshot, threads=tuple(replace(one, frames=one.frames[::-1]) for one in snapshot.threads))
    (found,) = read(form.render(other))
    assert [one.frames for one in found.threads] == [form.faithful(one).frames for one in snapshot.threads]
