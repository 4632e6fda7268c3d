"""The gate with benchmarks that cannot be compared in pairs, or that are measured again."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from plumbline.cli import main
from plumbline.commands import ci, paired
from plumbline.commands.base import Project
from plumbline.commands.measuring_run import RunEnded
from plumbline.comparing.trees.base import Base
from plumbline.judging.decide import Again, decide
from plumbline.judging.evidence import BaselineEvidence, ComparisonEvidence, ConfirmationEvidence, Evidence
from plumbline.results.schema import Benchmark, BudgetResult, Reason, Results
from plumbline.settings import GateSettings, Settings
from tests.support.report_samples import benchmark, results

KEY = "test_a.py::test_a"
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)


def record() -> Results:
    return results(benchmark(KEY, None, budgets=[BROKEN], process_medians=[1e-3] * 5), verdict=None, exit_code=None)


def confirmed(evidence: Evidence) -> ConfirmationEvidence:
    return ci.confirm(Project(Path(), Settings()), record(), evidence)


def test_fresh_processes_are_judged_by_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence has the timings and budgets of each process."""
    slower = replace(record().benchmarks[0], median=2e-3)
    baseline = results(benchmark(KEY, None, median=1e-3, process_medians=[1e-3] * 5))

    def measure_again(_project: Project, _profile: str, again: Again) -> dict[str, list[Benchmark]]:
        return {key: [slower] * 5 for key in again.keys}

    monkeypatch.setattr(ci, "measure_again", measure_again)

    found = confirmed(Evidence(baseline=baseline, timings={KEY: BaselineEvidence("inconclusive")}))

    assert found.fresh == {KEY: [slower] * 5}
    assert found.timings[KEY].verdict == "regression"


def test_fresh_processes_for_a_budget_judge_no_timing_that_pairs_have_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark is measured again only for its budget."""
    baseline = results(benchmark(KEY, None, process_medians=[1e-3] * 5))
    evidence = Evidence(
        baseline=baseline,
        timings={KEY: BaselineEvidence("inconclusive")},
        comparison=ComparisonEvidence(compared={KEY}),
    )
    fresh = {KEY: [*record().benchmarks] * 3}
    monkeypatch.setattr(ci, "measure_again", lambda *_: fresh)

    assert confirmed(evidence) == ConfirmationEvidence(fresh=fresh)


def test_a_fresh_process_that_ends_early_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says that benchmarks were being measured again. The other processes are not judged."""
    died, log = Reason("ended", "redis died"), Reason("ended", "its log")

    def measure_again(*_: object) -> None:
        raise RunEnded([died, log], 3)

    monkeypatch.setattr(ci, "measure_again", measure_again)

    assert confirmed(Evidence()) == ConfirmationEvidence(failed=[replace(died, when_repeated=True), log])


@pytest.mark.parametrize(("elsewhere", "compared"), [(["a", "c"], ["b"]), (["a", "b"], [])])
def test_one_application_for_both_sides_is_never_compared(
    elsewhere: list[str], compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence names the benchmarks of this application, so that they do not pass."""

    sides = SimpleNamespace(differ=False)
    monkeypatch.setattr(paired, "find_base", lambda *_, **__: Base("0123456789ab", "as asked"))
    monkeypatch.setattr(paired, "baseline_at", lambda *_: None)
    monkeypatch.setattr(paired, "sides_of", lambda *_: sides)
    monkeypatch.setattr(paired, "describe", lambda _: [])
    run = replace(results(*(benchmark(key, None) for key in "abc")), app_elsewhere=elsewhere)

    found = paired.with_pairs(Project(Path(), Settings()), run, Evidence(), run.benchmarks[:2], 60.0)

    assert found.application_elsewhere == {*elsewhere} & {"a", "b"}
    assert found.comparison.compared == frozenset(compared)


@pytest.fixture
def empty_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The current folder has a suite without tests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests" / "performance").mkdir(parents=True)
    (tmp_path / "tests" / "performance" / "settings.toml").touch()


@pytest.mark.usefixtures("empty_suite")
@pytest.mark.parametrize(
    ("given", "shard", "arguments"),
    [
        (["ci", "--shard=2/5", "--", "-k", "a b"], "2/5", ["-k", "a b"]),
        (
            ["ci", "--", "--shard", "2/5", "-k", "not a", "-x", "tests/a.py::b"],
            "2/5",
            ["-k", "not a", "-x", "tests/a.py::b"],
        ),
        (["full", "--", "-k", "a", "--shard=2/5"], "2/5", ["-k", "a"]),
        (["ci", "--", "-s", "--sh"], "", ["-s", "--sh"]),
    ],
)
def test_a_shard_among_the_arguments(
    monkeypatch: pytest.MonkeyPatch, given: list[str], shard: str, arguments: list[str]
) -> None:
    """It may be before -- and, as Nox passes it, after it."""
    passed = list[str]()

    def measure(_project: Project, _profile: str, arguments: list[str]) -> Results:
        passed.extend(arguments)
        raise RunEnded([Reason("ended", "enough")], 3)

    monkeypatch.setattr(ci, "measure", measure)
    assert main(given) == 3
    assert passed == [*([f"--perf-shard={shard}"] if shard else []), *arguments]


@pytest.mark.usefixtures("empty_suite")
@pytest.mark.parametrize("given", [["--shard=6/5"], ["--", "--shard", "6/5"], ["--", "--shard"]])
def test_no_shard(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    """Wrong usage, and nothing runs."""
    with pytest.raises(SystemExit) as ended:
        main(["ci", *given])
    assert ended.value.code == 2
    assert "argument --shard: " in capsys.readouterr().err


def test_benchmarks_that_only_the_base_has_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not if the run knows them, such as inherited ones, or if the baseline reports them by their verdicts."""
    gone = ["test_a.py::test_a", "test_a.py::test_of_baseline", "test_a.py::test_gone"]
    monkeypatch.setattr(ci, "benchmarks_only_at", lambda *_: gone)
    evidence = Evidence(baseline=results(benchmark("test_a.py::test_of_baseline[1]")))
    evidence = ci.with_gone_benchmarks(Project(Path(), Settings()), record(), evidence, Base("0a1b2c", "main"))

    note = "only the base has these benchmarks, so they are not compared: test_a.py::test_gone"
    assert note in decide(record(), evidence, GateSettings()).notes
