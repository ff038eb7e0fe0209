"""Write the generated parts of the docs: references/causes.md, and README.md between its markers.

    python tooling/generate.py            write what changed
    python tooling/generate.py --check    change nothing; exit status 1 if something is stale

The causes come from the modules in scripts/hangdebug/causes/, the help from the command line itself.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
os.environ.update(COLUMNS="110", NO_COLOR="1")  # argparse asks the terminal

from hangdebug.causes import CAUSES  # noqa: E402
from hangdebug.cli import parser as command_line  # noqa: E402
from hangdebug.model import Cause  # noqa: E402

CAUSES_HEAD = """\
# The causes

Read the entry of the cause that a diagnosis names before you word the answer. It says what happens, how to
repair it, and which other cause gives nearly the same stack. `hang.py diagnose` tries them in the order of this
page, from the most specific to the one that admits what a dump cannot show.

This page is generated from `scripts/hangdebug/causes/`.
"""


def causes_page() -> str:
    return "\n".join([CAUSES_HEAD, *map(section, CAUSES)])


def section(cause: Cause) -> str:
    """One cause: its title, the docstring of its module, what it is confused with, what repairs it."""
    lines = [f"## {cause.id}", "", f"*{cause.title[0].upper()}{cause.title[1:]}.*", "", explanation(cause), ""]
    lines += [f"- Not [{other}](#{other}): {how}" for other, how in cause.confused_with.items()]
    lines += [f"- Pattern to copy: `snippets/{cause.snippet}`"] if cause.snippet else []
    lines += [f"- Rewrite: `hang.py fix FILE:LINE` ({cause.fix})"] if cause.fix else []
    return "\n".join(lines).rstrip() + "\n"


def explanation(cause: Cause) -> str:
    return inspect.getdoc(inspect.getmodule(cause.match))


def verbs() -> dict[str, argparse.ArgumentParser]:
    subparsers = next(action for action in command_line()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def help_blocks() -> str:
    """`--help` of every verb, one section each."""
    blocks = []
    for name, parser in verbs().items():
        blocks += [f"### {name}", "", "```text", parser.format_help().strip(), "```", ""]
    return "\n".join(blocks).rstrip()


def replaced(text: str, name: str, body: str) -> str:
    """`text` with `body` between its markers of that name. Raises ValueError where there are none."""
    pattern = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"README.md has no markers of {name}, or several.")
    return pattern.sub(lambda found: f"{found[1]}\n{body}\n{found[2]}", text)


def pages() -> dict[Path, str]:
    """Every generated file, and what it should hold."""
    readme = ROOT / "README.md"
    return {
        ROOT / "references" / "causes.md": causes_page(),
        readme: replaced(readme.read_text(encoding="utf-8"), "help", help_blocks()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say what is stale, change nothing")
    check = parser.parse_args().check
    stale = []
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'stale' if check else 'written'}: {', '.join(stale)}" + ("   Next: make skill" if check else ""))
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
