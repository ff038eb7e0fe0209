"""The command line: its verbs, one `except`. Exit status 0 answered, 1 checked and bad, 2 could not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from hangdebug.cli_arguments import parser
from hangdebug.errors import BadRequest, BadSource, HangError, ours

if TYPE_CHECKING:  # each verb imports what it needs, and a few need more than the standard library
    from hangdebug.answer.model import Diagnosis
    from hangdebug.capture.processes import Target
    from hangdebug.evidence.model import Evidence
    from hangdebug.repair.model import Finding, Patch
    from hangdebug.repair.proof.pressure import Check
    from hangdebug.repair.proof.prove import Plan

INTERRUPTED = 130
MANY, PART, TOLD = (
    32,
    8,
    1000,
)  # sources that are worth a process for each CPU, that one gets at a time, between two words

Answers = tuple["list[tuple[str, Diagnosis]]", str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; print errors as what, why and the next command. Returns the exit status."""
    arguments = command_line().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except HangError as error:
        print(f"hang.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nhang.py: interrupted; what is already written stays", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- verbs ---------------------------------------------------------------------------------------------


def run_capture(arguments: argparse.Namespace) -> int:
    from hangdebug.capture.bundle import pack
    from hangdebug.observe import new_folder, observe

    target = target_of(arguments)
    folder = Path(arguments.out) if arguments.out else new_folder(target)
    observe(target, folder, say)
    print(pack(folder) if arguments.zip else folder)
    return 0


def run_record(arguments: argparse.Namespace) -> int:
    from hangdebug.observe import new_folder
    from hangdebug.report import recording

    target = target_of(arguments)
    pid = recording.busiest(target.workers)
    folder = Path(arguments.out) if arguments.out else new_folder(target, name="recording")
    say(f"process {pid}: sampling for {arguments.seconds:g} s; Ctrl-C ends it early, and keeps what there is")
    recording.record(pid, arguments.seconds, folder, say)
    print(folder)
    return 0


def run_diagnose(arguments: argparse.Namespace) -> int:
    sources = [*arguments.sources, *(arguments.pid or ())]
    if len(sources) > 1 and arguments.port is None:
        if arguments.explain:
            raise BadRequest(
                "--explain is for one source.",
                "Of several sources, the same answers are shown as one line.",
                ours("diagnose", *named(sources[0]), "--explain"),
            )
        return run_many(arguments, sources)
    from hangdebug.answer.diagnose import diagnose, worst

    answer = worst(map(diagnose, evidence_from(arguments)))
    print(rendered(answer, arguments), end="")
    return 0


def run_many(arguments: argparse.Namespace, sources: list[str | int]) -> int:
    """Every process in every source, like ones together. What cannot be read is said, and left out."""
    from hangdebug.report.text import as_groups, as_json_groups, groups

    found = groups(named_answers(arguments, sources))
    if not found:
        raise BadRequest("None of them could be diagnosed.", "", ours("diagnose", *named(sources[0])))
    print(as_json_groups(found) if arguments.json else as_groups(found), end="")
    return 0


def named_answers(arguments: argparse.Namespace, sources: list[str | int]) -> Iterator[tuple[str, Diagnosis]]:
    """The diagnosis of every process in every source, with a name. Many are read by all CPUs, a part at a time."""
    one = partial(answers_in, argparse.Namespace(**{**vars(arguments), "sources": [], "pid": None}))
    with ExitStack() as stack:
        answers: Iterable[Answers] = map(one, sources)
        if len(sources) >= MANY and all(isinstance(source, str) and source != "-" for source in sources):
            from concurrent.futures import ProcessPoolExecutor

            answers = stack.enter_context(ProcessPoolExecutor()).map(one, sources, chunksize=PART)
        for count, (source, (found, error)) in enumerate(zip(sources, answers), 1):
            yield from found
            if error:
                say(f"{source}: {error}")
            if count % TOLD == 0:
                say(f"{count} of {len(sources)} are read")


def answers_in(arguments: argparse.Namespace, source: str | int) -> Answers:
    """What one source holds, and why it cannot be read ("" if it can)."""
    from hangdebug.answer.diagnose import diagnose

    live = isinstance(source, int)
    own = {"sources": [] if live else [source], "pid": [source] if live else None}
    try:
        evidence = evidence_from(argparse.Namespace(**{**vars(arguments), **own}))
    except HangError as error:
        return [], str(error)
    return [(label(source, item, len(evidence)), diagnose(item)) for item in evidence], ""


def named(source: str | int) -> tuple[str, ...]:
    """A process or a file, as the command line takes it from any folder."""
    return (
        ("--pid", str(source)) if isinstance(source, int) else (source if source == "-" else os.path.abspath(source),)
    )


def label(source: str | int, evidence: Evidence, count: int) -> str:
    pid = evidence.process.pid or evidence.snapshots[-1].pid
    return f"{source} (process {pid})" if count > 1 else str(source)


def run_report(arguments: argparse.Namespace) -> int:
    from hangdebug.evidence.paste import text_of
    from hangdebug.repair.proof import pressure
    from hangdebug.report import incident, page

    path = Path(arguments.source)
    checks = {}
    for file in arguments.check or ():
        check = pressure.read_check(text_of(file))
        if check is None:
            raise BadRequest(
                f"{file} is not a verification.",
                "`verify --save FILE` writes one.",
                ours("verify", "--help"),
            )
        checks[Path(file).stem] = check
    stem = path.resolve().name if path.is_dir() else path.stem if arguments.source != "-" else "paste"
    found = incident.gather(
        text_of("-") if arguments.source == "-" else path,
        checks=checks,
        code=Path(arguments.code) if arguments.code else None,
    )
    print(*page.write(found, Path(arguments.out or f"{stem}-report")), sep="\n")
    return 0


def run_fix(arguments: argparse.Namespace) -> int:  # noqa: C901  one verb, its options in order
    from hangdebug.repair import scan

    listed = arguments.check or arguments.json or arguments.sarif
    if bool(arguments.places) == bool(arguments.diagnosis) or (listed and arguments.write):
        raise BadRequest(
            "Fix what?",
            "Give either paths or --from DIAGNOSIS, and either --check or --write.",
            ours("fix", "app/api/routes/stream.py:14"),
        )
    skipped: list[str] = []
    text = None
    if arguments.diagnosis:
        from hangdebug.evidence.paste import text_of

        text = text_of(arguments.diagnosis)
    patches = scan.patches_for(arguments.places, text, skipped)
    findings: list[Finding] = []
    changed: list[Patch] = []
    unwritten: list[str] = []
    for patch in patches:
        findings += patch.findings
        changed += [patch] if patch.changed else []
        try:
            if not listed:
                show(patch, arguments)
        except BadSource as error:  # one file of a tree that cannot be written is no reason to leave the others
            if patch.file in arguments.places:
                raise
            unwritten.append(f"{error.what} {error.why}".strip())
    for words in (*skipped, *unwritten):
        say(f"skipped: {words}")
    if unwritten:
        return 2
    if listed:
        print(scan.write_list(findings, skipped, arguments), end="")
        return 1 if findings else 0
    if not changed:
        say(f"{', '.join(arguments.places) or arguments.diagnosis}: nothing to rewrite")
        return 1 if findings else 0
    if not arguments.write:
        say("This is a proposal; nothing was changed. Add --write to apply it.")
    return 0


def show(patch: Patch, arguments: argparse.Namespace) -> None:
    """The findings, and the diff of one file; or the file rewritten."""
    from hangdebug.repair import fix

    for finding in patch.findings:
        say(str(finding))
    if not patch.changed:
        return
    if arguments.write:
        fix.write(patch)
        say(f"{fix.head(patch)}{patch.file}: rewritten")
    else:
        print(fix.head(patch) + fix.diff(patch), end="")


def run_verify(arguments: argparse.Namespace) -> int:
    from hangdebug.repair.proof import prove

    def tell(phase: str) -> None:
        say(f"probing: {phase}")

    plan = plan_of(arguments)
    if not arguments.compare:
        found = prove.prove(plan, on_phase=tell)
        print(check_report(found))
        save(found, arguments.save)
        return 0 if found.passed else 1
    places = arguments.compare
    checks = []
    for place in places:
        say(f"-- {place}")
        checks.append(prove.prove(plan, place, tell))
    print(prove.compared(checks[0], checks[1], (places[0], places[1])))
    for check, when in zip(checks, ("before", "after")):
        save(check, arguments.save and Path(arguments.save).with_suffix(f".{when}.json"))
    return 0 if prove.proved(checks[0], checks[1]) else 1


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Raises BadRequest for options that do not go together."""
    from hangdebug.evidence.paste import text_of
    from hangdebug.repair.proof.prove import Plan
    from hangdebug.repair.proof.verify import USAGE

    if arguments.concurrency and not arguments.stream_url:
        raise BadRequest(
            "Which streams?", "--concurrency says how many are aborted at once.", f"{USAGE} --stream-url URL"
        )
    if arguments.pid and (arguments.start or arguments.compare):
        raise BadRequest(
            "Count in which process?", "--start counts in the one that it starts; --compare has two.", "leave --pid out"
        )
    return Plan(
        arguments.url,
        arguments.stream_url,
        arguments.aborts,
        arguments.concurrency,
        arguments.deadline,
        tuple(arguments.expect or ()),
        tuple((file, text_of(file)) for file in arguments.request or ()),
        arguments.times,
        arguments.together,
        arguments.pid,
        arguments.allow_remote,
        arguments.start,
        arguments.exit,
        arguments.grace,
    )


def check_report(found: Check) -> str:
    from hangdebug.repair.proof import pressure, verify

    return pressure.report(found) if isinstance(found, pressure.Pressure) else verify.table(found)


def save(result: Check, file: str | Path | None) -> None:
    if file:
        from hangdebug.repair.proof.pressure import keep_check

        keep_check(result, Path(file))


def run_triage(arguments: argparse.Namespace) -> int:
    from hangdebug import triage

    if not arguments.pid and arguments.port is None:
        return 0 if triage.demo(Path(arguments.out or "."), print) else 1
    triage.own(target_of(arguments), Path(arguments.out or "."), print)
    return 0


def command_line() -> argparse.ArgumentParser:
    return parser(
        {
            "capture": run_capture,
            "record": run_record,
            "diagnose": run_diagnose,
            "report": run_report,
            "fix": run_fix,
            "verify": run_verify,
            "triage": run_triage,
        }
    )


# -- what the verbs share ------------------------------------------------------------------------------


def target_of(arguments: argparse.Namespace) -> Target:
    from hangdebug.capture.processes import on_port, resolve

    if arguments.pid:
        if len(arguments.pid) > 1:
            raise BadRequest("Only diagnose takes several processes.", "", "name one --pid at a time")
        return resolve(arguments.pid[0])
    if arguments.port is not None:
        return on_port(arguments.port)
    raise BadRequest("Which process?", "Neither --pid nor --port was given.", ours("capture", "--port", 8000))


def evidence_from(arguments: argparse.Namespace) -> tuple[Evidence, ...]:
    live = bool(arguments.pid) or arguments.port is not None
    if live == bool(arguments.sources):
        raise BadRequest(
            "Diagnose what?" if not live else "Diagnose which of them?",
            "Give one of --pid, --port, a file, a bundle, or - for standard input.",
            f"py-spy dump --pid PID | {ours('diagnose', '-')}",
        )
    if live:
        from hangdebug.observe import observe, observe_briefly

        target = target_of(arguments)
        if arguments.save:
            return observe(target, Path(arguments.save), say, samples=arguments.samples)
        return observe_briefly(target, say, arguments.samples)
    from hangdebug.answer.diagnose import evidence_of
    from hangdebug.evidence.bundle import is_bundle, read_bundle
    from hangdebug.evidence.paste import read, text_of

    source = arguments.sources[0]
    bundled = source != "-" and is_bundle(Path(source))
    evidence = read_bundle(Path(source)) if bundled else evidence_of(read(text_of(source)))
    if arguments.code is None:
        return evidence
    from hangdebug.evidence.excerpts import with_sources

    return tuple(with_sources(one, Path(arguments.code)) for one in evidence)


def rendered(answer: Diagnosis, arguments: argparse.Namespace) -> str:
    from hangdebug.report.text import as_json, as_markdown, as_text, as_trace, explained

    if arguments.json:
        return as_json(answer, **({"explain": as_trace(answer)} if arguments.explain else {})) + "\n"
    text = as_markdown(answer) if arguments.markdown else as_text(answer)
    return text + explained(answer) if arguments.explain else text
