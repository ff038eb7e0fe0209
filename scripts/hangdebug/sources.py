"""Which process, dump or bundle the words of a command line mean, and the evidence that it holds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from hangdebug.cli_arguments import MOST_PORT
from hangdebug.errors import BadRequest, HangError, ours
from hangdebug.evidence import light as re

if TYPE_CHECKING:  # a live process needs more than the standard library
    from hangdebug.answer.model import Diagnosis
    from hangdebug.capture.processes import Target
    from hangdebug.evidence.model import Evidence

# As the command line takes it: ("--pid", "4284"), ("--port", "8000"), or a file's name alone.
Source = tuple[str, ...]
Say = Callable[[str], None]
Answers = tuple["list[tuple[str, Diagnosis]]", str]
# Sources that are worth a process for each CPU; that one gets at a time; between two words of progress.
MANY, PART, TOLD = 32, 8, 1000
URL = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9a-f:]+\]|[\w.-]*)(?::(?P<port>\d+))?(?:/.*)?", re.I)
HERE = re.compile(r"localhost|127(?:\.\d+){3}|0\.0\.0\.0|\[::1?\]|", re.I)  # a server that it prints, or that was asked


def sources_of(arguments: argparse.Namespace, say: Say) -> list[Source]:
    """What is to be looked at. Raises BadRequest for none, and for files and a process at once."""
    live: list[Source] = [("--pid", str(pid)) for pid in arguments.pid or ()]
    live += [("--port", str(arguments.port))] if arguments.port is not None else []
    if bool(live) == bool(arguments.sources):
        raise BadRequest(
            "Look at what?" if not live else "Look at which of them?",
            "Give a process (--pid, --port), a dump, a bundle, or - for standard input.",
            f"py-spy dump --pid PID | {ours('diagnose', '-')}",
        )
    return live or [source_of(word, say) for word in arguments.sources]


def source_of(word: str, say: Say) -> Source:
    """A file of that name if there is one; or else a pid, `:PORT`, or the URL of a server on this machine."""
    meant = process_in(word)
    if os.path.exists(word):
        if meant:
            say(f"{word}: the file of that name is read. For the process: {ours('diagnose', *meant)}")
        return (word,)
    return meant or (word,)


def process_in(word: str) -> Source | None:
    """The process that a word means, None where it can only be a file. Raises BadRequest for another machine."""
    if word.isdecimal():
        return ("--pid", word) if 0 < int(word) < 1 << 31 else None
    found = URL.fullmatch(word)
    if found is None or not (found["scheme"] or found["port"]):
        return None
    import platform  # for a URL alone: it takes its time

    here = bool(HERE.fullmatch(found["host"])) or found["host"].lower() == platform.node().lower()
    port = int(found["port"] or (443 if found["scheme"].lower() == "https" else 80))
    if not here and not found["scheme"]:
        return None  # such as app.py:14
    if not here:
        raise BadRequest(
            f"{found['host']} is not this machine.",
            "A process is looked at where it runs; a proxy may stand between that name and it.",
            f"{ours('diagnose', '--port', port)}   # there, with the port on which the server itself listens",
        )
    if not 0 < port <= MOST_PORT:
        raise BadRequest(f"{port} is no port.", f"Ports go from 1 to {MOST_PORT}.", ours("diagnose", "--port", "8000"))
    return ("--port", str(port))


def target_of(source: Source, arguments: argparse.Namespace) -> Target:
    """The processes that a live source means. Raises HangError."""
    from hangdebug.capture.interpreter.tasks import probe
    from hangdebug.capture.processes import on_port, resolve

    kind, number = source
    target = resolve(int(number)) if kind == "--pid" else on_port(int(number))
    if getattr(arguments, "probe_interpreter", False):
        for pid in target.workers:
            probe(pid)
    return target


def the_target(arguments: argparse.Namespace) -> Target:
    """The one process of a verb that takes one. Raises HangError."""
    pids = arguments.pid or ()
    if len(pids) > 1:
        raise BadRequest("Only diagnose takes several processes.", "", "name one --pid at a time")
    if not pids and arguments.port is None:
        raise BadRequest("Which process?", "Neither --pid nor --port was given.", ours("capture", "--port", 8000))
    return target_of(("--pid", str(pids[0])) if pids else ("--port", str(arguments.port)), arguments)


def evidence_from(source: Source, arguments: argparse.Namespace, say: Say) -> tuple[Evidence, ...]:
    """What is known of the source; of a process it is taken now, and kept where --save says. Raises HangError."""
    if len(source) == 2:
        from hangdebug.observe import observe, observe_briefly

        target = target_of(source, arguments)
        samples = getattr(arguments, "samples", None)
        if arguments.save:
            return observe(target, Path(arguments.save), say, samples=samples)
        return observe_briefly(target, say, samples)
    from hangdebug.answer.diagnose import evidence_of
    from hangdebug.evidence.bundle import is_bundle, read_bundle
    from hangdebug.evidence.paste import read, text_of

    name = source[0]
    bundled = name != "-" and is_bundle(Path(name))
    evidence = read_bundle(Path(name)) if bundled else evidence_of(read(text_of(name)))
    if arguments.code is None:
        return evidence
    from hangdebug.evidence.source import with_sources

    return tuple(with_sources(one, Path(arguments.code)) for one in evidence)


def named_answers(arguments: argparse.Namespace, sources: list[Source], say: Say) -> Iterator[tuple[str, Diagnosis]]:
    """The diagnosis of every process in every source, with a name. Many are read by all CPUs, a part at a time."""
    one = partial(answers_in, arguments)
    with ExitStack() as stack:
        answers: Iterable[Answers] = map(one, sources)
        if len(sources) >= MANY and all(len(source) == 1 and source != ("-",) for source in sources):
            from concurrent.futures import ProcessPoolExecutor

            answers = stack.enter_context(ProcessPoolExecutor()).map(one, sources, chunksize=PART)
        for count, (source, (found, error)) in enumerate(zip(sources, answers), 1):
            yield from found
            if error:
                say(f"{label(source)}: {error}")
            if count % TOLD == 0:
                say(f"{count} of {len(sources)} are read")


def answers_in(arguments: argparse.Namespace, source: Source) -> Answers:
    """What one source holds, and why it cannot be read ("" if it can)."""
    from hangdebug.answer.diagnose import diagnose

    try:
        evidence = evidence_from(source, arguments, in_stderr)
    except HangError as error:
        return [], str(error)
    several = len(evidence) > 1
    names = (f"{label(source)} (process {one.process.pid or one.snapshots[-1].pid})" for one in evidence)
    return [(name if several else label(source), diagnose(one)) for name, one in zip(names, evidence)], ""


def in_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def again(source: Source) -> Source:
    """The words that name the source from any folder."""
    return source if len(source) == 2 or source == ("-",) else (os.path.abspath(source[0]),)


def label(source: Source) -> str:
    """What the source is called in a list."""
    return {"--pid": f"process {source[-1]}", "--port": f"port {source[-1]}"}.get(source[0], source[0])
