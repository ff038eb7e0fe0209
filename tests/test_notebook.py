"""The notebook reads well as committed, and runs anywhere: read-only, on other targets, without its tools."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

import cockpit
import lab
import views
import zoo
from hangdebug.capture.processes import resolve
from hangdebug.errors import HangError, NoProcess
from hangdebug.repair.model import Finding, Patch
from hangdebug.repair.proof.verify import verify
from refresh_notebook import NOTEBOOK, PACKAGE, WIDGET, client_for, execute, opened

pytestmark = pytest.mark.live

ROOT = NOTEBOOK.parents[1]
IGNORED = "nbval-ignore-output"
MACHINE = re.compile(r"(?<![\w.:/-])/(?:home|root|work|tmp|opt|srv|usr|Users|private|mnt)/[\w.]")
GIVEN = {"errors_as_sentences", "print", "len", "display", "panel", "views", "timeline", "flame", "threads_over_aborts"}
GONE = str(2**22 + 1)  # above the largest pid that Linux gives


@pytest.fixture(scope="module")
def notebook():
    return opened(NOTEBOOK)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell) -> str:
    """All that a cell shows, as text. What one print() says may come in two parts."""
    outputs = cell.get("outputs", [])
    return "".join(one.get("text") or one.get("data", {}).get("text/plain", "") + "\n" for one in outputs)


def everything(notebook) -> str:
    return "\n".join(map(text, code(notebook)))


def errors(notebook) -> list:
    return [one for cell in code(notebook) for one in cell.outputs if one.output_type == "error"]


def run(tmp_path: Path, cells: int | None = None, **environment: str):
    """A fresh run of the notebook, or of its first code `cells` and its last, in a kernel that lives in tmp_path."""
    notebook = opened(NOTEBOOK)
    if cells is not None:
        notebook.cells = code(notebook)[:cells] + code(notebook)[-1:]
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
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert (hidden or len(lines) <= 8) and max(map(len, lines)) <= 110, cell.source
        ast.parse(cell.source)
    first, second = notebook.cells[:2]
    assert first.metadata.jupyter.source_hidden and "Panel()" in first.source  # one Shift+Enter opens the panel
    assert "recorded example" in second.source


def test_every_cell_was_run_in_order_and_shows_something(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert all(cell.outputs for cell in code(notebook))


def test_at_least_half_of_the_code_cells_are_compared(notebook):
    compared = [cell for cell in code(notebook) if cell.outputs and IGNORED not in cell.metadata.get("tags", [])]
    assert 2 * len(compared) >= len(code(notebook))
    shown = "\n".join(map(text, compared))
    for stable in (
        "loop-blocked / executor-shutdown",
        "->  22",
        "cancel_futures=True",
        "FAILED: 4 of 16",
        "PASSED: all 28",
        "as it was: app/api/routes/stream.py",
        "Right: lock.",
        "processes left: 0",
    ):
        assert stable in shown


def test_outputs_name_no_place_of_a_machine_and_hold_no_error(notebook):
    for cell in code(notebook):
        shown = text(cell) + "".join(one.get("data", {}).get("text/html", "") for one in cell.outputs)
        assert not MACHINE.search(shown), shown
        assert "Traceback" not in shown and str(Path.home()) not in shown.replace("/root/", "")
    assert not errors(notebook)


def test_pictures_are_modest_and_have_words(notebook):
    pages = [one.get("data", {}).get("text/html", "") for cell in code(notebook) for one in cell.outputs]
    pictures = [page for page in pages if "<figure>" in page]
    assert len(pictures) == 5  # the timeline, latency, threads, a ring of waits, a flame graph
    for page in pictures:
        assert len(page) < 150_000 and re.search(r'<(?:img alt|svg [^>]*aria-label)="[^"]{40,}', page)
        assert re.search("<figcaption>.{20,}</figcaption>", page)


def test_widgets_are_kept_as_text(notebook):
    assert "widgets" not in notebook.metadata
    assert not [one for cell in code(notebook) for one in cell.outputs if WIDGET in one.get("data", {})]
    assert "[the panel: press Shift+Enter" in everything(notebook)


def test_no_cell_keeps_what_it_found_for_the_next(notebook):
    """Or an answer about an earlier target could stay on the screen as one about this: all is on the panel's desk."""
    for cell in code(notebook)[2:]:
        names = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        assert used - stored <= GIVEN, cell.source


# -- nbval, in place and from an unpacked package ------------------------------------------------------


def nbval(notebook: Path, folder: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval",
        str(notebook),
        "--nbval-sanitize-with",
        str(notebook.with_name("nbval_sanitize.cfg")),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HANG_", "PYTEST_"))}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=120)


def files(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module", autouse=True)
def left_over():
    """Every run of this module finds a dirty machine: a news service that hangs, of a notebook that was left."""
    with lab.newsroom(args=("--loop", "asyncio")) as news:
        verify(news.health_url, stream_url=news.stream_url, aborts=1, deadline=0.5)
        yield news


def test_a_kernel_that_is_restarted_half_way_leaves_nothing_running(tmp_path, monkeypatch):
    monkeypatch.setenv("HANG_DEBUG_HOME", str(ROOT))
    notebook = opened(NOTEBOOK)
    notebook.cells = code(notebook)[:5]
    client = client_for(notebook, tmp_path)
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        assert "kept in" in text(notebook.cells[4]) and not errors(notebook)
        pid = int(re.search(r"pid (\d+)", text(notebook.cells[2]))[1])
        assert psutil.pid_exists(pid)
        asyncio.run(client.km._async_restart_kernel(now=True))
        assert zoo.gone([pid])


def test_its_outputs_are_still_true_from_an_unpacked_package_in_which_it_writes_nothing(notebook, tmp_path):
    skill = tmp_path / "unpacked" / "backend-hang-debug"
    rubbish = shutil.ignore_patterns("__pycache__", ".*", "evidence-*")
    for name in filter(lambda name: (ROOT / name).is_dir(), PACKAGE):
        shutil.copytree(ROOT / name, skill / name, ignore=rubbish)
    for path in [skill, *skill.rglob("*")]:  # root may write all the same, so the files are compared as well
        path.chmod(path.stat().st_mode & ~0o222)
    before = files(skill)
    done = nbval(skill / "notebooks" / "triage.ipynb", tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"{len(code(notebook))} passed" in done.stdout
    assert files(skill) == before
    for path in [skill, *skill.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


# -- opened elsewhere, other targets, missing tools ----------------------------------------------------


@pytest.mark.parametrize("variable", ["HANG_DEBUG_HOME", "JPY_SESSION_NAME"])
def test_the_engine_is_found_wherever_the_kernel_lives(tmp_path, variable):
    told = {"HANG_DEBUG_HOME": "", variable: str(ROOT if variable == "HANG_DEBUG_HOME" else NOTEBOOK)}
    assert "py-spy reads stacks" in everything(run(tmp_path, 2, **told))


def test_without_the_engine_it_says_what_to_do(tmp_path):
    alone = opened(NOTEBOOK)
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
    assert said.count("This step needs the news service.") == 3  # start it, hang it, crowd it
    assert "Nothing was sent." in said  # nor verified
    assert "processes left: 0" in said
    evidence, told = sorted(tmp_path.glob("evidence-*"))
    assert evidence.name.split("-")[1] == str(hung.pid) and told.name == f"{evidence.name}-report"
    assert "shutdown(wait=False" in (evidence / "repaired" / source.name).read_text()
    assert (told / "report.html").stat().st_size > 5_000


def test_a_process_that_is_gone_gets_a_sentence(tmp_path):
    shown = run(tmp_path, 7, HANG_PID=GONE)
    assert not errors(shown)
    assert f"Process {GONE} is not running." in everything(shown)
    assert "There is no target yet." in everything(shown)
    assert "processes left: 0" in everything(shown)


@pytest.mark.parametrize("module", ["ipywidgets", "psutil"])
def test_without_a_package_it_says_how_to_get_it(tmp_path, module):
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nsys.modules.update({os.environ['HIDDEN']: None})\n")
    shown = run(tmp_path, 3, PYTHONPATH=str(tmp_path), HIDDEN=module)
    assert not errors(shown)
    assert re.search(rf"MISSING  \S+ -m pip install {module}", everything(shown))
    assert re.search(rf"{module} is not installed\.", everything(shown))
    assert "`panel` is not there yet." in everything(shown)


def test_without_curl_it_says_how_to_get_it(tmp_path):
    shown = run(tmp_path, 6, PATH=str(tmp_path))
    assert not errors(shown)
    assert "MISSING  sudo apt-get install curl" in everything(shown)
    assert "curl cannot be run." in everything(shown)
    assert "processes left: 0" in everything(shown)


AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def for_nobody() -> str:
    """A Python of this version that another user may run too: this one may lie below root's home."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip(
            "Only root can become another user, and needs setpriv for it. Next: sudo apt-get install util-linux"
        )
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    test = (
        "import sys; assert sys.version_info[:2] == (%d, %d); "
        "import subprocess; subprocess.check_call([sys.executable, '-c', ''])"
    )
    for python in (sys.executable, f"/usr/bin/python{number}", f"/usr/local/bin/python{number}"):
        asked = [*AS_NOBODY, python, "-c", test % sys.version_info[:2]]
        if Path(python).exists() and subprocess.run(asked, capture_output=True, cwd="/").returncode == 0:
            return python
    pytest.skip(f"No Python {number} here that another user may run. Next: sudo apt-get install python{number}")


def test_where_the_kernel_lets_nobody_attach_it_says_so():
    """The notebook as another user's, before a server of root's."""
    python = for_nobody()
    script = (
        "import nbformat, refresh_notebook as r; from pathlib import Path; n = nbformat.read(r.NOTEBOOK, 4); "
        "n.cells = n.cells[:15]; nbformat.write(r.execute(n, Path('.')), 'ran.ipynb')"
    )
    with zoo.hang("sleep") as hung, tempfile.TemporaryDirectory(prefix="nobody-") as home:
        os.chmod(home, 0o777)
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path[1:]]),
            "HOME": home,
            "HANG_DEBUG_HOME": str(ROOT),
            "HANG_PID": str(hung.pid),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run([*AS_NOBODY, python, "-c", script], cwd=home, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        shown = opened(Path(home) / "ran.ipynb")
    assert not errors(shown)
    assert f"The kernel does not let you attach to process {hung.pid}." in everything(shown)
    assert re.search(rf"Next: sudo \S+ \S+/scripts/hang\.py capture --pid {hung.pid}", everything(shown))
    assert "There is no evidence yet." in everything(shown)


# -- the desk and the views ----------------------------------------------------------------------------


def test_a_second_desk_clears_the_first():
    first = cockpit.open_desk(cockpit.Desk.demonstration)
    pids = [first.pid, first.news.news.feeds.pid]
    with pytest.raises(NoProcess):
        cockpit.open_desk(lambda: cockpit.Desk(resolve(int(GONE))))
    assert not any(map(psutil.pid_exists, pids)) and not first.demo.copy.exists()


def test_an_interrupt_is_one_line():
    with pytest.raises(KeyboardInterrupt) as raised, cockpit.errors_as_sentences():
        raise KeyboardInterrupt
    (line,) = raised.value._render_traceback_()
    assert line.startswith("Interrupted; what was saved stays.")


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError), cockpit.errors_as_sentences():
        _ = 1 / 0
    with pytest.raises(NameError), cockpit.errors_as_sentences():
        print(undefined_in_a_module)  # noqa: F821


def test_a_diff_pairs_the_lines_and_marks_what_changed():
    shown = views.side_by_side(Patch("a.py", "keep\nold <b>\n", "keep\nnew\nmore\n"))
    rows = [re.sub("<[^>]*>", "|", row) for row in shown.html.split("<tr>")[2:]]
    cells = [[part for part in row.split("|") if part] for row in rows]
    assert cells == [["1", "keep", "1", "keep"], ["2 -", "old &lt;b&gt;", "2 +", "new"], ["3 +", "more"]]
    assert "-old <b>" in shown.text
    left = Patch("a.py", "a\n", "b\n", (Finding("r", "a.py", 1, "", stays="line 1: `f` <runs on>"),))
    shown = views.side_by_side(left)
    assert shown.text.startswith("# stays: line 1: `f` <runs on>\n--- ")
    assert shown.html.endswith("<p>It stays: line 1: `f` &lt;runs on&gt;</p>")
    with pytest.raises(HangError, match="No rewrite"):
        views.side_by_side(None)


def test_source_keeps_its_indents_where_the_notebook_is_made_a_page_of(notebook):
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(notebook)
    lines = re.findall(r"<td[^>]*><code[^>]*>(.*?)</code></td>", page)
    plain = [re.sub("<[^>]*>", "", line) for line in lines]
    assert (
        "        for fetch in asyncio.as_completed(fetches):" in plain
        and "    with ThreadPoolExecutor(" in "\n".join(plain)
    )
