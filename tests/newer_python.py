"""Unpack Pythons that this distribution has not yet, from Debian's unstable one, and change nothing of the system.

    python tests/newer_python.py              3.14 and 3.15, into build/pythons
    python tests/newer_python.py 3.14

Everything that they need comes with them, the C library included. They are made to find it in their own folder, so
that they run beside the system's, can make virtual environments, and can be looked at like any other process.
The packages come from where this machine's own configuration says that Debian's are, and apt checks their signatures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "build" / "pythons"
VERSIONS = ("3.14", "3.15")
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "patchelf": "patchelf"}  # and the package of each


class Refused(Exception):
    """It cannot be had here; the words say why, and what to do."""


def installed() -> list[str]:
    """The interpreters that were unpacked, oldest first."""
    return [str(path) for path in sorted(ROOT.glob("usr/bin/python3.[0-9][0-9]"))]


def unpack(versions: list[str]) -> None:
    """Raises Refused."""
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise Refused(f"{tool} is not here. Next: apt-get install {package}")
    options = configured()
    run("apt-get", *options, "update")
    names = [f"python{version}{part}" for version in versions for part in ("", "-venv")]
    run("apt-get", *options, "-y", "-d", "--no-install-recommends", "install", *names)
    for package in sorted((ROOT / "cache" / "archives").glob("*.deb")):
        run("dpkg-deb", "-x", str(package), str(ROOT))
    for path in installed():
        settle(Path(path))


def configured() -> list[str]:
    """apt's options for a state of its own, in which nothing is installed. Raises Refused."""
    if not KEYS.is_file():
        raise Refused("Debian's keys are not here. Next: apt-get install debian-archive-keyring")
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(path.read_text() for path in sources if path.is_file())
    mirror = re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+/debian)/?(?: |$)", text, re.M)
    if mirror is None:
        raise Refused("apt's sources name no mirror of Debian. Next: run this on a Debian machine")
    for folder in ("lists/partial", "cache/archives/partial"):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    (ROOT / "sources.list").write_text(f"deb [signed-by={KEYS}] {mirror[1]} sid main\n")
    (ROOT / "status").touch()
    places = {
        "Dir::Etc::sourcelist": "sources.list",
        "Dir::State": ".",
        "Dir::State::status": "status",
        "Dir::Cache": "cache",
    }
    options = [f"-o={key}={ROOT / place}" for key, place in places.items()]
    return [*options, "-o=Dir::Etc::sourceparts=/dev/null", "-o=APT::Sandbox::User=root", "-o=Debug::NoLocking=1"]


def settle(python: Path) -> None:
    """Let it find its loader, its libraries and pip's wheel in its own folder. Raises Refused."""
    loader = next(ROOT.glob("usr/lib*/ld-linux*.so.*"), None) or next(ROOT.glob("usr/lib/*/ld-linux*.so.*"), None)
    libraries = next(ROOT.glob("usr/lib/*/libc.so.6"), None)
    if loader is None or libraries is None:
        raise Refused(f"the packages in {ROOT} have no C library. Next: rm -r {ROOT}, and run this again")
    own = ["--force-rpath", "--set-rpath", str(libraries.parent), "--set-interpreter", str(loader.resolve())]
    run("patchelf", *own, str(python))
    for file in (ROOT / "usr" / "lib" / python.name).glob("_sysconfigdata*.py"):
        whole = file.read_text().replace("'/usr/share/python-wheels/'", repr(f"{ROOT / 'usr/share/python-wheels'}/"))
        file.write_text(whole)  # where ensurepip looks


def run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Refused("\n".join([f"{' '.join(command[:1])} ended with {done.returncode}:", *said]))


def main() -> int:
    try:
        unpack(sys.argv[1:] or list(VERSIONS))
    except Refused as error:
        print(f"It cannot be had: {error}", file=sys.stderr)
        return 1
    print("\n".join(installed()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
