from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from plumbline.reporting import junit
from plumbline.results.schema import BudgetResult, Results, TestOutcome, UnjudgedPackage, Verdict
from tests.support.report_samples import NASTY, benchmark, results, small, unmeasured

# The attributes that GitLab and Jenkins read.
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "file", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}


def parsed(run: Results) -> Element:
    """The suite, checked to have the shape that the readers know, and counts that are right."""
    root = ElementTree.fromstring(junit.render(run).encode())  # noqa: S314, our own
    assert root.tag == "testsuites"
    (suite,) = root
    for element in root.iter():
        assert set(element.keys()) <= ATTRIBUTES[element.tag]
    for case in suite.iter("testcase"):
        assert {"classname", "name", "time"} <= set(case.keys())
        assert len([child for child in case if child.tag in {"failure", "error", "skipped"}]) <= 1
    for counted in (root, suite):
        assert int(counted.get("tests", "")) == len(suite.findall("testcase"))
        assert int(counted.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(counted.get("errors", "")) == len(suite.findall("testcase/error"))
        assert int(counted.get("skipped", "")) == len(suite.findall("testcase/skipped"))
        assert float(counted.get("time", "")) == pytest.approx(
            sum(float(c.get("time", "")) for c in suite.iter("testcase"))
        )
    return suite


def only(suite: Element, path: str) -> Element:
    (element,) = suite.findall(path)
    return element


def test_each_test_and_each_missing_benchmark_is_a_case() -> None:
    suite = parsed(small())

    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8",
        "failures": "3",
        "errors": "1",
        "skipped": "1",
    }
    slow = only(suite, "testcase[@name='test_publish_latency']")
    assert slow.get("classname") == "tests.performance.test_redis"
    assert slow.get("file") == "tests/performance/test_redis.py"
    assert slow.get("time") == "0.250"
    failure = only(slow, "failure")
    assert failure.get("message") == "regression: slower than the baseline in 5 fresh processes"
    assert failure.text == (
        "slower than the baseline in 5 fresh processes\n"
        "57.1 µs → 61.7 µs, change +8.1 %, interval +6.9…+9.4, 100 samples, detectable 3.2 %"
    )
    assert only(suite, "testcase[@name='test_select_1']/error").get("message") == ("missing: skipped: no time today")
    assert only(suite, "testcase[@name='test_login']/failure").text == "assert 'OK' == 'NOAUTH'\n  - NOAUTH"
    assert only(suite, "testcase[@name='test_pause']/skipped").get("message") == "skipped: redis is not ours"
    assert only(suite, "testcase[@name='test_get[10 kB]']/system-out").text


def test_the_figures_are_properties() -> None:
    entry = benchmark("a.py::test_a", counts={"commands.PUBLISH": 1}, budgets=[BudgetResult("p95_ms", 2, 1, kept=True)])

    properties = only(parsed(results(entry)), "testcase/properties")
    values = {each.get("name"): each.get("value") for each in properties}

    assert values["median"] == "5.74e-05"
    assert values["unit"] == "s"
    assert values["minimum_detectable_effect"] == "0.032"
    assert values["samples"] == "100"
    assert values["count.commands.PUBLISH"] == "1"
    assert values["budget.p95_ms"] == "2"
    assert "p99" not in values  # not known


def test_what_was_not_compared_is_a_property_of_the_run() -> None:
    """So that it is named even if no benchmark runs it."""
    suite = parsed(results(unjudged_packages=[UnjudgedPackage("uv.lock", "unknown_format")]))
    found = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    assert str(found["unjudged.uv.lock"]).startswith("uv.lock was not compared: ")


@pytest.mark.parametrize(
    ("verdict", "tag"),
    [
        ("pass", None),
        ("improvement", None),
        ("new", None),
        ("changed", None),
        ("inconclusive", None),
        ("regression", "failure"),
        ("invalid", "error"),
        ("missing", "error"),
    ],
)
def test_every_verdict_has_its_place(verdict: Verdict, tag: str | None) -> None:
    case = only(parsed(results(benchmark("a.py::test_a", verdict))), "testcase")

    assert [child.tag for child in case if child.tag in {"failure", "error"}] == ([tag] if tag else [])


def test_inconclusive_is_a_failure_if_it_fails_the_run() -> None:
    suite = parsed(results(benchmark("a.py::test_a", "inconclusive"), verdict="inconclusive", exit_code=4))

    assert only(suite, "testcase/failure").get("type") == "inconclusive"


@pytest.mark.parametrize("verdict", ["pass", "inconclusive", "changed", "new"])
def test_a_broken_budget_is_a_failure_with_any_verdict_of_the_comparison(verdict: Verdict) -> None:
    entry = benchmark("a.py::test_a", verdict, budgets=[BudgetResult("p95_ms", 2.0, 2.4, kept=False)])

    failure = only(parsed(results(entry, exit_code=1)), "testcase/failure")

    assert failure.get("message") == "over budget: budget broken: p95 2.40 ms > 2 ms"


def test_a_failed_run_without_a_failed_case_is_a_case_itself() -> None:
    suite = parsed(results(verdict="invalid", exit_code=3, reasons=["redis never became ready"]))

    assert suite.get("tests") == "1"
    assert only(suite, "testcase").get("name") == "the run"
    assert only(suite, "testcase/error").get("message") == "invalid: redis never became ready"


def test_an_empty_run_has_no_cases() -> None:
    assert parsed(results()).get("tests") == "0"


def test_classes_belong_to_the_class_name() -> None:
    case = only(parsed(results(benchmark("api/test_a.py::TestItems::test_list[a::b]"))), "testcase")

    assert case.get("classname") == "tests.performance.api.test_a.TestItems"
    assert case.get("name") == "test_list[a::b]"


@pytest.mark.parametrize("key", NASTY.values(), ids=list(NASTY))
def test_names_and_messages_of_any_kind_are_well_formed(key: str) -> None:
    failed = [TestOutcome(key, "failed", 0.1, f"]]>{key}\ud800\uffff")]

    case = only(parsed(results(benchmark(key, reasons=[key]), tests=failed)), "testcase")

    written = key.partition("::")[2].replace("\x1b", "\ufffd").replace("\x00", "\ufffd").replace("\x07", "\ufffd")
    assert case.get("name") == written
    assert "]]>" in (only(case, "failure").text or "")


def test_2000_benchmarks_are_2000_cases() -> None:
    assert parsed(results(*(unmeasured(f"a.py::test_{i}") for i in range(2000)))).get("errors") == "2000"
