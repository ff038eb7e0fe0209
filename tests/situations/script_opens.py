"""A script that opens a FIFO whose other end nobody opens."""

import os
import tempfile

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "file-io"

name = os.path.join(tempfile.mkdtemp(), "orders")
os.mkfifo(name)
print("READY", flush=True)
with open(name) as orders:  # <-- file-io
    orders.read()
