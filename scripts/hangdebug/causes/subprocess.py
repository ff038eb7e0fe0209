"""A child process is waited for on the event loop's thread.

`subprocess.run()`, `Popen.wait()` and `communicate()` return when the child has ended; `os.system()`,
`os.waitpid()` and reading a child's output do the same without a frame of their own. A child that fills its
output pipe while nobody reads it never ends.

Repair: `await asyncio.create_subprocess_exec(...)` and `await child.communicate()`, with
`asyncio.wait_for` around it; or `await asyncio.to_thread(subprocess.run, ..., timeout=...)`.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.kernel import CHILDS
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

PACKAGES = ("subprocess", "pexpect", "ptyprocess", "sh", "plumbum", "invoke", "delegator", "git")
WAITS = ("system", "waitpid", "wait3", "wait4", "waitid", "spawnl", "spawnv", "spawnlp", "spawnvp", "popen", "os.wait")
STREAMS = ("stdout", "stderr", "stdin", "communicate")
ON_PIPE = ("read", "write", "poll", "ppoll", "select", "pselect6", "restart_syscall")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy":
        return None
    full = scene.evidence.unread_children and wait.inside("asyncio/streams.py")
    if wait.coroutine and (full or wait.inside("asyncio/subprocess.py")):
        return Match(frozenset({"tasks"}), (f"It awaits {wait.outermost}.",))
    child = wait.in_syscall("wait4", "waitid")
    words = (f"The kernel has it in {wait.kernel}.",) if child else ()
    if wait.inside_package(*PACKAGES) or wait.inside("os.py:close"):
        return Match(frozenset({"frames", "kernel"} if child else {"frames"}), (f"It called {wait.outermost}.", *words))
    if not wait.leaf or wait.running:
        return None
    if child:
        return Match(frozenset({"kernel", "source"} if wait.line_says(*WAITS, "wait") else {"kernel"}), words)
    pipe = wait.in_syscall(*ON_PIPE) and set(wait.descriptors.values()) <= {"pipe"} and 0 not in wait.descriptors
    if childs_stream(scene, wait) and (pipe or wait.syscall is None):
        kinds: set[EvidenceKind] = {"source", "kernel"} if pipe and wait.descriptors else {"source"}
        return Match(frozenset(kinds), (f"Its line uses a child's stream: {wait.text}",))
    if pipe and f"-> pipe, {CHILDS} " in wait.detail:
        return Match(frozenset({"kernel"}), (f"The kernel has it in {wait.kernel}: a child has the other end.",))
    if wait.syscall is None and wait.line_says(*WAITS):
        return Match(frozenset({"source"}), (f"Its line waits for a child process: {wait.text}",))
    return None


def childs_stream(scene: Scene, wait: Wait) -> bool:
    """`child.stdout.readline()` or `for line in child.stdout`, but not sys.stdout's."""
    text = wait.text or ""
    named = any(f".{stream}" in text for stream in STREAMS) and "sys.std" not in text
    lines = scene.evidence.sources.get(wait.frame.file, {}) if wait.frame else {}
    return (
        named
        or "popen" in " ".join(wait.called)
        or any(
            ".stdout" in line and "sys.stdout" not in line and f"{name.split('.')[0]} =" in line
            for line in lines.values()
            for name in wait.called
        )
    )


CAUSE = Cause(
    id="subprocess",
    title="the event loop's thread waits for a child process",
    picture="child",
    fix="to_thread",
    match=match,
    confused_with={
        "thread-join": "a multiprocessing.Process is joined there: Python code in a child of the application's own.",
        "file-io": "a pipe of the application's own looks alike; the line says whose it is.",
    },
    owed="perhaps",
    frames_wait=True,
)
