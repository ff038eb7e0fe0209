"""A file is read as the process sees it: no link leads out of its root, no right is lent, and nothing else is opened.

The process names the files, in its frames: it may be anybody's, and who looks at it is often root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.capture import proc, pyspy
from hangdebug.capture.interpreter.runtimes import runtime_of
from hangdebug.capture.processes import resolve
from hangdebug.errors import HangError
from hangdebug.evidence import as_seen
from hangdebug.evidence.source import file_lines
from hangdebug.observe import observe_briefly
from hangdebug.report.text import as_json

pytestmark = pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="It takes /proc. Next: run it on Linux")
HERE = Path(__file__).parent
SECRET, CODE = "the host's own", "time.sleep(1)"


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """What /proc/PID shows of a process in a container, whose root is a folder beside what belongs to the host."""
    root = tmp_path / "containers" / "one"
    (root / "srv" / "app").mkdir(parents=True)
    (root / "srv" / "app" / "main.py").write_text(CODE)
    (tmp_path / "containers" / "host.py").write_text(SECRET)
    seen = tmp_path / "process"
    seen.mkdir()
    (seen / "root").symlink_to(root)
    (seen / "cwd").symlink_to(root / "srv")
    (seen / "status").write_text("Name:\tx\nUid:\t7 7 7 7\nGid:\t8 8 8 8\nGroups:\t9 10\n")
    return seen


def test_a_file_is_found_below_its_root_and_from_its_folder(process: Path) -> None:
    for name in ("/srv/app/main.py", "app/main.py", "./app/../app/main.py", "//srv//app/./main.py"):
        assert file_lines(name, str(process)) == [CODE]
    assert file_lines("main.py", str(process)) == [] and file_lines("\0", str(process)) == []


def test_a_chroots_working_folder_is_named_as_it_is_outside(process: Path) -> None:
    assert os.readlink(process / "cwd").startswith(os.readlink(process / "root"))
    (process / "cwd").unlink()
    (process / "cwd").symlink_to("/srv")  # as of a process in a container
    assert file_lines("app/main.py", str(process)) == [CODE]


@pytest.mark.parametrize("target", ["/srv/app/main.py", "../app/main.py", "main.py", "../../../../srv/app/main.py"])
def test_a_link_leads_to_where_it_leads_the_process(target: str, process: Path) -> None:
    (process / "root" / "srv" / "app" / "link.py").symlink_to(target)
    (process / "root" / "current").symlink_to("/srv")
    assert file_lines("/srv/app/link.py", str(process)) == file_lines("/current/app/link.py", str(process)) == [CODE]


def test_no_link_and_no_name_leads_out_of_its_root(process: Path, tmp_path: Path) -> None:
    outside = tmp_path / "containers" / "host.py"
    app = process / "root" / "srv" / "app"
    (app / "absolute.py").symlink_to(outside)
    (app / "up.py").symlink_to("../../../host.py")
    (app / "folder").symlink_to("/../..")
    (app / "round.py").symlink_to("round.py")
    names = [f"/srv/app/{name}" for name in ("absolute.py", "up.py", "folder/host.py", "round.py", "../../../host.py")]
    assert [file_lines(name, str(process)) for name in (*names, str(outside), "../../host.py")] == [[]] * 7


def test_nothing_but_a_regular_file_is_opened(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = process / "root" / "srv" / "app"
    os.mkfifo(app / "pipe.py")
    began, honest, opened = time.monotonic(), os.open, []
    monkeypatch.setattr(as_seen.os, "open", lambda *words, **more: opened.append(words[1]) or honest(*words, **more))
    for name in ("/srv/app/pipe.py", "/srv/app", "/srv/app/main.py/x", "/nowhere"):
        assert file_lines(name, str(process)) == []
    assert time.monotonic() - began < 1 and opened and all(flags & os.O_PATH for flags in opened)


def test_no_more_is_read_than_the_processs_own_user_may(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_seen.os, "geteuid", lambda: 0)
    user = as_seen.user_of(str(process))
    assert user == as_seen.User(7, frozenset({8, 9, 10}))
    app = process / "root" / "srv" / "app"
    for folder in (process / "root", process / "root" / "srv", app):
        folder.chmod(0o755)
    for mode, lines in ((0o644, [CODE]), (0o600, []), (0o604, [CODE]), (0o640, [])):
        (app / "main.py").chmod(mode)
        assert file_lines("/srv/app/main.py", str(process)) == lines, oct(mode)
    (app / "main.py").chmod(0o644)
    app.chmod(0o700)
    assert file_lines("/srv/app/main.py", str(process)) == []


MOUNTS = """
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 21 0:40 / /srv/the\\040app rw,relatime shared:1 - nfs4 files:/app rw
31 21 0:41 / /srv/shm rw - tmpfs tmpfs rw
"""


def test_nothing_is_touched_of_a_file_system_that_others_answer_for(
    process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (process / "mountinfo").write_text(MOUNTS)
    assert as_seen.far_mounts(str(process)) == {"/srv/the app"} and as_seen.far_mounts("/nowhere") == set()
    (process / "root" / "srv" / "app").rename(process / "root" / "srv" / "the app")
    (process / "root" / "srv" / "app").symlink_to("the app")
    asked, honest, touched = [], os.open, []
    monkeypatch.setattr(as_seen.aside, "ask", lambda *words: asked.append(words) or b"of the other one")
    monkeypatch.setattr(as_seen.os, "open", lambda *words, **more: touched.append(words[0]) or honest(*words, **more))
    for name in ("/srv/the app/main.py", "/srv/app/main.py", "app/../app/main.py"):
        assert file_lines(name, str(process)) == ["of the other one"]
        assert asked.pop()[:3] == ("hangdebug.evidence.as_seen:read_here", str(process), name)
    assert "the app" not in touched and "main.py" not in touched
    (process / "mountinfo").write_text(MOUNTS.replace("ext4", "9p"))
    assert file_lines("/srv/nothing.py", str(process)) == ["of the other one"]
    assert as_seen.is_far("/anything", as_seen.far_mounts(str(process)))


@pytest.mark.live
def test_who_opens_what_is_far_away_answers_or_is_left_behind(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = as_seen.Aside()
    read = "hangdebug.evidence.as_seen:read_here"
    try:
        assert one.ask(read, str(process), "/srv/app/main.py", 4) == CODE[:4].encode()
        with pytest.raises(OSError, match="No such file"):
            one.ask(read, str(process), "/srv/app/none.py", 4)
        first = one.child
        monkeypatch.setattr(as_seen, "PATIENCE", 0.1)
        with pytest.raises(OSError, match="does not answer"):
            one.ask("time:sleep", 60)
        assert first is not None and first.wait(20) == -signal.SIGKILL and one.left == [first] and one.child is None
    finally:
        for left in filter(None, (one.child, *one.left)):
            left.kill()


@pytest.mark.parametrize(
    "mode, owner, group, may",
    [(0o400, 7, 0, True), (0o077, 7, 0, False), (0o040, 0, 9, True), (0o704, 0, 9, False), (0o004, 0, 0, True)],
)
def test_whose_rights_count(mode: int, owner: int, group: int, may: bool) -> None:
    found = os.stat_result((mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
    assert as_seen.User(7, frozenset({9})).may(as_seen.READ, found) == may
    assert as_seen.User().may(as_seen.READ, found)


# -- live ----------------------------------------------------------------------------------------------

NAMES_A_FILE = """
import sys
made = {}
exec(compile("\\n\\n\\ndef wait_here():\\n    import time; time.sleep(600)\\n", sys.argv[1], "exec"), made)
print("ready", flush=True)
made["wait_here"]()
"""


def shown_of(words: list[object], **options: object) -> str:
    """All that is said of a process of these words."""
    with subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, **options) as target:
        try:
            if not target.stdout.readline():
                pytest.skip("The other user may not start this Python. Next: install one in /usr/bin")
            found = observe_briefly(resolve(target.pid), lambda line: None)
            return as_json(worst(map(diagnose, found))) + repr([one.sources for one in found])
        finally:
            target.kill()


@pytest.mark.live
@pytest.mark.slow
def test_a_process_makes_root_read_nothing_that_it_may_not_read_itself(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv") or not Path("/usr/bin/python3").exists():
        pytest.skip("It takes root to become another user, and a Python for that. Next: sudo make test")
    place = Path("/etc/hang-test-secret")
    place.write_text("\n".join(f"{SECRET}, line {number}" for number in range(9)))
    place.chmod(0o600)
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    command = ["/usr/bin/python3", "-c", NAMES_A_FILE, place]
    try:
        assert SECRET in shown_of(command)  # root's own process may
        assert SECRET not in shown_of([*user, *command])
    finally:
        place.unlink()


@pytest.mark.live
def test_a_process_that_names_a_pipe_does_not_hold_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    began = time.monotonic()
    assert "wait_here" in shown_of([sys.executable, "-c", NAMES_A_FILE, tmp_path / "pipe.py"])
    assert time.monotonic() - began < 20


@pytest.mark.live
@pytest.mark.slow
def test_a_source_on_a_mount_that_does_not_answer_does_not_hold_us(tmp_path: Path) -> None:
    """Who reads there cannot be ended, not even by SIGKILL: it would be us."""
    place, began = tmp_path / "mount", time.monotonic()
    place.mkdir()
    with subprocess.Popen([sys.executable, HERE / "hung_mount.py", place], stdout=subprocess.PIPE) as mount:
        if mount.stdout.readline() != b"mounted\n":
            pytest.skip("Nothing can be mounted here. Next: as root, with /dev/fuse")
        ended = threading.Timer(60, mount.kill)  # or a reader that is held would hold this test
        ended.start()
        try:
            said, asked = shown_of([sys.executable, "-c", NAMES_A_FILE, place / "app.py"]), mount.stdout.readline()
        finally:
            ended.cancel()
            mount.kill()
            subprocess.run(["umount", "-l", place], check=False)
    assert "wait_here" in said and asked == b"asked\n" and time.monotonic() - began < 50


@pytest.mark.live
@pytest.mark.slow
def test_a_process_in_a_chroot_with_another_python_is_told_and_its_python_is_known(tmp_path: Path) -> None:
    """py-spy looks for its files in the wrong place."""
    if os.geteuid() != 0:
        pytest.skip("It takes root to change the root. Next: sudo make test")
    root, python = tmp_path / "root", Path(os.path.realpath(sys.executable))
    for part in (python, python.parents[1] / "lib"):
        target = root / "python" / part.relative_to(python.parents[1])
        target.parent.mkdir(parents=True, exist_ok=True)
        skip = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a", "config-*")
        shutil.copytree(part, target, ignore=skip, symlinks=True) if part.is_dir() else shutil.copy2(part, target)
    needed = [python, *(root / "python").rglob("_asyncio*.so"), *(root / "python").rglob("*.so")]
    said = subprocess.run(["ldd", *needed], capture_output=True, text=True, check=False).stdout
    for library in {word for word in said.split() if word.startswith("/") and not word.endswith(":")}:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        if not (root / library[1:]).exists():
            shutil.copy2(library, root / library[1:])
    code = "import asyncio; print('ready', flush=True); asyncio.run(asyncio.sleep(600))"
    env = {"LD_LIBRARY_PATH": "/python/lib"}
    command = ["chroot", root, f"/python/bin/{python.name}", "-c", code]
    with subprocess.Popen([*map(str, command)], env={**os.environ, **env}, stdout=subprocess.PIPE) as target:
        try:
            if not target.stdout.readline():
                pytest.skip("This Python does not run in a chroot. Next: another one")
            assert proc.chroot_of(target.pid) == str(root) and proc.chroot_of(os.getpid()) == ""
            found = runtime_of(target.pid)
            assert found is not None and found.interpreters == 1 and str(root) in found.file.path
            with pytest.raises(HangError, match="runs in a chroot") as caught:
                pyspy.dump(target.pid)
            assert caught.value.next.startswith(f"sudo chroot {root} py-spy dump")
        finally:
            os.kill(target.pid, signal.SIGKILL)
