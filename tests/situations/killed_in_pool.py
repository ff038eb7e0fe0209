"""A batch waits for `Pool.map`, and the system has killed the child that had its last part: nobody counts that part."""

import multiprocessing
import os

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "future-result"
READY = True


def crunch(number):
    if number == 3:
        os._exit(9)  # as the kernel does where memory is short
    return number * number


def run_batch(numbers):
    with multiprocessing.Pool(2) as pool:
        print("READY", flush=True)
        return sum(pool.map(crunch, numbers, chunksize=1))  # <-- future-result


if __name__ == "__main__":
    run_batch(range(4))
