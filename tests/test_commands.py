"""Every command that the product prints runs as it stands, from any folder, however the product was called."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import commands
import record_bundles
from hangdebug import errors
from hangdebug.evidence.paste import text_of
from hangdebug.report.incident import gather

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "scripts" / "hangdebug"
DUMP = ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
# Constants of the engine that hold a command, and the words that variables stand for.
VARIABLE = {"pid": "4284", "who": "4284", "port": "8000", "verb": "capture", "url": "http://127.0.0.1:8000/"}


def calls_of_ours() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(ENGINE.rglob("*.py")):
        if path.name != "errors.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "ours" and fixed(node.args):
                    yield f"{path.name}:{node.lineno}", node


def fixed(arguments: list[ast.expr]) -> bool:
    """Whether the engine says what the command is: not the one that the user ran, once more."""
    return bool(arguments) and not isinstance(arguments[0], ast.Starred)


def words_of(call: ast.Call) -> list[str]:
    """The arguments of the command; what is only known when it runs as something of its kind."""
    found: list[str] = []
    for one in call.args:
        if isinstance(one, ast.Constant):
            found.append(str(one.value))
        elif isinstance(one, ast.Starred):  # a process or a file, or a word
            found += ["lock"] if found == ["explain"] else ["--pid", "4284"]
        else:
            found.append(VARIABLE.get(ast.unparse(one), "4284" if found[-1:] in (["--pid"], ["--port"]) else "app.py"))
    return [commands.VALUES.get(word, word) for word in found]


CALLS = list(calls_of_ours())


def test_a_command_in_the_engine_is_one_that_the_command_line_takes():
    for _, call in CALLS:
        commands.understood(words_of(call))


@pytest.mark.slow
def test_no_text_of_the_engine_names_the_program_by_a_path_of_its_own():
    """A relative path would be right in one folder alone."""
    assert len(CALLS) > 25
    for path in ENGINE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert not [text for text in texts if re.search(r"python\S* \S*scripts/hang", text)], path.name


@pytest.mark.parametrize("source", ["lock", DUMP], ids=["bundle", "dump"])
def test_the_commands_of_a_report_run_from_any_folder(source):
    found = gather(record_bundles.every()[source].archive if source == "lock" else source).then
    assert sum(commands.check(line) for line, _ in found) >= 2


def test_what_the_input_of_an_error_is_called_is_quoted_and_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    large = tmp_path / "two words.txt"
    large.touch()
    os.truncate(large, (64 << 20) + 1)
    with pytest.raises(errors.BadRequest) as raised:
        text_of("two words.txt")
    assert f"'{large}'" in raised.value.next and commands.check(raised.value.next) == 1


@pytest.mark.parametrize(
    "called, printed",
    [
        ("bin/hang", "hang diagnose"),
        ("elsewhere/hang", "{elsewhere}/hang diagnose"),
        ("scripts/hang.py", "{python} {script} diagnose"),
        ("ipykernel_launcher.py", "{python} {script} diagnose"),
    ],
)
def test_the_program_is_called_as_it_was_called(called, printed, tmp_path, monkeypatch):
    for folder in ("bin", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hang").write_text("#!/bin/sh\n")
        (tmp_path / folder / "hang").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / called)])
    names = {"elsewhere": tmp_path / "elsewhere", "python": sys.executable, "script": ROOT / "scripts" / "hang.py"}
    assert errors.ours("diagnose") == printed.format(**names)
    if called == "bin/hang":
        assert errors.ours("capture", root=True) == f"{tmp_path}/bin/hang capture"  # sudo has a PATH of its own


@pytest.mark.slow
def test_the_remedy_and_the_next_command_of_an_answer_run_from_another_folder(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    app = tmp_path / "here" / "executor_shutdown.py"
    app.write_bytes((ROOT / "tests" / "hung" / "executor_shutdown.py").read_bytes())
    dump = tmp_path / "here" / "dump.txt"
    dump.write_text(DUMP.read_text().replace("executor_shutdown.py", str(app)))
    script = ROOT / "scripts" / "hang.py"
    diagnosed = subprocess.run(
        [sys.executable, script, "diagnose", "dump.txt"], cwd=dump.parent, capture_output=True, text=True, check=True
    ).stdout
    remedy = re.search(r"^  diff +(.+)$", diagnosed, re.M)[1]
    done = subprocess.run(["sh", "-c", remedy], cwd=tmp_path / "there", capture_output=True, text=True)
    assert done.returncode == 0 and "+        pool.shutdown(wait=False, cancel_futures=True)" in done.stdout, (
        done.stderr
    )
    refused = subprocess.run(
        [sys.executable, script, "diagnose", "dump.txt", "dump.txt", "--explain"],
        cwd=dump.parent,
        capture_output=True,
        text=True,
    ).stderr
    following = refused.partition("Next: ")[2].strip()
    done = subprocess.run(["sh", "-c", following], cwd=tmp_path / "there", capture_output=True, text=True)
    assert done.returncode == 0 and "rules asked" in done.stdout, done.stderr
