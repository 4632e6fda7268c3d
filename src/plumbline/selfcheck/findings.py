"""Findings of a self-check: error rates by its recorded gates, pairs and replays."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from plumbline.comparing.statistics.inference import difference
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.judging.thresholds import Thresholds
from plumbline.selfcheck.recording import LIVE_SIZES, PLACES, SIZES, Findings, Recording, Share, verdicts_of
from plumbline.selfcheck.replay import CANDIDATES, Replay, count_failed, supported_effect
from plumbline.settings import GateSettings

REPLAYS = 1000
# A slow-down that is read is good within so much of the truth, as shares.
GOOD_ESTIMATE = 0.015
READ_WITHIN = f"read within {GOOD_ESTIMATE * 100:g} points"


def with_findings(recording: Recording, thresholds: Mapping[str, Thresholds], gate: GateSettings) -> Recording:
    """Return a recording with everything that it shows."""
    has_pairs = bool(recording.pairs)
    findings = Findings(
        gates=live_gates(recording),
        slowed=slowed_gates(recording),
        pairs=slowed_pairs(recording),
        replayed=replayed_gates(recording, thresholds, gate.duet_budget_s, times=REPLAYS) if has_pairs else {},
        minimum_effect=supported_effect(recording, gate, times=REPLAYS // 4) if has_pairs else None,
    )
    return msgspec.structs.replace(recording, findings=findings)


def live_gates(recording: Recording) -> dict[str, Share]:
    """Return the shares of verdicts in live gates without a change."""
    return _shares(recording.gates)


def _shares(gates: Sequence[Mapping[str, str]]) -> dict[str, Share]:
    """Count verdicts of gates without a change; a gate without verdicts was invalid."""
    valid = [gate for gate in gates if gate]
    verdicts = [one for gate in valid for one in gate.values()]
    return {
        "suites with a false alarm": Share(sum("regression" in gate.values() for gate in valid), len(valid)),
        "benchmarks with a false alarm": Share(verdicts.count("regression"), len(verdicts)),
        "benchmarks inconclusive": Share(verdicts.count("inconclusive"), len(verdicts)),
        "suites invalid": Share(len(gates) - len(valid), len(gates)),
    }


def slowed_gates(recording: Recording) -> dict[str, Share]:
    """Return how many live gates with a slow-down caught it; an invalid gate has caught nothing."""
    found = {}
    for size, where in itertools.product(LIVE_SIZES, PLACES):
        gates = [one for one in recording.slowed if (one.size, one.where) == (size, where)]
        # A benchmark that could not be compared was not slowed down either.
        verdicts = [one.verdicts.get(one.key) for one in gates if one.key in one.verdicts or not one.verdicts]
        if verdicts:
            found[f"{size:.0%} slower {PLACES[where]}, caught"] = Share(verdicts.count("regression"), len(verdicts))
    if found:
        others = [verdict for gate in recording.slowed for key, verdict in gate.verdicts.items() if key != gate.key]
        found["other benchmarks with a false alarm"] = Share(others.count("regression"), len(others))
    return found


def slowed_pairs(recording: Recording) -> dict[str, Share]:
    """Return how well single pairs read their slow-downs; a gate takes the mean of several."""
    found = {}
    for size, where in itertools.product(SIZES[1:], PLACES):
        changes = [
            math.expm1(difference(pair.block_differences[key]))
            for pair in recording.pairs
            for key, slow_down in pair.slow_down.items()
            if (slow_down, pair.where) == (size, where) and key in pair.block_differences
        ]
        if changes:
            close = _count_close(changes, size)
            found[f"{size:.0%} slower {PLACES[where]}, {READ_WITHIN}"] = Share(close, len(changes))
    return found


def replayed_gates(
    recording: Recording, thresholds: Mapping[str, Thresholds], budget_s: float, *, times: int, seed: int = 1
) -> dict[str, Share]:
    """Return the shares of false alarms and of caught slow-downs in gates that are replayed so many times each."""
    replay = Replay(recording, random.Random(seed))
    plans = [BenchmarkPlan(key, 0.0, thresholds[key]) for key in replay.keys]
    comparisons = [replay.gate(thresholds, budget_s) for _ in range(times)]
    found = _shares([verdicts_of(comparison, plans) for comparison in comparisons])
    for size in SIZES[1:]:
        judgements = replay.slowed(thresholds, budget_s, size, times)
        found[f"{size:.0%} slower, caught"] = Share(count_failed(judgements), times)
        close = _count_close([one.change for one in judgements], size)
        found[f"{size:.0%} slower, {READ_WITHIN}"] = Share(close, times)
    return found


def _count_close(changes: Sequence[float], size: float) -> int:
    return sum(abs(change - size) <= GOOD_ESTIMATE for change in changes)


def report_lines(recording: Recording, gate: GateSettings) -> Iterator[str]:
    """Yield the report of a self-check with findings, line by line."""
    found = recording.findings
    assert found is not None
    sections = {
        "live gates without a change, every benchmark compared": found.gates,
        "live gates with one benchmark slowed down": found.slowed,
        "single pairs with slow-downs": found.pairs,
        f"replayed {REPLAYS:,} times from {len(recording.pairs)} pairs": found.replayed,
    }
    for title, shares in sections.items():
        if shares:
            yield f"{title}:"
            yield from (f"  {name}: {share}" for name, share in shares.items())
    if found.replayed:
        yield "  (these intervals do not cover how other pairs would differ from the recorded ones)"
    effect = f"{found.minimum_effect:.1%}" if found.minimum_effect else f"none up to {CANDIDATES[-1]:.0%}"
    yield f"minimum_effect that is caught with a power of {gate.power:.0%} here: {effect}"
