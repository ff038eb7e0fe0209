"""What to do next: the observation that would decide, or where to look beyond this process.

Nothing here sends a request to a service that may be sick without saying what it costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hangdebug.answer.certainty import CLEAR
from hangdebug.answer.model import StateEntry, Verdict
from hangdebug.causes import cause_of
from hangdebug.causes.model import Cause
from hangdebug.errors import ours
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import wait

PEERS = ("http-client", "database", "socket")  # causes whose descriptor leads to another machine
ACTIVITY = 'psql -c "SELECT pid, state, wait_event_type, now() - query_start, query FROM pg_stat_activity"'
OWN_WORDS = {  # by port: what a database says of its own locks and slow queries
    "5432": f"{ACTIVITY}   # wait_event_type Lock: it waits inside of the database",
    "3306": 'mysql -e "SHOW FULL PROCESSLIST; SHOW ENGINE INNODB STATUS"   # who holds the row',
    "6379": "redis-cli --latency; redis-cli SLOWLOG GET 5   # a slow command holds up all others",
    "27017": 'mongosh --eval "db.currentOp({waitingForLock: true})"',
}
AGAIN = "the same line again: it is stuck there; another one: it goes on. Nothing is sent to it"


def pid_of(scene: Scene) -> str:
    evidence = scene.evidence
    return str(evidence.process.pid or evidence.snapshots[-1].pid or "PID")


def look_again(scene: Scene) -> str:
    return f"sleep 5; {ours('diagnose', '--pid', pid_of(scene))}   # {AGAIN}"


def next_steps(scene: Scene, state: StateEntry, verdict: Verdict, cause: Cause, confidence: float) -> Iterator[str]:
    """Commands, each with what it shows; none where the answer is clear and says all."""
    if verdict.bystander and state.well:
        yield f"{ours('diagnose', '--port', 'PORT')}   # looks at every worker"
    elif any(one.kind == "c-only" for one in scene.evidence.snapshots[-1].stated):
        yield f"py-spy dump --pid {pid_of(scene)}   # shows the Python frames"
    elif not scene.evidence.readings and confidence < CLEAR:
        who = pid_of(scene)
        why = "on the host: several samples, tasks, the kernel's word"
        yield f"{ours('capture', '--pid', who, '--zip')}   # {why}"
    elif state.well:
        yield from beyond(scene)
    elif verdict.decides:
        yield verdict.decides.replace("{pid}", pid_of(scene))
    elif confidence < CLEAR:
        yield look_again(scene)
    elif cause.id == "connection-pool":
        yield f"{ACTIVITY}   # PostgreSQL: `idle in transaction` are connections that were taken and are kept"


def beyond(scene: Scene) -> Iterator[str]:
    """Where to look when nothing is stuck here, from what was seen: peers, other workers, what is in front."""
    process, clients = scene.evidence.process, scene.evidence.clients
    for peer, count in peers(scene).most_common(2):
        port = peer.rpartition(":")[2]
        asked = OWN_WORDS.get(port, f"curl -sS -o /dev/null -w '%{{time_total}}' --max-time 5 http://{peer}/")
        yield f"{asked}   # {count} thread{'s' * (count > 1)} wait{'s' * (count == 1)} for {peer}: is that slow?"
    if process.supervisor_pid:
        yield f"{ours('diagnose', '--pid', process.supervisor_pid)}   # its other workers"
    if clients is not None and not clients.open and not clients.backlog:
        port = str(process.listening[0]) if process.listening else "PORT"
        asked = f"curl -sS -o /dev/null -w '%{{http_code}} %{{time_total}}' --max-time 2 http://127.0.0.1:{port}/"
        yield f"{asked}   # no client is connected. Where this answers, what hangs is in front: look at the proxy"
    elif scene.evidence.readings:
        where = ("--port", process.listening[0]) if process.listening else ("--pid", pid_of(scene))
        yield f"{ours('diagnose', *where)}   # while a request hangs: it may have been over just now"


def peers(scene: Scene) -> Counter[str]:
    """Whom its threads wait for over the network: "10.2.3.4:5432", and how many do."""
    found: Counter[str] = Counter()
    for view in scene.last:
        detail = view.kernel.detail if view.kernel is not None and not view.idle else None
        if detail and "-> " in detail and cause_of(scene, wait(scene, view))[0].id in PEERS:
            found[detail.rpartition("-> ")[2]] += 1
    return found
