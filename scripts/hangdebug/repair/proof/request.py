"""Requests to replay, read from a file: curl's own config syntax, or an HTTP file as editors send them.

    # expect: 422                     POST http://127.0.0.1:8000/orders HTTP/1.1
    url = "/orders"                   Content-Type: application/json
    request = POST
    header = "Content-Type: ..."      {"item": 7}
    data = "{\"item\": 7}"
    next                              ###

A path alone goes to the URL that is verified. Three comments before a request say what is right for it:
`# expect: 422` (a status beside 2xx), `# deadline: 30` (seconds for the answer), `# leave after: 1` (the client goes
away after so many seconds, without waiting for the end of the answer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from hangdebug.errors import BadRequest, ours
from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.proof import curl

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
