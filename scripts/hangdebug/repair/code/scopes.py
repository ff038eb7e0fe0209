"""A parsed file that knows its scopes: which function runs a node, what a name stands for.

Scope is a stack, not a flag: a `def` inside an `async def` is synchronous. A comprehension runs where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Mapping

import libcst as cst
from libcst import metadata

MODULES = ("concurrent.futures", "concurrent.futures.thread", "concurrent.futures.process")
CLASSES = ("ThreadPoolExecutor", "ProcessPoolExecutor")
EXECUTORS = frozenset(f"{module}.{name}" for module in MODULES for name in CLASSES)
OWN_EXIT = {"__enter__", "__exit__", "shutdown", "__getattr__", "__getattribute__"}
FRAMES = (cst.FunctionDef, cst.Lambda, cst.ClassDef, cst.Module)


@dataclass(frozen=True)
class Tree:
    """A module with, for each of its nodes, the parent, the span (lines from 1) and the scope."""

    module: cst.Module
    parents: Mapping[cst.CSTNode, cst.CSTNode]
    spans: Mapping[cst.CSTNode, metadata.CodeRange]
    scopes: Mapping[cst.CSTNode, metadata.Scope]

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def line(self, node: cst.CSTNode) -> int:
        return self.spans[node].start.line

    def start(self, node: cst.CSTNode) -> tuple[int, int]:
        return self.spans[node].start.line, self.spans[node].start.column

    def end(self, node: cst.CSTNode) -> tuple[int, int]:
        return self.spans[node].end.line, self.spans[node].end.column

    def text(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)


def parse(source: str) -> Tree:
    """Raises cst.ParserSyntaxError, and RecursionError where the source nests too deeply."""
    wrapper = metadata.MetadataWrapper(
        cst.parse_module(source), unsafe_skip_copy=True
    )  # the parser gives each node once
    found = wrapper.resolve_many([metadata.ParentNodeProvider, metadata.PositionProvider, metadata.ScopeProvider])
    return Tree(wrapper.module, *found.values())


def frame(tree: Tree, node: cst.CSTNode) -> cst.CSTNode:
    """What runs `node`: decorators, defaults and annotations belong to the frame around their function."""
    for parent in tree.above(node):
        inside = not isinstance(parent, (cst.FunctionDef, cst.Lambda, cst.ClassDef)) or node is parent.body
        if isinstance(parent, FRAMES) and inside:
            return parent
        node = parent
    return tree.module


def subtree(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from subtree(child)


def in_order(tree: Tree, kind: type) -> list:
    return sorted((node for node in tree.parents if isinstance(node, kind)), key=tree.start)


def coroutine(tree: Tree, node: cst.CSTNode) -> cst.FunctionDef | None:
    """The `async def` whose frame runs `node`, None where that frame is anything else."""
    found = frame(tree, node)
    return found if isinstance(found, cst.FunctionDef) and found.asynchronous else None


def dotted(node: cst.CSTNode) -> str:
    """`app.state.pool` for such an expression, "" for any other."""
    if isinstance(node, cst.Name):
        return node.value
    base = dotted(node.value) if isinstance(node, cst.Attribute) else ""
    return f"{base}.{node.attr.value}" if base else ""


def qualified(tree: Tree, node: cst.CSTNode) -> set[str]:
    """Every name that imports and assignments give `node`, as "concurrent.futures.wait"."""
    scope = tree.scopes.get(node)
    return {name.name for name in scope.get_qualified_names_for(node)} if scope else set()


def executor_class(tree: Tree, node: cst.CSTNode, depth: int = 5) -> bool:
    """Whether `node` names an executor of concurrent.futures, whatever the name it was imported under.

    Followed: a second name (`Pool = ThreadPoolExecutor`) and a subclass in the same file that leaves the exit alone.
    """
    if isinstance(node, cst.IfExp):  # Pool = ProcessPoolExecutor if heavy else ThreadPoolExecutor
        return executor_class(tree, node.body, depth) and executor_class(tree, node.orelse, depth)
    names = qualified(tree, node)
    if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name) and node.value in tree.scopes:
        values = filter(
            None, [assigned(tree, getattr(item, "node", node)) for item in tree.scopes[node.value][node.value.value]]
        )
        second = {f"{name}.{node.attr.value}" for value in values for name in qualified(tree, value)}
        names = second & EXECUTORS or names
    if names and names <= EXECUTORS:
        return True
    if not isinstance(node, cst.Name) or node not in tree.scopes or not depth:
        return False
    assignments = tree.scopes[node][node.value]
    if not assignments:
        return node.value in CLASSES and star_import(tree)
    return all(alias(tree, getattr(found, "node", None), depth - 1) for found in assignments)


def alias(tree: Tree, node: cst.CSTNode | None, depth: int) -> bool:
    if isinstance(node, cst.ClassDef):
        own = {item.name.value for item in node.body.body if isinstance(item, cst.FunctionDef)}
        plain = not own & OWN_EXIT and len(node.bases) == 1
        return plain and executor_class(tree, node.bases[0].value, depth)
    if isinstance(node, (cst.Import, cst.ImportFrom)):
        names = {name for alias_ in node.names for name in imported(node, alias_)}
        return bool(names & EXECUTORS)
    value = assigned(tree, node) if node else None
    return value is not None and executor_class(tree, value, depth)


def imported(node: cst.Import | cst.ImportFrom, item: cst.ImportAlias) -> set[str]:
    module = dotted(node.module) + "." if isinstance(node, cst.ImportFrom) and node.module else ""
    return {module + dotted(item.name)}


def star_import(tree: Tree) -> bool:
    lines = [line for line in tree.module.body if isinstance(line, cst.SimpleStatementLine)]
    imports = [item for line in lines for item in line.body if isinstance(item, cst.ImportFrom)]
    return any(
        isinstance(item.names, cst.ImportStar) and not item.relative and item.module and dotted(item.module) in MODULES
        for item in imports
    )


def creates(tree: Tree, node: cst.CSTNode | None) -> bool:
    """Whether `node` is a call that makes an executor, or makes one on either branch."""
    if isinstance(node, cst.IfExp):
        return creates(tree, node.body) and creates(tree, node.orelse)
    if not isinstance(node, cst.Call):
        return False
    fields = [arg.value for arg in node.args if arg.keyword and arg.keyword.value == "default_factory"]
    if fields and "dataclasses.field" in qualified(tree, node.func):
        made = (
            fields[0].body.func
            if isinstance(fields[0], cst.Lambda) and isinstance(fields[0].body, cst.Call)
            else fields[0]
        )
        return executor_class(tree, made)
    return executor_class(tree, node.func) or factory(tree, node.func)


def factory(tree: Tree, name: cst.BaseExpression) -> bool:
    """Whether the name is a plain function of the file that returns a fresh pool of threads each time."""
    scope = tree.scopes.get(name) if isinstance(name, cst.Name) else None
    found = [getattr(item, "node", None) for item in scope[name.value]] if scope else []
    home = found[0] if len(found) == 1 and isinstance(found[0], cst.FunctionDef) else None
    if home is None or home.decorators or home.asynchronous:
        return False
    inside = [
        node for node in subtree(home.body) if isinstance(node, (cst.Return, cst.Yield)) and frame(tree, node) is home
    ]
    made = [node.value.func if isinstance(node.value, cst.Call) else None for node in inside]
    threads = [
        each
        for each in made
        if each is not None
        and executor_class(tree, each)
        and not any(said.endswith(CLASSES[1]) for said in qualified(tree, each))
    ]
    return bool(made) and threads == made


def assigned(tree: Tree, target: cst.CSTNode) -> cst.CSTNode | None:
    """The expression that `target` is bound to, None where it is unpacked, looped over or only declared."""
    parent = tree.parents.get(target)
    if isinstance(parent, cst.AssignTarget):
        return tree.parents[parent].value
    if isinstance(parent, (cst.AnnAssign, cst.NamedExpr)) and parent.target is target:
        return parent.value
    if isinstance(parent, cst.AsName) and isinstance(tree.parents[parent], cst.WithItem):
        return tree.parents[parent].item
    return None


def holds_executor(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether everything assigned to `node` is an executor, or None before there is one.

    A name is looked up in its scope. `self.pool` is looked up in the class around it, `app.state.pool` in
    the function around it. A parameter is unknown, whatever its annotation says.
    """
    values = [assigned(tree, target) for target in targets(tree, node)] + cached(tree, node)
    real = [value for value in values if not (isinstance(value, cst.Name) and value.value == "None")]
    return bool(real) and all(creates(tree, value) for value in real)


def cached(tree: Tree, node: cst.CSTNode) -> list:
    """What the property of the class returns that `self.pool` reads, if it keeps it."""
    home = next((up for up in tree.above(node) if isinstance(up, cst.ClassDef)), None)
    own = home.body.body if home and isinstance(node, cst.Attribute) and dotted(node.value) == "self" else ()
    return [
        each.value
        for item in own
        if isinstance(item, cst.FunctionDef)
        and item.name.value == node.attr.value
        and any(dotted(part.decorator).endswith("cached_property") for part in item.decorators)
        for each in subtree(item.body)
        if isinstance(each, cst.Return)
    ]


def targets(tree: Tree, node: cst.CSTNode) -> list[cst.CSTNode]:
    """Where the name or attribute that `node` reads is assigned, declarations without a value left out."""
    if isinstance(node, cst.Name):
        found = [getattr(item, "node", node) for item in tree.scopes[node][node.value]]
    else:
        name = dotted(node)
        if at_module(tree, node):  # app.state.pool of a module's `app`, wherever the file sets it
            return [
                other
                for other in tree.parents
                if isinstance(other, cst.Attribute)
                and written(tree, other)
                and dotted(other) == name
                and at_module(tree, other)
            ]
        kind = cst.ClassDef if name.split(".")[0] in ("self", "cls") else cst.FunctionDef
        home = next((parent for parent in tree.above(node) if isinstance(parent, kind)), None)
        found = [
            other
            for other in tree.parents
            if name
            and home
            and type(other) in (cst.Attribute, cst.Name)
            and written(tree, other)
            and dotted(other) in ({name, name.split(".", 1)[1]} if kind is cst.ClassDef else {name})
            and next((up for up in tree.above(other) if isinstance(up, kind)), None) is home
            and (isinstance(other, cst.Attribute) or frame(tree, other) is home)
        ]
    bare = [item for item in found if isinstance(tree.parents.get(item), cst.AnnAssign)]
    return [item for item in found if item not in bare or tree.parents[item].value is not None]


def at_module(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether an attribute is one of something that the module itself binds."""
    root = leftmost(node)
    scope = tree.scopes.get(root) if isinstance(root, cst.Name) and root is not node else None
    found = list(scope[root.value]) if scope else []
    return bool(found) and all(isinstance(item.scope, metadata.GlobalScope) for item in found)


def written(tree: Tree, node: cst.CSTNode) -> bool:
    parent = tree.parents[node]
    kinds = (cst.AssignTarget, cst.NamedExpr, cst.AsName, cst.AnnAssign, cst.AugAssign, cst.For)
    return isinstance(parent, kinds) and getattr(parent, "target", node) is node


def references(tree: Tree, target: cst.Name | cst.FunctionDef) -> list[cst.CSTNode]:
    """The places that read the name, those in closures included, in source order."""
    name = target.name.value if isinstance(target, cst.FunctionDef) else target.value
    nodes = {access.node for item in tree.scopes[target][name] for access in item.references}
    return sorted((leftmost(node) for node in nodes), key=tree.start)


def leftmost(node: cst.CSTNode) -> cst.CSTNode:
    while isinstance(node, cst.Attribute):
        node = node.value
    return node
