"""Replay gates from recorded pairs: pure functions of data.

The pairs hold the differences of their blocks, so that the judging code can run on them again. A replay draws pairs at
random, as if they had been measured in that order, takes as many blocks of each as it needs, and adds another slow-down
than the one they were measured with.
"""

import math
import random
from collections.abc import Mapping, Sequence

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.inference import ComparisonInvalid, blocks_of
from plumbline.comparing.statistics.plan import LEAST_BLOCKS, BenchmarkPlan, Pair, expected_s
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.judging.thresholds import Judgement, Thresholds
from plumbline.selfcheck.recording import Recording
from plumbline.settings import GateSettings

# Recorded pairs that a benchmark's draws come from at least; their blocks are cut if need be.
LEAST_DRAWN = 6
# Minimum effects that are tried for what this machine supports.
CANDIDATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


class Replay:
    """Gates on the pairs of a recording, drawn at random."""

    def __init__(self, recording: Recording, rng: random.Random) -> None:
        self._recording = recording
        self._recorded = without_slow_down(recording)
        self._rng = rng
        self.keys = [key for key in recording.sample_s if key in self._recorded]

    def gate(
        self, thresholds: Mapping[str, Thresholds], budget_s: float, slow_down: Mapping[str, float] = {}
    ) -> PairedComparison | None:
        """Return one gate in which head is slower by these shares; None if it is invalid."""
        plans = [BenchmarkPlan(key, self._recording.sample_s[key], thresholds[key]) for key in self.keys]
        decks: dict[str, _Deck] = {}
        elapsed_s = 0.0

        def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
            del then
            nonlocal elapsed_s
            elapsed_s += self._recording.time_factor * expected_s(chosen)
            found = {}
            for key, blocks in [*dict.fromkeys(CONTROLS, LEAST_BLOCKS).items(), *((p.key, p.blocks) for p in chosen)]:
                if key not in decks:
                    decks[key] = _Deck(self._recorded[key], self._rng)
                slower = math.log1p(slow_down.get(key, 0.0))
                found[key] = [block + slower for block in decks[key].draw(blocks)]
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


def without_slow_down(recording: Recording) -> dict[str, list[list[float]]]:
    """Return the differences of each recorded pair's blocks, by key, without the deliberate slow-downs."""
    found: dict[str, list[list[float]]] = {}
    for pair in recording.pairs:
        for key, blocks in pair.block_differences.items():
            slow_down = math.log1p(pair.slow_down.get(key, 0.0))
            found.setdefault(key, []).append([block - slow_down for block in blocks])
    return found


class _Deck:
    """Recorded pairs of one benchmark, drawn in random order, each once before any comes again.

    Two long pairs that came again and again would be taken for many that agree: so at least LEAST_DRAWN are used.
    """

    def __init__(self, pairs: Sequence[Sequence[float]], rng: random.Random) -> None:
        self._pairs = pairs
        self._rng = rng
        self._most_blocks = sorted(map(blocks_of, pairs))[-LEAST_DRAWN:][0]
        self._left: list[Sequence[float]] = []

    def draw(self, blocks: int) -> Sequence[float]:
        """Return the differences of so many blocks of a pair, or of as many as enough pairs have."""
        blocks = min(blocks, self._most_blocks)
        while True:
            if not self._left:
                self._left = self._rng.sample(self._pairs, len(self._pairs))
            if blocks_of(drawn := self._left.pop()) >= blocks:
                return drawn[: 2 * blocks - 1]


def count_failed(judgements: Sequence[Judgement]) -> int:
    return sum(one.verdict == "regression" for one in judgements)


def supported_effect(recording: Recording, gate: GateSettings, *, times: int, seed: int = 2) -> float | None:
    """Return the least of CANDIDATES that fails with the wanted power if it is the minimum effect; None: not one."""
    replay = Replay(recording, random.Random(seed))
    for size in CANDIDATES:
        limits = Thresholds(min(gate.tolerance, size * 0.4), size, gate.false_alarms, gate.power)
        judgements = replay.slowed(dict.fromkeys(replay.keys, limits), gate.duet_budget_s, size, times)
        if count_failed(judgements) >= gate.power * times:
            return size
    return None
