"""Many bundles: what they share, who fell first, and how they are brought here."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
import yaml

import client
import kubernetes_api
from hangdebug import cli, fleet
from hangdebug.answer.model import Diagnosis
from hangdebug.errors import BadRequest, MissingTool
from hangdebug.evidence import kernel
from hangdebug.evidence.model import Clients, Evidence, KernelWait, Snapshot
from hangdebug.report import fleet as report

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = ROOT / "tests" / "bundles"
MANIFEST = ROOT / "deploy" / "kubernetes" / "news.yaml"
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
    assert re.search(
        r"first seen to hang +node-1, captured 2026-11-28 03:10:00 UTC \(when it began is not known\)", text
    )
    assert re.search(r"common peer +10\.0\.0\.5:\d+, for which 3 of 4 that hang wait", text)
    assert re.search(r"hang, by version +3 of 4 news:1\.5; 0 of 1 news:1\.4", text)
    assert "cannot be read  " in text and "pod-x.tar.gz" in text


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


def test_a_bundle_and_its_archive_beside_it_are_one(tmp_path):
    (tmp_path / "evidence-7").mkdir()
    (tmp_path / "evidence-7" / "manifest.json").write_text("{}")
    for name in ("evidence-7.zip", "evidence-70.zip"):  # as `capture --zip` leaves it, and another one
        (tmp_path / name).write_bytes(b"")
    assert fleet.places([str(tmp_path)]) == [str(tmp_path / name) for name in ("evidence-7", "evidence-70.zip")]


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
    assert picture in page and "<script" not in page and "First seen to hang: node-1" in page
    assert "](fleet.svg)" in (tmp_path / "report.md").read_text()


def test_a_name_from_outside_is_shown_and_does_nothing(tmp_path):
    path = copy_of("wsgi_idle", tmp_path / "a.tar.gz", "2026-11-28T03:05:00+00:00", "<b>\x1b[31m", "[x](http://x)")
    shown = read(path)
    html, markdown = report.as_html(shown, report.picture(shown)), report.as_markdown(shown)
    assert "\x1b" not in report.as_text(shown) + html + markdown and "<b>" not in html + markdown
    assert "[x](" not in markdown and r"\[x\](http:\//x)" in markdown
    assert "text/html" in report.picture(shown)._repr_mimebundle_()  # in a notebook it is seen


# -- kubectl, and a fake one that behaves like it ------------------------------------------------------


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Makes pods that do as told, each by a word of tests/kubectl.sh; gives the folder that stands for the cluster."""
    folder, path = tmp_path / "cluster", tmp_path / "bin"
    path.mkdir()
    (path / "kubectl").symlink_to(Path(__file__).with_name("kubectl.sh"))
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    monkeypatch.setenv("FLEET", str(folder))

    def make(**pods: str) -> Path:
        items = []
        for name, does in pods.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "does").write_text(does)
            (folder / name / "tmp.tar.gz").write_bytes((BUNDLES / "wsgi_idle.tar.gz").read_bytes())
            containers = [{"name": "proxy", "image": "envoy:1"}, {"name": "app", "image": "news:1.5"}]
            about = {"name": name, "annotations": {"kubectl.kubernetes.io/default-container": "app"}}
            phase = "Pending" if does == "pending" else "Running"
            items.append({"metadata": about, "spec": {"containers": containers}, "status": {"phase": phase}})
        (folder / "pods.json").write_text(json.dumps({"kind": "List", "items": items}))
        return folder

    return make


def taken(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.glob("*.tar.gz")}


def test_a_bundle_of_each_pod_is_called_after_it_and_says_its_image(cluster, tmp_path, capsys):
    pods = cluster(one="well", two="well", three="pending")
    assert (
        cli.main(["fleet", "kubectl", "--selector", "app=news", "--namespace", "shop", "--out", str(tmp_path / "f")])
        == 0
    )
    assert taken(tmp_path / "f") == {"one", "two"} and "diagnose --group" in capsys.readouterr().err
    assert {(row.host, row.version) for row in read(tmp_path / "f").rows} == {("one", "news:1.5"), ("two", "news:1.5")}
    calls = (pods / "calls").read_text().splitlines()
    assert calls[0] == "--namespace shop get pods --selector app=news --output json"
    assert all(line.startswith("--namespace shop ") and "--container app" in line for line in calls[1:])


@pytest.mark.slow
def test_pods_that_fail_are_told_and_the_same_call_takes_what_is_missing(cluster, tmp_path, capsys):
    pods = cluster(well="well", cut="cut", leaves="leaves", bare="bare", crashes="crashes")
    command = ["fleet", "kubectl", "--selector", "app=news", "--out", str(tmp_path / "f"), "--limit", "2"]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert taken(tmp_path / "f") == {
        "well",
        "cut",
    }  # one was cut off and fetched again, one left half way
    assert "bare: kubectl exec failed.\nWhy: capture.sh: py-spy is not on PATH.\nNext: " in said and "--image" in said
    assert "crashes: kubectl exec failed.\nWhy: Its exit status is 137." in said
    assert "leaves: kubectl exec failed.\nWhy: error: error reading from error stream: unexpected EOF" in said
    assert not list((tmp_path / "f").glob(".hang-*"))
    for name in ("bare", "crashes"):
        (pods / name / "does").write_text("well")
    (pods / "calls").unlink()
    assert cli.main(command) == 2  # one has left, and the list of pods still has it
    assert taken(tmp_path / "f") == {"well", "cut", "bare", "crashes"}
    calls = (pods / "calls").read_text()
    assert "2 of 5 bundles are in" in capsys.readouterr().err and "exec --stdin well" not in calls


@pytest.mark.slow
def test_with_an_image_an_ephemeral_container_with_the_one_capability_joins(cluster, tmp_path, capsys):
    pods = cluster(one="well", two="forbids")
    command = ["fleet", "kubectl", "--selector", "a=b", "--image", "python:3.12-slim", "--out", str(tmp_path / "f")]
    assert cli.main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert (pods / "calls").read_text().count("\n") == 1 and "debug one --image python:3.12-slim --target app" in shown
    assert cli.main(command) == 2 and taken(tmp_path / "f") == {"one"}
    profile = re.search(r"--custom (\S+)", (pods / "calls").read_text())[1]
    assert Path(profile).read_text().rpartition("securityContext:")[2].split()[-2:] == ["-", "SYS_PTRACE"]
    assert 'violates PodSecurity "baseline:latest"' in capsys.readouterr().err


@pytest.mark.slow
def test_a_call_that_takes_too_long_and_one_without_pods_are_told(cluster, tmp_path, capsys):
    cluster(one="slow")
    assert cli.main(["fleet", "kubectl", "--selector", "a=b", "--seconds", "0.2", "--out", str(tmp_path / "f")]) == 2
    assert "kubectl exec did not end in 0.2 s." in capsys.readouterr().err
    cluster()
    assert cli.main(["fleet", "kubectl", "--selector", "a=b"]) == 2
    assert "No pod runs with a=b." in capsys.readouterr().err


# -- the real kubectl, and what is checked without a cluster -------------------------------------------


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed. Next: apt-get install kubernetes-client")
    with kubernetes_api.cluster(tmp_path, "news-1") as (config, joined):
        monkeypatch.setenv("KUBECONFIG", str(config))
        monkeypatch.setenv("HOME", str(tmp_path))  # where it caches
        yield joined


@pytest.mark.slow
def test_the_real_kubectl_makes_of_the_profile_a_container_with_sys_ptrace_and_nothing_else(kubectl, tmp_path):
    reached = fleet.Kubectl("app=news", "shop", image="python:3.12-slim")
    (target,) = reached.targets()
    assert target == fleet.Target("news-1", "app", "news:1.5")
    reached.join(target)
    (made,) = kubectl
    assert made["securityContext"] == {"capabilities": {"add": ["SYS_PTRACE"]}, "runAsUser": 0}
    assert (made["targetContainerName"], made["command"]) == ("app", ["sleep", str(fleet.STAYS)])
    assert "stdin" not in made and "tty" not in made


@pytest.mark.slow
def test_the_real_kubectl_takes_the_manifest(kubectl):
    command = ["kubectl", "apply", "--dry-run=client", "--validate=false", "-f", str(MANIFEST)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "deployment.apps/news created (dry run)\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.28", "1.32"])
def test_the_manifest_and_the_profile_obey_the_published_schema(version):
    validate = pytest.importorskip("kubernetes_validate", reason="Next: pip install kubernetes-validate").validate
    validate(yaml.safe_load(MANIFEST.read_text()), version, strict=True)
    profile = yaml.safe_load((ROOT / "snippets" / "debug.ephemeral.yaml").read_text())
    joins = {"name": "hang-1", "image": "a", "targetContainerName": "app", **profile}
    spec = {"containers": [{"name": "app", "image": "a"}], "ephemeralContainers": [joins]}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}, version, strict=True)


def test_the_manifest_gives_the_hooks_the_time_that_they_take():
    pod = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
    (app,) = pod["containers"]
    assert app["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert app["livenessProbe"]["timeoutSeconds"] >= 2 + 5 + 1
    assert pod["terminationGracePeriodSeconds"] > 2 * 5
    named = [word for hook in (app["livenessProbe"], app["lifecycle"]["preStop"]) for word in hook["exec"]["command"]]
    programs = [Path(word).name for word in named if word.endswith(".sh")]
    assert len(programs) == 2 and all((ROOT / "deploy" / name).is_file() for name in programs)


# -- the capture itself, where a container would run it ------------------------------------------------

STUCK = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(600)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
NOBODY = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
NOTHING = ("setpriv", "--bounding-set", "-all", "--inh-caps=-all", "--no-new-privs")
PTRACE = ("setpriv", "--bounding-set", "-all,+sys_ptrace", "--inh-caps=-all", "--no-new-privs")
OWN = ("setpriv", *NOBODY, "--inh-caps", "-all,+sys_ptrace", "--ambient-caps", "-all,+sys_ptrace")


@pytest.fixture(scope="module")
def pod(tmp_path_factory):
    """A server that hangs as process 1 of a pid namespace, as another user; gives its pid here."""
    needs = ("unshare", "nsenter", "setpriv", "curl")
    if os.geteuid() or not all(map(shutil.which, needs)) or not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip(f"needs root, a Python in /usr/bin, and {', '.join(needs)}")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are for root alone
    folder.chmod(0o755)
    (folder / "stuck.py").write_text(STUCK)
    shape = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "setpriv", *NOBODY)
    command = [*shape, "/usr/bin/python3", str(folder / "stuck.py")]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = started.stdout.readline().strip()
        if not port:
            pytest.skip("no pid namespace can be made here")
        asks = subprocess.Popen(["curl", "-sN", "-m", "60", f"http://127.0.0.1:{port}/"])
        (child,) = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        assert client.eventually(lambda: ":" in Path(f"/proc/{child}/net/tcp").read_text() and asks.poll() is None)
        time.sleep(0.3)
        yield child
        asks.kill()
        asks.wait()
    finally:
        started.kill()
        started.wait()
        started.stdout.close()
        shutil.rmtree(folder)


def captured_as(caps: tuple[str, ...], pod: str, tmp_path: Path) -> subprocess.CompletedProcess:
    """What `fleet kubectl` runs by exec, entered into the namespaces as exec does; its bundle is in `tmp_path`."""
    tmp_path.chmod(0o777)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    words = ("nsenter", "-t", pod, "-p", "-m", *caps, "env", f"PATH={path}", "sh", "-c", fleet.TAKE, "sh", "0")
    given = (ROOT / "snippets" / "capture.sh").read_bytes()
    place = f"/tmp/hang-test-{os.getpid()}-{len(caps)}"
    done = subprocess.run([*words, place], input=given, capture_output=True)
    if Path(f"{place}.tar.gz").exists():
        shutil.move(f"{place}.tar.gz", tmp_path / "pod.tar.gz")
    assert not list(Path("/tmp").glob(f"{Path(place).name}*"))
    return done


@pytest.mark.live
@pytest.mark.parametrize("caps", [PTRACE, OWN], ids=["as root", "as the target's user"])
def test_sys_ptrace_alone_is_enough_inside_of_a_pid_namespace(caps, pod, tmp_path):
    done = captured_as(caps, pod, tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = read(tmp_path).rows
    answer = read(tmp_path).best[row.key]
    assert (row.state, answer.process.pid) == ("sync-worker-blocked", 1)
    assert answer.blocking_frame.function == "Handler.do_GET"
    # Root without CAP_DAC_OVERRIDE may not open what belongs to the target's user alone: the kernel's word on the wait.
    assert (answer.kernel_wait is not None and answer.kernel_wait.syscall is not None) == (caps is OWN)


@pytest.mark.live
def test_without_the_capability_it_says_which_is_missing_and_leaves_nothing(pod, tmp_path):
    done = captured_as(NOTHING, pod, tmp_path)
    assert done.returncode == 2 and b"without SYS_PTRACE" in done.stderr
