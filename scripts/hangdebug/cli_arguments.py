"""What the command line takes. Its help is the manual: what a verb does first, two examples last."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Callable

from hangdebug import __version__
from hangdebug.errors import our_name, ours

Runs = Mapping[str, Callable[[argparse.Namespace], int]]
Verbs = Any  # argparse names its type with an underscore
MOST_PORT = 65535


def parser(run: Runs, program: str = "") -> argparse.ArgumentParser:
    """The parser, with `run` holding the function of each verb. `program` is what its examples call, else as called."""
    top = argparse.ArgumentParser(
        prog=program or our_name(),
        description="Name what hangs a Python web backend, with the evidence, and prove the repair.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=examples("hang.py diagnose --port 8000", "hang.py triage"),
    )
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(metavar="VERB", required=True)

    capture = verb(
        verbs,
        "capture",
        run,
        "Save the evidence of a live process: stacks, kernel waits, facts.",
        "hang.py capture --port 8000 --zip",
        "hang.py capture --pid 4284 --out before-restart",
    )
    live_arguments(capture)
    capture.add_argument("--out", metavar="FOLDER", help="where to put the bundle (default: evidence-PID-TIME)")
    capture.add_argument("--zip", action="store_true", help="also pack it into FOLDER.zip, to send it elsewhere")

    recording = verb(
        verbs,
        "record",
        run,
        "Sample a busy process, or the busiest of its workers: stacks, a flame graph, a file for speedscope.",
        "hang.py record --port 8000",
        "hang.py record --pid 4284 --seconds 10 --out flames",
    )
    live_arguments(recording, tasks=False)
    recording.add_argument(
        "--seconds", type=seconds, default=2.0, help="how long to sample, in whole seconds (default: 2)"
    )
    recording.add_argument("--out", metavar="FOLDER", help="where to put the files (default: recording-PID-TIME)")

    diagnosing = verb(
        verbs,
        "diagnose",
        run,
        "Say what hangs, from a live process, a dump or a bundle.",
        "hang.py diagnose --port 8000",
        "py-spy dump --pid 4284 | hang.py diagnose - --json",
    )
    source_arguments(diagnosing, "of several, equal answers are one line")
    looks = diagnosing.add_mutually_exclusive_group()
    looks.add_argument(
        "--samples", type=whole, metavar="N", help="look at the stacks N times, and no more even if in doubt"
    )
    looks.add_argument("--quick", action="store_const", const=1, dest="samples", help="look once: the shortest pause")
    diagnosing.add_argument(
        "--explain", action="store_true", help="also show which rules were asked, and how the confidence came about"
    )
    diagnosing.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 0 for healthy, 1 for a hang, 3 for inconclusive (2: it could not)",
    )
    diagnosing.add_argument(
        "--watch", action="store_true", help="look at a process again and again; at its first hang keep the evidence"
    )
    diagnosing.add_argument(
        "--every", type=seconds, default=10.0, metavar="N", help="seconds between two looks of --watch (default: 10)"
    )
    fleet_arguments(diagnosing, "read every bundle in these folders, of a whole fleet, and say what they share")
    form = diagnosing.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the diagnosis as JSON, schema version 1")
    form.add_argument("--markdown", action="store_true", help="the diagnosis for a ticket")
    form.add_argument(
        "--as",
        dest="form",
        choices=["otel", "prometheus", "chat"],
        help="an event for OpenTelemetry (OTLP/JSON), a textfile for Prometheus, the body of a chat's webhook",
    )

    stacking = verb(
        verbs,
        "stacks",
        run,
        "Print all stacks, equal ones once: the one to look at first, each with the kernel's wait and its locks.",
        "hang.py stacks --port 8000",
        "hang.py stacks evidence-4284-20260101T031500",
    )
    source_arguments(stacking, "each is printed")
    stacking.add_argument("--all", action="store_true", help="show every frame: fold none of the libraries'")

    explaining = verb(
        verbs,
        "explain",
        run,
        "Explain a cause, a state or a rule by its name, with its repair.",
        "hang.py explain executor-shutdown",
        "hang.py explain tasks-waiting",
    )
    explaining.add_argument(
        "words", nargs="*", metavar="NAME", help="a cause, a state, a rule or its code; none lists them"
    )

    fleet_verb(
        verb(
            verbs,
            "fleet",
            run,
            "Capture every pod of a selector, with the kubectl that you use: one bundle a pod, for diagnose --group.",
            "hang.py fleet kubectl --selector app=news --namespace shop",
            "hang.py fleet kubectl --selector app=news --image python:3.12-slim --limit 4 --out before-restart",
        )
    )

    reporting = verb(
        verbs,
        "report",
        run,
        "Write an incident report: report.html, report.md to paste into a ticket, report.json for tools.",
        "hang.py report evidence-4284-20260101T031500",
        "hang.py report dump.txt --code . --out incident",
    )
    reporting.add_argument(
        "source",
        metavar="BUNDLE",
        help="an evidence bundle: a folder, a zip or a .tar.gz; or a pasted dump; - for stdin",
    )
    reporting.add_argument(
        "--out", metavar="FOLDER", help="where to write them (default: NAME-report, in the current folder)"
    )
    reporting.add_argument(
        "--code", metavar="DIR", help="your source tree: lets a pasted dump's lines be read, and shows the diff"
    )
    reporting.add_argument(
        "--check",
        action="append",
        metavar="FILE",
        help="a file that `verify --save FILE` wrote; may be repeated: before and after",
    )
    reporting.add_argument("--host", default="", metavar="NAME", help="the host where the service runs, for the report")
    fleet_arguments(reporting, "report on every bundle in a folder: what they share, hosts by time as a picture")
    reporting.set_defaults(pid=None, port=None)

    fix_arguments(
        verb(
            verbs,
            "fix",
            run,
            "Propose rewrites as one diff; --fix applies it, --check lists what it would do.",
            "hang.py fix app/api/routes/stream.py:14",
            "hang.py fix --check --select HNG002,HNG007 app",
        )
    )

    verify_arguments(
        verb(
            verbs,
            "verify",
            run,
            "Prove with curl that the server answers while what hung it is done again.",
            "hang.py verify --url http://127.0.0.1:8000/health --stream-url http://127.0.0.1:8000/stream --aborts 20",
            "hang.py verify --url http://127.0.0.1:{port}/health --request orders.http --exit SIGINT "
            "--start 'sh serve.sh {port}' --compare old_tree new_tree",
        )
    )

    triaging = verb(
        verbs,
        "triage",
        run,
        "Go the whole way, from symptom to proof, on the bundled news service or on your own process.",
        "hang.py triage",
        "hang.py triage --port 8000",
    )
    live_arguments(triaging)
    triaging.add_argument("--out", metavar="FOLDER", help="where to keep the evidence (default: the current folder)")

    verb(
        verbs,
        "mcp",
        run,
        "Serve an assistant that has no shell, by the Model Context Protocol on stdin and stdout: it can only read.",
        "hang.py mcp",
        "hang.py mcp 2>> hang-mcp.log",
    )

    completing = verb(
        verbs,
        "completion",
        run,
        "Print a script that completes verbs and options in your shell.",
        "hang.py completion bash >> ~/.bash_completion",
        "hang.py completion fish > ~/.config/fish/completions/hang.fish",
    )
    completing.add_argument("shell", choices=["bash", "zsh", "fish"])
    if not program:  # in the user's own help every example is a command that runs as it stands
        for one in (top, *verbs.choices.values()):
            one.epilog = (one.epilog or "").replace("hang.py", ours())
    return top


def source_arguments(to: argparse.ArgumentParser, several: str) -> None:
    """What is looked at: a process that runs, a dump, a bundle; `several` says what is done with more than one."""
    to.add_argument(
        "sources",
        nargs="*",
        metavar="FILE|BUNDLE|PID|:PORT|URL|-",
        help=f"a pasted dump, an evidence bundle, a process by its pid, port or URL, - for stdin; {several}",
    )
    live_arguments(to)
    to.add_argument("--save", metavar="FOLDER", help="keep the evidence of a live process there")
    to.add_argument("--code", metavar="DIR", help="your source tree: lets a pasted dump's lines be read")


def fleet_verb(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "carrier", choices=["kubectl"], help="the program that reaches the pods; for hosts, see deploy/ansible"
    )
    which = to.add_argument_group("which pods")
    which.add_argument("--selector", required=True, metavar="LABELS", help="as kubectl takes it: app=news")
    which.add_argument("--namespace", metavar="NAME", help="where they are (default: kubectl's own)")
    which.add_argument("--context", metavar="NAME", help="which cluster (default: kubectl's own)")
    which.add_argument("--container", metavar="NAME", help="of each pod (default: its default, or the first)")
    which.add_argument("--pid", type=whole, help="in the container (default: the first process of Python)")
    how = to.add_argument_group("how")
    how.add_argument(
        "--image",
        metavar="IMAGE",
        help="join each pod by an ephemeral container of this image, with SYS_PTRACE alone, for a container without "
        "py-spy; it ends by itself, and stays in the pod's list",
    )
    how.add_argument("--limit", type=whole, default=8, metavar="N", help="how many pods at once (default: 8)")
    how.add_argument(
        "--seconds", type=seconds, default=60.0, metavar="N", help="at most for one call of kubectl (default: 60)"
    )
    how.add_argument("--out", metavar="FOLDER", help="where to put the bundles; a pod that has one there is skipped")
    how.add_argument("--dry-run", action="store_true", help="print what would be run, and change nothing")


def fleet_arguments(to: argparse.ArgumentParser, does: str) -> None:
    many = to.add_argument_group("many bundles")
    many.add_argument("--group", action="store_true", help=does)
    many.add_argument("--jobs", type=whole, metavar="N", help="with --group: processes to use (default: one a core)")
    many.add_argument("--dask", metavar="ADDRESS", help="with --group: a Dask scheduler whose workers read; or: local")


def fix_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "places",
        nargs="*",
        metavar="PATH[:LINE]",
        help="files and folders to rewrite; with LINE, only the construct there; - for standard input",
    )
    to.add_argument(
        "--from",
        dest="diagnosis",
        metavar="DIAGNOSIS",
        help="rewrite the blocking frame of a diagnosis (its JSON, or -)",
    )
    to.add_argument(
        "--fix", "--write", dest="write", action="store_true", help="change the files, each whole or not at all"
    )

    which = to.add_argument_group("which rules, which files", "also in [tool.hang] of pyproject.toml")
    which.add_argument("--select", action="append", metavar="CODES", help="only these rules: HNG002,HNG007, or sleep")
    which.add_argument("--ignore", action="append", metavar="CODES", help="all but these")
    which.add_argument("--exclude", action="append", metavar="GLOBS", help="files and folders to leave out")
    which.add_argument("--force-exclude", action="store_true", help="leave them out even where they are named")
    which.add_argument(
        "--per-file-ignores",
        action="append",
        metavar="GLOB:CODES",
        help="rules to leave out in these files; may be repeated",
    )
    which.add_argument("--stdin-filename", metavar="PATH", help="what standard input is called")
    settings = which.add_mutually_exclusive_group()
    settings.add_argument("--config", metavar="FILE", help="the pyproject.toml to read, instead of the nearest one")
    settings.add_argument("--isolated", action="store_true", help="read no pyproject.toml")

    lists = to.add_argument_group("the list")
    lists.add_argument("--check", action="store_true", help="list each place as FILE:LINE: CODE [RULE] MESSAGE")
    form = lists.add_mutually_exclusive_group()
    form.add_argument(
        "--output-format", dest="form", choices=["text", "json", "sarif", "github"], help="list them in this format"
    )
    form.add_argument("--json", dest="form", action="store_const", const="json", help="as JSON, schema version 1")
    form.add_argument("--sarif", dest="form", action="store_const", const="sarif", help="as SARIF 2.1.0")
    lists.add_argument("--baseline", metavar="FILE", help="leave out the places that this file knows")
    lists.add_argument("--write-baseline", metavar="FILE", help="write that file, with each place that there is now")
    lists.add_argument("--exit-zero", action="store_true", help="status 0 even if something was found")
    lists.add_argument("-q", "--quiet", action="store_true", help="no summary, no progress")
    lists.add_argument("-j", "--jobs", type=whole, metavar="N", help="processes to use (default: one a core)")


def verify_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--url",
        action="append",
        required=True,
        help="a URL to probe; may be repeated: a control URL, and the one that hung",
    )
    to.add_argument(
        "--expect",
        type=status,
        action="append",
        metavar="STATUS",
        help="a status that is right too, beside 2xx; may be repeated",
    )
    to.add_argument(
        "--deadline", type=seconds, default=2.0, help="seconds in which a probe must be answered (default: 2)"
    )
    to.add_argument("--allow-remote", action="store_true", help="allow URLs of other machines")
    to.add_argument("--pid", type=whole, help="compare this process's threads, tasks and open files (Linux)")
    to.add_argument(
        "--save", metavar="FILE", help="keep the result as JSON, in a bundle or elsewhere: `report` shows it"
    )

    replay = to.add_argument_group("what is done again")
    replay.add_argument("--stream-url", help="an SSE or streaming URL to open and abort meanwhile")
    replay.add_argument("--aborts", type=whole, default=5, help="how many streams to abort (default: 5)")
    replay.add_argument(
        "--concurrency", type=whole, metavar="N", help="abort N streams at once, and keep probing meanwhile"
    )
    replay.add_argument(
        "--request",
        action="append",
        metavar="FILE",
        help="requests to send in their order, as an HTTP file or in curl's config syntax; may be repeated",
    )
    replay.add_argument("--times", type=whole, default=1, help="how often to send each file (default: 1)")
    replay.add_argument("--together", action="store_true", help="send the files at once, each as a client of its own")

    starting = to.add_argument_group("the server")
    starting.add_argument(
        "--start", metavar="CMD", help="start the server, and end it afterwards; {port} in CMD and URL is a free port"
    )
    starting.add_argument(
        "--exit", choices=["SIGINT", "SIGTERM"], help="end the started server by this signal, and time it"
    )
    starting.add_argument(
        "--grace", type=seconds, default=5.0, metavar="N", help="seconds that it has for its end (default: 5)"
    )
    starting.add_argument(
        "--compare",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="the same on both: folders to --start it in, or the URLs of two servers; OLD must fail, NEW must pass",
    )


def verb(verbs: Verbs, name: str, run: Runs, does: str, *shown: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name, help=does, description=does, epilog=examples(*shown), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.set_defaults(run=run[name])
    return made


def examples(*shown: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in shown)


def live_arguments(to: argparse.ArgumentParser, tasks: bool = True) -> None:
    """Which process; and where its `tasks` are read, whether its Python may be started for that."""
    which = to.add_mutually_exclusive_group()
    which.add_argument("--pid", type=whole, action="append", help="a process; of a supervisor, its workers too")
    which.add_argument("--port", type=port, help="the local TCP port that it listens on")
    if tasks:
        to.add_argument(
            "--probe-interpreter",
            action="store_true",
            help="for a Python that this tool does not know: start it once more, empty, to learn where its tasks are",
        )


def whole(text: str) -> int:
    if text == "PID":
        raise argparse.ArgumentTypeError("PID stands for the number of a process, such as 4284; `ps -ef` lists them")
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number that fits")
    return int(text)


def port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MOST_PORT:
        what = "PORT stands for a number, such as 8000" if text == "PORT" else f"{text} is no port"
        raise argparse.ArgumentTypeError(f"{what}: ports go from 1 to {MOST_PORT}")
    return int(text)


def status(text: str) -> int:
    value = int(text)
    if not 100 <= value < 600:
        raise argparse.ArgumentTypeError(f"{text} is no HTTP status")
    return value


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 600 seconds")
    return value
