"""What is written is whole or not there, is for its user alone, and what cannot be written is a sentence."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from hangdebug import cli, files
from hangdebug.capture import bundle
from hangdebug.capture.processes import Target
from hangdebug.errors import CannotWrite, NotPermitted
from hangdebug.observe import observe_briefly
from hangdebug.repair.proof.pressure import keep_check
from hangdebug.repair.proof.verify import Verification
from hangdebug.report import page
from hangdebug.report import text as report_text
from hangdebug.report.incident import gather
from hangdebug.report.recording import write_files

ROOT = Path(__file__).parents[1]
DUMP = ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
STEPS = ("mkdir", "open", "write", "replace")


class Disk:
    """A disk that refuses the `number`-th step from 0 on of all that are made on it."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, error: int) -> None:
        self.left, self.error, self.refused = number, error, ""
        patch.setattr(files.os, "open", self.limited("open", os.open))
        patch.setattr(files.os, "replace", self.limited("replace", os.replace))
        patch.setattr(files.Path, "mkdir", self.limited("mkdir", Path.mkdir))
        fdopen = os.fdopen

        def opened(*words: Any, **options: Any) -> Any:
            found = fdopen(*words, **options)
            return Output(found, self.limited("write", found.write)) if words[1:] == ("wb",) else found

        patch.setattr(files.os, "fdopen", opened)

    def limited(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def limited(*words: Any, **options: Any) -> Any:
            if step == "open" and not words[1] & os.O_CREAT:
                return call(*words, **options)
            self.left -= 1
            if self.left < 0:
                self.refused = self.refused or step
                raise OSError(self.error, os.strerror(self.error), str(words[0]))
            return call(*words, **options)

        return limited


class Output:
    def __init__(self, file: Any, write: Callable[..., Any]) -> None:
        self.file, self.write = file, write
        self.flush = file.flush

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()


def make_report(place: Path) -> None:
    page.write(gather(DUMP), place / "deep" / "report")


def make_recording(place: Path) -> None:
    write_files(place / "recording", {"stacks.txt": b"x", "flame.svg": b"<svg/>"})


def keep_verification(place: Path) -> None:
    keep_check(Verification((), 2.0), place / "kept" / "check.json")


def pack_bundle(place: Path) -> None:
    bundle.start_folder(place / "evidence")
    bundle.add_note(place / "evidence", "a note")
    bundle.pack(place / "evidence")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("write", [make_report, make_recording, keep_verification, pack_bundle])
def test_a_disk_that_refuses_any_step_is_a_sentence_and_leaves_nothing_half(
    write: Callable[[Path], None], error: int, tmp_path: Path
) -> None:
    refused = set()
    for number in itertools.count():
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, number, error)
            try:
                write(place)
            except CannotWrite as caught:
                sentence = caught
                assert os.strerror(error) in sentence.why and sentence.what.endswith("cannot be written.")
                assert sentence.next.startswith("df -h" if error == errno.ENOSPC else "ls -ld")
        assert not list(place.rglob("*.part"))
        if not disk.refused:
            break
        refused.add(disk.refused)
    assert refused == set(STEPS)


@pytest.mark.live
@pytest.mark.slow
def test_a_capture_on_a_disk_that_fills_up_keeps_what_is_whole(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        try:
            for number in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
                place = tmp_path / str(number)
                with pytest.MonkeyPatch.context() as patch:
                    Disk(patch, number, errno.ENOSPC)
                    with pytest.raises(CannotWrite, match="cannot be written"):
                        bundle.capture(Target((process.pid,)), place)
                assert not list(place.rglob("*.part"))
        finally:
            process.kill()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_what_is_written_is_its_users_alone_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        for write in (make_report, make_recording, keep_verification, pack_bundle):
            write(tmp_path)
    finally:
        os.umask(before)
    found = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {"deep/report/report.html", "evidence.zip", "evidence/manifest.json", "kept/check.json"} <= found.keys()
    assert {
        name: mode for name, mode in found.items() if mode != (0o700 if (tmp_path / name).is_dir() else 0o600)
    } == {}


CALLER = 54321  # a user and a group that nobody has


@pytest.fixture
def by_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of the user who called sudo."""
    if os.geteuid() != 0:
        pytest.skip("Only root can give a file away. Next: as root")
    os.chown(tmp_path, CALLER, CALLER)
    monkeypatch.setenv("SUDO_UID", str(CALLER))
    monkeypatch.setenv("SUDO_GID", str(CALLER))
    return tmp_path


def test_what_sudo_wrote_belongs_to_the_user_who_called_it(by_sudo: Path) -> None:
    for write in (make_report, make_recording, keep_verification, pack_bundle):
        write(by_sudo)
    files.hand_over()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in by_sudo.rglob("*")} == {(CALLER, CALLER)}


def test_nothing_is_given_away_but_what_is_new_and_in_the_callers_folder(by_sudo: Path) -> None:
    roots = by_sudo / "roots"
    roots.mkdir()
    (by_sudo / "old").write_text("root's, as it was before")
    for place in (by_sudo / "linked", by_sudo / "replaced", roots / "inside"):
        files.write_whole(place, "new")
    os.link(by_sudo / "linked", roots / "second name")
    (by_sudo / "replaced").unlink()
    (by_sudo / "replaced").symlink_to(by_sudo / "old")
    files.hand_over()
    assert {path.name for path in by_sudo.rglob("*") if path.lstat().st_uid == CALLER} == set()


def test_a_capture_that_is_refused_leaves_nothing_in_the_way_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, missed: object) -> str:
        raise NotPermitted("The kernel does not let you attach.")

    monkeypatch.setattr(bundle.pyspy, "dump", refuse)
    monkeypatch.setattr(bundle.pyspy, "version", str)
    (tmp_path / "there").mkdir()
    for place in (tmp_path / "there", tmp_path / "new"):
        with pytest.raises(NotPermitted):
            bundle.capture(Target((os.getpid(),)), place)
        assert not place.exists() or not list(place.iterdir())


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "report.md"
    files.write_whole(place, "old")
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, 1, errno.ENOSPC)
        with pytest.raises(CannotWrite):
            files.write_whole(place, "new")
    assert place.read_text() == "old" and os.listdir(tmp_path) == ["report.md"]


@pytest.fixture
def no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    return


def test_without_a_place_for_temporary_files_that_is_said(no_temporary_folder: None) -> None:
    with pytest.raises(CannotWrite, match="no folder for temporary files") as caught:
        observe_briefly(Target((os.getpid(),)), lambda line: None)
    assert "TMPDIR=" in caught.value.next


def test_a_file_where_a_folder_should_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(CannotWrite, match="taken/report cannot be written") as caught:
        files.make_folder(tmp_path / "taken" / "report")
    assert caught.value.next.startswith("ls -ld")


def test_a_full_disk_behind_the_output_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / "hang.py", "diagnose", DUMP], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2 and b"No space left on device" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", [None, "/srv/app.py"])
def test_what_the_system_refuses_is_not_blamed_on_the_output(
    name: str | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_more_processes(words: object) -> str:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), name)

    monkeypatch.setattr(report_text, "explanation_of", no_more_processes)
    monkeypatch.setattr(os, "dup2", lambda *files: None)
    assert cli.main(["explain", "lock"]) == 2
    said = capfd.readouterr().err
    assert "printed" not in said and "Resource temporarily unavailable" in said
    assert (f"{name} cannot be used" in said) if name else ("in no_more_processes (test_files.py:" in said)
    assert ("Next: ls -ld" in said) if name else ("Next: ulimit -a" in said)
