"""The rewrites, in the order in which they run. One file each; files with a leading underscore serve them.

Importing this package needs libcst: hangdebug.fix imports it when the first file is read, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from hangdebug.fixes import nonblocking_executor
from hangdebug.model import Finding


@dataclass(frozen=True)
class Rule:
    """`rewrite(source, file, line)` answers with the new source and its findings, `line` may be None.

    A finding outside `line`'s construct or function is left out, and so is its edit.
    """

    id: str
    rewrite: Callable[[str, str, "int | None"], "tuple[str, tuple[Finding, ...]]"]


RULES = (Rule("nonblocking_executor", nonblocking_executor.rewrite),)
