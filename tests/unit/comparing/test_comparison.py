"""Time and notes of a paired comparison."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from plumbline.comparing import comparison
from plumbline.comparing.comparison import compare, few_samples
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair
from plumbline.comparing.statistics.schedule import PairedComparison
from plumbline.comparing.trees.ignored import Extras
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.comparing.workers.pair_runner import CountedPair
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.settings import GateSettings, Settings


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


class SlowRunner:
    """Starts, rehearses and counts for 100 s on a clock of its own. A pair of equal sides takes 5 s."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pairs = 0
        self.rehearsal = SimpleNamespace(
            unaffected=set(), unjudged={}, failures={}, failed_in_head=set(), brought_along=[], untraced={}
        )

    @contextlib.contextmanager
    def started(self, *_: object) -> Iterator["SlowRunner"]:
        self.now_s += 50
        yield self

    def count(self, plans: object) -> CountedPair:
        del plans
        self.now_s += 50
        return CountedPair({}, {}, [])

    def run_pair(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        self.now_s += 5
        self.pairs += 1
        return Pair({plan.key: [0.001 * (self.pairs % 2)] * (2 * plan.blocks - 1) for plan in chosen})

    def slower_functions(self, plans: object) -> dict[str, object]:
        del plans
        return {}


def test_a_slow_start_takes_no_time_from_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first pair, 100 s have passed. The limit of the pairs is 60 s."""
    runner, tree = SlowRunner(), Path("/nowhere")
    monkeypatch.setattr(comparison, "pair_runner", runner.started)
    base, head = (Side(name, tree, tree, tree) for name in ("base", "head"))
    sides = Sides(base, head, files=[], packages=[], modules=[], import_from=[], extras=Extras([], []), top=tree)
    plans = [BenchmarkPlan("test_it.py::test_0", 0.001, Thresholds.of(GateSettings(tails=()), None))]

    found = compare(Settings(), sides, plans, limit_s=60.0, clock=lambda: runner.now_s)

    assert {one.verdict for one in found.judgements.values()} == {"pass"}
    assert not found.notes
