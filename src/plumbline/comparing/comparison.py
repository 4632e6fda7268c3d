"""The paired comparison as a stage of a run: make both sides, run pairs, and return the evidence."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from plumbline.cache import state_folder
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair
from plumbline.comparing.statistics.schedule import LEAST_SAMPLES, PairedComparison, conduct
from plumbline.comparing.trees.application import SIDES, application_environment
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.locks import read_toml
from plumbline.comparing.trees.sides import Sides, listed, make_sides
from plumbline.comparing.workers.pair_runner import CountedPair, pair_runner
from plumbline.comparing.workers.process import pytest_configuration
from plumbline.comparing.workers.rehearsal import Rehearsal
from plumbline.comparing.workers.worker_pairs import Plans
from plumbline.judging.evidence import LATER_MISSES, ComparisonEvidence, Thresholds
from plumbline.results.schema import Benchmark
from plumbline.settings import Settings

MOST_PROFILED = 20  # regressions to run under a profiler, the largest first
MOST_NAMED = 3  # benchmarks with few samples, the fewest first
# If 1 call in n is slow, 3.5 n samples contain a slow one in 97 % of the cases.
SAMPLES_FOR_A_SLOW_CALL = 3.5

Say = Callable[[str], None]


def compare(
    settings: Settings,
    sides: Sides,
    plans: Plans,
    *,
    limit_s: float,
    sharing: int = 0,
    profile: str = "ci",
    backends: Mapping[str, str] = {},
    say: Say = lambda _: None,
    progress: Callable[[], AbstractContextManager[Say]] = lambda: contextlib.nullcontext(lambda _: None),
    clock: Callable[[], float] = time.monotonic,
) -> ComparisonEvidence:
    """Compare the affected benchmarks until each one fails or passes, or until their pairs have taken `limit_s`.

    Starting both sides, rehearsing and counting have limits of their own, so that pairs are run on slow machines too.
    `sharing`: the number of benchmarks that share the allowed false positives, if there are more than the affected.
    `say` prints lines. `progress` yields a function that shows the progress in one line. Raises the same errors as
    `pair_runner`.
    """
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(progress())
        show("  running both versions once, to see which benchmarks the change affects")
        runner = stack.enter_context(pair_runner(settings, sides, plans, profile, backends))

        def run_pair(chosen: Plans, then: Plans = ()) -> Pair:
            left_s = max(ends_s - clock(), 0.0)
            what = f"{len(chosen)} benchmark{'s' * (len(chosen) != 1)}"
            show(f"  comparing {what}: pair {next(numbers)}, at most {left_s:.0f} s left")
            return runner.run_pair(chosen, then)

        found, rehearsal = PairedComparison(), runner.rehearsal
        if rehearsal.unaffected:
            say(f"  {len(rehearsal.unaffected)} of {len(plans)} benchmarks execute no changed code")
        counted = CountedPair({}, {}, [])
        if left := [plan for plan in plans if plan.key not in rehearsal.unaffected]:
            show("  counting statements, commands and messages of both versions")
            counted = runner.count([plan for plan in left if plan.key not in rehearsal.failures])
            ends_s = clock() + limit_s
            found = conduct(left, run_pair, limit_s=limit_s, clock=clock, sharing=sharing)
        changes = {key: one.change for key, one in found.judgements.items() if one.verdict == "regression"}
        slower = sorted((plan for plan in left if plan.key in changes), key=lambda plan: -changes[plan.key])
        profiled = slower[:MOST_PROFILED]
        functions = runner.slower_functions(profiled)
    if found.pairs:
        benchmarks = f"{len(left)} benchmark{'s' * (len(left) != 1)}"
        say(f"  compared {benchmarks} in {found.pairs} pairs of processes, in {found.elapsed_s:.0f} s")
    notes = [*counted.notes, *_notes_about(rehearsal, sides), *few_samples(left, found)]
    if len(profiled) < len(slower):
        notes.append(f"only the {len(profiled)} largest of {len(slower)} regressions ran under a profiler")
    return ComparisonEvidence(
        notes=notes,
        unaffected=rehearsal.unaffected,
        unjudged=rehearsal.unjudged,
        unjudged_packages=sides.unjudged,
        judgements=found.judgements,
        differences=found.differences,
        samples_s=found.samples_s,
        functions=functions,
        counts=counted.counts,
        uncounted=counted.failures,
        failures=found.failures,
        failed_in_head=rehearsal.failed_in_head,
    )


def _notes_about(rehearsal: Rehearsal, sides: Sides) -> Iterator[str]:
    if rehearsal.brought_along:
        files = listed(sides.shown(rehearsal.brought_along))
        yield f"base and head also have files that git ignores, because they read them: {files}"
    if rehearsal.untraced:
        names = ", ".join(f"{name} (runs {', '.join(programs)})" for name, programs in rehearsal.untraced.items())
        what = f"benchmarks that use {names} count as affected by any change"
        yield f"{what}: only in Python programs can Plumbline see which code runs"


def few_samples(plans: Plans, found: PairedComparison) -> Iterator[str]:
    """Note the benchmarks that passed with few samples, which may contain no slow call if such calls are rare."""
    judged = [plan for plan in plans if plan.thresholds.tails and found.has_passed(plan)]
    counts = sorted((found.samples_of(plan), plan.key) for plan in judged)
    few = [f"{key} ({n} samples, 1 in {n / SAMPLES_FOR_A_SLOW_CALL:.0f})" for n, key in counts if n < LEAST_SAMPLES]
    if few:
        more = f" and {len(few) - MOST_NAMED} more" if len(few) > MOST_NAMED else ""
        listed = ", ".join(few[:MOST_NAMED])
        yield f"rare slow calls can be missed if fewer than 1 in so many calls is slow: {listed}{more}"


def sides_of(
    settings: Settings,
    root: Path,
    commit: str | None,
    recorded_packages: Mapping[str, str] = {},
    say: Say = lambda _: None,
    cache: Path | None = None,
    head_commit: str | None = None,
    recorded_in_head: Mapping[str, str] = {},
) -> Sides:
    """Make the two sides. They import from the folders of the application, the processes and pytest's `pythonpath`.

    The arguments are those of `make_sides`.
    """
    directories = [one.directory for one in settings.code_under_test]
    file = pytest_configuration(root)
    if file is not None and file.name == "pyproject.toml":
        tool = read_toml(file)["tool"]["pytest"]
        folders = tool.get("ini_options", tool).get("pythonpath", [])
        folders = folders.split() if isinstance(folders, str) else folders
        directories += [os.path.relpath(file.parent / folder, root) for folder in folders]
    try:
        cache = cache or state_folder() / SIDES
    except OSError as error:
        raise NoBase(str(error)) from None
    return make_sides(
        root,
        commit,
        directories=directories,
        cache=cache,
        results=settings.results,
        also_copy=settings.compare.also_copy,
        install=settings.install,
        python_setting=settings.python,
        recorded_packages=recorded_packages,
        application=lambda tree, project, folder: application_environment(settings, root, tree, project, folder, say),
        say=say,
        head_commit=head_commit,
        recorded_in_head=recorded_in_head,
    )


def plans_of(settings: Settings, benchmarks: Collection[Benchmark]) -> list[BenchmarkPlan]:
    limits = {
        one.key: Thresholds.of(settings.gate, settings.benchmarks.get(one.key)).with_shares(1, LATER_MISSES)
        for one in benchmarks
    }
    return [BenchmarkPlan(one.key, one.median * one.operations, limits[one.key]) for one in benchmarks]
