"""The files: `results.json` of a run and the committed baseline share the schema `Results`.

Schema versions: 1, the first.
"""

import contextlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from plumbline.project import nox_command

SCHEMA = 1

Verdict = Literal[
    "pass",
    "regression",
    "improvement",
    "accepted",
    "drift",
    "inconclusive",
    "invalid",
    "new",
    "changed",
    "missing",
    "removed",
]
"""Of a benchmark or of a run.

`accepted`: what would be a regression has been accepted. `drift`: slower than the baseline, but not than the base
commit on this machine. `new`: not in the baseline, or there is none. `inconclusive`: a slow-down of the wanted size
could not have been seen, as on another machine than the baseline's. `changed`: its source is another than the
baseline's. `missing`: in the baseline, not run and not deselected. `removed`: in the base's baseline, and a proposed
change has taken it out. `invalid`: not measured as it should be.
"""

Seconds = Annotated[float, Meta(ge=0)]
Outcome = Literal["passed", "failed", "skipped"]


class ResultsError(Exception):
    """A results or baseline file can't be used or written: exit code 3."""


class BudgetResult(Struct, omit_defaults=True):
    """One limit of a budget beside what was measured, both in the unit that the name ends with."""

    name: str
    limit: float
    measured: float
    kept: bool
    note: str = ""
    """Why it was not judged, if so."""


class CountChange(Struct, omit_defaults=True):
    """A count beside the baseline's, both per operation."""

    name: str
    old: float
    new: float
    gated: bool = False
    """Whether it is held against the benchmark."""


class FunctionTime(Struct, omit_defaults=True):
    """What one function takes under a profiler in each side, in seconds per operation.

    A function of the repository's own with what it calls, any other without.
    """

    name: str
    file: str
    """Below the tree, or below the folder of packages; "" for built-in functions."""
    line: int
    base_s: Seconds
    head_s: Seconds
    base_calls: Annotated[float, Meta(ge=0)]
    """Calls per operation."""
    head_calls: Annotated[float, Meta(ge=0)]
    where: str = ""
    """The process: "" for that of the test, else the name of the application or process."""


class Benchmark(Struct, omit_defaults=True):
    """One benchmark. Times are in seconds per operation."""

    key: str
    """Node id below tests/performance."""
    unit: str
    verdict: Verdict | None
    median: Seconds
    counts: dict[str, float]
    """Exact counts per operation, by name; what isn't there is 0 where its family was counted."""
    counts_varying: dict[str, list[float]] = {}
    """Counts that weren't the same in the passes of one process, or in the processes of a baseline: never judged."""
    counted: list[str] = []
    """The families of counts that could be taken."""
    count_changes: list[CountChange] = []
    mean: Seconds = 0.0
    p95: Seconds = 0.0
    p99: Seconds | None = None
    """From 1,000 samples on."""
    minimum: Seconds = 0.0
    maximum: Seconds = 0.0
    rate_per_s: Annotated[float, Meta(ge=0)] = 0.0
    operations: int = 1
    """Operations in each sample."""
    samples: int = 0
    """How many; over all processes, in a baseline."""
    samples_s: list[Seconds] = []
    """Each sample, in seconds per operation; not kept in a baseline."""
    process_medians: list[Seconds] = []
    """The median of each fresh process that measured it."""
    spread: Annotated[float, Meta(ge=0)] | None = None
    """Standard deviation of the logarithms of `process_medians`: 0.01 is about 1 %."""
    pin: int | None = None
    """The core that it was pinned to; None: measured on whatever core was free."""
    machine_speed_s: Seconds = field(default=0.0, name="pace_s")
    """What a fixed piece of work took beside it; 0: not known."""
    source_hash: str = ""
    renamed_from: str = ""
    description: str = ""
    line: int = 0
    """Where its test begins, from 0."""
    source: str = ""
    """The code of its test; not kept in a baseline."""
    tolerance: float | None = None
    minimum_effect: float | None = None
    """Where it has settings of its own."""
    baseline_median: Seconds | None = None
    change: float | None = None
    """Against the baseline: 0.05 is 5 % slower."""
    change_low: float | None = None
    change_high: float | None = None
    minimum_detectable_effect: float | None = field(default=None, name="resolution")
    """The slow-down that would have been seen in this run with the wanted power."""
    differences: list[float] = []
    """Of a paired comparison, one for each pair of processes: the logarithm of head's time over base's."""
    base_samples_s: list[Seconds] = []
    head_samples_s: list[Seconds] = []
    """Of its last pair, measured in turns, in seconds per operation; thinned out evenly where there were many."""
    functions: list[FunctionTime] = []
    """Of a regression: what got slower under a profiler, the worst first."""
    budgets: list[BudgetResult] = []
    reasons: list[str] = []
    """Why the verdict is what it is."""
    warnings: list[str] = []


# Begins the message of a skipped test whose service the settings have switched off.
OFF = "off: "


class TestOutcome(Struct, omit_defaults=True):
    """One test of the run, benchmark or not."""

    __test__ = False  # pytest: not a test class

    key: str
    outcome: Outcome
    duration_s: Seconds
    message: str = ""
    benchmark: bool = False


class Environment(Struct, omit_defaults=True):
    """What the figures depend on beside the code."""

    machine: str
    """The owner's name for it, or a hash of its machine id, host name and hardware."""
    system: str
    architecture: str
    cpu: str
    cpu_count: int
    kernel: str
    python: str
    services: dict[str, str]
    """Backend by service: `{"redis": "embedded"}`."""
    versions: dict[str, str]
    """Server version by service."""
    pin: int | None
    commit: str
    dirty: bool
    packages: dict[str, str]


class Results(Struct, omit_defaults=True):
    schema: int
    verdict: Verdict | None
    environment: Environment
    benchmarks: list[Benchmark]
    profile: str = ""
    created: str = ""
    """ISO 8601, UTC."""
    exit_code: int | None = None
    reasons: list[str] = []
    """Why the verdict of the run is what it is, the most important first."""
    notes: list[str] = []
    tolerance: float | None = None
    minimum_effect: float | None = None
    """That benchmarks were judged by, where they have none of their own."""
    baseline: str = ""
    """The file that it was compared with."""
    baseline_commit: str = ""
    baseline_created: str = ""
    """When it was recorded, as `created`."""
    baseline_differences: list[str] = []
    """In what the baseline's machine, servers and packages differ from those of this run, one line each."""
    base: str = ""
    """The commit that it was compared with in pairs, and why that one."""
    base_differences: list[str] = []
    """What is different there: files and packages, one line each."""
    collected_files: list[str] = []
    """That were to be collected whole: a benchmark of theirs which the baseline has must not be missing."""
    deselected: list[str] = []
    app_elsewhere: list[str] = []
    """Benchmarks of an application that isn't served from the working tree, and so would be the same in both sides."""
    tests: list[TestOutcome] = []
    service_lines: list[str] = []
    """One line for each service: which, why, version, pinned to which core."""


def read_results(path: Path) -> Results:
    """Read and check a results or baseline file.

    Raises FileNotFoundError where there is none, ResultsError where it is empty, corrupt, of another schema, or
    holds figures that can't be (negative, NaN).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ResultsError(f"{path} can't be read: {error.strerror}") from None
    return decode_results(data, path)


def decode_results(data: bytes, path: Path) -> Results:
    """The content of a results or baseline file; raises ResultsError as `read_results` does."""
    if not data.strip():
        raise ResultsError(f"{path} is empty")
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
    except msgspec.DecodeError as error:  # ValidationError is one, too
        raise ResultsError(f"{path} is not a results file: {error}") from None
    if schema != SCHEMA:
        advice = "update the harness" if schema > SCHEMA else f"record it again with `{nox_command()} -s baseline`"
        raise ResultsError(f"{path} has schema {schema}, this harness reads {SCHEMA}: {advice}")
    try:
        results = msgspec.json.decode(data, type=Results)
    except msgspec.DecodeError as error:
        raise ResultsError(f"{path} is damaged or was edited by hand: {error}") from None
    keys = [benchmark.key for benchmark in results.benchmarks]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ResultsError(f"{path} holds {twice[0]} twice")
    return results


class _SchemaOnly(Struct):
    schema: int


def write_results(path: Path, results: Results) -> None:
    """Write a results or baseline file whole or not at all; raises ResultsError, and then the old one is as it was."""
    write_whole(path, dump_results(results))


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all; raises ResultsError, and then the old one is as it was."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        raise ResultsError(f"{path} can't be written: {error.strerror}; what was there is unchanged") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def dump_results(results: Results) -> str:
    """JSON with one line a benchmark, a test and a package, sorted and rounded, so that a diff can be read."""
    fields = _rounded(msgspec.to_builtins(results))
    assert isinstance(fields, dict)
    for name in ("benchmarks", "tests"):
        if name in fields:
            fields[name] = sorted(fields[name], key=lambda entry: str(entry["key"]))
    lines = [f"  {json.dumps(name)}: {_block(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(value: object, indent: str = "  ") -> str:
    """A list of objects one line each, an object one line an entry, all else on one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = [f"{indent}  {json.dumps(entry, ensure_ascii=False)}" for entry in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    if isinstance(value, dict) and value:
        rows = [f"{indent}  {json.dumps(key)}: {_block(entry, indent + '  ')}" for key, entry in sorted(value.items())]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return json.dumps(value, ensure_ascii=False)


def _rounded(value: object, digits: int = 5) -> object:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ResultsError(f"a figure is {value}: not written")
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: _rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry, digits) for entry in value]
    return value
