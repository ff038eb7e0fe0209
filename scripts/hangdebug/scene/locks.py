"""Which locks a stack is inside of and which one it waits for, as the source of its frames shows.

    with orders_lock:                 a frame below this line holds `orders_lock`
        stock_lock.acquire()          a frame that stands on this line waits for `stock_lock`

A name is not yet a lock: `self.lock` of two objects are two. `same_lock` says how sure it is that two names mean one.
"""

from __future__ import annotations

from collections.abc import Iterator

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame
from hangdebug.evidence.source import DEF, Sources, indent, makers, raw_statement, statement_at, unaliased, with_parts
from hangdebug.scene.waits import Wait

NAME = r"[A-Za-z_][\w.]*(?:\[[^\]]*\])?"
ITEM = re.compile(rf"^\(?\s*(?P<name>{NAME})\s*\)?(?:\s+as\s+\w+)?$")
ENTRY = re.compile(rf"^\(?\s*(?P<callee>{NAME})\((?P<arguments>.*)\)\s*\)?(?:\s+as\s+\w+)?$")
LITERAL = re.compile(r"^(?:\s*(?:\w+\s*=\s*)?(?:\"\"|'[^']*'|\"[^\"]*\"|-?[\d.]+)\s*(?:,|$))*$")
TAKES = re.compile(
    rf"^\s*(?:def\s+\w+\([^()]*\)\s*:\s*)?(?:\w+\s*=\s*|if\s+(?:not\s+)?|while\s+not\s+)?(?P<name>{NAME})\.acquire\("
)
GIVES = re.compile(rf"(?<!\w)(?P<name>{NAME})\.release\(")
WAITED = re.compile(rf"(?<!\w)(?P<name>{NAME})\.wait(?:_for)?\(")
BORROWED = re.compile(rf"Condition\(\s*(?P<name>{NAME})\s*\)")
ENTERS = (
    "threading.py:__enter__",
    "multiprocessing/synchronize.py:__enter__",
    "multiprocessing/synchronize.py:acquire",
)
HELPER = "through a helper"  # the kind of a lock that only a call names: `with locked("stock"):`
CLASS = re.compile(r"^(?P<indent>\s*)class\s+(?P<name>\w+)")
REENTRANT = ("RLock", "Condition")
LOCKISH = ("lock", "mutex", "sem", "cond", "guard")
FUTEX = ("futex", "semop", "semtimedop")


@dataclass(frozen=True)
class Lock:
    """A lock as the source names it. Of a module's own lock `owner` is the module, and the name is enough.

    Else `owner` is the class, or "" where any object could be meant. `at` is its address, where locals were printed.
    """

    name: str
    owner: str
    attribute: str
    sure: bool
    kinds: frozenset[str]
    at: str = ""


# Its RLock: one a handler, and which handler does not show.
HANDLER = Lock("the log handler's lock", "logging", "handler", False, frozenset({"RLock"}))


@dataclass(frozen=True)
class Held:
    """A lock, and the frame that is inside of it. What was taken `by_hand`, and not by `with`, anybody may release."""

    lock: Lock
    frame: Frame
    by_hand: bool = False


def locks_wanted(one: Wait, sources: Sources) -> tuple[Lock, ...]:
    """What the thread waits for: the locks that its line enters or acquires without a frame of their own."""
    if enters_handler(one.view.thread.frames):
        return () if one.running else (HANDLER,)
    if one.frame is None or one.running or not (one.leaf or one.starts_with(*ENTERS)):
        return ()
    found = locks_of_line(one, sources)
    return (*found, *locks_of_helpers(one, sources)) if found else ()


def locks_of_line(one: Wait, sources: Sources) -> tuple[Lock, ...]:
    """The locks that the application's innermost line enters or acquires."""
    if one.frame is None:
        return ()
    text = statement_at(sources, one.frame)
    taken = TAKES.match(text)
    names = [taken["name"]] if taken else list(names_entered(text))
    found = [lock_of(sources, one.frame, name) for name in names]
    if one.syscall is not None:
        return tuple(found) if one.in_syscall(*FUTEX) else ()
    if one.leaf and with_parts(text)[1]:
        return ()  # whether it enters, or calls something in the body on the same line, only the kernel could say
    return tuple(
        lock
        for lock in found
        if taken or not one.leaf or lock.kinds or any(word in lock.attribute.lower() for word in LOCKISH)
    )


def locks_of_helpers(one: Wait, sources: Sources) -> Iterator[Lock]:
    """The same lock's names further out, where a helper takes it: `with guard:`, `with locked("stock"):`."""
    inner: Frame | None = None
    for frame in one.view.section:
        if inner is not None and is_application(frame) and inner.name == "__enter__":
            yield from (lock_of(sources, frame, name) for name in names_entered(statement_at(sources, frame)))
            yield from calls_entered(raw_statement(sources.get(frame.file, {}), frame.line or 0))
        inner = frame


def calls_entered(text: str) -> Iterator[Lock]:
    """What a `with` line enters by a call: a lock, if that call is a helper which takes one."""
    items = with_parts(text)[0]
    found = ENTRY.match(items.strip()) if items.count("(") == 1 else None
    if found:
        name = found["callee"].rpartition(".")[2]
        yield Lock(items.partition(" as ")[0].strip(), found["arguments"], name, False, frozenset({HELPER}))


def locks_held(frames: tuple[Frame, ...], sources: Sources) -> Iterator[Held]:
    """The locks that the application's frames are inside of, the innermost first."""
    for index, frame in enumerate(frames):
        if index and calls(frame, "logging/__init__.py:handle") and not enters_handler(frames[: index + 1]):
            yield Held(HANDLER, frame)
        if is_application(frame) and frame.line in sources.get(frame.file, {}):
            dropped = names_released_by_wait(frames[:index], frame, sources)
            own = names_entered(statement_at(sources, frame)) if index and not calls(frames[index - 1], *ENTERS) else ()
            for name, by_hand in (*((name, False) for name in own), *names_taken_above(sources, frame)):
                if name not in dropped and "*" not in dropped:
                    yield Held(lock_of(sources, frame, name), frame, by_hand)
            for lock in calls_around(sources, frame):
                yield Held(lock, frame)


def enters_handler(frames: tuple[Frame, ...]) -> bool:
    """Whether the innermost call takes a log handler's lock: by `acquire()`, or from 3.13 on in `handle()` itself."""
    return bool(frames) and calls(frames[0], "logging/__init__.py:acquire", "logging/__init__.py:handle")


def names_taken_above(sources: Sources, frame: Frame) -> Iterator[tuple[str, bool]]:
    """The locks that are taken above the frame's line in its function, and not released again: the name of each, and
    whether it was taken by hand.
    """
    lines = sources[frame.file]
    number = frame.line or 0
    depth, released = indent(lines[number]), set()
    while number - 1 in lines:
        number -= 1
        text = lines[number]
        if not text.strip():
            continue
        taken, outer = TAKES.match(text), indent(text) < depth
        if outer and DEF.match(text):
            return
        released |= {found["name"] for found in GIVES.finditer(text)}
        if taken and indent(text) <= depth and taken["name"] not in released:
            yield taken["name"], True
        if outer:
            depth = indent(text)
            yield from ((name, False) for name in names_entered(text))


def calls_around(sources: Sources, frame: Frame) -> Iterator[Lock]:
    """What the `with` lines around the frame's line enter by a call, within its function."""
    lines, number = sources[frame.file], frame.line or 0
    depth = indent(lines[number])
    while number - 1 in lines and depth:
        number -= 1
        text = lines[number]
        if text.strip() and indent(text) < depth:
            if DEF.match(text):
                return
            depth = indent(text)
            yield from calls_entered(text)


def names_entered(text: str) -> Iterator[str]:
    """What a `with` line enters by name: "a" and "self.b" of `with a, self.b as c:`."""
    for item in with_parts(text)[0].split(","):
        name = ITEM.match(item.strip())
        if name:
            yield name["name"]


def names_released_by_wait(inner: tuple[Frame, ...], frame: Frame, sources: Sources) -> set[str]:
    """The locks that a condition's `wait()` releases for as long as it waits; {"*"} where it is not known which."""
    if not inner or not waits_on_condition(inner):
        return set()
    waited = WAITED.search(statement_at(sources, frame))
    if waited is None:
        return {"*"}
    name = waited["name"]
    known = [
        text for text in sources[frame.file].values() if re.match(rf"^\s*{re.escape(name)}\s*(?::[^=]+)?=[^=]", text)
    ]
    borrowed = {found["name"] for text in known for found in BORROWED.finditer(text)}
    return {name, *borrowed} if known else {"*"}


def waits_on_condition(inner: tuple[Frame, ...]) -> bool:
    """Whether the application called `Condition.wait()`: Event and Barrier have a `wait` too, and call that one."""
    first, rest = inner[-1], inner[:-1]
    if not calls(first, "threading.py:wait", "threading.py:wait_for"):
        return False
    if "." in first.function:
        return first.function.startswith("Condition.")
    return first.name == "wait_for" or not (rest and calls(rest[-1], "threading.py"))


def lock_of(sources: Sources, frame: Frame, name: str) -> Lock:
    head, _, rest = name.partition(".")
    attribute = name.rpartition(".")[2].partition("[")[0]
    kinds = frozenset(one.rpartition(".")[2] for one in makers(sources, frame, name))
    address = (frame.locals.get(head) or "") if frame.locals else ""
    module = re.split(r"[/\\]", frame.file)[-1].rpartition(".")[0]
    if address:
        return Lock(
            name, address if rest else "", attribute, "[" not in name, kinds, f"{address}.{rest}" if rest else address
        )
    if head in ("self", "cls"):
        return Lock(name, class_of(sources, frame), attribute, False, kinds)
    imported = next(iter(unaliased(sources, frame, frozenset({name}))), None)
    if imported and "." in imported:
        return Lock(name, imported.split(".")[-2], attribute, "[" not in name, kinds)
    if is_global(sources, frame, head):
        return Lock(name, f"{module}.{head}" if rest else module, attribute, "[" not in name, kinds)
    return Lock(name, "", attribute, False, kinds)


def class_of(sources: Sources, frame: Frame) -> str:
    """The class of a method: "Cache" of `Cache.size`, or from the source where the name is bare, "" where unknown."""
    owner = frame.function.rpartition(".<locals>.")[2].rpartition(".")[0]
    if owner or "." in frame.function:
        return owner.rpartition(".")[2]
    lines = sources.get(frame.file, {})
    depth = indent(lines.get(frame.line or 0, ""))
    for number in sorted((one for one in lines if one < (frame.line or 0)), reverse=True):
        found = CLASS.match(lines[number])
        if found and len(found["indent"]) < depth:
            return found["name"]
    return ""


def is_global(sources: Sources, frame: Frame, name: str) -> bool:
    """Whether the file's known lines bind the name at the module's level."""
    bound = re.compile(rf"^{re.escape(name)}\s*(?::[^=]+)?=[^=]|^{re.escape(name)}\s*,.*=|.*,\s*{re.escape(name)}\s*=")
    return any(bound.match(text) and not text[:1].isspace() for text in sources.get(frame.file, {}).values())


def same_lock(one: Lock, other: Lock) -> bool | None:
    """True where both names must mean one lock, False where they may, None where they cannot."""
    if one.at and other.at:
        return True if one.at == other.at else None
    if HELPER in one.kinds or HELPER in other.kinds:
        literal = bool(LITERAL.match(one.owner)) and bool(LITERAL.match(other.owner))
        alike = one.kinds == other.kinds and one.attribute == other.attribute
        return False if alike and (one.name == other.name or not literal) else None
    if one.attribute != other.attribute:
        return None
    if one.sure and other.sure and not (one.at or other.at):
        return True if one.owner == other.owner else None
    known = one.owner and other.owner and not (one.at or other.at)
    return None if known and one.owner != other.owner else False
