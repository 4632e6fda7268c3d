"""Simulate paired comparisons: false positives with noises that differ, and slow-downs caught."""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from plumbline.comparing.statistics.inference import OF_MEDIAN, block_differences, figure
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair, expected_s
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.comparing.statistics.tails import tails_of
from plumbline.judging.chain import TOO_LOW, Level, has_moved
from plumbline.judging.distributions import NORMAL_QUARTILE
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.results.schema import Verdict
from plumbline.selfcheck.findings import Replay
from plumbline.selfcheck.record import SOME_CALLS, Recording, Share
from plumbline.settings import GateSettings
from scripts.clones import run_sections

THRESHOLDS = Thresholds.of(GateSettings(), None)
LIMIT_S = GateSettings().pairs_limit_s
SLOW_DOWN = THRESHOLDS.minimum_effect
SPREAD_OF_PROCESSES, SPREAD_OF_CALLS, SPREAD_OF_LONG_CALLS = 0.01, 0.1, 0.03  # of comparisons with simulated samples
# The durations of samples in such comparisons. The second ones are like those of the sample suite.
QUICK_S, MIXED_S, SLOWED_S = (
    [1e-4] * 12,
    [1e-4] * 10 + [3e-4] * 10 + [1e-3] * 6 + [4e-3] * 5 + [0.02] * 4 + [0.05] * 3,
    4e-3,
)
BIASES, SIZES_OF_BIASED = (0.0, 0.0025, 0.005, 0.01), (0.05, 0.075, 0.1)
DISTURBED_TIMES = 6  # how much more the blocks of a disturbed pair vary

Noise = Callable[[random.Random], float]  # returns the difference of two equal processes, as a logarithm


def spread(standard_deviation: float) -> Noise:
    return lambda rng: rng.gauss(0, standard_deviation)


def modes(apart: float) -> Noise:
    """Each process is in one of two modes, for example by the layout of its memory."""
    return lambda rng: apart * (rng.randrange(2) - rng.randrange(2)) + rng.gauss(0, 0.005)


@dataclass(frozen=True)
class Case:
    """A suite without a regression. `others` replace the noise of the first benchmarks."""

    title: str
    benchmarks: int
    noise: Noise
    others: Sequence[Noise] = ()
    slower: Sequence[float] = ()  # true slow-downs of the first benchmarks, as shares
    sample_s: float = 1e-4
    blocks: float = 0.02  # standard deviation of the differences of blocks
    disturbed: float = 0.0  # share of the pairs

    def keys(self) -> list[str]:
        return [f"test_it.py::test_{number}" for number in range(self.benchmarks)]


HOSTILE = [
    Case("1 of 38 with a spread of 12 %, the others 0.5 %", 38, spread(0.005), [spread(0.12)]),
    Case("1 of 6 in one of two modes, 10 % apart", 6, spread(0.005), [modes(0.1)]),
    Case("all of 6 in modes, 6 % apart", 6, modes(0.06)),
    Case("3 of 38 in modes, 6 % apart", 38, spread(0.005), [modes(0.06)] * 3),
    Case(
        "3 of 38 with a spread of 5 %, slower by the tolerance",
        38,
        spread(0.005),
        [spread(0.05)] * 3,
        [THRESHOLDS.tolerance] * 3,
    ),
]
USUAL = [
    Case("spread of 0.7 %", 38, spread(0.007)),
    Case("spread of 1.5 %", 38, spread(0.015)),
    Case("spread of 3 %", 38, spread(0.03)),
    Case("samples of 50 ms", 6, spread(0.007), sample_s=0.05, blocks=0.06),
    Case("a quarter of the pairs disturbed", 38, spread(0.007), blocks=0.06, disturbed=0.25),
]


def simulated(case: Case, rng: random.Random, slow_down: Mapping[str, float] = {}) -> PairedComparison:
    """Simulate one comparison."""
    elapsed_s, keys = 0.0, case.keys()
    noises = dict(zip(keys, itertools.chain(case.others, itertools.repeat(case.noise)), strict=False))
    truths = {**dict(zip(keys, case.slower, strict=False)), **slow_down}

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        nonlocal elapsed_s
        elapsed_s += expected_s(chosen)
        blocks = case.blocks * (DISTURBED_TIMES if rng.random() < case.disturbed else 1)
        found = {}
        for plan in chosen:
            center = math.log1p(truths.get(plan.key, 0.0)) + noises[plan.key](rng)
            center += rng.gauss(0, blocks * math.sqrt(OF_MEDIAN / plan.blocks))
            around = blocks * NORMAL_QUARTILE
            found[plan.key] = [center - around, center + around] * (plan.blocks - 1) + [center]
        return Pair(found)

    plans = [BenchmarkPlan(key, case.sample_s, THRESHOLDS) for key in keys]
    return conduct(plans, run_pair, limit_s=LIMIT_S, clock=lambda: elapsed_s)


def false_positives(case: Case, runs: int, *, seed: int = 1) -> Share:
    """Return the share of simulated comparisons in which any benchmark fails."""
    rng = random.Random(seed)
    found = [simulated(case, rng).judgements.values() for _ in range(runs)]
    return Share(sum(any(one.verdict == "regression" for one in judged) for judged in found), runs)


def caught(case: Case, runs: int, *, seed: int = 1) -> tuple[Share, float]:
    """Return the share of slow-downs of `minimum_effect` that fail, and the median duration of the comparisons."""
    rng = random.Random(seed)
    keys = [rng.choice(case.keys()) for _ in range(runs)]
    found = [(key, simulated(case, rng, {key: SLOW_DOWN})) for key in keys]
    failed = sum(key in one.judgements and one.judgements[key].verdict == "regression" for key, one in found)
    return Share(failed, runs), statistics.median(one.elapsed_s for _, one in found)


def sampled_pair(plans: Sequence[BenchmarkPlan], rng: random.Random, slowed: str, calls: float, size: float) -> Pair:
    """Simulate a pair by its samples. In head some calls of the benchmark `slowed` take longer."""
    found, tails = {}, {}
    for plan in plans:
        sides, spread_of_calls = [], SPREAD_OF_CALLS if plan.samples > 1 else SPREAD_OF_LONG_CALLS
        for share in (0.0, calls if plan.key == slowed else 0.0):
            process = rng.gauss(1, SPREAD_OF_PROCESSES)
            times = [process * rng.lognormvariate(0, spread_of_calls) for _ in range(plan.blocks * plan.samples)]
            sides.append([time * (1 + size * (rng.random() < share)) for time in times])
        blocks = [[figure(side[at : at + plan.samples]) for at in range(0, len(side), plan.samples)] for side in sides]
        found[plan.key] = block_differences(*blocks, head_first=False)
        tails[plan.key] = tails_of(*sides)
    return Pair(found, tails=tails)


class SomeCalls(NamedTuple):
    """Comparisons in which some calls of one benchmark are slower, as shares and medians."""

    caught: Share
    inconclusive: Share
    others_failed: Share  # of the comparisons
    others_inconclusive: Share  # of the other benchmarks
    pairs: float  # of the slower benchmark
    elapsed_s: float


def some_calls_caught(
    calls: float, size: float, runs: int, *, samples_s: Sequence[float] = QUICK_S, slowed_s: float = 0.0
) -> SomeCalls:
    """Compare benchmarks whose samples take this long. One of those that take `slowed_s`, or of all, is slower."""
    rng, elapsed_s, slowed = random.Random(1), 0.0, ""
    plans = [BenchmarkPlan(f"test_it.py::test_{at}", one_s, THRESHOLDS) for at, one_s in enumerate(samples_s)]
    keys = [plan.key for plan in plans if plan.sample_s == slowed_s or not slowed_s]
    found: list[Judgement] = []
    others: list[list[Verdict]] = []
    durations_s = []

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        nonlocal elapsed_s
        elapsed_s += expected_s(chosen)
        return sampled_pair(chosen, rng, slowed, calls, size)

    def clock() -> float:
        return elapsed_s

    for _ in range(runs):
        elapsed_s, slowed = 0.0, rng.choice(keys)
        judged = conduct(plans, run_pair, limit_s=LIMIT_S, clock=clock).judgements
        found.append(judged.pop(slowed))
        others.append([one.verdict for one in judged.values()])
        durations_s.append(elapsed_s)
    verdicts = [one.verdict for one in found]
    return SomeCalls(
        Share(verdicts.count("regression"), runs),
        Share(verdicts.count("inconclusive"), runs),
        Share(sum("regression" in one for one in others), runs),
        Share(sum(one.count("inconclusive") for one in others), sum(map(len, others))),
        statistics.median(one.pairs for one in found),
        statistics.median(durations_s),
    )


def tails(options: argparse.Namespace) -> None:
    """Comparisons in which some calls of one benchmark are slower."""
    for calls, size in ((0.0, 0.0), *SOME_CALLS, (0.2, 0.5), (0.3, 1.0)):
        _print_some_calls(calls, size, some_calls_caught(calls, size, options.runs // 4))


def long_samples(options: argparse.Namespace) -> None:
    """The same for one benchmark with samples of 4 ms of 38, some of which are longer."""
    for calls, size in ((0.0, 0.0), *SOME_CALLS):
        found = some_calls_caught(calls, size, options.runs // 4, samples_s=MIXED_S, slowed_s=SLOWED_S)
        _print_some_calls(calls, size, found)


def _print_some_calls(calls: float, size: float, found: SomeCalls) -> None:
    print(f"{calls:.0%} of calls {1 + size:g} times as slow: caught {found.caught}, inconclusive {found.inconclusive}")
    print(f"  {found.pairs:g} pairs, {found.elapsed_s:.0f} s")
    print(f"  others: failed in {found.others_failed}, inconclusive {found.others_inconclusive}", flush=True)


def noise(options: argparse.Namespace) -> None:
    """Comparisons without a regression, of benchmarks that differ in noise."""
    for case in HOSTILE:
        print(f"{case.title}: false positives in {false_positives(case, options.runs)}", flush=True)


def power(options: argparse.Namespace) -> None:
    """Comparisons without a change, and with one benchmark slower by 5 %."""
    for case in USUAL:
        share, duration_s = caught(case, options.runs)
        wrong = false_positives(case, options.runs)
        print(f"{case.title}: caught {share}, in {duration_s:.0f} s; false positives in {wrong}", flush=True)


def chains(options: argparse.Namespace) -> None:
    """Chains of comparisons along a branch: how much too low each reads, as it ends early, and how many have moved."""
    for case in USUAL[:3]:
        for change in (0.0, 0.003, 0.01):
            rng, truth = random.Random(1), dict.fromkeys(case.keys(), change)
            found = [one for _ in range(options.runs // 20) for one in simulated(case, rng, truth).judgements.values()]
            read = statistics.fmean(math.log1p(one.change) for one in found) - math.log1p(change)
            errors = read / statistics.fmean(one.error for one in found)
            moved = {links: moved_after(links, found, options.runs, rng) for links in (20, 50, 100)}
            told = ", ".join(f"{share:.0%} after {links}" for links, share in moved.items())
            print(f"{case.title}, {change:.1%} slower: reads {errors:+.2f} standard errors; moved {told}", flush=True)


def moved_after(links: int, judgements: Sequence[Judgement], chains: int, rng: random.Random) -> float:
    """Return the share of chains of so many of these links, one of 38 benchmarks each, that are said to have moved."""
    moved = 0
    for _ in range(chains):
        chosen = rng.choices(judgements, k=links)
        level, error = sum(math.log1p(one.change) for one in chosen), math.hypot(*(one.error for one in chosen))
        too_low = TOO_LOW * sum(one.error for one in chosen)
        moved += has_moved(Level("", "", "", level, error, too_low), THRESHOLDS.tolerance, 38)
    return moved / chains


def recorded(options: argparse.Namespace) -> None:
    """The same with pairs that self-checks have recorded: --recording FILE."""
    for path in options.recording:
        recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        replay = Replay(recording, random.Random(1))
        thresholds = dict.fromkeys(replay.keys, THRESHOLDS)
        gates = [one for _ in range(options.runs) if (one := replay.gate(thresholds, LIMIT_S))]
        wrong = sum(any(one.verdict == "regression" for one in gate.judgements.values()) for gate in gates)
        judged = replay.slowed(thresholds, LIMIT_S, SLOW_DOWN, options.runs)
        share = Share(sum(one.verdict == "regression" for one in judged), options.runs)
        duration_s = statistics.median(gate.elapsed_s for gate in gates) if gates else math.nan
        print(f"{path}: {len(recording.pairs)} pairs, {options.runs - len(gates)} invalid; {duration_s:.0f} s")
        print(f"  caught {share}; false positives in {Share(wrong, len(gates))}", flush=True)


def biased(options: argparse.Namespace) -> None:
    """Replayed gates in which each benchmark has a bias that its settings name, and one benchmark is slower."""
    for path, bias in itertools.product(options.recording, BIASES):
        recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        rng = random.Random(1)
        replay = Replay(recording, rng)
        limits = dict.fromkeys(replay.keys, msgspec.structs.replace(THRESHOLDS, bias=bias))
        for size in (0.0, *SIZES_OF_BIASED):
            caught = failed = 0
            for _ in range(options.runs):
                slower = rng.choice(replay.keys)
                moved = {key: (1 + size * (key == slower)) * (1 + rng.gauss(0, bias)) - 1 for key in replay.keys}
                gate = replay.gate(limits, LIMIT_S, moved)
                verdicts = {key: one.verdict for key, one in gate.judgements.items()} if gate else {}
                caught += verdicts.pop(slower, "") == "regression"
                failed += "regression" in verdicts.values()
            found = f"caught {Share(caught, options.runs)}, others failed in {Share(failed, options.runs)}"
            print(f"bias {bias:.2%}, {size:.1%} slower: {found}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.simulations",
        description="Simulate paired comparisons: false positives with noises that differ, and slow-downs caught.",
        epilog="example: python -m scripts.simulations noise power --runs 100",
    )
    parser.add_argument("--runs", type=int, default=400, help="comparisons of each kind (default: 400)")
    parser.add_argument(
        "--recording", type=Path, action="append", default=[], metavar="FILE", help="a selfcheck.json; repeatable"
    )
    run_sections(
        parser,
        {
            "noise": noise,
            "power": power,
            "tails": tails,
            "long_samples": long_samples,
            "chains": chains,
            "recorded": recorded,
            "biased": biased,
        },
    )
