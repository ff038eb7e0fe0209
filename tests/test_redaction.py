"""No secret reaches a bundle: argv, URLs, literals and keys, of the process, its child and its sources."""

from __future__ import annotations

import io
import json
import os
import random
import re
import string
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


@pytest.mark.parametrize(
    "line, kept",
    [
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
        (
            f"{PYTHON} /srv/service-1/venv/bin/uvicorn app.main:app",
            f"{PYTHON} /srv/service-1/venv/bin/uvicorn app.main:app",
        ),
        ("", ""),
    ],
)
def test_of_a_command_line_stays_what_is_served(line, kept):
    assert redact.clean_command(line.split(), 99) == kept


@pytest.mark.parametrize(
    "text, kept, kind",
    [
        ('URL = "postgresql://ada:pw@db/x"', 'URL = "postgresql://***@db/x"', "credentials in a URL"),
        (
            '    self.password: str = "pw"  # why',
            '    self.password: str = "***"  # why',
            "the value of a password-like name",
        ),
        (
            "connect(host='h', PASSWORD='p w', port=5)",
            "connect(host='h', PASSWORD='***', port=5)",
            "the value of a password-like name",
        ),
        (
            'password: SecretStr = SecretStr("pw")',
            'password: SecretStr = SecretStr("***")',
            "the value of a password-like name",
        ),
        (
            'db_password = Field(default="pw")',
            'db_password = Field(default="***")',
            "the value of a password-like name",
        ),
        ('TOKEN = """pw"""', 'TOKEN = """***"""', "the value of a password-like name"),
        ('{"api_key": b"pw"}', '{"api_key": b"***"}', "the value of a password-like name"),
        ('os.environ["DB_TOKEN"] = "pw"', 'os.environ["DB_TOKEN"] = "***"', "the value of a password-like name"),
        ('headers = {"X": f"Bearer abcdefgh123"}', 'headers = {"X": f"Bearer ***"}', "a bearer token"),
        ("key = AKIAABCDEFGHIJKLMNOP", "key = ***", "a key by its shape"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.sig", "jwt ***", "a key by its shape"),
        ("-----BEGIN PRIVATE KEY-----MIIE\n-----END", "-----BEGIN PRIVATE KEY-----***-----END", "a private key"),
    ],
)
def test_a_secret_is_struck_out_once_also_inside_of_json(text, kept, kind):
    assert redact.clean_text(text) == (kept, {kind: 1})
    assert redact.clean_text(kept) == (kept, {})
    encoded, found = redact.clean_text(json.dumps({"12": text}))
    assert found == {kind: 1} and json.loads(encoded) == {"12": kept}


def made(alphabet: str, length: int) -> str:
    """What a generator of keys gives; the same one every time."""
    return "".join(random.Random(f"{alphabet}{length}").choices(alphabet, k=length))


WORDS = string.ascii_letters + string.digits
HEX, BASE64, BASE32 = "0123456789abcdef", WORDS + "+/", string.ascii_uppercase + "234567"
LINES = [  # a line of source, and the secret in it
    ("aws_access_key_id = 'ASIA{}'", made(BASE32, 16)),
    ("AWS_SECRET = '{}'", made(BASE64, 40)),
    ("aws_secret_access_key = {}", made(BASE64, 40)),
    ("boto3.client('s3', 'eu-west-1', '{}')", made(BASE64, 40)),
    ("t = '{}'", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + made(WORDS, 43)),
    ("create_engine('postgresql+asyncpg://app:{}@db:5432/x')", "p4ss-w0rd!"),
    ("create_engine('postgresql://app:{}@db/x')", "p@ss/w0rd"),
    ("redis.from_url('redis://:{}@cache:6379/0')", "hunter2"),
    ("sentry_sdk.init('https://{}@o1.example.org/1')", made(HEX, 32)),
    ("psycopg.connect('host=db user=app password={} dbname=x')", "hunter2"),
    ("c = 'Server=x;User Id=sa;Pwd={};Database=y'", "hunter2"),
    ("u = 'jdbc:postgresql://h/db?user=a&password={}'", "hunter2"),
    ("c = 'AccountName=x;AccountKey={}==;Suffix=y'", made(BASE64, 86)),
    ("headers={{'Authorization': 'Bearer {}'}}", made(WORDS, 30)),
    ("headers={{'Authorization': 'Basic {}'}}", "YWRhOmh1bnRlcjIy"),
    ("headers={{'X-API-Key': '{}'}}", made(WORDS, 20)),
    ("os.system('curl -H \"Authorization: Token {}\" x')", made(WORDS, 20)),
    ("headers={{'Cookie': 'sessionid={}; theme=dark'}}", made(WORDS, 32)),
    ("cookies={{'sessionid': '{}'}}", made(WORDS, 32)),
    ("subprocess.run('mysql --password={} x', shell=True)", "hunter2"),
    ("os.system('mysqldump --password {} shop')", "hunter2"),
    ("subprocess.run(['mysql', '--password', '{}', 'x'])", "hunter2"),
    ("subprocess.run(['sshpass', '-p', '{}', 'ssh'])", "hunter2"),
    ("os.system('mysql -uroot -p{} shop')", "hunter2"),
    ("os.system('curl -u ada:{} https://x')", "hunter2"),
    ("get('https://x.org/cb?token={}&a=1')", "hunter22"),
    ("get('https://b.example.org/c?sv=1&sig={}')", "hunter22%3D"),
    ("DB_PASSWORD={}", "hunter2"),
    ("export API_TOKEN={}", "correcthorse"),
    ("  password: {}", "hunter2"),
    ("os.environ.get('DB_PASSWORD', '{}')", "hunter2"),
    ('os.getenv("API_TOKEN", "{}")', "hunter2"),
    ("def f(password='{}'):", "hunter2"),
    ("if password == '{}':", "hunter2"),
    ("if (token := '{}'):", "hunter2"),
    ("passwort = '{}'", "hunter2"),
    ("pw = '{}'", "hunter2"),
    ('body = \'{{"password": "{}"}}\'', "hunter2"),
    ("jwt.encode(p, key='{}')", "hunter2hunter2"),
    ("SALT = '{}'", made(WORDS, 20)),
    ("requests.get(u, auth=('ada', '{}'))", "hunter2"),
    ("httpx.BasicAuth('ada', '{}')", "hunter2"),
    ("Credentials('ada', '{}')", "hunter2"),
    ("hmac.new(b'{}', m)", "s3cr3t-k3y-f0r-h00ks"),
    ("pyotp.TOTP('{}')", made(BASE32, 32)),
    ("KEY = '{}'", made(HEX, 64)),
    ("f = Fernet(b'{}=')", made(WORDS + "-_", 43)),
    ("blob = '{}'", made(BASE64, 40)),
    *(
        (f"x = '{prefix}{{}}'", made(alphabet, length))
        for prefix, alphabet, length in (
            ("ghp_", WORDS, 36),
            ("github_pat_", WORDS, 82),
            ("glpat-", WORDS, 20),
            ("xoxb-", HEX, 40),
            ("xapp-1-", HEX, 40),
            ("sk_live_", WORDS, 24),
            ("rk_test_", WORDS, 24),
            ("whsec_", WORDS, 32),
            ("sk-proj-", WORDS, 48),
            ("AIza", WORDS, 35),
            ("GOCSPX-", WORDS, 28),
            ("SK", HEX, 32),
            ("npm_", WORDS, 36),
            ("pypi-AgEIcHlwaS5vcmc", WORDS, 60),
            ("hf_", WORDS, 34),
            ("dop_v1_", HEX, 64),
            ("123456789:AA", WORDS, 33),
            ("https://hooks.slack.com/services/T0/B0/", WORDS, 24),
            ("SG.abcdefghijklmnopqrstuv.", WORDS, 43),
        )
    ),
]


@pytest.mark.parametrize("line, secret", LINES)
def test_no_secret_of_a_line_of_source_is_kept(line, secret):
    line = line.format(secret)
    kept, found = redact.clean_code(line)
    assert secret not in kept and redact.STRUCK in kept and sum(found.values()) >= 1
    assert redact.clean_code(kept) == (kept, {})
    assert redact.clean_sources(json.dumps({"app.py": {"7": line}})) == (
        json.dumps({"app.py": {"7": kept}}, indent=1),
        found,
    )


def test_a_private_key_over_many_lines_goes_line_by_line():
    body = [made(BASE64, 64), made(BASE64 + "Z", 64)]
    for line in body:
        assert redact.clean_code(f"    {line}") == ("    ***", {"a long random string": 1})


@pytest.mark.parametrize(
    "line",
    [
        "password = get_password()",
        'password = keyring.get_password("svc", "user")',
        'pw = getpass.getpass("Password: ")',
        'password = os.environ["DB_PASSWORD"]',
        "password=settings.password,",
        "    password=settings.db_password",
        'token = os.getenv("API_TOKEN")',
        "connect(host=h, password=pw)",
        'f"postgresql://{user}:{password}@{host}/db"',
        'url = f"https://x/?token={token}"',
        'headers={"Authorization": f"Bearer {token}"}',
        'request_id = "550e8400-e29b-41d4-a716-446655440000"',
        'open("/srv/releases/4f9d8a7b6c5e4d3c2b1a0f9e8d7c6b5a43210fed/app.py")',
        'Path("data/4f9d8a7b6c5e4d3c2b1a0f9e8d7c6b5a43210fed.bin")',
        'sys.path.insert(0, "/nix/store/2lkmrq3hmhvghz8d9wz5y5xmv1pp3cvh-python3-3.11/lib")',
        "token: str = Depends(oauth2_scheme)",
        "secrets.token_hex(16)",
        "def f(password: str, token: str | None = None) -> None:",
        'with lock("token"):',
        'assert password != ""',
        'ThreadPoolExecutor(max_workers=4, thread_name_prefix="tokenizer-pool")',
        'if token is None: raise HTTPException(401, "no token given")',
        'cache.get(key="user:profile")',
        'sorted(rows, key=lambda r: r["token"])',
        "hashlib.sha256(data).hexdigest()",
        "requests.get(url, timeout=5, auth=(user, password))",
        'subprocess.run(["mkdir", "-p", "build"])',
        'os.system("mkdir -p build")',
        'subprocess.run(["ps", "-p", str(pid)])',
        "run('docker run -p 8080:80 x')",
        "def login(name, password):",
        '@app.post("/login")',
        "await token_queue.get()",
        "# the token is renewed here",
        "# token: renewed each hour",
        "self.secret = secret",
        "passes = 3",
        "compass = 'north'",
        "x = 'async_generator_athrow_with_a_long_name_v2'",
        "ThreadPoolExecutor42WorkerHandlerFactory()",
        'print("password:", password)',
    ],
)
def test_what_a_reader_of_the_source_needs_stays(line):
    assert redact.clean_code(line) == (line, {})


@pytest.mark.parametrize(
    "text",
    [
        "token = await queue.get()",
        'with lock("token"):',
        "password = getpass()",
        "https://example.org/a@b",
        '"name": "get_token", "filename": "x.py"',
        'password = "" if local else ""',
        "tokens: list[str] = []",
        'raise ValueError("no password given")',
        'if kind == "secret":',
        "def secret(self, name='x'):",
        "8\tsocket:[4711]",
        "sk-learn",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact.clean_text(text) == (text, {})


PROGRAM = """
import os, signal, subprocess, sys, time
PASSWORD = os.environ.get("APP_PASSWORD", "s3cret")
DATABASE_URL = "postgresql://ada:s3cret@db.example/x"


def connect(url, password):
    child = subprocess.Popen(["sh", "-c", "sleep 60 # " + password])
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        child.kill()


signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
try:
    connect(DATABASE_URL, PASSWORD)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.live
def test_a_real_bundle_holds_no_secret_and_lists_what_was_removed(tmp_path):
    (tmp_path / "server.py").write_text(PROGRAM)
    arguments = ["--password=s3cret", "--token", "s3cret", "postgresql://ada:s3cret@h/x"]
    command = [sys.executable, tmp_path / "server.py", *arguments]
    env = {**os.environ, "DATABASE_URL": "s3cret", "PYTHONPATH": str(HANG.parents[1] / "notebooks" / "lab_site")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            done = subprocess.run(
                [sys.executable, HANG, "capture", "--pid", str(process.pid), "--zip", "--out", tmp_path / "evidence"],
                capture_output=True,
                text=True,
            )
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
    bundle.write_part(tmp_path / "manifest.json", '{"notes": ["no answer from redis://:pw@cache"]}')
    assert (tmp_path / "manifest.json").read_text() == '{"notes": ["no answer from redis://***@cache"]}'


@pytest.mark.slow
def test_cleaning_a_large_text_takes_time_in_proportion():
    text = "".join(
        f'"name": "token_token_token", "file": "/srv/{number}' + "b" * 200 + '.py"\n' for number in range(5000)
    )
    began = time.process_time()
    redact.clean_text(text)
    assert time.process_time() - began < 3


@pytest.mark.slow
def test_the_engine_has_nothing_that_opens_a_connection():
    engine = Path(redact.__file__).parents[1]
    opens = re.compile(
        r"\b(?:urllib\.request|http\.client|urlopen|create_connection|open_connection|\.connect(?:_ex)?\(|smtplib|ftplib|requests\.)"
    )
    for path in engine.rglob("*.py"):
        assert not opens.search(code_alone(path.read_text())), path


def code_alone(source: str) -> str:
    """The source without its strings and comments: a cause's explanation may well name requests.get()."""
    kept = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if tokenize.tok_name[token.type] not in ("STRING", "COMMENT", "FSTRING_MIDDLE")
    ]
    return "".join(token.string for token in kept)
