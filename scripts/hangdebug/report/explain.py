"""How a diagnosis came about: the rules that were asked, in order, and the steps of its certainty."""

from __future__ import annotations

from typing import Any, Sequence

from hangdebug.answer.model import Asked, Diagnosis, Step
from hangdebug.report.text import printable

SPOKE, SILENT = "=>", "  "


def explained(diagnosis: Diagnosis) -> str:
    """The rules, the one that spoke marked, then the certainty as a table that ends in the figure shown."""
    lines = ["", "rules asked, in this order; => is the one that spoke"]
    lines += [line for asked in diagnosis.trace.asked for line in rule_lines(asked)] or ["  none"]
    lines += ["", "certainty"]
    lines += step_lines((*diagnosis.trace.steps, Step("as shown", diagnosis.confidence, "")))
    return printable("\n".join(lines)) + "\n"


def rule_lines(asked: Asked) -> list[str]:
    """The rule and its state, and below it what the rule saw."""
    head = f"  {SPOKE if asked.spoke else SILENT} {asked.rule} ({asked.state})"
    return [head, f"       {asked.saw}"] if asked.saw else [f"{head}: does not apply"]


def step_lines(steps: Sequence[Step]) -> list[str]:
    """A row a step: the figure after it, its name, its reason."""
    width = max(len(step.name) for step in steps)
    return [f"  {step.figure:.2f}  {step.name:{width}}  {step.reason}".rstrip() for step in steps]


def as_trace(diagnosis: Diagnosis) -> dict[str, Any]:
    """The same for programs: what `--json --explain` adds under the key "explain"."""
    trace = diagnosis.trace
    return {
        "asked": [
            {"rule": one.rule, "state": one.state, "saw": one.saw or None, "spoke": one.spoke} for one in trace.asked
        ],
        "steps": [{"name": one.name, "figure": one.figure, "reason": one.reason} for one in trace.steps],
    }
