import math
import re

import pytest
from msgspec.structs import replace

from plumbline.reporting import format as form
from plumbline.reporting.html import page
from plumbline.results.files import ResultsError
from plumbline.results.schema import BudgetResult, FunctionTime, TestOutcome
from tests.support.html_reader import KNOWN_TAGS, Reader
from tests.support.report_samples import NASTY, benchmark, many, results

LIMIT_BYTES = 6_000_000


def test_the_environment_and_its_differences_from_the_baseline_are_shown() -> None:
    run = results(benchmark("a.py::test_a"), baseline_differences=["Python was 3.12.1, is 3.11.9", "httpx 0.28 → none"])

    seen = Reader(page.render(run, None, []))

    assert "Python was 3.12.1, is 3.11.9" in seen.texts
    assert "httpx 0.28 → none" in seen.texts
    assert ["Python", "3.11.9"] in seen.rows
    assert ["machine", "build-1, 2 cores, Xeon"] in seen.rows
    assert ["redis", "8.1.0"] in seen.rows


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_not_finite_are_refused(value: float) -> None:
    """The files of a run are written before the page, and have refused them before."""
    run = results(benchmark("a.py::test_a", change=value))

    with pytest.raises(ResultsError, match="a number is"):
        page.render(run, None, [])


@pytest.mark.parametrize("key", NASTY.values(), ids=list(NASTY))
def test_names_of_any_kind_are_shown_as_they_are(key: str) -> None:
    hostile = benchmark(
        key, "regression", reasons=[f"slow: {key}"], description=key, source=f"</pre>{key}\n</script><script>x",
        warnings=[key], functions=[FunctionTime(key, key, 1, 1e-6, 2e-6, 1, 1, key)], counts={key: 1.0},
        differences=[0.1], samples_s=[1e-6], budgets=[BudgetResult("p95_ms", 1.0, 2.0, kept=False, note=key)],
    )  # fmt: skip
    run = results(
        hostile, tests=[TestOutcome(key, "failed", 0.1, f"</pre><script>{key}")], reasons=[key], notes=[key],
        service_lines=[key], baseline=key, baseline_commit=key, created=key, base=key, baseline_differences=[key],
    )  # fmt: skip
    environment = replace(run.environment, commit=key, machine=key, packages={key: key}, services={key: key})
    run = replace(run, environment=environment)

    text = page.render(run, run, [run])
    seen = Reader(text)

    assert text.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text.replace(page.script(), ""))
    assert all(KNOWN_TAGS.fullmatch(tag) for tag, _ in seen.tags)
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert " ".join(form.plain(form.file_and_name(key)[1]).split()) in seen.text
    assert seen.data["runs"][0][1] == form.plain(key)


def test_the_page_loads_nothing() -> None:
    text = page.render(*many(count=14, runs=2))

    own = text.replace(page.script(), "")
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', own)
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert "unsafe-eval" not in policy[0]
    assert not re.search(r"https?://|url\(|@import|<link|<img|<iframe| src=", own)


def test_40_benchmarks_with_200_earlier_runs_stay_below_the_limit() -> None:
    assert len(page.render(*many()).encode()) < LIMIT_BYTES
