import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import parser as prometheus_text
from prometheus_client.openmetrics import parser as openmetrics_text

from plumbline.reporting.exports import FORMATS
from plumbline.results.files import ResultsError
from plumbline.results.schema import Benchmark, Results
from tests.support.report_samples import NASTY, benchmark, results, small, unmeasured

COUNTS = {
    "redis.messages": 2.0,
    "postgres.statement SELECT name FROM item WHERE id = $1": 1.0,
    "postgres.statement SELECT 1": 0.5,
}
KEY = "test_redis.py::TestPublish::test_publish[1 kB]"
# Median 58 µs, quartiles 56 and 60 µs, mean 60.7 µs. One sample is an outlier.
SAMPLES_S = [50e-6, 55e-6, 56e-6, 57e-6, 58e-6, 59e-6, 60e-6, 61e-6, 90e-6]


def measured(key: str = KEY, factor: float = 1.0, **fields: Any) -> Benchmark:
    samples_s = [sample_s * factor for sample_s in SAMPLES_S]
    figures: dict[str, Any] = {
        "median": samples_s[4],
        "mean": sum(samples_s) / 9,
        "rate_per_s": 9 / sum(samples_s),
        "p95": 78.4e-6 * factor,
        "minimum": samples_s[0],
        "maximum": samples_s[-1],
        "samples": 9,
        "samples_s": samples_s,
        "process_medians": [samples_s[4]],
        "counts": COUNTS,
        "pin": 1,
        "description": "PUBLISH one message.",
    }
    return benchmark(key, **(figures | fields))


def run(*benchmarks: Benchmark, **fields: Any) -> Results:
    return results(*(benchmarks or [measured()]), **({"created": "2026-11-24T03:37:17+00:00"} | fields))


def baseline() -> Results:
    """As a baseline's file is: medians of five processes in the place of samples."""
    medians = [57e-6, 58e-6, 58e-6, 59e-6, 60e-6]
    return run(measured(verdict=None, samples_s=[], process_medians=medians, spread=0.02))


def export(name: str, of: Results, folder: Path | None = None, file: str = "now.json") -> Any:
    """The document or, with a folder, the name of its file there."""
    text = FORMATS[name](of)
    if folder is None:
        return text if name in ("csv", "openmetrics") else json.loads(text)
    (folder / file).write_text(text, encoding="utf-8")
    return file


def tool(folder: Path, *command: str) -> str:
    """The output of a tool for the files in a folder; an error of the tool fails the test."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:])))


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """By metric, checked by the parsers of both text formats, which have to read the same."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    families = list(openmetrics_text.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    for family in families:
        assert family.type == "gauge"
        assert family.documentation
        found[family.name] = [(sample.labels, sample.value) for sample in family.samples]
    older = list(prometheus_text.text_string_to_metric_families(text))
    assert {f.name: [(s.labels, s.value) for s in f.samples] for f in older} == found
    return found


def check_action(document: Any) -> None:
    """The entries of github-action-benchmark's README, for `customSmallerIsBetter`; it takes no empty list."""
    assert isinstance(document, list)
    assert document
    for entry in document:
        assert {"name", "unit", "value"} <= entry.keys() <= {"name", "unit", "value", "range", "extra"}
        assert type(entry["value"]) in (int, float)
        assert all(isinstance(entry[name], str) for name in entry.keys() - {"value"})
        # What the action takes for a range; another text it can't convert to the unit of the run before.
        assert "range" not in entry or re.fullmatch(r"(\+-|±)\s*(\d[\d.e-]+)", entry["range"])
    assert len({entry["name"] for entry in document}) == len(document)


def check_bencher(document: Any) -> None:
    """https://bencher.dev/bmf.json, and the lengths that its reference names; measures are slugs."""
    assert isinstance(document, dict)
    for name, measures in document.items():
        assert 0 < len(name.encode()) <= 1024
        for measure, metric in measures.items():
            assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", measure)
            assert len(measure) <= 64
            assert {"value"} <= metric.keys() <= {"value", "lower_value", "upper_value"}
            assert all(type(value) in (int, float) and math.isfinite(value) for value in metric.values())
            assert metric.get("lower_value", 0) <= metric["value"] <= metric.get("upper_value", math.inf)


def names(name: str, of: Results) -> list[str]:
    """The names of the benchmarks in an export, as its reader gets them."""
    document = export(name, of)
    readers: dict[str, Callable[[], list[str]]] = {
        "github-action-benchmark": lambda: [entry["name"] for entry in document],
        "bencher": lambda: list(document),
        "pyperf": lambda: [entry["metadata"]["name"] for entry in document["benchmarks"]],
        "pytest-benchmark": lambda: [
            entry["fullname"].removeprefix("tests/performance/") for entry in document["benchmarks"]
        ],
        "openmetrics": lambda: [labels["benchmark"] for labels, _ in samples(document)["perf_median_seconds"]],
        "csv": lambda: [row["benchmark"] for row in rows(document)],
    }
    return readers[name]()


def test_github_action_benchmark_gets_medians_in_microseconds() -> None:
    document = export("github-action-benchmark", run())

    check_action(document)
    assert document == [
        {
            "name": KEY,
            "unit": "µs",
            "value": 58.0,
            "range": "± 2.0",
            "extra": "verdict: pass\nsamples: 9\np95: 78.4 µs\nrate: 16,500/s\n"
            "postgres.statement: 1.5\nredis.messages: 2",
        }
    ]


def test_bencher_gets_its_own_measures_and_those_of_the_counts() -> None:
    document = export("bencher", run(measured(p99=80e-6)))

    check_bencher(document)
    assert document == {
        KEY: {
            "latency": {"value": 58000.0, "lower_value": 56000.0, "upper_value": 60000.0},
            "p95-latency": {"value": 78400.0},
            "p99-latency": {"value": 80000.0},
            "throughput": {"value": 16483.5165},
            "postgres-statement": {"value": 1.5},
            "redis-messages": {"value": 2.0},
        }
    }


def test_pyperf_gets_the_medians_of_five_parts_as_the_values_of_one_run() -> None:
    document = export("pyperf", run(measured(operations=50)))

    assert document["version"] == "1.0"
    assert document["metadata"]["date"] == "2026-11-24 03:37:17"
    (entry,) = document["benchmarks"]
    assert entry["metadata"] == {
        "name": KEY,
        "description": "PUBLISH one message.",
        "loops": 1,
        "inner_loops": 50,
        "cpu_affinity": "1",
        "verdict": "pass",
    }
    assert entry["runs"] == [{"values": [50e-6, 55.5e-6, 57.5e-6, 59.5e-6, 75.5e-6]}]


def test_several_processes_are_runs_of_pyperf() -> None:
    (entry,) = export("pyperf", run(measured(process_medians=[58e-6, 59e-6])))["benchmarks"]

    assert entry["runs"] == [{"values": [58e-6]}, {"values": [59e-6]}]
    assert entry["metadata"]["loops"] == 4


def test_pyperf_reads_it(tmp_path: Path) -> None:
    """Its own commands; other numbers of samples and samples of 0 s do not keep it from testing significance."""
    pair = [measured(), measured("b.py::test_b", operations=50, samples_s=[0.0] * 9)]
    slower = [measured(samples_s=[2 * s for s in SAMPLES_S] * 3), measured("b.py::test_b", operations=50)]
    before, after = export("pyperf", run(*pair), tmp_path, "before.json"), export("pyperf", run(*slower), tmp_path)

    compared = tool(tmp_path, "pyperf", "compare_to", "-v", before, after)
    stats = tool(tmp_path, "pyperf", "stats", before)
    checked = tool(tmp_path, "pyperf", "check", before)

    assert "[before] 59.6 us +- 9.6 us -> [now] 116 us +- 4 us: 1.94x slower" in compared
    assert compared.count("Significant (t=") == 2
    assert "ERROR" not in compared
    assert "Start date: 2026-11-24 03:37:17" in stats
    assert re.search(r"Median \+- MAD:\s+57.5 us \+- 2.0 us", stats)
    assert "(1 outer-loop x 50 inner-loops)" in stats
    assert "test_publish" in checked


def test_pyperf_compares_a_run_with_a_baseline(tmp_path: Path) -> None:
    files = [export("pyperf", baseline(), tmp_path, "baseline.json"), export("pyperf", run(), tmp_path)]

    compared = tool(tmp_path, "pyperf", "compare_to", "-v", *files)

    assert "[baseline] 58.4 us +- 1.1 us -> [now] 59.6 us +- 9.6 us: 1.02x slower\nNot significant!" in compared


def test_pytest_benchmark_gets_its_own_statistics() -> None:
    """Except for the quartiles, which have several definitions, and the statistics made from them."""
    from pytest_benchmark.stats import Stats

    theirs = Stats()  # type: ignore[no-untyped-call]
    theirs.data = SAMPLES_S

    (entry,) = export("pytest-benchmark", run(measured(operations=50)))["benchmarks"]
    stats = entry.pop("stats")

    assert entry == {
        "group": None,
        "name": "test_publish[1 kB]",
        "fullname": f"tests/performance/{KEY}",
        "params": None,
        "param": "1 kB",
        "extra_info": {"verdict": "pass", "counts": {"postgres.statement": 1.5, "redis.messages": 2.0}},
        "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
    }
    assert stats.keys() == {*Stats.fields, "data", "iterations"}
    for field in ("min", "max", "mean", "stddev", "rounds", "median", "stddev_outliers", "ops", "total"):
        assert stats[field] == pytest.approx(getattr(theirs, field)), field
    assert (stats["q1"], stats["q3"], stats["iqr"]) == (56e-6, 60e-6, 4e-6)
    assert (stats["ld15iqr"], stats["hd15iqr"]) == (50e-6, 61e-6)
    assert (stats["iqr_outliers"], stats["outliers"]) == (1, "1;1")
    assert (stats["data"], stats["iterations"]) == (SAMPLES_S, 50)


@pytest.mark.parametrize("values_s", [[0.1] * 7, [1e-6 / 3] * 100, [5e-6], [5e-6, 5e-6]], ids=len)
def test_equal_samples_have_no_outliers(values_s: list[float]) -> None:
    (entry,) = export("pytest-benchmark", run(measured(samples_s=values_s)))["benchmarks"]

    assert entry["stats"]["outliers"] == "0;0"
    assert entry["stats"]["iqr"] == 0


def test_pytest_benchmark_compares(tmp_path: Path) -> None:
    before = export("pytest-benchmark", baseline(), tmp_path, "baseline.json")
    after = export("pytest-benchmark", run(measured(factor=2)), tmp_path)

    table = tool(tmp_path, "pytest_benchmark", "compare", before, after, "--name=long", "--columns=median,rounds")

    lines = {line.split("(")[1][:3]: line.split() for line in table.splitlines() if KEY in line}
    assert lines["bas"][-3:] == ["58.0000", "(1.0)", "5"]
    assert lines["now"][-3:] == ["116.0000", "(2.00)", "9"]


def test_openmetrics_are_gauges_with_units() -> None:
    text = export("openmetrics", run())

    assert text.endswith("\n# EOF\n")
    assert "\n# TYPE perf_median_seconds gauge\n# UNIT perf_median_seconds seconds\n# HELP perf_median_seconds " in text
    found = samples(text)
    labels = {"benchmark": KEY}
    assert found["perf_median_seconds"] == [(labels, 58e-6)]
    assert found["perf_rate_per_second"] == [(labels, 16483.5165)]
    assert found["perf_samples"] == [(labels, 9)]
    assert found["perf_change_ratio"] == [(labels, 0.005)]
    assert found["perf_baseline_median_seconds"] == [(labels, 57.1e-6)]
    assert found["perf_counts_per_operation"] == [
        (labels | {"count": "postgres.statement"}, 1.5),
        (labels | {"count": "redis.messages"}, 2),
    ]
    assert found["perf_benchmark_info"] == [(labels | {"verdict": "pass"}, 1)]
    assert found["perf_run_exit_code"] == [({}, 0)]
    assert found["perf_run_timestamp_seconds"] == [({}, 1795491437)]
    assert "perf_p99_seconds" not in found  # not known


def test_a_spreadsheet_gets_one_row_a_benchmark() -> None:
    entry = measured("=cmd|' /C calc'!A0", verdict="regression", reasons=["-slower", "far\nbehind"])

    (row,) = rows(export("csv", run(entry)))

    assert row["benchmark"] == "'=cmd|' /C calc'!A0"
    assert row["remarks"] == "'-slower; far behind"
    assert row["verdict"] == "regression"
    assert (row["median_s"], row["samples"], row["p99_s"]) == ("5.8e-05", "9", "")
    assert (row["baseline_median_s"], row["change_low_ratio"]) == ("5.71e-05", "-0.004")
    assert (row["postgres.statement"], row["redis.messages"]) == ("1.5", "2.0")
    assert row["created"] == "2026-11-24T03:37:17+00:00"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", " =", "＝"])  # noqa: RUF001, taken for formulas, too
def test_no_cell_is_a_formula(begin: str) -> None:
    text = export("csv", run(measured(f"{begin}1+1", reasons=[f"{begin}1"], verdict="new")))

    for row in csv.reader(io.StringIO(text[1:])):
        assert not any(cell.lstrip()[:1] in tuple("=+@＝") for cell in row)  # noqa: RUF001
    assert f"\"'{begin.strip()}1+1" in text  # quoted, so that a semicolon can't begin a cell either


@pytest.mark.parametrize("name", FORMATS)
def test_names_of_any_kind_come_back(name: str) -> None:
    """Control characters are replaced, and the name stays different from similar ones."""
    control = [NASTY["control"], NASTY["control"].replace("31m", "32m")]
    long = [f"a.py::test_{'ф' * 600}{end}" for end in "ab"]
    keys = [*NASTY.values(), 'a.py::test_a["quoted" \\ {}=,;#]', "a.py::test_a[ ]", *control[1:], *long]

    found = names(name, run(*map(measured, keys)))

    assert len(set(found)) == len(keys)
    assert set(keys) - set(found) == {*control, *long}
    assert sum(name.startswith("test_redis.py::test_publish[red�� �back]~") for name in found) == 2
    assert max(len(name.encode()) for name in found) == 1024


@pytest.mark.parametrize("name", ["github-action-benchmark", "bencher", "pyperf", "pytest-benchmark"])
def test_json_can_stand_in_a_page(name: str) -> None:
    text = FORMATS[name](run(measured(NASTY["html"])))

    assert "<" not in text
    assert text.isascii()


def test_the_tools_read_names_of_any_kind(tmp_path: Path) -> None:
    of = run(*map(measured, NASTY.values()))
    check_action(export("github-action-benchmark", of))
    check_bencher(export("bencher", of))
    for name in ("pyperf", "pytest-benchmark"):
        export(name, of, tmp_path, f"{name}.json")

    assert "test_发布_延迟[一千字节]" in tool(tmp_path, "pyperf", "compare_to", "pyperf.json", "pyperf.json", "-v")
    assert "test_שלום_עולם[مرحبا]" in tool(tmp_path, "pytest_benchmark", "compare", "pytest-benchmark.json")


@pytest.mark.parametrize("name", FORMATS)
def test_a_benchmark_without_a_measurement_has_no_figures(name: str) -> None:
    of = small()
    missing = "test_postgres.py::test_select_1"

    if name == "csv":
        (row,) = [row for row in rows(export(name, of)) if row["benchmark"] == missing]
        assert row["verdict"] == "missing"
        assert (row["median_s"], row["p95_s"], row["baseline_median_s"]) == ("", "", "5.71e-05")
    else:
        assert missing not in names(name, of)
        assert len(names(name, of)) == 5
    if name == "openmetrics":
        assert ({"benchmark": missing, "verdict": "missing"}, 1) in samples(export(name, of))["perf_benchmark_info"]


def test_a_change_that_is_no_evidence_is_not_exported() -> None:
    """As one against the baseline of another machine, which has no interval."""
    of = run(measured(change=1.05, change_low=None, change_high=None))

    assert rows(export("csv", of))[0]["change_ratio"] == ""
    assert "perf_change_ratio" not in samples(export("openmetrics", of))


@pytest.mark.parametrize(
    "of", [results(), results(unmeasured("a.py::test_a")), results(exit_code=3, verdict="invalid")]
)
def test_a_run_without_results_is_an_empty_document_or_an_error(of: Results) -> None:
    assert export("bencher", of) == {}
    assert export("pytest-benchmark", of)["benchmarks"] == []
    assert "perf_median_seconds" not in samples(export("openmetrics", of))
    assert len(rows(export("csv", of))) == len(of.benchmarks)
    for name in ("github-action-benchmark", "pyperf"):
        with pytest.raises(ResultsError, match="nothing was measured"):
            export(name, of)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("field", ["median", "p95", "rate_per_s"])
def test_a_figure_that_is_not_finite_is_refused_or_left_out(name: str, value: float, field: str) -> None:
    """Pyperf and pytest-benchmark get the samples alone, so no other figure can harm them."""
    fields: dict[str, Any] = {field: value}
    if field == "median":
        fields |= {"samples_s": [], "process_medians": []}
    of = run()
    of = replace(of, benchmarks=[replace(of.benchmarks[0], **fields), *of.benchmarks[1:]])

    if field != "median" and name in ("pyperf", "pytest-benchmark"):
        assert "nan" not in FORMATS[name](of).lower()
    elif field == "median" or name != "github-action-benchmark":  # which has them in a text for people
        with pytest.raises(ResultsError, match="a number is"):
            FORMATS[name](of)


@pytest.mark.parametrize("name", ["pyperf", "pytest-benchmark", "bencher", "github-action-benchmark"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ResultsError, match="a number is"):
        FORMATS[name](run(measured(samples_s=[*SAMPLES_S, value])))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("created", ["", "yesterday"])
def test_a_baseline_and_a_run_without_a_date_can_be_exported(name: str, created: str) -> None:
    of = replace(baseline(), created=created)

    assert names(name, of) == [KEY]
    assert names(name, run(measured(samples_s=[], process_medians=[]))) == [KEY]


@pytest.mark.parametrize("name", FORMATS)
def test_2000_benchmarks_are_exported(name: str) -> None:
    of = run(*(measured(f"a.py::test_{i}") for i in range(2000)))

    assert len(set(names(name, of))) == 2000
