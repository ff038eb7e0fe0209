"""Keep secrets out of a bundle: what is never needed is not read, and what may hold a secret is struck out.

Environment variables, local variables and request bodies are not read at all. Of a command line the first words are
kept, without the values of options. In every text that is written, `***` stands for what one of three signs gives
away: its shape (a key with a known prefix, credentials in a URL), its name (what a password-like name is given) and,
in lines of code and commands, its randomness (letters and digits alternate as in no word). A net, not a proof.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial

from hangdebug.evidence import light as re

STRUCK = "***"
# Options whose values say what is served, and never how to get in.
HARMLESS = {
    "--host",
    "--port",
    "--bind",
    "--workers",
    "--threads",
    "--loop",
    "--http",
    "--reload",
    "--factory",
    "--app-dir",
    "--interface",
    "--worker-class",
    "--timeout",
    "--log-level",
}
PYTHON_FLAGS = re.compile(r"-[bBdEiIOPqsSuvx]+|-m|-X|-W")
ODD = re.compile(r"[=@]|://")

SECRET = (
    r"(?:passw(?:or)?[dt]|passphrase|passcode|pwd|secret|token|credential|dsn|authorization|cookie"
    r"|(?:api|access|account|private|signing|encryption)[_-]?key|(?<![A-Za-z])(?:pw|pass)(?![A-Za-z]))"
)
WEAK = r"(?<![A-Za-z])(?:key|salt|pepper|signature|sig|session(?:_?id)?|sid|auth|otp|seed)"
QUOTED = r"[bfru]{0,2}(?P<quote>(?:\\?[\"']){3}|\\?[\"'])(?P<value>(?:(?!(?P=quote))(?:\\.|.))+)(?P=quote)"
BARE = r"(?P<value>(?![*\[{(<%$:])[^\s&;,\"'\\<>(){}\[\]|]{3,})"
KEYS = (
    r"(?:A3T|AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat)-[\w-]{20,}"
    r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|(?<=hooks\.slack\.com/services/)[\w/]{20,}|(?:sk|rk|pk)_(?:live|test)_\w{10,}"
    r"|whsec_\w{16,}|sk-[\w-]{20,}|AIza[\w-]{30,}|GOCSPX-[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,}|(?:SK|AC)[0-9a-f]{32}"
    r"|(?:npm|hf)_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|do[opr]_v1_\w{32,}|\d{8,10}:[A-Za-z][\w-]{34}|age-secret-key-\w{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*"
)
LOOKUP = (
    r"[\w.]*(?:get|pop|read|load|fetch|find|ask|input|prompt|split|compile|match|search|sub|TypeVar)\w*\("  # of a name
)
NAMED, OPTION, RANDOM = "the value of a password-like name", "a password after an option", "a long random string"
# What a text must hold, in small letters, for one of these to be there: to look for that costs a hundredth.
SECRET_SIGNS = "pass pw secret token credential dsn authorization cookie key".split()
Pattern = tuple[str, re.Pattern[str], Sequence[str]]


def compiled(*rows: tuple[str, str] | tuple[str, str, Sequence[str]]) -> tuple[Pattern, ...]:
    """Each row has its kind, its pattern and, where that has such, its signs."""
    return tuple(
        (row[0], re.compile(row[1], re.I if row[0] != "a key by its shape" else 0), row[2] if len(row) > 2 else [""])
        for row in rows
    )


PRIVATE = compiled(  # the only one that may go over lines
    ("a private key", r"(?<=PRIVATE KEY-----)(?P<value>[^-\"]+)", ["private key-----"])
)
# In any text, JSON included. What the group `value` matches is struck out.
TEXT = compiled(
    (
        "credentials in a URL",
        r"(?<=://)(?P<value>[^\s/@:\"'\\<>]{0,100}:(?!\d{1,5}[/?#])[^\s\"'\\<>]{1,200}|[^\s/@\"'\\]{1,200})(?=@)",
        ["://"],
    ),
    (
        NAMED,
        rf"{SECRET}[\w-]{{0,40}}(?:\\?[\"'])?\]?[ \t]*(?::[ \t]*[\w.\[\]| ]{{1,40}}?)?"
        rf"(?::=|[:!=]=|[:=])[ \t]*(?:(?!{LOOKUP})[\w.]+\((?:\w+=)?|\()?{QUOTED}",
        SECRET_SIGNS,
    ),
    (
        NAMED,
        rf"(?:\(\\?[\"']|(?<=[\"'])-)[\w-]{{0,40}}{SECRET}[\w-]{{0,40}}\\?[\"'],[ \t]*{QUOTED}",
        SECRET_SIGNS,
    ),  # getenv("TOKEN", "...")
    (
        "a bearer token",
        r"(?:(?<=bearer )|(?:(?<=[\"']basic )|(?<=[\"']token ))(?=[\w.~+/-]*[\d=]))(?P<value>[\w.~+/=-]{8,})",
        ["bearer ", "basic ", "token "],
    ),
    (
        "a cookie",
        r"\bcookie(?:\\?[\"'][ \t]*[:,]|:)[ \t]*(?:\\?[\"'])?(?P<value>(?=[^\s=;,\"'(){}]+=[^{\s])[^\n\"'\\]+)",
        ["cookie"],
    ),
    ("a key by its shape", rf"(?<![A-Za-z0-9])(?P<value>{KEYS})"),
)
# Without quotes: in a URL's query, a connection string, a command. Of code only in its literals and comments, for
# what stands around them are names without their values: connect(password=given).
LOOSE = compiled(
    (
        NAMED,
        rf"(?:{SECRET}[\w-]{{0,40}}|[?&;-]sig(?:nature)?)(?:=|: ?(?=\S*[\d!#$%^&+/])){BARE}(?![\w.(\[])",
        [*SECRET_SIGNS, "sig"],
    ),
    (NAMED, rf"--[\w-]{{0,40}}{SECRET}[\w-]{{0,40}} {BARE}", SECRET_SIGNS),
    (OPTION, r"(?<=-u )(?P<value>[^\s:]+:(?=\S*[A-Za-z])[^\s\"'\\]+)", ["-u "]),
)
CODE = compiled(
    (
        NAMED,
        rf"{WEAK}[\"']?\]?[ \t]*(?:==|[:=,])[ \t]*[bfru]{{0,2}}(?P<quote>[\"'])"
        r"(?P<value>(?=[^\s\"']*\d)(?=[^\s\"']*[A-Za-z])[^\s\"'\\/]{8,})(?P=quote)",
    ),
    (
        NAMED,
        rf"^\s*(?:export )?\w{{0,40}}{SECRET}\w{{0,40}}=(?P<value>(?:(?-i:(?<=[A-Z]=))|(?![a-z_.]+,?$))[^\s=([\"']+)$",
        SECRET_SIGNS,
    ),  # a line of .env
    (
        NAMED,
        rf"^\s*[\w-]{{0,40}}{SECRET}[\w-]{{0,40}}: (?P<value>(?=\S*\d)[^\s(\"'=]+)$",
        SECRET_SIGNS,
    ),  # a line of YAML
    (
        OPTION,
        r"\b(?:sshpass|login|mysql\w*|mariadb\w*|mongo\w*|redis-cli|smbclient|7z|zip)\b[^\n]{0,200}?[\s\"']"
        r"-[pPa](?: ?|[\"'],[ ]*[\"'])(?P<value>[^\s\"',;-][^\s\"']*)",
    ),
)
AUTHENTICATES = re.compile(
    r"(?i)\b\w{0,40}(?:auth|login|credentials?|fernet|hmac\.new|[th]otp|set_password)[ \t]*=?[ \t]*\("
    r"(?P<value>[^()\n]*[\"'][^()\n]*)\)"
)
LITERAL = re.compile(r"(?P<quote>[\"']{3}|[\"'])(?P<value>(?:(?!(?P=quote))(?:\\.|.))*)(?P=quote)|#(?P<comment>.*)")
# What stands for a value that comes from elsewhere: f"{password}", "%s", "$TOKEN"; and what was struck out before.
ELSEWHERE = re.compile(
    r"(?i)(?:\{[^{}]*\}|%\(?\w*\)?[sdr]|\$\{?\w+\}?|<[\w -]+>|\*\*\*|bearer |basic |token |[:@.\s])+"
)
WORD = re.compile(r"(?<![\w+/=.~-])[\w+/=.-]{20,}")
LONGEST_KNOWN = 500  # characters of a line that is kept in mind
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def clean_text(text: str) -> tuple[str, dict[str, int]]:
    """The text with secrets struck out, and how many of each kind were.

    JSON stays JSON. A second pass finds nothing.
    """
    found: Counter[str] = Counter()
    text = strike(text, PRIVATE, found)
    lines = text.split("\n")
    changed = {}  # of a dump's lines few differ
    for line in set(lines):
        kept, removed = (clean_line if len(line) < LONGEST_KNOWN else clean_line.__wrapped__)(line)
        if removed:
            changed[line] = kept, removed
    for number, line in enumerate(lines if changed else ()):
        if line in changed:
            lines[number], removed = changed[line]
            found.update(removed)
    return "\n".join(lines) if changed else text, dict(found)


@lru_cache(maxsize=1 << 14)  # the dumps of one process have few different lines
def clean_line(line: str) -> tuple[str, Counter[str]]:
    removed: Counter[str] = Counter()
    return strike(line, (*TEXT, *LOOSE), removed), removed


def clean_code(line: str) -> tuple[str, dict[str, int]]:
    """The same for a line of source, of which names stay and only values may be struck out."""
    found: Counter[str] = Counter()
    line = strike(line, (*PRIVATE, *TEXT, *CODE), found)
    line = AUTHENTICATES.sub(
        lambda call: replace_group(
            call,
            "value",
            LITERAL.sub(lambda one: strike_value(one, found, "an argument of an authentication"), call["value"]),
        ),
        line,
    )
    line = LITERAL.sub(
        lambda one: replace_group(
            one, name := "comment" if one["value"] is None else "value", strike(one[name], LOOSE, found)
        ),
        line,
    )
    return WORD.sub(lambda one: strike_value(one, found, RANDOM) if is_random(one[0]) else one[0], line), dict(found)


def clean_sources(text: str) -> tuple[str, dict[str, int]]:
    """sources.json, its lines cleaned one by one."""
    found: Counter[str] = Counter()
    cleaned: dict[str, dict[str, str]] = {}
    for file, lines in json.loads(text).items():
        cleaned[file] = {}
        for number, line in lines.items():
            cleaned[file][number], removed = clean_code(line)
            found.update(removed)
    return json.dumps(cleaned, indent=1), dict(found)


def strike(text: str, rows: Iterable[Pattern], found: Counter[str]) -> str:
    small = text.casefold()
    for kind, pattern, signs in rows:
        if any(sign in small for sign in signs):
            text = pattern.sub(partial(strike_value, found=found, kind=kind), text)
    return text


def strike_value(one: re.Match[str], found: Counter[str], kind: str) -> str:
    """The match with its value struck out, where it has one; the whole match where no group is called so."""
    value = one.groupdict().get("value", one[0])
    if not re.search(r"[^\W_]", value or "") or ELSEWHERE.fullmatch(value):
        return one[0]
    found[kind] += 1
    return replace_group(one, "value", STRUCK) if "value" in one.re.groupindex else STRUCK


def replace_group(one: re.Match[str], name: str, text: str) -> str:
    """The match with `text` in place of a group."""
    first, last = one.start(name) - one.start(), one.end(name) - one.start()
    return one[0][:first] + text + one[0][last:]


def is_random(word: str) -> bool:
    """Whether a word holds 20 signs or more in which letters and digits alternate.

    Paths and UUIDs are read by people, and stay.
    """
    if word.startswith(("/", "./", "../")) or UUID.fullmatch(word) or re.search(r"\.[a-z]{1,5}$", word):
        return False
    run = max(re.split(r"[_.=-]", word), key=len)
    kinds = ["0" if sign.isdigit() else "A" if sign.isupper() else "a" for sign in re.sub(r"[A-Z](?=[a-z])", "a", run)]
    turns = sum(one != other for one, other in zip(kinds, kinds[1:]))
    return len(run) >= 20 and "0" in kinds and len(set(kinds)) > 1 and turns * 5 > len(run)


def clean_command(words: Sequence[str], most: int) -> str:
    """The first `most` words of a command line: the program, what it serves, names of options, harmless values."""
    kept = list(words[:1])
    flags = os.path.basename(words[0]).startswith(("python", "pypy")) if words else False  # Python's own come first
    for before, word in zip(words, words[1:most]):
        option, equals, _ = word.partition("=")
        flags = flags and (before is words[0] or bool(PYTHON_FLAGS.fullmatch(before)))
        if word.startswith("-"):
            if (flags and PYTHON_FLAGS.fullmatch(word)) or option in HARMLESS or word == "--":
                kept.append(word)
            elif equals or (not word.startswith("--") and len(word) > 2):
                kept.append(f"{option}={STRUCK}" if equals else f"{word[:2]}{STRUCK}")
            else:
                kept.append(word)
        elif re.fullmatch(r"-\w|--[\w-]+", before) and not (flags or before in HARMLESS or before == "-m"):
            kept.append(STRUCK)
        else:
            kept.append(STRUCK if ODD.search(word) or is_random(word) else word)
    return " ".join(kept)
