"""APScheduler with one thread for its jobs: one of them waits for a peer that is silent, and the next in the queue."""

import socket

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.blocking import BlockingScheduler

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
NEEDS = "apscheduler"
READY = True

meter = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
scheduler = BlockingScheduler(executors={"default": ThreadPoolExecutor(1)})


def poll_meter():
    with socket.create_connection(meter.getsockname()) as connection:
        connection.recv(64)  # <-- socket


if __name__ == "__main__":
    scheduler.add_job(poll_meter)
    scheduler.add_job(print, "interval", ["READY"], {"flush": True}, seconds=0.3)
    print("READY", flush=True)
    scheduler.start()
