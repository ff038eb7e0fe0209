"""Real curl as a subprocess: one timed probe or request, or a stream that is read up to its first bytes.

The command lines are plain enough to repeat by hand. `-q` leaves the user's .curlrc out, `-g` takes the URL
as it stands, and a server on this machine is never asked through a proxy.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from urllib.parse import urlsplit

from hangdebug.errors import MissingTool
from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.files import uninterrupted

COULD_NOT_RESOLVE, REFUSED, TIMED_OUT = 6, 7, 28  # exit codes of curl
STATUS = re.compile(r"HTTP/[\d.]{1,5} ([0-9]{3})(?![^ ])")
VARYING = re.compile(r" after \d+ ms")  # in curl's messages: the same trouble reads the same
MOST_KEPT = 4 << 20  # bytes of an answer; what comes after them is counted, not kept
TAIL = 64  # bytes at the end of the output, in which curl's own line stands


@dataclass(frozen=True)
class Answer:
    """How one probe went. `status` is None where no whole answer came, `code` is curl's exit status.

    `message` says what went wrong, and is empty for a plain silence up to the deadline. `head` holds the headers,
    their names in lower case; `body` is the body up to MOST_KEPT bytes, `size` its whole length.
    """

    status: int | None
    seconds: float
    code: int
    message: str
    head: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    size: int = 0

    @property
    def digest(self) -> str:
        """The first eight digits of the SHA-256 of the body."""
        return hashlib.sha256(self.body).hexdigest()[:8]


@dataclass
class Stream:
    """One curl that reads a stream, and what it has read so far, header first."""

    curl: subprocess.Popen[bytes]
    text: bytes = b""
    closed: bool = False

    @property
    def status(self) -> int | None:
        return split_answer(self.text)[0]

    @property
    def flows(self) -> bool:
        """Whether a first byte of a successful answer's body came."""
        status, _, body = split_answer(self.text)
        return status is not None and status < 300 and bool(body)

    @property
    def ended(self) -> bool:
        return self.closed or self.curl.poll() is not None


@dataclass
class Output:
    """What a curl has written so far: its start, its end, and how much it is in all."""

    start: bytearray = field(default_factory=bytearray)
    tail: bytes = b""
    size: int = 0
    errors: bytes = b""

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.start += data[: MOST_KEPT - len(self.start)]
        self.tail = (self.tail + data)[-TAIL:]


def split_answer(text: bytes) -> tuple[int | None, dict[str, str], bytes]:
    """The status, the headers and the body so far of what `curl -i` wrote; no status before the head is whole."""
    head, blank, body = text.partition(b"\r\n\r\n")
    while blank:
        first, *lines = head.decode("latin-1").split("\r\n")
        found = STATUS.match(first)
        if found is None:  # no server of HTTP
            break
        status = int(found[1])
        if status >= 200:  # before that: interim answers, each with a header of its own
            pairs = (line.partition(":") for line in lines)
            return status, {name.strip().lower(): value.strip() for name, _, value in pairs}, body
        head, blank, body = body.partition(b"\r\n\r\n")
    return None, {}, b""


def is_url(url: str) -> bool:
    """Whether `url` is one of http or https that curl cannot take for an option or for several words."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return valid and all(character > " " and character != "\x7f" for character in url)


def is_local(url: str) -> bool:
    """Whether the host of `url` is this machine, by its name or its address. Nothing is resolved."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def probe_command(url: str, deadline: float, *options: str) -> list[str]:
    """A request whose answer is thrown away; its status and its time are printed. `options` are curl's."""
    report = ["-o", os.devnull, "-w", r"%{http_code} %{time_total}\n"]
    return [*plain(url), *options, *report, "--max-time", f"{deadline:g}", "--url", url]


def keeping_the_answer(command: list[str]) -> list[str]:
    """The same command with head and body in its output, before the status and the time."""
    at = command.index("-o")
    kept = ["-i", "--suppress-connect-headers", "-w", "\\n" + command[at + 3]]
    return [*command[:at], *kept, *command[at + 4 :]]


def stream_command(url: str, seconds: float) -> list[str]:
    """Read a stream for at most `seconds`: a curl that nobody ended goes away by itself."""
    return [*plain(url), "-N", "-i", "--max-time", f"{math.ceil(seconds)}", "--url", url]


def plain(url: str) -> list[str]:
    return ["curl", "-q", "-sS", "-g", *(["--noproxy", "*"] if is_local(url) else [])]


def probe(commands: Sequence[list[str]], deadline: float) -> list[Answer]:
    """Run probe commands side by side, and give their answers in the same order. Raises MissingTool."""
    began = time.monotonic()
    with running([keeping_the_answer(one) for one in commands], stderr=subprocess.PIPE) as curls:
        outputs = collect(curls, began + deadline + 5)  # curl keeps the deadline itself
        return [answer(curl, output, time.monotonic() - began) for curl, output in zip(curls, outputs)]


def collect(curls: Sequence[subprocess.Popen[bytes]], until: float) -> list[Output]:
    """Read what the curls write, side by side, until all have ended or the time (of time.monotonic()) is over."""
    outputs = [Output() for _ in curls]
    with selectors.DefaultSelector() as selector:
        for curl, output in zip(curls, outputs):
            selector.register(curl.stdout or 0, selectors.EVENT_READ, (output, True))
            selector.register(curl.stderr or 0, selectors.EVENT_READ, (output, False))
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                (output, body), data = key.data, os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif body:
                    output.add(data)
                else:
                    output.errors += data
    return outputs


def answer(curl: subprocess.Popen[bytes], output: Output, waited: float) -> Answer:
    try:
        curl.wait(max(0.2, 5 - waited))
    except subprocess.TimeoutExpired:
        return Answer(None, waited, TIMED_OUT, "curl did not end")
    line = output.tail[:-1].rpartition(b"\n")[2]
    status, _, seconds = line.decode(errors="replace").partition(" ")
    size = output.size - len(line) - 2  # with curl's own line, and the ends of two lines
    kept = bytes(output.start[:size])
    _, head, body = split_answer(kept)
    message = VARYING.sub("", output.errors.decode(errors="replace").strip())
    if curl.returncode == TIMED_OUT:
        message = f"answers {status}, but the answer does not end" if status > "000" else ""
    return Answer(
        status=int(status) if curl.returncode == 0 else None,
        seconds=float(seconds) if seconds else waited,
        code=curl.returncode,
        message=message,
        head=head,
        body=body,
        size=size - (len(kept) - len(body)),
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
        for command in commands:
            with uninterrupted():
                curls.append(spawn(command, stderr))
        yield curls
    finally:
        with uninterrupted():
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
