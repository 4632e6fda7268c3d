"""The gate measured by itself, on this machine: false alarms without a change, and what it sees of slow-downs.

Both arms are copies of the same tree. First come whole gates in which nothing differs, then whole gates in which one
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

from .arms import Arms
from .comparison import thresholds
from .duet import both_arms
from .pairs import TrialInvalid
from .replay import LIVE_SIZES, PLACES, SIZES, Recorded, Recording, SlowedGate, verdicts_of
from .results import Results
from .settings import Settings
from .trial import IN_SERVER, MEASURED_S, Pair, RunPair, Trial, Where, Wish, conduct

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


def places(settings: Settings, results: Results, wishes: Sequence[Wish]) -> dict[Where, list[Wish]]:
    """Where time can be added here, and to which benchmarks: in the timed block to all of them."""
    found: dict[Where, list[Wish]] = {"block": list(wishes)}
    services = results.environment.services
    if services.get("app") == "process":
        asking = {
            one.key
            for one in results.benchmarks
            if one.operations == 1 and "app.messages" in {*one.counts, *one.counts_varying}
        }
        found["application"] = [replace(wish, slowed_in="application") for wish in wishes if wish.key in asking]
    if "postgres" in services:
        limits = thresholds(settings.gate, None)
        found["server"] = [Wish(IN_SERVER, SERVER_SAMPLE_S, limits, slowed_in="server")]
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
    arms: Arms,
    slowed: Mapping[Where, Sequence[Wish]],
    *,
    backends: Mapping[str, str],
    limit_s: float,
    into: Recording,
    keep: Callable[[Recording], None],
    say: Callable[[str], None],
) -> None:
    """Measure for so long: live gates first, then pairs with slow-downs. `keep` is called after each, to store it.

    `arms` are alike; `slowed` are `places`. A gate whose controls are off, or of which an arm dies, is recorded as
    invalid. Raises TrialInvalid where the arms can't even be tried out, or the budget is too short for any pair.
    """
    began_s = time.monotonic()
    wishes = slowed["block"]
    with both_arms(settings, arms, [*wishes, *slowed.get("server", [])], "ci", backends) as both:

        def recorded(chosen: Sequence[Wish], then: Sequence[Wish] = ()) -> Pair:
            pair = both.run_pair(chosen, then)
            on_purpose = {wish.key: wish for wish in chosen if wish.slow_down}
            where: Where = next((wish.slowed_in for wish in on_purpose.values()), "block")
            slow_down = {key: wish.slow_down for key, wish in on_purpose.items()}
            into.pairs.append(Recorded(pair.block_differences, slow_down, where))
            return pair

        def is_time_left(share: float) -> bool:
            return time.monotonic() - began_s < limit_s * share

        while is_time_left(SHARE_OF_GATES):
            trial = _gate(wishes, recorded, settings.gate.duet_budget_s, say)
            if trial and not trial.pairs:
                raise TrialInvalid(
                    f"duet_budget_s of [gate] in settings.toml ({settings.gate.duet_budget_s:g} s) is too short for a"
                    " single pair: raise it"
                )
            if trial:
                into.pace += (trial.spent_s / trial.expected_s - into.pace) / (len(into.gates) + 1)
            into.gates.append(verdicts_of(trial, wishes))
            keep(into)
            say(f"  gate {len(into.gates)}: {_told(into.gates[-1])}")
        for wish in one_by_one(slowed, random.Random()):
            if not is_time_left(SHARE_OF_GATES + SHARE_OF_SLOWED_GATES):
                break
            chosen = list({**{one.key: one for one in wishes}, wish.key: wish}.values())
            trial = _gate(chosen, recorded, settings.gate.duet_budget_s, say)
            judgement = trial.judgements.get(wish.key) if trial else None
            change = judgement.change if judgement else None
            verdicts = verdicts_of(trial, chosen)
            into.slowed.append(SlowedGate(wish.key, wish.slow_down, wish.slowed_in, verdicts, change))
            keep(into)
            said = verdicts.get(wish.key) or (trial.failures[wish.key] if trial else "invalid")
            read = f", read as {change:+.1%}" if change is not None else ""
            say(f"  {wish.slow_down:.0%} {PLACES[wish.slowed_in]}, {wish.key}: {said}{read}")
        pairs = 0
        for chosen, then in itertools.pairwise(few_by_few(slowed)):
            if not is_time_left(1.0):
                break
            try:
                recorded(chosen, then)
            except TrialInvalid as error:
                _say_invalid("pair", error, say)
                continue
            keep(into)
            pairs += 1
        say(
            f"  {pairs} pairs of up to {TOGETHER} benchmarks, slowed down by {', '.join(f'{one:.0%}' for one in SIZES)}"
        )


def one_by_one(slowed: Mapping[Where, Sequence[Wish]], rng: random.Random) -> Iterator[Wish]:
    """Benchmarks at random, for ever, slowed down by LIVE_TURNS, each in each place."""
    for size, wishes in itertools.cycle(itertools.product(LIVE_TURNS, slowed.values())):
        yield replace(rng.choice(wishes), slow_down=size)


def few_by_few(slowed: Mapping[Where, Sequence[Wish]]) -> Iterator[list[Wish]]:
    """A few benchmarks at a time, for ever: after two pairs slowed down in the timed block, one elsewhere."""
    groups = {where: _groups(wishes, SIZES if where == "block" else SIZES[1:]) for where, wishes in slowed.items()}
    others = [group for where, group in groups.items() if where != "block"]
    for other in itertools.cycle(others or [groups["block"]]):
        yield from (next(groups["block"]), next(groups["block"]), next(other))


def _groups(wishes: Sequence[Wish], sizes: Sequence[float]) -> Iterator[list[Wish]]:
    """Each benchmark is slowed down by each of the sizes before any is again."""
    long = [wish.within(SHARE_S, MOST_BLOCKS_RECORDED) for wish in wishes]
    for shift in itertools.count():
        for first in range(0, len(long), TOGETHER):
            yield [
                replace(wish, slow_down=sizes[(number + shift) % len(sizes)])
                for number, wish in enumerate(long[first : first + TOGETHER])
            ]


def _gate(wishes: Sequence[Wish], run_pair: RunPair, budget_s: float, say: Callable[[str], None]) -> Trial | None:
    """None where it is invalid."""
    began_s = time.monotonic()
    try:
        return conduct(wishes, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
    except TrialInvalid as error:
        _say_invalid("gate", error, say)
        return None


def _say_invalid(what: str, error: TrialInvalid, say: Callable[[str], None]) -> None:
    """With all that an arm has said."""
    lines = "\n".join(f"    {line}" for line in str(error).splitlines())
    say(f"  an invalid {what}:\n{lines}")


def _told(gate: Mapping[str, str]) -> str:
    if not gate:
        return "invalid"
    counts = {verdict: list(gate.values()).count(verdict) for verdict in sorted(set(gate.values()))}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
