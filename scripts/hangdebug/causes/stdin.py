"""Input is read from the terminal, where nobody sits.

`input()`, `sys.stdin.readline()`, `getpass()` and a prompt of click wait on the server's standard input. They
are C calls at heart; the kernel says `read` on descriptor 0.

Repair: take the answer from the request or from the configuration; run what asks questions as a command of its
own. A server started with `</dev/null` gets EOFError at once, and shows where the question is asked.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence import light as re
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

PROMPTS = ("getpass.py", "click/termui.py", "fileinput.py", "cmd.py", "code.py", "_pyrepl/readline.py")
PACKAGES = ("prompt_toolkit", "questionary", "inquirer", "readchar", "_pyrepl")
OF_A_CHILD = re.compile(r"\.stdin\.(?:write|writelines|flush|close)\(")  # a Popen's: what the child reads
WORDS = ("input", "stdin", "getpass", "getch")
READS = ("read", "select", "pselect6", "poll", "ppoll")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy" or wait.running:
        return None
    if wait.inside(*PROMPTS) or wait.inside_package(*PACKAGES):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}, which asks at the terminal.",))
    by_kernel = wait.in_syscall("read") and set(wait.descriptors) == {0}
    by_line = (
        wait.leaf
        and not OF_A_CHILD.search(wait.text or "")
        and (wait.line_says(*WORDS) or "sys.stdin" in (wait.text or ""))
    )
    unasked = wait.syscall is None
    if not (
        by_kernel
        or (by_line and (unasked or (wait.in_syscall(*READS) and set(wait.descriptors) <= {0}) or on_terminal(wait)))
    ):
        return None
    kinds: set[EvidenceKind] = {"source"} if by_line else set()
    words = [f"Its line reads the standard input: {wait.text}"] if by_line else []
    if by_kernel:
        kinds.add("kernel")
        words.append(f"The kernel has it in {wait.kernel}: the standard input.")
    return Match(frozenset(kinds), tuple(words))


def on_terminal(wait: Wait) -> bool:
    return any(target.startswith(("/dev/tty", "/dev/pts")) for target in wait.descriptors.values())


CAUSE = Cause(
    id="stdin",
    title="the event loop's thread waits for input from a terminal",
    picture="file",
    match=match,
    confused_with={"debugger": "there a breakpoint asks; frames of pdb or bdb are on the stack."},
)
