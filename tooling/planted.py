"""Plant 90 secrets of 30 kinds in a process, capture its evidence, and count what got through into the bundle.

    python tooling/planted.py            the table; exit status 1 where one of a known shape got through
    python tooling/planted.py --all      every plant, also those that were struck out

Each kind is planted three times: in a line of source beside a frame, where a command or the environment holds it, and
where a name does: of a thread, a task, a failed task's message, an open file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import string
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from hangdebug.capture.processes import Target
from hangdebug.observe import observe

WORDS = string.ascii_letters + string.digits
HEX, UPPER = "0123456789abcdef", string.ascii_uppercase + "234567"


@dataclass(frozen=True)
class Kind:
    """How a secret of a kind looks where it is used (`text`, with {} for it), and in a line of source (`line`).

    A kind is `known` that is told from other text by its shape or by the name beside it.
    """

    name: str
    text: str
    line: str
    alphabet: str
    length: int
    known: bool = True


KINDS = (
    Kind("AWS key id", "AKIA{}", 'aws_id = "AKIA{}"', UPPER, 16),
    Kind("AWS secret", "aws_secret_access_key={}", 'aws_secret_access_key = "{}"', WORDS, 40),
    Kind("GitHub token", "ghp_{}", 'headers = {{"X": "ghp_{}"}}', WORDS, 36),
    Kind("GitLab token", "glpat-{}", 'clone("glpat-{}")', WORDS, 20),
    Kind("Slack token", "xoxb-{}", 'WebClient("xoxb-{}")', HEX, 40),
    Kind("Stripe key", "sk_live_{}", 'stripe.api = "sk_live_{}"', WORDS, 24),
    Kind("Google key", "AIza{}", 'maps("AIza{}")', WORDS, 35),
    Kind("SendGrid key", "SG.abcdefghijklmnopqrst.{}", 'send("SG.abcdefghijklmnopqrst.{}")', WORDS, 43),
    Kind("npm token", "npm_{}", 'publish("npm_{}")', WORDS, 36),
    Kind("PyPI token", "pypi-AgEIcHlwaS5vcmc{}", 'upload("pypi-AgEIcHlwaS5vcmc{}")', WORDS, 60),
    Kind("Hugging Face token", "hf_{}", 'load("hf_{}")', string.ascii_letters, 34),
    Kind("DigitalOcean token", "dop_v1_{}", 'droplets("dop_v1_{}")', HEX, 64),
    Kind("OpenAI key", "sk-proj-{}", 'chat("sk-proj-{}")', WORDS, 48),
    Kind("Twilio key", "SK{}", 'twilio("SK{}")', HEX, 32),
    Kind("webhook secret", "whsec_{}", 'hook("whsec_{}")', WORDS, 32),
    Kind("JSON web token", "eyJhbGciOiJIUzI1.eyJzdWIi.{}", 't = "eyJhbGciOiJIUzI1.eyJzdWIi.{}"', WORDS, 43),
    Kind("bearer token", "Authorization: Bearer {}", 'h = {{"Authorization": "Bearer {}"}}', WORDS, 30),
    Kind("cookie", "Cookie: sessionid={}", 'h = {{"Cookie": "sessionid={}"}}', WORDS, 32),
    Kind("database URL", "postgresql://app:{}@db:5432/x", 'url = "postgresql://app:{}@db:5432/x"', WORDS, 9),
    Kind("broker URL", "amqp://guest:{}@mq//", 'celery("amqp://guest:{}@mq//")', WORDS, 9),
    Kind("DSN of a tracker", "https://{}@o1.example.org/1", 'init("https://{}@o1.example.org/1")', HEX, 32),
    Kind("connection string", "Server=x;User Id=sa;Pwd={};", 'c = "Server=x;User Id=sa;Pwd={};"', WORDS, 9),
    Kind("storage key", "AccountName=x;AccountKey={}==;", 'c = "AccountName=x;AccountKey={}==;"', WORDS, 86),
    Kind("password option", "--password={}", 'run("mysql --password={} x")', WORDS, 9),
    Kind("token in a query", "https://x.org/cb?token={}&a=1", 'get("https://x.org/cb?token={}&a=1")', WORDS, 12),
    Kind(
        "signed address", "https://b.example.org/c?sv=1&sig={}", 'get("https://b.example.org/c?sv=1&sig={}")', WORDS, 20
    ),
    Kind("password by name", "password={}", 'password = "{}"', WORDS, 9),
    Kind("key by name", "api_key={}", 'api_key = "{}"', WORDS, 20),
    Kind("under an innocent name", "given {}", 'given = "{}"', string.ascii_lowercase, 9, known=False),
    Kind(
        "a word of a sentence", "log in with {} today", 'say("log in with {} today")', string.ascii_lowercase, 9, False
    ),
)
COMMANDS = ("an argument", "a child's argument", "the environment")
NAMES = ("a thread's name", "a task's name", "a failed task's message", "an open file's path")
PROGRAM = """
import asyncio, json, os, subprocess, sys, threading, time
plan = json.loads(sys.stdin.readline())
sys.argv[1:] = []
children = [subprocess.Popen(["sh", "-c", "sleep 60", text]) for text in plan["a child's argument"]]
files = [open(name, "w") for name in plan["an open file's path"]]
{functions}
for work in works:
    threading.Thread(target=work, daemon=True).start()
for name in plan["a thread's name"]:
    threading.Thread(target=time.sleep, args=(60,), name=name, daemon=True).start()


async def fail(text):
    raise ValueError(text)


async def main():
    kept = [asyncio.create_task(asyncio.sleep(60), name=name) for name in plan["a task's name"]]
    kept += [asyncio.create_task(fail(text)) for text in plan["a failed task's message"]]
    await asyncio.sleep(0.1)
    print("ready", flush=True)
    await asyncio.sleep(60)


try:
    asyncio.run(main())
finally:
    for child in children:
        child.kill()
"""


@dataclass(frozen=True)
class Plant:
    kind: Kind
    place: str
    secret: str

    @property
    def text(self) -> str:
        return self.kind.text.format(self.secret)


def plants() -> list[Plant]:
    chance, found = random.Random(90), []
    for number, kind in enumerate(KINDS):
        for place in ("a line of source", COMMANDS[number % len(COMMANDS)], NAMES[number % len(NAMES)]):
            if place.endswith("path") and "/" in kind.text:
                place = NAMES[0]  # noqa: PLW2901  a path has no place for it
            found.append(Plant(kind, place, "".join(chance.choices(kind.alphabet, k=kind.length))))
    return found


def captured(found: list[Plant], folder: Path) -> str:
    """All that the bundle of such a process holds, as one text."""
    by_place: dict[str, list[str]] = {place: [] for place in (*COMMANDS, *NAMES)}
    functions = ["works = []"]
    for number, one in enumerate(found):
        if one.place == "a line of source":
            line = one.kind.line.format(one.secret)
            functions.append(f"def work{number}():\n    time.sleep(60)\n    {line}\nworks.append(work{number})")
        else:
            by_place[one.place].append(one.text)
    by_place["an open file's path"] = [str(folder / name) for name in by_place["an open file's path"]]
    program = folder / "shop.py"
    program.write_text(PROGRAM.replace("{functions}", "\n".join(functions)))
    environment = {f"PLANTED_{number}": text for number, text in enumerate(by_place["the environment"])}
    with subprocess.Popen(
        [sys.executable, program, *by_place["an argument"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdin and process.stdout
            process.stdin.write(json.dumps(by_place) + "\n")
            process.stdin.flush()
            if process.stdout.readline() != "ready\n":
                raise SystemExit(
                    "The program with the plants did not start. Next: look at PROGRAM in tooling/planted.py"
                )
            observe(Target((process.pid,)), folder / "evidence", lambda line: None)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it has a child, which would keep this one's output open
    texts = [path.read_text(errors="replace") for path in (folder / "evidence").rglob("*") if path.is_file()]
    return "\n".join(texts)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--all", action="store_true", help="every plant, also those that were struck out")
    every = options.parse_args().all
    found = plants()
    with tempfile.TemporaryDirectory(prefix="plants-") as folder:
        text = captured(found, Path(folder))
    through = [one for one in found if one.secret in text]
    for one in found if every else through:
        print(f"{'THROUGH' if one in through else 'struck ':8} {one.kind.name:24} in {one.place}")
    known = [one for one in through if one.kind.known]
    missed = [one for one in found if one.place == "a line of source" and f"work{found.index(one)}" not in text]
    if missed:
        raise SystemExit(f"{len(missed)} lines with plants are not in the evidence, so nothing was tried on them.")
    struck = len(re.findall(r"\*\*\*", text))
    print(
        f"{len(found)} secrets of {len(KINDS)} kinds were planted; {len(through)} got through, {len(known)} of them "
        f"of a known shape. The bundle has {struck} places where something was struck out."
    )
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
