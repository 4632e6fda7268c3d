"""The gate measured by itself: intervals, replays of recorded pairs, and a short run."""

import itertools
import math
import random
from pathlib import Path

import msgspec
import pytest

from plumbline.comparing.statistics.controls import CONTROLS, IN_SERVER
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.statistics.schedule import PairedComparison
from plumbline.judging.thresholds import Thresholds
from plumbline.results.schema import Benchmark, Environment, Results
from plumbline.selfcheck.binomial import Share
from plumbline.selfcheck.record import few_by_few, left_out, one_by_one, places
from plumbline.selfcheck.replay import (
    SIZES,
    Recorded,
    Recording,
    SlowedGate,
    live_gates,
    read_recording,
    replay,
    replay_many,
    slowed_gates,
    slowed_pairs,
    supported_effect,
    without_slow_down,
)
from plumbline.settings import GateSettings, Settings
from tests.support.project import SETTINGS, Project

KEYS = [f"test_it.py::test_{number}" for number in range(5)]
LIMITS = dict.fromkeys(KEYS, Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97))
BUDGET_S = 60.0
SHORT_BUDGET_S = 8
"""Of a gate of the session, which must be shorter than what is left of its time when the last one begins."""
MANY_REPLAYS = "REPLAYS = 1000\n"
AGAIN = f"""
from pathlib import Path

from plumbline.judging.thresholds import Thresholds
from plumbline.selfcheck.replay import findings, read_recording, told
from plumbline.settings import GateSettings

stored = read_recording(Path("perf-results/selfcheck.json"))
gate = GateSettings(duet_budget_s={SHORT_BUDGET_S})
limits = Thresholds(gate.tolerance, gate.minimum_effect, gate.false_alarms, gate.power)
found = findings(stored, dict.fromkeys(stored.sample_s, limits), gate)
print(found == stored.findings)
print("\\n".join(told(stored, found, gate)))
"""
"""What the session has stored is replayed in a process of its own."""


def recording(spread: float, *, control: float = 0.0, seed: int = 1) -> Recording:
    """40 pairs without a slow-down and 40 with each, all with this spread; the first control is off by `control`."""
    rng = random.Random(seed)

    def pair(slow_down: dict[str, float]) -> Recorded:
        blocks = {}
        for key in KEYS:
            process = math.log1p(slow_down.get(key, 0.0)) + rng.gauss(0, spread)
            blocks[key] = [process + rng.gauss(0, spread) for _ in range(64 if slow_down else 4)]
        for key, truth in CONTROLS.items():
            blocks[key] = [math.log1p(truth) + control + rng.gauss(0, 0.002)]
        return Recorded(blocks, {key: share for key, share in slow_down.items() if share})

    sizes = [{key: SIZES[(number + one) % 4] for one, key in enumerate(KEYS)} for number in range(160)]
    return Recording(sample_s=dict.fromkeys(KEYS, 1e-4), pairs=[*(pair({}) for _ in range(40)), *map(pair, sizes)])


def replayed(stored: Recording, budget_s: float = BUDGET_S, **slow_down: float) -> PairedComparison | None:
    keys = {KEYS[int(name.removeprefix("test_"))]: share for name, share in slow_down.items()}
    return replay(stored, without_slow_down(stored), LIMITS, budget_s, random.Random(1), keys)


def verdicts_of(found: PairedComparison | None) -> dict[str, str]:
    assert found is not None
    return {key: one.verdict for key, one in found.judgements.items()}


def test_a_share_says_what_it_means_in_the_long_run() -> None:
    """No false alarm in 30 gates is no proof of none."""
    assert str(Share(0, 30)) == "0 of 30 (0.0%; in the long run 0.0% to 11.6%)"


def test_pairs_without_a_difference_replay_to_passes() -> None:
    """A spread of 0.5 %: every benchmark is acquitted."""
    assert set(verdicts_of(replayed(recording(0.005))).values()) == {"pass"}


def test_a_slow_down_replays_to_a_regression_of_that_benchmark_alone() -> None:
    """One of five reads 10 %, the others nothing."""
    verdicts = verdicts_of(replayed(recording(0.005), test_2=0.1))
    assert {key for key, verdict in verdicts.items() if verdict == "regression"} == {KEYS[2]}


def test_a_pair_is_replayed_without_the_slow_down_it_was_measured_with() -> None:
    """10 % slower in each block, of which 10 % were on purpose."""
    pair = Recorded({"a": [math.log(1.1)] * 2, "b": [0.2]}, {"a": 0.1})
    assert without_slow_down(Recording({}, [pair])) == {"a": [pytest.approx([0.0, 0.0])], "b": [[0.2]]}


def test_controls_that_are_off_make_a_replay_invalid() -> None:
    """8 % where there is no difference: no verdict at all."""
    assert replayed(recording(0.01, control=0.08)) is None


def test_controls_are_replayed_with_as_many_blocks_as_in_a_gate() -> None:
    """The first block of each was disturbed: the median of all reads the truth."""
    stored = recording(0.005)
    for pair in stored.pairs:
        for key, truth in CONTROLS.items():
            pair.block_differences[key] = [1.0, *[math.log1p(truth)] * 23]
    assert set(verdicts_of(replayed(stored)).values()) == {"pass"}


def test_without_time_for_a_pair_nothing_is_judged() -> None:
    """The replay's clock is that of the recorded pairs."""
    assert verdicts_of(replayed(recording(0.01), 1.0)) == {}


def test_a_replay_takes_as_many_blocks_as_the_gate_would() -> None:
    """A noisy benchmark alone in its pairs has many blocks: it is read from the long pairs, not from the short ones."""
    key = KEYS[0]
    short, long = Recorded({key: [0.2] * 4}), Recorded({key: [0.02, -0.02] * 32})
    controls = {key: [math.log1p(truth)] for key, truth in CONTROLS.items()}
    pairs = [Recorded(pair.block_differences | controls) for pair in (short, long) * 6]
    verdicts = verdicts_of(replayed(Recording({key: 1e-4}, pairs)))
    assert verdicts == {key: "pass"}


def test_a_few_long_pairs_are_not_taken_for_many() -> None:
    """Two that happened to be slower would convict if they came again and again: short ones are read instead."""
    key = KEYS[0]
    slower, alike = Recorded({key: [0.08, 0.04] * 32}), Recorded({key: [0.02, -0.02, 0.03, -0.03]})
    controls = {key: [math.log1p(truth)] for key, truth in CONTROLS.items()}
    pairs = [Recorded(pair.block_differences | controls) for pair in (slower, slower, *[alike] * 12)]
    assert verdicts_of(replayed(Recording({key: 1e-4}, pairs))) == {key: "pass"}


def test_replays_count_false_alarms_and_what_is_caught() -> None:
    """A quiet machine: none and all; what is read lies within 1.5 points of the truth."""
    found = replay_many(recording(0.005), LIMITS, BUDGET_S, times=60)
    assert found["suites with a false alarm"] == Share(0, 60)
    assert found["suites invalid"] == Share(0, 60)
    assert found["10% slower, caught"] == Share(60, 60)
    assert found["5% slower, caught"].count > 55
    assert found["5% slower, read within 1.5 points"].count > 55


def test_a_noisy_machine_supports_larger_effects_only() -> None:
    """With 0.5 % of spread 3 or 5 % can be promised, with 8 % only much more."""
    quiet = supported_effect(recording(0.005), GateSettings(), times=40)
    noisy = supported_effect(recording(0.08), GateSettings(), times=40)
    assert quiet is not None
    assert quiet <= 0.05
    assert noisy is None or noisy >= 0.1


def test_live_gates_are_counted() -> None:
    """Of three gates one was invalid, and one convicted one of its two benchmarks."""
    gates = [{}, {"a": "pass", "b": "regression"}, {"a": "pass", "b": "inconclusive"}]
    found = live_gates(Recording(sample_s={}, gates=gates))
    assert found == {
        "suites with a false alarm": Share(1, 2),
        "benchmarks with a false alarm": Share(1, 4),
        "benchmarks inconclusive": Share(1, 4),
        "suites invalid": Share(1, 3),
    }


def test_live_slow_downs_are_counted_by_size_and_place() -> None:
    """One caught, one not, one in an invalid gate; one that could not be compared counts for nothing."""
    gates = [
        SlowedGate("a", 0.1, "block", {"a": "regression", "b": "pass"}, 0.1),
        SlowedGate("a", 0.1, "block", {}),
        SlowedGate("a", 0.05, "application", {"a": "inconclusive", "b": "regression"}, 0.04),
        SlowedGate("a", 0.05, "server", {"b": "pass"}),
    ]
    assert slowed_gates(Recording(sample_s={}, slowed=gates)) == {
        "10% slower in the timed block, caught": Share(1, 2),
        "5% slower in the application, caught": Share(0, 1),
        "other benchmarks with a false alarm": Share(1, 3),
    }


def test_single_pairs_are_counted_by_size_and_place() -> None:
    """10 % that read 9 and 12 %, and 5 % that read 5 %; what was not slowed down doesn't count."""
    pairs = [
        Recorded({"a": [math.log(1.09)], "b": [0.0]}, {"a": 0.1}),
        Recorded({"a": [math.log(1.12)], "b": [math.log(1.05)]}, {"a": 0.1, "b": 0.05, "failed": 0.1}),
        Recorded({"a": [math.log(1.05)]}, {"a": 0.05}, "server"),
    ]
    assert slowed_pairs(Recording(sample_s={}, pairs=pairs)) == {
        "5% slower in the timed block, read within 1.5 points": Share(1, 1),
        "5% slower in the server, read within 1.5 points": Share(1, 1),
        "10% slower in the timed block, read within 1.5 points": Share(1, 2),
    }


def test_time_is_added_where_it_is_known_what_it_adds() -> None:
    """Of three benchmarks one sends the application a request a sample, and one many at the same time."""
    one, many, none = KEYS[:3]
    counted = [(one, 1, {"app.messages": 2.0}), (many, 20, {"app.messages": 1.0}), (none, 1, {"redis.messages": 1.0})]
    benchmarks = [Benchmark(key, "s", None, 0.1, counts, operations=often) for key, often, counts in counted]
    plans = [BenchmarkPlan(key, 0.001, LIMITS[key]) for key in (one, many, none)]

    def found(**services: str) -> dict[str, list[str]]:
        environment = Environment("", "linux", "", "", 2, "", "", services, {}, None, "", False, {})
        slowed = places(Settings(), Results(1, None, environment, benchmarks), plans)
        assert len(slowed) + len(left_out(slowed)) == 3
        return {where: [plan.key for plan in chosen] for where, chosen in slowed.items()}

    block = {"block": [one, many, none]}
    assert found() == block
    assert found(app="external", postgres="external") == {**block, "server": [IN_SERVER]}
    assert found(app="process", postgres="docker") == {**block, "application": [one], "server": [IN_SERVER]}


def test_every_size_comes_in_every_place() -> None:
    """In whole gates one by one, in single pairs a few at a time."""
    plans = [BenchmarkPlan(key, 1e-4, LIMITS[key]) for key in KEYS]
    server = [BenchmarkPlan(IN_SERVER, 0.1, LIMITS[KEYS[0]], slowed_in="server")]
    whole = list(itertools.islice(one_by_one({"block": plans, "server": server}, random.Random(1)), 8))
    assert [(plan.slow_down, plan.slowed_in) for plan in whole] == [
        (0.1, "block"),
        (0.1, "server"),
        (0.05, "block"),
        (0.05, "server"),
        (0.1, "block"),
        (0.1, "server"),
        (0.1, "block"),
        (0.1, "server"),
    ]
    few = list(itertools.islice(few_by_few({"block": plans, "server": server}), 12))
    assert [len(chosen) for chosen in few[:4]] == [5, 5, 1, 5]
    for chosen, sizes in ((plans, SIZES), (server, SIZES[1:])):
        seen = {(plan.key, plan.slow_down) for group in few for plan in group}
        assert {(plan.key, size) for plan in chosen for size in sizes} <= seen


def test_the_session_measures_the_gate_and_keeps_its_pairs(environments: Path, tmp_path: Path) -> None:
    """A short one: what it prints comes from pairs that are stored, and replaying them prints the same shares."""
    project = Project.create(tmp_path / "project", environments)
    project.write("settings.toml", f"{SETTINGS}duet_budget_s = {SHORT_BUDGET_S}\n")
    replays = project.suite / "harness" / "replay.py"
    text = replays.read_text(encoding="utf-8")
    assert MANY_REPLAYS in text
    replays.write_text(text.replace(MANY_REPLAYS, "REPLAYS = 40\n"), encoding="utf-8")
    project.git("init", "--quiet")
    project.commit()
    done = project.nox("selfcheck", "--minutes=0.45", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.code == 0, done.output
    stored = read_recording(project.root / "perf-results" / "selfcheck.json")
    assert stored.gates
    assert stored.slowed
    assert "no slow-down in the application: " in done.output
    assert "no slow-down in the server: there is no PostgreSQL" in done.output
    assert any(pair.slow_down for pair in stored.pairs)
    assert all(CONTROLS.keys() < pair.block_differences.keys() for pair in stored.pairs)
    assert set().union(*(pair.block_differences for pair in stored.pairs)) == {*CONTROLS, *stored.sample_s}
    assert "live gates without a change" in done.output
    assert "minimum_effect that is caught" in done.output
    again = project.python("-c", AGAIN)
    assert again.code == 0, again.output
    same, _, told = again.output.partition("\n")
    assert same == "True"
    assert told.strip() in done.output
    assert not list((tmp_path / "cache" / "plumbline" / "sides").glob("twins-*"))


def test_a_budget_too_short_for_a_pair_is_said(project: Project) -> None:
    """Rather than gates without end in which nothing is measured."""
    project.write("settings.toml", f"{SETTINGS}duet_budget_s = 1\n")
    project.git("init", "--quiet")
    done = project.nox("selfcheck", "--minutes=0.45", XDG_CACHE_HOME=str(project.root.parent / "cache"))
    assert done.code == 3, done.output
    assert "duet_budget_s of [gate] in settings.toml (1 s) is too short for a single pair: raise it" in done.output


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All its pairs."""
    path = tmp_path / "selfcheck.json"
    path.write_bytes(msgspec.json.encode(recording(0.01)))
    assert read_recording(path) == recording(0.01)
