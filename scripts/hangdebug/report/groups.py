"""Many diagnoses at once: one line for those that agree in state, cause and frame, the odd ones out last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Iterable

from hangdebug.answer.model import Diagnosis
from hangdebug.report.text import as_dict, printable

SHOWN_NAMES = 6


@dataclass(frozen=True)
class Group:
    """Diagnoses that say the same: the surest of them, and the names of what each was made of."""

    answer: Diagnosis
    names: tuple[str, ...]


def groups(found: Iterable[tuple[str, Diagnosis]]) -> tuple[Group, ...]:
    """The largest group first. A frame is the same if function, file name and line are."""
    members: dict[tuple, list[tuple[str, Diagnosis]]] = {}
    for name, answer in found:
        frame = answer.blocking_frame
        place = (
            (frame.function.rpartition(".")[2], frame.file.replace("\\", "/").rpartition("/")[2], frame.line)
            if frame
            else None
        )
        members.setdefault((answer.state, answer.cause, place), []).append((name, answer))
    made = [
        Group(max((answer for _, answer in same), key=lambda one: one.confidence), tuple(name for name, _ in same))
        for same in members.values()
    ]
    return tuple(sorted(made, key=lambda group: -len(group.names)))


def as_groups(found: Iterable[tuple[str, Diagnosis]]) -> str:
    lines = []
    for group in groups(found):
        answer, names = group.answer, group.names
        frame = answer.blocking_frame
        where = f" in {frame.function} ({frame.file}:{frame.line})" if frame else ""
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        lines += [
            f"{len(names):>4} x  {answer.state} / {answer.cause}{where}   confidence {answer.confidence:.2f}",
            f"        {', '.join(names[:SHOWN_NAMES])}{more}",
        ]
    return printable("\n".join(lines)) + "\n"


def as_json_groups(found: Iterable[tuple[str, Diagnosis]]) -> str:
    """A list of {"count", "names", "diagnosis"}; each diagnosis is the contract of version 1."""
    rows = [
        {"count": len(group.names), "names": list(group.names), "diagnosis": as_dict(group.answer)}
        for group in groups(found)
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
