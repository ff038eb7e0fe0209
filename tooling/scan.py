"""Scan the skill with cisco-ai-skill-scanner at its strict policy, and print each finding that docs/scan.md does not explain.

    python tooling/scan.py

The scanner is large: it comes from the package index into build/scan, an environment of its own. Scanned is what an
upload holds, unpacked. Exit status 1 when a finding is not explained, or when an explanation fits no finding.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tooling"))

import build_skill  # noqa: E402

SCAN = ROOT / "build" / "scan"
PAGE = ROOT / "docs" / "scan.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| `([^`|]+)` \| [^|]+ \|$", re.M)


def explained(page: str) -> list[tuple[str, str]]:
    """(rule, pattern of files) of each row of the page's table."""
    return ROW.findall(page)


def scanner() -> Path:
    """The scanner's program; installed first where it is not."""
    folder = SCAN / ("Scripts" if sys.platform == "win32" else "bin")
    if not (SCAN / "ready").exists():
        print("Installing cisco-ai-skill-scanner into build/scan: once, a minute or more.", file=sys.stderr, flush=True)
        venv.create(SCAN, clear=True, with_pip=True)
        subprocess.run([folder / "python", "-m", "pip", "install", "-qq", "cisco-ai-skill-scanner"], check=True)
        (SCAN / "ready").touch()
    return folder / "skill-scanner"


def findings(program: Path) -> list[dict]:
    with tempfile.TemporaryDirectory() as scratch:
        archive, report = Path(scratch) / "skill.zip", Path(scratch) / "report.json"
        build_skill.build(archive)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(scratch)
        command = [program, "scan", Path(scratch) / build_skill.TOP, "--policy", "strict", "--use-behavioral", "--format", "json", "-o", report]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(report.read_text())["findings"]


def place(finding: dict) -> tuple[str, str, int]:
    return finding["rule_id"], finding.get("file_path") or ".", finding.get("line_number") or 0


def main() -> int:
    try:
        found = sorted(map(place, findings(scanner())))
        known = explained(PAGE.read_text(encoding="utf-8"))
    except (OSError, subprocess.SubprocessError, build_skill.CannotPack) as error:
        print(f"scan: {error}", file=sys.stderr)
        return 2
    new = [one for one in found if not any(one[0] == rule and fnmatch(one[1], files) for rule, files in known)]
    stale = [row for row in known if not any(one[0] == row[0] and fnmatch(one[1], row[1]) for one in found)]
    for rule, file, line in new:
        print(f"not explained: {rule} {file}:{line}")
    for rule, files in stale:
        print(f"explained, but no longer found: {rule} {files}")
    print(f"{len(found)} findings, {len(found) - len(new)} explained in docs/scan.md")
    return 1 if new or stale else 0


if __name__ == "__main__":
    sys.exit(main())
