"""The evidence cannot say what is wrong: two explanations fit, or nothing that it shows can be judged.

The report names the place to look at, and what to capture next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hangdebug.answer.certainty import EVEN, NOT_THE_SERVERS, ONE_MOMENT, UNKNOWN
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.states.loop_blocked import LOGGED, loop_verdict
from hangdebug.answer.states.sync_worker_blocked import weighed_workers, workers_verdict
from hangdebug.answer.states.threadpool_exhausted import SLOW, in_coroutines, in_threads
from hangdebug.answer.words import ACTIVITY, counted, idle_words, line_of, place_of, whom_it_waits_for
from hangdebug.causes import cause_of
from hangdebug.causes.model import Cause
from hangdebug.errors import ours
from hangdebug.evidence.frames import is_application, package
from hangdebug.evidence.libraries import PARKED, SERVERS
from hangdebug.evidence.model import Task
from hangdebug.scene.graph import is_timed, sleeps_in_place
from hangdebug.scene.locks import locks_wanted
from hangdebug.scene.open_requests import LONG, longest_hidden, request_behind_lock, standing, unaccounted, unread_tasks
from hangdebug.scene.pools import full_pool
from hangdebug.scene.requests import crew, inside_request
from hangdebug.scene.rings import chain, explains
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import LONGEST_NORMAL, as_wait, longest_step, stated
from hangdebug.scene.waits import Wait, file_and_line, is_earned, name_of, stuck_workers, wait

SHOWS_LOCKS = "py-spy dump --pid {pid} --locals   # which object the lock is, and which thread is inside of it"
SHOWS_CONNECTIONS = f"{ACTIVITY}   # PostgreSQL: `active` are slow queries, `idle in transaction` are kept"
SHOWS_STACKS = "py-spy dump --pid {pid}   # the stacks of its threads; tasks alone do not say whether the loop turns"
SHOWS_SERVER = f"{ours('capture', '--port', 'PORT', '--zip')}   # of the process that serves, while a request hangs"
SHOWS_UNREAD = {
    "trio": "python -c 'import trio; help(trio.lowlevel.current_root_task)'   # the tree of its tasks: printed inside "
    "of the server, on a signal, it shows where each request stands",
    "greenlets": "python -c 'import gevent.util; help(gevent.util.print_run_info)'   # called inside of the server, on "
    "a signal, it prints the stack of every greenlet",
}

NEEDS_TASKS = "Stacks show no coroutine that waits: only a list of tasks does, or several dumps that differ."
LOCKED = ("Whoever is inside of the lock may go on, or never leave it.",)


def loop_unclear(scene: Scene) -> Verdict | str:
    """One dump shows the loop's thread where a healthy one may stand for a moment."""
    found = loop_verdict(scene, "inconclusive", "unclear")
    if isinstance(found, str) or found.wait is None or found.wait.frame is not None:
        return found
    return replace(found, wait=place_to_look_at(scene) or found.wait)


def pool_unclear(scene: Scene) -> Verdict | str:
    """A pool has no thread left, and whether anybody suffers is not known."""
    seen = full_pool(scene) if scene.loop else None
    if seen is None or seen.queue == 0 or seen.goes_on:
        return "No pool was seen without a free thread." if seen is None else "Whether anybody waits for it is known."
    if seen.one_moment:
        doubts = ("One dump shows one moment: short calls look alike.",)
        return Verdict("inconclusive", EVEN, seen.words(), doubts, seen.members[0])
    clients = scene.evidence.clients
    connected = f"{clients.open if clients is not None else 0} clients are connected"
    words = (seen.words()[0], f"{connected}, so each of them may have a thread of its own.")
    doubts = ("Whether a call waits in its queue is not known.",)
    return Verdict("inconclusive", EVEN, words, doubts, seen.members[0])


def connections_in_use(scene: Scene) -> Verdict | str:
    """Pool threads wait for a connection, and others that are at work may hold them."""
    seen = in_threads(scene) if full_pool(scene) is None else None
    if seen is None:
        return "No pool thread waits for a connection all the time."
    doubt = f"Other pool threads are at work, and may hold them. {SLOW}"
    return Verdict("inconclusive", EVEN, (seen.words,), (doubt,), seen.waits[0], decides=SHOWS_CONNECTIONS)


def pool_of_unknown_size(scene: Scene) -> Verdict | str:
    """Every pool thread is stuck in one place, and there are more clients than threads."""
    stuck, clients = stuck_workers(scene), scene.evidence.clients
    if not scene.loop or full_pool(scene) is not None:
        return "No event loop runs." if not scene.loop else "A pool of known size is full."
    if clients is None or not 2 <= len(stuck) < clients.open:
        return "There are not more clients than pool threads that stand still."
    if len({file_and_line(one) for one in stuck}) > 1 or len(stuck) < len(scene.threads("worker")):
        return "The pool threads are not all in one place."
    if all(scene.evidence.queued.get(one.view.thread.os_id or -1, 1) == 0 for one in stuck):
        return "No call waits for one of them."
    words = f"All {len(stuck)} pool threads are stuck in one place, and {clients.open} clients are connected."
    doubt = "A pool that is full and a pool with slow work look alike until its size is known."
    return Verdict("inconclusive", EVEN, (words,), (doubt,), stuck[0])


def coroutines_wait_for_connections(scene: Scene) -> Verdict | str:
    """Requests wait for a connection, and other coroutines may hold them."""
    seen = in_coroutines(scene)
    if seen is None:
        return "No request's coroutine waits for a connection of a pool."
    doubt = f"{seen.others} other coroutines may hold them. {SLOW}"
    return Verdict("inconclusive", EVEN, (seen.words,), (doubt,), seen.waits[0], decides=SHOWS_CONNECTIONS)


def short_step(scene: Scene) -> Verdict | str:
    """The longest step that asyncio's debug log reports is no hang."""
    step = longest_step(scene)
    if step is None or step.seconds >= LONGEST_NORMAL:
        return "No log of slow steps is the only evidence, or a step was long."
    return Verdict("inconclusive", EVEN, step.words, ("So short a step is no hang.", *LOGGED), step.wait)


def threads_before_a_lock(scene: Scene) -> Verdict | str:
    """Pool threads stand before a lock all the time, though the loop is idle."""
    if not any(view.idle for view in scene.loop):
        return "No event loop is idle."
    several = [
        one for one in stuck_workers(scene) if one.motion.samples > 1 and sleeps_in_place(one) and not is_timed(one)
    ]
    locked = [one for one in several if locks_wanted(one, scene.evidence.sources)]
    if not locked:
        return "No pool thread stands before a lock all the time."
    words = f"{counted(len(locked), 'pool thread', 'stands')} before a lock all the time, in {locked[0].frame}."
    holder = explains(scene, tuple(locked))
    first = holder[0] if holder is not None and holder[0].frame is not None and not holder[0].view.idle else locked[0]
    return Verdict(
        "inconclusive",
        EVEN,
        (idle_words(scene), words, *map(str, chain(scene, locked[0]))),
        LOCKED,
        first,
        decides=SHOWS_LOCKS,
    )


def request_before_a_lock(scene: Scene) -> Verdict | str:
    """A request waits for a lock, and the task inside of it stands still as well."""
    behind = request_behind_lock(scene) if any(view.idle for view in scene.loop) else None
    if behind is None:
        return "No request waits for a lock whose holder stands still."
    task, inside = behind
    words = f"{whom_it_waits_for(scene, task)[:-1]}, in {as_wait(scene, inside).frame or inside.frames[0]}."
    return Verdict("inconclusive", EVEN, (idle_words(scene), words), LOCKED, as_wait(scene, task))


def listens_nowhere(scene: Scene) -> Verdict | str:
    """A server whose loop is idle and that listens nowhere: which end of its life it is at does not show."""
    running = any(package(frame) in SERVERS for view in scene.loop for frame in view.thread.frames)
    if not running or scene.evidence.process.listens is not False or scene.evidence.later:
        if not running:
            return "No server's loop runs."
        return "Its tasks are known." if scene.evidence.process.listens is False else "It may listen."
    words = "It accepts no connections, and its event loop is idle."
    doubts = ("It has not begun to serve, or was told to stop: its tasks, which would tell, were not read.",)
    at_work = next((one for one in stuck_workers(scene) if one.frame is not None), None)
    return Verdict("inconclusive", EVEN, (words,), doubts, at_work)


def request_stands(scene: Scene) -> Verdict | str:
    """A request stood still through both readings, and nobody is in sight who could end its wait."""
    only = len(scene.threads("event-loop")) == 1  # else another loop may be what it waits for
    idle = only and any(view.idle for view in scene.loop) and not scene.evidence.unread
    lost = [one for one in standing(scene) if one.outlook == "unseen"] if idle else []
    if not lost:
        return "No request stands still with nobody in sight to end its wait."
    words = f"{lost[0].task.name} serves a request that has no answer, and waits for {lost[0].by}."
    more = f"{len(lost)} requests wait so." if lost[1:] else "No thread or task is seen that could end that."
    doubt = "A library whose threads show nothing may end it yet."
    return Verdict("inconclusive", EVEN, (idle_words(scene), words, more), (doubt,), as_wait(scene, lost[0].task))


def tasks_unread(scene: Scene) -> Verdict | str:
    """Clients have had no answer for long, and what serves them cannot be read from outside."""
    if not scene.loop or any(not view.idle for view in scene.loop):
        return "No event loop runs, or it is at work."
    return hidden_requests(scene)


def greenlets_unread(scene: Scene) -> Verdict | str:
    """The same of greenlets, which share one thread with the server."""
    return "An event loop runs." if scene.loop else hidden_requests(scene)


def hidden_requests(scene: Scene) -> Verdict | str:
    runtime, seconds = unread_tasks(scene), longest_hidden(scene)
    if not runtime:
        return "What it serves can be read."
    if seconds < LONG:
        return "No client has waited long for an answer that no task accounts for."
    count = unaccounted(scene)
    who = "A client has" if count == 1 else f"{count} clients have"
    at_work = next((one for one in stuck_workers(scene) if one.frame is not None), None)
    thread = "no thread is stuck" if at_work is None else f"{name_of(at_work.view)} stands in {at_work.frame}"
    words = f"{who} had no answer for {seconds:.0f} s, and {thread}."
    doubt = f"What waits there, {runtime} alone {'know' if runtime.endswith('s') else 'knows'}: it cannot be read from"
    decides = SHOWS_UNREAD.get(runtime, "")
    return Verdict("inconclusive", UNKNOWN, (words,), (f"{doubt} outside.",), at_work, decides=decides)


def workers_unclear(scene: Scene) -> Verdict | str:
    """Synchronous workers stand in requests that may be slow, or stuck."""
    return workers_verdict(scene, "inconclusive", "unclear")


def idle_loop_alone(scene: Scene) -> Verdict | str:
    """Stacks of one moment show an idle loop: that rules out a blocked loop, and no more."""
    if not scene.loop or not scene.loop[-1].idle:
        return "No event loop is idle."
    if is_earned(scene):
        return "More is known than the stacks of one moment."
    busy = [
        wait(scene, view)
        for view in scene.last
        if not view.idle and (view.role in ("worker", "main") or (view.role == "other" and inside_request(scene, view)))
    ]
    found = [one for one in busy if one.frame is not None and not one.starts_with(*PARKED)]
    words = [idle_words(scene), *(f"{name_of(one.view)} stands in {one.frame}." for one in found[:3])]
    places = Counter(map(file_and_line, found))
    first = max(found, key=lambda one: (places[file_and_line(one)], str(file_and_line(one))), default=None)
    return Verdict("inconclusive", EVEN, tuple(words), (NEEDS_TASKS,), first)


def workers_idle_alone(scene: Scene) -> Verdict | str:
    """Stacks of one moment show workers, or a child, that wait for work: that rules out a stuck one, and no more."""
    found = weighed_workers(scene)
    if scene.loop or is_earned(scene) or found is None or found.outcome != "goes-on":
        return "No worker waits for work, or more is known than the stacks of one moment."
    slow = next(iter(crew(scene).stuck), None)  # slow or stuck, while others are served
    return Verdict("inconclusive", EVEN, found.evidence, (ONE_MOMENT.reason,), found.wait or slow)


def exception_alone(scene: Scene) -> Verdict | str:
    """The traceback of an exception shows where it was raised, and no thread that stands there now."""
    raised = [one for snapshot in scene.evidence.snapshots for one in snapshot.threads if one.raised]
    if scene.last or not raised or scene.evidence.tasks:
        return "There are stacks of now, or no exception's traceback."
    best = next((one for one in reversed(raised) if any(map(is_application, one.frames))), raised[-1])
    words = f"It is the traceback of {best.raised}: it shows where that was raised, and not where a thread stands now."
    return Verdict("inconclusive", UNKNOWN, (words,), (), as_wait(scene, Task("the traceback", best.frames)))


def nothing_to_judge(scene: Scene) -> Verdict | str:
    """Nothing above applies: there is no event loop to judge by."""
    words = "No thread in this evidence runs an event loop." if scene.last else "No thread of it runs any Python code."
    tasks = scene.evidence.tasks
    if tasks and not scene.last:
        many = f"{len(tasks)} tasks" if tasks[1:] else "one task"
        words = f"It lists {many} and no thread; what blocks an event loop stands in the stack of its thread."
    foreign = stated(scene, "c-only")
    if foreign and not scene.last:
        words = f"{foreign.text}: which Python function calls them, such a text does not show."
    crash = stated(scene, "crashed")
    if crash:
        words = f"A process has ended, or was ended, which is no hang by itself: {crash.text}"
    unanswered = stated(scene, "unanswered")
    if unanswered and not scene.last:
        words = f"It does not answer, and no stack shows why: {unanswered.text}"
    look = place_to_look_at(scene)
    return Verdict("inconclusive", UNKNOWN, (words,), wait=look, bystander=True, decides=SHOWS_SERVER)


def place_to_look_at(scene: Scene) -> Wait | None:
    """Where a person would look first: at the main thread, or at one that is inside of the application's code.

    A main thread that joins others, or sleeps beside them, says nothing: they do. Threads that wait for an event, or
    for an item of a queue, are passed over while there are others: most do so on purpose.
    """
    seen = [wait(scene, view) for view in scene.last if view.frame is not None and not view.idle]
    known = [wait(scene, view) for view in scene.last if view.section and not view.idle]
    seen = seen or [one for one in known if cause_of(scene, one)[1].kinds]  # a library's call that says what it is
    places = Counter(map(file_and_line, seen))
    odd = len(seen) > 2 and len(places) == 2 and min(places.values()) == 1  # all others wait for that one, perhaps

    def telling(one: Wait) -> tuple[bool, bool, bool, bool]:
        main, parked = one.view.role == "main", one.starts_with(*PARKED)
        alone = odd and places[file_and_line(one)] == 1 and not parked
        active = bool(one.view.thread.owns_gil or one.view.thread.active)
        aside = one.starts_with("threading.py:join") or one.line_calls("sleep")
        return alone, (main and not aside) or (not main and not parked), main, active

    return max(seen, key=telling, default=None)


def on_purpose(found: Verdict) -> Verdict:
    """What it means that another thread's loop is stuck, nobody is seen to wait for it, and the server's is fine."""
    purpose = "Nobody is seen to wait for it: it may block on purpose, as a consumer does between two messages."
    doubts = (*found.doubts, NOT_THE_SERVERS.reason, purpose)
    return Verdict("inconclusive", EVEN, found.evidence, doubts, found.wait)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    if NEEDS_TASKS in verdict.doubts:
        at_work = verdict.wait
        who = "" if at_work is None else f"; {name_of(at_work.view)} is at work{place_of(at_work)}{line_of(at_work)}"
        return (
            f"The stacks rule out a blocked event loop, and no more: it is idle at this moment{who}. What is left is a "
            "coroutine that waits for what never comes, or another process; a look with the list of tasks tells."
        )
    if verdict.wait is None and unread_tasks(scene) and longest_hidden(scene) >= LONG:
        return f"{verdict.evidence[0]} {verdict.doubts[0]}"
    where, line = place_of(verdict.wait), line_of(verdict.wait)
    what = f" ({cause.id})" if cause.id not in ("other", "none") else ""
    look = f"; the place to look at is{where.replace(' in ', ' ', 1)}{line}{what}" if where else ""
    return f"The evidence cannot say what is wrong{look}."


STATE = StateEntry(
    "inconclusive",
    rules=(
        Rule("loop-unclear", "does the loop's thread go on", loop_unclear),
        Rule("pool-unclear", "is a pool of threads or connections full", pool_unclear),
        Rule("connections-in-use", "is a pool of threads or connections full", connections_in_use),
        Rule("pool-of-unknown-size", "is a pool of threads or connections full", pool_of_unknown_size),
        Rule("coroutines-wait-for-connections", "do tasks wait for what never comes", coroutines_wait_for_connections),
        Rule("listens-nowhere", "was it told to stop", listens_nowhere),
        Rule("short-step", "does a log say that a step held the loop", short_step),
        Rule("idle-loop-alone", "is the idle loop well", idle_loop_alone),
        Rule("threads-before-a-lock", "is the idle loop well", threads_before_a_lock),
        Rule("request-before-a-lock", "is the idle loop well", request_before_a_lock),
        Rule("tasks-unread", "is the idle loop well", tasks_unread),
        Rule("request-stands", "is the idle loop well", request_stands),
        Rule("greenlets-unread", "do synchronous workers go on", greenlets_unread),
        Rule("workers-unclear", "do synchronous workers go on", workers_unclear),
        Rule("workers-idle-alone", "do synchronous workers go on", workers_idle_alone),
        Rule("exception-alone", "what is left", exception_alone),
        Rule("nothing-to-judge", "what is left", nothing_to_judge),
    ),
    summary=summary,
    repair=None,
    decided=False,
    without_loop=True,
)
