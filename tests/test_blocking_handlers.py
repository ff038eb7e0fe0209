"""Handlers that block by a library's call, known by what their receiver is, and the same ones repaired."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hangdebug.repair import fix

HERE = Path(__file__).parent
MARK = re.compile(r"  # <-- blocks")


def table(name: str) -> list:
    parts = re.split(r"^=== (.*)\n", (HERE / name).read_text(), flags=re.M)[1:]
    return [pytest.param(text, id=title) for title, text in zip(parts[::2], parts[1::2])]


def lay_out(text: str, folder: Path) -> Path:
    """The files of a case, `app.py` first, with the path of that."""
    first, *others = re.split(r"^\+\+\+ (.*)\n", text, flags=re.M)
    for name, content in [("app.py", first), *zip(others[::2], others[1::2])]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(MARK.sub("", content))
    return folder / "app.py"


@pytest.mark.parametrize("case", [*table("blocking_handlers.txt"), *table("blocking_handlers_more.txt")])
def test_each_is_reported_where_it_blocks_and_its_repaired_twin_is_not(case: str, tmp_path: Path) -> None:
    broken, _, repaired = case.partition("---\n")
    for name in ("broken", "repaired"):
        (tmp_path / name).mkdir()
    patch = fix.propose(lay_out(broken, tmp_path / "broken"))
    marks = {line for line, row in enumerate(broken.split("\n"), 1) if MARK.search(row)}
    assert marks and {item.line for item in patch.findings} == marks, patch.findings
    compile(patch.after, "app.py", "exec")
    (tmp_path / "broken" / "app.py").write_text(patch.after)
    assert not fix.propose(tmp_path / "broken" / "app.py").changed
    assert fix.propose(lay_out(repaired, tmp_path / "repaired")).findings == ()


ENTRY = """import httpx
from engine import Engine
from handle import Handle, Notes
def start(engine: Engine) -> None:
    httpx.get("http://peer/ready")
    Handle(engine)
def fetch() -> str:
    return Pages.fetch()
class Pages:
    latest = ""
    @classmethod
    def fetch(cls) -> str:
        cls.latest = httpx.get("http://peer").text
        return cls.latest
def report(url: str) -> dict:
    seen: dict = {}
    notes = Notes()
    notes.open()
    return notes.fill(seen, httpx.get(url).text, quiet=True)
"""
HANDLE = """class Handle:
    def __init__(self, engine):
        self.engine = engine
        self.prepare()
    def prepare(self):
        self.loop_of = None
        if self.engine:
            self.where = self.engine.event_loop
class Notes:
    def open(self):
        self.opened = True
    def fill(self, seen, text, **options):
        global verbose
        options["text"] = text
        seen.update(options)
        return seen
"""


@pytest.mark.parametrize(
    "call, reason",
    [
        ("start(engine)", "prepare() in line 8 of handle.py uses `self.engine.event_loop`"),
        ("fetch()", "fetch() in line 13 of work.py changes `cls.latest`"),
        ("report(engine.url)", ""),  # it fills what is its own
    ],
)
def test_what_a_function_calls_in_other_files_is_looked_at_before_a_thread_gets_it(
    call: str, reason: str, tmp_path: Path
) -> None:
    text = f"from work import fetch, report, start\nasync def f(engine):\n    {call}\n"
    app = lay_out(f"{text}+++ work.py\n{ENTRY}+++ handle.py\n{HANDLE}+++ engine.py\nclass Engine: ...\n", tmp_path)
    (found,) = fix.propose(app).findings
    assert found.refused == bool(reason) and reason in found.message, found
