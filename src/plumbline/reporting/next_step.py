"""The command to run after a run, and the commands that repeat tests."""

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from plumbline.project import EXIT_INTERRUPTED, EXIT_USAGE, SUITE, nox_command
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.schema import Results

_MOST_NAMED = 5  # tests or files in a command
_PLAIN = re.compile(r"[\w./:=,\[\] -]+", re.ASCII)  # keys that every shell and terminal leaves as they are
_NAME_FOR_K = re.compile(r"[\w:+.\[\]/-]+", re.ASCII)  # what pytest's -k takes as one name


class Step(NamedTuple):
    """A command to run next."""

    command: str
    purpose: str
    keys: Sequence[str] = ()  # the tests that it runs, if it does not run all


def next_step(results: Results) -> Step | None:
    """Return the one command to run next; None if nothing is left to do."""
    session = session_of(results)
    after_fixing = Step(session, "runs again, once the problem is fixed")
    baseline = f"{nox_command()} -s baseline"
    verdicts = {content.verdict(benchmark) for benchmark in results.benchmarks}
    failing = (one for one in content.by_urgency(results.benchmarks) if content.verdict(one) in content.FAILING)
    bad = [one.key for one in failing if content.verdict(one) != "missing"]
    bad += [test.key for test in content.failed_tests(results)]
    kinds = {reason.kind for one in results.benchmarks for reason in one.reasons}
    unsure = [b.key for b in results.benchmarks if b.verdict == "inconclusive" and b.minimum_detectable_effect]
    why = results.reasons[0].kind if results.reasons else None
    nothing_selected = results.deselected and not results.tests and why == "nothing_measured"
    unmeasured = results.verdict == "invalid" and not verdicts & {"missing", "invalid"}
    # Not a service, but the suite, its arguments or the base.
    lost = next((one.subjects[0] for one in results.reasons if one.kind == "shard_missing"), "")
    unmerged = why in ("shard_missing", "shard_unreadable", "shard_twice", "shards_differ")
    ours = results.verdict == "invalid" and (why in ("nothing_measured", "not_collected", "pytest_failed") or unmerged)
    uncompared = results.verdict == "invalid" and why in ("no_comparison", "not_compared", "services_missing")
    allowed = "allow_unmeasured in settings.toml makes it a warning"
    untimed = [b.key for b in results.benchmarks if any(one.kind == "no_time_left" for one in b.reasons)]
    compare = _only(
        results, untimed, "compares {}; or raise pairs_limit_s in settings.toml", "what there was no time for"
    )
    search = _bisect(results)
    steps = [
        (results.exit_code == EXIT_INTERRUPTED, Step(session, "starts again")),
        (results.exit_code == EXIT_USAGE, after_fixing),
        (uncompared and untimed and {*results.reasons[0].subjects} <= {*untimed}, compare),
        (uncompared, Step(session, f"{after_fixing.purpose}; {allowed}")),
        (nothing_selected, Step(session, "runs everything: the arguments selected no test")),
        (
            lost,
            Step(f"{session} -- --shard {lost.replace(' of ', '/')}", "runs the missing shard; then merge all again"),
        ),
        (ours or (unmeasured and results.base), after_fixing),
        (unmeasured, Step(f"{nox_command()} -s readiness", "shows which services are ready")),
        (search, search),
        (bad, _only(results, bad, "runs {}", "what failed")),
        ("missing" in verdicts, Step(baseline, "if it was removed on purpose; otherwise restore the test")),
        (kinds & {"packages_unjudged", "budget_unjudged"}, after_fixing),  # measuring again would not help
        (untimed, compare),
        (unsure, _only(results, unsure, "measures {}; run nothing else meanwhile", "the inconclusive benchmarks")),
        ("inconclusive" in verdicts, Step(baseline, "records a baseline of this machine; commit it")),
        (why == "no_baseline", Step(baseline, "records a baseline for runs of the default branch; commit it")),
        (verdicts & {"new", "changed", "improvement"}, Step(baseline, "records the new figures; commit them")),
    ]
    return next((step for applies, step in steps if applies), None)


def _bisect(results: Results) -> Step | None:
    """Return the search, if one of several commits made a benchmark slower, or made it ask for more."""
    if results.commits <= 1 or results.environment.dirty:
        return None
    slower = [one.key for one in content.by_urgency(results.benchmarks) if one.verdict == "regression"]
    purpose = f"finds which of the {results.commits:,} commits since {results.revision} did it"
    return Step(bisect_command(slower[0], results.revision), purpose, slower[:1]) if slower else None


def bisect_command(key: str, *revisions: str) -> str:
    """Return the command that searches for the commit that made this benchmark worse."""
    named = " ".join(map(shlex.quote, revisions))
    return f"{nox_command()} -s bisect -- {named} -k {shlex.quote(expression_of(key))}"


def expression_of(key: str) -> str:
    """Return what chooses this test with pytest's `-k`, if possible without those of other parameters."""
    name = form.file_and_name(key)[1].rpartition("::")[2]
    return name if _NAME_FOR_K.fullmatch(name) else form.test_name(key)


def session_of(results: Results) -> str:
    """Return the command that runs all of it again; ` -- ` and arguments of pytest may follow."""
    if results.revision:
        return f"{nox_command()} -s compare -- {shlex.quote(results.revision)}"
    return f"{nox_command()} -s {'full' if results.profile == 'full' else 'ci'}"


def command_for(results: Results, *keys: str) -> str:
    """Return the command that runs only these tests, or the tests of these files."""
    return " ".join([session_of(results), "--", *(shlex.quote(f"{SUITE}/{key}") for key in keys)])


def _only(results: Results, keys: Sequence[str], purpose: str, which: str) -> Step:
    """Return the session for these tests, for their files if they are many, or for all. `which`: what they are."""
    session = session_of(results)
    files = sorted({form.file_and_name(key)[0] for key in keys})
    if len(keys) <= _MOST_NAMED and all(_PLAIN.fullmatch(key) for key in keys):
        step = Step(command_for(results, *keys), f"only {which}", keys)
    elif len(files) <= _MOST_NAMED and all(_PLAIN.fullmatch(file) for file in files):
        known = {*results.deselected} | {one.key for one in results.benchmarks} | {one.key for one in results.tests}
        inside = [key for key in known if form.file_and_name(key)[0] in files]
        step = Step(command_for(results, *files), f"only the file{'s' * (len(files) > 1)} of {which}", inside)
    else:
        step = Step(session, "all again")
    return step._replace(purpose=purpose.format(step.purpose))
