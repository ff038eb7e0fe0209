"""Hang every server of the zoo and keep what py-spy prints of it.

    python tests/capture_dumps.py --python venv311/bin/python --py-spy venv/bin/py-spy
    python tests/capture_dumps.py --only sleep --only lock

Each interpreter needs fastapi, uvicorn, requests and uvloop, and sqlalchemy, psycopg[binary,pool] and redis for
the servers of the databases. The newest py-spy dumps every server under every
interpreter as text. What else is taken depends on the Python's version: JSON and uvloop on 3.11 and 3.13,
older py-spys on 3.9 and 3.11. Disguises and healthy servers are taken on 3.9, 3.11 and 3.13.

A dump is kept whole, but for the paths of this machine, and gets `  # <-- CAUSE` behind the frame that a
diagnosis must name. JSON stays what py-spy printed; the truth stands beside it in NAME.truth.json.

The dumps of other tools (`*-faulthandler.txt`, `*-pystack.txt`, ...) are taken by capture_formats.py.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

import zoo

FULL = ("3.11", "3.13")
OLDER = ("3.9", "3.11")
SOME = ("3.9", "3.11", "3.13")
FRAME = re.compile(r"^    (?P<function>.+) \((?P<file>[^()]+):(?P<line>\d+)\)$")
FACTS = """
import json, os, sys, fastapi, requests, uvicorn, uvloop
print(json.dumps([sys.version_info[:2], sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python with the servers' packages. `places` are its paths and the neutral ones, longest first."""

    path: str
    version: str
    places: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Spy:
    path: str
    version: str


@dataclass(frozen=True)
class Shot:
    """One file to write: which py-spy dumps which process how, and what its name says beyond the versions."""

    spy: Spy
    pid: int
    form: str = "txt"
    suffix: str = ""


def main() -> int:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--python", action="append", help="an interpreter (default: this one)")
    parser.add_argument("--py-spy", action="append", help="a py-spy (default: this environment's)")
    parser.add_argument("--only", action="append", help="a server's name (default: all)")
    parser.add_argument("--out", type=Path, default=zoo.HERE / "dumps")
    options = parser.parse_args()
    try:
        beside = str(Path(sys.executable).with_name("py-spy"))
        spies = sorted(map(spy, options.py_spy or [beside]), key=lambda one: version_key(one.version))
        pythons = [interpreter(path) for path in options.python or [sys.executable]]
        wanted = options.only or [name for folder in zoo.FOLDERS for name in zoo.names(folder)]
        for name in wanted:
            capture(zoo.truth(name), pythons, spies, options.out)
    except (
        zoo.ZooError,
        zoo.lab.LabError,
        zoo.postgres.PostgresError,
        LookupError,
        OSError,
        subprocess.SubprocessError,
    ) as error:
        print(f"capture_dumps: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def interpreter(path: str) -> Interpreter:
    """Ask a Python where it lives. Raises ZooError where it lacks a package."""
    asked = subprocess.run([path, "-c", FACTS], capture_output=True, text=True)
    if asked.returncode:
        why = asked.stderr.strip().splitlines()[-1:]
        raise zoo.ZooError(
            f"{path} cannot run the servers: {' '.join(why)}\n"
            f"Next: {path} -m pip install fastapi uvicorn requests uvloop"
        )
    (major, minor), prefix, base, real = json.loads(asked.stdout)
    places = {prefix: "/srv/venv"}
    places.update({one: "/usr/local" for one in (base, real) if not one.startswith("/usr")})
    return Interpreter(path, f"{major}.{minor}", tuple(sorted(places.items(), key=lambda one: -len(one[0]))))


def spy(path: str) -> Spy:
    """Ask a py-spy for its version. Raises ZooError where there is none."""
    try:
        answer = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise zoo.ZooError(f"{path} is no py-spy.\nNext: pip install py-spy, or --py-spy PATH") from None
    return Spy(path, answer.split()[-1])


def version_key(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def capture(truth: zoo.Truth, pythons: list[Interpreter], spies: list[Spy], out: Path) -> None:
    """Hang one server under each interpreter and loop that the rules above name, and write its dumps."""
    plain = truth.folder.name == "hung"
    for python in pythons:
        if not plain and python.version not in SOME:
            continue
        loops = ("asyncio", "uvloop") if plain and python.version in FULL else ("asyncio",)
        for loop in loops:
            with zoo.hang(truth.name, python=python.path, loop=loop) as hung:
                shoot(hung, python, shots(hung, python, spies, loop), out)
        if truth.name == "none" and python.version in SOME:
            with zoo.hang("none", python=python.path, args=("--workers", "2")) as hung:
                family = [(hung.pid, "-supervisor"), (worker(hung), "-worker")]
                shoot(hung, python, [Shot(spies[-1], pid, suffix=suffix) for pid, suffix in family], out)


def shots(hung: zoo.Hung, python: Interpreter, spies: list[Spy], loop: str) -> list[Shot]:
    plain = hung.truth.folder.name == "hung"
    suffix = ("" if loop == "asyncio" else f"-{loop}") + ("" if plain else f"-{hung.truth.name}")
    ill = hung.ill
    taken = [Shot(spies[-1], ill, suffix=suffix)]
    if loop == "asyncio" and python.version in FULL:
        taken.append(Shot(spies[-1], ill, "json", suffix))
    if loop == "asyncio" and python.version in OLDER and plain:
        taken += [Shot(one, ill, suffix=suffix) for one in spies[:-1]]
    return taken


def worker(hung: zoo.Hung) -> int:
    """A process that serves for the supervisor `hung`, once both of its workers have started."""
    started = "Application startup complete"
    zoo.wait_until(lambda: hung.server.log.read_text().count(started) == 2, 20, hung, "start two workers")
    children = psutil.Process(hung.pid).children()
    return next(child.pid for child in children if "spawn_main" in " ".join(child.cmdline()))


def shoot(hung: zoo.Hung, python: Interpreter, taken: list[Shot], out: Path) -> None:
    """Take the dumps of a server, and write them if the symptom was there to the end."""
    texts = [dump(shot) for shot in taken]
    if not any(texts):
        raise zoo.ZooError(f"No py-spy could read {hung.truth.name} under Python {python.version}")
    if not hung.holds():
        raise zoo.ZooError(f"{hung.truth.name} recovered while it was dumped: nothing was written")
    places = [(str(hung.truth.folder), "/srv/app"), *python.places]
    for shot, text in zip(taken, texts):
        stem = f"py{python.version}-pyspy{shot.spy.version}".replace(".", "") + shot.suffix
        file = out / hung.truth.cause / f"{stem}.{shot.form}"
        if not text:
            print(f"skipped {file.name}: py-spy {shot.spy.version} could not read it", file=sys.stderr)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if shot.form == "json":
            file.with_suffix(".truth.json").write_text(json.dumps(answer(text, hung.truth), indent=2) + "\n")
        marked = text if shot.form == "json" else annotate(text, hung.truth)
        file.write_text(neutral(marked, places))
        print(file, flush=True)


def dump(shot: Shot) -> str:
    """What py-spy prints, or nothing where it cannot read the process."""
    command = [shot.spy.path, "dump", "--pid", str(shot.pid), *(["--json"] if shot.form == "json" else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 and done.stdout.strip() else ""


def neutral(text: str, places: list[tuple[str, str]]) -> str:
    """The text with each path of this machine replaced by a neutral one."""
    for path, name in places:
        text = re.sub(re.escape(path) + r"(?=[/\s\"):]|$)", name, text)
    return text


def annotate(text: str, truth: zoo.Truth) -> str:
    """The dump with the mark behind the first frame that stands on a marked line of the server.

    Threads are printed innermost frame first, so this is the innermost one of the first thread at fault.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines):
        frame = FRAME.match(line)
        if frame and (frame["file"], int(frame["line"])) in truth.marked:
            lines[number] += f"  {zoo.MARK}{truth.cause}"
            return "\n".join(lines) + "\n"
    if truth.marked:
        raise zoo.ZooError(f"{truth.name}: no frame stands on {truth.marked}:\n{text}")
    return "\n".join(lines) + "\n"


def answer(text: str, truth: zoo.Truth) -> dict:
    """What a diagnosis must say of a JSON dump: state, cause, and the thread and frame it must name."""
    for thread in json.loads(text):
        for frame in thread["frames"]:
            if (frame["short_filename"], frame["line"]) in truth.marked:
                named = {"function": frame["name"], "file": frame["short_filename"], "line": frame["line"]}
                found = {"thread": thread["os_thread_id"], "frame": named}
                return {"state": truth.state, "cause": truth.cause, **found}
    if truth.marked:
        raise zoo.ZooError(f"{truth.name}: no frame stands on {truth.marked}:\n{text}")
    return {"state": truth.state, "cause": truth.cause, "thread": None, "frame": None}


if __name__ == "__main__":
    sys.exit(main())
