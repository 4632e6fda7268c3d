"""What the self-check has recorded, and what that says of the gate: pure functions of data.

The pairs are kept with the differences of their blocks, so that the code which judges can be run on them again: a
replay draws pairs at random, as if they had been measured in that order, of each as many blocks as it wants, and with
another slow-down than it was measured with.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.inference import ComparisonInvalid, blocks_of, difference
from plumbline.comparing.statistics.plan import LEAST_BLOCKS, BenchmarkPlan, Pair, Where, expected_s
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.judging.thresholds import Judgement, Thresholds
from plumbline.results.schema import write_whole
from plumbline.selfcheck.binomial import Share
from plumbline.settings import GateSettings

SIZES = (0.0, 0.03, 0.05, 0.1)
LIVE_SIZES = (0.1, 0.05)
REPLAYS = 1000
LEAST_DRAWN = 6
CANDIDATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Minimum effects that are tried for what this machine supports."""
GOOD_ESTIMATE = 0.015
PLACES: dict[Where, str] = {
    "block": "in the timed block",
    "application": "in the application",
    "server": "in the server",
}


class Recorded(Struct):
    """One pair."""

    block_differences: dict[str, list[float]]
    """By how much head was slower, by each two neighbouring blocks, as logarithms, by key; the controls' as well."""
    slow_down: dict[str, float] = {}
    """By how much benchmarks were slowed down on purpose, where they were, as shares by key."""
    where: Where = "block"
    """They were slowed down in."""


class SlowedGate(Struct):
    """A live gate in which one benchmark was slowed down."""

    key: str
    size: float
    where: Where
    verdicts: dict[str, str]
    """By key; none where the gate was invalid."""
    change: float | None = None
    """What it read for the benchmark."""


class Findings(Struct):
    """What a recording says, by names for a report."""

    gates: dict[str, Share]
    """Live ones, without a change."""
    slowed: dict[str, Share]
    """Live ones, with a slow-down."""
    pairs: dict[str, Share]
    """Single ones, with a slow-down."""
    replayed: dict[str, Share]
    minimum_effect: float | None
    """The least that this machine supports; None: none of CANDIDATES."""


class Recording(Struct):
    """Pairs of one machine."""

    sample_s: dict[str, float]
    """What a sample takes, about, by key of the benchmark."""
    pairs: list[Recorded] = []
    gates: list[dict[str, str]] = []
    """Verdicts of the live gates without a change, by key; a gate without verdicts was invalid."""
    slowed: list[SlowedGate] = []
    time_factor: float = field(default=1.0, name="pace")
    """What the pairs of the gates without a change took, over the estimate."""
    findings: Findings | None = None


def verdicts_of(comparison: PairedComparison | None, plans: Sequence[BenchmarkPlan]) -> dict[str, str]:
    """By key; none of a gate that was invalid."""
    if comparison is None:
        return {}
    judged = {key: str(one.verdict) for key, one in comparison.judgements.items()}
    return {plan.key: judged.get(plan.key, "inconclusive") for plan in plans if plan.key not in comparison.failures}


def replay(
    recording: Recording,
    recorded: Mapping[str, Sequence[Sequence[float]]],
    thresholds: Mapping[str, Thresholds],
    budget_s: float,
    rng: random.Random,
    slow_down: Mapping[str, float] = {},
) -> PairedComparison | None:
    """One gate on recorded pairs, in random order, where head is slower by these shares; None where it is invalid."""
    plans = [
        BenchmarkPlan(key, sample_s, thresholds[key]) for key, sample_s in recording.sample_s.items() if key in recorded
    ]
    decks: dict[str, _Deck] = {}
    elapsed_s = 0.0

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        nonlocal elapsed_s
        elapsed_s += recording.time_factor * expected_s(chosen)
        pair = Pair()
        for key, blocks in [*((key, LEAST_BLOCKS) for key in CONTROLS), *((plan.key, plan.blocks) for plan in chosen)]:
            if key not in decks:
                decks[key] = _Deck(recorded[key], rng)
            slower = math.log1p(slow_down.get(key, 0.0))
            drawn = decks[key].draw(blocks)
            pair.block_differences[key] = [block + slower for block in drawn]
        return pair

    try:
        return conduct(plans, run_pair, budget_s=budget_s, clock=lambda: elapsed_s)
    except ComparisonInvalid:
        return None


def without_slow_down(recording: Recording) -> dict[str, list[list[float]]]:
    """What each recorded pair read, block by block, by key, less what it was slowed down by on purpose."""
    found: dict[str, list[list[float]]] = {}
    for pair in recording.pairs:
        for key, blocks in pair.block_differences.items():
            slow_down = math.log1p(pair.slow_down.get(key, 0.0))
            found.setdefault(key, []).append([block - slow_down for block in blocks])
    return found


class _Deck:
    """Recorded pairs of one benchmark, drawn in random order, each once before any comes again.

    Two long pairs that come again and again would be taken for many that agree: there are LEAST_DRAWN at least, of
    fewer blocks where need be.
    """

    def __init__(self, pairs: Sequence[Sequence[float]], rng: random.Random) -> None:
        self._pairs = pairs
        self._rng = rng
        self._most_blocks = sorted(map(blocks_of, pairs))[-LEAST_DRAWN:][0]
        self._left: list[Sequence[float]] = []

    def draw(self, blocks: int) -> Sequence[float]:
        """The differences of so many blocks of a pair, or of as many as enough pairs have."""
        blocks = min(blocks, self._most_blocks)
        while True:
            if not self._left:
                self._left = self._rng.sample(self._pairs, len(self._pairs))
            if blocks_of(drawn := self._left.pop()) >= blocks:
                return drawn[: 2 * blocks - 1]


def replay_many(
    recording: Recording, thresholds: Mapping[str, Thresholds], budget_s: float, *, seed: int = 1, times: int = REPLAYS
) -> dict[str, Share]:
    """What the recorded pairs say of false alarms and of what is seen, by names for a report."""
    rng = random.Random(seed)
    recorded = without_slow_down(recording)
    keys = [key for key in recording.sample_s if key in recorded]
    plans = [BenchmarkPlan(key, 0.0, thresholds[key]) for key in keys]
    comparisons = [replay(recording, recorded, thresholds, budget_s, rng) for _ in range(times)]
    found = _shares([verdicts_of(comparison, plans) for comparison in comparisons])
    for size in SIZES[1:]:
        judgements = _judgements(recording, recorded, thresholds, budget_s, rng, size, times)
        close = sum(abs(one.change - size) <= GOOD_ESTIMATE for one in judgements)
        found[f"{size:.0%} slower, caught"] = Share(_caught(judgements), times)
        found[f"{size:.0%} slower, read within {GOOD_ESTIMATE * 100:g} points"] = Share(close, times)
    return found


def _judgements(
    recording: Recording,
    recorded: Mapping[str, Sequence[Sequence[float]]],
    thresholds: Mapping[str, Thresholds],
    budget_s: float,
    rng: random.Random,
    size: float,
    times: int,
) -> list[Judgement]:
    """Of so many gates, in each of which one benchmark is slower; none where it was not judged."""
    found = []
    keys = [key for key in recording.sample_s if key in recorded]
    for _ in range(times):
        key = rng.choice(keys)
        comparison = replay(recording, recorded, thresholds, budget_s, rng, slow_down={key: size})
        found += [comparison.judgements[key]] if comparison and key in comparison.judgements else []
    return found


def _caught(judgements: Sequence[Judgement]) -> int:
    return sum(one.verdict == "regression" for one in judgements)


def supported_effect(
    recording: Recording, gate: GateSettings, *, seed: int = 2, times: int = REPLAYS // 4
) -> float | None:
    """The least of CANDIDATES that is caught with the wanted power where it is the minimum effect; None: not one."""
    rng = random.Random(seed)
    recorded = without_slow_down(recording)
    keys = [key for key in recording.sample_s if key in recorded]
    for size in CANDIDATES:
        limits = Thresholds(min(gate.tolerance, size * 0.4), size, gate.false_alarms, gate.power)
        thresholds = dict.fromkeys(keys, limits)
        judgements = _judgements(recording, recorded, thresholds, gate.duet_budget_s, rng, size, times)
        if _caught(judgements) >= gate.power * times:
            return size
    return None


def _share(gates: Sequence[Mapping[str, str]], verdict: str) -> Share:
    verdicts = [one for gate in gates for one in gate.values()]
    return Share(verdicts.count(verdict), len(verdicts))


def live_gates(recording: Recording) -> dict[str, Share]:
    """What the live gates without a change said."""
    return _shares(recording.gates)


def _shares(gates: Sequence[Mapping[str, str]]) -> dict[str, Share]:
    """Of gates without a change; one without verdicts was invalid."""
    valid = [gate for gate in gates if gate]
    return {
        "suites with a false alarm": Share(sum("regression" in gate.values() for gate in valid), len(valid)),
        "benchmarks with a false alarm": _share(valid, "regression"),
        "benchmarks inconclusive": _share(valid, "inconclusive"),
        "suites invalid": Share(len(gates) - len(valid), len(gates)),
    }


def slowed_gates(recording: Recording) -> dict[str, Share]:
    """What the live gates with a slow-down said; an invalid one has caught nothing."""
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
    """How well single pairs read their slow-downs, of which a gate takes the mean of several."""
    found = {}
    for size, where in itertools.product(SIZES[1:], PLACES):
        changes = [
            math.expm1(difference(pair.block_differences[key]))
            for pair in recording.pairs
            for key, slow_down in pair.slow_down.items()
            if (slow_down, pair.where) == (size, where) and key in pair.block_differences
        ]
        if changes:
            close = sum(abs(change - size) <= GOOD_ESTIMATE for change in changes)
            name = f"{size:.0%} slower {PLACES[where]}, read within {GOOD_ESTIMATE * 100:g} points"
            found[name] = Share(close, len(changes))
    return found


def findings(recording: Recording, thresholds: Mapping[str, Thresholds], gate: GateSettings) -> Findings:
    """All that is told of a recording."""
    return Findings(
        gates=live_gates(recording),
        slowed=slowed_gates(recording),
        pairs=slowed_pairs(recording),
        replayed=replay_many(recording, thresholds, gate.duet_budget_s) if recording.pairs else {},
        minimum_effect=supported_effect(recording, gate) if recording.pairs else None,
    )


def told(recording: Recording, found: Findings, gate: GateSettings) -> list[str]:
    """The whole self-check, line by line."""
    sections = {
        "live gates without a change, every benchmark tried": found.gates,
        "live gates with one benchmark slowed down": found.slowed,
        "single pairs with slow-downs": found.pairs,
        f"replayed {REPLAYS:,} times from {len(recording.pairs)} pairs": found.replayed,
    }
    lines = []
    for title, shares in sections.items():
        if shares:
            lines += [f"{title}:", *(f"  {name}: {share}" for name, share in shares.items())]
    if found.replayed:
        lines.append("  (as likely as in these pairs: how other pairs would differ, these intervals leave out)")
    effect = f"{found.minimum_effect:.1%}" if found.minimum_effect else f"none up to {CANDIDATES[-1]:.0%}"
    return [*lines, f"minimum_effect that is caught with a power of {gate.power:.0%} here: {effect}"]


def keep(recording: Recording, path: Path) -> None:
    """Store it, whole or not at all; raises ResultsError."""
    write_whole(path, msgspec.json.encode(recording).decode() + "\n")


def read_recording(path: Path) -> Recording:
    """Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Recording)
