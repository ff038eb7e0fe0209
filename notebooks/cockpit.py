"""The notebook's desk: what is needed, one target, and what came of it. It decides nothing: the engine does.

with errors_as_sentences():   # a cell: what cannot be done becomes a sentence, never a traceback
    desk = open_desk(lambda: Desk(resolve(4284)))
    desk.capture(); desk.answer
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Callable

sys.dont_write_bytecode = True  # a skills folder is often read-only, and never ours to litter
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import targets
import views
from hangdebug import triage
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.capture import processes, pyspy
from hangdebug.capture.bundle import Pause, sleep_between
from hangdebug.capture.processes import Target, resolve
from hangdebug.errors import HangError, ours
from hangdebug.evidence.model import Evidence
from hangdebug.observe import new_folder, observe
from hangdebug.repair import fix, scan
from hangdebug.repair.model import Patch, Probe
from hangdebug.repair.proof.pressure import Pressure, pressure
from hangdebug.repair.proof.verify import Verification, verify
from hangdebug.report import incident, page
from hangdebug.report import text as report
from hangdebug.scene.scene import scene

PATIENCE = 1800.0  # seconds for which the demo hangs: time to read every cell
PIP = f"{Path(sys.executable).name} -m pip install"
OnProbe = Callable[[Probe], object]


def quiet(*what: object) -> None:
    """Says nothing."""


class Interrupted(KeyboardInterrupt):
    """Stops "Run all" as Ctrl-C should; IPython prints the one line."""

    def _render_traceback_(self) -> list[str]:
        return ["Interrupted; what was saved stays.\nNext: run this cell again, or the last one to clean up."]


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Around a cell: what cannot be done becomes a sentence with the next command."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    except expected() as error:
        print(views.neutral(sentence(error)))


def expected() -> tuple[type[Exception], ...]:
    try:
        import psutil

        import lab
    except ImportError:
        return (HangError, ImportError, NameError, OSError)
    return (HangError, ImportError, NameError, OSError, lab.LabError, psutil.Error)


def sentence(error: Exception) -> str:
    """What, why, next. A NameError outside of the notebook's own cells is a bug, and raised."""
    if isinstance(error, NameError):
        last = error.__traceback__
        while last.tb_next:
            last = last.tb_next
        if last.tb_frame.f_globals.get("__name__") != "__main__":
            raise error
        return f"`{error.name}` is not there yet.\nNext: run the cells above; the first that failed says why."
    if isinstance(error, ImportError):
        return f"{error.name} is not installed.\nNext: {PIP} {error.name}"
    return str(error)


def ready() -> views.Shown:
    """What the notebook needs, whether it is there, and the command that gets it."""
    try:
        spy, install = pyspy.program(), ""
    except HangError as error:
        spy, install = "", error.next
    rows = [
        ("py-spy reads stacks", spy, install),
        ("curl asks the server", shutil.which("curl"), "sudo apt-get install curl"),
    ]
    for use, module in (
        ("psutil finds processes", "psutil"),
        ("ipywidgets shows the panel", "ipywidgets"),
        ("matplotlib draws", "matplotlib"),
        ("FastAPI is the demo", "fastapi"),
        ("uvicorn serves it", "uvicorn"),
        ("requests reads its feeds", "requests"),
    ):
        rows.append((use, importlib.util.find_spec(module), f"{PIP} {module}"))
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")  # the demo opts in, so it is always allowed
    free = os.geteuid() == 0 or not scope.is_file() or scope.read_text().strip() == "0"
    rows.append(
        (
            "permission to attach to what is yours",
            free,
            f"for a process of your own, your decision: sudo {ours('capture', '--pid', 'PID', root=True)}",
        )
    )
    shown = [(use, "yes", "") if there else (use, "MISSING", then) for use, there, then in rows]
    away = sum(not there for _, there, _ in rows)
    every = views.table(("needed", "there", "next"), shown)
    head = f"Missing: {away} of {len(rows)}" if away else f"All {len(rows)} things that are needed are here"
    return views.Shown(every.text, f"<details {'open' if away else ''}><summary>{head}</summary>{every.html}</details>")


class Control:
    """A widget, and the text that stands for it where no widget can be shown."""

    def __init__(self, box: Any, text: str) -> None:
        self.box, self.text = box, text

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**self.box._repr_mimebundle_(**kwargs), "text/plain": self.text}


class Demo:
    """The bundled news service, hung on request, and the copy of it that a rewrite may change."""

    def __init__(self, undo: ExitStack, scratch: Path) -> None:
        self.lab = triage.laboratory()
        with triage.failures(self.lab):
            self.news = undo.enter_context(self.lab.newsroom(delay=PATIENCE, args=("--loop", "asyncio")))
            self.copy = self.lab.copy_app(scratch / "newsroom")

    def ask(self, news: Any, aborts: int, on_probe: OnProbe) -> Verification:
        return verify(
            [news.health_url, news.articles_url],
            stream_url=news.stream_url,
            aborts=aborts,
            deadline=1,
            on_probe=on_probe,
        )

    def hang(self, on_probe: OnProbe = quiet) -> Verification:
        """One reader opens the stream, and leaves."""
        return self.ask(self.news, 1, on_probe)

    def repaired(self, aborts: int, on_probe: OnProbe = quiet) -> Verification:
        """Readers leave the copy."""
        with triage.failures(self.lab), self.lab.newsroom(self.copy) as news:
            return self.ask(news, aborts, on_probe)

    def crowds(self, aborts: int = 200) -> dict[str, Pressure]:
        """Many readers leave, twenty at a time, while threads are counted.

        They leave the copy, and one with the full pattern.
        """
        full = self.lab.copy_app(self.copy.with_name("full"))
        self.lab.overlay(full)

        def crowd(app_dir: Path) -> Pressure:
            with triage.failures(self.lab), self.lab.newsroom(app_dir) as news:
                return pressure(news.health_url, news.stream_url, aborts=aborts, deadline=1, pid=news.pid)

        with ThreadPoolExecutor(2) as aside:  # side by side: most of it is waiting
            return dict(zip(("rewritten", "full pattern"), aside.map(crowd, (self.copy, full))))


class Desk:
    """One target, the evidence of it, and what came of it: each verb adds a part. Raises HangError.

    Nothing of a process of the user's is started, signalled, changed or sent a request, unless they said so.
    """

    def __init__(self, target: Target | None = None) -> None:
        self.target, self.demo, self.source = target, None, None
        self.answer = self.mine = self.scene = self.before = self.after = self.case = self.checked = None
        self.patches: list[Patch] = []
        self.written: list[Patch] = []
        self.refusal = "There is no evidence yet."
        self.undo_all = ExitStack()
        self.keep = folder_to_keep()
        views.shorten([Path(sys.executable).parent, Path.cwd()])

    @classmethod
    def given(cls, source: Path | str) -> Desk:
        """A desk with a bundle or a dump on it: a file or folder, or text. Raises HangError."""
        if not str(source).strip():
            raise HangError("Nothing was given.", next="paste the output of: py-spy dump --pid PID")
        desk = cls()
        desk.source = source
        desk.understand(incident.opened(source)[3])
        return desk

    @classmethod
    def uploaded(cls, name: str, content: bytes) -> Desk:
        """The same for what was uploaded, which is kept as long as the desk."""
        with ExitStack() as undo:
            scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="upload-")))
            desk = cls.given(targets.kept(name, content, scratch))
            desk.undo_all = undo.pop_all()
        return desk

    @classmethod
    def demonstration(cls) -> Desk:
        """A desk with the news service on it, in good health."""
        desk = cls()
        with ExitStack() as undo:
            scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="cockpit-")))
            desk.demo = Demo(undo, scratch)
            desk.target, desk.keep = resolve(desk.demo.news.pid), scratch
            desk.undo_all = undo.pop_all()
        views.shorten([Path(sys.executable).parent, desk.demo.news.app_dir, desk.demo.copy, scratch])
        return desk

    @classmethod
    def practice(cls, number: int) -> Desk:
        """A desk with a server that hangs, and that the user is to find out about."""
        import practice

        case = practice.start(number)
        desk = cls(resolve(case.pid))
        desk.case, desk.keep = case, case.folder.parent
        desk.undo_all.callback(case.stop)
        views.shorten([Path(sys.executable).parent, case.folder, case.folder.parent])
        return desk

    @property
    def guessing(self) -> bool:
        """Whether the answer is not to be shown yet."""
        return self.case is not None and self.checked is None

    def check(self, guess: str) -> Any:
        """Compare a guess with the truth of the practice case: a practice.Answer."""
        import practice

        if self.case is None:
            raise HangError("There is no case to guess at.", next="start one under Practice")
        self.checked = practice.check(self.case, guess)
        return self.checked

    def leave(self, on_probe: OnProbe = quiet) -> Verification:
        """A reader of the demo's stream walks away."""
        self.before = self.news.hang(on_probe)
        return self.before

    @property
    def news(self) -> Demo:
        """Raises HangError for a target of the user's."""
        if self.demo is None:
            raise HangError(
                "This step needs the news service.",
                "Your own process is not restarted or sent requests from here.",
                "go on below; to ask it, tick the box in the tab Verification",
            )
        return self.demo

    @property
    def pid(self) -> int | None:
        return self.target.workers[0] if self.target else None

    def capture(self, say: triage.Say = quiet, pause: Pause = sleep_between) -> Path:
        """Save the evidence, then name what is wrong. `pause` may end it early: see hangdebug.observe.observe."""
        if self.target is None:
            raise HangError(
                "There is no process to look at.", "A dump or a bundle is evidence already.", "open its tabs"
            )
        folder = new_folder(self.target, self.keep)
        self.understand(observe(self.target, folder, say, pause))
        self.source = folder
        return folder

    def understand(self, evidence: tuple[Evidence, ...]) -> None:
        self.answer = worst(map(diagnose, evidence))
        self.mine = views.evidence_for(self.answer, evidence)
        self.scene = scene(self.mine)
        self.patches, self.refusal = self.proposal()

    def proposal(self) -> tuple[list[Patch], str]:
        """The rewrites of the blocking frame, or why there are none."""
        pattern = self.answer.remedy and self.answer.remedy.snippet
        instead = (
            f"copy the pattern snippets/{pattern}" if pattern else "see what speaks for the answer, beside the source"
        )
        if self.answer.blocking_frame is None or self.answer.remedy is None or self.answer.remedy.fix is None:
            return [], str(HangError("No rewrite is known for this cause.", next=instead))
        try:
            found = list(scan.patches_for((), report.as_json(self.answer), []))
        except HangError as error:
            return [], str(error)
        said = [str(finding) for patch in found for finding in patch.findings if finding.refused]
        return [patch for patch in found if patch.changed], "\n".join(said) or str(
            HangError("There is nothing to rewrite.", next=instead)
        )

    def write(self, into_own: bool = False) -> list[Path]:
        """Put the rewrite into a copy; into the user's own files only where they said so."""
        if not self.patches:
            raise HangError("There is no rewrite to write.", self.refusal)
        if self.written:
            raise HangError("It is written already.", next="undo it first")
        for patch in self.patches:
            own = patch if into_own and not self.demo else replace(patch, file=str(self.copied(patch)))
            fix.write(own)
            self.written.append(own)
        return [Path(patch.file) for patch in self.written]

    def copied(self, patch: Patch) -> Path:
        """The file's place in the demo's copy; for a file of the user's, a copy beside the evidence."""
        if self.demo:
            return self.demo.copy / Path(patch.file).resolve().relative_to(self.demo.news.app_dir.resolve())
        base = os.path.commonpath([Path(one.file).resolve().parent for one in self.patches])  # two may have one name
        place = (self.source if self.target else self.keep) / "repaired" / Path(patch.file).resolve().relative_to(base)
        place.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(patch.file, place))

    def undo(self) -> list[Path]:
        """Put back what was there, byte by byte."""
        if not self.written:
            raise HangError("There is nothing to undo.", "No rewrite was written from here.")
        undone = []
        while self.written:
            patch = self.written[-1]
            fix.write(replace(patch, before=patch.after, after=patch.before))
            undone.append(Path(self.written.pop().file))
        return undone

    def verify(
        self, url: str = "", stream_url: str = "", aborts: int = 10, agreed: bool = False, on_probe: OnProbe = quiet
    ) -> Verification:
        """Readers leave, curl sends requests: to the demo's repaired copy, or to the user's service if they agreed."""
        if self.demo:
            self.after = self.demo.repaired(aborts, on_probe)
        elif not agreed:
            raise HangError(
                "Nothing was sent.",
                "Your own service is sent requests only if you say so.",
                "tick the box above the button",
            )
        else:
            self.after = verify(url, stream_url=stream_url or None, aborts=aborts, deadline=2, on_probe=on_probe)
        return self.after

    @property
    def checks(self) -> dict[str, Verification]:
        """What was verified so far, by name."""
        return {name: one for name, one in (("as it was", self.before), ("rewritten", self.after)) if one is not None}

    def report(self) -> tuple[Path, Path, Path]:
        """Write report.html, which needs nothing else, report.md and report.json, beside the evidence."""
        if self.source is None:
            raise HangError("There is no evidence to report on.", next="save it first")
        given = self.source.stem if isinstance(self.source, Path) else "paste"
        name = (
            given if self.target else f"evidence-{date.today():%Y%m%d}-{given}"
        )  # which no repository and no package takes up
        here = platform.node() if self.target else ""
        return page.report(self.source, self.keep / f"{name}-report", checks=self.checks, host=here)

    def close(self) -> None:
        """End what this desk started, and drop its scratch folder."""
        self.undo_all.close()

    def __str__(self) -> str:
        if self.target is None:
            return f"The target is a dump of process {self.answer.process.pid or '(no pid in it)'}."
        if self.case:
            return f"The target is {self.case.title}"
        whose = f"the news service, at {self.demo.news.url}," if self.demo else "your process,"
        return f"The target is {whose} pid {self.pid}: {views.neutral(processes.facts(self.pid).command)}"


def open_desk(make: Callable[[], Desk]) -> Desk:
    """A new desk. The one before it is cleared first: no answer about an earlier target may be taken for one
    about this. Raises HangError."""
    close_all()
    DESKS.append(make())
    return DESKS[-1]


def close_all() -> list[int]:
    """Clear every desk. Pids of children that are left, if any."""
    while DESKS:
        DESKS.pop().close()
    return [child.pid for child in processes.require_psutil().Process().children(recursive=True)]


DESKS: list[Desk] = []
atexit.register(close_all)


def folder_to_keep() -> Path:
    """Where evidence of the user's process goes: beside the notebook, unless nothing can be written there."""
    return Path.cwd() if os.access(Path.cwd(), os.W_OK) else Path(tempfile.gettempdir())
