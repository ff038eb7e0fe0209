"""Real curl as a subprocess: one timed probe or request, or a stream that is read up to its first bytes.

The command lines are plain enough to repeat by hand. `-q` leaves the user's .curlrc out, `-g` takes the URL
as it stands, and a server on this machine is never asked through a proxy.

Requests to replay, read from a file: curl's own config syntax, or an HTTP file as editors send them.

    # expect: 422                     POST http://127.0.0.1:8000/orders HTTP/1.1
    url = "/orders"                   Content-Type: application/json
    request = POST
    header = "Content-Type: ..."      {"item": 7}
    data = "{"item": 7}"
    next                              ###

A path alone goes to the URL that is verified. Three comments before a request say what is right for it:
`# expect: 422` (a status beside 2xx), `# deadline: 30` (seconds for the answer), `# leave after: 1` (the client goes
away after so many seconds, without waiting for the end of the answer).
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from urllib.parse import urljoin, urlsplit

from hangdebug.errors import BadRequest, MissingTool, ours
from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.files import uninterrupted
from hangdebug.repair.proof import curl

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


# -- requests from a file ------------------------------------------------------------------------------

SAID = re.compile(r"(?:#|//)\s*@?(expect|deadline|leave after):?\s+([\d.]+)\s*$")
START = re.compile(r"(?:([A-Z]+) )?(https?://\S+|/\S*)(?: HTTP/[\d.]+)?")
OPTION = re.compile(r"-{0,2}([\w.-]+)\s*(?:[=:]\s*|\s|$)(.*)")
METHOD = re.compile(r"[A-Z]{1,20}")
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "v": "\v"}
SHORT = {"X": "request", "H": "header", "d": "data", "A": "user-agent", "b": "cookie", "m": "max-time", "I": "head"}
IGNORED = ("silent", "show-error", "globoff", "no-buffer", "s", "S", "g", "N", "i", "include", "http1.1", "compressed")
MOST_BODY = 100_000  # characters: what one argument of a command may hold
EXAMPLE = ours("verify", "--url", "http://127.0.0.1:8000/health", "--request", "orders.http")


@dataclass(frozen=True)
class Request:
    """One request. `expect` are statuses that are right beside 2xx; `leave_after` seconds its client goes away."""

    place: str
    url: str
    method: str = ""
    headers: tuple[str, ...] = ()
    body: str | None = None
    expect: tuple[int, ...] = ()
    deadline: float | None = None
    leave_after: float | None = None

    @property
    def name(self) -> str:
        """ "POST http://127.0.0.1:8000/orders"."""
        return f"{self.verb} {self.url}"

    @property
    def verb(self) -> str:
        return self.method or ("GET" if self.body is None else "POST")

    def command(self, deadline: float) -> list[str]:
        options = ["-I"] if self.verb == "HEAD" else ["-X", self.verb]
        for header in self.headers:
            options += ["-H", header]
        if self.body is not None:
            options += ["--data-raw", self.body]
        return curl.probe_command(self.url, self.leave_after or self.deadline or deadline, *options)


def read_requests(text: str, place: str, base: str) -> tuple[Request, ...]:
    """The requests of a file in their order. `place` is its name, `base` the URL that is verified.

    Raises BadRequest for what is neither syntax, for an option that does more than a request, and for another host.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//"))]
    reader = from_http if lines and START.fullmatch(lines[0].strip()) else from_curl
    found = tuple(checked(one, base) for one in reader(text.splitlines(), place))
    if not found:
        raise BadRequest(f"{place} holds no request.", "A request has a URL, or a path.", EXAMPLE)
    return found


def checked(request: Request, base: str) -> Request:
    """With its whole URL. Raises BadRequest."""
    try:
        url = urljoin(base, request.url)
    except ValueError as error:
        raise wrong(request.place, f"{request.url!r} is no URL: {error}.") from error
    if not curl.is_url(url):
        raise wrong(request.place, f"{request.url!r} is no URL, and no path.")
    if urlsplit(url)[:2] != urlsplit(base)[:2]:
        raise wrong(request.place, f"{url} is not on the server that is verified, {base}. A path alone would be.")
    if not METHOD.fullmatch(request.verb):
        raise wrong(request.place, f"{request.verb!r} is no method.")
    if any(header[0] == "@" or "\n" in header for header in request.headers):
        raise wrong(request.place, "A header must stand in the file itself, on one line.")
    if request.body is not None and (len(request.body) > MOST_BODY or "\0" in request.body):
        raise wrong(request.place, f"A body may have {MOST_BODY:,} characters, and no NUL.")
    if "{{" in f"{request.url}{request.headers}":
        raise wrong(request.place, "A variable in braces is not filled in. Write its value.")
    return replace(request, url=url)


def wrong(place: str, why: str) -> BadRequest:
    return BadRequest(f"{place}: this request cannot be replayed.", why, EXAMPLE)


def with_comment(request: Request, line: str) -> Request:
    """What a comment says of the request that follows."""
    found = SAID.match(line)
    if found is None:
        return request
    name, value = found[1].replace(" ", "_"), found[2]
    try:
        if name == "expect":
            return replace(request, expect=(*request.expect, int(value)))
        seconds = float(value)
    except ValueError:
        raise wrong(request.place, f"{value!r} is no number.") from None
    if not 0.01 <= seconds <= 600:
        raise wrong(request.place, f"{value} is not between 0.01 and 600 seconds.")
    return replace(request, deadline=seconds) if name == "deadline" else replace(request, leave_after=seconds)


# -- an HTTP file ---------------------------------------------------------------------------------------


def from_http(lines: Sequence[str], place: str) -> Iterator[Request]:
    """Requests that stand between lines of `###`: the first line, headers, an empty line, the body."""
    request = Request(place, "")
    body: list[str] | None = None
    for number, line in enumerate([*lines, "###"], 1):
        if line.startswith("###"):
            if request.url:
                yield finished(request, body)
            request, body = Request(place, ""), None
        elif body is not None:
            body.append(line)
        elif line.lstrip().startswith(("#", "//")):
            request = with_comment(request, line.strip())
        elif not request.url and line.strip():
            request = first_line(replace(request, place=f"{place}:{number}"), line.strip())
        elif request.url and line.strip():
            request = replace(request, headers=(*request.headers, line.strip()))
        elif request.url:
            body = []


def first_line(request: Request, line: str) -> Request:
    found = START.fullmatch(line)
    if found is None:
        raise wrong(request.place, f"{line!r} is no first line of a request, such as `POST /orders`.")
    return replace(request, method=found[1] or "GET", url=found[2])


def finished(request: Request, body: list[str] | None) -> Request:
    text = "\n".join(body or ()).strip("\n")
    if not text:
        return request
    names = {header.partition(":")[0].strip().lower() for header in request.headers}
    typed = () if "content-type" in names else ("Content-Type:",)  # curl would add that of a form
    return replace(request, body=text, headers=(*request.headers, *typed))


# -- curl's config syntax -------------------------------------------------------------------------------


def from_curl(lines: Sequence[str], place: str) -> Iterator[Request]:
    """Requests that stand between lines of `next`, an option a line, as `curl --config FILE` takes them."""
    request = Request(place, "")
    for number, line in enumerate([*lines, "next"], 1):
        words = line.strip()
        if not words or words.startswith("#"):
            request = with_comment(request, words)
            continue
        found = OPTION.fullmatch(words)
        name = SHORT.get(found[1], found[1]) if found else words
        if name == "next":
            if request.url:
                yield request
            request = Request(place, "")
        elif name in TAKEN and found:
            at = replace(request, place=f"{place}:{number}") if name == "url" else request
            request = TAKEN[name](at, unquoted(found[2]))
        elif name not in IGNORED:
            raise wrong(f"{place}:{number}", f"The option {name!r} is not one that is replayed: {', '.join(TAKEN)}.")


def unquoted(value: str) -> str:
    value = value.strip()
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), value[1:-1])


def with_header(request: Request, value: str) -> Request:
    return replace(request, headers=(*request.headers, value))


def with_data(request: Request, value: str) -> Request:
    if value.startswith("@"):
        raise wrong(request.place, "A body must stand in the file itself: no other file is read.")
    return replace(request, body=value if request.body is None else f"{request.body}&{value}")


def with_json(request: Request, value: str) -> Request:
    typed = with_header(with_header(request, "Content-Type: application/json"), "Accept: application/json")
    return with_data(typed, value)


TAKEN: dict[str, Callable[[Request, str], Request]] = {
    "url": lambda request, value: replace(request, url=value),
    "request": lambda request, value: replace(request, method=value),
    "head": lambda request, value: replace(request, method="HEAD"),
    "header": with_header,
    "data": with_data,
    "data-raw": with_data,
    "data-binary": with_data,
    "json": with_json,
    "user-agent": lambda request, value: with_header(request, f"User-Agent: {value}"),
    "cookie": lambda request, value: with_header(request, f"Cookie: {value}"),
    "max-time": lambda request, value: with_comment(request, f"# deadline: {value}"),
}
