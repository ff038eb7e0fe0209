"""Pack skill.zip, reproducibly. `--check` packs nothing and says what differs; exit status 1 if anything does.

    python tooling/build_skill.py
    python tooling/build_skill.py --check

The archive holds one top folder with what the skill needs and nothing else: no tests, no caches, no dot files, and not
the second notebook, which is a lesson (a skill may hold 200 files).
A notebook goes in without its outputs: they cost more than the rest, and running it makes them anew.
Order, times and permissions are fixed. Compared is what would be unpacked, not the compressed bytes: another
zlib may pack the same files differently.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "skill.zip"
TOP = "backend-hang-debug"
PARTS = ("SKILL.md", "LICENSE", "scripts", "references", "snippets", "notebooks")
ONLY_HERE = (  # a lesson for people, and what an installed package alone needs
    "notebooks/clean_shutdown.ipynb",
    "notebooks/stops.py",
    "notebooks/backoffice/",
    "scripts/hangdebug/__main__.py",
)
LEFT_OUT = re.compile(r"\.|__pycache__$|evidence-\d|nbval_|.*\.(pyc|zip|part)$")  # matched against each part of a path
PROGRAMS = re.compile(r".*\.sh|scripts/hang\.py")
NAME = re.compile(r"[A-Za-z0-9._/-]+")
WHEN = (1980, 1, 1, 0, 0, 0)
FILE, REGULAR = 0o644, 0o100000
PROGRAM = 0o755


class CannotPack(Exception):
    """A part is missing, or a name would not survive on every system."""


def files(root: Path = ROOT) -> dict[str, Path]:
    """What goes in, by its name inside the top folder, sorted. Raises CannotPack."""
    found = {}
    for part in PARTS:
        place = root / part
        if not place.exists():
            raise CannotPack(f"{part} is missing.")
        for path in [place] if place.is_file() else place.rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.is_dir() or name.startswith(ONLY_HERE) or any(LEFT_OUT.match(piece) for piece in name.split("/")):
                continue
            if path.is_symlink() or not NAME.fullmatch(name):
                raise CannotPack(
                    f"{name}: a link, or a name with other than ASCII letters, digits, dot, dash and underscore."
                )
            found[name] = path
    return dict(sorted(found.items()))


def content(path: Path) -> bytes:
    """What of a file goes in."""
    if path.suffix != ".ipynb":
        return path.read_bytes()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell.update({"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {})
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{TOP}/{name}", WHEN)
    info.create_system = 3  # Unix: so that the permissions count, wherever it is packed
    info.external_attr = (REGULAR | (PROGRAM if PROGRAMS.fullmatch(name) else FILE)) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def build(archive: Path, root: Path = ROOT) -> None:
    """Write the archive, whole or not at all."""
    partial = archive.with_name(archive.name + ".part")
    try:
        with zipfile.ZipFile(partial, "w") as opened:
            for name, path in files(root).items():
                opened.writestr(entry(name), content(path), compresslevel=9)
        os.replace(partial, archive)
    finally:
        partial.unlink(missing_ok=True)


def differences(archive: Path, root: Path = ROOT) -> list[str]:
    """What an unpacked archive would have otherwise than the tree, one line each."""
    if not archive.is_file():
        return [f"{archive.name} is missing"]
    wanted = {f"{TOP}/{name}": path for name, path in files(root).items()}
    with zipfile.ZipFile(archive) as opened:
        packed = opened.namelist()
        lines = [f"only in the tree: {name}" for name in wanted if name not in packed]
        lines += [f"only in the archive: {name}" for name in packed if name not in wanted]
        for info in opened.infolist():
            if info.filename not in wanted:
                continue
            should = entry(info.filename.partition("/")[2])
            if opened.read(info) != content(wanted[info.filename]):
                lines.append(f"differs: {info.filename}")
            elif (info.external_attr, info.date_time, info.compress_type) != (
                should.external_attr,
                should.date_time,
                should.compress_type,
            ):
                lines.append(f"permissions, time or compression differ: {info.filename}")
    if not lines and packed != sorted(packed):
        lines.append("the order differs")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say what differs, change nothing")
    check = parser.parse_args().check
    try:
        found = differences(ARCHIVE)
        if found and not check:
            build(ARCHIVE)
    except (CannotPack, OSError, zipfile.BadZipFile) as error:
        print(f"build_skill: {error} Next: rm -f skill.zip, mend it, then make skill", file=sys.stderr)
        return 2
    size = ARCHIVE.stat().st_size // 1024 if ARCHIVE.exists() else 0
    if check and found:
        print("\n".join(["skill.zip is not what the tree says:", *found, "Next: make skill"]))
        return 1
    print(f"skill.zip: {len(files())} files, {size} KB, {'rebuilt' if found else 'as the tree says'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
