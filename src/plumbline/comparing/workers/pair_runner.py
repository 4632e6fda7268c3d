"""The paired comparison: two pytest processes, base and head, measure the same benchmarks in turns on one core.

A pair is two fresh processes, each with the application served from its own tree and a database of its own. Within a
pair, each benchmark is measured in blocks by turns, so that each block begins with the caches that the other side has
left; which side begins is drawn, so that a drift of the machine cancels over the pairs. `pairs.py` says what the
differences mean.
"""

import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from plumbline.comparing.statistics.controls import controls
from plumbline.comparing.statistics.inference import ComparisonInvalid, block_differences, figure
from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan, Pair
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_servers import PairServers
from plumbline.comparing.workers.process import WorkerProcess
from plumbline.measuring.cpu_affinity import CoreLock, rest_s
from plumbline.results.schema import FunctionTime
from plumbline.services.variables import placeholders
from plumbline.settings import Settings

MOST_PROFILED, PROFILED_S = 20, 0.5
"""Benchmarks whose regression is looked into, the worst first, and for how long each, as it is without a profiler."""
LEAST_REST_S = 0.02
"""Between turns, a rest is no shorter: what runs meanwhile leaves other caches, so rests are few."""


def compare(
    settings: Settings,
    sides: Sides,
    plans: Sequence[BenchmarkPlan],
    *,
    budget_s: float,
    profile: str = "ci",
    backends: Mapping[str, str] = {},
    on_pair: Callable[[str], None] = lambda _: None,
) -> PairedComparison:
    """Compare until each benchmark is convicted or acquitted, or the time is up; not those that run the same in both.

    `backends`: where the servers came from before, by name, to be taken again where that is left open. `on_pair` is
    told before each pair how far the comparison is. Raises ComparisonInvalid, and NoBase where the base can't be run.
    """
    began_s = time.monotonic()
    numbers = itertools.count(1)
    with pair_runner(settings, sides, plans, profile, backends) as both:

        def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
            left_s = max(began_s + budget_s - time.monotonic(), 0.0)
            on_pair(f"  pair {next(numbers)}: {len(chosen)} benchmarks undecided, {left_s:.0f} s left at most")
            return both.run_pair(chosen, then)

        affected = [plan for plan in plans if plan.key not in both.unaffected]
        comparison = PairedComparison()
        if affected:
            comparison = conduct(affected, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
        comparison = replace(comparison, unaffected=both.unaffected)
        convicted = [
            plan for plan in affected if (one := comparison.judgements.get(plan.key)) and one.verdict == "regression"
        ]
        convicted.sort(key=lambda plan: -comparison.judgements[plan.key].change)
        if convicted:
            comparison = replace(comparison, functions=both.slower_functions(convicted[:MOST_PROFILED]))
    return comparison


@contextlib.contextmanager
def pair_runner(
    settings: Settings, sides: Sides, plans: Sequence[BenchmarkPlan], profile: str, backends: Mapping[str, str] = {}
) -> Iterator["PairRunner"]:
    """What both sides stand on, to run pairs on; raises as `compare`."""
    with contextlib.ExitStack() as stack:
        core = CoreLock.acquire(settings.pin)
        stack.callback(core.release)
        pair_servers = stack.enter_context(PairServers(settings, sides, core.core, backends))
        pair_servers.rehearse([*controls(plans[0].thresholds), *plans], profile)
        yield PairRunner(pair_servers, profile)


class PairRunner:
    """Runs pairs of fresh processes."""

    def __init__(self, pair_servers: PairServers, profile: str) -> None:
        self.unaffected = pair_servers.unaffected
        self._pair_servers = pair_servers
        self._profile = profile
        self._rng = random.Random()

    def run_pair(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        """One pair, with the controls; the processes of the next one, of which are `then`, are started meanwhile."""
        then = [*controls(then[0].thresholds), *then] if then else []
        chosen = [*controls(chosen[0].thresholds), *chosen]
        return _pair(self._pair_servers, chosen, then, self._profile, self._rng)

    def slower_functions(self, plans: Sequence[BenchmarkPlan]) -> dict[str, list[FunctionTime]]:
        """By benchmark, what head spends more time in: one more pair, under a profiler; nothing where it fails."""
        from plumbline.comparing.workers.profiler import slower_functions

        sides = self._pair_servers.sides
        trees = sides.base.tree, sides.head.tree
        with tempfile.TemporaryDirectory(prefix="perf-profile-") as name:
            folder = Path(name)
            with contextlib.suppress(ComparisonInvalid), self._pair_servers.profiled(folder):
                short = [plan.within(PROFILED_S, MOST_BLOCKS) for plan in plans]
                _pair(self._pair_servers, short, [], self._profile, self._rng)
            return {one.key: slower_functions(one.key, folder / "base", folder / "head", trees) for one in plans}


def _pair(
    pair_servers: PairServers,
    chosen: Sequence[BenchmarkPlan],
    then: Sequence[BenchmarkPlan],
    profile: str,
    rng: random.Random,
) -> Pair:
    with pair_servers.workers_running(chosen, profile, rng) as (base, head):
        pair = Pair(idle_s=pair_servers.idle_s)
        there = set(base.collected) & set(head.collected)
        for plan in chosen:
            if plan.key not in there:
                pair.failures[plan.key] = "; ".join(
                    filter(None, (side.why_not_there(plan.key) for side in (base, head)))
                )
        wanted = [plan for plan in chosen if plan.key in there]
        for side in (base, head):
            side.tell(order=[plan.key for plan in wanted])
        if then:
            pair_servers.start_ahead(then, profile, rng)
        for plan in wanted:
            differences, samples_s = _in_turns(base, head, plan, rng)
            ends = {side.side.name: side.end(plan.key) for side in (base, head)}
            if why := [f"in {name}: {outcome}" for name, outcome in ends.items() if outcome]:
                pair.failures[plan.key] = "; ".join(why)
            elif differences:
                pair.block_differences[plan.key], pair.samples_s[plan.key] = differences, samples_s
            else:
                pair.failures[plan.key] = "too short for the clock: it measured 0"
    return pair


def _in_turns(
    base: WorkerProcess, head: WorkerProcess, plan: BenchmarkPlan, rng: random.Random
) -> tuple[list[float], tuple[list[float], list[float]]]:
    """By how much head was slower, by each two neighbouring blocks, and what each sample took in base and in head.

    Nothing where either side skips or fails it.
    """
    nothing: tuple[list[float], tuple[list[float], list[float]]] = [], ([], [])
    ready = [side.begins(plan.key) for side in (base, head)]
    if not all(ready):
        return nothing
    if not all(side.block(plan.warm_up) for side in (base, head)):
        return nothing
    figures: dict[WorkerProcess, list[float]] = {base: [], head: []}
    samples_s: dict[WorkerProcess, list[float]] = {base: [], head: []}
    order = (base, head) if rng.random() < 0.5 else (head, base)
    began_s = time.monotonic()
    for _ in range(plan.blocks):
        for side in order:
            block = side.block(plan.samples)
            if not block:
                return nothing
            figures[side].append(figure(block))
            samples_s[side] += block
        if (due_s := rest_s(time.monotonic() - began_s)) > LEAST_REST_S:
            time.sleep(due_s)
            began_s = time.monotonic()
    time.sleep(rest_s(time.monotonic() - began_s))
    if not all(figures[base] + figures[head]):
        return [], (samples_s[base], samples_s[head])
    differences = block_differences(*(figures[side] for side in order), head_first=order[0] is head)
    return differences, (samples_s[base], samples_s[head])


def shared_by_sides(settings: Settings) -> list[str]:
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
