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
from contextlib import ExitStack
from pathlib import Path

from hangdebug.evidence.light import dataclass

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
    with ExitStack() as kept:
        found = walk(process, file, user_of(process), kept)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", file)
        with open(f"/proc/self/fd/{found}", "rb") as opened:
            return opened.read(most)


def walk(process: str, file: str, user: User, kept: ExitStack) -> int:
    """A descriptor that refers to the file; `kept` closes it. Raises OSError."""
    root = os.readlink(f"{process}/root").rstrip("/")  # "" but in a chroot
    if not file.startswith("/"):
        folder = os.readlink(f"{process}/cwd")
        file = f"{folder[len(root) :] if folder.startswith(f'{root}/') else folder}/{file}"
    top = mark(f"{process}/root", None, kept, follow=True)
    at, todo, links = [top], file.split("/")[::-1], 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at[:-1] or [top]
            continue
        if not user.may(SEARCH, os.fstat(at[-1])):
            raise PermissionError(errno.EACCES, "its own user may not search the folder", file)
        found = mark(part, at[-1], kept)
        if stat.S_ISLNK(os.fstat(found).st_mode):
            target, links = os.readlink("", dir_fd=found), links + 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, "too many links", file)
            at = [top] if target.startswith("/") else at
            todo += target.split("/")[::-1]
        else:
            at.append(found)
    if not user.may(READ, os.fstat(at[-1])):
        raise PermissionError(errno.EACCES, "its own user may not read it", file)
    return at[-1]


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
