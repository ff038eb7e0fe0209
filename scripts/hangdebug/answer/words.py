"""The words of an answer: where a thread stands, what a request waits for, every line of the report but the summary."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from hangdebug.answer.certainty import CLEAR
from hangdebug.answer.model import BlockingFrame, Remedy, StateEntry, Verdict
from hangdebug.causes import cause_of
from hangdebug.causes.model import Cause, Match
from hangdebug.errors import ours
from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Task
from hangdebug.scene.loop import spins, writes_ended
from hangdebug.scene.requests import innocence, standing_threads
from hangdebug.scene.rings import NOBODY, node_name
from hangdebug.scene.scene import Scene, identity
from hangdebug.scene.tasks import could_be_ended_by, ends_of, task_waits, waits_for_object
from hangdebug.scene.waits import Wait, WaitsFor, name_of, stuck_workers, wait
from hangdebug.scene.waits import wait as wait_of

LOCK_NAME = re.compile(r"`([^`]+)`")
NAME_TAKEN = re.compile(r"([A-Za-z_][\w.]*)\.acquire\(")
LOOPS_THREAD, LOOP, WORKER = "the event loop's thread", "the event loop", "a synchronous worker"


def times(count: int) -> str:
    """ "never", "once", "7 times"."""
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def wake_words(wait: Wait) -> tuple[str, ...]:
    """How often the thread woke while nobody looked; () where the kernel was not asked twice."""
    if wait.motion.woke is None:
        return ()
    woke = "did not wake" if wait.motion.woke == 0 else f"woke {times(wait.motion.woke)}"
    return (f"It {woke} in the {wait.motion.span:.1f} s before the first attach.",)


def place_of(wait: Wait | None) -> str:
    """ " in fetch (app.py:29)", or ""."""
    return f" in {wait.frame}" if wait is not None and wait.frame is not None else ""


def line_of(wait: Wait | None) -> str:
    """ ": `time.sleep(9)`", or ""."""
    return f": `{wait.text}`" if wait is not None and wait.text else ""


def counted(count: int, noun: str, verb: str) -> str:
    """ "1 pool thread stands", "3 pool threads stand": `verb` is given as for one."""
    return f"{count} {noun}{'s' if count != 1 else ''} {verb[:-1] if count != 1 else verb}"


def all_of(count: int, nouns: str) -> str:
    """ "The one request", "Both requests", "All 3 requests"."""
    return {1: f"The one {nouns[:-1]}", 2: f"Both {nouns}"}.get(count, f"All {count} {nouns}")


def blocked_summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    """The sentence for a thread that waits on the event loop."""
    wait = verdict.wait
    if wait is not None and wait.coroutine:
        return f"{verdict.evidence[0][:-1]}; no other request was served meanwhile."
    kernel = (wait.kernel if wait is not None else None) or "in a call"
    what = cause.title if cause.id != "other" else f"{LOOPS_THREAD} waits ({kernel})"
    return f"{capital(what)}{place_of(wait)}{line_of(wait)}; no other request is served meanwhile."


def idle_words(scene: Scene) -> str:
    total, idle = len(scene.loop), sum(view.idle for view in scene.loop)
    return f"The event loop was idle in {idle} of {total} samples." if total > 1 else "The event loop is idle."


def capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def failed_tasks(scene: Scene) -> tuple[str, ...]:
    """Tasks that have ended with an exception: whoever should have ended a wait may be among them."""
    failed: list[Task] = [one for one in scene.evidence.tasks if one.state.startswith("failed")]
    return tuple(f"{one.name} ({one.coroutine}) has {one.state}" for one in failed[:4])


def release_words(scene: Scene, wait: Wait | None) -> tuple[str, ...]:
    """Which line should have released what the wait's own line takes; () where the source is not at hand."""
    taken = name_taken(scene, wait)
    if wait is None or wait.frame is None or not taken:
        return ()
    found, late = releases(scene, wait.frame, taken)
    if not found:
        return (f"No line that is at hand in {wait.frame.file.rpartition('/')[2]} releases `{taken}`.",)
    where = "is not in a `finally`: what raises or returns before it keeps the permit"
    return (f"`{taken}.release()` ({', '.join(late)}) {where}.",) if late else ()


def name_taken(scene: Scene, wait: Wait | None) -> str:
    """The name that the wait's own line acquires, "" where it shows none."""
    frame = wait.frame if wait is not None else None
    lines = scene.evidence.sources.get(frame.file, {}) if frame is not None else {}
    taken = NAME_TAKEN.search(lines.get(frame.line or 0, "")) if frame is not None else None
    return taken[1] if taken else ""


def releases(scene: Scene, frame: Frame, name: str) -> tuple[list[int], list[str]]:
    """The lines of the frame's file that release it, and the places of those that may be passed over."""
    lines, file = scene.evidence.sources.get(frame.file, {}), frame.file.rpartition("/")[2]
    found = [number for number in lines if f"{name}.release(" in lines[number]]
    return found, [f"{file}:{number}" for number in found if not in_finally(lines, number)]


def in_finally(lines: Mapping[int, str], number: int) -> bool:
    """Whether the nearest line above that is indented less begins a `finally`."""
    depth = len(lines[number]) - len(lines[number].lstrip())
    above = (lines.get(one, "") for one in range(number - 1, min(lines) - 1, -1))
    outer = next((text for text in above if text.strip() and len(text) - len(text.lstrip()) < depth), "")
    return outer.strip().startswith("finally")


# -- a request that waits ------------------------------------------------------------------------------


def whom_it_waits_for(scene: Scene, task: Task) -> str:
    """Whom a request waits for that has had no answer."""
    seen, awaits = task_waits(scene), task.awaits
    if awaits is None:
        return f"{task.name} serves a request and waits all the time."
    holders = [one for one in seen.inside(awaits.id) if not waits_for_object(seen, one, awaits.id)]
    inside = "".join(f"; {one.name} is inside of it, and waits for {one.awaits or 'nothing'}" for one in holders[:1])
    other = could_be_ended_by(scene, seen, task, ends_of(scene, task)) if ends_of(scene, task) and not holders else None
    later = f"; {other} could still end that" if other else ""
    return f"{task.name} serves a request and waits for {awaits} all the time{inside}{later}."


# -- the lines of a report -----------------------------------------------------------------------------

ROLES = {"event-loop": "runs the event loop", "worker": "is a pool's thread", "main": "is the main thread"}
OWN_NUMBER = re.compile(r"\(fd \d+ -> ")  # of a descriptor: each thread has its own to the same peer
MOST_PLACES = 4
MOST_TOLD = 3


@dataclass(frozen=True)
class Found:
    """What an answer is made of. `edges` are the ring of waits, or whom the thread at fault waits for in turn."""

    scene: Scene
    state: StateEntry
    verdict: Verdict
    cause: Cause
    match: Match
    edges: tuple[WaitsFor, ...]
    confidence: float


def evidence(found: Found) -> list[str]:
    scene, verdict, wait = found.scene, found.verdict, found.verdict.wait
    lines = []
    if wait is not None and wait.coroutine and scene.loop:
        idle = "" if spins(scene) is not None else "The event loop is idle. "
        lines.append(f"{idle}{wait.view.thread.name} waits in {wait.frame or wait.view.thread.frames[0]}.")
    elif wait is not None and not found.state.well and not wait.coroutine:
        name = name_of(wait.view)
        where = wait.frame or (wait.view.section[0] if wait.view.section else wait.view.thread.frames[0])
        role = ROLES.get(wait.view.role, "is a thread of its own")
        lines.append(f"{name[0].upper()}{name[1:]} {role} and stands in {where}.")
    lines += found.match.evidence + verdict.evidence
    if wait is not None and wait.kernel is not None and not any("kernel" in line for line in lines):
        running = wait.kernel.syscall == "running"
        lines.append(
            "The kernel has the thread on a CPU." if running else f"The kernel has the thread in {wait.kernel}."
        )
    lines += pool_threads_at_work(found)
    lines += [] if verdict.ring else holder_lines(scene, found.edges)
    lines += [client_line(scene)] if not found.state.well and client_line(scene) else []
    lines += [peer_line(scene)] if (verdict.wait is None or verdict.wait.coroutine) and peer_line(scene) else []
    return lines


def client_line(scene: Scene) -> str:
    """What its clients' connections show; "" where nothing is amiss with one."""
    clients = scene.evidence.clients
    if clients is None:
        return ""
    found = {
        "given up by its client": clients.abandoned,
        "with bytes that nobody reads": clients.unread,
        "waiting to be accepted": clients.backlog,
    }
    each = [f"{count} {what}" for what, count in found.items() if count]
    return f"Connections of its clients: {', '.join(each)}." if each else ""


def peer_line(scene: Scene) -> str:
    """Whom the process has asked, and not heard of since, while a client of its own waits; "" for nobody."""
    clients = scene.evidence.clients
    if clients is None or not clients.waits or not clients.owing:
        return ""
    longest = dict(reversed(clients.owing))  # of each peer
    each = [f"{peer} ({longest[peer]:.0f} s)" for peer in sorted(longest, key=longest.__getitem__, reverse=True)]
    more = f" and {len(each) - MOST_TOLD} more" if each[MOST_TOLD:] else ""
    return f"Asked by this process, and silent since: {', '.join(each[:MOST_TOLD])}{more}."


def holder_lines(scene: Scene, edges: tuple[WaitsFor, ...]) -> list[str]:
    """Who holds it, and what that thread is in: "price-refresher stands in refresh (app.py:29): http-client."."""
    lines = list(map(str, edges))
    last = next(
        (view for view in scene.last if edges and node_name(scene, identity(view)) == edges[-1].waits_for), None
    )
    if last is not None and last.frame is not None and not last.idle:
        one = wait_of(scene, last)
        cause, _ = cause_of(scene, one)
        what = f": {cause.id}" if cause.id not in ("other", "none") else ""
        stands = "stands" if one.motion.in_place else "moves on, last seen"
        lines.append(f"{edges[-1].waits_for} {stands} in {one.frame}{what}.")
    return lines


def pool_threads_at_work(found: Found) -> list[str]:
    """What the pool's threads are in that the loop waits for."""
    wait = found.verdict.wait
    if wait is None or wait.view.role != "event-loop" or not wait.inside_package("concurrent", "threading"):
        return []
    places: Counter[str] = Counter()
    for one in stuck_workers(found.scene):
        where = one.frame or (one.view.section[0] if one.view.section else None)
        kernel = f", {one.kernel}" if one.kernel and one.kernel.syscall not in (None, "running") else ""
        places[f"{where or 'a C call'}{OWN_NUMBER.sub('(', kernel)}"] += 1
    told = places.most_common(MOST_PLACES)
    rest = len(stuck_workers(found.scene)) - sum(count for _, count in told)
    told += [(f"{len(places) - MOST_PLACES} other place{'s' * (len(places) - MOST_PLACES > 1)}", rest)] if rest else []
    return [f"{count} pool thread{'s' if count > 1 else ''} at work meanwhile: {where}." for where, count in told]


def doubts(found: Found) -> list[str]:
    scene, lines = found.scene, list(found.verdict.doubts)
    if scene.guessed:
        lines.append(f"The stack shows no event loop; it is taken to be there because {scene.guessed}.")
    if found.state.names_cause and not found.match.kinds:
        lines.append("No kind of evidence names what is waited for: open the line, and see what it calls.")
    read = scene.evidence.snapshots[-1].read
    lines += [f"Of the text {read}."] if ";" in read else []
    lines += [f"While the evidence was taken: {note}" for note in scene.evidence.notes]
    lines += [
        f"{name} stood in one write until the first attach, and then in another call: to attach cuts a write short, so "
        "that it moved says nothing."
        for name in writes_ended(scene)[:MOST_TOLD]
    ]
    return lines


def exonerated(found: Found) -> list[str]:
    """Who is innocent: parked pool threads, background threads, an idle loop."""
    scene, wait, lines = found.scene, found.verdict.wait, []
    parked = sum(view.idle for view in scene.threads("worker"))
    if parked:
        lines.append(
            f"{parked} pool thread{'s' if parked > 1 else ''} without work, parked in the queue: not the cause."
        )
    named = {name for edge in found.edges for name in (edge.thread, edge.waits_for)}
    others = [view for view in scene.threads("other") if wait is None or view.thread != wait.view.thread]
    others = [view for view in others if not named or node_name(scene, identity(view)) not in named]
    busy = (wait_of(scene, view) for view in others if view.frame is not None)
    told = list(islice(((one, why) for one in busy for why in [innocence(scene, one)] if why), MOST_TOLD))
    if found.state.exonerates_threads:
        lines += [f"{name_of(one.view)} {why}, in {one.frame}." for one, why in told]
    others = [view for view in others if not any(view is one.view for one, _ in told)]
    others = [view for view in others if not any(view.thread == one.view.thread for one in standing_threads(scene))]
    if others and found.state.exonerates_threads:
        lines.append(f"{len(others)} background thread{'s' if len(others) > 1 else ''} that no request waits for.")
    idle = any(view.idle for view in scene.loop) and not found.state.on_loop
    if idle and spins(scene) is None and (wait is None or wait.view.role != "event-loop"):
        lines.append("The event loop: it is idle and takes new events.")
    return lines


def remedy(found: Found, frame: BlockingFrame | None) -> Remedy | None:
    """What to change by hand, the pattern to copy, the rewrite to apply; None where nothing is to be changed."""
    cause = found.cause
    fix = cause.fix if found.state.repair == "code" and not out_of_reach(found) else None
    fix = found.verdict.fix or fix
    if found.state.repair is None:
        return None
    said = by_hand(found) or ("" if cause.snippet or fix else in_general(found))
    if not (cause.snippet or fix or said):
        return None
    command = None
    if fix and frame is not None:
        command = ours("fix", f"{frame.file}:{frame.line}")
    return Remedy(cause.snippet, fix, command, said)


def out_of_reach(found: Found) -> bool:
    """Whether no coroutine blocks: a rewrite for those mends neither a plain thread nor what a coroutine awaits."""
    wait = found.verdict.wait
    return wait is not None and (wait.view.role != "event-loop" or bool(wait.coroutine))


def in_general(found: Found) -> str:
    """What mends such a wait wherever it stands, where nothing is known that is closer to the code; "" for others."""
    wait, cause = found.verdict.wait, found.cause
    if cause.id in (*PEERS, "dns", "queue") and not found.state.on_loop and wait is not None and wait.frame is not None:
        limit = "`asyncio.timeout()` around it" if wait.coroutine else "a time-out in the call"
        return f"Bound the wait in {wait.frame} ({limit}), and say what is to be done where that passes."
    if cause.fix is not None:
        return ""
    page = sys.modules[cause.match.__module__].__doc__ or ""
    words = " ".join(page.partition("\nRepair: ")[2].partition("\n\n")[0].split())
    return capital(words) if words else ""


def by_hand(found: Found) -> str:
    """Which lines to change where locks are waited for: who has each, who wants it, where it should be given back."""
    wait, ring = found.verdict.wait, found.verdict.ring
    if wait is not None and wait.coroutine:
        name = name_taken(found.scene, wait)
        late = releases(found.scene, wait.frame, name)[1] if wait.frame is not None and name else []
        where = f"{wait.frame} takes: `async with {name}:`, or put it in a `finally`"
        return f"`{name}.release()` ({', '.join(late)}) has to give back on every way out what {where}." if late else ""
    for edge, after in zip(ring, [*ring[1:], *ring[:1]]):
        kept = LOCK_NAME.match(after.through) if edge.kind not in ("lock", "task") and after.kind == "lock" else None
        if kept and edge.frame and after.frame:
            does = (
                f"{edge.frame} waits for {edge.waits_for} while it holds `{kept[1]}`, which is wanted in {after.frame}"
            )
            return f"{does}: leave the lock first, and wait then."
    names = [LOCK_NAME.match(edge.through) for edge in ring]
    if not ring or found.cause.id != "lock" or names[0] is None or ring[0].frame is None:
        return ""
    lock, place = names[0][1], ring[0].frame
    if ring[-1].waits_for == NOBODY:
        passed = ", ".join(releases(found.scene, place, lock)[1])
        line = f"`{lock}.release()` ({passed})" if passed else f"Whoever takes `{lock}`"
        does = "has to run on every way out" if passed else "has to release it on every way out"
        return f"{line} {does}, for {ring[0].thread} waits for that in {place}: `with {lock}:`, or a `finally`."
    if len(ring) == 1:
        taken = ring[0].through.rpartition(" took in ")[2]
        return f"Take `{lock}` once: {place} wants it, and the same thread took it in {taken}, further out."
    if any(edge.kind == "task" for edge in ring):
        held = next(edge for edge in ring if edge.kind == "task")
        where = f"before it awaits in {held.frame}: await outside of the `with`, or make it an asyncio.Lock"
        return f"{held.thread} has to release `{lock}` {where}. {ring[0].thread} waits for it in {place}."
    if any(edge.kind != "lock" or edge.frame is None or edge.concluded for edge in ring) or not all(names):
        return ""
    steps = [
        f"{edge.frame} takes `{wanted[1]}` while it holds `{held[1]}`"
        for edge, wanted, held in zip(ring, names, [names[-1], *names[:-1]])
        if wanted and held
    ]
    owners = {edge.frame.function.rpartition(".")[0] for edge in ring if edge.frame}
    if lock.startswith("self.") and len(owners) == 1 and all(each and each[1] == lock for each in names):
        return (
            f"Two objects' `{lock}` are taken in opposite orders, in {place}: where two are needed, sort the objects, "
            "by `id()` for example, and take their locks in that order."
        )
    return f"Take the locks in one order everywhere: {', and '.join(steps)}. Turn one of these round."


# -- what to do next -----------------------------------------------------------------------------------
# What to do next: the observation that would decide, or where to look beyond this process.
#
# Nothing here sends a request to a service that may be sick without saying what it costs.

PEERS = ("http-client", "database", "socket")  # causes whose descriptor leads to another machine
ACTIVITY = 'psql -c "SELECT pid, state, wait_event_type, now() - query_start, query FROM pg_stat_activity"'
OWN_WORDS = {  # by port: what a database says of its own locks and slow queries
    "5432": f"{ACTIVITY}   # wait_event_type Lock: it waits inside of the database",
    "3306": 'mysql -e "SHOW FULL PROCESSLIST; SHOW ENGINE INNODB STATUS"   # who holds the row',
    "6379": "redis-cli --latency; redis-cli SLOWLOG GET 5   # a slow command holds up all others",
    "27017": 'mongosh --eval "db.currentOp({waitingForLock: true})"',
}
AGAIN = "the same line again: it is stuck there; another one: it goes on. Nothing is sent to it"


def pid_of(scene: Scene) -> str:
    evidence = scene.evidence
    return str(evidence.process.pid or evidence.snapshots[-1].pid or "PID")


def look_again(scene: Scene) -> str:
    return f"sleep 5; {ours('diagnose', '--pid', pid_of(scene))}   # {AGAIN}"


def next_steps(scene: Scene, state: StateEntry, verdict: Verdict, cause: Cause, confidence: float) -> Iterator[str]:
    """Commands, each with what it shows; none where the answer is clear and says all."""
    if verdict.bystander and state.well:
        yield f"{ours('diagnose', '--port', 'PORT')}   # looks at every worker"
    elif any(one.kind == "c-only" for one in scene.evidence.snapshots[-1].stated):
        yield f"py-spy dump --pid {pid_of(scene)}   # shows the Python frames"
    elif not scene.evidence.readings and confidence < CLEAR:
        who = pid_of(scene)
        why = "on the host: several samples, tasks, the kernel's word"
        yield f"{ours('capture', '--pid', who, '--zip')}   # {why}"
    elif state.well:
        yield from beyond(scene)
    elif verdict.decides:
        yield verdict.decides.replace("{pid}", pid_of(scene))
    elif confidence < CLEAR:
        yield look_again(scene)
    elif cause.id == "connection-pool":
        yield f"{ACTIVITY}   # PostgreSQL: `idle in transaction` are connections that were taken and are kept"


def beyond(scene: Scene) -> Iterator[str]:
    """Where to look when nothing is stuck here, from what was seen: peers, other workers, what is in front."""
    process, clients = scene.evidence.process, scene.evidence.clients
    for peer, count in peers(scene).most_common(2):
        port = peer.rpartition(":")[2]
        asked = OWN_WORDS.get(port, f"curl -sS -o /dev/null -w '%{{time_total}}' --max-time 5 http://{peer}/")
        yield f"{asked}   # {count} thread{'s' * (count > 1)} wait{'s' * (count == 1)} for {peer}: is that slow?"
    if process.supervisor_pid:
        yield f"{ours('diagnose', '--pid', process.supervisor_pid)}   # its other workers"
    serves = process.listens is not False
    if clients is not None and not clients.open and not clients.backlog and serves:
        port = str(process.listening[0]) if process.listening else "PORT"
        asked = f"curl -sS -o /dev/null -w '%{{http_code}} %{{time_total}}' --max-time 2 http://127.0.0.1:{port}/"
        yield f"{asked}   # no client is connected. Where this answers, what hangs is in front: look at the proxy"
    elif scene.evidence.readings:
        where = ("--port", process.listening[0]) if process.listening else ("--pid", pid_of(scene))
        when = "a request hangs" if serves else "it stands still"
        yield f"{ours('diagnose', *where)}   # while {when}: it may have been over just now"


def peers(scene: Scene) -> Counter[str]:
    """Whom its threads wait for over the network: "10.2.3.4:5432", and how many do."""
    found: Counter[str] = Counter()
    for view in scene.last:
        detail = view.kernel.detail if view.kernel is not None and not view.idle else None
        if detail and "-> " in detail and cause_of(scene, wait(scene, view))[0].id in PEERS:
            found[detail.rpartition("-> ")[2]] += 1
    return found
