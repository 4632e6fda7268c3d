"""The results in the formats of other tools: pure functions of `Results`.

Figures are those of one operation. A benchmark that wasn't measured is left out, but OpenMetrics and CSV tell its
verdict. A key becomes a name of one printable line of at most 1,024 bytes; where that changes it, a part of its hash
is added, so that no two keys have the same name.
"""

import csv
import hashlib
import io
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results, ResultsError

_NAME_BYTES = 1024
"""What Bencher takes, which takes the least."""

_PARTS = 5
"""As many as a baseline has processes, unless it is set otherwise."""

_CLOCK_S = 1e-9
"""Stands for a sample of 0 s where a tool wants times above 0."""

_FIGURES: dict[str, tuple[str, Callable[[Benchmark], float | None]]] = {
    "median_s": ("Median time of one operation.", form.now),
    "mean_s": ("Mean time of one operation.", lambda b: b.mean or None),
    "p95_s": ("95th percentile of the time of one operation.", lambda b: b.p95 or None),
    "p99_s": ("99th percentile of the time of one operation.", lambda b: b.p99 or None),
    "minimum_s": ("Shortest time of one operation.", lambda b: b.minimum or None),
    "maximum_s": ("Longest time of one operation.", lambda b: b.maximum or None),
    "rate_per_s": ("Operations in a second.", lambda b: b.rate_per_s or None),
    "samples": ("Timed samples.", lambda b: b.samples),
    "operations": ("Operations in each sample.", lambda b: b.operations),
    "change_ratio": ("Change against the baseline: 0.05 is 5 % slower.", lambda b: b.change),
    "change_low_ratio": ("Lower bound of the change.", lambda b: b.change_low),
    "change_high_ratio": ("Upper bound of the change.", lambda b: b.change_high),
    "resolution_ratio": ("The slow-down that would have been seen.", lambda b: b.minimum_detectable_effect),
}
_BASELINE = "baseline_median_s", "Median time of one operation in the baseline."


def github_action_benchmark(results: Results) -> str:
    """JSON for `tool: customSmallerIsBetter`: medians in µs, ± half the width of the middle half of the samples.

    Raises ResultsError where nothing was measured, as the action refuses an empty list.
    """
    entries = []
    for benchmark in _some_measured(results, "github-action-benchmark"):
        entry: dict[str, Any] = {
            "name": _name(benchmark.key),
            "unit": "µs",
            "value": _number(benchmark.median * 1e6),
        }
        if quartiles_s := _quartiles_s(_values_s(benchmark)):
            entry["range"] = f"± {_number((quartiles_s[1] - quartiles_s[0]) / 2 * 1e6, digits=3)}"
        told = {
            "verdict": form.verdict(benchmark),
            "samples": f"{benchmark.samples:,}",
            "p95": form.duration(_number(benchmark.p95)),
            "rate": form.rate(_number(benchmark.rate_per_s)),
            **{name: f"{count:g}" for name, count in _counts(benchmark).items()},
        }
        entry["extra"] = "\n".join(f"{name}: {text}" for name, text in told.items())
        entries.append(entry)
    return _json(entries)


def bencher(results: Results) -> str:
    """Bencher Metric Format: latencies in ns with the middle half of the samples as bounds, throughput and counts."""
    document: dict[str, dict[str, dict[str, float]]] = {}
    for benchmark in _measured(results):
        median_ns = benchmark.median * 1e9
        latency = {"value": _number(median_ns)}
        if quartiles_s := _quartiles_s(_values_s(benchmark)):
            latency["lower_value"] = _number(min(quartiles_s[0] * 1e9, median_ns))
            latency["upper_value"] = _number(max(quartiles_s[1] * 1e9, median_ns))
        measures = {"latency": latency}
        others = {
            "p95-latency": benchmark.p95 * 1e9,
            "p99-latency": (benchmark.p99 or 0.0) * 1e9,
            "throughput": benchmark.rate_per_s,
            **{re.sub("[^a-z0-9]+", "-", name.lower()): count for name, count in _counts(benchmark).items()},
        }
        measures |= {measure: {"value": _number(value)} for measure, value in others.items() if value}
        document[_name(benchmark.key)] = measures
    return _json(document)


def pyperf(results: Results) -> str:
    """A benchmark suite of pyperf: a run with the medians of five parts of the samples, or a run for each process.

    pyperf can test only as many values against as many, and samples are never as many; baselines have five processes.
    Raises ResultsError where nothing was measured, as pyperf refuses an empty suite.
    """
    environment = results.environment
    created = _created(results)
    metadata: dict[str, str | int] = {
        "unit": "second",
        "timer": "time.perf_counter()",
        "hostname": environment.machine,
        "platform": f"{environment.system}-{environment.kernel}-{environment.architecture}",
        "cpu_model_name": environment.cpu,
        "cpu_count": environment.cpu_count,
        "python_version": environment.python,
        "commit_id": environment.commit,
        "date": created.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if created else "",
    }
    benchmarks = []
    for benchmark in _some_measured(results, "pyperf"):
        values_s = [max(value_s, _CLOCK_S / benchmark.operations) for value_s in _values_s(benchmark)]
        runs_s = [[value_s] for value_s in values_s] if _is_of_several(benchmark) else [_medians_of_parts(values_s)]
        own: dict[str, str | int] = {
            "name": _name(benchmark.key),
            "description": benchmark.description,
            "loops": max(1, benchmark.samples // sum(map(len, runs_s))),
            "inner_loops": benchmark.operations,
            "cpu_affinity": "" if benchmark.pin is None else str(benchmark.pin),
            "verdict": form.verdict(benchmark),
        }
        benchmarks.append({"metadata": _metadata(own), "runs": [{"values": run_s} for run_s in runs_s]})
    return _json({"version": "1.0", "metadata": _metadata(metadata), "benchmarks": benchmarks})


def pytest_benchmark(results: Results) -> str:
    """What `--benchmark-json` writes: a round for each sample, or for each process where several measured it."""
    environment = results.environment
    created = _created(results)
    benchmarks = []
    for benchmark in _measured(results):
        name = _name(benchmark.key)
        test, bracket, parameters = form.file_and_name(name)[1].partition("[")
        entry = {
            "group": None,
            "name": test.rpartition("::")[2] + bracket + parameters,
            "fullname": form.ROOT + name,
            "params": None,
            "param": parameters.rpartition("]")[0] or None,
            "extra_info": {"verdict": form.verdict(benchmark), "counts": _counts(benchmark)},
            "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
            "stats": _stats(_values_s(benchmark)) | {"iterations": benchmark.operations},
        }
        benchmarks.append(entry)
    return _json(
        {
            "machine_info": {
                "node": environment.machine,
                "machine": environment.architecture,
                "system": environment.system,
                "release": environment.kernel,
                "python_version": environment.python,
                "cpu": {"brand_raw": environment.cpu, "count": environment.cpu_count},
            },
            "commit_info": {"id": environment.commit, "dirty": environment.dirty},
            "benchmarks": benchmarks,
            "datetime": created.isoformat() if created else "",
            "version": "4.0.0",  # whose format this is
        }
    )


def openmetrics(results: Results) -> str:
    """Gauges that readers of OpenMetrics and of Prometheus's older text format take alike, so without `info` types."""
    environment = results.environment
    created = _created(results)
    names = {benchmark.key: _name(benchmark.key) for benchmark in results.benchmarks}
    figures = {benchmark.key: _figures(benchmark) for benchmark in results.benchmarks}
    run = {
        "verdict": results.verdict or "",
        "profile": results.profile,
        "commit": environment.commit,
        "machine": environment.machine,
        "python": environment.python,
    }
    lines = _family("perf_run_info", "The run, and its verdict.", [(run, 1)])
    if created:
        lines += _family("perf_run_timestamp_seconds", "When the results were written.", [({}, created.timestamp())])
    if results.exit_code is not None:
        lines += _family("perf_run_exit_code", "Exit code of the run.", [({}, results.exit_code)])
    verdicts = [({"benchmark": names[b.key], "verdict": form.verdict(b)}, 1) for b in results.benchmarks]
    lines += _family("perf_benchmark_info", "Each benchmark, and its verdict.", verdicts)
    for name, meaning in [*((name, meaning) for name, (meaning, _) in _FIGURES.items()), _BASELINE]:
        metric = "perf_" + re.sub("(_per)?_s$", lambda found: "_per_second" if found[1] else "_seconds", name)
        known = [({"benchmark": names[key]}, values[name]) for key, values in figures.items() if name in values]
        lines += _family(metric, meaning, known)
    counts = [
        ({"benchmark": names[benchmark.key], "count": name}, count)
        for benchmark in _measured(results)
        for name, count in _counts(benchmark).items()
    ]
    lines += _family("perf_counts_per_operation", "Messages, bytes, commands, statements and rows.", counts)
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def as_csv(results: Results) -> str:
    """A table for spreadsheets, which know UTF-8 by the mark it begins with; no text of it is taken for a formula."""
    kinds = sorted({kind for benchmark in results.benchmarks for kind in _counts(benchmark)})
    figures = [*_FIGURES, _BASELINE[0]]
    environment = results.environment
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    columns = ["benchmark", "verdict", *figures, *kinds, "remarks", "machine", "commit", "created"]
    writer.writerow([_cell(column) for column in columns])
    for benchmark in results.benchmarks:
        values = _figures(benchmark) | (_counts(benchmark) if form.now(benchmark) else {})
        writer.writerow(
            [
                *(_cell(text) for text in (_name(benchmark.key), form.verdict(benchmark))),
                *(values.get(column, "") for column in [*figures, *kinds]),
                _cell("; ".join(form.remarks(benchmark))),
                *(_cell(text) for text in (environment.machine, environment.commit, results.created)),
            ]
        )
    return "\N{BYTE ORDER MARK}" + file.getvalue()


FORMATS: dict[str, Callable[[Results], str]] = {
    "github-action-benchmark": github_action_benchmark,
    "bencher": bencher,
    "pyperf": pyperf,
    "pytest-benchmark": pytest_benchmark,
    "openmetrics": openmetrics,
    "csv": as_csv,
}
"""By the name that `--format` takes; each raises ResultsError for a figure that isn't finite."""


def _measured(results: Results) -> list[Benchmark]:
    return [benchmark for benchmark in results.benchmarks if form.now(benchmark) is not None]


def _some_measured(results: Results, tool: str) -> list[Benchmark]:
    measured = _measured(results)
    if not measured:
        raise ResultsError(f"nothing was measured, and {tool} reads no file without a benchmark")
    return measured


def _name(key: str) -> str:
    """The key itself wherever it is printable and short enough."""
    name = form.plain(key).strip()
    if name == key and len(key.encode()) <= _NAME_BYTES:
        return key
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: _NAME_BYTES - 9].decode(errors='ignore')}~{digest}"


def _number(value: float, digits: int = 9) -> float:
    """With so many significant digits, a count as it is; raises ResultsError where it isn't finite."""
    if not math.isfinite(value):
        raise ResultsError(f"a figure is {value}: not exported")
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


def _figures(benchmark: Benchmark) -> dict[str, float]:
    """What is known of it, by the names of `_FIGURES`; of one that wasn't measured, the baseline alone."""
    known = {name: figure(benchmark) for name, (_, figure) in _FIGURES.items()} if form.now(benchmark) else {}
    known[_BASELINE[0]] = form.baseline(benchmark)
    return {name: _number(value) for name, value in known.items() if value is not None}


def _counts(benchmark: Benchmark) -> dict[str, float]:
    """Counts per operation, commands and statements altogether rather than by their text."""
    totals: dict[str, float] = {}
    for name, count in benchmark.counts.items():
        kind = name.partition(" ")[0]
        totals[kind] = totals.get(kind, 0.0) + count
    return {kind: _number(total) for kind, total in sorted(totals.items())}


def _is_of_several(benchmark: Benchmark) -> bool:
    return len(benchmark.process_medians) > 1


def _values_s(benchmark: Benchmark) -> list[float]:
    """In seconds, its samples; where several processes measured it, as in a baseline, the median of each."""
    of_processes = _is_of_several(benchmark) or not benchmark.samples_s
    medians = benchmark.process_medians or [benchmark.median]
    return [_number(value_s) for value_s in (medians if of_processes else benchmark.samples_s)]


def _medians_of_parts(values_s: list[float]) -> list[float]:
    count, parts = len(values_s), min(_PARTS, len(values_s))
    bounds = [count * part // parts for part in range(parts + 1)]
    return [_number(statistics.median(values_s[begin:end])) for begin, end in pairwise(bounds)]


def _quartiles_s(values_s: list[float]) -> tuple[float, float] | None:
    """The first and the third; None for a single value."""
    if len(values_s) < 2:
        return None
    first, _, third = statistics.quantiles(values_s, n=4, method="inclusive")
    return _number(first), _number(third)


def _stats(values_s: list[float]) -> dict[str, Any]:
    """The statistics that pytest-benchmark keeps."""
    mean = statistics.mean(values_s)  # exact: none of equal samples is an outlier
    deviation = statistics.stdev(values_s) if len(values_s) > 1 else 0.0
    q1, q3 = _quartiles_s(values_s) or (values_s[0], values_s[0])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    within = [value for value in values_s if low <= value <= high]
    deviating = sum(abs(value - mean) > deviation for value in values_s)
    figures = {
        "min": min(values_s),
        "max": max(values_s),
        "mean": mean,
        "stddev": deviation,
        "median": statistics.median(values_s),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "ld15iqr": min(within),
        "hd15iqr": max(within),
        "ops": 1 / mean if mean else 0.0,
        "total": sum(values_s),
    }
    return {name: _number(value) for name, value in figures.items()} | {
        "rounds": len(values_s),
        "stddev_outliers": deviating,
        "iqr_outliers": len(values_s) - len(within),
        "outliers": f"{deviating};{len(values_s) - len(within)}",
        "data": values_s,
    }


def _created(results: Results) -> datetime | None:
    try:
        return datetime.fromisoformat(results.created)
    except ValueError:
        return None


def _metadata(values: Mapping[str, str | int]) -> dict[str, str | int]:
    """Without what is empty or has more than one line, which pyperf refuses."""
    plain = {name: form.plain(value).strip() if isinstance(value, str) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value not in ("", 0)}


def _family(name: str, meaning: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> list[str]:
    """The lines of one gauge; none where it has no samples."""
    lines = []
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_label(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value}")
    unit = name.rpartition("_")[2]
    units = [f"# UNIT {name} {unit}"] if unit in ("seconds", "ratio") else []
    return [f"# TYPE {name} gauge", *units, f"# HELP {name} {meaning}", *lines] if lines else []


def _label(text: str) -> str:
    return form.plain(text).replace("\\", "\\\\").replace('"', '\\"')


def _cell(text: str) -> str:
    """Text that a spreadsheet shows, and doesn't compute: those that would be formulas get an apostrophe before."""
    text = form.plain(text)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") else text  # noqa: RUF001, spreadsheets take both


def _json(document: object) -> str:
    """In ASCII for readers of any encoding, without a `<` so that it can stand in a page; the names are the same."""
    return json.dumps(document, allow_nan=False).replace("<", "\\u003c") + "\n"
