"""gunicorn: keep a bundle of a worker before the arbiter aborts it. Use it with `-c`, or copy it into your own file.

The arbiter sends SIGABRT after `timeout` seconds without a heartbeat, and SIGKILL a second later: too late to look, and
while C code holds the GIL no hook of Python runs. So the arbiter itself looks HEADSTART seconds before; it starts
a program and waits for nothing. `worker_abort` then writes the worker's own stacks, which needs no permission.

HANG_KEEP_EVIDENCE names keep_evidence.sh (default: beside this file). A worker of uvicorn-worker takes SIGABRT for
itself: of it there is the bundle alone.
"""

import faulthandler
import os
import subprocess
import time

HEADSTART = 6.0  # seconds: a bundle takes up to 5
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("HANG_KEEP_EVIDENCE", os.path.join(HERE, "keep_evidence.sh"))
FOLDER = os.environ.get("HANG_FOLDER", "/var/lib/hang-evidence")

timeout = 30


def when_ready(server):
    """Let the arbiter's own round, once a second, look at the heartbeats first."""
    murder, looked = server.murder_workers, set()

    def look_then_murder():
        looked.intersection_update(server.WORKERS)
        for pid, worker in list(server.WORKERS.items()):
            beat = worker.tmp.last_update()
            silent = min(
                abs(clock() - beat) for clock in (time.monotonic, time.time)
            )  # old versions keep the other one
            if server.timeout and pid not in looked and silent > max(server.timeout - HEADSTART, server.timeout / 2):
                looked.add(pid)
                keep(server, pid)
        murder()

    server.murder_workers = look_then_murder


def keep(server, pid):
    """In the background of a shell: the arbiter takes the exit status 3 of any child of its own for a broken worker."""
    server.log.warning("worker %s gives no sign of life: keeping evidence in %s", pid, FOLDER)
    line = 'sh "$0" "$1" "$2" >/dev/null &'
    subprocess.run(["sh", "-c", line, PROGRAM, str(pid), FOLDER], stdin=subprocess.DEVNULL, check=False)


def worker_abort(worker):
    """In the worker, at SIGABRT: all of its stacks, as `hang diagnose` reads them."""
    os.makedirs(FOLDER, 0o700, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    with open(os.path.join(FOLDER, f"evidence-{worker.pid}-{stamp}.txt"), "w") as file:
        faulthandler.dump_traceback(file, all_threads=True)
