"""Plans of the benchmarks in a pair: the number of blocks and samples of each, and their duration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from plumbline.comparing.statistics.tails import Reading
from plumbline.judging.evidence import Thresholds
from plumbline.settings import Tail

# Blocks of each side in a pair.
LEAST_BLOCKS = 20
LEAST_BLOCKS_OF_SLOW = 3
MOST_BLOCKS, MOST_BLOCKS_OF_TAIL = 512, 2048  # the second one if some calls look slower
# A benchmark gets at least LEAST_BLOCKS, or as many as fit into this time, but at least LEAST_BLOCKS_OF_SLOW.
LEAST_MEASURED_S = 0.4
# The target duration of a block. A longer sample is a block by itself. Short blocks vary less, because the speed of a
# disturbed machine changes within tens of milliseconds: in equal time, a third to a tenth of the variance.
BLOCK_S = 0.0004
MOST_SAMPLES = 40
WARM_UP_S = 0.008
# Rounds before those that count: caches fill and connections open in them. psycopg prepares a statement when a
# connection executes it for the sixth time. A benchmark has fewer rounds if they would take longer than ROUNDS_LIMIT_S.
LEAST_ROUNDS, PREPARING_ROUNDS, MOST_ROUNDS = 2, 6, 10
ROUNDS_LIMIT_S = 0.25
# Time in addition to the samples: per block, per benchmark in a pair, and per pair.
TURN_S = 0.0005
BEGIN_S = 0.02
PAIR_OVERHEAD_S = 0.7

# The place of a deliberate slow-down: the timed block, the process of the application, or PostgreSQL.
Where = Literal["block", "application", "server"]


@dataclass(frozen=True)
class BenchmarkPlan:
    """A benchmark to compare, its thresholds, and its number of blocks."""

    key: str
    sample_s: float  # estimated duration of one sample
    thresholds: Thresholds
    blocks: int = LEAST_BLOCKS  # of each side, in a pair
    slow_down: float = 0.0  # deliberate slow-down of head, as a share, for controls and the self-check
    slowed_in: Where = "block"
    slowed_calls: float = 1.0  # the share of the calls that are slowed down, at random

    @property
    def samples(self) -> int:
        if not self.sample_s:
            return MOST_SAMPLES
        return min(math.ceil(BLOCK_S / self.sample_s), MOST_SAMPLES)

    @property
    def warm_up(self) -> int:
        """Number of samples that a fresh process takes first and discards."""
        return min(max(math.ceil(WARM_UP_S / self.sample_s), 1), MOST_SAMPLES) if self.sample_s else MOST_SAMPLES

    @property
    def rounds_before_counts(self) -> int:
        least = PREPARING_ROUNDS if PREPARING_ROUNDS * self.sample_s <= ROUNDS_LIMIT_S else LEAST_ROUNDS
        return min(max(self.warm_up, least), MOST_ROUNDS)

    @property
    def block_s(self) -> float:
        return self.samples * self.sample_s + TURN_S

    @property
    def pair_s(self) -> float:
        """Estimated duration in a pair, including the warm-up of both sides, in seconds."""
        return 2 * self.blocks * self.block_s + 2 * self.warm_up * self.sample_s + BEGIN_S

    def within(self, share_s: float, most_blocks: int) -> "BenchmarkPlan":
        """Return the plan with the blocks that fit into `share_s`, at most `most_blocks` and at least the minimum."""
        of_both_s = 2 * self.block_s
        least = max(min(int(LEAST_MEASURED_S / of_both_s), LEAST_BLOCKS), LEAST_BLOCKS_OF_SLOW)
        return self.with_blocks(max(min(int(share_s / of_both_s), most_blocks), least))

    def with_blocks(self, blocks: int) -> "BenchmarkPlan":
        return replace(self, blocks=blocks)


@dataclass(frozen=True)
class Pair:
    """The evidence of one pair, by key of the benchmark or control."""

    # log(head / base) for each two neighbouring blocks
    block_differences: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why a benchmark could not be compared
    # samples of base and of head, in seconds per operation
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    tails: dict[str, dict[Tail, Reading]] = field(default_factory=dict)
    idle_s: float = 0.0  # waiting time for processes that had been started ahead


class RunPair(Protocol):
    """Runs one pair."""

    def __call__(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        """`then`: the benchmarks that the next pair will choose from, if they are known."""


def expected_s(plans: Sequence[BenchmarkPlan]) -> float:
    """Return the estimated duration of a pair of these benchmarks, in seconds."""
    return PAIR_OVERHEAD_S + sum(plan.pair_s for plan in plans)


def blocks_within(left_s: float, plans: Sequence[BenchmarkPlan], most: Mapping[str, int]) -> dict[str, int]:
    """Share `left_s` among the benchmarks that `most` names. Others get the time that a benchmark does not need."""
    of_named = sorted((plan for plan in plans if plan.key in most), key=lambda one: most[one.key] * one.block_s)
    blocks = {}
    for at, plan in enumerate(of_named):
        blocks[plan.key] = plan.within(left_s / (len(of_named) - at), most[plan.key]).blocks
        left_s = max(left_s - 2 * blocks[plan.key] * plan.block_s, 0.0)
    return blocks
