"""`plumbline load`: put load on the application with Locust, beside the base commit, and judge."""

import argparse
import contextlib
import importlib.util
import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from plumbline import __version__
from plumbline.adopting.load_starter import load_starter
from plumbline.commands.base import CommandError, Project, not_empty
from plumbline.commands.output import add_to_summary, make_room, say, say_wrapped
from plumbline.comparing.comparison import sides_of
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.base import Base, find_base, is_proposed
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import describe
from plumbline.comparing.workers.pair_servers import shared_by_sides
from plumbline.loading.junit import as_junit
from plumbline.loading.load import Loaded, Workers, load
from plumbline.loading.locust_run import LoadInvalid
from plumbline.loading.page import as_page
from plumbline.loading.results import FILE, LoadResults, SideResults, annotations, as_markdown, as_text
from plumbline.loading.targets import NoApplication, Target, both_targets, one_target
from plumbline.loading.verdict import Finding, Verdict, compare, highest_rate, judge_head, overall
from plumbline.processes import printable
from plumbline.project import (
    EXIT_INCONCLUSIVE,
    EXIT_INVALID,
    EXIT_PASS,
    EXIT_REGRESSION,
    EXIT_USAGE,
    SUITE,
    SUITE_REQUIREMENTS,
    nox_command,
)
from plumbline.results.environment import git_state
from plumbline.results.files import redacted, write_whole
from plumbline.services.errors import NotReady, ServiceError
from plumbline.settings import Settings

EXAMPLE = "plumbline load --base main"
LOCUSTFILE = "locustfile.py"
REPORT, PAGE, JUNIT = "load.md", "load.html", "load.xml"
CODES = {"pass": EXIT_PASS, "regression": EXIT_REGRESSION, "invalid": EXIT_INVALID}
NO_LOCUST = (
    f"Locust is missing: add the extra `load` of pytest-plumbline in {SUITE_REQUIREMENTS}, or run `pip install locust`"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--starter", action="store_true", help=f"write a first {SUITE}/{LOCUSTFILE}, and run no load")
    parser.add_argument(
        "--base", metavar="REV", type=not_empty, help="commit to compare with (default: the base commit of ci)"
    )
    parser.add_argument("--alone", action="store_true", help="compare with no commit, and check only budgets")
    parser.add_argument(
        "--host", metavar="URL", type=not_empty, help="URL of an application that already runs (or set PERF_API_URL)"
    )
    from_elsewhere = "address to listen on for Locust workers of other machines"
    parser.add_argument("--workers-from", metavar="HOST:PORT", type=not_empty, help=from_elsewhere)
    parser.add_argument("--workers", type=int, metavar="N", help="number of these workers to wait for (default: 1)")


def run(project: Project, options: argparse.Namespace) -> int:
    locustfile = project.suite / LOCUSTFILE
    if options.starter:
        return _write_starter(project, locustfile)
    if importlib.util.find_spec("locust") is None:
        raise CommandError(NO_LOCUST, EXIT_USAGE)
    if not locustfile.is_file():
        name = project.shown(locustfile)
        advice = f"`{nox_command()} -s load -- --starter` writes one to begin with"
        raise CommandError(f"there is no {name}, which says what users do: {advice}", EXIT_USAGE)
    settings, workers = _settings(project.settings, options.host), _workers(options)
    with make_room(project.results, (FILE, REPORT, PAGE, JUNIT)):
        results = _run(project, options, settings, locustfile, workers)
    return _report(project, results)


def _run(
    project: Project, options: argparse.Namespace, settings: Settings, locustfile: Path, workers: Workers | None
) -> LoadResults:
    """Start the applications, put load on them, and judge. Raises CommandError."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    results = LoadResults(
        plumbline=__version__,
        created=created,
        commit=git_state(project.root)[0],
        command=_command(options),
        verdict="invalid",
        exit_code=EXIT_INVALID,
    )
    try:
        base = _base(project, options, settings)
        described = [f"{stage.rate_per_s:g}/s for {stage.duration_s:g} s" for stage in settings.load.all_stages]
        say(f"load test: {', '.join(described)}, {settings.load.number_of_users} users")
        if base:
            results = replace(results, base=base.shown)
        with _targets(project, settings, base, results.notes) as targets:
            results = replace(results, target=targets[-1].shown)
            say(f"  {results.target}")
            loaded = load(settings, project.root, locustfile, targets, workers, say)
        results = _judged(settings, loaded, results)
    except (NotReady, NoApplication, LoadInvalid, NoBase, CopyFailed, ComparisonInvalid) as error:
        results = replace(results, findings=[Finding("invalid", str(error))])
    except ServiceError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    return results


def _command(options: argparse.Namespace) -> str:
    """Return the command that repeats the test."""
    given = {"--base": options.base, "--host": options.host, "--workers-from": options.workers_from}
    arguments = [part for name, value in given.items() if value for part in (name, value)]
    arguments += ["--alone"] if options.alone else []
    arguments += ["--workers", str(options.workers)] if options.workers else []
    return shlex.join([*nox_command().split(), "-s", "load", *(["--", *arguments] if arguments else [])])


def _write_starter(project: Project, locustfile: Path) -> int:
    name = project.shown(locustfile)
    if locustfile.exists():
        raise CommandError(f"{name} exists already: nothing was written", EXIT_USAGE)
    write_whole(locustfile, load_starter(project.suite))
    say(f"written: {name}\nAdd what your users do, then run `{nox_command()} -s load`.")
    return EXIT_PASS


def _settings(settings: Settings, host: str | None) -> Settings:
    """Return the settings, without servers and `prepare` if the application already runs."""
    urls = {**settings.external_urls, **({"app": host} if host else {})}
    if "app" not in urls:
        return settings
    redis, postgres = (replace(one, backend="off") for one in (settings.redis, settings.postgres))
    alone = replace(settings, backend="off", redis=redis, postgres=postgres, services={}, processes={}, prepare=[])
    return replace(alone, env={}, external_urls={"app": urls["app"]})


def _workers(options: argparse.Namespace) -> Workers | None:
    if not options.workers_from and options.workers is None:
        return None
    host, _, port = (options.workers_from or "").rpartition(":")
    number = 1 if options.workers is None else options.workers
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or number < 1:
        text = "--workers-from needs HOST:PORT, such as 0.0.0.0:5557, and --workers a positive number"
        raise CommandError(text, EXIT_USAGE)
    return Workers(host, int(port), number)


def _base(project: Project, options: argparse.Namespace, settings: Settings) -> Base | None:
    """Return the commit to compare with. A proposed change has one unless `--alone`, or an application that runs.

    Raises CommandError, and NoBase if it is not found.
    """
    if options.base and options.alone:
        raise CommandError("--alone goes without --base", EXIT_USAGE)
    if "app" in settings.external_urls or options.workers_from:
        if options.base:
            raise CommandError("--base needs applications that Plumbline starts and loads from here", EXIT_USAGE)
        return None
    if options.alone or not (options.base or is_proposed(project.root)):
        return None
    try:
        return find_base(project.root, options.base or "")
    except NoBase as error:
        if options.base:
            raise CommandError(str(error), EXIT_USAGE) from None
        raise


@contextlib.contextmanager
def _targets(project: Project, settings: Settings, base: Base | None, notes: list[str]) -> Iterator[Sequence[Target]]:
    if base is None:
        with one_target(settings, project.root) as targets:
            yield targets
        return
    sides = sides_of(settings, project.root, base.commit, {}, say_wrapped)
    say_wrapped("\n".join([f"  base: {base.shown}", *(f"  {line}" for line in describe(sides))]))
    notes += shared_by_sides(settings)
    with both_targets(settings, project.root, sides) as targets:
        yield targets


def _judged(settings: Settings, loaded: Loaded, results: LoadResults) -> LoadResults:
    """Return the results with figures, findings and verdict."""
    wanted, budgets, notes = settings.load, settings.load.budgets, results.notes
    findings = judge_head(loaded.stages["head"], wanted)
    if "base" in loaded.stages:
        of_base = [one for one in judge_head(loaded.stages["base"], wanted) if one.verdict == "invalid"]
        findings += [replace(one, text=f"in base: {one.text}") for one in of_base]
    changes = compare(loaded.pairs, wanted, settings.gate.false_alarms) if loaded.pairs else []
    verdict = overall(findings, changes)
    if not budgets.limits_ms and not loaded.pairs:
        notes = [*notes, "no time was judged: set [load.budgets], or name a commit with --base"]
    sides = [SideResults(name, [*stages], highest_rate(stages, budgets)) for name, stages in loaded.stages.items()]
    code = _code(verdict, settings)
    return replace(
        results, verdict=verdict, exit_code=code, sides=sides, findings=findings, changes=changes, notes=notes
    )


def _code(verdict: Verdict, settings: Settings) -> int:
    if verdict == "inconclusive":
        return EXIT_INCONCLUSIVE if "inconclusive" in settings.gate.fail_on else EXIT_PASS
    return CODES[verdict]


def _report(project: Project, results: LoadResults) -> int:
    results = redacted(results, lambda text: project.scrub(printable(text)))
    results = replace(results, sides=[_without_samples(side) for side in results.sides])
    text = msgspec.json.format(msgspec.json.encode(results), indent=2).decode()
    write_whole(project.results / FILE, text + "\n")
    markdown = as_markdown(results)
    write_whole(project.results / REPORT, markdown)
    write_whole(project.results / PAGE, as_page(results))
    write_whole(project.results / JUNIT, as_junit(results))
    problems = add_to_summary(lambda: markdown)
    written = f"written: {project.shown(project.results / PAGE)}"
    on_github = annotations(results) if os.environ.get("GITHUB_ACTIONS") == "true" else []
    say("\n".join(["", as_text(results), written, *problems, *on_github]))
    return results.exit_code


def _without_samples(side: SideResults) -> SideResults:
    return replace(side, stages=[replace(one, on_time_s=[]) for one in side.stages])
