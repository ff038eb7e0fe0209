"""The scopes of a file and what each binds, read from Python's own syntax tree.

Scope is a stack, not a flag: a `def` inside an `async def` is synchronous. Decorators, defaults and the first
iterable of a comprehension belong to the scope around; a comprehension has a scope, but runs where it stands.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any, Callable

from hangdebug.evidence.light import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
OPENS = frozenset((*FUNCTIONS, ast.ClassDef, *COMPREHENSIONS))
PLAIN = frozenset(("ctx", "op"))  # the fields of no interest
ATOMS = frozenset((str, int, bool, type(None)))  # what a field holds beside nodes and lists of them
UNSET = ast.Constant(None)  # what a name that is only declared holds


@dataclass(frozen=True, eq=False)
class Binding:
    """One place that gives a name its meaning: an import's dotted name, or the value that is assigned."""

    node: ast.AST
    qualified: str = ""
    value: ast.expr | None = None


@dataclass(eq=False)
class Scope:
    """`names` holds the bindings of each name, `declared` those that a statement calls global or nonlocal."""

    node: ast.AST
    outer: Scope | None
    names: dict[str, list[Binding]] = field(default_factory=dict)
    declared: dict[str, type] = field(default_factory=dict)

    def bind(self, name: str, node: ast.AST, qualified: str = "", value: ast.expr | None = None) -> None:
        self.names.setdefault(name, []).append(Binding(node, qualified, value))


@dataclass(eq=False)
class Scopes:
    """For each node its parent and the scope that it is looked up in; `opened` is the scope that it opens.

    `unread` are the definitions of another file's module that nobody has asked for by their names, `written` the
    attributes that are written, with what, `declaring` the scopes with a global or nonlocal statement; `star` says
    whether a star import may have bound anything.
    """

    module: Scope
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    of: dict[ast.AST, Scope] = field(default_factory=dict)
    opened: dict[ast.AST, Scope] = field(default_factory=dict)
    seen: dict[str, list[ast.Name]] = field(default_factory=dict)
    written: dict[str, list[tuple[ast.Attribute, ast.expr | None]]] = field(default_factory=dict)
    called: list[ast.Call] = field(default_factory=list)
    declaring: list[Scope] = field(default_factory=list)
    unread: set[ast.AST] = field(default_factory=set)
    fill: Callable[[ast.AST], None] | None = None  # parses one of these
    star: bool = False

    @property
    def reads(self) -> dict[str, list[ast.Name]]:
        """The places of the whole file that read each name."""
        self.read_rest()
        return self.seen

    @property
    def attributes(self) -> dict[str, list[tuple[ast.Attribute, ast.expr | None]]]:
        """What the whole file writes to attributes, by their last names."""
        self.read_rest()
        return self.written

    @property
    def calls(self) -> list[ast.Call]:
        """Every call of the file, in source order."""
        self.read_rest()
        return self.called

    def read_rest(self) -> None:
        if self.unread:
            self.read(list(self.unread))
            self.called.sort(key=in_source)

    def read(self, nodes: Iterable[ast.AST]) -> None:
        """What these define, if that is not read yet."""
        for node in self.unread.intersection(nodes) if self.unread else ():
            self.unread.remove(node)
            if self.fill:
                self.fill(node)
            read_below(self, node)


class Fields(dict[type, tuple[str, ...]]):
    """For each kind of node the fields that may hold nodes."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        leaf = kind in (ast.Name, ast.Constant)
        self[kind] = () if leaf else tuple(name for name in kind._fields if name not in PLAIN)
        return self[kind]


FIELDS = Fields()


def read_scopes(
    tree: ast.Module, unread: Iterable[ast.AST] = (), fill: Callable[[ast.AST], None] | None = None
) -> Scopes:
    """The scopes of the tree; a definition that is `unread` is filled and read once it is looked up."""
    scopes = Scopes(Scope(tree, None), unread=set(unread), fill=fill)
    scopes.of[tree] = scopes.opened[tree] = scopes.module
    read_below(scopes, tree)
    scopes.called.sort(key=in_source)
    return scopes


def read_below(scopes: Scopes, top: ast.AST) -> None:
    """Without recursion: a generated expression may be deep. It runs for each node of each text: plain code is fast."""
    parents, of, unread = scopes.parents, scopes.of, scopes.unread
    todo: list[ast.AST] = [top]
    while todo:
        node = todo.pop()
        kind, here = node.__class__, of[node]
        record = RECORDS.get(kind)
        if record and node is not top:
            record(scopes, node, here)
        if unread and node in unread:
            continue
        if kind in OPENS or kind is ast.comprehension:
            for child, scope in with_scopes(scopes, node, here):
                parents[child], of[child] = node, scope
                todo.append(child)
            continue
        for child in children(node):
            parents[child], of[child] = node, here
            todo.append(child)


def in_source(node: ast.expr) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, -(node.end_lineno or 0), -(node.end_col_offset or 0)


def with_scopes(scopes: Scopes, node: ast.AST, here: Scope) -> Iterable[tuple[ast.AST, Scope]]:
    """The children of a node that opens a scope, or of a comprehension, each with the scope that it is looked up in."""
    if not isinstance(node, ast.comprehension):
        inner = scopes.opened[node] = Scope(node, here)
        return opening(node, here, inner)
    parent = scopes.parents[node]
    if isinstance(parent, COMPREHENSIONS) and parent.generators[0] is node:
        outer = scopes.of[parent]  # the first iterable is evaluated before the comprehension is entered
        return [(child, outer if child is node.iter else here) for child in children(node)]
    return [(child, here) for child in children(node)]


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below, but for what only says how a name is used or which operator it is."""
    found: list[ast.AST] = []
    for name in FIELDS[node.__class__]:
        value: Any = getattr(node, name, None)
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
        scopes.seen.setdefault(node.id, []).append(node)
        return
    while here.outer and isinstance(here.node, COMPREHENSIONS) and isinstance(scopes.parents[node], ast.NamedExpr):
        here = here.outer
    here.bind(node.id, node, value=value_assigned(scopes, node))


def record_attribute(scopes: Scopes, node: ast.Attribute, here: Scope) -> None:
    if isinstance(node.ctx, ast.Store):
        scopes.written.setdefault(node.attr, []).append((node, value_assigned(scopes, node)))


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
    scopes.called.append(node)


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
