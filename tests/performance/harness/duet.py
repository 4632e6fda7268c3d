"""The paired comparison: two pytest processes, base and head, measure the same benchmarks in turns on one core.

A pair is two fresh processes, each with the application served from its own tree and a database of its own. Within a
pair, each benchmark is measured in blocks by turns, so that each block begins with the caches that the other arm has
left; which arm begins is drawn, so that a drift of the machine cancels over the pairs. `pairs.py` says what the
differences mean.
"""

import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .arm_process import ArmProcess
from .arms import Arms
from .ground import Ground
from .pairs import TrialInvalid, block_differences, figure
from .pin import CoreLock, rest_s
from .results import FunctionTime
from .services.variables import placeholders
from .settings import Settings
from .trial import MOST_BLOCKS, Pair, Trial, Wish, conduct, controls

MOST_PROFILED, PROFILED_S = 20, 0.5
"""Benchmarks whose regression is looked into, the worst first, and for how long each, as it is without a profiler."""
LEAST_REST_S = 0.02
"""Between turns, a rest is no shorter: what runs meanwhile leaves other caches, so rests are few."""


def compare(
    settings: Settings,
    arms: Arms,
    wishes: Sequence[Wish],
    *,
    budget_s: float,
    profile: str = "ci",
    backends: Mapping[str, str] = {},
    on_pair: Callable[[str], None] = lambda _: None,
) -> Trial:
    """Compare until each benchmark is convicted or acquitted, or the time is up; not those that run the same in both.

    `backends`: where the servers came from before, by name, to be taken again where that is left open. `on_pair` is
    told before each pair how far the comparison is. Raises TrialInvalid, and NoBase where the base can't be run.
    """
    began_s = time.monotonic()
    numbers = itertools.count(1)
    with both_arms(settings, arms, wishes, profile, backends) as both:

        def run_pair(chosen: Sequence[Wish], then: Sequence[Wish] = ()) -> Pair:
            left_s = max(began_s + budget_s - time.monotonic(), 0.0)
            on_pair(f"  pair {next(numbers)}: {len(chosen)} benchmarks undecided, {left_s:.0f} s left at most")
            return both.run_pair(chosen, then)

        reached = [wish for wish in wishes if wish.key not in both.unreached]
        trial = Trial()
        if reached:
            trial = conduct(reached, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
        trial.unreached = both.unreached
        convicted = [
            wish for wish in reached if (one := trial.judgements.get(wish.key)) and one.verdict == "regression"
        ]
        convicted.sort(key=lambda wish: -trial.judgements[wish.key].change)
        if convicted:
            trial.functions = both.slower_functions(convicted[:MOST_PROFILED])
    return trial


@contextlib.contextmanager
def both_arms(
    settings: Settings, arms: Arms, wishes: Sequence[Wish], profile: str, backends: Mapping[str, str] = {}
) -> Iterator["BothArms"]:
    """What both arms stand on, to run pairs on; raises as `compare`."""
    with contextlib.ExitStack() as stack:
        core = CoreLock.acquire(settings.pin)
        stack.callback(core.release)
        ground = stack.enter_context(Ground(settings, arms, core.core, backends))
        ground.rehearse([*controls(wishes[0].thresholds), *wishes], profile)
        yield BothArms(ground, profile)


class BothArms:
    """Runs pairs of fresh processes."""

    def __init__(self, ground: Ground, profile: str) -> None:
        self.unreached = ground.unreached
        self._ground = ground
        self._profile = profile
        self._rng = random.Random()

    def run_pair(self, chosen: Sequence[Wish], then: Sequence[Wish] = ()) -> Pair:
        """One pair, with the controls; the processes of the next one, of which are `then`, are started meanwhile."""
        then = [*controls(then[0].thresholds), *then] if then else []
        chosen = [*controls(chosen[0].thresholds), *chosen]
        return _pair(self._ground, chosen, then, self._profile, self._rng)

    def slower_functions(self, wishes: Sequence[Wish]) -> dict[str, list[FunctionTime]]:
        """By benchmark, what head spends more time in: one more pair, under a profiler; nothing where it fails.

        Nor where the profiler was left out.
        """
        try:
            from .extras.profile import slower_functions
        except ImportError:
            return {}
        arms = self._ground.arms
        trees = arms.base.tree, arms.head.tree
        with tempfile.TemporaryDirectory(prefix="perf-profile-") as name:
            folder = Path(name)
            with contextlib.suppress(TrialInvalid), self._ground.profiled(folder):
                short = [wish.within(PROFILED_S, MOST_BLOCKS) for wish in wishes]
                _pair(self._ground, short, [], self._profile, self._rng)
            return {one.key: slower_functions(one.key, folder / "base", folder / "head", trees) for one in wishes}


def _pair(ground: Ground, chosen: Sequence[Wish], then: Sequence[Wish], profile: str, rng: random.Random) -> Pair:
    pair = Pair()
    with ground.arms_running(chosen, profile, rng) as (base, head):
        pair.idle_s = ground.idle_s
        there = set(base.collected) & set(head.collected)
        for wish in chosen:
            if wish.key not in there:
                pair.failures[wish.key] = "; ".join(filter(None, (arm.why_not_there(wish.key) for arm in (base, head))))
        wanted = [wish for wish in chosen if wish.key in there]
        for arm in (base, head):
            arm.tell(order=[wish.key for wish in wanted])
        if then:
            ground.start_ahead(then, profile, rng)
        for wish in wanted:
            differences, samples_s = _in_turns(base, head, wish, rng)
            ends = {arm.arm.name: arm.end(wish.key) for arm in (base, head)}
            if why := [f"in {name}: {outcome}" for name, outcome in ends.items() if outcome]:
                pair.failures[wish.key] = "; ".join(why)
            elif differences:
                pair.block_differences[wish.key], pair.samples_s[wish.key] = differences, samples_s
            else:
                pair.failures[wish.key] = "too short for the clock: it measured 0"
    return pair


def _in_turns(
    base: ArmProcess, head: ArmProcess, wish: Wish, rng: random.Random
) -> tuple[list[float], tuple[list[float], list[float]]]:
    """By how much head was slower, by each two neighbouring blocks, and what each sample took in base and in head.

    Nothing where either arm skips or fails it.
    """
    nothing: tuple[list[float], tuple[list[float], list[float]]] = [], ([], [])
    ready = [arm.begins(wish.key) for arm in (base, head)]
    if not all(ready):
        return nothing
    if not all(arm.block(wish.warm_up) for arm in (base, head)):
        return nothing
    figures: dict[ArmProcess, list[float]] = {base: [], head: []}
    samples_s: dict[ArmProcess, list[float]] = {base: [], head: []}
    order = (base, head) if rng.random() < 0.5 else (head, base)
    began_s = time.monotonic()
    for _ in range(wish.blocks):
        for arm in order:
            block = arm.block(wish.samples)
            if not block:
                return nothing
            figures[arm].append(figure(block))
            samples_s[arm] += block
        if (due_s := rest_s(time.monotonic() - began_s)) > LEAST_REST_S:
            time.sleep(due_s)
            began_s = time.monotonic()
    time.sleep(rest_s(time.monotonic() - began_s))
    if not all(figures[base] + figures[head]):
        return [], (samples_s[base], samples_s[head])
    differences = block_differences(*(figures[arm] for arm in order), head_first=order[0] is head)
    return differences, (samples_s[base], samples_s[head])


def shared_by_arms(settings: Settings) -> list[str]:
    """What base and head have in common against our will, in sentences for the reader."""
    tables = [settings.env, *(one.env for one in (settings.app, *settings.processes.values()) if one)]
    named = [(key, placeholders(text), "://" in text) for table in tables for key, text in table.items()]
    everything = set().union(*(names for _, names, _ in named))
    if "redis.prefix" in everything:
        return []
    shared = []
    if settings.backend("redis") == "external":
        shared.append("Redis is external, and base and head use the same database of it")
    elif settings.backend("redis") != "off":
        for key, names, is_url in named:
            itself = names if is_url else everything
            if "redis.host" in names and not itself & {"redis.database", "redis.url"}:
                shared.append(f"{key} names no {{redis.database}}, so base and head use the same one")
    return [f"{text}: what one writes under a key of a fixed name, the other reads" for text in shared]
