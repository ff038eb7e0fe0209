"""Release a version: bump it everywhere, rebuild what is generated, check the package, commit and tag.

    python tooling/release.py 0.2.0

Refused are a tree with uncommitted changes, a version that is not newer, and one that CHANGELOG.md does not
tell of. When a step fails, the files are as they were. Nothing is pushed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent
# Every place that holds the version, and what stands before it there.
PLACES = (
    ("scripts/hangdebug/__init__.py", '__version__ = "'),
    ("SKILL.md", '  version: "'),
    ("references/rewrites.md", "    rev: v"),
)


class Refused(Exception):
    """Why there is no release, and the next command."""


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}", version):
        raise Refused(f"{version!r} is no version such as 0.2.0. Next: make release VERSION=0.2.0")
    return tuple(map(int, version.split(".")))


def current(root: Path) -> str:
    """The version that every place agrees on."""
    found = {}
    for file, before in PLACES:
        match = re.search(re.escape(before) + r"([\d.]+)", (root / file).read_text(encoding="utf-8"))
        found[file] = match[1] if match else "none"
    if len(set(found.values())) != 1:
        raise Refused(f"The version differs: {', '.join(f'{file} has {version}' for file, version in found.items())}")
    return found.popitem()[1]


def release(root: Path, version: str, check: Callable[[Path], None]) -> None:
    """Raises Refused, with the tree as it was."""
    if numbers(version) <= numbers(current(root)):
        raise Refused(f"{version} is not newer than {current(root)}.")
    if not re.search(rf"^## {re.escape(version)}$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M):
        raise Refused(
            f"CHANGELOG.md tells nothing of {version}. Next: write '## {version}' over what changed, and commit it"
        )
    if git(root, "status", "--porcelain"):
        raise Refused("There are uncommitted changes. Next: git status")
    try:
        for file, before in PLACES:
            path = root / file
            text = path.read_text(encoding="utf-8")
            changed = re.sub(re.escape(before) + r"[\d.]+", f"{before}{version}", text, count=1)
            path.write_text(changed, encoding="utf-8")
        for tool in ("generate.py", "build_skill.py"):
            run(root, sys.executable, str(root / "tooling" / tool))
        check(root)
        git(root, "commit", "-qam", f"Release {version}")
    except BaseException:
        git(root, "checkout", "-q", "--", ".")
        raise
    git(root, "tag", "-a", f"v{version}", "-m", f"Release {version}")


def run(root: Path, *command: str) -> None:
    if subprocess.run(command, cwd=root, check=False).returncode:
        raise Refused(f"{' '.join(Path(word).name for word in command)} failed; the files are as they were.")


def checked(root: Path) -> None:
    run(
        root, sys.executable, "-m", "pytest", "-q", "tests/test_package.py", "tests/test_docs.py", "tests/test_evals.py"
    )


def main() -> int:
    try:
        release(ROOT, sys.argv[1] if len(sys.argv) == 2 else "", checked)
    except Refused as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    print(f"Released {sys.argv[1]}. Next: git push --follow-tags")
    return 0


if __name__ == "__main__":
    sys.exit(main())
