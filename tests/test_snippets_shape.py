"""Snippets are made to be copied: short, typed, each by itself, and each says when to use it and what it costs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest

from snippet_lab import SNIPPETS
from test_package import pythons

FILES = sorted(path for path in SNIPPETS.iterdir() if path.is_file())
EACH = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
PYTHON = pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".py"], ids=lambda file: file.name)
SAYS = ("Use when", "Not when", "Costs", "Python|Versions|Linux|POSIX")


@EACH
def test_it_is_short_and_says_when_to_use_it_and_what_it_costs(file):
    text, _, demonstration = file.read_text().partition("\n\n\nif __name__")
    assert text.count("\n") <= 80 and demonstration.count("\n") <= 40 and max(map(len, text.splitlines())) <= 110
    assert text.count("\n") >= 20 or file.suffix == ".yaml"
    head = (
        ast.get_docstring(ast.parse(text))
        if file.suffix == ".py"
        else "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    )
    for words in SAYS:
        assert re.search(rf"^(?:{words})\b" if "|" not in words else rf"\b(?:{words})\b", head, re.M), words


@PYTHON
def test_it_is_typed_and_stands_alone(file):
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for function in functions:
        arguments = [one for one in function.args.args + function.args.kwonlyargs if one.arg != "self"]
        assert function.returns is not None and all(one.annotation for one in arguments), function.name
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & ({other.stem for other in FILES} | {"hangdebug", "lab"})
    assert imported - sys.stdlib_module_names <= {"anyio", "fastapi", "sqlalchemy", "pytest", "pyleak"}


@pytest.mark.parametrize("python", pythons())
def test_every_python_from_3_9_on_takes_the_syntax(python, tmp_path):
    for file in FILES:
        if file.suffix == ".py":
            shutil.copy(file, tmp_path)
    done = subprocess.run([python, "-m", "compileall", "-q", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons())
def test_those_of_the_standard_library_are_imported_by_every_python(python):
    names = [
        file.stem
        for file in FILES
        if file.suffix == ".py"
        and "import FastAPI" not in file.read_text()
        and not re.search(r"^(?:import|from) (?:anyio|fastapi|sqlalchemy|pytest|pyleak)", file.read_text(), re.M)
    ]
    assert len(names) >= 4
    done = subprocess.run(
        [python, "-B", "-c", f"import {', '.join(names)}"],
        cwd=SNIPPETS,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr


ALONE = [file for file in FILES if file.suffix == ".py" and file.name != "loop_guard.py"]  # which pytest runs


@pytest.mark.slow
@pytest.mark.parametrize("file", ALONE, ids=lambda file: file.name)
def test_it_runs_by_itself_shows_something_and_ends(file):
    done = subprocess.run([sys.executable, "-B", file], capture_output=True, text=True)
    assert (
        done.returncode == 0 and (done.stdout or done.stderr) and "Traceback (most recent call last)" not in done.stderr
    ), done.stderr
