"""Two stand-ins that make a start cheap: the engine has two hundred patterns and sixty dataclasses.

from hangdebug.evidence import light as re              its compile() builds a pattern when it is first asked
from hangdebug.evidence.light import dataclass          its classes share how they compare and print themselves
"""

from __future__ import annotations

import dataclasses
import re
from operator import attrgetter
from re import IGNORECASE, I, M, Match, Pattern, escape, findall, fullmatch, match, search, split, sub
from typing import TYPE_CHECKING, Any

__all__ = ["IGNORECASE", "I", "M", "Match", "Pattern", "compile", "dataclass"]
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


def with_methods(cls: type, eq: bool = True, **options: Any) -> type:
    """The class as the standard library's dataclass() makes it, which compiles three methods less for each."""
    own = set(vars(cls))
    made: Any = dataclasses.dataclass(repr=False, eq=False, **options)(cls)
    fields = dataclasses.fields(made)
    compared = [one.name for one in fields if one.compare]
    key = attrgetter(*compared) if compared else type

    def is_equal(self: object, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: object) -> int:
        return hash(key(self))

    def printed(self: object) -> str:
        rows = (f"{one.name}={getattr(self, one.name)!r}" for one in fields if one.repr)
        return f"{type(self).__qualname__}({', '.join(rows)})"

    methods: dict[str, Any] = {"__repr__": printed}
    if eq:
        methods.update(__eq__=is_equal, __hash__=hashed if options.get("frozen") else None)
    for name in methods.keys() - own:
        setattr(made, name, methods[name])
    return cls


if TYPE_CHECKING:
    from dataclasses import dataclass
    from re import compile  # noqa: A004
else:
    compile = Later  # noqa: A001

    def dataclass(cls=None, /, **options):
        return with_methods(cls) if cls is not None else lambda given: with_methods(given, **options)
