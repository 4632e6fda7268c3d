"""The schema of `results.json` and of baselines: both are `Results`. `reporting.content` has the texts of reasons."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

SCHEMA = 1

Verdict = Literal[
    "pass",
    "regression",
    "improvement",
    "accepted",  # a regression that has been accepted
    "drift",  # slower than the baseline, but not than the base commit on this machine
    "inconclusive",
    "invalid",  # not measured as it should be
    "new",  # not in the baseline, or there is none
    "changed",  # its source is not the baseline's
    "missing",  # in the baseline, neither run nor deselected
    "removed",  # a proposed change has taken it out of the baseline
]

# No benchmark takes longer than 30 years: arithmetic on what is edited by hand must not overflow.
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
NotNegative = Annotated[float, Meta(ge=0)]
Outcome = Literal["passed", "failed", "skipped"]

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
    "copy_failed",  # detail: why the copy of the working tree cannot run it
    "new_in_change",  # detail: why the base cannot run it
    "no_time_left",
    "application_elsewhere",
    "baseline_edited",
    "packages_unjudged",  # subjects: the packages, or lock files
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
    "not_compared",  # subjects
    "new_benchmarks",  # subjects
    "unmeasured_allowed",  # subjects; or detail: why nothing was compared
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


UnjudgedCause = Literal[
    # Of a package
    "installed_otherwise",  # than head's lock file says
    "not_installed",  # although head's lock file has it
    "still_installed",  # although head's lock file has it no more
    "held_back",  # Plumbline does not work with the base's version
    "not_pinned",  # in the base
    "not_a_release",  # but a file, a branch or a local build
    "one_environment",  # the application's, named in the settings, is that of both sides
    "unreadable",
    "other_files",  # under the same version, as from another index
    # Of a lock file
    "unknown_format",
    "no_base_lock",
    # Of Python
    "other_python",  # the base asks for another one, and runs on head's
]


CauseKind = Literal[
    "statement",  # of SQL
    "command",  # of Redis
    "count",  # any other
    "time",  # median
    "function",  # that takes more time under a profiler
    "budget",
    "test",  # its error
    "run",  # why it is invalid
    "reason",  # any other
]

# "failed": a test; "over budget": a benchmark with no other problem.
ProblemVerdict = Literal["regression", "over budget", "inconclusive", "invalid", "missing", "failed"]


class CountGrowth(Struct, frozen=True, omit_defaults=True):
    """The change of one count per operation, in one or several benchmarks."""

    name: str  # as in `counts` of a benchmark: `redis.messages`, or `postgres.statement` and the statement
    old: float  # of one benchmark, as `new`
    new: float
    benchmarks: int = 1  # how many benchmarks it changed in
    alike: bool = True  # whether `old` and `new` are those of all these benchmarks, or only their difference is


class Reason(Struct, frozen=True, omit_defaults=True):
    """A reason for the verdict of a benchmark or of a run; `Kind` says which fields go with which kind."""

    kind: Kind  # its code, of which `plumbline explain CODE` prints the meaning
    detail: str = ""  # text that differs from case to case, such as an error
    subjects: Sequence[str] = []  # keys of benchmarks or tests, or names of files or packages
    counts: Sequence[CountGrowth] = []  # those that grew
    number: int = 0  # of pairs, of processes or of benchmarks
    of: int = 0  # out of so many benchmarks
    share: float = 0.0  # 0.05 is 5 %
    accepted_share: float = 0.0  # the slow-down that was accepted
    when_repeated: bool = False  # whether it arose when benchmarks were measured again


class UnjudgedPackage(Struct, frozen=True, omit_defaults=True):
    """A package that a change affects without a comparison of its versions, or a lock file of such packages."""

    name: str  # of the package, or of the lock file
    cause: UnjudgedCause  # a code, of which `plumbline explain CODE` prints the meaning
    base: str = ""  # what the lock file of each side has; "" if it has nothing, or no certain version
    head: str = ""
    installed: str = ""  # the version that both sides were measured with
    file: str = ""  # the lock file


class BudgetResult(Struct, frozen=True, omit_defaults=True):
    """One limit of a budget and the measured figure, both in the unit that the name ends with."""

    name: str  # as in settings.toml: `p95_ms`
    limit: float
    measured: float
    kept: bool  # whether the figure is within the limit
    note: str = ""  # why it was not judged, if so


class CountChange(Struct, frozen=True, omit_defaults=True):
    """A count that differs from the baseline's, both per operation."""

    name: str  # as in `counts` of the benchmark
    old: float  # in the baseline
    new: float  # in this run
    gated: bool = False  # whether it counts against the benchmark


class FunctionTime(Struct, frozen=True, omit_defaults=True):
    """Time of one function under a profiler on each side, in seconds per operation.

    A function of the repository's own includes what it calls, any other does not.
    """

    name: str
    file: str  # below the tree, or below the folder of packages; "" for built-in functions
    line: int
    base_s: Seconds  # on the side of the base commit
    head_s: Seconds  # on the side of the working tree
    base_calls: NotNegative  # calls per operation, as `head_calls`
    head_calls: NotNegative
    where: str = ""  # the process: "" for that of the test, else the name of the application or process
    own: bool = False  # whether it is a function of the repository


class Benchmark(Struct, frozen=True, omit_defaults=True):
    """One benchmark. Times are in seconds per operation."""

    key: str  # node id below tests/performance
    unit: str  # of its times: always "s"
    verdict: Verdict | None  # None if nothing has judged it, as in a baseline
    median: Seconds  # of its samples; over all processes, if several measured it
    counts: Mapping[str, float]  # per operation, by name; a name that is absent is 0 if its family was counted
    counts_varying: Mapping[str, Sequence[float]] = {}  # between rounds, or processes of a baseline: never judged
    counted: Sequence[str] = []  # the families of counts that could be taken
    count_changes: Sequence[CountChange] = []  # against the baseline
    mean: Seconds = 0.0  # of its samples, as the figures below
    p95: Seconds = 0.0
    p99: Seconds | None = None  # from 1,000 samples on
    minimum: Seconds = 0.0
    maximum: Seconds = 0.0
    rate_per_s: NotNegative = 0.0  # operations per second
    operations: int = 1  # operations in each sample
    operation: str = ""  # what one operation is, such as "row"; "" if the test does not say
    samples: int = 0  # number of samples; over all processes, in a baseline
    samples_s: Sequence[Seconds] = []  # each sample; not kept in a baseline
    process_medians: Sequence[Seconds] = []  # the median of each fresh process that measured it
    spread: Annotated[float, Meta(ge=0, le=100)] | None = None  # standard deviation of log(process_medians)
    pin: int | None = None  # the core that it was pinned to; None if it was not pinned
    machine_speed_s: Seconds = field(default=0.0, name="pace_s")  # time of a fixed piece of work; 0 if not known
    source_hash: str = ""  # of its test and of the fixtures that it uses
    renamed_from: str = ""  # its key in the baseline, if that is another one
    description: str = ""  # the docstring of its test
    line: int = 0  # first line of its test, from 0
    source: str = ""  # the code of its test; not kept in a baseline
    tolerance: float | None = None  # its own, if it has one; as `minimum_effect`
    minimum_effect: float | None = None
    baseline_median: Seconds | None = None  # of one operation, in the baseline
    change: float | None = None  # against the base or the baseline: 0.05 is 5 % slower
    change_low: float | None = None  # lower end of the interval of the change
    change_high: float | None = None  # upper end
    minimum_detectable_effect: float | None = field(default=None, name="resolution")  # with the wanted power
    differences: Sequence[float] = []  # of each pair: the logarithm of head's time over base's
    base_samples_s: Sequence[Seconds] = []  # of its last pair, thinned out evenly; as `head_samples_s`
    head_samples_s: Sequence[Seconds] = []
    functions: Sequence[FunctionTime] = []  # of a regression: what got slower under a profiler, the worst first
    budgets: Sequence[BudgetResult] = []  # each limit of its budget
    reasons: Sequence[Reason] = []  # why the verdict is what it is
    warnings: Sequence[str] = []  # texts; they do not change the verdict


class TestOutcome(Struct, frozen=True, omit_defaults=True):
    """One test of the run, benchmark or not."""

    __test__ = False  # pytest: not a test class

    key: str  # node id below tests/performance
    outcome: Outcome
    duration_s: Seconds
    message: str = ""  # the error, or why it was skipped
    benchmark: bool = False  # whether it has measured something
    service_off: bool = False  # whether it was skipped because the settings have switched its service off
    line: int = 0  # first line of the test, from 1; 0 if it is not known


class Cause(Struct, frozen=True, omit_defaults=True):
    """One thing that got worse, and its place. A field is empty if it is not known."""

    kind: CauseKind
    text: str  # on one line
    old: float | None = None  # as `new`: a count or seconds per operation; the limit of a budget
    new: float | None = None
    file: str = ""  # below the project's root, or below the folder of packages
    line: int = 0  # from 1
    function: str = ""
    process: str = ""  # "test", or the name of the application or process


class Problem(Struct, frozen=True, omit_defaults=True):
    """Something that fails the run, with its causes. A field is empty if it is not known."""

    key: str  # of the benchmark or test; "" for the run as a whole
    verdict: ProblemVerdict
    codes: Sequence[Kind]  # kinds of reasons, the most important first
    causes: Sequence[Cause]
    repeat: str  # the command that runs just this one again
    file: str = ""  # of the test, below the project's root
    line: int = 0  # first line of the test, from 1


class Environment(Struct, frozen=True, omit_defaults=True):
    """The machine, Python, servers and packages that the figures depend on."""

    machine: str  # the owner's name for it, or a hash of its machine id, host name and hardware
    system: str
    architecture: str
    cpu: str
    cpu_count: int
    kernel: str
    python: str
    services: Mapping[str, str]  # backend by service: `{"redis": "embedded"}`
    versions: Mapping[str, str]  # server version by service
    pin: int | None  # the core that the run was pinned to; None if it was not pinned
    commit: str  # of the working tree; "" without git
    dirty: bool  # whether the working tree has changes that are not committed
    packages: Mapping[str, str]  # version by name
    branch: str = ""  # "" if it is not known


class Results(Struct, frozen=True, omit_defaults=True):
    """A run, or a baseline. A run has no verdict before `plumbline.judging.decide` has added it."""

    schema: int  # the version of this schema
    verdict: Verdict | None  # of the run; None in a baseline
    environment: Environment
    benchmarks: Sequence[Benchmark]  # of a run also those that should have been measured, and were not
    profile: str = ""  # the profile of settings.toml that it ran with
    project: str = ""  # its name in pyproject.toml, or that of its folder
    created: str = ""  # ISO 8601, UTC
    duration_s: Seconds = 0.0  # of the whole command
    exit_code: int | None = None  # in a record: that of a run that was ended early
    reasons: Sequence[Reason] = []  # why the verdict of the run is what it is, the most important first
    notes: Sequence[str] = []  # texts; they do not change the verdict
    tolerance: float | None = None  # that benchmarks were judged by if they have none of their own; as `minimum_effect`
    minimum_effect: float | None = None
    baseline: str = ""  # the file that it was compared with
    baseline_commit: str = ""
    baseline_created: str = ""  # when the baseline was recorded, as `created`
    baseline_differences: Sequence[str] = []  # of machine, servers and packages, one line each
    base: str = ""  # the commit that it was compared with in pairs, and why that one
    base_differences: Sequence[str] = []  # files and packages that differ from the base, one line each
    unjudged_packages: Sequence[UnjudgedPackage] = []  # that differ from the base, and could not be compared
    collected_files: Sequence[str] = []  # whole: a benchmark of these that the baseline has must not be missing
    deselected: Sequence[str] = []  # keys of tests that the arguments or the profile left out
    app_elsewhere: Sequence[str] = []  # benchmarks whose application is not served from the working tree
    tests: Sequence[TestOutcome] = []  # each test of the run
    service_lines: Sequence[str] = []  # one line for each service: backend, why, version, core
    problems: Sequence[Problem] = []  # what fails the run, from all of the above: see `reporting.problems`


class Counts(Struct, frozen=True):
    """Counts per operation, by name."""

    same: dict[str, float] = {}  # equal in all rounds of the pass; bytes within what may differ
    varying: dict[str, list[float]] = {}  # by round; shown, never judged
    families: list[str] = []  # could be counted: a name of one of these that is absent counts 0
