"""The results as JUnit XML, one case for each test, for the test reports of GitLab, Jenkins and others."""

import re
from collections.abc import Collection, Iterable, Mapping
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from plumbline.project import EXIT_INCONCLUSIVE, SUITE, THE_RUN
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results, TestOutcome

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# Properties of a case with the benchmark's field of the same name; times are in seconds per operation.
_FIGURES = [
    *("unit", "median", "mean", "p95", "p99", "minimum", "maximum", "rate_per_s", "operations", "samples", "spread"),
    *("pin", "baseline_median", "change", "change_low", "change_high", "minimum_detectable_effect"),
]


def render(results: Results) -> str:
    """Return XML whose `failure`, `error` and `skipped` hold the verdict of each case with its reasons.

    A failed run in which no case failed gets a case of its own: no reader may take it for a good one.
    """
    suite = new_suite("performance", results.created)
    environment = results.environment
    run = {"verdict": results.verdict or "", "headline": content.headline(results), "profile": results.profile}
    run |= {"machine": environment.machine, "commit": environment.commit}
    run |= {f"service.{name}": backend for name, backend in environment.services.items()}
    add_properties(
        suite, run | {f"unjudged.{one.name}": content.unjudged_text(one) for one in results.unjudged_packages}
    )
    failing = [*content.FAILING, *(["inconclusive"] if results.exit_code == EXIT_INCONCLUSIVE else [])]
    tests = {test.key: test for test in results.tests}
    benchmarks = {benchmark.key: benchmark for benchmark in results.benchmarks}
    for key in tests | benchmarks:
        _case(suite, key, tests.get(key), benchmarks.get(key), failing)
    if results.exit_code and not suite.findall("*/failure") + suite.findall("*/error"):
        case = SubElement(suite, "testcase", classname=SUITE.replace("/", "."), name=THE_RUN, time="0.000")
        add_outcome(case, "error", content.headline(results), map(content.reason_text, results.reasons))
    return as_xml(suite, sum(test.duration_s for test in results.tests))


def new_suite(name: str, created: str) -> Element:
    """Return an empty suite of test cases. `created` is a time as ISO 8601, or empty."""
    suite = Element("testsuite", name=name)
    if created:
        suite.set("timestamp", created)
    return suite


def as_xml(suite: Element, duration_s: float) -> str:
    """Return a document of this suite, with the numbers of its cases by outcome."""
    suites = Element("testsuites", name=suite.get("name", ""))
    suites.append(suite)
    paths = {"tests": "testcase", "failures": "*/failure", "errors": "*/error", "skipped": "*/skipped"}
    for element in (suite, suites):
        for name, path in paths.items():
            element.set(name, str(len(suite.findall(path))))
        element.set("time", f"{duration_s:.3f}")
    indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def _case(
    suite: Element, key: str, test: TestOutcome | None, benchmark: Benchmark | None, failing: Collection[str]
) -> None:
    file, name = form.file_and_name(key)
    function, bracket, parameters = name.partition("[")
    classes, _, function = function.rpartition("::")
    path = re.split("/|::", f"{SUITE}/{file.removesuffix('.py')}::{classes}")
    case = SubElement(suite, "testcase")
    case.set("classname", _text(".".join(filter(None, path))))
    case.set("name", _text(function + bracket + parameters))
    case.set("file", _text(f"{SUITE}/{file}"))
    case.set("time", f"{test.duration_s if test else 0:.3f}")
    verdict, lines = "", list[str]()
    if benchmark:
        figures = {"verdict": benchmark.verdict} | {name: getattr(benchmark, name) for name in _FIGURES}
        figures |= {f"count.{name}": count for name, count in benchmark.counts.items()}
        add_properties(case, figures | {f"budget.{budget.name}": budget.limit for budget in benchmark.budgets})
        verdict = content.verdict(benchmark)
        lines = [*content.remarks(benchmark), content.line(benchmark)]
    if test and test.outcome == "failed":
        add_outcome(case, "failure", "failed", [test.message, *lines])
    elif verdict in failing:
        add_outcome(case, "error" if verdict in ("missing", "invalid") else "failure", verdict, lines)
    elif test and test.outcome == "skipped":
        add_outcome(case, "skipped", "skipped", [test.message])
    elif len(lines) > 1:
        add_output(case, lines)


def add_outcome(case: Element, tag: str, kind: str, lines: Iterable[str]) -> None:
    """Add a `failure`, an `error` or a reason for skipping. `kind` is the verdict, and `lines` are its reasons."""
    texts = [line for line in lines if line]
    message = ": ".join([kind, *form.first_lines(texts[0], 1)[:1]]) if texts else kind
    SubElement(case, tag, type=kind, message=_text(message)).text = _text("\n".join(texts))


def add_output(case: Element, lines: Iterable[str]) -> None:
    SubElement(case, "system-out").text = _text("\n".join(lines))


def add_properties(element: Element, values: Mapping[str, object]) -> None:
    """Add all values that are not None, by name."""
    properties = SubElement(element, "properties")
    for name, value in values.items():
        if value is not None:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            SubElement(properties, "property", name=_text(name), value=_text(text))


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
