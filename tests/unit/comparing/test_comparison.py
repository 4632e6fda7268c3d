"""Notes on a paired comparison."""

from plumbline.comparing.comparison import few_samples
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.statistics.schedule import PairedComparison
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.settings import GateSettings


def test_benchmarks_with_few_samples_are_noted() -> None:
    """Five passed with 14 to 70 samples of 1 ms, and one with 200. The fewest come first."""
    blocks = [7, 14, 20, 30, 35, 100]
    keys = [f"test_it.py::test_{count}" for count in blocks]
    passed = Judgement("pass", 0.0, -0.01, 0.01, 0.03, pairs=2, error=0.005)
    found = PairedComparison(
        {key: [[0.0] * (2 * count - 1)] * 2 for key, count in zip(keys, blocks, strict=True)},
        dict.fromkeys(keys, passed),
    )
    plans = [BenchmarkPlan(key, 0.001, Thresholds.of(GateSettings(), None)) for key in keys]

    [note] = few_samples(plans, found)
    assert note.endswith(
        "test_it.py::test_7 (14 samples, 1 in 4), test_it.py::test_14 (28 samples, 1 in 8),"
        " test_it.py::test_20 (40 samples, 1 in 11) and 2 more"
    )
    assert list(few_samples(plans[-1:], found)) == []
