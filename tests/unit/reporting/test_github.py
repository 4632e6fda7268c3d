"""Markdown and annotations: known results, and names that would break them."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec.structs import replace

from plumbline.reporting import format as form
from plumbline.reporting import github
from plumbline.reporting.github import MOST, annotations
from plumbline.reporting.next_step import next_step
from plumbline.results.schema import Reason, TestOutcome, Verdict
from tests.support.report_samples import NASTY, benchmark, results, small, unmeasured
from tests.unit.reporting.test_problems import n_plus_one

NOWHERE = Path("/nowhere")  # a project without files
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def tokens(text: str) -> list[Token]:
    """All tokens, those inside of paragraphs and cells included."""
    return [token for block in PARSER.parse(text) for token in [block, *(block.children or [])]]


def cells(text: str) -> list[list[str]]:
    """The table's rows as a reader sees them."""
    html = PARSER.render(text)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_the_verdict_stands_first_then_what_failed_and_why() -> None:
    """A reason that only names what the tables have is left out; all benchmarks are folded away."""
    text = github.markdown(small())

    assert text.startswith("## ❌ Invalid\n\n6 benchmarks: 1 regression, ")
    assert "Next: `nox -s ci -- tests/performance/test_redis.py::test_publish_latency 'tests/" in text
    blocks = re.findall(r"^### (.+)\n\n([^#]+)", text, re.MULTILINE)
    assert [title for title, _ in blocks] == ["Failed", "Over budget", "Missing", "Failed tests", "Notes"]
    assert [[row[-2:] for row in cells(block)] for _, block in blocks[:3]] == [
        [["change", "cause"], ["+8.1 % (+6.9…+9.4)", "slower than the baseline in 5 fresh processes"]],
        [["change", "cause"], ["+0.5 % (-0.4…+1.4)", "budget p95 2.43 ms &gt; 2 ms"]],
        [["before", "cause"], ["57.1\N{NO-BREAK SPACE}µs", "skipped: no time today"]],
    ]
    codes = "slower_than_baseline slower_in_processes budgets_broken test_skipped tests_failed"
    assert re.findall("plumbline explain (.+?)`", text) == [codes]
    assert "Before: the baseline.\n" in text
    assert "- 1 test skipped, pause: redis is not ours\n" in text
    assert "<pre>assert 'OK' == 'NOAUTH'\n  - NOAUTH</pre>" in text
    assert "`test_redis.py::test_get[10 kB]`" not in text.partition("<details>")[0]
    assert "Valkey 9.1.0" in text.partition("Services and environment")[2]


def test_the_table_has_a_row_for_each_benchmark_and_file() -> None:
    rows = cells(github.markdown(small()).partition("<details>")[2])

    assert rows[0][:4] == ["benchmark", "before", "median", "change"]
    assert [len(row) for row in rows] == [11] * 9
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in rows[2][:4]] == [
        "<code>test_publish_latency</code>",
        "57.1 µs",
        "61.7 µs",
        "+8.1 %",
    ]


@pytest.mark.parametrize(
    "verdict",
    ["pass", "regression", "improvement", "inconclusive", "invalid", "new", "changed", "missing"],
)
def test_every_verdict_is_shown_and_only_some_need_attention(verdict: Verdict) -> None:
    text = github.markdown(results(benchmark("a.py::test_a", verdict), verdict=verdict))

    assert f"## {'✅' if verdict in {'pass', 'improvement', 'new'} else '⚠️'} {verdict.capitalize()}\n" in text
    titles = re.findall("^### (.+)$", text, re.MULTILINE)
    expected = {"regression": ["Failed"], "invalid": ["Invalid"], "missing": ["Missing"]}
    assert titles == expected.get(verdict, ["Needs attention"] if verdict == "inconclusive" else [])


@pytest.mark.parametrize("key", NASTY.values(), ids=list(NASTY))
def test_names_of_any_kind_are_shown_as_they_are(key: str) -> None:
    hostile = benchmark(key, "regression", reasons=[f"slow: {key}"])
    failed = [TestOutcome(key, "failed", 0.1, f"</pre><script>{key}")]

    run = results(hostile, tests=failed, reasons=[key, f"not ready\n{key}"], service_lines=[key])
    main = replace(run.environment, branch=key)
    text = github.markdown(run, runs=[replace(run, environment=main)] * 3)
    seen = tokens(text)
    shown = PARSER.render(text)

    assert [len(row) for row in cells(text)] == [5] * 2 + [11] * 3
    assert all(token.type not in {"link_open", "em_open", "s_open", "image"} for token in seen)
    html = [token.content for token in seen if token.type in {"html_inline", "html_block"}]
    assert not any("<script" in content or "\x1b" in content for content in html)
    name = re.sub(r"<[^>]*>", "", shown)
    expected = form.plain(key).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert expected in name


def test_the_next_command_is_whole() -> None:
    """A name is cut, but half a command would run something else."""
    run = results(*(benchmark(f"a.py::test_{'long' * 30}{i}", "regression") for i in range(5)), exit_code=1)

    assert (step := next_step(run))
    assert len(step.command) > 300
    assert f"Next: `{step.command}` " in github.markdown(run)


def test_nobody_is_mentioned() -> None:
    text = github.markdown(results(reasons=["error in @pytest.fixture"]))

    assert "&#64;&#8203;pytest.fixture" in text


@pytest.mark.parametrize(
    ("limit_bytes", "verdict"),
    [
        (github.COMMENT_BYTES, "regression"),
        (github.SUMMARY_BYTES, "pass"),
        pytest.param(github.COMMENT_BYTES, "pass", marks=pytest.mark.slow),
        pytest.param(github.SUMMARY_BYTES, "regression", marks=pytest.mark.slow),
    ],
)
def test_2000_benchmarks_with_long_names_stay_below_githubs_limits(verdict: Verdict, limit_bytes: int) -> None:
    entries = [
        benchmark(f"test_a.py::test_{'|' * 200}_{i}", verdict, reasons=["µ" * 900] * 3, warnings=["<" * 900])
        for i in range(2000)
    ]
    failed = [TestOutcome(entry.key, "failed", 0.1, "x" * 100_000) for entry in entries]

    text = github.markdown(
        results(*entries, tests=failed, reasons=["r" * 100_000] * 200, service_lines=["<" * 5_000] * 100), limit_bytes
    )

    assert len(text.encode()) < limit_bytes
    assert re.search(r"^Left out here: [\d,]+ more; results.json has all.$", text, re.MULTILINE)
    assert text.count("<details>") == text.count("</details>")


def test_2000_plain_benchmarks_are_all_in_the_summary() -> None:
    run = results(*(benchmark(f"test_{i % 40}.py::test_publish_latency[{i}]") for i in range(2000)))

    text = github.markdown(run, github.SUMMARY_BYTES)

    assert len(cells(text)) == 1 + 40 + 2000
    assert "Left out" not in text


def test_an_empty_run_says_why() -> None:
    text = github.markdown(results(verdict="invalid", exit_code=3, reasons=["redis never became ready"], baseline=""))

    assert text.startswith("## ❌ Invalid\n\nRedis never became ready\n\n\n0 benchmarks; 0 tests.  \nExit code 3: ")
    assert "|" not in text


def test_the_heading_of_a_first_run_says_why_nothing_is_judged() -> None:
    """The reason is in the heading only."""
    text = github.markdown(results(benchmark("a.py::test_a", "new"), verdict="new", reasons=[Reason("no_baseline")]))

    assert text.startswith("## ✅ New: there is no baseline to compare with yet\n\n1 benchmark: 1 new")


def test_a_missing_benchmark_shows_its_baseline() -> None:
    text = github.markdown(results(unmeasured("a.py::test_a")))

    assert cells(text)[1] == ["<code>a.py::test_a</code>", "57.1\N{NO-BREAK SPACE}µs"]


def test_a_change_that_was_not_judged_is_not_in_a_table() -> None:
    """Neither one of another machine nor one that the change can't have caused."""
    elsewhere = benchmark("a.py::test_a", "inconclusive", change=1.05, change_low=None, change_high=None)
    unaffected = benchmark("a.py::test_b", change=1.05, reasons=[Reason("unaffected", "0f1e2d3")])

    text = github.markdown(results(elsewhere, unaffected))

    assert "105" not in text
    assert "| not\N{NO-BREAK SPACE}affected |" in text


def test_an_application_that_does_not_start_shows_its_traceback() -> None:
    """As it was printed, with its error above it."""
    printed = '  | Traceback (most recent call last):\n  |   File "<shop>", line 1\n  | ValueError: no <port>'
    printed += "\n  next        read *port* from [env]; " + "or run it by hand " * 20
    text = github.markdown(results(verdict="invalid", exit_code=3, reasons=[f"app is not ready: exited\n{printed}"]))

    assert "\nApp is not ready: exited\n\n**ValueError: no &lt;port&gt;**\n\nNext: " in text
    assert "by hand\n\n<pre>  | Traceback (most" in text
    assert '  |   File "&lt;shop&gt;", line 1\n  | ValueError: no &lt;port&gt;</pre>\n' in text
    assert "**\n\nNext: read &#42;port&#42; from &#91;env]; or run" in text
    assert text.count("or run it by hand") == 20


def test_a_long_output_is_shown_with_its_beginning_and_its_end() -> None:
    """An error stands at its end."""
    lines = [f"line {number}" for number in range(100)]
    text = github.markdown(results(verdict="invalid", exit_code=3, reasons=["\n".join(["app died", *lines])]))

    assert "<pre>line 0\n" in text
    assert "line 19\n(60 more lines)\nline 80\n" in text
    assert "line 99</pre>" in text


def test_the_trend_of_the_default_branch_has_its_figures() -> None:
    """Of the benchmarks together, and of each one that fails."""
    key = "a.py::test_a"
    run = results(benchmark(key, "regression"))
    main = replace(run.environment, branch="main")
    runs = [
        replace(run, environment=main, benchmarks=[benchmark(key, median=median_s)])
        for median_s in (4e-3, 4.8e-3, 4e-3)
    ]

    text = github.markdown(run, runs=runs)

    assert "### Last 3 runs on `main`\n\n- ▁█▁ 1 benchmark: 0.0 % to +20 %, compared with the first" in text
    assert "- `a.py::test_a` ▁█▁ 4.00 ms to 4.80 ms, last 4.00 ms\n" in text
    assert "Last" not in github.markdown(run, runs=runs[:2])


def test_problems_are_annotated_on_the_source_line() -> None:
    """The line is counted from 1; a missing benchmark has none, and a pass is not annotated."""
    run = small()
    first, *others = annotations(
        replace(run, benchmarks=[replace(run.benchmarks[0], line=41), *run.benchmarks[1:]]), NOWHERE
    )
    place = "file=tests/performance/test_redis.py,line=42"
    assert first.startswith(f"::error {place},title=regression%3A test_publish_latency::57.1 µs → 61.7 µs")
    assert "%0Aslower than the baseline in 5 fresh processes%0ARepeat: nox -s ci -- tests/perf" in first
    assert [line.partition("::")[2].partition(",title=")[0] for line in others] == [
        "error file=tests/performance/test_redis.py,line=1",
        "error file=tests/performance/test_postgres.py",
        "error file=tests/performance/test_readiness.py",
    ]


def test_a_regression_is_annotated_on_the_line_of_its_cause(tmp_path: Path) -> None:
    """If the repository has that file: that of a package, or of another folder, can't be annotated."""
    run, test = n_plus_one(), "tests/performance/test_shop.py"
    [elsewhere] = annotations(run, tmp_path)
    assert elsewhere.startswith(f"::error file={test},line=12,title=regression%3A test_list::12.0 ms → 18.0 ms")
    assert "%0ATest: " not in elsewhere

    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").touch()

    [line] = annotations(run, tmp_path, "backend")
    assert line.startswith("::error file=backend/shop/orders.py,line=31,title=regression%3A test_list::12.0 ms")
    assert f"%0ATest: {test}:12%0ARepeat: nox -s ci -- {test}%3A%3Atest_list" in line.replace("::test", "%3A%3Atest")


def test_verdicts_that_fail_nothing_are_warnings() -> None:
    """Inconclusive and drift fail nothing."""
    run = results(benchmark("test_a.py::test_b", "inconclusive"), benchmark("test_a.py::test_c", "drift"))
    assert [line.partition(" ")[0] for line in annotations(run, NOWHERE)] == ["::warning", "::warning"]


def test_names_cannot_end_the_command() -> None:
    """Colons, commas, per cent and ends of lines in names and messages are escaped."""
    run = results(benchmark("test_a.py::test_b[x,y:z%]", "regression", reasons=["50 % more::error\nand more"]))
    [line] = annotations(run, NOWHERE)
    assert [line.replace("file=", "file=backend/", 1)] == annotations(run, NOWHERE, "backend")
    assert "title=regression%3A test_b[x%2Cy%3Az%25]::" in line
    assert "50 %25 more::error and more" in line
    assert "\n" not in line


def test_there_are_no_more_lines_than_github_shows() -> None:
    """The greatest changes come first."""
    run = results(*(benchmark(f"test_a.py::test_{n}", "regression", change=n / 100) for n in range(2_000)))
    lines = annotations(run, NOWHERE)
    assert len(lines) == MOST
    assert "test_1999" in lines[0]


def test_an_invalid_run_is_annotated_with_its_error() -> None:
    """At the file that cannot be collected, if that is why. Otherwise it has no place."""
    printed = "app is not ready: exited\n  | Traceback (most recent call last):\n  | ValueError: no port"
    run = results(exit_code=3, verdict="invalid", reasons=[printed])
    assert annotations(run, NOWHERE, "backend") == [
        "::error title=the run is invalid::app is not ready: exited: ValueError: no port"
    ]

    broken = Reason(
        "not_collected", "ImportError while importing\nImportError: no shop", subjects=["tests/performance/test_a.py"]
    )
    (line,) = annotations(results(exit_code=3, verdict="invalid", reasons=[broken]), NOWHERE, "backend")
    assert line.startswith("::error file=backend/tests/performance/test_a.py,title=")
    assert line.endswith("::tests/performance/test_a.py can't be collected: ImportError: no shop")


def test_a_failed_test_is_annotated_with_its_error() -> None:
    """From a traceback, only the lines of the error."""
    run = results(tests=[TestOutcome("test_a.py::test_b", "failed", 0.1, "    assert a\nE   assert 1 == 2")])
    assert annotations(run, NOWHERE) == [
        "::error file=tests/performance/test_a.py,title=failed%3A test_a.py%3A%3Atest_b::assert 1 == 2"
    ]
