"""Dramatiq with two threads: each runs a job that waits for the result of another, and nobody is left to run those."""

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "other"
NEEDS = "dramatiq"

broker = StubBroker()
broker.add_middleware(Results(backend=StubBackend()))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def chapter(number):
    return number * 2


@dramatiq.actor
def book(number):
    print("READY", flush=True)
    chapter.send(number).get_result(block=True, timeout=86_400_000)  # <-- other


if __name__ == "__main__":
    worker = dramatiq.Worker(broker, worker_threads=2)
    for one in range(2):
        book.send(one)
    worker.start()
    broker.join("default")
