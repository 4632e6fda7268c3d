"""Findings of a self-check: error rates by its recorded gates and pairs, and by gates that are replayed from the pairs.

The pairs hold the differences of their blocks, so that the judging code can run on them again. A replay draws pairs at
random, as if they had been measured in that order, takes as many blocks of each as it needs, and adds another slow-down
than the one they were measured with.
"""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from plumbline.comparing.statistics.inference import ComparisonInvalid, blocks_of, difference
from plumbline.comparing.statistics.plan import CONTROLS, LEAST_BLOCKS, BenchmarkPlan, Pair, expected_s
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.selfcheck.record import LIVE_SIZES, PLACES, SIZES, Findings, Recording, Share, verdicts_of
from plumbline.settings import GateSettings

REPLAYS = 1000
GOOD_ESTIMATE = 0.015  # a slow-down that is read is good within so much of the truth, as shares
READ_WITHIN = f"read within {GOOD_ESTIMATE * 100:g} points"
LEAST_DRAWN = 6  # recorded pairs that a benchmark's draws come from at least; their blocks are cut if need be
CANDIDATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)  # minimum effects that are tried for this machine


def findings_of(recording: Recording, thresholds: Mapping[str, Thresholds], gate: GateSettings) -> Findings:
    """Return everything that a recording shows."""
    has_pairs = bool(recording.pairs)
    return Findings(
        gates=shares(recording.gates),
        slowed=slowed_gates(recording),
        pairs=slowed_pairs(recording),
        replayed=replayed_gates(recording, thresholds, gate.duet_budget_s, times=REPLAYS) if has_pairs else {},
        minimum_effect=supported_effect(recording, gate, times=REPLAYS // 4) if has_pairs else None,
    )


def shares(gates: Sequence[Mapping[str, str]]) -> dict[str, Share]:
    """Return the shares of verdicts in gates without a change; a gate without verdicts was invalid."""
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
            found[f"{size:.0%} slower {PLACES[where]}, {READ_WITHIN}"] = _close(changes, size, len(changes))
    return found


def replayed_gates(
    recording: Recording, thresholds: Mapping[str, Thresholds], budget_s: float, *, times: int, seed: int = 1
) -> dict[str, Share]:
    """Return the shares of false alarms and of caught slow-downs in gates that are replayed so many times each."""
    replay = Replay(recording, random.Random(seed))
    plans = [BenchmarkPlan(key, 0.0, thresholds[key]) for key in replay.keys]
    comparisons = [replay.gate(thresholds, budget_s) for _ in range(times)]
    found = shares([verdicts_of(comparison, plans) for comparison in comparisons])
    for size in SIZES[1:]:
        judgements = replay.slowed(thresholds, budget_s, size, times)
        failed = sum(one.verdict == "regression" for one in judgements)
        found[f"{size:.0%} slower, caught"] = Share(failed, times)
        found[f"{size:.0%} slower, {READ_WITHIN}"] = _close([one.change for one in judgements], size, times)
    return found


def _close(changes: Sequence[float], size: float, of: int) -> Share:
    return Share(sum(abs(change - size) <= GOOD_ESTIMATE for change in changes), of)


def report_lines(found: Findings, pairs: int, gate: GateSettings) -> Iterator[str]:
    """Yield the report of a self-check that has recorded so many pairs, line by line."""
    sections = {
        "live gates without a change, every benchmark compared": found.gates,
        "live gates with one benchmark slowed down": found.slowed,
        "single pairs with slow-downs": found.pairs,
        f"replayed {REPLAYS:,} times from {pairs} pairs": found.replayed,
    }
    for title, section in sections.items():
        if section:
            yield f"{title}:"
            yield from (f"  {name}: {share}" for name, share in section.items())
    if found.replayed:
        yield "  (these intervals do not cover how other pairs would differ from the recorded ones)"
    effect = f"{found.minimum_effect:.1%}" if found.minimum_effect else f"none up to {CANDIDATES[-1]:.0%}"
    yield f"minimum_effect that is caught with a power of {gate.power:.0%} here: {effect}"


class Replay:
    """Gates on the pairs of a recording, drawn at random."""

    def __init__(self, recording: Recording, rng: random.Random) -> None:
        self._recording = recording
        self._recorded = without_slow_down(recording)
        self._rng = rng
        # Two long pairs that came again and again would be taken for many that agree: LEAST_DRAWN have as many blocks.
        self._most = {key: sorted(map(blocks_of, pairs))[-LEAST_DRAWN:][0] for key, pairs in self._recorded.items()}
        self.keys = [key for key in recording.sample_s if key in self._recorded]

    def gate(
        self, thresholds: Mapping[str, Thresholds], budget_s: float, slow_down: Mapping[str, float] = {}
    ) -> PairedComparison | None:
        """Return one gate in which head is slower by these shares; None if it is invalid."""
        plans = [BenchmarkPlan(key, self._recording.sample_s[key], thresholds[key]) for key in self.keys]
        left: defaultdict[str, list[list[float]]] = defaultdict(list)
        elapsed_s = 0.0

        def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
            del then
            nonlocal elapsed_s
            elapsed_s += self._recording.time_factor * expected_s(chosen)
            found = {}
            for key, blocks in [*dict.fromkeys(CONTROLS, LEAST_BLOCKS).items(), *((p.key, p.blocks) for p in chosen)]:
                slower = math.log1p(slow_down.get(key, 0.0))
                found[key] = [block + slower for block in self._draw(left[key], key, blocks)]
            return Pair(found)

        try:
            return conduct(plans, run_pair, budget_s=budget_s, clock=lambda: elapsed_s)
        except ComparisonInvalid:
            return None

    def slowed(self, thresholds: Mapping[str, Thresholds], budget_s: float, size: float, times: int) -> list[Judgement]:
        """Return the judgements of a benchmark that is slower by `size` in each of so many gates, if it was judged."""
        found = []
        for _ in range(times):
            key = self._rng.choice(self.keys)
            comparison = self.gate(thresholds, budget_s, {key: size})
            found += [comparison.judgements[key]] if comparison and key in comparison.judgements else []
        return found

    def _draw(self, left: list[list[float]], key: str, blocks: int) -> list[float]:
        """Return the differences of so many blocks of a recorded pair; each pair comes once before any comes again."""
        blocks = min(blocks, self._most[key])
        while True:
            if not left:
                left += self._rng.sample(self._recorded[key], len(self._recorded[key]))
            if blocks_of(drawn := left.pop()) >= blocks:
                return drawn[: 2 * blocks - 1]


def without_slow_down(recording: Recording) -> dict[str, list[list[float]]]:
    """Return the differences of each recorded pair's blocks, by key, without the deliberate slow-downs."""
    found: dict[str, list[list[float]]] = {}
    for pair in recording.pairs:
        for key, blocks in pair.block_differences.items():
            slow_down = math.log1p(pair.slow_down.get(key, 0.0))
            found.setdefault(key, []).append([block - slow_down for block in blocks])
    return found


def supported_effect(recording: Recording, gate: GateSettings, *, times: int, seed: int = 2) -> float | None:
    """Return the least of CANDIDATES that fails with the wanted power if it is the minimum effect; None: not one."""
    replay = Replay(recording, random.Random(seed))
    for size in CANDIDATES:
        limits = Thresholds(min(gate.tolerance, size * 0.4), size, gate.false_alarms, gate.power)
        judgements = replay.slowed(dict.fromkeys(replay.keys, limits), gate.duet_budget_s, size, times)
        if sum(one.verdict == "regression" for one in judgements) >= gate.power * times:
            return size
    return None
