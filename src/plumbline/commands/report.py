"""`plumbline report`: show the last results again, or export them for another tool."""

import argparse
from pathlib import Path

from plumbline.commands.exit import CommandError, documented_exit
from plumbline.commands.output import last_results, report, say
from plumbline.exit_codes import EXIT_PASS, EXIT_USAGE
from plumbline.project import Project
from plumbline.results.files import write_whole
from plumbline.settings import Settings

EXAMPLE = "plumbline report --format bencher --output bencher.json"
FORMATS = "github-action-benchmark, bencher, pyperf, pytest-benchmark, openmetrics or csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", metavar="NAME", help=f"for another tool: {FORMATS}")
    parser.add_argument("--output", type=Path, metavar="PATH", help="file for --format; printed by default")


def run(options: argparse.Namespace) -> int:
    if options.output and not options.format:
        raise SystemExit("plumbline report: --output goes with --format")
    if options.format:
        return documented_exit(lambda project, settings: _export(project, settings, options.format, options.output))
    return documented_exit(_report_again)


def _report_again(project: Project, settings: Settings) -> int:
    return report(project, settings, last_results(project.root / settings.results), html=True, keep=False)


def _export(project: Project, settings: Settings, format_: str, output: Path | None) -> int:
    from plumbline.reporting import exports

    if format_ not in exports.FORMATS:
        raise CommandError(f"there is no format {format_!r}: {', '.join(exports.FORMATS)}", EXIT_USAGE)
    text = exports.FORMATS[format_](last_results(project.root / settings.results))
    if output is None:
        say(text.rstrip("\n"))
    else:
        write_whole(output, text)
    return EXIT_PASS
