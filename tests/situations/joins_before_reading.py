"""A script that joins a child before it takes the child's results: the child's queue waits until they are read."""

import multiprocessing

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "thread-join"


def render(pages):
    for number in range(100):
        pages.put(bytes(100_000 + number))


def render_all():
    context = multiprocessing.get_context("fork")
    pages = context.Queue()
    child = context.Process(target=render, args=(pages,))
    child.start()
    print("READY", flush=True)
    child.join()  # <-- thread-join
    return [pages.get() for _ in range(100)]


if __name__ == "__main__":
    render_all()
