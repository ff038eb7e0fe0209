import threading

DONE = threading.Event()


def collect(region):
    total = 0
    # the answer comes from a thread
    DONE.wait()
    return total


def build(regions):
    return [
        collect(one)
        for one in regions
    ]
