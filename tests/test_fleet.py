"""Many bundles: what they share, who fell first, and how they are brought here."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from hangdebug import cli, fleet
from hangdebug.answer.model import Diagnosis
from hangdebug.errors import BadRequest, MissingTool
from hangdebug.evidence import kernel
from hangdebug.evidence.model import Clients, Evidence, KernelWait, Snapshot
from hangdebug.report import fleet as report

BUNDLES = Path(__file__).resolve().parent / "bundles"
LOOPBACK, ELSEWHERE = b"0100007F", b"0500000A"  # 127.0.0.1 and 10.0.0.5, as the kernel writes them


def copy_of(bundle: str, path: Path, taken: str, host: str = "", version: str = "", far: bool = False) -> Path:
    """A stored bundle with another name, time and peer, and what its carrier says of it beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(BUNDLES / f"{bundle}.tar.gz") as old, tarfile.open(path, "w:gz", compresslevel=1) as new:
        for member in old.getmembers():
            data = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("manifest.json"):
                data = json.dumps({**json.loads(data), "taken": taken}).encode()
            data = data.replace(LOOPBACK, ELSEWHERE) if far and member.name.endswith("net.txt") else data
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    if host or version:
        fleet.about_path(path).write_text(json.dumps({"host": host, "version": version}))
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Six bundles of four hosts, and one that is broken."""
    folder = tmp_path_factory.mktemp("fleet")
    for number, minute in enumerate((20, 10, 30)):
        taken = f"2026-11-28T03:{minute}:00+00:00"
        copy_of("http_client", folder / f"pod-{number}.tar.gz", taken, f"node-{number}", "news:1.5", far=True)
    copy_of("lock", folder / "web1" / "evidence-7-20261128T031500.tar.gz", "2026-11-28T03:15:00+00:00")
    copy_of("wsgi_idle", folder / "pod-8.tar.gz", "2026-11-28T03:05:00+00:00", "node-8", "news:1.4")
    copy_of("wsgi_idle", folder / "pod-9.tar.gz", "2026-11-28T03:40:00+00:00", "node-8", "news:1.5")
    (folder / "pod-x.tar.gz").write_bytes(b"\x1f\x8b cut short")
    return folder


def read(folder: Path, **how) -> report.Fleet:
    return fleet.read(fleet.places([str(folder)]), lambda done, of: None, **{"jobs": 1, **how})


@pytest.fixture(scope="module")
def found(here) -> report.Fleet:
    return read(here)


# -- what they share -----------------------------------------------------------------------------------


def test_the_largest_group_comes_first_with_its_hosts_its_peer_and_its_versions(found):
    largest = report.as_dict(found)["groups"][0]
    assert (largest["count"], largest["diagnosis"]["cause"]) == (3, "http-client")
    assert largest["hosts"] == ["node-0", "node-1", "node-2"] and largest["versions"] == {"news:1.5": 3}
    assert largest["peer"]["address"].startswith("10.0.0.5:") and largest["peer"]["count"] == 3


def test_over_all_it_says_who_fell_first_which_peer_and_which_version(found):
    text = report.as_text(found)
    assert text.startswith(
        "6 bundles, 6 processes, captured 2026-11-28 03:05:00 UTC to 2026-11-28 03:40:00 UTC; 1 bundle"
    )
    assert re.search(r"first to fall +node-1, captured 2026-11-28 03:10:00 UTC \(when it began is not known\)", text)
    assert re.search(r"common peer +10\.0\.0\.5:\d+, for which 3 of 4 that hang wait", text)
    assert re.search(r"hang, by version +3 of 4 news:1\.5; 0 of 1 news:1\.4", text)
    assert "cannot be read    " in text and "pod-x.tar.gz" in text


def test_a_bundle_is_called_after_its_host_or_lies_in_its_folder(found):
    assert {row.host for row in found.rows if row.key[1] == "lock"} == {"web1"}
    assert [
        report.host_in(name) for name in ("fleet/pod-1.tar.gz", "a/evidence-7.zip", "evidence-7", "x/w (process 7)")
    ] == [*("pod-1", "a", "evidence-7", "w")]


def test_an_address_of_each_host_s_own_is_no_common_peer():
    def waits_at(host: str, peer: str) -> report.Sighting:
        wait = KernelWait("recvfrom", detail=f"fd 9 -> {peer}")
        answer = Diagnosis("loop-blocked", "socket", 0.9, "", kernel_wait=wait)
        return report.sighting(host, Evidence((Snapshot(()),)), answer, {})

    own = [waits_at(host, "127.0.0.1:5432") for host in ("web1", "web2", "web3")]
    assert report.shared_peer(own)[1] == 1
    shared = [waits_at(host, "[fd00::5]:5432") for host in ("web1", "web2")] + own
    assert report.shared_peer(shared) == ("[fd00::5]:5432", 2, 5)


def test_it_began_with_the_oldest_request_after_the_last_answer_and_not_with_a_long_poll():
    rows = "8000\t600000\t-1\n8000\t90000\t120000\n8000\t40000\t41000\n8000\t30000\t95000\n"
    clients = kernel.with_answers(Clients(), rows)
    assert (clients.waits, clients.answered) == ((600.0, 90.0, 40.0, 30.0), 41.0)
    evidence = Evidence((Snapshot(()),), clients=clients, taken="2026-11-28T03:00:00+00:00")
    row = report.sighting("web1", evidence, Diagnosis("loop-blocked", "sleep", 0.9, ""), {})
    assert row.seen - row.since == 40.0
    assert report.when(row) == "web1, a request without an answer since 2026-11-28 02:59:20 UTC"


def test_two_versions_of_the_lines_around_a_frame_are_told_apart(found):
    marks = {row.lines for row in found.rows if row.key[1] == "http-client"}
    assert len(marks) == 1 and len(marks.pop()) == 8


# -- who reads, and from where -------------------------------------------------------------------------


def same(one: report.Fleet, other: report.Fleet) -> bool:
    return json.dumps(report.as_dict(one)) == json.dumps(report.as_dict(other))


@pytest.mark.live
def test_two_processes_find_what_one_finds(here, found):
    told = []
    many = fleet.read(fleet.places([str(here)]), lambda *done: told.append(done), jobs=2)
    assert same(many, found) and told[-1] == (7, 7)


@pytest.mark.live
def test_workers_of_dask_find_the_same(here, found):
    pytest.importorskip("distributed", reason="Dask is optional. Next: pip install distributed fsspec")
    assert same(read(here, dask="local"), found)


def test_an_address_is_read_through_fsspec_with_what_is_said_beside_it(here):
    pytest.importorskip("fsspec", reason="fsspec is optional. Next: pip install fsspec")
    (row,) = fleet.read(fleet.places([f"file://{here}/pod-8*"]), lambda done, of: None, jobs=1).rows
    assert (row.host, row.version, row.state) == ("node-8", "news:1.4", "healthy")


def test_without_fsspec_or_dask_the_command_that_installs_it_is_named(monkeypatch):
    for module in ("fsspec", "fsspec.core", "dask", "dask.distributed"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingTool, match=r"Next: .*install -q fsspec"):
        fleet.places(["s3://evidence/news/*.tar.gz"])
    with pytest.raises(MissingTool, match=r"Next: .*install -q distributed"):
        fleet.read(["a.tar.gz"], lambda done, of: None, dask="local")


def test_a_folder_without_a_bundle_and_a_process_are_refused(tmp_path, capsys):
    with pytest.raises(BadRequest, match="no bundle"):
        fleet.places([str(tmp_path)])
    assert cli.main(["diagnose", "--group", "--pid", "1"]) == 2
    assert "A fleet is read from files" in capsys.readouterr().err


# -- the report ----------------------------------------------------------------------------------------


def test_the_report_shows_hosts_by_time_and_runs_nothing(here, tmp_path, capsys):
    assert cli.main(["report", "--group", str(here), "--jobs", "1", "--out", str(tmp_path)]) == 0
    page, picture = (tmp_path / "report.html").read_text(), (tmp_path / "fleet.svg").read_text()
    rows = re.findall(r"<title>(node-\d|web1): ([\w-]+)</title>", picture)
    assert rows == [
        *(("node-1", "loop-blocked"), ("web1", "loop-blocked"), ("node-0", "loop-blocked"), ("node-2", "loop-blocked")),
        *(("node-8", "healthy"), ("node-8", "healthy")),
    ]
    assert picture in page and "<script" not in page and "First to fall: node-1" in page
    assert "](fleet.svg)" in (tmp_path / "report.md").read_text()


def test_a_name_from_outside_is_shown_and_does_nothing(tmp_path):
    path = copy_of("wsgi_idle", tmp_path / "a.tar.gz", "2026-11-28T03:05:00+00:00", "<b>\x1b[31m", "[x](http://x)")
    shown = read(path)
    html, markdown = report.as_html(shown, report.picture(shown)), report.as_markdown(shown)
    assert "\x1b" not in report.as_text(shown) + html + markdown and "<b>" not in html + markdown
    assert "[x](" not in markdown and r"\[x\](http:\//x)" in markdown
    assert "text/html" in report.picture(shown)._repr_mimebundle_()  # in a notebook it is seen
