"""The committed baseline: find it, make it from several fresh processes, say what a new one changes."""

import contextlib
import functools
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from plumbline.comparing.trees.base_commit import Base
from plumbline.comparing.trees.git import Git
from plumbline.counting.families import family, same_count
from plumbline.measuring.statistics import log_spread
from plumbline.project import nox_command
from plumbline.results.environment import baseline_name, cpu_model
from plumbline.results.schema import Benchmark, Environment, Results, ResultsError, decode_results, read_results


def baseline_path(folder: Path, environment: Environment) -> Path:
    """Where the baseline of this kind of machine and these backends belongs."""
    return folder / baseline_name(environment.system, environment.architecture, environment.cpu, environment.services)


def find_baseline(folder: Path, environment: Environment) -> Results | None:
    """The baseline of this kind of machine; None where there is none.

    Raises ResultsError where it is empty, corrupt, of another schema, holds no benchmark or the results of one run.
    """
    path = baseline_path(folder, environment)
    return _read(path) if path.exists() else None


def find_counts(folder: Path, environment: Environment) -> Results | None:
    """What counts are compared with: this kind of machine's baseline, else the newest, of these backends if possible.

    What its machine couldn't count is taken from the next one of the same backends. Raises ResultsError as
    `find_baseline` does.
    """
    if own := find_baseline(folder, environment):
        return own
    others = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(ResultsError):
            others.append(_read(path))
    others.sort(key=lambda one: (one.environment.services == environment.services, one.created), reverse=True)
    alike = [one for one in others if one.environment.services == others[0].environment.services]
    return functools.reduce(lambda newer, older: keep_uncounted(older, newer), alike) if alike else None


def check_baselines(folder: Path) -> None:
    """Raises ResultsError where a baseline of this kind of machine can't be used, whichever backend it is of."""
    for path in _of_this_machine(folder):
        _read(path)


def preferred_backends(folder: Path) -> dict[str, str]:
    """Backends by service of this kind of machine's baseline, where there is exactly one that can be read."""
    found = _of_this_machine(folder)
    if len(found) != 1:
        return {}
    try:
        return _read(found[0]).environment.services
    except ResultsError:
        return {}


def _of_this_machine(folder: Path) -> list[Path]:
    kind = baseline_name(platform.system(), platform.machine(), cpu_model(), {}).removesuffix("none.json")
    return sorted(path for path in folder.glob("*.json") if path.name.startswith(kind))


def _read(path: Path) -> Results:
    try:
        baseline = read_results(path)
        if not baseline.benchmarks:
            raise ResultsError(f"{path} holds no benchmark")
        for benchmark in baseline.benchmarks:
            if len(benchmark.process_medians) < 2 or min(benchmark.process_medians) <= 0:
                raise ResultsError(f"{path}: {benchmark.key} is not from several processes, each with a median")
    except ResultsError as error:
        raise ResultsError(
            f"{error}\nTake it back from version control, or remove it and record a new one with `{nox_command()} -s baseline`."
        ) from None
    return baseline


def merge(runs: Sequence[Results]) -> Results:
    """One baseline out of the runs of several fresh processes, whose benchmarks are the same.

    The median of each is the median over the processes. Raises ResultsError where a benchmark is not in each run, or
    measured 0.
    """
    merged: list[Benchmark] = []
    for key in sorted({benchmark.key for run in runs for benchmark in run.benchmarks}):
        found = [benchmark for run in runs for benchmark in run.benchmarks if benchmark.key == key]
        if len(found) != len(runs):
            raise ResultsError(f"{key} was measured in {len(found)} of {len(runs)} processes: no baseline is written")
        if not all(benchmark.median for benchmark in found):
            raise ResultsError(f"{key} measured 0, too short for the clock: put more operations into one sample")
        merged.append(_merge_benchmark(found))
    last = runs[-1]
    return Results(
        schema=last.schema,
        verdict=None,
        environment=last.environment,
        benchmarks=merged,
        profile=last.profile,
        created=last.created,
    )


def _merge_benchmark(found: list[Benchmark]) -> Benchmark:
    medians = [benchmark.median for benchmark in found]
    tails = [benchmark.p99 for benchmark in found if benchmark.p99 is not None]
    return msgspec.structs.replace(
        found[-1],
        median=statistics.median(medians),
        mean=statistics.median(benchmark.mean for benchmark in found),
        p95=statistics.median(benchmark.p95 for benchmark in found),
        p99=statistics.median(tails) if tails else None,
        minimum=min(benchmark.minimum for benchmark in found),
        maximum=max(benchmark.maximum for benchmark in found),
        rate_per_s=statistics.median(benchmark.rate_per_s for benchmark in found),
        samples=sum(benchmark.samples for benchmark in found),
        samples_s=[],
        source="",
        process_medians=medians,
        machine_speed_s=statistics.median(benchmark.machine_speed_s for benchmark in found),
        spread=log_spread(medians),
        budgets=[],
        warnings=[],
        **_merge_counts(found),
    )


def _merge_counts(found: list[Benchmark]) -> dict[str, Any]:
    """Counts that all processes took and took alike; the others vary."""
    counts: dict[str, float] = {}
    varying: dict[str, list[float]] = {}
    for name in sorted({name for benchmark in found for name in benchmark.counts.keys() | benchmark.counts_varying}):
        values = [value for one in found for value in one.counts_varying.get(name, [one.counts.get(name, 0.0)])]
        if all(name in one.counts for one in found) and same_count(name, values):
            counts[name] = max(values)
        else:
            varying[name] = values
    counted = [one for one in found[0].counted if all(one in benchmark.counted for benchmark in found)]
    return {"counts": counts, "counts_varying": varying, "counted": counted}


def keep_uncounted(old: Results, new: Results) -> Results:
    """A baseline with what another machine has counted, in the families that this one couldn't count."""
    before = {benchmark.key: benchmark for benchmark in old.benchmarks}
    kept = []
    for benchmark in new.benchmarks:
        known = before.get(benchmark.key) or before.get(benchmark.renamed_from)
        if known is not None and known.source_hash == benchmark.source_hash:
            gone = [one for one in known.counted if one not in benchmark.counted]
            benchmark = msgspec.structs.replace(
                benchmark,
                counts={name: n for name, n in known.counts.items() if family(name) in gone} | benchmark.counts,
                counts_varying={name: n for name, n in known.counts_varying.items() if family(name) in gone}
                | benchmark.counts_varying,
                counted=benchmark.counted + gone,
            )
        kept.append(benchmark)
    return msgspec.structs.replace(new, benchmarks=kept)


def keep_unmeasured(old: Results, new: Results, gone: Sequence[Benchmark] = ()) -> Results:
    """A baseline in which the entries of `new` take the place of the old ones; the others stay, but for those gone."""
    replaced = {benchmark.key for benchmark in [*new.benchmarks, *gone]}
    replaced |= {benchmark.renamed_from for benchmark in new.benchmarks}
    kept = [benchmark for benchmark in old.benchmarks if benchmark.key not in replaced]
    return msgspec.structs.replace(new, benchmarks=sorted(new.benchmarks + kept, key=lambda entry: entry.key))


def changes(old: Results | None, new: Results) -> list[str]:
    """What a new baseline changes against the old one, one line a benchmark, the largest first."""
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


def baseline_at(root: Path, base: Base, baseline: Path) -> Results | None:
    """The baseline file as it is in the base commit; None where it isn't there, or can't be used."""
    git = Git(root)
    shown = git.ask("show", f"{base.commit}:{git.prefix}{baseline.relative_to(root).as_posix()}")
    with contextlib.suppress(ResultsError):
        return decode_results(shown.encode(), baseline) if shown else None
    return None


def edited_entries(of_base: Results | None, baseline: Path) -> set[str]:
    """Keys whose entry in the baseline file is another in the base commit than now; none where either has none."""
    if of_base is None:
        return set()
    try:
        old = _medians(of_base.benchmarks)
        new = _medians(decode_results(baseline.read_bytes(), baseline).benchmarks)
    except (OSError, ResultsError):
        return set()
    return {key for key in old.keys() & new.keys() if old[key] != new[key]}


def _medians(benchmarks: Iterable[Benchmark]) -> dict[str, list[float]]:
    return {benchmark.key: benchmark.process_medians for benchmark in benchmarks}
