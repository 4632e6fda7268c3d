import math

from plumbline.reporting.html import page
from plumbline.results.schema import BudgetResult, CallSite, CountChange, FunctionTime, PlanChange
from tests.support.html_reader import Reader
from tests.support.report_samples import benchmark, results, unmeasured


def test_a_count_is_shown_with_the_lines_that_it_came_from() -> None:
    """Several lines have their numbers. Without any line, there is no column for them."""
    one, other = CallSite("shop/orders.py", 28, "list_orders", 50), CallSite("shop/orders.py", 9, "health", 1)
    entry = benchmark(
        "a.py::test_a",
        counts={"redis.command GET": 51.0, "redis.command SET": 1.0, "redis.messages": 51.0},
        count_changes=[CountChange("redis.command GET", 1, 51, gated=True, sites=[one, other])],
        count_sites={"redis.command GET": [one, other], "redis.command SET": [other]},
    )

    seen = Reader(page.render(results(entry), None, []))

    both = "shop/orders.py:28 in list_orders (50), shop/orders.py:9 in health (1)"
    assert ["redis.command GET", "1", "51", "worse", both] in seen.rows
    assert ["redis.command SET", "", "1", "", "shop/orders.py:9 in health"] in seen.rows
    assert ["redis.messages", "", "51", "", ""] in seen.rows


def test_the_counts_of_a_first_run_have_no_empty_columns() -> None:
    seen = Reader(page.render(results(benchmark("a.py::test_a", "new", counts={"redis.messages": 2.0})), None, []))

    assert ["count", "this run"] in seen.rows
    assert ["redis.messages", "2"] in seen.rows


def test_a_benchmark_is_shown_with_all_that_is_known() -> None:
    entry = benchmark(
        "a.py::test_a",
        "regression",
        samples_s=[100e-6, 102e-6, 104e-6],
        base_samples_s=[90e-6, 92e-6],
        head_samples_s=[99e-6, 101e-6],
        differences=[math.log(1.1), math.log(1.08)],
        functions=[FunctionTime("slow", "app.py", 7, 1e-6, 3e-6, 1, 51, "app")],
        counts={"redis.messages": 2.0},
        counts_varying={"redis.bytes_sent": [31.0, 33.0]},
        count_changes=[CountChange("redis.messages", 1, 2, gated=True)],
        budgets=[BudgetResult("p95_ms", 2.0, 2.434, kept=False), BudgetResult("mean_ms", 0.1, 0.0574, kept=True)],
        source="def test_a(measure):\n\tassert 1 < 2",
        description="What it does.",
        change=0.09,
        change_low=0.07,
        change_high=None,
        tolerance=0.03,
    )
    before = benchmark("a.py::test_a", None, process_medians=[95e-6, 97e-6], minimum=90e-6, maximum=0.2, samples=40)
    earlier = [
        results(benchmark("a.py::test_a", median=50e-6, p95=60e-6), baseline_commit=commit, created=f"2026-01-0{day}")
        for day, commit in enumerate(["aaaaaaaa", "bbbbbbbb"], 1)
    ]
    run = results(entry, tolerance=0.02, minimum_effect=0.05, baseline_commit="bbbbbbbb", created="2026-01-03")

    seen = Reader(page.render(run, results(before), earlier))

    assert ["baseline", "40", "90.0 µs", "57.4 µs", "58.0 µs", "61.2 µs", "200 ms", "17,400/s"] in seen.rows
    assert ["base", "2", "90.0 µs", "91.0 µs", "91.0 µs", "91.9 µs", "92.0 µs", "11,000/s"] in seen.rows
    assert "app.py:7 slow: 1.00 µs → 3.00 µs, 1 → 51 calls (app, profiled)" in seen.text
    assert ["redis.messages", "1", "2", "worse"] in seen.rows
    assert ["redis.bytes_sent", "", "31 to 33", "varies"] in seen.rows
    assert "budget broken: p95 2.43 ms > 2 ms" in seen.text
    assert "budget kept: mean 0.0574 ms < 0.1 ms" in seen.text
    assert "assert 1 < 2" in seen.text
    assert "What it does." in seen.text
    assert seen.marked == ["redis.messages"]
    changes = {"change": 9.0, "low": 7.0, "high": None, "tolerance": 3.0, "effect": 5.0}
    assert seen.plots("pairs") == [{"kind": "pairs", "differences": [10.0, 8.0], **changes}]
    (plot,) = seen.plots("distribution")
    assert plot["rows"] == {
        "baseline": [95e-6, 97e-6], "base": [90e-6, 92e-6], "head": [99e-6, 101e-6],
        "this run": [100e-6, 102e-6, 104e-6],
    }  # fmt: skip
    assert seen.plots("history") == [
        {"kind": "history", "medians": [50e-6, 50e-6, 57.4e-6], "p95": [60e-6, 60e-6, 61.2e-6], "limit": 61.2e-6}
    ]
    assert seen.data["runs"] == [
        ["2026-01-01", "0f1e2d3", "pass", "aaaaaaaa"],
        ["2026-01-02", "0f1e2d3", "pass", "bbbbbbbb"],
        ["2026-01-03", "0f1e2d3", "pass", "bbbbbbbb"],
    ]
    labels = [attributes.get("aria-label") for _, attributes in seen.tags if attributes.get("role") == "img"]
    assert any("Pairs. Change in each pair, head against base: +10 %, +8.0 %. " in str(label) for label in labels)


def test_a_changed_plan_is_shown_whole() -> None:
    """With its statement, and the lines of both plans."""
    plans = [PlanChange("SELECT a", "Sort\n  Index Scan i on a", "Sort\n  Seq Scan on a")]

    seen = Reader(page.render(results(benchmark("a.py::test_a", "pass", plan_changes=plans)), None, []))

    assert "plan of SELECT a: Index Scan i on a → Seq Scan on a" in seen.text
    assert "Changed plans SELECT a Sort - Index Scan i on a + Seq Scan on a" in " ".join(seen.text.split())


def test_unknown_figures_are_left_out() -> None:
    new = benchmark("a.py::test_a", "new", baseline_median=None, change=None, change_low=None, change_high=None)

    seen = Reader(page.render(results(new, unmeasured("a.py::test_b")), None, [results(benchmark("c.py::test_c"))]))

    assert not seen.attributes("data-plot")
    assert [row[0] for row in seen.rows if row[0] == "this run"] == ["this run"]
    assert "None" not in seen.text


def test_many_samples_are_thinned_to_those_that_a_reader_can_distinguish() -> None:
    entry = benchmark("a.py::test_a", samples_s=[1e-6 * (1 + n / 1000) for n in range(1000)])

    (plot,) = Reader(page.render(results(entry), None, [])).plots("distribution")

    assert 100 < len(plot["rows"]["this run"]) <= 200
    assert plot["rows"]["this run"][0] == 1e-6
    assert plot["rows"]["this run"][-1] == 1.999e-6


def test_far_outliers_are_counted_and_do_not_squeeze_the_plot() -> None:
    entry = benchmark("a.py::test_a", samples_s=[1e-3 + n * 1e-6 for n in range(100)] + [0.5])

    text = page.render(results(entry), None, [])

    assert Reader(text).plots("distribution")[0]["limit"] < 1.5e-3
    assert "1 beyond the right edge, up to 500 ms." in Reader(text).text
