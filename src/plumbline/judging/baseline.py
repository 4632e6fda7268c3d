"""The committed baseline: find it, merge it from several fresh processes, and list the changes of a new one."""

import contextlib
import functools
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from plumbline.counting.families import BUFFERS, CPU, ROWS, family, same_count
from plumbline.judging.baseline_check import differences
from plumbline.measuring.statistics import log_spread
from plumbline.project import nox_command
from plumbline.results.environment import baseline_name, cpu_model
from plumbline.results.files import ResultsError, field_twice, read_results
from plumbline.results.schema import Benchmark, Environment, Results

T = TypeVar("T")
LEAST_S = 1e-12  # ratios to shorter times, for example in a file that was edited by hand, may overflow


def baseline_path(folder: Path, environment: Environment) -> Path:
    """Return the path of the baseline for this kind of machine and these backends."""
    return folder / baseline_name(environment.system, environment.architecture, environment.cpu, environment.services)


def find_baseline(folder: Path, environment: Environment) -> Results | None:
    """Return the baseline for this kind of machine, or None if there is none.

    Raises ResultsError if the file is damaged, has another schema or no benchmarks, or is not a baseline.
    """
    path = baseline_path(folder, environment)
    return _read(path) if path.exists() or path.is_symlink() else None


def find_counts(folder: Path, environment: Environment) -> Results | None:
    """Return the baseline for counts: that of this kind of machine, or else the newest, preferably with these backends.

    Counts that are missing in the newest come from older baselines with the same backends. Raises ResultsError if the
    baseline of this kind of machine cannot be used.
    """
    if own := find_baseline(folder, environment):
        return own
    return newest_counts((one for _, one in _all(folder)), environment)


def _all(folder: Path) -> Iterator[tuple[str, Results]]:
    """Yield the names and contents of the baselines that can be used."""
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ResultsError):
            yield path.name, _read(path)


def newest_counts(baselines: Iterable[Results], environment: Environment) -> Results | None:
    """Return the newest of these baselines, preferably with these backends, with the counts that only older ones have.

    All of them are of other kinds of machine.
    """
    services = environment.services
    others = sorted(baselines, key=lambda one: (one.environment.services == services, one.created), reverse=True)
    alike = [one for one in others if one.environment.services == others[0].environment.services]
    return functools.reduce(lambda newer, older: keep_uncounted(older, newer), alike) if alike else None


def durations(folder: Path) -> tuple[str, Mapping[str, float]]:
    """Return the name of the newest baseline of any machine, and how long each of its tests took, in seconds.

    "" and nothing if there is none, or if an older version without durations recorded it.
    """
    for name, newest in sorted(_all(folder), key=lambda one: one[1].created)[-1:]:
        if known := {entry.key: entry.duration_s for entry in newest.benchmarks if entry.duration_s}:
            return name, known
    return "", {}


def edited_entries(old: Results | None, new: Results | None) -> frozenset[str]:
    """Return the keys of the entries that differ between two baselines, or that only one of them has.

    All entries differ if the environments do, because their timings are then judged otherwise.
    """
    then, now = ({entry.key: entry for entry in one.benchmarks} if one else {} for one in (old, new))
    every = bool(old and new and differences(old.environment, new.environment))
    return frozenset(key for key in then.keys() | now.keys() if every or then.get(key) != now.get(key))


def check_baselines(folder: Path) -> None:
    """Raise ResultsError if the folder or any baseline of this kind of machine cannot be used."""
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        if os.path.lexists(folder):
            raise ResultsError(f"{folder} can't be read: {error.strerror}") from None
    for path in _of_this_machine(folder):
        _read(path)
        if twice := field_twice(path.read_bytes()):
            raise ResultsError(f"{path} has the field {twice!r} twice in one object, as after a merge\n{_advice()}")


def preferred_backends(folder: Path) -> Mapping[str, str]:
    """Return the backends by service of this kind of machine's baseline. Empty if it has several, or none."""
    with contextlib.suppress(ResultsError):
        if len(found := _of_this_machine(folder)) == 1:
            return _read(found[0]).environment.services
    return {}


def _of_this_machine(folder: Path) -> list[Path]:
    kind = baseline_name(platform.system(), platform.machine(), cpu_model(), {}).removesuffix("none.json")
    return sorted(path for path in folder.glob("*.json") if path.name.startswith(kind))


def _read(path: Path) -> Results:
    try:
        baseline = read_results(path)
        if not baseline.benchmarks:
            raise ResultsError(f"{path} has no benchmarks")
        for benchmark in baseline.benchmarks:
            if len(benchmark.process_medians) < 2 or min(benchmark.process_medians) <= 0:
                raise ResultsError(f"{path}: {benchmark.key} needs the medians of at least two processes, above 0")
            times_s = [benchmark.median, benchmark.machine_speed_s, *benchmark.process_medians]
            if any(0 < time_s < LEAST_S for time_s in times_s):
                raise ResultsError(f"{path}: {benchmark.key} has a time below {LEAST_S:g} s, which is impossible")
    except ResultsError as error:
        raise ResultsError(f"{error}\n{_advice()}") from None
    return baseline


def _advice() -> str:
    command = f"`{nox_command()} -s baseline`"
    return f"Restore it from version control, or remove it and record a new one with {command}."


def merge(runs: Sequence[Results]) -> Results:
    """Merge the runs of fresh processes into a baseline.

    Raises ResultsError if a benchmark is missing in a run, or if its median is 0.
    """
    by_key: dict[str, list[Benchmark]] = {}
    for run in runs:
        for benchmark in run.benchmarks:
            by_key.setdefault(benchmark.key, []).append(benchmark)
    merged: list[Benchmark] = []
    for key, found in sorted(by_key.items()):
        if len(found) != len(runs):
            raise ResultsError(f"{key} was measured in {len(found)} of {len(runs)} processes: no baseline is written")
        if not all(benchmark.median for benchmark in found):
            raise ResultsError(f"{key} measured 0, too short for the clock: put more operations into each sample")
        took_s = [test.duration_s for run in runs for test in run.tests if test.key == key]
        merged.append(_merge_benchmark(found, statistics.median(took_s) if took_s else 0.0))
    last = runs[-1]
    return Results(last.schema, None, last.environment, merged, profile=last.profile, created=last.created)


def _merge_benchmark(found: list[Benchmark], took_s: float) -> Benchmark:
    medians = [benchmark.median for benchmark in found]
    figures = {}
    for name in ("median", "mean", "p95", "p99", "rate_per_s", "machine_speed_s"):
        known = [value for value in (getattr(benchmark, name) for benchmark in found) if value is not None]
        figures[name] = statistics.median(known) if known else None
    return msgspec.structs.replace(
        found[-1],
        **figures,
        minimum=min(benchmark.minimum for benchmark in found),
        maximum=max(benchmark.maximum for benchmark in found),
        samples=sum(benchmark.samples for benchmark in found),
        samples_s=[],
        count_sites={},
        loop_hold=None,
        source="",
        process_medians=medians,
        spread=log_spread(medians),
        duration_s=took_s,
        budgets=[],
        warnings=[],
        **_merge_counts(found),
    )


def _merge_counts(found: list[Benchmark]) -> dict[str, Any]:
    counts: dict[str, float] = {}
    varying: dict[str, list[float]] = {}
    for name in sorted({name for one in found for name in one.counts.keys() | one.counts_varying} - {CPU}):
        values = [value for one in found for value in one.counts_varying.get(name, [one.counts.get(name, 0.0)])]
        if all(name in one.counts for one in found) and same_count(name, values):
            counts[name] = max(values)
        else:
            varying[name] = values
    counted = [one for one in found[0].counted if all(one in benchmark.counted for benchmark in found)]
    plans = {one: plan for one, plan in found[0].plans.items() if all(each.plans.get(one) == plan for each in found)}
    unread = sorted({one for benchmark in found for one in benchmark.unread})
    return {"counts": counts, "counts_varying": varying, "counted": counted, "unread": unread, "plans": plans}


def keep_uncounted(old: Results, new: Results) -> Results:
    """Add to a baseline the counts of an older one in the families that the new one could not count."""
    before = {benchmark.key: benchmark for benchmark in old.benchmarks}
    kept = []
    for benchmark in new.benchmarks:
        known = before.get(benchmark.key) or before.get(benchmark.renamed_from)
        if known is not None and known.source_hash == benchmark.source_hash:
            gone = [one for one in known.counted if one not in benchmark.counted]
            benchmark = msgspec.structs.replace(
                benchmark,
                counts={**_of_families(known.counts, gone), **benchmark.counts},
                counts_varying={**_of_families(known.counts_varying, gone), **benchmark.counts_varying},
                counted=[*benchmark.counted, *gone],
                plans=known.plans if BUFFERS in gone else benchmark.plans,
                unread=known.unread if ROWS in gone else benchmark.unread,
            )
        kept.append(benchmark)
    return msgspec.structs.replace(new, benchmarks=kept)


def _of_families(counts: Mapping[str, T], families: Sequence[str]) -> dict[str, T]:
    return {name: count for name, count in counts.items() if family(name) in families}


def keep_unmeasured(old: Results, new: Results, gone: Sequence[Benchmark] = ()) -> Results:
    """Return `new` with the benchmarks that only `old` has, except those in `gone`."""
    replaced = {benchmark.key for benchmark in [*new.benchmarks, *gone]}
    replaced |= {benchmark.renamed_from for benchmark in new.benchmarks}
    kept = [benchmark for benchmark in old.benchmarks if benchmark.key not in replaced]
    return msgspec.structs.replace(new, benchmarks=sorted([*new.benchmarks, *kept], key=lambda entry: entry.key))


def changes(old: Results | None, new: Results) -> list[str]:
    """Return the changes from the old baseline to the new one, one line each, the largest first."""
    if old is None:
        return [f"the first baseline of this kind of machine: {len(new.benchmarks)} benchmarks"]
    before = {benchmark.key: benchmark for benchmark in old.benchmarks}
    after = {benchmark.key: benchmark for benchmark in new.benchmarks}
    shifts = {
        key: after[key].median / before[key].median - 1 for key in after.keys() & before.keys() if before[key].median
    }
    lines = [f"{shift:+7.1%}  {key}" for key, shift in sorted(shifts.items(), key=lambda pair: -abs(pair[1]))]
    lines += [f"    new  {key}" for key in sorted(after.keys() - before.keys())]
    lines += [f"   gone  {key}" for key in sorted(before.keys() - after.keys())]
    return lines
