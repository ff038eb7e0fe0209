"""What others may do while a coroutine awaits: to what it has checked, to what it has begun, to what its work uses.

    if self.child:                        another coroutine may set `self.child = None` during the new await
        self.child.wait()
        log(self.child.returncode)

Until there is an await, nobody else runs between two lines of a coroutine. Where the program relies on that, no await
is put in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.evidence import light as re
from hangdebug.repair.code.bindings import FUNCTIONS, walk
from hangdebug.repair.code.file import File, dotted, is_none, last_name, root_name

PAUSES = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield)
CHANGES = frozenset(
    "append extend insert add update setdefault pop popitem popleft appendleft remove discard clear".split()
)
LOCKISH = re.compile(r"(^|_)(lock|mutex|semaphore|condition)s?(_|$)|Lock$", re.I)


def why_raced(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> str:
    """Why an await may not stand between two lines that rely on each other: what one reads, the other changes.

    if self.taken: return             two coroutines may both see that it is free, and both take it
    time.sleep(1)
    self.taken = True
    """
    start, end = at
    reads: dict[str, list[int]] = {}
    writes: dict[str, list[int]] = {}
    for path, begin, until, changes in touches(file, frame, node):
        if changes and until >= end:
            writes.setdefault(path, []).append(until)
        elif not changes and begin < end:
            reads.setdefault(path, []).append(begin)
    pauses = [
        pause
        for each in file.run_by(frame)
        if isinstance(each, PAUSES)
        for pause in [file.start(each)]
        if pause != start
    ]
    locks = [
        (file.start(up), file.end(up))
        for up in file.above(node)
        if isinstance(up, ast.AsyncWith)
        and any(LOCKISH.search(dotted(item.context_expr).split(".")[-1]) for item in up.items)
    ]
    for path in sorted(reads.keys() & writes.keys()):
        before, after = max(reads[path]), min(writes[path])
        locked = any(begin < before and after <= over for begin, over in locks)
        if not locked and not any(before < pause < after for pause in pauses):
            line, other = (line_at(file, offset) for offset in (before, after))
            return (
                f"line {line} reads `{path}` and line {other} changes it: with an await in between, another coroutine "
                "may do the same at the same time; hold an asyncio.Lock around both"
            )
    return ""


def touches(file: File, frame: ast.AST, node: ast.AST) -> Iterator[tuple[str, int, int, bool]]:
    """What the frame reads or changes that others may share: name, where that begins and ends, whether it changes."""
    for each in file.run_by(frame):
        up = file.parent(each)
        if not isinstance(each, (ast.Name, ast.Attribute)) or isinstance(up, ast.Attribute) or apart(file, each, node):
            continue
        statement, called = file.statement(each), isinstance(up, ast.Call) and up.func is each
        held = each.value if called and isinstance(each, ast.Attribute) else each
        stored = up if isinstance(up, ast.Subscript) and up.value is each else each
        changes = (called and last_name(each) in CHANGES) or not isinstance(stored.ctx, ast.Load)
        if not dotted(held) or (called and held is each) or not is_shared(file, held, frame) or is_module(file, held):
            continue
        if isinstance(statement, ast.AugAssign) and stored is statement.target and node in walk(statement.value):
            yield dotted(held), file.start(statement), file.start(statement), False  # it is read before the value
        yield dotted(held), file.start(each), file.end(up if called else statement if changes else each), changes


def is_shared(file: File, each: ast.expr, frame: ast.AST) -> bool:
    """Whether others may hold the same: what is not the function's own, or what it did not make itself."""
    root = root_name(each)
    if root is None:
        return True
    scope, found = file.lookup(root, root.id)
    if scope is None or root is each:
        return scope is not None and not file.owned_by(root, frame)
    made = [item.value.func for item in found if isinstance(item.value, ast.Call)]
    own = len(made) == len(found) and all(dotted(func).split(".")[-1][:1].isupper() for func in made)
    return not own


def apart(file: File, each: ast.AST, node: ast.AST) -> bool:
    """Whether both stand in different branches of one `if`."""
    around, inner = set(file.above(node)) | {node}, each
    for up in file.above(each):
        if isinstance(up, ast.If) and up in around and inner is not up.test:
            there = up.body if inner in up.body else up.orelse
            return not any(line in around for line in there) and any(line in around for line in (*up.body, *up.orelse))
        inner = up
    return False


def why_not_meanwhile(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> str:
    """Why the program counts on it that nobody else runs at the node, "" where nothing shows that it does.

    `at` is where the await would start and end.
    """
    return (
        why_held(file, frame, node)
        or why_process_changed(file, frame, at)
        or why_in_transaction(file, frame, node, at)
        or why_raced(file, frame, node, at)
        or why_written_back(file, frame, node, at)
        or why_checked(file, frame, node, at)
        or why_on_disk(file, frame, node, at)
        or why_looped(file, frame, node)
    )


def line_at(file: File, offset: int) -> int:
    return file.text.count("\n", 0, offset) + 1


# -- what is read from a store and written back to it ---------------------------------------------------------

READS_FROM = re.compile(r"_*(?:get|find|load|read|select|query|lookup|exists|has)(?:_|$)")
WRITES_BACK = re.compile(
    r"_*(?:add|create|insert|merge|put|replace|save|set|store|update|upsert|write|delete|remove)(?:_|$)"
)
TAKES_AWAY = re.compile(r"_*(?:delete|remove)(?:_|$)")
CHECKS = re.compile(r"_*(?:check|validate|verify|ensure|require)(?:_|$)")


def why_written_back(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> str:
    """Why an await may not stand between a read or a check, and the write to the same place that rests on it.

    run = db.get(Run, key)            two coroutines may both read the same, and the first change is lost
    run.status = status
    db.upsert(run)
    """
    calls = [each for each in file.run_by(frame) if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)]
    early = [each for each in calls if file.start(each) < at[1]]
    reads = [(each, key) for each in early for key in [part_of_store(file, each, READS_FROM)] if key[0]]
    checks = [
        each for each in early if isinstance(file.parent(each), ast.Expr) and part_of_store(file, each, CHECKS)[0]
    ]
    writes = [each for each in calls if file.end(each) >= at[1] and not isinstance(file.parent(each), ast.Await)]
    for write in writes if reads or checks else ():
        store, part = part_of_store(file, write, WRITES_BACK)
        resting = [read for read, key in reads if key == (store, part) and rests_on(file, frame, write, read)]
        adds = store and not TAKES_AWAY.match(last_name(write.func))
        resting += [check for check in checks if adds and dotted(check.func).split(".")[0] == store.split(".")[0]]
        for read in (each for each in resting if file.end(each) <= file.end(write)):
            begin, until = file.start(read), file.start(write)
            paused = any(begin < pause <= until for pause in pauses_over(file, frame))
            if not (paused or apart(file, read, write) or under_lock(file, node, begin, file.end(write))):
                line, other = line_at(file, begin), line_at(file, until)
                return (
                    f"line {line} asks what line {other} relies on as it writes to `{store}`: with an await between, "
                    "another coroutine may write there too; hold an asyncio.Lock around both"
                )
    return ""


def part_of_store(file: File, call: ast.Call, verbs: re.Pattern[str]) -> tuple[str, str]:
    """What a method reads or writes: `repo`, and the "user" of `repo.get_user()`; "" where no verb says so.

    A dictionary has the same verbs: what a loop or a call gave to a name of the function is no store.
    """
    func = call.func
    verb = verbs.match(func.attr) if isinstance(func, ast.Attribute) else None
    if verb is None or not isinstance(func, ast.Attribute) or not dotted(func.value) or file.qualified(func.value):
        return "", ""
    if isinstance(func.value, ast.Name):
        bound = file.lookup(func.value, func.value.id)[1]
        given = [item.value for item in bound if not isinstance(item.node, ast.arg)]
        if func.attr == "update" or not all(isinstance(each, ast.Call) and is_maker(each.func) for each in given):
            return "", ""
    return dotted(func.value), func.attr[verb.end() :]


def is_maker(func: ast.expr) -> bool:
    """Whether it is a class, or a function by its name alone: `Store()`, `orm.Session()`, `get_db()`."""
    return isinstance(func, ast.Name) or last_name(func)[:1].isupper()


def rests_on(file: File, frame: ast.AST, write: ast.Call, read: ast.Call) -> bool:
    """Whether the write is given what was read, or is made only where that says so: where nothing is there yet."""
    line = file.statement(read)
    targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
    got = {each.id for target in targets if target for each in walk(target) if isinstance(each, ast.Name)}

    def of_it(node: ast.AST) -> bool:
        return read in walk(node) or bool(got & names_behind(file, frame, node))

    taken = TAKES_AWAY.match(last_name(write.func))  # twice is as good as once
    if not taken and any(of_it(each) for each in (*write.args, *write.keywords)):
        return True
    inner: ast.AST = write
    for up in file.above(write):
        if isinstance(up, ast.If) and not taken and inner is not up.test and of_it(up.test):
            return True
        for block in (getattr(up, field, None) for field in ("body", "orelse", "finalbody")):
            for each in block[: block.index(inner)] if isinstance(block, list) and inner in block else ():
                leaves = isinstance(each, ast.If) and isinstance(each.body[-1], LEAVES)
                if leaves and isinstance(each, ast.If) and of_it(each.test) and says_there_is(each.test):
                    return True  # if found: return
        if up is frame:
            break
        inner = up
    return False


def says_there_is(test: ast.expr) -> bool:
    """Whether the test asks for something, and not for nothing: `found`, `len(rows) > 0`, `row is not None`."""
    if isinstance(test, ast.BoolOp):
        return any(map(says_there_is, test.values))
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], (ast.IsNot, ast.Gt, ast.In))
    return not isinstance(test, ast.UnaryOp)


# -- what is held or changed for the whole process ------------------------------------------------------------

PROCESS_WITHS = re.compile(
    r"contextlib\.(redirect_std(out|err)|chdir)$|warnings\.catch_warnings$|(unittest\.)?mock\.patch(\.|$)"
    r"|torch\.(no_grad|inference_mode|set_grad_enabled)$|numpy\.errstate$|freezegun\.freeze_time$"
)
PROCESS_WORDS = re.compile(r"(^|_)(chdir|cwd|pushd|umask|working_dir(ectory)?|redirect_std(out|err))(_|$)", re.I)
PROCESS_CALLS = re.compile(
    r"os\.(f?chdir|umask|putenv|unsetenv|set[a-z]*[ug]id|environ\.(update|pop|popitem|setdefault|clear))$"
    r"|locale\.setlocale$|random\.seed$|socket\.setdefaulttimeout$|time\.tzset$|signal\.(alarm|setitimer)$"
    r"|logging\.disable$"
)
TRANSACTIONS = re.compile(r"(^|_)(begin|begin_nested|transaction|atomic|savepoint)(_|$)")
CONNECTIONS = re.compile(r"(^|_)(db|conn|connection)$")
CONNECTS = frozenset(
    f"{module}.connect" for module in "sqlite3 psycopg psycopg2 pymysql MySQLdb mysql.connector oracledb".split()
)
WRITES = frozenset("execute executemany executescript exec add add_all delete merge flush insert update".split())
TRANSACTION = (
    "with an await in it, another coroutine may write in that transaction or end it, or wait for its locks on the "
    "event loop's thread: make the call before or after it"
)


def why_held(file: File, frame: ast.AST, node: ast.AST) -> str:
    """What a `with` around the node holds that all coroutines share: a transaction, the working directory."""
    inner = node
    for up in file.above(node):
        if up is frame:
            break
        for item in up.items if isinstance(up, ast.With) and inner in up.body else ():
            held, shown = item.context_expr, file.short(item.context_expr)
            if is_transaction(file, held):
                return f"the `with` around it holds the transaction `{shown}`: {TRANSACTION}"
            if is_process_wide(file, held):
                return (
                    f"the `with` around it, `{shown}`, changes what the whole process shares: while it awaits, other "
                    "coroutines would run with that; hand the whole block to a child process, or keep it off this loop"
                )
        inner = up
    return ""


def is_transaction(file: File, held: ast.expr) -> bool:
    if isinstance(held, ast.Call):
        return bool(TRANSACTIONS.search(last_name(held.func)))
    return file.maker(held) in CONNECTS or bool(CONNECTIONS.search(last_name(held)))


def is_process_wide(file: File, held: ast.expr) -> bool:
    func = held.func if isinstance(held, ast.Call) else held
    if PROCESS_WITHS.match(file.qualified(func)) or PROCESS_WORDS.search(last_name(func)):
        return True
    found = file.lookup(func, func.id)[1] if isinstance(func, ast.Name) else []
    homes = [item.node for item in found if isinstance(item.node, (ast.FunctionDef, ast.ClassDef))]
    return any(changes_process(file, part) for home in homes for part in walk(home))


def changes_process(file: File, node: ast.AST) -> bool:
    """Whether it changes the working directory, the environment, or an attribute of a module: `sys.stdout = log`."""
    if isinstance(node, ast.Call):
        return bool(PROCESS_CALLS.match(file.qualified(node.func)))
    stored = isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del))
    if isinstance(node, ast.Subscript) and stored:
        return file.qualified(node.value) == "os.environ"
    return isinstance(node, ast.Attribute) and stored and is_module(file, node.value)


def is_module(file: File, node: ast.expr) -> bool:
    found = file.lookup(node, node.id)[1] if isinstance(node, ast.Name) else []
    return bool(found) and all(isinstance(item.node, ast.Import) for item in found)


def why_process_changed(file: File, frame: ast.AST, at: tuple[int, int]) -> str:
    """A change of the working directory or the environment in front of the await, which the call relies on."""
    pauses = pauses_of(file, frame)
    for each in file.run_by(frame) if isinstance(frame, FUNCTIONS) else ():
        start = file.start(each) if hasattr(each, "lineno") else at[0]
        if start < at[0] and changes_process(file, each) and not any(start < pause < at[0] for pause in pauses):
            return (
                f"line {line_at(file, start)} changes what the whole process shares (`{file.short(each)}`): another "
                "coroutine may do so too before the call is made; give the call what it needs instead, such as "
                "cwd= or env="
            )
    return ""


def pauses_over(file: File, frame: ast.AST) -> list[int]:
    """Where other coroutines have run: what an await is given is computed before."""
    pauses = [each for each in file.run_by(frame) if isinstance(each, PAUSES)]
    return [file.end(each) if isinstance(each, (ast.Await, ast.Yield)) else file.start(each) for each in pauses]


def pauses_of(file: File, frame: ast.AST) -> list[int]:
    return [file.start(each) for each in file.run_by(frame) if isinstance(each, PAUSES)]


def why_in_transaction(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> str:
    """A transaction that is written to in front of the await, and ended by hand at or behind it.

    The calls of a connection that the function keeps to itself may go to a thread: nobody else writes in it.
    """
    wrote: dict[str, int] = {}
    calls = [each for each in file.run_by(frame) if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)]
    for each in sorted(calls, key=file.start):
        if not isinstance(each.func, ast.Attribute) or isinstance(file.parent(each), ast.Await):
            continue
        name, verb = connection_of(file, each.func.value), each.func.attr
        if verb in ("commit", "rollback") and file.end(each) > at[0]:
            if name in wrote:
                return (
                    f"line {line_at(file, wrote[name])} has begun a transaction on `{name}` that line {each.lineno} "
                    f"ends: {TRANSACTION}"
                )
        elif verb in ("commit", "rollback"):
            wrote.pop(name, None)
        elif isinstance(node, ast.Call) and file.private(each.func.value) and is_part_of(file, node, name):
            continue
        elif verb in WRITES and name and file.start(each) <= at[0] and not only_selects(each):
            wrote.setdefault(name, file.start(each))
    return ""


def is_part_of(file: File, node: ast.Call, name: str) -> bool:
    return isinstance(node.func, ast.Attribute) and connection_of(file, node.func.value) == name


def connection_of(file: File, node: ast.expr) -> str:
    """The name of the connection or session; that of a cursor's connection for the cursor."""
    made = file.values(node) if isinstance(node, (ast.Name, ast.Attribute)) else []
    call = made[0] if len(made) == 1 else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "cursor":
        return dotted(call.func.value)
    return dotted(node)


def only_selects(call: ast.Call) -> bool:
    said = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    return isinstance(said, str) and said.lstrip().lower().startswith(("select", "pragma", "explain"))


# -- what was checked, stored or looped over before -----------------------------------------------------------

LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
LOOPS = (ast.For, ast.AsyncFor, ast.While)


def why_checked(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> str:
    """Why an await may not stand between a check of what others change, or a write to it, and its use."""
    pauses = [at_ for at_ in pauses_of(file, frame) if not at[0] <= at_ < at[1]]
    known = {**stores_before(file, frame, node, at), **checks_before(file, frame, node)}
    for path, (checked, words) in sorted(known.items()):
        used = first_use(file, frame, node, path, at, checked)
        if used is None or any(checked < pause < at[0] for pause in pauses) or under_lock(file, node, checked, used):
            continue
        if any(at[1] < over <= used for over in pauses_over(file, frame)):
            continue
        changed = words == "sets" or line_of_change(file, frame, path, at)
        if changed:
            who = "another coroutine" if changed is True else f"line {changed}"
            return (
                f"line {line_at(file, checked)} {words} `{path}` and line {line_at(file, used)} relies on that: with "
                f"an await in between, {who} may change it; hold an asyncio.Lock around both, or give it a local name"
            )
    return ""


DISK_LOOKS = re.compile(r"(?:os\.path\.)?(exists|lexists|isfile|isdir|is_file|is_dir)$")
DISK_ONCE = re.compile(r"(?:os\.)?(mkdir|makedirs|remove|unlink|rmdir|rename)$")  # the second one raises


def why_on_disk(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> str:
    """Why an await may not stand between a look for a file and what can be done to that once."""
    looks: dict[str, int] = {}
    for call in (each for each in file.run_by(frame) if isinstance(each, ast.Call)):
        start, path = file.start(call), path_of(file, call, DISK_LOOKS)
        if path and start < at[0]:
            looks[path] = start
    for call in (each for each in file.run_by(frame) if isinstance(each, ast.Call)):
        start, path = file.start(call), path_of(file, call, DISK_ONCE)
        calm = any(each.arg in ("exist_ok", "missing_ok") for each in call.keywords)
        if path in looks and start > at[1] and not calm and not under_lock(file, node, looks[path], start):
            seen, done = line_at(file, looks[path]), line_at(file, start)
            if not any(looks[path] < pause < at[0] or at[1] < pause < start for pause in pauses_of(file, frame)):
                return (
                    f"line {seen} looks for `{path}` and line {done} relies on that: with an await in between, another "
                    "coroutine may have done the same by then; hold an asyncio.Lock around both"
                )
    return ""


def path_of(file: File, call: ast.Call, kind: re.Pattern[str]) -> str:
    """The path that the call is about, as it is written, "" where it is no call of the kind."""
    name = file.qualified(call.func)
    if name:
        return file.short(call.args[0]) if name.startswith("os.") and kind.match(name) and call.args else ""
    named = isinstance(call.func, ast.Attribute) and kind.match(call.func.attr)
    return file.short(call.func.value) if named and isinstance(call.func, ast.Attribute) else ""


def under_lock(file: File, node: ast.AST, *places: int) -> bool:
    """Whether an `async with` of a lock around the node holds all the places too."""
    return any(
        isinstance(up, ast.AsyncWith)
        and any(LOCKISH.search(dotted(item.context_expr).split(".")[-1]) for item in up.items)
        and all(file.start(up) < place <= file.end(up) for place in places)
        for up in file.above(node)
    )


def checks_before(file: File, frame: ast.AST, node: ast.AST) -> dict[str, tuple[int, str]]:
    """What a condition around the node, or one in front of it that leaves, has looked at: the name, and where."""
    tests: list[ast.expr] = []
    inner: ast.AST = node
    for up in file.above(node):
        if isinstance(up, (ast.If, ast.While, ast.IfExp)) and inner is not up.test:
            tests.append(up.test)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(up, field, None)
            if isinstance(block, list) and inner in block:
                earlier = block[: block.index(inner)]
                tests += [
                    each.test for each in earlier if isinstance(each, ast.If) and isinstance(each.body[-1], LEAVES)
                ]
                tests += [each.test for each in earlier if isinstance(each, ast.Assert)]
        if up is frame:
            break
        inner = up
    return {
        path: (file.start(test), "checks")
        for test in tests
        for part in walk(test)
        if isinstance(part, (ast.Name, ast.Attribute)) and not isinstance(file.parent(part), ast.Attribute)
        for path in [held_by(file, part)]
        if path and may_be_changed(file, part, frame)
    }


def stores_before(file: File, frame: ast.AST, node: ast.AST, at: tuple[int, int]) -> dict[str, tuple[int, str]]:
    """What the function itself gives to an attribute of `self` in front of the node, the last time."""
    if getattr(frame, "name", "") in ("__aenter__", "__init__"):
        return {}
    found: dict[str, tuple[int, str]] = {}
    for each in file.run_by(frame):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and dotted(each.value) == "self":
            start = file.start(each)
            if start < at[0] and not apart(file, each, node) and not is_none(getattr(file.parent(each), "value", None)):
                found[dotted(each)] = max(found.get(dotted(each), (0, "sets")), (start, "sets"))
    return found


def held_by(file: File, part: ast.expr) -> str:
    """The object that an expression asks: `self.jobs` of `self.jobs.empty()` and of `self.jobs`."""
    up = file.parent(part)
    called = isinstance(up, ast.Call) and up.func is part
    return dotted(part.value) if called and isinstance(part, ast.Attribute) else "" if called else dotted(part)


def may_be_changed(file: File, part: ast.expr, frame: ast.AST) -> bool:
    """Whether it is an attribute of `self`, or a variable of the module: others may bind it again."""
    root = root_name(part)
    if root is None or is_module(file, root):
        return False
    of_object = root.id == "self" and root is not part
    return of_object or (not file.owned_by(root, frame) and file.lookup(root, root.id)[0] is file.scopes.module)


def first_use(file: File, frame: ast.AST, node: ast.AST, path: str, at: tuple[int, int], checked: int) -> int | None:
    """Where the function first reads the path behind the await, None where it does not, or checks it again there."""
    repeats = [up for up in file.above(node) if isinstance(up, LOOPS) and file.start(up) > checked]
    rounds = [(file.start(up.body[0]), file.end(up)) for up in repeats]
    reads = []
    for each in file.run_by(frame):
        if not isinstance(each, (ast.Name, ast.Attribute)) or dotted(each) != path:
            continue
        start = file.start(each)
        again = any(begin <= start < at[0] for begin, _ in rounds)
        if (start >= at[1] or again) and not apart(file, each, node):
            reads.append((start < at[1], start, each))
    if not reads:
        return None
    _, start, each = min(reads, key=lambda item: item[:2])
    return None if not isinstance(each.ctx, ast.Load) or in_test(file, each) else start


def in_test(file: File, node: ast.AST) -> bool:
    inner = node
    for up in file.above(node):
        if isinstance(up, (ast.If, ast.While, ast.IfExp, ast.Assert)) and inner is up.test:
            return True
        if isinstance(up, ast.stmt):
            return False
        inner = up
    return False


def line_of_change(file: File, frame: ast.AST, path: str, at: tuple[int, int]) -> int:
    """The line of another function, or one behind the await, that binds the path again or empties it; 0 for none."""
    for each in file.nodes():
        if not isinstance(each, (ast.Name, ast.Attribute)) or dotted(each) != path:
            continue
        home, up = file.frame(each), file.parent(each)
        if home is frame and file.start(each) < at[1]:
            continue
        if home is file.tree or getattr(home, "name", "") in ("__init__", "__post_init__", "__aenter__"):
            continue
        if not is_same_object(file, each, frame):
            continue
        emptied = isinstance(up, ast.Attribute) and up.attr in CHANGES and isinstance(file.parent(up), ast.Call)
        within = isinstance(up, ast.Subscript) and up.value is each and isinstance(up.ctx, ast.Del)
        if not isinstance(each.ctx, ast.Load) or emptied or within:
            return each.lineno
    return 0


def is_same_object(file: File, each: ast.expr, frame: ast.AST) -> bool:
    """Whether a path that reads the same means the same there: of the class around, or of the module."""
    root = root_name(each)
    if root is not None and root.id == "self":
        return file.home(each) is file.home(frame)
    return root is not None and file.lookup(each, root.id)[0] is file.scopes.module


def why_looped(file: File, frame: ast.AST, node: ast.AST) -> str:
    """Why an await may not stand in a loop over what other functions change: it changes size during the iteration."""
    inner = node
    for up in file.above(node):
        if up is frame:
            break
        if isinstance(up, ast.For) and inner in up.body:
            over = up.iter
            if isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute):
                over = over.func.value if over.func.attr in ("items", "values", "keys") else over
            path = dotted(over)
            pauses = any(file.start(up) < pause < file.end(up) for pause in pauses_of(file, frame))
            shared = path and isinstance(over, (ast.Name, ast.Attribute)) and may_be_changed(file, over, frame)
            changed = shared and line_of_resize(file, frame, path)
            if changed and not pauses and not under_lock(file, node, file.start(up)):
                return (
                    f"line {file.line(up)} loops over `{path}`, which line {changed} changes: with an await in the "
                    f"loop that may happen meanwhile; loop over a copy, `list({file.short(up.iter)})`"
                )
        inner = up
    return ""


def line_of_resize(file: File, frame: ast.AST, path: str) -> int:
    """The line of another function that adds to the collection or takes from it, 0 for none."""
    for each in file.nodes():
        if not isinstance(each, (ast.Name, ast.Attribute)) or dotted(each) != path or file.frame(each) is frame:
            continue
        home, up = file.frame(each), file.parent(each)
        if not is_same_object(file, each, frame) or home is file.tree or getattr(home, "name", "") == "__init__":
            continue
        resized = isinstance(up, ast.Attribute) and up.attr in CHANGES and isinstance(file.parent(up), ast.Call)
        if resized or (isinstance(up, ast.Subscript) and up.value is each and not isinstance(up.ctx, ast.Load)):
            return each.lineno
    return 0


# -- what is freed once the await is cancelled ----------------------------------------------------------------

GIVES_BACK = re.compile(r"^(close|aclose|terminate|kill|disconnect|release|dispose|quit|stop)$")
FREES = re.compile(r"^(unlink|remove|rmdir|rmtree|removedirs|cleanup)$")
FREED = (
    "a cancelled await would free it while the call goes on in its thread: shield it, or make and free it in the "
    "function that the thread runs"
)


def why_freed(file: File, frame: ast.AST, node: ast.AST) -> str:
    """What the call uses and a `finally` or a `with` around it removes: a temporary file or folder."""
    used: set[str] | None = None
    inner = node
    for up in file.above(node):
        if up is frame:
            break
        freed = set()
        if isinstance(up, ast.Try) and inner in up.body:
            freed = {name for line in up.finalbody for part in walk(line) for name in names_freed(file, part)}
        elif isinstance(up, ast.With) and inner in up.body:
            freed = {name for item in up.items if is_temporary(file, item.context_expr) for name in bound_by(item)}
        if freed:
            used = names_behind(file, frame, node) if used is None else used
            if freed & used:
                return f"line {file.line(up)} frees `{min(freed & used)}`, which it uses: {FREED}"
        inner = up
    return ""


def freed_around(file: File, frame: ast.AST, node: ast.With | ast.Call, works: list[ast.AST], item: int = 0) -> str:
    """What the works use and a `with` or `finally` around the node frees, in words; "" where nothing is.

    A `finally` that holds the node frees it further down. Of the same `with` those items count that are entered
    before, and so left after, the executor, which is its `item`.
    """
    used = names_behind(file, frame, *works)
    inner: ast.AST = node
    for up in (node, *file.above(node)):
        if up is frame:
            break
        freed: set[str] = set()
        if isinstance(up, (ast.With, ast.AsyncWith)) and (inner in up.body or up is node):
            freed = {name for each in up.items[: item if up is node else None] for name in bound_by(each)}
        elif isinstance(up, ast.Try) and inner in (*up.body, *up.finalbody):
            behind = up.finalbody.index(inner) + 1 if isinstance(inner, ast.stmt) and inner in up.finalbody else 0
            parts = [part for line in up.finalbody[behind:] for part in walk(line)]
            freed = {name for part in parts for name in names_freed(file, part) | names_given_back(part)}
        if freed & used:
            return f"line {file.line(up)} frees `{min(freed & used)}`, which the work may use until it ends"
        inner = up
    return ""


def names_given_back(node: ast.AST) -> set[str]:
    func = node.func if isinstance(node, ast.Call) else None
    named = isinstance(func, ast.Attribute) and GIVES_BACK.match(func.attr) and isinstance(func.value, ast.Name)
    return {func.value.id} if named and isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) else set()


def names_freed(file: File, node: ast.AST) -> set[str]:
    """The names that the call removes from disk: `os.unlink(path)`, `path.unlink()`."""
    if not isinstance(node, ast.Call) or not FREES.match(last_name(node.func)):
        return set()
    known = file.qualified(node.func).split(".")[0] in ("os", "shutil", "aiofiles")
    parts = node.args if known else [node.func]
    return {each.id for part in parts for each in walk(part) if isinstance(each, ast.Name)}


def is_temporary(file: File, held: ast.expr) -> bool:
    return isinstance(held, ast.Call) and "tempfile." in file.qualified(held.func)


def bound_by(item: ast.withitem) -> set[str]:
    return {each.id for each in walk(item.optional_vars) if isinstance(each, ast.Name)} if item.optional_vars else set()


def names_behind(file: File, frame: ast.AST, *nodes: ast.AST) -> set[str]:
    """The names of the function that the nodes use, and those that these were made from."""
    todo = [each for node in nodes for each in walk(node) if isinstance(each, ast.Name)]
    names: set[str] = set()
    while todo:
        name = todo.pop()
        if name.id in names or not file.owned_by(name, frame):
            continue
        names.add(name.id)
        made = [item.value for item in file.lookup(name, name.id)[1] if item.value is not None]
        given = [call for call in (file.method_call(use, "append", "write") for use in file.uses(name)) if call]
        todo += [each for value in (*made, *given) for each in walk(value) if isinstance(each, ast.Name)]
    return names
