"""Run the rewrites over files and folders: one diff for a tree, or a list of what they would do.

A folder is searched for `*.py` and `*.ipynb`; hidden folders, virtual environments, installed packages and what the
settings exclude are left out. What cannot be read or parsed in there is said and skipped, but for what holds no word
that a rule looks for: it is not parsed. A file that you name yourself must be readable, and to be rewritten, parsed.
"""

from __future__ import annotations

import ast
import bisect
import contextlib
import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Union

from hangdebug.errors import BadRequest, BadSource, ours
from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.findings import LINE
from hangdebug.repair.code.layout import is_left_out, python_files
from hangdebug.repair.fix import concerns_any, decode, propose, propose_text, read
from hangdebug.repair.model import Finding, Patch
from hangdebug.repair.settings import Settings

ALL = Settings()
NOTEBOOK = ".ipynb"
WORTH_A_PROCESS = 20  # files: below that a second process costs more than it saves
TOLD = 50  # files from one word of the progress to the next


@dataclass(frozen=True)
class Place:
    """A file or folder as it was named, and the line (from 1) if one was."""

    path: str
    line: int | None = None


@dataclass(frozen=True)
class Job:
    """A file to look at, the line if one was named, and whether the file itself was named, not a folder around it."""

    path: str
    line: int | None
    named: bool


Look = Callable[[Job], Union[Patch, BadSource, str]]


def parse_place(text: str) -> Place:
    """`app.py:14` is line 14 of app.py, unless a file has that very name."""
    head, colon, tail = text.rpartition(":")
    return Place(head, int(tail)) if colon and tail.isdecimal() and not Path(text).exists() else Place(text)


def patches_for(
    places: Sequence[str], diagnosis: str | None, skipped: list[str], stdin_name: str | None = None, **how: Any
) -> Iterator[Patch]:
    """The patches for the places, or for the blocking frame of a diagnosis in JSON. See `patches` for `how`.

    The place "-" is standard input, `stdin_name` what it is called.
    """
    if list(places) == ["-"]:
        return iter([patch_of_input(stdin_name or "-", **how)])
    if diagnosis is not None:
        spot, fix = from_diagnosis(diagnosis)
        return iter(patches_where_it_blocks(spot, fix))
    named = [parse_place(text) for text in places]
    return iter(patches_where_it_blocks(named[0], "")) if is_a_line(named) else patches(named, skipped, **how)


def is_a_line(places: Sequence[Place]) -> bool:
    """Whether one line was named, and nothing else: it is looked at whatever the settings say."""
    return len(places) == 1 and places[0].line is not None


def from_diagnosis(text: str) -> tuple[Place, str]:
    """The blocking frame of a diagnosis in JSON, and the rewrite for its cause or "". Raises BadRequest."""
    again = f"{ours('diagnose', '--pid', 'PID', '--json')} > diagnosis.json"
    try:
        answer = json.loads(text)
        frame = answer["blocking_frame"]
        file, line = str(frame["file"]), frame["line"]
        fix = (answer.get("remedy") or {}).get("fix") or ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(
            "It names no blocking frame.", "It is no diagnosis in JSON, or none was found.", again
        ) from error
    if not Path(file).is_file():
        raise BadRequest(
            f"The blocking frame is in {file}, which is not here.",
            "The diagnosis was made on another machine, or from short names.",
            ours("fix", f"YOUR/COPY/OF/{Path(file).name}:{line}"),
        )
    return Place(file, line if isinstance(line, int) else None), fix


def patches_where_it_blocks(one: Place, fix: str) -> list[Patch]:
    """The patches for a line that was seen to block: of the coroutine around it, or of those that call its function.

    `fix` is the rewrite that suits the cause; where it finds nothing, or none is named, every rule is tried.
    """
    from hangdebug.repair.callers import hand_callers_to_threads, no_caller_found, plain_function_at

    name = plain_function_at(one.path, one.line) if one.line else ""
    if one.line and name and not found_anything(propose(one.path, one.line, exact=True)):
        moved, handed = hand_callers_to_threads(one.path, one.line, list(python_files(tree_around(one.path))))
        if moved or handed:
            return moved
    patch = propose(one.path, one.line, (fix,)) if fix else None
    patch = patch if patch and found_anything(patch) else propose(one.path, one.line)
    if one.line and name and not found_anything(patch):
        patch = replace(patch, findings=(no_caller_found(one.path, one.line, name),))
    return [patch]


def found_anything(patch: Patch) -> bool:
    """Whether a rule found anything, and not only the note that nothing stands there."""
    return any(item.rule != "fix" for item in patch.findings)


def tree_around(path: str) -> str:
    """The folder whose files may call what the file defines: that of the outermost package, or the current one."""
    folder = Path(path).resolve().parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    inside = Path.cwd() == folder or Path.cwd() in folder.parents
    return os.curdir if inside else str(folder)


def patches(
    places: Iterable[Place],
    skipped: list[str],
    settings: Settings = ALL,
    *,
    force_exclude: bool = False,
    listed: bool = False,
    jobs: int = 1,
    tell: Callable[[int, int], None] | None = None,
    failed: list[BadSource] | None = None,
) -> Iterator[Patch]:
    """A Patch for each file, once, in order of their paths. What cannot be parsed in a folder goes to `skipped`.

    With `listed` a patch holds findings and no text. `jobs` is the number of processes; `tell` hears how many files
    are done, of how many. A file that was named and cannot be read goes to `failed`, or else BadSource is raised.
    """
    look = partial(patch_or_error, settings=settings, listed=listed)
    files = list(files_of(places, settings, force_exclude))
    for done, found in enumerate(in_order(look, files, jobs), 1):
        if tell and (not done % TOLD or done == len(files)) and len(files) > TOLD:
            tell(done, len(files))
        if isinstance(found, str):
            skipped.append(found)
        elif isinstance(found, BadSource) and failed is not None:
            failed.append(found)
        elif isinstance(found, BadSource):
            raise found
        else:
            yield found


def files_of(places: Iterable[Place], settings: Settings, force_exclude: bool) -> Iterator[Job]:
    """Each file once."""
    seen: set[str] = set()
    for one in places:
        folder = Path(one.path).is_dir() and one.line is None
        for path in sources_below(one.path, settings) if folder else [one.path]:
            real = os.path.realpath(path)
            if (real in seen and one.line is None) or (force_exclude and settings.leaves_out(path)):
                continue
            seen.add(real)
            yield Job(path, one.line, not folder)


def sources_below(folder: str, settings: Settings) -> Iterator[str]:
    """The `*.py` and `*.ipynb` below a folder, without what is hidden, installed or excluded."""
    for here, folders, files in os.walk(folder):
        folders[:] = [
            each
            for each in sorted(folders)
            if not is_left_out(here, each) and not settings.leaves_out(os.path.join(here, each))
        ]
        for name in sorted(files):
            path = os.path.normpath(os.path.join(here, name))
            if name.endswith((".py", NOTEBOOK)) and not name.startswith(".") and not settings.leaves_out(path):
                yield path


def patch_or_error(job: Job, settings: Settings, listed: bool) -> Patch | BadSource | str:
    """The patch of one file; why there is none, as an error where the file was named, in words where it was found."""
    path, line, named = job.path, job.line, job.named
    try:
        text = read(path)[0]
        found = patch_of(path, text, settings, line, listed, named)
        return Patch(path, "", "", found.findings) if listed else found
    except BadSource as error:
        return error if named else f"{error.what} {error.why}".strip()


def patch_of(
    path: str, text: str, settings: Settings, line: int | None = None, listed: bool = False, named: bool = True
) -> Patch:
    """The patch of one file or notebook, whose text need not be on disk. Raises BadSource."""
    only = settings.ids_for(path)
    if not only or ((listed or not named) and "async" not in text and not concerns_any(text)):
        return Patch(path, text, text)
    if not path.endswith(NOTEBOOK):
        return propose_text(path, text, line, only, listed=listed)
    from hangdebug.repair.scan import code_of

    code = code_of(path, text)
    found = propose_text(path, code.text, None, only, listed=True).findings
    return Patch(path, text, text, tuple(code.in_cell(item) for item in found))


def patch_of_input(
    name: str, settings: Settings = ALL, force_exclude: bool = False, listed: bool = False, **_: object
) -> Patch:
    text, encoding = decode(name, sys.stdin.buffer.read())
    if force_exclude and settings.leaves_out(name):
        return Patch(name, text, text, encoding=encoding)
    return replace(patch_of(name, text, settings, listed=listed), encoding=encoding)


def in_order(look: Look, jobs: list[Job], processes: int) -> Iterator[Patch | BadSource | str]:
    """What `look` answers to each, in their order, by so many processes where there is enough to do for several."""
    processes = min(processes, len(jobs) // WORTH_A_PROCESS)
    if processes < 2:
        with no_garbage_collection():
            yield from map(look, jobs)
        return
    import concurrent.futures.process
    import multiprocessing

    way = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = concurrent.futures.ProcessPoolExecutor(processes, way, set_up_process)
    try:
        yield from pool.map(look, jobs, chunksize=4)
    except concurrent.futures.process.BrokenProcessPool as error:
        what = "A process that looked at files was ended from outside."
        raise BadRequest(what, "The memory may be short.", ours("fix", "--jobs", "1", "PATH")) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Without the garbage collector, which finds nothing in syntax trees and took half of the time of a large tree."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.freeze()
            gc.unfreeze()  # what was made meanwhile is old now: the collector need not look at once
            gc.enable()


def set_up_process() -> None:
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that the user sees


# -- the cells of notebooks ----------------------------------------------------------------------------
# The code of a notebook, as one text: what a cell imports, the next ones use.
#
# A finding in it is told by its cell and the line there, and is never rewritten: a notebook is JSON, and its cells may
# have been run in another order than they stand in.

BY_HAND = "; cells of a notebook are not rewritten: do it by hand"
MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w.]+\?\s*$).*$", re.M)  # a line for IPython: `%time f()`, `!ls`, `f?`
ASSIGNED = re.compile(r"^(\s*[\w, ]+=\s*)[%!].*$", re.M)  # files = !ls
WHOLE = re.compile(r"\s*%%(?!time\b|timeit\b|capture\b|prun\b)")  # a cell in another language


@dataclass(frozen=True)
class Code:
    """`text` holds the cells one after the other; `starts` the first line of each there, `numbers` its number."""

    text: str
    starts: list[int]
    numbers: list[int]

    def place(self, line: int) -> tuple[int, int]:
        """The cell that holds the line, from 1, and the line in that cell."""
        at = max(0, bisect.bisect_right(self.starts, line) - 1)
        return self.numbers[at], line - self.starts[at] + 1

    def in_cell(self, item: Finding) -> Finding:
        cell, line = self.place(item.line)

        def moved(found: re.Match[str]) -> str:
            other, there = self.place(int(found[1]))
            return f"line {there}" + f" of cell {other}" * (other != cell)

        words = LINE.sub(moved, item.message) + BY_HAND * (not item.refused)
        return replace(item, cell=cell, line=line, message=words, refused=True, stays="")


def code_of(name: str, text: str) -> Code:
    """The cells that hold Python. Raises BadSource for what is no notebook of version 4."""
    try:
        cells = json.loads(text)["cells"]
        sources = [(at, "".join(cell["source"])) for at, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what, why = f"{name} is no notebook that can be read.", "It is not JSON with `cells`, as version 4 has them."
        raise BadSource(what, why, f"jupyter nbconvert --to notebook {name}") from error
    parts, starts, numbers, line = [], [], [], 1
    for number, source in sources:
        plain = python_of(source)
        if plain:
            parts.append(plain.rstrip("\n") + "\n")
            starts.append(line)
            numbers.append(number)
            line += parts[-1].count("\n")
    return Code("".join(parts), starts, numbers)


def python_of(source: str) -> str:
    """The cell with its lines for IPython made empty, "" where what is left is no Python."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if WHOLE.match(source):
        return ""
    for plain in (source, ASSIGNED.sub(r"\1None", MAGIC.sub(r"\1pass", source))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(plain)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return plain
    return ""
