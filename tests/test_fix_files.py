"""The verbs on files: propose, diff, write. Every odd file is told apart in words."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hangdebug import errors
from hangdebug.repair import fix

BAD = """from concurrent.futures import ThreadPoolExecutor
async def gen(loop):
    with ThreadPoolExecutor() as pool:
        yield await loop.run_in_executor(pool, fetch)
"""
GOOD = """from concurrent.futures import ThreadPoolExecutor
async def gen(loop):
    pool = ThreadPoolExecutor()
    try:
        yield await loop.run_in_executor(pool, fetch)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "app.py"
    path.write_text(BAD)
    return path


def test_propose_changes_nothing_on_disk_and_write_does(app: Path) -> None:
    patch = fix.propose(app)
    assert (app.read_text(), patch.before, patch.after, patch.changed) == (BAD, BAD, GOOD, True)
    fix.write(patch)
    assert app.read_text() == GOOD
    assert os.listdir(app.parent) == ["app.py"]
    assert not fix.propose(app).changed


@pytest.mark.parametrize("tool", [("git", "apply"), ("patch", "-p1")])
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["app.py", "my app.py"])
def test_the_diff_is_one_that_tools_apply(app: Path, tool: tuple, end: str, newline: str, name: str) -> None:
    if not shutil.which(tool[0]):
        pytest.skip(f"{tool[0]} is not installed: apt install {tool[0]}")
    tail = f"def last():\n    return '\x0c'{end}"  # a form feed is no end of a line
    path = app.with_name(name)
    path.write_bytes((BAD + tail).replace("\n", newline).encode())
    text = fix.diff(fix.propose(path))
    assert text.startswith("# stays: line 4: ") and f"\n--- a/{name}" in text
    flags = ["--binary"] if tool[0] == "patch" else []
    subprocess.run([*tool, *flags], input=text.encode(), check=True, cwd=app.parent, capture_output=True)
    assert path.read_bytes() == (GOOD + tail).replace("\n", newline).encode()


def test_a_file_without_a_newline_at_its_end(app: Path) -> None:
    app.write_text(BAD.rstrip("\n"))
    patch = fix.propose("app.py")
    assert patch.after == GOOD.rstrip("\n")
    assert fix.diff(patch).count("\\ No newline at end of file\n") == 2


def test_no_change_is_no_diff_and_no_write(app: Path) -> None:
    app.write_text(GOOD)
    before = app.stat()
    patch = fix.propose(app)
    fix.write(patch)
    after = app.stat()  # to read it may move its atime
    assert (fix.diff(patch), patch.findings) == ("", ())
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


@pytest.mark.parametrize(
    "head, encoding",
    [
        ("", "utf-8-sig"),
        ("# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n", "latin-1"),
        ("# \u00fcber\n", "utf-8"),
    ],
)
def test_encoding_byte_order_mark_and_mode_are_kept(app: Path, head: str, encoding: str) -> None:
    app.write_bytes((head + BAD).encode(encoding))
    app.chmod(0o750)
    fix.write(fix.propose(app))
    assert app.read_bytes() == (head + GOOD).encode(encoding)
    assert app.stat().st_mode & 0o777 == 0o750


def test_a_symlink_stays_and_its_target_is_mended(app: Path) -> None:
    link = app.with_name("link.py")
    link.symlink_to("app.py")
    fix.write(fix.propose(link))
    assert link.is_symlink() and app.read_text() == GOOD


def test_a_file_that_changed_meanwhile_is_not_overwritten(app: Path) -> None:
    patch = fix.propose(app)
    app.write_text(BAD + "# newer\n")
    with pytest.raises(errors.BadSource, match="changed meanwhile"):
        fix.write(patch)
    assert app.read_text() == BAD + "# newer\n"


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_a_write_cut_short_leaves_the_old_file_and_nothing_else(
    app: Path, fault: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault(28, "No space left on device")

    patch = fix.propose(app)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(errors.BadSource if fault is OSError else fault):
        fix.write(patch)
    assert app.read_text() == BAD and os.listdir(app.parent) == ["app.py"]


def test_a_file_with_two_names_is_refused_and_keeps_both(app: Path) -> None:
    os.link(app, app.with_name("other.py"))
    with pytest.raises(errors.BadSource, match="several names") as caught:
        fix.write(fix.propose(app))
    assert app.samefile(app.with_name("other.py")) and app.read_text() == BAD
    subprocess.run(caught.value.next, shell=True, check=True)
    fix.write(fix.propose(app))
    assert app.read_text() == GOOD and app.with_name("other.py").read_text() == BAD


def test_attributes_of_the_file_stay(app: Path) -> None:
    try:
        os.setxattr(app, "user.origin", b"generated")
    except (OSError, AttributeError):
        pytest.skip("The file system of the temporary folder has no extended attributes. Next: another --basetemp")
    fix.write(fix.propose(app))
    assert os.getxattr(app, "user.origin") == b"generated"


ODD_TEXTS = {
    "CRLF": BAD.replace("\n", "\r\n").encode(),
    "CR alone in a string": BAD.encode() + b"x = 'a\\\rb'\n",
    "byte order mark": b"\xef\xbb\xbf" + BAD.encode(),
    "tabs": BAD.replace("    ", "\t").encode(),
    "a form feed": BAD.replace("async def", "\f\nasync def").encode(),
    "no end of line": BAD.rstrip("\n").encode(),
    "latin-1": b"# coding: latin-1\n# caf\xe9\n" + BAD.encode(),
    "mixed ends": BAD.replace("\n", "\r\n", 2).encode(),
}


@pytest.mark.parametrize("kind", ODD_TEXTS)
def test_an_odd_text_keeps_its_oddness_and_a_second_run_finds_nothing(app: Path, kind: str) -> None:
    app.write_bytes(ODD_TEXTS[kind])
    fix.write(fix.propose(app))
    made = app.read_bytes()
    again = fix.propose(app)
    assert not again.changed and made != ODD_TEXTS[kind]
    old, new = (set(text.splitlines(keepends=True)) for text in (ODD_TEXTS[kind], made))
    assert ODD_TEXTS[kind].splitlines(keepends=True)[0] in new, "the first line is no part of the change"
    assert (b"\r\n" in made) == (b"\r\n" in ODD_TEXTS[kind]) and (b"\t" in made) == (b"\t" in ODD_TEXTS[kind])
    assert kind != "CRLF" or all(line.endswith(b"\r\n") for line in new), old
    compile(made, "app.py", "exec")


@pytest.mark.slow
@pytest.mark.live
def test_a_write_that_is_killed_leaves_the_old_file_or_the_new_one(app: Path) -> None:
    """HANG_LONG=1 kills it 100 times, around the moment at which it writes."""
    words = [sys.executable, Path(fix.__file__).parents[2] / "hang.py", "fix", "app.py", "--write"]
    long, chance, seen = bool(os.environ.get("HANG_LONG")), random.Random(15), set()
    began = time.monotonic()
    subprocess.run(words, stderr=subprocess.DEVNULL)
    takes = time.monotonic() - began
    assert app.read_text() == GOOD
    for _ in range(100 if long else 8):
        app.write_text(BAD)
        app.chmod(0o640)
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as job:
            with suppress(subprocess.TimeoutExpired):
                job.wait(chance.uniform(0.6, 1.1) * takes)
            job.kill()
        seen.add(app.read_text())
        assert app.read_text() in (BAD, GOOD) and app.stat().st_mode & 0o777 == 0o640
    assert seen == {BAD, GOOD} or not long


def test_a_read_only_file_is_refused(app: Path) -> None:
    app.chmod(0o444)
    patch = fix.propose(app)
    with pytest.raises(errors.BadSource, match="read-only") as caught:
        fix.write(patch)
    assert caught.value.next.startswith("chmod u+w") and app.read_text() == BAD


ODD = {
    "syntax": (b"async def f(:\n    pass\n", "odd.py:1 is not valid Python"),
    "executor syntax": (b"import concurrent.futures\nasync def f():\n  with a as:\n    pass\n", "odd.py:3"),
    "binary": (b"\x7fELF\0\0", "not Python source"),
    "encoding": (b"x = '\xff'\n", "cannot be decoded"),
    "cookie": (b"# coding: klingon\n", "cannot be decoded"),
    "nested": (b"x = " + b"(" * 3000 + b")" * 3000 + b"\n", ""),
    "operators": (b"async def f(): Executor = " + b"-" * 5000 + b"1\n", ""),
    "huge": (b"#\n" * 250_001, "too large"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_content_is_a_bad_source(app: Path, kind: str) -> None:
    content, words = ODD[kind]
    app.with_name("odd.py").write_bytes(content)
    with pytest.raises(errors.BadSource) as caught:
        fix.propose("odd.py")
    assert words in caught.value.what and caught.value.why and caught.value.next
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "name, words",
    [
        ("none.py", "cannot be read"),
        ("folder", "is a folder"),
        ("pipe", "no regular file"),
        ("loop.py", "cannot be read"),
        ("nul\0.py", "cannot be read"),
    ],
)
def test_what_is_no_file_is_a_bad_source(app: Path, name: str, words: str) -> None:
    app.with_name("folder").mkdir()
    os.mkfifo(app.with_name("pipe"))  # opening it would wait for a writer
    app.with_name("loop.py").symlink_to("loop.py")
    with pytest.raises(errors.BadSource, match=words) as caught:
        fix.propose(name)
    assert caught.value.next


def test_an_empty_file_is_fine(app: Path) -> None:
    app.write_text("")
    assert fix.propose(app).after == "" and fix.propose(app).findings == ()


def test_a_line_that_leads_to_nothing_says_what_is_nearby(app: Path) -> None:
    app.write_text(BAD + "def other():\n    helper()\n")
    patch = fix.propose(app, 6)
    (finding,) = patch.findings
    assert not patch.changed and finding.refused and finding.line == 6
    assert "helper()" in finding.message and "line 3: the end of the `with` block" in finding.message
    assert fix.propose(app, 4).after.startswith(GOOD)
    with pytest.raises(errors.BadSource, match="no line 99"):
        fix.propose(app, 99)
    app.write_text("helper()\n")
    assert "nothing else in this file" in fix.propose(app, 1).findings[0].message


@pytest.mark.no_cover
def test_a_file_of_a_thousand_lines_takes_seconds(app: Path) -> None:
    app.write_text(BAD + "def f(a, b):\n    return [a + b, a]\n" * 500)
    started = time.process_time()
    assert fix.propose(app).changed
    assert time.process_time() - started < 10


HTTPX = """import asyncio
from concurrent.futures import ThreadPoolExecutor
import httpx
def page(url):
    return httpx.get(url, timeout=3).text
async def one(url):
    return httpx.get(url, timeout=3).text, httpx.get(url, verify=False).text
async def stream(urls):
    with ThreadPoolExecutor() as pool:
        for job in asyncio.as_completed([asyncio.get_running_loop().run_in_executor(pool, page, url) for url in urls]):
            yield await job
"""


def test_the_head_says_what_a_call_of_httpx_without_a_client_costs(app: Path) -> None:
    app.write_text(HTTPX)
    said = [words for item in fix.propose(app).findings for words in re.findall(r"line \d+ calls \S+", item.stays)]
    assert said == ["line 7 calls httpx.get(),", "line 5 calls httpx.get(),"]
