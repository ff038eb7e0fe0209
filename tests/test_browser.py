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
    folder = tmp_path_factory.mktemp("lab")
    for name in ("all.ipynb", "panel.ipynb"):
        browser.copied(folder).rename(folder / name)
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


def test_the_whole_path_by_click_in_light_and_dark(chrome, site, tmp_path):
    page = browser.opened(chrome, site, "panel.ipynb")
    for _ in range(5):  # the panel, and what is above it
        browser.command(page, "notebook:run-cell-and-select-next")
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
    assert "with ThreadPoolExecutor" in tab(page, "Source").inner_text()
    assert re.search(r"->\s*22\s+with ThreadPoolExecutor", tab(page, "Source").inner_text())
    page.locator(".hang summary").first.click()
    inside.get_by_text("joins the pool's threads, one after the other").wait_for()
    take(page, "panel-light.png", tmp_path)
    assert "event-loop" in tab(page, "Threads").inner_text()
    press(page, "Earlier")
    inside.get_by_text("4 of 5", exact=True).wait_for()
    assert "futex" in tab(page, "Kernel waits").inner_text()
    assert "headlines" in tab(page, "Tasks").inner_text()
    tab(page, "Wait-for graph").get_by_role("img", name=re.compile("^Graph of waits")).wait_for()
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
    assert not nameless(page)
    tab(page, "Report")
    press(page, "Write the report")
    with page.expect_download() as download:
        inside.get_by_role("link", name="Download report.html").click()
    assert "executor-shutdown" in Path(download.value.path()).read_text()
    browser.command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
    page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
    tab(page, "Source")
    assert contrast(page, ".hang-card b") > 4.5 and contrast(page, ".hang [role=tab]") > 4.5
    assert contrast(page, ".hang .widget-tab-contents td code") > 4.5
    take(page, "panel-dark.png", tmp_path)
    browser.command(page, "apputils:change-theme", {"theme": "JupyterLab Light"})
    page.wait_for_selector("body[data-jp-theme-light=true]", state="attached")
    assert contrast(page, ".hang-card b") > 4.5 and contrast(page, ".hang-facts") > 4.5
    assert not trouble(page)
    a_second_server_by_keyboard_alone(page, tmp_path)  # here, for two workers would start two servers


CONTRAST = """one => {
  const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const layers = []; let node = one;
  for (; node; node = node.parentElement) {
    const c = parse(getComputedStyle(node).backgroundColor); layers.push(c); if (c[3] == 1) break; }
  const over = (below, c) => below.map((v, i) => v * (1 - c[3]) + c[i] * c[3]);
  const ground = layers.reverse().reduce(over, [255, 255, 255]);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b; };
  const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground)].sort((x, y) => y - x);
  return (a + .05) / (b + .05); }"""


def contrast(page: Any, selector: str) -> float:
    """The least contrast of text to its ground among the visible elements, as WCAG counts it."""
    found = page.locator(selector).locator("visible=true").all()
    assert found
    return min(one.evaluate(CONTRAST) for one in found)


def a_second_server_by_keyboard_alone(page: Any, tmp_path: Path) -> None:
    inside = page.locator(".hang")
    with zoo.hang("lock") as hung:
        press(page, "Another target", click=False).focus()
        page.keyboard.press("Space")
        press(page, "Look again", click=False).focus()
        page.keyboard.press("Space")
        pick = press(page, str(hung.pid), click=False)
        pick.focus()
        page.keyboard.press("Space")
        save = press(page, "Save evidence", click=False)
        for _ in range(60):
            page.keyboard.press("Tab")
            if save.evaluate("one => one === document.activeElement"):
                break
        page.keyboard.press("Space")
        inside.get_by_text("loop-blocked / lock").first.wait_for()
        page.locator(".hang [role=tab][aria-selected=true]").focus()
        for key in (*["ArrowRight"] * TABS.index("Wait-for graph"), "Space"):
            page.keyboard.press(key)
        chain = inside.get_by_role("img", name=re.compile("^Graph of waits, a chain: MainThread -> "))
        chain.wait_for()
        take(page, "panel-waits.png", tmp_path)
        tab(page, "Verification")
        press(page, "Verify with curl")
        inside.get_by_role("alert").get_by_text("Nothing was sent.").wait_for()
        assert hung.holds()
    assert not trouble(page)


def test_run_all_shows_the_path_to_its_end(chrome, site):
    page = browser.opened(chrome, site, "all.ipynb")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-OutputArea-output", has_text="processes left: 0").wait_for(timeout=100_000)
    assert not trouble(page)
    said = page.locator(".jp-Notebook").inner_text()
    for words in (
        "All 9 things that are needed are here",
        "FAILED: 4 of 16",
        "loop-blocked / executor-shutdown",
        "PASSED: all 28",
        "Right: lock.",
    ):
        assert words in said
    pictures = page.locator(".jp-OutputArea-output figure:not(.hang figure)")
    assert pictures.count() == 5
    for one in pictures.all():
        drawn = one.locator("svg[role=img], img")
        assert (
            len(drawn.get_attribute("aria-label") or drawn.get_attribute("alt") or "") > 40
            and drawn.bounding_box()["height"] > 100
        )
    page.close()


def test_as_a_page_it_is_the_panel_and_no_more(chrome, tmp_path):
    browser.copied(tmp_path)
    with browser.serving(tmp_path, "voila", "triage.ipynb") as site:
        page = chrome.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        page.route(re.compile(r"^(?!http://127\.0\.0\.1)"), lambda route: route.abort())
        page.goto(site.at(""))
        press(page, "Start the demo")
        press(page, "Let a reader leave", click=False)
        page.get_by_text(re.compile(r"200 in \d+ ms")).wait_for()
        assert not page.get_by_text("Clean up").is_visible() and not trouble(page)
        page.close()
