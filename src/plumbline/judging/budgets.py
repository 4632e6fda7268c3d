"""Budgets of benchmarks: which limits a measurement keeps."""

from collections.abc import Sequence

from msgspec.structs import replace

from plumbline.measuring.statistics import SAMPLES_FOR_P99, Summary
from plumbline.results.schema import Benchmark, BudgetResult
from plumbline.settings import Budget


def check_budget(budget: Budget, summary: Summary) -> list[BudgetResult]:
    """Return each limit of a budget with the measured figure; p99 is not judged below 1,000 samples."""
    measured_s = {
        "median_ms": summary.median_s,
        "mean_ms": summary.mean_s,
        "p95_ms": summary.p95_s,
        "p99_ms": summary.p99_s,
        "max_ms": summary.maximum_s,
    }
    results = []
    for name, value_s in measured_s.items():
        limit = getattr(budget, name)
        if limit is None:
            continue
        if value_s is None:
            note = f"judged from {SAMPLES_FOR_P99:,} samples on, there were {len(summary.samples_s)}"
            results.append(BudgetResult(name, limit, summary.maximum_s * 1e3, kept=True, note=note))
        else:
            results.append(BudgetResult(name, limit, value_s * 1e3, kept=value_s * 1e3 <= limit))
    if budget.rate_per_s is not None:
        kept = summary.rate_per_s >= budget.rate_per_s
        results.append(BudgetResult("rate_per_s", budget.rate_per_s, summary.rate_per_s, kept))
    return results


def broken(benchmark: Benchmark) -> list[BudgetResult]:
    """Return the limits of its budget that a benchmark breaks."""
    return [result for result in benchmark.budgets if not result.kept]


def with_kept_budget(benchmark: Benchmark, fresh: Sequence[Benchmark]) -> Benchmark:
    """Return a benchmark whose budget is kept, with a warning, if most of these fresh processes have kept it."""
    kept = [one for one in fresh if not broken(one)]
    if not broken(benchmark) or len(kept) <= len(fresh) / 2:
        return benchmark
    warning = f"its budget was broken, and kept in {len(kept)} of {len(fresh)} fresh processes"
    return replace(benchmark, budgets=kept[-1].budgets, warnings=[*benchmark.warnings, warning])


def most_agree(fresh: Sequence[Benchmark], processes: int) -> bool:
    """Return whether most of so many processes have kept the budget, or broken it, whatever the others will do."""
    kept = sum(not broken(one) for one in fresh)
    return max(kept, len(fresh) - kept) > processes / 2
