"""Keep secrets out of a bundle: what is never needed is not read, and what may hold a secret is struck out.

Environment variables, local variables and request bodies are not read at all. Of a command line the first words are
kept, without the values of options. In every text that is written, `***` stands for credentials in a URL, for the
literal that a password-like name is given, and for what has the shape of a key. That is a net, not a proof.
"""

from __future__ import annotations

import os
import re
from typing import Sequence

STRUCK = "***"
# Options whose values say what is served, and never how to get in.
HARMLESS = {"--host", "--port", "--bind", "--workers", "--threads", "--loop", "--http", "--reload", "--factory", "--app-dir",
            "--interface", "--worker-class", "--timeout", "--log-level"}
PYTHON_FLAGS = re.compile(r"-[bBdEiIOPqsSuvx]+|-m|-X|-W")
ODD = re.compile(r"[=@]|://|(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[\w+/-]{24,}$")
SECRET = (r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|dsn|authorization"
          r"|(?:api|access|private|signing)_?key)")
KEYS = (r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,}"
        r"|eyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*)")
PATTERNS = (
    ("credentials in a URL", re.compile(r"(?<=://)(?!\*\*\*@)[^\s/@\"'\\]{1,200}(?=@)"), STRUCK),
    ("the value of a password-like name",
     re.compile(rf"(?i)({SECRET}\w{{0,40}}(?:\\?[\"'])?\]?[ \t]*(?::[ \t]*\w+[ \t]*)?"
                r"[:=][ \t]*(?:[\w.]+\((?:\w+=)?)?[bfru]{0,2})"
                rf"((?:\\?[\"']){{3}}|\\?[\"'])(?!\*\*\*)((?:(?!\2).)+)\2"),
     rf"\g<1>\g<2>{STRUCK}\g<2>"),
    ("a bearer token", re.compile(r"(?i)(?<=bearer )(?!\*\*\*)[\w.~+/=-]{8,}"), STRUCK),
    ("a key by its shape", re.compile(KEYS), STRUCK),
    ("a private key", re.compile(r"(?<=PRIVATE KEY-----)(?!\*\*\*)[^-\"]+"), STRUCK),
)


def clean(text: str) -> tuple[str, dict[str, int]]:
    """The text with secrets struck out, and how many of each kind were. JSON stays JSON. A second pass finds nothing."""
    found = {}
    for kind, pattern, instead in PATTERNS:
        text, count = pattern.subn(instead, text)
        if count:
            found[kind] = count
    return text, found


def command(words: Sequence[str], most: int) -> str:
    """The first `most` words of a command line: the program, what it serves, names of options, harmless values."""
    kept = list(words[:1])
    flags = os.path.basename(words[0]).startswith(("python", "pypy")) if words else False  # Python's own come first
    for before, word in zip(words, words[1:most]):
        option, equals, _ = word.partition("=")
        flags = flags and (before is words[0] or bool(PYTHON_FLAGS.fullmatch(before)))
        if word.startswith("-"):
            if flags and PYTHON_FLAGS.fullmatch(word) or option in HARMLESS or word == "--":
                kept.append(word)
            elif equals or not word.startswith("--") and len(word) > 2:
                kept.append(f"{option}={STRUCK}" if equals else f"{word[:2]}{STRUCK}")
            else:
                kept.append(word)
        elif re.fullmatch(r"-\w|--[\w-]+", before) and not (flags or before in HARMLESS or before == "-m"):
            kept.append(STRUCK)
        else:
            kept.append(STRUCK if ODD.search(word) else word)
    return " ".join(kept)
