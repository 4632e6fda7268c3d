"""`ci --shard` and `report --merge`: two parts of a suite, measured apart, with one verdict."""

import json
import shutil

import pytest

from tests.support.project import Project

ADDITION = "test_suite.py::test_addition"
OTHERS = {"test_suite.py::test_sorting", "test_words.py::test_joining", "test_words.py::test_counting"}


def ran(project: Project) -> set[str]:
    return {test["key"] for test in project.results()["tests"]}


def test_two_shards_have_the_verdict_of_the_whole(recorded: Project) -> None:
    """The baseline's longest test is a shard by itself. The slower benchmark fails the whole, and a lost shard does."""
    baseline = json.loads(recorded.baseline().read_text(encoding="utf-8"))
    assert all(entry["duration_s"] > 0 for entry in baseline["benchmarks"])
    for entry in baseline["benchmarks"]:
        entry["duration_s"] = 4.0 if entry["key"] == ADDITION else 1.0
    recorded.baseline().write_text(json.dumps(baseline), encoding="utf-8")
    results = recorded.root / "perf-results"

    first = recorded.run("ci", "--shard", "1/2", "-k", "test", SLOWER="3", GITHUB_ACTIONS="true")
    assert first.code == 1, first.output
    by = f"shard 1 of 2: 1 of 4 tests, divided by the durations in {recorded.baseline().name}"
    assert by in " ".join(first.output.split())
    assert "::error" not in first.output  # the merged report annotates the source, once
    assert ran(recorded) == {ADDITION}
    assert not (results / "history").exists()
    shutil.copytree(results, recorded.root / "shards" / "1")

    second = recorded.run("ci", "-k", "test", "--shard=2/2", SLOWER="3")
    assert second.code == 0, second.output
    assert ran(recorded) == OTHERS
    shutil.copytree(results, recorded.root / "shards" / "2" / "perf-results")

    whole = recorded.run("report", "--merge", "shards/1", "shards/2", GITHUB_ACTIONS="true")
    assert whole.code == 1, whole.output
    assert whole.output.count("::error") == 1
    assert recorded.verdicts() == {ADDITION: "regression", **dict.fromkeys(OTHERS, "pass")}
    assert "shard" not in recorded.results()
    assert (results / "junit.xml").read_text(encoding="utf-8").count("<testcase") == 4
    assert ADDITION in (results / "report.html").read_text(encoding="utf-8")
    assert len(list((results / "history").iterdir())) == 1

    lost = recorded.run("report", "--merge", "shards/2")
    assert lost.code == 3, lost.output
    assert "there are no results of shard 1 of 2: run its job again, then merge all" in lost.output


def test_without_a_baseline_the_durations_of_an_earlier_run_divide(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any run, each shard gets as many tests."""
    shutil.rmtree(recorded.suite / "baselines")
    first = recorded.run("ci", "--shard", "1/2")
    by = "2 of 4 tests, divided by their number: no baseline or earlier run has durations"
    assert by in " ".join(first.output.split())

    whole = recorded.run("ci")
    assert whole.code == 0, whole.output
    [kept] = (recorded.root / "perf-results" / "history").iterdir()
    took_s = {one["key"]: one["duration_s"] for one in json.loads(kept.read_bytes())["benchmarks"]}
    assert min(took_s.values()) > 0
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2099-01-01T00:00:00Z")
    recorded.git("commit", "--quiet", "--allow-empty", "--message=Later")

    second = recorded.run("ci", "--shard", "1/2")
    assert " of 4 tests, divided by the durations in the run of 2" in " ".join(second.output.split())
    assert max(took_s, key=lambda key: took_s[key]) in ran(recorded)
