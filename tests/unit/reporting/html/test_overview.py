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

    first = shown.rows.index(
        ["benchmark", "before", "median", "mean", "p95", "rate", "change", "0-17 %+10 %", "verdict"]
    )
    assert [(row[0], row[-1]) for row in shown.rows[first + 1 : first + 7]] == [
        ("publish_latency", "regression"),
        ("get[100 B]", "over budget"),
        ("select_1", "missing"),
        ("get[10 kB]", "pass"),
        ("copy", "new"),
        ("500_messages_at_once_over_a_bounded_pool", "improvement"),
    ]
    assert shown.rows[first + 1][1:7] == ["57.1 µs", "61.7 µs", "58.0 µs", "61.2 µs", "17,400/s", "+8.1 %+6.9…+9.4"]


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


def test_of_many_changed_counts_the_statement_that_grew_most_is_shown() -> None:
    counts = {"messages": (2, 102), "rows_read": (1, 9), **{f"statement {n}": (0, n) for n in (3, 50, 7)}}
    changes = [CountChange(f"postgres.{name}", *both, gated=True) for name, both in counts.items()]

    shown = seen(results(benchmark("a.py::test_get", count_changes=changes)))

    assert [row[0] for row in shown.rows if row[0].startswith("get")] == ["get50: 0 → 50and 4 more"]


def test_a_far_change_is_drawn_at_the_edge_with_its_number() -> None:
    """The end of the scale is no change of any benchmark."""
    far = benchmark("a.py::test_a", "regression", change=3.4, change_low=3.2, change_high=None)
    drawn = [row[-2] for row in seen(results(far, benchmark("a.py::test_b", change=-0.7, change_low=-0.8))).rows[:3]]

    assert drawn == ["0-60 %+60 %", "+340 %", "-70 %"]


def test_the_limits_are_named_above_their_band() -> None:
    """Unless benchmarks have limits of their own."""
    run = results(benchmark("a.py::test_a"), tolerance=0.02, minimum_effect=0.05)

    assert seen(run).rows[0][-2].endswith("limits 2…5 %")
    mixed = replace(run, benchmarks=[*run.benchmarks, benchmark("a.py::test_b", tolerance=0.1)])
    assert "limits" not in seen(mixed).rows[0][-2]


def test_the_legend_says_which_verdict_wins() -> None:
    """A paired comparison looks for slower ones first, the baseline check for those that pass."""
    paired = benchmark("a.py::test_a", base_samples_s=[1e-3], head_samples_s=[1e-3])
    limits = {"tolerance": 0.02, "minimum_effect": 0.05}

    assert "If both hold, it is slower." in seen(results(paired, **limits)).text
    assert "If both hold, it passes." in seen(results(benchmark("a.py::test_b"), **limits)).text
    both = seen(results(paired, benchmark("a.py::test_b"), **limits)).text
    assert "If both hold, it is slower if it was compared in pairs, and passes otherwise." in both


def test_the_legend_says_of_what_the_figures_named_before_are() -> None:
    shown = seen(results(benchmark("a.py::test_a"), baseline_commit="0f1e2d3" * 5))

    assert "Before: the baseline recorded at 0f1e2d3." in shown.text


def test_the_figures_that_a_table_is_sorted_by_are_in_seconds() -> None:
    run = results(benchmark("a.py::test_a", rate_per_s=0.0), unmeasured("a.py::test_b"))

    row = [attributes.get("data-value") for tag, attributes in seen(replace(run)).tags if tag in {"th", "td"}]

    assert row[row.index("a") :][:6] == ["a", "5.71e-05", "5.74e-05", "5.8e-05", "6.12e-05", "0.005"]
