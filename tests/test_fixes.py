"""The rewrite `nonblocking_executor`: what it mends, what it leaves, and what the two do when they run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hangdebug.repair.rules import RULES, nonblocking_executor

TABLES = Path(__file__).with_name("rewrites") / "nonblocking_executor"
FIXES = Path(nonblocking_executor.__file__).parent
rewrite = next(rule.rewrite for rule in RULES if rule.id == "nonblocking_executor")
MARK = re.compile(r"# <-- refused: (.*)")


def table(name: str) -> list:
    text = (TABLES / name).read_text()
    parts = re.split(r"^=== (.*)\n", text, flags=re.M)[1:]
    return [pytest.param(source, id=title) for title, source in zip(parts[::2], parts[1::2])]


MENDED, LEFT = table("mended.txt"), table("left_alone.txt")


def marks(source: str) -> list[tuple[int, str]]:
    found = [(number, MARK.search(line)) for number, line in enumerate(source.split("\n"), 1)]
    return [(number, mark[1].strip()) for number, mark in found if mark]


def check_refusals(source: str, findings: tuple) -> None:
    refused = sorted((item.line, item.message) for item in findings if item.refused)
    assert [line for line, _ in refused] == [line for line, _ in marks(source)], refused
    for (_, message), (_, words) in zip(refused, marks(source)):
        assert words in message
        assert "snippets/" in message or "another name" in message  # what to do next


@pytest.mark.parametrize("case", MENDED)
def test_mended(case: str) -> None:
    before, after = case.split("---\n")
    got, findings = rewrite(before, "app.py")
    assert got == after
    compile(got, "app.py", "exec")
    assert any(not item.refused for item in findings)
    check_refusals(before, findings)
    again, findings = rewrite(after, "app.py")
    assert again == after
    assert all(item.refused for item in findings)
    check_refusals(after, findings)


@pytest.mark.parametrize("source", LEFT)
def test_left_alone(source: str) -> None:
    got, findings = rewrite(source, "app.py")
    assert got == source
    assert all(item.refused for item in findings)
    check_refusals(source, findings)


def test_the_table_of_left_alone_is_long_enough() -> None:
    assert len(MENDED) >= 20
    assert len(LEFT) >= len(MENDED) / 2


def test_every_rule_is_a_file_and_every_file_a_rule() -> None:
    files = {path.stem for path in FIXES.glob("*.py")} - {"__init__"}
    assert files == {rule.id for rule in RULES}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("indent", ["\t", "  ", "        "])
def test_newlines_and_indentation_are_the_file_s_own(newline: str, indent: str) -> None:
    texts = MENDED[7].values[0].split("---\n")
    before, after = (text.replace("    ", indent).replace("\n", newline) for text in texts)
    assert rewrite(before, "app.py")[0] == after


def test_a_lone_carriage_return_ends_a_line_too_and_is_kept() -> None:
    before, after = (text.replace("\n", "\r") for text in MENDED[0].values[0].split("---\n"))
    assert rewrite(before, "app.py")[0] == after


def test_a_line_limits_the_rewrite_to_its_block_or_its_function() -> None:
    work = "        await loop.run_in_executor(pool, f)\n"
    one = "async def {}(loop):\n    x = 1\n    with T() as pool:\n" + work
    source = "from concurrent.futures import ThreadPoolExecutor as T\n" + one.format("a") + one.format("b")
    lines = {line: [item.line for item in rewrite(source, "app.py", line)[1]] for line in (1, 3, 5, 7, 9)}
    assert lines == {1: [], 3: [4], 5: [4], 7: [8], 9: [8]}


FRAGMENTS = (
    "x = 1",
    "await one()",
    "yield 1",
    "pool.submit(f)",
    "jobs = [pool.submit(f)]",
    "return",
    "await loop.run_in_executor(pool, f)",
    "jobs = [loop.run_in_executor(pool, f) for f in g]",
    "await asyncio.gather(*jobs)",
    "pool.shutdown()",
    "pool.shutdown(wait=False)",
    "for j in jobs: await j",
    "list(pool.map(f, g))",
    "cf.wait(jobs)",
    "pool = T()",
    "del pool",
    "# note",
    "lambda: pool.submit(f)",
    "q = asyncio.Queue()",
    "q = queue.Queue()",
    "pool.submit(f, q)",
    "await q.get()",
    "q.get()",
    "await inner(pool)",
)
HEADS = (
    "with T() as pool:",
    "with open(p) as o, T() as pool, o:",
    "with (T() as pool, cf.ProcessPoolExecutor()):",
    "async with gate:",
    "def inner():",
    "async def inner(pool):",
    "class Inner:",
    "if x:",
    "for x in g:",
    "while x:",
    "with pool:",
    "with T():",
    "with (pool := T()):",
)


def program(tree: list, depth: int = 0) -> list[str]:
    pad, lines = "    " * depth, []
    for item in tree:
        if isinstance(item, str):
            lines.append(pad + item)
        else:
            lines += [pad + item[0], *program(item[1], depth + 1), pad + "    pass"]
    return lines


BODY = st.recursive(
    st.lists(st.sampled_from(FRAGMENTS), max_size=4),
    lambda inner: st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.tuples(st.sampled_from(HEADS), inner)), max_size=4),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(BODY, st.sampled_from(["async def f():", "def f():"]))
def test_any_composition_is_mended_once_and_still_compiles(body: list, head: str) -> None:
    imports = [
        "import asyncio, queue, concurrent.futures as cf",
        "from concurrent.futures import ThreadPoolExecutor as T",
    ]
    source = "\n".join([*imports, head, *program(body, 1), "    pass", ""])
    after, _ = rewrite(source, "app.py")
    assert rewrite(after, "app.py")[0] == after
    if "async def" not in source:
        assert after == source
    assert after.count("with") <= source.count("with") + source.count(", o:")
    try:
        compile(source, "before.py", "exec")
    except SyntaxError:  # an await in a def, a return with a yield: wrong before, not ours to judge
        return
    compile(after, "after.py", "exec")


FORMS = {
    "with": """
        with T(1) as pool:
            await work(loop.run_in_executor(pool, job))
    """,
    "shutdown": """
        pool = T(1)
        try:
            await work(loop.run_in_executor(pool, job))
        finally:
            pool.shutdown()
    """,
    "with-name": """
        pool = T(1)
        with pool:
            await work(loop.run_in_executor(pool, job))
    """,
    "items": """
        with nullcontext(), T(1) as pool, nullcontext():
            await work(loop.run_in_executor(pool, job))
    """,
    "queue": """
        queue = asyncio.Queue()
        def produce():
            job()
            loop.call_soon_threadsafe(queue.put_nowait, None)
        with T(1) as pool:
            pool.submit(produce)
            while await queue.get():
                pass
    """,
    "event": """
        done = asyncio.Event()
        with T(1) as pool:
            pool.submit(lambda: (job(), loop.call_soon_threadsafe(done.set)))
            await done.wait()
    """,
    "helper": """
        async def run(jobs, pool):
            await loop.run_in_executor(pool, jobs)
        with T(1) as pool:
            await asyncio.gather(run(job, pool), asyncio.create_task(run(str, pool)))
    """,
}
START = """
import asyncio
from contextlib import nullcontext
from concurrent.futures import ThreadPoolExecutor as T
async def handler(loop, job):
"""


def load(source: str):
    module = types.ModuleType("handler")
    exec(compile(source, "handler.py", "exec"), module.__dict__)
    return module.handler


def sources(form: str) -> tuple[str, str]:
    body = re.sub("^    ", "", FORMS[form].replace("await work(", "await ("), flags=re.M)
    bad = START + body.lstrip("\n").rstrip() + "\n"
    good, findings = rewrite(bad, "handler.py")
    assert good != bad and not any(item.refused for item in findings)
    return bad, good


def frozen(source: str, seconds: float) -> float:
    """How long the loop serves nothing when the handler is cancelled while its worker runs `seconds`."""

    async def main() -> float:
        loop, running, release = asyncio.get_running_loop(), threading.Event(), threading.Event()

        def job() -> None:
            running.set()
            release.wait(seconds)

        task = asyncio.create_task(load(source)(loop, job))
        await asyncio.to_thread(running.wait)
        started = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        spent = time.perf_counter() - started
        release.set()
        return spent

    return asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_bad_form_blocks_the_loop_on_cancellation_and_the_good_one_does_not(form: str) -> None:
    bad, good = sources(form)
    assert frozen(bad, 0.6) > 0.5
    assert frozen(good, 0.6) < 0.3


@pytest.mark.parametrize("form", FORMS)
def test_awaited_work_is_complete_in_both(form: str) -> None:
    for source in sources(form):
        done: list[int] = []

        async def main(handler, done=done) -> None:
            await handler(asyncio.get_running_loop(), lambda: done.append(1))

        asyncio.run(main(load(source)))
        assert done == [1]


PRODUCER = (
    START.replace("handler(loop, job)", "handler(loop, feed, seen)")
    + """
    queue = asyncio.Queue()
    with T(1) as pool:
        job = loop.run_in_executor(pool, feed, queue)
        while True:
            item = await queue.get()
            if item is None:
                break
            if item == "return":
                return
            if item == "raise":
                raise KeyError(item)
            if item == "skip":
                continue
            yield item
        seen.append("last in the block")
    seen.append("after the block")
"""
)


def streamed(source: str, items: list) -> tuple[list, float]:
    """What the stream gives for a producer that sends the items and then works for 0.6 s more."""
    seen: list = []

    async def main() -> float:
        loop, release = asyncio.get_running_loop(), threading.Event()

        def feed(queue: asyncio.Queue) -> None:
            for item in items:
                loop.call_soon_threadsafe(queue.put_nowait, item)
            release.wait(0.6)

        started = time.perf_counter()
        try:
            async for item in load(source)(loop, feed, seen):
                seen.append(item)  # noqa: PERF401
        except KeyError as error:
            seen.append(repr(error))
        spent = time.perf_counter() - started
        release.set()
        return spent

    return seen, asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("last", ["return", "raise", None])
def test_a_queue_s_stream_is_the_same_whichever_way_it_ends(last: str | None) -> None:
    good, (finding,) = rewrite(PRODUCER, "handler.py")
    assert "Nothing waits for line 9 any more" in finding.message
    items = [1, "skip", 2, last, 3, None]
    (before, slow), (after, fast) = streamed(PRODUCER, items), streamed(good, items)
    assert before == after and before[:2] == [1, 2] and 3 not in before
    assert slow > 0.5 and fast < 0.3


@pytest.mark.slow
def test_a_producer_that_only_feeds_the_queue_ends_soon_after_its_reader_left() -> None:
    bad = """
import asyncio
from concurrent.futures import ThreadPoolExecutor as T
async def handler(loop, rows):
    queue = asyncio.Queue()
    def produce():
        for row in rows:
            loop.call_soon_threadsafe(queue.put_nowait, row)
    with T(1) as pool:
        pool.submit(produce)
        while (row := await queue.get()) is not None:
            yield row
"""
    good, (finding,) = rewrite(bad, "handler.py")
    assert "ends when `stop` is set" in finding.message

    def taken(source: str, leaves: bool) -> tuple[list[int], list[int]]:
        made, got = [], []

        def rows():
            for number in range(30):
                made.append(number)
                yield number
                time.sleep(0.01)
            yield None

        async def main() -> None:
            stream = load(source)(asyncio.get_running_loop(), rows())
            async for row in stream:
                got.append(row)
                if leaves:
                    break
            await stream.aclose()

        asyncio.run(main())
        while any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate()):
            time.sleep(0.01)
        return made, got

    assert taken(bad, False) == taken(good, False) == (list(range(30)), list(range(30)))
    assert len(taken(bad, True)[0]) == 30 and len(taken(good, True)[0]) < 15


def test_items_are_left_in_the_same_order() -> None:
    source = (
        START
        + """
    with loop("a"), T(1) as pool, loop("b"):
        raise KeyError("gone")
"""
    )
    after = rewrite(source, "handler.py")[0]
    assert after != source
    for text in (source, after):
        assert order(text) == ["+a", "+pool", "+b", "-b", "-pool", "-a"]


def order(source: str) -> list[str]:
    seen: list[str] = []

    class Step:
        def __init__(self, name: object) -> None:
            self.name = name if isinstance(name, str) else "pool"
            seen.append(f"+{self.name}")

        def __enter__(self) -> Step:
            return self

        def __exit__(self, *exc: object) -> None:
            seen.append(f"-{self.name}")

        def shutdown(self, **options: bool) -> None:
            seen.append("-pool")

    handler = load(source)
    handler.__globals__["T"] = Step
    with pytest.raises(KeyError):
        asyncio.run(handler(Step, None))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("case", [0, 7, 40], ids=["one block", "several items", "a shared pool"])
def test_fix_needs_nothing_but_python(case: int, tmp_path: Path) -> None:
    before, after = MENDED[case].values[0].split("---\n")
    (tmp_path / "app.py").write_text(before)
    engine = FIXES.parents[2] / "hang.py"
    bare = [sys.executable, "-S", "-I", str(engine), "fix", "--write", "app.py"]
    run = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert run.returncode == ("] refused" in run.stderr), run.stdout + run.stderr
    assert (tmp_path / "app.py").read_text() == after


# Judged by hand: both await their only call and then join the pool on the loop's thread.
KNOWN = ("jupyter_lsp/serverextension.py", "test/test_asyncio/test_events.py")


@pytest.mark.slow
def test_no_accusation_in_the_standard_library_and_the_installed_packages() -> None:
    folders = {Path(asyncio.__file__).parent.parent, Path(pytest.__file__).parent.parent}
    files = [
        path
        for folder in sorted(folders)
        for path in sorted(folder.rglob("*.py"))
        if path.stat().st_size < 200_000 and path.relative_to(folder).parts[0] != "site-packages"
    ]
    files = [path for path in files if b"Executor" in (text := path.read_bytes()) and b"async def" in text]
    small = sorted(files, key=lambda path: path.stat().st_size)[:8]  # the time goes with the length of a file
    known = [path for path in files if path.as_posix().endswith(KNOWN)][:1]
    for path in dict.fromkeys([*small, *known]):
        source = path.read_text(encoding="utf-8")
        after, findings = rewrite(source, path.as_posix())
        for item in findings:
            assert path.as_posix().endswith(KNOWN), item
        assert findings or after == source
    assert len(small) >= 5
