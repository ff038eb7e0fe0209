"""Every Python that serves: embedded, frozen, traced, beside another interpreter; and programs that run none.

Each live test builds its target. HANG_TARGETS names a Python that has what is not in the lock (uWSGI, PyInstaller,
Nuitka); what is missing is skipped, with the reason.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import lab
import practice
import servers
import zoo
import zoo_matrix
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import bundle, proc, pyspy
from hangdebug.capture.interpreter import runtimes, stacks
from hangdebug.capture.interpreter.layout import NOT_STARTED, measured_specimen
from hangdebug.capture.interpreter.memory import MappedFile
from hangdebug.capture.interpreter.objects import KNOWN_ROWS, known_layout
from hangdebug.capture.interpreter.runtimes import (
    holds_unnamed_python,
    is_plain_interpreter,
    is_python,
    read_image,
    runtime_of,
)
from hangdebug.capture.interpreter.tasks import NOT_KNOWN, probe, tasks_of
from hangdebug.capture.processes import Target, on_port, resolve
from hangdebug.errors import HangError, MissingTool, NoProcess, NotPermitted, NotPython
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.frames import is_application
from hangdebug.evidence.model import Frame, KernelWait
from hangdebug.evidence.paste import read
from hangdebug.observe import observe_briefly

HERE = Path(__file__).parent
PACKED = os.environ.get("HANG_TARGETS", sys.executable)
SERVES = """
import sys
from wsgiref.simple_server import make_server
from in_uwsgi import application
server = make_server("127.0.0.1", 0, application)
with open(sys.argv[1], "a") as started:
    started.write("x")
print("Serving on http://127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
"""
SLEEPS = "import time\ndef wait_here():\n    time.sleep(600)\nprint('READY', flush=True)\nwait_here()\n"
TRACES = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
seized = libc.ptrace(0x4206, int(sys.argv[1]), None, None)  # PTRACE_SEIZE: it runs on
print("READY" if seized == 0 else "REFUSED", flush=True)
time.sleep(600)
"""


def watched(target: Target) -> Diagnosis:
    return worst(map(diagnose, observe_briefly(target, lambda line: None)))


@contextmanager
def running(*command: str, said: re.Pattern[str] = zoo.PRINTED) -> Iterator[lab.Server]:
    server = lab.launch(list(command), HERE, {}, said, 30)
    try:
        yield server
    finally:
        server.stop(grace=0.0)
        server.log.unlink(missing_ok=True)


@contextmanager
def frozen(program: Path, starts: Path) -> Iterator[lab.Server]:
    """A frozen server that serves /hang; each start of it leaves a letter in `starts`."""
    with running(str(program), str(starts), said=practice.SCRIPT) as server, ExitStack() as clients:
        client = subprocess.Popen(["curl", "-s", "-m", "600", f"{server.url}/hang"], stdout=subprocess.DEVNULL)
        clients.callback(client.wait)
        clients.callback(client.kill)
        practice.wait_until(lambda: zoo.ask(server.url, "/", 0.5) == "silence", 20, server, "hang")
        yield server


def is_right(answer: Diagnosis, server: str | None = None) -> None:
    frame = answer.blocking_frame
    assert (answer.state, answer.cause) == ("sync-worker-blocked", "socket"), answer.summary
    assert frame is not None and frame.function in ("ask_for_stock", "ask_bank") and answer.process.server == server


def by_port(hung: zoo.Hung | lab.Server) -> Target:
    return on_port(int(hung.url.rpartition(":")[2]))


def needs(module: str) -> None:
    if not servers.has(module, PACKED):
        pytest.skip(f"{module} is not installed for {PACKED}. Next: name a Python that has it in HANG_TARGETS")


# -- servers that embed Python -------------------------------------------------------------------------


@pytest.mark.live
@pytest.mark.parametrize("processes", ["1", ""])
def test_uwsgi_is_found_by_its_master_a_worker_and_the_port(processes: str) -> None:
    if not (Path(PACKED).parent / "uwsgi").is_file():
        pytest.skip(f"uWSGI is not beside {PACKED}. Next: name a Python that has it in HANG_TARGETS")
    with zoo.hang("in_uwsgi", python=PACKED, args=(processes,) if processes else ()) as hung:
        workers = [pid for pid in resolve(hung.pid).workers if pid != hung.pid]
        assert len(workers) == int(processes or 2)
        for target in (resolve(hung.pid), resolve(workers[0]), by_port(hung)):
            answer = watched(target)
            is_right(answer, "uwsgi")
            assert answer.process.pid in workers and answer.confidence > 0.8
            assert answer.thread is not None  # its number is its own, though it was forked with the master's
            assert str(answer.thread.os_id) in os.listdir(f"/proc/{answer.process.pid}/task")


@pytest.mark.live
def test_mod_wsgi_is_found_by_apaches_master_and_the_port() -> None:
    if zoo.missing("in_mod_wsgi") or not Path("/usr/lib/apache2/modules/mod_wsgi.so").exists() or os.geteuid():
        pytest.skip("It needs root, Apache and mod_wsgi. Next: apt-get install apache2 libapache2-mod-wsgi-py3")
    with zoo.hang("in_mod_wsgi") as hung:
        assert not is_python(hung.pid)  # the library is mapped there, and no interpreter runs
        for target in (resolve(hung.pid), by_port(hung)):
            answer = watched(target)
            is_right(answer, "mod_wsgi")
            assert any("2 interpreters" in doubt for doubt in answer.doubts)


@pytest.mark.live
def test_the_threads_of_granian_that_serve_wsgi_are_known() -> None:
    if zoo.missing("in_granian"):
        pytest.skip(zoo.missing("in_granian"))
    with zoo.hang("in_granian") as hung:
        for target in (resolve(hung.pid), by_port(hung)):
            is_right(watched(target), "granian")


def test_one_free_thread_of_a_server_in_c_serves_the_next_request() -> None:
    full = read_bundle(HERE / "bundles" / "in_uwsgi.tar.gz")[1]
    is_right(diagnose(full), "uwsgi")
    free = max(one.os_id for one in full.snapshots[-1].threads)
    polling = KernelWait("epoll_wait", (full.process.polls[0], 0, 1, 1000), state="S")
    snapshots = tuple(
        replace(
            snapshot,
            threads=tuple(replace(one, frames=()) if one.os_id == free else one for one in snapshot.threads),
        )
        for snapshot in full.snapshots
    )
    readings = [replace(one, waits={**one.waits, free: polling}) for one in (*full.readings, *full.attached)]
    count = len(full.readings)
    some = replace(full, snapshots=snapshots, readings=tuple(readings[:count]), attached=tuple(readings[count:]))
    answer = diagnose(some)
    assert (answer.state, answer.evidence[0]) == ("healthy", "1 thread waits for requests.") and answer.doubts


STOPS_LISTENING = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as server:
    print(f"Serving on http://127.0.0.1:{server.getsockname()[1]}", flush=True)
    client, _ = server.accept()
client.sendall(b"accepted")
time.sleep(600)
"""


@pytest.mark.live
def test_a_server_that_no_longer_listens_is_found_by_what_it_still_holds() -> None:
    with running(sys.executable, "-c", STOPS_LISTENING, said=practice.SCRIPT) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.recv(8)
            with pytest.raises(NoProcess, match="any more") as caught:
                on_port(port)
        assert f"Process {server.pid} " in caught.value.why and caught.value.next.endswith(f"--pid {server.pid}")


@pytest.mark.live
def test_a_child_of_the_application_is_looked_at_by_port_no_more_than_by_pid() -> None:
    with zoo.hang("full_stderr") as hung:
        target = by_port(hung)
        assert target.supervisor == hung.pid and len(target.workers) == 2
        for _ in range(2):  # to look at the child would end its write, and so the hang
            answer = watched(by_port(hung))
            assert (answer.state, answer.cause) == ("tasks-waiting", "subprocess")


# -- frozen applications -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    shutil.copy(HERE / "situations" / "in_uwsgi.py", folder)
    (folder / "shop.py").write_text(SERVES, encoding="utf-8")
    return folder


@pytest.mark.live
@pytest.mark.parametrize("form", ["--onedir", "--onefile"])
def test_an_application_frozen_by_pyinstaller_is_read_and_not_started_again(form: str, application: Path) -> None:
    needs("PyInstaller")
    command = [
        PACKED,
        "-m",
        "PyInstaller",
        "--log-level",
        "ERROR",
        form,
        "--distpath",
        form[2:],
        "-n",
        "shop",
        "shop.py",
    ]
    subprocess.run(command, cwd=application, check=True, capture_output=True, timeout=300)
    program = application / form[2:] / "shop"
    starts = application / f"starts{form}"
    with frozen(program if form == "--onefile" else program / "shop", starts) as server:
        for target in (resolve(server.pid), by_port(server)):
            is_right(watched(target))
        assert is_python(server.pid) == (form == "--onedir")  # else it is the boot loader
    assert starts.read_text() == "x"


@pytest.mark.live
@pytest.mark.skipif(not os.environ.get("HANG_LONG"), reason="it compiles for minutes; `make zoo` asks for it")
def test_an_application_compiled_by_nuitka_is_read_and_not_started_again(application: Path) -> None:
    needs("nuitka")
    command = [PACKED, "-m", "nuitka", "--standalone", "--quiet", "--assume-yes-for-downloads", "shop.py"]
    subprocess.run(command, cwd=application, check=True, capture_output=True, timeout=900)
    starts = application / "starts-nuitka"
    with frozen(application / "shop.dist" / "shop.bin", starts) as server:
        for target in (resolve(server.pid), by_port(server)):
            is_right(watched(target))
    assert starts.read_text() == "x"


def test_nuitkas_copy_of_the_standard_library_is_no_application() -> None:
    assert not is_application(Frame("BaseServer.serve_forever", "/opt/shop.dist/socketserver.py"))
    assert is_application(Frame("ask_for_stock", "/opt/shop.dist/orders.py"))


LAUNCHER = """
int Py_BytesMain(int, char **);
int main(int count, char **words) {
    static char *own[] = {"python3", "SCRIPT", 0};
    return Py_BytesMain(2, own);
}
"""


@pytest.mark.live
def test_a_launcher_with_arguments_of_its_own_is_not_started_again(tmp_path: Path) -> None:
    library = Path(sys.base_prefix) / "lib" / f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so"
    if not shutil.which("cc") or not library.exists():
        pytest.skip("It needs a compiler and Python as a library. Next: apt-get install gcc libpython3-dev")
    starts, program = tmp_path / "starts", tmp_path / "python3"
    (tmp_path / "shop.py").write_text(f"open({str(starts)!r}, 'a').write('x')\n{SLEEPS}")
    (tmp_path / "shop.c").write_text(LAUNCHER.replace("SCRIPT", str(tmp_path / "shop.py")))
    where = str(library.parent)
    command = ["cc", "-O2", "shop.c", "-o", str(program), f"-L{where}", f"-l{library.stem[3:]}", f"-Wl,-rpath,{where}"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert not is_plain_interpreter(str(program))
    with running(str(program)) as server:
        watched(resolve(server.pid))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hangdebug.capture.interpreter.tasks.known_layout", lambda pid: None)
            assert NOT_KNOWN in tasks_of(server.pid).note
            probe(server.pid)
            assert NOT_STARTED in tasks_of(server.pid).note
    assert starts.read_text() == "x"


def test_pythons_own_program_is_told_from_others() -> None:
    real = os.path.realpath(sys.executable)
    assert is_plain_interpreter(real) or os.uname().machine != "x86_64"
    assert not is_plain_interpreter(os.path.realpath("/bin/sh"))
    assert not is_plain_interpreter(__file__) and not is_plain_interpreter("/nowhere")


@pytest.mark.parametrize("appended", [b"MEI\014\013\012\013\016" + bytes(4096)])
def test_a_program_with_something_appended_is_not_pythons_own(tmp_path: Path, appended: bytes) -> None:
    (tmp_path / "python").write_bytes(Path(os.path.realpath(sys.executable)).read_bytes() + appended)
    assert not is_plain_interpreter(str(tmp_path / "python"))


# -- which Python ---------------------------------------------------------------------------------------


def test_this_process_is_python_by_what_it_has_mapped() -> None:
    found = runtime_of(os.getpid())
    assert found is not None and found.kind == "CPython" and found.interpreters == 1
    assert found.version == ".".join(map(str, sys.version_info[:2]))


def test_what_is_mapped_from_far_away_is_opened_by_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = runtime_of(os.getpid()), []

    def answer(what: str, pid: int, file: MappedFile) -> object:
        asked.append(what)
        return pickle.loads(pickle.dumps(runtimes.image_of(*pickle.loads(pickle.dumps((pid, file))))))

    monkeypatch.setattr(runtimes, "far_mounts", lambda process: frozenset({""}))
    monkeypatch.setattr(runtimes.aside, "ask", answer)
    assert runtime_of(os.getpid()) == whole and set(asked) == {"hangdebug.capture.interpreter.runtimes:image_of"}

    def silence(*words: object) -> object:
        raise OSError(errno.ETIMEDOUT, "its file system does not answer")

    monkeypatch.setattr(runtimes.aside, "ask", silence)
    monkeypatch.setattr(runtimes, "image_at", silence)
    found = runtime_of(os.getpid())
    assert found is None or found.at is None


def test_a_file_is_read_as_elf_or_not_at_all(tmp_path: Path) -> None:
    whole = Path(os.path.realpath(sys.executable)).read_bytes()
    for size in (0, 3, 64, len(whole) // 2, len(whole) - 100):
        (tmp_path / "part").write_bytes(whole[:size])
        image = read_image(str(tmp_path / "part"), ["main"])
        assert image is None or image.defined is not None
    assert read_image(str(tmp_path), ["main"]) is None


def test_a_file_that_gets_shorter_while_it_is_read_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is mapped the kernel answers with SIGBUS: it is deployed anew, or on a failing disk."""
    place, honest, names = tmp_path / "part", os.pread, ["main", "Py_Initialize"]
    whole = Path(os.path.realpath(sys.executable)).read_bytes()
    place.write_bytes(whole)
    intact = read_image(str(place), names)
    assert intact is not None
    for left in range(1, 9):
        place.write_bytes(whole)
        asked = []

        def shortens(file: int, size: int, at: int, left: int = left, asked: list[int] = asked) -> bytes:
            asked.append(at)
            if len(asked) == left:
                os.truncate(place, 100)
            return honest(file, size, at)

        monkeypatch.setattr(os, "pread", shortens)
        image = read_image(str(place), names)
        monkeypatch.undo()
        # what it is in the end, where that was read before; else nothing, and never a part for the whole
        assert image == (None if len(asked) >= left else intact), left


def test_of_tables_that_say_more_than_any_program_has_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "MOST_READ", 5000)
    assert read_image(os.path.realpath(sys.executable), ["main"]) is None


@pytest.mark.live
@pytest.mark.parametrize("path", zoo_matrix.found_pythons())
def test_a_known_layout_is_the_one_that_is_measured(path: str) -> None:
    with running(path, "-c", f"import asyncio\n{SLEEPS}") as server, measured_specimen(server.pid) as one:
        found = known_layout(server.pid)
        assert found == (one.layout if one.layout.version in KNOWN_ROWS else None)


@pytest.mark.live
def test_pypy_is_named() -> None:
    if not shutil.which("pypy3"):
        pytest.skip("PyPy is not here. Next: apt-get install pypy3")
    with running("pypy3", "-c", SLEEPS) as server, pytest.raises(NotPython, match="runs PyPy") as caught:
        resolve(server.pid)
    assert "faulthandler" in caught.value.why
    assert "your decision" in caught.value.next


@pytest.mark.live
def test_a_program_that_runs_no_python_is_named(tmp_path: Path) -> None:
    shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "python3")
    with subprocess.Popen([str(tmp_path / "python3"), "600"]) as other:
        try:
            assert not is_python(other.pid) and not holds_unnamed_python(other.pid)
            with pytest.raises(NotPython, match="is not a Python process"):
                resolve(other.pid)
        finally:
            other.kill()


SECTIONS = (40, 8), (58, 6)  # where an ELF file says where its sections are, how many, and which one names them


@pytest.mark.live
def test_a_python_without_symbols_is_named_with_the_way_that_remains(tmp_path: Path) -> None:
    real = [os.path.realpath(path) for path in (sys.executable, "/usr/bin/python3", *zoo_matrix.found_pythons())]
    program = next((path for path in real if os.path.exists(path) and b"PYTHONHASHSEED" in Path(path).read_bytes()), "")
    if not program:
        pytest.skip("each Python here is a library, which keeps its symbols. Next: apt-get install python3")
    whole = bytearray(Path(program).read_bytes())
    for at, size in SECTIONS:
        whole[at : at + size] = bytes(size)
    (tmp_path / "shop").write_bytes(whole)
    (tmp_path / "shop").chmod(0o755)
    env = {**os.environ, "PYTHONHOME": str(Path(program).parent.parent)}
    with subprocess.Popen([str(tmp_path / "shop"), "-c", "input()"], stdin=subprocess.PIPE, env=env) as server:
        try:
            time.sleep(0.5)
            assert holds_unnamed_python(server.pid)
            with pytest.raises(NotPython, match="was stripped") as caught:
                watched(resolve(server.pid))
        finally:
            server.kill()
    assert "faulthandler" in caught.value.why and "your decision" in caught.value.next


@pytest.mark.live
def test_a_packed_program_is_named_with_the_way_that_remains(tmp_path: Path) -> None:
    whole = bytearray(Path(shutil.which("sleep") or "/bin/sleep").read_bytes())
    whole[9:13] = b"UPX!"  # a packer's mark, where an ELF file has bytes that nobody reads
    (tmp_path / "shop").write_bytes(whole)
    (tmp_path / "shop").chmod(0o755)
    with subprocess.Popen([str(tmp_path / "shop"), "600"]) as server:
        try:
            with pytest.raises(NotPython, match="is packed") as caught:
                resolve(server.pid)
        finally:
            server.kill()
    assert "faulthandler" in caught.value.why and "your decision" in caught.value.next


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("is_stripped", [False, True])
def test_a_python_that_needs_no_library_at_all_is_read(is_stripped: bool, tmp_path: Path) -> None:
    asked = ("LIBPL", "LIBRARY", "INCLUDEPY")
    place, library, headers = (str(sysconfig.get_config_var(name)) for name in asked)
    if not shutil.which("gcc") or not Path(place, library).is_file():
        pytest.skip("It takes gcc and libpython as an archive. Next: apt-get install gcc, and a Python built with it")
    (tmp_path / "main.c").write_text("#include <Python.h>\nint main(int c, char **v) { return Py_BytesMain(c, v); }\n")
    words = ["gcc", "-static", "-no-pie", "-o", "python", "main.c", f"-I{headers}", str(Path(place, library))]
    done = subprocess.run([*words, "-lm", "-lpthread", "-ldl", "-lutil"], cwd=tmp_path, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"It cannot be linked here: {done.stderr[-300:]}")
    if is_stripped:
        subprocess.run(["strip", "python"], cwd=tmp_path, check=True)
    (tmp_path / "app.py").write_text(SLEEPS)
    command = ["env", f"PYTHONHOME={sys.base_prefix}", str(tmp_path / "python"), "-S", str(tmp_path / "app.py")]
    with running(*command) as server:
        assert ".so" not in Path(f"/proc/{server.pid}/maps").read_text()
        answer = watched(resolve(server.pid))
    assert answer.blocking_frame is not None and answer.blocking_frame.function == "wait_here"
    assert answer.cause == "sleep"


@pytest.mark.live
def test_python_under_another_name_is_python(tmp_path: Path) -> None:
    renames = f"import ctypes; ctypes.CDLL(None).prctl(15, b'shop'); {SLEEPS.splitlines()[0]}"
    with running(sys.executable, "-c", "\n".join([renames, *SLEEPS.splitlines()[1:]])) as server:
        assert is_python(server.pid) and resolve(server.pid).workers == (server.pid,)


MANY = f"""
import threading
try:
    import _xxsubinterpreters as several
except ImportError:
    import _interpreters as several
one = several.create()
threading.Thread(target=several.run_string, args=(one, {SLEEPS!r}), daemon=True).start()
{SLEEPS.replace("print('READY', flush=True)", "")}
"""


@pytest.mark.live
def test_only_one_of_several_interpreters_is_read_and_that_is_said() -> None:
    with running(sys.executable, "-c", MANY) as server:
        answer = watched(resolve(server.pid))
    assert any("2 interpreters" in doubt and "newest" in doubt for doubt in answer.doubts)


SAYS_WHERE = [path for path in zoo_matrix.found_pythons() if zoo_matrix.version_of(path) in stacks.PLACES]


@pytest.mark.live
@pytest.mark.parametrize("path", SAYS_WHERE)
def test_the_threads_of_all_interpreters_are_read_where_the_process_says_where_they_are(path: str) -> None:
    with running(path, "-c", MANY) as server:
        (evidence,) = observe_briefly(resolve(server.pid), lambda line: None)
    assert not any("interpreters" in note for note in evidence.notes)
    innermost = {one.frames[0].name for one in evidence.snapshots[-1].threads}
    assert innermost == {"wait_here"} and len(evidence.snapshots[-1].threads) == 2
    inner = next(one for one in evidence.snapshots[-1].threads if one.name != "MainThread")
    assert [frame.name for frame in inner.frames[-3:]] == ["run", "_bootstrap_inner", "_bootstrap"]


WAITS_IN_MAIN = """
import asyncio
try:
    import _xxsubinterpreters as several
except ImportError:
    import _interpreters as several
one = several.create()
async def main():
    asyncio.create_task(asyncio.Event().wait(), name="in the main one")
    await asyncio.sleep(0.1)
    print("READY", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.live
@pytest.mark.parametrize("path", zoo_matrix.found_pythons())
def test_the_tasks_of_all_interpreters_are_read(path: str) -> None:
    with running(path, "-c", WAITS_IN_MAIN) as server:
        found = tasks_of(server.pid)
    assert "in the main one" in [task.name for task in found.tasks], found.note


@pytest.mark.live
@pytest.mark.parametrize("path", SAYS_WHERE)
def test_a_stack_from_memory_is_the_one_of_pyspy(path: str) -> None:
    with running(path, "-c", f"import asyncio\n{SLEEPS}") as server:
        (ours,) = read(stacks.dump(server.pid) or "")
        (theirs,) = read(pyspy.dump(server.pid))
    assert [one.frames for one in ours.threads] == [one.frames for one in theirs.threads]
    assert ours.threads[0].os_id == server.pid and ours.threads[0].name == "MainThread"


@pytest.mark.live
def test_where_pyspy_fails_a_process_that_says_where_its_stacks_are_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    if not SAYS_WHERE:
        pytest.skip("It needs Python 3.13 or newer. Next: python tests/newer_python.py")
    monkeypatch.setattr(pyspy, "run_pyspy", Spy((1, "", "Error: Unsupported version of Python: 3.99.0")))
    with running(SAYS_WHERE[0], "-c", SLEEPS) as server:
        (evidence,) = observe_briefly(resolve(server.pid), lambda line: None, 1)
    assert any("from its memory" in note for note in evidence.notes)
    assert evidence.snapshots[-1].threads[0].frames[0].name == "wait_here"


# -- attaching -------------------------------------------------------------------------------------------


@pytest.mark.live
def test_a_traced_process_is_read_and_who_traces_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.py").write_text(SLEEPS)
    with (
        running(sys.executable, str(tmp_path / "shop.py")) as server,
        running(sys.executable, "-c", TRACES, str(server.pid)) as tracer,
    ):
        if "REFUSED" in tracer.log.read_text():
            pytest.skip("the kernel lets nobody trace here")
        assert proc.tracer_of(server.pid)[0] == tracer.pid
        lines: list[str] = []
        answer = worst(map(diagnose, observe_briefly(resolve(server.pid), lines.append)))
        assert answer.blocking_frame is not None and answer.blocking_frame.function == "wait_here"
        for said in (answer.doubts, lines):
            assert any(f"process {tracer.pid} (" in line and "has to let go" in line for line in said)
        monkeypatch.setattr(pyspy, "without_pause", lambda pid: [])
        with pytest.raises(NotPermitted, match=f"is traced by process {tracer.pid}") as caught:
            pyspy.dump(server.pid)
    assert "sudo" not in str(caught.value)


DUMP = '[{"pid": 7, "thread_id": 1, "thread_name": null, "os_thread_id": 7, "active": false, "frames": []}]'


class Spy:
    """py-spy that fails so often, and then gives a dump."""

    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self.answers = list(answers)

    def __call__(self, pid: int, words: list[str]) -> subprocess.CompletedProcess[str]:
        status, output, errors = self.answers.pop(0) if self.answers[1:] else self.answers[0]
        return subprocess.CompletedProcess(words, status, output, errors)


FAILED = (1, "", "Error: Failed to find a python interpreter in the .data section")


@pytest.mark.slow
def test_a_look_that_fails_by_chance_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "run_pyspy", Spy(*[FAILED] * 6, (0, "[]", ""), (0, DUMP, "")))
    missed: list[str] = []
    assert pyspy.dump(os.getpid(), missed.append) == DUMP
    assert len(missed) == 7 and "interpreter" in missed[0] and "no thread" in missed[-1]


def test_a_look_that_always_fails_is_told_with_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "PATIENCE", 0.2)
    monkeypatch.setattr(pyspy, "run_pyspy", Spy(FAILED))
    with pytest.raises(
        HangError, match=r"could not read the stacks of process(.|\n)*\d looks at different moments failed"
    ):
        pyspy.dump(os.getpid())


@pytest.mark.parametrize("said", ["", "{", "7", '[{"x": 1}]', "hello", "[" * 100_000])
def test_what_is_no_dump_is_a_sentence(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "run_pyspy", Spy((0, said, "")))
    with pytest.raises(HangError) as caught:
        pyspy.dump(os.getpid())
    assert "There is no stack in this text" not in str(caught.value)


@pytest.mark.parametrize("script", ["echo hello", "echo", "exit 3", "sleep 60"])
def test_a_program_that_is_no_pyspy_is_a_sentence(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "py-spy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(pyspy, "program", lambda: str(program))
    monkeypatch.setattr(pyspy, "TIMEOUT", 0.3)
    with pytest.raises(MissingTool, match="py-spy"):
        pyspy.version()


FAULTS = {  # what py-spy does, and what the sentence begins with
    "crashes": ((-11, "", ""), "py-spy crashed while it read process", "ended by SIGSEGV"),
    "panics": (
        (101, "", "thread 'main' panicked at src/main.rs:1"),
        "py-spy crashed while it read process",
        "panicked",
    ),
    "prints nonsense": ((0, "hello", ""), "What py-spy printed about process", "hello"),
    "prints half": ((0, '[{"frames"', ""), "What py-spy printed about process", "frames"),
    "is too old for this Python": ((1, "", "Error: Unsupported version of Python: 3.13.0"), "Process", "3.13.0"),
    "is too old for an option": (
        (1, "", "error: Found argument '--json' which wasn't expected"),
        "This py-spy",
        "json",
    ),
    "may not": ((1, "", "Error: Permission Denied: Try running again with elevated permissions"), "The kernel", "user"),
    "gives no reason": ((1, "", ""), "py-spy could not read the stacks", "status 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_pyspy_has_a_sentence_of_its_own(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done, begins, why = FAULTS[fault]
    monkeypatch.setattr(pyspy, "run_pyspy", Spy(done))
    with pytest.raises(HangError) as caught:
        pyspy.dump(os.getpid())
    assert caught.value.what.startswith(begins) and why in caught.value.why and caught.value.next
    others = [one for one in FAULTS.values() if one[1] != begins]
    assert not any(caught.value.what.startswith(one[1]) for one in others if one[1] != "Process")


@pytest.mark.live
def test_a_pyspy_that_hangs_is_ended_in_time_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "py-spy"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path / 'pid'}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(pyspy, "program", lambda: str(program))
    monkeypatch.setattr(pyspy, "LAST_CHANCE", 0.1)
    with pytest.raises(HangError, match=r"gave no answer about process \d+ within 0.3 s"):
        pyspy.run_pyspy(os.getpid(), ["dump"], 0.3)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_process_that_runs_no_python_code_is_a_dump() -> None:
    (found,) = read(DUMP)
    assert (found.pid, len(found.threads), found.threads[0].frames) == (7, 1, ())


def test_the_number_of_another_processs_thread_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, here = json.loads(DUMP), threading.get_native_id()

    def corrected(address: int) -> tuple[dict[str, object], int]:
        rows[0].update(thread_id=address, os_thread_id=os.getppid())
        text, wrong = proc.dump_with_our_ids(os.getpid(), json.dumps(rows))
        return json.loads(text)[0], wrong

    ours, wrong = corrected(threading.get_ident())
    assert (ours["os_thread_id"], ours["active"], wrong) == (here, None, 1)
    monkeypatch.setattr(proc, "threads_by_inner_id", lambda pid: {here: here, here + 1: here + 1})
    assert corrected(8)[0]["os_thread_id"] is None  # of two, its own cannot be found
    monkeypatch.setattr(proc, "threads_by_inner_id", lambda pid: {here: here})
    assert corrected(8)[0]["os_thread_id"] == here  # it can be no other


def test_a_remark_is_kept_once_and_is_a_doubt_of_its_process_alone(tmp_path: Path) -> None:
    for _ in range(2):
        bundle.add_remark(tmp_path, "it was in the way")
    assert (tmp_path / "remarks.txt").read_text() == "it was in the way\n"
