"""The gate and the baseline: run pytest in fresh processes, judge what they measured, tell."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.base_commit import find_base, is_proposed
from plumbline.comparing.trees.git import NoBase
from plumbline.exit_codes import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE
from plumbline.judging.accepted import FILE as ACCEPTED
from plumbline.judging.accepted import accept, accepted_now, matching, outlived, read_accepted, write_accepted
from plumbline.judging.baseline import (
    baseline_at,
    baseline_path,
    changes,
    check_baselines,
    edited_entries,
    find_baseline,
    find_counts,
    keep_uncounted,
    keep_unmeasured,
    merge,
)
from plumbline.judging.baseline_check import differences, judge, package_differences, suspicious, undecided
from plumbline.judging.counts import judge_counts, note_counts
from plumbline.judging.verdict import NO_COMPARISON, broken, decide, keep_most, missing_benchmarks, removed_benchmarks
from plumbline.project import find_project, nox_command
from plumbline.reporting import github, junit, markdown, terminal
from plumbline.results.environment import WATCHED, watched_with_us
from plumbline.results.schema import Benchmark, Results, ResultsError, read_results, write_results, write_whole
from plumbline.settings import Settings, SettingsError, load_settings

ROOT = find_project(Path.cwd()) or Path.cwd()
SUITE = ROOT / "tests/performance"
PLUGIN = "plumbline"
END_LIMIT_S = 15.0
RESULTS, REPORT, JUNIT, HTML, SELFCHECK = "results.json", "report.md", "junit.xml", "report.html", "selfcheck.json"
PYTEST_CAME_TO_ITS_END = {0, 1, 5}
"""Exit codes of pytest: all passed, some failed, nothing selected."""
PYTEST_USAGE_ERROR = 4
AGAIN_S = 1.0
OWN_END_LIMIT_S = 0.5
"""From a terminal, Ctrl-C reaches pytest as well; from elsewhere it has to be told, after this."""


class RunError(Exception):
    """A pytest process ended without results, or may not run at all; `exit_code` is the documented one."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def run_gate(profile: str, arguments: list[str]) -> int:
    """Measure, judge and report one run of the suite; returns the exit code.

    `arguments` go to pytest. Everything that can go wrong ends in a message and a documented exit code.
    """
    return _documented_exit(lambda settings: _gate(settings, profile, arguments))


def record_baseline(arguments: list[str]) -> int:
    """Measure in several fresh processes and write the baseline of this kind of machine; returns the exit code."""
    return _documented_exit(lambda settings: _record(settings, arguments))


def run_comparison(revision: str, arguments: list[str], budget_s: float) -> int:
    """Measure, and compare every benchmark in pairs with another commit, on this machine; returns the exit code."""
    return _documented_exit(lambda settings: _comparison(settings, revision, arguments, budget_s))


def accept_regressions(patterns: list[str], reason: str) -> int:
    """Accept regressions of the last results until the next baseline; returns the exit code."""
    return _documented_exit(lambda settings: _accept(settings, patterns, reason))


def run_selfcheck(arguments: list[str], minutes: float) -> int:
    """Measure the gate itself: false alarms without a change, and what it sees of slow-downs; returns the exit code."""
    return _documented_exit(lambda settings: _selfcheck(settings, arguments, minutes))


def report_again() -> int:
    """Render the last results again, as HTML as well; returns the exit code of their run."""
    return _documented_exit(_report_again)


def export(format_: str, output: Path | None) -> int:
    """Write the last results for another tool, to a file or to the standard output; returns the exit code."""
    return _documented_exit(lambda settings: _export(settings, format_, output))


def run_readiness(arguments: list[str]) -> int:
    """Start or find the services, print how each became ready, run the readiness tests; returns the exit code."""
    return _documented_exit(lambda settings: _readiness(settings, arguments))


def _gate(settings: Settings, profile: str, arguments: list[str]) -> int:
    settings.profile(profile)
    folder = ROOT / settings.results
    check_baselines(SUITE / "baselines")
    _make_room(folder)
    results = _measure(settings, profile, arguments)
    baseline = None
    if results.exit_code is None:
        baseline = find_baseline(SUITE / "baselines", results.environment)
        _describe_baseline(results, baseline)
        results.collected_files += _gone_files(baseline, arguments)
        try:
            _judge(settings, results, baseline, profile)
        except RunError as error:
            results.reasons.append(f"when measured again: {error}")
    return _conclude(settings, folder, results)


def _describe_baseline(results: Results, baseline: Results | None) -> None:
    results.baseline = baseline_path(SUITE / "baselines", results.environment).relative_to(ROOT).as_posix()
    if baseline is not None:
        results.baseline_commit, results.baseline_created = baseline.environment.commit, baseline.created
        results.baseline_differences = differences(baseline.environment, results.environment)
        results.baseline_differences += package_differences(baseline.environment, results.environment)
        if baseline.environment.dirty:
            results.notes.append("the baseline was recorded with changes in the tree that its commit doesn't hold")


def _comparison(settings: Settings, revision: str, arguments: list[str], budget_s: float) -> int:
    folder = ROOT / settings.results
    _make_room(folder)
    try:
        find_base(ROOT, revision)
    except NoBase as error:
        raise RunError(str(error), EXIT_USAGE) from None
    results = _measure(settings, "ci", arguments)
    if results.exit_code is None:
        try:
            if to_try := _for_pairs(results, results.benchmarks):
                _compare(settings, results, to_try, None, budget_s, revision)
            if again := sorted(one.key for one in results.benchmarks if broken(one) and one.verdict != "regression"):
                keep_most(results.benchmarks, _confirm(settings, again, "ci", for_timings=False))
        except NoBase as error:
            results.reasons.append(f"{NO_COMPARISON}: {error}")
        except ComparisonInvalid as error:
            results.reasons.append(str(error))
        except RunError as error:
            results.reasons.append(f"when measured again: {error}")
        accept(results.benchmarks, read_accepted(SUITE / "baselines"), settings.gate.minimum_effect)
    return _conclude(settings, folder, results)


def _conclude(settings: Settings, folder: Path, results: Results) -> int:
    results.verdict, code, results.reasons = decide(results, settings.gate.fail_on)
    results.exit_code = results.exit_code or code
    results.tolerance, results.minimum_effect = settings.gate.tolerance, settings.gate.minimum_effect
    for benchmark in results.benchmarks:
        if own := settings.benchmarks.get(benchmark.key):
            benchmark.tolerance, benchmark.minimum_effect = own.tolerance, own.minimum_effect
    _tell(folder, results)
    _keep_in_history(folder, results)
    if results.profile == "full":
        _write_html(folder, results)
    return results.exit_code or EXIT_PASS


def _selfcheck(settings: Settings, arguments: list[str], minutes: float) -> int:
    from plumbline.comparing.comparison import directories_of, plans_of, sides_folder
    from plumbline.comparing.trees.sides import make_twins
    from plumbline.selfcheck.findings import report_lines, with_findings
    from plumbline.selfcheck.record import left_out, places, record
    from plumbline.selfcheck.recording import write_recording

    began_s = time.monotonic()
    results = _measure(settings, "ci", arguments)
    _raise_if_ended(results)
    plans = plans_of(settings, results.benchmarks)
    if not plans:
        raise RunError("nothing to check: nothing was measured", EXIT_INVALID)
    path = ROOT / settings.results / SELFCHECK
    limit_s = minutes * 60 - (time.monotonic() - began_s)
    slowed = places(settings, results, plans)
    title = f"self-check: {len(plans)} benchmarks, two copies of the same tree, {limit_s:.0f} s"
    _say("\n".join(["", title, *left_out(slowed)]))
    try:
        sides = make_twins(ROOT, directories=directories_of(settings, ROOT), cache=sides_folder())
        recording = record(
            settings,
            sides,
            slowed,
            backends=results.environment.services,
            limit_s=limit_s,
            keep=lambda one: write_recording(path, one),
            say=_say,
        )
    except (NoBase, ComparisonInvalid) as error:
        raise RunError(str(error), EXIT_INVALID) from None
    recording = with_findings(recording, {plan.key: plan.thresholds for plan in plans}, settings.gate)
    write_recording(path, recording)
    _say("\n".join(["", *report_lines(recording, settings.gate), "", f"written: {_shown(path)}"]))
    return EXIT_PASS


def _accept(settings: Settings, patterns: list[str], reason: str) -> int:
    results = _last_results(ROOT / settings.results)
    slower = {benchmark.key: benchmark for benchmark in results.benchmarks if benchmark.verdict == "regression"}
    keys, unknown = matching(patterns, slower)
    if unknown or not keys:
        told = ", ".join(slower) or "there are none"
        raise RunError(f"no regression of the last run is {', '.join(unknown) or 'named'}: {told}", EXIT_USAGE)
    folder = SUITE / "baselines"
    write_accepted(folder, {**read_accepted(folder), **{key: accepted_now(slower[key], reason) for key in keys}})
    _say("\n".join([*(f"accepted: {key}" for key in keys), "", f"written: {_shown(folder / ACCEPTED)}; commit it"]))
    return EXIT_PASS


def _compare(
    settings: Settings,
    results: Results,
    benchmarks: list[Benchmark],
    baseline: Results | None,
    budget_s: float,
    revision: str = "",
) -> set[str]:
    """Compare these benchmarks in pairs with the base commit; returns the keys of those that run nothing that differs.

    Raises NoBase, ComparisonInvalid.
    """
    from plumbline.comparing.comparison import compare_with_base  # only now: its clients take a while to import

    return compare_with_base(
        settings,
        results,
        benchmarks,
        root=ROOT,
        baseline=baseline_path(SUITE / "baselines", results.environment),
        budget_s=budget_s,
        say=_say_wrapped,
        revision=revision,
        recorded_packages=baseline.environment.packages if baseline else {},
    )


def _for_pairs(results: Results, benchmarks: list[Benchmark]) -> list[Benchmark]:
    """Those of the benchmarks that can be compared in pairs; the others are told why they can't."""
    for benchmark in benchmarks:
        if benchmark.key in results.app_elsewhere:
            benchmark.verdict = "inconclusive"
            benchmark.reasons.append("not compared with the base: PERF_API_URL is one application for both")
    return [benchmark for benchmark in benchmarks if benchmark.key not in results.app_elsewhere]


def _judge(settings: Settings, results: Results, baseline: Results | None, profile: str) -> None:
    """Judge timings by the screen, and what that can't acquit by a paired comparison with the base commit.

    Without a base, for an application that is served elsewhere, and where a budget is broken, fresh processes measure
    again before anything fails.
    """
    judge(results, baseline, settings.gate, settings.benchmarks, {})
    again = {benchmark.key for benchmark in results.benchmarks if broken(benchmark)}
    again |= set(suspicious(results)) & set(results.app_elsewhere)
    accepted = read_accepted(SUITE / "baselines")
    held = note_counts(results, find_counts(SUITE / "baselines", results.environment))
    of_base: Results | None = None
    compared: set[str] = set()
    unaffected: set[str] = set()
    try:
        if baseline is not None and is_proposed():
            of_base = baseline_at(ROOT, find_base(ROOT), baseline_path(SUITE / "baselines", results.environment))
        if to_try := _for_pairs(results, _to_compare(results, baseline, of_base, held)):
            unaffected = _compare(settings, results, to_try, baseline, settings.gate.duet_budget_s)
            compared = {benchmark.key for benchmark in to_try}
    except NoBase as error:
        results.base = ""
        results.notes.append(f"{NO_COMPARISON}: {error}")
        again |= set(suspicious(results))
    except ComparisonInvalid as error:
        results.reasons.append(str(error))
    # Those fail whatever their budgets do.
    again -= {one.key for one in results.benchmarks if one.verdict == "regression" and one.key not in accepted}
    if again:
        for_timings = bool((again - compared) & set(suspicious(results)))
        fresh = _confirm(settings, sorted(again), profile, for_timings=for_timings)
        keep_most(results.benchmarks, fresh)
        medians = {key: [one.median for one in found] for key, found in fresh.items()}
        machine_speeds = {key: [one.machine_speed_s for one in found] for key, found in fresh.items()}
        judge(
            results,
            baseline,
            settings.gate,
            settings.benchmarks,
            medians,
            only=again - compared,
            machine_speeds=machine_speeds,
        )
    judge_counts(results, held, unaffected)
    accept(results.benchmarks, accepted, settings.gate.minimum_effect)
    if baseline is not None:
        results.benchmarks += missing_benchmarks(baseline, results)
        results.benchmarks += removed_benchmarks(of_base, baseline, results) if of_base else []


def _to_compare(
    results: Results, baseline: Results | None, of_base: Results | None, held: list[Benchmark]
) -> list[Benchmark]:
    """What is to be compared in pairs: what the screen can't acquit, the worst first.

    Then what a proposed change has recorded anew, which is to be seen, and that against which counts are held, as it
    may run nothing that differs from the base.
    """
    if baseline is None:
        # Of a kind of machine that has none, a proposed change is judged by the base alone.
        return results.benchmarks if is_proposed() else []
    first = undecided(results)
    edited = edited_entries(of_base, baseline_path(SUITE / "baselines", results.environment))
    also = ({benchmark.key for benchmark in held} | edited) - set(results.app_elsewhere)
    return first + [benchmark for benchmark in results.benchmarks if benchmark.key in also and benchmark not in first]


def _confirm(settings: Settings, keys: list[str], profile: str, *, for_timings: bool) -> dict[str, list[Benchmark]]:
    """What fresh processes say of these, by key: as many as the settings want or, for budgets, until most agree."""
    count = settings.gate.confirm_processes
    _say("")
    _say_wrapped(
        f"{len(keys)} of the benchmarks can't be acquitted by one run: measured again in"
        f" {'' if for_timings else 'up to '}{count} fresh processes"
    )
    nodes = [f"{SUITE.relative_to(ROOT).as_posix()}/{key}" for key in keys]
    fresh: dict[str, list[Benchmark]] = {key: [] for key in keys}
    for _ in range(count):
        run = _measure(settings, profile, nodes)
        _raise_if_ended(run)
        for one in run.benchmarks:
            if one.key in fresh:
                fresh[one.key].append(one)
        if not for_timings and all(_most_agree(found, count) for found in fresh.values()):
            break
    return fresh


def _most_agree(found: list[Benchmark], count: int) -> bool:
    """Whether most of so many processes have kept their budget or broken it, whatever the others will do."""
    kept = sum(not broken(one) for one in found)
    return max(kept, len(found) - kept) > count / 2


def _raise_if_ended(run: Results) -> None:
    """Raises RunError where a run ended early, as when a service died."""
    if run.exit_code is not None:
        raise RunError("\n".join(run.reasons), run.exit_code)


def _record(settings: Settings, arguments: list[str]) -> int:
    if arguments:
        check_baselines(SUITE / "baselines")  # a part goes into the old one, which has to be sound
    runs: list[Results] = []
    for number in range(1, settings.gate.baseline_processes + 1):
        _say(f"\nprocess {number} of {settings.gate.baseline_processes}")
        run = _measure(settings, "ci", arguments)
        _raise_if_ended(run)
        if failed := [test.key for test in run.tests if test.outcome == "failed"]:
            raise RunError(f"no baseline is written, as tests failed: {', '.join(failed)}", EXIT_REGRESSION)
        if not run.benchmarks:
            raise RunError("no baseline is written: nothing was measured", EXIT_INVALID)
        runs.append(run)
    new = merged = merge(runs)
    path = baseline_path(SUITE / "baselines", new.environment)
    try:
        old = find_baseline(SUITE / "baselines", new.environment)
    except ResultsError as error:
        _say(f"the old baseline can't be read, and is replaced: {error}")
        old = None
    if old is not None:
        runs[-1].collected_files += _gone_files(old, arguments)
        kept = keep_unmeasured(old, new, missing_benchmarks(old, runs[-1]))
        different = differences(old.environment, new.environment)
        if different and len(kept.benchmarks) > len(new.benchmarks):
            raise RunError(
                f"a part can't be recorded into a baseline of {'; '.join(different)}:"
                f" record all of it, or remove {path.relative_to(ROOT)} first",
                EXIT_USAGE,
            )
        new = keep_uncounted(old, kept)
    write_results(path, new)
    write_accepted(SUITE / "baselines", outlived(read_accepted(SUITE / "baselines"), merged))
    _say("\n".join(["", *changes(old, new), "", f"written: {path.relative_to(ROOT)}; commit it"]))
    if new.environment.dirty:
        _say("note: the working tree differs from its commit; this baseline says so")
    return EXIT_PASS


def _report_again(settings: Settings) -> int:
    folder = ROOT / settings.results
    results = _last_results(folder)
    code = _tell(folder, results)
    _write_html(folder, results)
    return code


def _export(settings: Settings, format_: str, output: Path | None) -> int:
    from plumbline.reporting.exports import FORMATS

    if format_ not in FORMATS:
        raise RunError(f"there is no format {format_!r}: {', '.join(FORMATS)}", EXIT_USAGE)
    text = FORMATS[format_](_last_results(ROOT / settings.results))
    if output is None:
        _say(text.rstrip("\n"))
    else:
        write_whole(output, text)
    return EXIT_PASS


def _keep_in_history(folder: Path, results: Results) -> None:
    from plumbline.reporting import history

    history.keep(folder, results)


def _write_html(folder: Path, results: Results) -> None:
    """The HTML report, where it is wanted; raises ResultsError where it can't be written."""
    if importlib.util.find_spec("vl_convert") is None:
        _say("no HTML report: vl-convert-python is missing; install the extra `html` of pytest-plumbline")
        return
    from plumbline.reporting import history, html

    path = folder / HTML
    write_whole(path, html.render(results, _baseline_of(results), history.read(folder)))
    _say(f"Report: {_shown(path)}")


def _baseline_of(results: Results) -> Results | None:
    with contextlib.suppress(ResultsError):
        return find_baseline(SUITE / "baselines", results.environment)
    return None


def _last_results(folder: Path) -> Results:
    try:
        return read_results(folder / RESULTS)
    except FileNotFoundError:
        raise RunError(f"there are no results in {folder}: run `{nox_command()} -s ci` first", EXIT_INVALID) from None
    except ResultsError as error:
        raise RunError(f"{error}\n`{nox_command()} -s ci` makes new results", EXIT_INVALID) from None


def _readiness(settings: Settings, arguments: list[str]) -> int:
    results = _measure(settings, "full", ["-m", "readiness", "--perf-table", *arguments])
    if results.exit_code is not None:
        _say("\n".join(results.reasons))
        return results.exit_code
    failed = sum(test.outcome == "failed" for test in results.tests)
    passed = sum(test.outcome == "passed" for test in results.tests)
    if failed:
        _say(f"not ready: {failed} readiness tests failed")
    elif passed:
        _say(f"ready: {passed} readiness tests passed")
    elif results.tests:
        _say("invalid: all readiness tests were skipped")
    else:
        _say(
            f'invalid: there are no readiness tests (marker "readiness"){" in what was asked for" if arguments else ""}'
        )
    return EXIT_REGRESSION if failed else EXIT_PASS if passed else EXIT_INVALID


def _documented_exit(command: Callable[[Settings], int]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command(load_settings(SUITE / "settings.toml"))
    except SettingsError as error:
        return _fail(str(error), EXIT_USAGE)
    except ResultsError as error:
        return _fail(str(error), EXIT_INVALID)
    except RunError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted: no verdict", EXIT_INTERRUPTED)


def _measure(settings: Settings, profile: str, arguments: list[str]) -> Results:
    """One fresh pytest process; its results are not judged yet. Raises RunError where it leaves none."""
    with tempfile.TemporaryDirectory(prefix="perf-") as folder:
        output = Path(folder) / "results.json"
        suite = [] if _named_paths(arguments) else [str(SUITE.relative_to(ROOT))]
        command = [sys.executable, "-m", "pytest", *suite, "-q", "--no-header", f"--perf-profile={profile}"]
        # What failed is told at the end by us, why something was skipped by the files; each run needs its room.
        command += ["--tb=short", "-rN", "-o", "console_output_style=classic"]
        # The wheel of the embedded Redis brings a plugin that nobody here uses.
        command += [f"--perf-output={output}", "-p", PLUGIN, "-p", "no:valkey", *arguments]
        code = _run(command, settings.gate.time_limit_s)
        if code == PYTEST_USAGE_ERROR:
            raise RunError("pytest could not start (see above)", EXIT_USAGE)
        try:
            results = read_results(output)
        except FileNotFoundError:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise RunError(f"pytest {how} and left no results (see above)", EXIT_INVALID) from None
    if results.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if results.exit_code is None and code not in PYTEST_CAME_TO_ITS_END:
        results.exit_code = EXIT_INVALID
        results.reasons.append(f"pytest ended with exit code {code} before its end (see above)")
    return results


def _named_paths(arguments: Iterable[str]) -> list[Path]:
    """Files and folders of the suite that pytest's arguments name; `redis` of `-k redis` is none."""
    paths = [(ROOT / argument.partition("::")[0]).resolve() for argument in arguments if not argument.startswith("-")]
    return [path for path in paths if path.is_relative_to(SUITE) and path.exists()]


def _gone_files(baseline: Results | None, arguments: list[str]) -> list[str]:
    """Files of the baseline that are gone, where the whole suite was to be collected."""
    if baseline is None or any(path != SUITE for path in _named_paths(arguments)):
        return []
    files = {benchmark.key.partition("::")[0] for benchmark in baseline.benchmarks}
    return sorted(file for file in files if not (SUITE / file).exists())


def _run(command: list[str], limit_s: float) -> int:
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, WATCHED: watched_with_us()})
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise RunError(
            f"the run took longer than gate.time_limit_s ({limit_s:g} s) and was ended", EXIT_INVALID
        ) from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # told once: now pytest is waited for
        _wait(child, OWN_END_LIMIT_S)
        raise
    finally:
        deadline_s = time.monotonic() + END_LIMIT_S
        while child.poll() is None and time.monotonic() < deadline_s:
            child.terminate()  # again and again: until pytest has taken notice, code under test may swallow it
            _wait(child, AGAIN_S)
        if child.poll() is None:
            child.kill()
            child.wait()


def _wait(child: "subprocess.Popen[bytes]", limit_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(limit_s)


def _make_room(folder: Path) -> None:
    """Remove what an earlier run left: it must not be taken for this one's, should this one leave nothing.

    Raises ResultsError where the folder can't be written: before anything is measured, rather than after.
    """
    write_whole(folder / ".writable", "")
    for name in (".writable", RESULTS, REPORT, JUNIT, HTML):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(f"{folder / name} can't be removed: {error.strerror}") from None


def _tell(folder: Path, results: Results) -> int:
    terminal.render(results, Console())
    write_results(folder / RESULTS, results)
    write_whole(folder / REPORT, markdown.render(results))
    write_whole(folder / JUNIT, junit.render(results))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _say("\n".join(github.annotations(results)))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown.render(results, markdown.SUMMARY_BYTES))
        except OSError as error:
            _say(f"GITHUB_STEP_SUMMARY can't be written: {error.strerror}")
    return results.exit_code or EXIT_PASS


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say_wrapped(text: str) -> None:
    """Lines with what is as long as a user's own names, in the width of the terminal."""
    width = shutil.get_terminal_size().columns
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        _say("\n".join(textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)))


def _fail(reason: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"\n{reason}\nexit code {code}\n")
    return code
