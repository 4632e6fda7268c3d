"""The results of all shards, merged and judged as one run."""

from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.judging.decide import conclude, decide
from plumbline.judging.evidence import Evidence, sharing_of
from plumbline.judging.shards import PACKAGE, Part, merge_shards
from plumbline.project import EXIT_INVALID, EXIT_REGRESSION
from plumbline.results.schema import Benchmark, BudgetResult, Kind, Reason, Results, Shard, TestOutcome
from plumbline.settings import GateSettings
from tests.support.report_samples import benchmark, results, unmeasured

A, B, C, D = KEYS = [f"test_a.py::test_{name}" for name in "abcd"]
HASH, BASE = "abc123", "0a1b2c, merge base"
ALLOWED: Kind = "unmeasured_allowed"


def part(number: int, *benchmarks: Benchmark, of: int = 2, keys: list[str] = KEYS, **fields: Any) -> Part:
    """Return a shard that ran these benchmarks, judged as `ci` does. It left the other keys to other shards."""
    shard = Shard(
        number,
        of,
        fields.pop("settings", HASH),
        keys=keys,
        absent=fields.pop("absent", []),
        proposed=fields.pop("proposed", True),
        divided_by=fields.pop("by", "a.json"),
    )
    of_machine = {name: fields.pop(name) for name in ("commit", "cpu", "packages") if name in fields}
    left_out = [key for key in keys if key not in [one.key for one in benchmarks]]
    run = results(*benchmarks, **{"deselected": left_out, "base": BASE, "exit_code": None, "shard": shard} | fields)
    warnings, reasons = ([one for one in run.reasons if (one.kind == ALLOWED) == allowed] for allowed in (True, False))
    run = replace(run, reasons=reasons, environment=replace(run.environment, **of_machine))
    return Part(f"s{number}", conclude(run, warnings, []), shard)


def merged(*parts: Part, unreadable: tuple[str, ...] = (), fail_on: tuple[str, ...] = ()) -> Results:
    return merge_shards(parts, unreadable, settings_hash=HASH, fail_on=fail_on)


def kinds(run: Results) -> list[Kind]:
    return [reason.kind for reason in run.reasons]


FAILED = TestOutcome(C, "failed", 0.1)
BROKEN = BudgetResult("p95_ms", 2.0, 2.434, kept=False)


@pytest.mark.parametrize(
    ("others", "fields", "verdict", "code", "found"),
    [
        ([benchmark(C), benchmark(D)], {}, "pass", 0, ["within_limits"]),
        ([benchmark(C, "regression"), benchmark(D)], {}, "regression", 1, ["slower_than_base"]),
        ([benchmark(C, budgets=[BROKEN]), benchmark(D)], {}, "regression", 1, ["budgets_broken"]),
        ([benchmark(C, "inconclusive"), benchmark(D)], {}, "inconclusive", 4, ["benchmarks_inconclusive"]),
        ([benchmark(C, "drift"), benchmark(D)], {}, "drift", 0, ["drifted"]),
        ([benchmark(C), benchmark(D)], {"reasons": ["it died"]}, "invalid", 3, ["ended"]),
        ([benchmark(C, "invalid"), benchmark(D)], {}, "invalid", 3, ["benchmarks_invalid"]),
        ([benchmark(C), benchmark(D)], {"absent": [unmeasured("b.py::b")]}, "invalid", 3, ["benchmarks_missing"]),
        ([], {"tests": [FAILED, TestOutcome(D, "passed", 0.1)]}, "regression", 1, ["tests_failed"]),
    ],
)
def test_the_verdict_is_that_of_one_run(
    others: list[Benchmark], fields: dict[str, Any], verdict: str, code: int, found: list[Kind]
) -> None:
    """The second shard, which differs, decides over the passing first one."""
    run = merged(part(1, benchmark(A), benchmark(B)), part(2, *others, **fields), fail_on=("inconclusive",))
    assert (run.verdict, run.exit_code, kinds(run)) == (verdict, code, found)
    assert run.shard is None
    assert [one.key for one in run.benchmarks][:2] == [A, B]
    assert len(run.tests) == 2 + len(fields.get("tests", others))


def test_what_ended_one_shard_names_it() -> None:
    """A reason that all shards have does not."""
    run = merged(
        part(1, benchmark(A), benchmark(B), reasons=["no base"]),
        part(2, benchmark(C), benchmark(D), reasons=["no base", "it died"]),
    )
    assert run.reasons == [Reason("ended", "no base"), Reason("ended", "shard 2: it died")]


def test_a_shard_that_ended_before_it_was_judged() -> None:
    """It knows neither its tests nor whether the change is proposed, which is no difference."""
    for keys in (KEYS, []):
        ended = part(
            2, keys=keys, deselected=[A, B], proposed=False, base="", baseline="", reasons=["it died"], tests=[]
        )
        assert kinds(merged(FIRST, ended)) == ["ended"]


def test_allowed_gaps_stay_warnings() -> None:
    """The keys of all shards are in one reason, before the verdict's own."""
    gaps = [Reason(ALLOWED, subjects=[key]) for key in (A, C)]
    run = merged(
        part(1, benchmark(A), benchmark(B), reasons=gaps[:1]), part(2, benchmark(C), benchmark(D), reasons=gaps[1:])
    )
    assert run.verdict == "pass"
    assert run.reasons[0] == Reason(ALLOWED, subjects=[A, C])


def test_a_renamed_benchmark_is_not_missing() -> None:
    """The shard that runs it knows its old name. The other one finds that name in the baseline only."""
    gone = part(1, benchmark(A), benchmark(B), absent=[unmeasured("old.py::c")])
    assert merged(gone, part(2, benchmark(C, renamed_from="old.py::c"), benchmark(D))).verdict == "pass"
    assert kinds(merged(gone, part(2, benchmark(C), benchmark(D)))) == ["benchmarks_missing"]


def test_a_shard_leaves_what_is_missing_to_the_whole() -> None:
    """A shard without a benchmark passes, and does not judge what the baseline has besides."""
    record = replace(
        results(tests=[]), shard=Shard(1, 2, HASH, keys=KEYS), collected_files=["test_a.py"], deselected=KEYS
    )
    baseline = results(benchmark("test_a.py::test_gone"))
    found = decide(record, Evidence(baseline=baseline, comparison_required=True), GateSettings())
    assert (found.verdict, found.exit_code, found.benchmarks) == ("pass", 0, [])
    assert found.shard is not None
    assert found.shard.proposed
    assert [one.key for one in found.shard.absent] == ["test_a.py::test_gone"]
    assert kinds(merged(Part("s1", found, replace(found.shard, of=1, keys=[])))) == [
        "nothing_measured",
        "benchmarks_missing",
    ]


FIRST, SECOND = part(1, benchmark(A), benchmark(B)), part(2, benchmark(C), benchmark(D))


def second(*others: Benchmark, **fields: Any) -> list[Part]:
    """Return the first shard and another one that belongs to another run."""
    return [FIRST, part(2, *(others or [benchmark(C), benchmark(D)]), **fields)]


@pytest.mark.parametrize(
    ("parts", "kind", "said"),
    [
        ([FIRST], "shard_missing", "2 of 2"),
        ([FIRST, FIRST, SECOND], "shard_twice", "s1"),
        (second(of=3), "shards_differ", "the number of shards: 2 (shard 1), 3 (shard 2)"),
        (second(commit="9999"), "shards_differ", "commits: 0f1e2d3 (shard 1), 9999 (shard 2)"),
        (second(base="99"), "shards_differ", f"base commits: {BASE} (shard 1), 99 (shard 2)"),
        (second(settings="other"), "shards_differ", "settings.toml: abc123 (shard 1), other (shard 2)"),
        (second(packages={PACKAGE: "0.1"}), "shards_differ", "versions of Plumbline: none (shard 1), 0.1 (shard 2)"),
        (second(proposed=False), "shards_differ", "whether it is a proposed change: yes (shard 1), no (shard 2)"),
        (second(by=""), "shards_differ", "durations that divide them: a.json (shard 1), none (shard 2)"),
        (second(profile="full"), "shards_differ", "profiles: ci (shard 1), full (shard 2)"),
        (second(benchmark(C), keys=KEYS[:3]), "shards_differ", f"tests of the whole run: 4 with {D} (shard 1), 3"),
        (second(benchmark(B), benchmark(C)), "shards_differ", "2 of their tests ran in no shard or in several"),
    ],
)  # fmt: skip
def test_shards_that_are_not_one_run(parts: list[Part], kind: Kind, said: str) -> None:
    """The whole is invalid, although each shard passed, and the reason says what is wrong."""
    assert all(one.results.verdict == "pass" for one in parts)
    run = merged(*parts)
    assert (run.verdict, run.exit_code) == ("invalid", EXIT_INVALID)
    [reason] = [one for one in run.reasons if one.kind == kind]
    assert said in f"{reason.detail} {reason.subjects}"


@pytest.mark.parametrize(("keys", "said"), [(KEYS, "2 of their tests ran in no shard"), ([], "4 with")])
def test_a_shard_that_ran_none_of_its_tests(keys: list[str], said: str) -> None:
    """Pytest only listed them, for example. Neither this shard nor the whole passes."""
    listed = part(2, keys=keys, deselected=[A, B], tests=[])
    assert kinds(listed.results) == ["nothing_measured"]
    assert listed.results.exit_code == EXIT_INVALID
    run = merged(FIRST, listed)
    assert kinds(run) == ["shards_differ"]
    assert said in run.reasons[0].detail


def test_other_settings_than_those_of_the_shards() -> None:
    """`fail_on` of the merge comes from settings that must be those of the shards."""
    run = merge_shards([FIRST, SECOND], [], settings_hash="other", fail_on=[])
    assert [one.detail for one in run.reasons if one.kind == "shards_differ"] == [
        "settings.toml here is not theirs: check out their commit, 0f1e2d3"
    ]


def test_an_unreadable_shard_beside_a_regression() -> None:
    """The run is invalid, and still names the regression."""
    slower = part(1, benchmark(A, "regression"), benchmark(B))
    assert merged(slower, SECOND).exit_code == EXIT_REGRESSION
    run = merged(slower, unreadable=("s2/results.json is empty",))
    assert (run.verdict, run.exit_code) == ("invalid", EXIT_INVALID)
    assert kinds(run) == ["shard_unreadable", "shard_missing", "slower_than_base"]


def test_a_shard_without_a_base_compared_nothing() -> None:
    """It had no benchmark to compare. The base is that of the other one."""
    run = merged(part(1, benchmark(A), benchmark(B), base=""), SECOND)
    assert (run.verdict, run.base) == ("pass", SECOND.results.base)


def test_machines_of_several_kinds() -> None:
    """They are noted. The whole then counts as another kind of machine, so that no later run is judged by it."""
    run = merged(part(1, benchmark(A), benchmark(B), cpu="EPYC"), SECOND)
    assert run.verdict == "pass"
    assert run.environment.cpu == "EPYC + Xeon"
    assert "the shards had different CPUs: EPYC (shard 1), Xeon (shard 2)" in run.notes
    assert merged(FIRST, SECOND).environment == FIRST.results.environment


def test_all_tests_of_the_run_share_the_false_positives() -> None:
    """A shard of 2 of 4 tests allows each of them a quarter. It does not know which of the others are benchmarks."""
    assert sharing_of(FIRST.results) == 4
    assert sharing_of(replace(FIRST.results, shard=None)) == 2
