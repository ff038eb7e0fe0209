"""Files through every rule at once: kinds that were rewritten wrongly, and whether a clean file stays clean."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from hangdebug.repair import fix
from hangdebug.repair.code.layout import Project, lowest, project_of

HERE = Path(__file__).parent
MARK = re.compile(r"  # <-- (.*)")
CHECKS = ["--select", "F401,F811,F841,I,E501"]


def table(path: Path) -> list[tuple[str, str]]:
    parts = re.split(r"^=== (.*)\n", path.read_text(), flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2]))


FILES = [pytest.param(text, id=title) for title, text in table(HERE / "whole_files.txt")]


@pytest.mark.parametrize("case", FILES)
def test_each_place_is_rewritten_or_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    marked, _, after = case.partition("---\n")
    path = tmp_path / "case.py"
    path.write_text(MARK.sub("", marked))
    marks = {line: mark[1] for line, row in enumerate(marked.split("\n"), 1) for mark in [MARK.search(row)] if mark}
    patch = fix.propose(path)
    assert patch.after == (after or patch.before)
    assert {item.line for item in patch.findings} == set(marks)
    for item in patch.findings:
        said = marks[item.line]
        assert said.removeprefix("refused: ") in item.message if item.refused else said == item.rule
    compile(patch.after, "case.py", "exec")
    path.write_text(patch.after)
    assert not fix.propose(path).changed


@pytest.mark.slow
@pytest.mark.parametrize("width", [88, 100])
def test_what_was_clean_for_ruff_is_clean_afterwards(width: int, tmp_path: Path) -> None:
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if not ruff:
        pytest.skip("needs ruff: .venv/bin/python -m pip install ruff")
    (tmp_path / "pyproject.toml").write_text(f"[tool.ruff]\nline-length = {width}\n")
    settings = ["--config", str(tmp_path / "pyproject.toml")]

    def unclean() -> set[str]:
        found = subprocess.run([ruff, "check", *CHECKS, *settings, "--output-format", "concise", str(tmp_path)],
                               capture_output=True, text=True).stdout  # fmt: skip
        found += subprocess.run([ruff, "format", "--check", *settings, str(tmp_path)],
                                capture_output=True, text=True).stdout  # fmt: skip
        return set(re.findall(r"(\w+)\.py", found))

    tables = [*(HERE / "rewrites").glob("*/mended.txt"), HERE / "whole_files.txt"]
    for path in tables:
        for index, (_, case) in enumerate(table(path)):
            before = MARK.sub("", case.partition("---\n")[0])
            (tmp_path / f"{path.parent.name}_{path.stem}_{index}.py").write_text(before)
    subprocess.run([ruff, "check", "-q", "--fix", *CHECKS, *settings, str(tmp_path)], capture_output=True)
    subprocess.run([ruff, "format", "-q", *settings, str(tmp_path)], capture_output=True)
    dirty, rewritten = unclean(), 0
    for path in sorted(tmp_path.glob("*.py")):
        patch = fix.propose(path)
        rewritten += patch.changed and path.stem not in dirty
        fix.write(patch)
        assert not fix.propose(path).changed, path.stem
    assert rewritten > 70 and unclean() <= dirty


# -- what the project says -----------------------------------------------------------------------------------

OLD = """import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor


async def work(command):
    subprocess.run(command, check=True)
    subprocess.getoutput("true")
    with ThreadPoolExecutor() as pool:
        await asyncio.get_event_loop().run_in_executor(pool, str, 1)
"""
FOR_38 = """import asyncio
import functools
import subprocess
from concurrent.futures import ThreadPoolExecutor


async def work(command):
    await asyncio.get_running_loop().run_in_executor(
        None, functools.partial(subprocess.run, command, check=True)
    )
    await asyncio.get_running_loop().run_in_executor(None, subprocess.getoutput, "true")
    pool = ThreadPoolExecutor()
    try:
        await asyncio.get_event_loop().run_in_executor(pool, str, 1)
    finally:
        pool.shutdown(wait=False)
"""


@pytest.mark.parametrize(
    "name, text",
    [
        ("pyproject.toml", '[project]\nrequires-python = ">=3.8"\n'),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "^3.7"\n'),
        ("setup.cfg", "[options]\npython_requires = >=3.8\n"),
        ("setup.py", 'setup(\n    python_requires=">=3.6, <4",\n)\n'),
    ],
)
def test_a_project_for_an_older_python_gets_what_that_knows(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text(OLD)
    assert fix.propose(tmp_path / "src" / "app.py").after == FOR_38
    (tmp_path / name).write_text(text.replace("3.8", "3.9").replace("3.7", "3.10").replace("3.6", "3.11"))
    project_of.__globals__["read_project"].cache_clear()
    assert "asyncio.to_thread(subprocess.run, command" in fix.propose(tmp_path / "src" / "app.py").after


@pytest.mark.parametrize(
    "said, minor",
    [(">=3.8,<4", 8), ("^3.9", 9), ("~=3.10", 10), (">=2.7,!=3.0.*,!=3.1.*", 0), ("", 0), (">=3.7,<=3.12", 7)],
)
def test_the_oldest_python_of_a_requirement(said: str, minor: int) -> None:
    assert lowest(said) == minor


def test_width_and_import_order_are_the_project_s(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.black]\nline-length = 100\n[tool.isort]\nforce_sort_within_sections = true\n"
    )
    path = tmp_path / "app.py"
    path.write_text(
        "from abc import ABC\nimport requests\n\n\nasync def f(url):\n"
        f"    requests.get(url, params={{'a': '{'x' * 24}'}}, timeout=5)\n    await f(ABC)\n"
    )
    assert project_of(str(path)) == Project(0, 100, frozenset({"force-sort-within-sections"}))
    after = fix.propose(path).after
    assert "requests.get, url, params" in after and "(\n" not in after
    (tmp_path / "setup.cfg").write_text("[flake8]\nmax-line-length = 79\n")
    assert project_of(str(path)).width == 100


def test_without_a_configuration_the_width_is_that_of_the_lines_that_could_be_shorter(tmp_path: Path) -> None:
    given = f'url + "/{"x" * 40}", headers=[url]'
    source = (
        f"import requests\n\n# {'a comment ' * 11}\n\n\nasync def f(url):\n    page = requests.get({given})\n"
        f'    text = "{"y" * 106}"\n    return page, text\n'
    )
    (tmp_path / "app.py").write_text(source)
    assert f"asyncio.to_thread(\n        requests.get, {given}\n    )" in fix.propose(tmp_path / "app.py").after
    (tmp_path / "app.py").write_text(source.replace("return page, text", f"return f({'page, ' * 16}text)"))
    assert f"asyncio.to_thread(requests.get, {given})" in fix.propose(tmp_path / "app.py").after


@pytest.mark.parametrize(
    "line", ["media[0] = (PAGE, media[1], name, 1)", "x = [PAGE, media, name]", "return PAGE, name, 1"]
)
def test_the_items_of_a_tuple_or_list_that_is_split_get_a_line_each(line: str, tmp_path: Path) -> None:
    page = "requests.get(media[0], timeout=5, verify=name)"
    source = f"import requests\n\n\nasync def f(media, name):\n    if media:\n        {line}\n".replace("PAGE", page)
    rows = fix.propose_text("app.py", source).after.split("\n")
    first = next(number for number, row in enumerate(rows) if "to_thread" in row)
    assert rows[first + 1].strip() in ("media[1],", "media,", "name,")
    assert rows[first].strip().startswith("await asyncio.to_thread(") and rows[first].endswith("),")


# -- what stays, and work that ends --------------------------------------------------------------------------

STREAM = """import asyncio
import time
from concurrent.futures import ThreadPoolExecutor


def poll(seen, rounds):
    found = []
    for number in range(rounds):
        time.sleep(0.05)
        print(seen)
        found.append(number)
    return found


async def stream(rounds):
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as pool:
        jobs = [loop.run_in_executor(pool, poll, name, rounds) for name in ("a", "b")]
        yield "open"
        for job in asyncio.as_completed(jobs):
            yield await job
"""


METHOD = """import asyncio
import time
from concurrent.futures import ThreadPoolExecutor


class Feed:
    def poll(self, seen, rounds):
        found = []
        for number in range(rounds):
            time.sleep(0.05)
            print(seen)
            found.append(number)
        return found

    async def stream(self, rounds):
        loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(2)
        try:
            jobs = [loop.run_in_executor(pool, self.poll, name, rounds) for name in ("a", "b")]
            yield "open"
            for job in asyncio.as_completed(jobs):
                yield await job
        finally:
            pool.shutdown()


def stream(rounds):
    return Feed().stream(rounds)
"""


def workers() -> int:
    return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


@pytest.mark.parametrize("source", [STREAM, METHOD], ids=["function", "method"])
def test_work_that_may_be_left_ends_when_its_reader_leaves_and_gives_the_same_otherwise(source: str) -> None:
    good = fix.run_rules(fix.RULES, source, "app.py", None)
    after, findings = good
    assert "if stop.is_set():" in after and "stop.wait(0.05)" in after and findings[0].stays == ""
    module = types.ModuleType("app")
    exec(compile(after, "app.py", "exec"), module.__dict__)

    async def whole() -> list:
        return [each async for each in module.stream(3)]

    async def left() -> float:
        stream = module.stream(1000)
        await stream.__anext__()
        began = time.perf_counter()
        await stream.aclose()
        while workers():
            await asyncio.sleep(0.01)
        return time.perf_counter() - began

    assert asyncio.run(whole()) == ["open", [0, 1, 2], [0, 1, 2]]
    assert asyncio.run(left()) < 1


@pytest.mark.parametrize(
    "old, new",
    [
        ("print(seen)", "seen.save()"),  # it belongs to the caller
        ("print(seen)", "requests.post(seen)"),
        ("print(seen)", "open(seen, 'w')"),
        ("print(seen)", "COUNTS[seen] = 1"),
        ("return found", "return store(found)"),
    ],
)
def test_work_that_changes_anything_is_not_left_half_way_and_the_head_says_what_stays(
    old: str, new: str, tmp_path: Path
) -> None:
    path = tmp_path / "app.py"
    path.write_text(STREAM.replace(old, new))
    patch = fix.propose(path)
    assert "stop" not in patch.after and "cancel_futures=True" in patch.after
    assert fix.head(patch).startswith("# stays: line 18: `poll` (line 6) may run on in its thread after")
    assert "snippets/stream_executor.py" in patch.stays[0]


@pytest.mark.parametrize(
    "old, new",
    [
        ("class Feed:", "class Feed(Base):"),  # which may call it
        ("def stream(rounds", "class Fast(Feed):\n    def poll(self, seen, rounds): ...\n\n\ndef stream(rounds"),
        ("return Feed()", "Feed().poll(1, 2)\n    return Feed()"),
        ("        finally:\n            pool", "        except OSError:\n            pass\n        pool"),
        ("pool = ThreadPoolExecutor(2)", "pool = None\n        pool = ThreadPoolExecutor(2)"),
        ("            print(seen)\n", "            self.last = seen\n"),
    ],
)
def test_a_method_that_others_may_mean_and_an_exit_that_is_not_the_only_one_get_no_event(old: str, new: str) -> None:
    source = METHOD.replace(old, new)
    after, findings = fix.run_rules(fix.RULES, source, "app.py", None)
    assert source != METHOD and "threading" not in after
    assert findings[0].stays.startswith("line ")


SOCKET = """import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor


async def read_all(hosts):
    loop = asyncio.get_running_loop()

    def read(host):
        lines = []
        sock = socket.socket()
        sock.connect((host, 25))
        while len(lines) < 10:
            lines.append(sock.recv(100))
        return lines

    with ThreadPoolExecutor() as pool:
        for done in asyncio.as_completed([loop.run_in_executor(pool, read, host) for host in hosts]):
            yield await done
"""
FED = """import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor


async def ticks():
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()

    def read():
        sock = socket.create_connection(("127.0.0.1", 25))
        while True:
            loop.call_soon_threadsafe(queue.put_nowait, sock.recv(1))

    with ThreadPoolExecutor() as pool:
        pool.submit(read)
        while (item := await queue.get()) is not None:
            yield item
"""


def test_a_socket_gets_a_limit_where_its_error_is_seen_and_is_told_where_silence_is_no_error() -> None:
    after, (found,) = fix.run_rules(fix.RULES, SOCKET, "app.py", None)
    assert "sock = socket.socket()\n        sock.settimeout(10)\n        sock.connect" in after and not found.stays
    own = SOCKET.replace("sock.connect", "sock.setblocking(True)\n        sock.connect")
    assert "settimeout(10)" not in fix.run_rules(fix.RULES, own, "app.py", None)[0]
    after, (found,) = fix.run_rules(fix.RULES, FED, "app.py", None)
    assert "timeout=10" not in after and "if stop.is_set():" in after
    assert found.stays.startswith("line 11: its thread looks at `stop` when something comes")


LIMITED = {  # what the work calls, and what it calls then
    "requests.get(seen)": "requests.get(seen, timeout=10)",
    "requests.Session().get(seen)": "requests.Session().get(seen, timeout=10)",
    "requests.get(seen, timeout=None)": "requests.get(seen, timeout=10)",
    "httpx.Client(timeout=None).get(seen)": "httpx.Client(timeout=10).get(seen)",
    "urllib3.PoolManager().request('GET', seen)": "urllib3.PoolManager().request('GET', seen, timeout=10)",
    "psycopg.connect(seen).execute('select 1')": "psycopg.connect(seen, connect_timeout=10).execute('select 1')",
    "redis.Redis().get(seen)": "redis.Redis(socket_timeout=10).get(seen)",
    "redis.Redis.from_url(seen).hgetall('a')": "redis.Redis.from_url(seen, socket_timeout=10).hgetall('a')",
    "socket.create_connection((seen, 80)).close()": "socket.create_connection((seen, 80), timeout=10).close()",
}
AS_IT_IS = (  # a limit of its own, however it is said
    "requests.get(seen, timeout=3)",
    "httpx.get(seen)",
    "urllib3.PoolManager(timeout=2).request('GET', seen)",
    "psycopg.connect('host=db connect_timeout=3').execute('select 1')",
    "redis.Redis(socket_timeout=1).get(seen)",
    "socket.create_connection((seen, 80), 3).close()",
)
WRITES = (
    "requests.Session().post(seen)",
    "psycopg.connect(seen).execute('delete from t')",
    "redis.Redis().set(seen, 1)",
    "urllib3.PoolManager().request('POST', seen)",
)
MODULES = "import httpx, psycopg, redis, requests, socket, urllib3\n"


@pytest.mark.parametrize("old, new", [*LIMITED.items(), *((each, each) for each in AS_IT_IS)])
def test_a_call_without_a_limit_gets_one_where_the_work_may_be_left(old: str, new: str) -> None:
    after, findings = fix.run_rules(fix.RULES, MODULES + STREAM.replace("print(seen)", old), "app.py", None)
    assert f"        {new}\n" in after and "if stop.is_set():" in after
    said = [item.message for item in findings if "had no time-out" in item.message]
    assert bool(said) == (old != new)
    assert ("statement_timeout" in "".join(said)) == ("connect_timeout=10" in new)


@pytest.mark.parametrize("call", WRITES)
def test_work_that_writes_to_its_peer_is_not_left_half_way(call: str) -> None:
    after, _ = fix.run_rules(fix.RULES, MODULES + STREAM.replace("print(seen)", call), "app.py", None)
    assert "stop" not in after and call in after and "cancel_futures=True" in after


@pytest.mark.parametrize("daemon, exits", [("", True), (", daemon=True", False)])
def test_the_head_says_that_a_thread_runs_on_when_the_client_leaves(daemon: str, exits: bool) -> None:
    source = (
        f"import threading\nasync def events(work, jobs):\n    worker = threading.Thread(target=work{daemon})\n"
        "    worker.start()\n    yield await jobs.get()\n    worker.join()\n"
    )
    patch = fix.propose_text("app.py", source)
    assert fix.head(patch).startswith("# stays: line 6: `worker` runs on after a client has left earlier")
    assert ("the exit of the process waits for it" in fix.head(patch)) == exits


def test_a_function_that_another_file_uses_keeps_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(STREAM)
    (tmp_path / "other.py").write_text("from app import poll\n")
    patch = fix.propose(tmp_path / "app.py")
    assert "stop" not in patch.after and patch.stays
