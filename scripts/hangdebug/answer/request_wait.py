"""A request that waits, in a sentence: for what, who is inside of it, and who could still end that."""

from __future__ import annotations

from hangdebug.evidence.model import Task
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import could_be_ended_by, ends_of, task_waits, waits_for_object


def whom_it_waits_for(scene: Scene, task: Task) -> str:
    """Whom a request waits for that has had no answer."""
    seen, awaits = task_waits(scene), task.awaits
    if awaits is None:
        return f"{task.name} serves a request and waits all the time."
    holders = [one for one in seen.inside(awaits.id) if not waits_for_object(seen, one, awaits.id)]
    inside = "".join(f"; {one.name} is inside of it, and waits for {one.awaits or 'nothing'}" for one in holders[:1])
    other = could_be_ended_by(scene, seen, task, ends_of(task)) if ends_of(task) and not holders else None
    later = f"; {other} could still end that" if other else ""
    return f"{task.name} serves a request and waits for {awaits} all the time{inside}{later}."
