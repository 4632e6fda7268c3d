"""The results of a load test as text."""

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
from msgspec.structs import replace

from plumbline.load_settings import LoadSettings
from plumbline.loading.figures import Figures
from plumbline.loading.junit import as_junit
from plumbline.loading.page import as_page
from plumbline.loading.results import FILE, LoadResults, SideResults, annotations, as_markdown, as_text, read_load
from plumbline.loading.verdict import Change, Finding, compare
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
    commit="0123",
    command="nox -s load -- --base main",
    target="http://127.0.0.1:1",
    base="0123456789, as asked: <main>",
    verdict="regression",
    exit_code=1,
    sides=[SideResults("base", [SLOW], 50.0), SideResults("head", [SLOW], 0.0)],
    findings=[Finding("pass", "p50 is fine", 0), Finding("regression", "p99 100 ms, the budget is 50 ms", 0)],
    changes=[
        Change("p99", 0.5, None, None, "inconclusive", 0),
        Change("p95", 0.5, 0.2, 0.8, "regression", 0),
        Change("error share", 0.0, 0.0, 0.0, "pass", 0),
    ],
)


def test_the_terminal_shows_what_decides_first() -> None:
    """The worst first, whatever it was found in."""
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
        "# Load test: regression\n\nTarget: http:&#8203;//127.0.0.1:1  \nBase: 0123456789, as asked: &lt;main&gt;  \n"
        "Repeat it with `nox -s load -- --base main`\n\n"
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


def written(folder: Path, results: LoadResults) -> Path:
    (folder / FILE).write_bytes(msgspec.json.encode(results))
    return folder


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Too few windows have no interval, which JSON can't hold as infinity."""
    changes = compare({0: [(SLOW, SLOW)]}, LoadSettings(), 0.01)
    results = replace(RESULTS, changes=changes)
    assert read_load(written(tmp_path, results), "0123") == results
    assert {one.verdict for one in changes} == {"inconclusive"}


def test_results_of_another_commit_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    assert read_load(tmp_path, "0123") == ""
    assert read_load(written(tmp_path, RESULTS), "4567") == (
        "load.json is of another commit, 0123: the report leaves it out"
    )
    text = (tmp_path / FILE).read_text()
    for before, after in (
        ('"name":"head"', '"name":"@everyone"'),
        ('"stage":0', '"stage":1'),
        ('"verdict":"regression"', '"verdict":"@everyone"'),
        ("{", ""),
    ):
        assert before in text
        (tmp_path / FILE).write_text(text.replace(before, after, 1))
        problem = read_load(tmp_path, "0123")
        assert isinstance(problem, str)
        assert "damaged" in problem


def test_stalls_of_the_generator_are_said() -> None:
    stalled = replace(RESULTS, sides=[SideResults("head", [replace(SLOW, stalled=3)], 0.0)])
    assert "head: the load generator stalled during 3 of 500 requests: its stalls fail no budget" in as_text(stalled)
