"""The schema of `results.json` and of baselines: both are `Results`. `reporting.content` has the texts of reasons."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from plumbline.settings import Tail

SCHEMA = 2
FORMER_SCHEMA = 1  # of version 0.1, which is still read

Verdict = Literal[
    "pass",
    "regression",
    "improvement",
    "accepted",  # an accepted regression
    "drift",  # slower than the baseline, but not slower than the base commit on this machine
    "inconclusive",
    "invalid",  # could not be measured or compared
    "new",  # not in the baseline, or there is no baseline
    "changed",  # its source differs from the baseline's
    "missing",  # in the baseline, but neither run nor deselected
    "removed",  # a proposed change has removed it from the baseline
]

# Limited to 30 years, so that arithmetic with numbers of an edited file cannot overflow.
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
    "tail_slower",  # subjects: `p90`, `mean`
    "tail_unclear",  # subjects: `p90`, `mean`
    "counts_unclear",  # counts: those that look larger
    "comparison_failed",  # detail: why
    "copy_failed",  # detail: why the copy of the working tree cannot run it
    "new_in_change",  # detail: why the base cannot run it
    "no_time_left",
    "application_elsewhere",
    "baseline_edited",  # subjects: the benchmark
    "packages_unjudged",  # subjects: the packages, or lock files
    "budget_unjudged",  # subjects: the limits
    "not_slower_than_base",
    "samples_slower",  # share
    # Of a benchmark, from its counts and accepted regressions
    "count_grown",  # counts
    "accepted",  # detail: the reason that was given
    "beyond_accepted",  # counts, or share and accepted_share; detail: the reason that was given
    "accepted_before",  # subjects: the benchmark; detail: the reason that was given
    # Of a benchmark of the baseline that was not measured
    "test_gone",
    "test_measures_nothing",
    "test_skipped",  # detail: why
    "removed",
    # Of a run, for being invalid
    "ended",  # detail: why pytest ended early, such as a service that is not ready
    "not_collected",  # subjects: the file; detail: the error
    "pytest_failed",  # detail: the exit code
    "comparison_invalid",  # detail
    "no_comparison",  # detail
    "services_missing",  # subjects: the skipped tests
    "not_compared",  # subjects
    "new_benchmarks",  # subjects
    "unmeasured_allowed",  # subjects; or detail: why nothing was compared
    "nothing_measured",
    "benchmarks_invalid",  # subjects
    "benchmarks_missing",  # subjects
    # Of merged shards, for being invalid
    "shard_missing",  # subjects: the shards
    "shard_unreadable",  # detail: the file, and why
    "shard_twice",  # subjects: the folders
    "shards_differ",  # detail: what differs
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
    "installed_otherwise",  # another version is installed than in head's lock file
    "not_installed",  # head's lock file lists it
    "still_installed",  # head's lock file no longer lists it
    "held_back",  # Plumbline does not support the base's version
    "not_pinned",  # in the base
    "not_a_release",  # a file, a branch or a local build
    "one_environment",  # both sides use the application's environment that the settings name
    "unreadable",
    "other_files",  # the same version with other files, for example from another index
    # Of a lock file
    "unknown_format",
    "no_base_lock",
    # Of Python
    "other_python",  # the base asks for another version, but runs on head's
]


CauseKind = Literal[
    "statement",  # of SQL
    "command",  # of Redis
    "count",  # any other
    "plan",  # of a statement: it has changed
    "time",  # median
    "tail",  # the 90th percentile or the mean
    "function",  # that takes more time under a profiler
    "budget",
    "test",  # its error
    "run",  # why it is invalid
    "reason",  # any other
]

# "failed": a test; "over budget": a benchmark with no other problem.
ProblemVerdict = Literal["regression", "over budget", "inconclusive", "invalid", "missing", "failed"]


class CallSite(Struct, frozen=True, omit_defaults=True):
    """The line of the user's own code that led to a statement, a command or another counted event."""

    file: str  # the file, relative to the project's root
    line: int  # the line, counted from 1
    function: str  # the function that the line belongs to
    count: NotNegative  # how often, per operation
    process: str = ""  # "" is the test, otherwise the name of the application or process


class CountGrowth(Struct, frozen=True, omit_defaults=True):
    """The change of one count per operation, in one or several benchmarks."""

    name: str  # the name in `counts` of a benchmark, such as `redis.messages` or `postgres.statement SELECT 1`
    old: float  # the count in the base or the baseline, in one of the benchmarks
    new: float  # the count in this run, in the same benchmark
    benchmarks: int = 1  # the number of benchmarks whose count changed
    alike: bool = True  # true if all have the same `old` and `new`; false if only `new - old` is the same
    most: NotNegative = 0.0  # if the count varies between rounds, its largest value; `new` is then its smallest
    site: CallSite | None = None  # the most frequent line; null if it is not the same in all these benchmarks


class Reason(Struct, frozen=True, omit_defaults=True):
    """A reason for the verdict of a benchmark or of a run. Which fields are set depends on the kind."""

    kind: Kind  # a code; `plumbline explain CODE` prints its meaning
    detail: str = ""  # text that differs from case to case, such as an error
    subjects: Sequence[str] = []  # keys of benchmarks or tests, or names of files or packages
    counts: Sequence[CountGrowth] = []  # the counts that grew
    number: int = 0  # the number of pairs, processes or benchmarks
    of: int = 0  # the number of all benchmarks
    share: float = 0.0  # a share, such as the size of a change: 0.05 is 5 %
    accepted_share: float = 0.0  # the slow-down that was accepted
    when_repeated: bool = False  # whether the cause occurred while benchmarks were measured again


class UnjudgedPackage(Struct, frozen=True, omit_defaults=True):
    """A changed package whose versions could not be compared, or a lock file whose packages could not be compared."""

    name: str  # the name of the package, or of the lock file
    cause: UnjudgedCause  # a code; `plumbline explain CODE` prints its meaning
    base: str = ""  # the version in base's lock file; "" if there is none, or if it is not certain
    head: str = ""  # the version in head's lock file; "" if there is none, or if it is not certain
    installed: str = ""  # the version that both sides were measured with
    file: str = ""  # the lock file


class BudgetResult(Struct, frozen=True, omit_defaults=True):
    """One limit of a budget, and the measured value. `name` ends with their unit: `p95_ms` is in milliseconds."""

    name: str  # the name of the limit, as in settings.toml: `p95_ms`
    limit: float  # the limit in settings.toml or the test
    measured: float  # the measured value
    kept: bool  # whether the measured value is within the limit
    note: str = ""  # if the limit was not judged: why


class LoopHold(Struct, frozen=True, omit_defaults=True):
    """The longest time that one callback held an event loop, and the line of the user's own code that ran then."""

    duration_s: Seconds  # how long the callback held the loop; 0 if no loop ran
    file: str = ""  # the file, relative to the project's root; "" if the line is not known
    line: int = 0  # the line, counted from 1
    function: str = ""  # the function that the line belongs to
    process: str = ""  # "" is the test, otherwise the name of the application or process
    unknown: str = ""  # why the time could not be measured


class CountChange(Struct, frozen=True, omit_defaults=True):
    """A count per operation that differs from that of the base or the baseline."""

    name: str  # the name of the count, as in `counts` of the benchmark
    old: float  # the count in the base or the baseline
    new: float  # the count in this run
    gated: bool = False  # whether the difference fails the benchmark
    most: NotNegative = 0.0  # if the count varies between rounds, its largest value; `new` is then its smallest
    sites: Sequence[CallSite] = []  # where the count came from in this run, the most frequent line first


class PlanChange(Struct, frozen=True, omit_defaults=True):
    """A statement whose plan in PostgreSQL has changed. A changed plan never fails a benchmark."""

    statement: str  # the statement, as in `plans` of the benchmark
    old: str  # the plan in the base or the baseline
    new: str  # the plan in this run


class TailChange(Struct, frozen=True, omit_defaults=True):
    """The 90th percentile or the mean in a paired comparison. Times are in seconds per operation.

    A pair is one base process and one head process that measure alternately.
    """

    tail: Tail  # `p90` for the 90th percentile, or `mean`
    base_s: Seconds  # the figure of base in the last pair
    head_s: Seconds  # the figure of head in the last pair
    change: float  # the change in all pairs: 0.05 is 5 % slower
    low: float  # the lower end of the interval in which the true change probably lies
    high: float  # the upper end of the same interval
    slower: bool = False  # whether this figure makes the benchmark a regression
    unclear: bool = False  # whether this figure looks slow enough to fail, but is not certain


class FunctionTime(Struct, frozen=True, omit_defaults=True):
    """The time that one function takes under a profiler, in base and in head. Times are in seconds per operation.

    The time of a function of the repository includes the functions that it calls. For all other functions, it does not.
    """

    name: str
    file: str  # relative to the project's root or to the folder of packages; "" for built-in functions
    line: int
    base_s: Seconds  # the time in base
    head_s: Seconds  # the time in head
    base_calls: NotNegative  # calls per operation in base
    head_calls: NotNegative  # calls per operation in head
    where: str = ""  # the process: "" is the test, otherwise the name of the application or process
    own: bool = False  # whether it is a function of the repository
    resumes: bool = False  # whether it is a coroutine or generator: each time it goes on counts as a call


class Benchmark(Struct, frozen=True, omit_defaults=True):
    """One benchmark. Times are in seconds per operation."""

    key: str  # pytest's node id, relative to tests/performance
    unit: str  # the unit of all times: always "s"
    verdict: Verdict | None  # the verdict; null if the benchmark was not judged, as in a baseline
    median: Seconds  # the median of the samples; if several processes measured, an average of `process_medians`
    counts: Mapping[str, float]  # counts per operation, by name; if a name is missing, see `counted`
    counts_varying: Mapping[str, Sequence[float]] = {}  # the values of counts that vary between rounds or processes
    counted: Sequence[str] = []  # measured families of counts, such as `redis.command`; their missing counts are 0
    unread: Sequence[str] = []  # SQL statements whose rows and buffers could not be counted
    count_changes: Sequence[CountChange] = []  # differences from the base or the baseline
    count_sites: Mapping[str, Sequence[CallSite]] = {}  # where each count came from, by name; not kept in a baseline
    plans: Mapping[str, str] = {}  # PostgreSQL's plan of each statement that reads tables: one line for each node
    plan_changes: Sequence[PlanChange] = []  # plans that differ from the base's or the baseline's
    loop_hold: LoopHold | None = None  # the longest hold of an event loop; null if not measured, or in a baseline
    mean: Seconds = 0.0  # the mean of the samples
    p95: Seconds = 0.0  # the 95th percentile of the samples
    p99: Seconds | None = None  # the 99th percentile; null if there are fewer than 1,000 samples
    minimum: Seconds = 0.0  # the shortest sample
    maximum: Seconds = 0.0  # the longest sample
    rate_per_s: NotNegative = 0.0  # operations per second
    operations: Annotated[int, Meta(ge=1)] = 1  # the number of operations in each sample
    operation: str = ""  # what one operation is, such as "row"; "" if the test does not say
    samples: int = 0  # the number of samples; in a baseline, those of all processes
    samples_s: Sequence[Seconds] = []  # each sample; not kept in a baseline
    process_medians: Sequence[Seconds] = []  # the median in each fresh process
    spread: Annotated[float, Meta(ge=0, le=100)] | None = None  # the standard deviation of log(process_medians)
    duration_s: Seconds = 0.0  # in a baseline and in the history: how long the whole test took
    pin: int | None = None  # the core that the benchmark was pinned to; null if it was not pinned
    machine_speed_s: Seconds = 0.0  # the time of fixed work on this machine; 0 if unknown
    source_hash: str = ""  # a hash of the test and of the fixtures that it uses
    renamed_from: str = ""  # the former key of a renamed benchmark
    description: str = ""  # the docstring of the test
    line: int = 0  # the first line of the test, counted from 0
    source: str = ""  # the code of the test; not kept in a baseline
    tolerance: float | None = None  # the benchmark's own tolerance; null if it has none
    minimum_effect: float | None = None  # the benchmark's own minimum effect; null if it has none
    baseline_median: Seconds | None = None  # the median in the baseline
    change: float | None = None  # the change from the base or the baseline: 0.05 is 5 % slower
    change_low: float | None = None  # the lower end of the interval in which the true change probably lies
    change_high: float | None = None  # the upper end of the same interval
    change_error: float | None = None  # in a paired comparison: the uncertainty (standard error) of log(1 + change)
    minimum_detectable_effect: float | None = None  # the smallest slow-down that this run would have found
    differences: Sequence[float] = []  # log(head time / base time) of each pair
    base_samples_s: Sequence[Seconds] = []  # some of base's samples in the last pair
    head_samples_s: Sequence[Seconds] = []  # some of head's samples in the last pair
    tails: Sequence[TailChange] = []  # in a paired comparison: the 90th percentile and the mean
    functions: Sequence[FunctionTime] = []  # in a regression: the functions that got slower, the most important first
    budgets: Sequence[BudgetResult] = []  # each limit of the budget
    reasons: Sequence[Reason] = []  # the reasons for the verdict
    warnings: Sequence[str] = []  # texts that do not change the verdict


class TestOutcome(Struct, frozen=True, omit_defaults=True):
    """One test of the run, benchmark or not."""

    __test__ = False  # pytest: not a test class

    key: str  # pytest's node id, relative to tests/performance
    outcome: Outcome
    duration_s: Seconds  # how long the test took
    message: str = ""  # the error, or why the test was skipped
    benchmark: bool = False  # whether the test measured something
    service_off: bool = False  # whether the test was skipped because its service is off in the settings
    line: int = 0  # the first line of the test, counted from 1; 0 if it is not known
    service_missing: bool = False  # whether the test was skipped because its service can't run on this machine


class Cause(Struct, frozen=True, omit_defaults=True):
    """One cause of a problem, and its place. Unknown fields are empty."""

    kind: CauseKind
    text: str  # the cause, on one line
    old: float | None = None  # before the change: the count, or the seconds per operation; in a budget: the limit
    new: float | None = None  # in this run: the count, or the seconds per operation; in a budget: the measured value
    file: str = ""  # the file, relative to the project's root or to the folder of packages
    line: int = 0  # the line, counted from 1
    function: str = ""
    process: str = ""  # "test", or the name of the application or process


class Problem(Struct, frozen=True, omit_defaults=True):
    """A problem that fails the run, with its causes. Unknown fields are empty."""

    key: str  # the key of the benchmark or test; "" for the run as a whole
    verdict: ProblemVerdict
    codes: Sequence[Kind]  # the codes of the reasons, the most important first
    causes: Sequence[Cause]
    repeat: str  # the command that runs only this benchmark or test again
    file: str = ""  # the file of the test, relative to the project's root
    line: int = 0  # the first line of the test, counted from 1


class Environment(Struct, frozen=True, omit_defaults=True):
    """The machine, Python, servers and packages of the run."""

    machine: str  # `machine` in settings.toml, or a hash of machine id, host name and hardware
    system: str
    architecture: str
    cpu: str
    cpu_count: int  # the number of cores
    kernel: str
    python: str
    services: Mapping[str, str]  # the backend of each service: `{"redis": "embedded"}`
    versions: Mapping[str, str]  # the version of each server
    pin: int | None  # the core that the run was pinned to; null if it was not pinned
    commit: str  # the commit of the working tree; "" without git
    dirty: bool  # whether the working tree has uncommitted changes
    packages: Mapping[str, str]  # the version of each installed package
    branch: str = ""  # the branch of the working tree; "" if it is not known
    fixed_addresses: bool = False  # whether processes were started without address space randomisation


class Shard(Struct, frozen=True, omit_defaults=True):
    """The part of a run that one job measured. `nox -s report -- --merge` merges the parts of all jobs."""

    number: Annotated[int, Meta(ge=1)]  # the number of this shard, counted from 1
    of: Annotated[int, Meta(ge=1, le=9999)]  # the number of shards
    settings_hash: str  # a hash of settings.toml
    keys: Sequence[str] = []  # keys of the tests of all shards
    divided_by: str = ""  # the baseline or the run whose durations were used; "" if none was
    proposed: bool = False  # whether this run judges a proposed change
    absent: Sequence[Benchmark] = []  # benchmarks of the baseline that no test of this shard has measured


class Results(Struct, frozen=True, omit_defaults=True):
    """A run or a baseline. A baseline has no verdict."""

    schema: int  # the version of this schema
    verdict: Verdict | None  # the verdict of the run; null in a baseline
    environment: Environment
    benchmarks: Sequence[Benchmark]  # all benchmarks, including those that are missing
    profile: str = ""  # the profile of settings.toml
    project: str = ""  # the name of the project in pyproject.toml, or of its folder
    created: str = ""  # the time of the run: ISO 8601, UTC
    duration_s: Seconds = 0.0  # the duration of the whole command
    exit_code: int | None = None  # the exit code of the run
    reasons: Sequence[Reason] = []  # the reasons for the verdict of the run, the most important first
    notes: Sequence[str] = []  # texts that do not change the verdict
    tolerance: float | None = None  # `gate.tolerance`, for benchmarks without a tolerance of their own
    minimum_effect: float | None = None  # `gate.minimum_effect`, for benchmarks without one of their own
    baseline: str = ""  # the baseline file
    baseline_commit: str = ""  # the commit at which the baseline was recorded
    baseline_created: str = ""  # the time of the baseline: ISO 8601, UTC
    baseline_differences: Sequence[str] = []  # machine, servers and packages that differ, one line each
    revision: str = ""  # the argument REV of `plumbline compare`
    base: str = ""  # the base commit of the paired comparison, and why it was chosen
    commits: int = 0  # only in `plumbline compare`: the number of commits since the base
    base_differences: Sequence[str] = []  # files and packages that differ from the base's, one line each
    unjudged_packages: Sequence[UnjudgedPackage] = []  # changed packages that could not be compared
    collected_files: Sequence[str] = []  # test files whose tests were all collected, so all their benchmarks had to run
    deselected: Sequence[str] = []  # keys of tests that the arguments or the profile left out
    app_elsewhere: Sequence[str] = []  # benchmarks whose application is not served from the working tree
    tests: Sequence[TestOutcome] = []  # each test of the run
    service_lines: Sequence[str] = []  # one line for each service: backend, version, core, reason for the backend
    problems: Sequence[Problem] = []  # what fails the run, summarised from the other fields
    shard: Shard | None = None  # the part of the run that was measured; null for a whole run


class Counts(Struct, frozen=True):
    """Counts per operation, by name."""

    same: dict[str, float] = {}  # equal in all rounds; bytes may differ slightly
    varying: dict[str, list[float]] = {}  # by round; judged by the smallest
    families: list[str] = []  # families that could be counted; a missing name of these is 0
    sites: dict[str, list[CallSite]] = {}  # by name: where it came from, the most frequent first
    plans: dict[str, str] = {}  # of SQL statements, if the same in all rounds
    unread: list[str] = []  # SQL statements whose rows and buffers could not be counted
    loop_hold: LoopHold | None = None  # the longest; None if it was not measured
