"""What an incident report holds, gathered from a bundle or a dump.

    incident = gather(Path("evidence-4284.zip"))

All text in it comes from a dump that anybody may have written: secrets are struck out here, and whoever writes
it down escapes it. No file is opened on the word of a dump but the one that holds the very lines the bundle has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable

from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import redact
from hangdebug.errors import HangError, MissingTool, ours
from hangdebug.evidence import light as re
from hangdebug.evidence.bundle import is_bundle, json_object, read_archive, read_bundle
from hangdebug.evidence.dumps.collapsed import profile
from hangdebug.evidence.frames import is_application
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Evidence, Frame, Process
from hangdebug.evidence.paste import read, text_of
from hangdebug.evidence.source import python_files, with_sources
from hangdebug.evidence.vocabulary import State
from hangdebug.repair import fix
from hangdebug.repair.model import Patch
from hangdebug.repair.proof.pressure import Check, Pressure, read_check
from hangdebug.repair.proof.pressure import report as pressure_table
from hangdebug.repair.proof.verify import table
from hangdebug.report.flame import Stacks, flame
from hangdebug.report.recording import STACKS
from hangdebug.report.svg import Picture, latency, threads_over_aborts
from hangdebug.report.text import said_and_next
from hangdebug.report.thread_rows import beginning, kernel_rows, printed
from hangdebug.report.wait_graph import timeline, wait_graph
from hangdebug.scene.open_requests import open_requests
from hangdebug.scene.scene import scene as scene_of

LONG_TITLE = 110  # characters
AROUND = 10  # lines of source before and after the marked one
MOST_BYTES = 8 << 20
KNOWN_LINES = 3  # of a file, all of which have to agree before it is opened for a rewrite
CHECKS = re.compile(r"^(?:verification-?)?([\w.-]*)\.json$")


@dataclass(frozen=True)
class Incident:
    """`pictures` by the name of their file, `absent` says which are not there; `code` are numbered lines of source.

    `first` is what a ticket asks first, as (what, words), `prevention` what keeps it from coming back.

    `checks` are verifications as tables by name, `kernel` rows of words, `raw` the dump itself, `then` commands and
    what they are for, `struck` what was struck out and how often, `kept` where the evidence lies, None for pasted
    text, `stacks` what was sampled of a busy process.
    """

    answer: Diagnosis
    name: str
    taken: str = ""
    host: str = ""
    first: tuple[tuple[str, str], ...] = ()
    prevention: tuple[str, ...] = ()
    kept: Path | None = None
    pictures: tuple[tuple[str, Picture], ...] = ()
    absent: tuple[str, ...] = ()
    code: tuple[tuple[int, str], ...] = ()
    diff: str = ""
    checks: tuple[tuple[str, str], ...] = ()
    kernel: tuple[tuple[str, ...], ...] = ()
    raw: str = ""
    then: tuple[tuple[str, str], ...] = ()
    struck: tuple[str, ...] = ()
    stacks: Stacks = ()

    @property
    def title(self) -> str:
        """In plain words: what hangs, and in what."""
        service, said = service_of(self.answer.process), re.split(r": `|; |\.(?: |$)", self.answer.summary)[0]
        said = said if len(said) <= LONG_TITLE else said.partition(", ")[0]
        return f"{service}: {said[:1].lower() + said[1:]}" if service else said

    @property
    def verdict(self) -> str:
        return f"{self.answer.state} / {self.answer.cause}"


def gather(
    source: Path | str,
    *,
    code: Path | None = None,
    checks: Mapping[str, Check] | None = None,
    patch: Patch | None = None,
    host: str = "",
) -> Incident:
    """Everything about a bundle or a dump (a Path), or about pasted text (a str).

    Raises HangError where there is no stack. `checks` are verifications that are not in the bundle, `patch` a rewrite
    that is not to be looked for. `code` is a source tree for a dump without source lines. `host` is where the service
    runs: no evidence names it.
    """
    struck: Counter[str] = Counter()

    def clean(text: str, by: Callable[[str], tuple[str, dict[str, int]]] = redact.clean_text) -> str:
        without, removed = by(text)
        struck.update(removed)
        return without

    name, parts, raw, found = opened(source)
    if code is not None:
        found = tuple(with_sources(one, code) for one in found)
    evidence, answer = worst_of(found)
    manifest = json_object(parts.get("manifest.json", "{}"))
    done = {**kept_checks(parts), **(checks or {})}
    stacks = profile(parts[STACKS]) if STACKS in parts else evidence.profile if answer.state == "loop-busy" else ()
    drawn, absent = all_pictures(evidence, answer, done, stacks)
    lines = tuple((number, clean(text, redact.clean_code)) for number, text in around(evidence, answer))
    patch = patch or proposal(evidence, answer, code)
    changes = fix.diff(patch).splitlines(True) if patch is not None and patch.changed else []
    diff = "".join(clean(line, redact.clean_code) for line in changes)
    shown = clean(beginning(raw or printed(evidence)))
    rows = tuple(tuple(map(clean, row)) for row in kernel_rows(evidence))
    answer = cleaned(answer, clean)
    tables = tuple((title, clean(words_of(one))) for title, one in done.items())
    taken = str(manifest.get("taken", ""))
    first = tuple((what, clean(words)) for what, words in first_asked(evidence, answer, taken, host))
    then = tuple(next_commands(answer, evidence, bool(done), "flame.svg" in dict(drawn), bool(diff)))
    return Incident(
        answer,
        name,
        taken=taken,
        host=host,
        first=first,
        prevention=tuple(map(clean, prevention(answer))),
        kept=source if isinstance(source, Path) else None,
        pictures=drawn,
        absent=absent,
        code=lines,
        diff=diff,
        checks=tables,
        kernel=rows,
        raw=shown,
        then=then,
        struck=struck_out(manifest.get("removed"), struck),
        stacks=stacks,
    )


def worst_of(found: tuple[Evidence, ...]) -> tuple[Evidence, Diagnosis]:
    """Of several processes the one that the answer is about."""
    answers = [diagnose(one) for one in found]
    answer = worst(answers)
    return next((one for one, each in zip(found, answers) if each.process == answer.process), found[0]), answer


def opened(source: Path | str) -> tuple[str, Mapping[str, str], str, tuple[Evidence, ...]]:
    """Its name, the bundle's own files by name, the text of a dump, and the evidence."""
    if isinstance(source, Path) and is_bundle(source):
        found = read_bundle(source)  # first: it says what is wrong with an archive that is broken
        return source.name, dict(top_files(source)), "", found
    if isinstance(source, Path):
        text = text_of(str(source))
        return source.name, {}, text, evidence_of(read(text))
    return "a pasted dump", {}, source, evidence_of(read(source))


def top_files(bundle: Path) -> Iterator[tuple[str, str]]:
    """The manifest, verifications and recorded stacks at the top of a bundle; nothing else of a folder is looked at."""
    if bundle.is_dir():
        for file in sorted([*bundle.glob("*.json"), *bundle.glob(STACKS)]):
            if file.is_file() and not file.is_symlink() and file.stat().st_size <= MOST_BYTES:
                yield file.name, file.read_text(encoding="utf-8", errors="replace")
        return
    for path, text in read_archive(bundle).items():
        *folders, name = path.split("/")
        if (
            len(folders) < 2
            and name.endswith((".json", STACKS))
            and len(text) <= MOST_BYTES
            and not re.match(r"\d+$", folders[-1] if folders else "")
        ):
            yield name, text


def kept_checks(parts: Mapping[str, str]) -> dict[str, Check]:
    """The verifications of a bundle by name, the one that was taken first as the first."""
    texts = {
        (CHECKS.match(name) or ["", ""])[1] or "verification": text
        for name, text in parts.items()
        if name.endswith(".json") and name != "manifest.json"
    }
    order = sorted(texts, key=lambda name: (str(json_object(texts[name]).get("taken")), name))
    found = {name: read_check(texts[name]) for name in order}
    return {name: check for name, check in found.items() if check is not None}


def words_of(check: Check) -> str:
    return pressure_table(check) if isinstance(check, Pressure) else table(check)


# -- what a ticket asks first --------------------------------------------------------------------------

# Of each state: whom it harms, and what helps now. A person decides it: nothing is done from here.
HARM: dict[State, tuple[str, str]] = {
    "deadlock": (
        "What needs these threads never goes on: no time-out opens a ring.",
        "Take the process out of the load balancer and restart it.",
    ),
    "loop-blocked": (
        "No request to this process is served as long as its event loop waits.",
        "Take the process out of the load balancer; restart it if what it waits for does not come.",
    ),
    "loop-busy": (
        "Every request to this process waits until the computation lets the event loop go on.",
        "Let other workers take the requests. It comes back when the computation ends; a restart loses what it has.",
    ),
    "exit-hang": (
        "The process does not end: a deployment, or a restart, waits for it.",
        "End it with SIGKILL once the work that it still does may be lost.",
    ),
    "startup-hang": (
        "The process does not begin to serve.",
        "Go back to the version that started, or bring up what it waits for.",
    ),
    "threadpool-exhausted": (
        "Requests that need a thread, or a connection, of this pool wait; those that need none are served.",
        "Restart the process to free the pool. A larger pool gives time, and repairs nothing.",
    ),
    "stopped": ("Nothing of this process runs.", "Whoever stopped it decides: kill -CONT lets it go on."),
    "sync-worker-blocked": (
        "This worker serves no other request meanwhile; other workers do.",
        "Restart this worker alone, if its server has others.",
    ),
    "tasks-waiting": (
        "The requests that wait here get no answer; others are served.",
        "Restart the process to free them, or let clients give up: their requests do not end by themselves.",
    ),
    "inconclusive": ("Not known from this evidence.", "Keep this evidence, and look again while it hangs."),
    "healthy": ("None is seen in this process.", "Nothing to do here: look in front of it, and at what it calls."),
}
APPLICATION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(?:\(\))?$")
ROUTE = re.compile(r"""\s*@[\w.]+\.(get|post|put|delete|patch|head|options|websocket|route)\(\s*[rf]?["']([^"']+)""")


def first_asked(evidence: Evidence, answer: Diagnosis, taken: str, host: str) -> Iterator[tuple[str, str]]:
    """Service, host, when, since when, who waits, which routes, whom it harms, what helps now."""
    process, clients = answer.process, evidence.clients
    port = f", port {', '.join(map(str, process.listening))}" if process.listening else ""
    pid = f", pid {process.pid}" if process.pid else ""
    yield "Service", f"{service_of(process) or 'not named in the evidence'}{port}{pid}"
    yield "Host", host or "not in the evidence"
    yield "Seen", taken or "the evidence does not say when"
    oldest = max((clients and clients.waits) or (0.0,))
    if oldest:
        begun = before(taken, oldest)
        yield "Since", f"{oldest:.0f} s earlier at least{begun and f', {begun}'}: the oldest request without an answer"
    else:
        yield "Since", "not known: no request is seen whose age the kernel tells"
    yield "Waiting", "; ".join(who_waits(evidence)) or "no client is seen that waits"
    routes = routes_of(evidence, answer)
    yield "Routes", ", ".join(routes) if routes else "not seen in the evidence"
    harm, helps = HARM[answer.state]
    yield "Impact", harm
    yield "Now", helps


def service_of(process: Process) -> str:
    """What it serves, by its command line, and by what: "app.main:app (uvicorn)"; "" where that is not known."""
    words = process.command.split()
    named = [word for word in words if APPLICATION.match(word)]
    named += [after for word, after in zip(words, words[1:]) if word == "-m" and after != process.server]
    named += [re.split(r"[/\\]", word)[-1] for word in words if word.endswith(".py")]
    server = process.server or ""
    return f"{named[0]} ({server})" if named and server else named[0] if named else server


def before(taken: str, seconds: float) -> str:
    """The moment so long before, "" where `taken` is none."""
    try:
        return (datetime.fromisoformat(taken) - timedelta(seconds=seconds)).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""


def who_waits(evidence: Evidence) -> Iterator[str]:
    """How many requests have no answer, by the tasks; and how many clients wait, by the kernel."""
    asked = [one for one in open_requests(scene_of(evidence)) if not one.job and one.outlook != "moved"]
    if asked:
        yield f"{len(asked)} open request{'s' * (len(asked) != 1)}, as its tasks show"
    clients = evidence.clients
    if clients is None:
        return
    for count, words in (
        (len(clients.waits or ()), "without an answer for a second or longer"),
        (clients.backlog, "not accepted"),
        (clients.unread, "with bytes that nobody reads"),
        (clients.abandoned, "gave up"),
    ):
        if count:
            yield f"{count} client{'s' * (count != 1)} {words}"


def routes_of(evidence: Evidence, answer: Diagnosis) -> list[str]:
    """The routes that stand in the way, by the decorators above the functions in which threads and tasks wait."""
    stacks = [answer.thread.frames] if answer.thread else []
    stacks += [one.task.frames for one in open_requests(scene_of(evidence)) if not one.job]
    frames = [frame for stack in stacks for frame in stack if is_application(frame)]
    return list(dict.fromkeys(filter(None, (route_above(evidence, frame) for frame in frames))))


def route_above(evidence: Evidence, frame: Frame) -> str:
    """ "GET /stream" of the function that a frame stands in, if its decorator is among the lines that were kept."""
    lines, number, below = evidence.sources.get(frame.file, {}), frame.line or 0, False
    name = frame.function.rpartition(".")[2]
    while number in lines:
        found = ROUTE.match(lines[number])
        if below and found:
            return f"{found[1].upper()} {found[2]}"
        if below and lines[number].strip()[:1] not in ("@", ")", "#") and not lines[number].startswith((" ", "\t")):
            return ""
        below = below or bool(re.match(rf"\s*(?:async )?def {re.escape(name)}\(", lines[number]))
        number -= 1
    return ""


def prevention(answer: Diagnosis) -> Iterator[str]:
    """What keeps it from coming back, once it is repaired."""
    if answer.state in ("healthy", "inconclusive"):
        return
    if answer.remedy is not None and answer.remedy.by_hand:
        yield answer.remedy.by_hand
    if answer.remedy is not None and answer.remedy.snippet:
        yield f"Copy the pattern snippets/{answer.remedy.snippet}: it does not wait in this way."
    yield f"Let a test replay what hung: {ours('verify', '--url', 'HEALTH_URL')} fails where it hangs again."
    if answer.role == "event-loop":
        yield "Let snippets/loop_watchdog.py tell in production when the event loop is held."


# -- the parts -----------------------------------------------------------------------------------------


def all_pictures(
    evidence: Evidence, answer: Diagnosis, checks: Mapping[str, Check], stacks: Stacks
) -> tuple[tuple[tuple[str, Picture], ...], tuple[str, ...]]:
    """Those that there is something to draw for, and why others are not there."""
    runs = {name: one for name, one in checks.items() if isinstance(one, Pressure)}
    wanted: dict[str, Callable[[], Picture]] = {"timeline.svg": lambda: timeline(evidence, answer)}
    if answer.waits_for or (answer.thread is not None and answer.state not in ("healthy", "inconclusive")):
        wanted["waits.svg"] = lambda: wait_graph(answer)
    if stacks:
        wanted["flame.svg"] = lambda: flame(stacks)
    if checks:
        wanted["latency.png"] = lambda: latency(checks)
    if runs:
        wanted["threads.png"] = lambda: threads_over_aborts(runs)
    drawn, absent = [], []
    for name, draw in wanted.items():
        try:
            drawn.append((name, draw()))
        except MissingTool:
            absent.append(
                f"The picture {name.partition('.')[0]} needs matplotlib, which is not installed here; "
                "the numbers are in the tables."
            )
        except HangError:  # nothing to draw
            continue
    return tuple(drawn), tuple(absent)


def around(evidence: Evidence, answer: Diagnosis) -> list[tuple[int, str]]:
    frame = answer.blocking_frame
    if frame is None or frame.line is None:
        return []
    lines = evidence.sources.get(frame.file, {})
    return [(number, lines[number]) for number in sorted(lines) if abs(number - frame.line) <= AROUND]


def proposal(evidence: Evidence, answer: Diagnosis, code: Path | None) -> Patch | None:
    """The rewrite, or None. The file has to be on this machine, and to be the one of which the evidence has lines."""
    frame = answer.blocking_frame
    if frame is None or frame.line is None or answer.remedy is None or answer.remedy.fix is None:
        return None
    known = evidence.sources.get(frame.file, {})
    name = re.split(r"[/\\]", frame.file)[-1]
    files = [Path(frame.file)] if code is None else [file for file in python_files(code) if file.name == name]
    file = next((file for file in files if agrees(file, known)), None)
    if file is None or len(known) < KNOWN_LINES:
        return None
    try:
        return fix.propose(str(file), frame.line)
    except HangError:
        return None


def agrees(file: Path, known: Mapping[int, str]) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return False
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):  # such as a name with a null byte in it
        return False
    return all(
        0 < number <= len(lines) and redact.clean_code(lines[number - 1])[0] == redact.clean_code(text)[0]
        for number, text in known.items()
    )


def cleaned(answer: Diagnosis, clean: Callable[..., str]) -> Diagnosis:
    frame, process = answer.blocking_frame, answer.process
    return replace(
        answer,
        summary=clean(answer.summary),
        process=replace(process, command=clean(process.command)),
        blocking_frame=frame and replace(frame, source=frame.source and clean(frame.source, redact.clean_code)),
        evidence=tuple(map(clean, answer.evidence)),
        doubts=tuple(map(clean, answer.doubts)),
        exonerated=tuple(map(clean, answer.exonerated)),
        others=tuple(map(clean, answer.others)),
    )


def next_commands(
    answer: Diagnosis, evidence: Evidence, checked: bool, flame: bool, diff: bool
) -> Iterator[tuple[str, str]]:
    pid = answer.process.pid or "PID"
    for step in said_and_next(answer)[1]:
        command, _, why = step.partition(" # ")
        yield command.strip(), why.strip() or "to be more certain of the answer"
    if answer.remedy is not None and answer.remedy.command:
        shows = "the diff above again" if diff else "the repair as a diff"
        yield answer.remedy.command, f"shows {shows}; --write applies it, if you decide so"
    if answer.state == "loop-busy" and not flame:
        yield ours("record", "--pid", pid), "shows where the time goes, as a flame graph"
    if not evidence.readings:
        yield (
            ours("capture", "--pid", pid, "--zip"),
            "on the host: several samples, and what the kernel says",
        )
    if not checked and answer.state not in ("healthy", "inconclusive"):
        yield (
            ours("verify", "--url", "HEALTH_URL", "--stream-url", "STREAM_URL"),
            "on the repaired code: replays the disconnects, and probes",
        )


def struck_out(removed: Any, struck: Mapping[str, int]) -> tuple[str, ...]:
    """What was struck out, when the evidence was taken and now."""
    before: Counter[str] = Counter()
    for kinds in removed.values() if isinstance(removed, dict) else ():
        if isinstance(kinds, dict):
            before.update({str(kind): count for kind, count in kinds.items() if type(count) is int})
    return tuple(
        [f"when the evidence was taken: {kind}, {count} x" for kind, count in sorted(before.items())]
        + [f"for this report: {kind}, {count} x" for kind, count in sorted(struck.items())]
    )
