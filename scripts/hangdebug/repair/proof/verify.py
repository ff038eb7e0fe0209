"""Prove with real curl that a backend answers before, while and after what hung it is done again.

    result = verify(["http://127.0.0.1:8000/health"], stream_url="http://127.0.0.1:8000/stream")
    print(table(result))
    result.passed

Give a trivial `async def` URL as a control, and the URL that hung. A hung server still accepts connections,
so only an answer counts: whole, within the deadline, of a status that was expected, and of the server itself.
What hung it is a stream whose reader leaves, or any requests. Whatever makes the probes prove nothing is a fault,
and each fault fails: a wrong URL, a login page, a cache, a worker that got no stream, a server that is another one
at the end.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from threading import Event
from typing import Callable
from urllib.parse import urljoin, urlsplit

from hangdebug.errors import BadRequest, NoProcess, ours
from hangdebug.evidence.light import dataclass
from hangdebug.files import thread_pool
from hangdebug.repair.model import Probe
from hangdebug.repair.proof import curl, server
from hangdebug.repair.proof.curl import Request

BASELINE, STREAMING, ABORTED = PHASES = ("baseline", "while streaming", "after aborts")
REPLAYING, REQUESTS, REPLAYED = "while replaying", "replayed", "after the replay"
ROUNDS = 3  # in the first two phases
LAST_ROUNDS = 5  # after the last abort: a hang may set in late
PAUSE = 0.2  # seconds between rounds
FIRST_BYTE = 5.0  # seconds that a stream gets for its first byte, or the deadline where that is longer
REPLAY_DEADLINE = 10  # times the deadline: what a replayed request may take, where its file does not say
SETTLE = 3.0  # seconds after the replay in which threads and tasks have to be back
USAGE = ours("verify", "--url", "http://127.0.0.1:8000/health")


@dataclass(frozen=True)
class Verification:
    """Every probe in the order sent, and what became of the streams and requests.

    `wanted` aborts were asked for. Of the streams `opened`, `streams` gave a first byte and `aborts` were cut
    off while they were open. Of `requests` to replay, `sent` were. `notes` say what went wrong, `faults` why probes
    that were all answered prove nothing, `measured` what else was seen: bodies, threads, the exit. `commands` are
    the curl lines to repeat by hand: one for each URL, then the stream's, then the requests.
    """

    probes: tuple[Probe, ...]
    deadline: float
    stream_url: str | None = None
    wanted: int = 0
    opened: int = 0
    streams: int = 0
    aborts: int = 0
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    requests: int = 0
    sent: int = 0
    faults: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Probe, ...]:
        return tuple(probe for probe in self.probes if not probe.ok)

    @property
    def complete(self) -> bool:
        """Whether every abort and every request took place. Where not, probes that all answer prove nothing."""
        return self.aborts >= self.wanted and self.sent >= self.requests

    @property
    def passed(self) -> bool:
        return bool(self.probes) and not self.failed and self.complete and not self.faults


@dataclass
class Run:
    """The tally of a verification under way. `notes` and `faults` are sets that keep their order."""

    urls: tuple[str, ...]
    deadline: float
    on_probe: Callable[[Probe], object] | None
    expect: tuple[int, ...] = ()
    pid: int | None = None
    began: float = field(default_factory=time.monotonic)
    probes: list[Probe] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)
    opened: int = 0
    streams: int = 0
    aborts: int = 0
    sent: int = 0
    answers: dict[str, list[tuple[float, curl.Answer]]] = field(default_factory=dict)  # the first and the last good one
    serving: server.Serving | None = None
    beyond: dict[str, int | None] = field(default_factory=dict)  # what redirects lead to, and the status of that
    held: dict[str, int] = field(default_factory=dict)  # connections of streams, and which worker had each

    @property
    def patience(self) -> float:
        return max(FIRST_BYTE, self.deadline)

    @property
    def lifetime(self) -> float:
        """Seconds that a stream may need to stay open: its first byte and every round, each missed once."""
        return self.patience + ROUNDS * (2 * self.deadline + PAUSE) + 10


def verify(
    urls: str | Iterable[str],
    *,
    stream_url: str | None = None,
    aborts: int = 5,
    concurrency: int = 5,
    deadline: float = 2.0,
    expect: Sequence[int] = (),
    clients: Sequence[Sequence[Request]] = (),
    together: bool = False,
    pid: int | None = None,
    allow_remote: bool = False,
    on_probe: Callable[[Probe], object] | None = None,
    on_phase: Callable[[str], object] | None = None,
) -> Verification:
    """Probe `urls` alone, while a stream is open, after `aborts` streams were cut off, and around the requests.

    At most `concurrency` streams are open at once. `clients` send their requests in their order, one client after
    the other, or all of them `together`. A phase ends early, with a note, when two rounds of probes in a row miss, so
    a dead server costs a few deadlines however much is asked for. `deadline` is in seconds. `expect` are statuses that
    are right beside 2xx and a redirect to the same place. `pid` is the process whose threads, tasks and open files
    are compared. `on_phase` gets the name of each phase as it begins, `on_probe` each Probe.
    Raises BadRequest, MissingTool (no curl), NoProcess (nothing listens at a URL).
    """
    urls = checked([urls] if isinstance(urls, str) else urls, stream_url, aborts, concurrency, deadline, allow_remote)
    run = Run(urls, deadline, on_probe, tuple(expect), pid)
    begin = on_phase or (lambda phase: None)
    begin(BASELINE)
    answers = rounds(run, BASELINE, ROUNDS)
    before = server.counted(pid) if pid and answers else None
    if not answers and (stream_url or clients):
        run.notes["Nothing was replayed: the server does not even answer without it."] = None
    elif stream_url:
        begin(STREAMING)
        if hold_stream(run, stream_url):
            begin(ABORTED)
            abort_streams(run, stream_url, aborts, concurrency)
    if answers and clients:
        begin(REPLAYING)
        replay(run, clients, together)
        begin(REPLAYED)
        rounds(run, REPLAYED, LAST_ROUNDS)
    measured = compare_counts(run, pid, before) if pid and before else []
    return finished(run, stream_url, aborts if stream_url else 0, clients, measured)


def finished(
    run: Run,
    stream_url: str | None,
    wanted: int,
    clients: Sequence[Sequence[Request]] = (),
    measured: Sequence[str] = (),
) -> Verification:
    """The tally as a result, with what makes it prove nothing."""
    if run.probes and all(probe.ok for probe in run.probes):
        run.faults.update(dict.fromkeys(look_behind(run, wanted)))
    for url, found in run.answers.items():
        run.faults.update(dict.fromkeys(server.from_a_cache(url, found[0], found[-1])))
    requests = [request for client in clients for request in client]
    lines = [curl.probe_command(url, run.deadline) for url in run.urls]
    lines += [curl.stream_command(stream_url, run.lifetime)] if stream_url else []
    lines += [request.command(REPLAY_DEADLINE * run.deadline) for request in requests]
    return Verification(
        tuple(run.probes),
        run.deadline,
        stream_url,
        wanted,
        run.opened,
        run.streams,
        run.aborts,
        tuple(run.notes),
        tuple(dict.fromkeys(map(shlex.join, lines))),
        len(requests),
        run.sent,
        tuple(run.faults),
        (*who_answers(run), *compare_bodies(run), *measured),
    )


def checked(
    urls: Iterable[str],
    stream_url: str | None,
    aborts: int,
    concurrency: int,
    deadline: float,
    allow_remote: bool = False,
) -> tuple[str, ...]:
    """The URLs, each once. Raises BadRequest where the arguments make no sense."""
    urls = tuple(dict.fromkeys(urls))
    if not urls:
        raise BadRequest("There is no URL to probe.", "A control URL shows whether the loop lives.", USAGE)
    for url in (*urls, *filter(None, [stream_url])):
        if not curl.is_url(url):
            raise BadRequest(f"{url!r} is not an http or https URL.", "Only HTTP can be probed.", USAGE)
        if not allow_remote and not curl.is_local(url):
            raise BadRequest(
                f"{url} is on another machine.",
                "A replay hangs what can be hung: it goes to this machine alone, unless you say otherwise.",
                ours("verify", "--allow-remote", "--url", url),
            )
    if aborts < 1 or concurrency < 1:
        raise BadRequest("Aborts and concurrency are counts, from 1 up.", "", f"{USAGE} --aborts 5")
    if not 0.01 <= deadline <= 300:
        raise BadRequest("The deadline is 0.01 to 300 seconds.", "", f"{USAGE} --deadline 2")
    return urls


def hold_stream(run: Run, url: str) -> bool:
    """Probe while one stream is open, then cut it off. False where there is no stream to cut."""
    with curl.streams(url, 1, run.patience, run.lifetime) as (stream,):
        run.opened += 1
        if not stream.flows:
            run.notes[curl.silence(stream, url, run.patience)] = None
            rounds(run, STREAMING, 1)
            return False
        run.streams += 1
        see_whose_they_are(run, url, (stream,))
        rounds(run, STREAMING, ROUNDS)
        if stream.ended:
            run.notes[f"{url} ended by itself before it could be cut off. Is it a stream?"] = None
            return False
        run.aborts += 1
    return True


def abort_streams(run: Run, url: str, aborts: int, concurrency: int) -> None:
    """Cut off streams until there were `aborts` in all, and probe after each batch."""
    lost = 0
    while (answers := rounds(run, ABORTED, 1)) and run.aborts < aborts:
        with curl.streams(url, min(concurrency, aborts - run.aborts), run.patience, run.lifetime) as batch:
            silent = [stream for stream in batch if not stream.flows]
            run.opened += len(batch)
            run.streams += len(batch) - len(silent)
            see_whose_they_are(run, url, batch)
            cut = sum(stream.flows and not stream.ended for stream in batch)
        run.aborts += cut
        lost += cut < len(batch)
        if silent:
            run.notes[curl.silence(silent[0], url, run.patience)] = None
        if lost == 2 or not cut:  # more streams would only cost more time
            break
    if run.aborts < aborts:
        run.notes[f"No further stream was opened after {run.aborts} of {aborts} aborts."] = None
    if answers:
        rounds(run, ABORTED, LAST_ROUNDS)


# -- requests that are replayed --------------------------------------------------------------------------


def replay(run: Run, clients: Sequence[Sequence[Request]], together: bool) -> None:
    """Send the requests of every client, and probe meanwhile. Two rounds that miss in a row end it."""
    missed, over = 0, Event()
    if not together:
        clients = [[request for client in clients for request in client]]
    with thread_pool(len(clients)) as aside:
        sending = [aside.submit(send, run, client, over) for client in clients]
        try:
            while not all(one.done() for one in sending):
                missed = 0 if one_round(run, REPLAYING) else missed + 1
                if missed == 2:
                    over.set()
                over.wait(PAUSE)
        finally:
            over.set()
        for one in sending:
            run.sent += len(one.result())
            run.probes += one.result()
    if missed == 2:
        run.notes["No further request was sent: two rounds of probes in a row missed."] = None


def send(run: Run, requests: Sequence[Request], over: Event) -> list[Probe]:
    """What one client asks, one request after the other. Two in a row without an answer end it: each costs its time."""
    probes: list[Probe] = []
    missed = 0
    for request in requests:
        if over.is_set():
            break
        if missed == 2:
            run.notes["No further request was sent by this client: two in a row had no answer."] = None
            break
        command, at = request.command(REPLAY_DEADLINE * run.deadline), time.monotonic() - run.began
        limit = float(command[command.index("--max-time") + 1])
        answer = curl.probe([command], limit)[0]
        why = replayed_wrongly(request, answer, run.expect, limit)
        missed = missed + 1 if why and answer.status is None else 0
        if why:
            run.notes[f"{request.name}: {why}"] = None
        probes.append(Probe(request.name, REQUESTS, answer.status, answer.seconds, at, not why, shlex.join(command)))
    return probes


def replayed_wrongly(request: Request, answer: curl.Answer, expect: Sequence[int], limit: float) -> str:
    """Why a request was not replayed as its file says, or got no answer; "" where all is well."""
    if request.leave_after is not None:
        gone = answer.code == curl.TIMED_OUT
        return "" if gone else f"the answer ended within {limit:g} s, before the client could leave."
    if answer.status is None:
        return answer.message or f"no answer within {limit:g} s."
    return server.bad_status(
        request.url, answer, (*expect, *request.expect), f"write `# expect: {answer.status}` above it"
    )


# -- probes ----------------------------------------------------------------------------------------------


def rounds(run: Run, phase: str, count: int) -> bool:
    """Send `count` rounds. One that misses is repeated once; a second miss ends the phase: False."""
    for number in range(count):
        if number:
            time.sleep(PAUSE)
        if not one_round(run, phase) and not one_round(run, phase):
            run.notes[f"The phase {phase!r} ended early: two rounds of probes in a row missed."] = None
            return False
    return True


def one_round(run: Run, phase: str) -> bool:
    """Probe every URL at once. Whether all answered in time, and as expected."""
    commands = [curl.probe_command(url, run.deadline) for url in run.urls]
    at = time.monotonic() - run.began if run.probes else 0.0
    first, ok = not run.probes, True
    for url, command, answer in zip(run.urls, commands, curl.probe(commands, run.deadline)):
        if first:
            refuse(url, answer)
        why = answer.message
        if answer.status is not None:
            why = server.bad_status(url, answer, run.expect, f"--expect {answer.status}")
            why = why or changed_status(run, url, answer)
            why = why or leads_nowhere(run, url, answer)
        good = answer.status is not None and not why and answer.seconds <= run.deadline
        probe = Probe(url, phase, answer.status, answer.seconds, at, good, shlex.join(command))
        run.probes.append(probe)
        if why:
            run.notes[f"{url}: {why}"] = None
        if good:
            run.answers[url] = [*run.answers.get(url, [])[:1], (time.monotonic(), answer)]
        if run.on_probe:
            run.on_probe(probe)
        ok = ok and good
    if first:
        run.serving = serving_at(run.urls[0])
    return ok


def refuse(url: str, answer: curl.Answer) -> None:
    """Raises what the very first answer shows to be a wrong URL instead of a hung server."""
    if answer.code == curl.REFUSED:
        raise NoProcess(f"Nothing listens at {url}.", answer.message, "ss -ltnp")
    if answer.code == curl.COULD_NOT_RESOLVE:
        raise BadRequest(f"The host of {url} is not known.", answer.message, USAGE)


def leads_nowhere(run: Run, url: str, answer: curl.Answer) -> str:
    """Why a redirect that stays at the same place (`/health` to `/health/`) is no answer: what it leads to is none."""
    if answer.status in run.expect or not 300 <= (answer.status or 0) < 400:
        return ""
    there = urljoin(url, answer.head["location"])
    if there not in run.beyond:
        run.beyond[there] = curl.probe([curl.probe_command(there, run.deadline)], run.deadline)[0].status
    then = run.beyond[there]
    if then is not None and not 300 <= then < 400:
        return ""
    said = f"answers {then} too" if then else "does not answer"
    return f"answers {answer.status} and sends its client to {there}, which {said}."


def changed_status(run: Run, url: str, answer: curl.Answer) -> str:
    """Why a good status is none after all: the URL answered with another one before."""
    known = run.answers.get(url)
    before = known[0][1].status if known else answer.status
    return "" if answer.status == before else f"answers {answer.status} now, and {before} before."


# -- what makes a proof none -----------------------------------------------------------------------------


def serving_at(url: str) -> server.Serving | None:
    """Who serves a URL, None on another machine or where it is not known."""
    found = server.serving(port_of(url)) if curl.is_local(url) else None
    return found if found and found.sockets else None


def port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def see_whose_they_are(run: Run, url: str, streams: Sequence[curl.Stream]) -> None:
    """Note which worker has which stream, while they are open."""
    if run.serving and port_of(url) == port_of(run.urls[0]):
        pids = [stream.curl.pid for stream in streams]
        run.held.update(server.connections_of(port_of(url), run.serving.workers, pids))


def look_behind(run: Run, wanted: int) -> Iterator[str]:
    """Why answers that are all good prove nothing: who gave them, and who was not asked."""
    if run.serving is None:
        return
    now = serving_at(run.urls[0]) or server.Serving(frozenset(), frozenset())
    changed = server.another_server(run.serving, now)
    if changed:
        yield changed
        return
    workers = run.serving.workers
    if run.pid:
        yield from server.not_the_process(run.pid, workers, run.urls[0])
    if run.aborts:
        yield from server.readers_left(server.never_closed(run.held, run.deadline), len(workers), run.deadline)
    if wanted and run.held:
        yield from server.workers_not_asked(workers, set(run.held.values()), run.aborts)


# -- what else is measured -------------------------------------------------------------------------------


def who_answers(run: Run) -> list[str]:
    """The processes by name: a person sees that one is a proxy, which may answer where the server does not."""
    workers = sorted(run.serving.workers) if run.serving else []
    return [f"Process {pid} ({server.name_of(pid)}) listens at {run.urls[0]}." for pid in workers]


def compare_bodies(run: Run) -> list[str]:
    """For each URL, whether its body changed from the first good answer to the last."""
    lines = []
    for url, found in run.answers.items():
        first, last = found[0][1], found[-1][1]
        if len(found) == 1:
            continue
        if (first.body, first.size) == (last.body, last.size):
            lines.append(f"{url}: the same {counted(last.size, 'byte')} at first and at last (sha256 {last.digest}).")
            continue
        pairs = zip(first.body, last.body)
        at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first.body), len(last.body)))
        old, new = (answer.body[max(0, at - 8) : at + 16].decode(errors="replace") for answer in (first, last))
        lines.append(
            f"{url}: {counted(first.size, 'byte')} at first (sha256 {first.digest}), {counted(last.size, 'byte')} at "
            f"last (sha256 {last.digest}); they differ from byte {at} on: {old!r}, then {new!r}."
        )
    return lines


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def compare_counts(run: Run, pid: int, before: server.Counts) -> list[str]:
    """Threads, tasks and open files now and before. What is left behind for clients who left is a fault."""
    began = time.monotonic()
    try:
        after = server.counted(pid)
        while server.left_behind(before, after, SETTLE) and time.monotonic() - began < SETTLE:
            time.sleep(PAUSE)
            after = server.counted(pid)
    except NoProcess:
        run.faults[f"Process {pid} has ended."] = None
        return []
    run.faults.update(dict.fromkeys(server.left_behind(before, after, SETTLE)))
    rows = [
        ("threads", before.threads, after.threads),
        ("pool threads at work", before.at_work, after.at_work),
        ("tasks", before.tasks, after.tasks),
        ("open files", before.files, after.files),
    ]
    said = "; ".join(f"{name} {old} before, {new} after" for name, old, new in rows if None not in (old, new))
    return [f"Process {pid}: {said}."]


def table(verification: Verification) -> str:
    """The result for people: a row for each phase and URL, the verdict, what went wrong, the curl lines."""
    rows: list[tuple[str, ...]] = [("phase", "probes", "failed", "status", "p50", "p99", "url")]
    for phase in dict.fromkeys(probe.phase for probe in verification.probes):
        for url in dict.fromkeys(probe.url for probe in verification.probes):
            probes = [probe for probe in verification.probes if (probe.phase, probe.url) == (phase, url)]
            if probes:
                rows.append(row(phase, url, probes))
    widths = [max(map(len, column)) for column in list(zip(*rows))[:-1]]
    lines = ["  ".join([*map(str.ljust, cells, widths), cells[-1]]) for cells in rows]
    lines += ["", verdict(verification)]
    lines += [f"- {line}" for line in (*verification.faults, *verification.notes)]
    if verification.measured:
        lines += ["", "Measured:", *(f"  {line}" for line in verification.measured)]
    lines += ["", "Repeat by hand:"]
    if verification.stream_url:
        lines[-1] = "Repeat by hand (end the last one with Ctrl-C after its first bytes, then probe again):"
    return "\n".join(lines + [f"  {command}" for command in verification.commands])


def row(phase: str, url: str, probes: list[Probe]) -> tuple[str, ...]:
    statuses = dict.fromkeys(
        ("left" if probe.ok else "none") if probe.status is None else str(probe.status) for probe in probes
    )
    failed = sum(not probe.ok for probe in probes)
    return (
        phase,
        str(len(probes)),
        str(failed),
        ",".join(statuses),
        percentile(probes, 50),
        percentile(probes, 99),
        url,
    )


def percentile(probes: list[Probe], percent: int) -> str:
    """Nearest rank, in seconds: of few probes, the 99th is the worst. Lost ones count as longest."""
    ranked = sorted(probes, key=lambda probe: (probe.status is None, probe.seconds))
    probe = ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
    return "no answer" if probe.status is None else f"{probe.seconds:.3f} s"


def verdict(verification: Verification) -> str:
    count, failed, limit = len(verification.probes), len(verification.failed), f"{verification.deadline:g} s"
    done = what_was_done(verification)
    if failed:
        return f"FAILED: {failed} of {count} probes had no good answer within {limit}; {done}."
    if verification.faults:
        return f"FAILED: all {count} probes were answered within {limit}, and still nothing is proved; {done}."
    if not verification.complete:
        return f"NOT PROVED: all {count} probes were answered within {limit}, but only {done}."
    return f"PASSED: all {count} probes were answered within {limit}; {done}."


def what_was_done(verification: Verification) -> str:
    parts = []
    if verification.wanted or not verification.requests:
        parts.append(f"{verification.aborts} of {verification.wanted} streams were cut off")
    if verification.requests:
        parts.append(f"{verification.sent} of {verification.requests} requests were sent")
    return " and ".join(parts) if verification.wanted or verification.requests else "nothing was replayed"
