"""Take out of each lock what one before it pins in the same words: `python tooling/only_new.py FIRST SECOND ...`.

A lock that would name an address, or where to look for packages, is refused: exit status 1, and nothing is changed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# An address, or an option of pip's that says where packages come from.
ADDRESS = re.compile(r":/{2}|--(?!hash=)")


def pins(text: str) -> list[str]:
    """Its pins, each with its hashes."""
    return re.findall(r"^[A-Za-z0-9].*\n(?:[ \t].*\n)*", text, re.M)


def main() -> None:
    for file in map(Path, sys.argv[1:]):
        named = [line for line in file.read_text(encoding="utf-8").splitlines() if ADDRESS.search(line)]
        if named:
            what = f"{file.name} would name an address, so no lock was changed: {named[0]}"
            sys.exit(f"{what}\nNext: look at the requirements")
    seen: set[str] = set()
    for file in map(Path, sys.argv[1:]):
        new = [pin for pin in pins(file.read_text(encoding="utf-8")) if pin not in seen]
        file.write_text("".join(new), encoding="utf-8")
        seen.update(new)


if __name__ == "__main__":
    main()
