"""`plumbline bisect`: find the commit that made a benchmark slower, or that made a count grow."""

import argparse
import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from plumbline.commands.base import CommandError, Project, not_empty, seconds
from plumbline.commands.measuring_run import measure_whole
from plumbline.commands.output import TerminalConsole, progress, say, say_wrapped
from plumbline.comparing.bisection import Slower, Stepper, is_all, share_of, sought
from plumbline.comparing.comparison import Say, compare, plans_of, sides_of
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.statistics.search import Answer, Found, search, steps_of
from plumbline.comparing.trees.base import Base, baseline_at, find_base
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.history import SHOWN, describe_commit, history
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import Sides, describe
from plumbline.judging.baseline import baseline_path
from plumbline.judging.counts import GrownCount
from plumbline.judging.decide import decide
from plumbline.judging.evidence import ComparisonEvidence, Evidence
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE, SUITE, nox_command
from plumbline.reporting import content, terminal
from plumbline.reporting import format as form
from plumbline.reporting.bisected import commit_text, sought_text, step_text
from plumbline.results.schema import Results
from plumbline.settings import BenchmarkSettings

EXAMPLE = "plumbline bisect v1.2 -k checkout"
MOST_NAMED = 5  # other benchmarks that are worse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("good", metavar="GOOD", type=not_empty, help="branch, tag or commit before the change")
    later = "branch, tag or commit after the change (default: HEAD)"
    parser.add_argument("bad", metavar="BAD", nargs="?", default="HEAD", type=not_empty, help=later)
    parser.add_argument("-k", dest="name", metavar="NAME", help="only benchmarks that pytest's -k selects")
    limit = "time limit of the pairs of each comparison (default: 120)"
    parser.add_argument("--limit", type=seconds, default=120.0, metavar="SECONDS", help=limit)


def run(project: Project, options: argparse.Namespace) -> int:
    """Compare GOOD with BAD, search between them, and report the commit. Return the exit code."""
    commits = _commits(project, options)
    record = measure_whole(project, "ci", [*(["-k", options.name] if options.name else []), *options.pytest])
    code = _Bisection(project, options, commits, record).run()
    say(f"\nExit code {code}: {content.EXIT_CODES[code]}.")
    return code


def _commits(project: Project, options: argparse.Namespace) -> list[str]:
    """Return the commits from GOOD to BAD, and say how many there are. Raises CommandError."""
    try:
        good, bad = (find_base(project.root, name).commit for name in (options.good, options.bad))
        commits = history(git := Git(project.root), good, bad)
    except NoBase as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    if good == bad:
        raise CommandError(f"{options.good} and {options.bad} are the same commit", EXIT_USAGE)
    if len(commits) == 1:
        command = f"{nox_command()} -s bisect -- {shlex.quote(options.bad)} {shlex.quote(options.good)}"
        message = f"BAD ({options.bad}) is older than GOOD ({options.good}). To swap them: `{command}`"
        raise CommandError(message, EXIT_USAGE)
    if commits[0] != good:
        fork = f"GOOD is {commits[0][:SHOWN]}, where their histories part"
        say_wrapped(f"{options.good} is not among the first parents of {options.bad}: {fork}")
    count, first, last = len(commits) - 1, *(commit_text(describe_commit(git, one)) for one in (commits[0], bad))
    say_wrapped(f"{count} commit{'s' * (count != 1)} after GOOD\n  GOOD: {first}\n  BAD: {last}\n")
    return commits


@dataclass(frozen=True)
class _Bisection:
    """A search in `commits`, which begin with GOOD and end with BAD."""

    project: Project
    options: argparse.Namespace
    commits: Sequence[str]
    record: Results  # of the working tree, which has the suite

    def run(self) -> int:
        good, bad = self.commits[0], self.commits[-1]
        known = [one for one in self.record.benchmarks if one.key not in {*self.record.app_elsewhere}]
        if not (plans := plans_of(self.project.settings, known)):
            raise CommandError("nothing was measured: no benchmark has this name, or all have failed", EXIT_INVALID)
        found, results = self._compare(good, bad, plans)
        worse = [one for one in content.by_urgency(results.benchmarks) if one.verdict == "regression"]
        if not worse:
            return _nothing_to_find(results)
        plan = next(one for one in plans if one.key == worse[0].key)
        looked_for = sought(found, plan, steps := steps_of(self.commits))
        assert looked_for is not None, "something of a regression is worse"
        title = f"\nlooking for what changed {plan.key}: {sought_text(looked_for)}"
        say_wrapped(f"{title}, in about {steps} step{'s' * (steps != 1)}" if steps else title)
        end = self._search(plan, looked_for)
        if (end.good, end.bad) != (good, bad):
            found, _ = self._compare(end.good, end.bad, [_with_thresholds(plan, looked_for)])
        code = self._report(end, plan, looked_for, found)
        for one in worse[1 : 1 + MOST_NAMED]:
            say_wrapped(f"\nAlso worse: {one.key}, {content.change_text(one)}")
            say(f"  {self._command(self.options.good, self.options.bad, one.key)}")
        return code

    def _search(self, plan: BenchmarkPlan, looked_for: GrownCount | Slower) -> Found:
        git, settings = Git(self.project.root), self.project.settings
        sides = functools.partial(self._sides, self.commits[0])
        services, limit_s = self.record.environment.services, self.options.limit
        stepper = Stepper(settings, plan, looked_for, sides, limit_s, self.record.profile or "ci", services)
        ends = {"good": self.commits[0], "bad": self.commits[-1]}

        def test(commit: str) -> Answer:
            text = f"  {commit[:SHOWN]} {form.plain(describe_commit(git, commit).subject)}"
            with progress() as line:
                line(text)
                tested = stepper.step(commit)
            say_wrapped(f"{text}: {step_text(tested)}")
            ends[tested.answer] = commit
            return tested.answer

        try:
            return search(self.commits, test)
        except (ComparisonInvalid, KeyboardInterrupt) as error:
            say(f"\nnot finished; to go on: {self._command(ends['good'], ends['bad'], plan.key)}")
            if isinstance(error, KeyboardInterrupt):
                raise
            raise CommandError(str(error), EXIT_INVALID) from None

    def _sides(self, good: str, commit: str, say: Say = lambda _: None) -> Sides:
        file = baseline_path(self.project.baselines, self.record.environment)
        baselines = [baseline_at(self.project.root, Base(one, ""), file) for one in (good, commit)]
        before, now = (one.environment.packages if one else {} for one in baselines)
        settings, root = self.project.settings, self.project.root
        return sides_of(settings, root, good, before, say, head_commit=commit, recorded_in_head=now)

    def _compare(self, good: str, bad: str, plans: Sequence[BenchmarkPlan]) -> tuple[ComparisonEvidence, Results]:
        """Compare two commits, and print and return the results of these benchmarks."""
        keys = {plan.key for plan in plans}
        say(f"\nbase: {good[:SHOWN]}, head: {bad[:SHOWN]}")
        try:
            sides = self._sides(good, bad, say_wrapped)
            say_wrapped("\n".join(f"  {line}" for line in describe(sides)))
            found = ComparisonEvidence(unaffected=keys)
            if sides.differ:
                services, profile = self.record.environment.services, self.record.profile or "ci"
                settings, limit_s = self.project.settings, self.options.limit
                found = compare(
                    *(settings, sides, plans),
                    limit_s=limit_s,
                    profile=profile,
                    backends=services,
                    say=say_wrapped,
                    progress=progress,
                )
        except (NoBase, CopyFailed, ComparisonInvalid) as error:
            raise CommandError(f"{good[:SHOWN]} and {bad[:SHOWN]} can't be compared: {error}", EXIT_INVALID) from None
        found = replace(found, base=good[:SHOWN], compared=keys)
        # Budgets, warnings and other tests are about the working tree.
        benchmarks = [replace(one, budgets=[], warnings=[]) for one in self.record.benchmarks if one.key in keys]
        record = replace(self.record, benchmarks=benchmarks, tests=[], notes=[])
        own = {**self.project.settings.benchmarks}
        for plan in plans:
            limits = {"tolerance": plan.thresholds.tolerance, "minimum_effect": plan.thresholds.minimum_effect}
            own[plan.key] = replace(own.get(plan.key, BenchmarkSettings()), **limits)
        evidence = Evidence(comparison=found, comparison_required=True)
        results = decide(record, evidence, self.project.settings.gate, own)
        terminal.render_table(results, TerminalConsole(), whole=True)
        return found, results

    def _report(
        self,
        end: Found,
        plan: BenchmarkPlan,
        looked_for: GrownCount | Slower,
        found: ComparisonEvidence,
    ) -> int:
        """Print the commit that a search has found, and what to do next. Return the exit code.

        `found`: the comparison with the last good commit.
        """
        git, parts = Git(self.project.root), [(self.commits[0], end.good), (end.bad, self.commits[-1])]
        bad = describe_commit(git, end.bad)
        say(f"\nFirst bad commit: {bad.name}")
        say_wrapped(f"  {form.plain(bad.subject)}\n  {form.plain(bad.author)}, {bad.date}")
        if end.skipped:
            say_wrapped("\nIt may also be one of these, which can't be tested:")
            say_wrapped("\n".join(f"  {commit_text(describe_commit(git, name))}" for name in end.skipped))
        if is_certain := share_of(looked_for, found, plan.key) > 1 / 2:
            say("")
        else:
            say_wrapped(
                f"\nNot certain: compared with the last good commit, {end.good[:SHOWN]}, it has less than half of"
                f" {sought_text(looked_for)}. Either several commits add up to it, or a step was wrong: run it again"
                " when the machine is less busy\n"
            )
        if len(bad.parents) > 1 and (fork := git.ask("merge-base", *bad.parents[:2])):
            say("It is a merge. To search the commits that it has merged:")
            say(f"  {self._command(fork[:SHOWN], bad.parents[1][:SHOWN], plan.key)}\n")
        if not is_all(looked_for, found, plan.key):
            say(f"Other commits have the rest of {sought_text(looked_for)}. To search for them:")
            for first, last in parts:
                if first != last:
                    say(f"  {self._command(first, last, plan.key)}")
            say("")
        say(f"Next: git show {bad.name[:SHOWN]}")
        return EXIT_REGRESSION if is_certain else EXIT_INVALID

    def _command(self, good: str, bad: str, key: str) -> str:
        revisions = " ".join(shlex.quote(one[:SHOWN] if one in self.commits else one) for one in (good, bad))
        return f"{nox_command()} -s bisect -- {revisions} -- {shlex.quote(f'{SUITE}/{key}')}"


def _with_thresholds(plan: BenchmarkPlan, looked_for: GrownCount | Slower) -> BenchmarkPlan:
    """Return a plan of the last comparison: with the thresholds of the tests, if they were of timings."""
    return BenchmarkPlan(plan.key, plan.sample_s, looked_for.thresholds) if isinstance(looked_for, Slower) else plan


def _nothing_to_find(results: Results) -> int:
    """Print why there is nothing to find. Return the exit code. Raises CommandError if GOOD is slower than BAD."""
    judged = [one for one in results.benchmarks if content.is_evidence(one)]
    faster = [f"{one.key} {content.change_text(one)}" for one in judged if one.verdict == "improvement"]
    if faster and len(faster) == len(judged):
        message = f"GOOD is slower than BAD: {content.listed(faster)}. Name a GOOD that is faster than BAD"
        raise CommandError(message, EXIT_USAGE)
    if results.exit_code:
        say_wrapped("\n" + "\n".join(map(content.reason_text, results.reasons)))
        return results.exit_code
    if unsure := [one.key for one in results.benchmarks if one.verdict == "inconclusive"]:
        say_wrapped(f"\nInconclusive within the time limit, which --limit raises: {content.listed(unsure)}")
        return EXIT_INVALID
    say_wrapped("\nNothing to find: BAD is not slower than GOOD, and asks for no more")
    return EXIT_PASS
