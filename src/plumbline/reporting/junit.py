"""The results as JUnit XML, one case for each test, for the test reports of GitLab, Jenkins and others."""

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from plumbline.exit_codes import EXIT_INCONCLUSIVE
from plumbline.project import SUITE
from plumbline.reporting import figures, verdicts, wording
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results, TestOutcome

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Properties of a case with the benchmark's field of the same name.
_FIGURES = [
    *("unit", "median", "mean", "p95", "p99", "minimum", "maximum", "rate_per_s", "operations", "samples", "spread"),
    *("pin", "baseline_median", "change", "change_low", "change_high"),
]


def render(results: Results) -> str:
    """Return XML whose `failure`, `error` and `skipped` hold the verdict of each case with its reasons.

    A failed run in which no case failed gets a case of its own: no reader may take it for a good one.
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
    for key in tests | benchmarks:
        test, benchmark = tests.get(key), benchmarks.get(key)
        _case(suite, key, test, benchmark, inconclusive_fails=results.exit_code == EXIT_INCONCLUSIVE)
    if results.exit_code and not suite.findall("*/failure") + suite.findall("*/error"):
        run = SubElement(suite, "testcase", classname=_dotted(SUITE), name="the run", time="0.000")
        _outcome(run, "error", verdicts.headline(results), map(wording.text, results.reasons))

    paths = {"tests": "testcase", "failures": "*/failure", "errors": "*/error", "skipped": "*/skipped"}
    suites = Element("testsuites", name="performance")
    for element in (suite, suites):
        for name, path in paths.items():
            element.set(name, str(len(suite.findall(path))))
        element.set("time", f"{sum(test.duration_s for test in results.tests):.3f}")
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
    case.set("classname", _text(_dotted(f"{SUITE}/{file.removesuffix('.py')}", classes)))
    case.set("name", _text(function + bracket + parameters))
    case.set("file", _text(f"{SUITE}/{file}"))
    case.set("time", f"{test.duration_s if test else 0:.3f}")
    verdict, lines = "", list[str]()
    if benchmark:
        _properties(case, _figures(benchmark))
        verdict = verdicts.verdict(benchmark)
        lines = [*figures.remarks(benchmark), figures.line(benchmark)]
    if test and test.outcome == "failed":
        _outcome(case, "failure", "failed", [test.message, *lines])
    elif verdict in ("missing", "invalid"):
        _outcome(case, "error", verdict, lines)
    elif verdict in verdicts.FAILING or (verdict == "inconclusive" and inconclusive_fails):
        _outcome(case, "failure", verdict, lines)
    elif test and test.outcome == "skipped":
        _outcome(case, "skipped", "skipped", [test.message])
    elif len(lines) > 1:
        SubElement(case, "system-out").text = _text("\n".join(lines))


def _outcome(case: Element, tag: str, kind: str, lines: Iterable[str]) -> None:
    texts = [line for line in lines if line]
    message = ": ".join([kind, *form.first_lines(texts[0], 1)[:1]]) if texts else kind
    SubElement(case, tag, type=kind, message=_text(message)).text = _text("\n".join(texts))


def _figures(benchmark: Benchmark) -> list[tuple[str, object]]:
    """Times are in seconds per operation; `resolution` is the minimum detectable effect."""
    return [
        ("verdict", benchmark.verdict),
        *((name, getattr(benchmark, name)) for name in _FIGURES),
        ("resolution", benchmark.minimum_detectable_effect),
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
    """Replace characters that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
