"""The paired comparison of a run with its base commit."""

import functools
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from plumbline.adopting.unseen import lock_notes
from plumbline.commands.base import Project
from plumbline.commands.output import progress, say_wrapped
from plumbline.comparing.comparison import compare, plans_of, sides_of
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.base import Base, baseline_at, find_base, functions_at, functions_in
from plumbline.comparing.trees.committed import accepted_at
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import describe
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.comparing.workers.pair_servers import shared_by_sides
from plumbline.judging.baseline import baseline_path
from plumbline.judging.evidence import ComparisonEvidence, Evidence, NoComparison, sharing_of
from plumbline.results.schema import Benchmark, Results


def with_pairs(
    project: Project,
    record: Results,
    evidence: Evidence,
    chosen: Collection[Benchmark],
    limit_s: float,
    base: Base | None = None,
) -> Evidence:
    """Compare benchmarks with the base commit and add the result to the evidence.

    `base` is found if it is not given. `limit_s` limits the time of the comparison. If there is no base or no valid
    comparison, the evidence has the reason.
    """
    elsewhere = {benchmark.key for benchmark in chosen} & {*record.app_elsewhere}
    evidence = replace(evidence, application_elsewhere=elsewhere)
    benchmarks = [benchmark for benchmark in chosen if benchmark.key not in elsewhere]
    if not benchmarks:
        return evidence
    found, keys = ComparisonEvidence(), frozenset(benchmark.key for benchmark in benchmarks)
    file = baseline_path(project.baselines, record.environment)
    try:
        base = base or find_base(project.root, baseline=file)
        base_baseline = evidence.base_baseline or baseline_at(project.root, base, file)
        found = replace(found, base=base.shown)
        packages = recorded.environment.packages if (recorded := base_baseline or evidence.baseline) else {}
        sides = sides_of(project.settings, project.root, base.commit, packages, say_wrapped)
        found = replace(found, base_differences=describe(sides))
        number = f"{len(benchmarks)} benchmark{'s' * (len(benchmarks) != 1)}"
        lines = [f"\nComparing {number} with {found.base}", *(f"  {line}" for line in found.base_differences)]
        say_wrapped("\n".join(lines))
        found = replace(found, notes=lock_notes(project.root))
        if not sides.differ:
            return replace(evidence, comparison=replace(found, compared=keys, unaffected=keys))
        found = replace(found, notes=[*found.notes, *shared_by_sides(project.settings)])
        paired = compare(
            project.settings,
            sides,
            plans_of(project.settings, benchmarks),
            limit_s=limit_s,
            sharing=sharing_of(record) if record.shard else 0,
            profile=record.profile or "ci",
            backends=record.environment.services,
            say=say_wrapped,
            progress=progress,
        )
        found = replace(
            paired,
            base=found.base,
            base_differences=found.base_differences,
            notes=[*found.notes, *paired.notes],
            compared=keys,
            accepted=accepted_at(project.root, base, project.baselines),
            new=_new(project, base, [one for one in benchmarks if one.key in paired.failures]),
        )
    except NoBase as error:
        found = replace(found, none=NoComparison("no_base", str(error)))
    except CopyFailed as error:
        found = replace(found, none=NoComparison("copy", str(error)))
    except ComparisonInvalid as error:
        found = replace(found, none=NoComparison("invalid", str(error)))
    return replace(evidence, comparison=found)


def _new(project: Project, base: Base, benchmarks: Collection[Benchmark]) -> set[str]:
    """Return the keys of the benchmarks whose tests the base commit does not have.

    If a file does not itself define a test, for example because a class inherits it, and the base has the file, the
    test is not counted as new.
    """
    of_base = functools.cache(lambda file: functions_at(project.root, base, file))
    found = set()
    for one in benchmarks:
        tests = [name.partition("[")[0].split("::") for name in (one.key, one.renamed_from) if name]
        if not any(_may_have(of_base(file), project.suite / file, test) for file, *_, test in tests):
            found.add(one.key)
    return found


def _may_have(there: Collection[str] | None, file: Path, test: str) -> bool:
    """Return whether the base may have a test. `there`: its functions in the file, or None if it lacks the file."""
    return there is not None and (test in there or test not in functions_in(file))


def rehearse(project: Project, record: Results) -> list[str]:
    """Run each benchmark once, untimed, in copies of the last commit and of the working tree.

    Return the problems that would prevent a comparison with this commit. Raises NoBase if there is no commit.
    """
    if not (commit := Git(project.root).commit("HEAD")):
        raise NoBase("nothing has been committed yet")
    base = Base(commit, "the last commit")
    try:
        sides = sides_of(project.settings, project.root, commit, record.environment.packages, say_wrapped)
        plans, services = plans_of(project.settings, record.benchmarks), record.environment.services
        with pair_runner(project.settings, sides, plans, "ci", services, whole=True) as runner:
            failures = runner.rehearsal.failures
    except (NoBase, CopyFailed, ComparisonInvalid) as error:
        return [str(error)]
    failed = [one for one in record.benchmarks if one.key in failures]
    new = _new(project, base, failed) - runner.rehearsal.failed_in_head
    return [f"{one.key} can't be compared: {failures[one.key]}" for one in failed if one.key not in new]
