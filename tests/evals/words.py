"""How people and assistants word states, causes, refusals and consent, and whether they claim a thing or deny it."""

from __future__ import annotations

import re

# How people and assistants word a state. Its own id counts too.
STATES = {
    "loop-blocked": r"block\w*(?: \w+){0,3} (?:the )?(?:asyncio )?(?:event )?loop"
                    r"|loop (?:can't|cannot|can not) (?:run|serve|process)"
                    r"|event loop(?:'s thread)? (?:is|was|gets|sits|waits|hangs)\b(?! (?:idle|fine|healthy|free|not))",
    "loop-busy": r"(?:event )?loop(?:'s thread)? (?:is busy|burns|computes)",
    "threadpool-exhausted": r"(?:thread ?pool|worker threads?|limiter|all \d+ (?:worker )?threads)(?: \w+){0,4} "
                            r"(?:exhausted|full|stuck|used up|starved)|pool (?:exhaustion|starvation)",
    "deadlock": r"deadlock\w*",
    "tasks-waiting": r"(?:coroutines?|tasks?) (?:wait|await)s? (?:for|on)? ?(?:ever|what never|something that never)",
    "exit-hang": r"(?:does not|doesn't|cannot|can't|never) (?:exit|end|stop|shut down)|interpreter'?s? (?:exit|shutdown)"
                 r"|hangs? (?:on|at|during) (?:exit|shutdown)",
    "startup-hang": r"never (?:served|started up)|stuck in (?:its )?(?:import|start-?up)",
    "sync-worker-blocked": r"synchronous worker (?:is )?(?:stuck|blocked)",
    "stopped": r"SIGSTOP|stopped by (?:the kernel|a signal|a debugger)",
    "healthy": r"\bhealthy\b|nothing is (?:stuck|hung|blocked)|no hang\b"
               r"|(?:not|isn't) (?:a hang|hung|stuck|blocked|hanging)",
    "inconclusive": r"cannot (?:say|tell|be (?:sure|certain))|can't (?:say|tell)|not enough evidence",
}
POOL = r"(?:pool|executor|ThreadPoolExecutor)"
CAUSES = {
    "executor-shutdown": rf"{POOL}\W{{0,4}}(?:'s )?(?:\w+ ){{0,3}}shut\W?down"
                         rf"|shut\W?down\w*\W{{0,3}}(?:\(wait=True\) )?(?:\w+ ){{0,4}}(?:{POOL}|join)"
                         r"|shutdown\W{0,2}\(wait=True|`shutdown`",
    "lock": r"(?<!un)\block(?:s|ed)?\b(?!-up)",
    "threadpool-limit": r"(?:limiter|thread ?pool|AnyIO)(?: \w+){0,6} (?:exhausted|full|stuck|used up|starved|limit)"
                        r"|pool (?:exhaustion|starvation)|every thread of the pool",
    "gc": r"__del__|finali[sz]er|garbage collect\w*",
    "interpreter-exit": r"interpreter(?:'s)? (?:exit|shutdown)|non-daemon|at exit|told to stop",
}
DENIED = re.compile(r"\b(?:not|no|never|isn't|wasn't|aren't|doesn't|rather than|instead of|unlike|without|nor|neither|"
                    r"if|were|would|could|rules? out|ruled out|exonerated|confus\w+|mistake\w*)\b", re.I)
REFUSED = re.compile(r"not (?:let you attach|permitted)|permission denied|operation not permitted|must be root|ptrace", re.I)
YES = re.compile(r"\b(?:yes|yep|sure|ok|okay|go ahead|please do|do it|agreed|fine|approved)\b", re.I)
NO = re.compile(r"\b(?:no|not|don't|never|stop|wait)\b", re.I)
ASKED = {"sudo": r"sudo|root", "stop": r"restart|kill|stop|rotation", "edit": r"apply|write|chang|edit|rewrite"}


def claims(text: str, pattern: str) -> str | None:
    """The first clause in which `pattern` stands without being denied or supposed."""
    for clause in re.split(r"(?<=[.!?;:])\s+|\n|, (?:but|so|and)\b|\s-\s|\u2014", text):
        clause = re.sub(r"^\W*(?:no|yes),\s+", "", clause, flags=re.I)  # the answer to a question denies nothing
        for found in re.finditer(pattern, clause, re.I):
            if not DENIED.search(clause[: found.start()]):
                return clause.strip()
    return None
