"""Take out of each lock what one before it pins in the same words: `python tooling/only_new.py FIRST SECOND ...`."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def pins(text: str) -> list[str]:
    """Its pins, each with its hashes."""
    return re.findall(r"^[A-Za-z0-9].*\n(?:[ \t].*\n)*", text, re.M)


def main() -> None:
    seen: set[str] = set()
    for file in map(Path, sys.argv[1:]):
        new = [pin for pin in pins(file.read_text(encoding="utf-8")) if pin not in seen]
        file.write_text("".join(new), encoding="utf-8")
        seen.update(new)


if __name__ == "__main__":
    main()
