"""Error rates from recorded gates, pairs and replays."""

import math
import random

import pytest

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.schedule import PairedComparison
from plumbline.comparing.statistics.tails import Reading
from plumbline.selfcheck.findings import (
    Replay,
    bias_of,
    findings_of_placebos,
    replayed_gates,
    shares,
    slowed_gates,
    slowed_pairs,
    supported_effect,
    without_slow_down,
)
from plumbline.selfcheck.record import PlaceboGate, Recorded, Recording, Share, SlowedGate
from plumbline.settings import GateSettings
from tests.support.recordings import KEYS, LIMITS, recording


def test_replays_count_false_positives_and_what_is_caught() -> None:
    """On a quiet machine there are no false positives, and all slow-downs are detected and estimated well."""
    found = replayed_gates(recording(0.005), LIMITS, 60.0, times=60)
    assert found["suites with a false positive"] == Share(0, 60)
    assert found["suites invalid"] == Share(0, 60)
    assert found["10% slower, caught"] == Share(60, 60)
    assert found["5% slower, caught"].count > 55
    assert found["5% slower, read within 1.5 points"].count > 55


def test_live_gates_are_counted() -> None:
    """One of three gates is invalid, and one of two benchmarks fails in one of the others."""
    gates = [{}, {"a": "pass", "b": "regression"}, {"a": "pass", "b": "inconclusive"}]
    found = shares(gates)
    assert found == {
        "suites with a false positive": Share(1, 2),
        "benchmarks with a false positive": Share(1, 4),
        "benchmarks inconclusive": Share(1, 4),
        "suites invalid": Share(1, 3),
    }


def test_live_slow_downs_are_counted_by_size_and_place() -> None:
    """One is detected, one is not, one is in an invalid gate, and one could not be compared and does not count."""
    gates = [
        SlowedGate("a", 0.1, "block", {"a": "regression", "b": "pass"}, 0.1),
        SlowedGate("a", 0.1, "block", {}),
        SlowedGate("a", 0.05, "application", {"a": "inconclusive", "b": "regression"}, 0.04),
        SlowedGate("a", 0.05, "server", {"b": "pass"}),
    ]
    assert slowed_gates(Recording(sample_s={}, slowed=gates)) == {
        "10% slower in the timed block, caught": Share(1, 2),
        "5% slower in the application, caught": Share(0, 1),
        "other benchmarks with a false positive": Share(1, 3),
    }


def test_single_pairs_are_counted_by_size_and_place() -> None:
    """10 % reads 9 and 12 %, 5 % reads 5 %. Benchmarks without a slow-down do not count."""
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


LIMIT_S = 60.0


def replayed(stored: Recording, limit_s: float = LIMIT_S, **slow_down: float) -> PairedComparison | None:
    keys = {KEYS[int(name.removeprefix("test_"))]: share for name, share in slow_down.items()}
    return Replay(stored, random.Random(1)).gate(LIMITS, limit_s, keys)


def verdicts_of(found: PairedComparison | None) -> dict[str, str]:
    assert found is not None
    return {key: one.verdict for key, one in found.judgements.items()}


def test_pairs_without_a_difference_replay_to_passes() -> None:
    """With a spread of 0.5 % every benchmark passes."""
    assert set(verdicts_of(replayed(recording(0.005))).values()) == {"pass"}


def test_a_slow_down_replays_to_a_regression_of_that_benchmark_alone() -> None:
    """One of five benchmarks reads 10 %, the others 0."""
    verdicts = verdicts_of(replayed(recording(0.005), test_2=0.1))
    assert {key for key, verdict in verdicts.items() if verdict == "regression"} == {KEYS[2]}


def test_a_pair_is_replayed_without_the_slow_down_it_was_measured_with() -> None:
    """Each block and the mean are 10 % slower, all of it deliberately."""
    slower = math.log(1.1)
    pair = Recorded({"a": [slower] * 2, "b": [0.2]}, {"a": 0.1}, tails={"a": {"mean": Reading(slower, 0.1, 9)}})
    found = without_slow_down(Recording({}, [pair]))
    assert found["a"][0].blocks == pytest.approx([0.0, 0.0])
    assert found["a"][0].tails["mean"].difference == pytest.approx(0.0)
    assert found["b"] == [([0.2], {})]


def test_wrong_controls_make_a_replay_invalid() -> None:
    """The equal control reads 8 %, so there are no verdicts."""
    assert replayed(recording(0.01, control=0.08)) is None


def test_controls_are_replayed_with_as_many_blocks_as_in_a_gate() -> None:
    """The first block is disturbed, but the median of all blocks is right."""
    stored = recording(0.005)
    for pair in stored.pairs:
        for key, truth in CONTROLS.items():
            pair.block_differences[key] = [1.0, *[math.log1p(truth)] * 23]
    assert set(verdicts_of(replayed(stored)).values()) == {"pass"}


def test_without_time_for_a_pair_nothing_is_judged() -> None:
    """The clock of a replay is that of the recorded pairs."""
    assert verdicts_of(replayed(recording(0.01), 1.0)) == {}


def test_a_replay_takes_as_many_blocks_as_the_gate_would() -> None:
    """A noisy benchmark alone in its pairs needs many blocks, so it is drawn from the long pairs."""
    key = KEYS[0]
    short, long = Recorded({key: [0.2] * 4}), Recorded({key: [0.02, -0.02] * 32})
    controls = {key: [math.log1p(truth)] for key, truth in CONTROLS.items()}
    pairs = [Recorded(pair.block_differences | controls) for pair in (short, long) * 6]
    verdicts = verdicts_of(replayed(Recording({key: 1e-4}, pairs)))
    assert verdicts == {key: "pass"}


def test_a_few_long_pairs_are_not_taken_for_many() -> None:
    """Two slow long pairs, drawn repeatedly, would fail the benchmark. So it is drawn from short ones."""
    key = KEYS[0]
    slower, alike = Recorded({key: [0.08, 0.04] * 32}), Recorded({key: [0.02, -0.02, 0.03, -0.03]})
    controls = {key: [math.log1p(truth)] for key, truth in CONTROLS.items()}
    pairs = [Recorded(pair.block_differences | controls) for pair in (slower, slower, *[alike] * 12)]
    assert verdicts_of(replayed(Recording({key: 1e-4}, pairs))) == {key: "pass"}


def test_a_noisy_machine_supports_larger_effects_only() -> None:
    """A spread of 0.5 % supports 3 or 5 %, a spread of 8 % only much more."""
    quiet = supported_effect(recording(0.005), GateSettings(), times=40)
    noisy = supported_effect(recording(0.08), GateSettings(), times=40)
    assert quiet is not None
    assert quiet <= 0.05
    assert noisy is None or noisy >= 0.1


def test_the_bias_of_placebos_is_what_the_noise_of_pairs_does_not_explain() -> None:
    """One benchmark reads +2 % with one placebo and -2 % with another, in pairs whose spread is 1 %."""
    rng, biased, other = random.Random(1), KEYS[0], KEYS[1]
    pairs = [
        Recorded({biased: [read + rng.gauss(0, 0.01)], other: [rng.gauss(0, 0.01)]}, placebo=placebo)
        for placebo, read in (("edit", 0.02), ("imports", -0.02))
        for _ in range(200)
    ]
    found = bias_of(Recording(sample_s={}, pairs=pairs))
    assert found[biased] == pytest.approx(0.02, abs=0.002)
    assert found[other] == 0.0
    assert bias_of(Recording(sample_s={}, pairs=[Recorded({biased: [0.5]})])) == {}


def test_gates_with_a_placebo_are_counted_and_replayed() -> None:
    """A placebo that reads +10 % in one benchmark fails its gates, live and replayed. Another one does not."""
    quiet = recording(0.005)
    plain = [pair.block_differences for pair in quiet.pairs if not pair.slow_down]
    strange = [Recorded({**one, KEYS[0]: [block + 0.1 for block in one[KEYS[0]]]}, placebo="imports") for one in plain]
    alike = [Recorded(one, placebo="edit") for one in plain]
    gates = [PlaceboGate("imports", {KEYS[0]: "regression"}), PlaceboGate("edit", {KEYS[0]: "pass"})]
    whole = Recording(quiet.sample_s, [*quiet.pairs, *strange, *alike], placebos=gates)
    found = findings_of_placebos(whole, LIMITS, GateSettings()).placebos
    assert found == {
        "a function that nobody calls, live, failed": Share(0, 1),
        "a function that nobody calls, replayed, failed": Share(0, 300),
        "imports of modules that nobody uses, live, failed": Share(1, 1),
        "imports of modules that nobody uses, replayed, failed": Share(300, 300),
    }
