"""Nothing is stuck: the loop waits for its next event, workers wait for work, or all of it moves on.

Each doubt that is left is a limit: "healthy" is no surer than the weakest part of what it rests on.
"""

from __future__ import annotations

from hangdebug.answer.certainty import (
    AGREED,
    BUSY_AT_TIMES,
    FIRM,
    GIL_TAKEN,
    MOMENT,
    NO_SPARE_THREAD,
    ONE_MOMENT,
    OPEN,
    REQUEST_STANDS,
    RUNTIME_UNREAD,
    STACKS_ALONE,
    TASKS_UNREAD,
    THREADS_STAND,
    UNSEEN_COROUTINES,
    lowest,
)
from hangdebug.answer.model import Limit, Rule, StateEntry, Verdict
from hangdebug.answer.states.loop_blocked import loop_verdict
from hangdebug.answer.states.sync_worker_blocked import weighed_workers, workers_verdict
from hangdebug.answer.words import counted, idle_words
from hangdebug.causes.model import Cause
from hangdebug.evidence.frames import is_child, is_supervisor, supervises
from hangdebug.evidence.model import Clients
from hangdebug.scene.loop import spins
from hangdebug.scene.open_requests import place_of_request, standing, unaccounted, unread_runtime
from hangdebug.scene.pools import full_pool, pool_without_spare
from hangdebug.scene.requests import standing_threads
from hangdebug.scene.scene import Scene, stacks_alone
from hangdebug.scene.waits import name_of, stuck_workers


def supervisor(scene: Scene) -> Verdict | str:
    """A supervisor whose other threads may run a loop of their own, which serves nobody."""
    return watching() if supervises(scene.evidence.snapshots[-1]) else "Its main thread is in no server's supervisor."


def watching() -> Verdict:
    words = "It is a server's supervisor: it watches over workers and serves nothing itself."
    doubt = "Whether its workers hang, only their own stacks show."
    return Verdict("healthy", MOMENT, (words,), (doubt,), bystander=True)


def loop_moves_on(scene: Scene) -> Verdict | str:
    """The loop is never idle, and goes from one piece of work to the next."""
    if scene.evidence.process.listens is False and spins(scene) is not None:
        return "Its thread burns a CPU in nobody's handler, and it listens nowhere: it may be on its way out."
    return loop_verdict(scene, "healthy", "moves-on")


def pool_at_work(scene: Scene) -> Verdict | str:
    """All threads of a pool are in use, and either no call waits for one or they go on."""
    seen = full_pool(scene) if scene.loop else None
    if seen is None:
        return "No pool has all of its threads in calls that stand still."
    everybody = f"All {len(seen.members)} threads of {seen.pool.name} are"
    if seen.queue == 0:
        words = f"{everybody} at work, and no call waits for one of them."
        doubt = f"The next call will wait, until {seen.members[0].view.thread.name} or another returns."
        return Verdict("healthy", OPEN, (words,), (doubt,))
    if seen.goes_on:
        words = f"{everybody} in use, and {seen.woke} of them woke while they were watched."
        return Verdict("healthy", OPEN, (words,), ("A pool that is full all the time is at its limit.",))
    return "A pool's calls stand still, and others may wait for them."


def loop_idle(scene: Scene) -> Verdict | str:
    """The loop is idle, or idle in between."""
    total, idle = len(scene.loop), sum(view.idle for view in scene.loop)
    if not idle:
        return "The event loop is never idle." if scene.loop else "No event loop runs."
    found = [
        *([(ONE_MOMENT, ONE_MOMENT.reason)] if total == 1 else []),
        *of_requests(scene),
        *of_threads(scene),
        *([(BUSY_AT_TIMES, "")] if idle < total else []),
    ]
    doubts = tuple(doubt for _, doubt in found if doubt)
    return Verdict("healthy", AGREED, (idle_words(scene),), doubts, limits=tuple(limit for limit, _ in found))


def of_requests(scene: Scene) -> list[tuple[Limit, str]]:
    """What could be wrong with coroutines though the loop is idle, each with its doubt in words."""
    clients, unread = scene.evidence.clients, scene.evidence.unread
    unknown = [(TASKS_UNREAD, f"What its coroutines wait for is not known: {unread}.")] if unread else []
    runtime = unread_runtime(scene)
    if runtime:
        words = f"The tasks of {runtime} cannot be read from outside: what its requests wait for is not known."
        return [(RUNTIME_UNREAD, words), *left_waiting(scene), *unknown]
    waiting = standing(scene)
    if waiting:
        where = place_of_request(scene, waiting[0])
        does = "is at work" if waiting[0].job else "serves a request"
        words = f"{waiting[0].task.name} {does} in {where}, and waits for {waiting[0].by}."
        more = [(REQUEST_STANDS, f"{len(waiting)} {'tasks' if waiting[0].job else 'requests'} wait so.")]
        more = more if waiting[1:] else []
        return [(REQUEST_STANDS, words), *more, *unknown]
    if unaccounted(scene):
        return [*left_waiting(scene), *unknown]
    read = scene.evidence.later or (clients and not clients.open and not unread)
    if not read or (unread and (clients is None or clients.open)):
        words = "Coroutines that wait for something that never comes cannot be seen in stacks."
        pasted = stacks_alone(scene.evidence) and not scene.evidence.tasks
        return [(STACKS_ALONE if pasted else UNSEEN_COROUTINES, words), *unknown]
    return unknown


def left_waiting(scene: Scene) -> list[tuple[Limit, str]]:
    """Clients that have had no answer, by the kernel's word, and that no task shows."""
    clients = scene.evidence.clients
    if clients is None or not unaccounted(scene):
        return []
    inside = " They may wait in its own queue, in Rust." if scene.evidence.process.server == "granian" else ""
    return [(REQUEST_STANDS, f"No task shows why {clients_waiting(scene, clients)}.{inside}")]


def clients_waiting(scene: Scene, clients: Clients) -> str:
    """Who has had no answer, and for how long."""
    count = unaccounted(scene)
    who = "a client has" if count == 1 else f"{count} clients have"
    return f"{who} had no answer for {max(clients.waits or (0,)):.0f} s"


def of_threads(scene: Scene) -> list[tuple[Limit, str]]:
    """The same of threads: a pool without a free one, calls that no dump shows to move, a thread that keeps the GIL."""
    found, pool = [], pool_without_spare(scene)
    if pool is not None:
        words = f"All {pool.limit} threads of {pool.name} are in calls that stand still: one more call would wait."
        found.append((NO_SPARE_THREAD, words))
    busy = [one for one in stuck_workers(scene) if one.frame is not None]
    if busy and len(scene.loop) > 1 and not scene.evidence.readings:
        who = counted(len(busy), "pool thread", "stands")
        found.append((THREADS_STAND, f"{who} in one place in every dump, in {busy[0].frame}."))
    still = standing_threads(scene) if scene.evidence.readings else ()
    if still:
        who = f"{name_of(still[0].view)} stands in {still[0].frame} all the time, in {still[0].kernel}"
        more = f" {len(still)} threads stand so." if still[1:] else ""
        found.append((THREADS_STAND, f"{who}: for somebody who is slow, or for ever.{more}"))
    others = [view for view in scene.last if view.role != "event-loop"]
    greedy = [view for view in others if all(other.thread.owns_gil for other in scene.of(view))]
    if greedy:
        who = name_of(greedy[0])
        words = f"{who} holds the GIL in every sample: the loop may be idle because it cannot run."
        found.append((GIL_TAKEN, words))
    return found


def workers_go_on(scene: Scene) -> Verdict | str:
    """A synchronous server whose workers wait for requests, or serve them and go on."""
    return workers_verdict(scene, "healthy", "goes-on")


def bystander(scene: Scene) -> Verdict | str:
    """A supervisor, or a child process that multiprocessing started: neither serves anything itself."""
    last = scene.evidence.snapshots[-1]
    if is_supervisor(last):
        return watching()
    if not is_child(last) or stacks_alone(scene.evidence):
        return "It is no supervisor, and no child of multiprocessing that was watched."
    words = "It is a child process that multiprocessing started; it serves nothing itself."
    doubt = "Whether its work makes progress cannot be seen from here."
    return Verdict("healthy", MOMENT, (words,), (doubt,), bystander=True)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    """One dump of an idle loop is no clean bill of health to whoever pasted it because requests hang."""
    if verdict.bystander:
        if is_supervisor(scene.evidence.snapshots[-1]):
            return "This is a supervisor; look at its workers."
        return "This is a child process that serves nothing itself; no thread of it is seen to be stuck."
    if lowest(verdict.level, *verdict.limits) > FIRM:
        return "Nothing is stuck in this process."
    return without_loop(scene) if not scene.loop else with_idle_loop(scene)


def without_loop(scene: Scene) -> str:
    """Some requests may stand still while others are served."""
    workers = weighed_workers(scene)
    stands = workers.stands if workers is not None else ""
    return f"Not all requests go on: {stands}" if stands else "No thread that the evidence shows is stuck."


def with_idle_loop(scene: Scene) -> str:
    """What is left to wait for while the loop takes new events."""
    if not any(view.idle for view in scene.loop):
        return "The event loop is at work all the time, and goes from one piece of work to the next."
    waiting = standing(scene)
    if waiting:
        where = place_of_request(scene, waiting[0])
        if waiting[0].job:
            return f"The event loop is idle. Work stands still, slow or stuck, in {where}."
        if waiting[1:]:
            return (
                f"The event loop is idle. {len(waiting)} requests have no answer yet, slow or stuck: one is in {where}."
            )
        return f"The event loop is idle. A request has no answer yet, slow or stuck: it is in {where}."
    clients = scene.evidence.clients
    if clients is not None and unaccounted(scene):
        return f"The event loop is idle, and {clients_waiting(scene, clients)}; what they wait for does not show here."
    return "No thread is stuck at this moment: the event loop is idle. What its coroutines wait for does not show here."


STATE = StateEntry(
    "healthy",
    rules=(
        Rule("supervisor", "is it a supervisor", supervisor),
        Rule("loop-moves-on", "does the loop's thread go on", loop_moves_on),
        Rule("pool-at-work", "is a pool of threads or connections full", pool_at_work),
        Rule("loop-idle", "is the idle loop well", loop_idle),
        Rule("workers-go-on", "do synchronous workers go on", workers_go_on),
        Rule("bystander", "does it serve nothing itself", bystander),
    ),
    summary=summary,
    repair=None,
    well=True,
    names_cause=False,
    follows=False,
)
