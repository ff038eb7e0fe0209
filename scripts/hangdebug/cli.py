"""The command line: its verbs, one `except`. Exit status 0 answered, 1 checked and bad, 2 could not, 3 undecided."""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, TextIO

from hangdebug.cli_arguments import parser
from hangdebug.errors import BadRequest, BadSource, HangError, our_name, ours, printable
from hangdebug.files import hand_over, listen, obey

if TYPE_CHECKING:  # each verb imports what it needs, and a few need more than the standard library
    from hangdebug.answer.model import Diagnosis
    from hangdebug.evidence.model import Evidence
    from hangdebug.repair.model import Finding, Patch
    from hangdebug.repair.proof.pressure import Check
    from hangdebug.repair.proof.prove import Plan
    from hangdebug.report.fleet import Fleet
    from hangdebug.sources import Source

UNDECIDED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; print errors as what, why and the next command. Returns the exit status."""
    if argv is None:  # the program itself, however it was started
        listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name in a dump may hold what this terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    arguments = command_line().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        status = run(arguments)
        sys.stdout.flush()
    except HangError as error:
        print(for_stream(f"{our_name()}: {error}", sys.stderr), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{our_name()}: interrupted; what is already written stays", file=sys.stderr)
        return obey(stop)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        told = refused(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would fail once more at the end
        print(for_stream(f"{our_name()}: {told}", sys.stderr), file=sys.stderr)
        return 2
    finally:
        hand_over()
    return status


def refused(error: OSError) -> HangError:
    """The sentence for what the system did not let us do, where nothing nearer has one."""
    look = f"ls -ld {shlex.quote(str(error.filename or '.'))}; df -h .   # then the same command again"
    if error.filename:
        return HangError(f"{error.filename} cannot be used.", f"{error.strerror}.", look)
    try:
        sys.stdout.flush()  # what could not be printed is still to be printed
    except OSError as again:
        return HangError("What was to be printed could not be written.", f"{again.strerror}.", look)
    import traceback

    asked = traceback.extract_tb(error.__traceback__)[-1]
    why = f"{error.strerror or error}, in {asked.name} ({Path(asked.filename).name}:{asked.lineno})."
    limits = "ulimit -a; free -m; df -h .   # which of these is used up? Then the same command again"
    return HangError("The system refused what this needs.", why, limits)


def for_stream(text: str, stream: TextIO, prose: bool = True) -> str:
    """What is for people and for files alike: a terminal gets it coloured, and as wide as it is."""
    if not stream.isatty() and not os.environ.get("FORCE_COLOR"):
        return text
    from hangdebug.terminal import fitted

    return fitted(text, stream, prose)


def say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


# -- verbs ---------------------------------------------------------------------------------------------


def run_capture(arguments: argparse.Namespace) -> int:
    from hangdebug.capture.bundle import pack
    from hangdebug.observe import new_folder, observe
    from hangdebug.sources import the_target

    target = the_target(arguments)
    folder = Path(arguments.out) if arguments.out else new_folder(target)
    observe(target, folder, say)
    print(pack(folder) if arguments.zip else folder)
    return 0


def run_record(arguments: argparse.Namespace) -> int:
    from hangdebug.observe import new_folder
    from hangdebug.report import recording
    from hangdebug.sources import the_target

    target = the_target(arguments)
    pid = recording.busiest(target.workers)
    folder = Path(arguments.out) if arguments.out else new_folder(target, name="recording")
    say(f"process {pid}: sampling for {arguments.seconds:g} s; Ctrl-C ends it early, and keeps what there is")
    recording.record(pid, arguments.seconds, folder, say)
    print(folder)
    return 0


def run_diagnose(arguments: argparse.Namespace) -> int:
    from hangdebug.answer.diagnose import diagnose, worst
    from hangdebug.sources import again, evidence_from, sources_of

    if arguments.group:
        return run_group(arguments)
    sources = sources_of(arguments, say)
    if arguments.watch:
        return run_watch(arguments, sources)
    if len(sources) > 1:
        if arguments.explain or arguments.form:
            option = ("--explain",) if arguments.explain else ("--as", arguments.form)
            raise BadRequest(
                f"{option[0]} is for one source.",
                "Of several sources, the same answers are shown as one line.",
                ours("diagnose", *again(sources[0]), *option),
            )
        return run_many(arguments, sources)
    found = evidence_from(sources[0], arguments, say)
    answer = worst(map(diagnose, found))
    show_text(rendered(answer, arguments, found), prose=not (arguments.markdown or arguments.form))
    return status_of([answer], arguments)


def run_mcp(arguments: argparse.Namespace) -> int:
    from hangdebug.mcp_face import serve

    serve()
    return 0


def run_many(arguments: argparse.Namespace, sources: list[Source]) -> int:
    """Every process in every source, like ones together. What cannot be read is said, and left out."""
    from hangdebug.report.text import as_groups, as_json_groups, groups
    from hangdebug.sources import again, named_answers

    found = groups(named_answers(arguments, sources, say))
    if not found:
        raise BadRequest("None of them could be diagnosed.", "", ours("diagnose", *again(sources[0])))
    show_text(as_json_groups(found) if arguments.json else as_groups(found))
    return status_of([group.answer for group in found], arguments)


def run_group(arguments: argparse.Namespace) -> int:
    """A whole fleet: every bundle in the folders that were named."""
    from hangdebug.report import fleet
    from hangdebug.report.text import json_text

    found = read_fleet(arguments, arguments.sources)
    show_text(json_text(fleet.as_dict(found)) + "\n" if arguments.json else fleet.as_text(found))
    return status_of(found.best.values(), arguments)


def read_fleet(arguments: argparse.Namespace, words: Sequence[str]) -> Fleet:
    """Raises HangError where there is no bundle, or none that can be read."""
    from hangdebug import fleet

    if not words or arguments.pid or arguments.port is not None:
        why = "A fleet is read from files: folders of bundles, archives, addresses such as s3://bucket/folder."
        raise BadRequest("Group what?", why, ours("diagnose", "--group", "FOLDER"))
    tell = partial(progress, noun="bundles") if sys.stderr.isatty() else told
    found = fleet.read(fleet.places(words), tell, arguments.jobs or 0, arguments.dask or "", arguments.code)
    if not found.rows:
        name, why = found.unread[0]
        raise BadRequest(f"None of {len(found.unread):,} bundles could be read.", why, ours("diagnose", name))
    return found


def told(done: int, of: int) -> None:
    """For a log: a line every TOLD bundles, and one for the end."""
    from hangdebug.sources import TOLD

    if done // TOLD > (done - 1) // TOLD or done == of:
        say(f"{done:,} of {of:,} bundles are read")


def run_watch(arguments: argparse.Namespace, sources: list[Source]) -> int:
    """Look at it again and again, until it hangs; the evidence of that look is kept."""
    from hangdebug.evidence.bundle import read_bundle
    from hangdebug.observe import watch
    from hangdebug.sources import again, the_target

    if len(sources) > 1 or len(sources[0]) == 1:
        what = again(sources[0]) if len(sources[0]) == 2 else ("--port", "8000")
        why = "A dump or a bundle does not change." if len(sources) == 1 else "Start one for each."
        raise BadRequest("--watch is for one process that runs.", why, ours("diagnose", "--watch", *what))
    kind, number = sources[0]
    arguments.pid, arguments.port = ([int(number)], None) if kind == "--pid" else (None, int(number))
    answer, folder = watch(lambda: the_target(arguments), arguments.save, arguments.every, say, kind == "--port")
    kept = read_bundle(folder) if arguments.form else ()
    show_text(rendered(answer, arguments, kept), prose=not (arguments.markdown or arguments.form))
    say(f"evidence   {folder}")
    return status_of([answer], arguments)


def status_of(answers: Iterable[Diagnosis], arguments: argparse.Namespace) -> int:
    """0 where nobody asked; or 0 for healthy, 1 for a hang, 3 for what cannot be said. A hang counts most."""
    from hangdebug.answer.states import ENTRIES

    states = [ENTRIES[one.state] for one in answers] if arguments.exit_code else []
    if any(state.decided and not state.well for state in states):
        return 1
    return UNDECIDED if any(not state.decided for state in states) else 0


def run_stacks(arguments: argparse.Namespace) -> int:
    from hangdebug.answer.diagnose import diagnose
    from hangdebug.report.thread_rows import as_stacks
    from hangdebug.sources import evidence_from, sources_of

    for source in sources_of(arguments, say):
        for one in evidence_from(source, arguments, say):
            show_text(as_stacks(one, diagnose(one), arguments.all) + "\n")
    return 0


def run_fleet(arguments: argparse.Namespace) -> int:
    """A bundle of every pod. Status 2 where one is missing: the same command takes what is missing."""
    from hangdebug import fleet

    kubectl = fleet.Kubectl(
        arguments.selector,
        arguments.namespace or "",
        arguments.context or "",
        arguments.container or "",
        arguments.image or "",
        arguments.pid or 0,
        arguments.seconds,
    )
    if arguments.dry_run:
        print("".join(f"{shlex.join(line)}\n" for one in kubectl.targets() for line in kubectl.plan(one)), end="")
        return 0
    out = Path(arguments.out or f"fleet-{re.sub('[^A-Za-z0-9.-]+', '-', arguments.selector)}")
    failed = fleet.collect(kubectl, out, arguments.limit, say)
    if any(out.glob("*.tar.gz")):
        say(f"Next: {ours('diagnose', '--group', out)}")
    print(out)
    return 2 if failed else 0


def run_explain(arguments: argparse.Namespace) -> int:
    from hangdebug.report.text import explanation_of, known_words

    show_text("\n".join(map(explanation_of, arguments.words)) if arguments.words else known_words() + "\n")
    return 0


def run_completion(arguments: argparse.Namespace) -> int:
    from hangdebug.terminal import completion

    print(completion(command_line(), arguments.shell), end="")
    return 0


def run_report(arguments: argparse.Namespace) -> int:
    from hangdebug.evidence.paste import text_of
    from hangdebug.repair.proof import pressure
    from hangdebug.report import incident, page

    if arguments.group:
        from hangdebug.report.fleet import write

        out = Path(arguments.out or f"{Path(arguments.source.rstrip('/')).name}-report")
        print(*write(read_fleet(arguments, [arguments.source]), out), sep="\n")
        return 0
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
        host=arguments.host,
    )
    print(*page.write(found, Path(arguments.out or f"{stem}-report")), sep="\n")
    return 0


def run_fix(arguments: argparse.Namespace) -> int:
    from hangdebug.repair import scan, settings

    listed = bool(arguments.check or arguments.form or arguments.write_baseline)
    if listed and not arguments.places and not arguments.diagnosis:
        arguments.places = [os.curdir]
    alone = arguments.places == ["-"] or "-" not in arguments.places
    if bool(arguments.places) == bool(arguments.diagnosis) or (listed and arguments.write) or not alone:
        raise BadRequest(
            "Fix what?",
            "Give paths, - alone, or --from DIAGNOSIS; and either --check or --fix.",
            ours("fix", "app/api/routes/stream.py:14"),
        )
    spot = arguments.diagnosis or scan.is_a_line([scan.parse_place(each) for each in arguments.places])
    chosen = settings.Settings() if spot else settings.settings_for(arguments)
    skipped: list[str] = []
    failed: list[BadSource] = []
    patches = scan.patches_for(
        arguments.places,
        diagnosis_in(arguments),
        skipped,
        settings=chosen,
        force_exclude=arguments.force_exclude,
        listed=listed,
        jobs=arguments.jobs or scan.cores(),
        stdin_name=arguments.stdin_filename,
        failed=failed if listed else None,
        tell=progress if sys.stderr.isatty() and not arguments.quiet else None,
    )
    with scan.no_garbage_collection():
        if not listed:
            return propose_or_write(arguments, patches, skipped)
        found = list(patches)
    for words in (*map("skipped: {}".format, skipped), *map(f"{our_name()}: {{}}".format, failed)):
        say(words)
    if failed and not found:
        return 2
    status = write_list(arguments, found, skipped, chosen.baseline)
    return 2 if failed else status


def write_list(arguments: argparse.Namespace, patches: list[Patch], skipped: list[str], baseline: str) -> int:
    """What was found, as a list or as a baseline. Returns 1 if there is anything new."""
    from hangdebug.repair import listing

    findings = [finding for patch in patches for finding in patch.findings]
    if arguments.write_baseline:
        listing.write_baseline(findings, arguments.write_baseline)
        say(f"{arguments.write_baseline}: {listing.count(len(findings), 'place')} known from now on")
        return 0
    new = listing.without_known(findings, baseline) if baseline else findings
    form = arguments.form or "text"
    show_text(listing.write_list(new, skipped, form))
    if form == "text" and not arguments.quiet:
        say(listing.summary(new, len(patches), len(skipped), len(findings) - len(new)))
    return 1 if new and not arguments.exit_zero else 0


def diagnosis_in(arguments: argparse.Namespace) -> str | None:
    if not arguments.diagnosis:
        return None
    from hangdebug.evidence.paste import text_of

    return text_of(arguments.diagnosis)


def progress(done: int, of: int, noun: str = "files") -> None:
    """A line on the terminal that writes over itself, and is gone at the end."""
    print("\r\x1b[K" if done == of else f"\r{done:,} of {of:,} {noun}", end="", file=sys.stderr, flush=True)


def propose_or_write(arguments: argparse.Namespace, patches: Iterable[Patch], skipped: list[str]) -> int:
    """The diff of each file, or the file rewritten."""
    findings: list[Finding] = []
    changed: list[Patch] = []
    unwritten: list[str] = []
    for patch in list(patches) if arguments.write else patches:  # no file is read after another one was rewritten
        findings += patch.findings
        changed += [patch] if patch.changed else []
        try:
            show(patch, arguments)
        except BadSource as error:  # one file of a tree that cannot be written is no reason to leave the others
            if patch.file in arguments.places:
                raise
            unwritten.append(f"{error.what} {error.why}".strip())
    for words in (*skipped, *unwritten):
        say(f"skipped: {words}")
    if unwritten:
        return 2
    if not changed:
        say(f"{', '.join(arguments.places) or arguments.diagnosis}: nothing to rewrite")
    left = [item for item in findings if item.refused]
    if not arguments.write and changed:
        say("This is a proposal; nothing was changed. Add --fix to apply it.")
        return 0
    return 1 if left and not arguments.exit_zero else 0


def show(patch: Patch, arguments: argparse.Namespace) -> None:
    """The findings, and the diff of one file; or the file rewritten. What came by standard input goes on to output."""
    from hangdebug.repair import fix

    for finding in patch.findings:
        say(str(finding))
    if arguments.write and "-" in arguments.places:
        sys.stdout.buffer.write(patch.after.encode(patch.encoding))
    elif patch.changed and arguments.write:
        fix.write(patch)
        say(f"{fix.head(patch)}{patch.file}: rewritten")
    elif patch.changed:
        show_text(fix.diff(patch))


def run_verify(arguments: argparse.Namespace) -> int:
    from hangdebug.repair.proof import prove

    def tell(phase: str) -> None:
        say(f"probing: {phase}")

    plan = plan_of(arguments)
    if not arguments.compare:
        found = prove.prove(plan, on_phase=tell)
        show_text(check_report(found) + "\n")
        save(found, arguments.save)
        return 0 if found.passed else 1
    places = arguments.compare
    checks = []
    for place in places:
        say(f"-- {place}")
        checks.append(prove.prove(plan, place, tell))
    print(printable(prove.compared(checks[0], checks[1], (places[0], places[1]))))
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
    from hangdebug.sources import the_target

    if not arguments.pid and arguments.port is None:
        return 0 if triage.demo(Path(arguments.out or "."), print) else 1
    triage.own(the_target(arguments), Path(arguments.out or "."), print)
    return 0


def command_line(program: str = "") -> argparse.ArgumentParser:
    """The parser. Its examples name the program as it was called, or as `program`."""
    return parser(
        {
            "capture": run_capture,
            "record": run_record,
            "diagnose": run_diagnose,
            "report": run_report,
            "fix": run_fix,
            "verify": run_verify,
            "triage": run_triage,
            "stacks": run_stacks,
            "explain": run_explain,
            "fleet": run_fleet,
            "mcp": run_mcp,
            "completion": run_completion,
        },
        program,
    )


# -- what the verbs share ------------------------------------------------------------------------------


def show_text(text: str, prose: bool = False) -> None:
    print(text if text.startswith(("{", "[")) else for_stream(text, sys.stdout, prose), end="")


def rendered(answer: Diagnosis, arguments: argparse.Namespace, found: Iterable[Evidence]) -> str:
    """In the form that was asked for. `found` is the evidence that it was made of."""
    from hangdebug.report.text import as_dict, as_json, as_markdown, as_text, as_trace, explained

    if arguments.form:
        from hangdebug.report.fleet import moment, unanswered
        from hangdebug.report.machines import FORMS

        seconds, taken = next(
            ((unanswered(one), moment(one.taken)) for one in found if one.process.pid == answer.process.pid), (0.0, 0.0)
        )
        return FORMS[arguments.form](as_dict(answer), seconds or None, taken or time.time())
    if arguments.json:
        return as_json(answer, **({"explain": as_trace(answer)} if arguments.explain else {})) + "\n"
    text = as_markdown(answer) if arguments.markdown else as_text(answer)
    return text + explained(answer) if arguments.explain else text
