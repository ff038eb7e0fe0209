"""The rules that replace spans: their tables, and what the bad and the good form do when they run."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import random
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import types
import warnings
from pathlib import Path

import pytest

from hangdebug.repair import fix
from hangdebug.repair.code.file import parse
from hangdebug.repair.code.findings import called_in_coroutines
from hangdebug.repair.rules import RULES

TABLES = Path(__file__).with_name("rewrites")
MARK = re.compile(r"# <-- refused: (.*)")
BY_ID = {rule.id: rule for rule in RULES}
SPANS = sorted(set(BY_ID) - {"nonblocking_executor"})


def table(rule: str, name: str) -> list[tuple[str, str]]:
    parts = re.split(r"^=== (.*)\n", (TABLES / rule / name).read_text(), flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2]))


def cases(name: str) -> list:
    return [pytest.param(rule, source, id=f"{rule}: {title}") for rule in SPANS for title, source in table(rule, name)]


def test_every_rule_has_its_tables() -> None:
    assert {path.name for path in TABLES.iterdir()} == set(BY_ID)
    for rule in BY_ID:
        mended, left = table(rule, "mended.txt"), table(rule, "left_alone.txt")
        assert mended and len(left) >= len(mended) / 2, rule


@pytest.mark.parametrize("rule, case", cases("mended.txt"))
def test_mended_once_compiles_and_is_concerned(rule: str, case: str) -> None:
    before, after = case.split("---\n")
    got, findings = BY_ID[rule].rewrite(before, "app.py")
    assert got == after
    compile(got, "app.py", "exec")
    assert findings and not any(item.refused for item in findings)
    assert BY_ID[rule].concerns(before, called_in_coroutines(parse(before)))
    assert BY_ID[rule].rewrite(after, "app.py") == (after, ())


@pytest.mark.parametrize("rule, source", cases("left_alone.txt"))
def test_left_alone_or_refused_with_the_reason(rule: str, source: str) -> None:
    got, findings = BY_ID[rule].rewrite(source, "app.py")
    assert got == source and all(item.refused for item in findings)
    found = [
        (line, mark[1].strip())
        for line, text in enumerate(source.split("\n"), 1)
        for mark in [MARK.search(text)]
        if mark
    ]
    assert sorted({item.line for item in findings}) == [line for line, _ in found]
    for line, words in found:
        assert any(item.line == line and words in item.message for item in findings)
    assert not findings or BY_ID[rule].concerns(source, called_in_coroutines(parse(source)))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("rule, case", cases("mended.txt"))
def test_line_endings_and_tabs_are_the_file_s_own(rule: str, case: str, newline: str) -> None:
    before, after = (text.replace("    ", "\t").replace("\n", newline) for text in case.split("---\n"))
    got, _ = BY_ID[rule].rewrite(before, "app.py")
    assert got.replace("    ", "\t") == after


@pytest.mark.parametrize("rule", SPANS)
def test_ruff_has_nothing_against_what_comes_out(rule: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if not ruff:
        pytest.skip("needs ruff: .venv/bin/python -m pip install ruff")
    for index, (_, case) in enumerate(table(rule, "mended.txt")):
        (tmp_path / f"case_{index}.py").write_text(case.split("---\n")[1])
    # Popen itself, a `with` over a file and a bare `while` are other findings, which no rewrite here is about
    command = [
        ruff,
        "check",
        "--isolated",
        "--select",
        "ASYNC",
        "--ignore",
        "ASYNC110,ASYNC220,ASYNC230",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("rule", SPANS)
def test_a_line_limits_it_to_its_place_or_its_function(rule: str) -> None:
    for _, case in table(rule, "mended.txt"):
        before = case.split("---\n")[0]
        for item in BY_ID[rule].rewrite(before, "app.py")[1]:
            exact = BY_ID[rule].rewrite(before, "app.py", item.line, exact=True)[1]
            assert item in exact


# -- what they do when they run ----------------------------------------------------------------------------


def load(source: str) -> types.ModuleType:
    module = types.ModuleType("handler")
    exec(compile(textwrap.dedent(source), "handler.py", "exec"), module.__dict__)
    return module


def both(rule: str, source: str) -> tuple[str, str]:
    bad = textwrap.dedent(source)
    good, findings = BY_ID[rule].rewrite(bad, "handler.py")
    assert good != bad and not any(item.refused for item in findings)
    return bad, good


def stalled(run) -> tuple[object, float]:
    """What the coroutine returns, and the longest time for which the loop served nothing else."""

    async def main() -> tuple[object, float]:
        task, last, worst = asyncio.ensure_future(run()), time.perf_counter(), 0.0
        while not task.done():
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            last, worst = now, max(worst, now - last)
        return task.result(), worst

    return asyncio.run(main())


BLOCKS = {
    "sleep": (
        """
        import time
        async def handler(pool, work):
            time.sleep(0.5)
            return "page"
    """
    ),
    "to_thread": (
        """
        import threading
        async def handler(pool, work):
            found = []
            thread = threading.Thread(target=lambda: found.append(work()))
            thread.start()
            thread.join()
            return found.pop()
    """
    ),
    "await_future": (
        """
        from concurrent.futures import ThreadPoolExecutor
        async def handler(pool, work):
            executor = ThreadPoolExecutor(1)
            future = executor.submit(work)
            return future.result()
    """
    ),
}
MORE = {
    "as_completed": (
        """
        from concurrent.futures import ThreadPoolExecutor, as_completed
        async def handler(pool, work):
            with ThreadPoolExecutor() as executor:
                jobs = [executor.submit(work), executor.submit(work)]
                return {job.result() for job in as_completed(jobs)}.pop()
    """
    ),
    "wait": (
        """
        from concurrent.futures import ThreadPoolExecutor, wait
        async def handler(pool, work):
            with ThreadPoolExecutor() as executor:
                jobs = [executor.submit(work), executor.submit(work)]
                wait(jobs)
                return [job.result() for job in jobs].pop()
    """
    ),
    "map": (
        """
        from concurrent.futures import ThreadPoolExecutor
        async def handler(pool, work):
            with ThreadPoolExecutor() as executor:
                return list(executor.map(lambda _: work(), "ab")).pop()
    """
    ),
}


def slow() -> str:
    threading.Event().wait(0.5)
    return "page"


@pytest.mark.slow
@pytest.mark.parametrize("rule, source", [*BLOCKS.items(), *(("await_future", source) for source in MORE.values())])
def test_the_bad_form_stalls_the_loop_and_the_good_one_gives_the_same_without(rule: str, source: str) -> None:
    (bad, stall), (good, calm) = (
        stalled(lambda text=text: load(text).handler(None, slow)) for text in both(rule, source)
    )
    assert bad == good == "page"
    assert stall > 0.4 and calm < 0.25


@pytest.mark.parametrize("rule, source", [*BLOCKS.items(), ("await_future", MORE["map"])])
def test_what_the_work_raises_arrives_in_both(rule: str, source: str) -> None:
    def fail() -> None:
        raise KeyError("gone")

    for text in both(rule, source.replace("found.append(work())", "work()")):
        if rule == "await_future":
            with pytest.raises(KeyError, match="gone"):
                asyncio.run(load(text).handler(None, fail))


def test_a_cancellation_reaches_the_good_form_at_once_and_drops_what_is_queued() -> None:
    _, good = both(
        "await_future",
        """
        import asyncio
        async def handler(executor, work):
            pass
        from concurrent.futures import ThreadPoolExecutor
        async def main(work, started):
            pool = ThreadPoolExecutor(1)
            first, second = pool.submit(started), None
            future = pool.submit(work)
            return future.result()
    """,
    )
    ran, running, release = [], threading.Event(), threading.Event()

    async def main() -> float:
        task = asyncio.ensure_future(load(good).main(lambda: ran.append(1), lambda: (running.set(), release.wait(5))))
        await asyncio.to_thread(running.wait)
        began = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        spent = time.perf_counter() - began
        release.set()
        return spent

    assert asyncio.run(main()) < 0.25 and ran == []


EARLY = """
    from concurrent.futures import ThreadPoolExecutor, as_completed
    async def pages(work, how):
        with ThreadPoolExecutor(3) as executor:
            jobs = [executor.submit(work, name) for name in ("quick", "slow", "slower")]
            for job in as_completed(jobs):
                page = job.result()
                if how == "break":
                    break
                if how == "return":
                    return
                if how == "raise":
                    raise LookupError(page)
                yield page
"""


def left_early(source: str, how: str) -> tuple[list[str], list[str]]:
    """What a stream gives whose reader goes after one page while the other jobs fail, and what asyncio reports."""
    seen, reported = [], []
    release = threading.Event()

    def work(name: str) -> str:
        if name == "quick":
            return name
        release.wait(5)
        raise ValueError(name)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
        stream = load(source).pages(work, how)
        threading.Timer(0.05, release.set).start()
        with contextlib.suppress(LookupError):
            async for page in stream:
                seen.append(page)
                break
        await stream.aclose()
        del stream
        while any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate()):
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        gc.collect()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    return seen, reported + [str(each.message) for each in warned]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["aclose", "break", "return", "raise"])
def test_a_loop_that_is_left_early_leaves_nothing_unretrieved(how: str) -> None:
    bad, good = both("await_future", EARLY)
    assert left_early(bad, how) == left_early(good, how) == (["quick"] * (how == "aclose"), [])
    bare = re.sub(r"^ *asyncio\.gather.*\n", "", good, flags=re.M)
    assert any("never retrieved" in words for words in left_early(bare, how)[1])


ROUTE = """
    import subprocess, sys
    from fastapi import FastAPI
    app = FastAPI()
    @app.get("/report")
    async def report(name: str):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"])
        return {"name": name}
"""


async def requested(app, path: str, query: bytes) -> tuple[int, bytes]:
    sent: list[dict] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [],
        "scheme": "http",
        "root_path": "",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent)


@pytest.mark.slow
def test_a_route_made_synchronous_answers_the_same_and_leaves_the_loop_free() -> None:
    (bad, stall), (good, calm) = (
        stalled(lambda text=text: requested(load(text).app, "/report", b"name=x"))
        for text in both("sync_endpoint", ROUTE)
    )
    assert bad == good == (200, b'{"name":"x"}')
    assert stall > 0.4 and calm < 0.25


EVENTS = """
    from fastapi import FastAPI
    seen = []
    app = FastAPI()
    @app.on_event("startup")
    async def one():
        seen.append("one")
    @app.on_event("shutdown")
    def three():
        seen.append("three")
    @app.on_event("startup")
    def two():
        seen.append("two")
    @app.on_event("shutdown")
    async def four():
        seen.append("four")
"""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_lifespan_calls_the_handlers_in_the_same_order(fails: bool) -> None:
    async def lived(module: types.ModuleType) -> list[str]:
        try:
            async with module.app.router.lifespan_context(module.app):
                module.seen.append("served")
                if fails:
                    raise ValueError  # noqa: TRY301
        except ValueError:
            module.seen.append("failed")
        return module.seen

    before, after = (asyncio.run(lived(load(text))) for text in both("lifespan", EVENTS))
    assert before == after == ["one", "two", "served", "three", "four"] + ["failed"] * fails


LOCKED = """
    import asyncio, threading
    _lock = threading.Lock()
    order = []
    async def handler(name):
        with _lock:
            order.append(name)
            await asyncio.sleep(0.01)
            order.append(name)
    async def main():
        await asyncio.gather(handler("a"), handler("b"))
        print(*order)
"""


@pytest.mark.slow
def test_the_lock_of_threads_hangs_for_ever_and_that_of_asyncio_keeps_the_order() -> None:
    bad, good = both("asyncio_lock", LOCKED)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", f"{bad}\nasyncio.run(main())"], timeout=2, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", f"{good}\nasyncio.run(main())"], timeout=30, capture_output=True, text=True
    )
    assert done.stdout.split() == ["a", "a", "b", "b"], done.stderr


# -- an executor that others use too -----------------------------------------------------------------------

SHARED = """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor
    class Renderer:
        def __init__(self):
            self.pool = ThreadPoolExecutor(1)
        async def render(self, work):
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        async def close(self):
            self.pool.shutdown(wait=True)
"""


@pytest.mark.slow
def test_a_shared_pool_s_exit_waits_as_before_off_the_loop_and_drops_nothing_that_others_await() -> None:
    async def closed(module: types.ModuleType) -> list:
        renderer, begun = module.Renderer(), threading.Event()

        def work() -> str:
            begun.set()
            return slow()

        pages = [asyncio.ensure_future(renderer.render(work)) for _ in range(2)]
        while not begun.is_set():
            await asyncio.sleep(0.005)
        await renderer.close()
        return await asyncio.gather(*pages, return_exceptions=True)

    (bad, stall), (good, calm) = (
        stalled(lambda text=text: closed(load(text))) for text in both("nonblocking_executor", SHARED)
    )
    assert bad == good == ["page", "page"]
    assert stall > 0.4 and calm < 0.25


def test_a_map_that_fails_raises_the_first_of_its_inputs_and_drops_what_is_queued() -> None:
    source = """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        async def handler(work, items):
            return list(pool.map(work, items))
    """

    def tried(text: str) -> tuple[str, list[int]]:
        ran, module, begun, release = [], load(text), threading.Event(), threading.Event()

        def work(item: int) -> int:
            ran.append(item)
            if item == 0:
                begun.wait(5)
                raise ValueError("first")
            release.wait(5)
            return item

        threading.Timer(0.05, begun.set).start()
        with pytest.raises(ValueError, match="first") as caught:
            asyncio.run(module.handler(work, range(6)))
        release.set()
        module.pool.shutdown()
        return str(caught.value), ran

    bad, good = both("await_future", source)
    for text in (bad, good):
        words, ran = tried(text)
        assert words == "first" and ran in ([0], [0, 1])  # the worker may have taken the next one up already


RACE = """
    import asyncio, time
    class Seats:
        taken = 0
        async def take(self):
            if self.taken:
                return False
            time.sleep(0.01)
            self.taken += 1
            return True
"""


def test_an_await_between_check_and_act_would_let_two_in_so_there_is_none() -> None:
    source = textwrap.dedent(RACE)
    after, (finding,) = BY_ID["sleep"].rewrite(source, "app.py")
    assert after == source and finding.refused and "`self.taken`" in finding.message

    async def both_take(text: str) -> list[bool]:
        seats = load(text).Seats()
        return await asyncio.gather(seats.take(), seats.take())

    assert sorted(asyncio.run(both_take(source))) == [False, True]
    assert asyncio.run(both_take(source.replace("time.sleep", "await asyncio.sleep"))) == [
        True,
        True,
    ]  # what is refused


LOOP_S = """
    import asyncio, requests
    from fastapi import FastAPI
    app = FastAPI()
    ready = asyncio.Event()
    @app.get("/report")
    async def report(url: str):
        page = requests.get(url)
        ready.set()
        return page.text
"""


def test_a_route_that_touches_what_belongs_to_the_loop_stays_on_it() -> None:
    source = textwrap.dedent(LOOP_S)
    assert BY_ID["sync_endpoint"].rewrite(source, "app.py") == (source, ())
    after, findings = fix.run_rules(RULES, source, "app.py", None)
    assert "async def report" in after and "await asyncio.to_thread(requests.get, url)" in after
    assert [item.rule for item in findings] == ["to_thread"]


# -- several rules on one file -----------------------------------------------------------------------------


def test_awaited_futures_let_the_exit_be_mended_and_findings_name_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text(
        textwrap.dedent("""\
        import requests
        from concurrent.futures import ThreadPoolExecutor

        async def pages(urls):
            with ThreadPoolExecutor() as pool:
                jobs = [pool.submit(requests.get, url) for url in urls]
                for job in jobs:
                    yield job.result()
            with ThreadPoolExecutor() as pool:
                pool.submit(print)
            yield requests.get(urls[0])
    """)
    )
    patch = fix.propose(path)
    compile(patch.after, "app.py", "exec")
    assert [(item.line, item.rule, item.refused) for item in patch.findings] == [
        (5, "nonblocking_executor", False),
        (8, "await_future", False),
        (9, "nonblocking_executor", False),
        (11, "to_thread", False),
    ]
    assert "line 10 may leave work" in patch.findings[2].message
    assert patch.after.startswith("import asyncio\nimport requests\n")
    assert "yield await asyncio.wrap_future(job)\n    finally:\n        pool.shutdown(wait=False" in patch.after
    path.write_text(patch.after)
    assert not fix.propose(path).changed


def test_a_lifespan_s_own_join_is_not_mended_after_its_decorators_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text(
        textwrap.dedent("""\
        from concurrent.futures import ThreadPoolExecutor
        from fastapi import FastAPI
        app = FastAPI()
        pool = ThreadPoolExecutor()
        @app.on_event("shutdown")
        async def close():
            pool.shutdown()
    """)
    )
    first = fix.propose(path)
    assert "pool.shutdown()" in first.after and "lifespan=lifespan" in first.after
    path.write_text(first.after)
    again = fix.propose(path)
    assert not again.changed and [item.refused for item in again.findings] == [True]


def test_the_rule_of_executors_finds_what_leaves_one_and_nothing_else() -> None:
    source = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor()\n"
    left = [
        "async def f():\n    with pool: pass\n",
        "async def f():\n    pool.shutdown()\n",
        "async def f(s):\n    s.enter_context(ThreadPoolExecutor())\n",
        "from concurrent.futures import ThreadPoolExecutor as T\nasync def f():\n    with T() as p: pass\n",
        "class P(ThreadPoolExecutor): pass\nasync def f():\n    with P() as p: pass\n",
        "P = ThreadPoolExecutor\nasync def f():\n    with open(1), (p := P()): pass\n",
    ]
    kept = [
        "async def f():\n    with open(1): pass\n    app.shutdown()\n",
        "def f():\n    with pool: pass\n",
        "async def f():\n    def g():\n        pool.shutdown()\n",
        "async def f():\n    await g(lambda: pool.shutdown())\n",
    ]
    rule = BY_ID["nonblocking_executor"]
    for text in left:
        assert rule.concerns(source + text, called_in_coroutines(parse(source + text)))
        assert rule.rewrite(source + text, "app.py")[1], text
    assert not any(rule.rewrite(source + text, "app.py")[1] for text in kept)


@pytest.mark.parametrize(
    "head, tail",
    [
        ("import time; x = (1,\n2)", "import asyncio"),
        ('"""Doc."""; import time', ""),
        ("from __future__ import annotations; import time", ""),
        ("import time, zlib\nimport os; y = [\n]\nx = 1", ""),
        ("#!/bin/python\n# -*- coding: utf-8 -*-\nimport time", ""),
        ("if 1:\n    import time", ""),
        ("try:\n    import asyncio, time\nexcept ImportError:\n    pass", ""),
        ("from time import sleep\n@print\ndef g(): ...\nimport time", ""),
        ("import time\\\n\\\n  , os", ""),
    ],
)
def test_an_import_goes_where_the_file_still_compiles(head: str, tail: str) -> None:
    for newline in ("\n", "\r\n"):
        source = f"{head}\nasync def f():\n    time.sleep(1)".replace("\n", newline)
        after, findings = BY_ID["sleep"].rewrite(source, "app.py")
        module = ast.parse(after)
        compile(after, "app.py", "exec")
        assert findings and ast.get_docstring(module) == ast.get_docstring(ast.parse(source))
        named = [
            node
            for node in ast.walk(module)
            if isinstance(node, ast.Import) and "asyncio" in {each.name for each in node.names}
        ]
        assert named and BY_ID["sleep"].rewrite(after, "app.py") == (after, ())


# -- all rules on one file, once and again -----------------------------------------------------------------


def tables() -> list:
    return [
        pytest.param(case.split("---\n")[0], id=f"{rule}: {title}")
        for rule in BY_ID
        for name in ("mended.txt", "left_alone.txt")
        for title, case in table(rule, name)
    ]


def check_twice(source: str) -> str:
    """What all rules make of it compiles where the source did, and a second run finds nothing to mend in it."""
    after, findings = fix.run_rules(RULES, source, "app.py", None)
    again, rest = fix.run_rules(RULES, after, "app.py", None)
    assert again == after and all(item.refused for item in rest), rest
    assert len(rest) <= sum(item.refused for item in findings), (findings, rest)
    with contextlib.suppress(SyntaxError):
        compile(source, "before.py", "exec")
        try:
            compile(after, "after.py", "exec")
        except SyntaxError as error:
            raise AssertionError(after) from error
    return after


@pytest.mark.parametrize("source", tables())
def test_a_second_run_finds_nothing_new(source: str) -> None:
    check_twice(source)


HEAD = """import asyncio, threading, time, queue, requests, concurrent.futures as cf
from concurrent.futures import ThreadPoolExecutor as T
_lock = threading.Lock()
pool = T()
jobs = queue.Queue()
"""
LINES = (
    "time.sleep(1)",
    "x = requests.get(u).text",
    "f = pool.submit(g)",
    "f.result()",
    "r = f.result()",
    "yield 1",
    "fs = [pool.submit(g, x) for x in u]",
    "[f.result() for f in fs]",
    "cf.wait(fs)",
    "list(pool.map(g, u))",
    "await u()",
    "self.n += 1",
    "self.n = self.m",
    "_lock.acquire()",
    "_lock.release()",
    "jobs.get(timeout=1)",
    "pool.shutdown()",
    "self.pool.shutdown()",
    "self.pool = T()",
    "return",
    "open(u).read()",
    "own = T()",
    "own.submit(g)",
    "own.shutdown()",
    "r = (list(pool.map(g, u)), 1)",
    "r = [x.result() for x in cf.as_completed(fs)]",
)
OPENS = (
    "for x in list(pool.map(g, u)):",
    "with _lock:",
    "async with u:",
    "with T() as own:",
    "for x in u:",
    "while u:",
    "if u:",
    "for job in cf.as_completed(fs):",
    "for f in fs:",
    "async def inner(self, u):",
    "def inner(self, u):",
    "try:",
    "with asyncio.timeout(1):",
)


def drawn(rng: random.Random, depth: int = 1) -> list[str]:
    pad, lines = "    " * depth, []
    for _ in range(rng.randint(1, 4)):
        if depth < 4 and rng.random() < 0.4:
            head = rng.choice(OPENS)
            lines += [pad + head, *drawn(rng, depth + 1)]
            lines += (
                [pad + rng.choice(("finally:", "except ValueError:")), *drawn(rng, depth + 1)] if head == "try:" else []
            )
        else:
            lines.append(pad + rng.choice(LINES))
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_them_is_mended_once(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        check_twice("\n".join([HEAD, "async def f(self, u, g):", *drawn(rng), ""]))
