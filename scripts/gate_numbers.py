"""`python -m scripts.gate_numbers SECTION …`: measure how far the gate's verdict can be trusted, and print it.

Sections: gate, hosted, service, dependency, libraries, times, rival. `--runs` sets how often each is tried, but for
`gate`, a self-check that takes `--minutes` (10). `--busy-loops` sets how many loops start and stop at random on the
machine meanwhile (0; `0 3` does it all both ways), `--older` which releases are compared with those installed. All
happens in temporary clones of the newest commit, with embedded servers. Shares come with their exact 95 % intervals.
"""

import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from plumbline.comparing.comparison import directories_of, plans_of
from plumbline.comparing.statistics.inference import (
    ComparisonInvalid,
    difference,
    errors_within,
    judge_pairs,
    prior_of,
)
from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan
from plumbline.comparing.statistics.stage import MEASURED_S
from plumbline.comparing.trees.installer import base_python
from plumbline.comparing.trees.sides import Sides, make_twins
from plumbline.comparing.workers.pair_runner import compare, pair_runner
from plumbline.comparing.workers.timers import step_now_s
from plumbline.judging.distributions import student_quantile
from plumbline.judging.thresholds import Judgement
from plumbline.reporting.wording import text
from plumbline.results.environment import installed_packages
from plumbline.results.files import read_results, write_results
from plumbline.results.reasons import Reason
from plumbline.results.schema import Benchmark, Results
from plumbline.selfcheck.findings import GOOD_ESTIMATE
from plumbline.selfcheck.share import Share
from plumbline.settings import Settings, load_settings
from scripts.numbers import NOX, ROOT, value_range
from scripts.rival import OPERATIONS, OUR_BENCHMARKS, SLOW_DOWN, Rival

LONGEST_BURST_S = 2.0
SCALES = (0.8, 1.25)
"""What the figures of another host of the same kind may be, over this one's."""
REFERENCE_PAIRS = 30
APP = "tests/sample_service/app.py"
OPERATIONS_FILE = "tests/sample_service/operations.py"
READ_BY_ALL = "tests/sample_service/settings.py"
"""By `prepare`, which all benchmarks depend on."""
API = "test_api_benchmarks.py::"
HANDLERS = {
    "list_items": f"{API}test_list",
    "create_item": f"{API}test_create",
    "health": f"{API}test_health",
    "read_cached_item": f"{API}test_cached_read",
}
"""Of the sample service, each with the one benchmark that goes through it."""
OLDER = ("redis==6.4.0", "asyncpg==0.30.0")
"""Releases of client libraries to be compared with those installed."""
CANT_TOUCH = {"redis": "test_postgres_benchmarks.py", "asyncpg": "test_redis_benchmarks.py"}
"""The benchmarks that don't use the library."""
THREE = "test_list or test_select_1 or test_publish_latency"
INVALID = 3
STEPS_WATCHED_S = 3.0
MOST_COUNTS = 3
NOT_AT_THE_CHECK = "paired comparison with|nothing differs|measured again"
FOREIGN = ("PERF_", "PYTEST_", "GITHUB_", "CI_", "PYTHONDONTWRITEBYTECODE")
"""Variables that would tell the gate something else."""


# ---- a clone with commits of its own


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    duration_s: float
    after_suite_s: float
    """From pytest's closing line to the end."""


class Clone:
    """This repository's newest commit in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.suite = root / "tests" / "performance"

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Numbers", "-c", "user.email=numbers@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=Change")

    def restore(self) -> None:
        """Undo what was not committed."""
        self.git("reset", "--quiet", "--hard")
        self.git("clean", "--quiet", "--force", "-d")

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts, each of which a file holds once."""
        text = (self.root / name).read_text(encoding="utf-8")
        for old, new in changes:
            if text.count(old) != 1:
                sys.exit(f"{name} holds {old!r} {text.count(old)} times, not once: mend {__file__}")
            text = text.replace(old, new)
        (self.root / name).write_text(text, encoding="utf-8")

    def touch(self, file: str = APP) -> None:
        """A change that changes nothing, and might act for all benchmarks whose processes import this file."""
        path = self.root / file
        path.write_text(path.read_text(encoding="utf-8") + "_of_no_use = 0\n", encoding="utf-8")

    def slow_down(self, handler: str, extra_s: float) -> None:
        """Let a handler of the sample service do work that takes so much longer at the usual speed of this machine."""
        start = f"async def {handler}(request: Request) -> Response:\n"
        steps = round(extra_s / usual_step_s())
        # Inside, so that this handler alone differs.
        works = f"    from plumbline.comparing.workers.slowed import work\n\n    work({steps})\n"
        self.edit(APP, (start, start + works))

    def run(self, *arguments: str, python: Path | str = sys.executable, codes: Sequence[int] = (0,)) -> Done:
        """Run Python to its end; one that ends with another exit code ends us."""
        began_s, suite_over_s, lines = perf_counter(), 0.0, []
        with subprocess.Popen(
            [str(python), *arguments], cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    lines.append(line)
                    if re.search(r"\d+ passed.* in [\d.]+s", line):
                        suite_over_s = perf_counter()
            except BaseException:
                process.terminate()
                raise
        ended_s = perf_counter()
        output = "".join(lines)
        if process.returncode not in codes:
            sys.exit(f"{' '.join(arguments)} ended with {process.returncode}:\n{output}")
        return Done(process.returncode, output, ended_s - began_s, ended_s - suite_over_s)

    def record_baseline(self, *arguments: str, python: Path | str = sys.executable) -> Results:
        """Record and commit a baseline."""
        self.run("-m", "plumbline", "baseline", "--", *arguments, python=python)
        self.commit()
        return read_results(self.baseline)

    @property
    def baseline(self) -> Path:
        [path] = (self.suite / "baselines").glob("linux-*.json")
        return path

    def pretend_another_host(self, recorded: Results, scale: float) -> None:
        """Commit the baseline as another host of the same kind would have recorded it."""
        environment = msgspec.structs.replace(recorded.environment, machine="another")
        write_results(
            self.baseline,
            msgspec.structs.replace(
                recorded, environment=environment, benchmarks=[_scaled(one, scale) for one in recorded.benchmarks]
            ),
        )
        self.commit()

    def gate(self, *arguments: str, python: Path | str = sys.executable) -> Results:
        """What the gate makes of the working tree; without benchmarks where it left no results."""
        done = self.run("-m", "plumbline", "ci", "--", *arguments, python=python, codes=(0, 1, INVALID))
        try:
            return read_results(self.root / "perf-results" / "results.json")
        except FileNotFoundError:
            reasons = [Reason("ended", line) for line in done.output.splitlines()[-10:]]
            baseline = read_results(self.baseline)
            return msgspec.structs.replace(baseline, benchmarks=[], exit_code=done.code, reasons=reasons)


def _scaled(benchmark: Benchmark, scale: float) -> Benchmark:
    changed: dict[str, Any] = {
        name: getattr(benchmark, name) * scale for name in ("median", "mean", "p95", "minimum", "maximum")
    }
    changed["process_medians"] = [median * scale for median in benchmark.process_medians]
    changed["rate_per_s"] = benchmark.rate_per_s / scale
    return msgspec.structs.replace(benchmark, **changed)


@contextlib.contextmanager
def cloned() -> Iterator[Clone]:
    with tempfile.TemporaryDirectory(prefix="perf-numbers-") as folder:
        root = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        yield Clone(root)


def failed(results: Results) -> dict[str, Benchmark]:
    return {one.key: one for one in results.benchmarks if one.verdict == "regression"}


def described(one: Benchmark) -> str:
    """A benchmark with how it changed, by its timings and by its counts."""
    counts = [f"{change.name} {change.old:g} → {change.new:g}" for change in one.count_changes if change.gated]
    change = "not timed" if one.change is None else f"{one.change:+.1%}"
    return f"{one.key}: {'; '.join([change, *counts[:MOST_COUNTS]])}"


class Tally:
    """Gates of which it is known what they should say: which benchmarks are slower, and by how much.

    Those that a gate did not judge by their timings, as the change doesn't reach them, are not counted.
    """

    def __init__(self) -> None:
        self._gates: list[tuple[Results, Mapping[str, float]]] = []

    def add(self, results: Results, slower: Mapping[str, float] = {}) -> None:
        self._gates.append((results, slower))

    def shares(self) -> dict[str, Share]:
        valid = [(results, slower) for results, slower in self._gates if results.exit_code in (0, 1)]
        wanted = [
            (one, slower[one.key]) for results, slower in valid for one in results.benchmarks if one.key in slower
        ]
        others = [
            one
            for results, slower in valid
            for one in results.benchmarks
            if one.key not in slower and not any(reason.kind == "unaffected" for reason in one.reasons)
        ]
        false_alarms = [any(key not in slower for key in failed(results)) for results, slower in valid]
        found = {
            "invalid gates": Share(len(self._gates) - len(valid), len(self._gates)),
            "gates with a false alarm": Share(sum(false_alarms), len(valid)),
            "false alarms by benchmark": Share(sum(one.verdict == "regression" for one in others), len(others)),
            "inconclusive without a change": Share(sum(one.verdict == "inconclusive" for one in others), len(others)),
        }
        if wanted:
            caught = sum(one.verdict == "regression" for one, _ in wanted)
            close = sum(abs((one.change or 0.0) - size) <= GOOD_ESTIMATE for one, size in wanted)
            found["slow-downs caught"] = Share(caught, len(wanted))
            found[f"slow-downs read within {GOOD_ESTIMATE * 100:g} points"] = Share(close, len(wanted))
        return found

    def show(self, title: str) -> None:
        print(f"{title}:")
        for name, share in self.shares().items():
            if share.of:
                print(f"  {name}: {share}")
        for results, slower in self._gates:
            for key, one in failed(results).items():
                if key not in slower:
                    print(f"  false alarm: {described(one)}")
            for one in results.benchmarks:
                if one.key in slower and one.verdict != "regression":
                    print(f"  not caught: {described(one)}, {one.verdict}")
            if results.exit_code not in (0, 1):
                print(f"  invalid: {'; '.join(map(text, results.reasons))}")


def usual_step_s() -> float:
    """What a step of work takes by the median of STEPS_WATCHED_S: its machine_speed changes from moment to moment."""
    found = []
    until_s = perf_counter() + STEPS_WATCHED_S
    while perf_counter() < until_s:
        found.append(step_now_s())
    return statistics.median(found)


# ---- sections


def gate(options: argparse.Namespace) -> None:
    """What the gate's own measure of itself says."""
    with cloned() as clone:
        done = clone.run("-m", "plumbline", "selfcheck", f"--minutes={options.minutes}")
        recording = ROOT / "perf-results" / f"selfcheck-{options.loops}-busy-loops.json"
        recording.parent.mkdir(exist_ok=True)
        shutil.copy(clone.root / "perf-results" / "selfcheck.json", recording)
    print(done.output[done.output.index("live gates") : done.output.index("written: ")])
    print(f"written: {recording.relative_to(ROOT)}")


def hosted(options: argparse.Namespace) -> None:
    """Gates on another host than the baseline's, 0.8 and 1.25 times as fast: a constant, and 10 % in a handler."""
    with cloned() as clone:
        recorded = clone.record_baseline()
        medians_s = {one.key: one.median for one in recorded.benchmarks}
        for scale in SCALES:
            clone.pretend_another_host(recorded, scale)
            unchanged, slower = Tally(), Tally()
            for run in range(options.runs):
                clone.touch()
                unchanged.add(clone.gate())
                clone.restore()
                handler, key = list(HANDLERS.items())[run % len(HANDLERS)]
                clone.slow_down(handler, SLOW_DOWN * medians_s[key])
                slower.add(clone.gate(), {key: SLOW_DOWN})
                clone.restore()
            unchanged.show(f"baseline of another host, times {scale:g}, a constant added")
            slower.show(f"baseline of another host, times {scale:g}, one handler {SLOW_DOWN:.0%} slower")


def service(options: argparse.Namespace) -> None:
    """Regressions in the sample service's code, with the whole suite on the baseline's own machine."""
    fetch_all = 'await fetch(request, "SELECT id, name, price_cents FROM items ORDER BY id LIMIT $1", int(limit))'
    one_by_one = (
        '[(await fetch(request, "SELECT id, name, price_cents FROM items WHERE id = $1", row["id"]))[0]'
        ' for row in await fetch(request, "SELECT id FROM items ORDER BY id LIMIT $1", int(limit))]'
    )
    respond, copy_and_respond = 'JSONResponse({"items": items})', 'JSONResponse(copy.deepcopy({"items": items}))'
    imports = ("import json\n", "import copy\nimport json\n")
    with cloned() as clone:
        recorded = clone.record_baseline()
        key = HANDLERS["list_items"]
        median_s = next(one.median for one in recorded.benchmarks if one.key == key)
        changes: dict[str, Callable[[], None]] = {
            f"{SLOW_DOWN:.0%} more work in GET /items": lambda: clone.slow_down("list_items", SLOW_DOWN * median_s),
            "GET /items copies its items": lambda: clone.edit(APP, imports, (respond, copy_and_respond)),
            "GET /items makes a query for each item": lambda: clone.edit(APP, (fetch_all, one_by_one)),
        }
        for what, change in changes.items():
            caught, others = 0, 0
            print(f"{what}:")
            for _ in range(options.runs):
                change()
                results = clone.gate()
                clone.restore()
                found = failed(results)
                caught += key in found
                others += len(found.keys() - {key})
                verdicts = Counter(str(one.verdict) for one in results.benchmarks)
                print(f"  exit code {results.exit_code}, {dict(verdicts)}")
                shown = [one for one in results.benchmarks if one.key == key or one.key in found]
                print("\n".join(f"    {one.verdict}: {described(one)}" for one in shown))
            print(f"  caught: {Share(caught, options.runs)}; others failed: {others}")


def dependency(options: argparse.Namespace) -> None:
    """Another release of a library than the baseline's, both ways: the whole suite on the baseline's own machine."""
    name = options.older[0].partition("==")[0]
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        start = clone.git("rev-parse", "HEAD")
        for before, now in _both_ways(options.older[0], Path(folder)):
            clone.git("reset", "--quiet", "--hard", start)
            clone.record_baseline(python=before[1])
            untouched: list[bool] = []
            print(f"{name} {before[0]} → {now[0]}:")
            verdicts: dict[str, list[Benchmark]] = {}
            for _ in range(options.runs):
                results = clone.gate(python=now[1])
                print(
                    f"  exit code {results.exit_code}; {'; '.join(results.base_differences) or 'baseline check alone'}"
                )
                for one in results.benchmarks:
                    verdicts.setdefault(one.key, []).append(one)
                    if one.key.startswith(CANT_TOUCH[name]):
                        untouched.append(one.verdict == "regression")
            for key, found in verdicts.items():
                said = Counter(str(one.verdict) for one in found)
                if set(said) != {"pass"}:
                    print(f"  {_changes(found)} {dict(said)} {key}")
            print(f"  failed of those that it can't touch: {Share(sum(untouched), len(untouched))}")


def _changes(found: Iterable[Benchmark]) -> str:
    """The median change by pairs, or by the baseline where none was needed."""
    changes = [one.change for one in found if one.change is not None]
    return f"{statistics.median(changes):+7.1%}" if changes else "      -"


def libraries(options: argparse.Namespace) -> None:
    """Releases of client libraries in pairs, both ways: the gate's own comparison beside 30 pairs of each benchmark."""
    settings = _settings(ROOT)
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "results.json"
        clone.run("-m", "pytest", "-q", "tests/performance", f"--perf-output={output}")
        plans = plans_of(settings, read_results(output).benchmarks)
        for older in options.older:
            name = older.partition("==")[0]
            for (old, old_python), (new, new_python) in _both_ways(older, Path(folder)):
                directories = directories_of(settings, clone.root)
                sides = make_twins(clone.root, directories=directories, cache=Path(folder))
                base = dataclasses.replace(sides.base, python=old_python)
                head = dataclasses.replace(sides.head, python=new_python)
                sides = dataclasses.replace(sides, base=base, head=head, packages=[(name, old, new)])
                print(f"{name} {old} → {new}:")
                _beside_reference(settings, sides, plans, options.runs, CANT_TOUCH[name])


def _beside_reference(settings: Settings, sides: Sides, plans: list[BenchmarkPlan], runs: int, cant_touch: str) -> None:
    blocks: dict[str, list[list[float]]] = {plan.key: [] for plan in plans}
    long = [plan.within(2 * MEASURED_S / len(plans), MOST_BLOCKS) for plan in plans]
    with pair_runner(settings, sides, plans, "ci") as both:
        for _ in range(REFERENCE_PAIRS):
            pair = both.run_pair(long)
            for plan in plans:
                blocks[plan.key] += [pair.block_differences[plan.key]] if plan.key in pair.block_differences else []
    reference = _judged(plans, blocks)
    agreement: Counter[str] = Counter()
    passed: list[bool] = []
    for run in range(runs):
        try:
            comparison = compare(settings, sides, plans, budget_s=settings.gate.duet_budget_s)
        except ComparisonInvalid as error:
            print(f"  gate {run + 1}: invalid: {error}")
            continue
        text = f"{len(comparison.unaffected)} benchmarks run nothing that differs"
        print(f"  gate {run + 1}: {comparison.pairs} pairs in {comparison.elapsed_s:.0f} s, {text}")
        for plan in plans:
            judgement = comparison.judgements.get(plan.key)
            if plan.key in comparison.unaffected and plan.key in reference:
                judgement = dataclasses.replace(reference[plan.key], change=0.0, verdict="pass")
            if plan.key not in reference or judgement is None:
                print(f"    not compared: {plan.key} {comparison.failures.get(plan.key, 'the time was up')}")
                continue
            by_pairs = reference[plan.key]
            said = agreed(judgement, by_pairs, plan)
            agreement[said] += 1
            if plan.key.startswith(cant_touch):
                passed.append(judgement.verdict == "pass")
            if run == 0 or said == "contradicts":
                print(
                    f"    {by_pairs.change:+7.1%} ({by_pairs.low:+.1%} to {by_pairs.high:+.1%}) {by_pairs.verdict:12}"
                    f" {judgement.change:+7.1%} {judgement.verdict:12} {said:12} {plan.key}"
                )
    total = agreement.total()
    for said in ("the same", "undecided", "compatible", "contradicts"):
        print(f"  verdicts beside those of {REFERENCE_PAIRS} pairs, {said}: {Share(agreement[said], total)}")
    print(f"  passed of those that it can't touch: {Share(sum(passed), len(passed))}")


def _judged(plans: Sequence[BenchmarkPlan], blocks: Mapping[str, list[list[float]]]) -> dict[str, Judgement]:
    """What these pairs say by themselves, looked at once; `low` and `high` are a 95 % interval."""
    differences = {key: [difference(one) for one in pairs] for key, pairs in blocks.items() if len(pairs) > 1}
    within = {key: errors_within(blocks[key]) for key in differences}
    prior = prior_of(differences, within)
    limits = {plan.key: plan.thresholds for plan in plans}
    judged = judge_pairs(differences, differences, limits, prior, within=within, sharing=len(differences))
    for key, one in judged.items():
        low, high = _interval(differences[key])
        judged[key] = dataclasses.replace(one, low=low, high=high)
    return judged


def _interval(differences: Sequence[float]) -> tuple[float, float]:
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    margin = student_quantile(0.975, len(differences) - 1) * error
    return math.expm1(mean - margin), math.expm1(mean + margin)


def agreed(judgement: Judgement, reference: Judgement, plan: BenchmarkPlan) -> str:
    """How a verdict stands beside the reference: `contradicts` where the reference's interval rules out its claim.

    A slow-down between tolerance and minimum effect may fail or pass: then they are `compatible`.
    """
    limits = plan.thresholds
    if judgement.verdict == "inconclusive":
        return "undecided"
    if judgement.verdict == reference.verdict:
        return "the same"
    refuted = {
        "regression": reference.high < limits.tolerance,
        "pass": reference.low > limits.minimum_effect,
        "improvement": reference.low > -limits.tolerance,
    }
    return "contradicts" if refuted[str(judgement.verdict)] else "compatible"


def _both_ways(older: str, folder: Path) -> list[tuple[tuple[str, Path], tuple[str, Path]]]:
    """The installed release of a library and an older one, each with a Python that has it: old to new, new to old."""
    name, _, version = older.partition("==")
    python = base_python({name: version}, folder / "environments", ROOT, print)
    first, second = (version, python), (installed_packages()[name], Path(sys.executable))
    return [(first, second), (second, first)]


def times(options: argparse.Namespace) -> None:
    """What the gate takes beyond the bare suite, a comparison of all benchmarks or three, and a base environment."""
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        clone.run(*NOX[1:], "-s", "ci", "--install-only")
        # The same for all: to the gate, a baseline with other packages is a difference to be compared in pairs.
        python = clone.root / ".nox" / "ci" / "bin" / "python"
        recorded = clone.record_baseline(python=python)
        commands: dict[str, Callable[[], Done]] = {
            "bare suite": lambda: clone.run(
                "-m", "pytest", "tests/performance", f"--perf-output={folder}/results.json", python=python
            ),
            "scripts.gate": lambda: clone.run("-m", "plumbline", "ci", python=python, codes=(0, 1, INVALID)),
            "nox -s ci": lambda: clone.run(*NOX[1:], "-s", "ci", codes=(0, 1, INVALID)),
        }
        ran: dict[str, list[Done]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                ran[name].append(command())
        bare_s = statistics.median(done.duration_s for done in ran["bare suite"])
        print(f"bare suite: {value_range(done.duration_s for done in ran.pop('bare suite'))} s")
        for name, found in ran.items():
            again = [one for one in found if "measured again" in one.output]
            ends = {
                "at the baseline check": [one for one in found if not re.search(NOT_AT_THE_CHECK, one.output)],
                "where nothing differs": [one for one in found if "nothing differs" in one.output and one not in again],
                "after measuring again": again,
            }
            for where, those in ends.items():
                if those:
                    above_s = statistics.median(done.duration_s for done in those) - bare_s
                    durations = value_range(done.duration_s for done in those)
                    print(f"{name}, ended {where}: {durations} s, {above_s:+.2f} s beside the bare suite")

        key = HANDLERS["list_items"]
        extra_s = SLOW_DOWN * next(one.median for one in recorded.benchmarks if one.key == key)
        changes: dict[str, Callable[[], None]] = {
            "a constant added": lambda: None,
            f"GET /items {SLOW_DOWN:.0%} slower": lambda: clone.slow_down("list_items", extra_s),
        }
        for which, arguments in (("all benchmarks", ()), ("three benchmarks", ("--", "-k", THREE))):
            for what, change in changes.items():
                found = []
                for _ in range(options.runs):
                    change()
                    clone.touch(READ_BY_ALL)
                    compared = ("-m", "plumbline", "compare", "HEAD", "--limit=60", *arguments)
                    found.append(clone.run(*compared, python=python, codes=(0, 1, INVALID)))
                    clone.restore()
                codes = dict(Counter(done.code for done in found))
                durations = value_range(done.after_suite_s for done in found)
                print(f"{which} compared within 60 s, {what}: {durations} s after the suite; exit codes {codes}")

        for older in options.older:
            name, _, version = older.partition("==")
            made_s = []
            for run in range(options.runs + 1):
                began_s = perf_counter()
                base_python({name: version}, Path(folder) / f"environments-{run}", ROOT, lambda _: None)
                made_s.append(perf_counter() - began_s)
            print(f"base environment with {older}, warm package cache: {value_range(made_s[1:])} s")


def rival(options: argparse.Namespace) -> None:
    """Five operations by the gate and by pytest-benchmark, which fails at a median 10 % above one measured just before.

    By turns: without a change, and with each operation 10 % slower. pytest-benchmark once as it comes and once on one
    core with its servers, as the gate does it by itself.
    """
    suite = "tests/performance/test_operations.py"
    settings = _settings(ROOT)
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        (clone.root / OPERATIONS_FILE).write_text(OPERATIONS, encoding="utf-8")
        (clone.root / suite).write_text(OUR_BENCHMARKS, encoding="utf-8")
        clone.commit()
        recorded = clone.record_baseline(suite)
        clone.pretend_another_host(recorded, 1.0)
        slower = {one.key: SLOW_DOWN for one in recorded.benchmarks}
        unchanged, slowed = Tally(), Tally()
        theirs = {
            "as it comes": Rival(settings, Path(folder) / "free"),
            "on one core": Rival(settings, Path(folder) / "pinned", pin=True),
        }
        for _ in range(options.runs):
            clone.touch(OPERATIONS_FILE)
            unchanged.add(clone.gate(suite))
            clone.restore()
            clone.edit(OPERATIONS_FILE, ("SLOWER = 0.0", f"SLOWER = {SLOW_DOWN}"))
            slowed.add(clone.gate(suite), slower)
            clone.restore()
            for one in theirs.values():
                one.run()
        unchanged.show("our gate on five operations, without a change")
        slowed.show(f"our gate on five operations, each {SLOW_DOWN:.0%} slower")
        for how, one in theirs.items():
            print("\n".join([f"pytest-benchmark {how}, --benchmark-compare-fail=median:10%:", *one.report_lines()]))


# ---- the rest


def _settings(root: Path) -> Settings:
    return load_settings(root / "tests" / "performance" / "settings.toml")


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Processes on any core, each busy or asleep for a random while by turns."""
    # Not a fork: it would share our output's buffer.
    processes = [multiprocessing.get_context("spawn").Process(target=_burst, args=(seed,)) for seed in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _burst(seed: int) -> None:
    chance = random.Random(seed)
    while True:
        until_s = time.monotonic() + chance.uniform(0, LONGEST_BURST_S)
        while time.monotonic() < until_s:
            pass
        time.sleep(chance.uniform(0, LONGEST_BURST_S))


SECTIONS: dict[str, tuple[Callable[[argparse.Namespace], None], int]] = {
    "gate": (gate, 1),
    "hosted": (hosted, 5),
    "service": (service, 3),
    "dependency": (dependency, 3),
    "libraries": (libraries, 1),
    "times": (times, 5),
    "rival": (rival, 10),
}
"""Each with how often it tries things, where `--runs` doesn't say."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.gate_numbers", description="Measure the gate itself.")
    parser.add_argument("sections", nargs="+", metavar="SECTION", choices=SECTIONS, help=", ".join(SECTIONS))
    parser.add_argument("--runs", type=int)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--busy-loops", type=int, nargs="+", default=[0], metavar="COUNT")
    parser.add_argument("--older", nargs="+", default=OLDER, metavar="NAME==VERSION", help="redis or asyncpg")
    options = parser.parse_args()
    if unknown := [older for older in options.older if not re.fullmatch(rf"({'|'.join(CANT_TOUCH)})==.+", older)]:
        parser.error(f"--older takes {' or '.join(f'{name}==VERSION' for name in CANT_TOUCH)}, not {unknown[0]}")
    for variable in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[variable]
    os.environ["PERF_SERVICES"] = "embedded"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing of ours is to be left behind
    try:
        wanted_runs = options.runs
        for loops in options.busy_loops:
            for section in options.sections:
                measure, options.runs = SECTIONS[section][0], wanted_runs or SECTIONS[section][1]
                options.loops = loops
                print(f"==== {section}, {loops} busy-loops, {options.runs} runs", flush=True)
                began_s = perf_counter()
                with busy_loops(loops):
                    measure(options)
                print(f"==== {section}: {perf_counter() - began_s:.0f} s", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
