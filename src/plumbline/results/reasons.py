"""Reasons of verdicts as typed values; `plumbline.reporting.content` has their texts."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

Kind = Literal[
    # Of a benchmark, from the baseline check
    "source_changed",
    "not_comparable",  # subjects: what differs from the baseline's machine, servers and packages
    "pinned_once",
    "measured_zero",
    "not_ruled_out",  # share: the minimum effect
    "slower_in_processes",  # number: of fresh processes
    "machine_slower",  # share
    "machine_faster",  # share
    # Of a benchmark, from the paired comparison
    "unaffected",  # detail: the base
    "compared",  # number: of pairs
    "pairs_inconclusive",  # number: of pairs
    "comparison_failed",  # detail: why
    "no_time_left",
    "application_elsewhere",
    "baseline_edited",
    "not_slower_than_base",
    # Of a benchmark, from its counts and what has been accepted
    "count_grown",  # counts
    "accepted",  # detail: the reason that was given
    "beyond_accepted",  # counts, or share and accepted_share; detail: the reason that was given
    # Of a benchmark of the baseline that was not measured
    "test_gone",
    "test_measures_nothing",
    "test_skipped",  # detail: why
    "removed",
    # Of a run, for being invalid
    "ended",  # detail: why pytest was ended, as for a service that is not ready
    "not_collected",  # subjects: the file; detail: the error
    "pytest_failed",  # detail: the exit code
    "comparison_invalid",  # detail
    "no_comparison",  # detail
    "nothing_measured",
    "benchmarks_invalid",  # subjects
    "benchmarks_missing",  # subjects
    # Of a run, for failing
    "counts_grown",  # counts
    "slower_than_base",  # subjects
    "slower_than_baseline",  # subjects
    "budgets_broken",  # subjects
    "tests_failed",  # subjects
    # Of a run with any other verdict
    "benchmarks_inconclusive",  # number, of
    "drifted",  # subjects
    "no_baseline",
    "sources_changed",  # subjects
    "within_limits",  # number
]


class CountGrowth(Struct, frozen=True, omit_defaults=True):
    """The change of one count per operation, in one or several benchmarks."""

    name: str
    old: float
    new: float
    benchmarks: int = 1
    alike: bool = True  # whether `old` and `new` are those of all these benchmarks, or only their difference is


class Reason(Struct, frozen=True, omit_defaults=True):
    """A reason for the verdict of a benchmark or of a run; `Kind` says which fields go with which kind."""

    kind: Kind
    detail: str = ""
    subjects: Sequence[str] = []
    counts: Sequence[CountGrowth] = []
    number: int = 0
    of: int = 0
    share: float = 0.0
    accepted_share: float = 0.0
    when_repeated: bool = False  # whether it arose when benchmarks were measured again
