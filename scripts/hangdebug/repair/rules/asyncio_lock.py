"""Guard coroutines with a lock of asyncio, not with one of threading.

    lock = threading.Lock()               lock = asyncio.Lock()
    async def save():                     async def save():
        with lock:                            async with lock:
            await write()                         await write()

While the first coroutine awaits inside of the block, the second one waits for the lock on the loop's own thread.
So the first never goes on, and the loop hangs for ever.

What changes: the second one waits without blocking. `asyncio.Lock()` outside of a coroutine needs Python 3.10; in
3.9 it belongs to the loop that is current when it is made.

The rewrite is made only where every use of the lock in the file is a `with` block of a coroutine, at least one of
them with an await in it, and where no other file can mean to use it: it is local to a function, or its name starts
with an underscore. Otherwise the block that awaits is refused aloud, with the reason.

Left alone: locks that no coroutine holds across an await (on one thread nobody can wait for them), RLock and
Condition, locks of asyncio, and names that are not known to be a lock.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.repair.code.await_places import ANY_LOOP, TAKEN, any_loop, import_needed
from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.file import File, dotted
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.model import Edit

ID, CODE = "asyncio_lock", "HNG003"
NEEDS = (Need((("async",), ("threading",), ("Lock",))),)
PAUSES = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield)
THREADS = (
    "threading.Thread",
    "threading.Timer",
    "asyncio.run",
    "asyncio.new_event_loop",
    "asyncio.to_thread",
    "asyncio.Runner",
    "concurrent.futures.ThreadPoolExecutor",
)


def search(file: File) -> Iterator[Found]:
    for call in file.calls_of("Lock"):
        if file.qualified(call.func) == "threading.Lock" and not call.args and not call.keywords:
            target = name_of_lock(file, call)
            blocks = (
                [block for block in blocks_holding(file, target) if has_await(file, block)]
                if target is not None
                else []
            )
            if target is not None and blocks:
                yield answer(file, call, target, blocks)


def name_of_lock(file: File, call: ast.Call) -> ast.expr | None:
    """The one name or attribute that the lock is kept in, if nothing else ever is."""
    parent = file.parent(call)
    targets = parent.targets if isinstance(parent, ast.Assign) else []
    targets = [parent.target] if isinstance(parent, ast.AnnAssign) else targets
    plain = [each for each in targets if isinstance(each, ast.Name) or dotted(each).startswith("self.")]
    return plain[0] if len(targets) == len(plain) == 1 and len(file.values(plain[0])) == 1 else None


def blocks_holding(file: File, target: ast.expr) -> list[ast.With]:
    """The `with` blocks that hold the lock."""
    return [up for use in file.uses(target) for up in [block_of(file, use)] if up is not None]


def block_of(file: File, use: ast.expr) -> ast.With | None:
    item = file.parent(use)
    block = file.parent(item) if isinstance(item, ast.withitem) and item.context_expr is use else None
    return block if isinstance(block, ast.With) else None


def has_await(file: File, block: ast.With) -> bool:
    owner = file.coroutine(block)
    return owner is not None and any(
        isinstance(node, PAUSES) and file.frame(node) is owner for line in block.body for node in walk(line)
    )


def answer(file: File, call: ast.Call, target: ast.expr, blocks: list[ast.With]) -> Found:
    name, line = dotted(target), blocks[0].lineno
    said = (
        f"line {line} holds `{name}`, a lock of threading, across an await: the next coroutine that wants it "
        "blocks the event loop for ever"
    )
    reason = why_not(file, call, target)
    if reason:
        return Found(blocks[0], f"{said}, but {reason}", refused=True)
    edits = [Edit(file.start(call.func), file.end(call.func), "asyncio.Lock")]
    for block in blocks_holding(file, target):
        edits += [Edit(file.start(block), file.start(block), "async ")]
    early = "" if file.coroutine(call) else ", which outside of a coroutine needs Python 3.10"
    return Found(
        call, f"{said}; it becomes an asyncio.Lock{early}", tuple(edits), import_needed(file, call, "asyncio") or ()
    )


def why_not(file: File, call: ast.Call, target: ast.expr) -> str:
    name = dotted(target).split(".")[-1]
    for use in file.uses(target):
        block = block_of(file, use)
        if block is None or file.coroutine(block) is None:
            return (
                f"line {use.lineno} uses it outside of a coroutine's `with` block: guard each side by a lock of its own"
            )
        if len(block.items) > 1 or block.items[0].optional_vars:
            return f"line {block.lineno} enters it together with something else: make it a block of its own"
    for node in other_uses(file, target, name):
        return f"line {file.line(node)} may use it too, outside of the class or by its name: look at that first"
    made = file.lookup(target, name)[0] if isinstance(target, ast.Name) else None
    public = not name.startswith("_") and (made is None or made is file.scopes.module)
    if public:
        return f"other files may use `{name}`: if none does, make it an asyncio.Lock and each block `async with`"
    other = next((each for each in file.calls if file.qualified(each.func) in THREADS), None)
    if other is not None:
        return f"line {other.lineno} may run coroutines or functions in another thread: an asyncio.Lock guards one loop"
    if any_loop(file):
        return ANY_LOOP
    return TAKEN.format("asyncio") if import_needed(file, call, "asyncio") is None else ""


def other_uses(file: File, target: ast.expr, name: str) -> Iterator[ast.AST]:
    """What may mean the lock without being one of its uses: `other._lock`, a subclass, `getattr(self, "_lock")`."""
    inside = isinstance(target, ast.Attribute)
    if not inside and file.lookup(target, name)[0] is not file.scopes.module:
        return
    own = set(file.uses(target))
    for node in file.nodes():
        if isinstance(node, ast.Constant) and node.value == name:
            yield node
        same = isinstance(node, ast.Attribute) and node.attr == name and node is not target and node not in own
        if inside and same and not is_of_another_class(file, node, file.home(target)):
            yield node


def is_of_another_class(file: File, node: ast.AST, home: ast.ClassDef | None) -> bool:
    """Whether it is an attribute that another class, without a base, gives itself."""
    other = file.home(node)
    return other not in (None, home) and not other.bases and bool(file.values(node))
