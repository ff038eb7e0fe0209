"""uvicorn with workers: keep a bundle of a worker before its supervisor kills it. Takes uvicorn's own options.

    python uvicorn_keep.py app.main:app --workers 4 --timeout-worker-healthcheck 5

The supervisor asks each worker over a pipe, and kills one that does not answer in time. A thread of the worker answers:
so it finds what holds the GIL or is stopped, and not a loop that waits. For that, ask snippets/health.py.
One worker (--workers 1) has no supervisor.
HANG_KEEP_EVIDENCE names keep_evidence.sh (default: beside this file).
"""

import os
import subprocess
import sys

from uvicorn.main import main
from uvicorn.supervisors.multiprocess import Process

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("HANG_KEEP_EVIDENCE", os.path.join(HERE, "keep_evidence.sh"))
FOLDER = os.environ.get("HANG_FOLDER", "/var/lib/hang-evidence")
MOST = 6.0  # seconds: the program itself takes 5 at most

kill = Process.kill


def keep_then_kill(self):
    try:
        if self.process.is_alive():
            subprocess.run(["sh", PROGRAM, str(self.pid), FOLDER], stdin=subprocess.DEVNULL, timeout=MOST, check=False)
    except Exception as error:  # noqa: BLE001 - whatever it is: the restart goes on
        print(f"uvicorn_keep: no evidence was kept: {error}", file=sys.stderr)
    kill(self)


if __name__ == "__main__":
    Process.kill = keep_then_kill
    main()
