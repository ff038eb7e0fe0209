"""A library's exit hook joins a thread that waits for an answer: logging's queue listener, stopped by atexit."""

import atexit
import logging.handlers
import queue
import socket

SERVER = "script"
READY = True
STATE = "exit-hang"
CAUSE = "interpreter-exit"

ours, theirs = socket.socketpair()  # nobody ever answers


class Collector(logging.Handler):
    def emit(self, record):
        print("READY", flush=True)
        ours.recv(1)  # <-- interpreter-exit


listener = logging.handlers.QueueListener(queue.Queue(), Collector())
listener.start()
atexit.register(listener.stop)
listener.queue.put(logging.makeLogRecord({"msg": "the last line"}))
