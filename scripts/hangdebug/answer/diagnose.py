"""From evidence to a Diagnosis: the state, then the cause of the wait that explains it, then the words."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace
from typing import Iterable

from hangdebug.answer.model import BlockingFrame, Diagnosis, Remedy, Verdict
from hangdebug.answer.other_loops import HELD, beside, of_another
from hangdebug.answer.states.states import name_of, state_of
from hangdebug.causes import cause_of
from hangdebug.causes.model import Cause, Match
from hangdebug.evidence.frames import package
from hangdebug.evidence.model import Evidence, Process, Snapshot
from hangdebug.scene.model import WaitsFor, drawing
from hangdebug.scene.pools import handed_over
from hangdebug.scene.rings import NOBODY, chain, label
from hangdebug.scene.scene import Scene, identity, scenes
from hangdebug.scene.tasks import as_wait
from hangdebug.scene.waits import Wait, place, stuck_workers
from hangdebug.scene.waits import wait as wait_of

RANK = (
    "deadlock",
    "loop-blocked",
    "exit-hang",
    "startup-hang",
    "loop-busy",
    "threadpool-exhausted",
    "stopped",
    "sync-worker-blocked",
    "tasks-waiting",
    "inconclusive",
    "healthy",
)
# How much a cause's own evidence is worth when the state is certain: two kinds that agree, one, or none.
WORTH = {"frames": 0.99, "tasks": 0.99, "kernel": 0.95, "source": 0.9}
UNKNOWN = 0.6
WORKER = "a synchronous worker"


def diagnose(evidence: Evidence) -> Diagnosis:
    """The diagnosis of one process, from one sample or many. Needs the standard library alone."""
    own, *others = scenes(evidence)
    first = answered(own, *state_of(own))
    if first.state != "healthy" or not others:
        return first
    held = [
        (other, *found)
        for other in others
        for found in [state_of(other)]
        if found[0].state in HELD and found[1] is not None
    ]
    judged = [(beside(own, other, verdict, wait), other, wait) for other, verdict, wait in held]
    accused = next(((other, verdict, wait) for verdict, other, wait in judged if verdict is not None), None)
    if accused is not None:
        return answered(*accused)
    return replace(first, exonerated=(*first.exonerated, *(of_another(wait) for _, _, wait in judged)))


def answered(scene: Scene, verdict: Verdict, wait: Wait | None) -> Diagnosis:
    evidence = scene.evidence
    cause, match = cause_of(verdict, wait, scene)
    thread = wait.view.thread if wait else None
    asks = handing(verdict, wait, scene)
    frame = blocking_frame(asks or wait) if wait and verdict.state != "healthy" else None
    confidence = sure(verdict, match, asks or wait, scene)
    edges = verdict.waits_for or followed(verdict, wait, scene)
    return Diagnosis(
        verdict.state,
        cause.id,
        confidence,
        shorter(summary(verdict, cause, wait, scene), scene),
        frame,
        thread,
        wait.view.role if wait else None,
        wait.kernel if wait else None,
        tuple(shorter(line, scene) for line in told(verdict, match, wait, scene, edges)),
        tuple(shorter(line, scene) for line in doubts(verdict, match, wait, scene, confidence)),
        tuple(exonerated(verdict, scene, wait, edges)),
        remedy(cause, frame, verdict),
        process_of(evidence),
        len(evidence.snapshots),
        bystander=verdict.bystander,
        waits_for=edges,
    )


def handing(verdict: Verdict, wait: Wait | None, scene: Scene) -> Wait | None:
    """The coroutine that handed a library's function to a full pool: the threads show no frame of the application."""
    if verdict.state != "threadpool-exhausted" or wait is None or wait.frame is not None:
        return None
    waits = [as_wait(scene, task) for task in handed_over(scene)]
    places = Counter(map(place, waits))
    return max((one for one in waits if one.frame is not None), key=lambda one: places[place(one)], default=None)


def worst(diagnoses: Iterable[Diagnosis]) -> Diagnosis:
    """The one to act on among the processes behind one port; the others are told of in `others`."""
    ranked = sorted(diagnoses, key=lambda one: (RANK.index(one.state), -one.confidence))
    first = next((one for one in ranked if not one.bystander), ranked[0])
    rest = tuple(
        f"process {one.process.pid}: {one.state}, {one.cause} ({one.confidence:.2f})"
        for one in ranked
        if one is not first
    )
    return replace(first, others=rest)


def evidence_of(snapshots: Iterable[Snapshot]) -> tuple[Evidence, ...]:
    """Pasted snapshots as evidence: those of one pid are samples of one process."""
    groups: dict[int | None, list[Snapshot]] = {}
    for snapshot in snapshots:
        groups.setdefault(snapshot.pid, []).append(snapshot)
    return tuple(
        Evidence(tuple(group), process=process_in(group[-1]), sources=printed(group), tasks=group[-1].tasks)
        for group in groups.values()
    )


def printed(snapshots: list[Snapshot]) -> dict[str, dict[int, str]]:
    """The source lines that the dumps print below their frames, by file and number."""
    found: dict[str, dict[int, str]] = {}
    for frame in (frame for one in snapshots for thread in one.threads for frame in thread.frames):
        if frame.text and frame.line:
            found.setdefault(frame.file, {})[frame.line] = frame.text
    return found


def process_in(snapshot: Snapshot) -> Process:
    """What the dump itself tells of its process."""
    frames = [frame for thread in snapshot.threads for frame in thread.frames]
    names = {package(frame) for frame in frames}
    server = next(
        (
            one
            for one in ("gunicorn", "uvicorn", "hypercorn", "granian", "daphne")
            if one in names or one in snapshot.command
        ),
        None,
    )
    return Process(snapshot.pid, snapshot.command, snapshot.python, server)


def process_of(evidence: Evidence) -> Process:
    read = process_in(evidence.snapshots[-1])
    known = evidence.process
    return replace(
        known,
        pid=known.pid or read.pid,
        command=known.command or read.command,
        python=read.python or known.python,
        server=known.server or read.server,
    )


def blocking_frame(wait: Wait) -> BlockingFrame | None:
    if wait.frame is None:
        return None
    return BlockingFrame(wait.frame.function, wait.frame.file, wait.frame.line, wait.text)


def sure(verdict: Verdict, match: Match, wait: Wait | None, scene: Scene) -> float:
    """How sure the whole answer is: the state, times what the cause's evidence is worth."""
    worth = max((WORTH[kind] for kind in match.kinds), default=UNKNOWN)
    if len(match.kinds) > 1:
        worth = 1.0
    value = verdict.confidence * worth
    if scene.guessed:
        value *= 0.95
    if wait is not None and wait.frame is None and verdict.state != "healthy":
        value = min(value, 0.6)
    return round(min(value, 0.98), 2)


def told(verdict: Verdict, match: Match, wait: Wait | None, scene: Scene, edges: tuple[WaitsFor, ...]) -> list[str]:
    lines = []
    if wait is not None and wait.coroutine and scene.loop:
        lines.append(
            f"The event loop is idle. {wait.view.thread.name} waits in {wait.frame or wait.view.thread.frames[0]}."
        )
    elif wait is not None and verdict.state != "healthy" and not wait.coroutine:
        role = {"event-loop": "runs the event loop", "worker": "is a pool's thread", "main": "is the main thread"}
        who = wait.view.thread.name or name_of(wait.view).capitalize()
        where = wait.frame or (wait.view.section[0] if wait.view.section else wait.view.thread.frames[0])
        lines.append(f"{who} {role.get(wait.view.role, 'is a thread of its own')} and stands in {where}.")
    lines += match.evidence + verdict.evidence
    if wait is not None and wait.kernel is not None and not any("kernel" in line for line in lines):
        running = wait.kernel.syscall == "running"
        lines.append(
            "The kernel has the thread on a CPU." if running else f"The kernel has the thread in {wait.kernel}."
        )
    lines += awaited(scene, wait)
    lines += [] if verdict.waits_for else holders(scene, edges)
    clients = scene.evidence.clients
    if clients is not None and verdict.state != "healthy" and (clients.abandoned or clients.unread or clients.backlog):
        lines.append(
            f"Of its clients' connections {clients.abandoned} were given up by the client, {clients.unread} hold "
            f"bytes that nobody reads, {clients.backlog} wait to be accepted."
        )
    return lines


def followed(verdict: Verdict, wait: Wait | None, scene: Scene) -> tuple[WaitsFor, ...]:
    """Whom the thread at fault waits for in turn, where that is no ring."""
    told_of = (
        wait is not None
        and verdict.state not in ("healthy", "tasks-waiting", "loop-busy")
        and identity(wait.view) in scene.by_thread
    )
    return chain(scene, wait) if told_of else ()


def holders(scene: Scene, edges: tuple[WaitsFor, ...]) -> list[str]:
    """Who holds what is waited for, and what that one is in: "price-refresher stands in refresh (app.py:29): http-client."."""
    lines = list(map(str, edges))
    last = next((view for view in scene.last if edges and label(scene, identity(view)) == edges[-1].waits_for), None)
    if last is not None and last.frame is not None and not last.idle:
        one = wait_of(scene, last)
        cause, _ = cause_of(Verdict("loop-blocked", 0.7), one, scene)
        what = f": {cause.id}" if cause.id not in ("other", "none") else ""
        lines.append(
            f"{edges[-1].waits_for} {'stands' if one.motion.same == one.motion.samples else 'moves on, last seen'} in "
            f"{one.frame}{what}."
        )
    return lines


def awaited(scene: Scene, wait: Wait | None) -> list[str]:
    """What the pool's threads are in that the loop waits for."""
    if wait is None or wait.view.role != "event-loop" or not wait.inside_package("concurrent", "threading"):
        return []
    groups: dict[str, int] = {}
    for one in stuck_workers(scene):
        where = one.frame or (one.view.section[0] if one.view.section else None)
        kernel = f", {one.kernel}" if one.kernel and one.kernel.syscall not in (None, "running") else ""
        groups[f"{where or 'a C call'}{kernel}"] = groups.get(f"{where or 'a C call'}{kernel}", 0) + 1
    return [
        f"{count} pool thread{'s' if count > 1 else ''} at work meanwhile: {where}."
        for where, count in list(groups.items())[:4]
    ]


def doubts(verdict: Verdict, match: Match, wait: Wait | None, scene: Scene, confidence: float) -> list[str]:
    lines = list(verdict.doubts)
    if scene.guessed:
        lines.append(f"The stack shows no event loop; it is taken to be there because {scene.guessed}.")
    if verdict.state not in ("healthy", "stopped") and not match.kinds:
        lines.append("No kind of evidence names what is waited for: open the line, and see what it calls.")
    lines += [f"While the evidence was taken: {note}" for note in scene.evidence.notes]
    if verdict.state == "healthy" and verdict.bystander:
        lines.append("Next: python scripts/hang.py diagnose --port PORT   # looks at every worker")
    elif confidence < 0.8:
        pid = scene.evidence.process.pid or scene.evidence.snapshots[-1].pid
        lines.append(f"Next: {next_command(verdict, scene, pid)}")
    return lines


def next_command(verdict: Verdict, scene: Scene, pid: int | None) -> str:
    live = bool(scene.evidence.readings)
    if verdict.state in ("healthy", "inconclusive") and live:
        return "python scripts/hang.py verify --url HEALTH_URL --url URL_THAT_HUNG   # an async route and a def route"
    if live:
        return f"sleep 5; python scripts/hang.py diagnose --pid {pid}"
    return f"python scripts/hang.py capture --pid {pid or 'PID'} --zip   # on the host: several samples, and the kernel's word"


def exonerated(verdict: Verdict, scene: Scene, wait: Wait | None, edges: tuple[WaitsFor, ...]) -> list[str]:
    lines = []
    parked = sum(view.idle for view in scene.threads("worker"))
    if parked:
        lines.append(
            f"{parked} pool thread{'s' if parked > 1 else ''} without work, parked in the queue: not the cause."
        )
    named = {name for edge in edges for name in (edge.thread, edge.waits_for)}
    others = [view for view in scene.threads("other") if wait is None or view.thread != wait.view.thread]
    others = [view for view in others if not named or label(scene, identity(view)) not in named]
    if others and verdict.state not in ("sync-worker-blocked", "deadlock"):
        lines.append(f"{len(others)} background thread{'s' if len(others) > 1 else ''} that no request waits for.")
    if (
        any(view.idle for view in scene.loop)
        and (wait is None or wait.view.role != "event-loop")
        and not verdict.state.startswith("loop-")
    ):
        lines.append("The event loop: it is idle and takes new events.")
    return lines


OFF_LOOP = ("threadpool-exhausted", "sync-worker-blocked", "tasks-waiting")  # no coroutine is to be rewritten there


def remedy(cause: Cause, frame: BlockingFrame | None, verdict: Verdict) -> Remedy | None:
    fix = None if verdict.state in OFF_LOOP else cause.fix
    if verdict.state in ("healthy", "inconclusive", "stopped") or not (cause.snippet or fix):
        return None
    command = None
    if fix and frame is not None:
        command = f"python scripts/hang.py fix {shlex.quote(f'{frame.file}:{frame.line}')}"
    return Remedy(cause.snippet, fix, command)


def shorter(text: str, scene: Scene) -> str:
    """Paths below the server's working directory without it, as a person there would write them."""
    cwd = scene.evidence.process.cwd
    return text.replace(f"{cwd.rstrip('/')}/", "") if cwd and cwd != "/" else text


def summary(verdict: Verdict, cause: Cause, wait: Wait | None, scene: Scene) -> str:
    """One sentence that a person can act on."""
    where = f" in {wait.frame}" if wait is not None and wait.frame is not None else ""
    line = f": `{wait.text}`" if wait is not None and wait.text else ""
    if verdict.state == "healthy":
        return "This is a supervisor; look at its workers." if verdict.bystander else well(verdict, scene)
    if verdict.state == "inconclusive":
        what = f" ({cause.id})" if cause.id not in ("other", "none") else ""
        return f"The evidence cannot say what is wrong{f'; the place to look at is{where[3:]}{line}{what}' if where else ''}."
    if verdict.state == "stopped":
        return "The kernel has stopped the process; `kill -CONT PID` lets it go on, if nobody debugs it."
    if verdict.state == "exit-hang":
        waiter = "a coroutine" if wait is not None and wait.coroutine else "a thread"
        for_what = f"{waiter}{where}{line}" if where else "open connections, or for work that does not end"
        if cause.id == "interpreter-exit" and not where:
            for_what = "a thread or a child process that does not end; what that one is in, the evidence does not show"
        return f"The process was told to stop and waits for {for_what}."
    if cause.id == "connection-pool" and verdict.state == "threadpool-exhausted":
        return f"Every connection of a pool is lent out, and requests wait for one{where}{line}."
    if verdict.state == "threadpool-exhausted":
        return f"Every thread of the pool is stuck{where}{line}; synchronous requests queue behind them."
    if verdict.state == "deadlock" and verdict.waits_for:
        return ring_summary(verdict, where, line)
    if verdict.state == "deadlock":
        return f"{cause.title[0].upper()}{cause.title[1:]}{where}{line}; it never ends."
    if verdict.state in ("loop-busy", "loop-blocked") and wait.view.role != "event-loop" and not wait.coroutine:
        return (
            f"{name_of(wait.view)} keeps the GIL{where}{line}; the event loop's thread, like all others, waits for it."
        )
    if verdict.state == "loop-busy":
        return f"The event loop's thread computes{where}{line}; no other request is served meanwhile."
    if verdict.state == "tasks-waiting":
        return f"A coroutine waits{where}{line} for what never comes; the event loop itself is fine."
    if verdict.state == "startup-hang":
        return f"The server has not started: its start waits{where}{line}."
    if wait.coroutine:
        return f"{verdict.evidence[0][:-1]}; no other request was served meanwhile."
    if verdict.state == "sync-worker-blocked":
        what = cause.title.replace("the event loop's thread", WORKER).replace("the event loop", WORKER)
        what = what if cause.id != "other" else f"{WORKER} waits ({wait.kernel or 'in a call'})"
        what = what if WORKER in what else f"{WORKER} is stuck: {what}"
        return f"{what[0].upper()}{what[1:]}{where}{line}; it serves nothing else meanwhile."
    what = cause.title if cause.id != "other" else f"the event loop's thread waits ({wait.kernel or 'in a call'})"
    return f"{what[0].upper()}{what[1:]}{where}{line}; no other request is served meanwhile."


def ring_summary(verdict: Verdict, where: str, line: str) -> str:
    edges = verdict.waits_for
    if edges[-1].waits_for == NOBODY:
        return f"{edges[0].thread} waits{where}{line} for a lock that nobody is left to release; it never ends."
    if len(edges) == 1:
        own = "a lock that it holds itself" if edges[0].kind == "lock" else edges[0].through
        return f"{edges[0].thread} waits{where}{line} for {own}; it never ends."
    return f"Threads wait for each other, {drawing(edges)}, the first{where}{line}; none of them ever goes on."


def well(verdict: Verdict, scene: Scene) -> str:
    """One dump of an idle loop is no clean bill of health to whoever pasted it because requests hang."""
    if verdict.confidence > 0.6:
        return "Nothing is stuck in this process."
    if not scene.loop:
        return "No thread that the evidence shows is stuck."
    return "No thread is stuck at this moment: the event loop is idle, and what its coroutines wait for does not show here."
