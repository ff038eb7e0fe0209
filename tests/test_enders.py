"""Who could still end a wait, as the application's source tells: each row is a small application.

`# waits` marks where requests wait, `# runs` where another task stands at that moment.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangdebug.capture.functions import functions_that_end_waits
from hangdebug.evidence.bundle import parse_functions as read
from hangdebug.evidence.model import Frame
from hangdebug.scene.tasks import who_could_end

SET, PUT, RELEASE = {"set"}, {"put", "put_nowait"}, {"release"}
STILL = {
    "a route enters the condition that is waited for in the line that enters it": (
        {"notify_all"},
        "news",
        """
        @app.get("/wait")
        async def wait():
            async with app.ctx.changed: await app.ctx.changed.wait()  # waits
        @app.get("/news")
        async def news():
            async with app.ctx.changed:
                app.ctx.changed.notify_all()
        """,
    ),
    "a route sets it": (
        SET,
        "fire",
        """
        @app.get("/wait")
        async def wait():
            await done.wait()  # waits
        @app.get("/fire")
        async def fire():
            done.set()
        """,
    ),
    "a route leads there": (
        PUT,
        "give",
        """
        class Box:
            async def take(self):
                return await self.items.get()  # waits
            def give(self, item):
                self.items.put_nowait(item)
        @app.get("/give")
        async def bring():
            box.give(1)
        """,
    ),
    "a job will lead there": (
        SET,
        "publish",
        """
        async def hourly():
            while True:
                await sleep(3600)  # runs
                await hub.publish()
        class Hub:
            async def publish(self):
                self.news.set()
        @app.get("/wait")
        async def wait():
            await hub.news.wait()  # waits
        """,
    ),
    "it was handed to a callback": (
        SET,
        "start",
        """
        async def start():
            loop.add_signal_handler(SIGUSR1, done.set)
        @app.get("/wait")
        async def wait():
            await done.wait()  # waits
        """,
    ),
    "a library calls the method": (
        PUT,
        "on_message",
        """
        class Listener:
            def __init__(self):
                self.inbox = Queue()
            def on_message(self, message):
                self.inbox.put_nowait(message)
        listener = Listener()
        client.subscribe(listener)
        @app.get("/next")
        async def next_one():
            return await listener.inbox.get()  # waits
        """,
    ),
    "the second one sets it before the wait": (
        SET,
        "play",
        """
        @app.get("/play")
        async def play():
            if players:
                players.pop().set()
                return 2
            await started.wait()  # waits
        """,
    ),
    "a holder gives it back at the end of its block": (
        PUT,
        "__aexit__",
        """
        class Lease:
            async def __aenter__(self):
                self.one = await pool.get()  # waits
            async def __aexit__(self, *raised):
                pool.put_nowait(self.one)
        @app.get("/report")
        async def report():
            async with Lease():
                await query()  # runs
        """,
    ),
    "a request holds a dependency open": (
        PUT,
        "connection",
        """
        async def connection():
            one = await pool.get()  # waits
            yield one
            pool.put_nowait(one)
        @app.get("/report")
        async def report(one=Depends(connection)):
            await query()  # runs
        """,
    ),
    "a lambda is called later": (
        SET,
        "wait",
        """
        @app.get("/wait")
        async def wait():
            loop.call_later(9, lambda: done.set())
            await done.wait()  # waits
        """,
    ),
}
NEVER = {
    "a group has started its only reader, which has gone": (
        {"receive"},
        """
        @asynccontextmanager
        async def lifespan(app):
            async def note():
                async for row in outlet:
                    return
            async with create_task_group() as group:
                group.start_soon(note)
                yield  # runs
        @app.get("/note")
        async def note_one():
            await inlet.send("note")  # waits
        """,
    ),
    "nobody names it": (
        SET,
        """
        @app.get("/wait")
        async def wait():
            await done.wait()  # waits
        """,
    ),
    "a setter of something else": (
        SET,
        """
        @app.get("/wait")
        async def wait():
            await done.wait()  # waits
        @app.get("/put")
        async def put():
            cache.set("key", 1)
        """,
    ),
    "the producer was never started": (
        PUT,
        """
        async def produce():
            await items.put(1)
        @app.get("/next")
        async def next_one():
            return await items.get()  # waits
        """,
    ),
    "the producer was started once, and has gone": (
        PUT,
        """
        async def produce():
            await items.put(1)
        @asynccontextmanager
        async def lifespan(app):
            create_task(produce())
            yield  # runs
        app = FastAPI(lifespan=lifespan)
        @app.get("/next")
        async def next_one():
            return await items.get()  # waits
        """,
    ),
    "it is released behind the wait alone": (
        RELEASE,
        """
        @app.get("/work")
        async def work():
            await permits.acquire()  # waits
            permits.release()
        """,
    ),
    "behind the same wait in another route": (
        RELEASE,
        """
        class Gate:
            async def enter(self):
                await self.permits.acquire()  # waits
            def leave(self):
                self.permits.release()
        @app.get("/a")
        async def a(gate: Gate):
            await gate.enter()  # waits
            gate.leave()
        @app.get("/b")
        async def b(gate: Gate):
            await gate.enter()
            gate.leave()
        """,
    ),
    "a task is past it": (
        SET,
        """
        async def warm_up():
            ready.set()
            await sleep(3600)  # runs
        @app.get("/wait")
        async def wait():
            await ready.wait()  # waits
        """,
    ),
}


def found(source: str, ends: set[str], folder: Path, failed: tuple[str, ...] = ()):
    file = folder / "app.py"
    file.write_text(textwrap.dedent(source))
    marked = {
        mark: [
            Frame("?", str(file), number)
            for number, line in enumerate(file.read_text().splitlines(), 1)
            if line.endswith(f"# {mark}")
        ]
        for mark in ("waits", "runs")
    }
    known = functions_that_end_waits([str(file)])
    assert known is not None and marked["waits"]
    assert read(json.dumps([asdict(one) for one in known])) == known
    return who_could_end(known, ends, marked["waits"], marked["runs"], failed)


@pytest.mark.parametrize("row", STILL)
def test_a_wait_that_something_could_still_end(row: str, tmp_path: Path) -> None:
    ends, name, source = STILL[row]
    one = found(source, ends, tmp_path)
    assert one is not None and one.name == name


@pytest.mark.parametrize("row", NEVER)
def test_a_wait_that_nothing_ends(row: str, tmp_path: Path) -> None:
    ends, source = NEVER[row]
    assert found(source, ends, tmp_path) is None


def test_a_coroutine_that_failed_ends_nothing_any_more(tmp_path: Path) -> None:
    ends, _, source = STILL["a job will lead there"]
    assert found(source, ends, tmp_path, ("Hub.publish",)) is None


@pytest.mark.parametrize("text", ["def (", "\0", "x = " + "(" * 3000, "# " + "x" * 500_000])
def test_where_a_module_cannot_be_read_nothing_is_concluded(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    assert functions_that_end_waits([str(tmp_path / "bad.py")]) is None
    assert functions_that_end_waits([str(tmp_path / "gone.py")]) is None


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["name", "file", "line", "last", "ends", "calls", "loops", "root"]), inner
            )
        ),
    )
)
def test_any_file_of_functions_is_read_or_not_known(value: object) -> None:
    known = read(json.dumps(value))
    assert known is None or all(isinstance(one.name, str) and isinstance(one.line, int) for one in known)
