"""Eight processes of one program meet at a barrier after each step; one waits for its shard from a silent peer, so the
others stay there. `py-spy dump` of each child, one after the other, is tests/pastes/ranks.txt."""

import multiprocessing
import socket

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
PROCESS = "child"
READY = True
RANKS, ODD = 8, 5


def load_shard(store):
    with socket.create_connection(store) as shard:
        return shard.recv(4096)  # <-- socket


def train(rank, meeting, store):
    for step in range(3):
        if rank == ODD and step == 1:
            load_shard(store)
        meeting.wait()


if __name__ == "__main__":
    store = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
    context = multiprocessing.get_context("spawn")
    meeting = context.Barrier(RANKS)
    ranks = [
        context.Process(target=train, args=(rank, meeting, store.getsockname()), name=f"rank-{rank}")
        for rank in range(RANKS)
    ]
    for rank in ranks:
        rank.start()
    print("READY", flush=True)
    for rank in ranks:
        rank.join()
