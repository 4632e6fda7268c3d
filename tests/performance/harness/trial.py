"""How a paired comparison proceeds: which benchmarks are in the next pair, for how long, and when they are looked at.

It has two stages. In the first look every benchmark is in FIRST_PAIRS pairs and judged once: most are acquitted there,
and large slow-downs convicted. What is left is looked at closely, in longer pairs and after numbers of pairs that are
fixed beforehand. The second stage uses none of the first one's pairs. Its own are therefore independent of what chose
its benchmarks, so that the error allowed in it is shared by those few alone (Cox 1975, Biometrika 62:441). Each stage
may make half of the errors.

Nothing here measures: a function runs a pair, a real one or a recorded one.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .pairs import Judgement, Thresholds, TrialInvalid, difference, judge_pairs
from .summary import student_quantile

FIRST_PAIRS = 3
CLOSE_LOOKS = (4, 6, 9, 14, 22, 35, 55)
FIRST_SHARE = 0.6
"""Of the time at most, for the first look."""
STAGES = 2

MEASURED_S = 2.5
"""What a pair measures at least: about as long as its processes take to start and to end."""
LEAST_QUADS, LEAST_QUADS_OF_SLOW, MOST_QUADS = 4, 2, 64
SLOW_QUAD_S = 0.05
BLOCK_S = 0.004
MOST_SAMPLES = 40
UNUSED = 2
"""Samples thrown away at the begin of a block: the other arm has had the caches."""
TURN_S = 0.0005
BEGIN_S = 0.02
PAIR_OVERHEAD_S = 1.5

CONTROLS = {"harness/controls.py::test_alike": 0.0, "harness/controls.py::test_slowed": 0.1}
"""Keys of the controls, and by how much each is slowed down in head."""
CONTROL_ERROR = 0.001
CONTROL_TOLERANCE = 0.01
CONTROL_SAMPLE_S = 5e-5


@dataclass(frozen=True)
class Wish:
    """A benchmark to be compared."""

    key: str
    sample_s: float
    """What one sample takes, about."""
    thresholds: Thresholds
    quads: int = LEAST_QUADS
    """In a pair."""
    slow_down: float = 0.0
    """By how much head is slowed down on purpose, as a share: the controls, and the self-check."""

    @property
    def samples(self) -> int:
        """In a block."""
        return min(max(math.ceil(BLOCK_S / self.sample_s), 1), MOST_SAMPLES) if self.sample_s else MOST_SAMPLES

    @property
    def unused(self) -> int:
        return UNUSED if self.sample_s < BLOCK_S else 0  # to a long sample, cold caches are nothing

    @property
    def block_s(self) -> float:
        """What a turn takes, about."""
        return (self.samples + self.unused) * self.sample_s + TURN_S

    @property
    def pair_s(self) -> float:
        """What a pair spends on it, about, the block of warm-up in both arms included."""
        return (4 * self.quads + 2) * self.block_s + BEGIN_S

    def within(self, share_s: float) -> "Wish":
        """With as many quads as go into its share of a pair, within bounds."""
        quad_s = 4 * self.block_s
        least = LEAST_QUADS if quad_s < SLOW_QUAD_S else LEAST_QUADS_OF_SLOW
        return dataclasses.replace(self, quads=min(max(int(share_s / quad_s), least), MOST_QUADS))


@dataclass
class Pair:
    """What one pair of fresh processes has found, by key."""

    quads: dict[str, list[float]] = field(default_factory=dict)
    """By how much head was slower in each quad, as logarithms; the controls' as well."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a benchmark could not be compared."""


RunPair = Callable[[Sequence[Wish]], Pair]


@dataclass
class Trial:
    """What a paired comparison has found so far."""

    differences: dict[str, list[float]] = field(default_factory=dict)
    """By key, one for each pair of the stage that has judged it; the controls' of all pairs."""
    judgements: dict[str, Judgement] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why a benchmark could not be compared, by key."""
    pairs: int = 0
    elapsed_s: float = 0.0
    expected_s: float = 0.0
    """What its pairs would take by the estimate, which knows nothing of the machine."""
    spent_s: float = 0.0
    """What they took."""

    def add(self, pair: Pair, differences: dict[str, list[float]], *, expected_s: float, spent_s: float) -> None:
        """Take a pair's differences into those of its stage, the controls' into those of the trial."""
        self.pairs += 1
        self.expected_s += expected_s
        self.spent_s += spent_s
        self.failures |= pair.failures
        for key, quads in pair.quads.items():
            (self.differences if key in CONTROLS else differences).setdefault(key, []).append(difference(quads))

    def undecided(self, key: str) -> bool:
        found = self.judgements.get(key)
        return key not in self.failures and (found is None or found.verdict == "inconclusive")


def conduct(wishes: Sequence[Wish], run_pair: RunPair, *, budget_s: float, clock: Callable[[], float]) -> Trial:
    """Compare until each benchmark is convicted or acquitted, or the time is up; the worst come first.

    `clock`: seconds since the begin, by which the budget counts. Raises TrialInvalid where the controls are off.
    """
    trial = Trial()
    _stage(trial, wishes, run_pair, (FIRST_PAIRS,), budget_s * FIRST_SHARE, clock)
    left = [wish for wish in wishes if wish.key in trial.judgements and trial.undecided(wish.key)]
    left.sort(key=lambda wish: -trial.judgements[wish.key].change)
    _stage(trial, left, run_pair, CLOSE_LOOKS, budget_s, clock)
    trial.elapsed_s = clock()
    if problem := controls_off(trial.differences):
        raise TrialInvalid(problem)
    return trial


def _stage(
    trial: Trial,
    wishes: Sequence[Wish],
    run_pair: RunPair,
    looks: Sequence[int],
    until_s: float,
    clock: Callable[[], float],
) -> None:
    """Judge benchmarks by new pairs, after these numbers of pairs or, if it comes first, when the time is up."""
    tried = _affordable([wish.within(MEASURED_S / len(wishes)) for wish in wishes], looks[0], trial, until_s - clock())
    differences: dict[str, list[float]] = {wish.key: [] for wish in tried}
    limits = {wish.key: wish.thresholds.share_of(STAGES) for wish in tried}
    looked_at = dict.fromkeys(differences, 1)

    def look_at(due: Sequence[str]) -> None:
        found = judge_pairs(differences, due, limits, tried=len(tried), looks=len(looks))
        trial.judgements |= found
        trial.differences |= {key: differences[key] for key in found}
        looked_at.update({key: len(differences[key]) for key in found})

    def undecided(pairs: int) -> list[Wish]:
        return [wish for wish in tried if trial.undecided(wish.key) and len(differences[wish.key]) == pairs]

    pairs = 0
    for look in looks:
        while pairs < look and (chosen := _affordable(undecided(pairs), look - pairs, trial, until_s - clock())):
            began_s = clock()
            pair = run_pair(chosen)
            pairs += 1
            trial.add(pair, differences, expected_s=expected_s(chosen), spent_s=clock() - began_s)
        look_at([wish.key for wish in undecided(look)])
    # The time was up for these, between two looks: of which there are no more than were planned.
    look_at([key for key, values in differences.items() if trial.undecided(key) and len(values) > looked_at[key]])


def _affordable(wishes: Sequence[Wish], pairs: int, trial: Trial, left_s: float) -> list[Wish]:
    """Those that can be in so many pairs in the time left, from the first on."""
    pace = trial.spent_s / trial.expected_s if trial.expected_s else 1.0
    chosen: list[Wish] = []
    for wish in wishes:
        if pairs * pace * expected_s([*chosen, wish]) <= left_s:
            chosen.append(wish)
    return chosen


def expected_s(wishes: Sequence[Wish]) -> float:
    """What a pair of these takes, about."""
    return PAIR_OVERHEAD_S + sum(wish.pair_s for wish in wishes)


def controls(thresholds: Thresholds) -> list[Wish]:
    """The controls, to be run first in each pair; they are not judged by thresholds."""
    return [Wish(key, CONTROL_SAMPLE_S, thresholds, slow_down=share) for key, share in CONTROLS.items()]


def controls_off(differences: Mapping[str, Sequence[float]]) -> str:
    """What is wrong with the controls, if a 99.9 % interval of one excludes the truth by more than a point."""
    for key, truth in CONTROLS.items():
        values = differences.get(key, [])
        if len(values) < 2:
            continue
        change, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
        margin = student_quantile(1 - CONTROL_ERROR / 2, len(values) - 1) * error
        if abs(change - math.log1p(truth)) - margin > CONTROL_TOLERANCE:
            return (
                f"the control {key.rpartition('::')[2]} reads {math.expm1(change):+.1%} and should read"
                f" {truth:+.0%}: this machine can't be trusted now"
            )
    return ""
