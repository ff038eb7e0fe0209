"""No event loop: synchronous servers, job workers and scripts. Which threads are inside of a request, and do they go on.

A worker that waits for its next request, job or message does so on purpose, for ever. So a thread is only accused inside
of a request or a job, and a script only where it waits for an answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.causes import cause_of
from hangdebug.evidence.frames import calls, is_application, library_path
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.roles import is_child, is_supervisor, stands_in
from hangdebug.evidence.source import in_endless_loop
from hangdebug.scene.pools import woke
from hangdebug.scene.scene import Scene, View
from hangdebug.scene.waits import Wait, elsewhere, name_of, place, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

# Library calls that run one request, or one job: what is called by them is the application's work.
HANDLES = (
    "socketserver.py:finish_request",
    "wsgiref/handlers.py:run",
    "http/server.py:handle_one_request",
    "gunicorn/workers/sync.py:handle_request",
    "gunicorn/workers/gthread.py:handle_request",
    "waitress/task.py:execute",
    "waitress/channel.py:service",
    "werkzeug/serving.py:run_wsgi",
    "cheroot/wsgi.py:respond",
    "cheroot/server.py:communicate",
    "flask/app.py:wsgi_app",
    "bottle.py:wsgi",
    "django/core/handlers/wsgi.py:__call__",
    "falcon/app.py:__call__",
    "pyramid/router.py:invoke_request",
    "xmlrpc/server.py:_dispatch",
    "grpc/_server.py:_call_behavior",
    "celery/app/trace.py:trace_task",
    "rq/worker.py:perform_job",
    "huey/api.py:execute",
    "dramatiq/worker.py:process_message",
    "apscheduler/executors/base.py:run_job",
    "concurrent/futures/thread.py:run",
)
SERVERS = (
    "socketserver.py",
    "http/server.py",
    "wsgiref/",
    "gunicorn/workers/",
    "waitress/",
    "werkzeug/serving.py",
    "cheroot/",
    "xmlrpc/server.py",
    "grpc/_server.py",
    "celery/worker/",
    "celery/apps/",
    "billiard/pool.py",
    "rq/worker.py",
    "flask/app.py",
    "huey/consumer.py",
    "dramatiq/worker.py",
    "apscheduler/schedulers/",
    "bottle.py",
    "django/core/",
)
# Threads that such a server starts once: when none of them is free, the next request waits.
FIXED = ("waitress/task.py:handler_thread", "cheroot/workers/threadpool.py:run")
ACCEPTS = (
    "socketserver.py:serve_forever",
    "socketserver.py:handle_request",
    "gunicorn/workers/sync.py:run",
    "werkzeug/serving.py:serve_forever",
    "cheroot/server.py:serve",
    "billiard/pool.py:workloop",
    "rq/worker.py:work",
)
# What a script or a job waits for that somebody owes it, and how sure that makes it; the rest may be a wait on purpose.
OWED = {
    "http-client": 0.8,
    "database": 0.75,
    "connection-pool": 0.75,
    "dns": 0.75,
    "lock": 0.75,
    "file-io": 0.7,
    "logging": 0.75,
    "fork": 0.8,
    "import-lock": 0.75,
    "socket": 0.6,
    "subprocess": 0.6,
    "future-result": 0.6,
    "executor-shutdown": 0.6,
}
PARKED = (
    "threading.py:wait",
    "threading.py:wait_for",
    "queue.py",
    "selectors.py",
    "multiprocessing/queues.py",
    "multiprocessing/connection.py",
    "multiprocessing/managers.py",
    "zmq/sugar/socket.py",
    "zmq/sugar/poll.py",
    "asyncore.py",
)
JOINS = ("threading.py:join", "threading.py:_wait_for_tstate_lock", "multiprocessing/process.py:join", "subprocess.py")
LISTENS = frozenset(
    "listen subscribe consume consuming start_consuming get_message get_messages blpop brpop xread drain_events".split()
)
MOST_WOKEN = 3


@dataclass(frozen=True)
class Crew:
    """The threads inside of a request or job that do not go on, those that do, and how many wait for one."""

    stuck: tuple[Wait, ...]
    moving: tuple[Wait, ...]
    free: int


def synchronous(scene: Scene) -> Answer:
    """What can be said of a process without an event loop; None of a supervisor, and of one that shows no work."""
    if scene.loop or is_supervisor(scene.evidence.snapshots[-1]):
        return None
    serving = any(stands_in(view.thread, SERVERS) for view in scene.last)
    return served(scene, crew(scene)) if serving else worked(scene)


def crew(scene: Scene) -> Crew:
    busy = [wait(scene, view) for view in scene.last if not view.idle and inside_request(view)]
    stuck = [one for one in busy if stands(one)]
    free = sum(
        any(calls(frame, *FIXED) for frame in view.thread.frames) and not inside_request(view) for view in scene.last
    )
    return Crew(tuple(stuck), tuple(one for one in busy if one not in stuck), free)


def inside_request(view: View) -> bool:
    """Whether the application was called to serve a request, or to do a job, and has not returned."""
    frames = view.thread.frames
    own = next((index for index, frame in enumerate(frames) if is_application(frame)), len(frames))
    return any(calls(frame, *HANDLES) for frame in frames[own:])


def expects(view: View) -> bool:
    """Whether the thread stands in the server's own code, and not in the join of another thread or process."""
    inner = view.inner if view.frame is not None else view.thread.frames
    return any((library_path(frame.file) or "").startswith(SERVERS) for frame in inner) and not calls(inner[0], *JOINS)


def stands(one: Wait) -> bool:
    """In one place in every sample; a thread that computes there does not go on either, as long as it does."""
    return one.motion.same == one.motion.samples and (bool(one.running) or (one.motion.woke or 0) <= MOST_WOKEN)


def served(scene: Scene, seen: Crew) -> Answer:
    """A synchronous server: is anybody left to serve the next request?"""
    if not seen.stuck and not seen.moving and not any(map(expects, scene.last)):
        return worked(scene)  # nobody is seen to wait for a request: that nobody is inside of one says nothing
    alone = next((one for one in seen.moving if accepts(one) and not one.motion.idle), None)
    if not seen.stuck and alone is not None and alone.frame is not None:
        return never_out(scene, alone)
    if not seen.stuck:
        return fine(
            scene,
            f"{len(seen.moving)} requests are served, and none of them stands still."
            if seen.moving
            else "No event loop runs here: its synchronous workers wait for requests.",
        )
    places = Counter(map(place, seen.stuck))
    first = max(seen.stuck, key=lambda one: (accepts(one), places[place(one)], str(place(one))))
    alike, single = places[place(first)], first.motion.samples == 1
    doubts = ("One dump shows one moment: a slow request looks alike.",) if single else ()
    if accepts(first):
        words = (f"{name_of(first.view)} accepts requests by itself, and is inside of one: all others wait.",)
        return Verdict("sync-worker-blocked", sure(first, 0.92), (*words, *movement(first)), doubts), first
    if seen.free or seen.moving:
        words = f"{seen.free} threads wait for requests." if seen.free else f"{len(seen.moving)} requests go on."
        return fine(scene, words, f"{alike} requests stand in {first.frame}: slow or stuck, but others are served.")
    fixed = any(calls(frame, *FIXED) for one in seen.stuck for frame in one.view.thread.frames)
    spare = None if fixed or single else others_served(scene, seen, first)
    if spare is not None:
        return spare
    words = (f"All {len(seen.stuck)} threads that serve requests stand still, {alike} of them in one line.",)
    if fixed or alike > 1 and not (single and naps(first)):
        slow = not fixed and first.view.role == "other" and not single and not locked(first)
        doubts += (
            ("Each request has a thread of its own, and a slow peer looks alike: look again in a minute.",)
            if slow
            else ()
        )
        value = sure(first, 0.92 if fixed else 0.75 if slow else 0.86)
        return Verdict("sync-worker-blocked", value, (*words, *movement(first)), doubts), first
    doubts = (*doubts, "The server starts a thread for each request: it may be one slow request.")
    return Verdict(
        "inconclusive", 0.5, (f"One request stands in {first.frame}; the server accepts others.",), doubts
    ), first


def others_served(scene: Scene, seen: Crew, first: Wait) -> Answer:
    """Nobody waits where the queue of their pool is empty, or where each request gets a thread of its own and is only slow."""
    known = [
        scene.evidence.queued[one.view.thread.os_id]
        for one in seen.stuck
        if one.view.thread.os_id in scene.evidence.queued
    ]
    awake = [one for one in seen.stuck if one.running or woke(scene, one) or comes_or_goes(scene, one)]
    doubt = f"{len(seen.stuck)} requests stand in {first.frame} or elsewhere: slow or stuck, but others are served."
    if known and not any(known):
        return fine(scene, "No request waits for a thread of the pool.", doubt)
    if known or any(one.view.role != "other" for one in seen.stuck):
        return None
    if len(awake) * 2 > len(seen.stuck):
        return fine(
            scene,
            f"Each request has a thread of its own, and {len(awake)} of them went on while they were watched.",
            doubt,
        )
    for_a_while = all(naps(one) or one.kernel is not None and ends_by_itself(one.kernel) for one in seen.stuck)
    unwatched = bool(scene.evidence.readings) and not scene.evidence.watch
    if for_a_while or unwatched and not locked(first):
        doubts = ("Each has a thread of its own: slow requests, and streams, look alike.",)
        return Verdict(
            "inconclusive", 0.5, (f"All {len(seen.stuck)} requests that are served stand still.",), doubts
        ), first
    return None


def comes_or_goes(scene: Scene, one: Wait) -> bool:
    """Whether the thread was not there in every sample, or has ended by the time that the watch was over."""
    watch = scene.evidence.watch
    return one.motion.samples < len(scene.samples) or bool(watch) and one.view.thread.os_id not in watch[-1].waits


def locked(one: Wait) -> bool:
    """Whether it waits for a lock of its own process, without a timeout: no peer is slow there."""
    return one.in_syscall("futex") and one.kernel is not None and not ends_by_itself(one.kernel)


def never_out(scene: Scene, one: Wait) -> Answer:
    """The only thread that accepts requests is inside of one in every sample: one that never ends, or one after another."""
    handler = next(frame for frame in reversed(one.view.thread.frames) if calls(frame, *HANDLES))
    words = (f"{name_of(one.view)} accepts requests by itself, and is inside of one in every sample.",)
    found = elsewhere(scene, one.view, handler)
    if found is None:
        return Verdict("inconclusive", 0.5, words, ("A server that is asked all the time looks alike.",)), one
    outside, total = found
    if outside:
        return fine(scene, f"It was outside of a request in {outside} of {total} samples of a second.")
    return Verdict(
        "sync-worker-blocked", 0.85, (*words, f"In a second's {total} samples it was never outside of one.")
    ), one


def worked(scene: Scene) -> Answer:
    """A script or a worker of one's own: accused where its main thread, or else a thread, waits for what it is owed."""
    mains = [view for view in scene.last if view.role == "main" and view.frame is not None]
    rest = [
        view for view in scene.last if view.role in ("other", "worker") and view.frame is not None and not view.idle
    ]
    for views, worth in ((mains, 1.0), (rest, 0.8)):
        owed = [
            (cause, one)
            for one in (wait(scene, view) for view in views)
            if stands(one) and not one.running
            for cause in [owes(scene, one)]
            if cause
        ]
        if not owed or worth < 1 and len(owed) < len([view for view in rest if not parked(wait(scene, view))]):
            continue
        cause, one = max(owed, key=lambda pair: OWED[pair[0]])
        words = (
            f"No event loop and no server runs here: {name_of(one.view)} waits for an answer, in the same place in every sample.",
        )
        doubt = "A script that waits for a slow answer looks alike: look again in a minute."
        return Verdict("sync-worker-blocked", sure(one, OWED[cause] * worth), (*words, *movement(one)), (doubt,)), one
    return None


def owes(scene: Scene, one: Wait) -> str | None:
    """The cause, where it is something that somebody owes the thread; None where it may wait on purpose."""
    if parked(one) or is_child(scene.evidence.snapshots[-1]) and not one.inside_package("requests", "urllib3", "http"):
        return None
    cause, match = cause_of(Verdict("sync-worker-blocked", 0.7), one, scene)
    own = [frame for frame in one.view.thread.frames if is_application(frame)]
    if cause.id == "socket" and any(in_endless_loop(scene.evidence.sources, frame) for frame in own):
        return None  # a consumer: it waits for the next message, and then for the one after
    return cause.id if cause.id in OWED and match.kinds else None


def parked(one: Wait) -> bool:
    """Whether it waits as workers do between two jobs: for an event, a queue, a connection, a message."""
    if one.outermost is not None and calls(one.outermost, *PARKED) or one.in_syscall("accept", "accept4", "pause"):
        return True
    names = {frame.name for frame in (*one.view.inner, *([one.frame] if one.frame else []))}
    return bool(names & LISTENS) or one.line_says("accept", "sleep", "pause", "sigwait", *LISTENS)


def naps(one: Wait) -> bool:
    """Whether it is in a sleep or computes, as far as one dump shows: many requests do, each for a moment."""
    return bool(one.running) or one.line_calls("sleep") or one.in_syscall("clock_nanosleep")


def accepts(one: Wait) -> bool:
    """Whether the thread inside of a request is the one that takes requests, so that nobody else does."""
    return any(calls(frame, *ACCEPTS) for frame in one.view.thread.frames)


def sure(one: Wait, value: float) -> float:
    """Less where it computes, as a slow request does too, and where one sample was taken."""
    return min(value, 0.65) if one.motion.samples == 1 or one.running else value


def movement(one: Wait) -> tuple[str, ...]:
    woke = {0: "not once", 1: "once"}.get(one.motion.woke or 0, f"{one.motion.woke} times")
    return (
        (f"It woke {woke} in the {one.motion.span:.1f} s before the first attach.",)
        if one.motion.woke is not None
        else ()
    )


def fine(scene: Scene, words: str, doubt: str = "") -> Answer:
    value = 0.6 if doubt or len(scene.samples) == 1 else 0.85
    doubts = [doubt] if doubt else []
    doubts += ["One dump shows one moment."] if len(scene.samples) == 1 else []
    return Verdict("healthy", value, (words,), tuple(doubts)), None
