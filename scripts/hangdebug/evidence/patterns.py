"""The module `re`, whose compile() builds a pattern when it is first asked: a start needs few of the engine's 200.

from hangdebug.evidence import patterns as re
"""

from __future__ import annotations

import re
from re import IGNORECASE, I, M, Match, Pattern, escape, findall, fullmatch, match, search, split, sub
from typing import TYPE_CHECKING, Any

__all__ = ["IGNORECASE", "I", "M", "Match", "Pattern", "compile"]
__all__ += ["escape", "findall", "fullmatch", "match", "search", "split", "sub"]


class Later:
    """Stands for a pattern that is not built yet. What it is asked for is kept, so that it is asked for once."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.recipe = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        if name == "built":
            self.built = re.compile(*self.recipe)
            return self.built
        found = getattr(self.built, name)
        setattr(self, name, found)
        return found


if TYPE_CHECKING:
    from re import compile  # noqa: A004
else:
    compile = Later  # noqa: A001
