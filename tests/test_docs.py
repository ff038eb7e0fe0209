"""The docs are true: generated parts are fresh, paths exist, links lead somewhere, commands run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

import client
import lab
from hangdebug.causes import CAUSES
from hangdebug.evidence.vocabulary import STATES

ROOT = Path(__file__).resolve().parent.parent
import build_skill
import generate

SKILL, README, CLI = ROOT / "SKILL.md", ROOT / "README.md", ROOT / "docs" / "cli.md"
INDEX = ROOT / "docs" / "README.md"
CARRY_ON = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/architecture.md")]
CARRY_ON += [INDEX, *(ROOT / "docs" / name for name in ("comparison.md", "fleet.md"))]
CARRY_ON += sorted((ROOT / "docs" / "where").glob("*.md"))
PAGES = [SKILL, README, *CARRY_ON, *sorted((ROOT / "references").glob("*.md"))]
PATH = re.compile(r"(?<![\w/$.-])(?:scripts|references|snippets|notebooks|tests|tooling|docs|deploy)/[\w./-]*\w/?")
INVENTED = re.compile(r"your[_-](?:cause|state|format|rule)")  # what the reader is told to make
# Commands that the tests below do not run as they stand, and why.
ASIDE = {
    "make triage": "its work is run by the test of the example",
    "make test": "it runs this very test",
    "make fast": "it runs most of these tests",
    "make coverage": "it runs them once more",
    "make lint": "CI runs it before the tests",
    "make types": "CI runs it before the tests",
    'make bundles NAMES="sleep lock"': "it hangs servers, and tests/record_bundles.py has tests of its own",
    ".venv/bin/python tests/capture_dumps.py --only your-cause": "tests/test_recipes.py runs it",
    ".venv/bin/python tests/record_bundles.py your-cause": "tests/test_recipes.py runs it",
    ".venv/bin/python -m pip install pre-commit && "
    ".venv/bin/pre-commit install --hook-type pre-commit --hook-type pre-push": "it needs the network",
    "python3 -m venv hang-env && hang-env/bin/python -m pip install -q py-spy psutil": "it needs the network",
}


def squeezed(text: str) -> str:
    """Without what differs between runs and Python versions: numbers, and where lines are broken."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "N", text).split())


def commands(page: Path) -> list[str]:
    """The lines of the `sh` blocks of a page, without comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", page.read_text(), re.M | re.S)
    blocks += re.findall(r"^\| a hung process .*?\| `(.*)` \|$", page.read_text(), re.M)  # the skill's first row
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("SKILL=")]


RUN = [
    pytest.param(page, line, id=f"{page.stem}-{line}") for page in PAGES for line in commands(page) if line not in ASIDE
]


# -- what is generated ---------------------------------------------------------------------------------


def test_the_generated_parts_are_fresh():
    for path, text in generate.pages().items():
        # argparse breaks lines otherwise from one Python to the next
        assert path.read_text().split() == text.split(), f"{path.name} is stale. Next: make skill"


def test_every_verb_has_its_section_in_the_docs():
    sections = dict(re.findall(r"^## (\w+)\n\n```text\n(.*?)\n```", CLI.read_text(), re.M | re.S))
    assert list(sections) == list(generate.verbs())
    for name, text in sections.items():
        assert text.startswith(f"usage: hang.py {name}")
        examples = re.search(r"examples:\n((?:  hang\.py .*\n?|  .*\| hang\.py .*\n?){2})$", text)
        assert examples, f"the help of {name} does not end with two examples"


@pytest.mark.live
def test_the_example_in_the_readme_is_what_triage_prints():
    shown = re.search(r"<!-- example: .*?-->\n\n(.*?)\n\n<!-- end of example -->", README.read_text(), re.S)[1]
    now = generate.example(generate.triage_output())
    assert squeezed(shown) == squeezed(now), "Next: python tooling/generate.py --example"
    assert str(ROOT) not in shown and "PROVED in" in shown and "NOT PROVED" not in shown


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="no markers of causes"):
        generate.replaced("text", "causes", "body")


# -- what is named -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page):
    named = {found for found in PATH.findall(page.read_text()) if not INVENTED.search(found)}
    assert named or page.name in ("reading-a-dump.md", "CHANGELOG.md")
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


def test_every_shipped_page_and_snippet_is_opened_by_the_skill():
    """A page by itself, a snippet through one of its pages."""
    text = SKILL.read_text()
    pages = "".join(page.read_text() for page in (ROOT / "references").glob("*.md"))
    shipped = list(build_skill.files())
    assert not [name for name in shipped if name.startswith("references/") and not re.search(rf"\({name}[#)]", text)]
    assert not [name for name in shipped if name.startswith("snippets/") and f"(../{name})" not in pages]
    assert {name.split("/")[0] for name in build_skill.files()} - {"LICENSE", "SKILL.md"} <= set(
        re.findall(r"\w+(?=/)", text)
    )


def test_the_skill_and_the_index_of_pages_name_the_states_that_can_be_answered():
    rooms = (ROOT / "scripts" / "hangdebug" / room for room in ("scene", "answer"))
    engine = "".join(path.read_text() for room in rooms for path in room.rglob("*.py") if path.name != "model.py")
    given = {state for state in STATES if f'"{state}"' in engine}
    listed = re.search(r"^## States and causes\n\n(.*?)\. The cause\n", INDEX.read_text(), re.M | re.S)[1]
    assert given == set(re.findall(r"`([\w-]+)`", listed))
    assert given == set(re.findall(r"^\| `([\w-]+)` \|", SKILL.read_text(), re.M))


def test_a_long_reference_begins_with_its_sections():
    for page in (ROOT / "references").glob("*.md"):
        text = page.read_text()
        headings = re.findall(r"^## (.+)$", text, re.M)
        if text.count("\n") > 100 and page.name != "causes.md":  # which has a table of them
            index = " ".join(re.search(r"^Sections: (.*?)\.\n\n", text, re.M | re.S)[1].split())
            assert index == " / ".join(headings), page.name


def test_the_skill_names_only_states_and_causes_that_there_are():
    ids = {cause.id for cause in CAUSES}
    quoted = set(
        re.findall(r"`([a-z]+(?:-[a-z]+)+)`", SKILL.read_text() + (ROOT / "references" / "executors.md").read_text())
    )
    assert quoted <= set(STATES) | ids


def test_the_dump_that_is_read_line_by_line_is_a_real_one():
    shown = re.search(r"```text\n(Thread .*?)```", (ROOT / "references" / "reading-a-dump.md").read_text(), re.S)[1]
    real = (ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043-newsdesk.txt").read_text()
    threads = re.split(r"(?=^Thread )", shown, flags=re.M)[1:]
    assert len(threads) == 2 and all(thread.rstrip() in real for thread in threads)


# -- what is told to run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    """One news service that hangs, one that was repaired, and what was captured of the first."""
    folder = tmp_path_factory.mktemp("evidence")
    with ExitStack() as stack:
        hung = stack.enter_context(lab.newsroom())
        with client.reading(hung.stream_url) as stream:
            assert stream.read1(1)
        assert client.eventually(lambda: client.get(hung.health_url, 0.5) is None)
        copy = lab.copy_app(folder / "repaired")
        lab.overlay(copy)
        repaired = stack.enter_context(lab.newsroom(copy))
        beside = Path(sys.executable).parent
        dump = subprocess.run(
            [beside / "py-spy", "dump", "--pid", str(hung.pid)], capture_output=True, text=True, check=True
        )
        (folder / "dump.txt").write_text(dump.stdout)
        command = [
            sys.executable,
            ROOT / "scripts" / "hang.py",
            "capture",
            "--pid",
            str(hung.pid),
            "--zip",
            "--out",
            folder / "evidence",
        ]
        subprocess.run(command, check=True, capture_output=True)
        yield SimpleNamespace(hung=hung, repaired=repaired, folder=folder)


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """The skill where a person and where a project has it, unpacked from this tree's archive; paths have a space."""
    folder = tmp_path_factory.mktemp("homes")
    build_skill.build(folder / "skill.zip")
    places = []
    for name in ("my home", "a project"):
        place = folder / name / ".claude" / "skills"
        place.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "zipfile", "-e", folder / "skill.zip", place], check=True)
        places.append(place / build_skill.TOP)
    return places


@pytest.mark.live
@pytest.mark.parametrize(
    "number, page, line", [pytest.param(number, *one.values, id=one.id) for number, one in enumerate(RUN)]
)
def test_a_command_of_the_docs_runs_as_it_stands(number, page, line, news, homes, tmp_path):
    work = tmp_path / "another folder"
    work.mkdir()
    for part in ("scripts", "tests", "skill.zip", "Makefile") if page in (README, *CARRY_ON) else ():
        (work / part).symlink_to(ROOT / part)
    for part in ("dump.txt", "evidence.zip"):
        shutil.copy(news.folder / part, work)
    lab.copy_app(work)
    done = subprocess.run(
        ["sh", "-c", f"set -e; SKILL={shlex.quote(str(homes[number % 2]))}\n{fitted(line, news, homes[0])}"],
        cwd=work,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told(line, done.stdout, work, tmp_path)


def fitted(line: str, news: SimpleNamespace, home: Path) -> str:
    """The command with the reader's values in place of the page's."""
    line = line.replace("SKILL=~/.claude/skills/backend-hang-debug", f"SKILL={shlex.quote(str(home))}")
    port = news.hung.url.rpartition(":")[2]
    line = line.replace("http://127.0.0.1:8000", news.repaired.url).replace("--port 8000", f"--port {port}")
    line = line.replace("SOURCE_TREE", "app").replace("PID", str(news.hung.pid))
    return re.sub(r"(?:^|(?<=; ))(\.venv/bin/python|python3)\b", shlex.quote(sys.executable), line)


def told(line: str, output: str, folder: Path, home: Path) -> None:
    """What a command is run for has come about."""
    if line == "make":
        assert "make triage" in output and "make fast" in output
    elif "--explain" in line:
        assert "=> " in output and "certainty" in output
    elif " stacks " in line:
        assert "-> headlines (" in output and "kernel: " in output
    elif " explain " in line:
        assert output.startswith("## executor-shutdown")
    elif " diagnose " in line:
        assert "executor-shutdown" in output
        assert "--code" not in line or "source     with ThreadPoolExecutor" in output
        assert "--save" not in line or (folder / "evidence-before-restart" / "manifest.json").is_file()
    elif " capture " in line:
        assert (folder / output.strip()).is_file()
    elif " fix " in line:
        assert "+        pool.shutdown(wait=False, cancel_futures=True)" in output
    elif " verify " in line:
        assert "PASSED" in output
    elif line.startswith("for "):
        assert (folder / "dump.txt").read_text().count('"MainThread"') == 3
    else:
        assert "skills" in line and (home / ".claude" / "skills" / "backend-hang-debug" / "SKILL.md").is_file()


SPAN = re.compile(r"`([^`\n]+)`")
SHOWN = re.compile(r"(?<![\w-])hang\.py\"? ([a-z]+)\b([^\n|;&)`]*)")


def calls(text: str) -> list[tuple[str, str]]:
    """(verb, what follows it) of every call of the command line that a page names, in its blocks and its sentences."""
    verbs = "|".join(generate.verbs())
    spans = [re.match(rf"({verbs})((?: .*)?)$", span) for span in SPAN.findall(re.sub(r"(?s)```.*?```", "", text))]
    return [(one[1], one[2].partition("  #")[0]) for one in (*SHOWN.finditer(text), *filter(None, spans))]


@pytest.mark.parametrize("page", [*PAGES, CLI], ids=lambda page: page.name)
def test_every_verb_and_option_that_a_page_names_exists(page):
    options = {
        verb: {word for action in parser._actions for word in action.option_strings}
        for verb, parser in generate.verbs().items()
    }
    for verb, rest in calls(page.read_text()):
        named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest))
        assert verb in options, f"hang.py {verb}"
        assert named <= options[verb], f"hang.py {verb}{rest}"
    assert calls(page.read_text()) or page.name == "executors.md"


def test_options_of_the_other_programs_exist_where_they_are_at_hand():
    """Named in blocks that no test can run as they stand: py-spy's and curl's. No cluster and no systemd is here."""
    text = "\n".join(page.read_text() for page in PAGES)
    for program, help_ in (
        (Path(sys.executable).with_name("py-spy"), ["dump", "--help"]),
        (shutil.which("curl"), ["--help", "all"]),
    ):
        known = subprocess.run([program, *help_], capture_output=True, text=True).stdout
        name = Path(program).name
        used = {
            word
            for found in re.findall(rf"\b{name}{' dump' if name == 'py-spy' else ''} ([^\n|;&)`]*)", text)
            for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", found)
        }
        assert used and not [word for word in used if not re.search(rf"{word}\b", known)]


def test_the_docs_tell_to_run_something_and_what_is_set_aside_is_there():
    everything = [line for page in PAGES for line in commands(page)]
    assert len(RUN) >= 9 and set(ASIDE) <= set(everything)
    assert shutil.which("curl"), "curl is missing: sudo apt-get install curl"


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.read_text().split()) < 1500
