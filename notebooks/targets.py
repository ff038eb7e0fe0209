"""What can be looked at: the Python servers of this machine and how they fare, and an uploaded file.

Nothing here attaches to a process, signals it or sends it a request, but for `asked`, which sends one.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from hangdebug.capture import proc, processes
from hangdebug.errors import BadRequest, HangError, NoProcess
from hangdebug.evidence import kernel
from hangdebug.evidence.bundle import STOPPED
from hangdebug.evidence.model import Clients
from hangdebug.repair.proof import curl
from hangdebug.report.text import inert

MOST_UPLOAD = 8 << 20  # bytes: a notebook server takes no larger message
BUSY = 90  # per cent of a CPU
HEALTH, STREAM = re.compile("health|ready|live|ping|status"), re.compile("stream|events|sse")
APP = re.compile(r"[\w.]+:[\w.]+(?:\(\))?$")
NOBODY = Clients()


@dataclass(frozen=True)
class Health:
    """How a server fares: `sign` is one of SIGNS, `words` say what was seen."""

    sign: str
    words: str
    oldest: float = 0.0  # seconds for which a request has had no answer

    @property
    def rank(self) -> tuple[int, float]:
        """The sickest server has the lowest: clients that nobody accepts or reads, then the oldest request."""
        first = ("waits", "stopped") if self.oldest < LONG else ("waits", "stopped", self.sign)
        return (first.index(self.sign) if self.sign in first else 3 if self.sign == "busy" else 4, -self.oldest)


LONG = 5.0  # seconds: most answers that are merely slow are there by then
SICK = 3  # the highest rank of a server that is worth a look by itself
SIGNS = {
    "answers": "&#9679;",
    "quiet": "&#9675;",
    "waits": "&#9670;",
    "busy": "&#9650;",
    "stopped": "&#9632;",
    "gone": "&#215;",
}
COLUMNS = ("server", "serves", "workers", "port", "CPU", "threads", "health")


@dataclass(frozen=True)
class Server:
    """One server: its supervisor or only process, and what the kernel says of it and of its workers."""

    pid: int
    kind: str
    app: str
    workers: int = 0
    ports: tuple[int, ...] = ()
    cpu: float = 0.0
    threads: int = 0
    health: Health = Health("quiet", "not asked")


@dataclass
class Watch:
    """The Python servers that listen on this machine. `find` lists them, `look` says how they fare now."""

    families: dict[int, list[Any]] = field(default_factory=dict)
    facts: dict[int, tuple[str, str, tuple[int, ...]]] = field(default_factory=dict)
    earlier: dict[int, Clients] = field(default_factory=dict)
    one_at_a_time: Any = field(default_factory=threading.RLock)

    def find(self, but: Iterable[int] = ()) -> None:
        """List the servers anew, `but` some. Workers are found through their parent."""
        ps, found = processes.require_psutil(), {}
        own = {os.getpid(), *but, *(parent.pid for parent in ps.Process().parents())}
        for process in ps.process_iter():
            if process.pid in own or not processes.is_python(process.pid) or processes.or_none(process.ppid) in found:
                continue
            if not re.search("ipykernel|jupyter|voila", processes.command_line(process)) and self.note(process):
                found[process.pid] = self.families[process.pid]
        with self.one_at_a_time:
            self.families = found

    def note(self, process: Any) -> bool:
        """Remember what does not change of a server. Whether it listens at all."""
        listening = {
            one.laddr.port for one in processes.connections(process) if one.status == processes.psutil.CONN_LISTEN
        }
        with self.one_at_a_time:
            if listening and process.pid not in self.families:
                kind = processes.server_of(processes.command_line(process)) or "python"
                self.facts[process.pid] = (kind, app_of(process), tuple(sorted(listening)))
                self.families[process.pid] = [process, *processes.python_family(process)]
        return bool(listening)

    def look(self) -> tuple[Server, ...]:
        """How each fares now, the sickest first. Only what two looks agree on is said to be trouble."""
        with self.one_at_a_time:
            return tuple(sorted(map(self.one, list(self.families)), key=lambda one: (one.health.rank, one.pid)))

    def one(self, pid: int) -> Server:
        with self.one_at_a_time:
            if pid not in self.families and not self.note(processes.running_process(pid)):
                raise NoProcess(f"Process {pid} listens on no port.")
        members, (kind, app, ports) = self.families[pid], self.facts[pid]
        cpu = sum(processes.or_none(lambda: one.cpu_percent(None)) or 0.0 for one in members)
        threads = sum(processes.or_none(one.num_threads) or 0 for one in members)
        now, before = clients_of([one.pid for one in members], ports), self.earlier.get(pid, NOBODY)
        self.earlier[pid] = now
        return Server(
            pid, kind, app, max(1, len(members) - 1), ports, cpu, threads, health(members[0], cpu, before, now)
        )


def app_of(process: Any) -> str:
    """What it serves, "app.main:app", or else its module or script."""
    words = processes.short_command(process).split()
    named = [word for word in words if APP.match(word) and not word[0].isdigit()]
    modules = [after for word, after in zip(words, words[1:]) if word == "-m"]
    return next(iter(named + modules + [Path(word).name for word in words if word.endswith(".py")]), "")


def clients_of(pids: list[int], ports: tuple[int, ...]) -> Clients:
    """The connections to its ports, as the kernel counts them in the network namespace of the first process, and how
    long each client of all of them has waited. Linux only."""
    counted = kernel.count_clients(connections_of(pids[0]), ports)
    answers = "".join(filter(None, (processes.or_none(partial(proc.copy_answers, one, ports)) for one in pids)))
    counted = kernel.with_answers(counted, answers) if answers else counted
    waits = sorted((*(counted.waits or ()), *proc.not_accepted(pids[0], ports)), reverse=True)
    return replace(counted, waits=tuple(waits))


def connections_of(pid: int) -> str:
    """The kernel's tables of connections in the network namespace of a process, "" where there are none."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            found.append(Path(f"/proc/{pid}/net/{name}").read_text())
        except OSError:
            continue
    return "\n".join(found)


def busiest_port(pid: int, ports: tuple[int, ...]) -> int | None:
    """Of several ports the one with most clients: a process may have others, of which it is the only client itself."""
    rows = [one for one in kernel.connections(connections_of(pid)) if one.state != kernel.LISTEN]
    own = {line.split("socket:[")[1][:-1] for line in proc.copy_descriptors(pid).splitlines() if "socket:[" in line}
    its = {one.here for one in rows if one.inode in own and one.port not in ports}
    count = Counter(one.port for one in rows if one.port in ports and one.there not in its)
    return max(ports, key=lambda port: count[port], default=None)


def health(process: Any, cpu: float, before: Clients, now: Clients) -> Health:
    """Sockets and CPU alone: a request that nobody asked for is never sent."""
    status = processes.or_none(process.status)
    if status in (None, "zombie"):
        return Health("gone", "has ended")
    if status in STOPPED:
        return Health("stopped", "stopped by the kernel")
    kept = {
        "not accepted": (before.backlog, now.backlog),
        "not read": (before.unread, now.unread),
        "left unnoticed": (before.abandoned, now.abandoned),
    }
    said = [f"{min(pair)} {name}" for name, pair in kept.items() if min(pair)]
    oldest = max(now.waits or (0.0,))
    waited = f"a request has waited {oldest:.0f} s" if oldest else ""
    if said:
        return Health("waits", "; ".join(filter(None, [waited, f"clients: {', '.join(said)}"])), oldest)
    if cpu >= BUSY:
        return Health("busy", f"computes: {cpu:.0f} % CPU", oldest)
    return Health("quiet", waited or "nobody waits", oldest)


def asked(url: str, deadline: float = 1.0) -> Health:
    """Send one request by curl. Only for the demo, and where the user said so. Raises MissingTool, BadRequest."""
    if not curl.is_url(url):
        raise BadRequest(f"{url!r} is not an http or https URL.", next="such as http://127.0.0.1:8000/health")
    (answer,) = curl.probe([curl.probe_command(url, deadline)], deadline)
    if answer.status is None:
        return Health("waits", f"no answer within {deadline:g} s")
    return Health("answers", f"{answer.status} in {answer.seconds * 1000:.0f} ms")


def kept(name: str, content: bytes, folder: Path) -> Path:
    """An uploaded bundle or dump as a file in `folder`. Raises BadRequest."""
    if len(content) > MOST_UPLOAD:
        raise BadRequest(
            f"{name} has {len(content) >> 20} MB.",
            f"Up to {MOST_UPLOAD >> 20} MB can be uploaded.",
            "copy it to this machine and type its path instead",
        )
    file = folder / (Path(name.replace("\\", "/")).name or "upload")
    file.write_bytes(content)
    return file


def told(name: str, content: bytes, changed: Any) -> str:
    """An uploaded file in words: its name, size and age. `changed` is a datetime, or None where it is not known."""
    if changed is None:
        return f"{name}, {len(content) / 1024:.1f} KB"
    old = max(0.0, (datetime.now(timezone.utc) - changed.astimezone(timezone.utc)).total_seconds())
    sizes = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, seconds = next(((unit, size) for unit, size in sizes if old >= size), sizes[-1])
    count = int(old // seconds)
    return f"{name}, {len(content) / 1024:.1f} KB, last changed {count} {unit}{'s' * (count != 1)} ago"


def routes_of(base: str, deadline: float = 2.0) -> tuple[list[str], list[str]]:
    """The URLs that a FastAPI service says it has: those that GET answers by itself, and those that stream.

    Sends one request, for /openapi.json. Raises BadRequest, MissingTool, HangError where there is no answer.
    """
    place = f"{base}/openapi.json"
    (answer,) = curl.probe([curl.probe_command(place, deadline)], deadline)
    try:
        paths = json.loads(answer.body)["paths"]
        found = [(path, verbs["get"]) for path, verbs in paths.items() if "get" in verbs and "{" not in path]
        needs = [any(one.get("required") for one in get.get("parameters", [])) for _, get in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"status {answer.status}" if answer.status else f"no answer within {deadline:g} s"
        raise HangError(
            "Its routes are not known.", f"GET {place}: {said}.", "type the URL of a route that should answer at once"
        ) from error
    plain = [(path, get) for (path, get), needed in zip(found, needs) if not needed]
    streams = [path for path, get in plain if "event-stream" in json.dumps(get) or STREAM.search(path)]
    quick = sorted((path for path, _ in plain if path not in streams), key=lambda path: not HEALTH.search(path))
    return [f"{base}{path}" for path in quick], [f"{base}{path}" for path in streams]


def dot(health: Health) -> str:
    """A sign of its own shape, and the words, as HTML: never colour alone."""
    sign = f'<i class="hang-{health.sign}" aria-hidden="true">{SIGNS[health.sign]}</i>'
    return f'<span title="{inert(health.words)}">{sign} {inert(health.words)}</span>'


def row(one: Server) -> str:
    """A server as the cells of COLUMNS, as HTML."""
    counts = (
        (str(one.workers), ", ".join(map(str, one.ports)), f"{one.cpu:.0f} %", str(one.threads))
        if one.threads
        else [""] * 4
    )
    cells = (one.kind, one.app, *counts)
    return "".join(f'<span title="{inert(cell)}">{inert(cell)}</span>' for cell in cells) + dot(one.health)
