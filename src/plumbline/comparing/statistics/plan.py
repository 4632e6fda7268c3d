"""Plan of a pair: its benchmarks, how many blocks of how many samples each gets, and how long that takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from plumbline.judging.evidence import Thresholds

# Blocks of each side in a pair.
LEAST_BLOCKS = 20
LEAST_BLOCKS_OF_SLOW = 3
MOST_BLOCKS = 512
# A benchmark may take this long in a pair, if that is more than the least blocks of a slow one.
LEAST_MEASURED_S = 0.4
# A slower sample is a block by itself. The speed of a disturbed machine changes within tens of milliseconds: measured
# for the same time there, the variance of 48 blocks of one request of 2 ms is a tenth of that of 4 blocks of twelve,
# and that of 60 blocks of two queries a third of that of 12 blocks of twenty.
BLOCK_S = 0.0004
MOST_SAMPLES = 40
WARM_UP_S = 0.008
# Time beside the samples: of a block, of a benchmark in a pair, and of a pair.
TURN_S = 0.0005
BEGIN_S = 0.02
PAIR_OVERHEAD_S = 0.7

# Stands in keys for the file of the controls, benchmarks of this package whose difference is known beforehand.
CONTROLS_FILE = "plumbline/controls.py"
# Keys of the controls, and by how much each is slowed down in head.
CONTROLS = {f"{CONTROLS_FILE}::test_alike": 0.0, f"{CONTROLS_FILE}::test_slowed": 0.1}
# Key of the self-check's own benchmark, which sleeps in PostgreSQL.
IN_SERVER = f"{CONTROLS_FILE}::test_in_server"
CONTROL_SAMPLE_S = 5e-5

Where = Literal["block", "application", "server"]
"""Place of a deliberate slow-down: the timed block, or the process of the application or of PostgreSQL."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """A benchmark to be compared."""

    key: str
    sample_s: float  # estimated duration of one sample
    thresholds: Thresholds
    blocks: int = LEAST_BLOCKS  # of each side, in a pair
    slow_down: float = 0.0  # share by which head is slowed down deliberately, for the controls and the self-check
    slowed_in: Where = "block"

    @property
    def samples(self) -> int:
        if not self.sample_s:
            return MOST_SAMPLES
        return min(math.ceil(BLOCK_S / self.sample_s), MOST_SAMPLES)

    @property
    def warm_up(self) -> int:
        """Samples that a fresh process begins with."""
        return min(max(math.ceil(WARM_UP_S / self.sample_s), 1), MOST_SAMPLES) if self.sample_s else MOST_SAMPLES

    @property
    def block_s(self) -> float:
        return self.samples * self.sample_s + TURN_S

    @property
    def pair_s(self) -> float:
        """Estimated duration in a pair, including the warm-up of both sides."""
        return 2 * self.blocks * self.block_s + 2 * self.warm_up * self.sample_s + BEGIN_S

    def within(self, share_s: float, most_blocks: int) -> "BenchmarkPlan":
        """Return the plan with the blocks that fit its share of a pair, between the least ones and `most_blocks`."""
        of_both_s = 2 * self.block_s
        least = max(min(int(LEAST_MEASURED_S / of_both_s), LEAST_BLOCKS), LEAST_BLOCKS_OF_SLOW)
        return replace(self, blocks=max(min(int(share_s / of_both_s), most_blocks), least))


@dataclass(frozen=True)
class Pair:
    """Evidence of one pair of fresh processes, by key."""

    block_differences: dict[str, list[float]] = field(default_factory=dict)
    """By how much head was slower, by each two neighbouring blocks, as logarithms; the controls' too."""
    failures: dict[str, str] = field(default_factory=dict)  # why a benchmark could not be compared
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """Samples of base and of head, in seconds per operation."""
    idle_s: float = 0.0  # how long the run waited for its processes, although they had been started ahead


class RunPair(Protocol):
    """Runs one pair."""

    def __call__(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        """`then`: benchmarks from which the next pair's will be, as far as they are known."""


def expected_s(plans: Sequence[BenchmarkPlan]) -> float:
    """Return the estimated duration of a pair of these, in seconds."""
    return PAIR_OVERHEAD_S + sum(plan.pair_s for plan in plans)


def controls(thresholds: Thresholds) -> list[BenchmarkPlan]:
    """Return the plans of the controls, which run first in each pair; thresholds do not judge them."""
    return [BenchmarkPlan(key, CONTROL_SAMPLE_S, thresholds, slow_down=share) for key, share in CONTROLS.items()]


def is_control(key: str) -> bool:
    """Return whether a key names one of this package's own benchmarks."""
    return key.partition("::")[0] == CONTROLS_FILE
