"""The incident report: all of a real bundle is in it, it needs nothing else, and no dump gets out of its text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose
from hangdebug.capture.bundle import pack
from hangdebug.capture.processes import resolve
from hangdebug.errors import HangError, NotADump
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Clients
from hangdebug.evidence.vocabulary import STATES
from hangdebug.observe import observe
from hangdebug.repair.model import Probe
from hangdebug.repair.proof.pressure import Pressure, keep_check, read_check
from hangdebug.repair.proof.verify import Verification
from hangdebug.report import page
from hangdebug.report.incident import HARM, first_asked, gather
from test_package import pythons

ROOT = Path(__file__).parents[1]
HANG = ROOT / "scripts" / "hang.py"
BUNDLES = ROOT / "tests" / "bundles"
DUMP = ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
TAGS = set(
    "html head meta title style body main section h1 h2 p strong dl dt dd code pre ul li a figure figcaption img table "
    "thead tbody tr th td div details summary svg rect text polyline polygon".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name class scope href alt src xmlns viewbox width height role aria-label "
    "font-family font-size x y fill rx stroke stroke-width stroke-dasharray points text-anchor font-weight".split()
)
HOSTILE = (
    "</style></title></pre></svg><script>alert(1)</script><img src=x onerror=alert(2)> "
    "[click](javascript:alert(3)) ![x](http://evil.example/x) "
    "@everyone #17 `code` ``` ~~~ | _b_ **c** www.evil.example & \"quoted\" 'too' <!-- -->"
)


class Elements(HTMLParser):
    """All elements of a page, as (tag, attributes)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def harmless(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """Its elements, none of which can run, load or send anything."""
    found = Elements(text).found
    assert {tag for tag, _ in found} <= TAGS and {name for _, attributes in found for name in attributes} <= ATTRIBUTES
    for tag, attributes in found:
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
        assert (attributes.get("href") or "./").startswith("./")
        assert tag != "img" or attributes["alt"]
    policy = next(
        attributes["content"] for tag, attributes in found if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy and "unsafe" not in policy
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The evidence of a server that really hangs, and what became of two verifications."""
    folder = tmp_path_factory.mktemp("a bundle") / "evidence"
    with zoo.hang("executor-shutdown") as hung:
        observe(resolve(hung.pid), folder, lambda line: None)
    keep_check(run(False), folder / "verification-before.json")
    keep_check(run(True), folder / "verification-after.json")
    keep_check(Pressure(run(True), 4, ((0.0, 4), (1.0, 9)), None, (0, 200)), folder / "crowd.json")
    return folder


def run(ok: bool) -> Verification:
    probes = tuple(
        Probe(
            "http://127.0.0.1:8000/health",
            phase,
            200 if ok else None,
            0.01 if ok else 1.0,
            at,
            ok,
            "curl http://u:secretword@h/",
        )
        for at, phase in enumerate(("baseline", "while streaming", "after aborts"))
    )
    return Verification(
        probes, 1.0, "http://127.0.0.1:8000/stream", 1, 1, 1, 1, ("a note",), ("curl http://127.0.0.1:8000/health",)
    )


def report(
    *words: object, cwd: Path, python: str = sys.executable, bare: bool = False, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [python, *(["-S", "-I"] if bare else []), str(HANG), "report", *map(str, words)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.live
def test_everything_of_a_bundle_is_in_one_page(bundle, tmp_path):
    done = report(bundle, "--out", "out", cwd=tmp_path)
    assert done.stdout.split() == ["out/report.html", "out/report.md", "out/report.json"] and done.returncode == 0
    text = (tmp_path / "out" / "report.html").read_text()
    found = harmless(text)
    assert sum(tag == "svg" for tag, _ in found) == 2 and sum(tag == "img" for tag, _ in found) == 2
    for words in (
        "<h1>executor_shutdown:app (uvicorn): the event loop waits for a thread pool to shut down in headlines (",
        "<strong>loop-blocked / executor-shutdown</strong>",
        "No request to this process is served",
        "one solid bar with a thick edge",
        "What the kernel says of each thread",
        "recvfrom",
        "Verification: before",
        "FAILED: 3 of 3 probes",
        "+        pool.shutdown(wait=False, cancel_futures=True)",
        "hang.py fix",
        "Thread.join (threading.py",
    ):
        assert words in text, words
    assert re.search(
        r'<div class="here">-&gt; +37 .*with ThreadPoolExecutor', text
    )  # the marked line, in its ten lines around
    assert re.search(r"<details><summary>\d+ library calls</summary>", text) and text.index(
        "Verification: before"
    ) < text.index("Verification: after")
    (link,) = [unquote(attributes["href"]) for tag, attributes in found if tag == "a"]
    assert (tmp_path / "out" / link).resolve() == bundle.resolve()
    assert (
        "secretword" not in text
        and "for this report" not in text
        and "***@" in (bundle / "verification-before.json").read_text()
    )


@pytest.mark.live
def test_the_markdown_is_whole_without_the_files_that_lie_beside_it(bundle, tmp_path):
    page.report(bundle, tmp_path, host="web-3")
    text = (tmp_path / "report.md").read_text()
    assert "![" not in text and "- **Host**: web-3" in text
    assert re.search(r"^-> MainThread: event loop +J+  executor-shutdown in headlines", text, re.M)
    named = re.search(r"beside it: (.*)\.$", text, re.M)[1].split(", ")
    assert set(named) == {"timeline.svg", "waits.svg", "latency.png", "threads.png"}
    reports = ["report.html", "report.md", "report.json"]
    assert sorted([*named, *reports]) == sorted(path.name for path in tmp_path.iterdir())
    assert "->   37      with ThreadPoolExecutor" in text and "```diff" in text


@pytest.mark.live
def test_a_zip_and_a_dump_are_reported_alike(bundle, tmp_path):
    folder, packed = gather(bundle), gather(pack(bundle))
    assert (packed.answer, packed.kernel, packed.checks) == (folder.answer, folder.kernel, folder.checks)
    assert [picture.data for _, picture in packed.pictures] == [picture.data for _, picture in folder.pictures]
    pasted = gather(DUMP)
    assert (
        pasted.verdict == "loop-blocked / executor-shutdown"
        and DUMP.read_text().strip() in pasted.raw
        and not pasted.kernel
    )
    assert any("capture" in command for command, _ in pasted.then)
    with pytest.raises(NotADump):
        gather("no stack here")


@pytest.mark.live
@pytest.mark.parametrize("python", [sys.executable, pythons()[0]])
def test_a_bare_python_writes_it_too_and_says_which_pictures_are_missing(python, bundle, tmp_path):
    done = report(bundle, "--out", "out", cwd=tmp_path, python=python, bare=True)
    text = (tmp_path / "out" / "report.html").read_text()
    assert done.returncode == 0 and sum(tag == "svg" for tag, _ in harmless(text)) == 2
    assert "The picture latency needs matplotlib" in text and "PASSED: all 3 probes" in text
    done = report("-", "--out", "pasted", cwd=tmp_path, python=python, bare=True, stdin=DUMP.read_text())
    assert (
        done.returncode == 0
        and sum(tag == "svg" for tag, _ in harmless((tmp_path / "pasted" / "report.html").read_text())) == 2
    )


def test_nothing_that_a_dump_says_is_markup(tmp_path):
    text = DUMP.read_text()
    for name in ('"MainThread"', "headlines", "executor_shutdown.py"):
        text = text.replace(name, name[:1] + HOSTILE + name[1:])
    html_page, markdown, data = (path.read_text() for path in page.report(text, tmp_path))
    assert json.loads(data)["diagnosis"]["state"] == "loop-blocked" and "hunter2" not in data
    harmless(html_page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html_page
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", markdown, flags=re.M | re.S)
    assert re.sub(r"\\[<>]|<!-- -->", "", outside).count("<") == 0
    assert not re.search(r"(?<!\\)\]\(", outside) and "://" not in outside and not re.search(r"[@#]\w", outside)
    own = re.sub(r"^(?:- )?\*\*[\w /-]+\*\*", "", outside, flags=re.M)  # what is bold is the report's own words
    assert not re.search(r"(?<!\\)[*_~|`]", own)


def test_what_a_ticket_asks_first_is_told_by_the_evidence():
    """Of recorded bundles: the route by its decorator, who waits, since when, and something for every state."""
    full = dict(gather(BUNDLES / "threadpool_limit.tar.gz", host="web-3").first)
    assert full["Routes"] == "GET /invoices/{number}.pdf" and full["Host"] == "web-3"
    assert full["Waiting"].startswith("41 open requests") and "threadpool_limit:app (uvicorn)" in full["Service"]
    assert dict(gather(DUMP).first)["Since"].startswith("not known")
    clients = Clients(waits=(23.4, 2.0), backlog=1)
    seen = replace(read_bundle(BUNDLES / "lock_order.tar.gz")[0], clients=clients)
    told = dict(first_asked(seen, diagnose(seen), "2026-01-01T03:15:00+00:00", ""))
    assert told["Since"].startswith("23 s earlier at least, 2026-01-01T03:14:36") and "GET /audit" in told["Routes"]
    assert "2 clients without an answer" in told["Waiting"] and "1 client not accepted" in told["Waiting"]
    assert set(HARM) == set(STATES)


@pytest.mark.slow
def test_every_format_that_is_read_is_reported(tmp_path):
    """Dumps of all tools, tasks without threads, and what people paste: none breaks the page or a picture."""
    files = [file for file in sorted((ROOT / "tests" / "dumps").rglob("*.*")) if ".truth." not in file.name]
    files = files[::9] + [
        file for file in sorted((ROOT / "tests" / "pasted").rglob("*")) if file.is_file() and file.suffix != ".py"
    ]
    for file in files:
        found = gather(file)
        harmless(page.as_html(found))
        for _, picture in found.pictures:
            ElementTree.fromstring(picture.data)
    assert len(files) > 70


def test_a_fence_cannot_be_closed_from_within():
    assert page.fenced("a\n```\n# b\n`````\n").startswith("``````text\n")
    assert page.plain("# head\n- item\n1. one") == "\\# head - item 1. one" and page.plain("1. one").startswith("\\1")


def test_secrets_of_a_pasted_dump_are_struck_out_and_counted(tmp_path):
    text = DUMP.read_text() + "\nconnecting to postgresql://admin:hunter2hunter2@db/prod\n"
    html_page, markdown, data = (path.read_text() for path in page.report(text, tmp_path))
    assert json.loads(data)["diagnosis"]["state"] == "loop-blocked" and "hunter2" not in data
    assert "hunter2" not in html_page + markdown
    assert all("for this report: credentials in a URL, 1 x" in one for one in (html_page, markdown))


@pytest.mark.live
def test_the_diff_is_of_a_file_that_the_evidence_knows(bundle, tmp_path):
    """A bundle may come from anybody: a file that is not the one that was captured is not read out."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    assert "pool.shutdown" in gather(copy).diff
    for place in copy.glob("*/sources.json"):
        known = json.loads(place.read_text())
        place.write_text(
            json.dumps({file: {number: text + " " for number, text in lines.items()} for file, lines in known.items()})
        )
    found = gather(copy)
    assert not found.diff and "hang.py fix" in found.then[0][0]


def test_a_source_tree_gives_a_pasted_dump_its_lines_and_the_diff(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy(ROOT / "tests" / "hung" / "executor_shutdown.py", tree)
    found = gather(DUMP, code=tree)
    assert (
        any(number == 37 and "ThreadPoolExecutor" in text for number, text in found.code)
        and "pool.shutdown" in found.diff
    )
    assert not gather(DUMP).diff and not gather(DUMP).code


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("no-such-bundle",),
        (ROOT / "LICENSE",),
        (DUMP, "--check", ROOT / "LICENSE"),
        (DUMP, "--out", ROOT / "LICENSE"),
        (DUMP, "--code", "no-such-folder"),
    ],
    ids=lambda words: " ".join(str(word).rpartition("/")[2] for word in words),
)
def test_what_cannot_be_done_is_one_sentence_and_the_next_step(words, tmp_path):
    done = report(*words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("hang.py: ") and "\nNext: " in done.stderr


@pytest.mark.live
def test_a_zip_that_was_damaged_on_its_way_is_one_sentence(bundle, tmp_path):
    """Each of its bytes that is looked at may be another one: what can still be read is, what cannot be is told."""
    whole = pack(bundle).read_bytes()
    refused = 0
    for at in range(40, len(whole), len(whole) // 60):
        (tmp_path / "sent.zip").write_bytes(
            whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 8]) + whole[at + 8 :]
        )
        try:
            gather(tmp_path / "sent.zip")
        except HangError as error:
            refused += bool(error.what and error.next)
    assert refused > 20


def test_verifications_come_back_as_they_were_and_nonsense_does_not(tmp_path):
    clean = Verification(tuple(Probe("http://h/", "baseline", 200, 0.1, 0.0, True, "curl") for _ in range(2)), 2.0)
    for one in (clean, Pressure(clean, 3, ((0.5, 4),), 0.2, (7,)), Pressure(clean)):
        keep_check(one, tmp_path / "made" / "verification.json")
        assert read_check((tmp_path / "made" / "verification.json").read_text()) == one
    good = json.loads((tmp_path / "made" / "verification.json").read_text())
    bad = [
        {},
        {"kind": "verification"},
        {**good, "cut": [1]},
        {**good, "counts": [["a", 1]]},
        {**good, "baseline": "x"},
        {**good, "result": {**good["result"], "deadline": float("nan")}},
        {**good, "result": {**good["result"], "probes": []}},
        {**good, "result": {**good["result"], "probes": [{**good["result"]["probes"][0], "seconds": -1}]}},
    ]
    assert [read_check(json.dumps(one)) for one in bad] == [None] * len(bad) and read_check("no json") is None


@pytest.mark.live
def test_verify_saves_what_report_shows(tmp_path):
    with zoo.hang("none") as fine:
        done = subprocess.run(
            [sys.executable, str(HANG), "verify", "--url", f"{fine.url}/health", "--save", str(tmp_path / "v.json")],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0 and isinstance(read_check((tmp_path / "v.json").read_text()), Verification)
    assert report(DUMP, "--check", tmp_path / "v.json", "--out", "out", cwd=tmp_path).returncode == 0
    assert "PASSED" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.live
@pytest.mark.skipif(
    not (shutil.which("chromium") or os.environ.get("HANG_CHROMIUM")),
    reason="needs chromium on PATH: apt-get install chromium",
)
def test_in_a_browser_it_fits_the_window_in_both_themes_and_nothing_is_blocked_or_loaded(bundle, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    page.report(bundle, tmp_path)
    with sync_api.sync_playwright() as drive:
        browser = drive.chromium.launch(
            executable_path=shutil.which("chromium") or os.environ["HANG_CHROMIUM"], args=["--no-sandbox"]
        )
        told, asked = [], []
        for theme in ("light", "dark"):
            tab = browser.new_page(color_scheme=theme, viewport={"width": 800, "height": 900})
            tab.on("console", lambda message: told.append(message.text))
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto((tmp_path / "report.html").as_uri())
            for width in (390, 800, 1400):
                tab.set_viewport_size({"width": width, "height": 900})
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
            ink, paper = tab.evaluate(
                "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
            )
            assert (ink, paper) == (
                ("rgb(26, 26, 26)", "rgb(255, 255, 255)")
                if theme == "light"
                else ("rgb(232, 232, 232)", "rgb(22, 24, 28)")
            )
            wider = tab.evaluate(
                "[...document.querySelectorAll('svg text')].filter(t => {"
                "const b = t.getBBox(), s = t.ownerSVGElement.viewBox.baseVal; "
                "return b.x + b.width > s.width}).map(t => t.textContent)"
            )
            assert wider == []
        browser.close()
    assert (
        told == []
        and {url.partition(":")[0] for url in asked} <= {"file", "data"}
        and len([url for url in asked if url.startswith("file")]) == 2
    )


@pytest.mark.live
def test_of_a_busy_loop_the_flame_graph_and_the_samples_are_kept_beside_the_report(tmp_path):
    with zoo.hang("cpu-bound") as hung:
        found = observe(resolve(hung.pid), tmp_path / "evidence", lambda line: None)
    page.report(tmp_path / "evidence", tmp_path / "out")
    assert (tmp_path / "out" / "flame.svg").read_bytes().startswith(b"<svg")
    scope = json.loads((tmp_path / "out" / "speedscope.json").read_text())
    counted = sum(sum(profile["weights"]) for profile in scope["profiles"])
    assert counted == sum(count for _, count in found[0].profile) > 50
    assert {profile["unit"] for profile in scope["profiles"]} == {
        "none"
    }  # samples: a bundle does not tell at which rate
    assert any(frame["name"] == "shortest" for frame in scope["shared"]["frames"])
