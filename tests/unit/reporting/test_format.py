import json
from pathlib import Path

import pytest

from plumbline.reporting import format as form
from plumbline.results.schema import BudgetResult, PlanChange


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (4.2e-10, "0.420 ns"),
        (9.996e-7, "1.00 µs"),
        (57.1e-6, "57.1 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (0.0123456, "12.3 ms"),
        (1, "1.00 s"),
        (3600, "3,600 s"),
    ],
)
def test_a_duration_has_a_fitting_unit_and_three_significant_digits(seconds: float, text: str) -> None:
    assert form.duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.048, "+4.8 %"),
        (-0.0004, "0.0 %"),
        (-0.012, "-1.2 %"),
        (0.0996, "+10 %"),
        (0.1234, "+12 %"),
        (-0.5, "-50 %"),
        (8.99, "+899 %"),
        (499, "x500"),
    ],
)
def test_a_change_is_signed_and_no_more_exact_than_it_can_be(share: float, text: str) -> None:
    assert form.percent(share) == text


def test_an_interval_may_be_open() -> None:
    assert form.interval(0.039, 0.057) == "+3.9…+5.7"
    assert form.interval(0.039, None) == "+3.9…"
    assert form.interval(None, 0.057) == "…+5.7"
    assert form.interval(None, None) == ""


def test_a_rate_has_three_significant_digits() -> None:
    assert [form.rate(per_s) for per_s in (17_512, 43.12, 0.1234)] == ["17,500/s", "43.1/s", "0.123/s"]


@pytest.mark.parametrize(
    ("name", "limit", "measured", "text"),
    [
        ("p95_ms", 2.0, 2.434, "p95 2.43 ms > 2 ms"),
        ("p95_ms", 2.0, 2.0004, "p95 2.0004 ms > 2 ms"),
        ("mean_ms", 0.05, 0.0614, "mean 0.0614 ms > 0.05 ms"),
        ("max_ms", 1000.0, 1240.0, "max 1,240 ms > 1,000 ms"),
        ("rate_per_s", 500.0, 420.4, "rate 420/s < 500/s"),
        ("max_loop_hold_ms", 5.0, 23.2, "loop hold 23.2 ms > 5 ms"),
    ],
)
def test_a_budget_shows_its_limit_as_set_and_a_figure_that_differs(
    name: str, limit: float, measured: float, text: str
) -> None:
    assert form.budget(BudgetResult(name, limit, measured, kept=False)) == text


def test_an_untrusted_text_is_one_line_without_control_sequences() -> None:
    assert form.plain("a\x1b[31mred\x1b[0m\r\nb\tc\x00\u202ed\ud800") == "ared b c\ufffd\ufffdd\ufffd"


def test_of_a_traceback_the_error_is_shown() -> None:
    traceback = (
        "    def test_a():\n>       assert login() == 1\nE       assert 2 == 1\nE         + where 2\n\na.py:3: Error\n"
    )

    assert form.first_lines(traceback, 6) == ["assert 2 == 1", "  + where 2"]
    assert form.first_lines("\n one\ntwo\nthree", 1) == [" one", "(2 more lines)"]
    assert form.first_lines("\n", 6) == []


def test_the_error_of_the_application_follows_that_of_the_test() -> None:
    """Its output is cut off at the beginning."""
    output = (
        '  File "/shop/main.py", line 13, in items\n    raise ValueError("why")\nValueError: why\nINFO: GET /items 500'
    )
    message = f"test_a.py:9: in test_a\nE   assert 500 == 200\nE    +  where 500\n\noutput of app:\n{output}"

    assert form.first_lines(message, 1) == ["assert 500 == 200", "(1 more lines)", "app: ValueError: why"]
    assert form.errors_of_processes(message.replace("  File", "in")) == []
    lines = '  File "/a.py", line 1, in a\n    a()\nsql.exc.MissingGreenlet: "b" has: (see c)'
    log = f"{json.dumps({'exception': lines, 'severity': 'error'})}\nINFO: GET /items 500"
    chain = f'  File "a"\nb.Own: it\n\n{form._CAUSE}\n\n  File "c"\nErrorError: WHAT'
    for what, text in (("that", "ErrorError: that, because of b.Own: it"), ("(it)", "ErrorError: (it)")):
        message = f"E   assert 1\n\noutput of app:\n{chain.replace('WHAT', what)}"
        assert form.errors_of_processes(message) == [("app", text)]
    for cut in (0, 15):
        message = f"E   assert 500 == 200\n\noutput of app:\n{log[cut:]}"
        assert form.errors_of_processes(message) == [("app", 'sql.exc.MissingGreenlet: "b" has: (see c)')]


def test_a_name_of_a_million_characters_is_shortened_at_once() -> None:
    assert form.shortened("a" * 500_000 + "b" * 500_000, 11) == "aaaaa…bbbbb"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("    assert a\nE   assert 1 == 2\nE    +  where", "assert 1 == 2"),
        (
            "  | Traceback (most recent call last):\n  |   File\n  | shop.NoPortError: none\n  next  read it",
            "shop.NoPortError: none",
        ),
        ("Traceback (most recent call last):\nKeyError: 1\nTraceback (most recent call last):\nOSError", "OSError"),
        ("ValueError: without a traceback", ""),
        ("Traceback (most recent call last):\n  nothing more", ""),
    ],
)
def test_the_error_of_a_traceback_is_its_last_line(text: str, error: str) -> None:
    """With pytest, the first line that it marks."""
    assert form.error_in(text) == error


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Seq Scan on a", "Index Scan i on a", "Seq Scan on a → Index Scan i on a"),
        ("Limit\n  Seq Scan on a", "Limit\n  Sort\n    Seq Scan on a", "nothing → Sort"),
        ("A\n  B\n  C", "A\n  B\n    C", "the same nodes, nested otherwise"),
        ("A\nB\nC\nD\nE", "F", "A, B, C, D … → F"),
    ],
)
def test_a_changed_plan_is_one_line(old: str, new: str, text: str) -> None:
    """Only the nodes that one of the plans has."""
    assert form.plan(PlanChange("SELECT a", old, new)) == f"plan of SELECT a: {text}"


def test_the_documentation_shows_a_changed_plan() -> None:
    """As reports show it."""
    statement = "SELECT … FROM item WHERE id = $1"
    page = Path(__file__).parents[3] / "docs" / "explanation" / "counts.md"
    shown = form.plan(PlanChange(statement, "Index Scan item_pkey on item", "Seq Scan on item"))
    assert f"\n{shown}\n" in page.read_text(encoding="utf-8")
