"""A coroutine that computes.

Nothing waits here: the event loop's thread burns CPU in one handler, and other requests are not served until
it is through. The innermost line moves from sample to sample, so every line of the loops is marked.
"""

from itertools import permutations

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "cpu-bound"
TRIGGER = ("/routes/best?stops=22",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def shortest(distances):
    best = float("inf")
    for tour in permutations(range(1, len(distances))):  # <-- cpu-bound
        length = distances[tour[-1]][0]  # <-- cpu-bound
        for here, there in zip((0, *tour), tour):  # <-- cpu-bound
            length += distances[here][there]  # <-- cpu-bound
        best = min(best, length)  # <-- cpu-bound
    return best


@app.get("/routes/best")
async def best_route(stops: int):
    distances = [[abs(a - b) * (1 + a * b % 7) for b in range(stops)] for a in range(stops)]
    return {"length": shortest(distances)}
