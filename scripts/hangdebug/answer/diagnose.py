"""From evidence to a Diagnosis: the state, then the cause of the wait that explains it, then how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from hangdebug.answer import certainty, words
from hangdebug.answer.certainty import NOT_THE_SERVERS
from hangdebug.answer.model import Asked, BlockingFrame, Diagnosis, Trace, Verdict
from hangdebug.answer.states import ENTRIES, decide
from hangdebug.answer.states.inconclusive import on_purpose
from hangdebug.answer.words import next_steps
from hangdebug.causes import cause_of
from hangdebug.causes.model import Seen
from hangdebug.evidence.frames import calls, different, package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.model import Evidence, Process, Snapshot
from hangdebug.evidence.vocabulary import STATES
from hangdebug.scene.graph import HANDS_TO_LOOP, RESULT, hands_to_loop
from hangdebug.scene.loop import handler_frame
from hangdebug.scene.pools import line_names, tasks_in_pools, woke_by_itself
from hangdebug.scene.rings import chain
from hangdebug.scene.scene import Scene, identity, once, polls_its_own, scenes, stacks_alone
from hangdebug.scene.tasks import as_wait, task_waits
from hangdebug.scene.waits import Wait, file_and_line, name_of, samples_outside, wait

AT_EXIT, WRITES = "multiprocessing/util.py:_exit_function", "multiprocessing/connection.py:_send"


def diagnose(evidence: Evidence) -> Diagnosis:
    """The diagnosis of one process, from one sample or many. Needs the standard library alone."""
    return diagnosis_in(scenes(evidence))


@once
def diagnosis_in(found: tuple[Scene, ...]) -> Diagnosis:
    own, *others = found
    first = diagnosis_of(own, *decide(own))
    if not ENTRIES[first.state].well or not others:
        return first
    innocent = []
    for other in others:
        verdict, asked = decide(other)
        if not ENTRIES[verdict.state].on_loop or verdict.wait is None:
            continue
        accused = verdict_beside(own, other, verdict)
        if accused is not None:
            return diagnosis_of(other, accused, asked)
        innocent.append(innocence_words(verdict.wait))
    return replace(first, exonerated=(*first.exonerated, *innocent))


def diagnosis_of(scene: Scene, verdict: Verdict, asked: tuple[Asked, ...]) -> Diagnosis:
    """The verdict with its cause, the frame to open, the certainty, and all that a report says beside them."""
    evidence, state, wait = scene.evidence, ENTRIES[verdict.state], verdict.wait
    cause, match = cause_of(scene, wait, Seen(verdict.state, verdict.ring))
    match = replace(match, kinds=match.kinds | verdict.kinds)
    shown = handed_to_pool(scene, verdict) or wait
    no_own_frame = shown is not None and shown.frame is None and not state.well
    steps = certainty.steps(verdict.level, verdict.limits, match.kinds, bool(scene.guessed), no_own_frame)
    confidence = steps[-1].figure
    follow = state.follows and wait is not None and identity(wait.view) in scene.by_thread
    edges = verdict.ring or (chain(scene, wait) if follow and wait is not None else ())
    frame = blocking_frame(shown) if shown is not None and not state.well else None
    if (
        frame is None
        and no_own_frame
        and shown is not None
        and (match.kinds or state.repair)
        and stacks_alone(evidence)
    ):
        frame = library_frame(shown)
    then = next_steps(scene, state, verdict, cause, confidence)
    lines = words.Found(scene, state, verdict, cause, match, edges, confidence)
    return Diagnosis(
        verdict.state,
        cause.id,
        confidence,
        without_cwd(scene, state.summary(scene, verdict, cause)),
        frame,
        wait.view.thread if wait is not None else None,
        wait.view.role if wait is not None else None,
        wait.kernel if wait is not None else None,
        tuple(without_cwd(scene, line) for line in words.evidence(lines)),
        tuple(without_cwd(scene, line) for line in (*words.doubts(lines), *(f"Next: {step}" for step in then))),
        tuple(words.exonerated(lines)),
        words.remedy(lines, frame),
        process_of(evidence),
        len(evidence.snapshots),
        bystander=verdict.bystander,
        waits_for=edges,
        rule=asked[-1].rule,
        read=evidence.snapshots[-1].read.partition(";")[0],
        trace=Trace(asked, steps),
    )


JOINS = ("thread-join", "subprocess")
FOR_CHILDREN = (*JOINS, "future-result", "executor-shutdown")  # what a parent waits in for its processes


def handed_to_pool(scene: Scene, verdict: Verdict) -> Wait | None:
    """The coroutine that handed a library's function to a full pool: the threads show no frame of the application."""
    if not ENTRIES[verdict.state].shows_caller or verdict.wait is None or verdict.wait.frame is not None:
        return None
    waits = [as_wait(scene, task) for task in tasks_in_pools(scene)]
    places = Counter(map(file_and_line, waits))
    return max(
        (one for one in waits if one.frame is not None), key=lambda one: places[file_and_line(one)], default=None
    )


def worst(diagnoses: Iterable[Diagnosis]) -> Diagnosis:
    """The one to act on among the processes behind one port; the others are named in `others`.

    Of several that are ill it is the surest, of several that are well the one in doubt.
    """

    def order(one: Diagnosis) -> tuple[int, float]:
        return STATES.index(one.state), one.confidence if ENTRIES[one.state].well else -one.confidence

    ranked = sorted(diagnoses, key=order)
    odd = odd_one(ranked)
    first = odd or next((one for one in ranked if not one.bystander), ranked[0])
    first = next((one for one in ranked if joins_ended(one, first)), first)
    rest = tuple(
        f"process {one.process.pid}: {one.state}, {one.cause} ({one.confidence:.2f})"
        for one in ranked
        if one is not first
    )
    return replace(first, others=rest, summary=f"{first.summary}{beside_others(ranked, odd) if first is odd else ''}")


def odd_one(diagnoses: list[Diagnosis]) -> Diagnosis | None:
    """The process that stands elsewhere than all others, where they are of one computation: its ranks wait for it, or
    it waits for them."""
    if len(diagnoses) < 3 or not all(ENTRIES[one.state].without_loop and one.blocking_frame for one in diagnoses):
        return None
    if any(one.process.server for one in diagnoses):  # workers of a server do not wait for each other
        return None
    places = Counter(place_in(one) for one in diagnoses)
    return next((one for one in diagnoses if len(places) == 2 and places[place_in(one)] == 1), None)


def beside_others(diagnoses: list[Diagnosis], odd: Diagnosis) -> str:
    """Where all the others stand, as a sentence behind the summary of the one that stands elsewhere."""
    other = next(one for one in diagnoses if one is not odd)
    frame, frames = other.blocking_frame, other.thread.frames if other.thread is not None else ()
    where = f"{frame.function} ({frame.file}:{frame.line})" if frame is not None else "one place"
    for inner, outer in zip(frames, frames[1:]):
        if frame is not None and (outer.function, outer.file, outer.line) == (frame.function, frame.file, frame.line):
            where += f", in a call of {inner.function}"
    who = "it may wait for them" if odd.cause in FOR_CHILDREN else "they may wait for it"
    alone = f"and this one alone stands elsewhere: {who}."
    return f" Of {len(diagnoses)} processes {len(diagnoses) - 1} stand in {where}, {alone}"


def joins_ended(parent: Diagnosis, child: Diagnosis) -> bool:
    """Whether a process is stuck in waiting for a child that has done its work: the child's end is no order to stop."""
    known = parent.kernel_wait.detail if parent.kernel_wait is not None else None
    waits = parent.cause in JOINS and (known is None or f"child {child.process.pid}" in known)
    return waits and child.rule == "interpreter-joins" and parent.rule == "workers-stuck"


def place_in(diagnosis: Diagnosis) -> tuple[str, str] | None:
    frame = diagnosis.blocking_frame
    return (frame.function, frame.file) if frame is not None else None


def evidence_of(snapshots: Iterable[Snapshot]) -> tuple[Evidence, ...]:
    """Pasted snapshots as evidence: those of one pid are samples of one process."""
    groups: dict[int | None, list[Snapshot]] = {}
    for snapshot in snapshots:
        groups.setdefault(snapshot.pid, []).append(snapshot)
    unread = {group[-1].pid or 0: group[-1].command for group in groups.values() if waits_to_be_read(group[-1])}
    return tuple(
        Evidence(
            tuple(group),
            process=process_in(group[-1]),
            sources=printed(group),
            tasks=group[-1].tasks,
            unread_children={child: command for child, command in unread.items() if child != pid},
        )
        for pid, group in groups.items()
    )


def waits_to_be_read(snapshot: Snapshot) -> bool:
    """Whether a child of multiprocessing has done its work, and its queue's thread still writes what it has put in."""
    writes = any(calls(thread.frames[0], WRITES) for thread in snapshot.threads if thread.frames)
    return writes and any(calls(frame, AT_EXIT) for thread in snapshot.threads for frame in thread.frames)


def printed(snapshots: list[Snapshot]) -> dict[str, dict[int, str]]:
    """The source lines that the dumps print below their frames, by file and number."""
    found: dict[str, dict[int, str]] = {}
    for frame in (frame for one in snapshots for frames in different(one.threads) for frame in frames):
        if frame.text and frame.line:
            found.setdefault(frame.file, {})[frame.line] = frame.text
    return found


def process_in(snapshot: Snapshot) -> Process:
    """What the dump itself tells of its process."""
    names = {package(frame) for frames in different(snapshot.threads) for frame in frames}
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


def library_frame(wait: Wait) -> BlockingFrame | None:
    """The library's call that names the cause, where a pasted stack has no frame of the application."""
    calls_made = [one for one in wait.view.inner if package(one) != "threading"]
    frame = next(iter(calls_made), None)
    return BlockingFrame(frame.function, frame.file, frame.line, frame.text or None) if frame is not None else None


def without_cwd(scene: Scene, text: str) -> str:
    """Paths below the server's working directory without it, as a person there would write them."""
    cwd = scene.evidence.process.cwd
    return text.replace(f"{cwd.rstrip('/')}/", "") if cwd and cwd != "/" else text


# -- loops that are not the server's own ---------------------------------------------------------------


def verdict_beside(own: Scene, other: Scene, found: Verdict) -> Verdict | None:
    """What the stuck loop of another thread means where the server's own is fine.

    None where it goes on and nobody waits for it.
    """
    if not is_servers_loop(own) or is_waited_for(own):
        doubts = (*found.doubts, NOT_THE_SERVERS.reason)
        return replace(found, doubts=doubts, limits=(*found.limits, NOT_THE_SERVERS))
    return None if found.wait is not None and goes_on(other, found.wait) else on_purpose(found)


def innocence_words(held: Wait) -> str:
    """Why another thread's loop is not to blame, for the report."""
    who = name_of(held.view)
    return f"{who}, whose own event loop stands in {held.frame}: it goes on, and nobody is seen to wait for it."


def is_servers_loop(own: Scene) -> bool:
    """Whether it is surely the server's loop: a server runs it, or it polls the socket that accepts connections."""
    one = own.loop[-1]
    by_server = any(package(frame) in SERVERS for frame in one.thread.frames)
    return by_server or polls_its_own(one.kernel, own.evidence.process)


def is_waited_for(own: Scene) -> bool:
    """Whether a thread or a coroutine waits for something that was handed to another thread's loop."""
    waits = [wait(own, view) for view in own.last if view.role != "event-loop" and not view.idle]
    still = [one for one in waits if one.starts_with(*RESULT) and one.motion.in_place]
    if any(hands_to_loop(own, one) for one in still):
        return True
    return any(line_names(own, task, (HANDS_TO_LOOP,)) for task in task_waits(own).stuck.values())


def goes_on(scene: Scene, held: Wait) -> bool:
    """Whether it computes, moves, or is in a wait that ends by itself."""
    seen = samples_outside(scene, held.view, handler_frame(scene) or held.frame) if held.frame else None
    timed = held.kernel is not None and ends_by_itself(held.kernel)
    moved = woke_by_itself(scene, held) or bool(seen and seen[0]) or not held.motion.in_place
    return bool(held.running) or timed or moved
