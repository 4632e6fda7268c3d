"""The search for the commit that made a benchmark worse: which commit comes next, and when a commit is bad.

Each step compares a commit with GOOD, the first one. It is known what BAD, the last one, has: it is slower than GOOD by
a `change`, or a count has grown. A commit is bad if it has more than half of that.

A step that measures times asks two questions of `judge_pairs`: is the commit slower by more than a quarter of the
change, and can three quarters be ruled out? All steps of a search share ERROR, the chance that any of them is wrong.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from plumbline.judging.evidence import OF_TAIL, Judgement, Thresholds
from plumbline.settings import Tail

ERROR = 0.05
# The thresholds of a step, as shares of the change that the search looks for.
TOLERANCE, EFFECT = 1 / 4, 3 / 4
TAIL_TOLERANCE = 0.4  # the effect of a tail is 1.5 times its tolerance

Answer = Literal["good", "bad", "skip"]


@dataclass(frozen=True)
class Found:
    """The end of a search."""

    good: str  # the last good commit
    bad: str  # the first bad commit after it
    skipped: Sequence[str]  # the commits between them, which can't be tested


def search(commits: Sequence[str], test: Callable[[str], Answer]) -> Found:
    """Return the first bad commit. `commits` begins with a good one and ends with a bad one, the oldest first.

    The next commit to test is the one in the middle. After a skip it is the one that is farthest from all tested ones,
    because neighbours of a commit that can't run often can't either.
    """
    good, bad, skipped = 0, len(commits) - 1, set[int]()
    while left := [one for one in range(good + 1, bad) if one not in skipped]:
        tested = {good, bad, *skipped}
        chosen = max(left, key=lambda one: (min(abs(one - other) for other in tested), -abs(2 * one - good - bad)))
        match test(commits[chosen]):
            case "good":
                good = chosen
            case "bad":
                bad = chosen
            case "skip":
                skipped.add(chosen)
    return Found(commits[good], commits[bad], commits[good + 1 : bad])


def steps_of(commits: Sequence[str]) -> int:
    """Return the number of steps of a search that skips nothing. `commits` as for `search`."""
    return math.ceil(math.log2(max(len(commits) - 1, 1)))


def step_thresholds(limits: Thresholds, change: float, steps: int, tail: Tail | None = None) -> Thresholds:
    """Return the thresholds of one of `steps` steps, and of the comparison that confirms the result.

    `change`: the slow-down to find, as a share. `tail`: the figure that has it, if the fastest samples have not.
    """
    logarithm, share = math.log1p(change), ERROR / (steps + 1)
    of_fastest = replace(
        limits,
        tolerance=math.expm1(logarithm * TOLERANCE),
        minimum_effect=math.expm1(logarithm * EFFECT),
        false_alarms=share,
        power=1 - share,
        tails=(),
    )
    if tail is None:
        return of_fastest
    return replace(
        of_fastest, false_alarms=share / OF_TAIL, tails=(tail,), tail_tolerance=math.expm1(logarithm * TAIL_TOLERANCE)
    )


def answer_of(judgement: Judgement, change: float) -> Answer:
    """Return which half of the slow-down `change` a commit has. An inconclusive step is decided by its estimate."""
    if judgement.verdict == "inconclusive":
        return "bad" if math.log1p(judgement.change) > math.log1p(change) / 2 else "good"
    return "bad" if judgement.verdict == "regression" else "good"
