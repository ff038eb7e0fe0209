"""Many bundles: brought here from where they lie or were taken, and read by every core, or by workers of Dask.

    read(places(["fleet/", "s3://evidence/news/*.tar.gz"]), jobs=2, say=print)       a Fleet
    collect(Kubectl("app=news", "shop"), Path("fleet"), limit=8, say=print)          a bundle a pod

Beside a bundle may lie what its carrier knows of it: pod-1.about.json beside pod-1.tar.gz, {"host": "", "version": ""}.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.answer.model import Trace
from hangdebug.errors import BadRequest, HangError, MissingTool, called_as, our_program, to_install
from hangdebug.evidence.bundle import is_bundle, json_object, read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read as read_text
from hangdebug.evidence.paste import text_of
from hangdebug.evidence.source import with_sources
from hangdebug.files import scratch_folder
from hangdebug.report.fleet import Fleet, sighting

PART = 25  # bundles that a worker gets at a time
AHEAD = 3  # parts that wait for each worker
ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
ABOUT = ".about.json"
REMOTE = "://"

Say = Callable[[str], None]
Told = Callable[[int, int], None]


# -- which bundles -------------------------------------------------------------------------------------


def places(words: Iterable[str]) -> list[str]:
    """The bundles that files, folders of bundles, and addresses of fsspec (with *) mean, sorted. Raises HangError."""
    found: list[str] = []
    for word in words:
        if REMOTE in word:
            found += far(word)
        elif os.path.isdir(word) and not (Path(word) / "manifest.json").is_file():
            found += below(word)
        else:
            found.append(word)
    if not found:
        raise BadRequest("There is no bundle.", f"Looked for folders with a manifest.json, and {', '.join(ENDINGS)}.")
    return found


def below(folder: str) -> Iterator[str]:
    """Archives, and folders that are bundles themselves."""
    for where, inner, names in os.walk(folder):
        inner.sort()
        bundles = [name for name in inner if (Path(where) / name / "manifest.json").is_file()]
        inner[:] = [name for name in inner if name not in bundles]
        yield from (os.path.join(where, name) for name in sorted([*bundles, *filter(packed, names)]))


def packed(name: str) -> bool:
    return name.endswith(ENDINGS)


def far(word: str) -> list[str]:
    """The archives at an address such as s3://bucket/folder. Raises HangError."""
    system, path = file_system(word)
    try:
        names = system.glob(path) if "*" in path else [path] if packed(path) else system.find(path)
    except Exception as error:  # each store has errors of its own
        raise BadRequest(f"{word} cannot be listed.", str(error) or type(error).__name__) from error
    return [system.unstrip_protocol(name) for name in sorted(names) if packed(name)]


def file_system(word: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingTool(f"{word} needs fsspec.", "It is not installed here.", to_install("fsspec")) from error
    try:
        system, path = url_to_fs(word)
    except (ImportError, ValueError) as error:  # s3fs is not there, or no such protocol
        raise MissingTool(f"{word} cannot be reached.", str(error), to_install("fsspec", "s3fs")) from error
    return system, path


# -- what they hold ------------------------------------------------------------------------------------


def read(names: Sequence[str], say: Told, jobs: int = 0, dask: str = "", code: str | None = None) -> Fleet:
    """Diagnose them all, by `jobs` processes (0: one a core), or by the workers of a Dask scheduler. Raises HangError.

    What cannot be read is noted. `say` is told how many are done, and of how many.
    """
    fleet = Fleet()
    parts = [names[at : at + PART] for at in range(0, len(names), PART)]

    def take() -> None:
        fleet.merge(waiting.popleft().result())
        say(fleet.bundles + len(fleet.unread), len(names))

    with workers(min(jobs or cores(), len(parts)), dask) as (submit, count):
        waiting: deque[Any] = deque()
        for part in parts:
            waiting.append(submit(read_part, part, code, our_program()))
            if len(waiting) > AHEAD * count:
                take()
        while waiting:
            take()
    return fleet


def read_part(names: Sequence[str], code: str | None, program: tuple[str, ...]) -> Fleet:
    """The same of a few, by one worker: what comes back is small, whatever the bundles hold.

    `program` is how who asked calls this engine: the commands in an answer are for there.
    """
    if program != our_program():
        called_as[:] = program
    fleet = Fleet()
    for name in names:
        try:
            found, about = evidence_at(name, code)
            answers = [diagnose(one) for one in found]
        except HangError as error:
            fleet.unread.append((name, f"{error.what} {error.why}".strip()))
            continue
        fleet.bundles += 1
        for one, answer in zip(found, answers):
            pid = f" (process {one.process.pid or one.snapshots[-1].pid})" if len(found) > 1 else ""
            fleet.add(sighting(name + pid, one, answer, about), replace(answer, trace=Trace()))
    return fleet


def evidence_at(name: str, code: str | None = None) -> tuple[tuple[Evidence, ...], dict[str, str]]:
    """Of one bundle or dump, here or at an address; and what its carrier said of it. Raises HangError."""
    with ExitStack() as stack:
        path = stack.enter_context(fetched(name)) if REMOTE in name else Path(name)
        found = read_bundle(path) if is_bundle(path) else evidence_of(read_text(text_of(str(path))))
        if code is not None:
            found = tuple(with_sources(one, Path(code)) for one in found)
        beside = about_path(path)
        said = json_object(text_of(str(beside))) if beside.is_file() else {}
    return found, {key: str(said[key]) for key in ("host", "version") if said.get(key)}


def about_path(bundle: Path) -> Path:
    stem = next((bundle.name[: -len(end)] for end in ENDINGS if bundle.name.endswith(end)), bundle.name)
    return bundle.with_name(stem + ABOUT)


@contextmanager
def fetched(name: str) -> Iterator[Path]:
    """A copy of what lies at an address, and of what is said of it, for as long as it is read. Raises BadRequest."""
    system, path = file_system(name)
    with scratch_folder() as folder:
        copy = folder / path.rpartition("/")[2]
        try:
            system.get_file(path, str(copy))
            beside = str(about_path(Path(path)))
            if system.exists(beside):
                system.get_file(beside, str(about_path(copy)))
        except Exception as error:  # each store has errors of its own
            raise BadRequest(f"{name} cannot be read.", str(error) or type(error).__name__) from error
        yield copy


# -- who reads them ------------------------------------------------------------------------------------


@contextmanager
def workers(jobs: int, dask: str) -> Iterator[tuple[Callable[..., Any], int]]:
    """What takes a function with its arguments and gives a future, and how many work at once."""
    if dask:
        with of_dask(dask) as client:
            yield partial(client.submit, pure=False), max(1, sum(client.nthreads().values()))
    elif jobs < 2:
        yield here_and_now, 1
    else:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(jobs) as pool:
            yield pool.submit, jobs


def here_and_now(function: Callable[..., Any], *arguments: Any) -> Any:
    from concurrent.futures import Future

    done: Future[Any] = Future()
    done.set_result(function(*arguments))
    return done


@contextmanager
def of_dask(address: str) -> Iterator[Any]:
    """A client of a scheduler, whose workers get this engine; "local" starts one, a worker a core. Raises HangError.

    A worker of its own process reads one bundle at a time: reading is computing.
    """
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingTool("Dask is not installed.", str(error), to_install("distributed", "fsspec")) from error
    with ExitStack() as stack:
        if address == "local":
            own = LocalCluster(n_workers=cores(), threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(own)
        try:
            client = stack.enter_context(Client(address, timeout="10s"))
        except (OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise BadRequest(f"The scheduler {address} does not answer.", why, "dask scheduler   # there") from error
        scratch = stack.enter_context(scratch_folder())
        engine = Path(__file__).parent
        shutil.make_archive(str(scratch / "hangdebug"), "zip", engine.parent, engine.name)
        client.upload_file(str(scratch / "hangdebug.zip"))
        yield client


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
