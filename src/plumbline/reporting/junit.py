"""The results as JUnit XML: one case for each test, which the readers of GitLab, Jenkins and GitHub show."""

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results, TestOutcome

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FIGURES = [
    *("unit", "median", "mean", "p95", "p99", "minimum", "maximum", "rate_per_s", "operations", "samples", "spread"),
    *("pin", "baseline_median", "change", "change_low", "change_high", "minimum_detectable_effect"),
]


def render(results: Results) -> str:
    """XML that says in each case's `failure`, `error` or `skipped` what the verdict is and why.

    A failed run in which no case says so gets a case of its own: a reader must never take it for a good one.
    """
    suite = Element("testsuite", name="performance")
    if results.created:
        suite.set("timestamp", results.created)
    environment = results.environment
    _properties(
        suite,
        [
            ("verdict", results.verdict or ""),
            ("profile", results.profile),
            ("machine", environment.machine),
            ("commit", environment.commit),
            *((f"service.{name}", backend) for name, backend in environment.services.items()),
        ],
    )
    tests = {test.key: test for test in results.tests}
    benchmarks = {benchmark.key: benchmark for benchmark in results.benchmarks}
    for key in [*tests, *(key for key in benchmarks if key not in tests)]:
        _case(suite, key, tests.get(key), benchmarks.get(key), inconclusive_fails=results.exit_code == 4)
    if results.exit_code and not suite.findall("*/failure") + suite.findall("*/error"):
        run = SubElement(suite, "testcase", classname=_dotted(form.ROOT), name="the run", time="0.000")
        _outcome(run, "error", form.headline(results), results.reasons)

    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("*/failure")),
        "errors": len(suite.findall("*/error")),
        "skipped": len(suite.findall("*/skipped")),
        "time": f"{sum(test.duration_s for test in results.tests):.3f}",
    }
    suites = Element("testsuites", name="performance")
    for element in (suite, suites):
        for name, count in counts.items():
            element.set(name, str(count))
    suites.append(suite)
    indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def _case(
    suite: Element, key: str, test: TestOutcome | None, benchmark: Benchmark | None, *, inconclusive_fails: bool
) -> None:
    file, name = form.file_and_name(key)
    function, bracket, parameters = name.partition("[")
    classes, _, function = function.rpartition("::")
    case = SubElement(suite, "testcase")
    case.set("classname", _text(_dotted(form.ROOT + file.removesuffix(".py"), classes)))
    case.set("name", _text(function + bracket + parameters))
    case.set("file", _text(form.ROOT + file))
    case.set("time", f"{test.duration_s if test else 0:.3f}")
    if benchmark:
        _properties(case, _figures(benchmark))
    verdict = form.verdict(benchmark) if benchmark else ""
    said = [*form.remarks(benchmark), form.figures(benchmark)] if benchmark else []
    if test and test.outcome == "failed":
        _outcome(case, "failure", "failed", [test.message, *said])
    elif verdict in ("missing", "invalid"):
        _outcome(case, "error", verdict, said)
    elif verdict in ("regression", "over budget") or (verdict == "inconclusive" and inconclusive_fails):
        _outcome(case, "failure", verdict, said)
    elif test and test.outcome == "skipped":
        _outcome(case, "skipped", "skipped", [test.message])
    elif len(said) > 1:
        SubElement(case, "system-out").text = _text("\n".join(said))


def _outcome(case: Element, tag: str, kind: str, lines: Iterable[str]) -> None:
    said = [line for line in lines if line]
    message = ": ".join([kind, *form.first_lines(said[0], 1)[:1]]) if said else kind
    SubElement(case, tag, type=kind, message=_text(message)).text = _text("\n".join(said))


def _figures(benchmark: Benchmark) -> list[tuple[str, object]]:
    """Times in seconds per operation, shares as they are."""
    return [
        ("verdict", benchmark.verdict),
        *((name, getattr(benchmark, name)) for name in _FIGURES),
        *((f"count.{name}", count) for name, count in benchmark.counts.items()),
        *((f"budget.{budget.name}", budget.limit) for budget in benchmark.budgets),
    ]


def _properties(element: Element, values: Iterable[tuple[str, object]]) -> None:
    properties = SubElement(element, "properties")
    for name, value in values:
        if value is not None:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            SubElement(properties, "property", name=_text(name), value=_text(text))


def _dotted(path: str, classes: str = "") -> str:
    return ".".join(part for part in [*path.split("/"), *classes.split("::")] if part)


def _text(text: str) -> str:
    """What XML can hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
