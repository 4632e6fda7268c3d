"""The paired comparison with the base commit, through the gate's sessions."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from plumbline.comparing.statistics.inference import LEAST_TO_FAIL
from plumbline.results.history import read_folder, read_lines
from tests.support.project import CONFTEST, STEADY_SETTINGS, Done, Project

WORK, OTHER = "test_code.py::test_work", "test_code.py::test_other"

# Sleeps take the same time on a slow machine.
CODE = """\
import time

DURATION_US = 2_000


def work() -> None:
    time.sleep(DURATION_US / 1e6)


def other() -> list[int]:
    time.sleep(0.002)
    return sorted(range(2_000, 0, -1))
"""

BROKEN_BUDGET = f'\n[budgets]\n"{WORK}" = {{ rate_per_s = 1_000_000_000 }}\n'

SUITE = '''\
"""Two benchmarks of code that lives beside the suite."""

from code_under_test import other, work

from plumbline import Measure


def test_work(measure: Measure) -> None:
    """Wait for a clock."""
    for timer in measure():
        with timer:
            work()


def test_other(measure: Measure) -> None:
    """Sort a list."""
    for timer in measure():
        with timer:
            other()
'''


@pytest.fixture(scope="module")
def committed(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with code, its benchmarks and a baseline of another machine, so all are compared in pairs.

    The baseline was recorded on slower, uncommitted code, after a regression had been accepted.
    """
    project = Project.create(tmp_path_factory.mktemp("compare") / "project", environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", STEADY_SETTINGS)
    project.write("conftest.py", CONFTEST)
    project.write("test_code.py", SUITE)
    (project.suite / "baselines").mkdir()
    (project.suite / "baselines" / "accepted.json").write_text(json.dumps({WORK: {"reason": "it did more then"}}))
    project.begin_repository(CODE)
    slow_down(project)
    done = run(project, "baseline", PERF_MACHINE="yesterday's")
    assert done.code == 0, done.output
    project.git("checkout", "--quiet", "code_under_test.py")
    project.commit("Baseline")
    return project


@pytest.fixture(scope="module")
def slower(committed: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Done]:
    """A run in which the working tree is slower and breaks a budget: its project, to be copied, and its end."""
    project = committed.copy(tmp_path_factory.mktemp("slower") / "project")
    slow_down(project)
    project.write("settings.toml", STEADY_SETTINGS.replace("tails = []\n", "") + BROKEN_BUDGET)
    done = run(project, "ci")
    project.write("settings.toml", STEADY_SETTINGS)
    return project, done


@pytest.fixture
def project(committed: Project, tmp_path: Path) -> Project:
    """A copy of the project, to be changed."""
    return committed.copy(tmp_path / "project")


def run(project: Project, session: str, *arguments: str, **environ: str) -> Done:
    """A session with its own cache, on a machine that always has the same name."""
    cache = {"XDG_CACHE_HOME": str(project.environments.parent / "cache"), "PERF_MACHINE": "today's"}
    return project.run(session, *arguments, **(cache | environ))


def slow_down(project: Project, duration_us: str = "6_000") -> None:
    """Three times the work, as an uncommitted change."""
    path = project.root / "code_under_test.py"
    path.write_text(path.read_text().replace("2_000\n", f"{duration_us}\n", 1))


def pretend_to_have_been(project: Project, times: dict[str, float]) -> None:
    """Commit a baseline in which these benchmarks took this multiple of their time."""
    path = project.baseline()
    scale_baseline(path, times)
    path.write_text(path.read_text().replace("yesterday's", "today's"))
    project.commit("Another baseline")


def scale_baseline(path: Path, times: dict[str, float]) -> None:
    data = json.loads(path.read_text())
    for benchmark in data["benchmarks"]:
        factor = times.get(benchmark["key"], 1.0)
        benchmark["median"] *= factor
        benchmark["process_medians"] = [median * factor for median in benchmark["process_medians"]]
    path.write_text(json.dumps(data))


def test_a_slower_benchmark_fails_and_the_others_pass(slower: tuple[Project, Done]) -> None:
    """The exit code is 1 on a machine without a baseline, and the report lists the changed files.

    The base is the commit that contains the baseline, which was recorded in a dirty working tree.
    """
    project, done = slower
    assert json.loads(project.baseline().read_text())["environment"]["dirty"]
    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression", OTHER: "pass"}
    assert "1 file differs: code_under_test.py" in done.output
    [work] = [one for one in project.results()["benchmarks"] if one["key"] == WORK]
    assert work["change"] == pytest.approx(2.0, abs=0.7)
    assert len(work["differences"]) >= LEAST_TO_FAIL
    assert {one["tail"] for one in work["tails"]} == {"p90", "mean"}


def test_the_budget_of_a_regression_is_not_measured_again(slower: tuple[Project, Done]) -> None:
    """The benchmark fails in any case."""
    _, done = slower
    assert "budget broken" in done.output
    assert "to confirm what failed" not in done.output


def test_without_a_change_nothing_is_compared(project: Project) -> None:
    """A change of only the documentation does not need a comparison.

    Benchmarks that were ten times as fast in this machine's baseline are drift, which does not fail. They cannot be
    accepted: that is wrong usage, and the message lists the regressions.
    """
    pretend_to_have_been(project, {WORK: 0.1, OTHER: 0.1})
    done = run(project, "ci")
    assert done.code == 0, done.output
    assert project.verdicts() == {WORK: "drift", OTHER: "drift"}
    assert "DRIFT: worse than the baseline, but not because of this change" in done.output
    assert "nothing differs" in done.output
    assert "pairs of fresh processes" not in done.output

    done = run(project, "accept", WORK, "--reason", "none")
    assert done.code == 2, done.output
    assert f"the last run has no regression {WORK}: it has no regressions" in done.output
    assert not (project.suite / "baselines" / "accepted.json").exists()


def test_a_broken_budget_is_no_regression(project: Project) -> None:
    """It is measured again in fresh processes and fails, and the timing is still compared with the base."""
    pretend_to_have_been(project, {WORK: 0.1, OTHER: 0.1})
    project.write("settings.toml", STEADY_SETTINGS + BROKEN_BUDGET)
    done = run(project, "ci")
    assert done.code == 1, done.output
    assert "budget broken: test_code.py::test_work" in done.output
    assert "again in up to 2 processes, to confirm what failed\nprocess 1 of up to 2\n" in done.output
    assert project.verdicts() == {WORK: "drift", OTHER: "drift"}


def test_an_accepted_regression_passes_until_the_next_baseline(slower: tuple[Project, Done], tmp_path: Path) -> None:
    """`accept` writes a file to commit with the reason, which every report shows. `baseline` clears it.

    An edited entry in the baseline accepts nothing.
    """
    project = slower[0].copy(tmp_path / "project")
    accepted = project.suite / "baselines" / "accepted.json"
    assert not accepted.exists()
    done = run(project, "accept", "test_code.py::test_w*", "--reason", "it does more now")
    assert done.code == 0, done.output
    [(key, kept)] = json.loads(accepted.read_text()).items()
    assert (key, kept["reason"]) == (WORK, "it does more now")
    assert kept["slower_by"] == pytest.approx(2.0, abs=0.7)

    project.git("checkout", "--quiet", "-b", "change")
    path = project.root / "code_under_test.py"
    path.write_text(path.read_text().replace("0.002", "0.006"))
    [path] = set((project.suite / "baselines").glob("*.json")) - {accepted}
    scale_baseline(path, {OTHER: 3.0})
    project.commit("Slower")
    done = run(project, "ci", PERF_BASE="main")
    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "accepted", OTHER: "regression"}
    assert "accepted: it does more now" in done.output
    assert f'nox -s accept -- {OTHER} --reason "TEXT"' in " ".join(done.output.split())


def test_what_an_earlier_change_has_accepted_is_no_licence_for_the_next(project: Project) -> None:
    """Although it is no slower than was accepted then."""
    accepted = {WORK: {"reason": "it does more now", "slower_by": 5.0}}
    (project.suite / "baselines" / "accepted.json").write_text(json.dumps(accepted))
    project.commit("Accept")
    project.git("checkout", "--quiet", "-b", "change")
    slow_down(project)
    project.commit("Slower once more")
    done = run(project, "ci", PERF_BASE="main")
    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression", OTHER: "pass"}
    assert "worse than the base, which has a regression already that was accepted" in " ".join(done.output.split())


def test_a_slow_down_in_an_edited_baseline_fails(project: Project) -> None:
    """Although it is not slower than the new baseline. The report shows the difference from the base.

    A benchmark that the change deletes from the suite and the baseline is shown as removed.
    """
    project.git("checkout", "--quiet", "-b", "change")
    slow_down(project)  # as when the baseline was recorded
    project.write("test_code.py", SUITE.partition("\n\ndef test_other")[0])
    path = project.baseline()
    scale_baseline(path, {WORK: 1.001})
    data = json.loads(path.read_text())
    data["benchmarks"] = [one for one in data["benchmarks"] if one["key"] == WORK]
    path.write_text(json.dumps(data))
    project.commit("Slower")
    done = run(project, "ci", PERF_MACHINE="yesterday's", PERF_BASE="main")
    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression", OTHER: "removed"}
    assert f'nox -s accept -- {WORK} --reason "TEXT"' in " ".join(done.output.split())
    assert "the baseline was recorded with uncommitted changes" in done.output


def test_a_proposed_change_is_compared_with_its_base_without_a_baseline(project: Project) -> None:
    """As on a hosted runner with an unknown CPU. Benchmarks that the base does not have are new.

    If it is on the default branch, the history gets the changes of all benchmarks that the base has.
    """
    project.write("settings.toml", STEADY_SETTINGS + '\n[history]\nfolder = "perf-results/main"\n')
    project.git("rm", "--quiet", "-r", "tests/performance/baselines")
    project.commit("No baseline")
    project.git("checkout", "--quiet", "-b", "change")
    slow_down(project)
    path = project.root / "code_under_test.py"
    path.write_text(path.read_text() + "\n\ndef third() -> int:\n    return sum(range(1_000))\n")
    name = "test_third.py"
    project.write(name, SUITE.replace("other, work", "third").partition("def test_other")[0].replace("work", "third"))
    project.commit("Slower")
    done = run(project, "ci", PERF_BASE="main", CI_DEFAULT_BRANCH="change")
    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression", OTHER: "pass", f"{name}::test_third": "new"}

    [line] = read_lines(read_folder(project.root / "perf-results" / "main")).runs
    assert line.commit == project.git("rev-parse", "HEAD")
    assert line.base == project.git("rev-parse", "main")[:10]
    entry, third = line.entry(WORK), line.entry(f"{name}::test_third")
    assert entry is not None
    assert third is not None
    assert math.exp((entry.change_e4 or 0) / 1e4) == pytest.approx(3, rel=0.3)
    assert entry.error_e4
    assert third.change_e4 is None


def test_a_commit_that_does_not_exist_is_wrong_usage(project: Project) -> None:
    """Nothing is compared, and the message names it."""
    done = run(project, "compare", "nowhere")
    assert done.code == 2, done.output
    assert "'nowhere' names no commit here" in done.output


def test_without_git_fresh_processes_decide(project: Project) -> None:
    """Without a base, a slow-down still fails on the baseline's machine, and the report says so."""
    slow_down(project, "60_000")  # more than the drift of a machine
    (project.root / ".git").rename(project.root / "no-git")
    done = run(project, "ci", PERF_MACHINE="yesterday's")
    assert done.code == 1, done.output
    assert project.verdicts()[WORK] == "regression"
    assert "no paired comparison:" in done.output


def test_a_side_that_dies_makes_the_run_invalid(project: Project) -> None:
    """Exit code 3. The last output of the side is shown, even if it is not valid UTF-8."""
    path = project.root / "code_under_test.py"
    print_it = r'os.write(1, bytes(range(256)) * 99 + b"\x1b[2J]]>last words\n")'
    path.write_text(
        f'import os\n\nif os.environ.get("PYTHONHASHSEED"):\n    {print_it}\n    os._exit(9)\n{path.read_text()}'
    )
    done = run(project, "ci")
    assert done.code == 3, done.output
    assert "the worker of head failed: it ended with exit code 9" in " ".join(done.output.split())
    assert "last words" in done.output
    assert "\x1b[2J" not in done.output
    assert "Traceback" not in done.output
    assert project.results()["verdict"] == "invalid"
    ElementTree.parse(project.root / "perf-results" / "junit.xml")  # noqa: S314, our own


def test_a_base_that_cannot_run_fails_nothing(project: Project) -> None:
    """Its last output is shown, and timings are judged without a base."""
    path = project.root / "code_under_test.py"
    code = path.read_text()
    project.write("conftest.py", CONFTEST + "\nimport code_under_test  # noqa\n")
    path.write_text('raise RuntimeError("half done")\n')
    baseline = project.baseline()
    baseline.write_text(baseline.read_text() + "\n")
    project.commit("Half done")
    path.write_text(code)
    done = run(project, "ci")
    assert done.code == 0, done.output
    assert "no paired comparison: the base can't be run: the worker of base failed" in done.output
    assert "half done" in done.output
    assert set(project.verdicts().values()) == {"inconclusive"}

    slow_down(project, "60_000")
    done = run(project, "ci", PERF_MACHINE="yesterday's")
    assert done.code == 1, done.output
    assert "no paired comparison: the base can't be run" in done.output
    assert "REGRESSION: slower than the baseline" in done.output
    assert "are against" not in done.output
