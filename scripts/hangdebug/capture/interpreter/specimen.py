"""Run by an interpreter like the target's: make one of each thing that a walk of memory must know, say where it is.

It prints one line of JSON, waits until its input ends, and is read from outside meanwhile. The walk measures
its offsets on these objects, and must then find the tasks below by itself, before it is let near a target.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any


class Plain:
    def __init__(self) -> None:
        self.first, self.second = "eins", 2


CANCELS = (7, 5)  # how often two tasks are cancelled


class Jobs:
    @staticmethod
    async def source(future: asyncio.Future[str]) -> AsyncIterator[str]:
        yield await future

    @staticmethod
    async def listen(future: asyncio.Future[str]) -> None:
        async for item in Jobs.source(future):
            print(item)

    @staticmethod
    async def enter_twice(lock: asyncio.Lock) -> None:
        async with lock, lock:
            pass

    @staticmethod
    async def end_badly() -> None:
        raise ValueError("spoilt")


def code_of(code: Any) -> dict[str, int]:
    table = code.co_linetable if sys.version_info >= (3, 10) else code.co_lnotab
    name = code.co_qualname if sys.version_info >= (3, 11) else code.co_name
    return {
        "at": id(code),
        "name": id(name),
        "file": id(code.co_filename),
        "table": id(table),
        "names": id(code.co_names),
        "first": code.co_firstlineno,
    }


def coroutine_of(coroutine: Any) -> dict[str, int]:
    frame = coroutine.cr_frame
    return {
        "at": id(coroutine),
        "qualname": id(coroutine.__qualname__),
        "frame": id(frame),
        "code": id(coroutine.cr_code),
        "lasti": frame.f_lasti,
        "line": frame.f_lineno,
    }


def task_of(task: Any) -> dict[str, int]:
    return {
        "at": id(task),
        "coroutine": id(task.get_coro()),
        "waiter": id(task._fut_waiter),
        "name": id(task.get_name()),
    }


def address(name: str, *words: int) -> int:
    """What a function of Python's C interface returns."""
    get = getattr(ctypes.pythonapi, name)
    get.restype = ctypes.c_void_p
    found: int = get(*map(ctypes.c_void_p, words))
    return found


def left_behind() -> asyncio.Task[None]:
    """A task that is kept by the interpreter, because its thread has ended."""
    loop = asyncio.new_event_loop()
    tasks: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=lambda: tasks.append(loop.create_task(Jobs.end_badly(), name="left")))
    thread.start()
    thread.join()
    return tasks[0]


def main() -> None:
    loop = asyncio.new_event_loop()

    async def make() -> Any:
        lock, future = asyncio.Lock(), loop.create_future()
        asked = [loop.create_task(Jobs.end_badly()) for _ in CANCELS]
        for task, times in zip(asked, CANCELS):
            for _ in range(times):
                task.cancel()  # it ends before it begins, and keeps the count
        made = [
            loop.create_task(Jobs.listen(future), name="listen-\u00e9"),
            loop.create_task(Jobs.enter_twice(lock), name="enter"),
            loop.create_task(Jobs.end_badly(), name="bad"),
            loop.create_task(asyncio.sleep(0)),
        ]
        for _ in range(4):
            await asyncio.sleep(0)
        made[3].cancel()
        cancelled = loop.create_future()
        cancelled.cancel()
        return made, cancelled, (lock, future, asked)

    made, cancelled, kept = loop.run_until_complete(make())
    waiting, names = made[:2], Jobs.listen.__code__.co_varnames
    plain, other = Plain(), Plain()
    facts = {
        "version": list(sys.version_info[:3]),
        "flags": sys.abiflags,
        "bits": sys.maxsize.bit_length() + 1,
        "implementation": sys.implementation.name,
        "runtime": ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime")),
        "interpreter": address("PyInterpreterState_Get"),
        "modules": id(sys.modules),
        "codes": [code_of(task.get_coro().cr_code) for task in waiting],
        "coroutines": [coroutine_of(task.get_coro()) for task in waiting],
        "tasks": [task_of(task) for task in waiting],
        "futures": [[id(waiting[0]._fut_waiter), 0], [id(cancelled), 1], [id(made[2]), 2]],
        "cancels": [[id(task), times] for task, times in zip(kept[2], CANCELS)],
        "failed": [id(made[2]), id(made[2]._exception)],
        "shared": [id(Plain), id(other.__dict__)],
        "items": [id(names), id(names[0])],
        "ascii": sys.getsizeof(""),
        "other": sys.getsizeof("\u0100"),
    }
    if sys.version_info >= (3, 14):
        kept = kept, left_behind()
        threading.Thread(target=sys.stdin.read, daemon=True).start()  # one more, so that the first is not the last too
        first = address("PyInterpreterState_ThreadHead", facts["interpreter"])
        facts.update(
            left=id(kept[1]), threads=[first, address("PyThreadState_Next", first)], thread=address("PyThreadState_Get")
        )
        gc.collect()  # what was made until here goes into a ring that rests
        gc.disable()
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
    os._exit(0 if kept and plain else 1)


main()
