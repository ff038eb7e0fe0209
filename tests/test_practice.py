"""The practice cases are made of the tests' servers, without the words that give the answer away.

They hang where the skill is unpacked, and the engine finds their causes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lab
import practice
import zoo
from hangdebug.causes import CAUSES

ROOT = Path(__file__).resolve().parent.parent
import build_skill
import cases

ALL = practice.catalogue()
# A package, a server that is a script, one that has to stop, and one on which nothing is wrong: each starts otherwise.
SAMPLE = [
    next(number for number, one in enumerate(ALL, 1) if fits(one))
    for fits in (
        lambda one: len(one.files) > 1,
        lambda one: one.server == "script",
        lambda one: one.signal == "SIGINT",
        lambda one: one.state == "healthy",
    )
]
CHOSEN = range(1, len(ALL) + 1) if os.environ.get("HANG_LONG") else SAMPLE
PLAYED = """
import json, sys
sys.path.insert(0, {notebooks!r})
import practice
from hangdebug.capture.processes import resolve
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.observe import observe_briefly
for number in {numbers!r}:
    with practice.start(number) as case:
        answer = worst(map(diagnose, observe_briefly(resolve(case.pid), lambda line: None)))
        frame, names = answer.blocking_frame, [part.name for part in case.folder.rglob("*")]
        print(json.dumps([number, answer.state, answer.cause, frame and [frame.file, frame.line], str(case.folder),
                          names, case.pid, case.title,
                          practice.check(case, answer.cause).right, answer.process.command]), flush=True)
"""


def test_the_catalogue_is_fresh():
    assert practice.CATALOGUE.read_text() == cases.practice(), "Next: make skill"


def test_every_cause_can_be_practised_and_no_title_tells_it():
    causes = {cause.id for cause in CAUSES}
    assert {one.cause for one in ALL} == causes and len(practice.cases()) == len(ALL) > len(causes)
    for title in practice.cases():
        assert re.match(
            r"case \d+, (easy|medium|hard): (GET /\S+ gives no answer|after SIG[A-Z]+ it does not end|users say)", title
        )
    assert len(set(practice.cases())) == len(ALL) and len({one.difficulty for one in ALL}) == 3
    assert practice.guesses() == sorted(causes) and sum(one.state == "healthy" for one in ALL) >= 3


def test_no_source_tells_more_than_its_code():
    for one in ALL:
        for name, text in one.files.items():
            tree = ast.parse(text)
            assert "#" not in re.sub(r"""(["'])(?:\\.|(?!\1).)*\1""", "", text), name
            assert not any(
                ast.get_docstring(node)
                for node in ast.walk(tree)
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            )
            assigned = {getattr(node.targets[0], "id", "") for node in tree.body if isinstance(node, ast.Assign)}
            assert not assigned & set(zoo.CONSTANTS) and name.startswith("service")


def test_what_is_left_is_the_servers_code_line_by_line():
    """The tree without docstrings and constants is the same, and a marked line is the server's own marked line."""
    for name in cases.chosen():
        path, made = zoo.find(name.replace("-", "_")), cases.case(name)
        if path.name == "main.py":
            continue  # there the package's name differs too
        source, text = path.read_text(), made["files"]["service.py"]
        assert ast.dump(bare(ast.parse(source))) == ast.dump(bare(ast.parse(text)))
        old, new = source.splitlines(), text.splitlines()
        assert [(old[line - 1].partition("#")[0].strip()) for line, _ in zoo.marks(source)] == [
            new[line - 1].strip() for _, line in made["marked"]
        ]


def bare(tree: ast.Module) -> ast.Module:
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in zoo.CONSTANTS)
    ]
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def test_a_guess_is_compared_and_the_answer_explained(monkeypatch):
    number = next(number for number, one in enumerate(ALL, 1) if one.cause == "sleep")
    case = practice.Running(number, None, Path("."), ALL[number - 1], None)
    right, wrong = practice.check(case, "sleep"), practice.check(case, "lock")
    assert right.right and not wrong.right and str(wrong).startswith("Not lock: sleep.")
    assert (
        "time.sleep(" in right.source and "time.sleep(" in str(right) and right.story.startswith("A retry that sleeps")
    )
    with pytest.raises(lab.LabError, match=r"is not a cause\.\nNext: "):
        practice.check(case, "slep")
    for number in (0, len(ALL) + 1):
        with pytest.raises(lab.LabError, match="There is no case"):
            practice.start(number)
    monkeypatch.setattr(practice.importlib.util, "find_spec", lambda name: None)
    needy = next(number for number, one in enumerate(ALL, 1) if one.needs)
    assert "pip install" in practice.cases()[needy - 1]
    with pytest.raises(lab.LabError, match=r"needs .*\nNext: "):
        practice.start(needy)


@pytest.mark.live
def test_cases_hang_from_the_unpacked_skill_and_the_engine_finds_them_out(tmp_path):
    skill = tmp_path / "a skill"
    for name, file in build_skill.files().items():
        if name.startswith(("notebooks/", "scripts/")):
            (skill / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, skill / name)
    code = PLAYED.format(notebooks=str(skill / "notebooks"), numbers=list(CHOSEN))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    played = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row[0] for row in played] == list(CHOSEN)
    for number, state, cause, frame, folder, names, pid, title, right, command in played:
        truth = ALL[number - 1]
        assert right and (state, cause) == (truth.state, truth.cause), title
        if truth.marked:
            assert any(frame[0].endswith(f"/{file}") and frame[1] == line for file, line in truth.marked), title
        assert not Path(folder).exists() and zoo.gone([pid])
        assert not [name for name in [*names, command, folder.rpartition("a skill")[2]] if truth.cause in name]
