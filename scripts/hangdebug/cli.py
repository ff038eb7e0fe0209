"""The command line: five verbs, one `except`. Exit status 0 answered, 1 checked and bad, 2 could not."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Sequence

from hangdebug import __version__
from hangdebug.diagnose import diagnose, evidence_of, worst
from hangdebug.dumps import read
from hangdebug.dumps.bundle import is_bundle, read_bundle
from hangdebug.errors import BadRequest, HangError
from hangdebug.model import Diagnosis, Evidence
from hangdebug.report import as_json, as_markdown, as_text

MOST_TEXT = 64 << 20
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; print errors as what, why and the next command. Returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except HangError as error:
        print(f"hang.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nhang.py: interrupted; what was already written stays", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- verbs ---------------------------------------------------------------------------------------------


def run_capture(arguments: argparse.Namespace) -> int:
    from hangdebug.capture import pack
    from hangdebug.live import new_folder, observe
    target = target_of(arguments)
    folder = Path(arguments.out) if arguments.out else new_folder(target)
    observe(target, folder, say)
    print(pack(folder) if arguments.zip else folder)
    return 0


def run_diagnose(arguments: argparse.Namespace) -> int:
    answer = worst(map(diagnose, evidence_from(arguments)))
    print(rendered(answer, arguments), end="")
    return 0


def run_fix(arguments: argparse.Namespace) -> int:
    from hangdebug import fix
    path, line = place_to_fix(arguments)
    patch = fix.propose(path, line)
    for finding in patch.findings:
        say(str(finding))
    if not patch.changed:
        say(f"{path}: nothing to rewrite")
        return 1 if any(finding.refused for finding in patch.findings) else 0
    if not arguments.write:
        print(fix.diff(patch), end="")
        say("This is a proposal; nothing was changed. Add --write to apply it.")
        return 0
    fix.write(patch)
    say(f"{path}: rewritten")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    from hangdebug import verify
    result = verify.verify(arguments.url, stream_url=arguments.stream_url, aborts=arguments.aborts,
                           deadline=arguments.deadline, on_phase=lambda phase: say(f"probing: {phase}"))
    print(verify.table(result))
    return 0 if result.passed else 1


def run_triage(arguments: argparse.Namespace) -> int:
    from hangdebug import triage
    if arguments.pid is None and arguments.port is None:
        return 0 if triage.demo(Path(arguments.out or "."), print) else 1
    triage.own(target_of(arguments), Path(arguments.out or "."), print)
    return 0


# -- what the verbs share ------------------------------------------------------------------------------


def target_of(arguments: argparse.Namespace):
    from hangdebug.capture import on_port, resolve
    if arguments.pid is not None:
        return resolve(arguments.pid)
    if arguments.port is not None:
        return on_port(arguments.port)
    raise BadRequest("Which process?", "Neither --pid nor --port was given.", "python scripts/hang.py capture --port 8000")


def evidence_from(arguments: argparse.Namespace) -> tuple[Evidence, ...]:
    live = arguments.pid is not None or arguments.port is not None
    if live == (arguments.source is not None):
        raise BadRequest("Diagnose what?" if not live else "Diagnose which of them?", "Give one of --pid, --port, a file, a bundle, or - for standard input.",
                         "py-spy dump --pid PID | python scripts/hang.py diagnose -")
    if live:
        from hangdebug.live import observe, observe_briefly
        target = target_of(arguments)
        if arguments.save:
            return observe(target, Path(arguments.save), say)
        return observe_briefly(target, say)
    path = Path(arguments.source)
    if arguments.source != "-" and is_bundle(path):
        return read_bundle(path)
    evidence = evidence_of(read(text_of(arguments.source)))
    if arguments.code is None:
        return evidence
    from hangdebug.local import with_sources
    return tuple(with_sources(one, Path(arguments.code)) for one in evidence)


def text_of(source: str) -> str:
    """The text of a file, or of standard input for "-". Raises BadRequest."""
    try:
        if source == "-":
            if sys.stdin.isatty():
                say("Paste the dump, then press Ctrl-D.")
            raw = sys.stdin.buffer.read(MOST_TEXT + 1)
        else:
            with open(source, "rb") as opened:
                raw = opened.read(MOST_TEXT + 1)
    except OSError as error:
        raise BadRequest(f"{source} cannot be read.", error.strerror or str(error), "ls -l") from error
    if len(raw) > MOST_TEXT:
        raise BadRequest(f"{source} is larger than {MOST_TEXT >> 20} MB.", "A dump is a few hundred KB at most.",
                         f"head -c 8M {source} | python scripts/hang.py diagnose -")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"  # PowerShell's `>` writes UTF-16
    return raw.decode(encoding, "replace")


def rendered(answer: Diagnosis, arguments: argparse.Namespace) -> str:
    if arguments.json:
        return as_json(answer) + "\n"
    return as_markdown(answer) if arguments.markdown else as_text(answer)


def place_to_fix(arguments: argparse.Namespace) -> tuple[str, int | None]:
    """The file and line to rewrite, from FILE[:LINE] or from a diagnosis. Raises BadRequest."""
    if (arguments.place is None) == (arguments.diagnosis is None):
        raise BadRequest("Fix what?", "Give either FILE, FILE:LINE or --from DIAGNOSIS.",
                         "python scripts/hang.py fix app/api/routes/stream.py:14")
    if arguments.place is not None:
        head, colon, tail = arguments.place.rpartition(":")
        if colon and tail.isdigit() and not Path(arguments.place).exists():
            return head, int(tail)
        return arguments.place, None
    again = "python scripts/hang.py diagnose --pid PID --json > diagnosis.json"
    try:
        frame = json.loads(text_of(arguments.diagnosis))["blocking_frame"]
        file, line = str(frame["file"]), frame["line"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{arguments.diagnosis} names no blocking frame.", "It is no diagnosis in JSON, or none was found.",
                         again) from error
    if not Path(file).is_file():
        raise BadRequest(f"The blocking frame is in {file}, which is not here.",
                         "The diagnosis was made on another machine, or from short names.",
                         f"python scripts/hang.py fix YOUR/COPY/OF/{Path(file).name}:{line}")
    return file, line if isinstance(line, int) else None


# -- arguments -----------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="hang.py", description="Name what hangs a Python web backend, with the evidence, "
                                  "and prove the repair.", formatter_class=argparse.RawDescriptionHelpFormatter,
                                  epilog=examples("hang.py diagnose --port 8000", "hang.py triage"))
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(metavar="VERB", required=True)

    capture = verb(verbs, "capture", run_capture, "Save the evidence of a live process: stacks, kernel waits, facts.",
                   "hang.py capture --port 8000 --zip", "hang.py capture --pid 4284 --out before-restart")
    live_arguments(capture)
    capture.add_argument("--out", metavar="FOLDER", help="where to put the bundle (default: evidence-PID-TIME)")
    capture.add_argument("--zip", action="store_true", help="also pack it into FOLDER.zip, to send it elsewhere")

    diagnosing = verb(verbs, "diagnose", run_diagnose, "Say what hangs, from a live process, a dump or a bundle.",
                      "hang.py diagnose --port 8000", "py-spy dump --pid 4284 | hang.py diagnose - --json")
    diagnosing.add_argument("source", nargs="?", metavar="FILE|BUNDLE|-", help="a pasted dump, an evidence bundle, - for stdin")
    live_arguments(diagnosing)
    diagnosing.add_argument("--save", metavar="FOLDER", help="keep the evidence of a live process there")
    diagnosing.add_argument("--code", metavar="DIR", help="your source tree: lets a pasted dump's lines be read")
    form = diagnosing.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the diagnosis as JSON, schema version 1")
    form.add_argument("--markdown", action="store_true", help="the diagnosis for a ticket")

    fixing = verb(verbs, "fix", run_fix, "Propose a rewrite as a diff; --write applies it.",
                  "hang.py fix app/api/routes/stream.py:14", "hang.py fix --from diagnosis.json --write")
    fixing.add_argument("place", nargs="?", metavar="FILE[:LINE]", help="what to rewrite; with LINE only that construct")
    fixing.add_argument("--from", dest="diagnosis", metavar="DIAGNOSIS", help="go to a diagnosis's blocking frame (JSON, or -)")
    fixing.add_argument("--write", action="store_true", help="change the file (whole, or not at all)")

    verifying = verb(verbs, "verify", run_verify, "Prove with curl that the server answers while streams are aborted.",
                     "hang.py verify --url http://127.0.0.1:8000/health",
                     "hang.py verify --url http://127.0.0.1:8000/health --stream-url http://127.0.0.1:8000/stream --aborts 20")
    verifying.add_argument("--url", action="append", required=True, help="to probe; repeat for a control URL and the one that hung")
    verifying.add_argument("--stream-url", help="an SSE or streaming URL to open and abort meanwhile")
    verifying.add_argument("--aborts", type=whole, default=5, help="how many streams to abort (default: 5)")
    verifying.add_argument("--deadline", type=seconds, default=2.0, help="seconds in which a probe must be answered (default: 2)")

    triaging = verb(verbs, "triage", run_triage, "The whole path: on the bundled news service, or on your own process.",
                    "hang.py triage", "hang.py triage --port 8000")
    live_arguments(triaging)
    triaging.add_argument("--out", metavar="FOLDER", help="where to keep the evidence (default: the current folder)")
    return top


def verb(verbs, name: str, run, does: str, *shown: str) -> argparse.ArgumentParser:
    made = verbs.add_parser(name, help=does, description=does, epilog=examples(*shown),
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(run=run)
    return made


def examples(*shown: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in shown)


def live_arguments(to: argparse.ArgumentParser) -> None:
    which = to.add_mutually_exclusive_group()
    which.add_argument("--pid", type=whole, help="a process; a supervisor's workers are looked at too")
    which.add_argument("--port", type=whole, help="the local TCP port that it listens on")


def whole(text: str) -> int:
    value = int(text)
    if not 0 < value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number that fits")
    return value


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 600 seconds")
    return value
