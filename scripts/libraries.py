"""Measure how often verdicts on releases of client libraries are right: `python -m scripts.libraries --help`.

The script runs paired comparisons as a gate does, and 30 longer pairs of each benchmark as a reference.
"""

import argparse
import math
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from plumbline.comparing.comparison import compare, plans_of, sides_of
from plumbline.comparing.statistics.inference import (
    OF_FEW,
    ComparisonInvalid,
    difference,
    errors_within,
    judge_pairs,
    usual_ratio,
)
from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan
from plumbline.comparing.statistics.schedule import MEASURED_S
from plumbline.comparing.trees.environment import base_python
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.judging.distributions import student_quantile
from plumbline.judging.evidence import ComparisonEvidence, Judgement
from plumbline.results.environment import installed_packages
from plumbline.results.files import read_results
from plumbline.selfcheck.record import Share
from plumbline.settings import Settings
from plumbline.settings_file import load_settings
from scripts.clones import ROOT, cloned, run_sections

OLDER = ("redis==6.4.0", "asyncpg==0.30.0")
# By library: the file whose benchmarks do not use it.
WITHOUT = {"redis": "test_postgres_benchmarks.py", "asyncpg": "test_redis_benchmarks.py"}
REFERENCE_PAIRS = 30
AGREEMENTS = ("the same", "inconclusive", "compatible", "contradicts")

_Release = tuple[str, Path]


def libraries(options: argparse.Namespace) -> None:
    """Compare the installed release of each library with an older one, both ways."""
    settings = load_settings(ROOT / "tests" / "performance" / "settings.toml")
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "results.json"
        clone.run("-m", "pytest", "-q", "tests/performance", f"--perf-output={output}")
        plans = plans_of(settings, read_results(output).benchmarks)
        for older in options.older:
            name = older.partition("==")[0]
            for (old, old_python), (new, new_python) in both_ways(older, Path(folder)):
                twins = sides_of(settings, clone.root, None, cache=Path(folder))
                base, head = replace(twins.base, python=old_python), replace(twins.head, python=new_python)
                sides = replace(twins, base=base, head=head, packages=[(name, old, new)])
                print(f"{name} {old} → {new}:")
                compare_with_reference(settings, sides, plans, options.runs, WITHOUT[name])


def both_ways(older: str, folder: Path) -> Iterator[tuple[_Release, _Release]]:
    """Yield the older and the installed release, each with a Python that has it, and then in reverse order."""
    name, _, version = older.partition("==")
    first = version, base_python({name: version}, folder / "environments", ROOT, print)
    second = installed_packages()[name], Path(sys.executable)
    yield first, second
    yield second, first


def compare_with_reference(
    settings: Settings, sides: Sides, plans: Sequence[BenchmarkPlan], runs: int, without: str
) -> None:
    """Run comparisons and print how well their verdicts agree with the reference."""
    reference = reference_of(settings, sides, plans)
    agreement: Counter[str] = Counter()
    passed: list[bool] = []
    for run in range(runs):
        try:
            print(f"  comparison {run + 1}:")
            comparison = compare(settings, sides, plans, limit_s=settings.gate.pairs_limit_s, say=print)
        except ComparisonInvalid as error:
            print(f"  invalid: {error}")
            continue
        for plan in plans:
            by_pairs, judgement = reference.get(plan.key), judgement_of(comparison, plan.key, reference)
            if by_pairs is None or judgement is None:
                print(f"    not compared: {plan.key} {comparison.failures.get(plan.key, 'the time was up')}")
                continue
            agrees = agreement_of(judgement, by_pairs, plan)
            agreement[agrees] += 1
            if plan.key.startswith(without):
                passed.append(judgement.verdict == "pass")
            if run == 0 or agrees == "contradicts":
                print(
                    f"    {by_pairs.change:+7.1%} ({by_pairs.low:+.1%} to {by_pairs.high:+.1%}) {by_pairs.verdict:12}"
                    f" {judgement.change:+7.1%} {judgement.verdict:12} {agrees:12} {plan.key}"
                )
    for agrees in AGREEMENTS:
        print(f"  beside {REFERENCE_PAIRS} pairs, {agrees}: {Share(agreement[agrees], agreement.total())}")
    print(f"  passed of those that do not use the library: {Share(sum(passed), len(passed))}")


def judgement_of(comparison: ComparisonEvidence, key: str, reference: Mapping[str, Judgement]) -> Judgement | None:
    """Return the judgement of a benchmark. An unaffected benchmark passes."""
    if key in comparison.unaffected and key in reference:
        return msgspec.structs.replace(reference[key], change=0.0, verdict="pass")
    return comparison.judgements.get(key)


def reference_of(settings: Settings, sides: Sides, plans: Sequence[BenchmarkPlan]) -> dict[str, Judgement]:
    """Judge all benchmarks once, by many pairs with more blocks than in a gate."""
    blocks: dict[str, list[list[float]]] = {plan.key: [] for plan in plans}
    long = [plan.within(2 * MEASURED_S / len(plans), MOST_BLOCKS) for plan in plans]
    with pair_runner(settings, sides, plans, "ci") as runner:
        for _ in range(REFERENCE_PAIRS):
            for key, found in runner.run_pair(long).block_differences.items():
                if key in blocks:
                    blocks[key].append(found)
    return judged(plans, blocks)


def judged(plans: Sequence[BenchmarkPlan], blocks: Mapping[str, list[list[float]]]) -> dict[str, Judgement]:
    """Judge these pairs. `low` and `high` become a 95 % confidence interval."""
    differences = {key: [difference(one) for one in pairs] for key, pairs in blocks.items() if len(pairs) > 1}
    within = {key: errors_within(blocks[key]) for key in differences}
    usual = usual_ratio(differences, within) or OF_FEW
    found = {}
    for plan in plans:
        key = plan.key
        if key not in differences:
            continue
        one = judge_pairs(differences[key], within[key], plan.thresholds, usual, sharing=len(differences))
        mean = statistics.fmean(differences[key])
        error = statistics.stdev(differences[key]) / math.sqrt(len(differences[key]))
        margin = student_quantile(0.975, len(differences[key]) - 1) * error
        found[key] = msgspec.structs.replace(one, low=math.expm1(mean - margin), high=math.expm1(mean + margin))
    return found


def agreement_of(judgement: Judgement, reference: Judgement, plan: BenchmarkPlan) -> str:
    """Return one of AGREEMENTS.

    A verdict contradicts the reference if the interval of the reference rules out the verdict's claim. A slow-down
    between the tolerance and the minimum effect may fail or pass, so both verdicts are compatible.
    """
    limits = plan.thresholds
    if judgement.verdict == "inconclusive":
        return "inconclusive"
    if judgement.verdict == reference.verdict:
        return "the same"
    refuted = {
        "regression": reference.high < limits.tolerance,
        "pass": reference.low > limits.minimum_effect,
        "improvement": reference.low > -limits.tolerance,
    }
    return "contradicts" if refuted[str(judgement.verdict)] else "compatible"


def release(text: str) -> str:
    """Check a value of --older."""
    if not re.fullmatch(rf"({'|'.join(WITHOUT)})==.+", text):
        raise argparse.ArgumentTypeError(f"expected {' or '.join(f'{name}==VERSION' for name in WITHOUT)}, not {text}")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.libraries",
        description="Measure how often verdicts on releases of client libraries are right.",
        epilog="example: python -m scripts.libraries --older redis==5.2.1 --runs 3",
    )
    parser.add_argument("--runs", type=int, default=1, help="comparisons of each release (default: 1)")
    parser.add_argument(
        "--older",
        nargs="+",
        type=release,
        default=OLDER,
        metavar="NAME==VERSION",
        help=f"releases to compare with those installed (default: {' '.join(OLDER)})",
    )
    run_sections(parser, {"libraries": libraries})
