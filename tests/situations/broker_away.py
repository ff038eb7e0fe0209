"""A Celery worker whose broker is away: it tries again and again to connect, and has never taken a job."""

import os
import threading

from celery import Celery

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "socket"
NEEDS = "celery"

app = Celery("orders", broker="amqp://127.0.0.1:1//")
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_connection_max_retries = None


@app.task
def ship(number):
    return number


if __name__ == "__main__":
    threading.Timer(6, os.write, [1, b"READY\n"]).start()  # Celery takes what is printed for its log
    app.worker_main(["worker", "--pool", "threads", "--loglevel", "ERROR"])  # <-- socket
