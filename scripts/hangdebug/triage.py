"""The whole path in a terminal: symptom, evidence, cause, diff, repair on a copy, proof."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from hangdebug import shipped
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.processes import Target, resolve
from hangdebug.errors import HangError, MissingTool, ServiceFailed, ours, printable, to_install
from hangdebug.evidence.light import dataclass
from hangdebug.files import scratch_folder
from hangdebug.observe import new_folder, observe
from hangdebug.repair import fix
from hangdebug.repair.model import Patch
from hangdebug.repair.proof.prove import Running, ended, rows
from hangdebug.repair.proof.server import threads_at_work
from hangdebug.repair.proof.verify import Verification, table, verify
from hangdebug.report.text import as_text

DEADLINE = 1.0  # seconds for a health check that answers in milliseconds when all is well
ABORTS = 10
SETTLE = 3.0  # seconds in which the repaired workers should have noticed that nobody listens any more

GRACE = 4.0  # seconds in which Ctrl-C should end it

Say = Callable[[str], object]


@dataclass(frozen=True)
class Recovery:
    """What became of a repaired service: the proof, pool threads `at_work` for readers who left, and of its end."""

    result: Verification
    at_work: int
    ended: bool

    @property
    def stays(self) -> str:
        """What a repair of the join alone does not mend, "" where nothing is left."""
        threads = f"{self.at_work} pool threads work on {SETTLE:g} s after their readers left" if self.at_work else ""
        late = (
            "" if self.ended else f"after Ctrl-C the process does not end within {GRACE:g} s, for it waits for threads"
        )
        return "; ".join(filter(None, [threads, late])) + "." if threads or late else ""


def own(target: Target, keep: Path, say: Say) -> Diagnosis:
    """Evidence, diagnosis and a proposed diff for a process of the user's. Changes and signals nothing."""
    folder = new_folder(target, keep)
    answer = worst(map(diagnose, observe(target, folder, progress)))
    say(as_text(answer))
    say(printable(f"evidence   {folder}"))
    patch = proposal(answer, say)
    if patch is not None:
        command = answer.remedy and answer.remedy.command
        say(printable(f"\n{fix.diff(patch)}\nNothing was changed. To apply it: {command} --write"))
    return answer


def proposal(answer: Diagnosis, say: Say) -> Patch | None:
    """The rewrite of the blocking frame, None where there is none; what speaks against it is said."""
    frame, remedy = answer.blocking_frame, answer.remedy
    if frame is None or remedy is None or remedy.fix is None:
        return None
    try:
        patch = fix.propose(frame.file, frame.line)
    except HangError as error:
        say(f"No rewrite is proposed. {error}")
        return None
    for finding in patch.findings:
        if finding.refused:
            say(str(finding))
    return patch if patch.changed else None


def demo(keep: Path, say: Say) -> bool:
    """Hang the bundled news service, diagnose it, repair a copy, and prove it. Whether the proof holds.

    Raises ServiceFailed when the service does not start.
    """
    began = time.monotonic()
    lab = laboratory()
    with failures(lab), scratch_folder("triage-") as scratch:
        copy = lab.copy_app(scratch / "newsroom")
        say("1. Start the news service, open its stream, and leave.")
        with lab.newsroom() as news:
            before = replay(news, 1, say)
            say("\n2. Save the evidence before anything is restarted.")
            target = resolve(news.pid)
            folder = new_folder(target, keep)
            answer = worst(map(diagnose, observe(target, folder, progress)))
            say(f"   kept in {folder}\n\n3. Name the cause.\n\n{as_text(answer)}")
            patch = patched(answer, news.app_dir, copy, say)
        if patch is None or before.passed:
            say("\nNOT PROVED: the service did not hang as expected, or no rewrite was found.")
            return False
        shown = replace(patch, file=str(Path(patch.file).relative_to(copy)))
        say(f"\n4. The rewrite, applied to a copy.\n\n{printable(fix.diff(shown))}")
        fix.write(patch)
        say("5. Start the copy, replay the disconnect, end it with Ctrl-C.")
        rewritten = recovered(lab, copy, say)
        lab.overlay(copy)
        say("\n6. The same with the full pattern of snippets/: one pool for the application, a stop event, timeouts.")
        full = recovered(lab, copy, lambda line: None)
    say(compared({"as it was": before}, {"rewritten": rewritten, "full pattern": full}))
    if rewritten.stays:
        say(f"\nWhat the rewrite leaves: {rewritten.stays}\nBy hand: snippets/stream_executor.py, as in step 6.")
    holds = rewritten.result.passed and full.result.passed and not full.stays and answer.state == "loop-blocked"
    say(f"\n{'PROVED' if holds else 'NOT PROVED'} in {time.monotonic() - began:.0f} s.")
    return holds


def patched(answer: Diagnosis, app_dir: Path, copy: Path, say: Say) -> Patch | None:
    """The rewrite of the same file and line in the copy."""
    frame = answer.blocking_frame
    if frame is None:
        return None
    try:
        file = copy / Path(frame.file).resolve().relative_to(Path(app_dir).resolve())
    except ValueError:  # the blocking frame is not in the news service
        return None
    patch = fix.propose(str(file), frame.line)
    return patch if patch.changed else None


def replay(news: Any, aborts: int, say: Say) -> Verification:
    result = verify([news.health_url, news.articles_url], stream_url=news.stream_url, aborts=aborts, deadline=DEADLINE)
    say("\n".join(f"   {line}".rstrip() for line in table(result).splitlines()))
    return result


def recovered(lab: ModuleType, app_dir: Path, say: Say) -> Recovery:
    """Replay the disconnect against the service in `app_dir`, see which threads work on, and end it with Ctrl-C."""
    with lab.newsroom(app_dir) as news:
        result = replay(news, ABORTS, say)
        busy = still_at_work(news.pid)
        measured, _ = ended(Running(news.server.process, news.server.log), signal.SIGINT, GRACE)
        say(f"   {measured or f'It did not end within {GRACE:g} s of SIGINT.'}")
    return Recovery(result, busy, bool(measured))


def still_at_work(pid: int) -> int:
    """How many pool threads are not idle, up to SETTLE seconds from now."""
    deadline = time.monotonic() + SETTLE
    while (busy := threads_at_work(pid) or 0) and time.monotonic() < deadline:
        time.sleep(0.2)
    return busy


def compared(before: dict[str, Verification], after: dict[str, Recovery]) -> str:
    results = {**before, **{name: one.result for name, one in after.items()}}
    more = {
        f"at work {SETTLE:g} s later": {name: str(one.at_work) for name, one in after.items()},
        f"ends within {GRACE:g} s": {name: "yes" if one.ended else "no" for name, one in after.items()},
    }
    return "\n" + "\n".join(f"   {line}" for line in rows(results, more).splitlines())


def laboratory() -> ModuleType:
    """The module that starts the bundled servers; it lives beside the notebook."""
    folder = shipped("notebooks")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        for name in ("fastapi", "requests", "uvicorn"):  # what the news service needs
            import_module(name)
        return import_module("lab")
    except ImportError as error:
        raise MissingTool(
            f"{error.name} is not installed.",
            "The bundled news service needs it; your own process does not.",
            to_install("fastapi", "uvicorn", "requests", "psutil", "py-spy"),
        ) from error


@contextmanager
def failures(lab: ModuleType) -> Iterator[None]:
    try:
        yield
    except lab.LabError as error:
        raise ServiceFailed("The news service did not start.", str(error), ours("triage")) from error


def progress(line: str) -> None:
    print(printable(f"   {line}"), file=sys.stderr, flush=True)
