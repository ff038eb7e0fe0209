"""No event loop runs here: a synchronous server's workers, a job or a script are stuck in a call."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hangdebug.answer.certainty import (
    COMPUTES_OR_ONCE,
    EVEN,
    EXCLUDED,
    GREENLETS_UNREAD,
    LIKELY,
    MOMENT,
    ONE_MOMENT,
    ONE_SIDED,
    OPEN,
    OTHERS_SERVED,
    OWED,
    PLAUSIBLE,
    SHOWN,
    SIDE_THREAD,
)
from hangdebug.answer.model import Level, Limit, Rule, StateEntry, Verdict
from hangdebug.answer.words import LOOP, LOOPS_THREAD, WORKER, all_of, capital, counted, line_of, place_of, wake_words
from hangdebug.causes import cause_of
from hangdebug.causes.connection_pool import checkout_frame
from hangdebug.causes.model import Cause, Owed
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, is_child, is_supervisor
from hangdebug.evidence.kernel import ends_by_itself, waits_as_sqlite
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.source import in_endless_loop
from hangdebug.evidence.vocabulary import State
from hangdebug.scene.loop import LOADS, stage_of
from hangdebug.scene.open_requests import LONG, waits_of_clients
from hangdebug.scene.pools import queue_lengths, woke_by_itself
from hangdebug.scene.requests import (
    HANDLES,
    Crew,
    accepts_requests,
    between_jobs,
    comes_or_goes,
    crew,
    does_not_go_on,
    greenlets,
    has_consumers,
    has_fixed_threads,
    is_greenlet,
    runs_sync_server,
    sleeps_or_computes,
    takes_jobs,
    threads_allowed,
    tries_again,
    waits_for_job,
    waits_for_own_lock,
    waits_for_work,
    whole_pool_stands,
)
from hangdebug.scene.rings import explains
from hangdebug.scene.scene import Scene, View, identity, once
from hangdebug.scene.tasks import stated
from hangdebug.scene.waits import Wait, file_and_line, name_of, samples_outside, wait


def workers_stuck(scene: Scene) -> Verdict | str:
    """Nobody is left to serve the next request, or a script's thread waits for an answer that it is owed."""
    return workers_verdict(scene, "sync-worker-blocked", "stuck")


def stated_in_words(scene: Scene) -> Verdict | str:
    """The text says that a time-out ended a worker, a job or a test, and shows what it was in."""
    said = stated(scene, "killed", "test-timeout")
    if said is None or scene.loop:
        return "No time-out ended it." if said is None else "An event loop runs."
    shown = killed_thread(scene)
    if shown is None or loads_application(shown):
        return "No stack shows what was ended." if shown is None else "It was still being loaded."
    one = wait(scene, shown)
    words = f"A time-out ended it, for it did not come to an end: {said.text}"
    doubts = (
        () if one.frame is not None else ("No frame of the application is on the stack: it may not have been called.",)
    )
    return Verdict("sync-worker-blocked", LIKELY, (words,), doubts, one)


def killed_thread(scene: Scene) -> View | None:
    """The thread that the time-out ended: the main thread, or the only stack that is shown."""
    return next((view for view in scene.last if view.role == "main"), scene.last[0] if len(scene.last) == 1 else None)


def loads_application(view: View) -> bool:
    return stage_of(view.thread.frames) == "starting" or any(calls(frame, *LOADS) for frame in view.thread.frames)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    kernel = (verdict.wait.kernel if verdict.wait is not None else None) or "in a call"
    what = cause.title.replace(LOOPS_THREAD, WORKER).replace(LOOP, WORKER)
    what = what if cause.id != "other" else f"{WORKER} waits ({kernel})"
    what = what if WORKER in what else f"{WORKER} is stuck: {what}"
    return f"{capital(what)}{place_of(verdict.wait)}{line_of(verdict.wait)}; it serves nothing else meanwhile."


# -- how sure it is that synchronous workers do not go on ----------------------------------------------

WorkersOutcome = Literal["stuck", "goes-on", "unclear"]
WORK_IS_DONE = ("queue.py:join", "queue.py:put")  # until others have done their part: owed, if nobody is at it
FOR_OTHERS = ("future-result", "thread-join", "executor-shutdown")  # it waits for other threads of its own
CHILD = re.compile(r"\bchild (\d{1,10})\b")
STREAMS = ("socket", "subprocess", "http-client")  # what a `for` can read to the end of a stream
SLOW_ALIKE = "One dump shows one moment: a slow request looks alike."
LOOKS_ALIKE = "A script that waits for a slow answer looks alike: look again in a minute."


@dataclass(frozen=True)
class WorkersWeighed:
    """Whether the workers go on, how sure that is, and the wait that shows it."""

    outcome: WorkersOutcome
    level: Level
    evidence: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    wait: Wait | None = None
    limits: tuple[Limit, ...] = ()
    stands: str = ""  # of requests that stand still while others are served


def workers_verdict(scene: Scene, state: State, outcome: WorkersOutcome) -> Verdict | str:
    """The verdict of the state that stands for this outcome; else what was seen instead."""
    found = weighed_workers(scene)
    if found is None:
        return "An event loop runs, or no thread shows work that is owed an end."
    if found.outcome != outcome:
        return f"The synchronous workers: {found.outcome}."
    return Verdict(state, found.level, found.evidence, found.doubts, found.wait, found.limits)


@once
def weighed_workers(scene: Scene) -> WorkersWeighed | None:
    """None of a process with an event loop, of a supervisor, and of one that shows no work."""
    if scene.loop or is_supervisor(scene.evidence.snapshots[-1]):
        return None
    return server(scene, crew(scene)) if runs_sync_server(scene) else script(scene)


def server(scene: Scene, seen: Crew) -> WorkersWeighed | None:
    """A synchronous server, or a worker that takes jobs: is anybody left to serve the next one?"""
    found = requests_weighed(scene, seen)
    left = found is None or found.outcome != "stuck"
    return (jobs_wait_for_jobs(scene, seen) or not_connected(scene, seen) or found) if left else found


def jobs_wait_for_jobs(scene: Scene, seen: Crew) -> WorkersWeighed | None:
    """Every job that is under way waits for the result of another one, and no thread is left that takes it."""
    jobs = (*seen.stuck, *seen.moving)
    if not jobs or not all(waits_for_job(one) and one.motion.in_place for one in jobs):
        return None
    if any(takes_jobs(scene, one.view) for one in jobs):
        return None
    words = f"{counted(len(jobs), 'job', 'stands')} in a call of the library that runs it: for another job's result."
    left = "No thread of this process is left that takes a job."
    doubt = "Another worker's process may take that job, and be slow."
    return WorkersWeighed("stuck", ONE_SIDED, (words, left), (doubt,), jobs[0])


def not_connected(scene: Scene, seen: Crew) -> WorkersWeighed | None:
    """The thread that takes requests, or jobs, tries to connect in vain: it has begun none."""
    main = next((view for view in scene.threads("main") if waits_for_work(view)), None)
    if main is None or seen.stuck or seen.moving or not tries_again(main):
        return None
    one = wait(scene, main)
    if not one.motion.in_place or one.running:
        return None
    step = (main.inner or main.thread.frames)[0]
    words = f"{name_of(main)} stands in {step}: it tries again and again to connect, and takes no work meanwhile."
    return WorkersWeighed("stuck", ONE_SIDED, (words,), ("Its peer may come back: its log says whom it misses.",), one)


def requests_weighed(scene: Scene, seen: Crew) -> WorkersWeighed | None:
    if not seen.stuck and not seen.moving and not seen.free and not any(map(waits_for_work, scene.last)):
        return script(scene)  # nobody is seen to wait for a request: that nobody is inside of one says nothing
    if not seen.stuck:
        alone = next((one for one in seen.moving if accepts_requests(one) and not one.motion.idle), None)
        if alone is not None and alone.frame is not None:
            return always_inside(scene, alone)
        waiting = "No event loop runs here: its synchronous workers wait for requests."
        moving = f"{len(seen.moving)} requests are served, and none of them stands still."
        return going_on(scene, moving if seen.moving else waiting)
    return for_all_of_them(scene, seen) or nobody_gives_back(scene, seen) or standing(scene, seen)


def for_all_of_them(scene: Scene, seen: Crew) -> WorkersWeighed | None:
    """One thread that explains what the others wait for: greenlets share theirs, a lock has one that is inside."""
    doubts = (SLOW_ALIKE,) if seen.stuck[0].motion.samples == 1 else ()
    green = next((one for one in seen.stuck if is_greenlet(one.view)), None)
    if green is not None:
        words = f"All greenlets share the thread that stands in {green.frame}, and none of them runs meanwhile."
        return stuck(green, SHOWN, words, doubts)
    holder = explains(scene, seen.stuck)
    if holder is not None and not holder[0].view.idle and holder[0].frame is not None:
        return behind_one(scene, seen, *holder)
    return None


def nobody_gives_back(scene: Scene, seen: Crew) -> WorkersWeighed | None:
    """Requests that wait for a connection of a pool, where no thread is at work that could give one back."""
    waits = [one for one in seen.stuck if checkout_frame(one)]
    if not waits or waits[0].motion.samples == 1 or greenlets(scene):
        return None
    known = {identity(one.view) for one in waits}
    others = [view for view in scene.last if not view.idle and view.frame is not None and identity(view) not in known]
    if not all(waits_for_work(view) for view in others):
        return None
    who = counted(len(waits), "request", "waits")
    words = f"{who} for a connection of a pool, and no thread is at work that could give one back."
    doubt = "A pool that cannot connect to its database looks alike."
    return stuck(waits[0], PLAUSIBLE, words, (doubt,))


def standing(scene: Scene, seen: Crew) -> WorkersWeighed:
    """Requests that stand still, each for itself: is anybody left to serve the next one?"""
    places = Counter(map(file_and_line, seen.stuck))
    first = max(
        seen.stuck, key=lambda one: (accepts_requests(one), places[file_and_line(one)], str(file_and_line(one)))
    )
    single = first.motion.samples == 1
    doubts = (SLOW_ALIKE,) if single else ()
    alike = places[file_and_line(first)]
    if accepts_requests(first):
        words = f"{name_of(first.view)} accepts requests by itself, and is inside of one: all others wait."
        return stuck(first, SHOWN, words, doubts)
    if seen.free or seen.moving:
        moving = f"{len(seen.moving)} requests go on." if seen.moving[1:] else "One request goes on."
        words = f"{counted(seen.free, 'thread', 'waits')} for requests." if seen.free else moving
        doubt = f"{counted(alike, 'request', 'stands')} in {first.frame}: slow or stuck, but others are served."
        return going_on(scene, words, doubt)
    allowed = threads_allowed(scene)
    if allowed > len(seen.stuck):
        words = f"The server may have {allowed} threads: it starts another one for the next request."
        doubt = f"{counted(alike, 'request', 'stands')} in {first.frame}: slow or stuck, but others are served."
        return going_on(scene, words, doubt)
    fixed = has_fixed_threads(scene, seen)
    spare = None if fixed or single else others_served(scene, seen, first)
    if spare is not None:
        return spare
    words = f"{all_of(len(seen.stuck), 'threads')} that serve requests stand still, {alike} of them in one line."
    if len(seen.stuck) == 1 and fixed:
        words = f"The only thread that serves requests stands still in {first.frame}: all others wait."
    if fixed:
        return stuck(first, SHOWN, words, doubts)
    if alike > 1 and not (single and sleeps_or_computes(first)):
        if first.view.role != "other" or single or waits_for_own_lock(first):
            return stuck(first, LIKELY, words, doubts)
        slow = "Each request has a thread of its own, and a slow peer looks alike: look again in a minute."
        return stuck(first, ONE_SIDED, words, (*doubts, slow))
    queued = [count for count in queue_lengths(scene, (one.view for one in seen.stuck)) if count]
    if queued and not single and not sleeps_or_computes(first):
        words = (
            f"None of the pool's threads goes on, and its queue is not empty: {counted(max(queued), 'call', 'waits')}."
        )
        return stuck(first, OPEN, words, ("Slow calls look alike: look again in a minute.",))
    doubts = (*doubts, "The server starts a thread for each request: it may be one slow request.")
    return WorkersWeighed(
        "unclear", EVEN, (f"One request stands in {first.frame}; the server accepts others.",), doubts, first
    )


def behind_one(scene: Scene, seen: Crew, holder: Wait, count: int) -> WorkersWeighed:
    """Requests that wait for a thread, directly or not: what that one stands in is the answer, and not their lock."""
    who = f"{counted(count, 'request', 'waits')} for {name_of(holder.view)}, which stands in {holder.frame}."
    if not does_not_go_on(holder):
        doubt = f"{name_of(holder.view)} moves on: whether it ever leaves the lock is not known."
        return WorkersWeighed("unclear", EVEN, (who,), (doubt,), holder)
    doubts = () if holder.motion.samples > 1 else (SLOW_ALIKE,)
    timed = holder.kernel is not None and ends_by_itself(holder.kernel)
    if timed or holder.running:
        return stuck(holder, ONE_SIDED, who, (*doubts, "That ends by itself, and the next one may do the same."))
    return stuck(holder, ONE_SIDED if seen.free or seen.moving else LIKELY, who, doubts)


def stuck(one: Wait, level: Level, words: str, doubts: tuple[str, ...], *limits: Limit) -> WorkersWeighed:
    """A thread that does not go on; less sure where it computes, as a slow request does too, or was seen once."""
    found = (*limits, COMPUTES_OR_ONCE) if one.motion.samples == 1 or one.running else limits
    return WorkersWeighed("stuck", level, (words, *wake_words(one)), doubts, one, found)


def going_on(scene: Scene, words: str, doubt: str = "") -> WorkersWeighed:
    """Requests are served; `doubt` names those that stand still meanwhile."""
    once = len(scene.samples) == 1
    doubts = [*([doubt] if doubt else []), *([ONE_MOMENT.reason] if once else [])]
    limits = [*([OTHERS_SERVED] if doubt else []), *([ONE_MOMENT] if once else [])]
    if greenlets(scene):
        doubts.append(GREENLETS_UNREAD.reason)
        limits.append(GREENLETS_UNREAD)
    return WorkersWeighed("goes-on", LIKELY, (words,), tuple(doubts), None, tuple(limits), doubt)


def others_served(scene: Scene, seen: Crew, first: Wait) -> WorkersWeighed | None:
    """Nobody waits where the pool's queue is empty, or where each request has a thread of its own and is only slow."""
    known = queue_lengths(scene, (one.view for one in seen.stuck))
    asleep = [one for one in seen.stuck if not waits_as_sqlite(one.kernel)]  # that one wakes to look at a lock
    awake = [one for one in asleep if one.running or woke_by_itself(scene, one) or comes_or_goes(scene, one)]
    who = counted(len(seen.stuck), "request", "stands")
    doubt = f"{who} in {first.frame} or elsewhere: slow or stuck, but others are served."
    if known and not any(known):
        waits = waits_of_clients(scene) or ()
        if whole_pool_stands(scene) and len(waits) >= len(seen.stuck) and waits[len(seen.stuck) - 1] >= LONG:
            who = f"{all_of(len(seen.stuck), 'threads')} that the pool may have stand still: the next request waits."
            since = f"Each of theirs has had no answer for {waits[len(seen.stuck) - 1]:.0f} s."
            return stuck(first, OPEN, f"{who} {since}", ("A peer that is slow to each looks alike.",))
        return going_on(scene, "No request waits for a thread of the pool.", doubt)
    if known or any(one.view.role != "other" for one in seen.stuck):
        return None
    if len(awake) * 2 > len(seen.stuck):
        words = f"Each request has a thread of its own, and {len(awake)} of them went on while they were watched."
        return going_on(scene, words, doubt)
    for_a_while = all(
        sleeps_or_computes(one) or (one.kernel is not None and ends_by_itself(one.kernel)) for one in seen.stuck
    )
    unwatched = bool(scene.evidence.readings) and not scene.evidence.watch
    if for_a_while or (unwatched and not waits_for_own_lock(first)):
        words = f"{all_of(len(seen.stuck), 'requests')} that are served stand still."
        doubts = ("Each has a thread of its own: slow requests, and streams, look alike.",)
        return WorkersWeighed("unclear", EVEN, (words,), doubts, first)
    return None


def always_inside(scene: Scene, one: Wait) -> WorkersWeighed:
    """The only thread that accepts is inside of a request in every sample: of one that never ends, or one by one."""
    handler = next(frame for frame in reversed(one.view.thread.frames) if calls(frame, *HANDLES))
    words = f"{name_of(one.view)} accepts requests by itself, and is inside of one in every sample."
    if scene.evidence.accepted:
        return going_on(
            scene, f"{words} It has accepted {scene.evidence.accepted} more meanwhile: it serves one by one."
        )
    inner = one.view.thread.frames[: one.view.thread.frames.index(handler)]
    own = next(frame for frame in reversed(inner) if is_application(frame))
    found, apart = samples_outside(scene, one.view, handler), samples_outside(scene, one.view, own)
    if found is not None and apart is not None and (found[0] or apart[0]):
        what = "a request" if found[0] else "the application"
        return going_on(scene, f"It was outside of {what} in {found[0] or apart[0]} of {found[1]} samples of a second.")
    if found is None or scene.evidence.accepted is None:
        return WorkersWeighed("unclear", EVEN, (words,), ("A server that is asked all the time looks alike.",), one)
    never = f"In a second's {found[1]} samples it was never outside of one."
    return WorkersWeighed("stuck", LIKELY, (words, f"{never[:-1]}, and it has accepted no other."), (), one)


def script(scene: Scene) -> WorkersWeighed | None:
    """A script or a worker of one's own: accused where its main thread, or else a thread, waits for what it is owed."""
    mains = [wait(scene, view) for view in scene.last if view.role == "main" and view.frame is not None]
    sides = [view for view in scene.last if view.role in ("other", "worker") and view.frame is not None]
    rest = [wait(scene, view) for view in sides if not view.idle]
    for one in mains:
        if one.inside("queue.py") and waits_for_own_lock(one) and does_not_go_on(one) and only_thread(scene):
            who = f"{name_of(one.view)} waits for another thread to act on a queue, without a timeout"
            return stuck(one, LIKELY, f"{who}, and this process has no other thread.", ())
        child = unread_child(scene, one)
        if child:
            words = f"{name_of(one.view)} waits for the child process {child} to end."
            full = "That one stands in a write, and nobody in this process reads the pipe meanwhile."
            once = one.motion.samples == 1
            return WorkersWeighed(
                "stuck", MOMENT if once else EXCLUDED, (words, full, *wake_words(one)), (SLOW_ALIKE,) * once, one
            )
    for waits, limits in ((mains, ()), (rest, (SIDE_THREAD,))):
        asked = ((owed(scene, one), one) for one in waits if does_not_go_on(one) and not one.running)
        found = [(how, one) for how, one in asked if how is not None]
        if not found or (limits and len(found) < len([one for one in rest if not between_jobs(one)])):
            continue
        how, one = max(found, key=lambda pair: OWED[pair[0]].figure)
        who = name_of(one.view)
        words = f"No event loop and no server runs here: {who} waits for an answer, in the same place in every sample."
        return stuck(one, OWED[how], words, (LOOKS_ALIKE,), *limits)
    return None


def unread_child(scene: Scene, one: Wait) -> int | None:
    """The child that a thread waits for, and that waits for its pipe to be read: nobody else of this process reads."""
    unread, others = scene.evidence.unread_children, [view for view in scene.last if view.key != one.view.key]
    if not does_not_go_on(one) or any(not view.idle and view.frame is not None for view in others):
        return None
    if one.syscall is None:
        return next(iter(unread), None) if one.starts_with("multiprocessing/process.py:join") else None
    found = CHILD.search(one.detail) if one.in_syscall("wait4", "waitid") else None
    return int(found[1]) if found and int(found[1]) in unread else None


def only_thread(scene: Scene) -> bool:
    """Whether the kernel knows of one thread of this process, be it Python's or a library's, in every reading."""
    return bool(scene.evidence.readings) and all(len(one.waits) == 1 for one in scene.evidence.readings)


@once
def in_child(scene: Scene) -> bool:
    return is_child(scene.evidence.snapshots[-1])


def owed(scene: Scene, one: Wait) -> Owed | None:
    """How surely somebody owes the thread an end of its wait; None where it may wait on purpose."""
    if one.starts_with(*WORK_IS_DONE):
        others = [wait(scene, view) for view in scene.last if not view.idle and view.key != one.view.key]
        return "perhaps" if all(between_jobs(other) for other in others if other.frame is not None) else None
    child = in_child(scene) and not one.inside_package("requests", "urllib3", "http")
    if between_jobs(one) or child:
        return None
    cause, match = cause_of(scene, one)
    if (cause.id in FOR_OTHERS and has_consumers(scene, one)) or (cause.id in STREAMS and is_loops_line(one)):
        return None
    own = [frame for frame in one.view.thread.frames if is_application(frame)]
    if cause.id == "socket" and any(in_endless_loop(scene.evidence.sources, frame) for frame in own):
        return None  # a consumer: it waits for the next message, and then for the one after
    return cause.owed if match.kinds else None


def is_loops_line(one: Wait) -> bool:
    """Whether it stands in the head of a loop: it waits for the next item of what may never end."""
    return (one.text or "").startswith(("for ", "while "))


STATE = StateEntry(
    "sync-worker-blocked",
    rules=(
        Rule("stated-killed", "does a log state what is wrong", stated_in_words),
        Rule("workers-stuck", "do synchronous workers go on", workers_stuck),
    ),
    summary=summary,
    repair="pattern",
    without_loop=True,
    exonerates_threads=False,
)
