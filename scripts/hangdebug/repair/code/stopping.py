"""Work that ends soon after its reader has left: a function that looks at an event between two steps of its own.

    def fetch(url):                               def fetch(url, stop: threading.Event):
        for page in range(100):                       for page in range(100):
                                                          if stop.is_set():
                                                              break
            time.sleep(1)                                 stop.wait(1)
            requests.get(url, params=page)                requests.get(url, params=page, timeout=10)

A function may be left in the middle only if nobody but the coroutine has anything from it: it reads, computes, sleeps,
logs, and sends to the coroutine. One that stores, posts or changes anything else is left as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from hangdebug.evidence import light as re
from hangdebug.repair.code.await_places import import_needed
from hangdebug.repair.code.bindings import parameters, walk
from hangdebug.repair.code.file import File, dotted, fresh_name, is_none, is_zero, last_name
from hangdebug.repair.code.layout import other_files
from hangdebug.repair.code.producers import STARTS, Stop, channels_of, function_handed
from hangdebug.repair.code.receivers import what_is
from hangdebug.repair.code.work_waits import FUNCTION, LOOPS, Function, verb_of
from hangdebug.repair.model import Edit

BY_HAND = (
    "give what blocks in it a time-out, let it look at a threading.Event between its steps, and set that in the "
    "`finally`: snippets/stream_executor.py"
)
SECONDS = 10  # of a call that had no limit
SOCKETS = ("socket timeout", "settimeout")
Lines = Collection[int]
READS = re.compile(
    r"urllib\.request\.(urlopen|Request)$|time\.\w+$"
    r"|(json|math|re|random|datetime|string|itertools|functools|collections|hashlib|base64|html|urllib\.parse)\."
    r"|os\.(environ\.get|getenv|path\.\w+)$|logging\.|builtins\.(?!open|exec|eval|compile|input|setattr|delattr|__)"
)
PEERS = re.compile(r"(requests|httpx|urllib3|psycopg2?|redis|socket)\.")  # only what reads these may be left half-way
LOOKS = frozenset(
    "get head Session session Client PoolManager Timeout connect cursor Redis StrictRedis from_url json close read "
    "raise_for_status iter_lines iter_content iter_text iter_bytes stream_text decode strip fetchone fetchmany "
    "fetchall mget hget hgetall hmget lrange llen smembers sismember exists ttl zrange zscore scan_iter items keys "
    "values create_connection socket connect recv recv_into makefile readline settimeout".split()
)
ASKS = re.compile(r"\s*(select|get|head)\b", re.I)  # what a `request` or an `execute` begins with that only reads
LIMITS = (  # what has no limit of its own, the keyword that gives it one, how many arguments may stand before that
    (re.compile(r"(requests(\.[sS]ession\(\))?\.(get|head)|urllib\.request\.urlopen)$"), "timeout", 2),
    (re.compile(r"urllib3(\.PoolManager\(\))?\.request$"), "timeout", 3),
    (re.compile(r"socket\.create_connection$"), "socket timeout", 1),
    (re.compile(r"psycopg2?\.connect$"), "connect_timeout", 1),
    (re.compile(r"redis\.(Strict)?Redis$"), "socket_timeout", 4),
    (re.compile(r"redis\.((Strict)?Redis\.)?from_url$"), "socket_timeout", 1),
    (re.compile(r"httpx\.(get|head|stream|Client(\(\)\.(get|head|stream))?)$"), "", 0),  # 5 s, unless it says None
)
OF_HTTPX = frozenset(f"httpx.{verb}" for verb in "get head options post put patch delete request stream".split())
ANEW = (
    "line {} calls {}(), which loads all certificates for each call: that took 25 ms of a processor, and 2 with one "
    "httpx.Client for all calls, which threads may share; make one by hand where many run at once"
)
SENDS = frozenset("put put_nowait call_soon_threadsafe run_coroutine_threadsafe set_result set".split())
LOGS = ("logging.getLogger",)
BARRED = (ast.Global, ast.Nonlocal, ast.Delete, ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)


def what_loads_anew(file: File, calls: Iterable[ast.AST], where: str = "") -> str:
    """What the first call of httpx without a client costs beside others that run at once, in words; "" for none."""
    for call in calls:
        name = file.qualified(call.func) if isinstance(call, ast.Call) else ""
        if name in OF_HTTPX and not any(each.arg in ("verify", None) for each in getattr(call, "keywords", ())):
            return ANEW.format(f"{file.line(call)}{where}", name)
    return ""


def stop_work(file: File, owner: ast.AsyncFunctionDef, calls: list[ast.Call], stop: Stop, feeds: Lines = ()) -> Stop:
    """The stop with what else it can end: the functions that the calls hand over, if each may be left half-way.

    `feeds` are the lines of the calls whose functions send to the coroutine, which waits for nothing else of them.
    """
    name = stop.name or fresh_name(file, "stop")
    edits: list[Edit] = []
    lines: list[int] = []
    limits: list[tuple[int, str]] = []
    waits: list[int] = []
    for home, handed in functions_of(file, owner, calls).items():
        known = all(call.lineno in stop.lines for call in handed)
        given = () if file.frame(home) is owner else hand_event(file, home, handed, name)
        if given is None or not (known or may_be_left(file, home, owner)):
            continue
        inside = [] if known else [*look_between(file, home, name), *sleep_on(file, home, name)]
        sends = any(call.lineno in feeds for call in handed)
        if inside:
            edits += [*given, *inside]
            lines += [call.lineno for call in handed]
        for line, keyword, edit in limit_calls(file, home):
            if sends and keyword in SOCKETS:  # whose peer may be silent for long, and all is well
                waits.append(line)
                continue
            edits.append(edit)
            limits.append((line, keyword))
    if not (edits or waits) or import_needed(file, owner.body[0], "threading") is None:
        return stop
    named = name if lines or stop.loops else ""
    return replace(stop, name=named, ends=tuple(lines), limits=tuple(limits), waits=tuple(waits), edits=tuple(edits))


def functions_of(
    file: File, owner: ast.AsyncFunctionDef, calls: list[ast.Call]
) -> dict[ast.FunctionDef, list[ast.Call]]:
    """Each plain function that nothing but these calls uses, with the calls."""
    found: dict[ast.FunctionDef, list[ast.Call]] = {}
    for call in calls:
        home = function_handed(file, call) if verb_of(call) in STARTS else None
        if home is not None and not home.decorator_list:
            found.setdefault(home, []).append(call)
    return {home: given for home, given in found.items() if is_ours(file, home, len(given))}


def is_ours(file: File, home: ast.FunctionDef, count: int) -> bool:
    """Whether so many places use the function, and no other file of the tree can mean it."""
    owner, name = file.parent(home), home.name
    if isinstance(owner, ast.ClassDef):  # of a class with bases, or of a subclass, another may be meant
        same = [each for each in file.nodes() if isinstance(each, ast.Attribute) and each.attr == name]
        plain = not owner.bases and not owner.keywords and not owner.decorator_list
        inherited = any(isinstance(file.parent(use), ast.ClassDef) for use in file.uses(owner))
        used = re.compile(rf"\.{name}\b".encode())
        if not plain or inherited or len(same) != count:
            return False
    elif len(file.uses(home)) != count:
        return False
    elif owner is not file.tree:
        return True
    else:
        stem = re.escape(Path(file.name).stem)
        used = re.compile(rf"\b{stem}\b[^\n]*\bimport\b[^\n]*(\b{name}\b|\()|\b{stem}\.{name}\b".encode())
    return not any(used.search(text) for _, text in other_files(file.name))


def hand_event(file: File, home: ast.FunctionDef, calls: list[ast.Call], name: str) -> tuple[Edit, ...] | None:
    """The edits that give the function the event as its last parameter, None where that cannot be done plainly."""
    args = home.args
    if (
        args.vararg
        or args.kwarg
        or args.kwonlyargs
        or args.defaults
        or any(each.arg == name for each in parameters(args))
    ):
        return None
    taken, edits = [*args.posonlyargs, *args.args], []
    said = f"{name}: threading.Event"
    if taken:
        edits.append(Edit(file.end(taken[-1]), file.end(taken[-1]), f", {said}"))
    else:
        opening = file.text.index("(", file.start(home)) + 1
        edits.append(Edit(opening, opening, said))
    for call in calls:
        plain = not call.keywords and not any(isinstance(each, ast.Starred) for each in call.args)
        given = len(call.args) - 1 - (verb_of(call) == "run_in_executor")
        if not plain or given + isinstance(file.parent(home), ast.ClassDef) != len(taken):
            return None
        edits.append(Edit(file.end(call.args[-1]), file.end(call.args[-1]), f", {name}"))
    return tuple(edits)


# -- whether it may be left half-way --------------------------------------------------------------------------


def may_be_left(file: File, home: Function, owner: ast.AsyncFunctionDef, depth: int = 3) -> bool:
    """Whether all that the function does is its own, or is sent to the coroutine."""
    sent = {dotted(item.node) for item in channels_of(file, [home])}
    for node in (each for line in home.body for each in walk(line)):
        if isinstance(node, (*BARRED, *FUNCTION, ast.Lambda)):
            return False
        stored = isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load)
        if isinstance(node, (ast.Attribute, ast.Subscript)) and stored and not is_own(file, node.value, home):
            return False
        if isinstance(node, (ast.For, ast.While)) and (node.orelse or node.body[0].lineno == node.lineno):
            return False
        if isinstance(node, ast.Call) and not is_harmless(file, node, home, owner, sent, depth):
            return False
    return True


def is_harmless(
    file: File, call: ast.Call, home: Function, owner: ast.AsyncFunctionDef, sent: set[str], depth: int
) -> bool:
    name, func, trail = file.qualified(call.func), call.func, what_is(file, call.func).trail
    if PEERS.match(trail):
        return only_looks(call, trail)
    if name:
        return bool(READS.match(name))
    if isinstance(func, ast.Name):
        found = [item.node for item in file.lookup(func, func.id)[1]]
        plain = found[0] if len(found) == 1 else None
        if isinstance(plain, ast.ClassDef):
            return not any(getattr(each, "name", "").startswith("__") for each in plain.body)
        return isinstance(plain, ast.FunctionDef) and depth > 0 and may_be_left(file, plain, owner, depth - 1)
    if not isinstance(func, ast.Attribute):
        return False
    if func.attr in SENDS:
        return bool(sent & {each.id for each in walk(call) if isinstance(each, ast.Name)})
    return (
        is_own(file, func.value, home) or file.maker(func.value) in LOGS or last_name(func.value) in ("log", "logger")
    )


def only_looks(call: ast.Call, trail: str) -> bool:
    """Whether the call asks a peer for something, and changes nothing there."""
    verb = trail.rpartition(".")[2]
    first = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    asks = verb in ("request", "execute", "stream") and isinstance(first, str) and bool(ASKS.match(first))
    return verb in LOOKS or asks or ".headers." in trail


def is_own(file: File, node: ast.expr, home: Function) -> bool:
    """Whether the expression belongs to what the function made itself, or is a plain value."""
    root = next((each for each in walk(node) if isinstance(each, ast.Name)), None)
    if root is None:
        return True
    scope, found = file.lookup(root, root.id)
    if scope is not file.scopes.opened_by(home) or any(isinstance(item.node, ast.arg) for item in found):
        return (
            bool(file.qualified(root))
            and bool(READS.match(f"{file.qualified(node) or file.qualified(root)}."))
            and isinstance(node, ast.Call)
        )
    return True


# -- the edits ------------------------------------------------------------------------------------------------


def look_between(file: File, home: ast.FunctionDef, name: str) -> Iterator[Edit]:
    """A look at the event at the start of each round."""
    for loop in (each for each in walk(home) if isinstance(each, LOOPS)):
        if any(isinstance(part, (ast.Call, *LOOPS)) for line in loop.body for part in walk(line)):
            end, inside = file.line_end(file.colon(loop)), file.indent(loop.body[0])
            yield Edit(
                end, end, f"{file.newline}{inside}if {name}.is_set():{file.newline}{inside}{file.step(loop)}break"
            )


def sleep_on(file: File, home: ast.FunctionDef, name: str) -> Iterator[Edit]:
    """A sleep that the event ends."""
    for call in (each for each in walk(home) if isinstance(each, ast.Call)):
        plain = file.qualified(call.func) == "time.sleep" and isinstance(file.parent(call), ast.Expr)
        if plain and len(call.args) == 1 and not call.keywords and not is_zero(call.args[0]):
            yield Edit(file.start(call.func), file.end(call.func), f"{name}.wait")


def limit_calls(file: File, home: ast.FunctionDef) -> Iterator[tuple[int, str, Edit]]:
    """A time-out for each call that has none and takes one, with the line of the call and the keyword."""
    for call in (each for each in walk(home) if isinstance(each, ast.Call)):
        trail = what_is(file, call.func).trail
        keyword, most = next(((word, most) for known, word, most in LIMITS if known.match(trail)), ("-", 0))
        said = {each.arg: each.value for each in call.keywords}
        none = said.get(keyword or "timeout")
        if is_none(none) and none is not None:
            yield call.lineno, keyword or "timeout", Edit(file.start(none), file.end(none), str(SECONDS))
            continue
        free = len(call.args) <= most and none is None and None not in said
        if keyword.strip("-") and free and not is_limited_elsewhere(file, call):
            parts: list[ast.expr] = [*call.args, *said.values()]
            end = max(map(file.end, parts)) if parts else file.end(call) - 1
            yield call.lineno, keyword, Edit(end, end, f"{', ' * bool(parts)}{keyword.split()[-1]}={SECONDS}")
        made = file.parent(call)
        if trail == "socket.socket" and isinstance(made, ast.Assign) and not is_set(home):
            line = f"{file.newline}{file.indent(made)}{file.short(made.targets[0])}.settimeout({SECONDS})"
            if (
                not file.indent(made).strip()
                and file.text[file.end(made) : file.line_end(file.end(made))].strip() == ""
            ):
                yield call.lineno, "settimeout", Edit(file.end(made), file.end(made), line)


def is_set(home: ast.FunctionDef) -> bool:
    """Whether the function says itself how long its sockets wait."""
    return any(getattr(each, "attr", "") in ("settimeout", "setblocking") for each in walk(home))


def is_limited_elsewhere(file: File, call: ast.Call) -> bool:
    """Whether the connection's string, or what made the receiver, names a time-out."""
    made = file.values(call.func.value) if isinstance(call.func, ast.Attribute) else []
    given = [call, *(value for value in made if value is not None)]
    words = [part for each in given for part in walk(each)]
    return any(
        (isinstance(part, ast.keyword) and "timeout" in (part.arg or ""))
        or (isinstance(part, ast.Constant) and "timeout" in str(part.value))
        for part in words
    )
