"""The gate measured by itself, on this machine: false alarms without a change, and what it sees of slow-downs.

Both arms are copies of the same tree. First come whole gates in which nothing differs, then single pairs of few
benchmarks in which each is slowed down in head by one of SIZES, inside its timed block. All pairs are recorded with
their quads, so that the code which judges can be run on them again: a replay draws pairs at random, as if they had
been measured in that order, of each as many quads as it wants, and with another slow-down than it was measured with.
"""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import Struct

from .arms import Arms
from .duet import both_arms
from .pairs import Judgement, Thresholds, TrialInvalid
from .results import write_whole
from .settings import GateSettings, Settings
from .trial import CONTROLS, MEASURED_S, Pair, RunPair, Trial, Wish, conduct, expected_s

SIZES = (0.0, 0.03, 0.05, 0.1)
REPLAYS = 1000
CONFIDENCE = 0.95
CANDIDATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Minimum effects that are tried for what this machine supports."""
SHARE_OF_GATES = 0.5
"""Of the time, for live gates without a change; the rest is for pairs with slow-downs."""
TOGETHER = 3
"""Benchmarks in a pair with slow-downs: as few as a gate looks at closely."""
MOST_QUADS_RECORDED = 24
GOOD_ESTIMATE = 0.015


class Recorded(Struct):
    """One pair."""

    quads: dict[str, list[float]]
    """By how much head was slower in each quad, as logarithms, by key; the controls' as well."""
    slow_down: dict[str, float] = {}
    """By how much benchmarks were slowed down on purpose, where they were, as shares by key."""


class Recording(Struct):
    """Pairs of one machine."""

    sample_s: dict[str, float]
    """What a sample takes, about, by key of the benchmark."""
    pairs: list[Recorded] = []
    gates: list[dict[str, str]] = []
    """Verdicts of the live gates without a change, by key; a gate without verdicts was invalid."""
    pace: float = 1.0
    """What the pairs of the gates took, over the estimate."""


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
            pair: Pair = run_pair(chosen)
            into.pairs.append(Recorded(pair.quads, {wish.key: wish.slow_down for wish in chosen if wish.slow_down}))
            return pair

        while time.monotonic() - began_s < limit_s * SHARE_OF_GATES:
            into.gates.append(_gate(wishes, recorded, settings.gate.duet_budget_s, into))
            keep(into)
            say(f"  gate {len(into.gates)}: {_told(into.gates[-1])}")
        pairs = 0
        for chosen in _slowed(wishes):
            if time.monotonic() - began_s >= limit_s:
                break
            recorded(chosen)
            keep(into)
            pairs += 1
        say(f"  {pairs} pairs of {TOGETHER} benchmarks, slowed down by {', '.join(f'{size:.0%}' for size in SIZES)}")


def _slowed(wishes: Sequence[Wish]) -> Iterator[list[Wish]]:
    """A few benchmarks at a time, for ever: each is slowed down by each of SIZES before any is again."""
    together = min(TOGETHER, len(wishes))
    long = [wish.within(MEASURED_S, MOST_QUADS_RECORDED) for wish in wishes]
    for shift in itertools.count():
        for first in range(0, len(long), together):
            yield [
                replace(wish, slow_down=SIZES[(number + shift) % len(SIZES)])
                for number, wish in enumerate(long[first : first + together])
            ]


def _gate(wishes: Sequence[Wish], run_pair: RunPair, budget_s: float, into: Recording) -> dict[str, str]:
    began_s = time.monotonic()
    try:
        trial = conduct(wishes, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
    except TrialInvalid:
        return {}
    into.pace += (trial.spent_s / trial.expected_s - into.pace) / (len(into.gates) + 1)
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
    recorded: Mapping[str, Sequence[Sequence[float]]],
    thresholds: Mapping[str, Thresholds],
    budget_s: float,
    rng: random.Random,
    slow_down: Mapping[str, float] = {},
) -> Trial | None:
    """One gate on recorded pairs, in random order, where head is slower by these shares; None where it is invalid."""
    wishes = [Wish(key, sample_s, thresholds[key]) for key, sample_s in recording.sample_s.items() if key in recorded]
    decks: dict[str, _Deck] = {}
    elapsed_s = 0.0

    def run_pair(chosen: Sequence[Wish]) -> Pair:
        nonlocal elapsed_s
        elapsed_s += recording.pace * expected_s(chosen)
        pair = Pair()
        for key, quads in [*((key, 1) for key in CONTROLS), *((wish.key, wish.quads) for wish in chosen)]:
            if key not in decks:
                decks[key] = _Deck(recorded[key], rng)
            slower = math.log1p(slow_down.get(key, 0.0))
            pair.quads[key] = [quad + slower for quad in decks[key].draw(quads)]
        return pair

    try:
        return conduct(wishes, run_pair, budget_s=budget_s, clock=lambda: elapsed_s)
    except TrialInvalid:
        return None


def without_slow_down(recording: Recording) -> dict[str, list[list[float]]]:
    """The quads of each recorded pair by key of the benchmark, less what it was slowed down by on purpose."""
    found: dict[str, list[list[float]]] = {}
    for pair in recording.pairs:
        for key, quads in pair.quads.items():
            slow_down = math.log1p(pair.slow_down.get(key, 0.0))
            found.setdefault(key, []).append([quad - slow_down for quad in quads])
    return found


class _Deck:
    """Recorded pairs of one benchmark, drawn in random order, each once before any comes again."""

    def __init__(self, pairs: Sequence[Sequence[float]], rng: random.Random) -> None:
        self._pairs = pairs
        self._rng = rng
        self._most_quads = max(map(len, pairs))
        self._left: list[Sequence[float]] = []

    def draw(self, quads: int) -> Sequence[float]:
        """So many quads of a pair that has them, or all of one that has the most."""
        quads = min(quads, self._most_quads)
        while True:
            if not self._left:
                self._left = self._rng.sample(self._pairs, len(self._pairs))
            if len(drawn := self._left.pop()) >= quads:
                return drawn[:quads]


def replay_many(
    recording: Recording, thresholds: Mapping[str, Thresholds], budget_s: float, *, seed: int = 1, times: int = REPLAYS
) -> dict[str, Share]:
    """What the recorded pairs say of false alarms and of what is seen, by names for a report."""
    rng = random.Random(seed)
    recorded = without_slow_down(recording)
    keys = [key for key in recording.sample_s if key in recorded]
    wishes = [Wish(key, 0.0, thresholds[key]) for key in keys]
    trials = [replay(recording, recorded, thresholds, budget_s, rng) for _ in range(times)]
    found = _shares([_verdicts(trial, wishes) if trial else {} for trial in trials])
    for size in SIZES[1:]:
        judgements: list[Judgement | None] = []
        for _ in range(times):
            key = rng.choice(keys)
            trial = replay(recording, recorded, thresholds, budget_s, rng, slow_down={key: size})
            judgements.append(trial.judgements.get(key) if trial else None)
        caught = sum(one is not None and one.verdict == "regression" for one in judgements)
        close = sum(one is not None and abs(one.change - size) <= GOOD_ESTIMATE for one in judgements)
        found[f"{size:.0%} slower, caught"] = Share(caught, times)
        found[f"{size:.0%} slower, read within {GOOD_ESTIMATE * 100:g} points"] = Share(close, times)
    return found


def supported_effect(
    recording: Recording, gate: GateSettings, *, seed: int = 2, times: int = REPLAYS // 4
) -> float | None:
    """The least of CANDIDATES that is caught with the wanted power where it is the minimum effect; None: not one."""
    rng = random.Random(seed)
    recorded = without_slow_down(recording)
    keys = [key for key in recording.sample_s if key in recorded]
    for size in CANDIDATES:
        limits = Thresholds(min(gate.tolerance, size * 0.4), size, gate.false_alarms, gate.power)
        caught = 0
        for _ in range(times):
            key = rng.choice(keys)
            thresholds = dict.fromkeys(keys, limits)
            trial = replay(recording, recorded, thresholds, gate.duet_budget_s, rng, slow_down={key: size})
            judgement = trial.judgements.get(key) if trial else None
            caught += judgement is not None and judgement.verdict == "regression"
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
    if recording.pairs:
        slowed = sum(bool(pair.slow_down) for pair in recording.pairs)
        lines.append(f"replayed {REPLAYS:,} times from {len(recording.pairs)} pairs, {slowed} with slow-downs:")
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
