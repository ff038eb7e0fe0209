"""The notebook's desk: finds the tools, picks the target, runs the demo, cleans up. It diagnoses nothing.

    with told():                  # a cell: what cannot be done becomes a sentence, never a traceback
        desk = open_desk(panel.pid)
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator

sys.dont_write_bytecode = True  # a skills folder is often read-only, and never ours to litter
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import views  # noqa: E402
from hangdebug import triage  # noqa: E402
from hangdebug.capture import processes, pyspy, resolve  # noqa: E402
from hangdebug.errors import HangError  # noqa: E402
from hangdebug.model import Diagnosis, Patch  # noqa: E402

PATIENCE = 1800.0  # seconds for which the demo hangs: time to read every cell
DEMO = 0  # in the list of pids
# What the cells below the target's call their results.
FOUND = "desk urls before folder evidence answer mine patch tick chosen after left full least results".split()
PIP = f"{Path(sys.executable).name} -m pip install"


class Interrupted(KeyboardInterrupt):
    """Stops "Run all" as Ctrl-C should; IPython prints the one line."""

    def _render_traceback_(self) -> list[str]:
        return ["Interrupted; what was taken stays.\nNext: run this cell again, or the last one to clean up."]


@contextmanager
def told() -> Iterator[None]:
    """Around a cell: what cannot be done becomes a sentence with the next command."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    except expected() as error:
        print(views.neutral(sentence(error)))


def expected() -> tuple[type[Exception], ...]:
    try:
        import lab
        import psutil
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
    rows = [("py-spy reads stacks", spy, install),
            ("curl asks the server", shutil.which("curl"), "sudo apt-get install curl")]
    for use, module in (("psutil finds processes", "psutil"), ("libcst proposes the rewrite", "libcst"),
                        ("ipywidgets shows the panel", "ipywidgets"), ("matplotlib draws", "matplotlib"),
                        ("FastAPI is the demo", "fastapi"), ("uvicorn serves it", "uvicorn"),
                        ("requests reads its feeds", "requests")):
        rows.append((use, importlib.util.find_spec(module), f"{PIP} {module}"))
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")  # the demo opts in, so it is always allowed
    free = os.geteuid() == 0 or not scope.is_file() or scope.read_text().strip() == "0"
    rows.append(("permission to attach to what is yours", free,
                 "for a process of your own, your decision: sudo python scripts/hang.py capture --pid PID"))
    shown = [(use, "yes", "") if there else (use, "MISSING", then) for use, there, then in rows]
    return views.table(("needed", "there", "next"), shown)


def python_servers() -> dict[int, str]:
    """Python processes that listen on a TCP port, by pid; workers are found through their parent."""
    ps, found = processes.library(), {}
    family = {os.getpid(), *(parent.pid for parent in ps.Process().parents())}
    for process in ps.process_iter():
        line = processes.command(process)
        if process.pid in family or not processes.is_python(process) or re.search("ipykernel|jupyter", line):
            continue
        ports = sorted({c.laddr.port for c in processes.connections(process) if c.status == ps.CONN_LISTEN})
        if ports and processes.quietly(process.ppid) not in found:
            facts = (processes.shorten(process)[-60:], f"port {', '.join(map(str, ports))}",
                     f"{processes.quietly(process.num_threads)} threads")
            found[process.pid] = "  ".join((str(process.pid), *facts))
    return found


class Control:
    """A widget, and the text that stands for it where no widget can be shown."""

    def __init__(self, box: Any, text: str) -> None:
        self.box, self.text = box, text

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**self.box._repr_mimebundle_(**kwargs), "text/plain": self.text}


class Panel(Control):
    """Picks the target: `pid` is None for the news service. HANG_PID in the environment fills in a pid."""

    def __init__(self) -> None:
        import ipywidgets as w
        style = {"description_width": "5em"}
        self.choice = w.Dropdown(description="target", style=style, layout=w.Layout(width="46em"))
        given = os.environ.get("HANG_PID", "")
        self.typed = w.Text(given, description="or a pid", placeholder="4284", style=style)
        self.again = w.Button(description="look again", tooltip="List the Python servers that listen now")
        self.again.on_click(self.look)
        self.look()
        text = "[a panel: the news service, any Python server on this machine, or a pid that you type]"
        super().__init__(w.VBox([w.HBox([self.choice, self.again]), self.typed]), text)

    def look(self, button: object = None) -> None:
        """List the servers anew; the choice stays if it is still there."""
        chosen, found = self.choice.value, python_servers()
        listed = [(text, pid) for pid, text in found.items()]
        self.choice.options = [("the news service (demo)", DEMO), *listed]
        self.choice.value = chosen if chosen in found else DEMO

    @property
    def pid(self) -> int | None:
        """Raises HangError where something was typed that is no pid."""
        text = self.typed.value.strip()
        if text and not text.isdecimal():
            raise HangError(f"{text!r} is no process id.", next="type a number, or leave the field empty")
        return int(text) if text else self.choice.value or None


def tick_box(desk: Desk) -> Control:
    """To be ticked before a file of the user's is changed. It cannot be ticked in the demo."""
    import ipywidgets as w
    text = "write it into my own file" + ("" if desk.own else " (not in the demo: it has a copy)")
    wide = w.Layout(width="40em")
    box = w.Checkbox(False, description=text, disabled=not desk.own, indent=False, layout=wide)
    return Control(box, f"[ ] {text}")


class Desk:
    """The target of this session, the demo if it is the target, and the folders in use.

    Nothing of a process of the user's is started, signalled or loaded with requests. Raises HangError.
    """

    def __init__(self, pid: int | None = None) -> None:
        self.own = pid is not None
        with ExitStack() as undo:
            scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="cockpit-")))
            if pid is None:
                self._lab = triage.laboratory()
                with triage.failures(self._lab):
                    service = self._lab.newsroom(delay=PATIENCE, args=("--loop", "asyncio"))
                    self._news = undo.enter_context(service)
                    self._copy = self._lab.copy_app(scratch / "newsroom")
            self.target = resolve(self._news.pid if pid is None else pid)
            self.keep = scratch if pid is None else folder_to_keep()
            self._undo = undo.pop_all()
        demo = [] if self.own else [self._news.app_dir, self._copy, scratch]
        views.shorten([Path(sys.executable).parent, *demo])

    @property
    def pid(self) -> int:
        return self.target.workers[0]

    @property
    def lab(self) -> ModuleType:
        """The module that runs the demo's servers. Raises HangError for a process of the user's."""
        self.demo_only()
        return self._lab

    @property
    def news(self) -> Any:
        """The running news service, a lab.Newsroom."""
        self.demo_only()
        return self._news

    @property
    def copy(self) -> Path:
        """The copy of the news service that a rewrite may change."""
        self.demo_only()
        return self._copy

    def demo_only(self) -> None:
        if self.own:
            raise HangError("This step needs the news service.",
                            "Your own process is not restarted or sent requests from here.",
                            "go on below; to ask it: python scripts/hang.py verify --url YOUR_HEALTH_URL")

    def to_write(self, patch: Patch | None, answer: Diagnosis, ticked: bool) -> Patch:
        """The rewrite of the demo's copy, or of the user's file where they said so."""
        if patch is None:
            pattern = answer.remedy and answer.remedy.snippet
            copied = f"copy snippets/{pattern}" if pattern else "see the report below"
            raise HangError("There is no rewrite to write.", next=copied)
        if self.own and not ticked:
            raise HangError("Nothing was changed.", f"The rewrite would go into your file {patch.file}.",
                            "tick the box above and run this cell again")
        return patch if self.own else triage.patched(answer, self.news.app_dir, self.copy, print)

    def close(self) -> list[int]:
        """End what this desk started, and drop its scratch folder. Pids of children that are left, if any."""
        self._undo.close()
        return [child.pid for child in processes.library().Process().children(recursive=True)]

    def __str__(self) -> str:
        facts = processes.facts(self.pid)
        whose = "your process," if self.own else f"the news service, at {self._news.url},"
        return f"The target is {whose} pid {self.pid}: {views.neutral(facts.command)}"


def open_desk(pid: int | None) -> Desk:
    """A new desk. The one before it is cleared first, with all that was found on it: no answer about an
    earlier target may be taken for one about this. Raises HangError."""
    while DESKS:
        DESKS.pop().close()
    for name in FOUND:
        vars(sys.modules["__main__"]).pop(name, None)
    DESKS.append(Desk(pid))
    return DESKS[-1]


DESKS: list[Desk] = []
atexit.register(lambda: [desk.close() for desk in DESKS])


def folder_to_keep() -> Path:
    """Where evidence of the user's process goes: beside the notebook, unless nothing can be written there."""
    return Path.cwd() if os.access(Path.cwd(), os.W_OK) else Path(tempfile.gettempdir())
