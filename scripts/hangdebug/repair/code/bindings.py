"""The scopes of a file and what each binds, read from Python's own syntax tree.

Scope is a stack, not a flag: a `def` inside an `async def` is synchronous. Decorators, defaults and the first
iterable of a comprehension belong to the scope around; a comprehension has a scope, but runs where it stands.
"""

from __future__ import annotations

import ast
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import field
from operator import attrgetter
from typing import Any, Callable

from hangdebug.evidence.light import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
OPENS = frozenset((*FUNCTIONS, ast.ClassDef, *COMPREHENSIONS, ast.comprehension))  # below them, scopes change
DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef)
PLAIN = frozenset(("ctx", "op"))  # the fields of no interest
ATOMS = frozenset((str, int, bool, type(None), type))  # what a field holds beside nodes and lists of them
LEAVES = (ast.Name, ast.Constant)
UNSET = ast.Constant(None)  # what a name that is only declared holds


class Binding:
    """One place that gives a name its meaning: an import's dotted name, or the value that is assigned."""

    __slots__ = ("node", "qualified", "value")

    def __init__(self, node: ast.AST, qualified: str = "", value: ast.expr | None = None) -> None:
        self.node = node
        self.qualified = qualified
        self.value = value


@dataclass(eq=False)
class Scope:
    """`names` holds the bindings of each name, `declared` those that a statement calls global or nonlocal."""

    node: ast.AST
    outer: Scope | None
    names: dict[str, list[Binding]] = field(default_factory=dict)
    declared: dict[str, type] = field(default_factory=dict)

    def bind(self, name: str, node: ast.AST, qualified: str = "", value: ast.expr | None = None) -> None:
        self.names.setdefault(name, []).append(Binding(node, qualified, value))


class Unread:
    """What of a text is not looked at before somebody asks for it: nothing. A file may leave more for later."""

    def puts_off(self, scopes: Scopes, node: ast.AST) -> bool:
        """Whether what the function holds is read later."""
        return False

    def read_name(self, scopes: Scopes, name: str) -> None:
        """Read what may bind the name in the module."""

    def read_nodes(self, scopes: Scopes, nodes: Iterable[ast.AST]) -> None:
        """Read what these define."""

    def read_around(self, scopes: Scopes, node: ast.AST) -> None:
        """Read what holds the node."""

    def read_word(self, scopes: Scopes, word: str) -> None:
        """Read whatever holds the word."""

    def read_rest(self, scopes: Scopes) -> None:
        """Read all."""


@dataclass(eq=False)
class Scopes:
    """For each node its parent and the scope that it is looked up in, as far as `unread` does not stand in for it.

    `declaring` are the scopes with a global or nonlocal statement; `star` says whether a star import may have bound
    anything. What begins with `known_` is what was read so far: the methods read what is asked for as well.
    """

    module: Scope
    unread: Unread = field(default_factory=Unread)
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    of: Known = field(init=False)
    known_opened: dict[ast.AST, Scope] = field(default_factory=dict)
    known_reads: dict[str, list[ast.Name]] = field(default_factory=dict)
    known_written: dict[str, list[tuple[ast.Attribute, ast.expr | None]]] = field(default_factory=dict)
    known_calls: list[ast.Call] = field(default_factory=list)
    declaring: list[Scope] = field(default_factory=list)
    star: bool = False

    def __post_init__(self) -> None:
        self.of = Known(self)

    def parent(self, node: ast.AST) -> ast.AST | None:
        """What holds the node, None for the module and for what stands in another file."""
        found = self.parents.get(node)
        if found is None and node is not self.module.node:
            self.unread.read_around(self, node)
            found = self.parents.get(node)
        return found

    def opened_by(self, node: ast.AST | None) -> Scope | None:
        """The scope that the node opens, None for any other node."""
        if node is not None and node not in self.known_opened and node.__class__ in OPENS:
            self.unread.read_nodes(self, [node])
            self.unread.read_around(self, node)
        return self.known_opened.get(node) if node is not None else None

    def opened(self) -> dict[ast.AST, Scope]:
        """What opens a scope, with it, in the whole file."""
        self.unread.read_rest(self)
        return self.known_opened

    def reads(self) -> dict[str, list[ast.Name]]:
        """The places of the whole file that read each name."""
        self.unread.read_rest(self)
        return self.known_reads

    def reads_of(self, name: str, scope: Scope | None) -> list[ast.Name]:
        """The places that may read the name as this scope binds it: a function is read as a whole."""
        if scope is None or not isinstance(scope.node, (*FUNCTIONS, *COMPREHENSIONS)):
            self.unread.read_word(self, name)
        return self.known_reads.get(name, [])

    def written(self, name: str) -> list[tuple[ast.Attribute, ast.expr | None]]:
        """What the whole file writes to attributes of the name."""
        self.unread.read_word(self, name)
        return self.known_written.get(name, [])

    def calls(self) -> list[ast.Call]:
        """Every call of the file, in source order."""
        self.unread.read_rest(self)
        return sorted(self.known_calls, key=in_source)


class Known(dict[ast.AST, Scope]):
    """The scope that each node is looked up in: its own entry, or else that of the node above it."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = weakref.ref(scopes)  # a strong one would make a ring, which nothing frees

    def __missing__(self, node: ast.AST) -> Scope:
        below: list[ast.AST] = []
        up: ast.AST | None = node
        scopes = self.scopes()
        while up is not None and up not in self and scopes is not None:
            below.append(up)
            up = scopes.parent(up)
        if up is None:
            raise KeyError(node)
        self.update(dict.fromkeys(below, self[up]))
        return self[up]


class Fields(dict[type, tuple[str, ...]]):
    """For each kind of node the fields that may hold nodes."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        self[kind] = () if kind in LEAVES else tuple(name for name in kind._fields if name not in PLAIN)
        return self[kind]


class Held(dict[type, Callable[[Any], tuple[Any, ...]]]):
    """For each kind of node what gives the values of these fields."""

    def __missing__(self, kind: type[ast.AST]) -> Callable[[Any], tuple[Any, ...]]:
        self[kind] = attrgetter(*FIELDS[kind], "__class__", "__class__")  # of two at least it makes a tuple
        return self[kind]


FIELDS = Fields()
HELD = Held()


def read_scopes(tree: ast.Module, unread: Unread) -> Scopes:
    """The scopes of the tree."""
    scopes = Scopes(Scope(tree, None), unread)
    scopes.of[tree] = scopes.known_opened[tree] = scopes.module
    read_below(scopes, tree)
    return scopes


def add_statements(scopes: Scopes, found: list[ast.stmt]) -> None:
    """Statements of the module that are read later than others."""
    module: Any = scopes.module.node
    module.body += found
    for node in found:
        scopes.parents[node], scopes.of[node] = module, scopes.module
        read_below(scopes, node, new=True)


def read_below(scopes: Scopes, top: ast.AST, new: bool = False) -> None:
    """Without recursion: a generated expression may be deep. It runs for each node of each text: plain code is fast.

    Of the scopes only those of the nodes right below one that opens a scope are noted: see `Known`. What `top` itself
    binds is known by then, unless it is `new`.
    """
    parents, of, record_of = scopes.parents, scopes.of, RECORDS.get
    tops: list[tuple[ast.AST, Scope]] = [(top, of[top])]
    while tops:
        node, here = tops.pop()
        todo = [node]
        while todo:
            node = todo.pop()
            kind = node.__class__
            record = record_of(kind)
            if record and (new or node is not top):
                record(scopes, node, here)
            if kind in OPENS:
                if node is top or kind not in DEFINED or not scopes.unread.puts_off(scopes, node):
                    for child, scope in with_scopes(scopes, node, here):
                        parents[child], of[child] = node, scope
                        tops.append((child, scope))
            elif kind not in LEAVES:
                below = children(node)
                parents.update(dict.fromkeys(below, node))
                todo += below


def in_source(node: ast.expr) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, -(node.end_lineno or 0), -(node.end_col_offset or 0)


def with_scopes(scopes: Scopes, node: ast.AST, here: Scope) -> Iterable[tuple[ast.AST, Scope]]:
    """The children of a node that opens a scope, or of a comprehension, each with the scope that it is looked up in."""
    if not isinstance(node, ast.comprehension):
        inner = scopes.known_opened[node] = Scope(node, here)
        return opening(node, here, inner)
    parent = scopes.parents[node]
    if isinstance(parent, COMPREHENSIONS) and parent.generators[0] is node:
        outer = scopes.of[parent]  # the first iterable is evaluated before the comprehension is entered
        return [(child, outer if child is node.iter else here) for child in children(node)]
    return [(child, here) for child in children(node)]


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below, but for what only says how a name is used or which operator it is."""
    found: list[ast.AST] = []
    for value in HELD[node.__class__](node) if node.__class__ not in LEAVES else ():
        if value.__class__ is list:
            found += [each for each in value if each.__class__ not in ATOMS]
        elif value.__class__ not in ATOMS:
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, but for operators and contexts."""
    todo = [node]
    while todo:
        each = todo.pop()
        yield each
        if each.__class__ not in LEAVES:
            todo += children(each)


def opening(node: ast.AST, here: Scope, inner: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """The children of a node that opens a scope, each with the scope that it is looked up in."""
    if isinstance(node, FUNCTIONS):
        for each in parameters(node.args):
            inner.bind(each.arg, each)
    body = getattr(node, "body", children(node))  # of a comprehension all is its own
    own = set(map(id, body if isinstance(body, list) else [body]))
    for child in children(node):
        yield child, inner if id(child) in own else here


def parameters(args: ast.arguments) -> list[ast.arg]:
    more = [each for each in (args.vararg, args.kwarg) if each]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *more]


def defaults_of(args: ast.arguments) -> dict[ast.arg, ast.expr | None]:
    """The value of each parameter where the caller gives none."""
    named = [*args.posonlyargs, *args.args]
    defaults: dict[ast.arg, ast.expr | None] = dict(zip(reversed(named), reversed(args.defaults)))
    return {**defaults, **dict(zip(args.kwonlyargs, args.kw_defaults))}


# -- what each kind of node binds --------------------------------------------------------------------------


def record_import(scopes: Scopes, node: ast.Import, here: Scope) -> None:
    for item in node.names:
        short = item.name.split(".")[0]
        here.bind(item.asname or short, node, item.name if item.asname else short)


def record_import_from(scopes: Scopes, node: ast.ImportFrom, here: Scope) -> None:
    prefix = "." * node.level + f"{node.module or ''}."
    for item in node.names:
        if item.name == "*":
            scopes.star = True
            if node.module in STARRED and not node.level:
                for name in STARRED[node.module]:
                    here.bind(name, node, f"{node.module}.{name}")
        else:
            here.bind(item.asname or item.name, node, prefix + item.name)


STARRED = {
    "concurrent.futures": ("ThreadPoolExecutor", "ProcessPoolExecutor", "wait", "as_completed"),
    "time": ("sleep",),
}


def record_definition(scopes: Scopes, node: ast.FunctionDef, here: Scope) -> None:
    here.bind(node.name, node)


def record_name(scopes: Scopes, node: ast.Name, here: Scope) -> None:
    if not isinstance(node.ctx, ast.Store):  # a `del` names what it deletes, and gives it no other value
        scopes.known_reads.setdefault(node.id, []).append(node)
        return
    while here.outer and isinstance(here.node, COMPREHENSIONS) and isinstance(scopes.parents[node], ast.NamedExpr):
        here = here.outer
    here.bind(node.id, node, value=value_assigned(scopes, node))


def record_attribute(scopes: Scopes, node: ast.Attribute, here: Scope) -> None:
    if isinstance(node.ctx, ast.Store):
        scopes.known_written.setdefault(node.attr, []).append((node, value_assigned(scopes, node)))


def value_assigned(scopes: Scopes, node: ast.expr) -> ast.expr | None:
    """The expression that the target is bound to, None where it is unpacked, looped over or deleted."""
    parent = scopes.parents[node]
    if isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
        return parent.value or UNSET
    whole = scopes.parents.get(parent) if isinstance(parent, ast.Tuple) else None
    value = whole.value if isinstance(whole, ast.Assign) else None
    if isinstance(parent, ast.Tuple) and isinstance(value, ast.Tuple) and is_plain(parent) and is_plain(value):
        pairs = dict(zip(parent.elts, value.elts))  # a, b = f(), g()
        return pairs[node] if len(parent.elts) == len(value.elts) else None
    if isinstance(parent, ast.withitem) and not isinstance(scopes.parents[parent], ast.AsyncWith):
        return parent.context_expr
    return None


def is_plain(node: ast.Tuple) -> bool:
    return not any(isinstance(each, ast.Starred) for each in node.elts)


def record_declared(scopes: Scopes, node: ast.Global | ast.Nonlocal, here: Scope) -> None:
    scopes.declaring.append(here)
    for each in node.names:
        here.declared[each] = type(node)
        if isinstance(node, ast.Global):  # bound there by a function: its values are looked at as well
            scopes.module.names.setdefault(each, [])


def record_handler(scopes: Scopes, node: ast.ExceptHandler, here: Scope) -> None:
    if node.name:
        here.bind(node.name, node)


def record_match(scopes: Scopes, node: ast.AST, here: Scope) -> None:
    taken = getattr(node, "name", None) or getattr(node, "rest", None)
    if taken:
        here.bind(taken, node)


def record_call(scopes: Scopes, node: ast.Call, here: Scope) -> None:
    scopes.known_calls.append(node)


RECORDS: dict[type[ast.AST], Callable[..., None]] = {
    ast.Call: record_call,
    ast.Import: record_import,
    ast.ImportFrom: record_import_from,
    ast.FunctionDef: record_definition,
    ast.ClassDef: record_definition,
    ast.AsyncFunctionDef: record_definition,
    ast.Name: record_name,
    ast.Attribute: record_attribute,
    ast.Global: record_declared,
    ast.Nonlocal: record_declared,
    ast.ExceptHandler: record_handler,
    **{getattr(ast, kind): record_match for kind in ("MatchAs", "MatchStar", "MatchMapping") if hasattr(ast, kind)},
}
