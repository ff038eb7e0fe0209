"""Synchronous servers, job workers and scripts: which threads are inside of a request or a job, and do they go on?

A worker that waits for its next request, job or message does so on purpose, for ever.
"""

from __future__ import annotations

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, is_started, library_path, package, stands_in
from hangdebug.evidence.kernel import ends_by_itself, waits_as_sqlite
from hangdebug.evidence.libraries import JOIN, SERVERS_IN_C
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame
from hangdebug.evidence.source import in_endless_loop
from hangdebug.scene.locks import locks_wanted
from hangdebug.scene.scene import Scene, View, once, polls_its_own, stacks_alone
from hangdebug.scene.waits import Wait, wait

ALLOWED, GTHREAD = re.compile(r"--threads[ =](\d{1,6})\b"), ("gunicorn/workers/gthread.py",)
# Library calls that run one job of a queue.
RUNS_JOB = (
    "celery/app/trace.py:trace_task",
    "rq/worker.py:perform_job",
    "huey/api.py:execute",
    "dramatiq/worker.py:process_message",
    "arq/worker.py:run_job",
)
# Library calls that run one request, or one job: what is called by them is the application's work.
HANDLES = (
    "socketserver.py:finish_request",
    "wsgiref/handlers.py:run",
    "http/server.py:handle_one_request",
    "gunicorn/workers/sync.py:handle_request",
    "gunicorn/workers/gthread.py:handle_request",
    "gunicorn/workers/base_async.py:handle_request",
    "gevent/pywsgi.py:run_application",
    "eventlet/wsgi.py:handle_one_response",
    "streamlit/runtime/scriptrunner/exec_code.py:exec_func_with_error_handling",
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
    "apscheduler/executors/base.py:run_job",
    "granian/wsgi.py:_runner",
    "concurrent/futures/thread.py:run",
    *RUNS_JOB,
)
SYNC_SERVERS = (
    "socketserver.py",
    "http/server.py",
    "wsgiref/",
    "gunicorn/workers/",
    "gevent/baseserver.py",
    "gevent/pywsgi.py",
    "gevent/hub.py",
    "gevent/_hub_primitives.py",
    "eventlet/wsgi.py",
    "eventlet/hubs/",
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
    "granian/wsgi.py",
    "granian/server/",
)
# Threads that such a server starts once: when none of them is free, the next request waits.
FIXED = ("waitress/task.py:handler_thread", "cheroot/workers/threadpool.py:run")
# The same, but some of them are started only when they are needed.
FIXED_AT_MOST = ("granian/wsgi.py:_runner",)
ACCEPTS = (
    "socketserver.py:serve_forever",
    "socketserver.py:handle_request",
    "gunicorn/workers/sync.py",
    "werkzeug/serving.py:serve_forever",
    "cheroot/server.py:serve",
    "billiard/pool.py:workloop",
    "celery/worker/consumer/consumer.py:on_task_received",  # the solo pool: the consumer runs its jobs itself
    "rq/worker.py:work",
)
BETWEEN_JOBS = (
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
    "socket.py:accept",
    "ssl.py:accept",
)
JOINS_ANOTHER = (
    *JOIN,
    "multiprocessing/process.py:join",
    "subprocess.py",
)
GREEN = ("gevent", "eventlet")
GREEN_THREADS = ("gevent/threadpool.py", "eventlet/tpool.py")  # real threads, which these start for blocking calls
RECEIVES = frozenset(
    "listen subscribe consume consuming start_consuming get_message get_messages blpop brpop xread drain_events".split()
)
# Endings of the names of functions that return when the program ends; what functions are called that wait for whatever
# comes next, word by word; and the modules of clients that do nothing else.
FOR_EVER = ("forever", "mainloop", "main_loop", "polling", "wait_for_termination")
RECEIVE_WORDS = frozenset(
    "listen subscribe consume consuming watch receive poll polling updates idle iter_lines accept".split()
)
RECEIVING_MODULES = frozenset("watch consumer subscriber pubsub listener polling change_stream".split())
MOST_WOKEN = 3


@dataclass(frozen=True)
class Crew:
    """The threads inside of a request or job that do not go on, those that do, and how many wait for one."""

    stuck: tuple[Wait, ...]
    moving: tuple[Wait, ...]
    free: int


@once
def crew(scene: Scene) -> Crew:
    busy = [wait(scene, view) for view in scene.last if not view.idle and inside_request(scene, view)]
    watched = [one for one in busy if one.motion.samples == len(scene.samples)]  # the others have begun meanwhile
    stuck = [one for one in watched if does_not_go_on(one)]
    free = free_in_c(scene) + free_in_pools(scene, busy)
    free += sum(
        any(calls(frame, *FIXED) for frame in view.thread.frames) and not inside_request(scene, view)
        for view in scene.last
    )
    return Crew(tuple(stuck), tuple(one for one in busy if one not in stuck), free)


def whole_pool_stands(scene: Scene) -> bool:
    """Whether requests stand still in every thread that their pool may have: the next one has to wait for a thread."""
    seen, sizes = crew(scene), scene.evidence.pool_sizes
    known = {sizes.get(one.view.thread.os_id or -1) for one in seen.stuck}
    most = known.pop() if len(known) == 1 else None
    return most is not None and len(seen.stuck) >= most and not seen.moving and not seen.free


def threads_allowed(scene: Scene) -> int:
    """How many threads gunicorn may have for requests, by the command that started it; 0 where that does not say."""
    said = ALLOWED.search(scene.evidence.snapshots[-1].command)
    return (
        int(said[1])
        if said and any(calls(frame, *GTHREAD) for view in scene.last for frame in view.thread.frames)
        else 0
    )


def free_in_pools(scene: Scene, busy: list[Wait]) -> int:
    """How many threads wait for work in the pools whose other threads serve requests, by the names of a pasted dump.

    Where more is known than stacks, the pools' queues say whether anybody waits.
    """
    if not stacks_alone(scene.evidence):
        return 0
    serving = {one.view.thread.name.rpartition("_")[0] for one in busy if one.view.role == "worker"} - {""}
    return sum(view.idle and view.thread.name.rpartition("_")[0] in serving for view in scene.threads("worker"))


def free_in_c(scene: Scene) -> int:
    """How many threads of a server written in C wait for a request: they run no Python, and the kernel shows them wait.

    Those that wait for their turn to wait do not count: one is enough for the next request. Without the kernel's word a
    thread that runs no Python is taken for a free one.
    """
    evidence = scene.evidence
    if evidence.process.server not in SERVERS_IN_C:
        return 0
    idle = {one.os_id for one in evidence.snapshots[-1].threads if not one.frames}
    busy = {view.thread.os_id for view in scene.last}
    reading = next((one for one in reversed((*evidence.readings, *evidence.attached)) if one is not None), None)
    if reading is None:
        return len(idle)
    return sum(
        os_id not in busy and (polls_its_own(one, evidence.process) or one.syscall in ("accept", "accept4"))
        for os_id, one in reading.waits.items()
    )


def called_from_c(scene: Scene, view: View) -> bool:
    """Whether a server that is written in C called the application in this thread: no frame stands below."""
    bottom = view.thread.frames[-1]
    started = is_started(view.thread) or bottom.name == "<module>" or bottom.file.startswith("<frozen importlib")
    return scene.evidence.process.server in SERVERS_IN_C and view.role in ("main", "other") and not started


def has_fixed_threads(scene: Scene, seen: Crew) -> bool:
    """Whether the next request has to wait until one of the threads that serve is free: no more of them are started."""
    frames = [frame for one in seen.stuck for frame in one.view.thread.frames]
    clients = scene.evidence.clients
    more_wait = clients is not None and clients.open > len(seen.stuck)
    return (
        any(calls(frame, *FIXED) for frame in frames)
        or any(called_from_c(scene, one.view) for one in seen.stuck)
        or (more_wait and any(calls(frame, *FIXED_AT_MOST) for frame in frames))
    )


def inside_request(scene: Scene, view: View) -> bool:
    """Whether the application was called to serve a request, or to do a job, and has not returned."""
    if called_from_c(scene, view):
        return True
    frames = view.thread.frames
    own = next((index for index, frame in enumerate(frames) if is_application(frame)), len(frames))
    return any(calls(frame, *HANDLES) for frame in frames[own:])


def waits_for_job(one: Wait) -> bool:
    """Whether a job stands in a call of the very library that runs it: it waits for what another job is to give."""
    runs = next((frame for frame in one.view.thread.frames if calls(frame, *RUNS_JOB)), None)
    return runs is not None and one.outermost is not None and package(one.outermost) == package(runs)


def takes_jobs(scene: Scene, like: View) -> tuple[View, ...]:
    """The threads that run the same loop over jobs as `like` does, and are inside of none: each could do the next."""
    pairs = zip(like.thread.frames, like.thread.frames[1:])
    loop = next(((outer.function, outer.file) for inner, outer in pairs if calls(inner, *RUNS_JOB)), None)
    alike = (view for view in scene.last if any((one.function, one.file) == loop for one in view.thread.frames))
    return tuple(view for view in alike if not inside_request(scene, view))


def tries_again(view: View) -> bool:
    """Whether a server's own code tries again and again to connect to somebody: a function of such a name is asleep."""
    words = [set(re.split(r"[\W_]+", frame.name.lower())) for frame in view.inner or view.thread.frames]
    connects = any(one & {"connect", "connected", "connection", "reconnect"} for one in words)
    return connects and any(one & {"retry", "retries", "retrying", "backoff", "reconnect"} for one in words)


def is_greenlet(view: View) -> bool:
    """Whether it is one of many greenlets, which all share this thread: the others run while it waits in their hub."""
    frames = view.thread.frames
    return any(package(frame) in GREEN for frame in frames) and not any(
        calls(frame, *GREEN_THREADS) for frame in frames
    )


def greenlets(scene: Scene) -> bool:
    """Whether a thread of the process runs greenlets: what those wait for that do not run now cannot be read."""
    return any(is_greenlet(view) for view in scene.last)


def waits_for_work(view: View) -> bool:
    """Whether the thread stands in the server's own code, and not in the join of another thread or process."""
    inner = view.inner if view.frame is not None else view.thread.frames
    return any((library_path(frame.file) or "").startswith(SYNC_SERVERS) for frame in inner) and not calls(
        inner[0], *JOINS_ANOTHER
    )


def does_not_go_on(one: Wait) -> bool:
    """In one place in every sample; a thread that computes there does not go on either, as long as it does."""
    return one.motion.in_place and (bool(one.running) or (one.motion.woke or 0) <= MOST_WOKEN)


def comes_or_goes(scene: Scene, one: Wait) -> bool:
    """Whether the thread was not there in every sample, or has ended by the time that the watch was over."""
    watch = scene.evidence.watch
    return one.motion.samples < len(scene.samples) or (bool(watch) and one.view.thread.os_id not in watch[-1].waits)


def waits_for_own_lock(one: Wait) -> bool:
    """Whether it waits for a lock of its own process, without a timeout: no peer is slow there."""
    return one.in_syscall("futex") and one.kernel is not None and not ends_by_itself(one.kernel)


def between_jobs(one: Wait) -> bool:
    """Whether it waits as workers do between two jobs: for an event, a queue, a connection, a message."""
    if one.outermost is not None and (calls(one.outermost, *BETWEEN_JOBS) or receives(one.outermost)):
        return True
    if one.in_syscall("accept", "accept4", "pause"):
        return True
    names = {frame.name for frame in (*one.view.inner, *([one.frame] if one.frame else []))}
    by_design = names & RECEIVES or any(name.lower().endswith(FOR_EVER) for name in names)
    return bool(by_design) or one.line_says("accept", "recvfrom", "sleep", "pause", "sigwait", *RECEIVES)


def receives(frame: Frame) -> bool:
    """Whether a library's function waits for whatever comes next, by its name or its module's: nobody owes it that."""
    if is_application(frame):
        return False
    words = {*re.split(r"[\W_]+", frame.name.lower()), frame.name}
    modules = {part.removesuffix(".py") for part in (library_path(frame.file) or "").split("/")}
    by_name = words & RECEIVE_WORDS or modules & RECEIVING_MODULES
    return bool(by_name) or frame.name.lower().endswith(FOR_EVER)


def has_consumers(scene: Scene, one: Wait) -> bool:
    """Whether another thread takes what comes, for as long as the program runs: who waits for it does so too.

    The threads that a pool of processes keeps for its own books are none: they serve the very wait.
    """
    others = (view.thread for view in scene.last if view.thread is not one.view.thread)
    own = (frame for other in others for frame in other.frames if package(frame) != "multiprocessing")
    return any(map(receives, own))


def innocence(scene: Scene, one: Wait) -> str:
    """Why a thread beside the loop may stand where it does: in words, "" where nothing that is known says so."""
    woke = one.motion.woke and not waits_as_sqlite(one.kernel)
    if not one.motion.in_place or woke or one.running:
        return "goes on"
    if one.kernel is not None and ends_by_itself(one.kernel):
        return "wakes by itself after a while"
    own = [frame for frame in one.view.thread.frames if is_application(frame)]
    if between_jobs(one) and not inside_request(scene, one.view):
        return "waits for its next job, message or connection"
    if (one.text or "").startswith(("for ", "while True:")) or any(
        in_endless_loop(scene.evidence.sources, frame) for frame in own
    ):
        return "waits for the next message of its loop"
    return "reads its standard input" if 0 in one.descriptors else ""


@once
def standing_threads(scene: Scene) -> tuple[Wait, ...]:
    """Threads beside the loop that stand in the application's code all the time, for a peer or for a lock, and owe an
    end to somebody: nothing says that they wait there on purpose."""
    found = [wait(scene, view) for view in scene.last if view.role in ("worker", "other") and not view.idle]
    return tuple(
        one
        for one in found
        if one.frame is not None
        and one.motion.samples > 1
        and one.kernel is not None
        and (one.on_network or bool(locks_wanted(one, scene.evidence.sources)))
        and not innocence(scene, one)
    )


def sleeps_or_computes(one: Wait) -> bool:
    """Whether it is in a sleep or computes, as far as one dump shows: many requests do, each for a moment."""
    return bool(one.running) or one.line_calls("sleep") or one.in_syscall("clock_nanosleep")


def accepts_requests(one: Wait) -> bool:
    """Whether the thread inside of a request is the one that takes requests, so that nobody else does."""
    return any(calls(frame, *ACCEPTS) for frame in one.view.thread.frames)


def runs_sync_server(scene: Scene) -> bool:
    """Whether a synchronous server runs here."""
    return scene.evidence.process.server in SERVERS_IN_C or any(
        stands_in(view.thread, SYNC_SERVERS) for view in scene.last
    )
