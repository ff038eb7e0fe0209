"""A synchronous HTTP or RPC client waits for its peer on the event loop's thread.

`requests.get()`, urllib3, http.client, `httpx.Client`, botocore and grpc's blocking stubs return when the peer
has answered. Called in a coroutine, they hold up every other request for as long as the peer takes. A read
timeout bounds the silence between two packets, not the whole call.

Repair: an asynchronous client (`httpx.AsyncClient`, aiohttp, grpc.aio), or `await asyncio.to_thread(call)` with
a timeout in the call.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.pools import FETCH, requests_under_way
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

CLIENTS = ("requests", "urllib3", "httpx", "httpcore", "botocore", "boto3", "s3transfer", "grpc", "mcp")
FILES = ("http/client.py", "aiohttp/client.py", "urllib/request.py", "xmlrpc/client.py")


ASKS_BACK = ("mcp/server/",)  # a server's question goes to its own client


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is not None and wait.coroutine and wait.leaf and FETCH in (wait.text or ""):
        running = requests_under_way(scene)
        under_way = f"Its line calls fetch(), and {running} requests of its client are under way."
        return Match(frozenset({"source", "tasks"}), (under_way,)) if running else None
    if wait is None or not (wait.inside_package(*CLIENTS) or wait.inside(*FILES)) or wait.inside_folder(*ASKS_BACK):
        return None
    words = [f"It called {wait.outermost}, {'an asynchronous' if wait.coroutine else 'a synchronous'} client."]
    if wait.detail:
        words.append(f"Its peer: {wait.detail}.")
    return Match(frozenset({"frames"}), tuple(words))


CAUSE = Cause(
    id="http-client",
    title="a synchronous HTTP client waits for its peer",
    picture="network",
    fix="to_thread",
    match=match,
    confused_with={"other": "a raw socket shows no client library's frames."},
    owed="surely",
    frames_wait=True,
)
