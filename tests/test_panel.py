"""The control panel without a browser: its buttons are clicked, on servers that really hang, and on what goes wrong."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets as w
import psutil
import pytest

import client
import cockpit
import lab
import practice
import targets
import zoo
from hangdebug.capture.bundle import pack
from hangdebug.errors import BadRequest, HangError, NoProcess
from hangdebug.evidence.model import Clients
from hangdebug.repair.model import Patch
from hangdebug.repair.proof.curl import Answer
from hangdebug.repair.proof.verify import Verification
from panel import TABS, WORK, Panel

pytestmark = pytest.mark.slow  # widgets take seconds to import
EVERY = 0.2  # seconds between two looks at the servers: sooner than by hand
BUNDLES = Path(__file__).parent / "bundles"
DUMP = Path(__file__).parent / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"


@pytest.fixture
def panel(monkeypatch, tmp_path) -> Iterator[Panel]:
    monkeypatch.delenv("HANG_PID", raising=False)
    monkeypatch.setattr("panel.EVERY", EVERY)
    monkeypatch.chdir(tmp_path)  # where evidence goes
    others = {child.pid for child in psutil.Process().children(recursive=True)}
    one = Panel()
    yield one
    assert set(one.close()) <= others


@pytest.fixture(scope="module")
def hung() -> Iterator[zoo.Hung]:
    with zoo.hang("executor-shutdown") as server:
        yield server


def pressed(panel: Panel, button: w.Button) -> str:
    button.click()
    return panel.done()


def seen(one: Any) -> bool:
    return one.layout.display != "none"


def primary(panel: Panel) -> list[str]:
    """The words on the primary buttons above the tabs."""
    buttons = (panel.start, panel.hang, panel.save, panel.read, panel.begin, panel.check, panel.onward)
    return [one.description for one in buttons if seen(one) and one.button_style == "primary"]


def given(panel: Panel, pid: int) -> None:
    panel.source.value, panel.pid.value = "number", str(pid)


# -- the list of servers -------------------------------------------------------------------------------


@pytest.mark.live
def test_servers_are_listed_with_how_they_fare_and_nothing_is_sent(panel):
    with lab.start(zoo.truth("none").folder, zoo.truth("none").app) as well, zoo.hang("executor-shutdown") as ill:
        panel.again.click()
        rows = {pid: line for pid, (_, line) in panel.rows.items()}
        assert {well.pid, ill.pid, 0} <= set(rows) and os.getpid() not in rows
        before = well.log.read_text()
        assert client.eventually(lambda: "hang-waits" in rows[ill.pid].value, 5)
        assert "left unnoticed" in rows[ill.pid].value and "executor_shutdown:app" in rows[ill.pid].value
        assert "nobody waits" in rows[well.pid].value and well.url.rpartition(":")[2] in rows[well.pid].value
        assert well.log.read_text() == before
    panel.again.click()
    assert well.pid not in panel.rows


@pytest.mark.live
def test_a_server_is_asked_only_after_a_tick(panel):
    with lab.start(zoo.truth("none").folder, zoo.truth("none").app) as well:
        panel.health_url.value = f"{well.url}/health"
        assert not client.eventually(lambda: "GET" in well.log.read_text(), 5 * EVERY)
        panel.ask.value = True
        assert client.eventually(lambda: "200 in" in panel.asked.value, 5)
        assert "GET /health" in well.log.read_text()
        panel.health_url.value = "file:///etc/passwd"
        assert client.eventually(lambda: "is not an http or https URL" in panel.asked.value, 5)


@pytest.mark.parametrize(
    "before, now, cpu, sign",
    [
        (Clients(), Clients(), 3.0, "quiet"),
        (Clients(open=9), Clients(open=9), 3.0, "quiet"),
        (Clients(), Clients(backlog=4), 3.0, "quiet"),  # one look may be a bad moment
        (Clients(backlog=1), Clients(backlog=4), 3.0, "waits"),
        (Clients(unread=1), Clients(unread=1), 3.0, "waits"),
        (Clients(abandoned=2), Clients(abandoned=1), 3.0, "waits"),
        (Clients(), Clients(), 99.0, "busy"),
        (Clients(backlog=1), Clients(backlog=1), 99.0, "waits"),
    ],
)
def test_the_dot_is_what_sockets_and_cpu_say(before, now, cpu, sign):
    assert targets.health(psutil.Process(), cpu, before, now).sign == sign
    assert sign in targets.SIGNS and len(set(targets.SIGNS.values())) == len(
        targets.SIGNS
    )  # a shape each, for the colour-blind


def test_the_other_panels_refresh_ends_with_a_new_one(panel):
    second = Panel()
    assert panel.over.is_set() and not second.over.is_set()


def fake(pid: int, sign: str = "quiet", oldest: float = 0.0) -> targets.Server:
    return targets.Server(pid, "uvicorn", "app:app", ports=(8000,), health=targets.Health(sign, "as it is", oldest))


def test_the_sickest_server_is_chosen_and_stands_first_until_somebody_chooses(panel, monkeypatch):
    servers = (fake(11), fake(12, "busy"), fake(13, "quiet", 30.0), fake(14, "waits", 2.0), fake(15, "waits", 9.0))
    ranked = tuple(sorted(servers, key=lambda one: (one.health.rank, one.pid)))
    assert [one.pid for one in ranked] == [15, 14, 13, 12, 11]  # a client that nobody reads before one that is slow
    panel.over.set()  # no look of its own meanwhile
    panel.looking.join(5)
    monkeypatch.setattr(panel.watch, "look", lambda: ranked)
    monkeypatch.setattr(panel.watch, "find", lambda but: None)
    panel.find()
    panel.choose()
    assert panel.picked == 15 and "Process 15 on port 8000 is chosen" in panel.why.value
    assert list(panel.rows) == [15, 14, 13, 12, 11, 0] and primary(panel) == ["Save evidence"]
    panel.pick(11)
    panel.choose()
    assert panel.picked == 11 and panel.why.value == ""


def test_a_machine_without_a_sick_server_offers_the_demo(panel, monkeypatch):
    panel.over.set()
    panel.looking.join(5)
    monkeypatch.setattr(panel.watch, "look", lambda: (fake(11), fake(12, "quiet", 2.0)))
    monkeypatch.setattr(panel.watch, "find", lambda but: None)
    panel.find()
    panel.choose()
    assert panel.picked == 0 and primary(panel) == ["Start the demo"] and panel.why.value == ""


def test_routes_are_read_from_what_the_service_says_of_itself(monkeypatch):
    stream = {"get": {"responses": {"200": {"content": {"text/event-stream": {}}}}}}
    paths = {
        "/items/{number}": {"get": {}},
        "/items": {"get": {}, "post": {}},
        "/login": {"post": {}},
        "/search": {"get": {"parameters": [{"name": "q", "required": True}]}},
        "/healthz": {"get": {}},
        "/news": stream,
    }
    told = Answer(200, 0.01, 0, "", body=json.dumps({"paths": paths}).encode())
    monkeypatch.setattr(targets.curl, "probe", lambda commands, deadline: [told])
    urls, streams = targets.routes_of("http://127.0.0.1:8000")
    assert urls == ["http://127.0.0.1:8000/healthz", "http://127.0.0.1:8000/items"]
    assert streams == ["http://127.0.0.1:8000/news"]
    for bad in (
        Answer(None, 2.0, 28, ""),
        Answer(200, 0.1, 0, "", body=b"<html>"),
        Answer(404, 0.1, 0, "", body=b"{}"),
    ):
        monkeypatch.setattr(targets.curl, "probe", lambda commands, deadline, bad=bad: [bad])
        with pytest.raises(HangError, match="routes are not known"):
            targets.routes_of("http://127.0.0.1:8000")


def test_routes_that_a_hung_service_did_not_tell_are_asked_for_when_it_is_verified(panel, monkeypatch):
    sent = []

    def verify(*words: object) -> Verification:
        sent.append(words[:2])
        return Verification((), 2.0)

    base = "http://127.0.0.1:8000"
    monkeypatch.setattr(panel, "base", lambda: base)
    monkeypatch.setattr(panel, "about", lambda: SimpleNamespace(verify=verify))
    monkeypatch.setattr(targets.curl, "probe", lambda commands, deadline: [Answer(None, 2.0, 28, "")])
    panel.agreed.value, panel.url.value = True, panel.guessed()
    pressed(panel, panel.verify)
    paths = {"/healthz": {"get": {}}, "/news": {"get": {}}, "/events": {"get": {}}}
    told = Answer(200, 0.01, 0, "", body=json.dumps({"paths": paths}).encode())
    monkeypatch.setattr(targets.curl, "probe", lambda commands, deadline: [told])
    pressed(panel, panel.verify)
    panel.url.value = f"{base}/typed"
    pressed(panel, panel.verify)
    assert sent == [
        (f"{base}/health", ""),
        (f"{base}/healthz", f"{base}/events"),
        (f"{base}/typed", f"{base}/events"),
    ]


# -- by pid, by port, by click -------------------------------------------------------------------------


@pytest.mark.live
def test_evidence_is_saved_before_anything_else_is_offered(panel, hung, tmp_path):
    panel.again.click()
    panel.rows[hung.pid][0].click()
    assert (
        "hang-picked" in panel.rows[hung.pid][0]._dom_classes
        and primary(panel) == ["Save evidence"]
        and not seen(panel.found)
    )
    words = pressed(panel, panel.save)
    assert words.index("read the kernel's evidence") < words.index("took 5 samples")
    (folder,) = tmp_path.glob(f"evidence-{hung.pid}-*")
    assert (folder / "manifest.json").is_file() and seen(panel.found) and primary(panel) == ["See the rewrite"]
    assert "loop-blocked / executor-shutdown" in panel.card.value and "<svg" in panel.timeline.value
    assert [name for name in TABS if "hang-alert" in panel.pages[name].value] == []
    assert hung.holds()


@pytest.mark.live
def test_the_slider_scrolls_through_the_samples(panel, hung):
    given(panel, hung.pid)
    pressed(panel, panel.save)
    assert (panel.slider.max, panel.slider.value, panel.when.value) == (5, 5, "5 of 5")
    for _ in range(5):
        panel.turn(-1)
    assert panel.when.value == "1 of 5" and "headlines" in panel.pages["Threads"].value
    panel.source.value, first = "paste", DUMP.read_text()
    panel.paste.value = f"{first}\n{first.replace('fetch', 'later')}"
    pressed(panel, panel.read)
    assert panel.when.value == "2 of 2" and "later" in panel.pages["Threads"].value
    panel.turn(-1)
    assert panel.when.value == "1 of 2" and "later" not in panel.pages["Threads"].value


@pytest.mark.live
def test_the_source_has_what_says_so_beside_it_and_libraries_folded(panel, hung):
    given(panel, hung.pid)
    pressed(panel, panel.save)
    shown = panel.pages["Source"].value
    line = re.search(r"<tr>(?:(?!</tr>).)*-&gt;.*?</tr>", shown)[0]
    assert re.sub("<[^>]*>", "", line).startswith(f"-&gt;{hung.truth.marked[0][1]}")
    assert "var(--jp-mirror-editor-keyword-color" in line and "joins the pool&#x27;s threads" in shown
    folded = re.findall(r"<summary[^>]*>(.*?)</summary>", shown)
    assert folded and all("frames of" in head or "frame of" in head for head in folded) and shown.count("YOURS") == 1


@pytest.mark.live
def test_a_port_leads_to_the_process(panel, hung):
    panel.source.value, panel.port.value = "number", hung.url.rpartition(":")[2]
    pressed(panel, panel.save)
    assert panel.desk.answer.process.pid == hung.pid


@pytest.mark.live
def test_another_target_hides_the_answer_about_the_one_before(panel, hung):
    given(panel, hung.pid)
    pressed(panel, panel.save)
    panel.other.click()
    assert seen(panel.choosing)
    panel.pid.value = str(os.getpid())
    assert not seen(panel.found) and primary(panel) == ["Save evidence"]


# -- the rewrite ---------------------------------------------------------------------------------------


@pytest.mark.live
def test_your_file_is_written_with_a_tick_only_and_undo_gives_back_every_byte(panel, tmp_path):
    text = (zoo.HERE / "hung" / "executor_shutdown.py").read_text().replace("\n", "\r\n")
    mine = tmp_path / "mine" / "executor_shutdown.py"
    mine.parent.mkdir()
    mine.write_bytes(b"\xef\xbb\xbf" + text.encode())
    before = mine.read_bytes()
    with lab.start(mine.parent, "executor_shutdown:app") as server:
        with client.reading(f"{server.url}/news") as stream:
            stream.readline()
        assert client.eventually(lambda: client.get(f"{server.url}/health", 0.3) is None)
        given(panel, server.pid)
        pressed(panel, panel.save)
        assert "repaired" in pressed(panel, panel.apply) and mine.read_bytes() == before
        (copy,) = tmp_path.glob("evidence-*/repaired/executor_shutdown.py")
        assert b"shutdown(wait=False, cancel_futures=True)\r\n" in copy.read_bytes()
        assert panel.apply.disabled and not panel.undo.disabled
        pressed(panel, panel.undo)
        assert copy.read_bytes() == before
        panel.own.value = True
        pressed(panel, panel.apply)
        assert b"shutdown(wait=False, cancel_futures=True)\r\n" in mine.read_bytes() and copy.read_bytes() == before
        pressed(panel, panel.undo)
        assert mine.read_bytes() == before
        with pytest.raises(HangError, match="There is nothing to undo"):
            pressed(panel, panel.undo)
        with pytest.raises(HangError, match="Nothing was sent"):
            pressed(panel, panel.verify)


@pytest.mark.live
def test_an_own_service_is_verified_after_a_tick(panel, hung):
    given(panel, hung.pid)
    pressed(panel, panel.save)
    assert panel.url.value == f"{hung.url}/health" and panel.stream.value == ""
    panel.agreed.value = True
    assert "no answer within 2 s" in panel.done() and panel.url.value == f"{hung.url}/health"
    assert "FAILED" in pressed(panel, panel.verify)
    assert "<img alt=" in panel.pages["Verification"].value


@pytest.mark.live
def test_the_report_is_two_files_to_take_along(panel, hung, tmp_path):
    given(panel, hung.pid)
    pressed(panel, panel.save)
    pressed(panel, panel.tell)
    (folder,) = tmp_path.glob("evidence-*-report")
    assert "executor-shutdown" in (folder / "report.md").read_text()
    assert panel.pages["Report"].value.count("download=") == 3


# -- dumps and bundles ---------------------------------------------------------------------------------


def test_a_pasted_dump_is_read_and_reported(panel, tmp_path):
    panel.source.value = "paste"
    assert primary(panel) == ["Read it"]
    panel.paste.value = DUMP.read_text()
    assert "The target is a dump" in pressed(panel, panel.read)
    assert panel.desk.answer.cause == "executor-shutdown" and seen(panel.found) and not seen(panel.save)
    assert "read from the pasted dump" in panel.card.value and "`" not in panel.card.value
    assert "The kernel was not asked." in panel.pages["Kernel waits"].value
    pressed(panel, panel.tell)
    assert list(tmp_path.glob("evidence-2*-paste-report/report.html"))


def upload(panel: Panel, name: str, content: bytes) -> None:
    panel.source.value = "file"
    panel.upload.value = (
        {
            "name": name,
            "type": "",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": datetime.datetime.now(),
        },
    )


@pytest.mark.live
def test_a_bundle_is_uploaded_or_named(panel, hung, tmp_path):
    given(panel, hung.pid)
    pressed(panel, panel.save)
    archive = pack(panel.desk.source)
    upload(panel, "from-the-host.zip", archive.read_bytes())
    pressed(panel, panel.read)
    assert panel.desk.answer.cause == "executor-shutdown" and panel.desk.target is None
    upload(panel, "../../cut.zip", archive.read_bytes()[:-200])
    with pytest.raises(HangError, match=r"cut\.zip cannot be read as an archive|There is no stack"):
        pressed(panel, panel.read)
    assert not seen(panel.found) and 'role="alert"' in panel.log.value
    panel.path.value = str(archive)
    pressed(panel, panel.read)
    assert panel.desk.answer.cause == "executor-shutdown"


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "Nothing was given"),
        ("lorem ipsum\n" * 50, "There is no stack in this text"),
        ("Traceback <script>alert(1)</script>", "There is no stack"),
    ],
)
def test_garbage_that_is_pasted_gets_a_sentence(panel, text, why):
    panel.source.value, panel.paste.value = "paste", text
    with pytest.raises(HangError, match=why):
        pressed(panel, panel.read)
    assert "Next: <code>" in panel.log.value and "<script" not in panel.log.value and not seen(panel.found)


def test_what_is_healthy_has_an_ending_of_its_own(panel):
    panel.source.value, panel.path.value = "file", str(BUNDLES / "none.tar.gz")
    pressed(panel, panel.read)
    shown = panel.pages["Source"].value
    assert "What was ruled out" in shown and "Where to look next" in shown and "hang-alert" not in shown
    assert "repair" not in panel.head.value and primary(panel) == ["Report it"]
    assert not [name for name in TABS if "hang-alert" in panel.pages[name].value]


def test_every_stack_opens_with_its_locks_and_can_be_searched(panel):
    panel.source.value, panel.path.value = "file", str(BUNDLES / "lock_order.tar.gz")
    pressed(panel, panel.read)
    shown = panel.pages["Threads"].value
    assert shown.count("<details class=") == shown.count("hang-stack") > 3 and "wants shelves_lock" in shown
    assert re.search(r'<abbr title="sleeps until another thread[^"]*">futex</abbr>', shown)
    assert shown.index("hang-fault") < shown.index("event loop")  # the thread at fault stands first, and open
    panel.word.value = "RESTOCK"
    found = panel.pages["Threads"].value
    assert 0 < found.count("hang-stack") < shown.count("hang-stack") and " of " in found.partition("</p>")[0]
    panel.word.value = ""
    panel.fold.click()
    assert panel.pages["Threads"].value.count('" open>') == shown.count("hang-stack")


def test_what_was_said_of_another_target_goes(panel):
    panel.source.value = "paste"
    with pytest.raises(HangError):
        pressed(panel, panel.read)
    assert panel.log.value
    panel.source.value = "file"
    assert panel.log.value == ""


def test_enter_does_what_the_button_does_and_a_wrong_port_lists_the_servers(panel):
    panel.source.value, panel.port.value = "number", "1"
    assert not seen(panel.bodies["here"])
    panel.port._handle_custom_msg({"event": "submit"}, [])
    with pytest.raises(NoProcess):
        panel.done()
    assert (
        seen(panel.bodies["here"])
        and "pick one of the servers" in panel.log.value
        and "ss -ltnp" not in panel.log.value
    )
    panel.rows[0][0].click()
    assert panel.source.value == "here" and panel.picked == 0


def test_an_upload_is_told_by_name_size_and_age():
    now = datetime.datetime.now(datetime.timezone.utc)
    told = targets.told("evidence.zip", bytes(2048), now - datetime.timedelta(hours=3))
    assert told == "evidence.zip, 2.0 KB, last changed 3 hours ago"
    assert targets.told("a.txt", b"x", None) == "a.txt, 0.0 KB"


def test_too_large_an_upload_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="9 MB"):
        targets.kept("huge.zip", bytes(9 << 20), tmp_path)
    assert targets.kept("..\\..\\a.txt", b"x", tmp_path) == tmp_path / "a.txt"


# -- what goes wrong -----------------------------------------------------------------------------------


@pytest.mark.live
def test_a_process_that_goes_between_the_pick_and_the_capture(panel):
    with lab.start(zoo.truth("none").folder, zoo.truth("none").app) as server:
        panel.again.click()
        panel.rows[server.pid][0].click()
    with pytest.raises(HangError, match=f"Process {server.pid} is not running"):
        pressed(panel, panel.save)
    assert "Next: pick one of the servers" in panel.log.value and not seen(panel.found) and seen(panel.save)


@pytest.mark.parametrize(
    "pid, port, why",
    [
        ("uvicorn", "", "'uvicorn' is not a number"),
        ("", "", "Which process"),
        ("", "1", "listens on port 1"),
        ("99999999999", "", "is not running"),
    ],
)
def test_a_wrong_number_gets_a_sentence(panel, pid, port, why):
    panel.source.value, panel.pid.value, panel.port.value = "number", pid, port
    with pytest.raises(HangError, match=why):
        pressed(panel, panel.save)


@pytest.mark.live
@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_what_was_taken_stays(panel, hung, how):
    given(panel, hung.pid)
    wait = panel.pause

    def pause(seconds: float) -> bool:
        if panel.steps == 6:  # the second sample is on disk
            panel.stop.click() if how == "stop" else os.kill(os.getpid(), signal.SIGINT)
            panel.stopped.wait(10)
        return wait(seconds)

    panel.pause = pause
    if how == "stop":
        assert "stopped early; what was saved is kept" in pressed(panel, panel.save)
    else:
        with pytest.raises(cockpit.Interrupted), cockpit.errors_as_sentences():
            pressed(panel, panel.save)
    assert 1 <= panel.slider.max < 5 and panel.desk.answer.cause == "executor-shutdown" and seen(panel.found)


def test_a_fault_of_the_notebook_is_one_sentence_and_is_raised_in_a_cell(panel):
    panel.run(lambda: str(1 // 0), "Dividing")
    with pytest.raises(ZeroDivisionError):
        panel.done()
    assert "The notebook has a fault: ZeroDivisionError" in panel.log.value
    given(panel, 12)
    assert WORK.idle.is_set() and primary(panel) == ["Save evidence"]  # and it goes on


def test_one_thing_at_a_time(panel):
    begun, over = threading.Event(), threading.Event()
    panel.run(lambda: (begun.set(), over.wait(10), "first")[2], "Waiting")
    assert begun.wait(5) and panel.save.disabled and seen(panel.stop)
    panel.run(lambda: "second", "Pushing in")
    over.set()
    assert panel.done() == "first" and not panel.save.disabled and not seen(panel.stop)


# -- practice ------------------------------------------------------------------------------------------


@pytest.mark.live
def test_a_practice_case_does_not_tell_its_cause_before_a_guess(panel):
    number = next(number for number, case in enumerate(practice.catalogue(), 1) if case.cause == "sleep")
    panel.source.value, panel.case.value = "practice", number
    assert primary(panel) == ["Start the case"] and "sleep" not in str(panel.case.options)
    pressed(panel, panel.begin)
    panel.again.click()
    assert panel.desk.pid not in panel.rows
    pressed(panel, panel.save)
    assert primary(panel) == ["That is it"] and seen(panel.guess)
    hidden = [panel.card.value, panel.timeline.value, *(panel.pages[name].value for name in TABS)]
    assert not [shown for shown in hidden if re.search(r"loop-blocked|\bsleep / |/ sleep", shown)]
    assert "This tab shows the cause." in panel.pages["Source"].value and "event loop" in panel.pages["Threads"].value
    assert panel.check.disabled and "hang-fault" not in panel.pages["Threads"].value and "answer" in panel.head.value
    panel.guess.value = "lock"
    assert pressed(panel, panel.check).startswith("Not lock: sleep.")
    assert "<p>" in panel.log.value and "<pre" not in panel.log.value and "`" not in panel.log.value
    assert "loop-blocked / sleep" in panel.card.value and "time.sleep" in re.sub(
        "<[^>]*>", "", panel.pages["Source"].value
    )
    folder = panel.desk.case.folder
    panel.close()
    assert not folder.exists()


# -- for everybody -------------------------------------------------------------------------------------


def every(one: w.Widget) -> Iterator[w.Widget]:
    yield one
    for child in getattr(one, "children", ()):
        yield from every(child)


def test_every_control_has_a_name(panel):
    controls = [
        one
        for one in every(panel.box)
        if isinstance(
            one,
            (
                w.Button,
                w.Text,
                w.Textarea,
                w.Checkbox,
                w.Dropdown,
                w.FileUpload,
                w.IntSlider,
                w.BoundedIntText,
                w.ToggleButtons,
            ),
        )
    ]
    assert len(controls) > 25
    nameless = [one for one in controls if not (one.description or one.tooltip) and one is not panel.source]
    assert not nameless and all(panel.source.tooltips)


def test_colours_are_the_themes_or_stand_on_both(panel):
    """Whatever is written is in the theme's colour; fixed colours are for edges and signs, translucent for grounds."""
    from views import STYLE

    for rule in re.findall(r"[{;]\s*([\w-]+): ([^;}]+)", STYLE):
        name, value = rule
        if name == "color":
            assert value.startswith(("var(--jp", "var(--hang-soft")) or value in (
                "inherit",
                "#009e73",
                "#d55e00",
                "#b37700",
                "#b5578f",
            ), rule
        if name == "background" and "#" in value:
            pytest.fail(f"{rule} hides a theme's ground")


def test_the_panel_has_a_text(panel):
    assert repr(panel).startswith("[the panel: press Shift+Enter") and panel._repr_mimebundle_()["text/plain"] == repr(
        panel
    )


def test_copies_of_two_files_of_one_name_are_kept_apart(tmp_path):
    desk = cockpit.Desk()
    desk.keep = tmp_path / "kept"
    for name, text in (("a", "first\n"), ("b", "second\n")):
        (tmp_path / "app" / name).mkdir(parents=True)
        file = tmp_path / "app" / name / "routes.py"
        file.write_text(text)
        desk.patches.append(Patch(str(file), text, text.upper()))
    assert [one.read_text() for one in desk.write()] == ["FIRST\n", "SECOND\n"]
    assert [one.read_text() for one in desk.undo()] == ["second\n", "first\n"]
    assert (tmp_path / "app" / "a" / "routes.py").read_text() == "first\n"
