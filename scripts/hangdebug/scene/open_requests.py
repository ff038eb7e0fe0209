"""Every open request, or message, as the tasks show it: where it stands, and what could still end its wait.

A server hangs for somebody only if a request has had no answer. So `healthy` rests on this account: a request moved
between the two readings of the tasks, or is a stream or a long poll that is fed, or the end of its wait is in sight, or
nobody is seen who could end it.
"""

from __future__ import annotations

from hangdebug.evidence.frames import calls, is_application, library_path, package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Task
from hangdebug.evidence.source import in_endless_loop
from hangdebug.evidence.vocabulary import Outlook
from hangdebug.scene.graph import sleeps_in_place
from hangdebug.scene.loop import RUNS
from hangdebug.scene.pools import full_pool, hands_to_pool, uses_processes
from hangdebug.scene.requests import RECEIVES, RUNS_JOB, greenlets, runs_sync_server, whole_pool_stands
from hangdebug.scene.scene import Scene, View, once
from hangdebug.scene.tasks import (
    MESSAGES,
    PRIMITIVES,
    TaskWaits,
    about_to_run,
    as_wait,
    awaited_directly,
    behind_all,
    could_be_ended_by,
    ends_by_call,
    ends_of,
    own_frame,
    response_begun,
    runs_application,
    serves,
    task_waits,
    waits_for_object,
    waits_for_taken_lock,
)
from hangdebug.scene.waits import Wait, name_of, stuck_workers, wait


# What a server runs for one request, whoever's code it calls from there.
@dataclass(frozen=True)
class OpenRequest:
    """A request, or a message, without an answer: the task that serves it, and what is known of the end of its wait.

    `by` says what it waits for, and who may end that. `job` is whether nobody has asked for it: a program's own work.
    """

    task: Task
    outlook: Outlook
    by: str
    job: bool = False


REQUESTS = (
    "uvicorn/protocols/http/httptools_impl.py:run_asgi",
    "uvicorn/protocols/http/h11_impl.py:run_asgi",
    "uvicorn/protocols/websockets/websockets_impl.py:run_asgi",
    "uvicorn/protocols/websockets/wsproto_impl.py:run_asgi",
    "hypercorn/asyncio/task_group.py:_handle",
    "aiohttp/web_protocol.py:_handle_request",
    "sanic/app.py:handle_request",
    "sanic/http/http1.py:http1",
    "tornado/web.py:_execute",
)
ORDER: tuple[Outlook, ...] = ("unseen", "peer", "expected", "fed", "moved")
READS_MESSAGES = ("mcp/server/stdio.py", "mcp/client/stdio.py")  # by design, until the other side says something
RUNS_IN_THREADS = ("anyio/_backends/_asyncio.py:run_sync_in_worker_thread",)
# Who reads a request's body, and so wants what the client has yet to send.
BODY_READERS = (
    "starlette/requests.py",
    "quart/wrappers/request.py",
    "litestar/connection/request.py",
    "aiohttp/web_request.py",
    "sanic/request/types.py",
)
# Where a coroutine waits for the end of a child process.
CHILDREN = ("asyncio/subprocess.py", "asyncio/base_subprocess.py")
JUST_NOW = 1.0  # second
MOST_BETWEEN = 5
# Loops whose tasks nobody reads from outside, by the package of a frame on the loop's stack.
UNREAD = {
    "trio": "trio",
    "curio": "curio",
    "gevent": "gevent",
    "eventlet": "eventlet",
    "twisted": "Twisted",
}


@once
def open_requests(scene: Scene) -> tuple[OpenRequest, ...]:
    """The requests that have no answer in the later reading of the tasks; those that are known to stand still first."""
    seen = task_waits(scene)
    asked = [(task, False) for task in seen.tasks.values() if is_request(seen, task)]
    jobs = [(task, True) for task in seen.tasks.values() if is_job(scene, seen, task)]
    found = [OpenRequest(task, *outlook(scene, seen, task), job) for task, job in (*asked, *jobs)]
    return tuple(
        sorted(found, key=lambda one: (ORDER.index(one.outlook), one.task.timed, not runs_application(one.task)))
    )


def standing(scene: Scene) -> tuple[OpenRequest, ...]:
    """Those that stood still between the two readings, and are neither a stream nor a long poll."""
    return tuple(one for one in open_requests(scene) if one.outlook in ("unseen", "peer", "expected"))


LONG = 5.0  # seconds: most answers that are merely slow are there by then
POLLED = "what it asks for again and again, with a sleep in between"


def left_waiting(scene: Scene) -> tuple[OpenRequest, ...]:
    """Those that stand still in one place with nobody in sight to end that but a peer, if anybody, nor a time-out.

    By the kernel's word some of all requests may have had a part of their answer, as streams have: then it is asked for
    more in one place than these. () where there are none.
    """
    lost = [one for one in standing(scene) if one.outlook in ("unseen", "peer") and not one.task.timed and not one.job]
    places: dict[Frame | None, list[OpenRequest]] = {}
    for one in lost:
        places.setdefault(own_frame(one.task), []).append(one)
    waits = waits_of_clients(scene)
    streams = 0 if waits is None else count_unanswered(scene) - len(waits)
    return tuple(next((alike for alike in places.values() if len(alike) > streams), ()))


def waits_of_clients(scene: Scene) -> tuple[float, ...] | None:
    """For how many seconds each client has had no answer, the longest first; None where the kernel does not know."""
    clients = scene.evidence.clients
    return clients.waits if clients is not None and scene.evidence.process.listening else None


def longest_wait(scene: Scene) -> float:
    """For how many seconds a client has had no answer, by the kernel's word; 0 where it does not know."""
    return max(waits_of_clients(scene) or (0.0,))


def nobody_answered(scene: Scene) -> bool:
    """Whether no client was sent anything for LONG, and one has waited for so long, by the kernel's word."""
    answered = scene.evidence.clients.answered if scene.evidence.clients is not None else None
    return longest_wait(scene) >= LONG and (answered is None or answered >= LONG)


def count_unanswered(scene: Scene) -> int:
    """How many requests have had no part of their answer, as far as the tasks show."""
    return sum(not one.job and one.outlook != "moved" and not response_begun(one.task) for one in open_requests(scene))


def for_how_long(scene: Scene) -> float:
    """For how many seconds, at least, each request that has had no answer has waited for it: between the two readings
    of the tasks, or by the kernel's word on as many clients."""
    waits, count = waits_of_clients(scene), count_unanswered(scene)
    known = waits[count - 1] if waits and 0 < count <= len(waits) else 0.0
    return max(known, scene.evidence.apart)


def seconds_until_long(scene: Scene) -> float:
    """How many seconds more show whether requests that stand still are slow, or have no answer for LONG; 0 for none."""
    if left_waiting(scene):
        return max(0.0, LONG - for_how_long(scene))
    if jobs_behind_jobs(scene):
        return max(0.0, LONG - scene.evidence.apart)
    if runs_sync_server(scene) and whole_pool_stands(scene):
        return max(0.0, LONG - longest_wait(scene)) if waits_of_clients(scene) else 0.0
    pool = full_pool(scene) if scene.loop else None
    goes_round = any(one.outlook == "moved" and not one.job and polls(scene, one.task) for one in open_requests(scene))
    if goes_round or (pool is not None and pool.goes_on):
        return max(0.0, LONG - longest_wait(scene)) if waits_of_clients(scene) else 0.0
    return max(0.0, LONG - longest_hidden(scene)) if unaccounted(scene) and unread_tasks(scene) else 0.0


def longest_hidden(scene: Scene) -> float:
    """For how many seconds a client has waited that no task accounts for."""
    return longest_wait(scene) if unaccounted(scene) else 0.0


def unread_tasks(scene: Scene) -> str:
    """Whose tasks cannot be read from outside, by name: another runtime's than asyncio, or greenlets; "" for none."""
    return unread_runtime(scene) or ("greenlets" if greenlets(scene) else "")


def is_request(seen: TaskWaits, task: Task) -> bool:
    """Whether a task serves a request, or a message, by itself: one that waits for tasks which do so is not counted."""
    if task.id not in seen.served or any(calls(frame, *RUNS) for frame in task.frames):
        return False
    behind = (task.awaits.id, *task.awaits.of) if task.awaits is not None else ()
    if any(one in seen.served and runs_application(seen.tasks[one]) for one in behind):
        return False
    if any(calls(frame, *READS_MESSAGES) for frame in task.frames):
        return False
    called = any(calls(frame, *REQUESTS, *RUNS_IN_THREADS) for frame in task.frames)
    return called or called_by_server(task)


def is_job(scene: Scene, seen: TaskWaits, task: Task) -> bool:
    """Whether a task of a program that serves nobody waits for an answer: one that it has asked for, and is owed.

    In an endless loop it waits for the next message, as consumers do; in a line of its own making, for its end.
    One that waits for room in a queue has work for somebody who does not take it.
    """
    if task.id not in seen.stuck or not runs_application(task):
        return False
    gives = task.awaits is not None and task.awaits.method == "put"
    if awaited_directly(task) and not gives:
        return False
    if scene.evidence.process.listens or any(serves(frame) for one in seen.tasks.values() for frame in one.frames):
        return False
    behind = (task.awaits.id, *task.awaits.of) if task.awaits is not None else ()
    if task.awaits is None or task.awaits.kind == "timer" or any(one in seen.tasks for one in behind):
        return False
    one = as_wait(scene, task)
    if one.frame is None or gives:
        return one.frame is not None
    return not in_endless_loop(scene.evidence.sources, one.frame) and not receives(one)


def jobs_behind_jobs(scene: Scene) -> tuple[Task, ...]:
    """The jobs that a worker runs, if each stands in a call of the very library that runs it: for what another job is
    to give. All have stood in one place in both readings, be it that they look again and again. () else.
    """
    seen, before = task_waits(scene), {one.id: one.frames for one in scene.evidence.tasks}
    found = []
    for task in seen.tasks.values() if scene.evidence.later else ():
        runs = next((frame for frame in task.frames if calls(frame, *RUNS_JOB)), None)
        if runs is None:
            continue
        behind = (task.awaits.id, *task.awaits.of) if task.awaits is not None else ()
        job = next((seen.tasks[one] for one in behind if one in seen.tasks), task)
        called = as_wait(scene, job).outermost
        if called is None or package(called) != package(runs) or before.get(job.id) != job.frames:
            return ()
        found.append(job)
    return tuple(found)


def receives(one: Wait) -> bool:
    """Whether the line waits for the next message, whoever sends it."""
    return (one.text or "").lstrip().startswith("async for") or one.line_says(*RECEIVES)


def called_by_server(task: Task) -> bool:
    """Whether the application's code runs inside of a server's, and not the other way round as in `await serve()`."""
    servers = [index for index, frame in enumerate(task.frames) if serves(frame) or serves_messages(task)]
    outermost = max(servers, default=len(task.frames))
    return any(is_application(frame) for frame in task.frames[:outermost])


def serves_messages(task: Task) -> bool:
    return any((library_path(frame.file) or "").startswith(MESSAGES) for frame in task.frames)


# -- what could end the wait ---------------------------------------------------------------------------


def outlook(scene: Scene, seen: TaskWaits, task: Task) -> tuple[Outlook, str]:
    """What is known of the end of a request's wait, and who or what could bring it, in words ("" for nobody)."""
    if response_begun(task):
        return "fed", ""
    if task.awaits is None and not scene.evidence.later:
        return "moved", ""
    if task.awaits is None:
        before = {one.id: one for one in scene.evidence.tasks}.get(task.id)
        still = before is not None and before.awaits is None and before.frames == task.frames
        return ("expected", "a call on the loop's own stack, which has not returned") if still else ("moved", "")
    if task.id not in seen.stuck or about_to_run(task):
        return ("expected", POLLED) if polls(scene, task) and longest_wait(scene) >= LONG else ("moved", "")
    if task.timed:
        return of_timed(scene, task)
    return of_untimed(scene, seen, task)


def polls(scene: Scene, task: Task) -> bool:
    """Whether it has gone round a loop: in both readings it sleeps in one place, each time until another moment."""
    before = {one.id: one for one in scene.evidence.tasks}.get(task.id)
    if before is None or before.awaits is None or task.awaits is None or before.frames != task.frames:
        return False
    return before.awaits.kind == task.awaits.kind == "timer" and before.awaits.id != task.awaits.id


def of_timed(scene: Scene, task: Task) -> tuple[Outlook, str]:
    """A wait with a time-out that is still to come: a long poll, a sleep, or a peer that has its time."""
    if ends_of(scene, task) and awaited_directly(task):
        return "fed", ""
    asleep = task.awaits is not None and task.awaits.kind == "timer"
    return "expected", "its time to come" if asleep else "a peer, or for the time-out around it"


def of_task(scene: Scene, seen: TaskWaits, task: Task, depth: int) -> tuple[Outlook, str]:
    """A task for whose end a request waits: `depth` of them stand between."""
    if task.id not in seen.stuck or about_to_run(task) or depth > MOST_BETWEEN:
        return "moved", ""
    return of_timed(scene, task) if task.timed else of_untimed(scene, seen, task, depth + 1)


def of_untimed(scene: Scene, seen: TaskWaits, task: Task, depth: int = 0) -> tuple[Outlook, str]:
    """A wait without a time-out: who is in sight?"""
    awaits, ends = task.awaits, ends_of(scene, task) or ends_by_call(scene, task)
    assert awaits is not None
    holders = [one for one in seen.inside(awaits.id) if not waits_for_object(seen, one, awaits.id)]
    if holders:
        inside = f"{holders[0].name} is inside of it, and waits for {holders[0].awaits or 'nothing'}"
        return "expected", f"{awaits} all the time; {inside}"
    if waits_for_body(task):
        return "expected", "the rest of the request's body"
    behind = [of_task(scene, seen, seen.tasks[one], depth) for one in (awaits.id, *awaits.of) if one in seen.tasks]
    if behind:
        return (min if behind_all(task) else max)(behind, key=lambda found: ORDER.index(found[0]))
    if waits_for_pool(scene, task):
        return of_pool(scene)
    if not awaited_directly(task) and not is_primitives_own(task):
        moves = heard_of_peer(scene) or waits_for_child(task) or lock_in_use(seen, task)
        which: Outlook = "expected" if moves or place_moves(scene, seen, task) else "peer"
        return which, f"{task.frames[0]} all the time, without a timeout: for a slow peer, or for ever"
    if awaits.kind == "Future" and any(not view.idle for view in scene.threads("worker")):
        return "expected", f"{awaits} all the time; a pool's thread is at work"
    if ends:
        other = could_be_ended_by(scene, seen, task, ends, without=own_part(seen, task))
        later = f"; {other} could still end that" if other else ""
        known = other or scene.evidence.functions is None or waits_for_taken_lock(task)
        return "expected" if known or place_moves(scene, seen, task) else "unseen", f"{awaits} all the time{later}"
    alone = awaits.kind in ("Future", "_GatheringFuture", "Barrier")
    return "unseen" if alone else "expected", f"{awaits} all the time"


def is_primitives_own(task: Task) -> bool:
    """Whether the coroutine itself is a lock's, an event's or a queue's, as in `create_task(ready.wait())`."""
    return all(library_path(frame.file) in PRIMITIVES for frame in task.frames)


def own_part(seen: TaskWaits, task: Task) -> frozenset[str]:
    """The functions of a request that waits for a group of its own tasks, of which this is one.

    The next request brings its own group: it ends what its own tasks wait for. () where the task is in no group.
    """
    around = [one for one in seen.tasks.values() if task.id in behind_all(one) and one.id in seen.served]
    frames = [frame for one in (*around, task) for frame in one.frames if is_application(frame)]
    return frozenset(frame.name for frame in frames) if around else frozenset()


def lock_in_use(seen: TaskWaits, task: Task) -> bool:
    """Whether it waits for a library's own lock, and another request is under way that may be inside of it."""
    if not any(frame.name in ("acquire", "__aenter__") for frame in task.frames[:2]):
        return False
    others = (one for key, one in seen.tasks.items() if key in seen.served and runs_application(one))
    return any(one.frames != task.frames for one in others)


def place_moves(scene: Scene, seen: TaskWaits, task: Task) -> bool:
    """Whether another task stood in the same line of the application in the first reading, and has left it."""
    place = own_frame(task)
    return place is not None and any(
        one.id not in seen.stuck and own_frame(one) == place for one in scene.evidence.tasks
    )


def heard_of_peer(scene: Scene) -> bool:
    """Whether somebody whom the process has called has sent it something just now: an answer may be on its way."""
    heard = scene.evidence.clients.heard if scene.evidence.clients is not None else None
    return heard is not None and heard < JUST_NOW


def waits_for_child(task: Task) -> bool:
    """Whether it waits for a child process, or for what one writes: that may be at work."""
    return reads_pipe(task) or any(calls(frame, *CHILDREN) for frame in task.frames)


def reads_pipe(task: Task) -> bool:
    """Whether it waits for somebody to write into a pipe."""
    return task.awaits is not None and bool(task.awaits.counts.get("pipe"))


def waits_for_body(task: Task) -> bool:
    """Whether it wants more of the request's body, which the client has yet to send."""
    counts = task.awaits.counts if task.awaits is not None else {}
    return 1 in (counts.get("body"), counts.get("more_body")) or any(
        (library_path(frame.file) or "") in BODY_READERS for frame in task.frames
    )


def waits_for_pool(scene: Scene, task: Task) -> bool:
    """Whether it waits for a call in a pool of threads or processes."""
    return any(calls(frame, *RUNS_IN_THREADS) for frame in task.frames) or hands_to_pool(scene, task)


def of_pool(scene: Scene) -> tuple[Outlook, str]:
    """A call in a pool: in which thread it is does not show, but where those stand that are at work."""
    stuck = [one for one in stuck_workers(scene) if one.motion.samples > 1]
    if stuck:
        first = next((one for one in stuck if one.frame is not None), stuck[0])
        where = next(filter(None, (first.frame, *first.view.section)), "a call of C")
        return "expected", f"a call in a pool; {name_of(first.view)} stands in {where}"
    if uses_processes(scene):
        return "expected", "a call in another process"
    return ("moved", "") if any(not view.idle for view in scene.threads("worker")) else ("unseen", "a call in a pool")


def place_of_request(scene: Scene, one: OpenRequest) -> Frame:
    """Where a request stands: in the application's frame, or else in that of the pool's thread that runs its call."""
    own = as_wait(scene, one.task).frame
    stuck = [two.frame for two in stuck_workers(scene) if two.frame is not None and waits_for_pool(scene, one.task)]
    return own or (stuck[0] if stuck and stuck[0] is not None else one.task.frames[0])


def request_behind_lock(scene: Scene) -> tuple[Task, Task] | None:
    """A request that waits for a lock, and the task inside of it, which waits for something untimed all the time."""
    seen = task_waits(scene)
    waiting = (one.task for one in standing(scene) if not one.task.timed and awaited_directly(one.task))
    behind = ((task, task.awaits.id) for task in waiting if task.awaits is not None and waits_for_taken_lock(task))
    pairs = ((task, holder) for task, lock in behind for holder in seen.inside(lock))
    return next(((task, holder) for task, holder in pairs if holder.id in seen.stuck and not holder.timed), None)


# -- a thread that is to end a request's wait, and stands itself ---------------------------------------


def standing_thread(scene: Scene, task: Task) -> Wait | None:
    """The thread of the application's own that would end this wait once, if its call ever returned.

    It stands in one call in every sample, in no loop: a consumer stands so as well, between two messages. None where
    somebody else could end the wait. Of a message that came through a pipe, the pool's thread that serves it.
    """
    if not is_request(task_waits(scene), task):
        return None
    if serves_messages(task) and waits_for_pool(scene, task):  # there is one client, which waits for this message
        return next((one for one in stuck_workers(scene) if one.frame is not None and stands_for_good(one)), None)
    ends, known = ends_of(scene, task), scene.evidence.functions
    if not ends or not known or task.awaits is None or task.timed or response_begun(task):
        return None
    for view in scene.threads("other"):
        one = wait(scene, view) if view.frame is not None else None
        if one is None or not stands_for_good(one):
            continue
        giver = giver_in(scene, view, ends)
        if giver and not could_be_ended_by(scene, task_waits(scene), task, ends, without=giver):
            return one
    return None


def stands_for_good(one: Wait) -> bool:
    """Whether a thread is asleep in one place in every sample, in a system call without a time-out."""
    timed = one.kernel is None or ends_by_itself(one.kernel)
    return one.motion.samples > 1 and sleeps_in_place(one) and not timed


def giver_in(scene: Scene, view: View, ends: set[str]) -> frozenset[str]:
    """The names of the functions on a thread's stack that end such a wait further down; () where one is in a loop."""
    found = set()
    for frame in view.thread.frames:
        for one in scene.evidence.functions or ():
            if one.file != frame.file or not one.line <= (frame.line or 0) <= one.last:
                continue
            if any(first <= (frame.line or 0) <= last for first, last in one.loops):
                return frozenset()
            if any(name.lstrip("+") in ends and line >= (frame.line or 0) for name, line in one.ends):
                found.add(one.name)
    return frozenset(found)


# -- what is not seen of requests ----------------------------------------------------------------------


def unread_runtime(scene: Scene) -> str:
    """The runtime of the loop whose tasks cannot be read from outside, by name; "" where it is asyncio."""
    names = {package(frame) for view in scene.last for frame in view.thread.frames if view.role == "event-loop"}
    loops = [UNREAD[name] for name in UNREAD if name in names]
    return loops[0] if loops and "asyncio" not in names else ""


def unaccounted(scene: Scene) -> int:
    """How many clients wait for an answer, by the kernel's word, beyond the requests that the tasks show."""
    known = len(open_requests(scene)) if scene.loop else 0  # else it is not seen whether its tasks run
    return max(0, len(waits_of_clients(scene) or ()) - known)


# -- handlers that run the loop again ------------------------------------------------------------------


def nested_handlers(scene: Scene) -> tuple[View, int] | None:
    """The loop's thread in its last sample, and how many handlers on its stack have run the loop once more.

    None where that was not so in every sample. Each returns only when those above it have.
    """
    counts = {nested_in(view) for view in scene.loop}
    return (scene.loop[-1], counts.pop()) if len(counts) == 1 else None


def nested_in(view: View) -> int:
    """How many of the application's frames on the stack have called a function that runs a loop."""
    pairs = zip(view.thread.frames, view.thread.frames[1:])
    runs = [is_application(outer) and inner.name == "run_until_complete" for inner, outer in pairs]
    frames = view.thread.frames
    return sum(
        found and any(calls(frame, "asyncio/events.py:_run") for frame in frames[index + 1 :])
        for index, found in enumerate(runs)
    )
