"""The package: skill.zip is the tree, obeys the rules of an upload, and works where it is unpacked, bare."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

import client
import lab
import servers
import zoo
from hangdebug import __version__, causes
from hangdebug.evidence.vocabulary import STATES

ROOT = Path(__file__).resolve().parent.parent
import build_skill

MOST_FILES = 198  # an upload may have 200
DUMP = ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
KEYS = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


@pytest.fixture(scope="module")
def skill(tmp_path_factory) -> Path:
    """The skill unpacked elsewhere, permissions as an unzip program sets them."""
    folder = tmp_path_factory.mktemp("an upload")
    with zipfile.ZipFile(build_skill.ARCHIVE) as archive:
        for info in archive.infolist():
            Path(archive.extract(info, folder)).chmod(info.external_attr >> 16 & 0o777)
    return folder / build_skill.TOP


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The evidence of a server that hangs, captured for real."""
    folder = tmp_path_factory.mktemp("bundle") / "evidence"
    with zoo.hang("executor-shutdown") as hung:
        command = [
            sys.executable,
            str(ROOT / "scripts" / "hang.py"),
            "capture",
            "--pid",
            str(hung.pid),
            "--zip",
            "--out",
            str(folder),
        ]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return folder.with_name("evidence.zip")


def pythons(recent: bool = True) -> list[str]:
    """The interpreters of this machine from 3.9 on, one for each version, or those before it."""
    found = {version[:2]: path for version, path in sorted(servers.pythons().items(), reverse=True)}
    return [path for version, path in sorted(found.items()) if (version >= (3, 9)) == recent]


def bare(python: str, skill: Path, *arguments: str, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess:
    command = [python, "-S", "-I", str(skill / "scripts" / "hang.py"), *arguments]
    return subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True)


# -- the archive ---------------------------------------------------------------------------------------


def test_the_archive_is_the_tree():
    assert build_skill.differences(build_skill.ARCHIVE) == [], "Next: make skill"


def test_packing_twice_gives_the_same_bytes_whatever_the_files_times(tmp_path):
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    build_skill.build(one)
    tree = tmp_path / "tree"
    for part in build_skill.PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        (tree / part).parent.mkdir(parents=True, exist_ok=True)
        copy(source, tree / part)
    os.utime(tree / "LICENSE", (1, 1))
    (tree / "scripts" / "hang.py").chmod(0o600)
    build_skill.build(two, tree)
    assert one.read_bytes() == two.read_bytes()
    assert not list(tmp_path.glob("*.part"))


def small_tree(folder: Path) -> Path:
    for part in build_skill.PARTS:
        path = folder / part if "." in part or part.isupper() else folder / part / "a.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {part}\n")
    return folder


def test_a_notebook_is_packed_without_its_outputs(tmp_path):
    name = f"{build_skill.TOP}/notebooks/triage.ipynb"
    build_skill.build(tmp_path / "skill.zip")
    with zipfile.ZipFile(tmp_path / "skill.zip") as archive:
        packed, whole = json.loads(archive.read(name)), json.loads((ROOT / "notebooks" / "triage.ipynb").read_text())
    assert any(cell.get("outputs") for cell in whole["cells"]) and len(packed["cells"]) == len(whole["cells"])
    assert not any(cell.get("outputs") for cell in packed["cells"])
    assert [cell["source"] for cell in packed["cells"]] == [cell["source"] for cell in whole["cells"]]
    assert build_skill.differences(tmp_path / "skill.zip") == []


def test_what_is_no_part_of_the_skill_is_left_out(tmp_path):
    tree = small_tree(tmp_path)
    wanted = list(build_skill.files(tree))
    for stray in (
        "scripts/__pycache__/a.pyc",
        "notebooks/.ipynb_checkpoints/a.ipynb",
        "notebooks/evidence-1-2/manifest.json",
        "scripts/.env",
        "notebooks/evidence-1.zip",
        "notebooks/nbval_sanitize.cfg",
    ):
        (tree / stray).parent.mkdir(exist_ok=True)
        (tree / stray).write_text("stray")
    assert list(build_skill.files(tree)) == wanted


@pytest.mark.parametrize("name", ["na\u00efve.py", "two words.py"])
def test_a_name_that_some_system_cannot_hold_is_refused(tmp_path, name):
    tree = small_tree(tmp_path)
    (tree / "snippets" / name).write_text("")
    with pytest.raises(build_skill.CannotPack, match="ASCII"):
        build_skill.files(tree)


def test_a_link_and_a_missing_part_are_refused(tmp_path):
    tree = small_tree(tmp_path)
    (tree / "snippets" / "link.py").symlink_to("a.py")
    with pytest.raises(build_skill.CannotPack, match="a link"):
        build_skill.files(tree)
    shutil.rmtree(tree / "references")
    with pytest.raises(build_skill.CannotPack, match="references is missing"):
        build_skill.files(tree)


def test_a_stale_archive_is_told_by_what_differs(tmp_path):
    tree, archive = small_tree(tmp_path / "tree"), tmp_path / "skill.zip"
    assert build_skill.differences(archive, tree) == ["skill.zip is missing"]
    build_skill.build(archive, tree)
    assert build_skill.differences(archive, tree) == []
    (tree / "SKILL.md").write_text("changed")
    (tree / "snippets" / "a.py").rename(tree / "snippets" / "b.py")
    top = build_skill.TOP
    assert build_skill.differences(archive, tree) == [
        f"only in the tree: {top}/snippets/b.py",
        f"only in the archive: {top}/snippets/a.py",
        f"differs: {top}/SKILL.md",
    ]


def test_the_archive_obeys_the_rules_of_an_upload():
    with zipfile.ZipFile(build_skill.ARCHIVE) as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    assert {name.partition("/")[0] for name in names} == {"backend-hang-debug"}
    assert [name for name in names if name.lower().endswith("skill.md")] == ["backend-hang-debug/SKILL.md"]
    assert len(names) == len(set(names)) <= MOST_FILES and sum(info.file_size for info in infos) < 30_000_000
    for info in infos:
        parts = info.filename.split("/")
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", info.filename) and ".." not in parts
        assert not any(part.startswith(".") or part == "__pycache__" for part in parts)
        assert not info.filename.endswith((".pyc", ".zip")) and "tests" not in parts
        mode = info.external_attr >> 16
        program = info.filename.endswith((".sh", "scripts/hang.py"))
        assert stat.S_ISREG(mode) and stat.S_IMODE(mode) == (0o755 if program else 0o644)


def test_nothing_is_shipped_that_nothing_shipped_speaks_of():
    """By its name, its module's name, a name with a number in it ("step_"), or the folder that it gives its purpose."""
    texts = {name: path.read_text() for name, path in build_skill.files().items()}
    for name in texts.keys() - {"SKILL.md", "LICENSE"}:
        path = Path(name)
        module = path.parent.name if path.stem in ("__init__", "sitecustomize") else path.stem
        words = [path.name, *([module, module.replace("_", "-")] if path.suffix == ".py" else [])]  # or a state's name
        spoken = re.compile(
            "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)
            + rf"|\b{re.escape(re.sub(r'[0-9]+.*', '', path.name))}\b\{{"
        )
        pieces = [*words, re.sub(r"[0-9]+.*", "", path.name) + "{"]  # found in no time, and most texts have none
        others = (text for other, text in texts.items() if other != name)
        assert any(any(piece in text for piece in pieces) and spoken.search(text) for text in others), name


def agnix() -> Path | None:
    """The linter of skills: beside this Python, where `make scan` put it, or on PATH."""
    places = (
        Path(sys.executable).with_name("agnix"),
        ROOT / "build" / "scan" / "bin" / "agnix",
        Path(shutil.which("agnix") or "/none"),
    )
    return next((place for place in places if place.exists()), None)


def test_agnix_has_nothing_to_say(skill):
    program = agnix()
    if program is None:
        pytest.skip(
            "agnix is not installed. Next: make scan, or pip install agnix (npm's "
            "package of that name downloads the same program)"
        )
    (skill.parent / ".agnix.toml").write_text('[spec_revisions]\nagent_skills_spec = "1.0"\n')
    done = subprocess.run([program, "--strict", skill.name], cwd=skill.parent, capture_output=True, text=True)
    assert done.returncode == 0 and "No issues found" in done.stdout, done.stdout + done.stderr


def test_the_frontmatter_keeps_within_the_specification():
    text = (ROOT / "SKILL.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert set(re.findall(r"^([\w-]+):", head, re.M)) <= KEYS and not re.search("[<>]", head)
    assert re.search(r"^name: backend-hang-debug$", head, re.M) and re.search(r"^license: MIT$", head, re.M)
    assert f'version: "{__version__}"' in head
    description = re.search(r'^description: "([^"\n]+)"$', head, re.M)[1]
    assert 350 <= len(description) <= 512  # the specification allows more, some scanners do not
    alone = description[: description.rindex(". ", 0, 200) + 1]
    for words in ("health check times out", "worker", "SSE", "uvicorn hangs", "py-spy dump", "does not shut down"):
        assert words in description
    assert len(alone) > 150 and "Use when" in alone and "py-spy dump" in alone
    assert len(re.findall(r"\bnot for\b", description, re.I)) == 1
    assert len(re.search(r'^compatibility: "([^"\n]+)"$', head, re.M)[1]) <= 500
    # Words, long ones in pieces of eight letters, and signs: no fewer than a tokenizer makes of English and paths.
    assert len(re.findall(r"\w{1,8}|[^\w\s]", text)) < 2500
    assert text.count("\n") < 200 and not re.search(r"\$\d", body) and "!`" not in body


def test_agentskills_finds_the_unpacked_skill_valid(skill):
    validator = Path(sys.executable).with_name("agentskills")
    if not validator.exists() and sys.version_info < (3, 11):
        pytest.skip("skills-ref needs Python 3.11")
    done = subprocess.run([validator, "validate", skill], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# -- bare means bare -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons())
def test_a_bare_python_diagnoses_a_dump_from_anywhere(python, skill, tmp_path):
    for arguments, text in (([str(DUMP)], None), (["-"], DUMP.read_text()), ([str(DUMP.with_suffix(".json"))], None)):
        done = bare(python, skill, "diagnose", *arguments, "--json", cwd=tmp_path, text=text)
        assert done.returncode == 0 and not done.stderr
        answer = json.loads(done.stdout)
        assert (answer["state"], answer["cause"]) == ("loop-blocked", "executor-shutdown")
        frame = answer["blocking_frame"]
        assert (Path(frame["file"]).name, frame["line"]) in zoo.truth("executor-shutdown").marked
    assert not list(tmp_path.iterdir()) and not list(skill.rglob("*.pyc"))


@pytest.mark.live
@pytest.mark.parametrize("python", pythons())
def test_a_bare_python_diagnoses_a_bundle_of_a_real_capture(python, skill, bundle, tmp_path):
    for source in (bundle, bundle.with_suffix("")):
        done = bare(python, skill, "diagnose", str(source), "--json", cwd=tmp_path)
        answer = json.loads(done.stdout)
        assert done.returncode == 0 and (answer["state"], answer["cause"]) == ("loop-blocked", "executor-shutdown")
        assert answer["blocking_frame"]["source"] and answer["samples"] > 1


def packed_tar(path: Path, **members: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("e/7/fds.tsv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.mark.slow
def test_a_tar_that_is_cut_short_or_no_bundle_is_told_in_three_lines(skill, tmp_path):
    whole = packed_tar(
        tmp_path / "whole.tar.gz",
        **{"e__manifest.json": "{}", "e__7__sample-0.txt": DUMP.read_text(), "..__7__process.json": "{}"},
    )
    done = bare(sys.executable, skill, "diagnose", "whole.tar.gz", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["cause"] == "executor-shutdown" and "root:" not in done.stdout  # of /etc/passwd
    data = whole.read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    (tmp_path / "flipped.tar.gz").write_bytes(data[:100] + bytes([data[100] ^ 255]) + data[101:])
    (tmp_path / "no.tar.gz").write_bytes(data[:2])
    packed_tar(tmp_path / "other.tar.gz", readme="hello")
    for name in ("cut", "flipped", "no", "other"):
        done = bare(sys.executable, skill, "diagnose", f"{name}.tar.gz", cwd=tmp_path)
        assert (
            done.returncode == 2
            and done.stderr.startswith("hang.py: ")
            and "Next: " in done.stderr
            and "Traceback" not in done.stderr
        )


def sandbox(python: str, script: Path) -> list[str]:
    """As in a container of the API: no network, no pip, another user, a folder that nobody may write to."""
    return [
        "unshare",
        "-n",
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--no-new-privs",
        python,
        "-S",
        "-I",
        str(script),
    ]


def reachable_by_anybody() -> str | None:
    """An interpreter of 3.9 or later that another user may start: those below a home are out of reach."""
    tries = {
        path: subprocess.run(sandbox(path, Path("/dev/null")), capture_output=True).returncode
        for path in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable)
        if shutil.which(path)
    }
    return next((path for path, status in tries.items() if status == 0), None)


@pytest.mark.live
def test_a_paste_and_a_bundle_are_diagnosed_without_network_as_another_user_in_a_folder_that_is_read_only(
    skill, bundle
):
    python = reachable_by_anybody() if os.name == "posix" and os.geteuid() == 0 and shutil.which("unshare") else None
    if python is None:
        pytest.skip("needs root, unshare and setpriv, and a Python outside of a home")
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = shutil.copytree(skill, Path(place) / skill.name)
        for name in (DUMP, bundle):
            shutil.copy(name, place)
        for path in (Path(place), *Path(place).rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))
        before = sorted(Path(place).rglob("*"))
        for file, text in ((DUMP.name, None), (bundle.name, None), ("-", DUMP.read_text())):
            done = subprocess.run(
                [*sandbox(python, folder / "scripts" / "hang.py"), "diagnose", file, "--json"],
                cwd=place,
                input=text,
                capture_output=True,
                text=True,
                env={"PATH": "/usr/bin:/bin"},
            )
            assert done.returncode == 0 and not done.stderr, done.stderr
            answer = json.loads(done.stdout)
            assert (answer["state"], answer["cause"]) == ("loop-blocked", "executor-shutdown")
        assert sorted(Path(place).rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["capture", "--pid", "1"], ["triage"], ["diagnose", "--port", "1"]])
def test_a_verb_that_needs_a_package_says_so_in_a_bare_python(arguments, skill):
    done = bare(sys.executable, skill, *arguments, cwd=skill / "scripts")
    assert done.returncode == 2 and "Next: " in done.stderr and "Traceback" not in done.stderr
    assert " is not installed" in done.stderr or "needs the package" in done.stderr


@pytest.mark.slow
def test_a_python_that_is_too_old_is_told_in_one_line(skill, tmp_path):
    old = pythons(recent=False)
    if not old:
        pytest.skip("needs a Python 3.6 to 3.8 on this machine")
    done = bare(old[-1], skill, "diagnose", str(DUMP), cwd=tmp_path)
    assert done.returncode == 1 and "needs Python 3.9" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.live
def test_the_unpacked_lab_hangs_and_the_unpacked_engine_sees_it(skill, tmp_path):
    with lab.newsroom(skill / "notebooks" / "newsroom") as news:
        with client.reading(news.stream_url) as stream:
            assert stream.read1(1)
        assert client.eventually(lambda: client.get(news.health_url, 0.5) is None)
        command = [sys.executable, str(skill / "scripts" / "hang.py"), "diagnose", "--pid", str(news.pid), "--json"]
        answer = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert answer["cause"] == "executor-shutdown" and answer["blocking_frame"]["file"].endswith(
        "app/api/routes/stream.py"
    )


# -- the house -----------------------------------------------------------------------------------------


def test_a_cause_has_a_module_a_server_dumps_and_an_entry():
    ids = [cause.id for cause in causes.CAUSES]
    registered = set(ids)
    entries = re.findall(r"^## (.+)$", (ROOT / "references" / "causes.md").read_text(), re.M)
    files = {path.stem for path in Path(causes.__file__).parent.glob("*.py")} - {"__init__", "model"}
    assert len(ids) == len(registered) and entries == ids
    assert {name.replace("_", "-") for name in files} == registered
    assert {path.name for path in (ROOT / "tests" / "dumps").iterdir()} == registered
    assert {zoo.truth(name).cause for name in zoo.names("hung")} == registered
    assert {name.replace("_", "-") for name in zoo.names("hung")} == registered
    assert set().union(*(cause.confused_with for cause in causes.CAUSES)) <= registered


def test_what_a_cause_points_to_is_there():
    from hangdebug.repair.rules import RULES

    named = {cause.snippet for cause in causes.CAUSES if cause.snippet}
    text = (ROOT / "references" / "rewrites.md").read_text().partition("## Patterns to copy")[2]
    of_causes, aside = text.split("These no cause names.")
    link = r"\(\.\./snippets/([\w.]+)\)"
    assert named == set(re.findall(link, of_causes))
    proof = re.findall(link, (ROOT / "references" / "verification.md").read_text())
    assert named.isdisjoint(re.findall(link, aside))
    assert named | set(re.findall(link, aside)) | set(proof) == {
        path.name for path in (ROOT / "snippets").iterdir() if path.is_file()
    }
    assert {cause.fix for cause in causes.CAUSES if cause.fix} <= {rule.id for rule in RULES}
    assert {zoo.truth(name).state for folder in zoo.FOLDERS for name in zoo.names(folder)} <= set(STATES)


# -- the make ------------------------------------------------------------------------------------------


def make(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("MAKE")}, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_lists_its_targets():
    shown = set(re.findall(r"^make (\w+)", make(), re.M))
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert shown == {name for name in declared if name != "help" and not name.startswith("venv")}


def test_only_a_port_given_to_make_names_a_target():
    assert "--port '8123'" in make("-n", "triage", "PORT=8123")
    assert "--pid '77'" in make("-n", "triage", "PID=77")
    assert "--port" not in make("-n", "triage", PORT="8123")


# `python -m venv FOLDER`, with the packages of another one.
LINKED = (
    "import pathlib, sys, venv; folder, packages = map(pathlib.Path, "
    "sys.argv[1:]); venv.create(folder, symlinks=True); "
    'site = next(folder.glob("lib/python3*")) / "site-packages"; site.rmdir(); site.symlink_to(packages)'
)


def environment_maker(folder: Path, *part: str, **programs: str) -> subprocess.CompletedProcess:
    """Run tooling/venv.sh in a folder of its own, with only these programs and those of the base system."""
    (folder / "tooling").mkdir(exist_ok=True)
    shutil.copy(ROOT / "tooling" / "venv.sh", folder / "tooling")
    for name in ("requirements", "requirements-notebook", "requirements-tests"):
        (folder / f"{name}.lock").write_text(f"# nothing of {name}\n")
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("cat", "cmp", "dirname", "grep", "mktemp", "rm", "tail"):
        (tools / name).exists() or (tools / name).symlink_to(shutil.which(name))
    for name, text in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    return subprocess.run(
        [shutil.which("sh"), "tooling/venv.sh", *part],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": str(tools)},
    )


@pytest.mark.slow
def test_an_environment_is_made_once_and_again_when_the_lock_changes_or_an_install_was_interrupted(tmp_path):
    folder = tmp_path / "with spaces"
    folder.mkdir()
    python = f'exec "{sys.executable}" "$@"'
    first = environment_maker(folder, python3=python)
    assert first.returncode == 0 and "Making .venv" in first.stderr, first.stderr
    assert environment_maker(folder).stderr == ""
    more = environment_maker(folder, "notebook")
    assert more.returncode == 0 and more.stderr.startswith("Adding to .venv")
    assert environment_maker(folder).stderr == environment_maker(folder, "notebook").stderr == ""
    assert "Adding to .venv" in environment_maker(folder, "tests").stderr
    assert environment_maker(folder, "notebook").stderr == environment_maker(folder, "tests").stderr == ""
    # From here on each is made of links to the first one's packages: unpacking pip takes most of the time.
    packages = next((folder / ".venv" / "lib").glob("python3*")) / "site-packages"
    packages.rename(folder / "packages")
    linked = f'[ "$2" != venv ] || exec "{sys.executable}" -c \'{LINKED}\' .venv "{tmp_path}"/*/packages\n'
    (folder / "bin" / "python3").write_text(f"#!/bin/sh\n{linked}{python}\n")
    (folder / ".venv" / "made-from").unlink()  # as an interrupted install leaves it
    again = [environment_maker(folder)]
    (folder / ".venv" / "made-from").write_text("another lock")
    again.append(environment_maker(folder))
    moved = folder.rename(tmp_path / "moved")
    again.append(environment_maker(moved))
    assert [(done.returncode, "Making .venv" in done.stderr) for done in again] == [(0, True)] * 3, again
    assert (moved / ".venv" / "made-from").read_text().startswith(str(moved))


@pytest.mark.parametrize(
    "python, told",
    [
        (None, "Python 3.10 or newer is needed; here is no Python. Next: sudo apt-get install python3"),
        ('[ "$1" = --version ] || exit 1; echo Python 3.8.1', "here is Python 3.8.1. Next: "),
        (
            'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.12;; esac',
            "has no venv module. Next: sudo apt-get install python3-venv",
        ),
        (
            'case "$2" in *print*) echo 3.12;; esac; [ "$2" != venv ]',
            "could not be made. Next: sudo apt-get install python3-venv",
        ),
    ],
)
def test_a_missing_python_or_venv_gets_one_line_with_the_next_command(tmp_path, python, told):
    done = environment_maker(tmp_path, **({"python3": python} if python else {}))
    assert done.returncode == 1 and told in done.stderr.splitlines()[-1]
    assert not (tmp_path / ".venv" / "made-from").exists()


def test_an_index_that_cannot_be_reached_is_told_in_the_last_line(tmp_path):
    environment_maker(tmp_path)  # lays the folder out
    pip = 'case "$2" in *print*) echo 3.12;; venv) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac\n'
    pip += '[ "$2" != pip ] || { echo "ERROR: Failed to establish a new connection" >&2; exit 1; }'
    for name in ("mkdir", "cp"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    done = environment_maker(tmp_path, python3=pip)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        "The package index cannot be reached. Next: "
    )
    assert not (tmp_path / ".venv" / "made-from").exists()


def test_a_missing_program_gets_one_line_with_the_command_that_installs_it():
    done = subprocess.run(
        ["sh", str(ROOT / "tooling" / "need.sh"), "sh", "no-such-program"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("no-such-program is not installed. Next: sudo apt-get install no-such-program")


@pytest.mark.parametrize("status", [0, 3])
def test_ci_ends_with_the_summary_of_the_tests_and_their_status(tmp_path, status):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text(f"lint types:\ntest:\n\t@echo '== 2 tests =='; exit {status}\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    agnix = tmp_path / "build" / "agnix" / "bin" / "agnix"  # or it would be installed
    agnix.parent.mkdir(parents=True)
    agnix.symlink_to(shutil.which("true"))
    (tools / "busybox").symlink_to(shutil.which("true"))  # or it would be installed
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == (2 if status else 0)  # make's own status for a recipe that failed
    assert done.stdout.splitlines()[-1] == "== 2 tests ==" and "***" not in done.stdout


@pytest.mark.parametrize(
    "who, sudo, told",
    [
        ("0", None, "apt-get install -y -qq --no-install-recommends busybox"),
        ("1000", '[ "$2" = true ] || echo "sudo $*" >&2', "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install"),
        ("1000", "exit 1", "this user may not install it: busybox"),
        ("1000", None, "this user may not install it: busybox"),
    ],
)
def test_ci_installs_only_what_is_missing_and_only_where_it_may(tmp_path, who, sudo, told):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text("lint types:\ntest:\n\t@echo '== 1 test =='\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "dirname", "grep", "make", "curl", "echo", "env"):
        (tools / name).symlink_to(shutil.which(name))
    programs = {"id": f"echo {who}", "python3": "exit 0", "apt-get": 'echo "apt-get $*" >&2', "sudo": sudo}
    for name, text in programs.items():
        if text:
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
    done = subprocess.run(
        [shutil.which("bash"), tmp_path / ".ci" / "run"], capture_output=True, text=True, env={"PATH": str(tools)}
    )
    assert done.returncode == 0 and done.stdout == "== 1 test ==\n"
    assert told in done.stderr and done.stderr.count("busybox") == 1


def test_the_lock_names_no_address_and_pins_every_package_by_hash():
    text = "".join(path.read_text() for path in sorted(ROOT.glob("requirements*.lock")))
    assert not re.search(r"://|--(?:index|extra-index|find-links)|@ file", text)
    pins = re.split(r"\n(?=[a-z0-9])", text)
    assert (
        len(pins) > 150
        and len(set(pins)) == len(pins)
        and all("==" in pin.split("\n")[0] and "--hash=sha256:" in pin for pin in pins)
    )


def test_the_demo_needs_a_small_part_of_the_packages():
    """`make triage` is the first thing that anybody runs: no notebook and no numerics come with it."""
    pins = re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    assert len(set(pins)) < 30 and not set(pins) & {"numpy", "matplotlib", "ipykernel", "pytest", "sqlalchemy"}


OPTION, SCHEME = "--{} x", "{}:{}"  # put together here, so that no line of this file names a place of packages


@pytest.mark.parametrize(
    "line", [*map(OPTION.format, ("index" + "-url", "find" + "-links")), "a @ " + SCHEME.format("file", "/" * 2 + "x")]
)
def test_a_lock_that_would_name_an_address_is_refused_and_left_alone(tmp_path, line):
    first, second = tmp_path / "first", tmp_path / "second"
    pin = "a==1 \\\n    --hash=sha256:00\n"
    first.write_text(pin)
    second.write_text(f"{line}\n{pin}b==2 \\\n    --hash=sha256:11\n")
    command = [sys.executable, str(ROOT / "tooling" / "only_new.py"), str(first), str(second)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "would name an address" in done.stderr and second.read_text().startswith(line)
    second.write_text(second.read_text().partition("\n")[2])
    assert (
        subprocess.run(command).returncode == 0 and second.read_text().startswith("b==2") and first.read_text() == pin
    )
