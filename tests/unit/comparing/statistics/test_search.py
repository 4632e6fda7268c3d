"""The search for a bad commit: its order, its thresholds, and how often it is right."""

from collections.abc import Set

import pytest

from plumbline.comparing.statistics.search import Answer, Found, answer_of, search, step_thresholds, steps_of
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.results.schema import Verdict
from plumbline.settings import GateSettings

GATE = Thresholds.of(GateSettings(), None)
COMMITS = [f"commit {number}" for number in range(65)]  # GOOD and 64 more


def searched(culprit: int, broken: Set[int] = frozenset()) -> tuple[Found, list[int]]:
    """Return the result of a search without noise, and the commits that it tested."""
    tested: list[int] = []

    def test(commit: str) -> Answer:
        tested.append(COMMITS.index(commit))
        return "skip" if tested[-1] in broken else "bad" if tested[-1] >= culprit else "good"

    return search(COMMITS, test), tested


def test_each_of_64_commits_is_found_in_six_steps() -> None:
    """A step tests one commit, and none twice."""
    for culprit in range(1, 65):
        found, tested = searched(culprit)
        assert found == Found(COMMITS[culprit - 1], COMMITS[culprit], [])
        assert len(tested) == len({*tested}) == steps_of(COMMITS) == 6


def test_a_single_commit_needs_no_step() -> None:
    assert search(COMMITS[:2], lambda _: "skip") == Found(COMMITS[0], COMMITS[1], [])
    assert steps_of(COMMITS[:2]) == 0


def test_a_commit_that_cannot_run_is_skipped_without_its_neighbours() -> None:
    """Twenty broken commits in the middle cost three tests if the culprit is outside."""
    broken = {*range(22, 42)}
    found, tested = searched(50, broken)

    assert (found.good, found.bad) == (COMMITS[49], COMMITS[50])
    assert len(broken.intersection(tested)) <= 3


def test_broken_commits_before_the_first_bad_one_are_candidates() -> None:
    """Each of them may be the culprit."""
    found, _ = searched(31, {30, 31})

    assert found == Found(COMMITS[29], COMMITS[32], [COMMITS[30], COMMITS[31]])


def test_all_steps_share_one_error() -> None:
    """Of 5 %, six steps and the last comparison have a seventh each."""
    limits = step_thresholds(GATE, 0.05, 6)

    assert limits.tolerance == pytest.approx(1.05 ** (1 / 4) - 1)
    assert limits.minimum_effect == pytest.approx(1.05 ** (3 / 4) - 1)
    assert (limits.false_alarms, limits.power) == pytest.approx((0.05 / 7, 1 - 0.05 / 7))
    assert limits.of_fastest().false_alarms == limits.false_alarms


def test_a_tail_has_the_whole_error_of_a_step() -> None:
    limits = step_thresholds(GATE, 0.5, 6, "p90").of_tail()

    assert limits.tolerance == pytest.approx(1.5**0.4 - 1)
    assert limits.false_alarms == pytest.approx(0.05 / 7)


@pytest.mark.parametrize(
    ("verdict", "change", "answer"),
    [
        ("regression", 0.04, "bad"),
        ("pass", 0.01, "good"),
        ("improvement", -0.1, "good"),
        ("inconclusive", 0.024, "good"),
        ("inconclusive", 0.026, "bad"),
    ],
)
def test_an_inconclusive_step_is_decided_by_its_estimate(verdict: Verdict, change: float, answer: Answer) -> None:
    judgement = Judgement(verdict, change, change - 0.02, change + 0.02, 0.05, 12, 0.01)

    assert answer_of(judgement, 0.05) == answer
