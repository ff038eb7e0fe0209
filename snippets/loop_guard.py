"""A pytest fixture: an async test that blocks the event loop fails, and its message shows the line.

    # conftest.py
    from loop_guard import loop_guard           # noqa: F401, a fixture is used by its name

    @pytest.mark.usefixtures("loop_guard")
    async def test_report():
        assert await report("sales") == ...

Use when   your tests await the code of your handlers: what hangs a server for a second hangs a test for one.
           `pytestmark = pytest.mark.usefixtures("loop_guard")` guards a whole file.
Not when   a test is not a coroutine (a TestClient's loop runs in another thread): that one is refused, not
           passed over. Blocking on disconnect shows only in a test that cancels its task.
Costs      pip install pyleak; a thread for each test, which looks 50 times a second. A machine that stalls
           for THRESHOLD seconds fails a test that does nothing wrong, and a busy one may miss a block that
           is not much longer than that.
Python     3.9 and later; pytest-asyncio or AnyIO's plugin runs the test.
"""

from __future__ import annotations

import functools
import inspect
import sys

import pytest
from pyleak import no_event_loop_blocking
from pyleak.base import LeakAction
from pyleak.utils import CallerContext

THRESHOLD = 0.1  # seconds that one step of the loop may take


@pytest.fixture
def loop_guard(request: pytest.FixtureRequest) -> None:
    test = request.node.obj
    if not inspect.iscoroutinefunction(test):
        pytest.fail("loop_guard guards coroutines: await the handler itself, not a TestClient", pytrace=False)

    @functools.wraps(test)
    async def guarded(*args: object, **kwargs: object) -> None:
        # pyleak counts a block only if one of these files is in the stack: a task of the app is to count too.
        # Where it waits for its own thread at the end, the last of them has to be this one.
        files = {
            str(getattr(module, "__file__", ""))
            for name, module in list(sys.modules.items())
            if name != "threading" and not name.startswith("pyleak")
        }
        where = CallerContext(str(request.path), request.node.name, files=files)
        async with no_event_loop_blocking(
            LeakAction.RAISE, threshold=THRESHOLD, check_interval=0.02, caller_context=where
        ):
            await test(*args, **kwargs)

    request.node.obj = guarded  # the runner of async tests asks for it after the fixtures
