"""What an answer tells to do next: it decides what is open, looks where the evidence points, sends nothing unsaid."""

from __future__ import annotations

import re

import pytest

from hangdebug.errors import ours
from test_bundles import EXPECTED, judged


def of_state(*states: str) -> list[str]:
    return sorted(name for name, entry in EXPECTED.items() if entry["golden"]["state"] in states)


def steps(name: str) -> list[str]:
    return [line[len("Next: ") :] for line in judged(name).doubts if line.startswith("Next: ")]


@pytest.mark.parametrize("name", of_state("healthy", "inconclusive"))
def test_what_is_well_or_open_says_where_to_look_next(name):
    found = steps(name)
    assert found and all(
        re.match(rf"({re.escape(ours())}|python -c|sleep|py-spy|psql|mysql|redis|mongosh|curl) ", one) for one in found
    )
    assert all("   # " in one for one in found), "a command comes with what it shows"
    if judged(name).state == "inconclusive":
        assert not any("curl" in one or " verify " in one for one in found), "no request to a service that may be stuck"


def test_a_healthy_process_names_the_peer_that_its_threads_wait_for():
    first = steps("slow_requests")[0]
    assert re.search(
        r"--max-time 5 http://127\.0\.0\.1:\d+/   # \d threads wait for 127\.0\.0\.1:\d+: is that slow\?", first
    )


def test_a_healthy_process_without_a_client_says_to_look_at_what_is_in_front():
    assert "no client is connected" in steps("none")[0] and "the proxy" in steps("none")[0]


def test_a_lost_permit_names_the_line_that_should_have_released_it_and_the_pattern():
    answer = judged("leaked_permit")
    assert any("`renderers.release()` (leaked_permit.py:" in line and "`finally`" in line for line in answer.evidence)
    assert answer.remedy and (answer.remedy.snippet, answer.remedy.fix) == ("locks.py", "release_permit")
    assert "`renderers.release()` (leaked_permit.py:37) has to give back on every way out" in answer.remedy.by_hand
    assert "render (" in answer.remedy.by_hand and "`async with renderers:`" in answer.remedy.by_hand


def test_locks_in_opposite_orders_get_the_pattern_and_no_rewrite_for_coroutines():
    answer = judged("lock_order")
    assert answer.remedy and (answer.remedy.snippet, answer.remedy.fix, answer.remedy.command) == (
        "locks.py",
        None,
        None,
    )
    said = answer.remedy.by_hand
    assert said.startswith("Take the locks in one order everywhere: ")
    assert re.search(r"audit \(\S*:48\) takes `shelves_lock` while it holds `ledger_lock`", said)
    assert re.search(r"restock \(\S*:40\) takes `ledger_lock` while it holds `shelves_lock`", said)
    assert sum("which AnyIO worker thread" in line for line in answer.evidence) == 2  # each waiter, and who has it


@pytest.mark.parametrize(
    "name, words",
    [
        ("dead_holder", "Whoever takes `rates_lock` has to release it on every way out, for MainThread waits"),
        ("across_await", "Task-9 (suspended) has to release `catalogue_lock` before it awaits in import_"),
        ("entered_twice", "Take `self.lock` once: Basket.total"),
    ],
)
def test_a_lock_that_is_waited_for_names_who_should_release_it_and_where(name, words):
    answer = judged(name)
    assert answer.remedy and answer.remedy.by_hand.startswith(words)


BLAMED = [name for name, entry in EXPECTED.items() if entry["golden"]["state"] not in ("healthy", "stopped")]


@pytest.mark.parametrize("name", sorted(set(BLAMED)))
def test_what_has_a_cause_says_what_mends_it_or_what_would_decide(name):
    answer = judged(name)
    assert answer.remedy or steps(name) or answer.cause in ("other", "sleep")


@pytest.mark.parametrize(
    "name, words",
    [
        ("lock_round_pool", r"hang \(\S*:29\) waits for feed_0 while it holds `stock_lock`, .* leave the lock first"),
        ("back_to_async", r"import_stock \(\S*:36\) waits for MainThread while it holds `stock_lock`"),
        ("owned_locks@3.14", r"Two objects' `self.lock` are taken in opposite orders, in Shelf.take"),
        ("waitress_full", r"Bound the wait in app \(\S*:20\) \(a time-out in the call\)"),
        ("silent_peer", r"Bound the wait in value \(\S*:27\) \(`asyncio.timeout\(\)` around it\)"),
        ("regex", "Rewrite the pattern so that each letter can be matched in one way only"),
        ("fork", 'The start method "spawn" or "forkserver"'),
    ],
)
def test_a_cause_without_a_rewrite_says_by_hand_what_mends_it(name, words):
    answer = judged(name)
    assert answer.remedy and re.match(words, answer.remedy.by_hand)


@pytest.mark.parametrize("name", ["exit_post", "lifespan_retries", "lifespan_spins", "import_polls"])
def test_where_no_coroutine_blocks_no_rewrite_for_coroutines_is_offered(name):
    answer = judged(name)
    assert answer.remedy is None or answer.remedy.command is None
