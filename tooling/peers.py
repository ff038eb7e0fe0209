"""Hang some servers, give each to the tools that people use instead, and print what each tells.

    python tooling/peers.py                                  the table
    python tooling/peers.py --write                          also put it into docs/comparison.md
    python tooling/peers.py --python314 /usr/bin/python3.14  with `asyncio pstree`, which needs a server on 3.14

The tools come from the package index into build/peers. A cell is measured: "line" when the tool's output has the line
that the server marks as the blocking one, "what" when it also says in words what is wrong, and how many lines there
were to read. hydroid reads the source, the others the running process.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tooling")]

import generate
import zoo

PEERS = ROOT / "build" / "peers"
SERVERS = (
    "executor_shutdown",
    "lock",
    "cpu_bound",
    "threadpool_limit",
    "run_coroutine_threadsafe",
    "never_set",
    "interpreter_exit",
    "parked_pool",
)
TOOLS = ("py-spy dump", "pystack remote", "asyncio pstree", "hydroid", "hang.py diagnose")
# In words: what a tool must say for its reader not to have to find it out.
WHAT = {
    "loop-blocked": r"block(?:s|ed|ing)[\w -]* loop|loop-blocked",
    "loop-busy": r"loop-busy|cpu-bound|burns",
    "deadlock": r"deadlock|blocks the event loop",
    "threadpool-exhausted": r"exhausted|starv",
    "tasks-waiting": r"tasks-waiting|waits? for ever|never (?:set|comes)",
    "exit-hang": r"exit-hang|told to stop",
    "healthy": r"healthy|0 blocking calls|no blocking calls",
}


def environment() -> Path:
    """The bin folder of a venv with the tools."""
    folder = PEERS / ("Scripts" if sys.platform == "win32" else "bin")
    if not (PEERS / "ready").exists():
        venv.create(PEERS, clear=True, with_pip=True)
        subprocess.run(
            [folder / "python", "-m", "pip", "install", "-qq", "pystack", "hydroid-cli", "py-spy"], check=True
        )
        (PEERS / "ready").touch()
    return folder


def output(command: Iterable[object]) -> str:
    """What a tool prints, errors too: its reader sees both. Empty where it cannot run."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    return re.sub(rf"\x1b\[[\d;]*m|{zoo.MARK}[\w-]+", "", done.stdout + done.stderr)  # a source line shows our own mark


def cell(text: str, truth: zoo.Truth) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    named = any(
        re.search(rf"{re.escape(Path(file).name)}\"?(?::|, line ){number}\b", text) for file, number in truth.marked
    )
    what = bool(re.search(WHAT[truth.state], text, re.I)) and (named or not truth.marked)  # else it means another line
    found = ["what"] * what + ["line"] * named
    return f"{' and '.join(found) or 'neither'}, {len(lines)} to read"


def cells(name: str, tools: Path, python314: str | None) -> list[str]:
    truth = zoo.truth(name)
    with zoo.hang(name) as hung:
        ours = output([sys.executable, ROOT / "scripts" / "hang.py", "diagnose", "--pid", hung.pid])
        py_spy = output([tools / "py-spy", "dump", "--pid", hung.ill])
        pystack = output([tools / "pystack", "remote", "--no-block", hung.ill])
    tasks = "not measured"
    if python314:
        with zoo.hang(name, python=python314) as hung:
            tasks = cell(output([python314, "-m", "asyncio", "pstree", hung.ill]), truth)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "service.py").write_text(zoo.find(name).read_text())
        source = output([tools / "hydroid", folder, "--python", sys.executable, "--no-cache", "--cpu"])
    source = source.replace("service.py", zoo.find(name).name)
    return [cell(py_spy, truth), cell(pystack, truth), tasks, cell(source, truth), cell(ours, truth)]


def table(tools: Path, python314: str | None) -> str:
    rows = [f"| what is wrong | {' | '.join(f'`{tool}`' for tool in TOOLS)} |", "|---" * (len(TOOLS) + 1) + "|"]
    for name in SERVERS:
        print(f"hanging {name}", file=sys.stderr, flush=True)
        truth = zoo.truth(name)
        rows.append(f"| {truth.state} / {truth.cause} | {' | '.join(cells(name, tools, python314))} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python314", metavar="PATH", help="a Python 3.14 that has fastapi, uvicorn and requests")
    parser.add_argument("--write", action="store_true", help="put the table into docs/comparison.md")
    arguments = parser.parse_args()
    try:
        made = table(environment(), arguments.python314)
    except (subprocess.SubprocessError, OSError, zoo.ZooError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    print(made)
    if arguments.write:
        page = ROOT / "docs" / "comparison.md"
        page.write_text(generate.replaced(page.read_text(encoding="utf-8"), "peers", f"\n{made}\n"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
