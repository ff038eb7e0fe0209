"""What this tool writes: each file whole or not at all, readable for its user alone, and no trace of what broke off.

The names of half-written files are chosen here, before they are made: Ctrl-C can come between any two steps.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hangdebug.errors import CannotWrite, ours

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MINE, MY_FOLDER = 0o600, 0o700  # whatever the umask says: evidence is nobody else's business
FULL = (errno.ENOSPC, errno.EDQUOT)
written: set[Path] = set()  # files and folders that are new, as absolute paths, where sudo started this


def write_whole(path: Path, content: bytes | str) -> None:
    """Put `content` into the file, in one step. Raises CannotWrite."""
    try:
        replace_file(path, content.encode("utf-8", "replace") if isinstance(content, str) else content)
        note(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def replace_file(path: Path, content: bytes, like: os.stat_result | None = None) -> None:
    """The same, with the owner, the mode and the attributes of what is there, where that is given. Raises OSError."""
    with replacing(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MINE)
        with os.fdopen(descriptor, "wb") as output:
            if like is not None and (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, like.st_uid, like.st_gid)  # root mends a user's file
            if like is not None:
                copy_attributes(path, descriptor)
            os.fchmod(descriptor, MINE if like is None else stat.S_IMODE(like.st_mode))  # fchown clears bits
            output.write(content)
            output.flush()
            if like is not None:
                os.fsync(descriptor)


def copy_attributes(path: Path, descriptor: int) -> None:
    """Access lists, labels and the like, as far as this user may set them."""
    for name in os.listxattr(path) if hasattr(os, "listxattr") else ():
        with suppress(OSError):
            os.setxattr(descriptor, name, os.getxattr(path, name))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path`. What is there at the end of the block takes its place; after an error it is removed."""
    partial = path.with_name(f".hang-{os.urandom(8).hex()}.part")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with uninterrupted(), suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def make_folder(path: Path) -> None:
    """The folder and those above it, where they are missing. Raises CannotWrite."""
    try:
        for one in (*reversed(path.parents), path):
            if not one.is_dir():
                with suppress(FileExistsError):
                    one.mkdir(MY_FOLDER)
                    one.chmod(MY_FOLDER)
                    note(one)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise cannot_write(path, error) from error


def note(path: Path) -> None:
    """Remember that it is new, for hand_over()."""
    if caller() is not None:
        written.add(path.absolute())


def caller() -> tuple[int, int] | None:
    """User and group of whoever started this by sudo; None where nobody did."""
    ids = [os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return (int(ids[0]), int(ids[1])) if is_root and all(one.isdecimal() and len(one) < 10 for one in ids) else None


def hand_over() -> None:
    """Give what was written by sudo to the user who called it, where the folder around it is theirs already.

    The innermost come first: until its folder is given too, nobody but root can put anything else there. No link is
    followed, and what has another owner or another name by now stays as it is.
    """
    user = caller()
    if user is None:
        return
    for path in sorted(written, key=lambda one: len(one.parts), reverse=True):
        top = next(one for one in (path, *path.parents) if one.parent not in written)
        with suppress(OSError):
            if top.parent.stat().st_uid != user[0]:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                now = os.fstat(descriptor)
                alone = stat.S_ISDIR(now.st_mode) or (stat.S_ISREG(now.st_mode) and now.st_nlink == 1)
                if now.st_uid == 0 and alone:
                    os.fchown(descriptor, *user)
            finally:
                os.close(descriptor)
    written.clear()


@contextmanager
def scratch_folder(prefix: str = "hang-") -> Iterator[Path]:
    """A folder for temporary files, which is gone at the end of the block. Raises CannotWrite."""
    import shutil
    import tempfile

    try:
        place = Path(tempfile.gettempdir()) / f"{prefix}{os.urandom(8).hex()}"
    except OSError as error:
        why = "None of the usual folders takes one: the disk is full, or they are read-only."
        again = f"TMPDIR={shlex.quote(str(Path.home()))} {ours(*sys.argv[1:])}   # another folder, the same command"
        raise CannotWrite("There is no folder for temporary files.", why, again) from error
    try:
        make_folder(place)
        yield place
    finally:
        with uninterrupted():
            shutil.rmtree(place, ignore_errors=True)


def cannot_write(path: Path | str, error: Exception) -> CannotWrite:
    """The sentence for a file or folder that cannot be written."""
    place = shlex.quote(str(Path(path).parent))
    full = isinstance(error, OSError) and error.errno in FULL
    look = f"df -h {place}   # make room there" if full else f"ls -ld {place}   # get leave to write there"
    why = (getattr(error, "strerror", None) or str(error)).rstrip(".")
    return CannotWrite(f"{path} cannot be written.", f"{why}.", f"{look}, or name another place")


# -- Ctrl-C, SIGTERM, a terminal that is closed --------------------------------------------------------

SOON = 0.02  # seconds
ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP")
held: list[int] = []  # one entry for each block that holds an ending back now
heard: list[int] = []  # the signals that came; only the first is obeyed, the rest are what impatience sends


class Ended(KeyboardInterrupt):
    """A signal that ends this run. Everything is put away on its way up.

    Where Python drops it, as it does in a finalizer and in a callback of the import system, it comes again.
    """

    obeyed = False

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __del__(self) -> None:
        if not self.obeyed and signal.getsignal(self.number) is end:
            number = self.number
            heard.clear()
            signal.signal(signal.SIGALRM, lambda *_: end(number))
            signal.setitimer(signal.ITIMER_REAL, SOON)  # what is raised here and now would be dropped too


def listen() -> None:
    """Let each signal that ends a program unwind it: without this, SIGTERM leaves what is half done."""
    for name in ENDINGS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup says so of SIGHUP
            signal.signal(number, end)


def end(number: int, frame: object = None) -> None:
    heard.append(number)
    if len(heard) == 1 and not held:
        raise Ended(number)


def obey(stop: KeyboardInterrupt) -> int:
    """The exit status of a run that was ended so, as a shell knows it."""
    if isinstance(stop, Ended):
        stop.obeyed = True
    return 128 + getattr(stop, "number", signal.SIGINT)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold an ending back until the block is over: between a start, and the note of how to undo it."""
    if threading.current_thread() is not threading.main_thread():  # no other one is interrupted
        yield
        return
    before = len(heard)
    held.append(1)
    try:
        yield
    finally:
        held.pop()
        if len(heard) > before == 0 and not held:
            raise Ended(heard[0])


def thread_pool(most: int, **options: Any) -> ThreadPoolExecutor:
    """One that knows each of its threads: one in whose start an ending comes is nobody's, and goes on after the end."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(most, **options)
    submit = pool.submit

    def held_back(*words: Any, **named: Any) -> Future[Any]:
        with uninterrupted():
            return submit(*words, **named)

    pool.submit = held_back  # type: ignore[method-assign]
    return pool
