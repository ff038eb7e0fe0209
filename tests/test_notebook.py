"""The notebook reads well as committed, and runs anywhere: read-only, on other targets, without its tools."""

from __future__ import annotations

import ast
import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

import cockpit
import views
import zoo
from hangdebug import fix
from hangdebug.diagnose import diagnose
from hangdebug.errors import HangError, NoProcess
from hangdebug.live import observe_briefly
from hangdebug.model import Patch, Probe
from hangdebug.verify import Verification
from refresh_notebook import NOTEBOOK, WIDGET, execute

ROOT = NOTEBOOK.parents[1]
PACKAGE = ("scripts", "snippets", "references", "notebooks")
IGNORED = "nbval-ignore-output"
MACHINE = re.compile(r"(?<![\w.:/-])/(?:home|root|work|tmp|opt|srv|usr|Users|private|mnt)/[\w.]")
GONE = str(2**22 + 1)  # above the largest pid that Linux gives


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell) -> str:
    """All that a cell shows, as text."""
    outputs = cell.get("outputs", [])
    return "\n".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)


def everything(notebook) -> str:
    return "\n".join(map(text, code(notebook)))


def errors(notebook) -> list:
    return [one for cell in code(notebook) for one in cell.outputs if one.output_type == "error"]


def run(tmp_path: Path, cells: int | None = None, **environment: str):
    """A fresh run of the notebook, or its first code `cells`, in a kernel that lives in tmp_path."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if cells is not None:
        notebook.cells = code(notebook)[:cells]
    for cell in code(notebook):
        cell.outputs = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HANG_DEBUG_HOME": str(ROOT), **environment}.items():
            patch.setenv(name, value)
        return execute(notebook, tmp_path)


# -- as committed --------------------------------------------------------------------------------------


def test_cells_are_few_and_short(notebook):
    assert 25 <= len(notebook.cells) <= 40
    for cell in code(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= 8 and max(map(len, lines)) <= 110, cell.source
        ast.parse(cell.source)


def test_every_cell_was_run_in_order_and_shows_something(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert all(cell.outputs for cell in code(notebook)[1:])  # the first one only finds the engine


def test_at_least_half_of_the_code_cells_are_compared(notebook):
    compared = [cell for cell in code(notebook)
                if cell.outputs and IGNORED not in cell.metadata.get("tags", [])]
    assert 2 * len(compared) >= len(code(notebook))
    shown = "\n".join(map(text, compared))
    for stable in ("loop-blocked / executor-shutdown", "->  22", "cancel_futures=True", "FAILED: 4 of 16",
                   "PASSED: all 28", "processes left: 0"):
        assert stable in shown


def test_outputs_name_no_place_of_a_machine_and_hold_no_error(notebook):
    for cell in code(notebook):
        shown = text(cell) + "".join(one.get("data", {}).get("text/html", "") for one in cell.outputs)
        assert not MACHINE.search(shown), shown
        assert "Traceback" not in shown and str(Path.home()) not in shown.replace("/root/", "")
    assert not errors(notebook)


def test_the_picture_is_modest_and_has_words(notebook):
    (output,) = [one for cell in code(notebook) for one in cell.outputs if "image/png" in one.get("data", {})]
    assert len(base64.b64decode(output.data["image/png"])) < 100_000
    assert output.metadata["image/png"]["alt"].startswith("as it was: 2 of 8 checks without an answer")


def test_widgets_are_kept_as_text(notebook):
    assert "widgets" not in notebook.metadata
    assert not [one for cell in code(notebook) for one in cell.outputs if WIDGET in one.get("data", {})]
    assert "[a panel: the news service" in everything(notebook) and "[ ] write it" in everything(notebook)


def test_a_new_target_clears_every_result_of_the_one_before(notebook):
    """Or an answer about an earlier target could stay on the screen as one about this."""
    below = [ast.parse(cell.source) for cell in code(notebook)[3:]]
    names = {node.id for tree in below for node in ast.walk(tree)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert names == set(cockpit.FOUND)


# -- nbval, in place and from an unpacked package ------------------------------------------------------


def nbval(notebook: Path, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", str(notebook),
               "--nbval-sanitize-with", str(notebook.with_name("nbval_sanitize.cfg"))]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HANG_", "PYTEST_"))}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=120)


def files(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_its_outputs_are_still_true(notebook):
    done = nbval(NOTEBOOK, ROOT)
    assert done.returncode == 0, done.stdout
    assert f"{len(code(notebook))} passed" in done.stdout


def test_it_runs_from_an_unpacked_package_and_writes_nothing_there(tmp_path):
    skill = tmp_path / "unpacked" / "backend-hang-debug"
    rubbish = shutil.ignore_patterns("__pycache__", ".*", "evidence-*")
    for name in filter(lambda name: (ROOT / name).is_dir(), PACKAGE):
        shutil.copytree(ROOT / name, skill / name, ignore=rubbish)
    for path in [skill, *skill.rglob("*")]:  # root may write all the same, so the files are compared as well
        path.chmod(path.stat().st_mode & ~0o222)
    before = files(skill)
    done = nbval(skill / "notebooks" / "triage.ipynb", tmp_path)
    assert done.returncode == 0, done.stdout
    assert files(skill) == before
    for path in [skill, *skill.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


# -- opened elsewhere, other targets, missing tools ----------------------------------------------------


@pytest.mark.parametrize("variable", ["HANG_DEBUG_HOME", "JPY_SESSION_NAME"])
def test_the_engine_is_found_wherever_the_kernel_lives(tmp_path, variable):
    told = {"HANG_DEBUG_HOME": "", variable: str(ROOT if variable == "HANG_DEBUG_HOME" else NOTEBOOK)}
    assert "py-spy reads stacks" in everything(run(tmp_path, 2, **told))


def test_without_the_engine_it_says_what_to_do(tmp_path):
    alone = nbformat.read(NOTEBOOK, as_version=4)
    alone.cells = code(alone)[:1]
    alone.cells[0].metadata["tags"] = ["raises-exception"]
    (error,) = errors(execute(alone, tmp_path))
    assert error.evalue.startswith("No engine here. Next: %env HANG_DEBUG_HOME=")


def test_your_own_process_is_diagnosed_and_left_alone(tmp_path):
    with zoo.hang("executor-shutdown") as hung:
        source = hung.truth.folder / "executor_shutdown.py"
        before = source.read_bytes()
        shown = run(tmp_path, HANG_PID=str(hung.pid))
        assert hung.holds()  # neither mended nor ended
        assert source.read_bytes() == before
    assert not errors(shown)
    said = everything(shown)
    assert "loop-blocked / executor-shutdown" in said
    assert f"->  {hung.truth.marked[0][1]}" in said
    assert "+++ b/" in said
    assert said.count("This step needs the news service.") == 5
    assert "Nothing was changed." in said
    assert "processes left: 0" in said
    assert [path.name.split("-")[1] for path in tmp_path.glob("evidence-*")] == [str(hung.pid)]


def test_a_process_that_is_gone_gets_a_sentence(tmp_path):
    shown = run(tmp_path, HANG_PID=GONE)
    assert not errors(shown)
    assert f"Process {GONE} is not running." in everything(shown)
    assert "`desk` is not there yet." in everything(shown)


def test_without_curl_it_says_how_to_get_it(tmp_path):
    shown = run(tmp_path, PATH=str(tmp_path))
    assert not errors(shown)
    assert "MISSING  sudo apt-get install curl" in everything(shown)
    assert "curl cannot be run." in everything(shown)
    assert "processes left: 0" in everything(shown)


# -- the desk and the views ----------------------------------------------------------------------------


def test_the_panel_lists_servers_and_takes_a_pid(monkeypatch):
    monkeypatch.delenv("HANG_PID", raising=False)
    panel = cockpit.Panel()
    assert panel.pid is None
    with zoo.hang("sleep") as hung:
        assert hung.pid not in dict(map(reversed, panel.choice.options))
        panel.again.click()
        panel.choice.value = hung.pid
        panel.again.click()
        assert panel.pid == hung.pid
        panel.typed.value = "12"
        assert panel.pid == 12
    panel.typed.value = ""
    panel.again.click()
    assert panel.pid is None
    panel.typed.value = "uvicorn"
    with pytest.raises(HangError, match="'uvicorn' is no process id"):
        panel.pid


def test_your_file_is_written_only_with_a_tick(tmp_path):
    with zoo.hang("executor-shutdown") as hung:
        desk = cockpit.open_desk(hung.pid)
        answer = diagnose(observe_briefly(desk.target, lambda line: None)[0])
        tick = cockpit.tick_box(desk)
        mine = Path(shutil.copy(answer.blocking_frame.file, tmp_path))
        patch = fix.propose(mine, answer.blocking_frame.line)
        with pytest.raises(HangError, match="Nothing was changed"):
            desk.to_write(patch, answer, tick.box.value)
        tick.box.value = True
        fix.write(desk.to_write(patch, answer, tick.box.value))
        assert mine.read_text() == patch.after != patch.before
        desk.close()
        assert hung.holds()


def test_a_second_desk_clears_the_first():
    first = cockpit.open_desk(None)
    pids = [first.pid, first.news.feeds.pid]
    assert not cockpit.tick_box(first).box.value and cockpit.tick_box(first).box.disabled
    with pytest.raises(NoProcess):
        cockpit.open_desk(int(GONE))
    assert not any(map(psutil.pid_exists, pids)) and not first.copy.exists()


def test_an_interrupt_is_one_line():
    with pytest.raises(KeyboardInterrupt) as raised:
        with cockpit.told():
            raise KeyboardInterrupt
    (line,) = raised.value._render_traceback_()
    assert line.startswith("Interrupted; what was taken stays.")


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        with cockpit.told():
            1 / 0
    with pytest.raises(NameError):
        with cockpit.told():
            undefined_in_a_module  # noqa: F821


def test_a_diff_pairs_the_lines_and_marks_what_changed():
    shown = views.side_by_side(Patch("a.py", "keep\nold <b>\n", "keep\nnew\nmore\n"))
    rows = [re.sub("<[^>]*>", "|", row) for row in shown.html.split("<tr>")[2:]]
    cells = [[part for part in row.split("|") if part] for row in rows]
    assert cells == [["1", "keep", "1", "keep"], ["2 -", "old &lt;b&gt;", "2 +", "new"], ["3 +", "more"]]
    assert "-old <b>" in shown.text
    with pytest.raises(HangError, match="No rewrite"):
        views.side_by_side(None)


def test_a_picture_says_in_words_what_it_shows():
    def probe(phase: str, at: float, ok: bool) -> Probe:
        return Probe("http://h/health", phase, 200 if ok else None, 0.002 if ok else 1.0, at, ok, "")
    lost = Verification((probe("baseline", 0, True), probe("after aborts", 1, False)), 1.0, aborts=1)
    shown = views.picture(lost, lost)
    assert shown.png.startswith(b"\x89PNG")
    assert shown.text.splitlines()[0] == (
        "as it was: 1 of 2 checks without an answer; slowest answer 0.002 s; 1 reader left the stream.")
