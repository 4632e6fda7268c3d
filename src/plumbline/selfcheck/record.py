"""Record how often the gate on this machine fails without a slow-down, and how often it detects one.

Both sides are copies of the same tree. In gates with a placebo, the code of head is changed without any effect. Another
recording has three parts: gates without a slow-down, gates in which one
benchmark is slower in head, and single pairs of a few benchmarks that are slower by SIZES. A slow-down is made in one
of three places:

- the timed block, for any benchmark: each sample gets longer by a share of itself;
- the application's process (`in_application`), for benchmarks that send it one request per sample. With
  several concurrent requests the total slow-down would be unknown;
- PostgreSQL, for a benchmark of this package that sleeps there (`controls.py`).
"""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import Struct, field

from plumbline.comparing.statistics.controls import CONTROLS, IN_SERVER
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair, Where
from plumbline.comparing.statistics.schedule import MEASURED_S, PairedComparison, conduct
from plumbline.comparing.statistics.tails import Reading
from plumbline.comparing.workers.pair_runner import PairRunner
from plumbline.judging.distributions import binomial_interval
from plumbline.judging.evidence import Thresholds
from plumbline.results.files import write_whole
from plumbline.results.schema import Results
from plumbline.selfcheck.placebos import PLACEBOS, applied, copied_environment
from plumbline.settings import Settings, Tail

# Deliberate slow-downs of single pairs and of whole gates, as shares.
SIZES = (0.0, 0.03, 0.05, 0.1)
LIVE_SIZES = (0.1, 0.05)
# Slow-downs of some calls, in the timed block: the share of the calls, and how much longer they take, as a share.
SOME_CALLS = ((0.1, 1.0), (0.3, 0.3), (0.02, 20.0))
PLACES: dict[Where, str] = {
    "block": "in the timed block",
    "application": "in the application",
    "server": "in the server",
}
SHARE_OF_GATES, SHARE_OF_SLOWED_GATES = 0.4, 0.45  # shares of the time; the rest is for single pairs
# Benchmarks in a single pair, about as many as a gate leaves open after two pairs, and how long each is measured.
TOGETHER = 6
SHARE_S = MEASURED_S / 2
MOST_BLOCKS_RECORDED = 320
SERVER_SAMPLE_S = 0.1

NOT_CHANGED = {"vendor", ".venv", "venv", "node_modules", "site-packages"}  # folders without code of the project

Slowed = Mapping[Where, Sequence[BenchmarkPlan]]  # benchmarks that can be slowed down, by place


class Share(Struct, frozen=True):
    """`count` of `of`, with the exact 95 % confidence interval of the share."""

    count: int
    of: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        low, high = binomial_interval(self.count, self.of)
        msgspec.structs.force_setattr(self, "low", low)
        msgspec.structs.force_setattr(self, "high", high)

    def __str__(self) -> str:
        share = self.count / self.of if self.of else 0.0
        return f"{self.count:,} of {self.of:,} ({share:.1%}; 95 % interval {self.low:.1%} to {self.high:.1%})"


class Recorded(Struct, frozen=True):
    """One pair."""

    block_differences: dict[str, list[float]]  # by key: log(head / base) of each two neighbouring blocks
    slow_down: dict[str, float] = {}  # deliberate slow-downs, as shares by key
    where: Where = "block"
    placebo: str = ""  # the change of head that does nothing, if there was one
    tails: dict[str, dict[Tail, Reading]] = {}  # by key


class SlowedGate(Struct, frozen=True):
    """A live gate in which one benchmark was slowed down."""

    key: str
    size: float
    where: Where
    verdicts: dict[str, str]  # by key; empty if the gate was invalid
    change: float | None = None  # the gate's estimate of the slow-down, as a share
    calls: float = 1.0  # the share of the calls that were slower


class PlaceboGate(Struct, frozen=True):
    """A live gate in which head had a change that does nothing."""

    placebo: str
    verdicts: dict[str, str]  # by key; empty if the gate was invalid


class Findings(Struct, frozen=True):
    """Error rates by their names in the report."""

    gates: dict[str, Share]  # live gates without a slow-down
    slowed: dict[str, Share]  # live gates with a slow-down
    pairs: dict[str, Share]  # single pairs with a slow-down
    replayed: dict[str, Share]
    minimum_effect: float | None  # the smallest candidate that this machine supports
    placebos: dict[str, Share] = {}  # gates with a change that does nothing
    bias: dict[str, float] = {}  # by key: what such changes read, as a standard deviation of shares


class Recording(Struct):
    """Pairs and gates of one machine."""

    sample_s: dict[str, float]  # estimated duration of a sample, by key of the benchmark
    pairs: list[Recorded] = []
    gates: list[dict[str, str]] = []  # verdicts by key of the live gates without a slow-down; empty if invalid
    slowed: list[SlowedGate] = []
    placebos: list[PlaceboGate] = []
    time_factor: float = field(default=1.0, name="pace")  # of pairs without a slow-down: measured over expected time
    findings: Findings | None = None


def verdicts_of(comparison: PairedComparison | None, plans: Sequence[BenchmarkPlan]) -> dict[str, str]:
    """Return the verdicts by key, none if the gate is invalid (None)."""
    if comparison is None:
        return {}
    judged = {key: str(one.verdict) for key, one in comparison.judgements.items()}
    return {plan.key: judged.get(plan.key, "inconclusive") for plan in plans if plan.key not in comparison.failures}


def write_recording(path: Path, recording: Recording) -> None:
    """Write a recording to a file. Raises ResultsError."""
    write_whole(path, msgspec.json.encode(recording).decode() + "\n")


def places(settings: Settings, results: Results, plans: Sequence[BenchmarkPlan]) -> dict[Where, list[BenchmarkPlan]]:
    """Return the benchmarks that can be slowed down, by place."""
    found: dict[Where, list[BenchmarkPlan]] = {"block": list(plans)}
    services = results.environment.services
    if services.get("app") == "process":
        asking = {
            one.key
            for one in results.benchmarks
            if one.operations == 1 and "app.messages" in {*one.counts, *one.counts_varying}
        }
        found["application"] = [replace(plan, slowed_in="application") for plan in plans if plan.key in asking]
    if "postgres" in services:
        thresholds = Thresholds.of(settings.gate, None)
        found["server"] = [BenchmarkPlan(IN_SERVER, SERVER_SAMPLE_S, thresholds, slowed_in="server")]
    return {where: slowed for where, slowed in found.items() if slowed}


def left_out(found: Mapping[Where, object]) -> list[str]:
    """Return a line for each place without a slow-down, with the reason."""
    reasons: dict[Where, str] = {
        "application": "no benchmark sends one request per sample to an application of this run",
        "server": "there is no PostgreSQL",
    }
    return [f"  no slow-down {PLACES[where]}: {reason}" for where, reason in reasons.items() if where not in found]


@dataclass
class Recorder:
    """Measures gates and pairs of two equal sides, and writes `recording` to `path` after each one.

    `slowed` are the benchmarks to slow down, from `places`. A gate is recorded as invalid if a control reads wrong or a
    worker dies.
    """

    runner: PairRunner
    slowed: Slowed
    pairs_limit_s: float
    began_s: float
    limit_s: float
    path: Path
    say: Callable[[str], None]
    recording: Recording
    placebo: str = ""  # the change of head, while it lasts

    def record(self) -> None:
        """Measure until `limit_s` is over. Raises ComparisonInvalid if `pairs_limit_s` is too short for a pair."""
        self.record_gates()
        self.record_slowed_gates()
        self.record_pairs()

    def record_gates(self) -> None:
        plans, recording = self.slowed["block"], self.recording
        while self._is_time_left(SHARE_OF_GATES):
            comparison = self._gate(plans)
            if comparison and not comparison.pairs:
                raise ComparisonInvalid(
                    f"pairs_limit_s of [gate] in settings.toml ({self.pairs_limit_s:g} s) is too short for a single"
                    " pair: raise it"
                )
            verdicts = verdicts_of(comparison, plans)
            recording.gates.append(verdicts)
            if comparison:
                recording.time_factor += (comparison.time_factor - recording.time_factor) / len(recording.gates)
            write_recording(self.path, recording)
            self.say(f"  gate {len(recording.gates)}: {_tally(verdicts)}")

    def record_slowed_gates(self) -> None:
        for plan in one_by_one(self.slowed, random.Random()):
            if not self._is_time_left(SHARE_OF_GATES + SHARE_OF_SLOWED_GATES):
                break
            chosen = list({**{one.key: one for one in self.slowed["block"]}, plan.key: plan}.values())
            comparison = self._gate(chosen)
            judgement = comparison.judgements.get(plan.key) if comparison else None
            change = judgement.change if judgement else None
            verdicts = verdicts_of(comparison, chosen)
            gate = SlowedGate(plan.key, plan.slow_down, plan.slowed_in, verdicts, change, plan.slowed_calls)
            self.recording.slowed.append(gate)
            write_recording(self.path, self.recording)
            outcome = verdicts.get(plan.key) or (comparison.failures[plan.key] if comparison else "invalid")
            read = f", estimated at {change:+.1%}" if change is not None else ""
            self.say(f"  {slowed_text(gate)}, {plan.key}: {outcome}{read}")

    def record_pairs(self) -> None:
        pairs = 0
        for chosen, then in itertools.pairwise(few_by_few(self.slowed)):
            if not self._is_time_left(1.0):
                break
            try:
                self._pair(chosen, then)
            except ComparisonInvalid as error:
                self._say_invalid("pair", error)
                continue
            write_recording(self.path, self.recording)
            pairs += 1
        sizes = ", ".join(f"{one:.0%}" for one in SIZES)
        self.say(f"  {pairs} pairs of up to {TOGETHER} benchmarks, slowed down by {sizes}")

    def record_placebos(self, head: Path) -> None:
        """Measure gates in which head has a placebo change, until `limit_s` is over. `head`: the folder of its code."""
        plans, recording = self.slowed["block"], self.recording
        files = [path for path in head.rglob("*.py") if NOT_CHANGED.isdisjoint(path.relative_to(head).parts)]
        with copied_environment() as copy:
            placebos = [one for one in PLACEBOS if copy or one != "environment"]
            for placebo in itertools.cycle(placebos):
                if not self._is_time_left(1.0):
                    break
                python = copy if placebo == "environment" else None
                with applied(placebo, [] if python else files) as changed, self.runner.head_runs_on(python):
                    self.placebo = placebo
                    verdicts = verdicts_of(self._gate(plans), plans)
                    self.placebo = ""
                recording.placebos.append(PlaceboGate(placebo, verdicts))
                write_recording(self.path, recording)
                where = f" in {changed} files" if changed else ""
                self.say(f"  {PLACEBOS[placebo]}{where}: {_tally(verdicts)}")

    def _gate(self, plans: Sequence[BenchmarkPlan]) -> PairedComparison | None:
        try:
            return conduct(plans, self._pair, limit_s=self.pairs_limit_s)
        except ComparisonInvalid as error:
            self._say_invalid("gate", error)
            return None

    def _pair(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        pair = self.runner.run_pair(chosen, then)
        slowed = [plan for plan in chosen if plan.slow_down and plan.slowed_calls == 1]
        where: Where = slowed[0].slowed_in if slowed else "block"
        slow_down = {plan.key: plan.slow_down for plan in slowed}
        # No other slow-down can be subtracted from what a pair read of some slower calls.
        known = {plan.key for plan in chosen if plan.slowed_calls == 1} | CONTROLS.keys()
        blocks = {key: found for key, found in pair.block_differences.items() if key in known}
        tails = {key: found for key, found in pair.tails.items() if key in known}
        self.recording.pairs.append(Recorded(blocks, slow_down, where, self.placebo, tails))
        return pair

    def _is_time_left(self, share: float) -> bool:
        return time.monotonic() - self.began_s < self.limit_s * share

    def _say_invalid(self, what: str, error: ComparisonInvalid) -> None:
        lines = "\n".join(f"    {line}" for line in str(error).splitlines())
        self.say(f"  an invalid {what}:\n{lines}")


def _tally(verdicts: Mapping[str, str]) -> str:
    """Return how many benchmarks have each verdict, as a gate with these verdicts is reported."""
    found = sorted(Counter(verdicts.values()).items())
    return ", ".join(f"{count} {verdict}" for verdict, count in found) or "invalid"


def one_by_one(slowed: Slowed, rng: random.Random) -> Iterator[BenchmarkPlan]:
    """Yield random benchmarks endlessly, slowed down by each size of LIVE_SIZES in each place, then in some calls."""
    while True:
        for size, plans in itertools.product(LIVE_SIZES, slowed.values()):
            yield replace(rng.choice(plans), slow_down=size)
        for calls, size in SOME_CALLS:
            yield replace(rng.choice(slowed["block"]), slow_down=size, slowed_calls=calls)


def slowed_text(gate: SlowedGate) -> str:
    """10% slower in the timed block"""
    if gate.calls < 1:
        return f"{gate.calls:.0%} of calls {1 + gate.size:g} times as slow"
    return f"{gate.size:.0%} slower {PLACES[gate.where]}"


def few_by_few(slowed: Slowed) -> Iterator[list[BenchmarkPlan]]:
    """Yield groups of benchmarks endlessly: two groups slower in the timed block, then one in another place."""
    groups = {where: _groups(plans, SIZES if where == "block" else SIZES[1:]) for where, plans in slowed.items()}
    others = [group for where, group in groups.items() if where != "block"]
    for other in itertools.cycle(others or [groups["block"]]):
        yield from (next(groups["block"]), next(groups["block"]), next(other))


def _groups(plans: Sequence[BenchmarkPlan], sizes: Sequence[float]) -> Iterator[list[BenchmarkPlan]]:
    """Yield groups of benchmarks endlessly. Each benchmark gets each size before a size repeats."""
    long = [plan.within(SHARE_S, MOST_BLOCKS_RECORDED) for plan in plans]
    for shift in itertools.count():
        for first in range(0, len(long), TOGETHER):
            yield [
                replace(plan, slow_down=sizes[(number + shift) % len(sizes)])
                for number, plan in enumerate(long[first : first + TOGETHER])
            ]
