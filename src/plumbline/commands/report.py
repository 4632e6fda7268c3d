"""`plumbline report`: show the last results again, or export them for another tool."""

import argparse
from pathlib import Path

from plumbline.commands.exit import CommandError, Project
from plumbline.commands.output import last_results, report, say
from plumbline.exit_codes import EXIT_PASS, EXIT_USAGE
from plumbline.reporting import exports
from plumbline.results.files import write_whole

EXAMPLE = "plumbline report --format bencher --output bencher.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", metavar="NAME", help=f"for another tool: {', '.join(exports.FORMATS)}")
    parser.add_argument("--output", type=Path, metavar="PATH", help="file for --format; printed by default")


def run(project: Project, options: argparse.Namespace) -> int:
    folder = project.results
    if options.format:
        return _export(folder, options.format, options.output)
    if options.output:
        raise CommandError("--output goes with --format", EXIT_USAGE)
    return report(project, last_results(folder), html=True, keep=False)


def _export(folder: Path, format_: str, output: Path | None) -> int:
    if format_ not in exports.FORMATS:
        raise CommandError(f"there is no format {format_!r}: {', '.join(exports.FORMATS)}", EXIT_USAGE)
    text = exports.FORMATS[format_](last_results(folder))
    if output is None:
        say(text.rstrip("\n"))
    else:
        write_whole(output, text)
    return EXIT_PASS
