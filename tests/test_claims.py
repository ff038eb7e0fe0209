"""What the page of claims says is what happens here, on this Python, today."""

from __future__ import annotations

import re
import sys

import pytest

from snippet_lab import TESTS

sys.path.insert(0, str(TESTS.parent / "tooling"))

import claims


def shape(text: str) -> str:
    """Without figures and versions, which differ from one run and machine to the next."""
    return re.sub(r"\d+(\.\d+)*", "N", text)


def rows() -> dict[str, str]:
    return dict(re.findall(r"^\| (.+?) \| (.*)$", claims.section()[1], re.M))


@pytest.mark.live
def test_no_claim_holds_and_the_page_says_how():
    outcomes = claims.run(claims.CLAIMS)  # side by side, as `make claims` does: the longest waits for 32 s
    assert list(outcomes) == list(claims.CLAIMS)
    assert {claim: one for claim, one in outcomes.items() if one.held} == {}
    page = rows()
    for claim, outcome in outcomes.items():
        assert shape(claims.row(claim, outcome)) == shape(f"| {claim} | {page[claim]}")


def test_the_page_has_the_claims_and_no_others():
    assert [claim for claim in rows() if claim not in ("it is said", "---")] == list(claims.CLAIMS)
    head = claims.HEAD.partition("{where}")
    _, text = claims.section()
    assert text.startswith(head[0] + "Python 3.") and shape(head[2].strip()) in shape(text), "Next: make claims WRITE=1"


def test_a_claim_that_holds_is_said_to_hold():
    outcome = claims.Outcome("It did not.", "3 s", held=True)
    assert claims.row("It works.", outcome) == "| It works. | It held here after all. | 3 s |"
    assert claims.run({"It works.": lambda: outcome}) == {"It works.": outcome}
