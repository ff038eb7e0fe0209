"""The zoo is what it says: every dump agrees with its server. test_live shows that each hangs as it claims."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import capture_dumps
import zoo
from by_folder import by_folder
from hangdebug import causes
from hangdebug.evidence.paste import read

CAUSES = {cause.id for cause in causes.CAUSES}
DUMPS = zoo.HERE / "dumps"
SERVERS = [name for folder in zoo.FOLDERS for name in zoo.names(folder)]
TEXTS = sorted(DUMPS.glob("*/*-pyspy*.txt"))
OTHERS = sorted(set(DUMPS.glob("*/*.txt")) - set(TEXTS))  # other tools' formats: capture_formats.py takes them
JSONS = sorted(path for path in DUMPS.glob("*/*.json") if not path.name.endswith(".truth.json"))


def test_servers_causes_and_dump_folders_are_the_same_set():
    assert {name.replace("_", "-") for name in zoo.names("hung")} == CAUSES
    assert {zoo.truth(name).cause for name in zoo.names("hung")} == CAUSES
    assert {path.name for path in DUMPS.iterdir()} == CAUSES


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_marks_its_blocking_line_unless_it_is_healthy(name):
    truth = zoo.truth(name)
    if not truth.needs_kernel:  # an open stream, say, has no line in any stack
        assert bool(truth.marked) == (truth.state != "healthy")
    assert bool(truth.symptom or truth.signal) == (truth.state != "healthy")


@pytest.mark.live
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running_when_the_harness_is_ended(end, tmp_path):
    code = (
        "import time, zoo\n"
        "with zoo.hang('file_io') as hung:\n"
        "    print(hung.pid, *zoo.lab.descendants(hung.pid), flush=True)\n"
        "    time.sleep(60)\n"
    )
    scratch = {**os.environ, "TMPDIR": str(tmp_path)}  # SIGKILL leaves files, and they belong here
    harness = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=zoo.HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=scratch,
    )
    with harness:
        family = [int(pid) for pid in harness.stdout.readline().split()]
        harness.send_signal(end)
    assert len(family) == 2 and zoo.gone(family)


@pytest.mark.live
def test_a_server_that_does_not_hang_is_refused(tmp_path, monkeypatch):
    (tmp_path / "hung").mkdir()
    healthy = (zoo.HERE / "hung" / "none.py").read_text()
    (tmp_path / "hung" / "fine.py").write_text(healthy.replace("CONTROL", "SYMPTOM"))
    monkeypatch.setattr(zoo, "HERE", tmp_path)
    symptomless = pytest.raises(zoo.ZooError, match="fine should show its symptom; it did not within 1 s")
    with symptomless, zoo.hang("fine", timeout=1):
        pass


def test_a_mark_of_another_cause_is_refused(tmp_path, monkeypatch):
    (tmp_path / "hung").mkdir()
    (tmp_path / "hung" / "odd.py").write_text('STATE = "loop-blocked"\nCAUSE = "lock"\nwait()  # <-- sleep\n')
    monkeypatch.setattr(zoo, "HERE", tmp_path)
    with pytest.raises(ValueError, match=r"odd.py:3 is marked sleep, but CAUSE is lock"):
        zoo.truth("odd")


def test_an_unknown_server_is_told_the_known_ones():
    with pytest.raises(LookupError, match=r"No server is called 'slep'\. There are: .*sleep"):
        zoo.truth("slep")


@by_folder(TEXTS)
def test_a_text_dump_marks_the_line_that_its_server_marks(dump):
    truth = zoo.server_of(dump)
    marked = [line for line in dump.read_text().splitlines() if zoo.MARK in line]
    assert len(marked) == (1 if truth.marked else 0)
    for line in marked:
        bare, mark, cause = line.partition(f"  {zoo.MARK}")
        frame = capture_dumps.FRAME.match(bare)
        assert mark and cause == truth.cause == dump.parent.name
        assert (frame["file"], int(frame["line"])) in truth.marked


@by_folder(OTHERS)
def test_a_dump_of_another_tool_marks_the_line_that_its_server_marks(dump):
    """Some print the source line too, which holds the server's own mark."""
    truth = zoo.server_of(dump)
    marked = {
        (Path(frame.file).name, frame.line)
        for one in read(dump.read_text())
        for thread in one.threads
        for frame in thread.frames
        if frame.note == f"{zoo.MARK}{truth.cause}"
    }
    assert marked <= {(Path(file).name, line) for file, line in truth.marked}
    assert bool(marked) == bool(truth.marked)


@by_folder(JSONS)
def test_a_json_dump_has_the_truth_beside_it(dump):
    truth = zoo.server_of(dump)
    beside = json.loads(dump.with_suffix(".truth.json").read_text())
    assert beside == capture_dumps.answer(dump.read_text(), truth)
    assert (beside["frame"] is not None) == bool(truth.marked)


def test_every_cause_has_dumps_of_every_python_and_of_every_kind():
    for cause in CAUSES:
        found = {path.name for path in (DUMPS / cause).iterdir()}
        wanted = {f"py{python}-pyspy043.txt" for python in ("39", "310", "311", "312", "313")}
        both = ("311", "313")
        wanted |= {f"py{python}-pyspy043{end}" for python in both for end in ("-uvloop.txt", ".json")}
        assert wanted <= found


def test_no_dump_names_a_path_of_the_machine_that_took_it():
    path = re.compile(r"(?<![\w.>-])/[\w.-]+/[^\s\"):]*")
    everywhere = ("/srv/", "/usr/", "/build/", "/etc/ssl/", "/lib/x86_64-linux-gnu/")  # the same on any such machine
    for dump in [*TEXTS, *OTHERS, *JSONS]:
        foreign = [one for one in path.findall(dump.read_text()) if not one.startswith(everywhere)]
        assert not foreign, dump


@pytest.mark.live
def test_the_capture_command_takes_and_marks_a_dump(tmp_path):
    command = [sys.executable, "capture_dumps.py", "--only", "sleep", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=zoo.HERE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = sorted(tmp_path.glob("sleep/*.txt"))
    assert written and all("(sleep.py:33)  # <-- sleep\n" in file.read_text() for file in written)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong, told",
    [
        (["--only", "slep"], "No server is called 'slep'"),
        (["--py-spy", "/nowhere/py-spy"], "/nowhere/py-spy is no py-spy"),
        (["--python", "/nowhere/python"], "/nowhere/python"),
    ],
)
def test_the_capture_command_explains_a_wrong_argument(wrong, told):
    command = [sys.executable, "capture_dumps.py", *wrong]
    done = subprocess.run(command, cwd=zoo.HERE, capture_output=True, text=True)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
