"""No secret reaches a bundle: argv, URLs, literals and keys, of the process, its child and its sources."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import tokenize
import zipfile
from pathlib import Path

import pytest

from hangdebug.capture import bundle, redact

HANG = Path(__file__).parents[1] / "scripts" / "hang.py"
PYTHON = "/usr/bin/python3.11"


@pytest.mark.parametrize("line, kept", [
    (f"{PYTHON} -m uvicorn app.main:app --port 8000", f"{PYTHON} -m uvicorn app.main:app --port 8000"),
    (f"{PYTHON} -u -X dev server.py --token abc", f"{PYTHON} -u -X dev server.py --token ***"),
    (f"{PYTHON} server.py --password=hunter2 -p hunter2", f"{PYTHON} server.py --password=*** -p ***"),
    (f"{PYTHON} -c print(1)", f"{PYTHON} -c ***"),
    ("uvicorn app:app --env-file .env --port=80", "uvicorn app:app --env-file *** --port=80"),
    ("env DATABASE_URL=postgres://a:b@h/x server", "env *** server"),
    ("mysql -u root -phunter2 shop", "mysql -u *** -p*** shop"),
    ("curl -H Authorization:x -uada:pw https://h/x", "curl -H *** -u*** ***"),
    ("redis-cli -a hunter2 ping", "redis-cli -a *** ping"),
    ("sleep 60", "sleep 60"),
    ("worker 4f9d8a7b6c5e4d3c2b1a0f9e8d", "worker ***"),
    ("", ""),
])
def test_of_a_command_line_stays_what_is_served(line, kept):
    assert redact.command(line.split(), 99) == kept


@pytest.mark.parametrize("text, kept, kind", [
    ('URL = "postgresql://ada:pw@db/x"', 'URL = "postgresql://***@db/x"', "credentials in a URL"),
    ('    self.password: str = "pw"  # why', '    self.password: str = "***"  # why', "the value of a password-like name"),
    ("connect(host='h', PASSWORD='p w', port=5)", "connect(host='h', PASSWORD='***', port=5)", "the value of a password-like name"),
    ('password: SecretStr = SecretStr("pw")', 'password: SecretStr = SecretStr("***")', "the value of a password-like name"),
    ('db_password = Field(default="pw")', 'db_password = Field(default="***")', "the value of a password-like name"),
    ('TOKEN = """pw"""', 'TOKEN = """***"""', "the value of a password-like name"),
    ('{"api_key": b"pw"}', '{"api_key": b"***"}', "the value of a password-like name"),
    ('os.environ["DB_TOKEN"] = "pw"', 'os.environ["DB_TOKEN"] = "***"', "the value of a password-like name"),
    ('headers = {"X": f"Bearer abcdefgh123"}', 'headers = {"X": f"Bearer ***"}', "a bearer token"),
    ("key = AKIAABCDEFGHIJKLMNOP", "key = ***", "a key by its shape"),
    ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.sig", "jwt ***", "a key by its shape"),
    ("-----BEGIN PRIVATE KEY-----MIIE\n-----END", "-----BEGIN PRIVATE KEY-----***-----END", "a private key"),
])
def test_a_secret_is_struck_out_once_also_inside_of_json(text, kept, kind):
    assert redact.clean(text) == (kept, {kind: 1})
    assert redact.clean(kept) == (kept, {})
    encoded, found = redact.clean(json.dumps({"12": text}))
    assert found == {kind: 1} and json.loads(encoded) == {"12": kept}


@pytest.mark.parametrize("text", [
    "token = await queue.get()", 'with lock("token"):', "password = getpass()", "https://example.org/a@b", '"name": "get_token", "filename": "x.py"',
    'password = "" if local else ""', "tokens: list[str] = []", 'raise ValueError("no password given")', 'if kind == "secret":', "def secret(self, name='x'):", "8\tsocket:[4711]", "sk-learn",
])
def test_what_is_no_secret_stays(text):
    assert redact.clean(text) == (text, {})


PROGRAM = '''
import subprocess, sys, time
PASSWORD = "s3cret"
DATABASE_URL = "postgresql://ada:s3cret@db.example/x"


def connect(url, password):
    child = subprocess.Popen(["sh", "-c", "sleep 60 # " + password])
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        child.kill()


try:
    connect(DATABASE_URL, PASSWORD)
except KeyboardInterrupt:
    pass
'''


def test_a_real_bundle_holds_no_secret_and_lists_what_was_removed(tmp_path):
    (tmp_path / "server.py").write_text(PROGRAM)
    arguments = ["--password=s3cret", "--token", "s3cret", "postgresql://ada:s3cret@h/x"]
    command = [sys.executable, tmp_path / "server.py", *arguments]
    env = {**os.environ, "DATABASE_URL": "s3cret", "PYTHONPATH": str(HANG.parents[1] / "notebooks" / "lab_site")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            done = subprocess.run([sys.executable, HANG, "capture", "--pid", str(process.pid), "--zip", "--out", tmp_path / "evidence"],
                                  capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        finally:
            process.send_signal(2)
            process.wait(10)
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert not [name for name, text in texts.items() if "s3cret" in text]
    pid = str(process.pid)
    removed = json.loads(texts["evidence/manifest.json"])["removed"]
    assert removed[f"{pid}/sources.json"] == {"credentials in a URL": 1, "the value of a password-like name": 1}
    assert removed[f"{pid}/process.json"]["arguments"] == 3 and removed[f"{pid}/children.tsv"] == {"arguments": 1}
    assert "time.sleep(60)" in texts[f"evidence/{pid}/sources.json"]


def test_a_note_that_quotes_credentials_is_cleaned_too(tmp_path):
    bundle.write(tmp_path / "manifest.json", '{"notes": ["no answer from redis://:pw@cache"]}')
    assert (tmp_path / "manifest.json").read_text() == '{"notes": ["no answer from redis://***@cache"]}'


def test_cleaning_a_large_text_takes_time_in_proportion():
    text = ('"name": "token_token_token", "file": "/srv/a' + "b" * 200 + '.py"\n') * 5000
    began = time.perf_counter()
    redact.clean(text)
    assert time.perf_counter() - began < 3


def test_the_engine_has_nothing_that_opens_a_connection():
    engine = Path(redact.__file__).parents[1]
    opens = re.compile(r"\b(?:urllib\.request|http\.client|urlopen|create_connection|open_connection|\.connect(?:_ex)?\(|smtplib|ftplib|requests\.)")
    for path in engine.rglob("*.py"):
        assert not opens.search(code_alone(path.read_text())), path


def code_alone(source: str) -> str:
    """The source without its strings and comments: a cause's explanation may well name requests.get()."""
    kept = [token for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if tokenize.tok_name[token.type] not in ("STRING", "COMMENT", "FSTRING_MIDDLE")]
    return "".join(token.string for token in kept)
