"""Take off what terminals, chats and log collectors put around a dump, and nothing of the dump itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import is_application
from hangdebug.evidence.model import Frame

ANSI_MARKS = ("\x1b", "^[", "\u241b", "\\x1b", "\\u001b", "\\033")
ANSI = re.compile(
    r"(?:\x1b|\^\[|\u241b|\\x1b|\\u001b|\\033)"
    r"(?:\[[0-9;?]{0,30}[A-Za-z]|\][^\x07\x1b\n]{0,300}(?:\x07|\x1b\\))"
)
SPACES = {
    ord("\u00a0"): " ",
    ord("\ufeff"): None,
    ord("\u200b"): None,
    ord("\0"): None,
    ord("\u201c"): '"',
    ord("\u201d"): '"',
    ord("\u2018"): "'",
    ord("\u2019"): "'",
}
ENTITY = re.compile(r"&(?:lt|gt|quot|amp|nbsp|#39|#34|#x27|#x22);")
BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
TAG = re.compile(r"</?(?:pre|code|p|div|span|details|summary|blockquote)(?: [^<>]{0,200})?>", re.IGNORECASE)
# A dump inside of one JSON string or one repr(): line ends are two characters. Windows paths have `\n` as
# well, so it must stand before something that begins a line of a dump.
ESCAPED = re.compile(r"(?:\\r)?\\n(?=\\n|\\t|\s{2}|\"|Thread |Current |Process |Python v|Traceback|File |Task )")
ESCAPES = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\'": "'", "\\\\": "\\", "\\r": ""}
KEY = re.compile(r"^\s{0,20}[\w.-]{0,40}\s{0,4}[=:]?\s{0,4}[\"'](?=[^\"'\n]{0,300}\\n)")  # stack="Process 12: ...\n
LOG_TEXT = ("log", "message", "msg", "MESSAGE", "text", "textPayload", "line", "event", "body")
STACK_TEXT = ("stack", "stacktrace", "stack_trace", "traceback", "exc_info", "exception", "dump")
# How records name the parts of a frame, and the lists that hold frames.
FRAME_KEYS = (
    ("function", "func", "name", "method"),
    ("file", "filename", "path", "abs_path", "module"),
    ("line", "lineno", "line_number", "line_no"),
)
UNITS = ("_ms", "_s", "_sec", "_seconds", "_millis")  # of a number, at the end of its key
LISTS = ("frames", "stack", "stacktrace", "stack_trace", "traceback")
THREAD_KEYS = ("thread", "thread_name", "threadName")
PLACE_TEXT = re.compile(r"^(?P<file>[^\s:]{1,500}):(?P<line>\d{1,9}) in (?P<function>[\w.<>]{1,300})$")
MOST_NESTED = 6  # records within records
HEADS = re.compile(
    r"(?<=\S)\s+(?=(?:Current thread|Thread) 0x[0-9a-fA-F]{4,16} (?:\[|\(most recent)|"
    r"Thread (?:0x[0-9a-fA-F]{4,16}|\d{1,10}) \((?:idle|active)|Python v\d|Traceback for thread \d)"
)
OF_THREAD = re.compile(r"[{,]\s{0,4}(\d{1,20}): (?=<frame at 0x)")
PLACES = re.compile(r":\d{1,9}\)|\", line \d")
FENCE = re.compile(r"^\s*(?:```|~~~)[\w.+ -]{0,40}$")
APART = "\f"  # stands for a fence: what comes after it is another stack
# A line of a dump as a string in somebody's code or JSON: 'Thread 12 (idle): "MainThread"',
LITERAL = re.compile(
    r"""^\s{0,80}[rbfuRBFU]{0,2}(?P<mark>["'])(?P<text>(?:\\.|(?!(?P=mark))[^\\\n])*)(?P=mark)"""
    r"""\s{0,4}[,+;)\\]{0,3}$"""
)
# What mail and terminals break off: `File "a.py", line 3, in` / `f`, and the place of py-spy's frames.
CUT = re.compile(
    r"""(?:File "[^"\n]{1,1000}", line \d{1,9},?(?: in)?|File "[^"\n]{1,1000}",|<Task[ -]\w[^\n]{0,2000})$"""
)
FUNCTION = re.compile(r"^\s{0,12}(?:line \d{1,9},? )?(?:in )?[\w.<>]{1,300}$")
TOOK = re.compile(r"\btook [\d.]{1,20} ?s")  # the end of asyncio's line on a slow step, whatever was left out of it
UNDERLINE = re.compile(r"(?<=\s)\\_(?=\w)")  # markdown's way to keep it
# What a line begins with that a terminal did not break off: a frame is indented, a head begins with a word.
BEGINS = re.compile(
    r"^(?:\s{2}|\s*$|\s?(?:Thread|thread_id|Process|Python|Current|Traceback|File|Task|Stack|Extension|Fatal|\(Python\)|[#{}\[$-]))"
)
RULER = re.compile(r"[=_\-*+~#]{3}$|(?:_ ){3}_?$")  # whoever draws one ends the line there
WHOLE = re.compile(r":\d{1,9}\)$")  # py-spy's frame, to its end
NARROWEST, WIDEST, LEAST_BROKEN = 60, 250, 3  # columns of a terminal, and different lines that it broke
MOST_JOINED, LONGEST = 12, 3000  # lines, and the characters of one

QUOTED = re.compile(r"^ {0,3}(?:> ?)+")
# kubectl, docker compose and stern name the pod or container.
SOURCE = re.compile(
    r"^(?:\[pod/\S{1,200}\] |[A-Za-z][\w.-]{0,60} {0,20}\| |"
    r"[a-z][a-z0-9]{0,40}(?:-[a-z0-9]{1,40}){2,8} [a-z][a-z0-9-]{0,60} )"
)
LEVEL = re.compile(r"^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):(?:[\w.]{1,80}:|\s{1,8})")
STAMP = re.compile(
    r"^\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
    r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?[ \t]?"
)
# Tables of logs as CSV: quotes within a field are doubled.
DOUBLED = re.compile(r'File ""[^"\n]|\): ""\w')
CSV = re.compile(
    r"^(?:\d{10,19}|\d{4}-\d\d-\d\d[T ][\d:.]{8,18}(?:,\d{3})?(?:Z|[+-]\d\d:?\d\d)?),(?!\d{3} )(?P<text>.*)$"
)
# What rules the stacks of a text that has such a mark: those of an exception group, and of gevent's `print_run_info()`.
RULED_BY = (
    ("Exception Group Traceback", re.compile(r"^(?:\^C)?\s{0,40}(?:\| ?|\+ (?=Exception Group)|\+-(?:\+-)?-+.*$)")),
    ("* Greenlets", re.compile(r"^ {0,40}(?:[:|] {1,2}|\+-{1,8} )")),
)
SYSLOG = re.compile(
    r"^(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})? "
    r"\S{1,80} [\w./@-]{1,60}(?:\[\d{1,9}\])?: ?"
)
# What stands between a time stamp and the line itself: a stream, a host and a unit, a log level and a logger.
AFTER_STAMP = re.compile(
    r"^(?:(?:stdout|stderr) [FP] |\{[\w.]{1,80}=\"[^\"{}]{0,300}\"[^{}]{0,1000}\} |"
    r"(?!Thread)(?:[\w.-]{1,80} )?[\w./@-]{1,60}\[[\w.]{1,30}\]: ?|"
    r"[\w.$-]{1,80}(?:/[\w.$\[\]-]{1,80})+ |[0-9a-f-]{36}\s|"
    r"\[?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\]?:? (?:[\w.]{1,80}: )?)"
)


def clean(text: str) -> list[str]:
    """The lines of `text` without colours, carriage returns, quoting, time stamps, escapes and markdown fences.

    A dump of many threads says the same lines again and again: each is looked at once.
    """
    if not text.isascii() or "\0" in text:
        text = text.translate(SPACES)
    if any(mark in text for mark in ANSI_MARKS):
        text = ANSI.sub("", text)
    if text.lstrip()[:1] == "{" and "\n" in text.strip():
        text = record_text(text)
    if DOUBLED.search(text):
        text = text.replace('""', '"')
    rules = [rule for mark, rule in RULED_BY if mark in text]
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line not in parts:
            parts[line] = parts_of(line, rules)
        lines += parts[line]
    lines = join_cut(join_broken(lines))
    plain = {line: APART if FENCE.match(line) else plain_line(line) for line in dict.fromkeys(lines)}
    return [plain[line] for line in lines]


def parts_of(line: str, rules: list[re.Pattern[str]]) -> list[str]:
    """The lines that one line of the text stands for, each without what was put before it, and without `rules`."""
    for rule in rules:
        line = rule.sub("", line)
    inside = map(without_prefix, lines_inside(string_text(without_prefix(line))))
    return [part for one in inside for part in split_heads(one)]


def plain_line(line: str) -> str:
    return UNDERLINE.sub("_", line.replace("`", "").replace('File: "', 'File "')).expandtabs(4).rstrip()


def without_prefix(line: str) -> str:
    """The line without what was put before it, however many collectors it went through."""
    row = CSV.match(line)
    line = row["text"] if row else line
    line = line[1:-1] if row and line[:1] == line[-1:] == '"' and line[1:] else line
    for _ in range(4):
        before = line
        line = LEVEL.sub("", SOURCE.sub("", QUOTED.sub("", line)))
        found = STAMP.match(line) or SYSLOG.match(line)
        if found:
            line = line[found.end() :]
            for _ in range(3):
                line = AFTER_STAMP.sub("", line)
        if line == before:
            break
    return line


def string_text(line: str) -> str:
    """The text of a line that is nothing but a string: its own end of line, and what is escaped, are taken off."""
    found = LITERAL.match(line[:4000])
    text = found["text"] if found else ""
    text = text.removesuffix("\\n")
    return text.replace('\\"', '"').replace("\\'", "'") if text and "\\n" not in text else line


def join_broken(lines: list[str]) -> list[str]:
    """The lines that a terminal broke at its width, whole again: all broken ones are equally long."""
    width = max(map(len, lines), default=0)
    if not NARROWEST <= width <= WIDEST:
        return lines
    broken = [
        len(line) == width and not (WHOLE.search(line) or RULER.search(line) or BEGINS.match(after))
        for line, after in zip(lines, lines[1:])
    ]
    if len({line for line, breaks in zip(lines, broken) if breaks}) < LEAST_BROKEN:
        return lines
    made: list[str] = []
    goes_on = False
    for line, breaks in zip(lines, [*broken, False]):
        made[-1:] = [made[-1] + line] if goes_on else [*made[-1:], line]
        goes_on = breaks and len(made[-1]) < LONGEST
    return made


def join_cut(lines: list[str]) -> list[str]:
    """The lines of which mail and terminals made several, whole again."""
    cut = {line for line in set(lines) if len(line) < LONGEST and CUT.search(line.rstrip())}
    if not cut:
        return lines
    made: list[str] = []
    index = 0
    while index < len(lines):
        line, count = lines[index], 1
        if line in cut:
            line, count = join_first([one[:LONGEST] for one in lines[index : index + MOST_JOINED]])
        made.append(line)
        index += count
    return made


def join_first(lines: list[str]) -> tuple[str, int]:
    """The first line with as many of the next as it lacks, and how many lines that took."""
    first = lines[0].rstrip()
    if "<Task" not in first:
        joins = len(lines) > 1 and FUNCTION.match(lines[1]) and not lines[1].strip().endswith(":")
        return (f"{first} {lines[1].strip()}", 2) if joins else (lines[0], 1)
    for count in range(1, len(lines) + 1):
        text = " ".join(line.strip() for line in lines[:count])
        if text.count("<") <= text.count(">") or TOOK.search(text):
            return (first[: len(first) - len(first.lstrip())] + text, count)
    return lines[0], 1


def split_heads(line: str) -> list[str]:
    """A dump that lost its line ends, one line a head; and frames by thread, as `sys._current_frames()` prints them."""
    if "<frame at 0x" in line:
        line = OF_THREAD.sub(r"\nThread \1:\n    ", line[:LONGEST])
        return line.split("\n")
    return HEADS.sub("\n", line).split("\n") if len(PLACES.findall(line[:10_000])) > 1 else [line]


def lines_inside(line: str) -> list[str]:
    """The lines that one line holds in disguise: as a JSON log record, as a string with escapes, as HTML."""
    if "{" in line and line.rstrip()[-1:] == "}":
        line = log_text(line)
    for _ in range(3):  # a log record is often put into another one
        if "\\n" not in line or not ESCAPED.search(line):
            break
        line = unescaped(KEY.sub("", line, 1))
    if "&" in line and ENTITY.search(line):
        import html  # its table of entities takes longer than most dumps

        for _ in range(2):
            line = html.unescape(line).replace("\u00a0", " ") if ENTITY.search(line) else line
    if "<" in line:
        line = TAG.sub("", BREAK.sub("\n", line))
    return line.split("\n")


def unescaped(line: str) -> str:
    text = re.sub(
        r"\\(?:[ntr\"'\\]|u[0-9a-fA-F]{4})",
        lambda found: ESCAPES[found[0]] if found[0] in ESCAPES else chr(int(found[0].removeprefix("\\u"), 16)),
        line,
    )
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # two escapes make one emoji


def log_text(line: str) -> str:
    """The message of a JSON log record and the frames that it holds, or the line itself."""
    start = line.find("{")
    try:
        record = json.loads(line[start:])
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, dict) or not record or is_py_spys(record):
        return line
    before = [line[:start].rstrip()] if line[:start].strip() else []
    own, inside = frame_line(record), first_frames(record, 0)
    record = {**dict(reversed(list(nested(record, 0)))), **record}
    if own:
        return "\n".join([*before, *thread_head(record, own), own])
    timed = [f"{key}={value}" for key, value in record.items() if key.endswith(UNITS) and type(value) in (int, float)]
    texts = [record[key] for key in (*LOG_TEXT, *STACK_TEXT) if isinstance(record.get(key), str)]
    if inside:
        numbers = [f"{key}={value}" for key, value in record.items() if isinstance(value, (int, float))]
        return "\n".join([*before, " ".join([*texts[:1], *numbers]), "", *inside])
    stacks = [text for text in texts if text in [record.get(key) for key in STACK_TEXT] and "\n" in text]
    if stacks and texts[0] not in stacks:  # what the log says of the stack
        before = [*before, texts[0].rstrip("\n"), ""]
    text = max(stacks or texts, key=len).rstrip("\n") if texts else line
    text = " ".join([text, *timed]) if timed and "\n" not in text else text
    return "\n".join([*before, *thread_head(record, text), text]) if before or texts else text


def nested(record: dict[str, Any], level: int) -> Iterator[tuple[str, Any]]:
    """The pairs of the records within a record, by the last part of a dotted key, the outer ones first."""
    for key, value in record.items():
        yield key.rpartition(".")[2], value
    for value in record.values():
        if isinstance(value, dict) and level < MOST_NESTED:
            yield from nested(value, level + 1)


def is_py_spys(record: dict[str, Any]) -> bool:
    """Whether it is a thread of py-spy's own JSON, whose reader knows more of it."""
    return isinstance(record.get("frames"), list) and "thread_id" in record


def thread_head(record: dict[str, Any], text: str) -> list[str]:
    """A head for the stack that a record holds: for its first frame, where each frame has a record of its own."""
    name = next((record[key] for key in THREAD_KEYS if isinstance(record.get(key), str)), "")
    begins = record.get("depth", record.get("frame", record.get("index"))) == 0 or "\n" in text
    return [f"Thread: {name}"] if name and begins else []


def frame_line(record: dict[str, Any]) -> str:
    """The frame that a record is, as py-spy prints one; "" for any other record."""
    function, file, line = (next((record[key] for key in keys if key in record), None) for keys in FRAME_KEYS)
    if not isinstance(function, str) or not isinstance(file, str) or not (line is None or type(line) is int):
        return ""
    return f"    {function} ({file}:{line})" if line and (".py" in file or file[:1] == "<") else ""


def frame_lines(record: dict[str, Any]) -> list[str]:
    """The frames in the first list of them that a record holds, innermost first as far as their owners show."""
    rows: list[object] = next((record[key] for key in LISTS if isinstance(record.get(key), list) and record[key]), [])
    texts = [row for row in rows if isinstance(row, str)]
    if any('File "' in text for text in texts):  # as `traceback.format_stack()` gives them
        return [line for text in texts for line in text.split("\n") if line.strip()]
    found = [one for row in rows for one in [row_line(row)] if one]
    top = row_line(record.get("blocking"))
    if top and top not in found:
        ends = [
            is_application(Frame("", text.rpartition("(")[2].rpartition(":")[0])) for text in found[:1] + found[-1:]
        ]
        found = [*found, top] if ends == [True, False] else [top, *found]
    return found


def row_line(row: object) -> str:
    if isinstance(row, dict):
        return frame_line(row)
    place = PLACE_TEXT.match(row.strip()) if isinstance(row, str) else None
    return f"    {place['function']} ({place['file']}:{place['line']})" if place else ""


def record_text(text: str) -> str:
    """The frames of a record on many lines, such as an event of an error tracker's; else the text itself."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return text
    found = first_frames(record, 0) if isinstance(record, dict) and not is_py_spys(record) else []
    return "\n".join([str(record.get("message") or ""), "", *found]) if found else text


def first_frames(value: object, level: int) -> list[str]:
    if level > MOST_NESTED:
        return []
    if isinstance(value, list):
        return next((found for one in value for found in [first_frames(one, level + 1)] if found), [])
    if not isinstance(value, dict):
        return []
    own = frame_lines(value)
    return own or next((found for one in value.values() for found in [first_frames(one, level + 1)] if found), [])
