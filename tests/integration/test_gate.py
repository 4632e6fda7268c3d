"""The gate through `nox -s ci`: exit codes, output and files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from tests.support.project import STEADY_SETTINGS, Done, Project

ADDITION, SORTING = "test_suite.py::test_addition", "test_suite.py::test_sorting"
JOINING, COUNTING = "test_words.py::test_joining", "test_words.py::test_counting"

BUDGETS = """
[budgets]
"test_budgets.py::test_kept" = { p95_ms = 1000, p99_ms = 1000, rate_per_s = 1 }
"test_budgets.py::test_slow_at_first" = { median_ms = 4 }
"test_budgets.py::test_slow_in_the_first_process" = { median_ms = 4 }
"""
BROKEN_BUDGETS = """
[budgets]
"test_broken.py::test_too_slow" = { p95_ms = 0.5 }
"test_broken.py::test_too_few" = { rate_per_s = 2_000 }
"""

KEPT_SUITE = '''\
from pathlib import Path

from tests.performance.clock import spend
from plumbline import Measure

MARK = Path(__file__).with_name("first process")
FIRST_PROCESS = not MARK.exists()
MARK.touch()


def test_kept(measure: Measure) -> None:
    for timer in measure():
        with timer:
            spend(0.0001)


def test_slow_at_first(measure: Measure) -> None:
    """The disk, the network or a neighbour was slow for a moment."""
    rounds = 0
    for timer in measure(warmup=0, samples=7):
        rounds += 1
        with timer:
            spend(0.005 if rounds <= 7 else 0.0001)


def test_disturbed_for_a_moment(measure: Measure) -> None:
    rounds = 0
    for timer in measure(warmup=0, samples=35):
        rounds += 1
        with timer:
            spend(0.005 if 7 < rounds <= 14 else 0.0005)


def test_slow_in_the_first_process(measure: Measure) -> None:
    for timer in measure(warmup=0, samples=7):
        with timer:
            spend(0.005 if FIRST_PROCESS else 0.0001)
'''

BROKEN_SUITE = '''\
from tests.performance.clock import spend
from plumbline import Measure
from plumbline.settings import Budget


def test_too_slow(measure: Measure) -> None:
    for timer in measure(warmup=0, samples=7):
        with timer:
            spend(0.001)


def test_too_few(measure: Measure) -> None:
    for timer in measure(warmup=0, samples=7, operations=1):
        with timer:
            spend(0.001)


def test_budget_of_its_own(measure: Measure) -> None:
    for timer in measure(warmup=0, samples=7, budget=Budget(max_ms=0.75)):
        with timer:
            spend(0.001)


def test_well() -> None:
    """Not a benchmark."""
'''

EMBEDDED = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')

TELLTALE_SUITE = '''\
import logging
import os
import warnings
from pathlib import Path

import pytest

from plumbline import Measure


def test_the_test_is_told_where_they_are(redis_url: str, postgres_url: str) -> None:
    Path(os.environ["TOLD"]).write_text(f"{redis_url}\\n{postgres_url}\\n")
    print("connecting to", redis_url)


def test_assertion(redis_url: str, postgres_url: str) -> None:
    logging.getLogger("app").warning("connecting to %s", postgres_url)
    print("connecting to", redis_url)
    assert redis_url == postgres_url


@pytest.fixture
def broken(postgres_url: str) -> None:
    raise ConnectionError(f"no such database: {postgres_url}")


def test_fixture(broken: None) -> None:
    """Never gets here."""


def test_skipped(redis_url: str) -> None:
    pytest.skip(f"{redis_url} lacks a module")


def test_warning(postgres_url: str) -> None:
    warnings.warn(f"{postgres_url} is slow", stacklevel=1)


def test_measured(measure: Measure, redis_url: str) -> None:
    for timer in measure():
        with timer:
            sum(range(1000))
'''

TELLTALE_IMPORT = """\
import os

raise ImportError(f"can't connect to {os.environ['SAMPLE_URL']}")
"""


class Ran(NamedTuple):
    """A run and its project."""

    project: Project
    done: Done


def entry(project: Project, key: str) -> dict[str, object]:
    """Return a benchmark of the last results."""
    [found] = [benchmark for benchmark in project.results()["benchmarks"] if benchmark["key"] == key]
    assert isinstance(found, dict)
    return found


def edit_baseline(project: Project, name: str, value: object) -> None:
    """Set a field of the baseline's environment."""
    path = project.baseline()
    baseline = json.loads(path.read_text(encoding="utf-8"))
    baseline["environment"][name] = value
    path.write_text(json.dumps(baseline), encoding="utf-8")


@pytest.fixture(scope="module")
def same(recorded_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run without any change."""
    project = recorded_project.copy(tmp_path_factory.mktemp("same") / "project")
    return Ran(project, project.nox("ci", GITHUB_STEP_SUMMARY=str(project.root / "summary.md")))


@pytest.fixture(scope="module")
def slower(recorded_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run in which one benchmark takes six times as long."""
    project = recorded_project.copy(tmp_path_factory.mktemp("slower") / "project")
    return Ran(project, project.nox("ci", SLOWER="6"))


@pytest.fixture(scope="module")
def edited(recorded_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run after changes to the suite."""
    project = recorded_project.copy(tmp_path_factory.mktemp("edited") / "project")
    project.edit("test_suite.py", "range(2000, 0, -1)", "range(2001, 0, -1)")
    project.edit("conftest.py", '"line"', '"bob"')
    project.edit("test_words.py", "def test_counting", "def test_tallying")
    project.edit(
        "test_words.py",
        "measure():\n        with timer:\n            found",
        ('measure(renamed_from="test_words.py::test_counting"):\n        with timer:\n            found'),
    )
    project.write("test_more.py", KEPT_SUITE.partition("def test_slow_at_first")[0])
    return Ran(project, project.run("ci", SLOWER="0.2"))


@pytest.fixture(scope="module")
def budgets(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run with kept budgets, two of which are only kept when measured again."""
    project = Project.create(tmp_path_factory.mktemp("budgets") / "project", environments, steady=True)
    project.write("settings.toml", STEADY_SETTINGS + BUDGETS)
    project.write("test_budgets.py", KEPT_SUITE)
    return Ran(project, project.run("ci"))


@pytest.fixture(scope="module")
def broken_budgets(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run with broken budgets."""
    project = Project.create(tmp_path_factory.mktemp("broken") / "project", environments, steady=True)
    project.write("settings.toml", STEADY_SETTINGS + BROKEN_BUDGETS)
    project.write("test_broken.py", BROKEN_SUITE)
    return Ran(project, project.run("ci"))


@pytest.fixture(scope="module")
def telltale(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run whose tests print the servers' passwords in many ways."""
    project = Project.create(tmp_path_factory.mktemp("telltale") / "project", environments)
    project.write("settings.toml", EMBEDDED + '\n[env]\nSAMPLE_URL = "{postgres.url}"\n')
    project.write("test_telltale.py", TELLTALE_SUITE)
    project.write("test_telltale_import.py", TELLTALE_IMPORT)
    arguments = ["-rA", "--showlocals", "--continue-on-collection-errors"]
    return Ran(project, project.run("ci", *arguments, TOLD=str(project.root / "told.txt")))


# ---- verdicts


def test_a_first_run_is_new_and_passes(project: Project) -> None:
    """Without a baseline every benchmark is new, the run passes, and the report advises to record one."""
    done = project.run("ci")

    assert done.code == 0, done.output
    assert set(project.verdicts().values()) == {"new"}
    assert "nox -s baseline" in done.output
    # The process that measured, started by the command and by Nox, had fixed addresses where that is possible.
    possible = sys.platform == "linux" and subprocess.run(["setarch", "-R", "true"], check=False).returncode == 0
    assert project.results()["environment"].get("fixed_addresses", False) is possible


def test_a_run_without_a_change_passes(same: Ran) -> None:
    assert same.done.code == 0, same.done.output
    assert set(same.project.verdicts().values()) == {"pass"}
    assert len(same.project.verdicts()) == 4
    assert "PASS" in same.done.output


def test_the_report_names_the_baseline(same: Ran) -> None:
    assert f"Compared with the baseline {same.project.baseline().name}" in same.done.output


def test_a_regression_fails(slower: Ran) -> None:
    """A slower benchmark fails the run, and the others pass."""
    assert slower.done.code == 1, slower.done.output
    verdicts = slower.project.verdicts()
    assert verdicts.pop(ADDITION) == "regression"
    assert set(verdicts.values()) == {"pass"}
    assert f"REGRESSION: slower than the baseline: {ADDITION}" in slower.done.output


def test_a_regression_is_measured_again_before_it_fails(slower: Ran) -> None:
    """In fresh processes, all of which must confirm it."""
    assert "again in 2 processes, to confirm what failed\nprocess 1 of 2\n" in slower.done.output
    medians = entry(slower.project, ADDITION)["process_medians"]
    assert isinstance(medians, list)
    assert len(medians) == 2


def test_a_regression_is_shown_with_both_timings_and_the_minimum_detectable_effect(slower: Ran) -> None:
    """The table and the results agree."""
    regression = entry(slower.project, ADDITION)
    was, now, change = regression["baseline_median"], regression["median"], regression["change"]
    assert isinstance(was, float)
    assert isinstance(now, float)
    assert isinstance(change, float)
    assert change > 2
    assert now / was - 1 == pytest.approx(change, rel=0.5)
    assert {"change_low", "change_high", "minimum_detectable_effect"} <= regression.keys()
    [heading] = [line for line in slower.done.output.splitlines() if line.startswith("benchmark ")]
    assert all(word in heading for word in ("before", "median", "change", "verdict"))
    assert "detectable" in slower.done.output


def test_an_improvement_passes(edited: Ran) -> None:
    """A faster benchmark is reported, and fails nothing."""
    assert edited.done.code == 0, edited.done.output
    assert edited.project.verdicts()[ADDITION] == "improvement"


def test_a_benchmark_whose_source_was_edited_is_changed(edited: Ran) -> None:
    """Timings of two different benchmarks are not compared."""
    assert edited.project.verdicts()[SORTING] == "changed"


def test_a_benchmark_whose_fixture_was_edited_is_changed(edited: Ran) -> None:
    """A fixture of the suite is a part of the benchmark."""
    assert edited.project.verdicts()[JOINING] == "changed"


def test_a_renamed_benchmark_keeps_its_history(edited: Ran) -> None:
    """With `renamed_from` it is compared with its old name, which is not missing."""
    renamed = entry(edited.project, "test_words.py::test_tallying")
    assert renamed["baseline_median"]
    assert renamed["verdict"] == "changed"
    assert COUNTING not in edited.project.verdicts()


def test_a_benchmark_that_the_baseline_lacks_is_new(edited: Ran) -> None:
    assert edited.project.verdicts()["test_more.py::test_kept"] == "new"


def test_deleted_and_skipped_benchmarks_are_missing(recorded: Project) -> None:
    """A benchmark of the baseline that the run lacks makes the run invalid, even if its whole file is deleted."""
    (recorded.suite / "test_suite.py").unlink()
    recorded.edit("test_words.py", "def test_counting(", "def count(")
    recorded.edit("test_words.py", '"""Join words."""', 'import pytest; pytest.skip("not today")')

    done = recorded.run("ci")

    assert done.code == 3, done.output
    assert set(recorded.verdicts()) == {ADDITION, SORTING, JOINING, COUNTING}
    assert set(recorded.verdicts().values()) == {"missing"}
    assert "in the baseline, but not measured" in done.output
    assert "skipped: not today" in done.output


@pytest.mark.parametrize(
    "arguments",
    [("-k", "addition"), ("tests/performance/test_suite.py::test_addition",)],
    ids=["expression", "node id"],
)
def test_deselected_benchmarks_are_not_missing(recorded: Project, arguments: tuple[str, ...]) -> None:
    """A part of the suite can be run on its own."""
    done = recorded.run("ci", *arguments)

    assert done.code == 0, done.output
    assert set(recorded.verdicts()) == {ADDITION}


def test_an_expression_is_not_taken_for_a_folder(project: Project) -> None:
    """`-k app` next to a folder `app` runs tests of this suite, not all tests that pytest finds."""
    (project.root / "addition").mkdir()
    (project.root / "tests" / "test_others.py").write_text("def test_addition() -> None: ...\n", encoding="utf-8")

    done = project.run("ci", "-k", "addition", "--collect-only")

    assert "test_suite.py" in done.output
    assert "test_others.py" not in done.output


def test_a_failed_test_fails(recorded: Project) -> None:
    """A failed test fails the run, benchmark or not. A failed benchmark is not missing."""
    recorded.edit("test_words.py", "    assert found\n", "    assert found == 0\n")
    recorded.write("test_plain.py", "def test_hygiene() -> None:\n    assert not ['a connection'], 'left open'\n")

    done = recorded.run("ci")

    assert done.code == 1, done.output
    assert f"test failed: test_plain.py::test_hygiene, {COUNTING}" in done.output
    assert "left open" in done.output
    assert COUNTING not in recorded.verdicts()


def test_benchmarks_that_lf_leaves_out_are_not_missing(recorded: Project) -> None:
    """`--lf` leaves out whole files and parts of others."""
    recorded.edit("test_words.py", "    assert found\n", "    assert found == 0\n")
    assert recorded.run("ci").code == 1
    recorded.edit("test_words.py", "    assert found == 0\n", "    assert found\n")

    done = recorded.run("ci", "--lf")

    assert done.code == 0, done.output
    assert set(recorded.verdicts()) == {COUNTING}


def test_a_test_that_ends_pytest_makes_the_run_invalid(recorded: Project) -> None:
    """Benchmarks measured before it do not count."""
    recorded.baseline().unlink()
    recorded.write("test_z.py", "import pytest\n\n\ndef test_exit() -> None:\n    pytest.exit('enough')\n")

    done = recorded.run("ci")

    assert done.code == 3, done.output
    assert "enough" in done.output


def test_on_another_machine_figures_are_shown_and_not_judged(recorded: Project) -> None:
    """Two machines differ more than a change does."""
    done = recorded.run("ci", SLOWER="6", PERF_MACHINE="elsewhere")

    assert done.code == 0, done.output
    assert set(recorded.verdicts().values()) == {"inconclusive"}
    assert entry(recorded, ADDITION)["baseline_median"]
    assert "another machine" in done.output
    assert "now elsewhere" in " ".join(done.output.split())


def test_inconclusive_fails_if_the_settings_say_so(recorded: Project) -> None:
    """`fail_on = ["inconclusive"]` has its own exit code."""
    recorded.write("settings.toml", STEADY_SETTINGS + 'fail_on = ["inconclusive"]\n')
    edit_baseline(recorded, "machine", "elsewhere")

    done = recorded.nox("ci")

    assert done.code == 4, done.output
    assert "another machine (elsewhere" in done.output
    assert "4 of 4 benchmarks are inconclusive" in done.output


def test_pinned_and_unpinned_timings_are_not_compared(recorded: Project) -> None:
    done = recorded.run("ci", PERF_PIN="auto", XDG_CACHE_HOME=str(recorded.root / "cache"))

    assert done.code == 0, done.output
    assert set(recorded.verdicts().values()) == {"inconclusive"}
    assert "this run is pinned to one core, the baseline was not" in " ".join(done.output.split())


# ---- budgets


def test_kept_budgets_pass(budgets: Ran) -> None:
    """Limits of time and of rate."""
    assert budgets.done.code == 0, budgets.done.output
    results = entry(budgets.project, "test_budgets.py::test_kept")["budgets"]
    assert isinstance(results, list)
    assert {budget["name"]: budget["kept"] for budget in results} == {
        "p95_ms": True,
        "p99_ms": True,
        "rate_per_s": True,
    }


def test_a_99th_percentile_is_not_judged_by_few_samples(budgets: Ran) -> None:
    """The benchmark is inconclusive, and the report says why."""
    assert budgets.project.verdicts()["test_budgets.py::test_kept"] == "inconclusive"
    assert "not judged: needs 1,000 samples, there were" in budgets.done.output


def test_a_budget_broken_on_the_first_attempt_only_passes(budgets: Ran) -> None:
    """It is measured again at once, and the report says so."""
    warnings = entry(budgets.project, "test_budgets.py::test_slow_at_first")["warnings"]
    assert "measured twice: its budget was broken (median_ms)" in str(warnings)


def test_a_disturbed_measurement_is_repeated(budgets: Ran) -> None:
    """Seven consecutive samples took ten times as long: the second attempt counts."""
    disturbed = entry(budgets.project, "test_budgets.py::test_disturbed_for_a_moment")
    assert "consecutive samples were slower than the others" in str(disturbed["warnings"])
    assert disturbed["samples"] == 35
    assert float(str(disturbed["p95"])) < 0.005


def test_a_budget_broken_in_the_first_process_only_passes(budgets: Ran) -> None:
    """It is measured again in fresh processes, and the report says so."""
    warnings = entry(budgets.project, "test_budgets.py::test_slow_in_the_first_process")["warnings"]
    assert "2 of 2 fresh processes stayed within it" in str(warnings)


def test_broken_budgets_fail(broken_budgets: Ran) -> None:
    """Budgets of the settings or of the benchmark. The report shows the limit and the figure."""
    assert broken_budgets.done.code == 1, broken_budgets.done.output
    output = broken_budgets.done.output
    for name, limit in ("too_slow", "> 0.5 ms"), ("too_few", "< 2,000/s"), ("budget_of_its_own", "> 0.75 ms"):
        block = output.partition("\nOver budget\n")[2].partition(f"! {name}")[2].partition("\n\n")[0]
        assert limit in block


def test_broken_budgets_are_measured_again_first(broken_budgets: Ran) -> None:
    """In fresh processes."""
    assert "again in up to 2 processes, to confirm what failed\nprocess 1 of up to 2\n" in broken_budgets.done.output


def test_plain_pytest_fails_on_a_broken_budget(broken_budgets: Ran) -> None:
    """Without Nox, and with a table at the end."""
    done = broken_budgets.project.python("-m", "pytest", "tests/performance")

    assert done.code == 1, done.output
    assert "over budget" in done.output
    assert "6 passed" in done.output
    last = done.output.splitlines()[-2]
    assert last.startswith("failed because of broken budgets: ")
    assert all(f"test_broken.py::test_{name}" in last for name in ("too_slow", "too_few", "budget_of_its_own"))


# ---- files


def test_the_results_have_the_documented_fields(same: Ran) -> None:
    """Other tools may use them."""
    results = same.project.results()
    assert {"schema", "verdict", "environment", "benchmarks"} <= results.keys()
    assert results["verdict"] == "pass"
    for benchmark in results["benchmarks"]:
        assert {"key", "unit", "verdict", "median", "counts"} <= benchmark.keys()


def test_the_report_is_written_in_markdown(same: Ran) -> None:
    """It begins with the verdict."""
    report = (same.project.root / "perf-results" / "report.md").read_text(encoding="utf-8")
    assert report.startswith("## ✅ Pass")
    assert "test_addition" in report


def test_the_report_is_added_to_the_summary_of_a_github_job(same: Ran) -> None:
    """To the file of GITHUB_STEP_SUMMARY."""
    summary = (same.project.root / "summary.md").read_text(encoding="utf-8")
    assert summary == (same.project.root / "perf-results" / "report.md").read_text(encoding="utf-8")


def test_a_summary_that_can_t_be_written_fails_nothing(recorded: Project) -> None:
    """The output says so."""
    done = recorded.run("ci", "-k", "addition", GITHUB_STEP_SUMMARY=str(recorded.root))

    assert done.code == 0, done.output
    assert "GITHUB_STEP_SUMMARY can't be written: Is a directory" in done.output


def test_junit_xml_reports_a_regression(slower: Ran) -> None:
    """As a failure of its test."""
    tree = ElementTree.parse(slower.project.root / "perf-results" / "junit.xml")  # noqa: S314, our own
    failed = [case.get("name") for case in tree.iter("testcase") if case.find("failure") is not None]
    assert failed == ["test_addition"]


def test_the_last_results_are_rendered_again_with_their_exit_code(slower: Ran) -> None:
    """Without measuring."""
    before = slower.project.results()

    done = slower.project.run("report")

    assert done.code == 1, done.output
    assert f"REGRESSION: slower than the baseline: {ADDITION}" in done.output
    # Within a session another Nox may be on PATH.
    after, before = (
        json.loads(json.dumps(one).replace("uvx nox", "nox")) for one in (slower.project.results(), before)
    )
    assert after == before


def test_without_results_there_is_nothing_to_render(recorded: Project) -> None:
    """The command is invalid, and says what to do first."""
    done = recorded.run("report")

    assert done.code == 3, done.output
    assert "run `nox -s ci` first" in done.output


def test_results_of_an_earlier_run_are_not_reused(same: Ran, tmp_path: Path) -> None:
    """A run without results removes older ones."""
    project = same.project.copy(tmp_path / "project")
    project.write("test_exit.py", "import os\n\n\ndef test_exit() -> None:\n    os._exit(0)\n")

    done = project.run("ci")
    report = project.run("report")

    assert done.code == 3, done.output
    assert "left no results" in done.output
    assert report.code == 3, report.output


# ---- passwords


def test_no_password_is_shown(telltale: Ran) -> None:
    """Neither in the output nor in a file, even if an assertion fails on the URL."""
    told = (telltale.project.root / "told.txt").read_text(encoding="utf-8").split()
    passwords = {url.partition("@")[0].rpartition(":")[2] for url in told}
    assert len(passwords) == 2
    assert telltale.done.code == 3, telltale.done.output
    texts = {path.name: path.read_text(encoding="utf-8") for path in telltale.project.root.glob("perf-results/**/*.*")}
    assert {"results.json", "report.md", "junit.xml"} <= texts.keys()
    for name, text in {"output": telltale.done.output, **texts}.items():
        for password in passwords:
            lines = [line for line in text.splitlines() if password in line]
            assert not lines, name


def test_the_rest_of_a_message_with_a_password_is_shown(telltale: Ran) -> None:
    for words in ("can't connect to postgresql://", "no such database: postgresql://", "lacks a module", "is slow"):
        assert words in telltale.done.output
