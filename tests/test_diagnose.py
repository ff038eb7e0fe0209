"""The annotated dumps are the spec: each capture's marked line is the frame that the diagnosis must name.

What is true of a dump comes from the server that was captured, never from the tool: its folder is the cause,
the server's constants say the state, and the mark stands on the line that the server's author marked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import zoo
from by_folder import by_folder
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read
from hangdebug.evidence.source import with_sources

DUMPS = Path(__file__).parent / "dumps"
SERVERS = [Path(__file__).parent / folder for folder in zoo.FOLDERS]
FILES = sorted(file for file in DUMPS.rglob("*") if file.suffix in (".txt", ".json") and ".truth." not in file.name)


@dataclass(frozen=True)
class Case:
    """A dump and what is true of it: its cause, and the (file name, line) pairs that may be named.

    `mute` means that no stack can show the state: only live evidence has it, such as a closed port. `stacks` is the
    state that stacks show without their sources, where that is another, and `victims` the functions named then.
    """

    evidence: tuple[Evidence, ...]
    cause: str
    state: str
    marked: frozenset[tuple[str, int]]
    mute: bool = False
    stacks: str | None = None
    victims: tuple[str, ...] = ()


@cache  # read once for all the tests below; what it holds is frozen
def case(file: Path) -> Case:
    text = file.read_text()
    snapshots = read(text)
    cause = file.parent.name
    marked = {
        (Path(frame.file).name, frame.line)
        for one in snapshots
        for thread in one.threads
        for frame in thread.frames
        if frame.note == f"# <-- {cause}"
    }
    if file.suffix == ".json":
        frame = json.loads(file.with_suffix(".truth.json").read_text())["frame"]
        marked = {(Path(frame["file"]).name, frame["line"])} if frame else set()
    server = zoo.server_of(file)
    if server.stacks and marked:  # of a ring each member is a right answer, and the mark stands on one
        marked |= {(Path(name).name, line) for name, line in server.marked}
    mute, lines = server.needs_kernel, frozenset(marked)
    return Case(evidence_of(snapshots), cause, server.state, lines, mute, server.stacks, server.victims)


def names(answer: Diagnosis, marked: frozenset[tuple[str, int]]) -> bool:
    frame = answer.blocking_frame
    return not marked if frame is None else (Path(frame.file).name, frame.line) in marked


@by_folder(FILES)
def test_a_dump_alone_gives_the_truth_or_a_doubt(file: Path) -> None:
    """A C call has no frame: without the line's text the cause may be a vaguer one, and then not confident."""
    truth = case(file)
    answer = worst(map(diagnose, truth.evidence))
    if (truth.mute and silent(answer)) or lesser(answer, truth) or well_or_open(answer, truth):
        return
    assert answer.state == truth.state
    assert names(answer, truth.marked) or names_a_victim(answer, truth), answer.blocking_frame
    assert answer.cause == truth.cause or (answer.cause in vaguer(truth) and answer.confidence < 0.7 and answer.doubts)


def names_a_victim(answer: Diagnosis, truth: Case) -> bool:
    """Who holds the lock, only the source can say: most threads stand in its victims' line, which is then a guess."""
    frame = answer.blocking_frame
    named = frame is not None and frame.function in truth.victims
    return named and answer.confidence < 0.5 and bool(answer.doubts)


def silent(answer: Diagnosis) -> bool:
    """What may be said where stacks cannot show the state: nothing for sure, and what to do next."""
    return answer.state in ("healthy", "inconclusive") and answer.confidence < 0.7 and bool(answer.doubts)


def well_or_open(answer: Diagnosis, truth: Case) -> bool:
    """Of a healthy server: one dump shows that nothing is blocked, and not that no coroutine waits for ever."""
    single = all(len(one.snapshots) == 1 for one in truth.evidence)
    return truth.state == "healthy" and single and answer.state == "inconclusive" and silent(answer)


def lesser(answer: Diagnosis, truth: Case) -> bool:
    """What stacks show of a ring: one of its members that waits, or nothing. Then they are not sure, and say so."""
    if truth.stacks == "healthy":
        return answer.state == "inconclusive" and silent(answer)
    if truth.stacks is None or answer.state != truth.stacks:
        return False
    return bool(answer.doubts) and names(answer, marked_in_servers(truth.cause))


def vaguer(truth: Case) -> set[str]:
    """What a stack that ends in the application's line may be called: it computes, or waits, in something."""
    return {"other", "cpu-bound"} if truth.state == "loop-busy" else {"other"}


@by_folder(FILES)
def test_a_dump_with_its_source_gives_the_truth(file: Path) -> None:
    truth = case(file)
    evidence = truth.evidence
    for tree in SERVERS:  # --code takes one tree; frames that are not in it keep what they had
        evidence = tuple(replace(one, sources={**one.sources, **with_sources(one, tree).sources}) for one in evidence)
    answer = worst(map(diagnose, evidence))
    if (truth.mute and (silent(answer) or lesser(answer, truth))) or well_or_open(answer, truth):
        return
    assert (answer.state, answer.cause) == (truth.state, truth.cause)
    allowed = truth.marked | marked_in_servers(truth.cause) if truth.marked else truth.marked
    assert names(answer, allowed), answer.blocking_frame


@cache
def marked_in_servers(cause: str) -> frozenset[tuple[str, int]]:
    """A source shows the `with` line where CPython 3.9's stack has the block's last line: both are marked."""
    truths = [zoo.truth(name) for folder in zoo.FOLDERS for name in zoo.names(folder)]
    return frozenset((Path(file).name, line) for one in truths if one.cause == cause for file, line in one.marked)


def test_every_hung_dump_has_a_mark() -> None:
    for file in FILES:
        truth = case(file)
        assert truth.mute or bool(truth.marked) == (truth.cause != "none"), file


def hung(name: str = "executor-shutdown/py311-pyspy043.txt") -> str:
    return (DUMPS / name).read_text()


def told(text: str) -> Diagnosis:
    return worst(map(diagnose, evidence_of(read(text))))


def test_the_order_of_threads_does_not_matter() -> None:
    head, *threads = hung().split("\nThread ")
    for turn in range(len(threads)):
        text = "\nThread ".join([head, *threads[turn:], *threads[:turn]])
        assert told(text).cause == "executor-shutdown"
    assert told("\nThread ".join([head, *reversed(threads)])).blocking_frame == told(hung()).blocking_frame


def test_py_spys_word_for_idle_does_not_decide() -> None:
    assert told(hung().replace("(idle)", "(active)")).state in ("loop-blocked", "loop-busy")
    assert told(hung("none/py311-pyspy043.txt").replace("(idle)", "(active+gil)")).state == "inconclusive"


def test_a_threads_name_alone_does_not_decide() -> None:
    assert told(hung().replace('"MainThread"', '"Worker-1"')).cause == "executor-shutdown"


def test_several_samples_of_one_process_are_surer_than_one() -> None:
    one, three = told(hung()), told("\n\n".join([hung()] * 3))
    assert (one.samples, three.samples) == (1, 3)
    assert three.confidence > one.confidence


def test_the_ill_process_is_named_among_several() -> None:
    healthy = hung("none/py311-pyspy043-worker.txt")
    answer = told("\n\n".join([hung("none/py311-pyspy043-supervisor.txt"), healthy, hung()]))
    assert answer.cause == "executor-shutdown" and len(answer.others) >= 1


def test_only_the_top_of_the_stack_is_enough() -> None:
    lines = hung().splitlines()
    start = next(index for index, line in enumerate(lines) if "MainThread" in line)
    answer = told("\n".join(lines[start : start + 7]))
    assert answer.cause == "executor-shutdown" and answer.confidence < told(hung()).confidence


def test_a_tree_adds_to_the_lines_that_a_dump_prints_unless_it_is_another_version(tmp_path):
    (evidence,) = evidence_of(read((DUMPS / "lock" / "py311-pystack.txt").read_text()))
    file, printed = next((file, lines) for file, lines in evidence.sources.items() if file.endswith("/lock.py"))
    more = with_sources(evidence, zoo.HERE / "hung").sources[file]
    assert set(more) > set(printed) and all(more[number].strip() == text for number, text in printed.items())
    text = (zoo.HERE / "hung" / "lock.py").read_text()
    (tmp_path / "lock.py").write_text("\n" + text)
    assert with_sources(evidence, tmp_path).sources[file] == printed
