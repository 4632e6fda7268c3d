"""Numbers of blocks and samples in a pair."""

from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan
from plumbline.judging.evidence import Thresholds

LIMITS = Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97)
KEY = "test_it.py::test_0"


def test_slow_benchmarks_have_fewer_blocks() -> None:
    """The minimum is 0.4 s, or three blocks of each side."""
    assert BenchmarkPlan(KEY, 0.3, LIMITS).within(0.0, MOST_BLOCKS).blocks == 3
    assert BenchmarkPlan(KEY, 0.02, LIMITS).within(0.0, MOST_BLOCKS).blocks == 9
    assert BenchmarkPlan(KEY, 0.03, LIMITS).within(1.0, MOST_BLOCKS).blocks == 16


def test_a_block_has_as_many_samples_as_fill_its_time() -> None:
    """A block takes 0.4 ms. A slower sample is a block by itself."""
    plans = [BenchmarkPlan(KEY, sample_s, LIMITS) for sample_s in (0.0, 5e-6, 1e-4, 3e-4, 9e-4, 4e-3, 0.3)]
    assert [plan.samples for plan in plans] == [40, 40, 4, 2, 1, 1, 1]
    assert [plan.warm_up for plan in plans] == [40, 40, 40, 27, 9, 2, 1]


def test_rounds_before_counts_let_psycopg_prepare() -> None:
    """It prepares in the sixth execution. Rounds that take long are fewer."""
    plans = [BenchmarkPlan(KEY, sample_s, LIMITS) for sample_s in (0.0, 1e-4, 9e-4, 4e-3, 0.04, 0.05)]
    assert [plan.rounds_before_counts for plan in plans] == [10, 10, 9, 6, 6, 2]
