"""Error rates from the recording of a self-check: from its live gates, its single pairs, and replayed gates.

Recorded pairs hold the differences of their blocks. A replayed gate draws pairs at random from the recording, takes the
blocks that it needs, replaces their deliberate slow-down by another one, and judges them as a live gate does.
"""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, variance
from typing import NamedTuple

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.inference import ComparisonInvalid, blocks_of, difference
from plumbline.comparing.statistics.plan import LEAST_BLOCKS, BenchmarkPlan, Pair, expected_s
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.comparing.statistics.tails import Reading
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.selfcheck.placebos import PLACEBOS
from plumbline.selfcheck.record import PLACES, SIZES, Findings, Recording, Share, slowed_text, verdicts_of
from plumbline.settings import GateSettings, Tail

REPLAYS, PLACEBO_REPLAYS = 1000, 300
GOOD_ESTIMATE = 0.015  # an estimate is good if it is this close to the deliberate slow-down; both are shares
READ_WITHIN = f"read within {GOOD_ESTIMATE * 100:g} points"  # part of keys in selfcheck.json
LEAST_DRAWN = 6  # draw from at least this many pairs of each benchmark; use fewer blocks of each if necessary
SURE = 3  # standard errors
CANDIDATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)  # minimum effects to try


def findings_of(recording: Recording, thresholds: Mapping[str, Thresholds], gate: GateSettings) -> Findings:
    """Return all error rates of a recording."""
    has_pairs = bool(recording.pairs)
    return Findings(
        gates=shares(recording.gates),
        slowed=slowed_gates(recording),
        pairs=slowed_pairs(recording),
        replayed=replayed_gates(recording, thresholds, gate.pairs_limit_s, times=REPLAYS) if has_pairs else {},
        minimum_effect=supported_effect(recording, gate, times=REPLAYS // 4) if has_pairs else None,
    )


def findings_of_placebos(recording: Recording, thresholds: Mapping[str, Thresholds], gate: GateSettings) -> Findings:
    """Return the error rates of gates with a placebo, live and replayed, and the bias of each benchmark."""
    found: dict[str, Share] = {}
    for placebo, what in PLACEBOS.items():
        live = [one.verdicts for one in recording.placebos if one.placebo == placebo and one.verdicts]
        if not live:
            continue
        found[f"{what}, live, failed"] = Share(sum("regression" in one.values() for one in live), len(live))
        replay = Replay(recording, random.Random(1), placebo)
        gates = [replay.gate(thresholds, gate.pairs_limit_s) for _ in range(PLACEBO_REPLAYS)]
        failed = [one for one in gates if one and any(j.verdict == "regression" for j in one.judgements.values())]
        found[f"{what}, replayed, failed"] = Share(len(failed), len(gates))
    return Findings({}, {}, {}, {}, None, placebos=found, bias=bias_of(recording))


def bias_of(recording: Recording) -> dict[str, float]:
    """Return by key the standard deviation of what placebos read in a benchmark, without the noise of pairs.

    It is 0 if noise alone could read as much: if the mean square is within SURE of its standard errors without a bias.
    """
    read: dict[str, dict[str, list[float]]] = {}
    for pair in recording.pairs:
        if pair.placebo:
            for key, blocks in pair.block_differences.items():
                read.setdefault(key, {}).setdefault(pair.placebo, []).append(difference(blocks))
    found = {}
    for key, by_placebo in read.items():
        several = [changes for changes in by_placebo.values() if len(changes) > 1]
        if not several or key in CONTROLS:
            continue
        pooled = fmean([variance(changes) for changes in several], [len(changes) - 1 for changes in several])
        noise = [pooled / len(changes) for changes in several]  # the variance of what each placebo reads
        square = fmean(fmean(changes) ** 2 for changes in several) - fmean(noise)
        error = math.sqrt(2 * sum(one**2 for one in noise)) / len(noise)
        found[key] = math.sqrt(square) if square > SURE * error else 0.0
    return found


def shares(gates: Sequence[Mapping[str, str]]) -> dict[str, Share]:
    """Return the shares of wrong and missing verdicts in gates without a slow-down. An invalid gate has no verdicts."""
    valid = [gate for gate in gates if gate]
    verdicts = [one for gate in valid for one in gate.values()]
    return {
        "suites with a false positive": Share(sum("regression" in gate.values() for gate in valid), len(valid)),
        "benchmarks with a false positive": Share(verdicts.count("regression"), len(verdicts)),
        "benchmarks inconclusive": Share(verdicts.count("inconclusive"), len(verdicts)),
        "suites invalid": Share(len(gates) - len(valid), len(gates)),
    }


def slowed_gates(recording: Recording) -> dict[str, Share]:
    """Return the share of live gates with a slow-down that detected it. An invalid gate detects nothing."""
    verdicts: dict[str, list[str | None]] = {}
    for gate in recording.slowed:
        # If a benchmark could not be compared, nothing was slowed down.
        if gate.key in gate.verdicts or not gate.verdicts:
            verdicts.setdefault(slowed_text(gate), []).append(gate.verdicts.get(gate.key))
    found = {f"{text}, caught": Share(some.count("regression"), len(some)) for text, some in sorted(verdicts.items())}
    if found:
        others = [verdict for gate in recording.slowed for key, verdict in gate.verdicts.items() if key != gate.key]
        found["other benchmarks with a false positive"] = Share(others.count("regression"), len(others))
    return found


def slowed_pairs(recording: Recording) -> dict[str, Share]:
    """Return the share of single pairs that estimate their slow-down well. A gate takes the mean of several pairs."""
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
    recording: Recording, thresholds: Mapping[str, Thresholds], limit_s: float, *, times: int
) -> dict[str, Share]:
    """Replay gates with each size of slow-down `times` times. Return the shares of false positives and detections."""
    replay = Replay(recording, random.Random(1))
    plans = [BenchmarkPlan(key, 0.0, thresholds[key]) for key in replay.keys]
    comparisons = [replay.gate(thresholds, limit_s) for _ in range(times)]
    found = shares([verdicts_of(comparison, plans) for comparison in comparisons])
    for size in SIZES[1:]:
        judgements = replay.slowed(thresholds, limit_s, size, times)
        failed = sum(one.verdict == "regression" for one in judgements)
        found[f"{size:.0%} slower, caught"] = Share(failed, times)
        found[f"{size:.0%} slower, {READ_WITHIN}"] = _close([one.change for one in judgements], size, times)
    return found


def _close(changes: Sequence[float], size: float, of: int) -> Share:
    return Share(sum(abs(change - size) <= GOOD_ESTIMATE for change in changes), of)


def report_lines(found: Findings, pairs: int, gate: GateSettings) -> Iterator[str]:
    """Yield the lines of a self-check's report. `pairs`: the number of recorded pairs."""
    if found.placebos:
        yield "gates with a change that does nothing:"
        yield from (f"  {name}: {share}" for name, share in found.placebos.items())
        biased = sorted(((key, bias) for key, bias in found.bias.items() if bias), key=lambda item: -item[1])
        yield f"bias of benchmarks that differ by more than chance explains, {len(biased)} of {len(found.bias)}:"
        yield from (f"  {bias:.2%}  {key}" for key, bias in biased)
        return
    sections = {
        "live gates without a slow-down, every benchmark compared": found.gates,
        "live gates with one benchmark slowed down": found.slowed,
        "single pairs with slow-downs": found.pairs,
        f"replayed {REPLAYS:,} times from {pairs} pairs": found.replayed,
    }
    for title, section in sections.items():
        if section:
            yield f"{title}:"
            yield from (f"  {name}: {share}" for name, share in section.items())
    if found.replayed:
        yield "  (these intervals do not include the variation between recordings)"
    effect = f"{found.minimum_effect:.1%}" if found.minimum_effect else f"none up to {CANDIDATES[-1]:.0%}"
    yield f"smallest minimum_effect that this machine detects with a power of {gate.power:.0%}: {effect}"


class Drawn(NamedTuple):
    """One recorded pair's measurement of one benchmark, as logarithms."""

    blocks: list[float]  # differences of its blocks
    tails: dict[Tail, Reading]

    def slower_by(self, slow_down: float) -> "Drawn":
        tails = {tail: read._replace(difference=read.difference + slow_down) for tail, read in self.tails.items()}
        return Drawn([block + slow_down for block in self.blocks], tails)


class Replay:
    """Replays gates with randomly drawn pairs of a recording."""

    def __init__(self, recording: Recording, rng: random.Random, placebo: str = "") -> None:
        """`placebo`: draw only from the pairs in which head had this change."""
        self._recording = recording
        self._recorded = without_slow_down(recording, placebo)
        self._rng = rng
        # The most blocks that at least LEAST_DRAWN pairs have. Fewer pairs, drawn repeatedly, would seem to agree.
        self._most = {
            key: sorted(blocks_of(one.blocks) for one in pairs)[-LEAST_DRAWN:][0]
            for key, pairs in self._recorded.items()
        }
        self.keys = [key for key in recording.sample_s if key in self._recorded]

    def gate(
        self, thresholds: Mapping[str, Thresholds], limit_s: float, slow_down: Mapping[str, float] = {}
    ) -> PairedComparison | None:
        """Replay one gate in which head is slower by these shares. Return None if the gate is invalid."""
        plans = [BenchmarkPlan(key, self._recording.sample_s[key], thresholds[key]) for key in self.keys]
        left: defaultdict[str, list[Drawn]] = defaultdict(list)
        elapsed_s = 0.0

        def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
            del then
            nonlocal elapsed_s
            elapsed_s += self._recording.time_factor * expected_s(chosen)
            found, tails = {}, {}
            for key, blocks in [*dict.fromkeys(CONTROLS, LEAST_BLOCKS).items(), *((p.key, p.blocks) for p in chosen)]:
                slower = math.log1p(slow_down.get(key, 0.0))
                drawn = self._draw(left[key], key, blocks).slower_by(slower)
                found[key], tails[key] = drawn.blocks, drawn.tails
            return Pair(found, tails=tails)

        try:
            return conduct(plans, run_pair, limit_s=limit_s, clock=lambda: elapsed_s)
        except ComparisonInvalid:
            return None

    def slowed(self, thresholds: Mapping[str, Thresholds], limit_s: float, size: float, times: int) -> list[Judgement]:
        """Replay gates in which one random benchmark is slower by `size`, and return its judgements."""
        found = []
        for _ in range(times):
            key = self._rng.choice(self.keys)
            comparison = self.gate(thresholds, limit_s, {key: size})
            found += [comparison.judgements[key]] if comparison and key in comparison.judgements else []
        return found

    def _draw(self, left: list[Drawn], key: str, blocks: int) -> Drawn:
        """Return a recorded pair with `blocks` blocks. All pairs are drawn once before any repeats."""
        blocks = min(blocks, self._most[key])
        while True:
            if not left:
                left += self._rng.sample(self._recorded[key], len(self._recorded[key]))
            if blocks_of((drawn := left.pop()).blocks) >= blocks:
                return drawn._replace(blocks=drawn.blocks[: 2 * blocks - 1])


def without_slow_down(recording: Recording, placebo: str = "") -> dict[str, list[Drawn]]:
    """Return by key what each recorded pair with this placebo read, without the deliberate slow-downs."""
    found: dict[str, list[Drawn]] = {}
    for pair in [one for one in recording.pairs if one.placebo == placebo]:
        for key, blocks in pair.block_differences.items():
            slow_down = math.log1p(pair.slow_down.get(key, 0.0))
            found.setdefault(key, []).append(Drawn(blocks, pair.tails.get(key, {})).slower_by(-slow_down))
    return found


def supported_effect(recording: Recording, gate: GateSettings, *, times: int) -> float | None:
    """Return the smallest of CANDIDATES that, as the minimum effect, is detected with `gate.power`, or None."""
    replay = Replay(recording, random.Random(2))
    for size in CANDIDATES:
        limits = Thresholds(min(gate.tolerance, size * 0.4), size, gate.false_alarms, gate.power)
        judgements = replay.slowed(dict.fromkeys(replay.keys, limits), gate.pairs_limit_s, size, times)
        if sum(one.verdict == "regression" for one in judgements) >= gate.power * times:
            return size
    return None
