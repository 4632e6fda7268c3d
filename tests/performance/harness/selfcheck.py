"""The gate measured by itself, on this machine: false alarms without a change, and what it sees of slow-downs.

Both arms are copies of the same tree. In one kind of pair nothing differs; in the other each benchmark is slowed down
in head by one of SIZES, inside its timed block. All pairs are recorded, so that the code which judges can be run on
them again: a replay draws pairs at random, as if they had been measured in that order.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from .arms import Arms
from .duet import CONTROLS, PAIR_OVERHEAD_S, Pair, RunPair, Trial, Wish, both_arms, conduct
from .pairs import Thresholds, TrialInvalid
from .results import write_whole
from .settings import GateSettings, Settings

SIZES = (0.03, 0.05, 0.1)
REPLAYS = 1000
CONFIDENCE = 0.95
CANDIDATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Minimum effects that are tried for what this machine supports."""
SHARE_OF_GATES = 0.5
"""Of the time, for live gates without a change; the rest is for pairs with slow-downs."""


class SlowedPair(Struct):
    """What a pair read of benchmarks that were slowed down on purpose, by key."""

    slow_down: dict[str, float]
    differences: dict[str, float]


class Recording(Struct):
    """Pairs of one machine, by key of the benchmark; differences are logarithms."""

    sample_s: dict[str, float]
    """What a sample takes, about."""
    alike: list[dict[str, float]] = []
    slowed: list[SlowedPair] = []
    gates: list[dict[str, str]] = []
    """Verdicts of the live gates without a change, by key; a gate without verdicts was invalid."""
    pair_s: list[float] = []
    """How long each pair of all benchmarks took."""


class Share(Struct):
    """So many of so many, and what that says of the long run: the exact binomial interval."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 % (Clopper and Pearson 1934, Biometrika 26:404)."""
        return binomial_interval(self.count, self.of)

    def __str__(self) -> str:
        low, high = self.interval
        share = self.count / self.of if self.of else 0.0
        return f"{self.count:,} of {self.of:,} ({share:.1%}; in the long run {low:.1%} to {high:.1%})"


def record(
    settings: Settings,
    arms: Arms,
    wishes: Sequence[Wish],
    *,
    backends: Mapping[str, str],
    limit_s: float,
    into: Recording,
    keep: Callable[[Recording], None],
    say: Callable[[str], None],
) -> None:
    """Measure for so long: live gates first, then pairs with slow-downs. `keep` is called after each, to store it.

    `arms` are alike. Raises TrialInvalid where an arm dies; a gate whose controls are off is recorded as invalid.
    """
    began_s = time.monotonic()
    with both_arms(settings, arms, wishes, "ci", backends) as run_pair:

        def recorded(chosen: Sequence[Wish]) -> Pair:
            pair_began_s = time.monotonic()
            pair: Pair = run_pair(chosen)
            into.alike.append(pair.differences)
            if len(chosen) == len(wishes):
                into.pair_s.append(time.monotonic() - pair_began_s)
            return pair

        while time.monotonic() - began_s < limit_s * SHARE_OF_GATES:
            into.gates.append(_gate(wishes, recorded, settings.gate.duet_budget_s))
            keep(into)
            say(f"  gate {len(into.gates)}: {_told(into.gates[-1])}")
        pairs = 0
        while time.monotonic() - began_s < limit_s:
            slow_down = {wish.key: SIZES[(number + pairs) % len(SIZES)] for number, wish in enumerate(wishes)}
            pair = run_pair(wishes, slow_down)
            into.slowed.append(SlowedPair(slow_down, pair.differences))
            keep(into)
            pairs += 1
        say(f"  {pairs} pairs with slow-downs of {', '.join(f'{size:.0%}' for size in SIZES)}")


def _gate(wishes: Sequence[Wish], run_pair: RunPair, budget_s: float) -> dict[str, str]:
    began_s = time.monotonic()
    try:
        trial = conduct(wishes, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
    except TrialInvalid:
        return {}
    return _verdicts(trial, wishes)


def _verdicts(trial: Trial, wishes: Sequence[Wish]) -> dict[str, str]:
    judged = {key: str(one.verdict) for key, one in trial.judgements.items()}
    return {wish.key: judged.get(wish.key, "inconclusive") for wish in wishes if wish.key not in trial.failures}


def _told(gate: Mapping[str, str]) -> str:
    if not gate:
        return "invalid"
    counts = {verdict: list(gate.values()).count(verdict) for verdict in sorted(set(gate.values()))}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def replay(
    recording: Recording,
    thresholds: Mapping[str, Thresholds],
    budget_s: float,
    rng: random.Random,
    slowed: str = "",
    values: Sequence[float] = (),
) -> dict[str, str]:
    """Verdicts of one gate on recorded pairs, in random order; none where it is invalid.

    `slowed`: the key of a benchmark that reads `values` instead, in random order, too.
    """
    wishes = [Wish(key, sample_s, thresholds[key]) for key, sample_s in recording.sample_s.items()]
    order = _Cycle(len(recording.alike), rng)
    others = _Cycle(len(values), rng)
    elapsed_s = 0.0
    # What a pair takes, by what it took on this machine: the estimate is of an idle one.
    estimated_s = PAIR_OVERHEAD_S + sum(wish.pair_s for wish in wishes)
    factor = sum(recording.pair_s) / len(recording.pair_s) / estimated_s if recording.pair_s else 1.0

    def run_pair(chosen: Sequence[Wish]) -> Pair:
        nonlocal elapsed_s
        elapsed_s += factor * (PAIR_OVERHEAD_S + sum(wish.pair_s for wish in chosen))
        pair = Pair()
        for key in [*CONTROLS, *(wish.key for wish in chosen)]:
            if key == slowed:
                pair.differences[key] = values[next(others)]
            elif (found := _next_with(key, recording.alike, order)) is not None:
                pair.differences[key] = found
        return pair

    try:
        trial = conduct(wishes, run_pair, budget_s=budget_s, clock=lambda: elapsed_s)
    except TrialInvalid:
        return {}
    return _verdicts(trial, wishes)


class _Cycle:
    """Numbers below a count in random order, each once before any comes again."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self._count = count
        self._rng = rng
        self._left: list[int] = []

    def __next__(self) -> int:
        if not self._left:
            self._left = self._rng.sample(range(self._count), self._count)
        return self._left.pop()


def _next_with(key: str, pairs: Sequence[Mapping[str, float]], order: _Cycle) -> float | None:
    """The difference of the next pair that has this benchmark: late pairs of a gate have only some."""
    for _ in range(len(pairs)):
        if (value := pairs[next(order)].get(key)) is not None:
            return value
    return None


def replay_many(
    recording: Recording, thresholds: Mapping[str, Thresholds], budget_s: float, *, seed: int = 1, times: int = REPLAYS
) -> dict[str, Share]:
    """What the recorded pairs say of false alarms and of what is seen, by names for a report."""
    rng = random.Random(seed)
    keys = list(recording.sample_s)
    alike = [replay(recording, thresholds, budget_s, rng) for _ in range(times)]
    found = _shares(alike)
    for size in SIZES:
        values = {
            key: [p.differences[key] for p in recording.slowed if p.slow_down[key] == size and key in p.differences]
            for key in keys
        }
        candidates = [key for key in keys if values[key]]
        if not candidates:
            continue
        caught = 0
        for _ in range(times):
            key = rng.choice(candidates)
            caught += replay(recording, thresholds, budget_s, rng, key, values[key]).get(key) == "regression"
        found[f"{size:.0%} slower, caught"] = Share(caught, times)
        errors = [abs(math.expm1(sum(values[key]) / len(values[key])) - size) for key in candidates]
        found[f"{size:.0%} slower, estimate within 1.5 points"] = Share(sum(e <= 0.015 for e in errors), len(errors))
    return found


def supported_effect(
    recording: Recording, gate: GateSettings, *, seed: int = 2, times: int = REPLAYS // 4
) -> float | None:
    """The least of CANDIDATES that is caught with the wanted power where it is the minimum effect; None: not one.

    The slow-down is added to what pairs without one read.
    """
    rng = random.Random(seed)
    keys = list(recording.sample_s)
    for size in CANDIDATES:
        limits = Thresholds(min(gate.tolerance, size * 0.4), size, gate.false_alarms, gate.power)
        caught = 0
        for _ in range(times):
            key = rng.choice(keys)
            values = [pair[key] + math.log1p(size) for pair in recording.alike if key in pair]
            verdicts = replay(recording, dict.fromkeys(keys, limits), gate.duet_budget_s, rng, key, values)
            caught += verdicts.get(key) == "regression"
        if caught >= gate.power * times:
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


def binomial_interval(count: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval of a share, for `count` of `of` (Clopper and Pearson 1934, Biometrika 26:404)."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else _solve(lambda share: 1 - _at_most(count - 1, of, share), tail)
    high = 1.0 if count == of else _solve(lambda share: 1 - _at_most(count, of, share), 1 - tail)
    return low, high


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return high


def _at_most(count: int, of: int, share: float) -> float:
    """Probability of at most `count` of `of` where each has the probability `share`."""
    if not 0 < share < 1:
        return float(share <= 0 or count >= of)
    logs = [
        math.lgamma(of + 1)
        - math.lgamma(one + 1)
        - math.lgamma(of - one + 1)
        + one * math.log(share)
        + (of - one) * math.log1p(-share)
        for one in range(count + 1)
    ]
    return min(sum(map(math.exp, logs)), 1.0)


def told(recording: Recording, thresholds: Mapping[str, Thresholds], gate: GateSettings) -> list[str]:
    """The whole self-check, line by line."""
    lines = ["live gates without a change, every benchmark tried:"]
    lines += [f"  {name}: {share}" for name, share in live_gates(recording).items()]
    if recording.alike:
        lines.append(
            f"replayed {REPLAYS:,} times from {len(recording.alike)} pairs alike, {len(recording.slowed)} slowed:"
        )
        found = replay_many(recording, thresholds, gate.duet_budget_s)
        lines += [f"  {name}: {share}" for name, share in found.items()]
        effect = supported_effect(recording, gate)
        wanted = f"caught with a power of {gate.power:.0%}"
        lines.append(f"minimum_effect that is {wanted} here: {f'{effect:.1%}' if effect else 'none up to 50 %'}")
    return lines


def keep(recording: Recording, path: Path) -> None:
    """Store it, whole or not at all; raises ResultsError."""
    write_whole(path, msgspec.json.encode(recording).decode() + "\n")


def read_recording(path: Path) -> Recording:
    """Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Recording)
