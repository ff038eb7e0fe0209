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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import ipywidgets as w
from IPython import get_ipython

import practice
import targets
import views
from cockpit import Control, Desk, close_all, expected, open_desk, sentence
from hangdebug.capture.processes import on_port, resolve
from hangdebug.errors import HangError, NoProcess, NotPython
from hangdebug.repair.model import Probe
from hangdebug.repair.proof.verify import table
from hangdebug.report import text as report
from hangdebug.report.svg import Picture, latency
from hangdebug.report.text import inert
from hangdebug.report.wait_graph import timeline, wait_graph

SOURCES = (
    ("A server here", "here"),
    ("Pid or port", "number"),
    ("Pasted dump", "paste"),
    ("A file", "file"),
    ("Practice", "practice"),
)
TABS = ("Source", "Threads", "Kernel waits", "Tasks", "Wait-for graph", "Flame graph", "Diff", "Verification", "Report")
TELL_NOTHING = ("Threads", "Kernel waits", "Tasks")  # of the cause: they are there before a guess
EVERY, SOON = 2.0, 0.5  # seconds between two looks at the servers, and before the second of all
LOOKS = 9  # of a capture, at each process
DEMO = 0  # among the pids
SICK = targets.SICK
SHOWN: list[Panel] = []


def button(text: str, tip: str, act: Callable[[], object]) -> w.Button:
    """Words alone: an icon's letter would be read out as part of the name."""
    one = w.Button(description=text, tooltip=tip, layout=w.Layout(width="auto"))
    one.on_click(lambda _: act())
    return one


def field(label: str, hint: str = "", kind: type = w.Text, wide: str = "26em", **more: Any) -> Any:
    more.update({"placeholder": hint} if hint else {})
    return kind(description=label, style={"description_width": "6em"}, layout=w.Layout(width=wide), **more)


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
        self.said_of: tuple | None = None  # what the controls pointed at when something was said
        self.by_hand = False  # whether somebody has picked a server: then none is picked by itself
        self.answered: object = None  # the answer that the tabs show
        self.turned_to = False  # whether the targets are shown although there is an answer
        self.fault: BaseException | None = None
        self.words, self.doing, self.steps, self.most, self.brief = "", "", 0, 1, False
        self.form: Callable[[str], str] = views.said
        self.probes: list[Probe] = []
        self.stopped, self.over = threading.Event(), threading.Event()
        self.watch = targets.Watch()
        self.rows: dict[int, tuple[w.Button, w.HTML]] = {}
        self.servers: tuple[targets.Server, ...] = ()
        super().__init__(self.built(), "[the panel: press Shift+Enter in this cell, and it opens here]")
        self.find()
        self.looking = threading.Thread(target=self.keep_looking, name="health", daemon=True)
        self.looking.start()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        if as_page():
            get_ipython().input_transformers_cleanup.append(lambda lines: ["\n"])  # no cell below it runs
        return super()._repr_mimebundle_(**kwargs)

    # -- its parts ------------------------------------------------------------------------------------

    def built(self) -> w.VBox:
        self.head, self.log = w.HTML(), w.HTML()
        self.place = self.log
        actions = w.HBox(self.action_part()).add_class("hang-actions")
        parts = [
            w.HTML(f"<style>{views.STYLE}{views.NIGHT}{views.ALONE if as_page() else ''}</style>"),
            self.head,
            self.target_part(),
            actions,
            self.log,
            self.answer_part(),
        ]
        return w.VBox(parts).add_class("hang")

    def action_part(self) -> list[w.Button]:
        guesses = [("choose a cause", ""), *((name, name) for name in practice.guesses())]
        self.guess = field("it is", kind=w.Dropdown, options=guesses)
        self.guess.observe(lambda _: self.show(), "value")
        self.start = button("Start the demo", "Start the bundled news service", self.on_start)
        self.hang = button("Let a reader leave", "Open its stream and walk away: that hangs it", self.on_hang)
        self.save = button(
            "Save evidence", "Read the kernel's word and five samples of all stacks into a folder", self.on_save
        )
        self.read = button("Read it", "Diagnose the dump or the bundle", self.on_read)
        self.begin = button("Start the case", "Start its server, and hang it", self.on_begin)
        self.check = button("That is it", "Compare your guess with the answer", self.on_check)
        self.stop = button("Stop", "Stop here; what was saved stays", self.stopped.set)
        self.onward = button("", "Turn to the tab of the next step", lambda: self.turn_to(self.ahead(self.about())[1]))
        self.other = button("Another target", "Show the list of targets again", self.on_other)
        return [
            self.onward,
            self.start,
            self.hang,
            self.begin,
            self.save,
            self.read,
            self.guess,
            self.check,
            self.other,
            self.stop,
        ]

    def target_part(self) -> w.VBox:
        tips = [
            "Python servers that listen on this machine",
            "Any Python process",
            "A stack dump, as text",
            "A bundle or a dump",
            "A server that hangs, and you find out why",
        ]
        given = os.environ.get("HANG_PID", "")
        self.source = w.ToggleButtons(options=SOURCES, tooltips=tips, value="number" if given else "here")
        self.picked, self.list, self.why = DEMO, w.VBox().add_class("hang-list"), w.HTML()
        self.again = button("Look again", "List the Python servers that listen now", self.find)
        self.ask, self.asked = tick("ask a health URL every 2 s"), w.HTML()
        self.health_url = field("health URL", "http://127.0.0.1:8000/health", wide="28em")
        self.pid, self.port = field("pid", "4284", value=given), field("or port", "8000")
        self.paste = field("dump", "the output of: py-spy dump --pid PID", w.Textarea, "auto", rows=8)
        self.upload = w.FileUpload(
            description="Upload", tooltip="An evidence bundle (.zip, .tar.gz) or a dump, up to 8 MB"
        )
        self.uploaded = w.HTML()
        self.path = field("or its path", "evidence.zip on this machine", wide="32em")
        self.case = field(
            "case",
            kind=w.Dropdown,
            wide="40em",
            options=[(text, number) for number, text in enumerate(practice.cases(), 1)],
        )
        self.bodies = {
            "number": w.HBox([self.pid, self.port]).add_class("hang-actions"),
            "here": w.VBox(
                [
                    self.why,
                    self.list,
                    w.HBox([self.again, self.ask, self.health_url, self.asked]).add_class("hang-actions"),
                ]
            ),
            "paste": self.paste,
            "file": w.HBox([self.upload, self.uploaded, self.path]).add_class("hang-actions"),
            "practice": self.case,
        }
        for one, act in ((self.pid, self.on_save), (self.port, self.on_save), (self.path, self.on_read)):
            entered(one, act)
        for one in (self.source, self.pid, self.port, self.paste, self.upload, self.path, self.case):
            one.observe(lambda _: self.show(), "value")
        self.ask.observe(lambda _: self.show(), "value")
        self.choosing = w.VBox([self.source, *self.bodies.values()]).add_class("hang-target")
        return self.choosing

    def answer_part(self) -> w.VBox:
        self.card, self.timeline, self.when = w.HTML(), w.HTML(), w.HTML()
        self.slider = w.IntSlider(1, 1, 1, description="sample", readout=False, layout=w.Layout(width="22em"))
        self.slider.observe(lambda _: self.turned(), "value")
        earlier = button("Earlier", "Show the sample before", lambda: self.turn(-1))
        later = button("Later", "Show the next sample", lambda: self.turn(1))
        self.turning = w.HBox([self.slider, earlier, later, self.when]).add_class("hang-turning")
        self.pages, self.notes = {name: w.HTML() for name in TABS}, {name: w.HTML() for name in TABS}
        self.tell = button("Write the report", "report.html, report.md and report.json, for a ticket", self.on_tell)
        parts = {
            "Threads": self.search_part(),
            "Kernel waits": [self.turning],
            "Diff": self.diff_part(),
            "Verification": self.proof_part(),
            "Report": [w.HBox([self.tell]).add_class("hang-actions")],
        }
        pages = [w.VBox([*parts.get(name, []), self.notes[name], self.pages[name]]) for name in TABS]
        self.tabs = w.Tab(pages, titles=TABS)
        self.tabs.observe(lambda _: self.show(), "selected_index")
        self.found = w.VBox([self.card, self.timeline, self.tabs])
        return self.found

    def search_part(self) -> list[Any]:
        self.word, self.unfolded = field("search", "function, file, lock"), False
        self.word.observe(lambda _: self.turned(), "value")
        self.fold = button("Open all", "Open every stack, or close them again", self.on_fold)
        return [w.HBox([self.word, self.fold, self.turning]).add_class("hang-actions")]

    def diff_part(self) -> list[Any]:
        self.own = tick("write it into my own file, not into a copy")
        self.apply = button("Apply the rewrite", "Write it to disk", self.on_apply)
        self.undo = button("Undo", "Put back what was there, byte by byte", self.on_undo)
        self.rewriting = w.HBox([self.apply, self.undo, self.own]).add_class("hang-actions")
        return [self.rewriting]

    def proof_part(self) -> list[Any]:
        self.url, self.stream = (
            field("health URL", "http://127.0.0.1:8000/health", w.Combobox, ensure_option=False),
            field("stream URL", "of an open stream, if there is one", w.Combobox, ensure_option=False),
        )
        self.agreed = tick("send requests to my own service: first one for /openapi.json, to know its routes")
        self.agreed.observe(lambda change: change["new"] and self.on_agree(), "value")
        self.aborts = field("aborts", kind=w.BoundedIntText, wide="12em", value=10, min=1, max=200)
        self.verify = button(
            "Verify with curl", "Open streams, leave them, and send requests meanwhile", self.on_verify
        )
        self.stop_too = button("Stop", "Stop asking", self.stopped.set)
        self.mine = w.VBox([self.agreed, w.HBox([self.url, self.stream]).add_class("hang-actions")])
        return [self.mine, w.HBox([self.aborts, self.verify, self.stop_too]).add_class("hang-actions")]

    # -- one callback a control -----------------------------------------------------------------------

    def on_start(self) -> None:
        if self.source.value == "here" and not self.by_hand:
            self.picked = DEMO  # a cell presses the button whatever was picked by itself

        def begin() -> str:
            self.demo_only()
            self.open()
            return str(self.desk)

        self.run(begin, "Starting the news service")

    def on_hang(self) -> None:
        def leave() -> str:
            self.demo_only()
            return table(self.opened().leave(self.probed))

        self.run(leave, "A reader opens the stream, and leaves", most=16)

    def on_save(self) -> None:
        def take() -> str:
            if self.desk is None or self.key() != self.of:
                self.open()
            said: list[str] = []
            self.most = LOOKS * len(self.desk.target.workers if self.desk.target else ())
            folder = self.desk.capture(said.append, self.pause)
            said += ["stopped early; what was saved is kept"] if self.stopped.is_set() else []
            return "\n".join([*said, f"kept in {folder}"])

        self.run(take, "Saving the evidence", brief=True)

    def on_read(self) -> None:
        def understand() -> str:
            self.open()
            return str(self.desk)

        self.run(understand, "Reading", brief=True)

    def on_other(self) -> None:
        self.turned_to = True
        self.show()

    def on_begin(self) -> None:
        def hang() -> str:
            self.open()
            return str(self.desk)

        self.run(hang, "Starting a server, and hanging it")

    def on_check(self) -> None:
        self.run(lambda: str(self.about().check(self.guess.value)), "Comparing", show=views.story)

    def on_apply(self) -> None:
        self.run(lambda: f"written: {', '.join(map(str, self.about().write(self.own.value)))}", "Writing", place="Diff")

    def on_undo(self) -> None:
        self.run(lambda: f"as it was: {', '.join(map(str, self.about().undo()))}", "Undoing", place="Diff")

    def on_verify(self) -> None:
        def prove() -> str:
            if self.agreed.value and not self.url.options and self.base():  # it hung when it was asked first
                with suppress(HangError):
                    self.know_routes()
            urls = (self.url.value.strip(), self.stream.value.strip())
            return table(self.about().verify(*urls, self.aborts.value, self.agreed.value, self.probed))

        self.run(
            prove,
            "Readers leave, curl sends requests",
            place="Verification",
            most=12 + 4 * -(-self.aborts.value // 5) + 10,
        )

    def on_agree(self) -> None:
        def read() -> str:
            try:
                self.know_routes()
            except HangError as error:  # it may be hung: no fault of the panel's
                return f"{error.why} {error.what}"
            urls, streams = self.url.options, self.stream.options
            return f"{len(urls)} routes and {len(streams)} streams are known: choose from the fields' lists"

        if self.desk is not None and self.desk.demo is None and self.base():
            self.run(read, "Reading /openapi.json", place="Verification")

    def know_routes(self) -> None:
        """Ask the service which routes it has; what somebody typed stays. Raises HangError."""
        urls, streams = targets.routes_of(self.base())
        self.url.options, self.stream.options = urls, streams
        if self.url.value in ("", self.guessed()):
            self.url.value = next(iter(urls), self.url.value)
        self.stream.value = self.stream.value or next(iter(streams), "")

    def guessed(self) -> str:
        """The URL that many services have, "" where the port is not known."""
        return f"{self.base()}/health" if self.base() else ""

    def base(self) -> str:
        """Where the target serves, "" where that is not known."""
        if self.desk is None or self.desk.pid is None or self.desk.mine is None:
            return ""
        port = targets.busiest_port(self.desk.pid, self.desk.mine.process.listening)
        return f"http://127.0.0.1:{port}" if port else ""

    def on_fold(self) -> None:
        self.unfolded = not self.unfolded
        self.fold.description = "Close all" if self.unfolded else "Open all"
        self.turned()

    def on_tell(self) -> None:
        def write() -> str:
            page, text, data = self.about().report()
            self.links = views.links(page, text, data)
            return f"written: {page}, {text.name} and {data.name}"

        self.run(write, "Writing the report", place="Report")

    def turn(self, by: int) -> None:
        self.slider.value += by

    def pick(self, pid: int) -> None:
        self.picked, self.by_hand = pid, True
        if self.source.value == "number":  # a click on a server, after a number that was none
            self.source.value = "here"
        self.show()

    # -- work -----------------------------------------------------------------------------------------

    def run(
        self,
        verb: Callable[[], str],
        doing: str,
        place: str = "",
        most: int = 0,
        brief: bool = False,
        show: Callable[[str], str] = views.said,
    ) -> None:
        """Do it beside the kernel, one thing at a time; then show what it says, or why it could not.

        What a `brief` one says is not shown where an answer says more. `show` makes HTML of what it says.
        """
        if not WORK.idle.is_set():
            return
        self.stopped.clear()
        self.probes, self.brief, self.form = [], brief, show
        self.fault, self.words, self.doing, self.steps, self.most = None, "", doing, 0, most
        self.said_of = self.key()
        self.place = self.notes[place] if place else self.log
        WORK.idle.clear()
        self.show()
        WORK.do(lambda: self.attempt(verb))

    def attempt(self, verb: Callable[[], str]) -> None:
        try:
            try:
                self.words = views.neutral(verb())
            except expected() as error:
                self.fault, self.words = error, views.neutral(self.by_click(error))
            self.doing = ""
            if self.astray():
                self.find()
            self.show()
        except BaseException as error:  # a bug: a cell raises it, and a person reads one sentence
            self.fault, self.doing = error, ""
            self.place.value = views.said(
                f"The notebook has a fault: {type(error).__name__}: {error}\nNext: restart the kernel", error
            )

    def by_click(self, error: Exception) -> str:
        """What to say of it: where a click in the panel goes on, no command for a shell is named."""
        if isinstance(error, (NoProcess, NotPython)):
            return str(HangError(error.what, error.why, "pick one of the servers in the list"))
        return sentence(error)

    def astray(self) -> bool:
        """Whether a number was typed that is no server's: then the servers are listed below it."""
        return self.source.value == "number" and isinstance(self.fault, HangError) and self.key() == self.said_of

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
        self.place.value = views.meter(self.doing, self.steps, self.most)
        return self.stopped.wait(seconds)

    def probed(self, probe: Probe) -> None:
        self.probes.append(probe)
        self.pause(0)
        self.place.value += views.asked_so_far(self.probes)
        if self.stopped.is_set():
            raise HangError("Stopped.", "The requests until then are not kept.", "press the button again to start over")

    def key(self) -> tuple:
        """What the controls point at."""
        given = {
            "here": (self.picked,),
            "number": (self.pid.value.strip(), self.port.value.strip()),
            "paste": (self.paste.value,),
            "practice": (self.case.value,),
            "file": (self.path.value.strip(), tuple((one["name"], bytes(one["content"])) for one in self.upload.value)),
        }
        return (self.source.value, *given[self.source.value])

    def open(self) -> None:
        """A desk for that; the one before is cleared. Raises HangError."""
        self.desk, self.of = None, None
        key = self.key()
        self.desk = open_desk(lambda: desk_for(*key))
        self.of = key

    def demo_only(self) -> None:
        if self.key() != ("here", DEMO):
            raise HangError(
                "This step needs the news service.",
                "Another target is chosen; it is not started or hung from here.",
                "go on below",
            )

    def opened(self) -> Desk:
        if self.desk is None:
            raise HangError("There is no target yet.", next="pick one in the panel")
        return self.desk

    def about(self) -> Desk:
        """The desk with evidence on it. Raises HangError."""
        if self.opened().answer is None:
            raise HangError("There is no evidence yet.", next="press Save evidence in the panel")
        return self.desk

    def close(self) -> list[int]:
        """End what was started. Pids of children that are left, if any."""
        self.over.set()
        self.looking.join(5)  # it may have a curl under way
        return close_all()

    # -- what is shown --------------------------------------------------------------------------------

    def show(self) -> None:
        """Everything as it stands now: one primary action, the answer where there is one about this target."""
        busy, key, desk = bool(self.doing), self.key(), self.desk if self.key() == self.of else None
        if key != self.said_of and not busy:  # of another target
            self.words, self.fault, self.said_of = "", None, key
        for name, body in self.bodies.items():
            only(body, name == key[0] or (name == "here" and self.astray()))
        self.uploaded.value = "".join(
            f"<span>{inert(targets.told(one['name'], bytes(one['content']), one.get('last_modified')))}</span>"
            for one in self.upload.value
        )
        next_ = self.next(desk, key)
        answered = bool(desk and desk.answer)
        again = bool(answered and desk.target)
        only(self.choosing, self.turned_to or not answered)
        only(self.other, answered and not self.turned_to)
        only(self.health_url, self.ask.value)
        for one in (self.start, self.hang, self.save, self.read, self.begin, self.check, self.onward):
            only(one, one is next_ or (one is self.save and again))
            one.button_style, one.disabled = "primary" if one is next_ else "", busy
        self.check.disabled = busy or not self.guess.value
        self.save.description = "Save evidence again" if again else "Save evidence"
        only(self.guess, next_ is self.check)
        for one in (self.stop, self.stop_too):
            only(one, busy)
        for one in (self.apply, self.undo, self.verify, self.tell):
            one.disabled = busy
        silent = self.brief and answered and not self.fault and not self.stopped.is_set()
        self.place.value = (
            views.meter(self.doing, self.steps, self.most)
            if busy
            else ""
            if silent
            else views.said(self.words, self.fault)
            if self.fault or not self.words
            else self.form(self.words)
        )
        self.head.value = views.heading(desk)
        for pid, (pick, _) in self.rows.items():
            (pick.add_class if pid == self.picked else pick.remove_class)("hang-picked")
            verb, what = (
                "Picked" if pid == self.picked else "Pick",
                f"process {pid}" if pid else "the bundled news service",
            )
            pick.tooltip = f"{verb}: {what}"
        self.why.value = views.why_picked(self.picked, self.servers) if key[0] == "here" and not self.by_hand else ""
        only(self.found, desk and desk.answer)
        if desk and desk.answer:
            self.show_answer(desk)

    def next(self, desk: Desk | None, key: tuple) -> w.Button | None:
        if desk and desk.answer:
            if views.ended(desk) and desk.target:
                return self.save
            return self.check if desk.guessing else self.onward
        if key[0] == "practice" and desk is None:
            return self.begin
        if key[0] in ("paste", "file"):
            return self.read
        if key != ("here", DEMO):
            return self.save
        return self.start if desk is None else self.hang if desk.before is None else self.save

    def ahead(self, desk: Desk) -> tuple[str, str]:
        """The next step in words, and its tab."""
        if desk.patches and not desk.written:
            return "See the rewrite", "Diff"
        return ("Prove it", "Verification") if desk.written and desk.after is None else ("Report it", "Report")

    def turn_to(self, name: str) -> None:
        self.tabs.selected_index = TABS.index(name)

    def show_answer(self, desk: Desk) -> None:
        if self.answered != (desk.answer, desk.guessing):
            self.answered, self.turned_to = (desk.answer, desk.guessing), False
            only(self.choosing, False)
            only(self.other, True)
            self.slider.max = len(desk.scene.samples)
            self.slider.value = self.slider.max
            self.timeline.value = (
                "" if desk.guessing else inner(lambda: views.picture(timeline(desk.scene, desk.answer)))
            )
            self.links, self.agreed.value = "", False
            self.tabs.selected_index = TABS.index("Threads") if desk.guessing else 0
            self.url.options, self.stream.options = (), ()
            self.url.value, self.stream.value = self.guessed(), ""
            for name in TABS:
                self.notes[name].value, self.pages[name].value = "", inner(lambda: self.page(name))
            if views.ended(desk):
                self.pages["Source"].value = views.ending(desk.answer, desk.mine)
            elif not desk.guessing:
                self.pages["Source"].value = views.explained(
                    desk.answer, *(inner(lambda: view(desk.answer, desk.mine)) for view in (views.source, views.stack))
                )
        self.card.value = views.card(desk)
        self.onward.description, tab = self.ahead(desk)
        only(
            self.onward, not desk.guessing and self.tabs.selected_index != TABS.index(tab)
        )  # there it has a button of its own
        only(self.turning, self.slider.max > 1)
        only(self.rewriting, desk.patches)
        only(self.own, desk.demo is None)
        only(self.mine, desk.demo is None)
        self.undo.disabled |= not desk.written
        self.apply.disabled |= bool(desk.written)
        self.apply.button_style = "" if desk.written else "primary"
        self.verify.button_style = self.tell.button_style = "primary"
        for name in ("Verification", "Report"):
            self.pages[name].value = inner(lambda: self.page(name))

    def turned(self) -> None:
        """The slider stands at another sample."""
        for name in ("Threads", "Kernel waits"):
            self.pages[name].value = inner(lambda: self.page(name))
        self.when.value = f"{self.slider.value} of {self.slider.max}"

    def page(self, name: str) -> views.Shown | Picture:
        """What a tab shows. Raises HangError."""
        desk, sample = self.about(), self.slider.value - 1
        if desk.guessing and name not in TELL_NOTHING:
            raise HangError(
                "This tab shows the cause.", next="look at the threads and at what the kernel says, then guess"
            )
        return {
            "Source": lambda: views.source(desk.answer, desk.mine),
            "Threads": lambda: views.threads(
                desk.scene, sample, None if desk.guessing else desk.answer, self.word.value, self.unfolded
            ),
            "Kernel waits": lambda: views.kernel(desk.scene, sample),
            "Tasks": lambda: views.tasks(desk.mine),
            "Wait-for graph": lambda: views.picture(wait_graph(desk.answer)),
            "Flame graph": lambda: views.flame_graph(desk.mine.profile),
            "Diff": lambda: views.diffs(desk.patches, desk.refusal),
            "Verification": lambda: latency(desk.checks) if desk.after else views.nothing("Nothing was verified yet."),
            "Report": lambda: views.Shown(
                report.as_markdown(desk.answer),
                self.links
                or "<p>Answer, pictures, source, diff and "
                "verification on one page that needs nothing else, and as Markdown.</p>",
            ),
        }[name]()

    def look(self, name: str) -> views.Shown | Picture:
        """Turn to a tab, and give back what it shows. Raises HangError."""
        self.turn_to(name)
        return self.page(name)

    # -- the servers of this machine ------------------------------------------------------------------

    def find(self) -> None:
        """List the servers anew; the choice stays if it is still there."""
        self.watch.find(self.begun())
        self.servers = self.watch.look()
        if self.picked not in [one.pid for one in self.servers]:
            self.picked = DEMO
        self.rows = {
            pid: (button(str(pid) if pid else "demo", "", lambda pid=pid: self.pick(pid)), w.HTML())
            for pid in [*(one.pid for one in self.servers), DEMO]
        }
        self.lines = {pid: w.HBox(list(pair)).add_class("hang-line") for pid, pair in self.rows.items()}
        self.list.children = [
            w.HTML(
                f'<div class="hang-row hang-names">{"".join(f"<span>{name}</span>" for name in targets.COLUMNS)}</div>'
            ),
            *self.lines.values(),
        ]
        self.show_servers(self.servers)
        self.show()

    def begun(self) -> set[int]:
        """What the notebook itself started: a practice case's name would give it away."""
        return {self.desk.pid} if self.desk and (self.desk.demo or self.desk.case) else set()

    def keep_looking(self) -> None:
        """In a thread of its own: the kernel stays free, and nothing is attached to."""
        wait = min(SOON, EVERY)
        while not self.over.wait(wait):
            wait = EVERY
            try:
                self.servers = self.watch.look()
                self.choose()
                self.show_servers(self.servers)
                self.asked.value = targets.dot(targets.asked(self.health_url.value.strip())) if self.ask.value else ""
            except Exception as error:  # a look that fails is no reason to look no more
                self.asked.value = inert(str(error))

    def choose(self) -> None:
        """Pick the sickest server, and set it on top, as long as nobody has picked one or begun anything."""
        sick = next((one.pid for one in self.servers if one.health.rank[0] <= SICK and one.pid in self.rows), None)
        if sick is None or self.by_hand or self.desk is not None or not WORK.idle.is_set() or sick == self.picked:
            return
        self.picked = sick
        order = [pid for pid in (one.pid for one in self.servers) if pid in self.lines]
        self.list.children = [self.list.children[0], *(self.lines[pid] for pid in (*order, DEMO))]
        self.show()

    def show_servers(self, servers: tuple[targets.Server, ...]) -> None:
        for one in (self.demo_now(), *servers):
            if one.pid in self.rows:
                only(self.lines[one.pid], one.health.sign != "gone" or one.pid == self.picked)
                self.rows[one.pid][1].value = f'<div class="hang-row">{targets.row(one)}</div>'

    def demo_now(self) -> targets.Server:
        """The demo as a row: it is ours, so it is sent a request."""
        desk = self.desk
        if desk is None or desk.demo is None:
            return targets.Server(
                DEMO,
                "demo",
                "a news service that hangs when a reader leaves",
                health=targets.Health("quiet", "not started"),
            )
        return replace(self.watch.one(desk.pid), pid=DEMO, health=targets.asked(desk.demo.news.health_url))


def as_page() -> bool:
    """Whether Voila serves the notebook as a page: that is the panel, and nothing below it."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


def entered(one: w.Text, act: Callable[[], object]) -> None:
    """Enter in a field does what the button beside it does."""
    one.on_msg(lambda _, content, buffers: act() if content.get("event") == "submit" else None)


def desk_for(kind: str, *what: Any) -> Desk:
    """The desk for what the controls point at. Raises HangError."""
    if kind == "here":
        return Desk(resolve(what[0])) if what[0] else Desk.demonstration()
    if kind == "practice":
        return Desk.practice(what[0])
    if kind == "paste":
        return Desk.given(what[0])
    if kind == "file":
        path, files = what
        return Desk.given(Path(path).expanduser()) if path else Desk.uploaded(*files[0]) if files else Desk.given("")
    pid, port = (number(text) for text in what)
    if pid is None and port is None:
        raise HangError(
            "Which process?", "Neither a pid nor a port was typed.", "type one, or pick one of the servers in the list"
        )
    return Desk(on_port(port) if pid is None else resolve(pid))


def number(text: str) -> int | None:
    if text and not text.isdecimal():
        raise HangError(f"{text!r} is not a number.", next="type the pid of a process, or the port on which it listens")
    return int(text) if text else None


def inner(make: Callable[[], Any]) -> str:
    """What a tab shows, as HTML; a sentence where there is nothing to see."""
    try:
        shown = make()
    except expected() as error:
        return views.remark(views.neutral(sentence(error)))
    return shown.html() if isinstance(shown, Picture) else shown.html
