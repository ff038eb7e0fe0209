"""What a word of an answer means: one entry of a cause, a state or a rule, with its repair.

The texts are those of the modules themselves, of which references/causes.md and references/rewrites.md are made too.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from difflib import get_close_matches
from importlib import import_module

from hangdebug import shipped
from hangdebug.answer.model import StateEntry
from hangdebug.answer.states import ENTRIES
from hangdebug.answer.states import RULES as DECIDE
from hangdebug.causes import CAUSES
from hangdebug.causes.model import Cause
from hangdebug.errors import BadRequest, ours
from hangdebug.repair.rules import RULES as REWRITE


def explanation_of(word: str) -> str:
    """The entry of a cause, a state, a rule that decides or one that rewrites. Raises BadRequest for another word."""
    asked = word.strip().lower()
    found = [cause_entry(cause, here=True) for cause in CAUSES if cause.id == asked]
    found += [state_entry(state) for name, state in ENTRIES.items() if name == asked]
    found += [
        f"## {rule.name}\n\nDecides the state {state.name}; its question: {rule.question}?\n\n{page(rule.ask)}\n"
        for state, rule in DECIDE
        if rule.name == asked
    ]
    found += [f"## {rule.id}\n\n{rewrite_page(rule.id)}\n" for rule in REWRITE if rule.id == asked.replace("-", "_")]
    if not found:
        known = [*(cause.id for cause in CAUSES), *ENTRIES, *(rule.id for rule in REWRITE)]
        near = get_close_matches(asked, dict.fromkeys([*known, *(rule.name for _, rule in DECIDE)]), 3, 0.5)
        raise BadRequest(
            f"{word} is no cause, no state and no rule.",
            f"Near to it: {', '.join(near)}." if near else "An answer begins with its state and its cause.",
            ours("explain", *near[:1]),
        )
    return "\n".join(found)


def cause_entry(cause: Cause, here: bool = False) -> str:
    """The docstring of its module, what it is confused with, what repairs it; `here` with paths of this machine."""
    snippet = os.path.join(shipped("snippets") if here else "snippets", cause.snippet or "")
    fix = ours("fix", "FILE:LINE") if here else "hang.py fix FILE:LINE"
    lines = [f"## {cause.id}", "", page(inspect.getmodule(cause.match)), ""]
    lines += [f"- Not {other if here else f'[{other}](#{other})'}: {how}" for other, how in cause.confused_with.items()]
    lines += [f"- Pattern to copy: `{snippet}`"] if cause.snippet else []
    lines += [f"- Rewrite: `{fix}` ({cause.fix})"] if cause.fix else []
    return "\n".join(lines).rstrip() + "\n"


def state_entry(state: StateEntry) -> str:
    """The docstring of its module, and the rules that can decide for it."""
    module = import_module(f"hangdebug.answer.states.{state.name.replace('-', '_')}")
    rules = [f"- {rule.name}: {page(rule.ask).partition(chr(10))[0]}" for rule in state.rules]
    return "\n".join([f"## {state.name}", "", page(module), "", "Decided by:", "", *rules]) + "\n"


def rewrite_page(name: str) -> str:
    return page(import_module(f"hangdebug.repair.rules.{name}"))


def page(of: object) -> str:
    return inspect.getdoc(of) or ""


def known_words() -> str:
    """What can be explained, in the order in which it is tried or asked."""
    rows: dict[str, list[str]] = {
        "causes": [cause.id for cause in CAUSES],
        "states": list(ENTRIES),
        "rewrites": [rule.id for rule in REWRITE],
    }
    return "\n".join(
        textwrap.fill(f"{name:9} {', '.join(words)}", 100, subsequent_indent=" " * 10, break_on_hyphens=False)
        for name, words in rows.items()
    )
