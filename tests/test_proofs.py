"""Proofs that must fail, each with its reason: what answers all the time, and still proves nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hangdebug.errors import BadRequest, NoProcess, ServiceFailed
from hangdebug.repair.proof import prove, server
from hangdebug.repair.proof import verify as verifying
from hangdebug.repair.proof.curl import read_requests
from hangdebug.repair.proof.prove import Plan, ended, free_port, started
from hangdebug.repair.proof.verify import table, verify

ROOT = Path(__file__).resolve().parent.parent
TINY = f"{sys.executable} {Path(__file__).with_name('tiny_server.py')}"

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    monkeypatch.setattr(verifying, "PAUSE", 0.05)
    monkeypatch.setattr(verifying, "FIRST_BYTE", 1.0)


@contextmanager
def answering(status: int = 200, headers: dict[str, str] | None = None, later: int = 0, **at_path: int):
    """A server in this process that gives one answer.

    `later` is its status from the second request on, `at_path` that of other paths, as `health_` for /health/.
    """
    asked = []
    at = {"/" + path.replace("_", "/"): other for path, other in at_path.items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response_only(at.get(self.path, later if later and len(asked) > 1 else status))
            for name, value in {"Content-Length": "2", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def tiny(kind: str):
    port = free_port()
    with started(f"{TINY} {kind} {port}", f"http://127.0.0.1:{port}/health") as running:
        yield f"http://127.0.0.1:{port}", running


def reasons(result) -> str:
    assert not result.passed
    return table(result)


# -- the answer is not the one that was meant ------------------------------------------------------------


@pytest.mark.parametrize(
    "status, headers, why",
    [
        (404, {}, "answers 404. Is it the right URL?"),
        (405, {}, "answers 405. Is it the right URL?"),
        (401, {}, "answers 401."),
        (429, {}, "answers 429."),
        (500, {}, "answers 500."),
        (302, {"Location": "/login?next=/health"}, r"answers 302 and sends its client to http://127.0.0.1:\d+/login"),
        (
            307,
            {"Location": "http://example.org/health"},
            "answers 307 and sends its client to http://example.org/health",
        ),
        (302, {"Location": "/health"}, r"sends its client to http://127.0.0.1:\d+/health, which answers 302 too"),
        (308, {"Location": "/health/"}, r"sends its client to http://127.0.0.1:\d+/health/, which answers 308 too"),
        (302, {}, "answers 302 without a Location"),
        (304, {"ETag": "1"}, "answers 304 without a Location"),
        (200, {"Content-Length": "9"}, "transfer closed with 7 bytes remaining to read"),
        (200, {"Transfer-Encoding": "chunked"}, "chunk"),
        (200, {"Age": "31"}, r"is answered by a cache \(Age: 31\)"),
        (200, {"X-Cache": "HIT from edge"}, r"is answered by a cache \(x-cache: HIT from edge\)"),
        (200, {"Cache-Status": "edge; hit"}, r"is answered by a cache \(cache-status: edge; hit\)"),
    ],
)
def test_an_answer_of_something_else_is_no_proof(status, headers, why):
    with answering(status, headers) as url:
        assert re.search(why, reasons(verify(f"{url}/health")))


@pytest.mark.parametrize("headers", [{}, {"Age": "0"}, {"X-Cache": "MISS"}, {"Location": "/health/"}])
def test_what_is_the_servers_own_answer_passes(headers):
    with answering(307 if "Location" in headers else 200, headers, health_=200) as url:
        assert verify(f"{url}/health").passed


def test_a_cache_without_a_header_shows_by_the_date_that_stands_still(monkeypatch):
    monkeypatch.setattr(server, "OLD_DATE", 0.05)
    with answering(headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}) as url:
        assert "is answered by a cache (its Date did not move" in reasons(verify(f"{url}/health"))


def test_a_status_that_changes_is_no_proof_although_each_is_expected():
    with answering(200, later=404) as url:
        assert "answers 404 now, and 200 before" in reasons(verify(f"{url}/health", expect=[404]))


def test_a_wrong_port_and_another_machine_are_refused():
    with pytest.raises(NoProcess, match="Nothing listens"):
        verify(f"http://127.0.0.1:{free_port()}/health")
    for url in ("http://example.org/", "http://localhost.example.org/", "http://127.0.0.1.example.org/"):
        with pytest.raises(BadRequest, match="is on another machine"):
            verify(url)


# -- the stream is none ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, why",
    [("/health", "ended by itself before it could be cut off"), ("/nope", "answers 404 instead of a stream")],
)
def test_a_stream_that_is_none_is_no_proof(path, why):
    with tiny("good") as (url, _):
        assert why in reasons(verify(f"{url}/health", stream_url=url + path))


# -- it is not the server that it was ----------------------------------------------------------------


def test_a_server_that_was_restarted_in_between_is_no_proof():
    port, running = free_port(), []
    url = f"http://127.0.0.1:{port}"

    @contextmanager
    def serving():
        with started(f"{TINY} good {port}", f"{url}/health") as one:
            yield one

    def restart(phase: str) -> None:
        if phase == verifying.ABORTED:
            running.pop().__exit__(None, None, None)
            running.append(serving())
            running[-1].__enter__()

    running.append(serving())
    running[-1].__enter__()
    try:
        result = verify(f"{url}/health", stream_url=f"{url}/stream", aborts=3, on_phase=restart)
    finally:
        running.pop().__exit__(None, None, None)
    assert "The server was restarted in between" in reasons(result) and not result.failed


def test_a_second_worker_that_hangs_is_seen_although_the_first_answers():
    with tiny("pair") as (url, _):
        result = verify(f"{url}/health", stream_url=f"{url}/stream", aborts=4, deadline=1)
    assert not result.failed and result.complete
    assert re.search(
        r"Process \d+ still has 1 connection whose reader left .* another process answers", reasons(result)
    )


def test_a_second_worker_that_got_no_stream_is_said():
    with tiny("absent") as (url, _):
        result = verify(f"{url}/health", stream_url=f"{url}/stream", aborts=4)
    assert re.search(r"2 workers share the port, and \d+ got none of the 4 streams", reasons(result))


# -- it is repaired in part --------------------------------------------------------------------------


def test_threads_that_work_on_are_no_proof(monkeypatch):
    monkeypatch.setattr(verifying, "SETTLE", 0.5)
    with tiny("deaf") as (url, running):
        result = verify(f"{url}/health", stream_url=f"{url}/stream", aborts=3, pid=running.pid)
        assert "3 pool threads work 0.5 s after the replay, 0 before it: nothing stopped them." in reasons(result)
        assert re.search(
            r"Process \d+: threads \d+ before, \d+ after; pool threads at work 0 before, 3 after; tasks", table(result)
        )
        assert ended(running, signal.SIGINT, 0.5) == (
            "",
            "The process did not end within 0.5 s of SIGINT; 3 pool threads were at work, and the exit waits for them.",
        )


def test_tasks_that_stay_are_no_proof(monkeypatch):
    monkeypatch.setattr(verifying, "SETTLE", 0.5)
    with tiny("tasks") as (url, running):
        result = verify(f"{url}/health", stream_url=f"{url}/stream", aborts=5, pid=running.pid)
    assert re.search(r"\d tasks are pending 0.5 s after the replay, \d before it", reasons(result))


def test_what_was_repaired_whole_passes_and_ends_in_time():
    urls = ["http://127.0.0.1:{port}/health"]
    plan = Plan(urls, "http://127.0.0.1:{port}/stream", start=f"{TINY} good {{port}}", exit="SIGINT", grace=3)
    found = prove.prove(plan)
    assert found.passed, table(found)
    assert re.search(r"It ended 0\.\d\d s after SIGINT \(grace 3 s\)", table(found))
    assert "the same 2 bytes at first and at last (sha256 2689367b)" in table(found)


# -- what is measured is not what answers ------------------------------------------------------------


def test_an_answer_of_another_process_than_the_one_whose_threads_are_counted_is_no_proof():
    with tiny("good") as (url, _), tiny("good") as (_, other):
        said = reasons(verify(f"{url}/health", pid=other.pid))
    assert re.search(rf"Process \d+ \(python.*\) answers at {url}/health, and not process {other.pid}", said)
    assert re.search(rf"Process \d+ \(python.*\) listens at {url}/health", said)


def test_a_port_that_another_program_takes_before_the_started_one_answers_is_no_proof():
    port, others = free_port(), []
    command = [*TINY.split(), "good", str(port)]
    timer = threading.Timer(0.3, lambda: others.append(subprocess.Popen(command)))
    timer.start()
    try:
        found = prove.prove(Plan([f"http://127.0.0.1:{port}/health"], start="sleep 60", exit="SIGTERM"))
    finally:
        timer.join()
        others[0].kill()
        others[0].wait()
    assert f"Process {others[0].pid} (python" in reasons(found) and "nor one that it has started" in reasons(found)


@pytest.mark.parametrize("detached", ["", "setsid "])
def test_the_exit_of_a_shell_around_the_server_is_not_the_exit_of_the_server(detached):
    command = f"sh -c '{detached}{TINY} good {{port}} & wait'"
    found = prove.prove(Plan(["http://127.0.0.1:{port}/health"], start=command, exit="SIGTERM", grace=0.5))
    (left,) = re.findall(r"The process ended, and (\d+), which it had started, did not within 0.5 s", reasons(found))
    assert "let it `exec` the server" in reasons(found)
    until = time.monotonic() + 5
    while server.started_at(int(left)) is not None:  # it is killed at the end, and not left to the user
        assert time.monotonic() < until
        time.sleep(0.05)


# -- requests ----------------------------------------------------------------------------------------

GOOD = "POST /orders\n\ngood\n"
BAD = "# expect: 422\nPOST /orders\n\nbad\n"


def replay(kind: str, *files: str, together: bool = False):
    with tiny(kind) as (url, _):
        clients = [read_requests(text, "orders.http", url) for text in files]
        return verify(f"{url}/health", clients=clients, together=together, deadline=0.3)


def test_three_good_orders_and_two_bad_ones_tell_a_lost_permit_from_none():
    orders = "###\n".join([GOOD] * 3 + [BAD] * 2 + [GOOD])
    well = replay("good", orders)
    assert well.passed and well.sent == 6, table(well)
    lost = replay("leak", orders)
    assert [probe.url.split("/")[-1] for probe in lost.failed] == ["orders"] and lost.failed[0].status is None
    assert "no answer within 3 s" in reasons(lost)


def test_a_request_that_hangs_is_not_sent_again_and_again():
    lost = replay("leak", "###\n".join([BAD] * 2 + [GOOD] * 6))
    assert lost.sent == 4 and not lost.passed and "two in a row had no answer" in reasons(lost), table(lost)


def test_two_opposite_moves_hang_together_and_not_one_after_the_other():
    moves = ["POST /moves\n\na b\n", "POST /moves\n\nb a\n"]
    assert replay("opposite", *moves).passed and replay("good", *moves, together=True).passed
    assert len(replay("opposite", *moves, together=True).failed) == 2


@pytest.mark.parametrize(
    "file, why",
    [
        ("POST /ordres\n\ngood\n", "POST http://127.0.0.1:PORT/ordres: answers 404. Is it the right URL?"),
        ("POST /orders\n\nbad\n", "answers 422. Where that is right, write `# expect: 422` above it."),
        ("# leave after: 1\nGET /health\n", "the answer ended within 1 s, before the client could leave."),
        ("# deadline: 0.5\nGET /slow\n", "no answer within 0.5 s."),
    ],
)
def test_a_request_that_was_not_replayed_as_meant_is_no_proof(file, why):
    assert why in re.sub(r":\d{4,5}/", ":PORT/", reasons(replay("good", file)))


def test_a_client_that_leaves_in_the_middle_of_any_request_is_replayed():
    left = replay("good", "# leave after: 0.3\nGET /slow\n")
    assert left.passed and "left" in table(left)


# -- the old code and the new, and the command line -----------------------------------------------------


def hang_py(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, f"{ROOT}/scripts/hang.py", "verify", *words], capture_output=True, text=True, timeout=90
    )


def test_compare_proves_what_fails_on_the_old_and_passes_on_the_new():
    with tiny("old") as (old, _), tiny("good") as (new, _), tiny("good") as (same, _):
        replay = ("--url", f"{new}/health", "--stream-url", f"{new}/stream", "--aborts", "3", "--deadline", "0.5")
        proof = hang_py(*replay, "--compare", old, new)
        assert proof.returncode == 0 and "PROVED: the same replay fails on the old" in proof.stdout, proof.stderr
        fooled = hang_py(*replay, "--compare", same, new)
        assert fooled.returncode == 1 and "NOT PROVED: the replay passes on the old code too" in fooled.stdout
        worse = hang_py(*replay, "--compare", new, old)
        assert worse.returncode == 1 and "FAILED: the replay fails on the new code." in worse.stdout


def test_compare_starts_both_in_their_folders_and_keeps_both(tmp_path):
    for name, kind in (("before", "leak"), ("after", "good")):
        folder = tmp_path / name
        folder.mkdir()
        text = Path(__file__).with_name("tiny_server.py").read_text().replace("sys.argv[1]", repr(kind), 1)
        (folder / "serve.py").write_text(text)
    (tmp_path / "orders.http").write_text("###\n".join([BAD] * 2 + [GOOD]))
    done = hang_py(
        *("--url", "http://127.0.0.1:{port}/health", "--request", str(tmp_path / "orders.http"), "--deadline", "0.3"),
        *(
            "--start",
            f"{sys.executable} serve.py - {{port}}",
            "--exit",
            "SIGTERM",
            "--save",
            str(tmp_path / "kept.json"),
        ),
        *("--compare", str(tmp_path / "before"), str(tmp_path / "after")),
    )
    assert done.returncode == 0 and "PROVED" in done.stdout, done.stdout + done.stderr
    assert "s after SIGTERM (grace 5 s)" in done.stdout
    assert sorted(file.name for file in tmp_path.glob("kept*")) == ["kept.after.json", "kept.before.json"]


def test_what_is_started_must_be_what_answers():
    said = pytest.raises(BadRequest, match="Something else already listens")
    with answering() as url, said, started(f"{TINY} good 1", url):
        pass
    url = f"http://127.0.0.1:{free_port()}/"
    with pytest.raises(ServiceFailed, match="ended with status 1") as failed, started(f"{TINY} good no-port", url):
        pass
    assert "invalid literal for int" in str(failed.value)
    with pytest.raises(ServiceFailed, match="cannot be run"), started("no-such-program", url):
        pass
    with pytest.raises(ServiceFailed, match="did not answer"), started(f"{TINY} good {free_port()}", url, ready=0.5):
        pass


def test_options_that_do_not_go_together_are_explained():
    url = ("--url", "http://127.0.0.1:1/")
    for words in (("--exit", "SIGINT"), ("--compare", "here", "there"), ("--pid", "1", "--start", "x")):
        done = hang_py(*url, *words)
        assert done.returncode == 2 and "Next: " in done.stderr and "Traceback" not in done.stderr


# -- files of requests -------------------------------------------------------------------------------

CURL = """# expect: 409
url = "/orders"
request = "PUT"
header = "X-Name: a \\"b\\""
data = "one"
-d "two"
next
--url http://127.0.0.1:8000/health
max-time = 3
"""
HTTP = """### the first
# expect: 201
POST http://127.0.0.1:8000/orders HTTP/1.1
Content-Type: application/json

{"item": 7}

###
# leave after: 2
GET /stream
"""


def test_both_syntaxes_are_read():
    base = "http://127.0.0.1:8000/health"
    put, health = read_requests(CURL, "a.curl", base)
    assert (put.name, put.headers, put.body, put.expect, put.place) == (
        "PUT http://127.0.0.1:8000/orders",
        ('X-Name: a "b"',),
        "one&two",
        (409,),
        "a.curl:2",
    )
    assert (health.name, health.deadline) == ("GET http://127.0.0.1:8000/health", 3)
    post, stream = read_requests(HTTP, "a.http", base)
    assert (post.name, post.headers, post.body) == (
        "POST http://127.0.0.1:8000/orders",
        ("Content-Type: application/json",),
        '{"item": 7}',
    )
    assert (stream.name, stream.leave_after) == ("GET http://127.0.0.1:8000/stream", 2)
    assert stream.command(9)[-3:] == ["2", "--url", "http://127.0.0.1:8000/stream"]


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "holds no request"),
        ("GET http://example.org/", "is not on the server that is verified"),
        ("GET //example.org/", "is not on the server that is verified"),
        ('url = "/x"\noutput = "/etc/passwd"', "'output' is not one that is replayed"),
        ('url = "/x"\ndata = "@/etc/passwd"', "no other file is read"),
        ('url = "/x"\nheader = "@/etc/passwd"', "A header must stand in the file itself"),
        ("GET /{{name}}", "A variable in braces"),
        ("# leave after: 9999\nGET /x", "not between 0.01 and 600 seconds"),
        ("# expect: 4.5\nGET /x", "is no number"),
        ("GET /x\n\n###\nwhat is this", "is no first line of a request"),
        ('url = "/x"\nrequest = "-o/tmp/x"', "is no method"),
        ("POST /x\n\n" + "a" * 100_001, "A body may have"),
    ],
)
def test_what_cannot_be_replayed_is_refused_and_said(text, why):
    with pytest.raises(BadRequest, match=why) as refused:
        read_requests(text, "a.http", "http://127.0.0.1:8000/health")
    assert "--request" in refused.value.next or "holds no request" in why


def test_a_body_reaches_the_server_as_it_stands(tmp_path):
    base = "http://127.0.0.1:8000/"
    [one] = read_requests('POST /x\nContent-Type: text/plain\n\n@not-a-file "quoted"\nsecond line\n', "a", base)
    assert one.body == '@not-a-file "quoted"\nsecond line' and "--data-raw" in one.command(1)
