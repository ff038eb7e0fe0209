"""What was sampled, as a flame graph: a picture, and a page of its own that zooms and searches.

    flame(stacks)            an SVG, as part of a report
    interactive(stacks)      an HTML page that needs nothing else: click to zoom, type to search

Width is time, and what stands on a box was called by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import islice

from hangdebug.errors import HangError, ours
from hangdebug.evidence.frames import is_application, library_path
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Thread
from hangdebug.report import svg
from hangdebug.report.svg import Picture
from hangdebug.report.text import inert

ROW, DEEPEST, THINNEST, SIDE = 19, 60, 1.0, 14
YOURS, THEIRS, ROOT = svg.ORANGE, svg.LIBRARY, svg.PALE
MOST_LINES = 25  # of the drawing in letters
MOST_BOXES, SMALLEST = 4000, 2e-4  # of the page that zooms: the share of the samples that a box has to have

Stacks = Sequence[tuple[Thread, int]]  # a thread's stack, and how often it was seen


@dataclass
class Call:
    """A call in one place of the tree, and how often it was on the stack there. `below` are the calls that it made,
    `lines` how often each of its lines was seen."""

    function: str
    file: str = ""
    yours: bool = False
    count: int = 0
    below: dict[object, Call] = field(default_factory=dict)
    lines: Counter[int | None] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """With the line at which it was seen most often."""
        line = self.lines.most_common(1)[0][0] if self.lines else None
        return f"{self.function} ({self.file}{f':{line}' if line else ''})" if self.file else self.function

    @property
    def kind(self) -> str:
        return "yours" if self.yours else "theirs" if self.file else "all"


def flame(stacks: Stacks) -> Picture:
    """The picture: width is time, and what stands on a box was called by it. The application's own boxes stand out.

    Raises HangError where no stack was sampled.
    """
    root = tree(stacks)
    if not root.count:
        raise HangError("There is nothing to draw.", "No stack was sampled.", ours("record", "--pid", "PID"))
    depth = min(depth_of(root), DEEPEST)
    height = 58 + depth * ROW + 12
    parts = [
        svg.box(SIDE, 14, 14, 14, YOURS, svg.GREY),
        svg.text(SIDE + 20, 25, "your code (bold)", 200, bold=True),
        svg.box(180, 14, 14, 14, THEIRS, svg.GREY),
        svg.text(200, 25, "libraries", 120),
        svg.text(300, 25, f"width is time: all of it is {root.count} samples", 500, svg.FAINT),
    ]
    for call, x, width, level in boxes(root, SIDE, svg.WIDTH - 2 * SIDE, 0):
        parts.append(box_of(call, x, height - 12 - (level + 1) * ROW, width, root.count))
    busiest, share = hottest(stacks)
    top = (
        f"The widest of your own at the top is {busiest}, on the stack in {share:.0%} of {root.count} samples"
        if busiest
        else f"No frame of your own is in these {root.count} samples"
    )
    alt = f"Flame graph. {top}."
    caption = f"Read from below: a box was called by the one under it. {top}."
    return Picture(svg.card(height, parts, alt), alt, caption, in_letters(root))


def in_letters(root: Call) -> str:
    """The widest calls as lines, each below the one that called it, up to MOST_LINES."""
    rows = [(call, level) for call, _, width, level in boxes(root, 0.0, 1.0, 0, 0.02)]
    return "\n".join(f"{call.count / root.count:5.0%}  {'  ' * level}{call.name}" for call, level in rows[:MOST_LINES])


def tree(stacks: Stacks) -> Call:
    """All stacks as one tree. The library calls that all of a thread's stacks begin with say nothing: they are cut."""
    root = Call("all")
    threads: dict[tuple[str, int | None], list[tuple[tuple[Frame, ...], int]]] = {}
    for thread, count in stacks:
        if thread.frames:
            threads.setdefault((thread.name, thread.os_id), []).append((thread.frames, count))
    for who, rows in threads.items():
        cut, here = in_common([frames for frames, _ in rows]), root
        below = f", below {cut} library calls" if cut else ""
        if len(threads) > 1:
            here = root.below.setdefault(who, Call(f"thread {who[0] or who[1] or '?'}{below}"))
        else:
            root.function = f"all{below}"
        for frames, count in rows:
            add(here, list(reversed(frames))[cut : DEEPEST + cut], count)
    root.count = sum(count for rows in threads.values() for _, count in rows)
    return root


def add(here: Call, calls: Sequence[Frame], count: int) -> None:
    here.count += count
    for frame in calls:
        fresh = Call(frame.function, place(frame), is_application(frame))
        here = here.below.setdefault((frame.function, frame.file), fresh)
        here.count += count
        here.lines[frame.line] += count


def in_common(stacks: list[tuple[Frame, ...]]) -> int:
    """How many outermost calls every stack has that are a library's."""
    count = 0
    for level in zip(*(tuple(reversed(frames))[:-1] for frames in stacks)):
        if len({(frame.function, frame.file) for frame in level}) > 1 or is_application(level[0]):
            break
        count += 1
    return count


def place(frame: Frame) -> str:
    return library_path(frame.file) or frame.file.replace("\\", "/").rpartition("/")[2]


def depth_of(call: Call) -> int:
    level, found = [call], 0
    while level:
        found, level = found + 1, [below for one in level for below in one.below.values()]
    return found


def boxes(
    root: Call, x: float, width: float, level: int, thinnest: float = THINNEST
) -> Iterator[tuple[Call, float, float, int]]:
    """Every call that is wide enough to be seen, with its place; the widest of a level first."""
    waiting = [(root, x, width, level)]
    while waiting:
        call, x, width, level = waiting.pop()
        yield call, x, width, level
        for one in sorted(call.below.values(), key=lambda one: (-one.count, one.name)):
            wide = width * one.count / call.count
            if wide >= thinnest and level + 1 < DEEPEST:
                waiting.append((one, x, wide, level + 1))
            x += wide


def box_of(call: Call, x: float, y: float, width: float, total: int) -> str:
    colour = {"yours": YOURS, "theirs": THEIRS, "all": ROOT}[call.kind]
    shape = svg.box(x, y, width - 0.5, ROW - 1, colour, title=told(call, total))
    words = svg.text(x + 4, y + 13, call.name, width - 8, svg.words_on(colour), 11, call.yours) if width > 24 else ""
    return shape + words


def told(call: Call, total: int) -> str:
    lines = (
        ", ".join(f"line {line}: {count}" for line, count in call.lines.most_common(4)) if len(call.lines) > 1 else ""
    )
    return f"{call.name}: {call.count} samples, {call.count / total:.1%}{lines and f' ({lines})'}"


def hottest(stacks: Stacks) -> tuple[str, float]:
    """The application's function that was innermost most often, with its commonest line; and its share of samples."""
    counts: dict[str, Counter[int | None]] = {}
    for thread, count in stacks:
        own = next((frame for frame in thread.frames if is_application(frame)), None)
        if own is not None:
            counts.setdefault(f"{own.function} ({place(own)}", Counter())[own.line] += count
    if not counts:
        return "", 0.0
    best = max(counts, key=lambda name: (sum(counts[name].values()), name))
    line = counts[best].most_common(1)[0][0]
    mostly = f", mostly line {line}" if line else ""
    return f"{best}{mostly})", sum(counts[best].values()) / sum(count for _, count in stacks)


# -- the page that zooms -------------------------------------------------------------------------------

PAGE_STYLE = """
:root { --ink: #1a1a1a; --soft: #595959; --paper: #ffffff; --yours: #e69f00;
  --theirs: #d6ebf5; --all: #ececec; --hit: #cc79a7; --edge: #767676; }
* { box-sizing: border-box; }
body { margin: 0; padding: 8px; background: var(--paper); color: var(--ink);
  font: 12px/1.4 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
form { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-bottom: 8px; }
input, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--edge);
  border-radius: 3px; padding: 3px 8px; }
input { width: 16em; } p { margin: 0; color: var(--soft); }
#graph { position: relative; width: 100%; overflow: hidden; }
.b { position: absolute; height: 18px; padding: 0 4px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
  line-height: 18px; cursor: pointer; border-right: 1px solid var(--paper); }
.all { background: var(--all); } .theirs { background: var(--theirs); }
.yours { background: var(--yours); color: #000000; font-weight: 600; }
.hit { background: var(--hit); color: #000000; } .around { opacity: .7; }
.b:focus-visible, input:focus-visible, button:focus-visible { outline: 2px solid var(--ink); outline-offset: -2px; }
"""
PAGE_NIGHT = """
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b0b0b0; --paper: #1d2025; --theirs: #1e3d52;
  --all: #3a3f48; --edge: #8a8f98; } }
"""
PAGE_SCRIPT = """
const all = [...document.querySelectorAll('.b')], find = document.querySelector('input');
const say = document.querySelector('#said'), at = (one, name) => +one.dataset[name];
let top_ = all[0];
const inside = (one, of) => at(one, 'x') >= at(of, 'x') - 1e-9
  && at(one, 'x') + at(one, 'w') <= at(of, 'x') + at(of, 'w') + 1e-9;
function zoom(to) {
  top_ = to;
  for (const one of all) {
    const above = inside(one, to) && at(one, 'l') >= at(to, 'l'), around = inside(to, one) && !above;
    one.hidden = !above && !around;
    one.classList.toggle('around', around);
    one.style.left = around ? '0' : 100 * (at(one, 'x') - at(to, 'x')) / at(to, 'w') + '%';
    one.style.width = around ? '100%' : 100 * at(one, 'w') / at(to, 'w') + '%';
  }
  tell();
}
function tell() {
  const word = find.value.toLowerCase(), hits = all.filter(one => word && one.title.toLowerCase().includes(word));
  for (const one of all) one.classList.toggle('hit', hits.includes(one));
  const outer = hits.filter(one => !hits.some(other => at(other, 'l') < at(one, 'l') && inside(one, other)));
  const share = outer.reduce((sum, one) => sum + at(one, 'w'), 0);
  say.textContent = word ? `${hits.length} boxes with "${find.value}": ${(100 * share).toFixed(1)} % of the samples`
    : top_.title;
}
function focus(one) {
  if (!one) return;
  for (const other of all) other.tabIndex = -1;
  one.tabIndex = 0;
  one.focus();
}
function go(one, key) {
  const level = at(one, 'l'), seen = all.filter(other => !other.hidden);
  const row = seen.filter(other => at(other, 'l') === level).sort((a, b) => at(a, 'x') - at(b, 'x'));
  if (key === 'ArrowUp') return seen.filter(o => at(o, 'l') === level + 1 && inside(o, one))
    .sort((a, b) => at(b, 'w') - at(a, 'w'))[0];
  if (key === 'ArrowDown') return seen.find(o => at(o, 'l') === level - 1 && inside(one, o));
  return row[row.indexOf(one) + (key === 'ArrowRight' ? 1 : -1)];
}
for (const one of all) {
  one.onclick = () => { zoom(one); focus(one); };
  one.onmouseenter = one.onfocus = () => { if (!find.value) say.textContent = one.title; };
  one.onkeydown = event => {
    if (event.key === 'Enter' || event.key === ' ') zoom(one);
    else if (event.key.startsWith('Arrow')) focus(go(one, event.key));
    else return;
    event.preventDefault();
  };
}
document.onkeydown = event => { if (event.key === 'Escape') { find.value = ''; zoom(all[0]); } };
document.querySelector('form').onsubmit = event => event.preventDefault();
document.querySelector('button').onclick = () => zoom(all[0]);
find.oninput = tell;
zoom(all[0]);
"""


def interactive(stacks: Stacks, at_night: bool = True) -> str:
    """The page, `at_night` dark where the reader's pages are. All of its text is escaped; its script is its own.

    Raises HangError where no stack was sampled.
    """
    root = tree(stacks)
    if not root.count:
        flame(stacks)
    found = list(islice(boxes(root, 0.0, 1.0, 0, SMALLEST), MOST_BOXES))
    deepest = max(level for *_, level in found)
    rows = "".join(
        f'<div class="b {call.kind}" role="button" tabindex="{0 if call is root else -1}" data-x="{x:.7f}" '
        f'data-w="{width:.7f}" data-l="{level}" title="{inert(told(call, root.count))}" style="left:{100 * x:.4f}%;'
        f'width:{100 * width:.4f}%;top:{(deepest - level) * ROW}px">{inert(call.name)}</div>'
        for call, x, width, level in found
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Flame graph</title>'
        f'<meta name="viewport" content="width=device-width"><style>{PAGE_STYLE}{PAGE_NIGHT if at_night else ""}'
        "</style></head><body><main>"
        '<form><label>Search <input type="search" placeholder="a function or a file"></label>'
        '<button type="button">Whole graph</button><p id="said" role="status"></p></form>'
        f'<div id="graph" style="height:{(deepest + 1) * ROW}px">{rows}</div>'
        "<p>Width is time; a box was called by the one under it. Click to zoom, arrows and Enter by keyboard, "
        f"Escape for the whole. Your code is bold.</p></main><script>{PAGE_SCRIPT}</script></body></html>"
    )
