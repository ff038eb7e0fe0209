"""The loop is idle and no thread is stuck: coroutines await something that never comes.

Healthy servers are full of tasks that wait. A wait counts as a hang only where the tasks themselves show that nobody
ends it, or where a request has had no answer yet and nothing that runs could give it one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Union

from hangdebug.answer.certainty import (
    AGREED,
    BRIEF,
    EXCLUDED,
    LIKELY,
    LISTED,
    ONE_READING,
    ONE_SIDED,
    OPEN,
    PLAUSIBLE,
)
from hangdebug.answer.model import Level, Rule, StateEntry, Verdict
from hangdebug.answer.states.sync_worker_blocked import LOOKS_ALIKE
from hangdebug.answer.states.threadpool_exhausted import in_coroutines
from hangdebug.answer.words import capital, counted, failed_tasks, line_of, place_of, release_words
from hangdebug.causes import cause_of
from hangdebug.causes.connection_pool import checkout_frame
from hangdebug.causes.model import Cause, Seen
from hangdebug.evidence.frames import calls
from hangdebug.evidence.model import Task
from hangdebug.scene.graph import waits_for_idle_loop
from hangdebug.scene.open_requests import (
    LONG,
    for_how_long,
    jobs_behind_jobs,
    left_waiting,
    nested_handlers,
    reads_pipe,
    serves_messages,
    standing,
    standing_thread,
    waits_for_body,
    waits_for_pool,
)
from hangdebug.scene.pools import calls_left_behind, hands_to_pool
from hangdebug.scene.rings import stuck_nodes
from hangdebug.scene.scene import Scene, stacks_alone
from hangdebug.scene.tasks import (
    TaskWaits,
    about_to_run,
    as_wait,
    awaited_directly,
    could_be_ended_by,
    edges_through_threads,
    ends_in_loop,
    ends_of,
    innermost_task,
    response_begun,
    runs_application,
    task_edges,
    task_waits,
    waits_for_object,
    waits_for_taken_lock,
)
from hangdebug.scene.waits import motion, name_of, wait

MOST_JUDGED = 100
SLOW_PEER = "A slow peer looks alike: look again in a minute."
Judge = Callable[[Scene, TaskWaits, Task], Union[Verdict, None]]


def ring(scene: Scene) -> Verdict | str:
    """A task waits for a lock that it holds itself, or for others that wait for it in turn."""
    return first_verdict(scene, in_ring) or "No task waits for a lock of its own, or for one that waits for it."


def never_released(scene: Scene) -> Verdict | str:
    """A lock is taken, and no task is inside of it."""
    return (
        first_verdict(scene, nobody_inside) if all_known(scene) else None
    ) or "No lock is taken without anybody inside of it."


def never_ended(scene: Scene) -> Verdict | str:
    """A request waits for an event or a queue, and nobody is left who could end that."""
    return (
        first_verdict(scene, nobody_ends) if all_known(scene) else None
    ) or "No request waits for what nobody could end."


def never_run(scene: Scene) -> Verdict | str:
    """What a task waits for is done, and the idle loop does not run the task."""
    return first_verdict(scene, not_woken) or "No task waits for what is done already."


def child_unread(scene: Scene) -> Verdict | str:
    """A task waits for a child to end, and the child to be read."""
    return first_verdict(scene, waits_for_unread_child) or "No child process waits for its output to be read."


def no_thread_left(scene: Scene) -> Verdict | str:
    """A call waits in the queue of a pool whose threads are not in this process."""
    return first_verdict(scene, pool_without_threads) or "No pool with calls in its queue is without threads."


def body_is_read(scene: Scene) -> Verdict | str:
    """A request waits for a body that the server has handed on to its end."""
    return first_verdict(scene, wants_more_body) or "No request waits for a body that was read to its end."


def outlives_timeout(scene: Scene) -> Verdict | str:
    """The time-out around a wait has run out, and the wait goes on."""
    return first_verdict(scene, after_timeout) or "No task waits on after its time-out."


def owed_an_answer(scene: Scene) -> Verdict | str:
    """A program that serves nobody waits for the answer of a client library, as a script does in a thread."""
    idle = any(view.idle for view in scene.loop) and all_known(scene)
    for one in standing(scene) if idle else ():
        found = as_wait(scene, one.task)
        cause, match = cause_of(scene, found, Seen("tasks-waiting"))
        if one.job and not one.task.timed and cause.owed and match.kinds:
            words = f"{one.task.name} waits for an answer, in the same place in both readings; nobody is served here."
            return Verdict("tasks-waiting", OPEN, (words,), (LOOKS_ALIKE,), found)
    return "No program that serves nobody waits for an answer."


def job_behind_job(scene: Scene) -> Verdict | str:
    """Every job that a worker has begun waits for the result of another one."""
    jobs = jobs_behind_jobs(scene) if any(view.idle for view in scene.loop) else ()
    if not jobs or scene.evidence.apart < LONG:
        return "No worker's jobs all wait for other jobs, or they have not for long."
    words = (
        f"{counted(len(jobs), 'job', 'stands')} in a call of the library that runs it: for another job's result.",
        f"That was so for {scene.evidence.apart:.0f} s at least, and no other job is under way in this process.",
    )
    doubt = "Another worker's process may take that job, and be slow."
    return Verdict("tasks-waiting", ONE_SIDED, words, (doubt,), as_wait(scene, jobs[0]))


def without_answer(scene: Scene) -> Verdict | str:
    """A client has waited long for a request that stands in one place, without a time-out, and nobody moves there."""
    alone = len(scene.threads("event-loop")) == 1  # else another loop may be what it waits for
    lost = left_waiting(scene) if any(view.idle for view in scene.loop) and all_known(scene) else ()
    lost = tuple(one for one in lost if alone or one.outlook == "peer")
    if not lost:
        return "No request stands still with nobody in sight to end its wait, but a peer."
    seconds = for_how_long(scene)
    if seconds < LONG:
        return f"Requests stand still, and have for {seconds:.0f} s: slow ones do as well."
    waits = [as_wait(scene, one.task) for one in lost]
    one = next(filter(checkout_frame, waits), waits[0])  # of a pool's connections: others may have them
    words = (
        f"{name_of(one.view)} serves a request that has had no answer for {seconds:.0f} s at least, without a timeout.",
        *([f"{len(lost)} requests stand so."] if lost[1:] else []),
    )
    return Verdict("tasks-waiting", OPEN, words, (SLOW_PEER,), one)


def waits_for_thread(scene: Scene) -> Verdict | str:
    """A request waits for a thread of the application's own, which stands in one call."""
    return first_verdict(scene, thread_stands) or "No request waits for a thread that stands still."


def nested_runs(scene: Scene) -> Verdict | str:
    """Several handlers have run the loop once more: the first returns only when all that came after it have."""
    seen = nested_handlers(scene)
    if seen is None or seen[1] < 2 or len(scene.loop) < 2 or not any(view.idle for view in scene.loop):
        return "No handler runs the loop once more while another one does."
    view, count = seen
    words = (
        f"{count} handlers have run the loop once more, one inside of the other, in all {len(scene.loop)} samples.",
        "The loop goes on and serves others; each of these returns only when the one that came after it has.",
    )
    return Verdict("tasks-waiting", BRIEF, words, ("They may all be short ones.",), wait(scene, view))


def all_known(scene: Scene) -> bool:
    """Whether all tasks were read: one that was not could be the one that ends a wait."""
    return not scene.evidence.unread


def first_verdict(scene: Scene, judge: Judge) -> Verdict | None:
    """The first verdict over the tasks that wait for one thing in both readings, each kind of wait asked once."""
    if not scene.loop or not any(one.idle for one in scene.loop) or not scene.evidence.tasks:
        return None
    seen = task_waits(scene)
    alike = {
        (task.awaits and task.awaits.id, task.inside, task.frames, task.id in seen.served): task
        for task in seen.stuck.values()
    }
    ordered = sorted(alike.values(), key=lambda task: (not task.inside, task.id not in seen.served))[:MOST_JUDGED]
    return next((found for found in (judge(scene, seen, task) for task in ordered) if found is not None), None)


def in_ring(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    listed, through = task_edges(seen), edges_through_threads(scene)
    if task.awaits is None or task.id not in listed or task.id not in stuck_nodes({**through, **listed}):
        return None
    level = LISTED if task.id in stuck_nodes(listed) else LIKELY
    threads = tuple(
        f"{seen.tasks[one].name} waits for {name_of(view)}, which stands in {view.frame} and waits for a coroutine "
        "that it has handed to this loop."
        for one in listed[task.id].targets
        if one in through and isinstance(one, int)
        for view in [scene.by_thread[through[one].targets[0]][-1]]
    )
    if task.awaits.kind == "Task":
        other = seen.tasks[task.awaits.id].name
        words = f"{task.name} waits for {other}, which waits for it in turn: none of them can go on."
        return verdict_on(scene, seen, task, level, (words, *threads))
    holders = seen.inside(task.awaits.id)
    own = any(one.id == task.id for one in holders)
    who = "itself" if own else ", ".join(one.name for one in holders[:4]) + ", which waits in turn"
    words = f"{task.name} waits for {task.awaits}; the task inside of it is {who}: none of them can go on."
    return verdict_on(scene, seen, task, level, (words, *threads))


def nobody_inside(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    """Whoever took the lock has gone without releasing it."""
    if task.awaits is None or not waits_for_taken_lock(task) or task.timed or task.awaits.kind == "CapacityLimiter":
        return None
    if seen.inside(task.awaits.id) or any(task.awaits.id in one.inside for one in scene.evidence.tasks):
        return None  # it changes hands
    by_hand = task.awaits.method != "__aenter__" and "release" not in task.ends
    if by_hand and any(name.lstrip("+") == "release" for one in scene.evidence.functions or () for name, _ in one.ends):
        return None  # a semaphore that counts work is taken here, and released by whoever brings the work
    others = [
        one for one in seen.tasks.values() if not waits_for_object(seen, one, task.awaits.id) and runs_application(one)
    ]
    if any(one.id in seen.served or "release" in one.ends for one in others):
        return None  # taken by hand, or by a dependency that a request keeps open: that shows in no frame
    if (
        scene.evidence.functions is None
        or not awaited_directly(task)
        or could_be_ended_by(scene, seen, task, {"release"})
    ):
        return None
    words = f"{task.name} waits for {task.awaits}, and no task is inside of it: it was taken and never released."
    doubt = "No function of the application releases any; a library that was given it could."
    level = AGREED if not others and not by_hand else PLAUSIBLE
    more = release_words(scene, as_wait(scene, task))
    found = verdict_on(scene, seen, task, level, (words, *more), (doubt,) if by_hand else ())
    return replace(found, fix="release_permit") if any("`finally`" in each for each in more) else found


def nobody_ends(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    """A request without an answer waits for an event or a queue, with no timeout, and no task can end that.

    Of other tasks only those that wait for a queue to be read, and those that should read it: else a program may wait
    for an event, or a job, for ever.
    """
    if task.awaits is None or task.timed or response_begun(task):
        return None
    asked = task.id in seen.served
    behind = None if asked else waits_for_taker(scene, seen, task)
    if not asked and task.awaits.method not in ("join", "put") and behind is None:
        return None
    ends = ends_of(scene, task)
    if (
        not awaited_directly(task)
        or not scene.evidence.later
        or not ends
        or waits_for_taken_lock(task)
        or about_to_run(task)
    ):
        return None
    if any(ends & one.ends for one in seen.tasks.values() if not waits_for_object(seen, one, task.awaits.id)):
        return None
    if scene.evidence.functions is None or could_be_ended_by(scene, seen, task, ends):
        return None
    any_of = " or ".join(sorted(ends))
    words = (
        f"{task.name} {'serves a request that has no answer yet, and ' * asked}waits for {task.awaits} without a "
        "timeout.",
        f"No task, thread or callback that is left calls {any_of}, and no request that could come.",
        *([f"{behind.name} waits for {behind.awaits}, which it should read."] if behind is not None else []),
    )
    failed = [one for one in scene.evidence.later if one.state.startswith("failed") and ends & one.ends]
    if failed:
        would = " or ".join(sorted(ends & failed[0].ends))
        ended = f"{failed[0].coroutine} would call {would}, but has ended with an exception."
        return verdict_on(scene, seen, task, EXCLUDED, (*words, ended))
    return verdict_on(scene, seen, task, LIKELY, words, ("A library that was given it could still end this wait.",))


def waits_for_taker(scene: Scene, seen: TaskWaits, task: Task) -> Task | None:
    """A task that waits for its queue to be read, where this one's loop alone reads it: this one has work to do."""
    waiting = (one for one in seen.stuck.values() if one.awaits is not None and one.awaits.method in ("join", "put"))
    awaited = task.awaits.id if task.awaits is not None else None
    mine = frozenset(frame.name for frame in task.frames)
    for one in waiting:
        ends = ends_of(scene, one)
        others = (other for other in seen.tasks.values() if not waits_for_object(seen, other, awaited))
        if (
            ends_in_loop(scene, task, ends)
            and not any(ends & other.ends for other in others if other.id != one.id)
            and not could_be_ended_by(scene, seen, one, ends, without=mine)
        ):
            return one
    return None


def not_woken(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    """The future that it awaits was done in the first reading as well. A loop that had woken would have run it."""
    before = {one.id: one.ready for one in scene.evidence.tasks}
    if not task.ready or before.get(task.id) != task.ready or not all(view.idle for view in scene.loop):
        return None
    if motion(scene, scene.loop[-1]).woke:
        return None  # then it has run what was ready: the two readings met two futures, each at its end
    words = (
        f"{task.name} waits for {task.awaits}, which is done: the event loop has only to run it, and has not woken.",
        "It was ended from another thread, without `loop.call_soon_threadsafe()`.",
    )
    return verdict_on(scene, seen, task, LISTED, words)


def waits_for_unread_child(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    if task.timed:
        return None
    children = [f"{pid} ({command})" for pid, command in scene.evidence.unread_children.items()]
    if children and reads_pipe(task) and all(view.idle for view in scene.loop):
        words = (
            f"{task.name} waits for what a child process writes. The child process {children[0]} stands in a write,",
            "before the first look and after the last: it waits for somebody to read another of its streams.",
        )
        return verdict_on(scene, seen, task, PLAUSIBLE, words, ("The stream may belong to somebody else.",))
    if children and any(calls(frame, "asyncio/streams.py:drain") for frame in task.frames[:2]):
        child = children[0]
        words = (
            f"{task.name} writes to a stream that is full. The child process {child} stands in a write too,",
            "before the first look and after the last: each waits for the other to read.",
        )
        return verdict_on(scene, seen, task, PLAUSIBLE, words, ("The stream may belong to somebody else.",))
    counts = task.awaits.counts if task.awaits is not None and task.awaits.kind == "Process" else {}
    command = scene.evidence.unread_children.get(counts.get("pid", 0))
    if command is None:
        return None
    words = (
        f"{task.name} waits for the child process {counts['pid']} to end ({command}).",
        "The kernel has that child in a write, before the first look and after the last: it waits to be read.",
    )
    before = {one.id: one.awaits.counts for one in scene.evidence.tasks if one.awaits is not None}
    if not counts.get("unread") or before.get(task.id) != counts:
        return verdict_on(scene, seen, task, PLAUSIBLE, words, ("Somebody else may read that pipe, slowly.",))
    full = f"Its stream here is full: {counts['unread']} bytes lie in it, and nobody reads them."
    return replace(verdict_on(scene, seen, task, LISTED, (*words, full)), fix="read_pipes")


def pool_without_threads(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    queued = calls_left_behind(scene)
    if not queued or task.timed or not hands_to_pool(scene, task):
        return None
    words = (
        f"{task.name} waits for a call in a pool, and {queued} calls wait in the queue of one whose threads are gone.",
        "The pool's books name threads that this process does not have: it was forked after they were started.",
    )
    if any(not view.idle for view in scene.threads("worker")):
        return verdict_on(scene, seen, task, ONE_SIDED, words, ("Another pool has threads at work.",))
    return verdict_on(scene, seen, task, LISTED, words)


def wants_more_body(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    if task.awaits is None or task.awaits.counts.get("more_body") != 0 or task.id not in seen.served or task.timed:
        return None
    if not waits_for_body(task) or response_begun(task):
        return None
    words = (
        f"{task.name} serves a request and waits for its body; the server has handed on all of it already.",
        "Somebody read it before, such as a middleware that called `receive()`, and gave nothing back.",
    )
    return verdict_on(scene, seen, task, LISTED, words)


def after_timeout(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    if not task.expired or task.timed or not runs_application(task) or not scene.evidence.later or about_to_run(task):
        return None
    words = f"{task.name} waits for {task.awaits}, though the time-out around it has run out."
    doubt = "It may clean up, for as long as that takes."
    behind = (seen.stuck.get(one) for one in (task.awaits.of if task.awaits is not None else ()))
    inner = next((one for one in behind if one), task)
    if not awaited_directly(inner):
        return None  # a library cleans up, or a peer is slow
    return verdict_on(scene, seen, inner, PLAUSIBLE, (words,), (doubt,))


def thread_stands(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    one = standing_thread(scene, task) if task.id in seen.served and all_known(scene) else None
    if one is None or task.awaits is None:
        return None
    if serves_messages(task) and waits_for_pool(scene, task):
        who = f"{task.name} serves a message and waits for a call in {name_of(one.view)}."
    else:
        who = f"{task.name} serves a request and waits for {task.awaits}, which {name_of(one.view)} is to end."
    words = (
        who,
        f"That thread stands in {one.frame}, in the same place in all {one.motion.samples} samples.",
    )
    return Verdict("tasks-waiting", OPEN, words, (SLOW_PEER,), one)


def verdict_on(
    scene: Scene, seen: TaskWaits, task: Task, level: Level, words: tuple[str, ...], doubts: tuple[str, ...] = ()
) -> Verdict:
    """The answer, with who else waits there and which tasks have failed meanwhile."""
    awaited = task.awaits and task.awaits.id
    crowd = sum(one.awaits is not None and one.awaits.id == awaited for one in seen.stuck.values())
    more = [f"{crowd} tasks wait for it."] if crowd > 1 else []
    more += ["The time-out around it has run out, and has not ended it."] if task.expired and not task.timed else []
    once = not scene.evidence.later
    return Verdict(
        "tasks-waiting",
        level,
        (*words, *more, *failed_tasks(scene)),
        (*doubts, ONE_READING.reason) if once else doubts,
        as_wait(scene, task),
        (ONE_READING,) if once else (),
        kinds=frozenset({"tasks"}) if level is LISTED else frozenset(),
    )


def connections_kept(scene: Scene) -> Verdict | str:
    """Every request waits for a connection of a pool: none is left that could give one back."""
    seen = in_coroutines(scene)
    if seen is None:
        return "No request's coroutine waits for a connection of a pool."
    if seen.others:
        return "Other coroutines are under way, and may hold the connections."
    nobody = "No other coroutine of the application is under way that could give one back"
    words = f"{nobody}: {keepers(scene, len(seen.waits))}."
    return Verdict("tasks-waiting", EXCLUDED, (seen.words, words), wait=seen.waits[0])


def keepers(scene: Scene, count: int) -> str:
    """Who has the connections: those that wait, each with one already, or nobody that shows."""
    seen = task_waits(scene)
    own = [task for task in seen.stuck.values() if task.id in seen.served and any(map(is_checkout, task.holds))]
    if not own:
        return "they were taken and kept"
    return f"{len(own)} of the {count} requests that wait have one already, and each wants a second; none is leaked"


def is_checkout(name: str) -> bool:
    """Whether a context manager of this name has a connection of a pool until it is left."""
    return any(word in name.lower() for word in ("acquire", "connection", "session", "checkout"))


def thread_waits_for_loop(scene: Scene) -> Verdict | str:
    """A thread waits for a coroutine that it handed to a loop, and that loop is idle: the coroutine waits in turn."""
    found = waits_for_idle_loop(scene) if stacks_alone(scene.evidence) else None
    if found is None:
        return "No thread is seen to wait for a coroutine of an idle loop."
    one, loop = found
    words = (
        f"{name_of(one.view)} stands in {one.frame or one.view.section[0]} and waits for a result; the event loop of "
        f"{name_of(loop)} is idle, and no other thread works on one.",
        f"So it waits for a coroutine that it handed to the loop of {name_of(loop)}, and that coroutine waits as well.",
    )
    doubt = "What the coroutine waits for, stacks do not show: a list of tasks does (py-spy dump --pid PID shows none)."
    return Verdict("tasks-waiting", OPEN, words, (doubt,), one)


def tasks_alone(scene: Scene) -> Verdict | str:
    """A list of tasks, and perhaps a loop that is idle: the application's coroutine that the others wait for."""
    if not scene.evidence.tasks or not stacks_alone(scene.evidence):
        return "No list of tasks, or more than one."
    if any(not view.idle for view in scene.last):
        return "There are threads to judge."
    task = innermost_task(scene)
    if task is None:
        return "No task of the application's waits for anything."
    one = as_wait(scene, task)
    words = (
        f"{counted(len(scene.evidence.tasks), 'task', 'is').replace(' is', '')}, and no thread at work.",
        f"{task.name} waits in {one.frame}{awaited_words(task)}.",
    )
    doubt = "One list shows one moment: it cannot show that the task stays there."
    return Verdict("tasks-waiting", OPEN, words, (doubt,), one, bystander=not scene.loop)


def awaited_words(task: Task) -> str:
    return f" for {task.waits_on}" if task.waits_on and task.waits_on != task.frames[0].function else ""


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    where = f"{place_of(verdict.wait)}{line_of(verdict.wait)}"
    if verdict.wait is not None and verdict.wait.coroutine and {LOOKS_ALIKE, SLOW_PEER} & set(verdict.doubts):
        return f"A coroutine waits{where} for an answer, slow or lost; the event loop itself is fine."
    if verdict.wait is not None and not verdict.wait.coroutine and stacks_alone(scene.evidence):
        who = name_of(verdict.wait.view)
        return (
            f"{capital(who)} waits{where} for a coroutine of an event loop that is idle: that coroutine waits as well."
        )
    if verdict.level == OPEN and stacks_alone(scene.evidence):
        return f"A coroutine waits{where}; the list of tasks shows no thread that works for it."
    if verdict.wait is not None and not verdict.wait.coroutine and verdict.wait.view.role != "event-loop":
        return f"A request waits for a thread that stands{where}; the event loop itself is fine."
    if verdict.wait is not None and not verdict.wait.coroutine:
        return f"Handlers run the event loop inside of each other{where}: the first has to wait for the last."
    return f"A coroutine waits{where} for what never comes; the event loop itself is fine."


STATE = StateEntry(
    "tasks-waiting",
    rules=(
        Rule("never-run", "do tasks wait for what never comes", never_run),
        Rule("nested-runs", "do tasks wait for what never comes", nested_runs),
        Rule("child-unread", "do tasks wait for what never comes", child_unread),
        Rule("no-thread-left", "do tasks wait for what never comes", no_thread_left),
        Rule("body-is-read", "do tasks wait for what never comes", body_is_read),
        Rule("thread-waits-for-loop", "do tasks wait for what never comes", thread_waits_for_loop),
        Rule("task-ring", "do tasks wait for what never comes", ring),
        Rule("never-released", "do tasks wait for what never comes", never_released),
        Rule("never-ended", "do tasks wait for what never comes", never_ended),
        Rule("outlives-timeout", "do tasks wait for what never comes", outlives_timeout),
        Rule("owed-an-answer", "do tasks wait for what never comes", owed_an_answer),
        Rule("waits-for-thread", "do tasks wait for what never comes", waits_for_thread),
        Rule("job-behind-job", "do tasks wait for what never comes", job_behind_job),
        Rule("without-answer", "do tasks wait for what never comes", without_answer),
        Rule("connections-kept", "do tasks wait for what never comes", connections_kept),
        Rule("tasks-alone", "is the idle loop well", tasks_alone),
    ),
    summary=summary,
    repair="pattern",
)
