"""Draw docs/architecture.svg from the imports of the engine: its rooms in the order in which data goes through them.

    python tooling/architecture.py           write the picture
    python tooling/architecture.py --check   write nothing; exit status 1 where the picture is stale

An arrow says how many modules of a room import from another. Imports go to the left alone, so data comes from there.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "scripts" / "hangdebug"
PICTURE = ROOT / "docs" / "architecture.svg"

# A room imports only from its left. A name stands for the module or the folder of that name.
ORDER = (
    "errors",
    "files",
    "terminal",
    "evidence",
    "capture",
    "scene",
    "causes",
    "answer",
    "repair",
    "report",
    "observe",
    "triage",
    "cli_arguments",
    "sources",
    "fleet",
    "mcp_face",
    "cli",
    "__main__",
)
ROOMS = {
    "evidence": "reads dumps and bundles",
    "capture": "asks a live process",
    "scene": "what is going on",
    "causes": "what is waited for",
    "answer": "the verdict",
    "repair": "the diff, the proof",
    "report": "text, page, pictures",
}
OUTSIDE = tuple(name for name in ORDER if name not in ROOMS and name not in ("errors", "files"))  # what opens the house


# -- what the code says --------------------------------------------------------------------------------


def modules(engine: Path = ENGINE) -> dict[str, Path]:
    """Every module of the engine by its dotted name, hangdebug.scene.graph."""
    found = {}
    for path in sorted(engine.rglob("*.py")):
        parts = [engine.name, *path.relative_to(engine).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """The room of a dotted name: "scene" of hangdebug.scene.graph. Empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, known: dict[str, Path], *, inner: bool) -> set[str]:
    """The modules of the engine that one imports: at its top, or where `inner`, inside of functions and classes.

    Those under `if TYPE_CHECKING` are left out: they are there for the type checker.
    """
    found: set[str] = set()
    for node in inside(ast.parse(path.read_text())) if inner else outside(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known.keys()


def outside(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, those of its `if` and `try` too."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from outside(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from outside(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from outside(handler.body)


def inside(tree: ast.Module) -> Iterator[ast.AST]:
    """What stands inside of functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from ast.walk(node)


@cache
def graph(engine: Path = ENGINE) -> dict[str, set[str]]:
    """module -> the modules that it imports when it is imported."""
    known = modules(engine)
    return {name: imports(path, known, inner=False) - {name} for name, path in known.items()}


def between_rooms() -> Counter[tuple[str, str]]:
    """(from, to) -> how many modules of the first room import from the second; what opens the house is left out."""
    pairs = {(name, room_of(other)) for name, others in graph().items() for other in others}
    return Counter(
        (room_of(name), room)
        for name, room in pairs
        if room_of(name) in ROOMS and room in ROOMS and room_of(name) != room
    )


def floors() -> dict[str, int]:
    """module -> the longest way of imports below it: 1 for one that imports none. Raises ValueError for a circle."""
    height: dict[str, int] = {}

    def climb(name: str, way: tuple[str, ...]) -> int:
        if name in way:
            raise ValueError("imports go in a circle: " + " > ".join([*way[way.index(name) :], name]))
        if name not in height:
            height[name] = 1 + max((climb(one, (*way, name)) for one in graph()[name]), default=0)
        return height[name]

    for name in graph():
        climb(name, ())
    return height


# -- the picture ---------------------------------------------------------------------------------------

BOX, TALL, GAP, LEFT, TOP = 122, 58, 26, 20, 262
BLUE, INK, PALE, GREY = "#0072b2", "#1f2933", "#eef4f9", "#6b7784"
STYLE = "font-family='DejaVu Sans, Verdana, sans-serif'"


def drawing() -> str:
    """The picture as SVG text."""
    rooms = list(ROOMS)
    counts = Counter(room_of(name) for name, path in modules().items())
    width = LEFT * 2 + len(rooms) * BOX + (len(rooms) - 1) * GAP
    left = {room: LEFT + number * (BOX + GAP) for number, room in enumerate(rooms)}
    height = TOP + TALL + 112
    head = "Data goes from left to right, imports from right to left."
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' "
            f"role='img' {STYLE}>"
        ),
        f"<title>The seven rooms of the engine. {head}</title>",
        (
            "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='9' markerHeight='9' "
            "markerUnits='userSpaceOnUse' orient='auto'>"
            f"<path d='M0 0 8 4 0 8z' fill='{BLUE}'/></marker></defs>"
        ),
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        text(LEFT, 26, head, 14, INK, "start", "bold"),
        text(
            LEFT,
            46,
            "A number: how many modules of a room use that at the arrow's other end.",
            12,
            GREY,
            "start",
        ),
    ]
    arcs = between_rooms()
    level = lanes(list(arcs))
    parts += [arrow(left, user, used, arcs[user, used], level[user, used]) for user, used in sorted(arcs)]
    parts += [box(left[room], TOP, room, ROOMS[room], f"{counts[room]} modules") for room in rooms]
    parts += entrances(left, width)
    return "\n".join([*parts, "</svg>", ""])


def text(x: float, y: float, words: str, size: int, colour: str, anchor: str = "middle", weight: str = "normal") -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size}' fill='{colour}' text-anchor='{anchor}' font-weight='{weight}'>"
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, name: str, what: str, size: str) -> str:
    middle = x + BOX / 2
    return (
        f"<rect x='{x}' y='{y}' width='{BOX}' height='{TALL}' rx='7' fill='{PALE}' stroke='{BLUE}' stroke-width='1.5'/>"
        + text(middle, y + 20, name, 14, INK, weight="bold")
        + text(middle, y + 36, what, 9, INK)
        + text(middle, y + 50, size, 9, GREY)
    )


def lanes(arcs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The height of each arc, from 0 on: the lowest at which it runs into no other, the shortest first."""
    place = list(ROOMS).index
    taken: list[list[tuple[int, int]]] = []
    found = {}
    for user, used in sorted(arcs, key=lambda arc: (place(arc[0]) - place(arc[1]), place(arc[1]))):
        start, end = place(used), place(user)
        free = (lane for lane, ways in enumerate(taken) if all(end <= one or other <= start for one, other in ways))
        lane = next(free, len(taken))
        taken[lane:] = taken[lane:] or [[]]
        taken[lane].append((start, end))
        found[user, used] = lane
    return found


def arrow(left: dict[str, int], user: str, used: str, count: int, lane: int) -> str:
    """An arc from the room whose nouns are used to the room that uses them: the way that data takes."""
    apart = list(ROOMS).index(user) - list(ROOMS).index(used)
    start, end = left[used] + BOX / 2 + 10 + 5 * apart, left[user] + BOX / 2 - 10 - 5 * apart
    top = TOP - 22 - 21 * lane
    bend = min(26.0, (end - start) / 3)
    middle = (start + end) / 2
    return (
        f"<path d='M{start:g} {TOP} C{start:g} {top} {start:g} {top} {start + bend:g} {top} L{end - bend:g} {top} "
        f"C{end:g} {top} {end:g} {top} {end:g} {TOP - 2}' fill='none' stroke='{BLUE}' "
        f"stroke-width='{1 + min(count, 20) / 10:g}' stroke-opacity='0.75' marker-end='url(#tip)'/>"
        f"<rect x='{middle - 11:g}' y='{top - 8}' width='22' height='15' fill='#ffffff'/>"
        + text(middle, top + 4, str(count), 11, INK)
    )


def entrances(left: dict[str, int], width: int) -> list[str]:
    """Below the rooms: what opens the house, and what everybody may raise."""
    y = TOP + TALL + 30
    long = width - 2 * LEFT
    return [
        f"<rect x='{LEFT}' y='{y}' width='{long}' height='30' rx='7' fill='none' stroke='{GREY}'/>",
        text(
            width / 2, y + 20, "opened by  " + "  ·  ".join(reversed(OUTSIDE)) + ", which may use every room", 12, INK
        ),
        (
            f"<rect x='{LEFT}' y='{y + 38}' width='{long}' height='24' rx='7' fill='none' stroke='{GREY}' "
            "stroke-dasharray='4 3'/>"
        ),
        text(width / 2, y + 54, "errors: what every room may raise, with the next command", 11, GREY),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and say whether the picture is stale")
    if not parser.parse_args().check:
        PICTURE.write_text(drawing())
        return 0
    stale = not PICTURE.exists() or PICTURE.read_text() != drawing()
    if stale:
        print("docs/architecture.svg is stale. Next: python tooling/architecture.py", file=sys.stderr)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
