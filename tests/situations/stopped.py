"""A program that was stopped, as Ctrl-Z or a debugger does: the kernel says so, and py-spy could not read it."""

import time

SERVER = "script"
READY = True
STATE = "stopped"
CAUSE = "other"
SIGNAL = "SIGSTOP"

print("READY", flush=True)
time.sleep(86_400)
