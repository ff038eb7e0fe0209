"""Put the engine and the lab on the import path, as scripts/hang.py and the notebook do, and keep fast tests fast.

A test that starts a server, or any process that stays, is marked `live`; one that takes seconds is marked `slow`:

    pytestmark = pytest.mark.live    for a module, or @pytest.mark.live for one test

A test without the mark cannot start one. It may run a program and wait for its end, for RUN_LIMIT seconds at most.
`make fast` runs what has neither mark, `make test` everything.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parent.parent
for folder in ("scripts", "notebooks", "tooling"):
    sys.path.insert(0, str(ROOT / folder))

RUN_LIMIT = 30  # seconds; on a machine that is busy with other work a linter takes some of them
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}

this_test = SimpleNamespace(may_start=True)  # a process that stays


def refuse_what_stays(event: str, arguments: tuple) -> None:
    """An audit hook: raises RuntimeError where a test that is not live starts a process and does not wait for it."""
    if not this_test.may_start and event in STARTS and not is_waited_for(sys._getframe(1)):
        raise RuntimeError("A test that is not marked live started a process that stays. Next: @pytest.mark.live")


def is_waited_for(frame) -> bool:
    while frame is not None and frame.f_code is not subprocess.run.__code__:
        frame = frame.f_back
    return frame is not None


sys.addaudithook(refuse_what_stays)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Its fixtures are set up within this too."""
    if item.get_closest_marker("live"):
        return (yield)
    this_test.may_start = False
    try:
        with mock.patch.object(
            subprocess.run, "__kwdefaults__", {**subprocess.run.__kwdefaults__, "timeout": RUN_LIMIT}
        ):
            return (yield)
    finally:
        this_test.may_start = True
