"""The gate measured by itself, on this machine: false alarms without a change, and what it sees of slow-downs.

Both sides are copies of the same tree. First come whole gates in which nothing differs, then whole gates in which one
benchmark is slowed down in head, then single pairs of few benchmarks that are slowed down by SIZES; `replay.py` says
what they mean. Time is added in one of three places:

- the timed block, of any benchmark: each sample is made longer by a share of itself;
- the application's own process (`slowed.py`), for benchmarks that send it requests, one operation a sample: where many
  are under way at the same time, nobody knows by how much longer that makes them;
- PostgreSQL, for a benchmark of the harness's own that sleeps there (`controls.py`): those of the suite can't be made
  to.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from plumbline.comparing.statistics.controls import IN_SERVER
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair, RunPair, Where
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.comparing.statistics.stage import MEASURED_S
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.judging.thresholds import Thresholds
from plumbline.results.schema import Results
from plumbline.selfcheck.replay import LIVE_SIZES, PLACES, SIZES, Recorded, Recording, SlowedGate, verdicts_of
from plumbline.settings import Settings

SHARE_OF_GATES, SHARE_OF_SLOWED_GATES = 0.4, 0.45
"""Of the time, for whole gates without and with a slow-down; the rest is for single pairs."""
LIVE_TURNS = (*LIVE_SIZES, LIVE_SIZES[0])
"""A tenth, which the gate promises to catch, comes twice as often."""
TOGETHER = 6
"""Benchmarks in a single pair: about as few as a gate looks at closely."""
SHARE_S = MEASURED_S / 2
"""What each of them is measured for in it."""
MOST_BLOCKS_RECORDED = 320
SERVER_SAMPLE_S = 0.1


def places(settings: Settings, results: Results, plans: Sequence[BenchmarkPlan]) -> dict[Where, list[BenchmarkPlan]]:
    """Where time can be added here, and to which benchmarks: in the timed block to all of them."""
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
        limits = Thresholds.of(settings.gate, None)
        found["server"] = [BenchmarkPlan(IN_SERVER, SERVER_SAMPLE_S, limits, slowed_in="server")]
    return {where: slowed for where, slowed in found.items() if slowed}


def left_out(found: Mapping[Where, object]) -> list[str]:
    """Why time is added nowhere else, in lines."""
    reasons: dict[Where, str] = {
        "application": "none of ours is seen to be sent requests by a benchmark of one operation a sample",
        "server": "there is no PostgreSQL",
    }
    return [f"  no slow-down {PLACES[where]}: {reason}" for where, reason in reasons.items() if where not in found]


def record(
    settings: Settings,
    sides: Sides,
    slowed: Mapping[Where, Sequence[BenchmarkPlan]],
    *,
    backends: Mapping[str, str],
    limit_s: float,
    into: Recording,
    keep: Callable[[Recording], None],
    say: Callable[[str], None],
) -> None:
    """Measure for so long: live gates first, then pairs with slow-downs. `keep` is called after each, to store it.

    `sides` are alike; `slowed` are `places`. A gate whose controls are off, or of which a side dies, is recorded as
    invalid. Raises ComparisonInvalid where the sides can't even be tried out, or the budget is too short for any pair.
    """
    began_s = time.monotonic()
    plans = slowed["block"]
    with pair_runner(settings, sides, [*plans, *slowed.get("server", [])], "ci", backends) as both:

        def recorded(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
            pair = both.run_pair(chosen, then)
            on_purpose = {plan.key: plan for plan in chosen if plan.slow_down}
            where: Where = next((plan.slowed_in for plan in on_purpose.values()), "block")
            slow_down = {key: plan.slow_down for key, plan in on_purpose.items()}
            into.pairs.append(Recorded(pair.block_differences, slow_down, where))
            return pair

        def is_time_left(share: float) -> bool:
            return time.monotonic() - began_s < limit_s * share

        while is_time_left(SHARE_OF_GATES):
            comparison = _gate(plans, recorded, settings.gate.duet_budget_s, say)
            if comparison and not comparison.pairs:
                raise ComparisonInvalid(
                    f"duet_budget_s of [gate] in settings.toml ({settings.gate.duet_budget_s:g} s) is too short for a"
                    " single pair: raise it"
                )
            if comparison:
                into.time_factor += (comparison.totals.time_factor - into.time_factor) / (len(into.gates) + 1)
            into.gates.append(verdicts_of(comparison, plans))
            keep(into)
            say(f"  gate {len(into.gates)}: {_told(into.gates[-1])}")
        for plan in one_by_one(slowed, random.Random()):
            if not is_time_left(SHARE_OF_GATES + SHARE_OF_SLOWED_GATES):
                break
            chosen = list({**{one.key: one for one in plans}, plan.key: plan}.values())
            comparison = _gate(chosen, recorded, settings.gate.duet_budget_s, say)
            judgement = comparison.judgements.get(plan.key) if comparison else None
            change = judgement.change if judgement else None
            verdicts = verdicts_of(comparison, chosen)
            into.slowed.append(SlowedGate(plan.key, plan.slow_down, plan.slowed_in, verdicts, change))
            keep(into)
            said = verdicts.get(plan.key) or (comparison.failures[plan.key] if comparison else "invalid")
            read = f", read as {change:+.1%}" if change is not None else ""
            say(f"  {plan.slow_down:.0%} {PLACES[plan.slowed_in]}, {plan.key}: {said}{read}")
        pairs = 0
        for chosen, then in itertools.pairwise(few_by_few(slowed)):
            if not is_time_left(1.0):
                break
            try:
                recorded(chosen, then)
            except ComparisonInvalid as error:
                _say_invalid("pair", error, say)
                continue
            keep(into)
            pairs += 1
        say(
            f"  {pairs} pairs of up to {TOGETHER} benchmarks, slowed down by {', '.join(f'{one:.0%}' for one in SIZES)}"
        )


def one_by_one(slowed: Mapping[Where, Sequence[BenchmarkPlan]], rng: random.Random) -> Iterator[BenchmarkPlan]:
    """Benchmarks at random, for ever, slowed down by LIVE_TURNS, each in each place."""
    for size, plans in itertools.cycle(itertools.product(LIVE_TURNS, slowed.values())):
        yield replace(rng.choice(plans), slow_down=size)


def few_by_few(slowed: Mapping[Where, Sequence[BenchmarkPlan]]) -> Iterator[list[BenchmarkPlan]]:
    """A few benchmarks at a time, for ever: after two pairs slowed down in the timed block, one elsewhere."""
    groups = {where: _groups(plans, SIZES if where == "block" else SIZES[1:]) for where, plans in slowed.items()}
    others = [group for where, group in groups.items() if where != "block"]
    for other in itertools.cycle(others or [groups["block"]]):
        yield from (next(groups["block"]), next(groups["block"]), next(other))


def _groups(plans: Sequence[BenchmarkPlan], sizes: Sequence[float]) -> Iterator[list[BenchmarkPlan]]:
    """Each benchmark is slowed down by each of the sizes before any is again."""
    long = [plan.within(SHARE_S, MOST_BLOCKS_RECORDED) for plan in plans]
    for shift in itertools.count():
        for first in range(0, len(long), TOGETHER):
            yield [
                replace(plan, slow_down=sizes[(number + shift) % len(sizes)])
                for number, plan in enumerate(long[first : first + TOGETHER])
            ]


def _gate(
    plans: Sequence[BenchmarkPlan], run_pair: RunPair, budget_s: float, say: Callable[[str], None]
) -> PairedComparison | None:
    """None where it is invalid."""
    began_s = time.monotonic()
    try:
        return conduct(plans, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
    except ComparisonInvalid as error:
        _say_invalid("gate", error, say)
        return None


def _say_invalid(what: str, error: ComparisonInvalid, say: Callable[[str], None]) -> None:
    """With all that a side has said."""
    lines = "\n".join(f"    {line}" for line in str(error).splitlines())
    say(f"  an invalid {what}:\n{lines}")


def _told(gate: Mapping[str, str]) -> str:
    if not gate:
        return "invalid"
    counts = {verdict: list(gate.values()).count(verdict) for verdict in sorted(set(gate.values()))}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
