"""Steps of a search for a slower commit, on two small trees."""

from dataclasses import replace
from typing import Any

import pytest

from plumbline.comparing import bisection
from plumbline.comparing.bisection import Slower, Stepper, is_all, share_of, sought
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.search import step_thresholds
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.worker_pairs import WorkerPair, WorkerPairs
from plumbline.judging.counts import GrownCount
from plumbline.judging.evidence import ComparisonEvidence, Judgement
from plumbline.results.schema import Counts
from tests.unit.comparing.workers.small_trees import ASYNC, LIMITS, WORK, edit, plans_of, settings_of

[PLAN] = plans_of(WORK)
TWICE = Slower(1.0, 0.9, step_thresholds(LIMITS, 1.0, 1), None)


def stepper(sides: Sides) -> Stepper:
    return Stepper(settings_of(sides), PLAN, TWICE, lambda _: sides, 60.0, "ci", {})


@pytest.mark.usefixtures("nothing_left")
def test_a_commit_with_twice_the_work_is_bad(trees: Sides) -> None:
    edit(
        trees.head,
        "        pass\n\n\ndef alike",
        "        pass\n    for _ in range(4_000):\n        pass\n\n\ndef alike",
    )

    found = stepper(trees).step("any")

    assert found.answer == "bad"
    assert found.judgement
    assert found.judgement.change == pytest.approx(1.0, abs=0.4)


@pytest.mark.usefixtures("nothing_left")
def test_a_step_counts_the_commit_alone(trees: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of GOOD is known from the comparison with BAD."""
    edit(trees.head, "    for _ in range(4_000):\n        pass", "    time.sleep(0)")
    started, make = list[list[str]](), WorkerPairs.start

    def recorded(*arguments: Any, **more: Any) -> WorkerPair:
        pair = make(*arguments, **more)
        started.append([worker.side.name for worker in pair.both])
        return pair

    monkeypatch.setattr(WorkerPairs, "start", recorded)
    [plan] = plans_of(ASYNC)
    found = replace(stepper(trees), plan=plan, sought=GrownCount("blocking", 0, 1)).step("any")

    assert found.answer == "bad"
    assert found.count == 1
    assert started == [["base", "head"], ["head"]]  # the rehearsal, and what is counted


@pytest.mark.parametrize("error", [ComparisonInvalid("it ended", "head"), NoBase("redis 9 can't be installed")])
def test_a_commit_that_cannot_run_is_skipped(
    compiled: Sides, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert step_after(compiled, monkeypatch, [error]).why == str(error)


def test_a_step_is_repeated_once_if_a_control_reads_wrong(compiled: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the machine's fault. A commit that was skipped for it could be the culprit."""
    wrong = ComparisonInvalid("the control reads +20 %")

    assert step_after(compiled, monkeypatch, [wrong, NoBase("not here")]).why == "not here"
    with pytest.raises(ComparisonInvalid):
        step_after(compiled, monkeypatch, [wrong, wrong])


def step_after(sides: Sides, monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> bisection.StepResult:
    left = iter(errors)

    def pair_runner(*_: object) -> None:
        raise next(left)

    monkeypatch.setattr(bisection, "pair_runner", pair_runner)
    found = stepper(sides).step("any")
    assert found.answer == "skip"
    return found


def judged(**fields: object) -> Judgement:
    values = {"verdict": "regression", "change": 0.2, "low": 0.15, "high": 0.25, "error": 0.01, "pairs": 4}
    return Judgement(**{"minimum_detectable_effect": 0.05, **values, **fields})  # type: ignore[arg-type]


def test_a_count_is_looked_for_before_a_time() -> None:
    """It needs one run of each commit."""
    one, three = (Counts({"redis.command GET": number}, families=["redis.command"]) for number in (1, 3))
    found = ComparisonEvidence(judgements={WORK: judged()}, counts={WORK: (one, three)})

    assert sought(found, PLAN, 6) == GrownCount("redis.command", 1, 3)
    assert sought(ComparisonEvidence(judgements={WORK: judged()}), PLAN, 6) == Slower(
        0.2, 0.15, step_thresholds(LIMITS, 0.2, 6), None
    )


def test_a_tail_is_looked_for_if_only_some_calls_are_slower() -> None:
    tails = {"mean": judged(change=0.3), "p90": judged(change=0.8)}
    found = ComparisonEvidence(judgements={WORK: judged(change=0.0, low=-0.01, tails=tails)})

    assert sought(found, PLAN, 6) == Slower(0.8, 0.15, step_thresholds(LIMITS, 0.8, 6, "p90"), "p90")


def test_nothing_is_looked_for_if_nothing_is_worse() -> None:
    assert sought(ComparisonEvidence(judgements={WORK: judged(verdict="pass")}), PLAN, 6) is None


def test_equal_trees_are_good_without_a_run(compiled: Sides) -> None:
    equal = Sides(**{**vars(compiled), "files": []})

    assert stepper(equal).step("any").answer == "good"


def test_the_share_of_what_was_looked_for() -> None:
    """Of ten statements more, this commit has added four; of a slow-down by 21 %, half as a factor."""
    base, head = (Counts({"redis.command GET": number, "redis.command SET": 1}) for number in (0, 4))
    found = ComparisonEvidence(judgements={WORK: judged(change=0.1)}, counts={WORK: (base, head)})

    assert share_of(GrownCount("redis.command", 1, 11), found, WORK) == pytest.approx(0.4)
    assert share_of(Slower(0.21, 0.18, LIMITS, None), found, WORK) == pytest.approx(0.5)
    assert share_of(Slower(0.21, 0.18, LIMITS, None), ComparisonEvidence(), WORK) == 0


@pytest.mark.parametrize(("high", "of_all"), [(0.19, True), (0.17, False)])
def test_a_commit_may_have_all_of_a_slow_down_if_the_intervals_meet(high: float, of_all: bool) -> None:
    found = ComparisonEvidence(judgements={WORK: judged(change=0.1, high=high)})

    assert is_all(Slower(0.21, 0.18, LIMITS, None), found, WORK) is of_all
