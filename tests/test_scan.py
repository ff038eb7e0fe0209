"""`fix` on folders, its lists, and the way from a plain function that blocks to the coroutines that call it."""

from __future__ import annotations

import ast
import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hangdebug.errors import BadRequest, BadSource
from hangdebug.repair import fix, scan
from hangdebug.repair.code import aside
from hangdebug.repair.code.file import File, parse

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "scripts" / "hangdebug" / "repair" / "rules"
SLEEPS = "import time\nasync def f():\n    time.sleep(1)\n"


def hang(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "hang.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files with a finding, and copies where nobody wants any."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "app/a.py",
        "app/deep/b.py",
        ".venv/c.py",
        "env/c.py",
        "node_modules/c.py",
        "app/.hidden.py",
        "app/c.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SLEEPS)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "app" / "calm.py").write_text("async def f(): ...\n")
    return tmp_path


@pytest.mark.slow
def test_a_tree_gives_one_diff_that_git_applies(tree: Path) -> None:
    done = hang("fix", ".", cwd=tree)
    assert done.returncode == 0 and done.stdout.count("--- a/") == 2
    subprocess.run(["git", "apply"], input=done.stdout, text=True, check=True, cwd=tree)
    assert "await asyncio.sleep(1)" in (tree / "app" / "a.py").read_text()
    assert (tree / "env" / "c.py").read_text() == SLEEPS
    assert hang("fix", "--check", ".", cwd=tree).returncode == 0


@pytest.mark.slow
def test_write_changes_each_file_of_a_tree_once(tree: Path) -> None:
    done = hang("fix", "--write", "app", "app/a.py", cwd=tree)
    assert done.returncode == 0 and done.stderr.count(": rewritten") == 2 and not done.stdout
    assert hang("fix", "app", cwd=tree).stdout == ""


@pytest.mark.slow
def test_a_file_that_cannot_be_written_keeps_no_other_from_being_rewritten(tree: Path) -> None:
    (tree / "app" / "a.py").chmod(0o444)
    done = hang("fix", "--write", "app", cwd=tree)
    assert done.returncode == 2 and "skipped: app/a.py is read-only" in done.stderr
    assert (tree / "app" / "a.py").read_text() == SLEEPS != (tree / "app" / "deep" / "b.py").read_text()
    assert hang("fix", "--write", "app/a.py", cwd=tree).returncode == 2


def test_check_lists_each_place_and_changes_nothing(tree: Path) -> None:
    done = hang("fix", "--check", "app", cwd=tree)
    assert done.returncode == 1 and (tree / "app" / "a.py").read_text() == SLEEPS
    first, second = done.stdout.splitlines()
    assert first.startswith("app/a.py:3: HNG002 [sleep] time.sleep() stops the event loop; it becomes")
    assert second.startswith("app/deep/b.py:3: HNG002 [sleep] ")
    assert hang("fix", "--check", "app/calm.py", cwd=tree).returncode == 0


def test_check_as_json(tree: Path) -> None:
    (tree / "app" / "bad.py").write_text("async def f(:\n")
    done = hang("fix", "--check", "--json", "app", cwd=tree)
    answer = json.loads(done.stdout)
    assert done.returncode == 1 and answer["schema_version"] == 1 and "bad.py:1 is not valid" in answer["skipped"][0]
    assert set(answer["findings"][0]) == {"file", "cell", "line", "code", "rule", "refused", "message", "stays"}
    assert [(row["file"], row["line"], row["rule"]) for row in answer["findings"]] == [
        ("app/a.py", 3, "sleep"),
        ("app/deep/b.py", 3, "sleep"),
    ]


def test_check_as_sarif_has_what_code_scanning_asks_for(tree: Path) -> None:
    (tree / "app" / "my file.py").write_text(
        SLEEPS.replace("f()", "f(lock)").replace("    time", "    with lock: time")
    )
    done = hang("fix", "--check", "--sarif", "app", cwd=tree)
    log = json.loads(done.stdout)
    assert done.returncode == 1 and log["version"] == "2.1.0" and "sarif-2.1.0" in log["$schema"]
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert run["tool"]["driver"]["name"] and rules == [rule.code for rule in fix.RULES]
    assert all(rule["shortDescription"]["text"] for rule in run["tool"]["driver"]["rules"])
    for result in run["results"]:
        assert result["ruleId"] in rules and result["level"] in ("note", "warning") and result["message"]["text"]
        where = result["locations"][0]["physicalLocation"]
        assert where["region"] == {"startLine": 3} and not where["artifactLocation"]["uri"].startswith(("/", "."))
    refused = run["results"][1]
    assert refused["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "app/my%20file.py"
    assert refused["message"]["text"].startswith("Not rewritten: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["fix"],
        ["fix", "--check", "--write", "app"],
        ["fix", "--from", "x.json", "app"],
        ["fix", "none.py"],
        ["fix", "--check", "none"],
        ["fix", "--json", "--sarif", "app"],
    ],
)
def test_what_does_not_fit_together_is_said(arguments: list, tree: Path) -> None:
    done = hang(*arguments, cwd=tree)
    assert done.returncode == 2 and not done.stdout and "Traceback" not in done.stderr


def test_a_named_file_that_does_not_parse_is_an_error_and_one_in_a_folder_is_skipped(tree: Path) -> None:
    (tree / "app" / "bad.py").write_text("async def f(): print 'x'\n")
    (tree / "app" / "old.py").write_text("print 'no rule looks at this'\n")
    skipped: list[str] = []
    assert [patch.changed for patch in scan.patches([scan.parse_place("app")], skipped)] == [True, False, False, True]
    assert len(skipped) == 1
    with pytest.raises(BadSource, match=r"bad\.py:1"):
        list(scan.patches([scan.parse_place("app/bad.py")], []))


NEWER = {
    (3, 10): "match s:\n    case 1: pass\n",
    (3, 11): "try: pass\nexcept* ValueError: pass\n",
    (3, 12): "type Later[T] = list[T]\n",
    (3, 12, 0): "def later[T](x: T): ...\n",
    (3, 12, 0, "a"): "x = f'{y['z']}'\n",
    (3, 14): "try: pass\nexcept KeyError, ValueError: pass\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("version", NEWER, ids=str)
def test_a_file_for_a_newer_python_names_the_python_that_reads_it(version: tuple, tree: Path) -> None:
    (tree / "new.py").write_text(SLEEPS + NEWER[version])
    done = hang("fix", "--check", "new.py", cwd=tree)
    if sys.version_info >= version:
        assert done.returncode == 1 and "await asyncio.sleep(1)" in done.stdout and "skipped" not in done.stderr
        return
    name = ".".join(map(str, version[:2]))
    assert done.returncode == 2 and not done.stdout and "is not known to Python" in done.stderr
    assert (
        f"needs Python {name} to be read" in done.stderr and f"python{name} {ROOT}/scripts/hang.py fix" in done.stderr
    )
    skipped = hang("fix", "--check", ".", cwd=tree)
    assert skipped.returncode == 1 and f"needs Python {name} to be read" in skipped.stderr


# -- from the line that blocks -----------------------------------------------------------------------------

FEEDS = """import requests
def fetch(url):
    return requests.get(url).text
class Store:
    def load(self):
        return open("x").read()
    async def all(self):
        return self.load()
def alone():
    return requests.get("x")
"""
MAIN = """from app.services import feeds
from app.services.feeds import fetch as get, Store
store = Store()
def both(urls):
    return [get(url) for url in urls]
async def a(url):
    return both([url])
async def b(url):
    try:
        return feeds.fetch(
            url)
    finally:
        get(url)
async def c(fetch):
    return fetch("x"), store.load(), await run(get, "x")
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app" / "services").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "services/__init__.py": "",
        "services/feeds.py": FEEDS,
        "main.py": MAIN,
    }.items():
        (tmp_path / "app" / name).write_text(text)
    return tmp_path


def diagnosis(line: int, rule: str | None, file: str = "app/services/feeds.py") -> str:
    frame = {"function": "f", "file": file, "line": line, "source": None}
    return json.dumps(
        {"schema_version": 1, "blocking_frame": frame, "remedy": {"fix": rule, "snippet": None, "command": None}}
    )


def test_a_function_that_blocks_leads_to_the_coroutines_that_call_it(service: Path) -> None:
    (patch,) = scan.patches_for([], diagnosis(3, "to_thread"), [])
    assert patch.file == os.path.join("app", "main.py")
    assert [(item.line, item.refused) for item in patch.findings] == [(7, False), (10, False), (13, True)]
    assert "return await asyncio.to_thread(both, [url])" in patch.after
    assert "return await asyncio.to_thread(\n            feeds.fetch,\n            url)" in patch.after
    assert "blocks at feeds.py:3" in patch.findings[0].message and "`finally`" in patch.findings[2].message
    compile(patch.after, "main.py", "exec")


def test_a_method_is_found_by_self_and_by_what_made_its_object(service: Path) -> None:
    patches = {patch.file: patch for patch in scan.patches_for([], diagnosis(6, "to_thread"), [])}
    main, feeds = (patches[os.path.join("app", name)] for name in ("main.py", os.path.join("services", "feeds.py")))
    assert "return await asyncio.to_thread(self.load)" in feeds.after
    assert "await asyncio.to_thread(store.load)" in main.after and 'fetch("x"), await' in main.after


def test_a_function_that_no_coroutine_calls_is_said(service: Path) -> None:
    (patch,) = scan.patches_for([], diagnosis(10, "to_thread"), [])
    assert not patch.changed and [item.refused for item in patch.findings] == [True]
    assert "alone() blocks here and is no coroutine" in patch.findings[0].message


def test_the_rule_of_the_cause_comes_first_and_others_where_it_finds_nothing(service: Path) -> None:
    (service / "x.py").write_text("import time, requests\nasync def f(u):\n    time.sleep(1), requests.get(u)\n")
    for rule, word, other in (("sleep", "asyncio.sleep", "to_thread"), ("to_thread", "to_thread", "asyncio.sleep")):
        (patch,) = scan.patches_for([], diagnosis(3, rule, "x.py"), [])
        assert word in patch.after and other not in patch.after
    (patch,) = scan.patches_for([], diagnosis(3, "lifespan", "x.py"), [])
    assert "asyncio.sleep" in patch.after and "to_thread" in patch.after


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"blocking_frame": null}',
        '{"blocking_frame": {"file": "x"}}',
        '{"blocking_frame": {"file": "gone.py", "line": 3}, "remedy": null}',
    ],
)
def test_a_diagnosis_that_leads_nowhere_is_a_bad_request(text: str, service: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        scan.patches_for([], text, [])
    assert caught.value.next


# -- the work ----------------------------------------------------------------------------------------------


def test_a_check_parses_less_than_half_of_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most files hold no coroutine: they are not parsed, and no text is parsed again for each rule.

    What it takes beside the parser alone is a row of `make bench`: a time tells nothing on a busy machine.
    """
    library = Path(os.__file__).parent
    folders = [
        library / name
        for name in ("asyncio", "concurrent", "multiprocessing", "http", "email", "json", "unittest", "importlib")
    ]
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.rglob("*.py"))]
    parse, parsed, skipped = ast.parse, [], []
    monkeypatch.setattr(ast, "parse", lambda text, *args, **kwargs: parsed.append(text) or parse(text, *args, **kwargs))
    count = sum(1 for _ in scan.patches([scan.Place(str(folder)) for folder in folders], skipped, listed=True))
    assert count == len(texts) > 80 and not skipped
    assert 0 < sum(map(len, parsed)) < sum(map(len, texts)) / 2
    assert max(collections.Counter(parsed).values()) <= 2


# -- another file of the tree ----------------------------------------------------------------------------------

ODD = '''import os
TEXT = """
def not_one():
    pass
"""
@decorated(
    1,
)
def first(
    a,
) -> int:
    """Its first line
and one that begins at the margin."""
    return helper(a)


class Second:
    text = "def third(): ..."

    async def go(self):
        return self.x.y()


def sets():
    global TEXT
    TEXT = first(1)


if os.name == "nt":
    def helper(a): return a
else:
    def helper(a): return len(a)
'''


def calls_of(file: File) -> list[tuple[int, int, str]]:
    return [(call.lineno, call.col_offset, ast.unparse(call)) for call in file.calls]


QUOTED = """class First:
    def one(self):
        return 'TRIPLE'

    def two(self):
        return self.one()


def three():
    return "'''"


@decorated
def four():
    return three()
else_ = four()
""".replace("TRIPLE", '"""')
EVEN = ODD.replace("and one", "    and one")


def in_parts(text: str) -> tuple[File, aside.Parts]:
    file = aside.read_in_parts(text, "a.py", aside.chunks_of(text))
    assert isinstance(file.scopes.unread, aside.Parts)
    return file, file.scopes.unread


@pytest.mark.parametrize("text", [ODD, EVEN, QUOTED, *(path.read_text() for path in sorted(RULES.glob("[a-r]*.py")))])
def test_a_file_read_in_parts_is_the_file(text: str) -> None:
    whole, (parts, unread) = parse(text, "a.py"), in_parts(text)
    assert calls_of(parts) == calls_of(whole) and not unread.chunks and not unread.methods
    assert {*whole.scopes.module.names} == {*parts.scopes.module.names}
    assert sorted(map(ast.dump, parts.tree.body)) == sorted(map(ast.dump, whole.tree.body))


@pytest.mark.parametrize("text", [EVEN, QUOTED, *(path.read_text() for path in sorted(RULES.glob("[a-r]*.py")))])
def test_every_name_of_a_module_is_found_by_itself(text: str) -> None:
    whole = parse(text, "a.py")
    for name in whole.scopes.module.names:
        found, same = (
            sorted(item.node.lineno for item in each.lookup(each.tree, name)[1]) for each in (in_parts(text)[0], whole)
        )
        assert found == same, name


def test_of_another_file_only_what_is_looked_up_is_parsed() -> None:
    file, unread = in_parts(EVEN)
    names = {each.name for each in unread.chunks.values()}
    assert names == {"", "first", "Second", "sets"}
    home = file.lookup(file.tree, "Second")[1][0].node
    assert {each.name for each in unread.chunks.values()} == names - {"Second"}
    assert [file.line(each) for each in home.body] == [18, 20]
    assert [each.name for each in unread.methods.values()] == ["go"]
    assert [ast.unparse(each) for each in file.run_by(home.body[1]) if isinstance(each, ast.Call)] == ["self.x.y()"]
    assert not unread.methods
    file.lookup(file.tree, "TEXT")
    assert {each.name for each in unread.chunks.values()} == {"", "first"}, "a `global` binds a name of the module"


def test_plain_functions_of_a_file_are_not_looked_at_before_somebody_asks() -> None:
    plain = "".join(f"def plain_{number}(given):\n    return given.a(b(c({number})))\n\n\n" for number in range(50))
    file = parse(f"{plain}async def serve(jobs):\n    return jobs.get()\n", "a.py")
    assert [ast.unparse(each) for each in file.calls_in_coroutines] == ["jobs.get()"]
    assert len(file.scopes.parents) < len(list(ast.walk(file.tree))) / 10
    home = file.lookup(file.tree, "plain_7")[1][0].node
    assert len(file.uses(home)) == 0 and len(file.run_by(home)) == 9
    assert len(file.scopes.known_opened) == 3, "the module, the coroutine, the one that was asked for"
    assert len(file.calls) == 151


def test_a_check_reads_of_other_files_what_its_coroutines_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = "    def more_{0}(self, given):\n        return [each.a for each in given]\n\n"
    other = "import requests\n\n\nclass Client:\n    def __init__(self, url):\n        self.url = url\n\n"
    other += "    def ask(self):\n        return requests.get(self.url).text\n\n"
    other += "".join(method.format(number) for number in range(200))
    (tmp_path / "other.py").write_text(other)
    (tmp_path / "app.py").write_text(
        "from other import Client\n\n\nasync def page(url):\n    return Client(url).ask()\n"
    )
    parse_, parsed = ast.parse, []
    monkeypatch.setattr(
        ast, "parse", lambda text, *args, **kwargs: parsed.append(text) or parse_(text, *args, **kwargs)
    )
    (patch,) = scan.patches([scan.Place(str(tmp_path / "app.py"))], [], listed=True)
    assert "calls requests.get() in line 9 of other.py" in patch.findings[0].message
    assert sum(len(text.strip()) for text in parsed if "more_" in text) < len(other) / 2
    assert not any("each.a" in text for text in parsed), "the methods that nobody calls"


KEPT = """from concurrent.futures import ThreadPoolExecutor
import redis


async def lifespan(app):
    app.state.pool = ThreadPoolExecutor()
    app.state.cache: redis.Redis = redis.Redis()
    if app.state.pool == app.state.other: app.state.mixed = 1
    yield


def prepare(app):
    app.state.mixed = ThreadPoolExecutor()
"""
READ = """async def page(request, job):
    request.app.state.cache.get("page")
    request.app.state.mixed.submit(job).result()
    request.app.state.other.submit(job).result()
    game.state.pool.submit(job).result()
    return request.app.state.pool.submit(job).result()
"""


def test_what_another_file_puts_into_the_application_s_state_is_known(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(KEPT)
    (tmp_path / "routes.py").write_text(READ)
    (patch,) = scan.patches([scan.Place(str(tmp_path / "routes.py"))], [], listed=True)
    assert [(item.rule, item.line, item.refused) for item in patch.findings] == [
        ("to_thread", 2, False),
        ("await_future", 6, False),
    ]
