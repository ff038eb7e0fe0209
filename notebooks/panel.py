"""The control panel: pick a target, save its evidence, look, repair, prove, report. Widgets, and no logic.

    panel = Panel()
    panel                              # shown, and worked by hand
    panel.save.click(); panel.done()   # or by a cell: the same callbacks, waited for

Each control calls one verb of the desk, of targets or of the engine, and shows what that gives back. Whatever takes
time runs in one thread beside the kernel, which stays free.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from typing import Any, Callable

import ipywidgets as w

import targets
import views
from cockpit import Control, Desk, expected, open_desk, sentence
from hangdebug import pictures
from hangdebug.capture import on_port, resolve
from hangdebug.errors import HangError
from hangdebug.model import Probe
from hangdebug.verify import table

SOURCES = (("A server here", "here"), ("Pid or port", "number"), ("Pasted dump", "paste"), ("A file", "file"))
TABS = ("Source", "Threads", "Kernel waits", "Tasks", "Wait-for graph", "Diff", "Verification", "Report")
EVERY = 2.0  # seconds between two looks at the servers
LOOKS = 9  # of a capture, at each process
DEMO = 0  # among the pids
SHOWN: list[Panel] = []


def button(text: str, tip: str, act: Callable[[], object], icon: str = "") -> w.Button:
    one = w.Button(description=text, tooltip=tip, icon=icon, layout=w.Layout(width="auto"))
    one.on_click(lambda _: act())
    return one


def field(label: str, hint: str, kind: type = w.Text, wide: str = "26em", **more: Any) -> Any:
    return kind(description=label, placeholder=hint, style={"description_width": "6em"}, layout=w.Layout(width=wide), **more)


def tick(label: str) -> w.Checkbox:
    return w.Checkbox(False, description=label, indent=False, layout=w.Layout(width="auto"))


def only(one: Any, when: object) -> None:
    one.layout.display = None if when else "none"


class Work:
    """One thread for all that takes time. A server ends with the thread that started it, so this one never does."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[Callable[[], object]] = queue.Queue()
        self.idle = threading.Event()
        self.idle.set()
        threading.Thread(target=self.go, name="desk", daemon=True).start()

    def do(self, job: Callable[[], object]) -> None:
        self.idle.clear()
        self.jobs.put(job)

    def go(self) -> None:
        while True:
            self.jobs.get()()
            self.idle.set()


WORK = Work()


class Panel(Control):
    """All of it. `desk` is what the panel is about, None until there is a target. HANG_PID fills in a pid."""

    def __init__(self) -> None:
        while SHOWN:
            SHOWN.pop().over.set()
        SHOWN.append(self)
        self.desk: Desk | None = None
        self.of: tuple | None = None  # what the desk was opened for
        self.answered: object = None  # the answer that the tabs show
        self.fault: BaseException | None = None
        self.words, self.doing, self.steps, self.most = "", "", 0, 1
        self.probes: list[Probe] = []
        self.stopped, self.over = threading.Event(), threading.Event()
        self.watch = targets.Watch()
        self.rows: dict[int, tuple[w.Button, w.HTML]] = {}
        super().__init__(self.built(), "[a panel: pick a target, save its evidence, look, repair, prove, report]")
        self.find()
        threading.Thread(target=self.keep_looking, name="health", daemon=True).start()

    # -- its parts ------------------------------------------------------------------------------------

    def built(self) -> w.VBox:
        self.head, self.log = w.HTML(), w.HTML()
        self.place = self.log
        actions = w.HBox(self.action_part()).add_class("hang-actions")
        parts = [w.HTML(f"<style>{STYLE}</style>"), self.head, self.target_part(), actions, self.log, self.answer_part()]
        return w.VBox(parts).add_class("hang")

    def action_part(self) -> list[w.Button]:
        self.start = button("Start the demo", "Start the bundled news service", self.on_start)
        self.hang = button("Let a reader leave", "Open its stream and walk away: that hangs it", self.on_hang)
        self.save = button("Save evidence", "Read the kernel's word and five samples of all stacks into a folder", self.on_save)
        self.read = button("Read it", "Diagnose the dump or the bundle", self.on_read)
        self.stop = button("Stop", "Stop here; what was taken stays", self.stopped.set, "stop")
        return [self.start, self.hang, self.save, self.read, self.stop]

    def target_part(self) -> w.VBox:
        tips = ["Python servers that listen on this machine", "Any Python process", "A stack dump, as text", "A bundle or a dump"]
        given = os.environ.get("HANG_PID", "")
        self.source = w.ToggleButtons(options=SOURCES, tooltips=tips, value="number" if given else "here")
        self.picked, self.list = DEMO, w.VBox()
        self.again = button("Look again", "List the Python servers that listen now", self.find, "refresh")
        self.ask, self.health_url = tick("Ask this URL every 2 s:"), field("", "http://127.0.0.1:8000/health", tooltip="health URL")
        self.pid, self.port = field("pid", "4284", value=given), field("or port", "8000")
        self.paste = field("dump", "the output of: py-spy dump --pid PID", w.Textarea, "100%", rows=8)
        self.upload = w.FileUpload(description="Upload", tooltip="An evidence bundle (.zip) or a dump, up to 8 MB")
        self.path = field("or its path", "evidence.zip on this machine", wide="40em")
        self.bodies = {"here": w.VBox([self.list, w.HBox([self.again, self.ask, self.health_url])]), "paste": self.paste,
                       "number": w.HBox([self.pid, self.port]), "file": w.HBox([self.upload, self.path])}
        for one in (self.source, self.pid, self.port, self.paste, self.upload, self.path):
            one.observe(lambda _: self.show(), "value")
        return w.VBox([self.source, *self.bodies.values()]).add_class("hang-target")

    def answer_part(self) -> w.VBox:
        self.card, self.timeline, self.when = w.HTML(), w.HTML(), w.HTML()
        self.slider = w.IntSlider(1, 1, 1, description="sample", readout=False, layout=w.Layout(width="22em"))
        self.slider.observe(lambda _: self.turned(), "value")
        earlier = button("", "Earlier sample", lambda: self.turn(-1), "chevron-left")
        later = button("", "Later sample", lambda: self.turn(1), "chevron-right")
        turning = w.HBox([self.slider, earlier, later, self.when]).add_class("hang-turning")
        self.pages, self.notes = {name: w.HTML() for name in TABS}, {name: w.HTML() for name in TABS}
        parts = {"Diff": self.diff_part(), "Verification": self.proof_part()}
        pages = [w.VBox([*parts.get(name, []), self.notes[name], self.pages[name]]) for name in TABS]
        self.tabs = w.Tab(pages, titles=TABS)
        self.found = w.VBox([self.card, self.timeline, turning, self.tabs])
        return self.found

    def diff_part(self) -> list[Any]:
        self.own = tick("write it into my own file, not into a copy")
        self.apply = button("Apply the rewrite", "Write it to disk", self.on_apply)
        self.undo = button("Undo", "Put back what was there, byte by byte", self.on_undo, "undo")
        self.rewriting = w.HBox([self.apply, self.undo, self.own]).add_class("hang-actions")
        return [self.rewriting]

    def proof_part(self) -> list[Any]:
        self.url, self.stream = field("health URL", "http://127.0.0.1:8000/health"), field("stream URL", "of an open stream")
        self.agreed = tick("send these requests to my own service")
        self.aborts = field("aborts", "", w.BoundedIntText, "12em", value=10, min=1, max=200)
        self.verify = button("Verify with curl", "Open streams, leave, and ask meanwhile", self.on_verify)
        self.stop_too = button("Stop", "Stop asking", self.stopped.set, "stop")
        self.mine = w.VBox([w.HBox([self.url, self.stream]), self.agreed])
        return [self.mine, w.HBox([self.aborts, self.verify, self.stop_too]).add_class("hang-actions")]

    # -- one callback a control -----------------------------------------------------------------------

    def on_start(self) -> None:
        def begin() -> str:
            if self.key() != ("here", DEMO):
                raise HangError("This step needs the news service.", "Your own process runs already.", "go on below")
            self.open()
            return str(self.desk)
        self.run(begin, "Starting the news service")

    def on_hang(self) -> None:
        self.run(lambda: table(self.about().leave(self.probed)), "A reader opens the stream, and leaves", most=16)

    def on_save(self) -> None:
        def take() -> str:
            if self.desk is None or self.key() != self.of:
                self.open()
            said: list[str] = []
            self.most = LOOKS * len(self.desk.target.workers if self.desk.target else ())
            folder = self.desk.capture(said.append, self.pause)
            said += ["stopped early; what was taken is kept"] if self.stopped.is_set() else []
            return "\n".join([*said, f"kept in {folder}"])
        self.run(take, "Saving the evidence")

    def on_read(self) -> None:
        def understand() -> str:
            self.open()
            return str(self.desk)
        self.run(understand, "Reading")

    def on_apply(self) -> None:
        self.run(lambda: f"written: {', '.join(map(str, self.about().write(self.own.value)))}", "Writing", place="Diff")

    def on_undo(self) -> None:
        self.run(lambda: f"as it was: {', '.join(map(str, self.about().undo()))}", "Undoing", place="Diff")

    def on_verify(self) -> None:
        self.run(lambda: table(self.about().verify(self.url.value.strip(), self.stream.value.strip(), self.aborts.value,
                                                   self.agreed.value, self.probed)),
                 "Readers leave, curl asks", place="Verification", most=12 + 4 * -(-self.aborts.value // 5) + 10)

    def turn(self, by: int) -> None:
        self.slider.value += by

    def pick(self, pid: int) -> None:
        self.picked = pid
        self.show()

    # -- work -----------------------------------------------------------------------------------------

    def run(self, verb: Callable[[], str], doing: str, place: str = "", most: int = 0) -> None:
        """Do it beside the kernel, one thing at a time; then show what it says, or why it could not."""
        if not WORK.idle.is_set():
            return
        self.stopped.clear()
        self.probes = []
        self.fault, self.words, self.doing, self.steps, self.most = None, "", doing, 0, most
        self.place = self.notes[place] if place else self.log
        WORK.idle.clear()
        self.show()
        WORK.do(lambda: self.attempt(verb))

    def attempt(self, verb: Callable[[], str]) -> None:
        try:
            self.words = views.neutral(verb())
        except expected() as error:
            self.fault, self.words = error, views.neutral(sentence(error))
        except BaseException as error:  # a bug: a cell raises it, and a person reads one sentence
            self.fault = error
            self.words = f"The notebook has a fault: {type(error).__name__}: {error}\nNext: restart the kernel, and run all cells"
        self.doing = ""
        self.show()

    def done(self) -> str:
        """Wait for what was begun, and give back its words. Raises what it raised."""
        try:
            while not WORK.idle.wait(0.1):
                pass
        except KeyboardInterrupt:
            self.stopped.set()
            WORK.idle.wait(10)
            raise
        if self.fault:
            raise self.fault
        return self.words

    def pause(self, seconds: float) -> bool:
        """Between two looks of a capture."""
        self.steps += 1
        self.place.value = meter(self.doing, self.steps, self.most)
        return self.stopped.wait(seconds)

    def probed(self, probe: Probe) -> None:
        self.probes.append(probe)
        self.pause(0)
        self.place.value += asked_so_far(self.probes)
        if self.stopped.is_set():
            raise HangError("Stopped.", "The requests until then are not kept.", "press the button again to begin anew")

    def key(self) -> tuple:
        """What the controls point at."""
        given = {"here": (self.picked,), "number": (self.pid.value.strip(), self.port.value.strip()), "paste": (self.paste.value,),
                 "file": (self.path.value.strip(), tuple((one["name"], bytes(one["content"])) for one in self.upload.value))}
        return (self.source.value, *given[self.source.value])

    def open(self) -> None:
        """A desk for that; the one before is cleared. Raises HangError."""
        self.desk, self.of = None, None
        key = self.key()
        self.desk = open_desk(lambda: desk_for(*key))
        self.of = key

    def about(self) -> Desk:
        if self.desk is None:
            raise HangError("There is no target yet.", next="pick one in the panel, and save its evidence")
        return self.desk

    # -- what is shown --------------------------------------------------------------------------------

    def show(self) -> None:
        """Everything as it stands now: one primary action, the answer where there is one about this target."""
        busy, key, desk = bool(self.doing), self.key(), self.desk if self.key() == self.of else None
        for name, body in self.bodies.items():
            only(body, name == key[0])
        next_ = self.next(desk, key)
        again = bool(desk and desk.answer and desk.target)
        for one in (self.start, self.hang, self.save, self.read):
            only(one, one is next_ or one is self.save and again)
            one.button_style, one.disabled = "primary" if one is next_ else "", busy
        self.save.description = "Save evidence again" if again else "Save evidence"
        for one in (self.stop, self.stop_too):
            only(one, busy)
        for one in (self.apply, self.undo, self.verify):
            one.disabled = busy
        self.place.value = meter(self.doing, self.steps, self.most) if busy else said(self.words, self.fault)
        self.head.value = heading(desk, busy)
        only(self.found, desk and desk.answer)
        if desk and desk.answer:
            self.show_answer(desk)

    def next(self, desk: Desk | None, key: tuple) -> w.Button | None:
        if desk and desk.answer:
            return None
        if key[0] in ("paste", "file"):
            return self.read
        if key != ("here", DEMO):
            return self.save
        return self.start if desk is None else self.hang if desk.before is None else self.save

    def show_answer(self, desk: Desk) -> None:
        if self.answered is not desk.answer:
            self.answered = desk.answer
            self.slider.max = len(desk.scene.samples)
            self.slider.value = self.slider.max
            self.timeline.value = pictures.timeline(desk.scene, desk.answer).html()
            for name in TABS:
                self.notes[name].value, self.pages[name].value = "", inner(self.page(name))
        self.card.value = card(desk)
        self.turned()
        only(self.rewriting, desk.patches)
        only(self.own, desk.demo is None)
        only(self.mine, desk.demo is None)
        self.undo.disabled |= not desk.written
        self.apply.disabled |= bool(desk.written)
        self.apply.button_style, self.verify.button_style = "" if desk.written else "primary", "primary"
        self.pages["Verification"].value = inner(self.page("Verification"))

    def turned(self) -> None:
        for name in ("Threads", "Kernel waits"):
            self.pages[name].value = inner(self.page(name))
        self.when.value = f"{self.slider.value} of {self.slider.max}"

    def page(self, name: str) -> Callable[[], views.Shown]:
        desk, sample = self.about(), self.slider.value - 1
        return {
            "Source": lambda: views.source(desk.answer, desk.mine),
            "Threads": lambda: views.threads(desk.scene, sample),
            "Kernel waits": lambda: views.kernel(desk.scene, sample),
            "Tasks": lambda: views.tasks(desk.mine),
            "Wait-for graph": lambda: pictures.wait_graph(desk.answer),
            "Diff": lambda: views.diffs(desk.patches, desk.refusal),
            "Verification": lambda: views.latency(desk.before, desk.after),
            "Report": lambda: views.reasons(desk.answer),
        }[name]

    def look(self, name: str) -> views.Shown:
        """Turn to a tab, and give back what it shows. Raises HangError."""
        self.tabs.selected_index = TABS.index(name)
        return self.page(name)()

    # -- the servers of this machine ------------------------------------------------------------------

    def find(self) -> None:
        """List the servers anew; the choice stays if it is still there."""
        self.watch.find(self.begun())
        servers = self.watch.look()
        if self.picked not in [one.pid for one in servers]:
            self.picked = DEMO
        self.rows = {pid: (button(str(pid) if pid else "demo", "", lambda pid=pid: self.pick(pid)), w.HTML())
                     for pid in [DEMO, *(one.pid for one in servers)]}
        self.list.children = [w.HTML(f'<div class="hang-row hang-names">{NAMES}</div>'),
                              *(w.HBox(list(pair)).add_class("hang-line") for pair in self.rows.values())]
        self.show_servers(servers)
        self.show()

    def begun(self) -> set[int]:
        """What the notebook itself started: a practice case's name would give it away."""
        return set()

    def keep_looking(self) -> None:
        """In a thread of its own: the kernel stays free, and nothing is attached to."""
        while not self.over.wait(EVERY):
            self.show_servers(self.watch.look())

    def show_servers(self, servers: tuple[targets.Server, ...]) -> None:
        for one in servers:
            if one.pid in self.rows:
                self.rows[one.pid][1].value = row(one)
