"""The notebook of a clean shutdown reads well as committed, and runs from an unpacked package that is read-only."""

from __future__ import annotations

import ast
import base64
import html
import re
import shutil

import pytest

import lab
import stops
from refresh_notebook import SHUTDOWN, opened
from test_notebook import IGNORED, MACHINE, PACKAGE, ROOT, code, errors, everything, files, nbval, text

pytestmark = pytest.mark.slow  # nbformat alone takes seconds to import


@pytest.fixture(scope="module")
def notebook():
    return opened(SHUTDOWN)


def test_cells_are_short_and_were_run_in_order(notebook):
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)) and not errors(notebook)
    for cell in cells:
        lines = cell.source.splitlines()
        assert len(lines) <= 8 and max(map(len, lines)) <= 110, cell.source
        ast.parse(cell.source)
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(prose) >= len(cells) - 4 and all(len(line) <= 120 for cell in prose for line in cell.source.splitlines())


def test_what_is_compared_is_the_story(notebook):
    compared = [cell for cell in code(notebook) if cell.outputs and IGNORED not in cell.metadata.get("tags", [])]
    assert 2 * len(compared) >= len(code(notebook))
    shown = "\n".join(map(text, compared))
    for stable in (
        "exit-hang / graceful-shutdown",
        "exit-hang / executor-shutdown",
        "exit-hang / interpreter-exit",
        "never: graceful-shutdown   never: graceful-shutdown",
        "processes left: 0",
    ):
        assert stable in shown
    last = next(line for line in shown.splitlines() if line.startswith("3: cleanup stops  "))
    assert last.count("within 3 + 0.5 s") == 2 and "NOT" not in last


def test_the_log_has_each_step_in_order(notebook):
    steps = [
        "stop: {}, open streams end now",
        "Shutting down",
        "readers: told to stop",
        "analysis: told to stop",
        "reports: told to stop",
        "readers: stopped",
        "analysis: stopped",
        "reports: stopped",
        "Application shutdown complete.",
        "-- gone ",
    ]
    last = next(text(cell) for cell in code(notebook) if "both(3)" in cell.source)
    for number in ("SIGTERM", "SIGINT"):
        rest = last[last.index(f"stop: {number}") :]
        places = [rest.index(step.format(number)) for step in steps]
        assert places == sorted(places)


def test_outputs_name_no_place_of_a_machine_and_pictures_have_words(notebook):
    pictures = {}
    for cell in code(notebook):
        for one in cell.outputs:
            data = one.get("data", {})
            page = data.get("text/html", "")
            if "image/png" in data:
                pictures[one.metadata["image/png"]["alt"]] = data["image/png"]
            pictures.update(re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)"', page))
            words = re.sub(r'src="data:image/png;base64,[^"]*"', "", page) + text(cell)
            assert not MACHINE.search(words) and "Traceback" not in words, words
    assert len(pictures) == 3 and all(len(base64.b64decode(data)) < 100_000 for data in pictures.values())
    exits, latency, threads = map(html.unescape, pictures)
    assert exits.count("never: ") == 5 and "as it was: 2 of 5 without an answer" in latency
    assert re.search(r"wait=False for each stream: \d+ before, \d+ at most", threads)


def test_a_crowd_shows_what_each_repair_is_worth(notebook):
    rows = {
        line.partition("  ")[0]: line
        for cell in code(notebook)
        if "crowds(" in cell.source
        for line in text(cell).splitlines()
    }
    assert "no answer" in rows["as it was"] and "0 of 200" in rows["as it was"]
    for name, threads in (
        ("wait=False for each stream", "back within 1 s"),
        ("one pool, calls that stop", "back within 1 s"),
    ):
        assert "200 of 200" in rows[name] and "none" in rows[name] and rows[name].endswith(threads)
    words = everything(notebook)
    assert words.count("PASSED: all") == 2 and "FAILED: threads were left behind" not in words
    assert float(re.search(r"([\d.]+) s +back within", rows["one pool, calls that stop"])[1]) <= 0.05


@pytest.mark.live
def test_it_runs_where_nothing_can_be_written_and_leaves_nothing_there(notebook, tmp_path):
    skill = tmp_path / "unpacked" / "backend-hang-debug"
    for name in PACKAGE:
        shutil.copytree(ROOT / name, skill / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "evidence-*"))
    for path in [skill, *skill.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = files(skill)
    done = nbval(skill / "notebooks" / "clean_shutdown.ipynb", tmp_path)
    for path in [skill, *skill.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    assert done.returncode == 0, done.stdout
    assert f"{len(code(notebook))} passed" in done.stdout and files(skill) == before


@pytest.mark.live
def test_a_step_that_does_not_start_says_so(monkeypatch, tmp_path):
    (tmp_path / "backoffice").mkdir()
    (tmp_path / "backoffice" / "steps.diff").touch()
    (tmp_path / "backoffice" / "office.py").write_text("raise SystemExit('not today')\n")
    monkeypatch.setattr(stops, "HERE", tmp_path)
    with pytest.raises(lab.LabError, match="not today"):
        stops.both(0)


def test_every_step_is_python_and_copies_from_snippets_that_are_there():
    for step in range(len(stops.NAMES)):
        tree = ast.parse(stops.source_of(step))
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        own = modules & {path.stem for path in (ROOT / "snippets").glob("*.py")}
        assert bool(own) == bool(step)
