"""Error rates by recorded gates, pairs and replays."""

import math

from plumbline.selfcheck.findings import live_gates, replayed_gates, slowed_gates, slowed_pairs
from plumbline.selfcheck.recording import Recorded, Recording, Share, SlowedGate
from tests.support.recordings import LIMITS, recording


def test_replays_count_false_alarms_and_what_is_caught() -> None:
    """A quiet machine: none and all; what is read lies within 1.5 points of the truth."""
    found = replayed_gates(recording(0.005), LIMITS, 60.0, times=60)
    assert found["suites with a false alarm"] == Share(0, 60)
    assert found["suites invalid"] == Share(0, 60)
    assert found["10% slower, caught"] == Share(60, 60)
    assert found["5% slower, caught"].count > 55
    assert found["5% slower, read within 1.5 points"].count > 55


def test_live_gates_are_counted() -> None:
    """Of three gates one was invalid, and in one of the others one of two benchmarks failed."""
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
