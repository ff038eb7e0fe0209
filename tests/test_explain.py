"""`diagnose --explain`: every rule that was asked, the one that spoke, and each step of the certainty."""

from __future__ import annotations

from pathlib import Path

from hangdebug.answer.diagnose import diagnose, evidence_of
from hangdebug.answer.model import Asked, Diagnosis, Step, Trace
from hangdebug.evidence.paste import read
from hangdebug.report.text import as_trace, explained

DUMP = Path(__file__).with_name("dumps") / "executor-shutdown" / "py311-pyspy043.txt"
TRACE = Trace(
    (
        Asked("stopped-by-the-kernel", "stopped", "", False),
        Asked("ring-of-waits", "deadlock", "No thread waits for another one.", False),
        Asked("loop-in-one-place", "loop-blocked", "5 of 5 samples show the loop in `headlines`.", True),
    ),
    (
        Step("state", 0.7, "the loop is in one place"),
        Step("the kernel agrees", 0.9, "futex in all readings"),
        Step("no source line", 0.85, "\x1b[31mthe file is not here"),
    ),
)
ANSWER = Diagnosis("loop-blocked", "lock", 0.85, "x", rule="loop-in-one-place", trace=TRACE)


def test_the_text_shows_rules_in_order_marks_the_one_that_spoke_and_ends_in_the_figure():
    assert (
        explained(ANSWER)
        == """
rules asked, in this order; => is the one that spoke
     stopped-by-the-kernel (stopped): does not apply
     ring-of-waits (deadlock)
       No thread waits for another one.
  => loop-in-one-place (loop-blocked)
       5 of 5 samples show the loop in `headlines`.

certainty
  0.70  state              the loop is in one place
  0.90  the kernel agrees  futex in all readings
  0.85  no source line     ?[31mthe file is not here
  0.85  as shown
"""
    )


def test_an_answer_without_a_trace_says_so():
    text = explained(Diagnosis("healthy", "none", 0.9, "x"))
    assert "  none\n" in text and text.endswith("  0.90  as shown\n")


def test_programs_get_the_same():
    found = as_trace(ANSWER)
    assert [one["rule"] for one in found["asked"] if one["spoke"]] == [ANSWER.rule]
    assert found["asked"][0]["saw"] is None and found["steps"][-1]["figure"] == ANSWER.confidence


def test_the_last_line_is_the_figure_of_a_real_answer():
    answer = diagnose(evidence_of(read(DUMP.read_text()))[0])
    assert explained(answer).endswith(f"  {answer.confidence:.2f}  as shown\n")
