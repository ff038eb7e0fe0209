"""Hang servers of the zoo and keep what tools other than py-spy's `dump` print of them.

    python tests/capture_formats.py --python venv311/bin/python --tool pystack=venv/bin/pystack --tool gdb=gdb \
        --tool austin=venv/bin/austin --tool py-spy=venv/bin/py-spy --only sleep

`faulthandler`, `current_frames` and `task_stacks` need no tool: the server prints them itself. `asyncio_ps`,
`asyncio_pstree` (Python 3.14) and `profiling` (3.15) are modules of the server's own Python. A tool that is not
named, or that cannot read the process, is left out. Every dump is kept whole, but for this machine's paths.

The mark `# <-- CAUSE` stands behind the frame that a diagnosis must name. Where a format has no place for it (one
stack a line, tasks) the suffix is not .txt: the server's own constants hold the truth, and test_formats.py reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import capture_dumps
import zoo

SITE = zoo.HERE / "formats_site"
SUFFIX = {
    "austin": "collapsed",
    "pyspy_raw": "collapsed",
    "asyncio_ps": "tasks",
    "asyncio_pstree": "tasks",
    "task_stacks": "tasks",
    "profiling_tasks": "tasks",
}
NEWEST_LAST = ("pystack", "pystack_native", "current_frames", "austin_where", "profiling")
FRAME = re.compile(r"(?:File \"|\()(?P<file>[^\"()]+)(?:\", line |:)(?P<line>\d+)")
PLACES = """
import json, os, sys
print(json.dumps([sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)]))
"""


def commands(tools: dict[str, str], python: str, pid: str) -> dict[str, list[str]]:
    """What is run to get each format."""
    found = {}
    if version(python) >= (3, 14):
        found["asyncio_ps"] = [python, "-m", "asyncio", "ps", pid]
        found["asyncio_pstree"] = [python, "-m", "asyncio", "pstree", pid]
    if version(python) >= (3, 15):
        found["profiling"] = [python, "-m", "profiling.sampling", "dump", "--all-threads", pid]
        found["profiling_tasks"] = [python, "-m", "profiling.sampling", "dump", "--async-aware", pid]
    if "pystack" in tools:
        found["pystack"] = [tools["pystack"], "remote", pid]
        found["pystack_native"] = [tools["pystack"], "remote", "--native", "--locals", pid]
    if "gdb" in tools:
        found["gdb"] = [
            tools["gdb"],
            "-p",
            pid,
            "-batch",
            "-iex",
            "set auto-load safe-path /",
            "-ex",
            "thread apply all py-bt",
        ]
    if "austin" in tools:
        found["austin"] = [*tools["austin"].split(), "-x", "1", "-i", "100ms", "-p", pid]
        found["austin_where"] = [*tools["austin"].split(), "-w", pid]
    if "py-spy" in tools:
        found["pyspy_raw"] = [
            tools["py-spy"],
            "record",
            "-f",
            "raw",
            "-d",
            "1",
            "-r",
            "5",
            "-t",
            "-i",
            "-o",
            "/dev/stdout",
            "--pid",
            pid,
        ]
        found["spy_locals"] = [tools["py-spy"], "dump", "--locals", "--pid", pid]
        found["spy_full"] = [tools["py-spy"], "dump", "--full-filenames", "--pid", pid]
    if "py-spy-asyncio" in tools:
        found["asyncio_spy"] = [tools["py-spy-asyncio"], "dump", "--asyncio", "--pid", pid]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--tool", action="append", default=[], help="NAME=COMMAND")
    parser.add_argument("--only", action="append", required=True, help="a server's name")
    parser.add_argument("--format", action="append", help="default: all that can be had")
    parser.add_argument("--places", action="append", default=[], help="PATH=NEUTRAL, replaced in the dumps")
    parser.add_argument("--out", type=Path, default=zoo.HERE / "dumps")
    options = parser.parse_args()
    zoo.lab.SITE = SITE
    try:
        for name in options.only:
            capture(zoo.truth(name), options)
    except (zoo.ZooError, zoo.lab.LabError, LookupError, OSError, subprocess.SubprocessError) as error:
        print(f"capture_formats: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def version(python: str) -> tuple[int, int]:
    asked = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    major, minor = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    return int(major), int(minor)


def capture(truth: zoo.Truth, options: argparse.Namespace) -> None:
    """Hang the server once, ask every tool, and write what they printed."""
    stem = "".join(map(str, version(options.python)))
    with tempfile.TemporaryDirectory() as scratch:
        fifo = Path(scratch, "fifo")
        os.mkfifo(fifo)
        os.environ.update(STACKS_FIFO=str(fifo), PYTHONFAULTHANDLER="1")
        with zoo.hang(truth.name, python=options.python) as hung:
            texts = dumps(hung, options, fifo)
    for name, text in texts.items():
        if text:
            file = options.out / truth.cause / f"py{stem}-{name}.{SUFFIX.get(name, 'txt')}"
            written = neutral(text, truth, options)
            file.write_text(annotated(written, truth, name) if file.suffix == ".txt" else written)
            print(file, flush=True)


def dumps(hung: zoo.Hung, options: argparse.Namespace, fifo: Path) -> dict[str, str]:
    wanted = options.format
    tools = dict(one.split("=", 1) for one in options.tool)
    texts = {
        name: output(command)
        for name, command in commands(tools, options.python, str(hung.pid)).items()
        if not wanted or name in wanted
    }
    for name, what in (("current_frames", "stacks"), ("task_stacks", "tasks")):
        if not wanted or name in wanted:
            texts[name] = own(hung, fifo, what)
    if not hung.holds():
        raise zoo.ZooError(f"{hung.truth.name} recovered while it was dumped: nothing was written")
    if not wanted or "faulthandler" in wanted:
        time.sleep(0.5)  # the probes above are over, and a healthy server rests again
        size = hung.server.log.stat().st_size
        os.kill(hung.pid, signal.SIGABRT)
        hung.server.process.wait(20)
        texts["faulthandler"] = hung.server.log.read_bytes()[size:].decode()
    return texts


def output(command: list[str]) -> str:
    """What a tool prints on standard output, or nothing where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def own(hung: zoo.Hung, fifo: Path, what: str) -> str:
    """What the server prints of itself, into a FIFO that is read to its end."""
    answer = fifo.with_name(what)
    os.mkfifo(answer)
    fifo.write_text(f"{what} {answer}")
    return answer.read_text()


def neutral(text: str, truth: zoo.Truth, options: argparse.Namespace) -> str:
    asked = subprocess.run([options.python, "-c", PLACES], check=True, capture_output=True, text=True)
    prefix, base, real = json.loads(asked.stdout)
    text = re.sub(r"/[^\s\"]*/python-build[^/\s]*/", "/build/", text)
    places = [one.split("=", 1) for one in options.places]
    places += [
        [str(SITE), "/srv/stacks"],
        [str(truth.folder), "/srv/app"],
        [prefix, "/srv/venv"],
        [base, "/usr/local"],
        [real, "/usr/local"],
    ]
    return capture_dumps.neutral(text, [(path, name) for path, name in places])


def annotated(text: str, truth: zoo.Truth, name: str) -> str:
    """The dump with the mark behind the innermost frame, of one thread, that stands on a marked line."""
    lines = text.splitlines()
    order = range(len(lines) - 1, -1, -1) if name in NEWEST_LAST else range(len(lines))
    for number in order:
        plain = re.sub(r"\x1b\[[\d;]*m", "", lines[number])
        found = FRAME.search(plain)
        if found and (Path(found["file"]).name, int(found["line"])) in {(Path(f).name, n) for f, n in truth.marked}:
            lines[number] += f"  {zoo.MARK}{truth.cause}"
            return "\n".join(lines) + "\n"
    if truth.marked:
        raise zoo.ZooError(f"{truth.name}: no frame of {name} stands on {truth.marked}:\n{text}")
    return text


if __name__ == "__main__":
    sys.exit(main())
