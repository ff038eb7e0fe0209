"""Two stand-ins that make a start cheap: the engine has two hundred patterns and sixty dataclasses.

from hangdebug.evidence import light as re              its compile() builds a pattern when it is first asked
from hangdebug.evidence.light import dataclass          its classes share how they compare and print themselves
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from re import IGNORECASE, I, M, Match, Pattern, escape, findall, fullmatch, match, search, split, sub
from typing import TYPE_CHECKING, Any, Callable

__all__ = ["IGNORECASE", "I", "M", "Match", "Pattern", "compile", "dataclass"]
__all__ += ["escape", "findall", "fullmatch", "match", "search", "split", "sub"]


class Later:
    """Stands for a pattern that is not built yet. What it is asked for is kept, so that it is asked for once."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.pattern = pattern
        self.recipe = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        if name == "built":
            self.built = re.compile(*self.recipe)
            return self.built
        found = getattr(self.built, name)
        setattr(self, name, found)
        return found


Fields = tuple["dataclasses.Field[Any]", ...]


def with_methods(cls: type, frozen: bool = False, eq: bool = True) -> type:
    """The class as a dataclass. The standard library compiles six methods for each; these are functions at hand."""
    own = set(vars(cls))
    fields = dataclasses.fields(dataclasses.dataclass(init=False, repr=False, eq=False)(cls))
    methods: dict[str, Any] = {"__init__": filler(cls, fields), "__repr__": printer(fields)}
    if eq:
        methods["__eq__"], hashed = comparison(fields)
        methods["__hash__"] = hashed if frozen else None
    if frozen:
        methods.update(__setattr__=refused, __delattr__=refused)
    for name in methods.keys() - own:
        setattr(cls, name, methods[name])
    return cls


def filler(cls: type, fields: Fields) -> Callable[..., None]:
    """`__init__`. It raises TypeError for a value that is missing, unknown, one too many, or given twice."""
    name, finish = cls.__name__, getattr(cls, "__post_init__", None)
    fields = tuple(one for one in fields if one.init)
    names = tuple(one.name for one in fields)
    known = frozenset(names)
    defaults = {one.name: one.default for one in fields if one.default is not MISSING}
    made = [(one.name, one.default_factory) for one in fields if one.default_factory is not MISSING]

    def filled(self: object, *given: object, **named: object) -> None:
        values = self.__dict__
        if len(given) == len(names) and not named:
            values.update(zip(names, given))
        else:
            values.update(defaults)
            values.update(zip(names, given), **named)
            for field, factory in made:
                if field not in values:
                    values[field] = factory()
            twice = named and not named.keys().isdisjoint(names[: len(given)])
            if values.keys() != known or len(given) > len(names) or twice:
                told = f"given were {len(given)} and {list(named)}"
                raise TypeError(f"{name}() takes {', '.join(names)}, each once; {told}")
        if finish is not None:
            finish(self)

    return filled


def printer(fields: Fields) -> Callable[[object], str]:
    names = [one.name for one in fields if one.repr]

    def printed(self: object) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return printed


def comparison(fields: Fields) -> tuple[Callable[[object, object], bool], Callable[[object], int]]:
    names = [one.name for one in fields if one.compare]
    key: Callable[[object], object] = attrgetter(*names) if names else type

    def is_equal(self: object, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: object) -> int:
        return hash(key(self))

    return is_equal, hashed


def refused(self: object, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")


if TYPE_CHECKING:
    from dataclasses import dataclass
    from re import compile  # noqa: A004
else:
    compile = Later  # noqa: A001

    def dataclass(cls=None, /, **options):
        return with_methods(cls) if cls is not None else lambda given: with_methods(given, **options)
