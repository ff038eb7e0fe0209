"""The whole path in a terminal: symptom, evidence, cause, diff, repair on a copy, proof."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import pyspy
from hangdebug.capture.processes import Target, resolve
from hangdebug.errors import HangError, MissingTool, ServiceFailed
from hangdebug.evidence.paste import read
from hangdebug.observe import new_folder, observe
from hangdebug.repair import fix
from hangdebug.repair.model import Patch
from hangdebug.repair.proof.verify import Verification, table, verify
from hangdebug.report.text import as_text
from hangdebug.scene.scene import scene

DEADLINE = 1.0  # seconds for a health check that answers in milliseconds when all is well
ABORTS = 10
SETTLE = 3.0  # seconds in which the repaired workers should have noticed that nobody listens any more

Say = Callable[[str], object]


def own(target: Target, keep: Path, say: Say) -> Diagnosis:
    """Evidence, diagnosis and a proposed diff for a process of the user's. Changes and signals nothing."""
    folder = new_folder(target, keep)
    answer = worst(map(diagnose, observe(target, folder, progress)))
    say(as_text(answer))
    say(f"evidence   {folder}")
    patch = proposal(answer, say)
    if patch is not None:
        say(f"\n{fix.diff(patch)}\nNothing was changed. To apply it: {answer.remedy and answer.remedy.command} --write")
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
    with failures(lab), tempfile.TemporaryDirectory(prefix="triage-") as scratch:
        copy = lab.copy_app(Path(scratch) / "newsroom")
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
        say(f"\n4. The rewrite, applied to a copy.\n\n{fix.diff(shown)}")
        fix.write(patch)
        say("5. Start the copy, replay the disconnect.")
        after, left = recovered(lab, copy, say)
        lab.overlay(copy)
        say("\n6. The same with the full pattern of snippets/: one pool for the application, a stop event, timeouts.")
        full, least = recovered(lab, copy, lambda line: None)
    say(
        compared(
            {"as it was": before, "rewritten": after, "full pattern": full}, {"rewritten": left, "full pattern": least}
        )
    )
    holds = after.passed and full.passed and answer.state == "loop-blocked"
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


def recovered(lab: ModuleType, app_dir: Path, say: Say) -> tuple[Verification, int]:
    """The verification of the service in `app_dir`, and how many pool threads still work for readers who left."""
    with lab.newsroom(app_dir) as news:
        return replay(news, ABORTS, say), still_at_work(news.pid)


def still_at_work(pid: int) -> int:
    """How many pool threads are not idle, up to SETTLE seconds from now."""
    deadline = time.monotonic() + SETTLE
    busy = at_work(pid)
    while busy and time.monotonic() < deadline:
        time.sleep(0.2)
        busy = at_work(pid)
    return busy


def at_work(pid: int) -> int:
    """How many pool threads of a process are not idle now, in one dump."""
    seen = scene(evidence_of(read(pyspy.dump(pid)))[0])
    return sum(not view.idle for view in seen.threads("worker"))


def compared(results: dict[str, Verification], left: dict[str, int]) -> str:
    head = ("", "probes", "failed", "slowest answer", "aborts", f"threads at work {SETTLE:g} s later")
    rows = [head]
    for name, result in results.items():
        lost = any(probe.status is None for probe in result.probes)
        slowest = "no answer" if lost else f"{max(probe.seconds for probe in result.probes):.3f} s"
        rows.append(
            (
                name,
                str(len(result.probes)),
                str(len(result.failed)),
                slowest,
                str(result.aborts),
                str(left.get(name, "-")),
            )
        )
    return "\n" + "\n".join(f"   {row[0]:14}" + "  ".join(map(str.rjust, row[1:], map(len, head[1:]))) for row in rows)


def laboratory() -> ModuleType:
    """The module that starts the bundled servers; it lives beside the notebook."""
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        for name in ("fastapi", "requests", "uvicorn"):  # what the news service needs
            import_module(name)
        return import_module("lab")
    except ImportError as error:
        raise MissingTool(
            f"{error.name} is not installed.",
            "The bundled news service needs it; your own process does not.",
            "make triage   # or: pip install fastapi uvicorn requests psutil py-spy",
        ) from error


@contextmanager
def failures(lab: ModuleType) -> Iterator[None]:
    try:
        yield
    except lab.LabError as error:
        raise ServiceFailed("The news service did not start.", str(error), "make triage") from error


def progress(line: str) -> None:
    print(f"   {line}", file=sys.stderr, flush=True)
