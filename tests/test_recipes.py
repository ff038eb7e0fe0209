"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the tree: a throw-away cause, a throw-away state.

A block whose first line names a file is that file; a `diff` block changes the file that its first line names; the lines
of an `sh` block are run. The sentences between them are for people.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
COPIED = ("scripts", "tests", "references", "tooling", "docs", "notebooks", "snippets", "deploy")
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
# What ties one list of causes or states to the next; the whole of it is what `make fast` runs here.
EQUATIONS = (
    "tests/test_house.py",
    "tests/test_reached.py",
    "tests/test_bundles.py",
    "tests/test_diagnose.py",
    "tests/test_docs.py",
    "tests/test_package.py::test_a_cause_has_a_module_a_server_dumps_and_an_entry",
    "tests/test_package.py::test_what_a_cause_points_to_is_there",
)

pytestmark = [pytest.mark.live, pytest.mark.slow]  # the recipe of a cause hangs a server


def recipe(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## )", PAGE.read_text(), re.M | re.S)[1]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in COPIED:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", ".*", "evidence-*"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return tmp_path


def follow(text: str, tree: Path) -> list[str]:
    """Apply every block of a recipe, in its order. Returns what was done."""
    done = []
    for kind, body in ((match[2], textwrap.dedent(match[3])) for match in BLOCK.finditer(text)):
        if kind == "sh":
            for line in body.splitlines():
                run(tree, *line.partition("  #")[0].split())
                done.append(line)
            continue
        head, _, rest = body.partition("\n")
        path = tree / head.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed(path.read_text(), rest) if kind == "diff" else rest)
        done.append(head)
    return done


def changed(text: str, diff: str) -> str:
    """The text with the lines of a diff added; the lines around them must be there, once."""
    lines = diff.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in lines)
    assert text.count(old) == 1, f"CONTRIBUTING.md tells to change what is not there:\n{old}"
    return text.replace(old, new)


def run(tree: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"


def equations_hold(tree: Path) -> None:
    run(tree, sys.executable, "tooling/generate.py")
    run(tree, sys.executable, "tooling/architecture.py")
    options = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:nbval", "-m", "not live and not slow", "--tb=short")
    run(tree, sys.executable, "-m", "pytest", *options, *EQUATIONS)


def test_a_cause_is_added_by_the_recipe_alone(tree: Path) -> None:
    done = follow(recipe("Add a cause"), tree)
    assert len(done) == 6
    equations_hold(tree)


def test_a_state_is_added_by_the_recipe_alone(tree: Path) -> None:
    done = follow(recipe("Add a state"), tree)
    assert len(done) == 5
    equations_hold(tree)
    answer = subprocess.run(
        [sys.executable, "scripts/hang.py", "diagnose", "tests/pasted/your-state.txt"],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.startswith("your-state /"), answer.stdout + answer.stderr
