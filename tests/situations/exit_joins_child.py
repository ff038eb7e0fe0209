"""A script that has ended, but for a child process that it joins. What that one waits for, its own stack shows."""

import multiprocessing
import time

SERVER = "script"
READY = True
STATE = "exit-hang"
CAUSE = "interpreter-exit"

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(86_400,)).start()
    print("READY", flush=True)
