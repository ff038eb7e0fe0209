"""A timer that sets itself anew, and is no daemon: the main thread has ended, and the interpreter waits for it."""

import threading

SERVER = "script"
STATE = "exit-hang"
CAUSE = "interpreter-exit"
READY = True
NEEDS_KERNEL = True


def report():
    again = threading.Timer(3600, report)
    again.start()


if __name__ == "__main__":
    report()
    print("READY", flush=True)
