"""A job's main thread joins its queue, and the only consumer has ended with an exception."""

import queue
import threading
import time

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "queue"
READY = True
NEEDS_KERNEL = True

jobs = queue.Queue()


def consume():
    while True:
        if jobs.get() == 3:
            raise KeyError(3)
        jobs.task_done()


def nightly():
    for number in range(5):
        jobs.put(number)
    time.sleep(0.2)
    print("READY", flush=True)
    jobs.join()  # <-- queue


if __name__ == "__main__":
    threading.Thread(target=consume, daemon=True).start()
    nightly()
