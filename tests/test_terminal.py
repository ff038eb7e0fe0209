"""What a person meets at a terminal: words for a process, exit status, colour, width, completion, stacks, entries."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import mistune
import pytest

import commands
import record_bundles
import test_pastes
import zoo
from hangdebug import __version__, cli, observe, terminal
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.states import ENTRIES, RULES
from hangdebug.causes import CAUSES
from hangdebug.errors import BadRequest, NoProcess
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.paste import read
from hangdebug.repair.rules import RULES as REWRITES
from hangdebug.report.text import as_markdown, as_text, explanation_of, known_words
from hangdebug.report.thread_rows import as_stacks
from hangdebug.sources import process_in, source_of

ROOT = Path(__file__).resolve().parent.parent
DUMP = ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt"
SHOTS = {name: shot for name, shot in record_bundles.every().items() if shot.archive.name.endswith(".tar.gz")}
MARKUP = set("heading paragraph strong text codespan blank_line list list_item block_text block_code".split())
SOME = ["lock", "lock_order", "threadpool_limit", "leaked_permit", "executor_shutdown", "none"]


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = cli.main(list(map(str, words)))
    shown = capsys.readouterr()
    return status, shown.out, shown.err


# -- which process -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, meant",
    [
        ("1234", ("--pid", "1234")),
        (":8000", ("--port", "8000")),
        ("localhost:8000", ("--port", "8000")),
        ("0.0.0.0:8000", ("--port", "8000")),
        ("http://127.0.0.1:8000/health?full=1", ("--port", "8000")),
        ("http://[::1]:8000/", ("--port", "8000")),
        ("https://localhost/", ("--port", "443")),
        ("http://localhost", ("--port", "80")),
        ("dump.txt", None),
        ("app.py:14", None),
        ("C:\\dumps\\one.txt", None),
        ("-", None),
        ("99999999999", None),
    ],
)
def test_a_number_a_port_and_a_url_mean_a_process(word, meant):
    assert process_in(word) == meant


@pytest.mark.parametrize("word", [":0", ":65536", "localhost:99999"])
def test_what_is_no_port_is_refused(word):
    with pytest.raises(BadRequest, match="is no port"):
        process_in(word)


def test_a_url_of_another_machine_says_where_to_look():
    with pytest.raises(BadRequest, match=r"api\.example\.com is not this machine") as raised:
        process_in("https://api.example.com/health")
    assert commands.check(raised.value.next) == 1


def test_a_file_of_that_name_wins_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("1234").write_text("a dump")
    said: list[str] = []
    assert source_of("1234", said.append) == ("1234",)
    assert commands.check(said[0].partition("For the process: ")[2]) == 1 and "1234: the file" in said[0]
    assert source_of("1235", said.append) == ("--pid", "1235") and len(said) == 1


@pytest.mark.parametrize("words", [("--port", "0"), ("--port", "65536"), ("--port", "PORT"), ("--pid", "PID")])
def test_a_number_that_cannot_be_is_a_usage_error_that_says_why(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["diagnose", *words])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and re.search(r"ports go from 1 to 65535|PID stands for the number", said)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "SKILL.md"])
def test_a_text_about_the_product_is_no_dump(page, capsys):
    status, out, said = run("diagnose", ROOT / page, capsys=capsys)
    assert status == 2 and not out and re.search(r"This is no dump|There is no stack", said) and "\nNext: " in said


def test_a_short_paste_of_one_frame_is_read_still():
    assert read("it hangs here:\n  price (app/rates.py:12)\nwhat now?")[0].threads


# -- exit status ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, status",
    [(["lock"], 1), (["none"], 0), (["none", "lock"], 1), ([], 3)],
    ids=["hung", "well", "both", "open"],
)
def test_the_exit_status_tells_a_hang_from_health_and_doubt_when_asked(names, status, capsys):
    files = [SHOTS[name].archive for name in names] or [ROOT / "tests" / "dumps" / "none" / "py311-pyspy043.txt"]
    assert run("diagnose", *files, "--exit-code", capsys=capsys)[0] == status
    assert run("diagnose", *files, capsys=capsys)[0] == 0


# -- colour and width ----------------------------------------------------------------------------------


class Terminal:
    def __init__(self, tty: bool = True) -> None:
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    "tty, environment, coloured",
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"FORCE_COLOR": "0"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": "", "TERM": "xterm"}, True),
        (False, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_goes_to_terminals_and_to_who_asks_for_it(tty, environment, coloured, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shown = terminal.fitted("healthy / none   confidence 0.89\n", Terminal(tty))
    assert ("\x1b[" in shown) is coloured


def test_what_a_file_holds_does_not_command_the_terminal():
    shown = terminal.fitted("+\tname = '\x1b]0;owned\x07'\n", Terminal())
    assert "\x1b]" not in shown and "\x07" not in shown and "\t" in shown


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_wraps_sentences_and_leaves_commands_stacks_and_words_whole(name, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = as_text(worst(map(diagnose, read_bundle(SHOTS[name].archive))))
    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.fitted(text, Terminal()))
    assert re.sub(r"[\s#]+", "", shown) == re.sub(r"[\s#]+", "", text)
    for line in shown.splitlines():
        whole = line in text.splitlines() or re.match(r"  - Next: |\s+#", line)
        assert len(line) <= width or whole or " " not in line.strip(" -"), line
    for command in re.findall(r"Next: (.*?)(?:   #|$)", text, re.M):
        assert command in shown


def test_a_diff_and_a_table_keep_their_lines_on_any_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    text = "--- a/app.py\n+    " + "x = 1; " * 20 + "\nPhase  " + "0.1 s  " * 20 + "\n"
    assert terminal.fitted(text, Terminal(), prose=False) == text


# -- completion ----------------------------------------------------------------------------------------


def completed(line: str, script: Path) -> list[str]:
    words = line.split(" ")
    ask = f'. "{script}"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _hang; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True, cwd=script.parent)
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_verbs_options_and_choices_from_the_parser_itself(tmp_path):
    script = tmp_path / "hang.bash"
    script.write_text(terminal.completion(cli.command_line(), "bash"))
    verbs = terminal.verbs_of(cli.command_line())
    assert set(completed("hang ''", script)) == {*verbs, "--help", "--version"}
    assert completed("hang diagnose --exit-", script) == ["--exit-code"]
    assert completed("hang verify --exit SIGI", script) == ["SIGINT"]
    assert completed("hang completion z", script) == ["zsh"]
    assert "hang.bash" in completed("hang report ha", script)


@pytest.mark.parametrize("shell", terminal.SHELLS)
def test_a_completion_names_every_option_and_is_a_script_of_its_shell(shell):
    script = terminal.completion(cli.command_line(), shell)
    for verb in terminal.verbs_of(cli.command_line()).values():
        for option in terminal.options_of(verb):
            assert all(name.lstrip("-") in script for name in option.option_strings)
    program = shutil.which(shell)
    if program:
        subprocess.run([program, "-n"], input=script, text=True, check=True, capture_output=True)


def test_what_a_help_text_quotes_ends_no_quote_of_the_script():
    parser = argparse.ArgumentParser()
    verb = parser.add_subparsers().add_parser("go", description="it's [here]: now")
    verb.add_argument("--far", help="as far as it's [possible]: 50%% of it")
    for shell in terminal.SHELLS:
        assert terminal.completion(parser, shell).count("'") % 2 == 0


# -- stacks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_stacks_show_every_thread_once_and_what_the_answer_is_about_first(name):
    for evidence in read_bundle(SHOTS[name].archive):
        answer = diagnose(evidence)
        text = as_stacks(evidence, answer, whole=True)
        threads = [one for one in evidence.snapshots[-1].threads if one.frames]
        counts = re.findall(r"^(\d+) x  (?!coroutine)", text, re.M)
        assert sum(map(int, counts)) == len(threads)
        first = text.split("\n\n")[1]
        if answer.blocking_frame is not None:
            assert "-> " in first and f":{answer.blocking_frame.line})" in first
        for thread in threads:
            for frame in thread.frames:
                assert f"{frame.function} (" in text
        assert len(as_stacks(evidence, answer).splitlines()) <= len(text.splitlines())


def test_stacks_say_who_holds_the_lock_that_another_one_wants():
    (evidence,) = read_bundle(SHOTS["lock_order"].archive)
    first, second = as_stacks(evidence, diagnose(evidence)).split("\n\n")[1:3]
    wants = re.compile(r"wants (\w+) of lock_order")
    inside = re.compile(r"inside of (\w+) of lock_order, since")
    assert (wants.search(first)[1], inside.search(first)[1]) == (inside.search(second)[1], wants.search(second)[1])
    assert "kernel: futex" in first and "kernel: futex" in second


def test_threads_that_wait_for_one_peer_are_one_stack_whatever_their_descriptors():
    (evidence,) = read_bundle(SHOTS["threadpool_limit"].archive)
    assert re.search(
        r"^40 x  AnyIO worker thread .*\n      kernel: recvfrom \(-> 127", as_stacks(evidence, diagnose(evidence)), re.M
    )


def test_stacks_of_a_paste_and_of_two_sources(capsys):
    status, out, _ = run("stacks", DUMP, SHOTS["none"].archive, capsys=capsys)
    assert status == 0 and out.count("MainThread") == 2 and " frames of " in out


# -- entries -------------------------------------------------------------------------------------------


def test_every_cause_state_and_rule_has_an_entry():
    words = [cause.id for cause in CAUSES] + list(ENTRIES) + [rule.name for _, rule in RULES] + [r.id for r in REWRITES]
    for word in words:
        entry = explanation_of(word)
        assert re.search(rf"^## (?:HNG\d+ )?{re.escape(word)}", entry, re.M) and len(entry.splitlines()) > 3, word
    assert all(word in re.split(r"[\s,]+", known_words()) for word in [cause.id for cause in CAUSES])


def test_an_entry_has_its_repair_as_this_machine_can_run_it():
    entry = explanation_of("executor-shutdown")
    (snippet,) = re.findall(r"Pattern to copy: `(.*)`", entry)
    (command,) = re.findall(r"Rewrite: `(.*)`", entry)
    assert Path(snippet).is_file() and commands.check(command) == 1 and "Repair" in entry


def test_a_word_that_is_none_is_told_what_is_near(capsys):
    status, _, said = run("explain", "executor-shutdwn", capsys=capsys)
    assert status == 2 and "executor-shutdown" in said and commands.check(said.partition("Next: ")[2].strip()) == 1


# -- markdown ------------------------------------------------------------------------------------------


def blocks(markdown: str) -> tuple[list[str], list[str], set[str]]:
    """What a renderer makes of it: the items of lists, the fences, and the kinds of everything in it."""
    items: list[str] = []
    fences: list[str] = []
    kinds: set[str] = set()

    def walk(token: dict, inside: bool) -> str:
        kinds.add(token["type"])
        if token["type"] == "block_code":
            assert "marker" in token and not inside, token  # a fence: no code by indentation, and none in a list
            fences.append(token["raw"])
        within = inside or token["type"] == "list_item"
        words = token.get("raw", "") + "".join(walk(child, within) for child in token.get("children", ()))
        items.extend([words] if token["type"] == "list_item" else [])
        return words

    for token in mistune.create_markdown(renderer="ast")(markdown):
        walk(token, False)
    return items, fences, kinds


@pytest.mark.parametrize("name", SOME)
def test_markdown_renders_each_item_as_it_is_and_commands_in_a_fence_of_their_own(name):
    check_markdown(worst(map(diagnose, read_bundle(SHOTS[name].archive))))


@pytest.mark.parametrize("case", test_pastes.CASES[::12], ids=lambda case: case.name)
def test_markdown_of_a_paste_renders_too(case):
    check_markdown(test_pastes.answer_to(case))


def check_markdown(answer):
    items, fences, kinds = blocks(as_markdown(answer))
    said = (*answer.evidence, *answer.doubts, *answer.exonerated, *answer.others)
    assert items == [" ".join(one.split()) for one in said if not one.startswith("Next: ")]
    told = [line.partition("   # ")[0] for line in commands.printed_by(answer)]
    assert sorted(line.partition("   # ")[0] for line in fences[-1].splitlines() if told) == sorted(told)
    assert kinds <= MARKUP


# -- watch ---------------------------------------------------------------------------------------------


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """Looks that see what the list says, one after the other: the evidence of a bundle, or a process that is gone."""
    left: list[str] = []

    def look(target, folder, say):
        name = left.pop(0)
        if name == "gone":
            raise NoProcess("Process 4284 is not running.")
        shutil.unpack_archive(SHOTS[name].archive, tmp_path / f"{name}-{len(left)}")
        next((tmp_path / f"{name}-{len(left)}").iterdir()).rename(folder)
        return read_bundle(folder)

    monkeypatch.setattr(observe, "observe", look)
    return left


def test_a_watch_keeps_the_evidence_of_the_first_hang_that_lasts(looks, tmp_path):
    looks += ["none", "lock", "none", "gone", "none", "executor_shutdown", "executor_shutdown", "lock"]
    said: list[str] = []
    answer, kept = observe.watch(SimpleNamespace, str(tmp_path / "kept"), 0.01, said.append)
    assert (answer.state, answer.cause) == ("loop-blocked", "executor-shutdown") and looks == ["lock"]
    assert diagnose(read_bundle(kept)[0]).cause == "executor-shutdown"
    told = [line.split("  ")[1].partition(";")[0] for line in said]
    brief, gone = "loop-blocked for a moment, then healthy", "not there: Process 4284 is not running."
    assert told == ["healthy", brief, gone, "healthy"]


def test_a_watch_of_a_process_ends_with_it_and_mixes_no_evidence(looks, tmp_path):
    found = iter([SimpleNamespace()])

    def find():
        for target in found:
            return target
        raise NoProcess("Process 4284 is not running.")

    looks += ["gone"]
    with pytest.raises(NoProcess):
        observe.watch(find, None, 0.01, print, comes_back=False)
    with pytest.raises(BadRequest, match="is there already"):
        observe.watch(SimpleNamespace, str(tmp_path), 0.01, print)


def test_a_watch_of_a_dump_is_refused(capsys):
    status, _, said = run("diagnose", DUMP, "--watch", capsys=capsys)
    assert status == 2 and "--watch is for one process that runs" in said


@pytest.mark.live
def test_a_url_is_watched_and_its_stacks_are_shown_on_a_server_that_hangs(tmp_path):
    script = ROOT / "scripts" / "hang.py"
    with zoo.hang("lock") as hung:
        words = ["diagnose", f"{hung.url}/health", "--watch", "--exit-code", "--save", tmp_path / "kept"]
        watched = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=60)
        stacks = subprocess.run(
            [sys.executable, script, "stacks", str(hung.pid)], capture_output=True, text=True, timeout=60
        )
    assert (
        watched.returncode == 1
        and "loop-blocked / lock" in watched.stdout
        and (tmp_path / "kept" / "manifest.json").is_file()
    )
    assert stacks.returncode == 0 and "wants prices_lock" in stacks.stdout.split("\n\n")[1]


# -- installed -----------------------------------------------------------------------------------------


def test_the_extras_are_what_make_installs():
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]

    def lines(name: str) -> set[str]:
        found = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
        return set(filter(None, found))

    extras = project["optional-dependencies"].items()
    own = {name: {one for one in packages if "backend-hang-debug" not in one} for name, packages in extras}
    assert own["live"] | own["demo"] == lines("requirements.in")
    assert own["notebook"] == lines("requirements-notebook.in")


@pytest.mark.slow
def test_the_wheel_and_the_sdist_give_the_command_in_a_bare_environment(tmp_path):
    """Built by the build backend, which pip fetches; tried without any other package, from another folder."""

    def sh(*words: object, **more) -> subprocess.CompletedProcess:
        return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300, **more)

    builder, bare = tmp_path / "builder", tmp_path / "bare"
    for place in (builder, bare):
        assert sh(sys.executable, "-m", "venv", place).returncode == 0
    fetched = sh(builder / "bin" / "pip", "install", "-q", "hatchling")
    if fetched.returncode:
        pytest.skip(f"the build backend cannot be fetched: {fetched.stderr.strip().splitlines()[-1]}")
    built = sh(builder / "bin" / "python", "-m", "hatchling", "build", "-d", tmp_path / "dist", cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,), (sdist,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    assert wheel.name.split("-")[1] == __version__
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        about = opened.read(next(name for name in names if name.endswith("METADATA"))).decode()
    extras = set(re.findall(r"^Provides-Extra: (\w+)", about, re.M))
    assert extras == {"live", "demo", "notebook", "fleet", "mcp"} and not [
        one for one in names if "__pycache__" in one or "/tests/" in one
    ]
    # The sdist is whole: the wheel that is tried comes from it.
    shutil.unpack_archive(sdist, tmp_path / "source")
    (source,) = (tmp_path / "source").iterdir()
    again = sh(
        builder / "bin" / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=source
    )
    assert again.returncode == 0, again.stderr
    (rebuilt,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(rebuilt) as opened:
        assert opened.namelist() == names
    assert sh(bare / "bin" / "pip", "install", "-q", "--no-deps", "--no-index", rebuilt).returncode == 0
    there = tmp_path / "there"
    there.mkdir()
    path = {**os.environ, "PATH": f"{bare / 'bin'}:{os.environ['PATH']}"}
    answer = sh("hang", "diagnose", DUMP, cwd=there, env=path)
    assert answer.stdout.startswith("loop-blocked / executor-shutdown") and "diff     hang fix " in answer.stdout
    assert Path(re.search(r"pattern +(.+)", answer.stdout)[1]).is_file()
    module = sh(bare / "bin" / "python", "-m", "hangdebug", "diagnose", DUMP, cwd=there)
    assert f"diff     {bare}/bin/python -m hangdebug fix " in module.stdout
    missing = sh("hang", "diagnose", "--port", "8000", cwd=there, env=path)
    assert missing.returncode == 2 and "-m pip install -q py-spy psutil && hang diagnose --port 8000" in missing.stderr
