from msgspec.structs import replace

from plumbline.reporting.html import page
from plumbline.results.schema import CountChange, Reason, Results
from tests.support.html_reader import Reader
from tests.support.report_samples import benchmark, results, small, unmeasured

UNKNOWN = {"baseline_median": None, "change": None, "change_low": None, "change_high": None}


def seen(run: Results) -> Reader:
    return Reader(page.render(run, None, []))


def test_all_benchmarks_stand_in_one_table_the_worst_first() -> None:
    shown = seen(small())

    first = shown.rows.index(["benchmark", "median", "mean", "p95", "rate", "change", "0-17 %+10 %", "verdict"])
    assert [(row[0], row[-1]) for row in shown.rows[first + 1 : first + 7]] == [
        ("publish_latency", "regression"),
        ("get[100 B]", "over budget"),
        ("select_1", "missing"),
        ("get[10 kB]", "pass"),
        ("copy", "new"),
        ("500_messages_at_once_over_a_bounded_pool", "improvement"),
    ]
    assert shown.rows[first + 1][1:6] == ["61.7 µs", "58.0 µs", "61.2 µs", "17,400/s", "+8.1 %+6.9…+9.4"]


def test_a_change_that_is_not_evidence_is_not_shown() -> None:
    unaffected = benchmark(
        "a.py::test_a", change=1.05, change_low=None, change_high=None, reasons=[Reason("unaffected")]
    )
    elsewhere = Reason("not_comparable", subjects=["another machine"])
    other = benchmark(
        "a.py::test_b", "inconclusive", change=0.77, change_low=None, change_high=None, reasons=[elsewhere]
    )

    shown = seen(results(unaffected, other))

    assert "+105 %" not in shown.text
    assert "+77 %" not in shown.text
    assert [row[5] for row in shown.rows if row[0] == "a"] == ["not affected"]
    assert "Change of the median" not in shown.text


def test_the_page_of_a_first_run_has_nothing_over_nothing() -> None:
    """No plot without figures, no legend without a plot, no filter without a choice, no empty column or section."""
    shown = seen(results(*(benchmark(f"a.py::test_{n}", "new", **UNKNOWN) for n in range(20)), baseline=""))

    assert ["benchmark", "median", "mean", "p95", "rate", "verdict"] in shown.rows
    assert not shown.attributes("data-plot")
    tags = [tag for tag, _ in shown.tags]
    assert not {"svg", "figure", "select"} & set(tags)
    assert "input" in tags
    assert "Change" not in shown.text
    assert "History" not in shown.text


def test_few_benchmarks_need_no_search() -> None:
    assert "form" not in [tag for tag, _ in seen(results(benchmark("a.py::test_a"))).tags]


def test_names_that_recur_stand_with_their_files() -> None:
    shown = seen(results(benchmark("a.py::test_get"), benchmark("b.py::test_get"), benchmark("b.py::test_set")))

    names = [row[0] for row in shown.rows]
    assert names[1:4] == ["a.py::test_get", "b.py::test_get", "set"]


def test_a_changed_count_stands_beside_its_benchmark() -> None:
    statement = CountChange("postgres.statement SELECT … FROM item WHERE id = $1", 1, 51, gated=True)
    in_bytes = CountChange("postgres.bytes_sent", 90, 4000, gated=True)
    run = results(benchmark("a.py::test_get", count_changes=[statement, in_bytes]))

    shown = seen(run)

    (name,) = [row[0] for row in shown.rows if row[0].startswith("get")]
    assert name == "getSELECT … FROM item WHERE id = $1: 1 → 51"  # which explains the bytes


def test_of_many_changed_counts_the_statements_that_grew_most_are_shown() -> None:
    counts = {"messages": (2, 102), "rows_read": (1, 9), **{f"statement {n}": (0, n) for n in (3, 50, 7)}}
    changes = [CountChange(f"postgres.{name}", *both, gated=True) for name, both in counts.items()]

    shown = seen(results(benchmark("a.py::test_get", count_changes=changes)))

    assert [row[0] for row in shown.rows if row[0].startswith("get")] == ["get50: 0 → 507: 0 → 73: 0 → 3and 2 more"]


def test_a_far_change_is_drawn_at_the_edge() -> None:
    run = results(benchmark("a.py::test_a", "regression", change=500.0, change_low=400.0, change_high=None))

    assert "A change beyond +60 % is drawn at the edge." in seen(run).text
    assert "A change beyond" not in seen(results(benchmark("a.py::test_a"))).text


def test_the_figures_that_a_table_is_sorted_by_are_in_seconds() -> None:
    run = results(benchmark("a.py::test_a", rate_per_s=0.0), unmeasured("a.py::test_b"))

    row = [attributes.get("data-value") for tag, attributes in seen(replace(run)).tags if tag in {"th", "td"}]

    assert row[row.index("a") :][:5] == ["a", "5.74e-05", "5.8e-05", "6.12e-05", "0.005"]
