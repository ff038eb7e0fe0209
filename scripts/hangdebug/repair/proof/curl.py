"""Real curl as a subprocess: one timed probe, or a stream that is read up to its first bytes.

The command lines are plain enough to repeat by hand. `-q` leaves the user's .curlrc out, `-g` takes the URL
as it stands, and a server on this machine is never asked through a proxy.
"""

from __future__ import annotations

import math
import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from hangdebug.errors import MissingTool

COULD_NOT_RESOLVE, REFUSED, TIMED_OUT = 6, 7, 28  # exit codes of curl
VARYING = re.compile(r" after \d+ ms")  # in curl's messages: the same trouble reads the same
LOOPBACK = ("localhost", "127.", "::1")


@dataclass(frozen=True)
class Answer:
    """How one probe went. `status` is None where no whole answer came, `code` is curl's exit status.

    `message` says what went wrong, and is empty for a plain silence up to the deadline.
    """

    status: int | None
    seconds: float
    code: int
    message: str


@dataclass
class Stream:
    """One curl that reads a stream, and what it has read so far, header first."""

    curl: subprocess.Popen[bytes]
    text: bytes = b""
    closed: bool = False

    @property
    def status(self) -> int | None:
        return self._answer()[0]

    @property
    def flows(self) -> bool:
        """Whether a first byte of a successful answer's body came."""
        status, body = self._answer()
        return status is not None and status < 300 and bool(body)

    @property
    def ended(self) -> bool:
        return self.closed or self.curl.poll() is not None

    def _answer(self) -> tuple[int | None, bytes]:
        head, blank, body = self.text.partition(b"\r\n\r\n")
        while blank:
            status = int(head.split(None, 2)[1])
            if status >= 200:  # before that: interim answers, each with a header of its own
                return status, body
            head, blank, body = body.partition(b"\r\n\r\n")
        return None, b""


def is_url(url: str) -> bool:
    """Whether `url` is one of http or https that curl cannot take for an option or for several words."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return valid and all(character > " " and character != "\x7f" for character in url)


def probe_command(url: str, deadline: float) -> list[str]:
    return [
        *plain(url),
        "-o",
        os.devnull,
        "-w",
        r"%{http_code} %{time_total}\n",
        "--max-time",
        f"{deadline:g}",
        "--url",
        url,
    ]


def stream_command(url: str, seconds: float) -> list[str]:
    """Read a stream for at most `seconds`: a curl that nobody ended goes away by itself."""
    return [*plain(url), "-N", "-i", "--max-time", f"{math.ceil(seconds)}", "--url", url]


def plain(url: str) -> list[str]:
    local = (urlsplit(url).hostname or "").startswith(LOOPBACK)
    return ["curl", "-q", "-sS", "-g", *(["--noproxy", "*"] if local else [])]


def probe(commands: Sequence[list[str]], deadline: float) -> list[Answer]:
    """Run probe commands side by side, and give their answers in the same order. Raises MissingTool."""
    with running(commands, stderr=subprocess.PIPE) as curls:
        return [answer(curl, deadline) for curl in curls]


def answer(curl: subprocess.Popen[bytes], deadline: float) -> Answer:
    began = time.monotonic()
    try:
        output, errors = curl.communicate(timeout=deadline + 5)  # curl keeps the deadline itself
    except subprocess.TimeoutExpired:
        return Answer(None, time.monotonic() - began, TIMED_OUT, "curl did not end")
    status, _, seconds = output.decode(errors="replace").strip().partition(" ")
    message = VARYING.sub("", errors.decode(errors="replace").strip())
    if curl.returncode == TIMED_OUT:
        message = f"answers {status}, but the answer does not end" if status > "000" else ""
    return Answer(
        status=int(status) if curl.returncode == 0 else None,
        seconds=float(seconds) if seconds else time.monotonic() - began,
        code=curl.returncode,
        message=message,
    )


@contextmanager
def streams(url: str, count: int, wait: float, lifetime: float) -> Iterator[list[Stream]]:
    """Open `count` streams, wait up to `wait` seconds for their first bytes; cut them off at the end.

    A stream that is cut off is a client that goes away: its curl is killed. Raises MissingTool.
    """
    with running([stream_command(url, lifetime)] * count, stderr=subprocess.DEVNULL) as curls:
        opened = [Stream(curl) for curl in curls]
        read(opened, wait)
        yield opened


def silence(stream: Stream, url: str, wait: float) -> str:
    """Why a stream does not flow."""
    if stream.status is not None and stream.status >= 300:
        return f"{url} answers {stream.status} instead of a stream."
    if stream.ended:
        return f"{url} closed the connection without a first byte."
    return f"{url} gave no first byte within {wait:g} s."


def read(opened: Sequence[Stream], wait: float) -> None:
    """Read until every stream flows or is closed, or `wait` seconds are over."""
    end = time.monotonic() + wait
    with selectors.DefaultSelector() as selector:
        for stream in opened:
            if stream.curl.stdout is not None:
                selector.register(stream.curl.stdout, selectors.EVENT_READ, stream)
        while selector.get_map():
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                return
            for key, _ in ready:
                stream, data = key.data, os.read(key.fd, 65536)
                stream.text += data
                stream.closed = not data
                if stream.closed or stream.flows:
                    selector.unregister(key.fileobj)


@contextmanager
def running(commands: Sequence[list[str]], stderr: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run curls side by side. Whatever ends the block, Ctrl-C too, they are killed and waited for."""
    curls: list[subprocess.Popen[bytes]] = []
    try:
        curls.extend(spawn(command, stderr) for command in commands)
        yield curls
    finally:
        for curl in curls:
            curl.kill()
        for curl in curls:
            curl.wait()
            for pipe in filter(None, [curl.stdout, curl.stderr]):
                pipe.close()


def spawn(command: list[str], stderr: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "LC_ALL": "C"},  # a decimal point in every country
        )
    except OSError as error:
        raise MissingTool(
            "curl cannot be run.",
            f"{error.strerror}. The proof is made with real requests.",
            "sudo apt-get install curl",
        ) from error
