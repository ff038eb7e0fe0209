"""The pictures show what the engine knows: rows, rings and widths are read back from the SVG. No dump breaks one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.answer.model import Diagnosis
from hangdebug.causes import CAUSES
from hangdebug.causes.model import PictureGroup
from hangdebug.errors import HangError, MissingTool
from hangdebug.evidence.model import Evidence, Frame, Snapshot, Thread
from hangdebug.evidence.paste import read
from hangdebug.repair.model import Probe
from hangdebug.repair.proof.pressure import Pressure
from hangdebug.repair.proof.verify import Verification
from hangdebug.report import svg
from hangdebug.report.flame import flame, interactive
from hangdebug.report.recording import speedscope
from hangdebug.report.svg import latency, threads_over_aborts
from hangdebug.report.thread_rows import KINDS
from hangdebug.report.wait_graph import BOX, DROP, GAP, HEIGHT, MOST_ROWS, timeline, wait_graph
from hangdebug.scene.scene import scene
from hangdebug.scene.waits import WaitsFor

ROOT = Path(__file__).parents[1]
DUMPS = ROOT / "tests" / "dumps"
NS = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "rect", "title", "text", "polyline", "polygon"}
HOSTILE = "</title></svg><script>alert(1)</script> \"'&<b>\x1b[31m\n\n]]> $x_{ \U0001f600 \u202e" + "w" * 300


def evidence(*names: str, samples: int = 1) -> Evidence:
    return evidence_of(read("\n".join((DUMPS / name).read_text() for name in names * samples)))[0]


def parsed(picture: svg.Picture) -> ElementTree.Element:
    """Well-formed, of drawing elements alone, with a name for whoever does not see it."""
    root = ElementTree.fromstring(picture.data)
    assert {one.tag.removeprefix(NS) for one in root.iter()} <= ALLOWED
    assert not [
        name for one in root.iter() for name in one.attrib if name.startswith("on") or name in ("href", "style", "id")
    ]
    assert root.get("role") == "img" and root.get("aria-label") and picture.alt and picture.caption
    return root


def bars(picture: svg.Picture) -> list[tuple[float, float, ElementTree.Element]]:
    """(y, width, rect) of the bars of a timeline, from the top."""
    found = [one for one in parsed(picture).iter(f"{NS}rect") if one.find(f"{NS}title") is not None]
    return sorted(((float(one.get("y")), float(one.get("width")), one) for one in found), key=lambda row: row[0])


def dark(rect: ElementTree.Element) -> bool:
    return rect.get("stroke") == svg.INK and float(rect.get("stroke-width")) > 2


# -- the timeline --------------------------------------------------------------------------------------


def test_the_loop_is_on_top_and_the_hang_is_one_solid_bar():
    seen = evidence("executor-shutdown/py311-pyspy043.txt", samples=5)
    picture = timeline(seen)
    (_, width, first), (_, _, second) = bars(picture)
    assert width > 600 and dark(first) and not dark(second)
    assert first.find(f"{NS}title").text.startswith(
        "MainThread: event loop: executor-shutdown in headlines (executor_shutdown.py:37)"
    )
    assert "3 workers" in second.find(f"{NS}title").text
    assert (
        picture.caption == "MainThread, the event loop, waits in headlines (executor_shutdown.py:37): "
        "executor-shutdown. In the timeline it is one solid bar with a thick edge, in the top row."
    )
    assert timeline(scene(seen)).data == picture.data


def test_the_threads_of_a_full_pool_are_one_row_below_the_idle_loop():
    picture = timeline(evidence("threadpool-limit/py311-pyspy043.txt"))
    (_, _, loop), (_, _, pool) = bars(picture)
    assert not dark(loop) and dark(pool) and "40 workers" in pool.find(f"{NS}title").text
    assert "One sample is one moment" in picture.caption and "40 x http-client" in ElementTree.tostring(
        parsed(picture), "unicode"
    )


def test_a_healthy_process_has_no_thick_edge():
    picture = timeline(evidence("none/py311-pyspy043.txt", samples=3))
    assert (
        not any(dark(rect) for _, _, rect in bars(picture))
        and "No thread is known to hang: inconclusive." in picture.caption  # stacks alone show no coroutine that waits
        and "No bar has a thick edge." in picture.caption
    )


def test_a_coroutine_that_waits_has_a_row_of_its_own():
    seen = evidence("none/py311-pyspy043.txt")
    frame = Frame("price", "rates.py", 12)
    answer = replace(
        diagnose(seen),
        state="tasks-waiting",
        cause="lock",
        thread=Thread((frame,), "Task-5"),
        blocking_frame=pictures_frame(frame),
    )
    rows = bars(timeline(seen, answer))
    assert dark(rows[1][2]) and rows[1][2].find(f"{NS}title").text == "coroutine Task-5: lock in price (rates.py:12)"


def pictures_frame(frame: Frame):
    from hangdebug.answer.model import BlockingFrame

    return BlockingFrame(frame.function, frame.file, frame.line)


def test_a_thread_that_moves_has_a_bar_for_each_place():
    first, second = (evidence(f"{name}/py311-pyspy043.txt").snapshots[0] for name in ("sleep", "none"))
    seen = Evidence((first, replace(second, pid=first.pid), first))
    moved = Evidence(
        tuple(replace(one, threads=(replace(one.threads[0], os_id=1, name="MainThread"),)) for one in seen.snapshots)
    )
    assert len([rect for y, _, rect in bars(timeline(moved)) if y == bars(timeline(moved))[0][0]]) == 3


def test_a_process_without_a_stack_has_no_timeline():
    with pytest.raises(HangError, match="no thread to draw"):
        timeline(Evidence((Snapshot((), 1, "x"),)))


def test_many_samples_leave_letters_for_words():
    seen = evidence("sleep/py311-pyspy043.txt")
    one, other = seen.snapshots[0], evidence("none/py311-pyspy043.txt").snapshots[0]
    shots = tuple(replace(shot, threads=(replace(shot.threads[0], os_id=1),)) for shot in (one, other) * 20)
    root = parsed(timeline(Evidence(shots)))
    letters = [text.text for text in root.iter(f"{NS}text") if text.get("text-anchor") == "middle"]
    assert letters and set(letters) <= {kind.letter for kind in KINDS}
    assert "A letter stands for the words of the legend" in ElementTree.tostring(root, "unicode")
    assert len({kind.letter for kind in KINDS}) == len(KINDS)


@pytest.mark.slow
def test_ten_thousand_threads_are_a_small_picture_drawn_in_a_second_or_so():
    answer = diagnose(evidence("threadpool-limit/py311-pyspy043.txt"))
    small = evidence("threadpool-limit/py311-pyspy043.txt").snapshots[0]
    worker = next(one for one in small.threads if one.name.startswith("AnyIO"))
    crowd = tuple(
        replace(
            worker,
            name=f"w_{number}",
            os_id=number,
            frames=(replace(worker.frames[0], line=number % 60), *worker.frames[1:]),
        )
        for number in range(100_000, 110_000)
    )
    big = scene(Evidence((replace(small, threads=small.threads + crowd),)))
    began = time.process_time()
    picture = timeline(big, answer)
    assert time.process_time() - began < 3 and len(picture.data) < 40_000  # 0.1 s where this was measured
    assert len({y for y, _, _ in bars(picture)}) <= MOST_ROWS
    assert "Timeline of 10041 threads" in picture.alt and "10,040 workers" in picture.caption


@pytest.mark.slow
def test_the_same_evidence_gives_the_same_bytes_in_another_process():
    code = (
        "import sys; sys.path[:0] = ['scripts', 'tests']; import test_pictures as t, hashlib\n"
        "e = t.evidence('executor-shutdown/py311-pyspy043.txt', samples=3); d = t.diagnose(e)\n"
        "print([hashlib.sha256(one.data).hexdigest() for one in (t.timeline(e), t.wait_graph(d), t.flame(t.STACKS), "
        "t.latency(t.RUNS), t.threads_over_aborts(t.COUNTED))])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1 and next(iter(seen)).count("'") == 10


# -- colours -------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    light, shade = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (shade + 0.05)


def test_words_can_be_read_on_every_colour_and_colours_are_those_of_okabe_and_ito():
    okabe_ito = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    for kind in KINDS:
        for at_night in (False, True):
            ground, words = (
                svg.NIGHT.get(one, one) if at_night else one for one in (kind.colour, svg.words_on(kind.colour))
            )
            assert contrast(ground, words) >= 4.5, kind
        assert kind.colour in okabe_ito | {svg.GREY, svg.PALE, svg.PAPER}
    assert contrast(svg.FAINT, svg.PAPER) >= 4.5 and contrast(svg.NIGHT[svg.FAINT], svg.NIGHT[svg.PAPER]) >= 4.5
    for ground in (svg.PALE, svg.PAPER, svg.HOLLOW, svg.LIBRARY):
        assert contrast(svg.NIGHT[ground], svg.NIGHT[svg.INK]) >= 4.5
    assert len({kind.colour for kind in KINDS}) == len(KINDS)
    assert {kind.group for kind in KINDS} - {None} == set(get_args(PictureGroup)) == {one.picture for one in CAUSES}


def test_a_picture_brings_its_own_background():
    """The first thing that is drawn covers it all, in white: so it reads on a dark page too."""
    for picture in (timeline(evidence("none/py311-pyspy043.txt")), flame(STACKS)):
        root = parsed(picture)
        card = root[0]
        assert card.get("fill") == svg.PAPER and float(card.get("width")) == float(root.get("width")) - 1
        assert float(card.get("height")) == float(root.get("height")) - 1


# -- who waits for whom --------------------------------------------------------------------------------


def ring(count: int, name: str = "worker ") -> Diagnosis:
    edges = tuple(
        WaitsFor(
            f"{name}{at}",
            f"{name}{(at + 1) % count}",
            f"`lock {at}`, which somebody took",
            Frame("f", "/srv/app/a.py", at + 1),
        )
        for at in range(count)
    )
    return Diagnosis("deadlock", "lock", 0.9, "x", thread=Thread((Frame("f", "a.py", 1),), f"{name}0"), waits_for=edges)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_a_ring_closes_and_its_arrows_join_neighbours(count):
    picture = wait_graph(ring(count))
    root = parsed(picture)
    nodes = [one for one in root.iter(f"{NS}rect") if one.find(f"{NS}title") is not None]
    heads = list(root.iter(f"{NS}polygon"))
    assert len(nodes) == len(heads) == 2 * count and {one.get("fill") for one in heads} == {svg.VERMILLION}
    spots = [(float(one.get("x")), float(one.get("y"))) for one in nodes]
    assert len(set(spots)) == 2 * count
    steps = [
        (abs(a - c) / (BOX + GAP) + abs(b - d) / (HEIGHT + DROP))
        for (a, b), (c, d) in zip(spots, spots[1:] + spots[:1])
    ]
    assert all(abs(step - 1) < 0.01 for step in steps)
    width, height = float(root.get("width")), float(root.get("height"))
    assert all(x > 0 and x + BOX < width and y > 0 and y + HEIGHT < height for x, y in spots) and width <= svg.WIDTH
    assert picture.caption.startswith("A ring") and "(a.py:1)" in ElementTree.tostring(root, "unicode")


def test_a_chain_is_no_ring_and_ends_at_whoever_has_to_move():
    seen = evidence("thread-join/py311-pyspy043.json")
    picture = wait_graph(diagnose(seen))
    root = parsed(picture)
    shared, _, read = picture.caption.partition(". ")
    assert timeline(seen).caption.startswith(f"{shared}. ") and read.startswith("Follow the arrows")
    assert {one.get("fill") for one in root.iter(f"{NS}polygon")} == {svg.INK}
    assert len([one for one in root.iter(f"{NS}rect") if one.find(f"{NS}title") is not None]) == 3


def test_without_a_chain_the_thread_and_its_wait_are_shown_and_the_pool_behind_it():
    words = ElementTree.tostring(
        parsed(wait_graph(diagnose(evidence("executor-shutdown/py311-pyspy043.txt")))), "unicode"
    )
    assert "3 pool threads" in words and "held up by" in words and "MainThread" in words
    with pytest.raises(HangError, match="no graph"):
        wait_graph(diagnose(evidence("none/py311-pyspy043.txt")))


def test_every_thread_of_the_pool_is_counted_though_few_places_are_told():
    worker = """Thread {id} (idle): "ThreadPoolExecutor-0_{id}"
    recv_into (socket.py:706)
    fetch_{place} (app/feeds.py:{place})
    _worker (concurrent/futures/thread.py:83)
    run (threading.py:975)
"""
    loop = """Thread 1 (idle): "MainThread"
    wait (threading.py:327)
    result (concurrent/futures/_base.py:451)
    render (app/pages.py:88)
    _run_once (asyncio/base_events.py:1922)
    run_forever (asyncio/base_events.py:607)
"""
    crowd = "".join(worker.format(id=2 + number, place=number % 7) for number in range(40))
    answer = diagnose(evidence_of(read(loop + crowd))[0])
    assert "16 pool threads at work meanwhile: 3 other places." in answer.evidence  # 6 + 5 + 5 of 40
    graph = wait_graph(answer).data.decode()
    assert "40 pool threads" in graph and "elsewhere" in graph


def test_an_edge_that_is_not_sure_is_dashed():
    answer = ring(2)
    unsure = replace(answer, waits_for=(replace(answer.waits_for[0], sure=False), answer.waits_for[1]))
    dashes = [
        sum(one.get("stroke-dasharray") is not None for one in parsed(wait_graph(each)).iter())
        for each in (answer, unsure)
    ]
    assert dashes[0] == 0 and dashes[1] == 2  # the lock, and the arrow that says who holds it


# -- the flame graph -----------------------------------------------------------------------------------


def stack(*calls: str, name: str = "MainThread") -> Thread:
    """Outermost call first: "lib:f" is a library's."""
    frames = [
        Frame(one.partition(":")[2], "asyncio/runners.py" if one.startswith("lib") else "app.py", 7) for one in calls
    ]
    return Thread(tuple(reversed(frames)), name, 1)


STACKS = (
    (stack("lib:start", "lib:run", "app:handler", "app:slow"), 75),
    (stack("lib:start", "lib:run", "app:handler", "lib:loads"), 25),
)


def test_widths_are_shares_and_your_code_stands_out():
    picture = flame(STACKS)
    boxes = {
        one.find(f"{NS}title").text.split(" (")[0]: one
        for one in parsed(picture).iter(f"{NS}rect")
        if one.find(f"{NS}title") is not None
    }
    width = {name: float(one.get("width")) + 0.5 for name, one in boxes.items()}
    assert abs(width["slow"] / width["handler"] - 0.75) < 0.01 and abs(width["loads"] / width["handler"] - 0.25) < 0.01
    assert boxes["slow"].get("fill") == boxes["handler"].get("fill") != boxes["loads"].get("fill")
    assert float(boxes["slow"].get("y")) < float(boxes["handler"].get("y"))  # read from below
    assert boxes["slow"].find(f"{NS}title").text == "slow (app.py:7): 75 samples, 75.0%"
    assert "all, below 2 library calls" in ElementTree.tostring(parsed(picture), "unicode")
    assert "slow (app.py, mostly line 7), on the stack in 75% of 100 samples" in picture.caption


def test_threads_stand_side_by_side_and_deep_stacks_are_cut():
    deep = stack(*[f"app:f{number}" for number in range(2000)], name="deep")
    root = parsed(flame([*STACKS, (deep, 50)]))
    assert float(root.get("height")) < 1400 and "thread deep" in ElementTree.tostring(root, "unicode")
    with pytest.raises(HangError, match="nothing to draw"):
        flame([])


def test_the_page_that_zooms_holds_every_box_with_its_line_and_nothing_of_a_dump_is_markup():
    nasty = Thread((Frame(HOSTILE, "app.py", 9),), HOSTILE)
    page = interactive([*STACKS, (nasty, 10)])
    boxes = re.findall(
        r'<div class="b \w+"[^>]* data-x="([\d.]+)" data-w="([\d.]+)" data-l="\d+" title="([^"]*)"', page
    )
    assert page.count("<script>") == 1 and len(boxes) == page.count('<div class="b ') > 6
    assert any(title.startswith("slow (app.py:7): 75 samples") for *_, title in boxes)
    assert all(float(x) + float(width) <= 1.0001 for x, width, _ in boxes)
    assert "src=" not in page and "href=" not in page and "prefers-color-scheme" in page
    assert "prefers-color-scheme" not in interactive(STACKS, at_night=False)
    with pytest.raises(HangError, match="nothing to draw"):
        interactive([])


def test_the_file_for_speedscope_is_what_its_format_says():
    """https://www.speedscope.app/file-format-schema.json, FileFormat.File with sampled profiles."""
    made = speedscope([*STACKS, (stack("app:other", name="other"), 3)], "process 7", rate=100)
    assert made["$schema"] == "https://www.speedscope.app/file-format-schema.json" and set(made) >= {
        "shared",
        "profiles",
    }
    frames = made["shared"]["frames"]
    assert all(
        isinstance(one["name"], str) and isinstance(one["file"], str) and isinstance(one["line"], int) for one in frames
    )
    assert [one["name"] for one in made["profiles"]] == ["MainThread", "other"]
    for one in made["profiles"]:
        assert one["type"] == "sampled" and one["unit"] == "seconds" and one["startValue"] == 0
        assert len(one["samples"]) == len(one["weights"]) and abs(sum(one["weights"]) - one["endValue"]) < 1e-9
        assert all(0 <= index < len(frames) for sample in one["samples"] for index in sample)
    first = made["profiles"][0]
    assert [frames[index]["name"] for index in first["samples"][0]] == ["start", "run", "handler", "slow"] and first[
        "endValue"
    ] == 1.0


# -- what was measured ---------------------------------------------------------------------------------


def probe(phase: str, at: float, ok: bool = True) -> Probe:
    return Probe("http://h/health", phase, 200 if ok else None, 0.002 if ok else 1.0, at, ok, "curl")


BAD = Verification(
    (probe("baseline", 0), probe("while streaming", 1), probe("after aborts", 2, False)), 1.0, aborts=1, wanted=1
)
GOOD = Verification(
    (probe("baseline", 0), probe("while streaming", 1), probe("after aborts", 2)), 1.0, aborts=1, wanted=1
)
RUNS = {"as it was": BAD, "rewritten $x_{": GOOD}
COUNTED = {
    "_bad $": Pressure(GOOD, 10, ((0.0, 10), (1.0, 60)), None, (0, 200)),
    "good": Pressure(GOOD, 10, ((0.0, 10), (1.0, 12)), 0.1, (0, 200)),
    "hung": Pressure(replace(GOOD, notes=("The stream gave nothing.",))),
}


@pytest.mark.slow
def test_latency_says_in_words_what_it_shows():
    picture = latency(RUNS)
    assert picture.is_png and "as it was: 1 of 3 without an answer; 1 client left the stream." in picture.alt
    assert "rewritten $x_{: all 3 answered, the slowest in 0.002 s" in picture.alt and "Hatched bars" in picture.caption
    assert "Hatched" not in latency(GOOD).caption and len(picture.data) < 100_000


def test_threads_over_aborts_says_in_words_what_it_shows():
    picture = threads_over_aborts(COUNTED)
    assert picture.is_png and "_bad $: 10 before, 60 at most, 60 after 1 aborts." in picture.alt
    assert "hung: not counted; The stream gave nothing." in picture.alt


def test_without_matplotlib_the_next_command_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingTool, match="needs matplotlib") as raised:
        latency(GOOD)
    assert "pip install matplotlib" in raised.value.next
    assert timeline(evidence("none/py311-pyspy043.txt")).data.startswith(b"<svg")


# -- whatever a dump says ------------------------------------------------------------------------------


def test_no_name_in_a_dump_breaks_a_picture_or_gets_out_of_its_text():
    bad = Frame(HOSTILE, HOSTILE, 3)
    thread = Thread((bad,), HOSTILE, 1)
    seen = Evidence((Snapshot((thread, replace(thread, os_id=2)), 1, HOSTILE),))
    drawn = [timeline(seen), flame([(thread, 3)]), wait_graph(ring(2, HOSTILE))]
    for picture in drawn:
        root = parsed(picture)
        assert "<script" not in picture.data.decode() and not re.search(r"[\x00-\x08\x0b-\x1f]", picture.data.decode())
        limit = float(root.get("width"))
        for text in root.iter(f"{NS}text"):
            start = float(text.get("x")) - (svg.wide(text.text) / 2 if text.get("text-anchor") == "middle" else 0)
            assert start + svg.wide(text.text, float(text.get("font-size", svg.SIZE))) <= limit
        assert "<script>" not in picture.html()
