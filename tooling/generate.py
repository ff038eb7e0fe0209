"""Write what is generated: references/causes.md, docs/rules, two pages between their markers, notebooks/practice.json.

    python tooling/generate.py              write what changed
    python tooling/generate.py --check      change nothing; exit status 1 if something is stale
    python tooling/generate.py --example    also run `hang.py triage` and put what it prints into the README

The causes come from the modules in scripts/hangdebug/causes/, the rules from those in scripts/hangdebug/repair/rules/,
the help from the command line itself, the practice
cases from the servers in tests/. The example is cut from the output of a real run; a test runs it again and compares
all but the numbers.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
os.environ.update(COLUMNS="110", NO_COLOR="1")  # argparse asks the terminal

import cases
from hangdebug.causes import CAUSES
from hangdebug.cli import command_line
from hangdebug.repair.rules import RULES, Rule
from hangdebug.report.text import cause_entry
from hangdebug.terminal import verbs_of

# Which lines of each step the README's example shows, after the step's heading.
SHOWN = {
    "1": r"   (phase |after|FAILED)",
    "2": r"",
    "3": r"loop-blocked|The event loop|  -> |  - (It |All |The kernel)",
    "4": r"^(?!# stays).",
    "5": r"   (after|PASSED)",
    "6": r"   +(probes|as it was|rewritten|full pattern) |PROVED",
}

CAUSES_HEAD = """\
# The causes

Read the entry of the cause that a diagnosis names before you word the answer. It says what happens, how to
repair it, and which other cause gives nearly the same stack. `hang.py diagnose` tries them in the order of this
page, from the most specific to the one that admits what a dump cannot show.

This page is generated from `scripts/hangdebug/causes/`.
"""


CLI_HEAD = """\
# The command line

What `scripts/hang.py VERB --help` prints. This page is generated from it.
"""


RULE_TAIL = """\
`fix --select {code}` looks for this alone; `# noqa: {code}` on a line leaves it as it is. This page is generated from
`scripts/hangdebug/repair/rules/{id}.py`.
"""


def causes_page() -> str:
    return "\n".join([CAUSES_HEAD, index("") + "\n", *map(cause_entry, CAUSES)])


def index(page: str) -> str:
    """A table of the causes, with links into `page`."""
    rows = [f"| [{cause.id}]({page}#{cause.id}) | {cause.title} |" for cause in CAUSES]
    return "\n".join(["| cause | in a few words |", "|---|---|", *rows])


def verbs() -> dict[str, argparse.ArgumentParser]:
    return verbs_of(command_line("hang.py"))


def cli_page() -> str:
    """`--help` of every verb, one section each."""
    blocks = [f"## {name}\n\n```text\n{parser.format_help().strip()}\n```\n" for name, parser in verbs().items()]
    return "\n".join([CLI_HEAD, *blocks])


def rule_page(rule: Rule) -> str:
    """What the rule's file says, and how to leave a place to it or out."""
    return f"# {rule.code} {rule.id}\n\n{rule.page.strip()}\n\n{RULE_TAIL.format(code=rule.code, id=rule.id)}"


def replaced(text: str, name: str, body: str) -> str:
    """`text` with `body` between its markers of that name. Raises ValueError where there are none."""
    pattern = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"The page has no markers of {name}, or several.")
    return pattern.sub(lambda found: f"{found[1]}\n{body}\n{found[2]}", text)


def triage_output() -> str:
    """What `hang.py triage` prints in a scratch folder. Raises RuntimeError when it proves nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, str(ROOT / "scripts" / "hang.py"), "triage", "--out", scratch]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RuntimeError(f"triage ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout.replace(f"{scratch}/", "")


def example(output: str) -> str:
    """The lines of a triage that a reader needs, the machine's own paths cut off, as a fenced block."""
    output = output.replace(f"{ROOT}/", "")
    output = re.sub(r"[ab]/\S*triage-\w+/newsroom/", lambda found: found[0][:2], output)
    kept, step = ["$ make triage"], "1"
    for line in filter(None, map(str.rstrip, output.splitlines())):
        heading = re.match(r"(\d)\. ", line)
        step = heading[1] if heading else step
        if heading or (SHOWN[step] and re.match(SHOWN[step], line)):
            kept += ["", line] if heading and step != "1" else [line]
        elif kept[-1] != "[...]":
            kept.append("[...]")
    return "\n".join(["```text", *kept, "```"])


def zoo_summary() -> str:
    """What `make zoo` last found, in one sentence or two. Raises ValueError where its page has no such part."""
    page = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    found = re.search(r"\n## In short\n\n(.*)\n", page)
    if not found:
        raise ValueError("docs/zoo.md has no summary. Next: make zoo")
    return found[1]


def pages(run: bool = False) -> dict[Path, str]:
    """Every generated file, and what it should hold. `run` renews the example too."""
    readme, index_page = ROOT / "README.md", ROOT / "docs" / "README.md"
    text = replaced(readme.read_text(encoding="utf-8"), "zoo", zoo_summary())
    causes = replaced(index_page.read_text(encoding="utf-8"), "causes", index("../references/causes.md"))
    if run:
        text = replaced(text, "example", example(triage_output()))
    return {
        ROOT / "references" / "causes.md": causes_page(),
        ROOT / "docs" / "cli.md": cli_page(),
        **{ROOT / "docs" / "rules" / f"{rule.code}.md": rule_page(rule) for rule in RULES},
        readme: text,
        index_page: causes,
        ROOT / "notebooks" / "practice.json": cases.practice(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say what is stale, change nothing")
    parser.add_argument("--example", action="store_true", help="renew the README's example by a real run")
    arguments = parser.parse_args()
    check, stale = arguments.check, []
    try:
        wanted = pages(arguments.example)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 2
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'stale' if check else 'written'}: {', '.join(stale)}" + ("   Next: make skill" if check else ""))
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
