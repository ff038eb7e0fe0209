"""Hand a call that blocks to a thread, and await it.

    page = requests.get(url, timeout=5)   page = await asyncio.to_thread(requests.get, url, timeout=5)
    text = open(path).read()              text = await asyncio.to_thread(lambda: open(path).read())

In a coroutine such a call holds up every other request until it returns. In a thread it holds up its own alone.

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) may arrive there. The call
itself cannot be cancelled: it ends in its thread, one of the few of the loop's default executor, so give it a timeout.

Known are: `requests`, `httpx` and `urlopen().read()`, `subprocess`, name lookups, password hashing, `sqlite3`,
`open().read()`, `input()`, and the waiting methods of threads, processes, queues and locks, where the file shows what
the receiver is; the clients of databases, stores, models and mail in `code/blocking.py`, by what made or annotates the
receiver, in this file or another of the tree; and plain functions, methods and constructors of the tree that call one
of the first of these, or sleep.

Refused aloud: what a thread cannot take over (a sqlite3 connection, a Session that coroutines share, a streamed
response, a session or connection that serves several calls, an open file), what would wait for ever in its thread
after a cancellation (a queue without a timeout, a lock), `asyncio.run()`, which raises in a running loop, and each
place where no await can stand: a held lock of threads, a `finally`, between two lines that rely on each other.

Left alone: synchronous code, also inside a coroutine; receivers that are not known; calls that do not wait
(`get(block=False)`, `acquire(blocking=False)`), or that look first whether there is anything; a lock that is given
back before the next await; a queue that never leaves the function; a join in a `finally`; files about trio or curio.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.await_places import (
    call_in_thread,
    imports_for_thread,
    never_runs,
    other_loop,
    parenthesize,
    thread_head,
    thread_shown,
    why_no_await,
)
from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.blocking import (
    COMPUTES,
    DATABASE,
    DISK,
    OWN,
    PEER,
    RUNS,
    SHARED,
    WHOLE,
    fetches_later,
    known_to_block,
)
from hangdebug.repair.code.file import File, dotted, is_zero, last_name
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.receivers import function_called, is_plain, kind_elsewhere, what_is
from hangdebug.repair.code.stopping import BY_HAND, what_loads_anew
from hangdebug.repair.code.thread_safety import why_on_loop
from hangdebug.repair.model import Edit

ID, CODE = "to_thread", "HNG007"
VERBS = "get post put patch delete head options request".split()
CHILD, NAMES = "waits for a child process", "waits for the name service"
PERSON, ENDS = "waits for a line of input", "waits until the other one has ended"
HASH = "computes for a long time, on purpose"
FUNCTIONS = {
    **{f"{module}.{verb}": PEER for module in ("requests", "requests.api", "httpx") for verb in VERBS},
    **{
        f"subprocess.{verb}": CHILD
        for verb in ("run", "call", "check_call", "check_output", "getoutput", "getstatusoutput")
    },
    **{f"socket.{verb}": NAMES for verb in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getaddrinfo")},
    "os.system": CHILD,
    **dict.fromkeys(("builtins.input", "getpass.getpass", "sys.stdin.readline", "sys.stdin.read"), PERSON),
    "bcrypt.hashpw": HASH,
    "bcrypt.checkpw": HASH,
    "hashlib.pbkdf2_hmac": HASH,
    "hashlib.scrypt": HASH,
}
QUEUES = (
    *(f"queue.{kind}" for kind in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue")),
    *(f"multiprocessing.{kind}" for kind in ("Queue", "JoinableQueue", "SimpleQueue")),
)
CONTEXT = "multiprocessing.get_context()."  # what it makes is what the module makes
METHODS = {
    **{(maker, verb): PEER for maker in ("requests.Session", "requests.session", "httpx.Client") for verb in VERBS},
    **{(maker, "join"): ENDS for maker in ("threading.Thread", "multiprocessing.Process", "threading.Timer")},
    **{("subprocess.Popen", verb): CHILD for verb in ("wait", "communicate")},
    **{(maker, "get"): "waits until something is in the queue" for maker in QUEUES},
    **{(maker, "put"): "waits while the queue is full" for maker in QUEUES},
    **{(maker, "join"): "waits until all of it is done" for maker in ("queue.Queue", "multiprocessing.JoinableQueue")},
    **{
        (f"threading.{maker}", "acquire"): "waits until the lock is free"
        for maker in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition")
    },
    **{
        (f"{module}.{maker}", "wait"): "waits until another thread or process goes on"
        for module in ("threading", "multiprocessing")
        for maker in ("Event", "Condition", "Barrier")
    },
    ("argon2.PasswordHasher", "hash"): HASH,
    ("argon2.PasswordHasher", "verify"): HASH,
    ("passlib.context.CryptContext", "hash"): HASH,
    ("passlib.context.CryptContext", "verify"): HASH,
}
LONG = (
    PEER,
    CHILD,
    NAMES,
    PERSON,
    HASH,
    DATABASE,
    COMPUTES,
    RUNS,
)  # what a function may block with, for its callers to be told
MOMENT = 0.01  # s
SMALL = 256  # px a side: to write such an image, in one colour, as PNG took 0.9 ms
DEEP = 3  # calls from one function of the tree to the next
GENERATES = (ast.Yield, ast.YieldFrom)
CHOICES = (ast.If, ast.IfExp, ast.BoolOp, ast.ExceptHandler, ast.While)
READS = ("read", "readlines", "readline")
HEAD = frozenset("status code reason headers url msg version getcode geturl info getheader getheaders close".split())
SQLITE = ("execute", "executemany", "executescript", "commit")
WAITING = frozenset((*SQLITE, *(verb for _, verb in METHODS)))
NEEDS = (Need((("async",), ("def ",))),)  # what blocks may stand in another file
NOT_SHARED = (
    "others may use the same object meanwhile, which is not made for several threads at once: make one in a function, "
    "and hand that to asyncio.to_thread()"
)
GIVEN = (
    "`{}` is called on what comes from outside of that function and belongs to one thread at a time: make it in the "
    "function, and hand that to asyncio.to_thread()"
)
IN_ROUNDS = (
    "it does so in each round of the loop over it: hand a function that returns the list of it to asyncio.to_thread()"
)
OF_ITS_THREAD = (
    "a sqlite3 connection belongs to the thread that made it: connect, execute and close in one function, and hand "
    "that to asyncio.to_thread()"
)
NEXT_LINE = (
    "a cancellation would leave its thread waiting, which takes the next line for nobody and keeps the process from "
    "its exit: read in a daemon thread, which hands each line over by loop.call_soon_threadsafe()"
)
ASYNC_QUEUE = "use asyncio.Queue, which threads fill by loop.call_soon_threadsafe(queue.put_nowait, item)"
LATER = "{} read later, on the loop again: hand a function to asyncio.to_thread() that {}"


@dataclass(frozen=True)
class Blocking:
    """One call that blocks: `name` as a person writes it, what it does, and why it must stay where it is."""

    node: ast.Call
    name: str
    does: str
    refusal: str = ""
    whole: bool = False  # the whole chain goes to the thread, as a lambda
    held: bool = False  # what it is called on belongs to one thread at a time


def search(file: File) -> Iterator[Found]:
    taken: list[ast.AST] = []
    for node in file.calls_in_coroutines if not other_loop(file) else ():
        if isinstance(file.parent(node), ast.Await):
            continue
        known = known_blocking(file, node) or blocking_helper(file, node)
        if known and not never_runs(file, node) and not any(up in taken for up in file.above(node)):
            item = answer(file, known)
            taken += [node] if known.whole and item.edits else []
            yield item


def answer(file: File, known: Blocking) -> Found:
    node = known.node
    said = f"{known.name}() {known.does} on the event loop's thread"
    reason = known.refusal or why_no_await(file, node)
    edits = None if reason else lambda_call(file, node) if known.whole else call_in_thread(file, node)
    if edits is None:
        reason = reason or "its parentheses or line breaks are unusual: write it plainly first"
        return Found(node, f"{said}, but {reason}", refused=True)
    shown = "lambda: ..." if known.whole else f"{file.short(node.func)}, ..."
    message = f"{said}; it becomes `await {thread_shown(file)}{shown})`"
    stays = what_loads_anew(file, [node]) or what_runs_on(file, node)
    return Found(node, message, edits, imports_for_thread(file, node), stays=stays)


def what_runs_on(file: File, node: ast.Call) -> str:
    """What the await of a thread's end leaves: a client that is gone before that does not end the thread."""
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    if receiver is None or last_name(node.func) != "join" or file.maker(receiver) != "threading.Thread":
        return ""
    given = [each for value in file.values(receiver) for each in getattr(value, "keywords", ())]
    waits = "" if any(each.arg == "daemon" for each in given) else ", and the exit of the process waits for it"
    return f"line {file.line(node)}: `{dotted(receiver)}` runs on after a client has left earlier{waits}; {BY_HAND}"


def lambda_call(file: File, node: ast.Call) -> tuple[Edit, ...]:
    start, end = file.start(node), file.end(node)
    before, after = parenthesize(file, node)
    return (*before, Edit(start, start, f"await {thread_head(file)}lambda: "), Edit(end, end, ")"), *after)


def known_blocking(file: File, node: ast.Call) -> Blocking | None:
    """What is known of the call, None where nothing is, or where it does not wait."""
    name = file.qualified(node.func)
    if name == "socket.getaddrinfo" and (len(node.args) > 5 or any(each.arg == "flags" for each in node.keywords)):
        return None  # AI_NUMERICHOST asks nobody
    if name == "urllib.request.urlopen" and getattr(file.parent(node), "attr", "") not in READS:
        unread = reads_no_body(file, node)
        return Blocking(node, name, PEER, "" if unread else LATER.format("the body is", "opens and reads it"))
    if name in FUNCTIONS:
        return Blocking(node, name.replace("builtins.", ""), FUNCTIONS[name], why_unfit(file, node, name))
    if not isinstance(node.func, ast.Attribute):
        return library_call(file, node)
    receiver, verb = node.func.value, node.func.attr
    if verb in READS and isinstance(receiver, ast.Call) and opens(file, receiver):
        return opened_and_read(file, node, receiver, f"{dotted(receiver.func)}(...).{verb}")
    made = file.maker(receiver) or of_library(file, node.func) if verb in WAITING else ""
    if made == "sqlite3.connect" and verb in SQLITE:
        return sqlite_call(file, node, receiver, verb)
    does = METHODS.get((made, verb))
    if does is None:
        return library_call(file, node)
    if at_once(node, verb) or asks_first(file, node, receiver, verb) or is_harmless(file, node, receiver, made, verb):
        return None
    written = dotted(receiver) or f"{made}()"
    held = made in ("requests.Session", "requests.session")
    return Blocking(node, f"{written}.{verb}", does, why_unsafe(file, node, receiver, made, verb), held=held)


def of_library(file: File, method: ast.Attribute) -> str:
    """The library's class whose method it is, where an annotation or a class of the tree's own leads there."""
    made, _, verb = what_is(file, method).trail.replace(CONTEXT, "multiprocessing.").rpartition("().")
    return made if (made, verb) in METHODS else ""


def reads_no_body(file: File, node: ast.Call) -> bool:
    """Whether only what came with the head of the answer is read: its status, its headers."""
    up = file.parent(node)
    if isinstance(up, ast.Attribute):
        return up.attr in HEAD
    if isinstance(up, ast.Expr):
        return True
    name = up.optional_vars if isinstance(up, ast.withitem) else only_target(up)
    if isinstance(up, ast.withitem) and name is None:
        return True
    if not isinstance(name, ast.Name) or not file.owned_by(name, file.frame(node)):
        return False
    return all(
        isinstance(file.parent(use), ast.Attribute) and getattr(file.parent(use), "attr", "") in HEAD
        for use in file.uses(name)
    )


def only_target(node: ast.AST) -> ast.expr | None:
    return node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None


def blocking_helper(file: File, node: ast.Call) -> Blocking | None:
    """A plain function, method or constructor of the tree that blocks itself: it is handed to a thread whole."""
    found = function_called(file, node)
    waits = first_wait(*found, DEEP) if found else None
    if found is None or waits is None:
        return None
    other, home = found
    reason = waits.refusal or why_on_loop(other, home, Path(other.name).name, {home})
    return Blocking(node, file.short(node.func), f"{waits.name}, which {waits.does},", reason)


def first_wait(file: File, home: ast.FunctionDef, deep: int) -> Blocking | None:
    """The first call in the function that waits long: its name with its line, and why no thread may make it."""
    if (home, deep) not in file.memo:
        file.memo[home, deep] = None  # it may call itself
        file.memo[home, deep] = look_for_wait(file, home, deep)
    found = file.memo[home, deep]
    return found if isinstance(found, Blocking) else None


def look_for_wait(file: File, home: ast.FunctionDef, deep: int) -> Blocking | None:
    """The same. Of what it calls in turn, and of a constructor, only what always runs counts."""
    if not is_plain(home) or any(isinstance(each, GENERATES) for each in file.run_by(home)):
        return None
    calls = sorted((part for part in file.run_by(home) if isinstance(part, ast.Call)), key=file.start)
    if any(file.qualified(each.func) == "os.fork" for each in calls):  # what follows runs in another process
        return None
    direct = deep == DEEP and home.name != "__init__"
    for each in calls:
        if never_runs(file, each) or not (direct or always_runs(file, each, home)):
            continue
        sleeps = file.qualified(each.func) == "time.sleep" and not is_moment(each)
        known = Blocking(each, "time.sleep", "sleeps") if sleeps else known_blocking(file, each)
        if known and (sleeps or known.does in LONG or (known.does == ENDS and is_own(file, each, home))):
            given = known.held and is_given(file, each, home)
            refusal = known.refusal if known.does == RUNS else GIVEN.format(file.short(each.func)) if given else ""
            where = f"line {file.line(each)} of {Path(file.name).name}"
            verb = "calls" if deep == DEEP else "leads to"
            return replace(known, name=f"{verb} {known.name}() in {where}", refusal=refusal)
        inner = function_called(file, each) if deep > 1 and not known else None
        always = inner is not None and inner[1] is not home and always_runs(file, each, home)
        deeper = first_wait(*inner, deep - 1) if inner and always else None
        if deeper:
            return deeper
    return None


def is_own(file: File, join: ast.Call, home: ast.FunctionDef) -> bool:
    """Whether a function waits for a thread that it has made itself."""
    other = join.func.value if isinstance(join.func, ast.Attribute) else None
    return isinstance(other, ast.Name) and file.owned_by(other, home)


def is_moment(sleep: ast.Call) -> bool:
    """Whether a helper sleeps for less than a hundredth of a second, as some do to let threads run."""
    value = sleep.args[0].value if sleep.args and isinstance(sleep.args[0], ast.Constant) else None
    return isinstance(value, (int, float)) and value < MOMENT


def always_runs(file: File, node: ast.AST, home: ast.AST) -> bool:
    """Whether no condition, handler or loop stands between the function and the call."""
    for up in file.above(node):
        if up is home:
            return True
        if isinstance(up, CHOICES):
            return False
    return True


def is_given(file: File, call: ast.Call, home: ast.FunctionDef) -> bool:
    """Whether what the call is made on comes from outside of the function: others may have it too."""
    root: ast.AST = call.func
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        root = root.func if isinstance(root, ast.Call) else root.value
    bound = file.lookup(root, root.id)[1] if isinstance(root, ast.Name) else []
    made = [item.node for item in bound if not item.qualified]
    return any(isinstance(each, ast.arg) or file.frame(each) is not home for each in made)


def library_call(file: File, node: ast.Call) -> Blocking | None:
    """What is known of a call by the library that made its receiver, in whichever file."""
    if file.qualified(node.func) in ("builtins.list", "builtins.tuple", "builtins.sorted", "builtins.set"):
        return drawn_at_once(file, node)
    trail = "" if kind_elsewhere(file, node.func)[0] else what_is(file, node.func).trail
    known = known_to_block(trail) if trail else None
    if known is None:
        return looped_over(file, node, trail)
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    if known.does == DISK and node.args and what_is(file, node.args[0]).trail.startswith("io."):
        return None  # what stands in memory already
    if (
        known.does == COMPUTES
        and receiver is not None
        and trail.split(".")[-1] != "resize"
        and is_small(file, receiver)
    ):
        return None
    if at_once(node, trail.split(".")[-1]) or (opens(file, node) and getattr(file.parent(node), "attr", "") in READS):
        return None  # `open(path).read()` is told for the second call
    streams = any(each.arg == "stream" and not is_false(each.value) for each in node.keywords)
    refusal = known.refusal or (LATER.format("what comes is", "asks for it and reads all of it") if streams else "")
    if not refusal and known.fit == OWN and receiver is not None and not is_private(file, receiver):
        refusal = NOT_SHARED
    return Blocking(node, file.short(node.func), known.does, refusal, held=known.fit in (OWN, WHOLE))


def is_small(file: File, receiver: ast.expr) -> bool:
    """Whether it is an image that is made here, empty and no larger than an icon."""
    made = [receiver] if isinstance(receiver, ast.Call) else file.values(receiver)
    calls = [each for each in made if isinstance(each, ast.Call) and file.qualified(each.func) == "PIL.Image.new"]
    sizes = [part.elts for call in calls for part in call.args[1:2] if isinstance(part, (ast.Tuple, ast.List))]
    sides = [[each.value for each in size if isinstance(each, ast.Constant)] for size in sizes]
    small = [len(size) == 2 and all(isinstance(each, int) and each <= SMALL for each in size) for size in sides]
    return bool(made) and len(small) == len(made) and all(small)


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def is_private(file: File, receiver: ast.expr) -> bool:
    """Whether the function made all that the receiver comes from, and keeps it: `store.bucket(name).blob(path)`."""
    root: ast.expr = receiver
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name) or not file.owned_by(root, file.frame(receiver)):
        return not isinstance(root, ast.Name) or bool(file.qualified(root))
    values = file.values(root)
    return file.private(root) and all(value is not None and is_private(file, value) for value in values)


def drawn_at_once(file: File, node: ast.Call) -> Blocking | None:
    """`list(cursor)`, which fetches all."""
    trail = what_is(file, node.args[0]).trail if len(node.args) == 1 and isinstance(node.args[0], ast.expr) else ""
    known = fetches_later(trail) if trail else None
    if known is None:
        return None
    refusal = known.refusal or NOT_SHARED * (known.fit != SHARED and not is_private(file, node.args[0]))
    return Blocking(node, dotted(node.func), f"of `{file.short(node.args[0])}` {known.does}", refusal)


def looped_over(file: File, node: ast.Call, trail: str) -> Blocking | None:
    """A call whose answer is fetched while a loop runs over it."""
    known = fetches_later(f"{trail}()") if trail else None
    up = file.parent(node)
    places: list[ast.AST] = [node]
    if known and isinstance(up, ast.Assign) and isinstance(only_target(up), ast.Name):
        places = [use for use in file.uses(up.targets[0]) if file.frame(use) is file.frame(node)]
    if known is None or not any(getattr(file.parent(place), "iter", None) is place for place in places):
        return None
    return Blocking(node, file.short(node.func), known.does, known.why or IN_ROUNDS)


def opens(file: File, node: ast.Call) -> bool:
    return file.qualified(node.func) in ("builtins.open", "io.open", "urllib.request.urlopen")


def opened_and_read(file: File, node: ast.Call, opened: ast.Call, name: str) -> Blocking:
    """`open(path).read()`: both calls wait, so that both go, if what they are given is worth nothing by itself."""
    plain = (ast.Name, ast.Attribute, ast.Constant, ast.keyword, ast.expr_context, ast.JoinedStr, ast.FormattedValue)
    given = [*opened.args, *opened.keywords, *node.args, *node.keywords]
    odd = not all(isinstance(part, plain) for each in given for part in walk(each))
    peer = file.qualified(opened.func).startswith("urllib")
    refusal = "what it is given is computed there: give that a name of its own first" if odd else ""
    return Blocking(node, name, PEER if peer else "waits for the file", refusal, whole=True)


def at_once(node: ast.Call, verb: str) -> bool:
    """Whether the call says that it does not wait: `get(False)`, `acquire(blocking=False)`, `wait(0)`."""
    first = node.args[0] if node.args else None
    says = {each.arg: each.value for each in node.keywords}
    block = node.args[1:2] if verb == "put" else node.args[:1] if verb in ("get", "acquire") else ()
    flag = says.get("block", says.get("blocking", next(iter(block), None)))
    limit = says.get("timeout", first if verb in ("wait", "join") else None)
    return is_zero(flag) or is_zero(limit)


Answer = Literal["ready", "waits", "unclear", ""]
NOT: dict[Answer, Answer] = {"ready": "waits", "waits": "ready", "unclear": "unclear", "": ""}
LOOKS: dict[str, dict[str, Answer]] = {  # what each method that waits may be asked before, and what a yes says
    "get": {"empty": "waits", "qsize": "ready"},
    "put": {"full": "waits"},
    "wait": {"is_set": "ready", "poll": "unclear"},
    "join": {"is_alive": "waits"},
    "acquire": {"locked": "waits"},
    "communicate": {"poll": "unclear"},
}
LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def asks_first(file: File, node: ast.Call, receiver: ast.expr, verb: str) -> bool:
    """Whether a condition lets the call be reached only where it has nothing to wait for, as far as that is clear."""
    inner: ast.AST = node
    for up in file.above(node):
        for test, holds in conditions(up, inner):
            said = settled(test, receiver, verb)
            if said in ("unclear", "ready" if holds else "waits"):
                return True
        if isinstance(up, ast.For) and any(looks(each, receiver, verb) for each in walk(up.iter)):
            return True  # for _ in range(jobs.qsize())
        if up is file.frame(node):
            break
        inner = up
    return False


def conditions(up: ast.AST, inner: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """The tests that decide in the node `up` whether `inner`, a part of it, is reached, and how each comes out then."""
    if isinstance(up, (ast.If, ast.While, ast.IfExp)) and inner is not up.test:
        yield up.test, inner is up.body or (isinstance(up.body, list) and inner in up.body)
    if isinstance(up, ast.BoolOp) and isinstance(inner, ast.expr):
        yield from ((each, isinstance(up.op, ast.And)) for each in up.values[: up.values.index(inner)])
    for block in (getattr(up, field, None) for field in ("body", "orelse", "finalbody")):
        for each in block[: block.index(inner)] if isinstance(block, list) and inner in block else ():
            if isinstance(each, ast.While) or (isinstance(each, ast.If) and isinstance(each.body[-1], LEAVES)):
                yield each.test, False  # behind `if jobs.empty(): return`, or `while jobs.empty(): await ...`


def looks(node: ast.AST, receiver: ast.expr, verb: str) -> Answer:
    """What a yes of the node says of the wait, "" where it does not ask the receiver."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    return LOOKS.get(verb, {}).get(node.func.attr, "") if dotted(node.func.value) == dotted(receiver) else ""


def settled(test: ast.expr, receiver: ast.expr, verb: str) -> Answer:
    """Where the test holds, there is nothing to wait for ("ready"), or there is ("waits"); "" where it does not ask."""
    if isinstance(test, ast.NamedExpr):
        return settled(test.value, receiver, verb)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return NOT[settled(test.operand, receiver, verb)]
    if isinstance(test, ast.BoolOp):
        parts = [settled(each, receiver, verb) for each in test.values]
        wanted: Answer = "ready" if isinstance(test.op, ast.And) else "waits"
        return wanted if wanted in parts else "unclear" if "unclear" in parts else ""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and looks(test.left, receiver, verb):
        return compared(test, looks(test.left, receiver, verb))
    return looks(test, receiver, verb) or ("unclear" if any(looks(each, receiver, verb) for each in walk(test)) else "")


def compared(test: ast.Compare, yes: Answer) -> Answer:
    """The same of a comparison: `child.poll() is None`, `jobs.qsize() > 0`, `ready.is_set() == True`."""
    same, other = isinstance(test.ops[0], (ast.Is, ast.Eq)), isinstance(test.ops[0], (ast.IsNot, ast.NotEq))
    right = test.comparators[0]
    value = right.value if isinstance(right, ast.Constant) else ...
    if value is None and (same or other):
        return "waits" if same else "ready"  # poll() gives None while the child runs
    if value is True or value is False:
        return (yes if value is same else NOT[yes]) if same or other else "unclear"
    if value == 0 and yes == "ready":
        return "waits" if same else "ready" if other or isinstance(test.ops[0], ast.Gt) else "unclear"
    return "unclear"


def is_harmless(file: File, node: ast.Call, receiver: ast.expr, made: str, verb: str) -> bool:
    """A queue that nobody else can reach, or that is never full; a lock that is given back before anybody else runs."""
    if verb == "put" and not is_bounded(file, receiver):
        return True
    if made in QUEUES:  # `start(jobs.put)` hands it on, as `start(jobs)` does
        return file.private(receiver) and all(
            file.method_call(use, getattr(file.parent(use), "attr", "")) for use in file.uses(receiver)
        )
    if verb == "join":
        return has_ended(file, node, receiver)
    if verb != "acquire" or is_held_long(file, receiver):
        return False
    start, release, run = file.start(node), f"{dotted(receiver)}.release", list(file.run_by(file.frame(node)))
    back = [file.start(each) for each in run if isinstance(each, ast.Call) and dotted(each.func) == release]
    pauses = [file.start(each) for each in run if isinstance(each, (ast.Await, ast.AsyncFor, ast.AsyncWith))]
    return not any(start < pause < max(back, default=0) for pause in pauses)


def is_bounded(file: File, queue: ast.expr) -> bool:
    """Whether the queue is made with a number of items that it may have: `Queue(maxsize=100)`."""
    made = [value for value in file.values(queue) if isinstance(value, ast.Call)]
    said = [word.value for call in made for word in call.keywords if word.arg == "maxsize"]
    sizes = [*(each for call in made for each in call.args[:1]), *said]
    return any(isinstance(each, ast.Constant) and isinstance(each.value, int) and each.value > 0 for each in sizes)


def has_ended(file: File, node: ast.Call, receiver: ast.expr) -> bool:
    """Whether a thread is joined behind an await of what it was given to send: it ends by then."""
    given = {
        part.id
        for value in file.values(receiver)
        if isinstance(value, ast.Call)
        for part in walk(value)
        if isinstance(part, ast.Name)
    }
    return any(
        isinstance(each, ast.Await)
        and file.end(each) <= file.start(node)
        and any(isinstance(part, ast.Name) and part.id in given for part in walk(each))
        for each in file.run_by(file.frame(node))
    )


def is_held_long(file: File, lock: ast.expr) -> bool:
    """Whether a plain function of the file, which threads may run, holds the lock while it waits for something."""
    items = [file.parent(use) for use in file.uses(lock)]
    blocks = [file.parent(item) for item in items if isinstance(item, ast.withitem)]
    return any(
        isinstance(part, ast.Call) and file.qualified(part.func) in {"time.sleep", *FUNCTIONS}
        for block in blocks
        if isinstance(block, ast.With) and file.coroutine(block) is None
        for line in block.body
        for part in walk(line)
    )


def why_unfit(file: File, node: ast.Call, name: str) -> str:
    says = {each.arg: each.value for each in node.keywords}
    streams = says.get("stream")
    if streams is not None and not (isinstance(streams, ast.Constant) and not streams.value):
        return LATER.format("the body is", "makes the request and reads all of it")
    if FUNCTIONS[name] == PERSON:
        return NEXT_LINE
    if "preexec_fn" in says:
        return "preexec_fn is not safe beside threads"
    return ""


def why_unsafe(file: File, node: ast.Call, receiver: ast.expr, made: str, verb: str) -> str:
    timed = any(each.arg == "timeout" for each in node.keywords) or len(node.args) > (verb not in ("wait", "join"))
    if verb == "acquire":
        return (
            "a cancellation would leave the thread waiting, which then takes the lock for nobody: "
            "guard coroutines with asyncio.Lock, and take this one only in functions that threads run"
        )
    if made == "threading.Condition":
        return "the thread that waits must hold the lock of the condition: let one function do both, and hand over that"
    if made == "subprocess.Popen" and verb == "wait" and has_unread_pipe(file, receiver):
        return (
            "nobody reads its pipe: a child that fills that waits for ever, and so would the thread; communicate() "
            "reads it"
        )
    if verb == "wait" and not timed and made.split(".")[0] in ("threading", "multiprocessing"):
        return "without a timeout a cancellation would leave a thread waiting for ever: give it one, or use asyncio's"
    if made in QUEUES and verb == "put":
        return "a cancellation would leave its thread waiting: use put_nowait(), and say what happens at queue.Full"
    if made in QUEUES and verb == "get" and timed:
        return why_lost(file, node, receiver)
    if made in QUEUES and (verb == "join" or not timed):
        return (
            "without a timeout a cancellation would leave a thread waiting for ever: give it one, or use "
            "asyncio.Queue, which threads reach by loop.call_soon_threadsafe()"
        )
    if made in ("requests.Session", "requests.session") and not file.private(receiver):
        return (
            "other coroutines share this Session, and a Session is not made for several threads at once: "
            "one for each thread, or httpx.AsyncClient"
        )
    return ""


def has_unread_pipe(file: File, child: ast.expr) -> bool:
    """Whether the child's output goes to a pipe of which the file reads nothing."""
    made = [value for value in file.values(child) if isinstance(value, ast.Call)]
    piped = {each.arg for call in made for each in call.keywords if file.qualified(each.value) == "subprocess.PIPE"}
    used = {getattr(file.parent(use), "attr", "") for use in file.uses(child)}
    return bool(piped & {"stdout", "stderr"}) and not used & {"stdout", "stderr", "communicate", ""}


def why_lost(file: File, node: ast.Call, receiver: ast.expr) -> str:
    """Why a `get()` with a timeout stays: the thread that a cancellation leaves takes the next item for nobody."""
    local = isinstance(receiver, ast.Name) and file.owned_by(receiver, file.frame(node))
    given = [item for item in file.lookup(receiver, dotted(receiver))[1] if isinstance(item.node, ast.arg)]
    if (
        not local
        or given
        or any(file.frame(use) is not file.frame(node) and file.method_call(use, "get") for use in file.uses(receiver))
    ):
        return (
            f"a cancellation would leave its thread waiting, which then takes the next item for nobody: {ASYNC_QUEUE}"
        )
    looped = any(isinstance(up, (ast.While, ast.For, ast.AsyncFor)) for up in file.above(node))
    return f"in a loop it would keep a thread of the loop's few for itself: {ASYNC_QUEUE}" * looped


def sqlite_call(file: File, node: ast.Call, receiver: ast.expr, verb: str) -> Blocking | None:
    values = [receiver] if isinstance(receiver, ast.Call) else file.values(receiver)
    made = [each for each in values if isinstance(each, ast.Call)]
    if any(isinstance(each, ast.Constant) and each.value == ":memory:" for call in made for each in call.args[:1]):
        return None
    says = [each.value for call in made for each in call.keywords if each.arg == "check_same_thread"]
    free = len(says) == len(values) and all(map(is_zero, says))
    chained = isinstance(file.parent(node), ast.Attribute) and isinstance(file.parent(file.parent(node)), ast.Call)
    refusal = "" if free else OF_ITS_THREAD
    if free and (chained or (verb == "execute" and not isinstance(file.parent(node), ast.Expr))):
        refusal = LATER.format("the rows are", "executes and fetches them")
    return Blocking(node, f"{dotted(receiver) or 'sqlite3.connect()'}.{verb}", DATABASE, refusal, held=True)
