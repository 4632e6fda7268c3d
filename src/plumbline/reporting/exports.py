"""The results in the formats of other tools: pure functions of `Results`.

Figures are per operation. A benchmark that was not measured is left out; OpenMetrics and CSV give its verdict. A key
becomes a name of one printable line of at most 1,024 bytes. If that changes it, a part of its hash is added, so that
no two keys have the same name.
"""

import contextlib
import csv
import hashlib
import io
import json
import re
import statistics
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from plumbline.measuring.statistics import percentile
from plumbline.project import SUITE
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.files import ResultsError, rounded
from plumbline.results.schema import Benchmark, Results

_NAME_BYTES = 1024  # the limit of Bencher, which is the lowest
_PARTS = 5  # values of a run for pyperf: as many as a baseline has processes by default
_CLOCK_S = 1e-9  # instead of 0 s for tools that need times above 0
_DIGITS = 9
_Sample = tuple[dict[str, str], float]  # labels and value

# Column of the CSV, its meaning, and the benchmark's field.
_FIGURES = [
    ("median_s", "Median time of one operation.", "median"),
    ("mean_s", "Mean time of one operation.", "mean"),
    ("p95_s", "95th percentile of the time of one operation.", "p95"),
    ("p99_s", "99th percentile of the time of one operation.", "p99"),
    ("minimum_s", "Shortest time of one operation.", "minimum"),
    ("maximum_s", "Longest time of one operation.", "maximum"),
    ("rate_per_s", "Operations per second.", "rate_per_s"),
    ("samples", "Timed samples.", "samples"),
    ("operations", "Operations in each sample.", "operations"),
    ("change_ratio", "Change against the base commit or the baseline: 0.05 is 5 % slower.", "change"),
    ("change_low_ratio", "Lower bound of the change.", "change_low"),
    ("change_high_ratio", "Upper bound of the change.", "change_high"),
    ("minimum_detectable_effect_ratio", "The minimum detectable effect.", "minimum_detectable_effect"),
    ("baseline_median_s", "Median time of one operation in the baseline.", ""),
]


def github_action_benchmark(results: Results) -> str:
    """Return JSON for `tool: customSmallerIsBetter`: medians in µs, ± half the interquartile range of the samples."""
    entries = []
    for benchmark in _measured(results, "github-action-benchmark"):
        extra = {
            "verdict": content.verdict(benchmark),
            "samples": f"{benchmark.samples:,}",
            "p95": form.duration(benchmark.p95),
            "rate": form.rate(benchmark.rate_per_s),
            **{name: f"{count:g}" for name, count in _counts(benchmark).items()},
        }
        entry: dict[str, Any] = {"name": _name(benchmark.key), "unit": "µs", "value": benchmark.median * 1e6}
        values_s = _values_s(benchmark)
        if len(values_s) > 1:
            entry["range"] = f"± {rounded((percentile(values_s, 75) - percentile(values_s, 25)) / 2 * 1e6, 3)}"
        entries.append(entry | {"extra": "\n".join(f"{name}: {text}" for name, text in extra.items())})
    return _json(entries)


def bencher(results: Results) -> str:
    """Return Bencher Metric Format: latencies in ns with the quartiles as bounds, throughput and counts."""
    document = {}
    for benchmark in _measured(results):
        median_s, values_s = benchmark.median, _values_s(benchmark)
        latency = {"value": median_s * 1e9}
        if len(values_s) > 1:
            latency["lower_value"] = min(percentile(values_s, 25), median_s) * 1e9
            latency["upper_value"] = max(percentile(values_s, 75), median_s) * 1e9
        others = {
            "p95-latency": benchmark.p95 * 1e9,
            "p99-latency": (benchmark.p99 or 0.0) * 1e9,
            "throughput": benchmark.rate_per_s,
            **{re.sub("[^a-z0-9]+", "-", name.lower()): count for name, count in _counts(benchmark).items()},
        }
        measures = {measure: {"value": value} for measure, value in others.items() if value}
        document[_name(benchmark.key)] = {"latency": latency, **measures}
    return _json(document)


def pyperf(results: Results) -> str:
    """Return a suite of pyperf: one run with the medians of five parts of the samples, or one run for each process.

    pyperf compares only equal numbers of values. Numbers of samples differ, and baselines have five processes.
    """
    benchmarks = []
    for benchmark in _measured(results, "pyperf"):
        values_s = [max(value_s, _CLOCK_S / benchmark.operations) for value_s in _values_s(benchmark)]
        if len(benchmark.process_medians) > 1:
            runs_s = [[value_s] for value_s in values_s]
        else:
            parts = min(_PARTS, len(values_s))
            bounds = pairwise(len(values_s) * part // parts for part in range(parts + 1))
            runs_s = [[statistics.median(values_s[begin:end]) for begin, end in bounds]]
        loops = max(1, benchmark.samples // sum(map(len, runs_s)))
        pin = "" if benchmark.pin is None else str(benchmark.pin)
        metadata: dict[str, str | int] = {"name": _name(benchmark.key), "description": benchmark.description}
        metadata |= {"loops": loops, "inner_loops": benchmark.operations, "cpu_affinity": pin}
        metadata["verdict"] = content.verdict(benchmark)
        benchmarks.append({"metadata": _metadata(metadata), "runs": [{"values": run_s} for run_s in runs_s]})
    environment = results.environment
    platform = f"{environment.system}-{environment.kernel}-{environment.architecture}"
    metadata = {"unit": "second", "timer": "time.perf_counter()", "date": results.created[:19].replace("T", " ")}
    metadata |= {"hostname": environment.machine, "platform": platform, "python_version": environment.python}
    metadata |= {"cpu_model_name": environment.cpu, "cpu_count": environment.cpu_count, "commit_id": environment.commit}
    return _json({"version": "1.0", "metadata": _metadata(metadata), "benchmarks": benchmarks})


def pytest_benchmark(results: Results) -> str:
    """Return JSON like `--benchmark-json`: a round for each sample, or for each process if several measured it."""
    benchmarks = []
    for benchmark in _measured(results):
        name = _name(benchmark.key)
        test, bracket, parameters = form.file_and_name(name)[1].partition("[")
        entry = {
            "group": None,
            "name": test.rpartition("::")[2] + bracket + parameters,
            "fullname": f"{SUITE}/{name}",
            "params": None,
            "param": parameters.rpartition("]")[0] or None,
            "extra_info": {"verdict": content.verdict(benchmark), "counts": _counts(benchmark)},
            "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
            "stats": _stats(_values_s(benchmark)) | {"iterations": benchmark.operations},
        }
        benchmarks.append(entry)
    environment = results.environment
    cpu = {"brand_raw": environment.cpu, "count": environment.cpu_count}
    machine = {"node": environment.machine, "machine": environment.architecture, "cpu": cpu}
    machine |= {"system": environment.system, "release": environment.kernel, "python_version": environment.python}
    commit = {"id": environment.commit, "dirty": environment.dirty}
    document = {"machine_info": machine, "commit_info": commit, "benchmarks": benchmarks}
    return _json(document | {"datetime": results.created, "version": "4.0.0"})  # the version is pytest-benchmark's


def openmetrics(results: Results) -> str:
    """Return gauges, as both OpenMetrics and Prometheus's older text format have them; the older has no `info`."""
    environment = results.environment
    run = {"verdict": results.verdict or "", "profile": results.profile}
    run |= {"commit": environment.commit, "machine": environment.machine, "python": environment.python}
    created: list[_Sample] = []
    with contextlib.suppress(ValueError):  # no date
        created.append(({}, datetime.fromisoformat(results.created).timestamp()))
    exit_codes: list[_Sample] = [] if results.exit_code is None else [({}, results.exit_code)]
    labelled = [({"benchmark": _name(benchmark.key)}, benchmark) for benchmark in results.benchmarks]
    judged: list[_Sample] = [(labels | {"verdict": content.verdict(each)}, 1) for labels, each in labelled]
    counts = [(labels | {"count": name}, n) for labels, each in labelled for name, n in _counts(each).items()]
    families: dict[str, tuple[str, list[_Sample]]] = {
        "perf_run_info": ("The run, and its verdict.", [(run, 1)]),
        "perf_run_timestamp_seconds": ("When the results were written.", created),
        "perf_run_exit_code": ("Exit code of the run.", exit_codes),
        "perf_benchmark_info": ("Each benchmark, and its verdict.", judged),
    }
    values = [(labels, _figures(each)) for labels, each in labelled]
    for name, meaning, _ in _FIGURES:
        metric = "perf_" + re.sub("(_per)?_s$", lambda found: "_per_second" if found[1] else "_seconds", name)
        families[metric] = meaning, [(labels, known[name]) for labels, known in values if name in known]
    families["perf_counts_per_operation"] = "Messages, bytes, commands, statements and rows.", counts
    lines = []
    for name, (meaning, samples) in families.items():
        unit = name.rpartition("_")[2]
        units = [f"# UNIT {name} {unit}"] if unit in ("seconds", "ratio") else []
        lines += [f"# TYPE {name} gauge", *units, f"# HELP {name} {meaning}"] if samples else []
        for labels, value in samples:
            plain = {key: form.plain(text).replace("\\", r"\\").replace('"', r"\"") for key, text in labels.items()}
            pairs = ",".join(f'{key}="{text}"' for key, text in plain.items())
            lines.append(f"{name}{{{pairs}}} {value}")
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def as_csv(results: Results) -> str:
    """Return CSV with a byte order mark, by which spreadsheets recognise UTF-8, and with no text that is a formula."""
    kinds = sorted({kind for benchmark in results.benchmarks for kind in _counts(benchmark)})
    columns = [*(name for name, *_ in _FIGURES), *kinds]
    run = (results.environment.machine, results.environment.commit, results.created)
    rows: list[list[str | float]] = [["benchmark", "verdict", *columns, "remarks", "machine", "commit", "created"]]
    for benchmark in results.benchmarks:
        values = _figures(benchmark) | _counts(benchmark)
        known = [values.get(column, "") for column in columns]
        remarks = "; ".join(content.remarks(benchmark))
        rows.append([_name(benchmark.key), content.verdict(benchmark), *known, remarks, *run])
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows([_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return "\N{BYTE ORDER MARK}" + file.getvalue()


# By the name that `--format` takes. Each raises ResultsError if a figure is not finite, some if nothing was measured.
FORMATS: dict[str, Callable[[Results], str]] = {
    "github-action-benchmark": github_action_benchmark,
    "bencher": bencher,
    "pyperf": pyperf,
    "pytest-benchmark": pytest_benchmark,
    "openmetrics": openmetrics,
    "csv": as_csv,
}


def _measured(results: Results, tool: str = "") -> list[Benchmark]:
    """Return the benchmarks that were measured; raises ResultsError if there are none and `tool` needs some."""
    measured = [benchmark for benchmark in results.benchmarks if content.now(benchmark) is not None]
    if tool and not measured:
        raise ResultsError(f"nothing was measured: {tool} can't read a file without benchmarks")
    return measured


def _name(key: str) -> str:
    name = form.plain(key).strip()
    if name == key and len(key.encode()) <= _NAME_BYTES:
        return key
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: _NAME_BYTES - 9].decode(errors='ignore')}~{digest}"


def _figures(benchmark: Benchmark) -> dict[str, float]:
    """Return the known figures by column. Of a benchmark that was not measured, only the baseline's is known."""
    measured = content.now(benchmark) is not None
    values = {name: getattr(benchmark, field) for name, _, field in _FIGURES if field and measured}
    if not content.is_evidence(benchmark):
        values = {name: value for name, value in values.items() if not name.startswith("change_")}
    values["baseline_median_s"] = content.before(benchmark)
    # A time of 0 is not known.
    known = {name: value for name, value in values.items() if value or (value == 0 and name.endswith("_ratio"))}
    figures: dict[str, float] = rounded(known, _DIGITS)
    return figures


def _counts(benchmark: Benchmark) -> dict[str, float]:
    """Return counts per operation, commands and statements summed up; empty if the benchmark was not measured."""
    totals: dict[str, float] = {}
    for name, count in sorted(benchmark.counts.items()) if content.now(benchmark) else []:
        kind = name.partition(" ")[0]
        totals[kind] = rounded(totals.get(kind, 0.0) + count, _DIGITS)
    return totals


def _values_s(benchmark: Benchmark) -> list[float]:
    """Return the samples; if several processes measured it, as in a baseline, the median of each."""
    samples_s = benchmark.samples_s if len(benchmark.process_medians) <= 1 else []
    values_s: list[float] = rounded([*(samples_s or benchmark.process_medians or [benchmark.median])], _DIGITS)
    return values_s


def _stats(values_s: list[float]) -> dict[str, Any]:
    mean = statistics.mean(values_s)  # exact, so that equal samples have no outliers
    deviation = statistics.stdev(values_s) if len(values_s) > 1 else 0.0
    q1, q3 = percentile(values_s, 25), percentile(values_s, 75)
    within = [value for value in values_s if q1 - 1.5 * (q3 - q1) <= value <= q3 + 1.5 * (q3 - q1)]
    far, outside = sum(abs(value - mean) > deviation for value in values_s), len(values_s) - len(within)
    center = {"mean": mean, "stddev": deviation, "median": statistics.median(values_s)}
    quartiles = {"iqr": q3 - q1, "q1": q1, "q3": q3, "ld15iqr": min(within), "hd15iqr": max(within)}
    outliers = {"stddev_outliers": far, "iqr_outliers": outside, "outliers": f"{far};{outside}"}
    ends = {"min": min(values_s), "max": max(values_s), "total": sum(values_s), "ops": 1 / mean if mean else 0.0}
    return ends | center | quartiles | outliers | {"rounds": len(values_s), "data": values_s}


def _metadata(values: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return the values that are not empty, each on one line, because pyperf refuses others."""
    plain = {name: form.plain(value).strip() if isinstance(value, str) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value not in ("", 0)}


def _cell(text: str) -> str:
    """Return text that a spreadsheet does not compute: it gets an apostrophe if it looks like a formula."""
    text = form.plain(text)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") else text  # noqa: RUF001, spreadsheets take both


def _json(document: object) -> str:
    """Return JSON in ASCII, for readers of any encoding, without a `<`, so that it can stand in a page."""
    return json.dumps(rounded(document, _DIGITS), allow_nan=False).replace("<", "\\u003c") + "\n"
