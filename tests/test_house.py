"""The house: its rooms, who imports whom, and the rules of a house that no reader could keep in mind alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import architecture
from hangdebug.answer.states import ENTRIES
from hangdebug.causes import database
from hangdebug.evidence.libraries import KNOWN_TOPS
from hangdebug.evidence.vocabulary import STATES
from hangdebug.repair.code import blocking

ROOT = Path(__file__).resolve().parent.parent
ORDER = architecture.ORDER
NOT_BARE = {"capture", "triage"}  # these need more than the standard library
# And these for some of what they do, inside of a function.
DRAWS = {"report": {"matplotlib"}, "fleet": {"dask", "fsspec"}, "mcp_face": {"mcp"}}
FLOORS = 18  # imports above imports, at most: print with `pytest -s`
OPAQUE = {  # names that a stranger has to open
    *("held", "pending", "phases", "enders", "local", "live", "parts", "accepting", "own_tools", "linked"),
    *("utils", "helpers", "common", "misc"),
}
JUDGING = ("scene", "causes", "answer")
VERDICTS = ("Verdict", "loop_verdict", "workers_verdict", "lifespan_verdict")  # what makes a verdict


@cache  # several tests read the same two hundred files
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def of_rooms(*rooms: str) -> Iterator[tuple[Path, ast.Module]]:
    for name, path in architecture.modules().items():
        if architecture.room_of(name) in rooms:
            yield path, tree_of(path)


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


# -- who imports whom ----------------------------------------------------------------------------------


@cache
def everything_imported(path: Path) -> set[str]:
    """The dotted names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def rooms() -> dict[Path, str]:
    """Every module but the package's own, and its room."""
    found = {path: architecture.room_of(name) for name, path in architecture.modules().items()}
    return {path: room for path, room in found.items() if room}


def test_a_room_imports_only_from_its_left():
    assert set(rooms().values()) == set(ORDER)
    for path, room in rooms().items():
        inner = {one.split(".")[1] for one in everything_imported(path) if one.startswith("hangdebug.")}
        right = {one for one in inner - {"__version__", "shipped"} if ORDER.index(one) > ORDER.index(room)}
        assert not right, f"{path.relative_to(ROOT)} imports {right}, from its right"


def test_a_bare_module_imports_the_standard_library_alone():
    for path, room in rooms().items():
        foreign = {one.split(".")[0] for one in everything_imported(path)} - sys.stdlib_module_names - {"hangdebug"}
        assert foreign <= DRAWS.get(room, set()) or room in NOT_BARE, f"{path.relative_to(ROOT)} imports {foreign}"


def test_imports_go_in_no_circle_and_on_few_floors():
    """Those inside of functions are left out, and listed: they keep a bare Python from what it has not got."""
    height = architecture.floors()  # raises for a circle
    known = architecture.modules()
    later = {name: architecture.imports(path, known, inner=True) for name, path in known.items()}
    print(f"{max(height.values())} floors")
    for name, others in later.items():
        if late := sorted(others - architecture.graph()[name]):
            print(f"{name} imports inside of a function: {', '.join(late)}")
    assert max(height.values()) <= FLOORS


def test_the_picture_of_the_rooms_is_fresh():
    assert architecture.PICTURE.read_text() == architecture.drawing(), "Next: python tooling/architecture.py"


# -- names and figures ---------------------------------------------------------------------------------


def test_no_module_has_a_name_that_a_stranger_has_to_open():
    named = {part for path in rooms() for part in path.relative_to(architecture.ENGINE).with_suffix("").parts}
    assert not named & OPAQUE


def test_a_room_has_an_init_module_only_where_something_is_in_it():
    empty = [path for path in rooms() if path.name == "__init__.py" and len(tree_of(path).body) < 2]
    assert not empty


def test_who_takes_a_scene_takes_it_first():
    late = []
    for path, tree in of_rooms(*JUDGING):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
                if "scene" in names[1:] and names[:1] not in (["self"], ["cls"]):
                    late.append(f"{place(path, node)} {node.name}({', '.join(names)})")
    assert not late, "\n".join(late)


def test_a_certainty_stands_in_the_one_table():
    """0.0 and 1.0 are nothing and all. What lies between is how sure somebody is, or a share with a name."""
    strays = []
    for path, tree in of_rooms(*JUDGING):
        spans = tree.body if path.parent.name == "scene" else []
        named = {id(one) for node in spans if is_named(node) for one in ast.walk(node)}
        for node in ast.walk(tree):
            figure = isinstance(node, ast.Constant) and isinstance(node.value, float) and 0 < node.value < 1
            if figure and path.name != "certainty.py" and id(node) not in named:
                strays.append(f"{place(path, node)} {node.value}")
    assert not strays, "\n".join(strays)


def is_named(node: ast.stmt) -> bool:
    """SECONDS = 0.5, for all to see."""
    return isinstance(node, (ast.Assign, ast.AnnAssign))


def test_a_state_is_decided_in_its_own_file():
    """A verdict's state stands in a literal, there or in the call of what several states share."""
    for path, tree in of_rooms(*JUDGING):
        for node in (one for one in ast.walk(tree) if isinstance(one, ast.Call)):
            said = {one.value for one in node.args if isinstance(one, ast.Constant) and one.value in STATES}
            maker = getattr(node.func, "id", getattr(node.func, "attr", "")) in VERDICTS
            own = path.parent.name == "states" and said <= {path.stem.replace("_", "-")}
            assert own or not (maker and said), f"{place(path, node)} decides {said}"


def test_a_state_is_named_in_its_own_file_alone():
    """A cause is asked with the verdict at hand, and may ask which state it is; scene and answer need no such word."""
    strays = []
    for path, tree in of_rooms("scene", "answer"):
        for node in ast.walk(tree):
            named = isinstance(node, ast.Constant) and node.value in STATES
            if named and (path.parent.name != "states" or path.stem.replace("_", "-") != node.value):
                strays.append(f"{place(path, node)} {node.value!r}")
    assert not strays, "\n".join(strays)


def test_every_state_has_its_file_and_every_file_its_state():
    files = {path.stem.replace("_", "-") for path, _ in of_rooms("answer") if path.parent.name == "states"}
    assert files - {"--init--"} == set(STATES) == set(ENTRIES)
    assert all(entry.name == name for name, entry in ENTRIES.items())


@pytest.mark.parametrize(
    "name",
    ["Verdict", "Level", "Limit"],
)
def test_a_noun_of_the_answer_is_made_nowhere_but_in_the_answer(name):
    makers = {room for path, room in rooms().items() for node in calls_of(name, tree_of(path))}
    assert makers == {"answer"}


def calls_of(name: str, tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", None) == name]


def test_a_driver_is_known_wherever_drivers_are():
    """By its short name in a dump, as a cause, and as what `fix` reports."""
    assert set(database.DRIVERS) <= KNOWN_TOPS, "Next: put it into INSTALLED_TOPS of evidence/libraries.py too"
    assert {name.split(".")[0] for name in blocking.DRIVERS.split()} <= set(database.DRIVERS)
