"""The steps of a search for the commit that made one benchmark worse. Each tests one commit beside GOOD."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.statistics.schedule import conduct
from plumbline.comparing.statistics.search import Answer, answer_of, step_thresholds
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_runner import PairRunner, pair_runner
from plumbline.counting.families import family
from plumbline.judging.counts import GrownCount, figure_of, grown_count
from plumbline.judging.evidence import ComparisonEvidence, Judgement, Thresholds
from plumbline.results.schema import Counts
from plumbline.settings import Settings, Tail

MOST_TRIES = 2  # of a step, if its controls read wrong
MOST_OF_COUNT = 0.9  # the share of a count that counts as all of it: some vary a little


@dataclass(frozen=True)
class Slower:
    """A slow-down to find."""

    change: float  # a share
    low: float  # the lower end of its interval
    thresholds: Thresholds  # of each step
    tail: Tail | None  # the figure that has it, if the fastest samples have not


@dataclass(frozen=True)
class StepResult:
    """The result of a step. `why` is the reason for a skip, or for a good commit that was not measured."""

    answer: Answer
    judgement: Judgement | None = None
    count: float | None = None
    why: str = ""


def sought(found: ComparisonEvidence, plan: BenchmarkPlan, steps: int) -> GrownCount | Slower | None:
    """Return what got worse between GOOD and BAD: a count if one has grown, because it needs no timing."""
    if (counts := found.counts.get(plan.key)) and (grown := grown_count(*counts)):
        return grown
    judgement = found.judgements.get(plan.key)
    if judgement is None or judgement.verdict != "regression":
        return None
    slower = {tail: one for tail, one in judgement.tails.items() if one.verdict == "regression"}
    tail, one = None, judgement
    if slower and judgement.low <= plan.thresholds.tolerance:
        tail, one = max(slower.items(), key=lambda item: item[1].change)
    return Slower(one.change, one.low, step_thresholds(plan.thresholds, one.change, steps, tail), tail)


def share_of(sought: GrownCount | Slower, found: ComparisonEvidence, key: str) -> float:
    """Return the share of what a search looks for that a comparison has found: 1 is all of it."""
    if isinstance(sought, GrownCount):
        base, head = (figure_of(one, sought.name) for one in found.counts.get(key, (Counts(), Counts())))
        return (head - base) / (sought.new - sought.old)
    judgement = _judged(sought, found.judgements.get(key))
    return math.log1p(judgement.change) / math.log1p(sought.change) if judgement else 0.0


def is_all(sought: GrownCount | Slower, found: ComparisonEvidence, key: str) -> bool:
    """Return whether a comparison may have found all that a search looks for."""
    if isinstance(sought, GrownCount):
        return share_of(sought, found, key) > MOST_OF_COUNT
    judgement = _judged(sought, found.judgements.get(key))
    return judgement is not None and judgement.high >= sought.low


def _judged(sought: Slower, judgement: Judgement | None) -> Judgement | None:
    return judgement.tails[sought.tail] if judgement and sought.tail else judgement


@dataclass(frozen=True)
class Stepper:
    """Tests commits for what got worse. `sides_with` returns the sides of a comparison of GOOD with a commit."""

    settings: Settings
    plan: BenchmarkPlan
    sought: GrownCount | Slower
    sides_with: Callable[[str], Sides]
    limit_s: float  # of one step
    profile: str
    backends: Mapping[str, str]

    def step(self, commit: str) -> StepResult:
        """Test a commit, and a second time if the controls read wrong. Raises ComparisonInvalid."""
        for tries_left in reversed(range(MOST_TRIES)):
            try:
                return self._step(commit)
            except (NoBase, CopyFailed) as error:
                return StepResult("skip", why=str(error))
            except ComparisonInvalid as error:
                if error.side == "head":
                    return StepResult("skip", why=str(error))
                if not tries_left:
                    raise
        raise AssertionError("it has returned or raised")

    def _step(self, commit: str) -> StepResult:
        sides, key = self.sides_with(commit), self.plan.key
        if not sides.differ:
            return StepResult("good", why="the same files and packages")
        with pair_runner(self.settings, sides, [self.plan], self.profile, self.backends) as runner:
            if why := runner.rehearsal.failures.get(key):
                return StepResult("skip", why=why)
            if key in runner.rehearsal.unaffected:
                found = StepResult("good", why="it runs no changed code")
            elif isinstance(self.sought, GrownCount):
                found = self._count(runner, self.sought)
            else:
                found = self._time(runner, self.sought)
            packages = runner.rehearsal.unjudged.get(key, [])
        if packages and found.answer == "good":  # the commit may be slower with its own packages
            return StepResult("skip", why=f"its packages can't be compared: {', '.join(packages)}")
        return found

    def _count(self, runner: PairRunner, sought: GrownCount) -> StepResult:
        counted = runner.count([self.plan], head_only=True)
        notes = counted.notes
        if self.plan.key not in counted.counts:
            return StepResult("skip", why="; ".join(notes) or "it can't be counted")
        [head] = counted.counts[self.plan.key]
        if family(sought.name) not in head.families:
            return StepResult("skip", why="; ".join(notes) or f"{sought.name} can't be counted")
        value = figure_of(head, sought.name)
        return StepResult("bad" if value > (sought.old + sought.new) / 2 else "good", count=value)

    def _time(self, runner: PairRunner, sought: Slower) -> StepResult:
        plan = BenchmarkPlan(self.plan.key, self.plan.sample_s, sought.thresholds)
        found = conduct([plan], runner.run_pair, limit_s=self.limit_s)
        judgement = _judged(sought, found.judgements.get(plan.key))
        if judgement is None:
            return StepResult("skip", why=found.failures.get(plan.key, "too few pairs within the time limit"))
        return StepResult(answer_of(judgement, sought.change), judgement)
