"""A release bumps every place, or changes nothing; what explains a scanner's finding is about shipped files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
import build_skill
import release
import scan


@pytest.fixture
def tree(tmp_path) -> Path:
    """A repository with the parts that a release touches, and a changelog that tells of 9.9.9."""
    for part in (*build_skill.PARTS, "tests", "tooling", "docs", "README.md", "CHANGELOG.md"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source,
                tmp_path / part,
                ignore=shutil.ignore_patterns("__pycache__", ".*", *(["dumps", "rewrites"] if part == "tests" else [])),
            )
        else:
            shutil.copy(source, tmp_path)
    changes = tmp_path / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("# Changes\n", "# Changes\n\n## 9.9.9\n\n- Something.\n", 1))
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    subprocess.run([sys.executable, tmp_path / "tooling" / "generate.py"], check=True, capture_output=True)
    subprocess.run([sys.executable, tmp_path / "tooling" / "build_skill.py"], check=True, capture_output=True)
    for words in (
        ["init", "-q"],
        ["config", "user.name", "A"],
        ["config", "user.email", "a@example.org"],
        ["add", "-A"],
        ["commit", "-qm", "All"],
    ):
        release.git(tmp_path, *words)
    return tmp_path


@pytest.mark.slow
def test_a_release_bumps_every_place_rebuilds_and_tags(tree):
    release.release(tree, "9.9.9", lambda root: None)
    assert (
        release.current(tree) == "9.9.9"
        and release.git(tree, "tag") == "v9.9.9"
        and not release.git(tree, "status", "--porcelain")
    )
    assert b'version: "9.9.9"' in build_skill_text(tree)
    assert sorted(release.git(tree, "diff", "--name-only", "HEAD~1").split()) == [
        "SKILL.md",
        "references/rewrites.md",
        "scripts/hangdebug/__init__.py",
        "skill.zip",
    ]


def build_skill_text(tree: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(tree / "skill.zip") as archive:
        return archive.read(f"{build_skill.TOP}/SKILL.md")


@pytest.mark.slow
@pytest.mark.parametrize(
    "version, told",
    [
        ("", "is no version"),
        ("1.2", "is no version"),
        ("v1.2.3", "is no version"),
        ("0.0.1", "is not newer"),
        ("9.9.8", "tells nothing of 9.9.8"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(tree, version, told):
    with pytest.raises(release.Refused, match=told):
        release.release(tree, version, lambda root: None)
    assert not release.git(tree, "status", "--porcelain") and not release.git(tree, "tag")


@pytest.mark.slow
def test_a_release_is_refused_over_uncommitted_work_which_stays(tree):
    (tree / "SKILL.md").write_text((tree / "SKILL.md").read_text() + "\nmine\n")
    with pytest.raises(release.Refused, match="uncommitted"):
        release.release(tree, "9.9.9", lambda root: None)
    assert (tree / "SKILL.md").read_text().endswith("mine\n")


@pytest.mark.slow
@pytest.mark.parametrize("error", [release.Refused("a test failed"), KeyboardInterrupt()])
def test_when_a_check_fails_the_files_are_as_they_were(tree, error):
    def check(root):
        assert release.current(root) == "9.9.9"
        raise error

    with pytest.raises(type(error)):
        release.release(tree, "9.9.9", check)
    assert (
        release.current(tree) != "9.9.9"
        and not release.git(tree, "status", "--porcelain")
        and not release.git(tree, "tag")
    )


def test_the_version_stands_where_a_release_bumps_it_and_nowhere_else():
    version = release.current(ROOT)
    holds = [
        name
        for name, path in build_skill.files().items()
        if path.suffix in (".py", ".md", ".sh") and re.search(rf'["v]{re.escape(version)}\b', path.read_text())
    ]
    assert holds == sorted(file for file, _ in release.PLACES)
    assert re.search(rf"^## {re.escape(version)}$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_what_is_explained_of_the_scan_is_about_files_that_are_shipped():
    page = (ROOT / "docs" / "scan.md").read_text()
    rows = scan.explained(page)
    assert len(rows) == page.count("\n| `") and len(rows) > 5
    assert not [
        files for _, files in rows if files != "." and not any(fnmatch(name, files) for name in build_skill.files())
    ]
