"""The command line as a user meets it: exit status, what is printed where, and no traceback whatever is given."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import zoo

ROOT = Path(__file__).parents[1]
HANG = ROOT / "scripts" / "hang.py"
DUMP = ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
KEYS = [
    "schema_version",
    "state",
    "cause",
    "confidence",
    "summary",
    "blocking_frame",
    "thread",
    "kernel_wait",
    "evidence",
    "doubts",
    "exonerated",
    "remedy",
    "process",
    "samples",
    "waits_for",
    "rule",
]


def hang(
    *words: object,
    stdin: str | bytes = "",
    cwd: Path | None = None,
    bare: bool = False,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-S", "-I"] if bare else []), str(HANG), *map(str, words)]
    raw = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(
        command, input=raw, capture_output=True, cwd=cwd, timeout=120, env={**os.environ, **(env or {})}
    )
    text = subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in text.stdout + text.stderr, text.stderr
    return text


def test_a_dump_on_standard_input_with_a_bare_python_from_elsewhere(tmp_path: Path) -> None:
    done = hang("diagnose", "-", "--json", stdin=DUMP.read_text(), cwd=tmp_path, bare=True)
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and list(answer) == KEYS
    assert (answer["state"], answer["cause"]) == ("loop-blocked", "executor-shutdown")
    assert answer["blocking_frame"] == {
        "function": "headlines",
        "file": "executor_shutdown.py",
        "line": 37,
        "source": None,
    }
    assert answer["thread"]["role"] == "event-loop" and answer["kernel_wait"] is None
    assert answer["remedy"]["fix"] == "nonblocking_executor" and answer["process"]["python"] == "3.11.7"


def test_text_and_markdown_give_the_answer_first() -> None:
    assert hang("diagnose", DUMP).stdout.startswith("loop-blocked / executor-shutdown   confidence 0.8")
    assert hang("diagnose", DUMP, "--markdown").stdout.startswith("## loop-blocked / executor-shutdown")


def test_explain_adds_how_the_answer_came_about_and_json_has_it_only_then() -> None:
    plain, more = hang("diagnose", DUMP).stdout, hang("diagnose", DUMP, "--explain").stdout
    assert more.startswith(plain) and "rules asked, in this order" in more[len(plain) :]
    assert more.endswith("as shown\n")
    answer = json.loads(hang("diagnose", DUMP, "--explain", "--json").stdout)
    assert list(answer) == [*KEYS, "explain"] and set(answer["explain"]) == {"asked", "steps"}
    done = hang("diagnose", DUMP, DUMP, "--explain")
    assert done.returncode == 2 and "--explain is for one source." in done.stderr


def test_a_dump_in_utf_16_is_read() -> None:
    done = hang("diagnose", "-", stdin=DUMP.read_text().encode("utf-16"))
    assert done.returncode == 0 and "executor-shutdown" in done.stdout


def test_what_a_dump_holds_never_reaches_the_terminal_as_control_characters() -> None:
    text = DUMP.read_text().replace("headlines", "head\x07\x1b]0;owned\x07lines\x9b2J")
    assert not [char for char in hang("diagnose", "-", stdin=text).stdout if char != "\n" and not char.isprintable()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("diagnose",),
        ("diagnose", "no-such-file"),
        ("diagnose", "-"),
        ("diagnose", ROOT / "LICENSE"),
        ("diagnose", ROOT / "snippets"),
        ("diagnose", "--pid", 2**31 - 1),
        ("diagnose", "--port", 1),
        ("diagnose", DUMP, "--port", 1),
        ("capture",),
        ("diagnose", DUMP, "--code", "no-such-folder"),
        ("capture", "--pid", 2**31 - 1),
        ("fix",),
        ("fix", "no-such.py"),
        ("fix", "--from", "no-such.json"),
        ("fix", "--from", ROOT / "LICENSE"),
        ("fix", ROOT / "LICENSE"),
        ("triage", "--pid", 2**31 - 1),
        ("verify", "--url", "ftp://x"),
        ("verify", "--url", "http://127.0.0.1:1/"),
        ("diagnose", "--pid", "THIS", "--save", ROOT),
    ],
    ids=lambda words: " ".join(str(word).rpartition("/")[2] for word in words),
)
def test_what_cannot_be_done_says_what_happened_and_what_to_run(words: tuple) -> None:
    done = hang(*(os.getpid() if word == "THIS" else word for word in words))
    assert done.returncode == 2 and done.stdout == ""
    assert "hang.py: " in done.stderr and "\nNext: " in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("diagnose", "--pid", "x"),
        ("diagnose", "--pid", "-1"),
        ("verify", "--url", "http://x", "--deadline", "0"),
        ("nonsense",),
        (),
    ],
    ids=str,
)
def test_wrong_arguments_are_a_usage_error(words: tuple) -> None:
    done = hang(*words)
    assert done.returncode == 2 and "usage:" in done.stderr


def test_without_py_spy_the_next_command_installs_it(tmp_path: Path) -> None:
    """A Python that has psutil and no py-spy beside it or on PATH."""
    import venv

    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    env = {"PATH": str(tmp_path), "PYTHONPATH": str(Path(psutil.__file__).parents[1])}
    done = subprocess.run(
        [python, HANG, "capture", "--pid", str(os.getpid())], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert done.returncode == 2 and "py-spy is not installed" in done.stderr and "pip install" in done.stderr
    done = subprocess.run(
        [python, HANG, "capture", "--pid", str(os.getpid())],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 2 and "psutil is not installed" in done.stderr and "Traceback" not in done.stderr


def test_a_fix_is_a_diff_until_it_is_written_and_then_nothing_is_left(tmp_path: Path) -> None:
    file = Path(shutil.copy(ROOT / "tests" / "hung" / "executor_shutdown.py", tmp_path / "stream.py"))
    before = file.read_text()
    proposal = hang("fix", f"{file}:37")
    assert proposal.returncode == 0 and "+        pool.shutdown(wait=False, cancel_futures=True)" in proposal.stdout
    assert file.read_text() == before
    diagnosis = tmp_path / "diagnosis.json"
    diagnosis.write_text(json.dumps({"blocking_frame": {"file": str(file), "line": 37}}))
    assert hang("fix", "--from", diagnosis, "--write").returncode == 0
    assert file.read_text() != before
    again = hang("fix", file)
    assert again.returncode == 0 and again.stdout == "" and "nothing to rewrite" in again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diagnosis.json", "stream.py"]


@pytest.mark.live
def test_capture_diagnose_fix_and_verify_on_a_server_that_hangs(tmp_path: Path) -> None:
    with zoo.hang("executor_shutdown") as hung:
        port = hung.url.rpartition(":")[2]
        taken = hang("capture", "--port", port, "--zip", cwd=tmp_path)
        archive = tmp_path / taken.stdout.strip()
        assert taken.returncode == 0 and archive.suffix == ".zip" and "took 5 samples" in taken.stderr
        live = hang("diagnose", "--pid", hung.pid, "--json", "--save", tmp_path / "kept")
        (tmp_path / "live.json").write_text(live.stdout)
        bad = hang("verify", "--url", f"{hung.url}/health", "--deadline", "0.5")
        assert bad.returncode == 1 and "FAILED" in bad.stdout
        own = hang("triage", "--pid", hung.pid, cwd=tmp_path)
        assert (
            own.returncode == 0
            and "Nothing was changed" in own.stdout
            and "+    pool = ThreadPoolExecutor" in own.stdout
        )
    packed = json.loads(hang("diagnose", archive, "--json", bare=True).stdout)
    answer = json.loads(live.stdout)
    assert {key: packed[key] for key in ("state", "cause", "blocking_frame")} == {
        key: answer[key] for key in ("state", "cause", "blocking_frame")
    }
    assert "cancel_futures=True" in hang("fix", "--from", tmp_path / "live.json").stdout
    with zoo.hang("none") as fine:
        assert hang("verify", "--url", f"{fine.url}/health").returncode == 0


@pytest.mark.live
def test_the_main_job_proves_the_repair_and_leaves_nothing_running(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, HANG, "triage"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as job:
        output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, output + errors
    assert "PROVED in" in output and "loop-blocked / executor-shutdown" in output
    assert not started_by(job.pid)
    assert [path.name.startswith("evidence-") for path in tmp_path.iterdir()] == [True]


@pytest.mark.live
@pytest.mark.parametrize("heard", ["1. Start", "2. Save", "5. Start"])
def test_ctrl_c_ends_the_main_job_and_its_servers(tmp_path: Path, heard: str) -> None:
    with subprocess.Popen(
        [sys.executable, HANG, "triage"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as job:
        for line in job.stdout:
            if line.startswith(heard):
                job.send_signal(signal.SIGINT)
                break
        _output, errors = job.communicate(timeout=60)
    assert job.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert not started_by(job.pid)


def started_by(pid: int) -> list[psutil.Process]:
    """The servers that the lab of process `pid` started and that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("LAB_PARENT") == str(pid):
                found.append(process)
    return found


def test_many_dumps_are_grouped_and_what_cannot_be_read_is_said() -> None:
    folder = ROOT / "tests" / "dumps"
    dumps = [folder / "executor-shutdown" / f"py3{minor}-pyspy043.txt" for minor in (10, 11, 12)]
    done = hang("diagnose", *dumps, folder / "none" / "py311-pyspy043.txt", ROOT / "LICENSE")
    rows = [line.split() for line in done.stdout.splitlines() if " x " in line]
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("3", "loop-blocked", "executor-shutdown"),
        ("1", "inconclusive", "other"),
    ]
    assert done.returncode == 0 and "LICENSE" in done.stderr
    found = json.loads(hang("diagnose", *dumps, "--json", bare=True).stdout)
    assert [row["count"] for row in found] == [3] and list(found[0]["diagnosis"]) == KEYS
    assert hang("diagnose", ROOT / "LICENSE", ROOT / "Makefile").returncode == 2


def test_what_is_missing_is_installed_by_one_line_that_then_asks_again(tmp_path: Path) -> None:
    """A distribution's Python refuses pip, so outside of an environment the line makes one."""
    python = Path(sys.base_prefix) / "bin" / "python3"
    done = subprocess.run(
        [python, "-S", HANG, "diagnose", "--port", "8", "--json"], capture_output=True, text=True, cwd=tmp_path
    )
    following = done.stderr.partition("Next: ")[2].strip()
    make, install, again = following.split(" && ")
    assert make == f"{python} -m venv hang-env" and install.startswith("hang-env/bin/python -m pip install")
    assert again == f"hang-env/bin/python {shlex.quote(str(HANG))} diagnose --port 8 --json"
