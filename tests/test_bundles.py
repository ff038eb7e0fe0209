"""The evidence of every server, recorded once: what the engine makes of it, without a server and without a process.

tests/record_bundles.py writes the bundles, and expected.json beside them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import commands
import record_bundles
import zoo
from hangdebug.answer.model import Diagnosis

BUNDLES = Path(__file__).parent / "bundles"
EXPECTED = record_bundles.expected()
NAMES = sorted(EXPECTED)
SHOTS = record_bundles.every()
MOST_KB, MOST_MB = 60, 3
ANEW = "Next, if the bundle is wrong or stale: make bundles NAMES={}"
JUDGE = "Next, if today's answer is the better one: python tests/record_bundles.py --judge"


def judged(name: str) -> Diagnosis:
    return record_bundles.judged(archive(name))


def archive(name: str) -> Path:
    return SHOTS[name].archive


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_says_what_its_server_is_and_what_it_said_before(name: str) -> None:
    entry, answer = EXPECTED[name], judged(name)
    is_true(name, entry, answer)
    assert all(commands.check(line) <= 1 for line in commands.printed_by(answer))
    assert record_bundles.golden(answer) == entry["golden"], f"{JUDGE}\n{ANEW.format(name)}"


def is_true(name: str, entry: dict[str, Any], answer: Diagnosis) -> None:
    if entry.get("differs"):
        return  # it never said what its server is; expected.json says why
    truth, frame = entry["truth"], answer.blocking_frame
    if "look" in entry and record_bundles.lesser(answer, truth):
        return  # it was taken with less than the engine takes, and the answer is in doubt
    assert (answer.state, answer.cause) == (truth["state"], truth["cause"]), f"{answer.summary}\n{ANEW.format(name)}"
    if truth["marked"]:
        assert frame is not None, f"{answer.summary}\n{ANEW.format(name)}"
        assert any(frame.file.endswith(file) and frame.line == line for file, line in truth["marked"]), (
            f"{frame.file}:{frame.line} is not one of {truth['marked']}\n{ANEW.format(name)}"
        )


def test_every_server_has_a_bundle_and_every_bundle_is_listed() -> None:
    known = {name for folder in (*zoo.FOLDERS, zoo.SITUATIONS) for name in zoo.names(folder)}
    assert {entry["server"] for entry in EXPECTED.values()} == known, "Next: make bundles"
    assert set(record_bundles.every()) == set(EXPECTED), "Next: make bundles"
    listed = {archive(name).name for name in NAMES} | {"expected.json"}
    assert {file.name for file in BUNDLES.iterdir()} == listed, "Next: remove what no server stands for; make bundles"


def test_every_server_program_loop_and_kind_of_python_has_bundles() -> None:
    rows = {(entry["python"], entry["loop"], entry["under"]) for entry in EXPECTED.values()}
    assert {under for _, _, under in rows} == set(record_bundles.servers.KINDS)
    kinds = {("3.9", "asyncio"), ("3.11", "asyncio"), ("3.12", "uvloop"), ("3.13", "asyncio")}
    assert kinds <= {row[:2] for row in rows}


def test_the_truth_is_still_what_the_servers_say() -> None:
    """But for the lines, which move with every comment: the bundle has the sources of its own day."""
    for name, entry in EXPECTED.items():
        today = zoo.truth(entry["server"])
        assert (entry["truth"]["state"], entry["truth"]["cause"]) == (today.state, today.cause), ANEW.format(name)
        assert bool(entry["truth"]["marked"]) == bool(today.marked), ANEW.format(name)
        assert not entry.get("differs") or today.needs_kernel, ANEW.format(name)


@pytest.mark.slow
def test_a_bundle_tells_nothing_of_the_machine_that_it_was_taken_on() -> None:
    names = [one for one in record_bundles.names_here() if re.search(r"\d|-", one)]  # another machine's may be "server"
    for name in NAMES:
        assert not record_bundles.leaks(archive(name), names), ANEW.format(name)


def test_what_is_expected_tells_nothing_of_it_either() -> None:
    assert not [line for line in record_bundles.EXPECTED.read_text().splitlines() if record_bundles.telling(line)]


def test_what_tells_of_a_machine_is_found(tmp_path: Path) -> None:
    told = {
        "process.json": '{"cwd": "/opt/shop"}',
        "fds.tsv": "3\t/mnt/disk/x\n",
        "children.tsv": "7\tsh on build-7\t\n",
        "sample-0.json": '{"filename": "/home/ann/app.py"}',
        "tasks-0.json": '{"text": "of\\n/tmp/x"}',
    }
    innocent = {"sources.json": '{"/srv/app/a.py": {"1": "get(\'/user/home\')"}}', "net.txt": "127.0.0.1"}
    for name, text in {**told, **innocent}.items():
        (tmp_path / "evidence" / "1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "evidence" / "1" / name).write_text(text)
    record_bundles.pack(tmp_path / "evidence", tmp_path / "packed")
    found = {line.split(":")[0].rpartition("/")[2] for line in record_bundles.leaks(tmp_path / "packed", ["build-7"])}
    assert found == set(told)


def test_paths_are_replaced_once_and_whole(tmp_path: Path) -> None:
    """A checkout in /app lies in the middle of what it is replaced by, and /app2 is another folder."""
    (tmp_path / "manifest.json").write_text('{"notes": ["/app/tests/hung/x.py:3", "/app/x /app2/x /mnt/app/x\\n/app"]}')
    record_bundles.make_neutral(tmp_path, {"/app/tests/hung": "/srv/app", "/app": "/srv/checkout"})
    notes = record_bundles.json.loads((tmp_path / "manifest.json").read_text())["notes"]
    assert notes == ["/srv/app/x.py:3", "/srv/checkout/x /app2/x /mnt/app/x\n/srv/checkout"]


def test_the_same_evidence_is_packed_alike(tmp_path: Path) -> None:
    (tmp_path / "evidence" / "1").mkdir(parents=True)
    for stamp in (1, 10**9):
        file = tmp_path / "evidence" / "1" / "process.json"
        file.write_text("{}")
        record_bundles.os.utime(file, (stamp, stamp))
        record_bundles.pack(tmp_path / "evidence", tmp_path / str(stamp))
    assert (tmp_path / "1").read_bytes() == (tmp_path / str(10**9)).read_bytes()


def test_the_bundles_are_small() -> None:
    sizes = {name: archive(name).stat().st_size / 1024 for name in NAMES}
    assert not {name: size for name, size in sizes.items() if size > MOST_KB}
    assert sum(sizes.values()) < MOST_MB * 1024


def test_a_server_that_does_not_exist_is_refused() -> None:
    with pytest.raises(LookupError):
        record_bundles.wanted(["no_such_server"], everything=False)
    assert {shot.name for shot in record_bundles.wanted(["lock"], everything=False)} >= {"lock", "lock@3.9"}
    assert [shot.name for shot in record_bundles.wanted(["lock@3.9"], everything=False)] == ["lock@3.9"]
