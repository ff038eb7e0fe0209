"""The agencies' feeds, played by one local server: `python feedserver.py --delay 60`.

    GET /feeds/city      every article at once          (also sport, and any name not below)
    GET /feeds/wire      an article a second for DELAY seconds                (also markets)
    GET /feeds/weather   nothing for DELAY seconds, then every article        (also traffic)

It prints `Feeds on http://127.0.0.1:PORT` when it listens, and ends with the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRIP = {"wire", "markets"}
HOLD = {"weather", "traffic"}


class FeedServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    delay = 60.0
    parent = 0

    def service_actions(self) -> None:  # called twice a second
        if os.getppid() != self.parent:
            os._exit(0)

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that hangs up is daily business for a feed: no traceback."""


class Feed(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FeedServer

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name in HOLD:
            time.sleep(self.server.delay)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines(name, self.server.delay):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        """Say nothing: the log is for trouble."""


def lines(name: str, delay: float) -> Iterator[bytes]:
    """The articles of a feed, as they become available."""
    end = time.monotonic() + (delay if name in DRIP else 0)
    number = 0
    while number < 3 or time.monotonic() < end:
        number += 1
        yield json.dumps({"title": f"{name} report {number}"}).encode() + b"\n"
        time.sleep(max(0.0, min(1.0, end - time.monotonic())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=60.0, help="seconds that the slow feeds take (60)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    args = parser.parse_args()
    FeedServer.parent = os.getppid()
    FeedServer.delay = args.delay
    with FeedServer(("127.0.0.1", args.port), Feed) as server:
        print(f"Feeds on http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
