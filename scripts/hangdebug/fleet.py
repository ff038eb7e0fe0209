"""Many bundles: brought here from where they lie or were taken, and read by every core, or by workers of Dask.

    read(places(["fleet/", "s3://evidence/news/*.tar.gz"]), jobs=2, say=print)       a Fleet
    collect(Kubectl("app=news", "shop"), Path("fleet"), limit=8, say=print)          a bundle a pod

Beside a bundle may lie what its carrier knows of it: pod-1.about.json beside pod-1.tar.gz, {"host": "", "version": ""}.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Callable, Protocol

from hangdebug import shipped
from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.answer.model import Trace
from hangdebug.errors import (
    BadBundle,
    BadRequest,
    HangError,
    MissingTool,
    NoProcess,
    called_as,
    our_program,
    ours,
    to_install,
)
from hangdebug.evidence import light as re
from hangdebug.evidence.bundle import is_bundle, json_object, read_bundle
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read as read_text
from hangdebug.evidence.paste import text_of
from hangdebug.evidence.source import with_sources
from hangdebug.files import MINE, make_folder, replacing, scratch_folder, thread_pool, write_whole
from hangdebug.repair.scan import no_garbage_collection
from hangdebug.report.fleet import Fleet, sighting
from hangdebug.report.text import json_text

PART = 25  # bundles that a worker gets at a time
AHEAD = 3  # parts that wait for each worker
ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
ABOUT = ".about.json"
REMOTE = "://"
STATUS = re.compile(r"command terminated with exit code \d+$")  # kubectl's own words for the status of what it ran
LAST_WORDS = 3  # lines of what kubectl said before it failed

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
    """Archives, and folders that are bundles themselves. The archive of such a folder beside it is the same bundle."""
    for where, inner, names in os.walk(folder):
        inner.sort()
        bundles = [name for name in inner if (Path(where) / name / "manifest.json").is_file()]
        inner[:] = [name for name in inner if name not in bundles]
        same = {f"{name}{ending}" for name in bundles for ending in ENDINGS}
        archives = [name for name in names if packed(name) and name not in same]
        yield from (os.path.join(where, name) for name in sorted([*bundles, *archives]))


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
    with no_garbage_collection():  # for a part: it finds little in evidence, and takes a fifth of the time
        for name in names:
            add_bundle(fleet, name, code)
    return fleet


def add_bundle(fleet: Fleet, name: str, code: str | None) -> None:
    try:
        found, about = evidence_at(name, code)
        answers = [diagnose(one) for one in found]
    except HangError as error:
        fleet.unread.append((name, f"{error.what} {error.why}".strip()))
        return
    fleet.bundles += 1
    for one, answer in zip(found, answers):
        pid = f" (process {one.process.pid or one.snapshots[-1].pid})" if len(found) > 1 else ""
        fleet.add(sighting(name + pid, one, answer, about), replace(answer, trace=Trace()))


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


# -- how they are brought here -------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A process on another machine: what its bundle is called, where it runs, and what is known of it."""

    name: str
    container: str = ""
    version: str = ""


class Carrier(Protocol):
    """What a fleet is reached with. Each method raises HangError; they are called for several targets at once."""

    def targets(self) -> Sequence[Target]:
        """All that run now."""

    def capture(self, target: Target) -> str:
        """Capture it where it runs, with capture.sh; the place of the packed bundle there."""

    def fetch(self, target: Target, place: str, to: Path) -> None:
        """Bring that file here, and remove it there."""


def collect(carrier: Carrier, out: Path, limit: int, say: Say) -> list[tuple[str, str]]:
    """A bundle of every target in `out`, `limit` of them at once; those that failed, with the reason.

    A bundle that is there is not taken again: the same call goes on where the last one ended.
    """
    targets = carrier.targets()
    known = [one for one in targets if (out / f"{one.name}.tar.gz").exists()]
    if known:
        say(f"{len(known):,} of {len(targets):,} bundles are in {out} already")
    make_folder(out)
    failed: list[tuple[str, str]] = []
    with thread_pool(limit) as pool:
        running = {pool.submit(bring, carrier, one, out): one for one in targets if one not in known}
        try:
            for count, done in enumerate(as_completed(running), 1):
                name = running[done].name
                try:
                    done.result()
                    say(f"{count:,} of {len(running):,}  {name}")
                except (HangError, OSError) as error:
                    failed.append((name, str(error)))
                    say(f"{count:,} of {len(running):,}  {name}: {error}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those that run end by their own time limit
            raise
    return failed


def bring(carrier: Carrier, target: Target, out: Path) -> None:
    """One bundle, whole or not at all: what was cut off on its way is fetched once more. Raises HangError, OSError."""
    place, bundle = carrier.capture(target), out / f"{target.name}.tar.gz"
    for again in (True, False):
        try:
            with replacing(bundle) as partial:
                carrier.fetch(target, place, partial)
                partial.chmod(MINE)
                read_bundle(partial)
            break
        except BadBundle:
            if not again:
                raise
    write_whole(about_path(bundle), json_text({"host": target.name, "version": target.version}))


NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")  # of anything in Kubernetes; here it becomes a file's name
# $1 is the pid, 0 for the first that is Python; $2 a place; the program comes through standard input.
TAKE = (
    'cat >"$2.sh"; p=$1; [ "$p" != 0 ] || for n in $(ls /proc | grep "^[0-9]*$" | sort -n); do '
    'case $(readlink "/proc/$n/exe") in *python*|*pypy*) p=$n; break ;; esac; done; '
    '[ "$p" != 0 ] || { echo "no process of Python is seen here: without SYS_PTRACE none of another user is, and one '
    'that has Python in it has another name: give its --pid." >&2; rm -f "$2.sh"; exit 2; }; '
    'sh "$2.sh" "$p" "$2" >&2; s=$?; rm -rf "$2.sh" "$2"; exit $s'
)
GIVE = 'cat "$1" && rm -f "$1"'
GET_PYSPY = "command -v py-spy >/dev/null || pip install -q --root-user-action=ignore py-spy >&2 || exit 2; "
STAYS = 900  # seconds: then an ephemeral container ends by itself


@dataclass(frozen=True)
class Kubectl:
    """The pods of a selector. Without `image`, py-spy has to be in the container, and the capability SYS_PTRACE; with
    it an ephemeral container of that image joins each pod, with this capability alone, and stays in the pod's list.

    `pid` is that in the container, 0 for the first that is Python. `most` is the seconds that one call may take.
    """

    selector: str
    namespace: str = ""
    context: str = ""
    container: str = ""
    image: str = ""
    pid: int = 0
    most: float = 60.0
    token: str = field(default_factory=lambda: os.urandom(4).hex())

    def targets(self) -> list[Target]:
        found = json_object(self.run("get", "pods", "--selector", self.selector, "--output", "json").decode())
        pods = [pod for pod in found.get("items", ()) if pod["status"].get("phase") == "Running"]
        if not pods:
            look = shlex.join(self.words("get", "pods", "--selector", self.selector))
            raise NoProcess(f"No pod runs with {self.selector}.", f"{len(found.get('items', ()))} were found.", look)
        return [self.target(pod) for pod in pods]

    def target(self, pod: Mapping[str, Any]) -> Target:
        name, inside = str(pod["metadata"]["name"]), pod["spec"]["containers"]
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name!r} is no name of a pod.", "What kubectl printed is not from Kubernetes.")
        usual = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        chosen = self.container or usual or inside[0]["name"]
        return Target(name, chosen, next((str(one["image"]) for one in inside if one["name"] == chosen), ""))

    def capture(self, target: Target) -> str:
        if self.image:
            self.join(target)
        program = Path(shipped("snippets")) / "capture.sh"
        self.run("exec", *self.taking(target, self.place), given=program.read_bytes())
        return f"{self.place}.tar.gz"

    def joining(self, target: Target) -> tuple[str, ...]:
        profile = str(Path(shipped("snippets")) / "debug.ephemeral.yaml")
        words = ("--image", self.image, "--target", target.container, "--container", self.joined, "--quiet")
        return ("debug", target.name, *words, "--profile=general", "--custom", profile, "--", "sleep", str(STAYS))

    def join(self, target: Target) -> None:
        """Add the ephemeral container, and wait until it runs. Raises HangError."""
        self.run(*self.joining(target))
        began = time.monotonic()
        state = f'{{.status.ephemeralContainerStatuses[?(@.name=="{self.joined}")].state.running.startedAt}}'
        while not self.run("get", "pod", target.name, "--output", f"jsonpath={state}").strip():
            if time.monotonic() - began > self.most:
                look = shlex.join(self.words("describe", "pod", target.name))
                raise NoProcess(f"{self.joined} did not start in {self.most:g} s.", "Its events say why.", look)
            time.sleep(1)

    def fetch(self, target: Target, place: str, to: Path) -> None:
        with to.open("wb") as file:
            self.run("exec", *self.at(target), "sh", "-c", GIVE, "sh", place, to=file)

    @property
    def place(self) -> str:
        return f"/tmp/hang-{self.token}"

    @property
    def joined(self) -> str:
        return f"hang-{self.token}"

    def taking(self, target: Target, place: str) -> tuple[str, ...]:
        """It reads capture.sh from its standard input."""
        take = (GET_PYSPY if self.image else "") + TAKE
        return ("--stdin", *self.at(target), "sh", "-c", take, "sh", str(self.pid), place)

    def at(self, target: Target) -> tuple[str, ...]:
        return (target.name, "--container", self.joined if self.image else target.container, "--")

    def plan(self, target: Target) -> Iterator[list[str]]:
        """What would be run for it, in order."""
        if self.image:
            yield self.words(*self.joining(target))
        yield self.words("exec", *self.taking(target, self.place))
        yield self.words("exec", *self.at(target), "sh", "-c", GIVE, "sh", f"{self.place}.tar.gz")

    def words(self, *words: str) -> list[str]:
        where = {"--context": self.context, "--namespace": self.namespace}
        return ["kubectl", *(part for name, value in where.items() if value for part in (name, value)), *words]

    def run(self, *words: str, given: bytes | None = None, to: BinaryIO | None = None) -> bytes:
        """What kubectl prints, `to` a file if one is given. Raises HangError with its last words."""
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
        how.update(stdout=to or subprocess.PIPE, stderr=subprocess.PIPE, timeout=self.most)
        called = self.words(*words)
        try:
            done = subprocess.run(called, check=False, **how)
        except FileNotFoundError as error:
            raise MissingTool("kubectl is not on PATH.", "", "apt-get install kubernetes-client") from error
        except subprocess.TimeoutExpired as error:
            again = self.again("--seconds", f"{2 * self.most:g}")
            raise NoProcess(f"kubectl {words[0]} did not end in {self.most:g} s.", "", again) from error
        if done.returncode:
            told = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if not STATUS.match(line)]
            # What to do there would be no help here.
            why = " ".join(line.partition(" Next: ")[0] for line in told[-LAST_WORDS:])
            why = why or f"Its exit status is {done.returncode}."
            raise NoProcess(f"kubectl {words[0]} failed.", why, self.next(words))
        return bytes(done.stdout or b"")

    def next(self, words: Sequence[str]) -> str:
        """The command that may help: to see what kubectl says, to have py-spy and the capability, or to try again."""
        if words[0] != "exec":
            return shlex.join(self.words(*words[: words.index("--")] if "--" in words else words))
        joins = "   # adds an ephemeral container with SYS_PTRACE, which stays in the pod's list: your decision"
        return self.again() if self.image else self.again("--image", "python:3.12-slim") + joins

    def again(self, *more: str) -> str:
        given = {"--namespace": self.namespace, "--context": self.context, "--image": self.image}
        same = [part for name, value in given.items() if value and name not in more for part in (name, value)]
        return ours("fleet", "kubectl", "--selector", self.selector, *same, *more)
