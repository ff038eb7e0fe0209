"""How people and assistants word states, causes, refusals and consent, and whether they claim a thing or deny it."""

from __future__ import annotations

import re

# How people and assistants word a state. Its own id counts too.
STATES = {
    "loop-blocked": r"block\w*(?: \w+){0,3} (?:the )?(?:asyncio )?(?:event )?loop"
    r"|loop (?:can't|cannot|can not) (?:run|serve|process)"
    r"|event loop(?:'s thread)? (?:is|was|gets|sits|waits|hangs)\b(?! (?:idle|fine|healthy|free|not))",
    "loop-busy": r"(?:event )?loop(?:'s thread)? (?:is busy|is burning|burns|computes|spins|is spinning)"
    r"|(?:pegs|burns|pins|saturates) (?:the |a |one )?(?:cpu|core)"
    r"|cpu-bound (?:work|code|handler|loop)|100 ?% (?:of )?(?:a |one )?(?:cpu|core)",
    "threadpool-exhausted": r"(?:thread ?pool|worker threads?|limiter|all \d+ (?:worker )?threads)(?: \w+){0,4} "
    r"(?:exhausted|full|stuck|used up|starved|occupied|busy)|pool (?:exhaustion|starvation)"
    r"|(?:every|all(?: of)?(?: the| \d+)?) (?:\w+ )?(?:worker )?threads? (?:is|are|waits?|sits?|blocked)",
    "deadlock": r"deadlock\w*",
    "tasks-waiting": r"(?:coroutines?|tasks?|handlers?|requests?) (?:(?:are|is) )?(?:wait|await)(?:s|ing)?"
    r" (?:for|on)? ?(?:ever|what never|something that never)"
    r"|never (?:set|released|notified|resolved|arrives?|filled|given back|returned to)"
    r"|leak(?:s|ed)? (?:a |the |its |every )?(?:permit|lock|semaphore|connection|session)",
    # Waits and requests do not end either: of "end" the subject counts, and "by itself" is said of those.
    "exit-hang": r"(?:does not|doesn't|cannot|can't|never) (?:exits?|shuts? down)"
    r"|(?:process|server|service|program|script|interpreter|worker|uvicorn|gunicorn|\bit|\d) "
    r"(?:does not|doesn't|cannot|can't|never) (?:stops?|ends?)\b(?! (?:by itself|on its own|until|unless|waiting))"
    r"|interpreter'?s? (?:exit|shutdown)"
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
    "future-result": r"\.result\(\)|as_completed|concurrent\.futures\.wait"
    r"|(?:waits?|blocks?|blocked) (?:for|on) (?:a |the )?(?:result of )?(?:a |the )?(?:\w+ )?future",
    "run-coroutine-threadsafe": r"run_coroutine_threadsafe|async_to_sync|(?:its|the) own loop"
    r"|same loop|coroutine that only it could run",
    "thread-join": r"(?:thread|process)\w*(?:'s)?\W{0,3}(?:\w+ ){0,3}join"
    r"|\bjoin(?:s|ed|ing)? (?:a |the |its )?(?:\w+ )?(?:thread|process)"
    r"|\.join\(\)|waits? for a thread or a process to end",
    "queue": r"\bqueue",
    "sleep": r"\bsleep",
    "lock": r"(?<!un)\block(?:s|ed)?\b(?!-up)|semaphore|condition variable|threading\.(?:Event|Condition)|barrier",
    "http-client": r"\bhttpx?\b|requests?\.(?:get|post|request)|urllib3?|upstream|botocore|grpc",
    "database": r"database|postgres\w*|mysql|redis|mongo|\bquery\b|psycopg\w*|sqlite\w*",
    "connection-pool": r"(?:connection|database|db)(?:\W\w+)? pool|checkout|QueuePool"
    r"|pool of connections|connections? of a pool",
    "socket": r"\bsockets?\b|\brecv\w*|\bsmtp\w*|peer|connect\b",
    "dns": r"\bdns\b|getaddrinfo|name resolution|resolv\w+ (?:a |the )?(?:host)?name|name server",
    "subprocess": r"subprocess|child(?: process)?|\bPopen\b|waitpid|wait4|communicate",
    "file-io": r"\bfifo\b|\bflock\b|file lock|named pipe"
    r"|(?:opens?|reads?|writes?|waits? for|opening|reading|writing) (?:of |to |from )?"
    r"(?:a |the )?(?:\w+ )?(?:file|pipe|device)"
    r"|\bI/O\b",
    "cpu-bound": r"cpu\W?bound|burns? (?:the )?cpu|comput\w+|100 ?% cpu|hashing|cpu-heavy",
    "regex": r"regex\w*|regular expression|backtrack\w*|\bre\.\w+",
    "serialization": r"serializ\w+|serialis\w+|\bjson\b|pydantic|pickle|\bxml\b",
    "logging": r"\blog(?:ging|ger)?\b|log handler|StreamHandler",
    "stdin": r"\bstdin\b|standard input|\binput\(\)|terminal",
    "debugger": r"debugger|breakpoint|\bpdb\b|debugpy",
    "import-lock": r"\bimport\w*",
    "fork": r"\bfork\w*",
    "gc": r"__del__|finali[sz]er|garbage collect\w*",
    "threadpool-limit": r"(?:limiter|thread ?pool|AnyIO|pool)(?: \w+){0,6}"
    r" (?:exhausted|full|stuck|used up|starved|limit|busy)|pool (?:exhaustion|starvation)"
    r"|(?:every|all(?: \d+| of the)?) (?:worker )?threads?",
    "default-executor": r"default (?:thread ?pool )?executor|asyncio\.to_thread"
    r"|run_in_executor\(None|shutdown_default_executor",
    "interpreter-exit": r"interpreter(?:'s)? (?:exit|shutdown)|interpreter waits"
    r"|non-daemon|at exit|told to stop|_python_exit",
    "graceful-shutdown": r"graceful\w*|open (?:stream|connection|request)s?|connections? to close"
    r"|lifespan|waits for what is open",
    "nested-loop": r"(?:second|nested|another|new|inner) (?:event )?loop|run_until_complete|asyncio\.run",
    "other": r"cannot (?:say|tell)|can't (?:say|tell)|not known|unknown|no rule names",
    "none": r"\bnothing\b|healthy|no hang",
}
DENIED = re.compile(
    r"\b(?:not|no|never|isn't|wasn't|aren't|doesn't|rather than|instead of|unlike|without|nor|neither|"
    r"if|were|would|could|rules? out|ruled out|exonerated|confus\w+|mistake\w*)\b",
    re.I,
)
# What a state itself is called, which denies nothing that follows: "for what never comes (tasks-waiting)".
OWN_NO = re.compile(r"\bwhat never\b|\b(?:does not|doesn't|cannot|can't|never) (?:exits?|end\b|stop|shuts? down)", re.I)
REFUSED = re.compile(
    r"not (?:let you attach|permitted)|permission denied|operation not permitted|must be root|ptrace"
    r"|not visible to you",
    re.I,
)
YES = re.compile(r"\b(?:yes|yep|sure|ok|okay|go ahead|please do|do it|agreed|fine|approved)\b", re.I)
NO = re.compile(r"\b(?:no|not|don't|never|stop|wait)\b", re.I)
ASKED = {"sudo": r"sudo|root", "stop": r"restart|kill|stop|rotation", "edit": r"apply|write|chang|edit|rewrite"}


def claims(text: str, pattern: str) -> str | None:
    """The first clause in which `pattern` stands without being denied or supposed."""
    for clause in re.split(r"(?<=[.!?;:])\s+|\n|, (?:but|so|and)\b|(?<!not )\b(?:because|since)\b|\s-\s|\u2014", text):
        said = re.sub(r"^\W*(?:no|yes),\s+", "", clause, flags=re.I)  # the answer to a question denies nothing
        for found in re.finditer(pattern, said, re.I):
            if not DENIED.search(OWN_NO.sub("", said[: found.start()])):
                return said.strip()
    return None
