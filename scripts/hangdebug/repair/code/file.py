"""A file as Python's own parser sees it: what runs a node, what a name stands for, where it stands.

    from time import sleep as nap         `nap` is "time.sleep", wherever that name is not bound again
    jobs = queue.Queue()                  `jobs` is made by "queue.Queue", if nothing else is assigned to it

What has two meanings has none here, and no rule touches it.
"""

from __future__ import annotations

import ast
import bisect
import builtins
import io
import itertools
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import field
from functools import cached_property, lru_cache

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.bindings import (
    COMPREHENSIONS,
    FUNCTIONS,
    Binding,
    Scope,
    Scopes,
    Unread,
    children,
    in_source,
    read_below,
    read_scopes,
    walk,
)

LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
LINE_ENDING = re.compile(r"\r\n|\r|\n|\Z")
HEADER_END = re.compile(
    r"(?:[\s,)\\]|#[^\r\n]*)*:"
)  # what may stand between the last expression of a header and its end
CLOSING = re.compile(r"[\s\\]*\)")


@dataclass(frozen=True)
class Layout:
    """What the syntax tree leaves out: the comments with where they start, the lines that begin inside of a string."""

    comments: tuple[tuple[int, str], ...]
    in_strings: frozenset[int]


@dataclass(eq=False)
class File:
    """`text` parsed. Raises SyntaxError and RecursionError where it is made from text that has no tree."""

    text: str
    tree: ast.Module
    name: str = ""
    memo: dict[object, object] = field(default_factory=dict, repr=False)  # what `receivers` found out

    @cached_property
    def scopes(self) -> Scopes:
        """Not needed by who only adds an import."""
        return read_scopes(self.tree, Later(self))

    @cached_property
    def starts(self) -> list[int]:
        """Where each line starts, and where the text ends."""
        if "\r" in self.text:
            rows = [len(row) for row in LINES.findall(self.text)]
        else:
            rows = [len(row) + 1 for row in self.text.split("\n")]
            rows[-1] -= 1
        return [0, *itertools.accumulate(rows if rows[-1:] != [0] else rows[:-1])]

    @cached_property
    def runs(self) -> dict[ast.AST, list[ast.AST]]:
        """What `run_by` answered."""
        return {}

    @cached_property
    def places(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """What `receivers` found of the names that the file imports: the path of another file, and the names in it."""
        return {}

    @cached_property
    def imported(self) -> dict[tuple[Scope, str, int], str]:
        """What `qualified` answered for names."""
        return {}

    @cached_property
    def looked_up(self) -> dict[tuple[Scope, str], tuple[Scope | None, list[Binding]]]:
        """What `lookup` answered. One rule after the other asks for the same names."""
        return {}

    # -- where it stands -----------------------------------------------------------------------------

    def offset(self, line: int, column: int) -> int:
        """The index in `text` of a position as `ast` gives it: the line from 1, the column in UTF-8 bytes."""
        start = self.starts[line - 1]
        row = self.text[start : start + column]
        if not row.isascii():
            row = self.text[start : start + column].encode()[:column].decode(errors="ignore")
        return start + len(row)

    def start(self, node: ast.AST) -> int:
        at = node.target if isinstance(node, ast.comprehension) else node
        return self.offset(at.lineno, at.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def line(self, node: ast.AST) -> int:
        """The number of the line on which the node starts, from 1."""
        return self.line_of(self.start(node))

    def on_line(self, node: ast.AST, line: int) -> bool:
        """Whether a part of the node stands on the line."""
        return self.line(node) <= line <= self.line_of(self.end(node))

    def innermost(self, kinds: tuple[type[ast.AST], ...], line: int) -> ast.AST | None:
        """The innermost node of these kinds that the line is a part of."""
        around = [each for each in self.scopes.opened() if isinstance(each, kinds) and self.on_line(each, line)]
        return max(around, key=self.start, default=None)

    def line_of(self, offset: int) -> int:
        """The number of the line on which the offset is, from 1; the end of the text belongs to the last one."""
        ended = self.text[-1:] in ("\n", "\r")
        return bisect.bisect_right(self.starts, offset, 0, len(self.starts) - (not ended))

    def line_start(self, offset: int) -> int:
        return self.starts[self.line_of(offset) - 1]

    def line_end(self, offset: int) -> int:
        """Where the line of the offset ends, in front of its line ending."""
        found = LINE_ENDING.search(self.text, offset)
        return found.start() if found else len(self.text)

    def indent(self, node: ast.AST) -> str:
        """What stands in front of a statement on its line."""
        return self.text[self.line_start(self.start(node)) : self.start(node)]

    def step(self, node: ast.AST) -> str:
        """One step of the indentation, as the nearest block at or around the node has it."""
        for each in (node, *self.above(node)):
            body = getattr(each, "body", None)
            if isinstance(each, ast.stmt) and isinstance(body, list) and self.line(body[0]) > self.line(each):
                inner, outer = self.indent(body[0]), self.indent(each)
                if len(inner) > len(outer) and not inner.strip():
                    return inner[len(outer) :]
        return "\t" if "\n\t" in self.text else " " * 4

    def colon(self, node: ast.With | ast.For | ast.AsyncFor | ast.While) -> int:
        """Where the header of the block ends, behind its colon."""
        if isinstance(node, ast.With):
            last: ast.expr = node.items[-1].optional_vars or node.items[-1].context_expr
        else:
            last = node.test if isinstance(node, ast.While) else node.iter
        found = HEADER_END.match(self.text, self.end(last))
        return found.end() if found else self.end(last)

    def block(self, node: ast.AST) -> list[ast.stmt]:
        """The list of statements that the statement of the node stands in."""
        statement = self.statement(node)
        lists = [value for _, value in ast.iter_fields(self.parent(statement)) if isinstance(value, list)]
        return next(each for each in lists if statement in each)

    def block_end(self, node: ast.With) -> int:
        """Where the block ends, the comments that stand as deep as it does included, in front of the line ending."""
        inside, end = self.indent(node.body[0]), self.line_end(self.end(node))
        at = end
        while at < len(self.text):
            at = self.starts[self.line_of(at)]
            row = self.text[at : self.line_end(at)]
            if row.startswith(f"{inside}") and row.lstrip().startswith("#"):
                end = self.line_end(at)
            elif row.strip():
                break
        return end

    def with_parentheses(self, node: ast.expr) -> tuple[int, int]:
        """Where the expression starts and ends, the parentheses around it included."""
        start, end = self.start(node), self.end(node)
        while True:
            before, behind = start, CLOSING.match(self.text, end)
            while self.text[before - 1 : before] in tuple(" \t\r\n\f\\"):
                before -= 1
            if behind is None or self.text[before - 1 : before] != "(":
                return start, end
            start, end = before - 1, behind.end()

    @cached_property
    def layout(self) -> Layout:
        comments, held = [], set()
        rows = io.StringIO(self.text.replace("\r\n", "\n").replace("\r", "\n"))
        for token in tokenize.generate_tokens(rows.readline):
            name = tokenize.tok_name[token.type]
            if name == "COMMENT":
                comments.append((self.starts[token.start[0] - 1] + token.start[1], token.string))
            elif name == "STRING" or name.endswith("STRING_MIDDLE"):  # an f-string from Python 3.12 on
                held |= set(range(token.start[0] + 1, token.end[0] + 1))
        return Layout(tuple(comments), frozenset(held))

    def source(self, node: ast.AST) -> str:
        return self.text[self.start(node) : self.end(node)]

    def short(self, node: ast.AST) -> str:
        """The source on one line, for a message."""
        return " ".join(self.source(node).split())

    @cached_property
    def newline(self) -> str:
        """The line ending of the file: that of its first line."""
        found = LINE_ENDING.search(self.text)
        return found[0] if found and found[0] else "\n"

    @cached_property
    def calls(self) -> list[ast.Call]:
        """Every call, in source order."""
        return self.scopes.calls()

    def calls_of(self, name: str) -> list[ast.Call]:
        """Those that may be of an imported function or class of that name, by another one too, in source order."""
        if re.search(rf"\b{name}\s+as\b|=[^\n]*\b{name}\s*(?![\s(\w])", self.text):
            return self.calls
        self.scopes.unread.read_word(self.scopes, name)
        return sorted((call for call in self.scopes.known_calls if last_name(call.func) == name), key=in_source)

    @cached_property
    def calls_in_coroutines(self) -> list[ast.Call]:
        """Those that an `async def` runs itself: what is put off is none of them."""
        return sorted((call for call in self.scopes.known_calls if self.coroutine(call)), key=in_source)

    def nodes(self) -> Iterator[ast.AST]:
        """Every node of the file."""
        self.scopes.unread.read_rest(self.scopes)
        return walk(self.tree)

    # -- what runs it --------------------------------------------------------------------------------

    def parent(self, node: ast.AST) -> ast.AST:
        found = self.scopes.parents.get(node) or self.scopes.parent(node)
        if found is None:
            raise KeyError(node)
        return found

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around it, from its parent to the module."""
        known = self.scopes.parents
        up = known.get(node) or self.scopes.parent(node)
        while up is not None:
            yield up
            up = known.get(up) or self.scopes.parent(up)

    def frame(self, node: ast.AST) -> ast.AST:
        """The function, lambda, class or module that runs the node."""
        return scope_running(self.scopes.of[node]).node

    def coroutine(self, node: ast.AST) -> ast.AsyncFunctionDef | None:
        """The `async def` whose frame runs the node, None where anything else does."""
        found = self.frame(node)
        return found if isinstance(found, ast.AsyncFunctionDef) else None

    def run_by(self, frame: ast.AST) -> list[ast.AST]:
        """The nodes that this frame runs itself, those of functions nested in it left out."""
        if frame not in self.runs:
            self.scopes.unread.read_nodes(self.scopes, [frame])
            found: list[ast.AST] = []
            todo = [frame]
            while todo:
                node = todo.pop()
                found.append(node)
                within = children(node)
                todo += [each for each in within if self.frame(each) is frame] if isinstance(node, FRAMES) else within
            self.runs[frame] = found[1:]
        return self.runs[frame]

    def statement(self, node: ast.AST) -> ast.stmt:
        return next(each for each in (node, *self.above(node)) if isinstance(each, ast.stmt))

    # -- what it stands for --------------------------------------------------------------------------

    def lookup(self, node: ast.AST, name: str) -> tuple[Scope | None, list[Binding]]:
        """The scope that binds the name where it stands at the node, and every binding there."""
        place = self.scopes.of[node], name
        if place not in self.looked_up:
            self.looked_up[place] = self.look_up(*place)
        return self.looked_up[place]

    def look_up(self, scope: Scope | None, name: str) -> tuple[Scope | None, list[Binding]]:
        first = True
        while scope is not None:
            if scope.declared.get(name) is ast.Global:
                scope = self.scopes.module
            visible = first or not isinstance(scope.node, ast.ClassDef)
            if scope.outer is None:
                self.scopes.unread.read_name(self.scopes, name)
            if visible and name in scope.names and name not in scope.declared:
                return scope, [*scope.names[name], *self.foreign(scope, name)]
            first, scope = first and isinstance(scope.node, COMPREHENSIONS), scope.outer
        return None, []

    def foreign(self, home: Scope, name: str) -> list[Binding]:
        """What functions bind that declare the name global or nonlocal."""
        others = {id(scope): scope for scope in self.scopes.declaring if name in scope.declared}.values()
        return [item for scope in others for item in scope.names.get(name, ())]

    def qualified(self, node: ast.AST, depth: int = 4) -> str:
        """The dotted name that imports give the expression ("builtins.open" for a builtin), or "".

        `depth` is how many second names are followed, such as `nap` of `nap = time.sleep`.
        """
        steps = []
        while isinstance(node, ast.Attribute):
            steps.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        place = self.scopes.of[node], node.id, depth
        base = self.imported.get(place)
        if base is None:
            base = self.imported[place] = self.imported_as(node, depth)
        if not steps or not base:
            return base
        return "" if base.startswith("builtins.") else ".".join([base, *reversed(steps)])

    def imported_as(self, node: ast.Name, depth: int) -> str:
        scope, found = self.lookup(node, node.id)
        if scope is None:
            return f"builtins.{node.id}" if hasattr(builtins, node.id) and not self.scopes.star else ""
        names = {
            item.qualified or (self.qualified(item.value, depth - 1) if depth and item.value else "")
            for item in found
            if not is_empty(item)
        }
        return names.pop() if len(names) == 1 else ""

    def values(self, node: ast.AST) -> list[ast.expr | None]:
        """Everything assigned to a name, or to an attribute of `self` in its class; None where no plain value is."""
        if isinstance(node, ast.Name):
            return [item.value for item in self.lookup(node, node.id)[1] if not is_empty(item)]
        home = self.home(node)
        if not isinstance(node, ast.Attribute) or dotted(node.value) not in ("self", "cls") or home is None:
            return []
        written = [
            Binding(target, "", value)
            for target, value in self.scopes.written(node.attr)
            if dotted(target) == dotted(node) and self.home(target) is home
        ]
        body = self.scopes.known_opened[home].names.get(node.attr, [])
        return [self.kept(item) for item in (*written, *body) if not is_empty(item)]

    def kept(self, item: Binding) -> ast.expr | None:
        """The value that is bound; of a `cached_property` the one that it returns."""
        cached = any(dotted(each).endswith("cached_property") for each in getattr(item.node, "decorator_list", ()))
        given = [each.value for each in walk(item.node) if isinstance(each, ast.Return)] if cached else [item.value]
        return given[0] if len(given) == 1 else None

    def maker(self, node: ast.AST) -> str:
        """What made the expression, as "queue.Queue": the one call that is all its values, or ""."""
        values = [node] if isinstance(node, ast.Call) else self.elements(node) or self.values(node)
        makers = {self.made(value) for value in values}
        return makers.pop() if len(makers) == 1 else ""

    def made(self, value: ast.AST | None) -> str:
        """The function that a call calls; that which makes the field of a dataclass for each object of it."""
        if not isinstance(value, ast.Call):
            return ""
        factory = next((each.value for each in value.keywords if each.arg == "default_factory"), None)
        if factory is None or self.qualified(value.func) != "dataclasses.field":
            return self.qualified(value.func)
        return self.made(factory.body) if isinstance(factory, ast.Lambda) else self.qualified(factory)

    def elements(self, node: ast.AST) -> list[ast.expr | None]:
        """What a name is in turn, as the variable of a loop over a list that the file fills."""
        found = self.lookup(node, node.id)[1] if isinstance(node, ast.Name) else []
        drawn = []
        for item in found:
            loop = self.scopes.parent(item.node)
            if not isinstance(loop, (ast.For, ast.comprehension)) or loop.target is not item.node:
                return []
            if not isinstance(loop.iter, (ast.Name, ast.Attribute)):
                return []
            drawn += self.filled(loop.iter)
        return drawn

    def filled(self, node: ast.expr) -> list[ast.expr | None]:
        """Each thing that the list is made of, or gets by `append`."""
        calls = [self.method_call(use, "append") for use in self.uses(node)]
        parts: list[ast.expr | None] = [call.args[0] for call in calls if call and len(call.args) == 1]
        for value in self.values(node):
            parts += value.elts if isinstance(value, (ast.List, ast.Tuple, ast.Set)) else [getattr(value, "elt", None)]
        return [value for part in parts for value in (self.values(part) if isinstance(part, ast.Name) else [part])]

    def private(self, node: ast.expr) -> bool:
        """Whether the object is made in the function that uses it, and only used there."""
        if isinstance(node, ast.Call):
            return True
        frame = self.frame(node)
        scope, found = self.lookup(node, node.id) if isinstance(node, ast.Name) else (None, [])
        local = scope is not None and scope is self.scopes.opened_by(frame)
        return (
            local
            and not any(isinstance(item.node, ast.arg) for item in found)
            and all(
                isinstance(self.parent(use), (ast.Attribute, ast.withitem)) and self.frame(use) is frame
                for use in self.uses(node)
            )
        )

    def method_call(self, use: ast.AST, *names: str) -> ast.Call | None:
        """The call of a method of the expression, if it has one of the names: `jobs.append(1)` of `jobs`."""
        method = self.scopes.parent(use)
        if not isinstance(method, ast.Attribute) or method.attr not in names:
            return None
        call = self.parent(method)
        return call if isinstance(call, ast.Call) and call.func is method else None

    def home(self, node: ast.AST) -> ast.ClassDef | None:
        return next((up for up in self.above(node) if isinstance(up, ast.ClassDef)), None)

    def uses(self, node: ast.AST) -> list[ast.expr]:
        """The places that read the same variable, function or attribute of `self` in its class, in order."""
        found: list[ast.expr]
        name = getattr(node, "id", getattr(node, "name", getattr(node, "arg", "")))
        if name:
            scope = self.lookup(node, name)[0]
            if isinstance(node, ast.arg):
                scope = self.scopes.opened_by(next(up for up in self.above(node) if isinstance(up, FUNCTIONS)))
            found = [each for each in self.scopes.reads_of(name, scope) if self.lookup(each, name)[0] is scope]
        else:
            self.scopes.unread.read_word(self.scopes, last_name(node))
            found = [
                each
                for each in walk(self.home(node) or self.tree)
                if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load) and dotted(each) == dotted(node)
            ]
        return sorted(found, key=lambda each: (each.lineno, each.col_offset))

    def owned_by(self, node: ast.Name, frame: ast.AST | None) -> bool:
        """Whether the name belongs to the function, comprehensions in it included."""
        scope = self.lookup(node, node.id)[0]
        return scope is not None and scope_running(scope).node is frame


STAYS = re.compile(r"async\s|global\s|nonlocal\s")
FRAMES = (*FUNCTIONS, ast.ClassDef)


class Later(Unread):
    """The plain functions and methods of the module: a rule looks at coroutines, which have to do with few of them.

    What holds a coroutine, or binds a name outside of itself, is not put off.
    """

    def __init__(self, file: File) -> None:
        self.text, self.starts = file.text, file.starts
        self.waiting: dict[ast.AST, tuple[int, int]] = {}  # where the lines of each start and end
        self.words: set[str] = set()  # that were asked for
        self.kept = [found.start() for found in STAYS.finditer(file.text)]

    def puts_off(self, scopes: Scopes, node: ast.AST) -> bool:
        home = scopes.parents[node]
        while isinstance(home, ast.ClassDef):
            home = scopes.parents[home]
        if not isinstance(home, ast.Module) or not isinstance(node, ast.FunctionDef):
            return False
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        start, end = self.starts[first - 1], self.starts[node.end_lineno or node.lineno]
        if bisect.bisect_left(self.kept, start) < bisect.bisect_left(self.kept, end):
            return False
        self.waiting[node] = start, end
        return True

    def read_nodes(self, scopes: Scopes, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            if self.waiting.pop(node, None):
                read_below(scopes, node)

    def read_around(self, scopes: Scopes, node: ast.AST) -> None:
        line = getattr(node, "lineno", 0)
        at = self.starts[line - 1] if line else -1
        holds = [each for each, (start, end) in self.waiting.items() if start <= at < end or not line]
        self.read_nodes(scopes, holds)

    def read_word(self, scopes: Scopes, word: str) -> None:
        if self.waiting and word not in self.words:
            self.words.add(word)
            self.read_nodes(scopes, [each for each, place in self.waiting.items() if self.text.find(word, *place) >= 0])

    def read_rest(self, scopes: Scopes) -> None:
        self.read_nodes(scopes, list(self.waiting))


def scope_running(scope: Scope) -> Scope:
    """The scope of what runs it: a comprehension runs in the frame around."""
    while scope.outer and isinstance(scope.node, COMPREHENSIONS):
        scope = scope.outer
    return scope


@lru_cache(maxsize=1)  # one rule after the other reads the same text
def parse(text: str, name: str = "") -> File:
    """Raises SyntaxError, and RecursionError or MemoryError for an expression that nests too deeply."""
    return File(text, tree_of(text), name)


@lru_cache(maxsize=1)
def tree_of(text: str) -> ast.Module:
    with warnings.catch_warnings():  # of escapes such as "\\d", which are not our business
        warnings.simplefilter("ignore")
        return ast.parse(text)


def is_empty(item: Binding) -> bool:
    """Whether it binds None before there is a value, or only declares a type."""
    return is_none(item.value)


def dotted(node: ast.AST) -> str:
    """`app.state.pool` for such an expression, "" for any other."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return node.id if isinstance(node, ast.Name) else ""


def last_name(node: ast.AST) -> str:
    """`pool` for `app.state.pool`, whatever it is an attribute of; "" for what has no name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_zero(node: ast.AST | None) -> bool:
    """Whether a timeout is none at all: `future.result(0)` does not wait."""
    return isinstance(node, ast.Constant) and node.value == 0


def root_name(node: ast.AST) -> ast.Name | None:
    """The name that an attribute starts with: `app` of `app.state.pool`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node if isinstance(node, ast.Name) else None


def fresh_name(file: File, name: str, skip: int = 0) -> str:
    """A name that the file uses nowhere; `skip` leaves as many such names for others."""
    taken = {each for scope in file.scopes.opened().values() for each in scope.names} | file.scopes.reads().keys()
    free = (
        each
        for each in itertools.chain((name,), (f"{name}_{count}" for count in itertools.count(1)))
        if each not in taken
    )
    return next(itertools.islice(free, skip, None))
