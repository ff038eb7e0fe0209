"""The notebook in JupyterLab, and as a page under Voila, seen and worked as a person does: in Debian's Chromium.

With HANG_PICTURES=FOLDER the screenshots that the README shows are written there (`make pictures`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import browser
import zoo
from hangdebug.evidence.model import Frame, Thread
from hangdebug.report.flame import interactive
from hangdebug.report.page import report
from panel import TABS

PICTURES = os.environ.get("HANG_PICTURES")
CI = os.environ.get("CI") == "true"
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(bool(browser.missing()) and not CI, reason=browser.missing()),
]
CONTROLS = {
    "button",
    "textbox",
    "checkbox",
    "combobox",
    "spinbutton",
    "tab",
    "radio",
    "listbox",
    "progressbar",
    "image",
}


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser.chromium() as one:
        yield one


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[browser.Site]:
    """JupyterLab, and Voila below /voila: one server for both."""
    folder = tmp_path_factory.mktemp("lab")
    browser.copied(folder)
    with browser.serving(folder) as one:
        yield one


def press(page: Any, name: str, click: bool = True) -> Any:
    """The button of the panel with these very words, once it is there and may be pressed; pressed."""
    one = page.locator(".hang").get_by_role("button", name=name, exact=True).locator("visible=true")
    one.and_(page.locator(":enabled")).wait_for()
    if click:
        one.click()
    return one


def tab(page: Any, name: str) -> Any:
    """Turn to a tab of the panel, and give back what is below it."""
    page.locator(".hang").get_by_role("tab", name=name, exact=True).click()
    return page.locator(".hang [role=tabpanel]:visible, .hang .widget-tab-contents > :not(.lm-mod-hidden)").last


def take(page: Any, name: str, folder: Path, kept: bool = True) -> None:
    """A screenshot of the panel; one that is kept goes to where the README's pictures are wanted."""
    browser.settled(page)
    page.locator(".hang").first.screenshot(path=str(Path(PICTURES if PICTURES and kept else folder).resolve() / name))


def trouble(page: Any) -> list[str]:
    """What no reader may see: a traceback, an error output, what went to stderr."""
    found = page.locator(
        "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
    )
    said = page.locator("body").inner_text()
    return found.all_inner_texts() + re.findall(r"Traceback|The notebook has a fault.*|Error displaying widget.*", said)


def nameless(page: Any) -> list[str]:
    """Controls and pictures of the page's accessibility tree below the panel that have no name."""
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    panel = session.send("DOM.querySelector", {"nodeId": root, "selector": ".hang"})["nodeId"]
    below, rest = set(), [session.send("DOM.describeNode", {"nodeId": panel, "depth": -1})["node"]]
    while rest:
        node = rest.pop()
        below.add(node["backendNodeId"])
        rest += node.get("children", [])
    tree = session.send("Accessibility.getFullAXTree")["nodes"]
    mine = [one for one in tree if one.get("backendDOMNodeId") in below and not one.get("ignored")]
    assert len(mine) > 50
    return [
        str(one)
        for one in mine
        if one["role"]["value"] in CONTROLS and not re.search("[A-Za-z0-9]", one.get("name", {}).get("value", ""))
    ]


SIZES = ((1440, 900), (1100, 700))


def looked_at(page: Any, where: str, names: tuple[str, ...] = TABS) -> list[str]:
    """The faults of every tab, or of the page as it stands where none is named, in both sizes and both themes."""
    found = []
    for dark in (True, False):
        browser.themed(page, dark)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            for name in names or ("",):
                if name:
                    tab(page, name)
                at = f"{where}, {name}, {width}, {'dark' if dark else 'light'}"
                seen = browser.faults(page, axe=(width, height) == SIZES[0])  # contrast is the same in every size
                found += [f"{at}: {one}" for one in seen]
    return found


def on_the_first_screen(page: Any, selector: str) -> bool:
    """Whether all of it is in the window, without scrolling."""
    box, size = page.locator(selector).first.bounding_box(), page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"]


def test_the_panel_by_click_and_by_keyboard_in_two_sizes_and_two_themes(chrome, site, tmp_path):
    with zoo.hang("lock") as hung:
        page = browser.opened(chrome, site, "triage.ipynb", *SIZES[1])
        as_recorded(page)
        page.locator(".jp-Notebook").focus()
        page.keyboard.press("Shift+Enter")
        inside = page.locator(".hang")
        inside.get_by_text(re.compile(r"^Process \d+ on port \d+ is chosen: ")).wait_for()  # some sick server is
        assert on_the_first_screen(page, ".hang button.mod-primary")
        found = [f"targets: {one}" for one in browser.faults(page)]
        by_keyboard_alone(page, hung, tmp_path)
        found += looked_at(page, "lock", ("Threads", "Kernel waits", "Wait-for graph", "Verification"))
        assert hung.holds() and not trouble(page)
    page.set_viewport_size({"width": 1440, "height": 2000})
    press(page, "Another target")
    press(page, "demo")
    the_demo_from_its_start_to_the_report(page, tmp_path)
    found += looked_at(page, "demo", ("Source", "Tasks", "Flame graph", "Diff", "Verification", "Report"))
    assert not found, "\n".join(sorted(set(found)))
    assert not trouble(page) and not nameless(page)
    page.close()


def test_a_dump_a_file_and_a_practice_case_in_two_sizes_and_two_themes(chrome, site):
    page = browser.opened(chrome, site, "triage.ipynb", *SIZES[0])
    page.keyboard.press("Shift+Enter")  # no click before it: the notebook opens on the cell of the panel
    inside, found = page.locator(".hang"), []
    press(page, "Look again", click=False)

    def turn(name: str) -> None:
        inside.locator(".widget-toggle-buttons").get_by_role("button", name=name, exact=True).click()

    turn("Pid or port")
    found += looked_at(page, "number", ())
    turn("Pasted dump")
    inside.locator("textarea:visible").fill((browser.ROOT / "tests/dumps/lock/py311-pyspy043.txt").read_text())
    found += looked_at(page, "paste", ())
    press(page, "Read it")
    inside.get_by_text("read from the pasted dump").wait_for()
    press(page, "Another target")
    turn("A file")
    with page.expect_file_chooser() as chooser:
        inside.locator(".widget-upload:visible").click()
    chooser.value.set_files(browser.ROOT / "tests/bundles/executor_shutdown.tar.gz")
    inside.get_by_text(re.compile(r"^executor_shutdown.tar.gz, \d+\.\d KB")).wait_for()
    found += looked_at(page, "file", ())
    press(page, "Read it")
    inside.get_by_text("read from executor_shutdown.tar.gz").wait_for()
    assert on_the_first_screen(page, ".hang-card")
    found += looked_at(page, "a bundle", ("Source", "Threads"))
    press(page, "Another target")
    turn("Practice")
    found += looked_at(page, "practice", ())
    press(page, "Start the case")
    press(page, "Save evidence")
    inside.get_by_text("What is it? Look at the tabs").wait_for()
    found += looked_at(page, "a case", ("Threads", "Kernel waits"))
    inside.locator("select:visible").select_option("lock")
    press(page, "That is it")
    inside.locator(".hang-story").wait_for()
    found += looked_at(page, "a case that is told", ("Source",))
    assert not found, "\n".join(sorted(set(found)))
    assert not trouble(page) and not nameless(page)
    press(page, "Another target")
    page.close()


def as_recorded(page: Any) -> None:
    """Before a cell runs: the panel's code is folded, the outputs are said to be old, every picture is drawn."""
    assert page.locator(".jp-Notebook .jp-Cell").first.locator(".jp-Placeholder").is_visible()
    assert "recorded example" in page.locator(".jp-Notebook").inner_text()
    pictures = page.locator(".jp-OutputArea-output figure").all()
    assert len(pictures) == 5
    for one in pictures:
        drawn = one.locator("svg[role=img], img")
        words = drawn.get_attribute("aria-label") or drawn.get_attribute("alt") or ""
        assert len(words) > 40 and drawn.bounding_box()["height"] > 100
    assert not trouble(page)


ROW = 4  # pixels by which the tops of what stands side by side may differ


def by_keyboard_alone(page: Any, hung: zoo.Hung, tmp_path: Path) -> None:
    """From the list of servers to the graph of waits; the order of the Tab key is that of the page."""
    inside = page.locator(".hang")
    press(page, "Look again", click=False).focus()
    page.keyboard.press("Space")
    press(page, str(hung.pid), click=False).focus()
    page.keyboard.press("Space")
    save, passed = press(page, "Save evidence", click=False), []
    for _ in range(60):
        page.keyboard.press("Tab")
        passed.append(page.evaluate("() => document.activeElement.getBoundingClientRect().top"))
        if save.evaluate("one => one === document.activeElement"):
            break
    downwards = all(later > sooner - ROW for sooner, later in zip(passed, passed[1:]))
    assert downwards or max(passed) < passed[-1] + 1  # a scrolled list may move it; pixels come in fractions
    page.keyboard.press("Space")
    inside.get_by_text("loop-blocked / lock").first.wait_for()
    assert on_the_first_screen(page, ".hang-card")
    page.locator(".hang [role=tab][aria-selected=true]").focus()
    for key in (*["ArrowRight"] * TABS.index("Wait-for graph"), "Space"):
        page.keyboard.press(key)
    inside.get_by_role("img", name=re.compile("^Graph of waits, a chain: MainThread -> ")).wait_for()
    page.set_viewport_size({"width": 1440, "height": 2000})
    take(page, "panel-waits.png", tmp_path)
    tab(page, "Threads")
    inside.get_by_role("textbox", name="search").fill("no such function")
    inside.get_by_text(re.compile(r"^0 of \d+ different stacks")).wait_for()
    inside.get_by_role("textbox", name="search").fill("lock")
    inside.get_by_text("kernel: futex").first.wait_for()
    assert "sleeps until another thread wakes it" in inside.locator("abbr").first.get_attribute("title")
    tab(page, "Verification")
    assert hung.url.rpartition(":")[2] in inside.get_by_role("combobox", name="health URL").input_value()
    press(page, "Verify with curl")
    inside.get_by_role("alert").get_by_text("Nothing was sent.").wait_for()


def the_demo_from_its_start_to_the_report(page: Any, tmp_path: Path) -> None:
    inside = page.locator(".hang")
    press(page, "Start the demo")
    press(page, "Let a reader leave", click=False)
    inside.get_by_text(re.compile(r"200 in \d+ ms")).wait_for()  # the live dot: the demo answers
    press(page, "Let a reader leave")
    inside.get_by_text("FAILED: 4 of 16 probes").wait_for()
    inside.get_by_text("no answer within 1 s").wait_for()  # and now it does not
    take(page, "panel-target.png", tmp_path, kept=False)  # with whatever else runs on this machine
    press(page, "Save evidence")
    inside.get_by_text("loop-blocked / executor-shutdown").first.wait_for()
    assert "one solid bar" in page.locator(".hang figcaption").first.inner_text()
    assert re.search(r"->\s*22\s+with ThreadPoolExecutor", tab(page, "Source").inner_text())
    page.locator(".hang summary:visible").first.click()
    inside.get_by_text("joins the pool's threads, one after the other").first.wait_for()
    take(page, "panel-light.png", tmp_path)
    tab(page, "Threads")
    press(page, "Earlier")
    inside.get_by_text("4 of 5", exact=True).first.wait_for()
    assert "futex" in tab(page, "Kernel waits").inner_text()
    assert "headlines" in tab(page, "Tasks").inner_text()
    tab(page, "Diff")
    press(page, "Apply the rewrite")
    inside.get_by_text("written: app/api/routes/stream.py").wait_for()
    press(page, "Undo")
    inside.get_by_text("as it was: app/api/routes/stream.py").wait_for()
    press(page, "Apply the rewrite")
    take(page, "panel-diff.png", tmp_path)
    tab(page, "Verification")
    press(page, "Verify with curl")
    inside.get_by_role("progressbar", name="Readers leave, curl sends requests").wait_for()
    inside.get_by_text("PASSED: all 28 probes").wait_for()
    inside.get_by_role("img", name=re.compile("rewritten: all 14 answered")).wait_for()
    take(page, "panel-proof.png", tmp_path)
    tab(page, "Report")
    press(page, "Write the report")
    with page.expect_download() as download:
        inside.get_by_role("link", name="Download report.html").click()
    assert "executor-shutdown" in Path(download.value.path()).read_text()
    browser.themed(page, dark=True)
    tab(page, "Source")
    take(page, "panel-dark.png", tmp_path)


def test_the_flame_graph_zooms_and_finds_by_click_and_by_key(chrome, tmp_path):
    stacks = ((thread("loads", "handler"), 25), (thread("slow", "handler"), 75))
    (tmp_path / "flame.html").write_text(interactive(stacks))
    page = chrome.new_page(viewport={"width": 900, "height": 400})
    page.goto((tmp_path / "flame.html").as_uri())
    wide = {one: page.get_by_role("button", name=one).bounding_box()["width"] for one in ("slow", "loads", "handler")}
    assert abs(wide["slow"] / wide["handler"] - 0.75) < 0.01 and wide["handler"] > 850
    page.get_by_role("button", name="slow").click()
    assert page.get_by_role("button", name="slow").bounding_box()["width"] > 850
    assert not page.get_by_role("button", name="loads").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="handler").press("ArrowUp")
    assert "slow (app.py:7)" in page.get_by_role("status").inner_text()
    page.get_by_role("searchbox").fill("loads")
    assert page.get_by_role("status").inner_text() == '1 boxes with "loads": 25.0 % of the samples'
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert not browser.faults(page, "main")
    page.close()


@pytest.mark.parametrize("name", ["executor_shutdown", "cpu_bound", "none"])
def test_the_report_on_a_phone_and_on_paper(chrome, tmp_path, name):
    page = chrome.new_page(viewport={"width": 390, "height": 844})
    page.goto(report(browser.ROOT / "tests" / "bundles" / f"{name}.tar.gz", tmp_path)[0].as_uri())
    for scheme in ("light", "dark"):
        page.emulate_media(media="screen", color_scheme=scheme)
        assert not browser.faults(page, "main")
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390
        words = page.locator("figure svg").first.locator("text").first
        assert words.bounding_box()["height"] > 9  # they can be read without a zoom
        page.emulate_media(media="print", color_scheme=scheme)  # paper is white, whatever the reader's theme
        assert page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(255, 255, 255)"
        assert (
            page.locator("figure svg rect").first.evaluate("one => getComputedStyle(one).fill") == "rgb(255, 255, 255)"
        )
        page.set_viewport_size({"width": 680, "height": 1000})  # A4 between margins of 15 mm
        assert not browser.faults(page, "main")
        assert "not printed" in page.locator("details.long summary").first.evaluate(
            "one => getComputedStyle(one, '::after').content"
        )
        page.set_viewport_size({"width": 390, "height": 844})
    page.close()


def thread(*calls: str) -> Thread:
    return Thread(tuple(Frame(one, "app.py", 7) for one in calls), "MainThread")


def test_as_a_page_it_is_the_panel_and_no_more(chrome, site):
    page = chrome.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    page.route(re.compile(r"^(?!http://127\.0\.0\.1)"), lambda route: route.abort())
    page.goto(site.at("voila/render/triage.ipynb"))
    press(page, "Look again", click=False)
    assert not page.get_by_text("Clean up").is_visible() and not trouble(page)
    assert page.locator(".hang").bounding_box()["width"] > 1380
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for number in range(5):
            page.locator(".hang .widget-toggle-buttons button").nth(number).click()
            assert not browser.faults(page), (width, number)
    page.close()
