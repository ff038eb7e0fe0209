"""Scan the skill as an upload holds it: each finding that docs/scan.md does not explain is printed.

    python tooling/scan.py

cisco-ai-skill-scanner looks for what is dangerous, at its strict policy; agnix for what a skill must not have. Both
come from the package index into build/scan, an environment of its own, for the first is large. Exit status 1 when a
finding is not explained, when an explanation fits no finding, or when agnix has anything to say.
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

import build_skill

SCAN = ROOT / "build" / "scan"
PAGE = ROOT / "docs" / "scan.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| `([^`|]+)` \| [^|]+ \|$", re.M)


def explained(page: str) -> list[tuple[str, str]]:
    """(rule, pattern of files) of each row of the page's table."""
    return ROW.findall(page)


def programs() -> Path:
    """The folder of both programs, installed first where they are not."""
    folder = SCAN / ("Scripts" if sys.platform == "win32" else "bin")
    if not (SCAN / "ready").exists():
        print("Installing the scanners into build/scan: once, some minutes.", file=sys.stderr, flush=True)
        venv.create(SCAN, clear=True, with_pip=True)
        subprocess.run(
            [folder / "python", "-m", "pip", "install", "-qq", "cisco-ai-skill-scanner", "agnix"], check=True
        )
        (SCAN / "ready").touch()
    return folder


def scanned(folder: Path) -> tuple[list[dict], str]:
    """The scanner's findings, and what agnix says ("" where it says nothing)."""
    with tempfile.TemporaryDirectory() as scratch:
        archive, report = Path(scratch) / "skill.zip", Path(scratch) / "report.json"
        build_skill.build(archive)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(scratch)
        skill = Path(scratch) / build_skill.TOP
        command = [folder / "skill-scanner", "scan", skill, "--policy", "strict", "--use-behavioral"]
        subprocess.run([*command, "--format", "json", "-o", report], check=True, stdout=subprocess.DEVNULL)
        (Path(scratch) / ".agnix.toml").write_text('[spec_revisions]\nagent_skills_spec = "1.0"\n')
        said = subprocess.run(
            [folder / "agnix", "--strict", skill.name], cwd=scratch, capture_output=True, text=True, check=False
        )
        clean = said.returncode == 0 and "No issues found" in said.stdout
        return json.loads(report.read_text())["findings"], "" if clean else said.stdout + said.stderr


def place(finding: dict) -> tuple[str, str, int]:
    return finding["rule_id"], finding.get("file_path") or ".", finding.get("line_number") or 0


def main() -> int:
    try:
        findings, lint = scanned(programs())
        found = sorted(map(place, findings))
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
    print(lint.strip() or "agnix: no issues found")
    return 1 if new or stale or lint else 0


if __name__ == "__main__":
    sys.exit(main())
