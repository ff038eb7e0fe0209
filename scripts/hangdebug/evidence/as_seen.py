"""Read a file as a process sees it, and no more than it may see itself.

Which files are read says the process: it names them in its frames, and may run as anybody, in a container or a chroot.
The one who looks is often root. So a name is walked part by part below the process's own root: a link leads nowhere
else, what its user may not read is not read, and nothing but a regular file is opened, for to open a device can do
something, and a pipe waits.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass

if TYPE_CHECKING:
    import subprocess

MOST_LINKS = 40
READ, SEARCH = 4, 1
MARKS = os.O_RDONLY | getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC  # refers to a file, and opens nothing


@dataclass(frozen=True)
class User:
    """Whose rights count: for root, and where nobody else looks than the process's own user, there is no limit."""

    user: int = 0
    groups: frozenset[int] = frozenset()

    def may(self, what: int, found: os.stat_result) -> bool:
        if self.user == 0:
            return True
        shift = 6 if found.st_uid == self.user else 3 if found.st_gid in self.groups else 0
        return bool(found.st_mode >> shift & what)


def read_as_seen(process: str, file: str, most: int) -> bytes:
    """Up to `most` bytes of the file that `process` (/proc/PID) knows by this name. Raises OSError, ValueError."""
    try:
        return read_here(process, file, most, far_mounts(process))
    except FarAway:
        return bytes(aside.ask("hangdebug.evidence.as_seen:read_here", process, file, most))


def read_here(process: str, file: str, most: int, far: frozenset[str] = frozenset()) -> bytes:
    """The same, by ourselves. Raises FarAway too, for what lies below one of the places `far`."""
    if "" in far:
        raise FarAway(errno.EREMOTE, "its root is far away", file)
    with ExitStack() as kept:
        found = walk(process, file, user_of(process), kept, far)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", file)
        with open(f"/proc/self/fd/{found}", "rb") as opened:
            return opened.read(most)


def walk(process: str, file: str, user: User, kept: ExitStack, far: frozenset[str] = frozenset()) -> int:
    """A descriptor that refers to the file; `kept` closes it. Raises OSError."""
    root = os.readlink(f"{process}/root").rstrip("/")  # "" but in a chroot
    if not file.startswith("/"):
        here = os.readlink(f"{process}/cwd")
        file = f"{here[len(root) :] if here.startswith(f'{root}/') else here}/{file}"
    top = mark(f"{process}/root", None, kept, follow=True), ""
    at, todo, links = [top], file.split("/")[::-1], 0  # each with its name below the root
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at[:-1] or [top]
            continue
        folder, name = at[-1][0], f"{at[-1][1]}/{part}"
        if not user.may(SEARCH, os.fstat(folder)):
            raise PermissionError(errno.EACCES, "its own user may not search the folder", file)
        if name in far:
            raise FarAway(errno.EREMOTE, "it is far away", file)
        found = mark(part, folder, kept)
        if stat.S_ISLNK(os.fstat(found).st_mode):
            target, links = os.readlink("", dir_fd=found), links + 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, "too many links", file)
            at = [top] if target.startswith("/") else at
            todo += target.split("/")[::-1]
        else:
            at.append((found, name))
    if not user.may(READ, os.fstat(at[-1][0])):
        raise PermissionError(errno.EACCES, "its own user may not read it", file)
    return at[-1][0]


def mark(name: str, folder: int | None, kept: ExitStack, follow: bool = False) -> int:
    found = os.open(name, MARKS & ~os.O_NOFOLLOW if follow else MARKS, dir_fd=folder)
    kept.callback(os.close, found)
    return found


def user_of(process: str) -> User:
    """The user whose rights to files the process has. Raises OSError, ValueError."""
    if os.geteuid() != 0:
        return User()  # the kernel judges, by the rights of who looks
    rows = (line.partition(":") for line in Path(f"{process}/status").read_text(errors="replace").splitlines())
    facts = {name: words.split() for name, _, words in rows if name in ("Uid", "Gid", "Groups")}
    return User(int(facts["Uid"][3]), frozenset(map(int, [facts["Gid"][3], *facts["Groups"]])))


# -- what is far away ----------------------------------------------------------------------------------

LOCAL = frozenset(
    "bcachefs btrfs cgroup cgroup2 devpts devtmpfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs mqueue ntfs3 overlay "
    "proc ramfs reiserfs rootfs squashfs sysfs tmpfs vfat xfs zfs".split()
)
ESCAPED = re.compile(r"\\([0-7]{3})")
PATIENCE, IDLE = 2.0, 5.0  # seconds


class FarAway(OSError):
    """The file lies on a file system for which a network or a program answers, or does not."""


def far_mounts(process: str) -> frozenset[str]:
    """Where `process` (/proc/PID) has such file systems, without the slash at the end. Nothing of them is touched."""
    try:
        rows = Path(f"{process}/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return frozenset()
    split = ((head.split(), tail.split()) for head, _, tail in (row.partition(" - ") for row in rows))
    places = (head[4] for head, tail in split if len(head) > 4 and tail and tail[0] not in LOCAL)
    return frozenset(ESCAPED.sub(lambda found: chr(int(found[1], 8)), place).rstrip("/") for place in places)


def is_far(file: str, far: frozenset[str]) -> bool:
    return any(file.startswith(f"{place}/") for place in far)


class Aside:
    """A Python of ours that opens what is far away. It ends with us, or after IDLE seconds without a question.

    One that does not answer is killed, and ends when its file system lets it: nobody waits for that. Each leaves less
    patience for the next, PATIENCE * 1.7 in all.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.child: subprocess.Popen[bytes] | None = None
        self.left: list[subprocess.Popen[bytes]] = []

    def ask(self, what: str, *words: object) -> Any:
        """What the function "module:name" gives for `words`. Raises OSError, also where there is no answer in time."""
        import pickle
        import select
        import subprocess

        with self.lock:
            if self.child is None or self.child.poll() is not None:
                here = str(Path(__file__).parents[2])
                code = f"import sys; sys.path.insert(0, {here!r}); from {__name__} import serve; serve()"
                self.child = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            child, patience = self.child, PATIENCE / (1 + len(self.left)) ** 2
            assert child.stdin is not None and child.stdout is not None
            try:
                child.stdin.write(pickle.dumps((what, words)))
                child.stdin.flush()
                if not select.select([child.stdout], [], [], patience)[0]:
                    raise TimeoutError(errno.ETIMEDOUT, "its file system does not answer")
                is_answer, found = pickle.load(child.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                child.kill()
                self.left.append(child)
                self.child = None
                raise OSError(errno.ETIMEDOUT, str(error)) from error
        if not is_answer:
            raise OSError(errno.EIO, found)
        return found


aside = Aside()


def serve() -> None:
    """What `Aside` runs: a question after the other."""
    import importlib
    import pickle
    import select

    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    while select.select([asked], [], [], IDLE)[0]:
        try:
            what, words = pickle.load(asked)
        except EOFError:
            return
        module, _, name = what.partition(":")
        try:
            found = True, getattr(importlib.import_module(module), name)(*words)
        except (OSError, ValueError, LookupError) as error:
            found = False, str(error)
        answers.write(pickle.dumps(found))
        answers.flush()
