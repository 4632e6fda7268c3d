"""The results of a load test as text."""

import math
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from msgspec.structs import replace

from plumbline.loading.figures import Figures
from plumbline.loading.junit import as_junit
from plumbline.loading.page import as_page
from plumbline.loading.results import LoadResults, SideResults, annotations, as_markdown, as_text
from plumbline.loading.verdict import Change, Finding
from plumbline.project import EXIT_INCONCLUSIVE, EXIT_INVALID
from tests.support.html_reader import Reader

SLOW = Figures(
    rate_per_s=50,
    measured_s=10,
    arrivals=500,
    sent=490,
    requests=500,
    p50_ms=1.25,
    p99_ms=100,
    error_share=0.02,
    errors=["10 x /a: HTTPError:\n<500>"],
)
RESULTS = LoadResults(
    plumbline="1",
    created="",
    target="http://127.0.0.1:1",
    base="0123456789, as asked: <main>",
    verdict="regression",
    exit_code=1,
    sides=[SideResults("base", [SLOW], 50.0), SideResults("head", [SLOW], 0.0)],
    findings=[Finding("pass", "p50 is fine", 0), Finding("regression", "p99 100 ms, the budget is 50 ms", 0)],
    changes=[
        Change("p95", 0.5, 0.2, 0.8, "regression", 0),
        Change("p99", 0.5, -math.inf, math.inf, "inconclusive", 0),
        Change("error share", 0.0, 0.0, 0.0, "pass", 0),
    ],
)


def test_the_terminal_shows_what_decides_first() -> None:
    assert as_text(RESULTS).splitlines() == [
        "rate  side  reached  requests      p50   p95     p99   max  errors",
        "50/s  base     49/s       500  1.25 ms  0 ms  100 ms  0 ms   2.00%",
        "50/s  head     49/s       500  1.25 ms  0 ms  100 ms  0 ms   2.00%",
        "regression: p99 100 ms, the budget is 50 ms",
        "regression: p95 changed by +50 % (+20 % to +80 %)",
        "inconclusive: p99 changed by +50 % (too few windows or requests to judge: raise duration_s or window_s)",
        "pass: p50 is fine",
        "base: failed: 10 x /a: HTTPError: <500>",
        "head: failed: 10 x /a: HTTPError: <500>",
        "verdict: regression",
    ]


def test_markdown_has_a_table_and_no_html() -> None:
    text = as_markdown(RESULTS)
    assert text.startswith(
        "# Load test: regression\n\nTarget: http:&#8203;//127.0.0.1:1\nBase: 0123456789, as asked: &lt;main&gt;\n"
    )
    assert "| 50/s | head | 49/s | 500 | 1.25 ms | 0 ms | 100 ms | 0 ms | 2.00% |" in text
    assert "HTTPError: &lt;500&gt;" in text


def test_github_gets_what_decides() -> None:
    assert annotations(RESULTS) == [
        "::error title=load test%3A regression::p99 100 ms, the budget is 50 ms",
        "::error title=load test%3A regression::p95 changed by +50 %25 (+20 %25 to +80 %25)",
        "::warning title=load test%3A inconclusive::p99 changed by +50 %25 "
        "(too few windows or requests to judge: raise duration_s or window_s)",
    ]


def parsed(results: LoadResults) -> Element:
    """Return the suite of the JUnit file."""
    return ElementTree.fromstring(as_junit(results))[0]  # noqa: S314, our own


def test_junit_has_a_case_for_the_budgets_and_one_for_each_compared_figure() -> None:
    """An inconclusive figure fails only if the run does."""
    suite = parsed(RESULTS)
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {"budgets": ["failure"], "p95 of head": ["failure"], "p99 of head": ["system-out"]}
    [message] = [one.get("message") for one in suite.iterfind("testcase[@name='budgets']/failure")]
    assert message == "regression: p99 100 ms, the budget is 50 ms"
    strict = parsed(replace(RESULTS, verdict="inconclusive", exit_code=EXIT_INCONCLUSIVE))
    assert [one.get("name") for one in strict.iterfind("testcase[failure]")] == [*cases]
    lost = replace(RESULTS, exit_code=EXIT_INVALID, changes=[], findings=[Finding("invalid", "refused\x00")])
    assert [one.get("name") for one in parsed(lost).iterfind("testcase[error]")] == ["the run"]


def test_the_page_begins_with_what_decides_and_loads_nothing() -> None:
    page = as_page(RESULTS)
    reader = Reader(page)

    assert "Load test: regression p99 100 ms, the budget is 50 ms p95 changed by +50 %" in reader.text
    assert "HTTPError: &lt;500&gt;" in page
    assert "default-src 'none'" in page
    assert "<script" not in page
